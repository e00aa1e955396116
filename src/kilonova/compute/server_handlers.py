"""What the routes below /servers do."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from kilonova.compute import (
    absent,
    addresses,
    disk_verbs,
    floating_ips,
    hosts,
    listing,
    moves,
    networks,
    passwords,
    rescue,
    security_groups,
    servers,
    shelve,
    verbs,
    views,
)
from kilonova.compute import console_handlers as consoles
from kilonova.compute import create as creation
from kilonova.compute import schemas as s
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, Gone, NotFound
from kilonova.web import paging
from kilonova.web.call import Call, Reply
from kilonova.web.checks import Rule
from kilonova.web.policy import admin, project_manager, project_member
from kilonova.web.validate import TRUE

CONTROL = re.compile("[\x00-\x08\x0b-\x1f]")


def index(call: Call) -> dict[str, Any]:
    rows = listing.list_servers(call.tx, call, detail=False)
    return _collection(call, rows, [views.server_basic(call, row) for row in rows], "servers")


def detail(call: Call) -> dict[str, Any]:
    rows = listing.list_servers(call.tx, call, detail=True)
    return _collection(call, rows, views.server_list(call, rows), "servers/detail")


def _collection(call: Call, rows: list[Any], bodies: list[Any], path: str) -> dict[str, Any]:
    out: dict[str, Any] = {"servers": bodies}
    size = paging.limit(call)
    if rows and (links := paging.next_link(call, rows, size, f"{call.api_url}/{path}", rows[-1]["id"])):
        out["servers_links"] = links
    return out


def create(call: Call) -> Reply:
    made = creation.create(call)
    body = call.body["server"]
    if str(body.get("return_reservation_id", False)).lower() in TRUE:
        return Reply({"reservation_id": made.reservation_id})
    server = made.servers[0]
    links = views.links(call, "servers", server["id"])
    groups = body.get("security_groups", [{"name": "default"}])
    answer = {
        "id": server["id"],
        "links": links,
        "OS-DCF:diskConfig": server["disk_config"],
        "security_groups": groups,
        "adminPass": made.admin_password,
    }
    return Reply({"server": answer}, headers={"Location": links[0]["href"]})


def show(call: Call) -> dict[str, Any]:
    row = servers.get(call.tx, call.context, call.params["id"])
    return {"server": views.server_list(call, [row], show=True)[0]}


COLUMNS = {
    "name": "name", "accessIPv4": "access_ip_v4", "accessIPv6": "access_ip_v6", "description": "description",
    "hostname": "hostname", "OS-DCF:diskConfig": "disk_config",
}  # fmt: skip


def update(call: Call) -> dict[str, Any]:
    asked = dict(call.body["server"])
    pinned = _pin(call, asked.pop("pinned_availability_zone")) if "pinned_availability_zone" in asked else {}
    fields = {COLUMNS[name]: value for name, value in asked.items()} | pinned
    for name in ("access_ip_v4", "access_ip_v6"):
        if name in fields:
            fields[name] = creation.canonical_ip(fields[name])
    if "name" in fields:
        fields["name"] = fields["name"].strip()
    row = servers.update(call.tx, call.context, call.params["id"], fields)
    body = views.server_list(call, [row], show=True)[0]
    return {"server": body if call.since(75) else views.as_put(body)}


def _pin(call: Call, zone: str | None) -> dict[str, str | None]:
    """The zone that the server stays in when it moves; None lets it go anywhere. Conflict: any but the one it is in."""
    row = servers.get(call.tx, call.context, call.params["id"])
    host = hosts.find(call.tx, row["host"]) if row["host"] else None
    present, kept = host["availability_zone"] if host else None, row["availability_zone"]
    if zone is not None and kept is not None and zone != kept:
        raise Conflict(
            "Cannot change pinned availability zone directly. Unpin first by setting pinned_availability_zone to null."
        )
    if zone is not None and kept is None and zone != present:
        raise Conflict(
            f"Server can only be pinned to its current availability zone '{present}', but '{zone}' was requested."
        )
    return {"availability_zone": zone}


def delete(call: Call) -> None:
    shelve.drop_image(call.tx, call, call.params["id"])
    servers.delete(call.tx, call.context, call.params["id"], call.services.flows)


# --- actions -------------------------------------------------------------------------------------------------------


def action(call: Call) -> Reply | None:
    """POST /servers/{id}/action: one key names the action. Opens its own transactions, since the console is I/O."""
    body = call.body
    if not isinstance(body, dict) or len(body) != 1:
        raise BadRequest("Malformed request body: one action is expected.")
    name, argument = next(iter(body.items()))
    if name in ASKING:
        return ASKING[name](call, argument)
    if name not in ACTIONS:
        raise BadRequest(f"There is no such action: {name}")
    asked = ACTIONS[name]
    call.check(argument, asked.schema(call) if callable(asked.schema) else asked.schema)
    return call.database.write(lambda tx: asked.act(tx, call, argument))


LENGTH = {"type": ["integer", "string", "null"], "pattern": r"^-?[0-9]{1,9}\Z", "minimum": -1, "maximum": 2147483647}


def console_output(call: Call, argument: Any) -> Reply:
    call.check(argument, s.closed({"length": LENGTH}))
    server = call.database.read(lambda tx: servers.get(tx, call.context, call.params["id"]))
    length = argument.get("length")
    lines = int(length) if length is not None else -1
    if lines < -1:
        raise BadRequest(
            f"Invalid input for field/attribute length. Value: {length}. {length} is less than the minimum of -1"
        )
    if not server["host"]:
        raise Conflict(f"Instance {server['id']} is not ready")
    text = call.services.flows.console_output(server["id"], server["host"], lines if lines >= 0 else None)
    return Reply({"output": CONTROL.sub("", text)}, 200)


def change_password(call: Call, argument: Any) -> Reply:
    call.check(argument, passwords.SCHEMA)
    return passwords.change(call, argument)


ASKING: dict[str, Callable[[Call, Any], Reply]] = {  # ask the server's host, outside of any transaction
    passwords.ACTION: change_password,
    "os-getConsoleOutput": console_output,
    **{name: partial(consoles.act, name) for name in consoles.ACTIONS | consoles.REFUSED},
}


def _lock(tx: Tx, call: Call, argument: Any) -> None:
    reason = argument.get("locked_reason") if isinstance(argument, dict) and call.since(73) else None
    servers.lock(tx, call.context, call.params["id"], reason)
    call.services.flows.note(tx, "lock", call.params["id"], call.context)


def _unlock(tx: Tx, call: Call, argument: Any) -> None:
    servers.unlock(tx, call.context, call.params["id"])
    call.services.flows.note(tx, "unlock", call.params["id"], call.context)


def _force_delete(tx: Tx, call: Call, argument: Any) -> None:
    shelve.drop_image(tx, call, call.params["id"])
    servers.delete(tx, call.context, call.params["id"], call.services.flows)


def _reset_state(tx: Tx, call: Call, argument: Any) -> None:
    state = argument["state"]
    servers.update(tx, call.context, call.params["id"], {"vm_state": state, "task_state": None})
    call.services.flows.note(tx, "resetState", call.params["id"], call.context)


def _inject_network_info(tx: Tx, call: Call, argument: Any) -> None:
    """Nothing to do: the port loop keeps each port's filters true (Nova: the libvirt driver's does nothing either)."""
    servers.check_unlocked(call.context, servers.get(tx, call.context, call.params["id"]))


def _reset_network(tx: Tx, call: Call, argument: Any) -> None:
    raise Gone("This action only works with the Xen virt driver, which Nova removed in its release 23.0.0 (Wallaby).")


def _lock_schema(call: Call) -> dict[str, Any]:
    if not call.since(73):
        return {}
    return {
        "oneOf": [{"type": "null"}, s.closed({"locked_reason": {"type": "string", "minLength": 1, "maxLength": 255}})]
    }


def _until_243(schema: dict[str, Any]) -> Callable[[Call], dict[str, Any]]:
    def of(call: Call) -> dict[str, Any]:
        if call.since(44):
            raise NotFound("The resource could not be found.")
        return schema

    return of


class Action(NamedTuple):
    """`act` runs in a transaction of its own. `schema`: of the argument, or a function from the call to it. `policy`:
    Nova's name of the rule."""

    act: Callable[[Tx, Call, Any], Reply | None]
    schema: Any
    policy: str
    rule: Rule = project_member


def _verb(verb: verbs.Verb) -> Action:
    return Action(partial(verbs.begin, verb), partial(verbs.schema, verb), verb.policy, verb.rule)


STATE = s.closed({"state": {"type": "string", "enum": ["active", "error"]}}, ("state",))
ACTIONS: dict[str, Action] = {
    **{name: _verb(verb) for name, verb in (verbs.VERBS | rescue.VERBS | disk_verbs.VERBS).items()},
    "lock": Action(_lock, _lock_schema, "os-lock-server:lock"),
    "unlock": Action(_unlock, {}, "os-lock-server:unlock"),
    "restore": Action(absent.restore, {}, "os-deferred-delete:restore"),
    "forceDelete": Action(_force_delete, {}, "os-deferred-delete:force"),
    "migrate": Action(moves.migrate, moves.migrate_schema, moves.MIGRATE, project_manager),
    "os-migrateLive": Action(moves.migrate_live, moves.live_schema, moves.LIVE, project_manager),
    "evacuate": Action(moves.evacuate, moves.evacuate_schema, "os-evacuate", admin),
    "injectNetworkInfo": Action(_inject_network_info, {}, "os-admin-actions:inject_network_info", admin),
    "resetNetwork": Action(_reset_network, {}, "os-admin-actions:reset_network"),
    "os-resetState": Action(_reset_state, STATE, "os-admin-actions:reset_state", admin),
    "addSecurityGroup": Action(security_groups.add_to_server, s.GROUP_OF_SERVER, "os-security-groups:add"),
    "removeSecurityGroup": Action(security_groups.remove_from_server, s.GROUP_OF_SERVER, "os-security-groups:remove"),
    "addFixedIp": Action(networks.add_fixed_ip, _until_243(s.NETWORK_OF_SERVER), "os-multinic:add"),
    "removeFixedIp": Action(networks.remove_fixed_ip, _until_243(s.ADDRESS_OF_SERVER), "os-multinic:remove"),
    "addFloatingIp": Action(floating_ips.add_to_server, _until_243(s.FLOATING_OF_SERVER), "os-floating-ips:add"),
    "removeFloatingIp": Action(
        floating_ips.remove_from_server, _until_243(s.ADDRESS_OF_SERVER), "os-floating-ips:remove"
    ),
}
POLICIES: dict[str, str] = {  # an action → its line of policy
    **{name: action.policy for name, action in ACTIONS.items()},
    passwords.ACTION: "os-admin-password",
    "os-getConsoleOutput": "os-console-output",
    **dict.fromkeys(consoles.ACTIONS | consoles.REFUSED, "os-remote-consoles"),
}
POLICY: dict[str, Rule] = {
    **{action.policy: action.rule for action in ACTIONS.values()},
    **dict.fromkeys(("os-admin-password", "os-console-output"), project_member),
}


# --- addresses, interfaces, security groups --------------------------------------------------------------------------


def ips(call: Call) -> dict[str, Any]:
    return {"addresses": _ips(call)}


def ips_of_network(call: Call) -> dict[str, Any]:
    name, found = call.params["id"], _ips(call)
    if name not in found:
        raise NotFound("Instance is not a member of specified network")
    return {name: found[name]}


def _ips(call: Call) -> dict[str, Any]:
    """Network label → [{"version", "addr"}]."""
    row = servers.get(call.tx, call.context, call.params["server_id"])
    found = addresses.of_servers(call.tx, [row["id"]]).get(row["id"], {})
    return {
        network: [{"version": ip["version"], "addr": ip["addr"]} for ip in entries]
        for network, entries in found.items()
    }


def interfaces(call: Call) -> dict[str, Any]:
    row = servers.get(call.tx, call.context, call.params["server_id"])
    found = [views.interface(port) for port in addresses.interfaces(call.tx, row)]
    if call.since(70):
        tags = addresses.tags_of_ports(row, [body["port_id"] for body in found])
        found = [body | {"tag": tags[body["port_id"]]} for body in found]
    return {"interfaceAttachments": found}


def interface(call: Call) -> dict[str, Any]:
    port = call.params["id"]
    for body in interfaces(call)["interfaceAttachments"]:
        if body["port_id"] == port:
            return {"interfaceAttachment": body}
    raise NotFound(f"Instance {call.params['server_id']} does not have a port with id {port}")


def password(call: Call) -> dict[str, Any]:
    """What the guest posted to the metadata service, encrypted for the user's key."""
    return {"password": servers.get(call.tx, call.context, call.params["server_id"])["guest_password"]}


def clear_password(call: Call) -> None:
    servers.update(call.tx, call.context, call.params["server_id"], {"guest_password": ""})


# --- metadata and tags -------------------------------------------------------------------------------------------------


def metadata(call: Call) -> dict[str, Any]:
    return {"metadata": servers.get(call.tx, call.context, call.params["server_id"])["metadata"]}


def metadatum(call: Call) -> dict[str, Any]:
    key, found = call.params["id"], metadata(call)["metadata"]
    if key not in found:
        raise NotFound("Metadata item was not found")
    return {"meta": {key: found[key]}}


def add_metadata(call: Call) -> dict[str, Any]:
    return _set_metadata(call, call.body["metadata"], replace=False)


def replace_metadata(call: Call) -> dict[str, Any]:
    return _set_metadata(call, call.body["metadata"], replace=True)


def _set_metadata(call: Call, new: dict[str, str], *, replace: bool) -> dict[str, Any]:
    return {"metadata": servers.set_metadata(call.tx, call.context, call.params["server_id"], new, replace=replace)}


def set_metadatum(call: Call) -> dict[str, Any]:
    key, new = call.params["id"], call.body["meta"]
    if key not in new:
        raise BadRequest("Request body and URI mismatch")
    _set_metadata(call, new, replace=False)
    return {"meta": new}


def delete_metadatum(call: Call) -> None:
    servers.delete_metadata(call.tx, call.context, call.params["server_id"], call.params["id"])


def _tagged(call: Call, verb: str | None = None) -> list[str]:
    row = servers.get(call.tx, call.context, call.params["server_id"])
    if verb:
        servers.check_taggable(row, verb)
    return servers.tags(call.tx, [row["id"]]).get(row["id"], [])


def tags(call: Call) -> dict[str, Any]:
    return {"tags": _tagged(call)}


def has_tag(call: Call) -> None:
    _need_tag(call, _tagged(call))


def _need_tag(call: Call, found: list[str]) -> None:
    if call.params["id"] not in found:
        raise NotFound(f"Server {call.params['server_id']} has no tag '{call.params['id']}'")


def add_tag(call: Call) -> Reply:
    id, tag = call.params["server_id"], call.params["id"]
    found = _tagged(call, "update tag")
    call.check(tag, s.TAG)
    if tag in found:
        return Reply(status=204)
    if len(found) >= servers.MAX_TAGS:
        raise BadRequest(f"The number of tags exceeded the per-server limit {servers.MAX_TAGS}")
    servers.set_tags(call.tx, id, [*found, tag])
    return Reply(status=201, headers={"Location": f"{call.api_url}/servers/{id}/tags/{tag}"})


def replace_tags(call: Call) -> dict[str, Any]:
    _tagged(call, "update tags")
    servers.set_tags(call.tx, call.params["server_id"], call.body["tags"])
    return {"tags": _tagged(call)}


def delete_tag(call: Call) -> None:
    found = _tagged(call, "delete tag")
    _need_tag(call, found)
    servers.set_tags(call.tx, call.params["server_id"], [tag for tag in found if tag != call.params["id"]])


def delete_tags(call: Call) -> None:
    _tagged(call, "delete tags")
    servers.set_tags(call.tx, call.params["server_id"], [])
