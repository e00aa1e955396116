"""Fernet tokens: a compact signed and encrypted payload, no row in the database (Keystone's fernet provider).

A token says who and where; what that means (enabled, roles, names) is looked up each time it is verified, so a role taken
away is gone at once. Revoked tokens are known by their audit id, and those of a user or project by `tokens_valid_since`.
"""

import base64
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa
from cryptography.fernet import InvalidToken

from kilonova.db.engine import Database, Tx
from kilonova.identity import delegation
from kilonova.identity.records import Row, row_of
from kilonova.identity.tables import PROJECTS, REVISION, REVOKED_TOKENS, USERS
from kilonova.model.errors import NotFound, Unauthorized
from kilonova.web.call import Context

LIFETIME = 3600.0  # seconds; Keystone's [token] expiration
METHODS = ("password", "token", "application_credential", "totp", "ec2credential")
SCOPES = ("unscoped", "project", "domain", "system")
CACHED = 2048  # tokens an Authenticator remembers

UNAUTHORIZED = "The request you have made requires authentication."


@dataclass(frozen=True)
class Token:
    """What a token's text says. Times are seconds since the epoch; `scope_id` is "" for unscoped, "all" for system.

    `application_credential_id`, `trust_id`: what it was delegated by; "" for a token that a user got in person.
    """

    user_id: str
    methods: tuple[str, ...]
    scope: str
    scope_id: str
    issued_at: float
    expires_at: float
    audit_ids: tuple[str, ...]
    text: str = field(default="", compare=False)
    application_credential_id: str = ""
    trust_id: str = ""


@dataclass(frozen=True)
class Verified:
    """A good token with the rows it speaks of. `project`/`domain` are None where the scope is another."""

    token: Token
    user: Row
    user_domain: Row
    project: Row | None
    project_domain: Row | None
    domain: Row | None
    roles: list[Row]
    delegated: delegation.Delegated


class Payload(msgspec.Struct, array_like=True, frozen=True):
    user: bytes
    methods: int  # bits, by place in METHODS
    scope: int
    target: bytes
    issued: int  # microseconds since the epoch
    expires: int
    audits: list[bytes]
    application_credential: bytes = b""
    trust: bytes = b""


def _pack(key: str) -> bytes:
    """One byte that tells which, then 16 for the usual id of 32 hexadecimal digits, or any other id's text."""
    try:
        raw = bytes.fromhex(key)
    except ValueError:
        raw = b""
    return b"\1" + raw if len(raw) == 16 and raw.hex() == key else b"\0" + key.encode()


def _unpack(key: bytes) -> str:
    if not key:
        return ""
    return key[1:].hex() if key[0] else key[1:].decode()


def new_audit_id() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).rstrip(b"=").decode()


def encode(fernet: Any, token: Token) -> str:
    payload = Payload(
        user=_pack(token.user_id),
        methods=sum(1 << METHODS.index(method) for method in token.methods),
        scope=SCOPES.index(token.scope),
        target=_pack(token.scope_id),
        issued=round(token.issued_at * 1e6),
        expires=round(token.expires_at * 1e6),
        audits=[base64.urlsafe_b64decode(audit + "==") for audit in token.audit_ids],
        application_credential=_pack(token.application_credential_id) if token.application_credential_id else b"",
        trust=_pack(token.trust_id) if token.trust_id else b"",
    )
    return fernet.encrypt(msgspec.msgpack.encode(payload)).rstrip(b"=").decode()


_decoder = msgspec.msgpack.Decoder(Payload)


def decode(fernet: Any, text: str) -> Token:
    """NotFound when the text is no token of ours."""
    try:
        raw = fernet.decrypt((text + "=" * (-len(text) % 4)).encode("ascii"))
        payload = _decoder.decode(raw)
    except (InvalidToken, UnicodeEncodeError, msgspec.DecodeError) as error:
        raise NotFound("This is not a recognized Fernet token") from error
    return Token(
        user_id=_unpack(payload.user),
        methods=tuple(method for place, method in enumerate(METHODS) if payload.methods >> place & 1),
        scope=SCOPES[payload.scope],
        scope_id=_unpack(payload.target),
        issued_at=payload.issued / 1e6,
        expires_at=payload.expires / 1e6,
        audit_ids=tuple(base64.urlsafe_b64encode(audit).rstrip(b"=").decode() for audit in payload.audits),
        text=text,
        application_credential_id=_unpack(payload.application_credential),
        trust_id=_unpack(payload.trust),
    )


def _fail() -> NotFound:
    return NotFound("Failed to validate token")


def verify(tx: Tx, fernet: Any, text: str, grace: float = 0.0) -> Verified:
    """The token and its rows. NotFound, in Keystone's words, when it is foreign, expired (by more than `grace` seconds),
    revoked, or its user, scope or roles are no longer."""
    if not text:
        raise NotFound("No token in the request")
    return check(tx, decode(fernet, text), grace)


def check(tx: Tx, token: Token, grace: float = 0.0) -> Verified:
    """As `verify`, of a token whose text is one of ours."""
    if token.expires_at + grace < time.time():
        raise _fail()
    if tx.first(sa.select(REVOKED_TOKENS.c.audit_id).where(REVOKED_TOKENS.c.audit_id == token.audit_ids[0])):
        raise _fail()
    return resolve(tx, token)


def _enabled(tx: Tx, table: sa.Table, key: str, token: Token) -> Row:
    row = tx.first(sa.select(table).where(table.c.id == key))
    if row is None or not row["enabled"] or token.issued_at <= row["tokens_valid_since"]:
        raise _fail()
    return row_of(row)


def resolve(tx: Tx, token: Token) -> Verified:
    """The rows a token speaks of. NotFound when one is missing or disabled, or the user has no role in the scope."""
    user = _enabled(tx, USERS, token.user_id, token)
    user_domain = _enabled(tx, PROJECTS, user["domain_id"], token)
    project = project_domain = domain = None
    if token.scope == "project":
        project = _enabled(tx, PROJECTS, token.scope_id, token)
        project_domain = _enabled(tx, PROJECTS, project["domain_id"], token) if project["domain_id"] else project
    elif token.scope == "domain":
        domain = _enabled(tx, PROJECTS, token.scope_id, token)
    delegated = delegation.find(tx, token.application_credential_id, token.trust_id)
    for other in delegated.users - {user["id"]}:
        _enabled(tx, PROJECTS, _enabled(tx, USERS, other, token)["domain_id"], token)
    roles = delegation.roles(tx, user["id"], token.scope, project or domain, delegated)
    if token.scope != "unscoped" and not roles:
        raise _fail()
    return Verified(token, user, user_domain, project, project_domain, domain, roles, delegated)


def context(verified: Verified) -> Context:
    project = verified.project
    return Context(
        user_id=verified.user["id"],
        user_name=verified.user["name"],
        user_domain_id=verified.user["domain_id"],
        project_id=project["id"] if project else "",
        project_name=project["name"] if project else "",
        project_domain_id=verified.project_domain["id"] if verified.project_domain else "",
        domain_id=verified.domain["id"] if verified.domain else "",
        system=verified.token.scope == "system",
        roles=frozenset(role["name"] for role in verified.roles),
        token=verified.token.text,
        application_credential_id=verified.token.application_credential_id,
        unrestricted=verified.delegated.unrestricted,
        trust_id=verified.token.trust_id,
        methods=verified.token.methods,
        access_rules=verified.delegated.access_rules,
    )


class Authenticator:
    """`authenticate(database, token) -> Context`, over one set of keys (a `MultiFernet`).

    Remembers what tokens meant, together with the revision at that time; one small query tells whether they still do.
    Raises Unauthorized.
    """

    def __init__(self, fernet: Any) -> None:
        self.fernet = fernet
        self._known: OrderedDict[str, tuple[int, Context]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, database: Database, token: str) -> Context:
        if not token:
            raise Unauthorized(UNAUTHORIZED)
        return database.read(lambda tx: self.look_up(tx, token))

    def look_up(self, tx: Tx, text: str) -> Context:
        revision = tx.scalar(sa.select(REVISION.c.number).where(REVISION.c.id == 1)) or 0
        try:
            token = decode(self.fernet, text)  # each time: its key may have been retired
            known = self._known.get(text)
            if known and known[0] == revision and time.time() < token.expires_at:
                return known[1]
            found = context(check(tx, token))
        except NotFound as error:
            raise Unauthorized(UNAUTHORIZED) from error
        with self._lock:
            self._known[text] = (revision, found)
            self._known.move_to_end(text)
            while len(self._known) > CACHED:
                self._known.popitem(last=False)
        return found
