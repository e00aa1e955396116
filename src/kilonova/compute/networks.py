"""Networks in Nova's old words, and addresses added to a server's ports (Nova: networks.py, tenant_networks.py,
multinic.py)."""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import servers
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.network import ipam, networks, port_requests, ports
from kilonova.network.attributes import ip_address
from kilonova.network.rows import Row
from kilonova.network.tables import NETWORKS
from kilonova.web.call import Call

# Nova-network's fields: only id and label mean anything still
FIELDS = ("cidr", "netmask", "gateway", "broadcast", "dns1", "dns2", "cidr_v6", "gateway_v6", "netmask_v6")
ADMIN_FIELDS = (
    "created_at", "updated_at", "deleted_at", "deleted", "injected", "bridge", "vlan", "vpn_public_address",
    "vpn_public_port", "vpn_private_address", "dhcp_start", "project_id", "host", "bridge_interface", "multi_host",
    "priority", "rxtx_base", "mtu", "dhcp_server", "enable_dhcp", "share_address",
)  # fmt: skip


def body(call: Call, network: Row) -> dict[str, Any]:
    fields = FIELDS + ADMIN_FIELDS if call.context.is_admin else FIELDS
    return {"id": network["id"], "label": network["name"], **dict.fromkeys(fields)}


def tenant_body(network: Row) -> dict[str, Any]:
    return {"id": network["id"], "cidr": "None", "label": network["name"]}


def _visible(call: Call) -> list[Row]:
    query = sa.select(NETWORKS).where(networks.visible(call.context))
    return list(call.tx.all(query.order_by(NETWORKS.c.created_at, NETWORKS.c.id)))


def _get(call: Call) -> Row:
    try:
        return networks.get(call.tx, call.context, call.params["id"])
    except NotFound:
        raise NotFound("Network not found") from None


def index(call: Call) -> dict[str, Any]:
    return {"networks": [body(call, network) for network in _visible(call)]}


def show(call: Call) -> dict[str, Any]:
    return {"network": body(call, _get(call))}


def tenant_index(call: Call) -> dict[str, Any]:
    return {"networks": [tenant_body(network) for network in _visible(call)]}


def tenant_show(call: Call) -> dict[str, Any]:
    return {"network": tenant_body(_get(call))}


# --- a server's addresses ------------------------------------------------------------------------------------------


def add_fixed_ip(tx: Tx, call: Call, argument: Any) -> None:
    """One more address on the server's port of that network, of the first subnet that has one."""
    server = servers.get(tx, call.context, call.params["id"])
    servers.check_unlocked(call.context, server)
    call.services.flows.look(tx)
    network_id = str(argument["networkId"])
    for port in ports.server_ports(tx, server["id"], server["project_id"]):
        if port["network_id"] != network_id:
            continue
        held = ipam.fixed_ips(tx, [port["id"]])[port["id"]]
        full: Conflict | None = None
        for subnet in ipam.subnets_of(tx, network_id):
            if ipam.is_auto(subnet):  # it gives each port one address, made from its MAC
                continue
            try:
                wanted = [*held, {"subnet_id": subnet["id"]}]
                port_requests.update(tx, call.context, port["id"], {"fixed_ips": wanted})
                return
            except Conflict as error:
                full = error
        if full:
            raise BadRequest(str(full)) from full
    raise NotFound(f"Network could not be found for instance {server['id']}.", type="NetworkNotFoundForInstance")


def remove_fixed_ip(tx: Tx, call: Call, argument: Any) -> None:
    server = servers.get(tx, call.context, call.params["id"])
    servers.check_unlocked(call.context, server)
    call.services.flows.look(tx)
    address = ip_address(argument["address"])
    for port in ports.server_ports(tx, server["id"], server["project_id"]):
        held = ipam.fixed_ips(tx, [port["id"]])[port["id"]]
        rest = [ip for ip in held if ip["ip_address"] != address]
        if len(rest) < len(held):
            port_requests.update(tx, call.context, port["id"], {"fixed_ips": rest})
            return
    raise BadRequest(f"Instance {server['id']} does not have fixed IP '{address}'.")
