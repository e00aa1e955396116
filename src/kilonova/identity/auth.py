"""POST /v3/auth/tokens and what a caller may ask about tokens and scopes."""

import dataclasses
import time
from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.identity import access_rules, catalog, receipts, scopes, tokens, trusts, views
from kilonova.identity.methods import METHODS, Proof, find_domain, prove, refused
from kilonova.identity.records import Row, boolean, expecting, forbidden, get, touch
from kilonova.identity.tables import PROJECTS, REVOKED_TOKENS, USERS
from kilonova.identity.times import brief, stamp
from kilonova.identity.tokens import Token, Verified
from kilonova.model.errors import Forbidden, NotFound, Unauthorized
from kilonova.web.call import Call, Reply

VALIDATE = "identity:validate_token"
EXPIRED_WINDOW = 172800.0  # seconds: how long ?allow_expired=1 still tells about a token; Keystone's default


# --- where: the scope part ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Scope:
    """`kind` as in `tokens.SCOPES`; `key` "" for unscoped, "all" for the system; `trust`: the row of one asked for."""

    kind: str
    key: str
    trust: Row | None = None


def find_scope(tx: Tx, scope: Any, user_id: str) -> Scope:
    """The scope asked for; with none asked, the user's default project where the user has a role."""
    if scope is None:
        return default_scope(tx, user_id)
    if scope == "unscoped":
        return Scope("unscoped", "")
    kinds = [kind for kind in ("project", "domain", "system", "unscoped", "OS-TRUST:trust") if kind in scope]
    if len(kinds) != 1:
        raise expecting("project, domain, OS-TRUST:trust or unscoped", "scope")
    kind, asked = kinds[0], scope[kinds[0]]
    if kind == "unscoped":
        return Scope(kind, "")
    if not isinstance(asked, dict):
        raise expecting(f"an object called {kind}", "scope")
    if kind == "OS-TRUST:trust":
        if not isinstance(asked.get("id"), str):
            raise expecting("trust_id", "trust")
        trust = trusts.use(tx, asked["id"], user_id)
        return Scope("project" if trust["project_id"] else "unscoped", trust["project_id"] or "", trust)
    if kind == "system":
        if asked.get("all") is not True:
            raise expecting("all", "system")
        return Scope(kind, "all")
    if kind == "domain":
        return Scope(kind, find_domain(tx, asked, "scope"))
    if "id" in asked:
        return Scope(kind, str(asked["id"]))
    if "name" not in asked:
        raise expecting("id or name", "project")
    domain_id = find_domain(tx, asked.get("domain"), "project")
    same = sa.and_(PROJECTS.c.domain_id == domain_id, PROJECTS.c.name == asked["name"])
    return Scope(kind, tx.scalar(sa.select(PROJECTS.c.id).where(same)) or "")


def default_scope(tx: Tx, user_id: str) -> Scope:
    wanted = tx.scalar(sa.select(USERS.c.default_project_id).where(USERS.c.id == user_id))
    if wanted and any(project["id"] == wanted for project in scopes.projects_of(tx, user_id)):
        return Scope("project", wanted)
    return Scope("unscoped", "")


def scope_of(tx: Tx, asked: Any, proof: Proof) -> Scope:
    """Delegated tokens stay where they are: an application credential's or EC2 key's own project, and no token of a
    trust's token."""
    if proof.credential:
        if asked is not None:
            raise Unauthorized(
                "Error authenticating with application credential: Application credentials cannot request a scope."
            )
        return Scope("project", proof.credential["project_id"])
    if proof.old and proof.old.trust_id:
        raise forbidden("Using trust-scoped token to create another token. Create a new trust-scoped token instead")
    if proof.old and (proof.old.application_credential_id or "ec2credential" in proof.old.methods):
        if asked is not None:
            kind = "application" if proof.old.application_credential_id else "EC2"
            raise forbidden(f"Using an {kind} credential token to create a scoped token is not allowed")
        return Scope(proof.old.scope, proof.old.scope_id)
    return find_scope(tx, asked, proof.user_id)


def new_token(proof: Proof, scope: Scope) -> Token:
    """As long as tokens last, or what it comes from."""
    now = round(time.time(), 6)  # what a token keeps: it must tell the same times ever after
    chain: tuple[str, ...] = ()
    expires = float(int(now) + tokens.LIFETIME)  # whole seconds, as Keystone's
    credential_id = proof.credential["id"] if proof.credential else ""
    if proof.old:
        chain, expires = proof.old.audit_ids[-1:], proof.old.expires_at
        credential_id = credential_id or proof.old.application_credential_id
    user_id = proof.user_id
    if scope.trust and scope.trust["impersonation"]:
        user_id = scope.trust["trustor_user_id"]
    for source in (scope.trust, proof.credential):
        if source and source["expires_at"] is not None:
            expires = min(expires, source["expires_at"])
    return Token(
        user_id, proof.methods, scope.kind, scope.key, now, expires, (tokens.new_audit_id(), *chain),
        application_credential_id=credential_id, trust_id=scope.trust["id"] if scope.trust else "",
    )  # fmt: skip


def issue(call: Call) -> Reply:
    """POST /v3/auth/tokens. No transaction is open while the password is checked."""
    asked = call.body["auth"]
    proof = prove(call, asked["identity"])
    lacking = call.database.read(lambda tx: lacking_factors(tx, proof))
    if lacking:
        return receipts.answer(call.services.fernet, lacking)
    return grant(call, proof, asked.get("scope"), 201)


def lacking_factors(tx: Tx, proof: Proof) -> receipts.Shown | None:
    """What was shown so far, when the user's multi-factor rules want more."""
    user = get(tx, USERS, "user", proof.user_id)
    rules = receipts.rules_of(user, METHODS)
    if receipts.is_enough(rules, proof.methods):
        return None
    return receipts.Shown(user, get(tx, PROJECTS, "domain", user["domain_id"]), proof.methods, rules)


def grant(call: Call, proof: Proof, asked: Any, status: int) -> Reply:
    """A token for who has proved to be somebody, in the scope asked for."""

    def decide(tx: Tx) -> Any:
        token = new_token(proof, scope_of(tx, asked, proof))
        try:
            verified = tokens.resolve(tx, token)
        except NotFound as error:
            if token.trust_id:
                raise Forbidden("Trustee has no delegated roles.") from error
            raise refused() from error
        return token, body(call, tx, verified, call.arg("nocatalog") is None)

    uses = isinstance(asked, dict) and "OS-TRUST:trust" in asked
    token, answer = call.database.write(decide) if uses else call.database.read(decide)
    headers = {"X-Subject-Token": tokens.encode(call.services.fernet, token), "Vary": "X-Auth-Token"}
    return Reply(answer, status, headers)


def _short(row: Row) -> Row:
    return {"id": row["id"], "name": row["name"]}


def body(call: Call, tx: Tx, verified: Verified, with_catalog: bool) -> Row:
    """Keystone's render_token_response_from_model."""
    token, user = verified.token, verified.user
    inner: Row = {
        "methods": list(token.methods),
        "user": {**_short(user), "domain": _short(verified.user_domain)},
        "audit_ids": list(token.audit_ids),
        "expires_at": stamp(token.expires_at),
        "issued_at": stamp(token.issued_at),
    }
    inner["user"]["password_expires_at"] = brief(user["password_expires_at"])
    if token.scope == "system":
        inner["system"] = {"all": True}
    if verified.domain:
        inner["domain"] = _short(verified.domain)
    if verified.project and verified.project_domain:
        inner["project"] = {**_short(verified.project), "domain": _short(verified.project_domain)}
        inner["is_domain"] = verified.project["is_domain"]
    if verified.delegated.trust:
        trust = verified.delegated.trust
        inner["OS-TRUST:trust"] = {
            "id": trust["id"],
            "impersonation": trust["impersonation"],
            "trustor_user": {"id": trust["trustor_user_id"]},
            "trustee_user": {"id": trust["trustee_user_id"]},
        }
    if verified.delegated.credential:
        credential = verified.delegated.credential
        inner["application_credential"] = {**_short(credential), "restricted": not credential["unrestricted"]}
        if credential["access_rule_ids"] is not None:
            rules = [access_rules.brief(rule) for rule in verified.delegated.rules]
            inner["application_credential"]["access_rules"] = rules
    if token.scope != "unscoped":
        inner["roles"] = [_short(role) for role in verified.roles]
        if with_catalog:
            inner["catalog"] = catalog.catalog(call, tx, token.scope_id if verified.project else "")
    return {"token": inner}


# --- tokens of others, and what a caller may reach ------------------------------------------------------------------


def subject(call: Call, action: str, grace: float = 0.0) -> Verified:
    """The token in X-Subject-Token: for its owner and administrators; services and readers of the system may look at it."""
    verified = tokens.verify(call.tx, call.services.fernet, call.headers.get("x-subject-token", ""), grace)
    who = call.context
    looks = "service" in who.roles or (who.system and "reader" in who.roles)
    if not (verified.user["id"] == who.user_id or who.is_admin or (looks and action == VALIDATE)):
        raise forbidden(action)
    return verified


def validate(call: Call) -> Reply:
    grace = EXPIRED_WINDOW if boolean(call.arg("allow_expired")) else 0.0
    verified = subject(call, VALIDATE, grace)
    answer = body(call, call.tx, verified, call.arg("nocatalog") is None)
    return Reply(answer, 200, {"X-Subject-Token": verified.token.text, "Vary": "X-Auth-Token"})


def revoke(call: Call) -> None:
    token = subject(call, "identity:revoke_token").token
    call.tx.execute(sa.delete(REVOKED_TOKENS).where(REVOKED_TOKENS.c.expires_at < time.time() - EXPIRED_WINDOW))
    row = {"audit_id": token.audit_ids[0], "expires_at": token.expires_at, "revoked_at": time.time()}
    insert_new(call.tx.connection, REVOKED_TOKENS, row)
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
