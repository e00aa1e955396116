"""Who besides its own project an object is for, as its RBAC policies say (Neutron: NeutronRbacObject)."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict
from kilonova.model.ids import new_id
from kilonova.network import query, rows, tables
from kilonova.web.call import Context

TABLE = tables.RBAC_POLICIES
SHARED, EXTERNAL = "access_as_shared", "access_as_external"
ALL = "*"
NETWORK, SUBNET_POOL, ADDRESS_SCOPE = "network", "subnetpool", "address_scope"
SECURITY_GROUP, ADDRESS_GROUP, QOS_POLICY = "security_group", "address_group", "qos_policy"


def granted(context: Context, object_type: str, *actions: str) -> sa.Select[Any]:
    """The ids of the objects of this type that somebody made the caller's project see."""
    return sa.select(TABLE.c.object_id).where(
        TABLE.c.object_type == object_type,
        TABLE.c.action.in_(actions or (SHARED,)),
        TABLE.c.target_project.in_({ALL, context.project_id or ALL}),
    )


def seen(context: Context, object_type: str, table: sa.Table, *actions: str) -> sa.ColumnElement[bool]:
    """The caller's own rows and those made visible to its project; an admin's are all."""
    return sa.or_(rows.owned(context, table), table.c.id.in_(granted(context, object_type, *actions)))


def among(tx: Tx, context: Context, object_type: str, ids: Collection[str]) -> set[str]:
    """Those of the ids that are shared with the caller's project: their attribute `shared`."""
    found = granted(context, object_type).where(TABLE.c.object_id.in_(list(ids)))
    return set(tx.execute(found).scalars())


def is_shared(tx: Tx, context: Context, object_type: str, object_id: str) -> bool:
    return bool(among(tx, context, object_type, [object_id]))


def listing(known: query.Listing, context: Context, object_type: str) -> query.Listing:
    """The listing with `shared`, which depends on who asks."""
    shared = known.table.c.id.in_(granted(context, object_type))
    return replace(known, columns={**known.columns, "shared": shared})


def targets(tx: Tx, object_id: str, action: str = SHARED) -> set[str]:
    """The projects, or *, that policies open the object to."""
    of_object = TABLE.c.object_id == object_id, TABLE.c.action == action
    return set(tx.execute(sa.select(TABLE.c.target_project).where(*of_object)).scalars())


def grant(tx: Tx, project_id: str, object_type: str, object_id: str, action: str = SHARED) -> None:
    """To all projects, unless it is so already. `project_id`: whose the policy is."""
    rows.insert_ignore(
        tx,
        TABLE,
        {
            "id": new_id(), "project_id": project_id, "object_type": object_type, "object_id": object_id,
            "action": action, "target_project": ALL,
        },
    )  # fmt: skip


def revoke(tx: Tx, object_id: str, action: str = SHARED, target: str | None = ALL) -> None:
    """`target` None: from whomever."""
    gone = sa.and_(TABLE.c.object_id == object_id, TABLE.c.action == action)
    tx.execute(TABLE.delete().where(gone, sa.true() if target is None else TABLE.c.target_project == target))


def in_use(object_id: str, details: str) -> Conflict:
    return Conflict(
        f"RBAC policy on object {object_id} cannot be removed because other objects depend on it.\nDetails: {details}",
        type="RbacPolicyInUse",
    )


def forget(tx: Tx, object_id: str) -> None:
    """The object is no more."""
    tx.execute(TABLE.delete().where(TABLE.c.object_id == object_id))
