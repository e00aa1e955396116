"""POST /v3/auth/tokens and what a caller may ask about tokens and scopes."""

import dataclasses
import datetime
import time
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.identity import catalog, scopes, tokens, views
from kilonova.identity.passwords import check_password
from kilonova.identity.records import Row, boolean, expecting, forbidden, row_of, touch
from kilonova.identity.tables import PROJECTS, REVOKED_TOKENS, USERS
from kilonova.identity.tokens import UNAUTHORIZED, Token, Verified
from kilonova.model.errors import BadRequest, Forbidden, NotFound, Unauthorized
from kilonova.web.call import Call, Reply

EXPIRED_WINDOW = 172800.0  # seconds: how long ?allow_expired=1 still tells about a token; Keystone's default


def refused() -> Unauthorized:
    return Unauthorized(UNAUTHORIZED)


def stamp(when: float) -> str:
    return datetime.datetime.fromtimestamp(when, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


# --- who: the identity part ---------------------------------------------------------------------------------------


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
    user = call.database.read(lambda tx: find_user(tx, asked))
    password = asked.get("password")
    if not isinstance(password, str):
        raise expecting("password", "user")
    if not check_password(password, user["password_hash"] if user else None) or user is None:
        raise refused()
    return user


def by_token(call: Call, identity: Row) -> Token:
    text = identity.get("token", {}).get("id")
    if not isinstance(text, str):
        raise expecting("id", "token")
    try:
        return call.database.read(lambda tx: tokens.verify(tx, call.services.fernet, text)).token
    except NotFound as error:
        raise refused() from error


@dataclasses.dataclass(frozen=True)
class Proof:
    """Who a request proved to be, and the token it exchanges, if it does."""

    user_id: str
    methods: tuple[str, ...]
    old: Token | None


def prove(call: Call, identity: Row) -> Proof:
    """All methods that the request names must succeed, and for one user."""
    users: set[str] = set()
    old: Token | None = None
    names = identity["methods"]
    if not names:
        raise BadRequest("Invalid input for field 'identity/methods': [] should be non-empty")
    for name in names:
        if name not in ("password", "token"):
            raise Unauthorized("Attempted to authenticate with an unsupported method.")
        if not isinstance(identity.get(name), dict):
            raise expecting(name, "identity")
        if name == "password":
            users.add(by_password(call, identity)["id"])
        else:
            old = by_token(call, identity)
            users.add(old.user_id)
    if len(users) != 1:
        raise refused()
    used = {*names, *(old.methods if old else ())}
    return Proof(users.pop(), tuple(name for name in tokens.METHODS if name in used), old)


# --- where: the scope part ----------------------------------------------------------------------------------------


def find_scope(tx: Tx, scope: Any, user_id: str) -> tuple[str, str]:
    """(kind, id) of the scope asked for; with none asked, the user's default project where the user has a role."""
    if scope is None:
        return default_scope(tx, user_id)
    if scope == "unscoped":
        return "unscoped", ""
    kinds = [kind for kind in ("project", "domain", "system", "unscoped", "OS-TRUST:trust") if kind in scope]
    if len(kinds) != 1:
        raise expecting("project, domain, OS-TRUST:trust or unscoped", "scope")
    kind, asked = kinds[0], scope[kinds[0]]
    if kind == "unscoped":
        return kind, ""
    if kind == "OS-TRUST:trust":
        raise refused()
    if not isinstance(asked, dict):
        raise expecting(f"an object called {kind}", "scope")
    if kind == "system":
        if asked.get("all") is not True:
            raise expecting("all", "system")
        return kind, "all"
    if kind == "domain":
        return kind, find_domain(tx, asked, "scope")
    if "id" in asked:
        return kind, str(asked["id"])
    if "name" not in asked:
        raise expecting("id or name", "project")
    domain_id = find_domain(tx, asked.get("domain"), "project")
    same = sa.and_(PROJECTS.c.domain_id == domain_id, PROJECTS.c.name == asked["name"])
    return kind, tx.scalar(sa.select(PROJECTS.c.id).where(same)) or ""


def default_scope(tx: Tx, user_id: str) -> tuple[str, str]:
    wanted = tx.scalar(sa.select(USERS.c.default_project_id).where(USERS.c.id == user_id))
    if wanted and any(project["id"] == wanted for project in scopes.projects_of(tx, user_id)):
        return "project", wanted
    return "unscoped", ""


def issue(call: Call) -> Reply:
    """POST /v3/auth/tokens. No transaction is open while the password is checked."""
    asked = call.body["auth"]
    proof = prove(call, asked["identity"])

    def decide(tx: Tx) -> Any:
        kind, key = find_scope(tx, asked.get("scope"), proof.user_id)
        now = round(time.time(), 6)  # what a token keeps: it must tell the same times ever after
        if proof.old:
            chain, expires = proof.old.audit_ids[-1:], proof.old.expires_at
        else:
            chain, expires = (), float(int(now) + tokens.LIFETIME)  # whole seconds, as Keystone's
        token = Token(proof.user_id, proof.methods, kind, key, now, expires, (tokens.new_audit_id(), *chain))
        try:
            verified = tokens.resolve(tx, token)
        except NotFound as error:
            raise refused() from error
        return token, body(call, tx, verified, call.arg("nocatalog") is None)

    token, answer = call.database.read(decide)
    return Reply(answer, 201, {"X-Subject-Token": tokens.encode(call.services.fernet, token), "Vary": "X-Auth-Token"})


def _short(row: Row) -> Row:
    return {"id": row["id"], "name": row["name"]}


def body(call: Call, tx: Tx, verified: Verified, with_catalog: bool) -> Row:
    """Keystone's render_token_response_from_model."""
    token, user = verified.token, verified.user
    inner: Row = {
        "methods": list(token.methods),
        "user": {**_short(user), "domain": _short(verified.user_domain), "password_expires_at": None},
        "audit_ids": list(token.audit_ids),
        "expires_at": stamp(token.expires_at),
        "issued_at": stamp(token.issued_at),
    }
    if token.scope == "system":
        inner["system"] = {"all": True}
    if verified.domain:
        inner["domain"] = _short(verified.domain)
    if verified.project and verified.project_domain:
        inner["project"] = {**_short(verified.project), "domain": _short(verified.project_domain)}
        inner["is_domain"] = verified.project["is_domain"]
    if token.scope != "unscoped":
        inner["roles"] = [_short(role) for role in verified.roles]
        if with_catalog:
            inner["catalog"] = catalog.catalog(call, tx, token.scope_id if verified.project else "")
    return {"token": inner}


# --- tokens of others, and what a caller may reach ------------------------------------------------------------------


def subject(call: Call, action: str, grace: float = 0.0) -> Verified:
    """The token in X-Subject-Token: for its owner, admins, services and readers of the system."""
    verified = tokens.verify(call.tx, call.services.fernet, call.headers.get("x-subject-token", ""), grace)
    who = call.context
    own = verified.user["id"] == who.user_id
    if not (own or {"admin", "service"} & who.roles or (who.system and "reader" in who.roles)):
        raise forbidden(action)
    return verified


def validate(call: Call) -> Reply:
    grace = EXPIRED_WINDOW if boolean(call.arg("allow_expired")) else 0.0
    verified = subject(call, "identity:validate_token", grace)
    answer = body(call, call.tx, verified, call.arg("nocatalog") is None)
    return Reply(answer, 200, {"X-Subject-Token": verified.token.text, "Vary": "X-Auth-Token"})


def revoke(call: Call) -> None:
    token = subject(call, "identity:revoke_token").token
    call.tx.execute(sa.delete(REVOKED_TOKENS).where(REVOKED_TOKENS.c.expires_at < time.time() - EXPIRED_WINDOW))
    call.tx.execute(sa.insert(REVOKED_TOKENS).values(audit_id=token.audit_ids[0], expires_at=token.expires_at))
    touch(call.tx)


def show_catalog(call: Call) -> Row:
    if not call.context.project_id:
        raise Forbidden("A project-scoped token is required to produce a service catalog.")
    return {
        "catalog": catalog.catalog(call, call.tx, call.context.project_id),
        "links": {"self": views.url(call, "auth/catalog")},
    }


def list_projects(call: Call) -> Row:
    return views.collection(call, "projects", scopes.projects_of(call.tx, call.context.user_id), views.project)


def list_domains(call: Call) -> Row:
    return views.collection(call, "domains", scopes.domains_of(call.tx, call.context.user_id), views.domain)


def list_system(call: Call) -> Row:
    roles = scopes.roles_of(call.tx, call.context.user_id, scopes.on("system", "all"))
    return {"system": [{"all": True}] if roles else [], "links": {"self": views.url(call, "auth/system")}}
