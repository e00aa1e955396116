"""Quotas, kept a project and enforced when a row is made (Neutron: DbQuotaNoLockDriver). -1 is no limit."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict, NotFound
from kilonova.network import tables
from kilonova.network.attributes import INT_MAX, Attribute, bad_request, boolean, checked, integer
from kilonova.network.service_tables import TRUNKS

DEFAULTS = {"network": 100, "subnet": 100, "port": 500, "security_group": 10, "security_group_rule": 100,
            "router": 10, "floatingip": 50, "router_route": 30,
            "subnetpool": -1, "address_scope": -1, "address_group": -1, "rbac_policy": 10, "trunk": -1}  # fmt: skip
COUNTED = {
    "network": tables.NETWORKS,
    "subnet": tables.SUBNETS,
    "port": tables.PORTS,
    "security_group": tables.SECURITY_GROUPS,
    "security_group_rule": tables.SECURITY_GROUP_RULES,
    "router": tables.ROUTERS,
    "floatingip": tables.FLOATING_IPS,
    "subnetpool": tables.SUBNET_POOLS,
    "address_scope": tables.ADDRESS_SCOPES,
    "address_group": tables.ADDRESS_GROUPS,
    "rbac_policy": tables.RBAC_POLICIES,
    "trunk": TRUNKS,
}
ATTRIBUTES = {name: Attribute(integer(-1, INT_MAX)) for name in DEFAULTS}


def limits(tx: Tx, project_id: str) -> dict[str, int]:
    quotas = tables.QUOTAS
    own = tx.all(sa.select(quotas.c.resource, quotas.c.limit).where(quotas.c.project_id == project_id))
    return DEFAULTS | {row["resource"]: row["limit"] for row in own}


def used(tx: Tx, project_id: str, resource: str) -> int:
    if resource not in COUNTED:
        return 0  # router_route is a router's, not a project's
    table = COUNTED[resource]
    return int(tx.scalar(sa.select(sa.func.count()).select_from(table).where(table.c.project_id == project_id)))


def details(tx: Tx, project_id: str) -> dict[str, dict[str, int]]:
    return {
        name: {"limit": limit, "used": used(tx, project_id, name), "reserved": 0}
        for name, limit in limits(tx, project_id).items()
    }


def headroom(tx: Tx, project_id: str, resource: str) -> int | None:
    """How many more rows the project may have; None without a limit."""
    limit = limits(tx, project_id)[resource]
    return None if limit < 0 else limit - used(tx, project_id, resource)


def check(tx: Tx, project_id: str, resource: str, count: int = 1) -> None:
    """Conflict OverQuota when `count` more would be too many."""
    room = headroom(tx, project_id, resource)
    if room is not None and room < count:
        raise Conflict(f"Quota exceeded for resources: ['{resource}'].", type="OverQuota")


def check_enough(tx: Tx, project_id: str, resource: str, limit: int) -> None:
    """BadRequest for a limit below what the project has already."""
    if 0 <= limit < (number := used(tx, project_id, resource)):
        raise bad_request(f"Quota limit {limit} for {resource} must be greater than or equal to already used {number}")


def update(tx: Tx, project_id: str, body: Any) -> dict[str, int]:
    """`force` in the body: whatever the project has; `check_limit` says what is done anyway."""
    if not isinstance(body, dict):
        raise bad_request("Unable to find 'quota' in request body")
    values = {name: value for name, value in body.items() if name not in ("project_id", "tenant_id")}
    flags = {name: checked(name, boolean, values.pop(name, False)) for name in ("force", "check_limit")}
    if unknown := sorted(set(values) - set(ATTRIBUTES)):
        raise bad_request(f"Unrecognized attribute(s) '{', '.join(unknown)}'")
    for name, value in values.items():
        limit, quotas = checked(name, ATTRIBUTES[name].convert, value), tables.QUOTAS
        if not flags["force"]:
            check_enough(tx, project_id, name, limit)
        tx.execute(quotas.delete().where(quotas.c.project_id == project_id, quotas.c.resource == name))
        tx.execute(quotas.insert().values(project_id=project_id, resource=name, limit=limit))
    return limits(tx, project_id)


def delete(tx: Tx, project_id: str) -> None:
    """Back to the defaults; NotFound when the project had none of its own."""
    gone = tx.execute(tables.QUOTAS.delete().where(tables.QUOTAS.c.project_id == project_id))
    if not gone.rowcount:
        raise NotFound(f"Quota for tenant {project_id} could not be found.", type="TenantQuotaNotFound")


def all_own(tx: Tx) -> dict[str, dict[str, int]]:
    """project → limits, for each project that has some of its own."""
    projects = tx.execute(sa.select(tables.QUOTAS.c.project_id).distinct().order_by(tables.QUOTAS.c.project_id))
    return {project_id: limits(tx, project_id) for (project_id,) in projects}
