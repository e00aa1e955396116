"""Security groups in Nova's old words, Neutron's nouns behind them (Nova: security_groups.py, security_group_api.py).

Nova knows rules only of what comes in, and writes ICMP's "all" as -1.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from kilonova.compute import servers
from kilonova.db.engine import Tx
from kilonova.model.errors import APIError, BadRequest, Conflict, Forbidden, NotFound
from kilonova.network import port_requests, ports
from kilonova.network import security_group_rules as rules
from kilonova.network import security_groups as groups
from kilonova.network.rows import Row
from kilonova.network.tables import PORT_SECURITY_GROUPS, PORTS, SECURITY_GROUPS
from kilonova.web import paging
from kilonova.web.call import Call
from kilonova.web.validate import is_uuid, whole

# --- bodies --------------------------------------------------------------------------------------------------------


def bodies(tx: Tx, found: list[Row]) -> list[dict[str, Any]]:
    """The groups with what their rules let in, by name."""
    of_group = groups.rules_of(tx, [group["id"] for group in found])
    remote = {rule["remote_group_id"] for rows in of_group.values() for rule in rows if rule["remote_group_id"]}
    named = {row["id"]: row for row in tx.all(sa.select(SECURITY_GROUPS).where(SECURITY_GROUPS.c.id.in_(list(remote))))}
    return [
        {
            **{name: group[name] for name in ("id", "name", "description")},
            "tenant_id": group["project_id"],
            "rules": [rule_body(rule, named) for rule in of_group[group["id"]] if rule["direction"] == "ingress"],
        }
        for group in sorted(found, key=lambda group: (group["project_id"], group["name"]))
    ]


def rule_body(rule: Row, named: Mapping[str, Row]) -> dict[str, Any]:
    """`named`: the groups that rules name as their remote group."""
    low, high, protocol = rule["port_range_min"], rule["port_range_max"], rule["protocol"]
    if protocol and low is None and high is None:
        low, high = (1, 65535) if protocol.lower() in ("tcp", "udp") else (-1, -1)
    remote = named.get(rule["remote_group_id"])
    anyone = "::/0" if rule["ethertype"] == "IPv6" else "0.0.0.0/0"
    return {
        "id": rule["id"],
        "parent_group_id": rule["security_group_id"],
        "ip_protocol": protocol,
        "from_port": low,
        "to_port": high,
        "group": {"name": remote["name"], "tenant_id": remote["project_id"]} if remote else {},
        "ip_range": {} if remote else {"cidr": rule["remote_ip_prefix"] or anyone},
    }


# --- groups --------------------------------------------------------------------------------------------------------


@contextmanager
def conflict_as(kind: type[APIError]) -> Iterator[None]:
    """Nova never answers 409 here: 403 for what cannot be made, 400 for what cannot go."""
    try:
        yield
    except Conflict as error:
        raise kind(str(error)) from error


def _id(call: Call) -> str:
    if not is_uuid(call.params["id"]):
        raise BadRequest("Security group id should be uuid")
    return call.params["id"]


def index(call: Call) -> dict[str, Any]:
    """The project's groups; an administrator's `all_tenants` gets everyone's."""
    if call.context.project_id:
        groups.ensure_default(call.tx, call.context.project_id)
    every = call.context.is_admin and call.arg("all_tenants") is not None
    mine = sa.true() if every else SECURITY_GROUPS.c.project_id == call.context.project_id
    found = call.tx.all(sa.select(SECURITY_GROUPS).where(mine).order_by(SECURITY_GROUPS.c.created_at))
    size, offset = paging.limit(call), whole(call.arg("offset") or "0")
    if offset is None:
        raise BadRequest(f"Invalid input for query parameter offset: {call.arg('offset')!r} is not a number.")
    return {"security_groups": bodies(call.tx, list(found[offset : offset + size]))}


def show(call: Call) -> dict[str, Any]:
    return {"security_group": bodies(call.tx, [groups.get(call.tx, call.context, _id(call))])[0]}


def create(call: Call) -> dict[str, Any]:
    given = call.body["security_group"]
    with conflict_as(Forbidden):
        group = groups.create(call.tx, call.context, {name: given[name] for name in ("name", "description")})
    return {"security_group": bodies(call.tx, [group])[0]}


def update(call: Call) -> dict[str, Any]:
    given = call.body["security_group"]
    changes = {name: given[name] for name in ("name", "description")}
    with conflict_as(BadRequest):
        group = groups.update(call.tx, call.context, _id(call), changes)
    return {"security_group": bodies(call.tx, [group])[0]}


def delete(call: Call) -> None:
    with conflict_as(BadRequest):
        groups.delete(call.tx, call.context, _id(call))


# --- rules ---------------------------------------------------------------------------------------------------------


def create_rule(call: Call) -> dict[str, Any]:
    call.services.flows.look(call.tx)
    given = call.body["security_group_rule"]
    parent = groups.get(call.tx, call.context, given["parent_group_id"])
    if given.get("group_id"):
        groups.get(call.tx, call.context, given["group_id"])
    try:
        rule = rules.create(call.tx, call.context, new_rule(parent["id"], given))
    except Conflict as error:
        if error.type == "SecurityGroupRuleExists":
            raise BadRequest(f"This rule already exists in group {parent['id']}") from error
        raise Forbidden(str(error)) from error
    remote = [groups.get(call.tx, call.context, given["group_id"])] if given.get("group_id") else []
    return {"security_group_rule": rule_body(rule, {group["id"]: group for group in remote})}


def new_rule(parent_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The rule as Neutron takes it. BadRequest when Nova would refuse it (Nova: _new_ingress_rule)."""
    protocol, low, high = given.get("ip_protocol"), given.get("from_port"), given.get("to_port")
    body: dict[str, Any] = {"security_group_id": parent_id, "direction": "ingress", "ethertype": "IPv4"}
    word = str(protocol).upper() if protocol else ""
    if given.get("group_id"):
        body["remote_group_id"] = given["group_id"]
        if low is None and high is None and word in ("ICMP", "TCP", "UDP"):
            low, high = (-1, -1) if word == "ICMP" else (1, 65535)
    else:
        remote = _interface(given.get("cidr") or "0.0.0.0/0")
        body |= {"remote_ip_prefix": remote.with_prefixlen, "ethertype": f"IPv{remote.version}"}
        if not word or low is None or high is None:
            raise BadRequest("Not enough parameters to build a valid rule.")
    if word and low is not None and high is not None:
        low, high = _port_range(word, low, high)
        body["protocol"] = str(protocol)
        ends = {"port_range_min": low, "port_range_max": high}
        body |= {name: value for name, value in ends.items() if value != -1}
    return body


def _interface(cidr: Any) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    """As it is written: Neutron keeps the host's bits, too, and shows the network beside them."""
    try:
        if not isinstance(cidr, str) or "/" not in cidr or "%" in cidr:
            raise ValueError
        interface = ipaddress.ip_interface(cidr)
    except ValueError:
        raise BadRequest(f"{str(cidr)[:64]} is not a valid IP network.") from None
    if interface.network.prefixlen == 0 and int(interface.ip):
        raise BadRequest(f"Bad prefix for network in cidr {cidr}")
    return interface


def _port_range(protocol: str, low: Any, high: Any) -> tuple[int, int]:
    try:
        if not all(isinstance(end, int | str) and len(str(end)) < 10 for end in (low, high)):
            raise ValueError
        low, high = int(low), int(high)
    except ValueError:
        what = "Type and Code must be integers for ICMP protocol type"
        what = what if protocol == "ICMP" else "To and From ports must be integers"
        raise BadRequest(f"Invalid input received: {what}") from None
    if protocol not in ("TCP", "UDP", "ICMP"):
        raise BadRequest(f"Invalid IP protocol {protocol[:64]}.")
    why = ""
    if protocol == "ICMP":
        why = "" if -1 <= low <= 255 and -1 <= high <= 255 else "For ICMP, the type:code must be valid"
    elif low > high:
        why = "Former value cannot be greater than the later"
    elif low < 1 or high > 65535:
        why = f"Valid {protocol} ports should be between 1-65535"
    if why:
        raise BadRequest(f"Invalid port range {low}:{high}. {why}")
    return low, high


def delete_rule(call: Call) -> None:
    call.services.flows.look(call.tx)
    rules.delete(call.tx, call.context, _id(call))


# --- a server's groups ---------------------------------------------------------------------------------------------


def of_server(call: Call) -> dict[str, Any]:
    server = servers.get(call.tx, call.context, call.params["server_id"])
    held = sa.select(PORT_SECURITY_GROUPS.c.security_group_id).join(PORTS, PORTS.c.id == PORT_SECURITY_GROUPS.c.port_id)
    mine = SECURITY_GROUPS.c.id.in_(held.where(ports.of_server(server["id"], server["project_id"])))
    return {"security_groups": bodies(call.tx, list(call.tx.all(sa.select(SECURITY_GROUPS).where(mine))))}


def _asked(tx: Tx, call: Call, name: str) -> tuple[str, list[Row]]:
    """The group's id, and the server's ports, which are about to change."""
    call.services.flows.look(tx)
    server = servers.get(tx, call.context, call.params["id"])
    project = call.context.project_id
    found = groups.find(tx, project, name)
    if not found:
        raise NotFound(f"Security group {name} is not found for project {project}", type="SecurityGroupNotFound")
    if len(found) > 1:
        raise Conflict(f"Multiple security_group matches found for name '{name}', use an ID to be more specific.")
    held = ports.server_ports(tx, server["id"], server["project_id"])
    if not held:
        raise NotFound(f"instance_id {server['id']} could not be found as device id on any ports")
    return str(found[0]["id"]), held


def add_to_server(tx: Tx, call: Call, argument: Any) -> None:
    group_id, held = _asked(tx, call, argument["name"])
    current = ports.security_groups_of(tx, [port["id"] for port in held])
    for port in held:
        if not port["port_security_enabled"]:
            raise BadRequest(
                "Network requires port_security_enabled and subnet associated in order to apply security groups."
            )
        wanted = [*current[port["id"]], group_id]
        port_requests.update(tx, call.context, port["id"], {"security_groups": wanted})


def remove_from_server(tx: Tx, call: Call, argument: Any) -> None:
    group_id, held = _asked(tx, call, argument["name"])
    current = ports.security_groups_of(tx, [port["id"] for port in held])
    members = [port for port in held if group_id in current[port["id"]]]
    if not members:
        raise NotFound(
            f"Security group {argument['name']} not associated with the instance {call.params['id']}",
            type="SecurityGroupNotFound",
        )
    for port in members:
        wanted = [id for id in current[port["id"]] if id != group_id]
        port_requests.update(tx, call.context, port["id"], {"security_groups": wanted})
