"""POST /servers: everything that Nova's API refuses at once, then the rows and one flow for each server."""

import base64
import binascii
import ipaddress
import re
import secrets
import string
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from kilonova.compute import (
    create_devices,
    flavors,
    hosts,
    keypairs,
    personality,
    quotas,
    server_groups,
    servers,
    states,
)
from kilonova.compute.flows import Flows
from kilonova.compute.images import Image
from kilonova.compute.tables import SERVERS
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.model.ids import new_id, now
from kilonova.network import auto_topology, ports, security_groups
from kilonova.web.call import Call, Context
from kilonova.web.validate import TRUE, is_uuid

PASSWORD_LENGTH = 12
PORT_TWICE = "Port ID '{}' was specified twice: you cannot attach a port multiple times."
ADDRESS_AND_PORT = "Specified Fixed IP '{}' cannot be used with port '{}': the two cannot be specified together."
ONE_BY_ONE = (
    "Failed to launch instances: Unable to launch multiple instances with a single configured port ID. "
    "Please launch your instance one by one with different ports."
)


@dataclass(frozen=True)
class Placing:
    """Where the server may go: the zone asked for, and one host of it."""

    zone: str | None
    host: str | None


@dataclass(frozen=True)
class Created:
    servers: list[sa.RowMapping]
    reservation_id: str
    admin_password: str


def create(call: Call) -> Created:
    """One row in state BUILD and one flow for each server. Raises what Nova's API answers: 400, 403, 409."""
    tx, context, body = call.tx, call.context, call.body["server"]
    hints = call.body.get("os:scheduler_hints", call.body.get("OS-SCH-HNT:scheduler_hints")) or {}
    least, most = _counts(body)
    placing = _placing(tx, context, body)
    requested = _requested_networks(body)
    check_user_data(body)
    check_not_offered(body)
    flavor = flavors.for_server(tx, context, body["flavorRef"])
    disks = create_devices.plan(tx, context, body, flavor)
    servers.check_metadata_quota(tx, context.project_id, body.get("metadata", {}))
    files = personality.check(tx, context.project_id, body.get("personality", []))
    keypair = find_keypair(tx, context, body.get("key_name"))
    groups = _security_groups(tx, context, body)
    if isinstance(requested, list) and most > 1:
        _check_many(requested)
    if most > 1 and body.get("hostname"):
        raise BadRequest("Unable to allocate a single hostname to multiple instances")
    networks = _networks(tx, context, requested, most)
    group = _group(tx, context, hints)
    count = quotas.room(tx, context, flavor, least, most)
    if group:
        server_groups.check_room(tx, context, group, count)
    common = (
        _common(call, body, placing, flavor, disks.image)
        | groups
        | {"requested_networks": networks, "personality": files, "keypair": keypair, "scheduler_hints": hints}
    )
    if disks.on_volume and not body.get("imageRef"):
        common["image_id"] = ""  # its image is only what a volume is made from (Nova: _image_from_req_data)
    made = [_insert(tx, common, body, index, most) for index in range(count)]
    if group:
        server_groups.add(tx, group, [server["id"] for server in made])
    flows: Flows = call.services.flows
    for server in made:
        create_devices.keep(tx, context, server, disks)
        if "tags" in body:
            servers.set_tags(tx, server["id"], body["tags"])
        flows.start(tx, "create", server["id"], context, {})
    return Created(made, common["reservation_id"], common["admin_password"])


def _group(tx: Tx, context: Context, hints: dict[str, Any]) -> str | None:
    """The server group's id among the scheduler hints. BadRequest when there is no such group of the project's."""
    id = hints.get("group")
    if id is None:
        return None
    if not isinstance(id, str) or not is_uuid(id):
        raise BadRequest(f"Invalid input for field/attribute group. Value: {str(id)[:80]}. It is not a 'uuid'")
    try:
        return str(server_groups.get(tx, context, id)["id"])
    except NotFound as error:
        raise BadRequest(error.message) from error


def _counts(body: dict[str, Any]) -> tuple[int, int]:
    least = int(body.get("min_count", 1))
    most = int(body.get("max_count", least))
    if least > most:
        raise BadRequest("min_count must be <= max_count")
    return least, most


def _placing(tx: Tx, context: Context, body: dict[str, Any]) -> Placing:
    """`zone`, or for administrators `zone:host[:node]`, or `host` and `hypervisor_hostname` (2.74)."""
    zone: str | None
    zone, _, rest = (body.get("availability_zone") or "").partition(":")
    host, _, node = rest.partition(":")
    forced = host or node
    if forced and not context.may(part := "os_compute_api:servers:create:forced_host"):
        raise Forbidden(f"Policy doesn't allow {part} to be performed.")
    asked = {body[name] for name in ("host", "hypervisor_hostname") if body.get(name)}
    if asked:
        if not context.may(part := "compute:servers:create:requested_destination"):
            raise Forbidden(f"Policy doesn't allow {part} to be performed.")
        if forced:
            raise BadRequest(
                "One mechanism with host and/or hypervisor_hostname and another mechanism with zone:host:node are "
                "mutually exclusive."
            )
    for name in sorted(asked | ({forced} if forced else set())):
        if hosts.find(tx, name) is None:
            raise BadRequest(f"Compute host {name} could not be found.")
    if len(asked) > 1:
        raise BadRequest(f"Compute host {' and '.join(sorted(asked))} are two hosts; a server runs on one.")
    zone = zone or None
    if zone and zone not in hosts.zones(tx):
        raise BadRequest("The requested availability zone is not available")
    return Placing(zone, forced or next(iter(asked), None))


def _requested_networks(body: dict[str, Any]) -> Any:
    """None (not said), "auto", "none", or a list of {"network_id" or "port_id", "fixed_ip", "tag"}.

    Nova: _get_requested_networks.
    """
    networks = body.get("networks")
    if not isinstance(networks, list):
        return networks
    seen: set[str] = set()
    out = []
    for network in networks:
        port, address, uuid = network.get("port"), network.get("fixed_ip"), network.get("uuid")
        if port:
            if port in seen:
                raise BadRequest(PORT_TWICE.format(port))
            if address:
                raise BadRequest(ADDRESS_AND_PORT.format(address, port))
            seen.add(port)
            uuid = None
        elif uuid is None:
            raise BadRequest("Bad network format: missing 'uuid'")
        elif not is_uuid(uuid):
            raise BadRequest(f"Bad networks format: network uuid is not in proper format ({uuid})")
        entry = {"network_id": uuid, "port_id": port, "fixed_ip": address, "tag": network.get("tag")}
        out.append({key: value for key, value in entry.items() if value is not None})
    return out or None


def _networks(tx: Tx, context: Context, requested: Any, count: int) -> list[dict[str, Any]]:
    if requested == "none":
        return []
    if isinstance(requested, list):
        return ports.validate_requested(tx, context, requested, count)
    found = ports.validate_requested(tx, context, None, count)
    if requested == "auto" and not found:
        try:
            network_id = auto_topology.ensure(tx, context, context.project_id)
        except Conflict as error:
            raise BadRequest(
                f"Unable to automatically allocate a network for project {context.project_id}: {error.message}"
            ) from error
        return ports.validate_requested(tx, context, [{"network_id": network_id}], count)
    return found


def _check_many(requested: list[dict[str, Any]]) -> None:
    if any("port_id" in network for network in requested):
        raise BadRequest(ONE_BY_ONE)
    if any("fixed_ip" in network for network in requested):
        raise BadRequest("Failed to launch instances: max_count cannot be greater than 1 if an fixed_ip is specified.")


def check_not_offered(body: dict[str, Any]) -> None:
    if body.get("trusted_image_certificates"):
        raise BadRequest("Image certificates cannot be validated: this cloud has no key manager.")


def check_user_data(body: dict[str, Any]) -> None:
    text = body.get("user_data")
    if text is None:
        return
    try:
        base64.b64decode(re.sub(r"\s", "", text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(
            f"Invalid input for field/attribute user_data. Value: {text[:100]}. {text[:100]!r} is not a 'base64'"
        ) from error


def find_keypair(tx: Tx, context: Context, name: str | None) -> dict[str, str] | None:
    if name is None:
        return None
    row = keypairs.find(tx, context.user_id, name)
    if row is None:
        raise BadRequest("Invalid key_name provided.")
    return {"name": row["name"], "public_key": row["public_key"], "type": row["type"]}


def _security_groups(tx: Tx, context: Context, body: dict[str, Any]) -> dict[str, list[str]]:
    """The groups asked for by name or id, as columns. A project's default group is made when it is first needed."""
    names: list[str] = []
    ids: list[str] = []
    for asked in dict.fromkeys(group["name"] for group in body.get("security_groups", []) if group.get("name")):
        found = security_groups.find(tx, context.project_id, asked)
        if not found and asked == "default":
            found = security_groups.find(tx, context.project_id, security_groups.ensure_default(tx, context.project_id))
        if not found:
            raise BadRequest(f"Security group {asked} not found.")
        if len(found) > 1:
            raise Conflict(f"Multiple security groups found matching '{asked}'. Use an ID to be more specific.")
        names.append(found[0]["name"])
        ids.append(found[0]["id"])
    return {"security_groups": names, "security_group_ids": list(dict.fromkeys(ids))}


def _common(
    call: Call, body: dict[str, Any], placing: Placing, flavor: sa.RowMapping, image: Image
) -> dict[str, Any]:
    """The columns that all servers of one request share."""
    letters = string.ascii_lowercase + string.digits
    config_drive = body.get("config_drive", False)
    return {
        "project_id": call.context.project_id,
        "user_id": call.context.user_id,
        "description": body.get("description") if call.since(19) else body["name"].strip(),
        "vm_state": "building",
        "task_state": "scheduling",
        "power_state": states.NO_STATE,
        "availability_zone": placing.zone,
        "requested_host": placing.host,
        "flavor": embedded(flavor),
        "flavor_id": flavor["id"],
        "vcpus": flavor["vcpus"],
        "memory_mb": flavor["memory_mb"],
        "image_id": image.id,
        "image_meta": image.meta,
        "key_name": body.get("key_name"),
        "metadata": body.get("metadata", {}),
        "admin_password": body.get("adminPass") or "".join(
            secrets.choice(string.ascii_letters + string.digits) for _ in range(PASSWORD_LENGTH)
        ),
        "user_data": body.get("user_data"),
        "config_drive": config_drive if isinstance(config_drive, bool) else config_drive.lower() in TRUE,
        "disk_config": body.get("OS-DCF:diskConfig", "MANUAL"),
        "access_ip_v4": canonical_ip(body.get("accessIPv4")),
        "access_ip_v6": canonical_ip(body.get("accessIPv6")),
        "reservation_id": "r-" + "".join(secrets.choice(letters) for _ in range(8)),
    }  # fmt: skip


def canonical_ip(text: str | None) -> str | None:
    return str(ipaddress.ip_address(text)) if text else None


def embedded(flavor: sa.RowMapping) -> dict[str, Any]:
    """A flavor as servers keep it."""
    names = ("id", "name", "vcpus", "memory_mb", "disk_gb", "ephemeral_gb", "swap_mb", "extra_specs")
    return {name: flavor[name] for name in names}


def _insert(tx: Tx, common: dict[str, Any], body: dict[str, Any], index: int, most: int) -> sa.RowMapping:
    id, when = new_id(), now()
    name = body["name"].strip() if most == 1 else f"{body['name'].strip()}-{index + 1}"
    hostname = body.get("hostname") or sanitize_hostname(name, f"Server-{id}")
    own = {"id": id, "name": name, "hostname": hostname, "launch_index": index, "created_at": when, "updated_at": when}
    tx.execute(SERVERS.insert().values(**{**common, **own}))
    return states.get_row(tx, id)


def sanitize_hostname(name: str, default: str) -> str:
    """Nova's utils.sanitize_hostname: what the guest is called, from the server's name."""
    text = re.sub(r"[ _.]", "-", name[:63])
    text = re.sub(r"[^a-zA-Z0-9-]+", "", text).lower().strip("-")
    return text or default
