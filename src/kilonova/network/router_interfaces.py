"""add_router_interface and remove_router_interface (Neutron: l3_db)."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.network import associations, ipam, networks, ports, quotas, routers, rows, subnets, tables
from kilonova.network import attributes as a
from kilonova.network.router_ports import INTERFACE, Leg, attach, bad_request, check_subnets, legs
from kilonova.network.router_ports import subnets as subnet_rows
from kilonova.network.rows import Row
from kilonova.web.call import Context

PORTS = tables.PORTS


@dataclass(frozen=True)
class Change:
    """What was added or removed, for the answer."""

    router: Row
    port: Row
    subnet_ids: Sequence[str]

    def body(self) -> dict[str, Any]:
        router, port = self.router, self.port
        return {
            "id": router["id"], "project_id": port["project_id"], "tenant_id": port["project_id"],
            "port_id": port["id"], "network_id": port["network_id"], "subnet_id": self.subnet_ids[-1],
            "subnet_ids": list(self.subnet_ids), "tags": router["tags"],
        }  # fmt: skip


def asked(body: Any, *, removal: bool) -> tuple[str | None, str | None]:
    """(port id, subnet id) of the body. Neutron: _validate_interface_info."""
    given = body if isinstance(body, dict) else {}
    if not {"port_id", "subnet_id"} & set(given):
        raise bad_request("Either subnet_id or port_id must be specified")
    ids = dict[str, str]()
    for key in ("port_id", "subnet_id"):
        if key in given:
            try:
                ids[key] = a.identifier(given[key])
            except ValueError as error:
                raise bad_request(str(error)) from None
    if len(ids) == 2 and not removal:
        raise bad_request("Cannot specify both subnet-id and port-id")
    return ids.get("port_id"), ids.get("subnet_id")


def add(tx: Tx, context: Context, router_id: str, body: Any) -> Change:
    router = routers.get(tx, context, router_id)
    port_id, subnet_id = asked(body, removal=False)
    router = routers.locked(tx, context, router_id)
    found = legs(tx, [router_id])[router_id]
    if port_id:
        return add_by_port(tx, context, router, found, port_id)
    return add_by_subnet(tx, context, router, found, str(subnet_id))


def check_address_mode(subnet: Row) -> None:
    if subnet["ip_version"] == 6 and subnet["ipv6_ra_mode"] is None and subnet["ipv6_address_mode"] is not None:
        raise bad_request(
            f"IPv6 subnet {subnet['id']} configured to receive RAs from an external router cannot be added to "
            "Neutron Router"
        )


def add_by_subnet(tx: Tx, context: Context, router: Row, found: Sequence[Leg], subnet_id: str) -> Change:
    """A port with the subnet's gateway address; a second IPv6 subnet of a network joins the port of the first."""
    subnet = subnets.get(tx, context, subnet_id)
    if not subnet["gateway_ip"]:
        raise bad_request("Subnet for router interface must have a gateway IP")
    if subnet["project_id"] != context.project_id and not context.is_admin:
        raise bad_request(
            f"Cannot add interface to router because subnet {subnet_id} is not owned by project making the request"
        )
    check_address_mode(subnet)
    check_subnets(tx, found, [subnet])
    fixed_ip = {"subnet_id": subnet["id"], "ip_address": subnet["gateway_ip"]}
    joined = ipv6_leg(found, subnet["network_id"]) if subnet["ip_version"] == 6 else None
    if joined is not None:
        rows.touch(tx, PORTS, joined.port["id"])
        ipam.allocate_requested(tx, joined.port, [subnet], fixed_ip)
        return Change(router, joined.port, [subnet_id])
    quotas.check(tx, router["project_id"], "port")
    values = {
        "project_id": router["project_id"], "device_id": router["id"], "device_owner": INTERFACE,
        "port_security_enabled": False,
    }  # fmt: skip
    port = ports.insert(tx, networks.get_any(tx, subnet["network_id"]), values, [fixed_ip], ())
    attach(tx, router, port, INTERFACE)
    return Change(router, port, [subnet_id])


def ipv6_leg(found: Sequence[Leg], network_id: str) -> Leg | None:
    for leg in found:
        if leg.type == INTERFACE and leg.port["network_id"] == network_id and any(":" in ip for ip in leg.addresses):
            return leg
    return None


def add_by_port(tx: Tx, context: Context, router: Row, found: Sequence[Leg], port_id: str) -> Change:
    port = ports.get(tx, context, port_id)
    if not rows.owns(context, port):
        raise a.disallowed("update_port")
    if port["device_id"]:
        raise Conflict(
            f"Unable to complete operation on port {port_id} for network {port['network_id']}. Port already has an "
            f"attached device {port['device_id']}.",
            type="PortInUse",
        )
    fixed_ips = ipam.fixed_ips(tx, [port_id])[port_id]
    if not fixed_ips:
        raise bad_request("Router port must have at least one fixed IP")
    attached = subnet_rows(tx, [ip["subnet_id"] for ip in fixed_ips])
    for subnet in attached:
        check_address_mode(subnet)
    other = ipv6_leg(found, port["network_id"]) if any(":" in ip["ip_address"] for ip in fixed_ips) else None
    if other is not None:
        raise bad_request(
            f"Router already contains IPv6 port {other.port['id']} belonging to network id {port['network_id']}. Only "
            "one IPv6 port from the same network subnet can be connected to a router"
        )
    check_subnets(tx, found, attached)
    if sum(subnet["ip_version"] == 4 for subnet in attached) > 1:
        raise bad_request("Cannot have multiple IPv4 subnets on router port")
    check_in_pools(context, port, fixed_ips, attached)
    rows.touch(tx, PORTS, port_id, device_id=router["id"], device_owner=INTERFACE)
    port = ports.get_any(tx, port_id)
    attach(tx, router, port, INTERFACE)
    return Change(router, port, [subnet["id"] for subnet in attached])


def check_in_pools(context: Context, port: Row, fixed_ips: Sequence[dict[str, str]], attached: Sequence[Row]) -> None:
    """Nobody becomes the gateway of another project's subnet by an address outside its pools."""
    for ip, subnet in ((ip, subnet) for ip in fixed_ips for subnet in attached if subnet["id"] == ip["subnet_id"]):
        address = ipaddress.ip_address(ip["ip_address"])
        inside = any(
            int(ipaddress.ip_address(pool["start"])) <= int(address) <= int(ipaddress.ip_address(pool["end"]))
            for pool in subnet["allocation_pools"]
        )
        if not (inside or context.is_admin or subnet["project_id"] == context.project_id):
            raise bad_request(
                f"Cannot add interface to router because specified port {port['id']} has an IP address out of the "
                f"allocation pool of subnet {subnet['id']}, which is not owned by the project making the request"
            )


def remove(tx: Tx, context: Context, router_id: str, body: Any) -> Change:
    routers.get(tx, context, router_id)
    port_id, subnet_id = asked(body, removal=True)
    router = routers.locked(tx, context, router_id)
    found = [leg for leg in legs(tx, [router_id])[router_id] if leg.type == INTERFACE]
    if port_id:
        return remove_by_port(tx, router, found, port_id, subnet_id)
    return remove_by_subnet(tx, context, router, found, str(subnet_id))


def remove_by_port(tx: Tx, router: Row, found: Sequence[Leg], port_id: str, subnet_id: str | None) -> Change:
    leg = next((leg for leg in found if leg.port["id"] == port_id), None)
    if leg is None:
        raise NotFound(
            f"Router {router['id']} does not have an interface with id {port_id}", type="RouterInterfaceNotFound"
        )
    if subnet_id and subnet_id not in leg.subnet_ids:
        raise BadRequest(
            f"Subnet on port {port_id} does not match the requested subnet {subnet_id}.", type="SubnetMismatchForPort"
        )
    attached = subnet_rows(tx, leg.subnet_ids)
    for subnet in attached:
        check_not_needed(tx, router, subnet)
    associations.delete_ports(tx, [port_id])
    return Change(router, leg.port, [subnet["id"] for subnet in attached])


def remove_by_subnet(tx: Tx, context: Context, router: Row, found: Sequence[Leg], subnet_id: str) -> Change:
    """An address of a port with several goes alone."""
    subnet = subnets.get(tx, context, subnet_id)
    leg = next((leg for leg in found if subnet_id in leg.subnet_ids), None)
    if leg is None:
        raise NotFound(
            f"Router {router['id']} has no interface on subnet {subnet_id}", type="RouterInterfaceNotFoundForSubnet"
        )
    check_not_needed(tx, router, subnet)
    if len(leg.fixed_ips) > 1:
        keep = [ip["ip_address"] for ip in leg.fixed_ips if ip["subnet_id"] != subnet_id]
        rows.touch(tx, PORTS, leg.port["id"])
        ipam.release(tx, leg.port["id"], keep)
    else:
        associations.delete_ports(tx, [leg.port["id"]])
    return Change(router, leg.port, [subnet_id])


def check_not_needed(tx: Tx, router: Row, subnet: Row) -> None:
    """Conflict when floating IPs, port forwardings or routes go by this subnet."""
    floating, forwardings, held = tables.FLOATING_IPS, tables.PORT_FORWARDINGS, tables.IP_ALLOCATIONS
    of_subnet = sa.select(held.c.port_id).where(held.c.subnet_id == subnet["id"])
    stood_for = sa.select(floating.c.fixed_ip_address).where(
        floating.c.router_id == router["id"], floating.c.fixed_port_id.in_(of_subnet)
    )
    forwarded_to = (
        sa.select(forwardings.c.internal_ip_address)
        .join(floating, floating.c.id == forwardings.c.floatingip_id)
        .where(floating.c.router_id == router["id"], forwardings.c.internal_port_id.in_(of_subnet))
    )
    used = tx.execute(sa.union_all(stood_for, forwarded_to)).scalars().all()
    cidr = ipaddress.ip_network(subnet["cidr"])
    needed = "Router interface for subnet {} on router {} cannot be deleted, as it is required by one or more {}."
    if any(ipaddress.ip_address(address) in cidr for address in used):
        raise Conflict(
            needed.format(subnet["id"], router["id"], "floating IPs"), type="RouterInterfaceInUseByFloatingIP"
        )
    if any(ipaddress.ip_address(route["nexthop"]) in cidr for route in router["routes"]):
        raise Conflict(needed.format(subnet["id"], router["id"], "routes"), type="RouterInterfaceInUseByRoute")
