"""The DHCP port of a network: the address its DHCP server answers from, in each subnet that has DHCP."""

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.ids import new_id
from kilonova.network import ipam, macs, provider, rows, scheduling, tables
from kilonova.network.rows import Row

OWNER = "network:dhcp"


def port_of(tx: Tx, network_id: str) -> Row | None:
    ports = tables.PORTS
    return tx.first(sa.select(ports).where(ports.c.network_id == network_id, ports.c.device_owner == OWNER))


def sync(tx: Tx, network_id: str) -> None:
    """Make the network's DHCP port what its subnets ask for: there or not, one address in each.

    A subnet without a free address is left out: its guests then go without DHCP, but nothing fails.
    """
    wanted = [subnet for subnet in ipam.subnets_of(tx, network_id) if subnet["enable_dhcp"]]
    port, ports = port_of(tx, network_id), tables.PORTS
    if not wanted:
        if port:
            tx.execute(ports.delete().where(ports.c.id == port["id"]))
        return
    if port is None:
        port = make(tx, network_id)
    schedule(tx, port)
    held = {ip["subnet_id"]: ip["ip_address"] for ip in ipam.fixed_ips(tx, [port["id"]])[port["id"]]}
    missing = [subnet for subnet in wanted if subnet["id"] not in held]
    stale = [address for subnet_id, address in held.items() if subnet_id not in {subnet["id"] for subnet in wanted}]
    if stale:
        ipam.release(tx, port["id"], keep=[address for address in held.values() if address not in stale])
    for subnet in missing:
        automatic = ipam.is_auto(subnet)
        address = ipam.eui64(subnet["cidr"], port["mac_address"]) if automatic else ipam.free_address(tx, subnet)
        if address:
            ipam.allocate(tx, port, subnet, address)
    if missing or stale:
        rows.touch(tx, ports, port["id"])


def schedule(tx: Tx, port: Row) -> None:
    """The DHCP port goes to its agent's host; an agent that is alive is chosen when it has none (Neutron:
    NetworkScheduler)."""
    bindings, agents, network_id = tables.DHCP_AGENT_BINDINGS, tables.AGENTS, port["network_id"]
    bound = sa.select(agents).join(bindings, bindings.c.agent_id == agents.c.id)
    agent: Row | None = tx.first(bound.where(bindings.c.network_id == network_id).order_by(agents.c.id))
    if agent is None:
        alive = scheduling.candidates(tx, scheduling.DHCP)
        if not alive:
            return
        agent = alive[0]
        rows.insert_ignore(tx, bindings, {"network_id": network_id, "agent_id": agent["id"]})
    if port["host"] != agent["host"]:
        bind(tx, port, agent["host"])


def bind(tx: Tx, port: Row, host: str) -> None:
    network = tx.first(sa.select(tables.NETWORKS).where(tables.NETWORKS.c.id == port["network_id"]))
    bridge = provider.bridge(network, scheduling.bridge_mappings(tx, host)) if network else None
    kind = "bridge" if bridge else "binding_failed"
    details = {"port_filter": True, "connectivity": "l2", "bridge_name": bridge} if bridge else {}
    rows.touch(tx, tables.PORTS, port["id"], host=host, vif_type=kind, vif_details=details, status="DOWN")


def keep(tx: Tx, network_id: str) -> None:
    """The network has, or had, somebody to serve: from now on its agent serves it, as Neutron's does from the start."""
    bindings = tables.DHCP_AGENT_BINDINGS
    lazy = bindings.c.network_id == network_id, sa.not_(bindings.c.explicit)
    tx.execute(bindings.update().where(*lazy).values(explicit=True))


def adopt(tx: Tx) -> None:
    """DHCP ports that no host has get one, now that an agent is there."""
    ports = tables.PORTS
    for port in tx.all(sa.select(ports).where(ports.c.device_owner == OWNER, ports.c.host == "")):
        schedule(tx, port)


def remove(tx: Tx, network_id: str) -> None:
    """No host serves it any more."""
    ports = tables.PORTS
    tx.execute(ports.delete().where(ports.c.network_id == network_id, ports.c.device_owner == OWNER))


def make(tx: Tx, network_id: str) -> Row:
    """Not checked against the quota: the user did not ask for it."""
    ports = tables.PORTS
    project_id = tx.scalar(sa.select(tables.NETWORKS.c.project_id).where(tables.NETWORKS.c.id == network_id))
    row = {
        "id": new_id(),
        "project_id": project_id,
        "network_id": network_id,
        "mac_address": macs.free_mac(tx, network_id),
        "device_owner": OWNER,
        "device_id": f"dhcp-{network_id}",
        "port_security_enabled": False,
        **rows.stamps(),
    }
    tx.execute(ports.insert().values(**row))
    made = port_of(tx, network_id)
    assert made is not None
    return made
