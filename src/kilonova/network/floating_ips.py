"""Floating IPs: addresses of external networks that stand for fixed ones (Neutron: l3_db)."""

import ipaddress
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Database, Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import associations, dns, ipam, networks, ports, query, quotas, rows, tables
from kilonova.network import attributes as a
from kilonova.network.router_ports import GATEWAY, INTERFACE
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE = tables.FLOATING_IPS
OWNER = "network:floatingip"
PATIENCE = 2.0  # seconds
NOT_SERVED = ("network:floatingip", "network:router_gateway", "network:dhcp")

ATTRIBUTES = {
    "floating_network_id": a.Attribute(a.identifier, default=a.REQUIRED, put=False),
    "floating_ip_address": a.Attribute(a.or_none(a.ip_address), default=None, put=False),
    "subnet_id": a.Attribute(a.or_none(a.identifier), default=None, put=False),
    "port_id": a.Attribute(a.or_none(a.identifier), default=None),
    "fixed_ip_address": a.Attribute(a.or_none(a.ip_address), default=None),
    "description": a.Attribute(a.text(), default=""),
    # Kept nowhere, as by a Neutron that has no external DNS service to tell.
    "dns_name": a.Attribute(dns.floating_name, default="", put=False),
    "dns_domain": a.Attribute(dns.domain, default="", put=False),
    **{
        name: a.Attribute(a.documents, post=False, put=False)
        for name in (
            "id", "status", "router_id", "port_details", "port_forwardings", "revision_number", "created_at",
            "updated_at", "tags",
        )
    },
}  # fmt: skip
LISTING = query.Listing(
    "floatingips",
    TABLE,
    query.standard_columns(
        TABLE, "floating_network_id", "floating_ip_address", "fixed_ip_address", "router_id", "status",
        port_id="fixed_port_id",
    ),
)  # fmt: skip


def bad_request(message: str) -> BadRequest:
    return BadRequest(f"Bad floatingip request: {message}.", type="BadRequest")


def not_found(floating_id: str) -> NotFound:
    return NotFound(f"Floating IP {floating_id} could not be found", type="FloatingIPNotFound")


def get(tx: Tx, context: Context, floating_id: str) -> Row:
    return rows.find(tx, TABLE, floating_id, rows.owned(context, TABLE), not_found)


def get_any(tx: Tx, floating_id: str) -> Row:
    return rows.find(tx, TABLE, floating_id, sa.true(), not_found)


def locked(tx: Tx, context: Context, floating_id: str) -> Row:
    """With a revision of this transaction's: of two that associate it at once, one starts again."""
    floating = get(tx, context, floating_id)
    rows.touch(tx, TABLE, floating["id"])
    return get_any(tx, floating["id"])


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return query.page(call, LISTING, rows.owned(call.context, TABLE))


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("floatingip", body, ATTRIBUTES, context, create=True)
    part, managers = "create_floatingip:floating_ip_address", context.is_admin or "manager" in context.roles
    if values["floating_ip_address"] and not context.may(part, managers):
        raise a.disallowed("create_floatingip", part)
    network = networks.get(tx, context, values["floating_network_id"])
    if not network["external"]:
        raise bad_request(f"Network {network['id']} is not a valid external network")
    quotas.check(tx, values["project_id"], "floatingip")
    floating_id = new_id()
    port, address = make_port(tx, network, floating_id, values)
    floating = {
        "id": floating_id,
        "project_id": values["project_id"],
        "description": values["description"],
        "floating_network_id": network["id"],
        "floating_ip_address": address,
        "floating_port_id": port["id"],
        **associations.FREE,
        **rows.stamps(),
    }
    given = {key: values[key] for key in ("port_id", "fixed_ip_address") if values[key] is not None}
    floating |= association(tx, context, floating, given)
    with rows.conflict(already_associated(floating)):
        tx.execute(TABLE.insert().values(**floating))
    return get_any(tx, floating_id)


def make_port(tx: Tx, network: Row, floating_id: str, values: dict[str, Any]) -> tuple[Row, str]:
    """The port that holds the address: nobody's, so only an admin sees it."""
    ipv4 = [subnet for subnet in ipam.subnets_of(tx, network["id"]) if subnet["ip_version"] == 4]
    if not ipv4:
        raise bad_request(f"Network {network['id']} does not contain any IPv4 subnet")
    wanted = {"subnet_id": values["subnet_id"], "ip_address": values["floating_ip_address"]}
    requested = {key: value for key, value in wanted.items() if value}
    columns = {
        "project_id": "", "device_id": floating_id, "device_owner": OWNER, "status": "N/A",
        "port_security_enabled": False,
    }  # fmt: skip
    port = ports.insert(tx, network, columns, [requested] if requested else [], ())
    if not requested:
        ipam.allocate_from(tx, port, ipv4)
    held = ipam.fixed_ips(tx, [port["id"]])[port["id"]]
    found = [ip["ip_address"] for ip in held if ipaddress.ip_address(ip["ip_address"]).version == 4]
    if not found:
        raise BadRequest(
            f"Unable to find any IP address on external network {network['id']}.", type="ExternalIpAddressExhausted"
        )
    return port, found[0]


def update(tx: Tx, context: Context, floating_id: str, body: Any) -> Row:
    """Neutron's manner: a body without port_id keeps the association, an empty one ends it."""
    get(tx, context, floating_id)
    values = a.prepare("floatingip", body, ATTRIBUTES, context, create=False)
    floating = locked(tx, context, floating_id)
    if values.get("port_id") and has_forwardings(tx, floating_id):
        raise Conflict(
            f"Floating IP {floating_id} in use by Port Forwarding resources.", type="FipInUseByPortForwarding"
        )
    columns = association(tx, context, floating, values)
    untouched = values and "port_id" not in values
    if untouched or (not columns["fixed_port_id"] and has_forwardings(tx, floating_id)):
        columns = {}  # port forwardings keep their router
    if "description" in values:
        columns["description"] = values["description"]
    with rows.conflict(already_associated({**floating, **columns})):
        tx.execute(TABLE.update().where(TABLE.c.id == floating_id).values(**columns) if columns else sa.select(1))
    return get_any(tx, floating_id)


def is_carried(tx: Tx, floating_id: str) -> bool:
    """Whether a host has said that its router leads where the floating IP says."""
    return bool(tx.scalar(sa.select(TABLE.c.status).where(TABLE.c.id == floating_id)) == "ACTIVE")


def await_carried(database: Database, floating_id: str) -> None:
    """Until it is, or PATIENCE is at its end: there may be no host that carries it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and not database.read(lambda tx: is_carried(tx, floating_id)):
        time.sleep(0.02)


def has_forwardings(tx: Tx, floating_id: str) -> bool:
    table = tables.PORT_FORWARDINGS
    return tx.scalar(sa.select(table.c.id).where(table.c.floatingip_id == floating_id).limit(1)) is not None


def association(tx: Tx, context: Context, floating: Row, given: dict[str, Any]) -> dict[str, Any]:
    """The columns of the association that `given` (port_id, fixed_ip_address) asks for; none without a port."""
    if not given.get("port_id"):
        if given.get("fixed_ip_address"):
            raise bad_request("fixed_ip_address cannot be specified without a port_id")
        return dict(associations.FREE)
    port = ports.get(tx, context, given["port_id"])
    if port["project_id"] != floating["project_id"] and not context.is_admin:
        raise bad_request(
            f"Cannot process floating IP association with Port {port['id']}, since that port is owned by a different "
            "project"
        )
    if port["device_owner"] in NOT_SERVED:
        raise bad_request(f"Port {port['id']} is unable to be assigned a floating IP")
    ip = fixed_ip(tx, port, given.get("fixed_ip_address"))
    router_id = find_router(tx, port, ip["subnet_id"], floating["floating_network_id"])
    columns = {"fixed_port_id": port["id"], "fixed_ip_address": ip["ip_address"], "router_id": router_id}
    if all(floating[key] == value for key, value in columns.items()):
        return columns
    same = sa.and_(
        TABLE.c.fixed_port_id == port["id"], TABLE.c.fixed_ip_address == ip["ip_address"],
        TABLE.c.floating_network_id == floating["floating_network_id"], TABLE.c.id != floating["id"],
    )  # fmt: skip
    if tx.scalar(sa.select(TABLE.c.id).where(same)):
        raise already_associated({**floating, **columns})
    return {**columns, "status": "DOWN"}


def already_associated(floating: Row) -> Conflict:
    return Conflict(
        f"Cannot associate floating IP {floating['floating_ip_address']} ({floating['id']}) with port "
        f"{floating['fixed_port_id']} using fixed IP {floating['fixed_ip_address']}, as that fixed IP already has a "
        f"floating IP on external network {floating['floating_network_id']}.",
        type="FloatingIPPortAlreadyAssociated",
    )


def fixed_ip(tx: Tx, port: Row, address: str | None) -> dict[str, str]:
    """The one of the port's fixed IPs that is meant (Neutron: _internal_fip_assoc_data)."""
    held = [ip for ip in ipam.fixed_ips(tx, [port["id"]])[port["id"]] if ":" not in ip["ip_address"]]
    if address:
        if ":" in address:
            raise bad_request(
                f"Cannot process floating IP association with {address}, since that is not an IPv4 address"
            )
        chosen = next((ip for ip in held if ip["ip_address"] == address), None)
        if chosen is None:
            raise bad_request(f"Port {port['id']} does not have fixed ip {address}")
        return chosen
    if not held:
        raise bad_request(f"Cannot add floating IP to port {port['id']} that has no fixed IPv4 addresses")
    if len(held) > 1:
        raise bad_request(
            f"Port {port['id']} has multiple fixed IPv4 addresses.  Must provide a specific IPv4 address when "
            "assigning a floating IP"
        )
    return held[0]


def unreachable(port: Row, subnet_id: str, network_id: str) -> NotFound:
    return NotFound(
        f"External network {network_id} is not reachable from subnet {subnet_id}.  Therefore, cannot associate Port "
        f"{port['id']} with a Floating IP.",
        type="ExternalGatewayForFloatingIPNotFound",
    )


def find_router(tx: Tx, port: Row, subnet_id: str, network_id: str) -> str:
    """The router between the subnet and the external network, the subnet's gateway first. NotFound without one."""
    found = routers_between(tx, subnet_id, network_id)
    if not found:
        raise unreachable(port, subnet_id, network_id)
    gateway = tx.scalar(sa.select(tables.SUBNETS.c.gateway_ip).where(tables.SUBNETS.c.id == subnet_id))
    return next((router_id for router_id, address in found if address == gateway), found[0][0])


def routers_between(tx: Tx, subnet_id: str, network_id: str) -> Sequence[tuple[str, str]]:
    """(router id, its address in the subnet)"""
    leg, held, table = tables.ROUTER_PORTS, tables.IP_ALLOCATIONS, tables.PORTS
    outside = leg.alias("outside")
    inside = (
        sa.select(leg.c.router_id, held.c.ip_address)
        .join(held, held.c.port_id == leg.c.port_id)
        .join(outside, outside.c.router_id == leg.c.router_id)
        .join(table, table.c.id == outside.c.port_id)
        .where(
            leg.c.port_type == INTERFACE, held.c.subnet_id == subnet_id,
            outside.c.port_type == GATEWAY, table.c.network_id == network_id,
        )
        .order_by(held.c.id)
    )  # fmt: skip
    return [(row["router_id"], row["ip_address"]) for row in tx.all(inside)]


def delete(tx: Tx, context: Context, floating_id: str) -> None:
    floating = locked(tx, context, floating_id)
    if has_forwardings(tx, floating_id):
        raise Conflict(
            f"Floating IP {floating_id} in use by Port Forwarding resources.", type="FipInUseByPortForwarding"
        )
    associations.forget(tx, floating)
