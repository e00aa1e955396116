"""Rows as Nova's bodies, exact for each microversion."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.compute import addresses, block_devices, hosts, server_groups, servers
from kilonova.compute.actions import host_id
from kilonova.compute.tables import SERVERS
from kilonova.db.engine import Tx
from kilonova.model import hardware
from kilonova.model.ids import iso, now
from kilonova.web.call import Call

STATUS = {  # vm_state → status, but for these task states (Nova: common._STATE_MAP)
    "active": "ACTIVE", "building": "BUILD", "stopped": "SHUTOFF", "error": "ERROR", "deleted": "DELETED",
    "paused": "PAUSED", "suspended": "SUSPENDED", "rescued": "RESCUE", "resized": "VERIFY_RESIZE",
    "soft-delete": "SOFT_DELETED", "shelved": "SHELVED", "shelved_offloaded": "SHELVED_OFFLOADED",
}  # fmt: skip
RESIZING = ("resize_prep", "resize_migrating", "resize_migrated", "resize_finish")
REBUILDING = ("rebuilding", "rebuild_block_device_mapping", "rebuild_spawning")
TASK_STATUS = {
    ("active", "rebooting"): "REBOOT", ("active", "reboot_pending"): "REBOOT", ("active", "reboot_started"): "REBOOT",
    ("active", "rebooting_hard"): "HARD_REBOOT", ("active", "reboot_pending_hard"): "HARD_REBOOT",
    ("active", "reboot_started_hard"): "HARD_REBOOT", ("active", "updating_password"): "PASSWORD",
    ("active", "migrating"): "MIGRATING", ("resized", "resize_reverting"): "REVERT_RESIZE",
    **{(state, task): "RESIZE" for state in ("active", "stopped") for task in RESIZING},
    **{(state, task): "REBUILD" for state in ("active", "stopped", "error") for task in REBUILDING},
}  # fmt: skip
SINGLE_HINTS = ("query", "target_cell", "build_near_host_ip", "cidr")
WITH_PROGRESS = {"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "MIGRATING"}


SINCE_275 = (  # what PUT and rebuild have shown only since then
    "config_drive", "key_name", "OS-SRV-USG:launched_at", "OS-SRV-USG:terminated_at",
    "OS-EXT-AZ:availability_zone", "security_groups", "host_status", "OS-EXT-STS:task_state", "OS-EXT-STS:vm_state",
    "OS-EXT-STS:power_state", "os-extended-volumes:volumes_attached", "OS-EXT-SRV-ATTR:host",
    "OS-EXT-SRV-ATTR:instance_name", "OS-EXT-SRV-ATTR:hypervisor_hostname", "OS-EXT-SRV-ATTR:hostname",
    "OS-EXT-SRV-ATTR:kernel_id", "OS-EXT-SRV-ATTR:launch_index", "OS-EXT-SRV-ATTR:ramdisk_id",
    "OS-EXT-SRV-ATTR:reservation_id", "OS-EXT-SRV-ATTR:root_device_name", "OS-EXT-SRV-ATTR:user_data",
)  # fmt: skip


def links(call: Call, collection: str, id: str) -> list[dict[str, str]]:
    return [
        {"rel": "self", "href": f"{call.api_url}/{collection}/{id}"},
        {"rel": "bookmark", "href": f"{call.base_url}/{collection}/{id}"},
    ]


def instance_name(server: sa.RowMapping) -> str:
    """libvirt's name of the domain (Nova: instance_name_template)."""
    return f"instance-{server['number']:08x}"


def status(server: sa.RowMapping) -> str:
    if server["deleted_at"]:
        return "DELETED"
    state = server["vm_state"]
    return TASK_STATUS.get((state, server["task_state"]), STATUS.get(state, "UNKNOWN"))


def server_basic(call: Call, server: sa.RowMapping) -> dict[str, Any]:
    return {"id": server["id"], "name": server["name"], "links": links(call, "servers", server["id"])}


def server_list(call: Call, rows: Sequence[sa.RowMapping], *, show: bool = False) -> list[dict[str, Any]]:
    """Servers in detail; `show`: one server by itself, which says a little more (server_groups, 2.71)."""
    tx = call.tx
    ids = [row["id"] for row in rows]
    ips = addresses.of_servers(tx, ids)
    groups = addresses.security_groups(tx, ids)
    volumes = volumes_attached(call, ids)
    tags = servers.tags(tx, ids) if call.since(26) else {}
    known = {host["hostname"]: host for host in hosts.list_hosts(tx)}
    bodies = []
    for row in rows:
        host = known.get(row["host"])
        body = _server(call, row, ips.get(row["id"], {}))
        body["OS-EXT-AZ:availability_zone"] = host["availability_zone"] if host else row["availability_zone"] or ""
        if row["id"] in volumes:
            body["os-extended-volumes:volumes_attached"] = volumes[row["id"]]
        if row["id"] in groups:
            body["security_groups"] = [{"name": name} for name in groups[row["id"]]]
        _since(call, row, body, tags.get(row["id"], []))
        if call.since(71) and show:
            group = server_groups.of_server(tx, row["id"])
            body["server_groups"] = [group["id"]] if group is not None else []
        if call.since(16) and call.context.may("os_compute_api:servers:show:host_status"):
            body["host_status"] = _host_status(host)
        bodies.append(body)
    return bodies


def volumes_attached(call: Call, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """By server id; servers without any are not in it."""
    out: dict[str, list[dict[str, Any]]] = {}
    for id, rows in block_devices.of_servers(call.tx, ids).items():
        names = ("delete_on_termination",) if call.since(3) else ()
        out[id] = [{"id": row["volume_id"], **{name: row[name] for name in names}} for row in rows if row["volume_id"]]
    return out


def as_put(body: dict[str, Any], hidden: Collection[str] = SINCE_275) -> dict[str, Any]:
    """As PUT and rebuild showed a server before 2.75."""
    ips = {
        name: [{"version": ip["version"], "addr": ip["addr"]} for ip in ips] for name, ips in body["addresses"].items()
    }
    return {name: value for name, value in body.items() if name not in hidden} | {"addresses": ips}


def _host_status(host: sa.RowMapping | None) -> str:
    if host is None:
        return ""
    if host["forced_down"]:
        return "DOWN"
    if host["disabled"]:
        return "MAINTENANCE"
    return "UP" if hosts.is_up(host) else "UNKNOWN"


def _server(call: Call, row: sa.RowMapping, ips: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What every microversion shows."""
    state = status(row)
    body: dict[str, Any] = {
        "id": row["id"],
        "name": row["name"],
        "status": state,
        "tenant_id": row["project_id"],
        "user_id": row["user_id"],
        "metadata": row["metadata"],
        "hostId": host_id(row["host"], row["project_id"]),
        "image": image(call, row),
        "flavor": embedded_flavor(call, row),
        "created": iso(row["created_at"]),
        "updated": iso(row["updated_at"]),
        "addresses": server_addresses(ips) if row["vm_state"] != "building" else {},
        "accessIPv4": row["access_ip_v4"] or "",
        "accessIPv6": row["access_ip_v6"] or "",
        "links": links(call, "servers", row["id"]),
        "OS-DCF:diskConfig": row["disk_config"],
        "config_drive": "True" if row["config_drive"] else "",
        "key_name": row["key_name"],
        "OS-SRV-USG:launched_at": _stamp(row["launched_at"]),
        "OS-SRV-USG:terminated_at": _stamp(row["terminated_at"]),
        "OS-EXT-STS:task_state": row["task_state"],
        "OS-EXT-STS:vm_state": row["vm_state"],
        "OS-EXT-STS:power_state": row["power_state"],
        "os-extended-volumes:volumes_attached": [],  # filled in by server_list
    }
    if state in WITH_PROGRESS:
        body["progress"] = row["progress"]
    if row["fault"] and state in ("ERROR", "DELETED"):
        body["fault"] = {name: row["fault"][name] for name in ("code", "created", "message")}
        if row["fault"]["details"] and call.context.is_admin:
            body["fault"]["details"] = row["fault"]["details"]
    if call.context.may("os_compute_api:os-extended-server-attributes"):
        body |= _admin_attributes(call, row)
    return body


def _admin_attributes(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    attributes = {"host": row["host"], "instance_name": instance_name(row), "hypervisor_hostname": row["host"]}
    if call.since(3):
        attributes |= {
            "hostname": row["hostname"],
            "kernel_id": row["image_meta"].get("kernel_id") or "",
            "launch_index": row["launch_index"],
            "ramdisk_id": row["image_meta"].get("ramdisk_id") or "",
            "reservation_id": row["reservation_id"],
            "root_device_name": "/dev/vda",
            "user_data": row["user_data"],
        }
    return {f"OS-EXT-SRV-ATTR:{name}": value for name, value in attributes.items()}


def _since(call: Call, row: sa.RowMapping, body: dict[str, Any], tags: list[str]) -> None:
    """What later microversions add."""
    if call.since(9):
        body["locked"] = bool(row["locked_by"])
    if call.since(19):
        body["description"] = row["description"]
    if call.since(26):
        body["tags"] = tags
    if call.since(63):
        body["trusted_image_certificates"] = None
    if call.since(73):
        body["locked_reason"] = row["locked_reason"]
    if call.since(90):
        body["OS-EXT-SRV-ATTR:hostname"] = row["hostname"]
    if call.since(96):
        body["pinned_availability_zone"] = row["availability_zone"]
    if call.since(100):
        body["scheduler_hints"] = _hints(row["scheduler_hints"])


def _hints(hints: Mapping[str, Any]) -> dict[str, Any]:
    """As Nova's RequestSpec keeps them: lists, but for those of which there can be one alone."""
    return {
        name: value if name in SINGLE_HINTS or isinstance(value, list) else [str(value)] for name, value in hints.items()
    }


def _stamp(when: Any) -> str | None:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%f") if when else None


def image(call: Call, row: sa.RowMapping) -> Any:
    """ "" for a server without an image."""
    id = row["image_id"]
    if not id:
        return ""
    body = {"id": id, "links": [{"rel": "bookmark", "href": f"{call.base_url}/images/{id}"}]}
    return body | {"properties": hardware.known(row["image_meta"].get("properties") or {})} if call.since(98) else body


def embedded_flavor(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    made = row["flavor"]
    if not call.since(47):
        id = made["id"]
        return {"id": id, "links": [{"rel": "bookmark", "href": f"{call.base_url}/flavors/{id}"}]}
    return {
        "vcpus": made["vcpus"],
        "ram": made["memory_mb"],
        "disk": made["disk_gb"],
        "ephemeral": made["ephemeral_gb"],
        "swap": made["swap_mb"],
        "original_name": made["name"],
        "extra_specs": made["extra_specs"],
    }


def server_addresses(ips: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        network: [
            {
                "version": ip["version"],
                "addr": ip["addr"],
                "OS-EXT-IPS:type": ip["type"],
                "OS-EXT-IPS-MAC:mac_addr": ip["mac"],
            }
            for ip in found
        ]
        for network, found in ips.items()
    }


def flavor(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    body = {
        "id": row["id"],
        "name": row["name"],
        "ram": row["memory_mb"],
        "disk": row["disk_gb"],
        "vcpus": row["vcpus"],
        "swap": row["swap_mb"] if row["swap_mb"] or call.since(75) else "",
        "OS-FLV-EXT-DATA:ephemeral": row["ephemeral_gb"],
        "os-flavor-access:is_public": row["is_public"],
        "links": links(call, "flavors", row["id"]),
    }
    if not call.since(102):
        body |= {"OS-FLV-DISABLED:disabled": row["disabled"], "rxtx_factor": row["rxtx_factor"]}
    if call.since(55):
        body["description"] = row["description"]
    if call.since(61):
        body["extra_specs"] = row["extra_specs"]
    return body


def flavor_basic(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    body = {"id": row["id"], "name": row["name"], "links": links(call, "flavors", row["id"])}
    if call.since(55):
        body["description"] = row["description"]
    return body


def keypair(call: Call, row: sa.RowMapping, *names: str) -> dict[str, Any]:
    """`names` beyond name, public_key and fingerprint; the type since 2.2."""
    typed = ("type",) if call.since(2) else ()
    return {name: row[name] for name in ("name", "public_key", "fingerprint", *typed, *names)}


def keypair_show(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    times = {"created_at": _stamp(row["created_at"]), "deleted": False, "deleted_at": None, "updated_at": None}
    return keypair(call, row, "user_id") | times | {"id": row["number"]}


def service(call: Call, host: sa.RowMapping) -> dict[str, Any]:
    """The nova-compute of a host."""
    body = {
        "id": host["service_uuid"] if call.since(53) else host["number"],
        "binary": "nova-compute",
        "host": host["hostname"],
        "zone": host["availability_zone"],
        "status": "disabled" if host["disabled"] else "enabled",
        "state": "up" if hosts.is_up(host) else "down",
        "updated_at": _stamp(host["last_seen_at"]),
        "disabled_reason": host["disabled_reason"],
    }
    return body | {"forced_down": host["forced_down"]} if call.since(11) else body


def internal_service(call: Call, binary: str, place: int, uuid: str, host: str) -> dict[str, Any]:
    """One of hosts.internal_services. `place`: which of them, of which its number is made before there are uuids."""
    body = {
        "id": uuid if call.since(53) else hosts.MAX_UNIT - place,
        "binary": binary,
        "host": host,
        "zone": hosts.INTERNAL,
        "status": "enabled",
        "state": "up",
        "updated_at": _stamp(now()),
        "disabled_reason": None,
    }
    return body | {"forced_down": False} if call.since(11) else body


def hypervisor(call: Call, host: sa.RowMapping, used: Mapping[str, int] | None) -> dict[str, Any]:
    """`used`: vcpus, memory_mb, disk_gb and servers; None for the short form."""
    body: dict[str, Any] = {
        "id": host["uuid"] if call.since(53) else host["number"],
        "hypervisor_hostname": host["hostname"],
        "state": "up" if hosts.is_up(host) else "down",
        "status": "disabled" if host["disabled"] else "enabled",
    }
    if used is None:
        return body
    body |= {name: host[name] for name in ("hypervisor_type", "hypervisor_version", "host_ip")}
    body["service"] = {
        "id": host["service_uuid"] if call.since(53) else host["number"],
        "host": host["hostname"],
        "disabled_reason": host["disabled_reason"],
    }
    if call.since(88):
        return body | {"uptime": uptime(host)}
    return body | {
        "vcpus": host["vcpus"],
        "memory_mb": host["memory_mb"],
        "local_gb": host["disk_gb"],
        "vcpus_used": used["vcpus"],
        "memory_mb_used": used["memory_mb"],
        "local_gb_used": used["disk_gb"],
        "free_ram_mb": host["memory_mb"] - used["memory_mb"],
        "free_disk_gb": host["disk_gb"] - used["disk_gb"],
        "current_workload": used["busy"],
        "running_vms": used["servers"],
        "disk_available_least": host["disk_gb"] - used["disk_gb"],
        "cpu_info": host["cpu_info"] if call.since(28) else json.dumps(host["cpu_info"]),  # JSON in a string
    }


def uptime(host: sa.RowMapping) -> str | None:
    """Not known of a host that is down."""
    return str(host["uptime"]) if host["uptime"] and hosts.is_up(host) else None


def interface(port: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "port_id": port["id"],
        "net_id": port["network_id"],
        "mac_addr": port["mac_address"],
        "port_state": port["status"],
        "fixed_ips": port["fixed_ips"],
    }


def used_by_host(tx: Tx) -> dict[str, dict[str, int]]:
    """Host → what its servers take of it."""
    out: dict[str, dict[str, int]] = {}
    columns = (SERVERS.c.host, SERVERS.c.flavor, SERVERS.c.task_state)
    for row in tx.all(sa.select(*columns).where(SERVERS.c.deleted_at.is_(None), SERVERS.c.host.is_not(None))):
        used = out.setdefault(row["host"], dict.fromkeys(("vcpus", "memory_mb", "disk_gb", "servers", "busy"), 0))
        flavor = row["flavor"]
        used["vcpus"] += flavor["vcpus"]
        used["memory_mb"] += flavor["memory_mb"]
        used["disk_gb"] += flavor["disk_gb"] + flavor["ephemeral_gb"]
        used["servers"] += 1
        used["busy"] += bool(row["task_state"])
    return out
