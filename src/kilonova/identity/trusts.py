"""Trusts (OS-TRUST): a user lets another act with some of the own roles on a project, in the trustor's name or in the own.

Keystone: keystone/api/trusts.py and keystone/trust/core.py. A deleted trust's row stays, so that its trustor is told that
it is gone; to strangers every id is refused alike.
"""

import time

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.identity import access, application_credentials, delegation, scopes, times, views
from kilonova.identity.records import (
    ASKED_WRONG,
    Row,
    forbidden,
    get,
    hold,
    insert,
    not_found,
    row_of,
    select,
    split,
    touch,
)  # fmt: skip
from kilonova.identity.tables import PROJECTS, ROLES, TRUSTS, USERS
from kilonova.model.errors import BadRequest, Forbidden, Unauthorized
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call

T = TRUSTS.c
MAX_REDELEGATION = 3  # Keystone's [trust] max_redelegation_count
HIDDEN = ("id", "deleted_at", "role_ids", "roles", "allow_redelegation", "roles_links")


def view(call: Call, row: Row) -> Row:
    """As one of a list has it: without its roles."""
    return {
        **row["extra"],
        "id": row["id"],
        "trustor_user_id": row["trustor_user_id"],
        "trustee_user_id": row["trustee_user_id"],
        "project_id": row["project_id"],
        "impersonation": row["impersonation"],
        "expires_at": times.stamp(row["expires_at"]),
        "deleted_at": times.stamp(row["deleted_at"]),
        "remaining_uses": row["remaining_uses"],
        "redelegated_trust_id": row["redelegated_trust_id"],
        "redelegation_count": row["redelegation_count"],
        "links": {"self": views.url(call, f"OS-TRUST/trusts/{row['id']}")},
    }


def full(call: Call, row: Row) -> Row:
    path = views.url(call, f"OS-TRUST/trusts/{row['id']}/roles")
    roles = [views.role(call, role) for role in _roles(call.tx, row)]
    return {**view(call, row), "roles": roles, "roles_links": {"self": path, "next": None, "previous": None}}


def _roles(tx: Tx, row: Row) -> list[Row]:
    found = tx.all(sa.select(ROLES).where(ROLES.c.id.in_(row["role_ids"])))
    return sorted(map(row_of, found), key=lambda role: row["role_ids"].index(role["id"]))


def _refuse_application_credential(call: Call) -> None:
    """Forbidden, be it unrestricted or not: a trust would last longer than it, and hide who acts (Keystone's
    _check_application_credential)."""
    if call.context.application_credential_id:
        raise forbidden("Using method 'application_credential' is not allowed for managing trusts")


def index(call: Call) -> Row:
    """All trusts, or with a query those of a trustor or a trustee: for these two, and for who reads all."""
    _refuse_application_credential(call)
    for key in ("trustor_user_id", "trustee_user_id"):
        asked = call.arg(key)
        if asked and not access.reads_all(call.context) and asked != call.context.user_id:
            raise forbidden(f"identity:list_trusts_for_{key.partition('_')[0]}")
    if not (call.arg("trustor_user_id") or call.arg("trustee_user_id") or access.reads_all(call.context)):
        raise forbidden("identity:list_trusts")
    rows = select(call, TRUSTS, ("trustor_user_id", "trustee_user_id"), T.deleted_at.is_(None))
    return views.collection(call, "trusts", rows, view)


def is_usable(row: Row) -> bool:
    over = row["expires_at"] is not None and row["expires_at"] <= time.time()
    return not over and row["deleted_at"] is None and row["remaining_uses"] != 0


def fetch(call: Call, action: str, trustor_only: bool = False) -> Row:
    """The path's trust: for its two users, for who reads all; one that is over or used up is not there.

    `trustor_only`, to delete it: it may be used up, since its last tokens are not over (in Keystone they are).
    """
    _refuse_application_credential(call)
    key = call.params["trust_id"]
    found = call.tx.first(sa.select(TRUSTS).where(T.id == key))
    who = call.context
    names = ("trustor_user_id",) if trustor_only else ("trustor_user_id", "trustee_user_id")
    own = found is not None and who.user_id in [found[name] for name in names]
    every = who.is_admin if trustor_only else access.reads_all(who)
    if not (own or every):
        raise forbidden(action)
    if found is None or not (found["deleted_at"] is None if trustor_only else is_usable(row_of(found))):
        raise not_found("trust", key)
    return row_of(found)


def show(call: Call) -> Row:
    return {"trust": full(call, fetch(call, "identity:get_trust"))}


def list_roles(call: Call) -> Row:
    row = fetch(call, "identity:list_roles_for_trust")
    path = views.url(call, f"OS-TRUST/trusts/{row['id']}/roles")
    roles = [views.role(call, role) for role in _roles(call.tx, row)]
    return {"roles": roles, "links": {"self": path, "next": None, "previous": None}}


def show_role(call: Call) -> Row:
    row = fetch(call, "identity:get_role_for_trust")
    key = call.params["role_id"]
    if key not in row["role_ids"]:
        raise not_found("role", key)
    return {"role": views.role(call, get(call.tx, ROLES, "role", key))}


# --- made and unmade ----------------------------------------------------------------------------------------------


def create(call: Call) -> Row:
    asked, who = call.body["trust"], call.context
    _refuse_application_credential(call)
    if asked.get("project_id") and not asked.get("roles"):
        raise forbidden("At least one role should be specified")
    if who.user_id != asked["trustor_user_id"]:
        raise forbidden("The authenticated user should match the trustor")
    parent = _redelegated(call)
    get(call.tx, USERS, "user", asked["trustee_user_id"])
    known, extra = split(TRUSTS, asked, HIDDEN)
    row: Row = {
        "project_id": None,
        "remaining_uses": None,
        "redelegation_count": None,
        **known,
        "id": new_hex_id(),
        "deleted_at": None,
        "expires_at": times.expiry(asked.get("expires_at")),
        "role_ids": _role_ids(call.tx, asked.get("roles") or []),
        "redelegated_trust_id": parent["id"] if parent else None,
        "extra": extra,
    }  # fmt: skip
    _require_roles(call.tx, row, parent)
    _set_depth(row, bool(asked.get("allow_redelegation")), parent)
    while parent:
        _require_within(row, parent)
        above = parent["redelegated_trust_id"]
        parent = get(call.tx, TRUSTS, "trust", above) if above else None
    for key in sorted({row["trustor_user_id"], row["trustee_user_id"]}):
        hold(call.tx, USERS, "user", key)
    if row["project_id"]:
        hold(call.tx, PROJECTS, "project", row["project_id"])
    if row["redelegated_trust_id"]:
        hold(call.tx, TRUSTS, "trust", row["redelegated_trust_id"])
    insert(call.tx, TRUSTS, "trust", row)
    return {"trust": full(call, row)}


def _role_ids(tx: Tx, asked: list[Row]) -> list[str]:
    found = [role.get("id") or application_credentials.find_role(tx, role["name"]) for role in asked]
    return list(dict.fromkeys(found))


def _redelegated(call: Call) -> Row | None:
    """The trust that the caller's token comes from."""
    if not call.context.trust_id:
        return None
    row = get(call.tx, TRUSTS, "trust", call.context.trust_id)
    if not is_usable(row):
        raise not_found("trust", row["id"])
    return row


def _require_roles(tx: Tx, row: Row, parent: Row | None) -> None:
    """The (first) trustor must have them on the project."""
    if not row["project_id"]:
        row["project_id"] = None
        if row["role_ids"]:
            raise not_found("role", row["role_ids"][0])
        return
    project = get(tx, PROJECTS, "project", row["project_id"])
    first = delegation.original_trustor(tx, parent) if parent else row["trustor_user_id"]
    had = scopes.role_ids_of(tx, first, scopes.on_project(tx, project))
    for role in row["role_ids"]:
        if role not in had:
            raise not_found("role", role)


def _set_depth(row: Row, allowed: bool, parent: Row | None) -> None:
    """How often the trust may be handed on (Keystone's Manager.create_trust)."""
    asked = row["redelegation_count"]
    if not allowed or asked == 0:
        row["redelegation_count"] = 0
        return
    if asked and asked > MAX_REDELEGATION:
        raise Forbidden(f"Requested redelegation depth of {asked} is greater than allowed {MAX_REDELEGATION}")
    if row["remaining_uses"] is not None:
        raise BadRequest(f"remaining_uses must not be set if redelegation is allowed. {ASKED_WRONG}")
    left = parent["redelegation_count"] - 1 if parent else MAX_REDELEGATION
    if parent and asked and asked != left:
        raise Forbidden(
            'Modifying "redelegation_count" upon redelegation is forbidden. Omitting this parameter is advised.'
        )
    row["redelegation_count"] = asked or left


def _require_within(row: Row, parent: Row) -> None:
    """A trust hands on no more than it has itself (Keystone's Manager._validate_redelegation)."""
    if not 0 < parent["redelegation_count"] <= MAX_REDELEGATION:
        raise Forbidden(
            f"Remaining redelegation depth of {parent['redelegation_count']} out of allowed range of [0..{MAX_REDELEGATION}]"
        )
    if row["remaining_uses"] is not None:
        raise Forbidden(
            f'Field "remaining_uses" is set to {row["remaining_uses"]} while it must not be set in order to '
            "redelegate a trust"
        )
    if row["expires_at"] is None:
        row["expires_at"] = parent["expires_at"]
    elif parent["expires_at"] is not None and parent["expires_at"] < row["expires_at"]:
        raise Forbidden("Requested expiration time is more than redelegated trust can provide")
    if not set(row["role_ids"]) <= set(parent["role_ids"]):
        raise Forbidden("Some of requested roles are not in redelegated trust")
    if row["project_id"] != parent["project_id"]:
        raise Forbidden("A redelegated trust is for the project of the trust that it comes from")
    if row["impersonation"] and not parent["impersonation"]:
        raise Forbidden(
            "Impersonation is not allowed because redelegated trust does not specify impersonation. "
            f"Redelegated trust id: {parent['id']}"
        )


def delete(call: Call) -> None:
    row = fetch(call, "identity:delete_trust", trustor_only=True)
    remove(call.tx, T.id == row["id"])


def remove(tx: Tx, *conditions: sa.ColumnElement[bool]) -> None:
    """Them and all that were made of them; their tokens are over at once."""
    keys = list(tx.execute(sa.select(T.id).where(T.deleted_at.is_(None), *conditions)).scalars())
    for key in keys:
        keys += tx.execute(sa.select(T.id).where(T.redelegated_trust_id == key, T.deleted_at.is_(None))).scalars()
    tx.execute(sa.update(TRUSTS).where(T.id.in_(keys)).values(deleted_at=time.time()))
    touch(tx)


# --- a token's scope ----------------------------------------------------------------------------------------------


def use(tx: Tx, trust_id: str, user_id: str) -> Row:
    """The trust that a user asks a token of, one use of it taken. Unauthorized when it is none, Forbidden to others."""
    found = tx.first(sa.select(TRUSTS).where(T.id == trust_id))
    if found is None or not is_usable(row_of(found)):
        raise Unauthorized(f"Could not find trust: {trust_id}.")
    if found["trustee_user_id"] != user_id:
        raise Forbidden("User is not a trustee.")
    if found["remaining_uses"] is not None:
        taken = tx.execute(
            sa.update(TRUSTS)
            .where(T.id == trust_id, T.remaining_uses > 0)
            .values(remaining_uses=TRUSTS.c.remaining_uses - 1)
        )
        if not taken.rowcount:
            raise Unauthorized(f"Could not find trust: {trust_id}.")
    return row_of(found)
