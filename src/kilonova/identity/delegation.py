"""Tokens that stand for less than their user: those of application credentials and of trusts.

What they give is worked out anew each time, as with all tokens: a role that the user, or the trustor, has no more is gone
from the token, too (Keystone: TokenModel._get_application_credential_roles, _get_trust_roles).
"""

import time
from dataclasses import dataclass

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.identity import scopes
from kilonova.identity.records import Row, row_of
from kilonova.identity.tables import ACCESS_RULES, APPLICATION_CREDENTIALS, ROLES, TRUSTS
from kilonova.model.errors import NotFound

AccessRules = tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Delegated:
    """The rows behind a token; both None for one that a user got in person."""

    credential: Row | None = None
    trust: Row | None = None
    rules: tuple[Row, ...] = ()

    @property
    def unrestricted(self) -> bool:
        return self.credential is None or bool(self.credential["unrestricted"])

    @property
    def access_rules(self) -> AccessRules | None:
        """(service type, method, path) of each; None when all is allowed."""
        if self.credential is None or self.credential["access_rule_ids"] is None:
            return None
        return tuple((rule["service"], rule["method"], rule["path"]) for rule in self.rules)

    @property
    def users(self) -> set[str]:
        """Who must be there for the token to hold."""
        return {self.trust["trustor_user_id"], self.trust["trustee_user_id"]} if self.trust else set()


def find(tx: Tx, credential_id: str, trust_id: str) -> Delegated:
    """NotFound when what a token was delegated by has been deleted, or is over."""
    if credential_id:
        a = APPLICATION_CREDENTIALS
        row = tx.first(sa.select(a).where(a.c.id == credential_id))
        if row is None or _over(row["expires_at"]):
            raise NotFound("Failed to validate token")
        return Delegated(credential=row_of(row), rules=rules_of(tx, row_of(row)))
    if trust_id:
        trust = tx.first(sa.select(TRUSTS).where(TRUSTS.c.id == trust_id, TRUSTS.c.deleted_at.is_(None)))
        if trust is None or _over(trust["expires_at"]):
            raise NotFound("Failed to validate token")
        return Delegated(trust=row_of(trust))
    return Delegated()


def _over(expires_at: float | None) -> bool:
    return expires_at is not None and expires_at <= time.time()


def rules_of(tx: Tx, credential: Row) -> tuple[Row, ...]:
    ids = credential["access_rule_ids"] or []
    rows = tx.all(sa.select(ACCESS_RULES).where(ACCESS_RULES.c.id.in_(ids)))
    return tuple(sorted(map(row_of, rows), key=lambda row: ids.index(row["id"])))


def roles(tx: Tx, user_id: str, scope: str, target: Row | None, delegated: Delegated) -> list[Row]:
    """The roles of a token whose scope is `target` (None: unscoped, or the system). [] when a trust does not hold."""
    if delegated.trust:
        return _of_trust(tx, delegated.trust, target)
    if scope == "project" and target:
        found = scopes.roles_of(tx, user_id, scopes.on_project(tx, target))
    elif scope == "domain" and target:
        found = scopes.roles_of(tx, user_id, scopes.on("domain", target["id"]))
    elif scope == "system":
        found = scopes.roles_of(tx, user_id, scopes.on("system", "all"))
    else:
        found = []
    if delegated.credential:
        kept = set(scopes.with_implied(tx, delegated.credential["role_ids"]))
        found = [role for role in found if role["id"] in kept]
    return found


def original_trustor(tx: Tx, trust: Row) -> str:
    """Whose roles a chain of trusts hands on."""
    while trust["redelegated_trust_id"]:
        row = tx.first(sa.select(TRUSTS).where(TRUSTS.c.id == trust["redelegated_trust_id"]))
        if row is None:
            break
        trust = row_of(row)
    return str(trust["trustor_user_id"])


def _of_trust(tx: Tx, trust: Row, project: Row | None) -> list[Row]:
    """All roles of the trust and what they imply; none at all when the trustor has lost one of them."""
    if project is None or project["id"] != trust["project_id"]:
        return []
    wanted = scopes.with_implied(tx, trust["role_ids"])
    had = scopes.role_ids_of(tx, original_trustor(tx, trust), scopes.on_project(tx, project))
    if not set(wanted) <= set(had):
        return []
    rows = tx.all(sa.select(ROLES).where(ROLES.c.id.in_(wanted), ROLES.c.domain_id == ""))
    return [row_of(row) for row in sorted(rows, key=lambda row: wanted.index(row["id"]))]
