"""A router's external gateway (Neutron: _update_router_gw_info of l3_db and l3_gwmode_db)."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict
from kilonova.network import associations, extra_routes, ipam, networks, ports, rows, tables
from kilonova.network import attributes as a
from kilonova.network.router_ports import GATEWAY, Leg, attach, bad_request, check_subnets, gateway, legs
from kilonova.network.rows import Row
from kilonova.web.call import Context

FIXED_IP = a.mapping({}, {"subnet_id": a.identifier, "ip_address": a.ip_address})
INFO = a.mapping(
    {"network_id": a.identifier}, {"enable_snat": a.boolean, "external_fixed_ips": a.list_of(FIXED_IP, unique=True)}
)
ADMINS = ("enable_snat", "external_fixed_ips")


def info(value: Any) -> dict[str, Any] | None:
    """The attribute's converter: nothing at all is as good as null."""
    return INFO(value) if value not in (None, {}) else None


def check_policy(context: Context, given: dict[str, Any] | None, action: str) -> None:
    asked = [f"{action}:external_gateway_info:{key}" for key in ADMINS if key in (given or {})]
    if not all(context.may(part) for part in asked):
        raise a.disallowed(action, *asked)


def change(tx: Tx, context: Context, router: Row, given: dict[str, Any] | None) -> None:
    """Make the gateway what `given` (checked by `info`) says; None takes it away."""
    found = legs(tx, [router["id"]])[router["id"]]
    now, asked = gateway(found), (given or {}).get("external_fixed_ips", [])
    network = check(tx, context, found, router, given)
    rows.touch(tx, tables.ROUTERS, router["id"], enable_snat=(given or {}).get("enable_snat", True))
    if now is not None and network is not None and now.port["network_id"] == network["id"]:
        if asked and differs(now, asked):
            rows.touch(tx, tables.PORTS, now.port["id"])
            ipam.change(tx, now.port, asked)
        return
    if now is not None:
        remove(tx, router, now)
    if network is not None:
        check_subnets(tx, [leg for leg in found if leg is not now], ipam.subnets_of(tx, network["id"]))
        add(tx, router, network, asked)


def check(tx: Tx, context: Context, found: Sequence[Leg], router: Row, given: dict[str, Any] | None) -> Row | None:
    """The external network. NotFound, or BadRequest when it or an address will not do, or a route would hang loose."""
    network, cidrs = None, list[str]()
    if given is not None:
        network = networks.get(tx, context, given["network_id"])
        if not network["external"]:
            raise bad_request(f"Network {network['id']} is not an external network")
        subnets = ipam.subnets_of(tx, network["id"])
        gateways = {subnet["gateway_ip"] for subnet in subnets}
        for ip in given.get("external_fixed_ips", ()):
            if ip.get("ip_address") in gateways:
                raise bad_request(f"External IP {ip['ip_address']} is the same as the gateway IP")
        cidrs = [subnet["cidr"] for subnet in subnets]
    if router["routes"]:
        extra_routes.check_reachable(tx, [leg for leg in found if leg.type != GATEWAY], router["routes"], cidrs)
    return network


def differs(now: Leg, asked: Sequence[dict[str, str]]) -> bool:
    """Neutron: _check_for_external_ip_change."""
    subnet_ids = {ip["subnet_id"] for ip in asked if "subnet_id" in ip}
    addresses = {ip["ip_address"] for ip in asked if "ip_address" in ip}
    return subnet_ids != set(now.subnet_ids) or addresses != set(now.addresses)


def add(tx: Tx, router: Row, network: Row, asked: Sequence[dict[str, str]]) -> None:
    """Its port belongs to no project: it is hidden from the router's user."""
    values = {
        "project_id": "", "device_id": router["id"], "device_owner": GATEWAY, "port_security_enabled": False,
    }  # fmt: skip
    port = ports.insert(tx, network, values, list(asked) or None, ())
    attach(tx, router, port, GATEWAY)


def remove(tx: Tx, router: Row, now: Leg) -> None:
    """Conflict while floating IPs need it."""
    floating = tables.FLOATING_IPS
    if tx.scalar(sa.select(floating.c.id).where(floating.c.router_id == router["id"]).limit(1)):
        raise Conflict(
            f"Gateway cannot be updated for router {router['id']}, since a gateway to external network "
            f"{now.port['network_id']} is required by one or more floating IPs.",
            type="RouterExternalGatewayInUseByFloatingIp",
        )
    associations.delete_ports(tx, [now.port["id"]])
