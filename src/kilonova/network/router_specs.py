"""Routers as the values a host is given: a few queries, however many routers there are."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.specs import FixedIP, FloatingIPSpec, PortForwardingSpec, RouterPortSpec, RouterSpec
from kilonova.network import meter_specs, router_ports, tables
from kilonova.network.router_ports import GATEWAY, Leg
from kilonova.network.rows import Row

ROUTERS, FLOATING, FORWARDINGS = tables.ROUTERS, tables.FLOATING_IPS, tables.PORT_FORWARDINGS


def router_specs(tx: Tx, host: str) -> tuple[RouterSpec, ...]:
    """The routers of that host, with those of their legs that could be bound to it."""
    found = tx.all(sa.select(ROUTERS).where(ROUTERS.c.host == host).order_by(ROUTERS.c.created_at, ROUTERS.c.id))
    ids = [row["id"] for row in found]
    if not ids:
        return ()
    legs, floating, forwardings = router_ports.legs(tx, ids), floating_ips(tx, ids), port_forwardings(tx, ids)
    meters = meter_specs.meters(tx, found)
    specs = (router_spec(row, legs[row["id"]], floating[row["id"]], forwardings[row["id"]]) for row in found)
    return tuple(msgspec.structs.replace(spec, meters=meters[spec.id]) if meters[spec.id] else spec for spec in specs)


def floating_ips(tx: Tx, router_ids: Sequence[str]) -> Mapping[str, list[FloatingIPSpec]]:
    """router id → the floating IPs that stand for a fixed address behind it."""
    found, used = defaultdict[str, list[FloatingIPSpec]](list), FLOATING.c.fixed_port_id.is_not(None)
    in_order = FLOATING.c.created_at, FLOATING.c.id
    for row in tx.all(sa.select(FLOATING).where(FLOATING.c.router_id.in_(router_ids), used).order_by(*in_order)):
        found[row["router_id"]].append(
            FloatingIPSpec(
                id=row["id"],
                floating_ip_address=row["floating_ip_address"],
                fixed_ip_address=row["fixed_ip_address"],
                port_id=row["fixed_port_id"],
            )
        )
    return found


def port_forwardings(tx: Tx, router_ids: Sequence[str]) -> Mapping[str, list[PortForwardingSpec]]:
    found = defaultdict[str, list[PortForwardingSpec]](list)
    of_routers = (
        sa.select(FORWARDINGS, FLOATING.c.router_id, FLOATING.c.floating_ip_address)
        .join(FLOATING, FLOATING.c.id == FORWARDINGS.c.floatingip_id)
        .where(FLOATING.c.router_id.in_(router_ids))
        .order_by(FORWARDINGS.c.created_at, FORWARDINGS.c.id)
    )
    for row in tx.all(of_routers):
        found[row["router_id"]].append(
            PortForwardingSpec(
                floating_ip_address=row["floating_ip_address"],
                protocol=row["protocol"],
                external_ports=(row["external_port_start"], row["external_port_end"]),
                internal_ip_address=row["internal_ip_address"],
                internal_ports=(row["internal_port_start"], row["internal_port_end"]),
            )
        )
    return found


def router_spec(
    row: Row, legs: Sequence[Leg], floating: Sequence[FloatingIPSpec], forwardings: Sequence[PortForwardingSpec]
) -> RouterSpec:
    return RouterSpec(
        id=row["id"],
        name=row["name"],
        project_id=row["project_id"],
        admin_state_up=row["admin_state_up"],
        enable_snat=row["enable_snat"],
        ports=tuple(
            leg_spec(leg) for leg in legs if (leg.port["host"], leg.port["vif_type"]) == (row["host"], "bridge")
        ),
        routes=tuple((route["destination"], route["nexthop"]) for route in row["routes"]),
        floating_ips=tuple(floating),
        port_forwardings=tuple(forwardings),
    )


def leg_spec(leg: Leg) -> RouterPortSpec:
    return RouterPortSpec(
        id=leg.port["id"],
        network_id=leg.port["network_id"],
        mac_address=leg.port["mac_address"],
        fixed_ips=tuple(FixedIP(subnet_id=ip["subnet_id"], ip_address=ip["ip_address"]) for ip in leg.fixed_ips),
        external=leg.type == GATEWAY,
        admin_state_up=leg.port["admin_state_up"],
    )


def floating_statuses(tx: Tx, routers: Sequence[RouterSpec]) -> dict[str, tuple[str, str]]:
    """Floating IP id → (its status, the port of the gateway that it comes in by, "" without one)."""
    gateways = {router.id: router.gateway.id if router.gateway else "" for router in routers}
    if not gateways:
        return {}
    used = sa.select(FLOATING.c.id, FLOATING.c.router_id, FLOATING.c.status)
    rows = tx.all(used.where(FLOATING.c.router_id.in_(list(gateways))))
    return {row["id"]: (row["status"], gateways[row["router_id"]]) for row in rows}
