"""How a request proves who asks: by password, token, application credential. All that it names must hold, for one user."""

import dataclasses
import time
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.identity import credentials, receipts, security, tokens, totp
from kilonova.identity.passwords import check_password
from kilonova.identity.records import Row, expecting, row_of
from kilonova.identity.tables import APPLICATION_CREDENTIALS, CREDENTIALS, PROJECTS, USERS
from kilonova.identity.tokens import UNAUTHORIZED, Token
from kilonova.model.errors import BadRequest, NotFound, Unauthorized
from kilonova.web.call import Call

METHODS = ("password", "token", "application_credential", "totp")


def refused() -> Unauthorized:
    return Unauthorized(UNAUTHORIZED)


def find_domain(tx: Tx, asked: Any, target: str) -> str:
    """The id of an enabled domain named in a request by id or name; Unauthorized when there is none."""
    if not isinstance(asked, dict) or not ("id" in asked or "name" in asked):
        raise expecting("domain", target)
    chosen = PROJECTS.c.id == asked["id"] if "id" in asked else PROJECTS.c.name == asked["name"]
    row = tx.first(sa.select(PROJECTS).where(PROJECTS.c.is_domain, chosen))
    if row is None or not row["enabled"]:
        raise refused()
    return str(row["id"])


def find_user(tx: Tx, asked: Row) -> Row | None:
    """The user a request names by id, or by name and domain; None when there is none or it may not log in."""
    if "id" in asked:
        chosen: Any = USERS.c.id == asked["id"]
    elif "name" in asked:
        try:
            domain_id = find_domain(tx, asked.get("domain"), "user")
        except Unauthorized:
            return None
        chosen = sa.and_(USERS.c.domain_id == domain_id, USERS.c.name == asked["name"])
    else:
        raise expecting("id or name", "user")
    enabled = sa.select(PROJECTS.c.id).where(PROJECTS.c.is_domain, PROJECTS.c.enabled)
    row = tx.first(sa.select(USERS).where(chosen, USERS.c.enabled, USERS.c.domain_id.in_(enabled)))
    return row_of(row) if row else None


def by_password(call: Call, identity: Row) -> Row:
    asked = identity.get("password", {}).get("user")
    if not isinstance(asked, dict):
        raise expecting("user", "password")
    password = asked.get("password")
    if not isinstance(password, str):
        raise expecting("password", "user")
    user = log_in(call, asked, password)
    if security.is_expired(user):
        raise Unauthorized(f"The password is expired and needs to be changed for user: {user['id']}.")
    return user


def log_in(call: Call, asked: Row, password: str) -> Row:
    """The user that `asked` names, if the password is right and the user not locked out. No transaction is open meanwhile.

    All refusals are alike, and take as long.
    """
    settings: security.Settings = call.services.identity
    user = call.database.read(lambda tx: find_user(tx, asked))
    key = security.failures_key(user, asked, "password")
    settings.throttle.check(call.client, key)
    right = check_password(password, user["password_hash"] if user else None)
    user = _admit(call, key, user, right)
    if settings.compliance.disable_user_account_days_inactive:
        seen = sa.update(USERS).where(USERS.c.id == user["id"]).values(last_active_at=time.time())
        call.database.write(lambda tx: tx.execute(seen))
    return user


def _admit(call: Call, key: str, user: Row | None, right: bool) -> Row:
    """The user, who showed what is right; Unauthorized for all else, and counted."""
    settings: security.Settings = call.services.identity
    right = right and user is not None and not security.is_inactive(settings.compliance, user)
    if not security.settle(call.database, settings.compliance, key, user, right) or user is None:
        settings.throttle.failed(call.client, key)
        raise refused()
    return user


def by_totp(call: Call, identity: Row) -> Row:
    """A passcode of one of the user's credentials of type totp."""
    asked = identity.get("totp", {}).get("user")
    if not isinstance(asked, dict):
        raise expecting("user", "totp")
    given = asked.get("passcode")
    if not isinstance(given, str):
        raise expecting("passcode", "user")

    def find(tx: Tx) -> tuple[Row | None, list[str]]:
        user = find_user(tx, asked)
        chosen = (CREDENTIALS.c.user_id == (user["id"] if user else ""), CREDENTIALS.c.type == "totp")
        rows = [credentials.opened(call, row_of(row)) for row in tx.all(sa.select(CREDENTIALS).where(*chosen))]
        return user, [row["blob"] for row in rows]

    user, blobs = call.database.read(find)
    key = security.failures_key(user, asked, "totp")
    call.services.identity.throttle.check(call.client, key)
    secrets = [secret for blob in blobs if (secret := totp.secret_of(blob))]
    return _admit(call, key, user, sum(totp.is_right(secret, given) for secret in secrets) > 0)


def by_token(call: Call, identity: Row) -> Token:
    text = identity.get("token", {}).get("id")
    if not isinstance(text, str):
        raise expecting("id", "token")
    try:
        return call.database.read(lambda tx: tokens.verify(tx, call.services.fernet, text)).token
    except NotFound as error:
        raise refused() from error


def by_application_credential(call: Call, identity: Row) -> Row:
    """The credential's row: named by id, or by its name and its user; its secret is right and it is not over."""
    asked = identity.get("application_credential", {})
    secret = asked.get("secret")
    if not isinstance(secret, str):
        raise expecting("secret", "application_credential")
    if "id" not in asked and not ("name" in asked and isinstance(asked.get("user"), dict)):
        raise expecting("id, or name and user", "application_credential")

    def find(tx: Tx) -> Row | None:
        c = APPLICATION_CREDENTIALS.c
        if "id" in asked:
            chosen: Any = c.id == asked["id"]
        else:
            user = find_user(tx, asked["user"])
            chosen = sa.and_(c.user_id == (user["id"] if user else ""), c.name == asked["name"])
        row = tx.first(sa.select(APPLICATION_CREDENTIALS).where(chosen))
        return row_of(row) if row else None

    row = call.database.read(find)
    throttle: security.Throttle = call.services.identity.throttle
    asks_for = {"id": asked.get("id"), "name": asked.get("name"), "domain": asked.get("user")}
    key = str(row["id"]) if row else security.name_of(asks_for)
    throttle.check(call.client, key)
    if not check_password(secret, row["secret_hash"] if row else None) or row is None:
        throttle.failed(call.client, key)
        raise refused()
    return row


@dataclasses.dataclass(frozen=True)
class Proof:
    """Who a request proved to be; the token it exchanges, if it does; the application credential it came with."""

    user_id: str
    methods: tuple[str, ...]
    old: Token | None
    credential: Row | None


def prove(call: Call, identity: Row) -> Proof:
    """All methods that the request names must succeed, and for one user."""
    users: set[str] = set()
    old: Token | None = None
    credential: Row | None = None
    names = identity["methods"]
    if not names:
        raise BadRequest("Invalid input for field 'identity/methods': [] should be non-empty")
    for name in dict.fromkeys(names):
        if name not in METHODS:
            raise Unauthorized("Attempted to authenticate with an unsupported method.")
        if not isinstance(identity.get(name), dict):
            raise expecting(name, "identity")
        if name in ("password", "totp"):
            users.add((by_password if name == "password" else by_totp)(call, identity)["id"])
        elif name == "application_credential":
            credential = by_application_credential(call, identity)
            users.add(credential["user_id"])
        else:
            old = by_token(call, identity)
            users.add(old.user_id)
    if len(users) != 1:
        raise refused()
    used = {*names, *(old.methods if old else ())}
    shown = call.headers.get(receipts.HEADER.lower())
    if shown:
        receipt = receipts.decode(call.services.fernet, shown)
        if receipt.user_id not in users or call.database.read(lambda tx: _is_over(tx, receipt)):
            raise refused()
        used |= set(receipt.methods)
    return Proof(users.pop(), tuple(name for name in tokens.METHODS if name in used), old, credential)


def _is_over(tx: Tx, receipt: receipts.Receipt) -> bool:
    """As a token is: the user's password has changed since, or all that the user had was revoked."""
    since = tx.scalar(sa.select(USERS.c.tokens_valid_since).where(USERS.c.id == receipt.user_id))
    return since is None or receipt.issued_at <= since
