"""How many addresses each network has, and how many of them are taken (Neutron: IpAvailabilityMixin)."""

import ipaddress
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.network import query, tables
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE, SUBNETS, HELD = tables.NETWORKS, tables.SUBNETS, tables.IP_ALLOCATIONS


def by_version(values: list[str]) -> sa.ColumnElement[bool]:
    versions = [int(value) for value in values if value in ("4", "6")]
    return TABLE.c.id.in_(sa.select(SUBNETS.c.network_id).where(SUBNETS.c.ip_version.in_(versions)))


LISTING = query.Listing(
    "network_ip_availabilities",
    TABLE,
    {
        "network_id": TABLE.c.id, "network_name": TABLE.c.name, "project_id": TABLE.c.project_id,
        "tenant_id": TABLE.c.project_id,
    },
    {"ip_version": by_version},
)  # fmt: skip


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    """For administrators; nobody else sees any."""
    return query.page(call, LISTING, sa.true() if call.context.is_admin else sa.false())


def handle_list(call: Call) -> dict[str, Any]:
    rows, links = list_page(call)
    found = bodies(call.tx, call.context, rows, [value for key, value in call.query if key == "ip_version"])
    return {"network_ip_availabilities": [query.fields(call, body) for body in found], **links}


def bodies(tx: Tx, context: Context, found: Sequence[Row], versions: Collection[str] = ()) -> list[dict[str, Any]]:
    ids, subnets = [row["id"] for row in found], defaultdict[str, list[dict[str, Any]]](list)
    used = sa.select(HELD.c.subnet_id, sa.func.count().label("used")).group_by(HELD.c.subnet_id).subquery()
    joined = sa.select(SUBNETS, sa.func.coalesce(used.c.used, 0).label("used")).join(
        used, used.c.subnet_id == SUBNETS.c.id, isouter=True
    )
    for row in tx.all(joined.where(SUBNETS.c.network_id.in_(ids)).order_by(SUBNETS.c.created_at, SUBNETS.c.id)):
        if not versions or str(row["ip_version"]) in versions:
            subnets[row["network_id"]].append(subnet_body(row))
    return [network_body(row, subnets[row["id"]]) for row in found]


def subnet_body(row: Row) -> dict[str, Any]:
    return {
        "subnet_id": row["id"],
        "subnet_name": row["name"],
        "cidr": row["cidr"],
        "ip_version": row["ip_version"],
        "total_ips": total(row),
        "used_ips": row["used"],
    }


def total(subnet: Row) -> int:
    """Addresses in its allocation pools; all of the subnet's where it has none."""
    if not subnet["allocation_pools"]:
        return ipaddress.ip_network(subnet["cidr"]).num_addresses
    spans = [
        (ipaddress.ip_address(pool["start"]), ipaddress.ip_address(pool["end"])) for pool in subnet["allocation_pools"]
    ]
    return sum(int(end) - int(start) + 1 for start, end in spans)


def network_body(row: Row, subnets: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "network_id": row["id"],
        "network_name": row["name"],
        "project_id": row["project_id"],
        "tenant_id": row["project_id"],
        "subnet_ip_availability": subnets,
        "total_ips": sum(subnet["total_ips"] for subnet in subnets),
        "used_ips": sum(subnet["used_ips"] for subnet in subnets),
    }
