"""os-interface: ports that come to a server and go (Nova: nova/api/openstack/compute/attach_interfaces.py)."""

import dataclasses
from typing import Any

import sqlalchemy as sa

from kilonova.compute import addresses, server_handlers, servers
from kilonova.compute import schemas as s
from kilonova.compute.tables import SERVERS
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.network import associations, networks, ports, quotas, rows, security_groups
from kilonova.network.rows import Row
from kilonova.web.call import Call, Version

ATTACHABLE = ("active", "paused", "stopped")


def create_schema(version: Version) -> dict[str, Any]:
    uuid = {"type": "string", "format": "uuid"}
    one = s.closed({"ip_address": s.IP}, ("ip_address",))
    properties: dict[str, Any] = {
        "net_id": uuid,
        "port_id": {"type": ["string", "null"], "format": "uuid"},
        "fixed_ips": {"type": "array", "minItems": 1, "maxItems": 1, "items": one},
    }
    if version >= (2, 49):
        properties["tag"] = s.TAG
    return {"oneOf": [{"type": "null"}, s.closed({"interfaceAttachment": s.closed(properties)})]}


def create(call: Call) -> dict[str, Any]:
    """The port is the server's at once, bound to its host; a flow brings it into the guest."""
    tx, asked = call.tx, (call.body or {}).get("interfaceAttachment", {})
    network_id, port_id = asked.get("net_id"), asked.get("port_id")
    address = asked["fixed_ips"][0]["ip_address"] if "fixed_ips" in asked else None
    if network_id and port_id:
        raise BadRequest("Must not input both network_id and port_id")
    if address and not network_id:
        raise BadRequest("Must input network_id when request IP address")
    server = _server(call, "attach_interface")
    wanted = {"network_id": network_id, "port_id": port_id, "fixed_ip": address}
    entry = _checked(call, server["project_id"], {name: value for name, value in wanted.items() if value})
    id = _allocate(tx, server, entry)
    _note_tags(tx, server, {id: asked.get("tag")})
    ports.bind_ports(tx, server["id"], server["project_id"], server["host"], call.services.flows.vif_type)
    call.services.flows.start(tx, "attach_interface", server["id"], call.context, {"port_id": id})
    call.params = {**call.params, "id": id}
    return server_handlers.interface(call)


def delete(call: Call) -> None:
    """It stays the server's until the guest has let go of it."""
    server = _server(call, "detach_interface")
    port = find(call.tx, server, call.params["id"])
    if port is None:
        raise NotFound(f"Port id {call.params['id']} could not be found.", type="PortNotFound")
    call.services.flows.start(call.tx, "detach_interface", server["id"], call.context, {"port_id": port["id"]})


def _server(call: Call, verb: str) -> sa.RowMapping:
    server = servers.get(call.tx, call.context, call.params["server_id"])
    servers.check_unlocked(call.context, server)
    if server["vm_state"] not in ATTACHABLE:
        raise servers.cannot(server, verb)
    if server["task_state"] is not None:
        raise servers.cannot(server, verb, "task_state")
    if not server["host"]:
        raise Conflict(f"Instance {server['id']} is not ready")
    return server


def _checked(call: Call, project_id: str, entry: dict[str, Any]) -> dict[str, Any]:
    """As for a new server of the project, whoever asks; errors with the status that Nova gives them here. Without a wish,
    the one network there is."""
    context = dataclasses.replace(call.context, project_id=project_id)
    try:
        found = ports.validate_requested(call.tx, context, [entry] if entry else None)
    except BadRequest as error:
        if error.type in ("PortNotFound", "NetworkNotFound"):
            raise NotFound(error.message, type=error.type) from error
        if error.type == "FixedIpAlreadyInUse":
            raise Conflict(error.message, type=error.type) from error
        raise
    except Conflict as error:
        if error.type == "NetworkAmbiguous":
            raise BadRequest(error.message, type=error.type) from error
        raise
    except Forbidden as error:
        if error.type == "ExternalNetworkAttachForbidden":
            raise BadRequest(error.message, type=error.type) from error
        raise
    if not found:
        raise BadRequest(f"No specific network was requested and none are available for project '{project_id}'.")
    return found[0]


def _allocate(tx: Tx, server: sa.RowMapping, entry: dict[str, Any]) -> str:
    """Made on the network, or the user's own claimed; behind the ports that the server has."""
    there = ports.server_ports(tx, server["id"], server["project_id"])
    device = {
        "device_id": server["id"],
        "device_owner": f"compute:{server['availability_zone'] or 'nova'}",
        "dns_name": server["hostname"],
        "position": max((port["position"] for port in there), default=-1) + 1,
    }
    if entry.get("port_id"):
        return ports.claim(tx, entry["port_id"], device)
    network = networks.get_any(tx, entry["network_id"])
    quotas.check(tx, server["project_id"], "port")
    secure = network["port_security_enabled"]
    values = {
        **device, "project_id": server["project_id"], "made_by_server": True, "port_security_enabled": secure,
    }  # fmt: skip
    fixed_ips = [{"ip_address": entry["fixed_ip"]}] if entry.get("fixed_ip") else None
    groups = server["security_group_ids"] or [security_groups.ensure_default(tx, server["project_id"])]
    return str(ports.insert(tx, network, values, fixed_ips, groups if secure else [])["id"])


def find(tx: Tx, server: sa.RowMapping, port_id: str) -> Row | None:
    held = ports.server_ports(tx, server["id"], server["project_id"])
    return next((port for port in held if port["id"] == port_id), None)


def release(tx: Tx, server: sa.RowMapping, port_id: str) -> None:
    """Deleted when it was made for the server; its user's own is only let go. Safe to repeat."""
    port = find(tx, server, port_id)
    if port is None:
        return
    if port["made_by_server"]:
        associations.delete_ports(tx, [port_id])
    else:
        rows.touch(tx, ports.TABLE, port_id, **ports.UNBOUND, device_id="", device_owner="", dns_name="", position=0)
    _note_tags(tx, server, {})


def _note_tags(tx: Tx, server: sa.RowMapping, new: dict[str, str | None]) -> None:
    """What was asked for is the ports that there are now, in their order, each with its tag."""
    there = ports.server_ports(tx, server["id"], server["project_id"])
    before = addresses.tags_of_ports(server, [port["id"] for port in there]) | new
    entries = []
    for place, port in enumerate(there):
        if port["position"] != place:
            rows.touch(tx, ports.TABLE, port["id"], position=place)
        entry = {"port_id": port["id"], "network_id": port["network_id"], "tag": before.get(port["id"])}
        entries.append({name: value for name, value in entry.items() if value is not None})
    tx.execute(SERVERS.update().where(SERVERS.c.id == server["id"]).values(requested_networks=entries))
