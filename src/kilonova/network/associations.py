"""Floating IPs and port forwardings that lead to a port: what becomes of them when it goes or changes."""

from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict
from kilonova.network import rows, tables
from kilonova.network.rows import Row
from kilonova.web.call import Context

FLOATING, FORWARDINGS, PORTS = tables.FLOATING_IPS, tables.PORT_FORWARDINGS, tables.PORTS
INTERFACE = "network:router_interface"
FREE: dict[str, Any] = {"fixed_port_id": None, "fixed_ip_address": None, "router_id": None, "status": "DOWN"}


def floating_ips_of(tx: Tx, port_ids: Collection[str]) -> list[Row]:
    return list(tx.all(sa.select(FLOATING).where(FLOATING.c.fixed_port_id.in_(list(port_ids)))))


def disassociate(tx: Tx, port_ids: Collection[str]) -> None:
    """Floating IPs stay their projects', free again; port forwardings end (Neutron: disassociate_floatingips)."""
    for floating in floating_ips_of(tx, port_ids):
        rows.touch(tx, FLOATING, floating["id"], **FREE)
    found = tx.all(sa.select(FORWARDINGS).where(FORWARDINGS.c.internal_port_id.in_(list(port_ids))))
    delete_forwardings(tx, found)


def delete_forwardings(tx: Tx, found: Iterable[Row]) -> None:
    """A floating IP that has none left has no router either."""
    for forwarding in found:
        tx.execute(FORWARDINGS.delete().where(FORWARDINGS.c.id == forwarding["id"]))
        of_same = sa.select(FORWARDINGS.c.id).where(FORWARDINGS.c.floatingip_id == forwarding["floatingip_id"])
        left = tx.scalar(of_same.limit(1)) is not None
        rows.touch(tx, FLOATING, forwarding["floatingip_id"], **({} if left else FREE))


def delete_ports(tx: Tx, port_ids: Collection[str]) -> None:
    """Delete ports and what hangs on them."""
    disassociate(tx, port_ids)
    tx.execute(PORTS.delete().where(PORTS.c.id.in_(list(port_ids))))


def forget(tx: Tx, floating: Row) -> None:
    """Delete a floating IP with the port that holds its address."""
    tx.execute(FLOATING.delete().where(FLOATING.c.id == floating["id"]))
    delete_ports(tx, [floating["floating_port_id"]])


def forget_free(tx: Tx, network_id: str) -> None:
    """The floating IPs of a network that stand for nothing (Neutron: delete_disassociated_floatingips)."""
    free = FLOATING.c.fixed_port_id.is_(None), FLOATING.c.router_id.is_(None)
    for floating in tx.all(sa.select(FLOATING).where(FLOATING.c.floating_network_id == network_id, *free)):
        forget(tx, floating)


def check_deletable(tx: Tx, port: Row) -> None:
    """Conflict for a router's or floating IP's port (Neutron: prevent_l3_port_deletion)."""
    legs = tables.ROUTER_PORTS
    attached = tx.scalar(sa.select(legs.c.port_id).where(legs.c.port_id == port["id"]))
    floating = tx.scalar(sa.select(FLOATING.c.id).where(FLOATING.c.floating_port_id == port["id"]))
    if attached or floating:
        raise Conflict(
            f"Port {port['id']} cannot be deleted directly via the port API: has device owner {port['device_owner']}.",
            type="ServicePortInUse",
        )


def check_addresses_kept(tx: Tx, port: Row, addresses: Collection[str]) -> None:
    """BadRequest when an address that a floating IP stands for is not among them; forwardings to others end."""
    if any(floating["fixed_ip_address"] not in addresses for floating in floating_ips_of(tx, [port["id"]])):
        raise BadRequest(
            f"Bad port request: Cannot update the fixed_ips of the port {port['id']}, because its original fixed_ip "
            "has been associated to a floating ip.",
            type="BadRequest",
        )
    gone = sa.and_(
        FORWARDINGS.c.internal_port_id == port["id"], FORWARDINGS.c.internal_ip_address.not_in(list(addresses))
    )
    delete_forwardings(tx, tx.all(sa.select(FORWARDINGS).where(gone)))


def check_device(tx: Tx, context: Context, device_owner: str, device_id: str) -> None:
    """Conflict when a port names a router that is not its project's, or a device that another project's ports are of: a
    server would get a device, and a guest a server's metadata, that are none of theirs (Neutron: DeviceIDNotOwnedByTenant).
    """
    if not device_id or context.is_admin:
        return
    ports, routers = tables.PORTS, tables.ROUTERS
    foreign = tx.scalar(
        sa.select(ports.c.id).where(ports.c.device_id == device_id, ports.c.project_id != context.project_id).limit(1)
    )
    owner = tx.scalar(sa.select(routers.c.project_id).where(routers.c.id == device_id))
    if foreign is not None or (device_owner == INTERFACE and owner != context.project_id):
        raise Conflict(
            f"The following device_id {device_id} is not owned by your project or matches another project router.",
            type="DeviceIDNotOwnedByTenant",
        )


def floating_ips_through(tx: Tx, router_id: str) -> list[str]:
    return list(tx.execute(sa.select(FLOATING.c.id).where(FLOATING.c.router_id == router_id)).scalars())


def set_statuses(tx: Tx, statuses: dict[str, str]) -> None:
    """Floating IP id → ACTIVE | DOWN, as a host reports of those it carries."""
    wanted = sa.select(FLOATING.c.id, FLOATING.c.status).where(
        FLOATING.c.id.in_(list(statuses)), FLOATING.c.router_id.is_not(None)
    )
    for row in tx.all(wanted):
        if statuses[row["id"]] != row["status"]:
            rows.touch(tx, FLOATING, row["id"], status=statuses[row["id"]])
