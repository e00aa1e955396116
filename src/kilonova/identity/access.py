"""Row-level policy, as Keystone's defaults have it: admins, readers of the system, managers and readers of a domain, owners.

To a caller with no right to a row Keystone answers 403 whether there is such a row or not, so neither do we tell.
"""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from kilonova.identity.records import Row, forbidden, not_found, row_of
from kilonova.identity.tables import USERS
from kilonova.model.errors import Forbidden
from kilonova.web.call import Call, Context

May = Callable[[Context, Row], bool]


def reads_all(context: Context) -> bool:
    return context.is_admin or (context.system and "reader" in context.roles)


def reads_domain(context: Context, domain_id: Any) -> bool:
    return bool(context.domain_id) and context.domain_id == domain_id and "reader" in context.roles


def manages_domain(context: Context, domain_id: Any) -> bool:
    """Admin, or manager with that domain as the token's scope."""
    own = bool(context.domain_id) and context.domain_id == domain_id and "manager" in context.roles
    return context.is_admin or own


def nobody(context: Context, row: Row) -> bool:
    return False


def in_own_domain(context: Context, row: Row) -> bool:
    return reads_domain(context, row.get("domain_id"))


def fetch(call: Call, table: sa.Table, kind: str, action: str, may: May, key: str | None = None) -> Row:
    """The row that the path names, for who may read it. NotFound only for who may read all."""
    key = key or call.params["id"]
    found = call.tx.first(sa.select(table).where(table.c.id == key))
    row = row_of(found) if found else None
    if reads_all(call.context):
        if row is None:
            raise not_found(kind, key)
        return row
    if row is None or not may(call.context, row):
        raise forbidden(action)
    return row


def fetch_managed(call: Call, table: sa.Table, kind: str, action: str, key: str | None = None) -> Row:
    """The row that the path names, for who may change it."""
    key = key or call.params["id"]
    found = call.tx.first(sa.select(table).where(table.c.id == key))
    if found is None and call.context.is_admin:
        raise not_found(kind, key)
    if found is None or not manages_domain(call.context, found["domain_id"]):
        raise forbidden(action)
    return row_of(found)


def own_domain(call: Call, table: sa.Table) -> list[sa.ColumnElement[bool]]:
    """What narrows a list for a caller whose scope is a domain."""
    who = call.context
    if who.domain_id:
        return [table.c.domain_id == who.domain_id]
    return []


def default_domain(call: Call) -> str:
    """Where a new user, group or project goes when the body does not say: the token's domain (Keystone's
    _normalize_domain_id), else the default one."""
    who = call.context
    return who.domain_id or who.project_domain_id or "default"


def refuse_ec2(context: Context) -> Context:
    """Forbidden: a token by an EC2 key is for other services, never to manage anything here (Keystone's
    AuthContextMiddleware)."""
    if "ec2credential" in context.methods:
        raise Forbidden("EC2 credential tokens cannot be used for authorization.")
    return context


def require_unrestricted(call: Call, managing: str) -> None:
    """Forbidden to a token of a credential that was not made to manage others."""
    if not call.context.unrestricted:
        raise forbidden(f"Using method 'application_credential' is not allowed for managing {managing}")


def refuse_trust(call: Call, managing: str) -> None:
    """Forbidden to a trust's token: what it made or saw would last longer than the trust, and give more."""
    if call.context.trust_id:
        raise Forbidden(f"Cannot manage {managing} with a token issued via delegation.")


def owner(call: Call, action: str) -> Row:
    """The user of the path, for that user and for who reads all."""
    return fetch(call, USERS, "user", action, lambda context, row: context.user_id == row["id"])


def refuse_others(call: Call, user: Row, action: str) -> None:
    """What only its owner and an administrator may write."""
    if not (call.context.is_admin or call.context.user_id == user["id"]):
        raise forbidden(action)
