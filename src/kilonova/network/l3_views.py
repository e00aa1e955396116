"""Routers, floating IPs and their forwardings as Neutron's bodies."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.network import port_forwardings, router_ports, tables
from kilonova.network.router_ports import Leg
from kilonova.network.rows import Row
from kilonova.network.scheduling import ZONES
from kilonova.network.views import Body, standard
from kilonova.web.call import Context


def routers(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    legs = router_ports.legs(tx, [row["id"] for row in rows])
    return [router(context, row, router_ports.gateway(legs[row["id"]])) for row in rows]


def router(context: Context, row: Row, gateway: Leg | None) -> Body:
    info = None
    if gateway is not None:
        info = {
            "network_id": gateway.port["network_id"],
            "external_fixed_ips": list(gateway.fixed_ips),
            "enable_snat": row["enable_snat"],
        }
    body = {
        **{key: row[key] for key in ("id", "name", "admin_state_up", "status", "routes", "availability_zone_hints")},
        "external_gateway_info": info,
        "availability_zones": list(ZONES) if row["host"] else [],
        "flavor_id": None,
        "enable_snat": row["enable_snat"],
        **standard(row),
    }
    return body | ({"distributed": False, "ha": False} if context.is_admin else {})


def floating_ips(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    table, ids = tables.PORTS, [row["fixed_port_id"] for row in rows if row["fixed_port_id"]]
    ports = {port["id"]: port for port in tx.all(sa.select(table).where(table.c.id.in_(ids)))}
    forwardings = port_forwardings.of_floating_ips(tx, [row["id"] for row in rows])
    return [floating_ip(row, ports.get(row["fixed_port_id"]), forwardings[row["id"]]) for row in rows]


def floating_ip(row: Row, port: Row | None, forwardings: Sequence[Row]) -> Body:
    same = ("id", "floating_ip_address", "floating_network_id", "router_id", "fixed_ip_address", "status")
    details = ("name", "network_id", "mac_address", "admin_state_up", "status", "device_id", "device_owner")
    shown = ("id", "protocol", "internal_ip_address", "internal_port_id", "internal_port", "external_port")
    bodies = [forwarding(each) for each in forwardings]
    return {
        **{key: row[key] for key in same},
        "port_id": row["fixed_port_id"],
        "dns_name": "",
        "dns_domain": "",
        "port_details": {key: port[key] for key in details} if port else None,
        "port_forwardings": [{key: body[key] for key in shown if key in body} for body in bodies],
        **standard(row),
    }


def forwarding(row: Row) -> Body:
    body = {key: row[key] for key in ("id", "protocol", "internal_ip_address", "internal_port_id", "description")}
    for side in ("internal", "external"):
        start, end = row[f"{side}_port_start"], row[f"{side}_port_end"]
        body[f"{side}_port_range"] = f"{start}:{end}"
        body[f"{side}_port"] = start if start == end else None
    return body


def pools(tx: Tx, context: Context) -> list[Body]:
    """The IPv4 subnets that floating IPs can come from, as the caller's (Neutron: floatingip-pools)."""
    nets, table = tables.NETWORKS, tables.SUBNETS
    external = (
        sa.select(table)
        .join(nets, nets.c.id == table.c.network_id)
        .where(nets.c.external, table.c.ip_version == 4)
        .order_by(table.c.created_at, table.c.id)
    )
    return [
        {
            "subnet_id": row["id"], "subnet_name": row["name"], "network_id": row["network_id"], "cidr": row["cidr"],
            "project_id": context.project_id, "tenant_id": context.project_id,
        }
        for row in tx.all(external)
    ]  # fmt: skip


def zones() -> list[dict[str, Any]]:
    return [{"name": name, "resource": "router", "state": "available"} for name in ZONES]
