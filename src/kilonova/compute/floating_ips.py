"""Floating IPs in Nova's old words, Neutron's nouns behind them (Nova: floating_ips.py, floating_ip_pools.py)."""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import addresses, servers
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.network import floating_ips, networks, ports
from kilonova.network.attributes import ip_address
from kilonova.network.rows import Row
from kilonova.network.tables import FLOATING_IPS, NETWORKS
from kilonova.web.call import Call
from kilonova.web.validate import is_uuid

DEFAULT_POOL = "public"


def body(tx: Tx, floating: Row) -> dict[str, Any]:
    network = networks.get_any(tx, floating["floating_network_id"])
    port = ports.get_any(tx, floating["fixed_port_id"]) if floating["fixed_port_id"] else None
    return {
        "id": floating["id"],
        "ip": floating["floating_ip_address"],
        "fixed_ip": floating["fixed_ip_address"],
        "instance_id": (port["device_id"] or None) if port else None,
        "pool": network["name"] or network["id"],
    }


def pools(call: Call) -> dict[str, Any]:
    return {"floating_ip_pools": [{"name": pool["name"] or pool["id"]} for pool in _pools(call)]}


def _pools(call: Call) -> list[Row]:
    seen = sa.and_(NETWORKS.c.external, networks.visible(call.context))
    return list(call.tx.all(sa.select(NETWORKS).where(seen).order_by(NETWORKS.c.created_at, NETWORKS.c.id)))


def index(call: Call) -> dict[str, Any]:
    mine = FLOATING_IPS.c.project_id == call.context.project_id
    found = call.tx.all(sa.select(FLOATING_IPS).where(mine).order_by(FLOATING_IPS.c.created_at, FLOATING_IPS.c.id))
    return {"floating_ips": [body(call.tx, floating) for floating in found]}


def _get(call: Call) -> Row:
    id = call.params["id"]
    if not is_uuid(id):
        raise BadRequest(f"Invalid ID received {id}.")
    try:
        return floating_ips.get(call.tx, call.context, id)
    except NotFound:
        raise NotFound(f"Floating IP not found for ID {id}") from None


def show(call: Call) -> dict[str, Any]:
    return {"floating_ip": body(call.tx, _get(call))}


def create(call: Call) -> dict[str, Any]:
    """From the pool of that name or id; without one from the pool `public` (Nova: default_floating_pool)."""
    asked = (call.body or {}).get("pool")
    wanted = asked or DEFAULT_POOL
    found = [pool for pool in _pools(call) if wanted in (pool["id"], pool["name"])]
    if not found:
        raise NotFound("Floating IP pool not found.")
    if len(found) > 1:
        raise Conflict(f"Multiple floating IP pools matches found for name '{wanted}'")
    try:
        floating = floating_ips.create(call.tx, call.context, {"floating_network_id": found[0]["id"]})
    except Conflict as error:
        if error.type == "OverQuota":
            where = f" in pool {asked}." if asked else "."
            raise Forbidden(f"IP allocation over quota{where}") from error
        if error.type == "IpAddressGenerationFailure":
            where = f" in pool {asked}." if asked else " available."
            raise NotFound(f"No more floating IPs{where}") from error
        raise
    return {"floating_ip": body(call.tx, floating)}


def delete(call: Call) -> None:
    call.services.flows.look(call.tx)
    floating_ips.delete(call.tx, call.context, _get(call)["id"])


# --- a server's floating IPs ---------------------------------------------------------------------------------------


def _by_address(tx: Tx, call: Call, address: str) -> Row:
    seen = sa.true() if call.context.is_admin else FLOATING_IPS.c.project_id == call.context.project_id
    rows = tx.all(sa.select(FLOATING_IPS).where(seen, FLOATING_IPS.c.floating_ip_address == address))
    if not rows:
        raise NotFound("floating IP not found")
    if len(rows) > 1:
        raise Conflict(f"Multiple floating IPs are found for address {address}.")
    return rows[0]


def add_to_server(tx: Tx, call: Call, argument: Any) -> None:
    call.services.flows.look(tx)
    server = servers.get(tx, call.context, call.params["id"])
    fixed = [(ip["ip_address"], port["id"]) for port in addresses.interfaces(tx, server)
             for ip in port["fixed_ips"]]  # fmt: skip
    if not fixed:
        raise BadRequest("No fixed IPs associated to instance")
    wanted = argument.get("fixed_address")
    if wanted is not None:
        fixed = [entry for entry in fixed if entry[0] == ip_address(wanted)]
        if not fixed:
            raise BadRequest("Specified fixed address not assigned to instance")
    chosen = next((entry for entry in fixed if ":" not in entry[0]), None)
    if chosen is None:
        raise BadRequest(
            f"Unable to associate floating IP {argument['address']} to any fixed IPs for instance {server['id']}. "
            "Instance has no fixed IPv4 addresses to associate."
        )
    floating = _by_address(tx, call, argument["address"])
    address, port_id = chosen
    try:
        floating_ips.update(tx, call.context, floating["id"], {"port_id": port_id, "fixed_ip_address": address})
    except (Conflict, NotFound) as error:
        raise BadRequest(
            f"Unable to associate floating IP {argument['address']} to fixed IP {address} for instance "
            f"{server['id']}. Error: {error}"
        ) from error


def remove_from_server(tx: Tx, call: Call, argument: Any) -> None:
    call.services.flows.look(tx)
    server = servers.get(tx, call.context, call.params["id"])
    floating = _by_address(tx, call, argument["address"])
    port = ports.get_any(tx, floating["fixed_port_id"]) if floating["fixed_port_id"] else None
    if port is None or (port["device_id"], port["project_id"]) != (server["id"], server["project_id"]):
        raise Conflict(f"Floating IP {argument['address']} is not associated with instance {call.params['id']}.")
    floating_ips.update(tx, call.context, floating["id"], {"port_id": None})
