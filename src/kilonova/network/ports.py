"""Ports: their rows, and what a server's flow does with them (Nova: network.neutron.API; Neutron: ML2's binding)."""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.model.ids import new_id, now
from kilonova.network import (
    associations,
    dhcp,
    ipam,
    macs,
    networks,
    provider,
    quotas,
    rows,
    scheduling,
    security_groups,
    sharing,
    tables,
)
from kilonova.network.attributes import ip_address
from kilonova.network.rows import Row
from kilonova.web.call import Context

LOG = logging.getLogger(__name__)
TABLE = tables.PORTS
UNBOUND = {"host": "", "vif_type": "unbound", "vif_details": {}, "status": "DOWN"}


def not_found(port_id: str) -> NotFound:
    return NotFound(f"Port {port_id} could not be found.", type="PortNotFound")


def visible(context: Context) -> sa.ColumnElement[bool]:
    """Own ports, and all ports of own networks."""
    nets = tables.NETWORKS
    on_own = TABLE.c.network_id.in_(sa.select(nets.c.id).where(nets.c.project_id == context.project_id))
    return sa.or_(rows.owned(context, TABLE), on_own)


def get(tx: Tx, context: Context, port_id: str) -> Row:
    return rows.find(tx, TABLE, port_id, visible(context), not_found)


def get_any(tx: Tx, port_id: str) -> Row:
    return rows.find(tx, TABLE, port_id, sa.true(), not_found)


def insert(
    tx: Tx,
    network: Row,
    values: Mapping[str, Any],
    fixed_ips: Sequence[dict[str, str]] | None,
    security_group_ids: Collection[str],
) -> Row:
    """A port with its addresses and groups. `values` are columns; the MAC address is made when not given."""
    network_id = network["id"]
    mac = values.get("mac_address")
    if mac and macs.is_taken(tx, network_id, mac):
        raise macs.in_use(network_id, mac)
    row = {
        "id": new_id(),
        "network_id": network_id,
        "device_owner": "",
        "device_id": "",
        **values,
        "mac_address": mac or macs.free_mac(tx, network_id),
        **rows.stamps(),
    }
    with rows.conflict(macs.in_use(network_id, row["mac_address"])):
        tx.execute(TABLE.insert().values(**row))
    ipam.allocate_for_port(tx, row, fixed_ips)
    set_security_groups(tx, row["id"], security_group_ids)
    dhcp.keep(tx, network_id)
    return get_any(tx, row["id"])


def security_groups_of(tx: Tx, port_ids: Iterable[str]) -> dict[str, list[str]]:
    """port id → ids of its security groups."""
    bound, found = tables.PORT_SECURITY_GROUPS, {port_id: list[str]() for port_id in port_ids}
    statement = sa.select(bound).where(bound.c.port_id.in_(list(found))).order_by(bound.c.security_group_id)
    for row in tx.all(statement):
        found[row["port_id"]].append(row["security_group_id"])
    return found


def set_security_groups(tx: Tx, port_id: str, group_ids: Collection[str]) -> None:
    bound = tables.PORT_SECURITY_GROUPS
    security_groups.check_together(tx, group_ids)
    tx.execute(bound.delete().where(bound.c.port_id == port_id))
    for group_id in dict.fromkeys(group_ids):
        with rows.conflict(security_groups.not_found(group_id)):
            tx.execute(bound.insert().values(port_id=port_id, security_group_id=group_id))


def bind(tx: Tx, port: Row, host: str, vif_type: str) -> None:
    """Neutron: ML2 bind_port. The network gets its DHCP port, so that its server can answer the guest.

    Where the host does not carry the network's physical network, the port is left `binding_failed`.
    """
    network = networks.get_any(tx, port["network_id"])
    bridge = provider.bridge(network, scheduling.bridge_mappings(tx, host))
    if bridge is None:
        LOG.warning("port %s: binding failed: %s", port["id"], provider.why_not_carried(network, host))
        rows.touch(tx, TABLE, port["id"], **{**UNBOUND, "host": host, "vif_type": "binding_failed"})
        return
    details = {"port_filter": True, "connectivity": "l2", "bridge_name": bridge}
    rows.touch(tx, TABLE, port["id"], host=host, vif_type=vif_type, vif_details=details, status="DOWN")
    dhcp.sync(tx, network["id"])


# What a server's flow calls


def of_server(
    server_id: str | sa.ColumnElement[str], project_id: str | sa.ColumnElement[str]
) -> sa.ColumnElement[bool]:
    """The server's, which is of that project: whoever may write a port may write any device_id into it, so a port of
    another project that names the server must not count (Nova asks Neutron for tenant_id and device_id)."""
    named = sa.and_(TABLE.c.device_id == server_id, TABLE.c.device_owner.like("compute:%"))
    return sa.and_(named, TABLE.c.project_id == project_id)


def server_ports(tx: Tx, server_id: str, project_id: str) -> list[Row]:
    """The server's ports in the order of its devices."""
    statement = sa.select(TABLE).where(of_server(server_id, project_id))
    return list(tx.all(statement.order_by(TABLE.c.position, TABLE.c.created_at, TABLE.c.id)))


def allocate_ports(
    tx: Tx,
    *,
    server_id: str,
    project_id: str,
    availability_zone: str,
    hostname: str,
    requested: list[dict[str, Any]],
    security_group_ids: list[str],
) -> list[str]:
    """Ports for a server, one an entry: made on `network_id` (with `fixed_ip`), or the user's own `port_id` claimed.

    Returns their ids in order; run again it returns the same. Conflict when a port is in use, the quota is used up
    or no address is left; NotFound when a network or port is gone. Nova: allocate_for_instance.
    """
    there = {port["position"]: port["id"] for port in server_ports(tx, server_id, project_id)}
    device = {"device_id": server_id, "device_owner": f"compute:{availability_zone}", "dns_name": hostname}
    ids = []
    for position, entry in enumerate(requested):
        if position in there:
            ids.append(there[position])
        elif entry.get("port_id"):
            ids.append(claim(tx, entry["port_id"], {**device, "position": position}))
        else:
            network = networks.get_any(tx, entry["network_id"])
            quotas.check(tx, project_id, "port")
            fixed_ip = entry.get("fixed_ip")
            secure = network["port_security_enabled"]
            groups = security_group_ids or [security_groups.ensure_default(tx, project_id)]
            port = insert(
                tx,
                network,
                {
                    **device,
                    "project_id": project_id,
                    "position": position,
                    "made_by_server": True,
                    "port_security_enabled": secure,
                },
                [{"ip_address": fixed_ip}] if fixed_ip else None,
                groups if secure else [],
            )
            ids.append(port["id"])
    return ids


def claim(tx: Tx, port_id: str, values: Mapping[str, Any]) -> str:
    """The user's port becomes the server's, unless it is another's, or its DNS name is not the server's."""
    before = get_any(tx, port_id)
    free = tx.execute(
        TABLE.update()
        .where(TABLE.c.id == port_id, TABLE.c.device_id.in_(["", values["device_id"]]))
        .values(**values, updated_at=now(), revision_number=TABLE.c.revision_number + 1)
    )
    if not free.rowcount:
        raise Conflict(f"Port {port_id} is still in use.", type="PortInUse")
    check_dns_name(before, values)
    return port_id


def check_dns_name(port: Row, values: Mapping[str, Any]) -> None:
    """Nova: _validate_requested_port_ids."""
    given, hostname = port["dns_name"], values["dns_name"]
    if given and given != hostname:
        raise BadRequest(
            f"Port {port['id']} not usable for instance {values['device_id']}. Value {given} assigned to dns_name attribute "
            f"does not match instance's hostname {hostname}",
            type="PortNotUsableDNS",
        )


def deallocate_ports(tx: Tx, server_id: str, project_id: str) -> None:
    """Delete the ports made for the server; its user's own are only let go. Nova: deallocate_for_instance."""
    made = sa.select(TABLE.c.id).where(of_server(server_id, project_id), TABLE.c.made_by_server)
    associations.delete_ports(tx, tx.execute(made).scalars().all())
    for port in server_ports(tx, server_id, project_id):
        rows.touch(tx, TABLE, port["id"], **UNBOUND, device_id="", device_owner="", dns_name="", position=0)


def bind_ports(tx: Tx, server_id: str, project_id: str, host: str, vif_type: str) -> None:
    """`vif_type`: bridge | tap. The ports are DOWN until the host reports them wired."""
    for port in server_ports(tx, server_id, project_id):
        if (port["host"], port["vif_type"]) != (host, vif_type):
            bind(tx, port, host, vif_type)
            if get_any(tx, port["id"])["vif_type"] == "binding_failed":
                raise Conflict(
                    f"Binding failed for port {port['id']}: its network is not carried by host {host}.",
                    type="PortBindingFailed",
                )


def unbind_ports(tx: Tx, server_id: str, project_id: str) -> None:
    for port in server_ports(tx, server_id, project_id):
        rows.touch(tx, TABLE, port["id"], **UNBOUND)


def set_statuses(tx: Tx, statuses: Mapping[str, str]) -> list[str]:
    """Write what a host reports (ACTIVE | DOWN); returns the ids whose status changed."""
    current = tx.all(sa.select(TABLE.c.id, TABLE.c.status).where(TABLE.c.id.in_(list(statuses))))
    changed = [row["id"] for row in current if statuses[row["id"]] != row["status"]]
    for port_id in changed:
        rows.touch(tx, TABLE, port_id, status=statuses[port_id])
    return changed


# What POST /servers checks


def validate_requested(
    tx: Tx, context: Context, requested: Sequence[Mapping[str, Any]] | None, count: int = 1
) -> list[dict[str, Any]]:
    """The networks of a server to be, checked as Nova's API does (validate_networks), for `count` such servers.

    `requested` None or empty: the one network there is, or none. Entries have "network_id" or "port_id", perhaps
    "fixed_ip"; other keys are kept. BadRequest, Forbidden or Conflict with Nova's messages.
    """
    if not requested:
        found = networks.available(tx, context)
        if len(found) > 1:
            raise Conflict(
                "Multiple possible networks found, use a Network ID to be more specific.", type="NetworkAmbiguous"
            )
        requested = [{"network_id": network["id"]} for network in found]
    port_ids = [entry["port_id"] for entry in requested if entry.get("port_id")]
    if len(set(port_ids)) < len(port_ids):
        raise Conflict(f"Port {port_ids[0]} is still in use.", type="PortInUse")
    room, wanted = quotas.headroom(tx, context.project_id, "port"), (len(requested) - len(port_ids)) * count
    if wanted and room is not None and room < wanted:
        raise Forbidden(
            f"Maximum number of ports exceeded: {wanted} asked for, {max(room, 0)} more allowed.",
            type="PortLimitExceeded",
        )
    return [check_requested(tx, context, entry) for entry in requested]


def check_requested(tx: Tx, context: Context, entry: Mapping[str, Any]) -> dict[str, Any]:
    if entry.get("port_id"):
        return {**entry, "network_id": check_port(tx, context, entry["port_id"])["network_id"]}
    try:
        network = networks.get(tx, context, entry["network_id"])
    except NotFound:
        raise BadRequest(f"Network {entry['network_id']} could not be found.", type="NetworkNotFound") from None
    shared = sharing.is_shared(tx, context, sharing.NETWORK, network["id"])
    if network["external"] and not shared and not context.is_admin:
        raise Forbidden(
            f"It is not allowed to create an interface on external network {network['id']}",
            type="ExternalNetworkAttachForbidden",
        )
    subnets = ipam.subnets_of(tx, network["id"])
    if not subnets:
        raise BadRequest(
            f"Network {network['id']} requires a subnet in order to boot instances on.", type="NetworkRequiresSubnet"
        )
    if entry.get("fixed_ip"):
        return {**entry, "fixed_ip": check_fixed_ip(tx, network["id"], subnets, entry["fixed_ip"])}
    return dict(entry)


def check_fixed_ip(tx: Tx, network_id: str, subnets: Sequence[Row], asked: str) -> str:
    """The address in its usual form. BadRequest when it is none of the network's, or taken."""
    try:
        fixed_ip = ip_address(asked)
    except ValueError as error:
        raise BadRequest(f"Invalid fixed IP: {error}.", type="InvalidFixedIp") from None
    if not any(ipam.is_usable(fixed_ip, subnet["cidr"]) for subnet in subnets):
        raise BadRequest(
            f"Fixed IP address {fixed_ip} is not in any subnet of network {network_id}.", type="InvalidFixedIp"
        )
    held = tables.IP_ALLOCATIONS
    holder = tx.scalar(
        sa.select(TABLE.c.device_id)
        .join(held, held.c.port_id == TABLE.c.id)
        .where(held.c.network_id == network_id, held.c.ip_address == fixed_ip)
    )
    if holder is not None:
        raise BadRequest(
            f"Fixed IP address {fixed_ip} is already in use on instance {holder}.", type="FixedIpAlreadyInUse"
        )
    return fixed_ip


def check_port(tx: Tx, context: Context, port_id: str) -> Row:
    try:
        port = get(tx, context, port_id)
    except NotFound:
        raise BadRequest(f"Port id {port_id} could not be found.", type="PortNotFound") from None
    if port["project_id"] != context.project_id:
        raise BadRequest(f"Port {port_id} not usable for instance.", type="PortNotUsable")
    if port["device_id"]:
        raise Conflict(f"Port {port_id} is still in use.", type="PortInUse")
    if not ipam.fixed_ips(tx, [port_id])[port_id]:
        raise BadRequest(f"Port {port_id} requires a FixedIP in order to be used.", type="PortRequiresFixedIP")
    return port
