"""What the routes of hosts, services, zones, quotas and limits do."""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import hosts, quotas, views
from kilonova.compute import schemas as s
from kilonova.compute.tables import HOSTS, SERVERS
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.model.ids import now
from kilonova.web import paging
from kilonova.web.call import Call
from kilonova.web.validate import TRUE, is_uuid

NO_USE = dict.fromkeys(("vcpus", "memory_mb", "disk_gb", "servers", "busy"), 0)

# --- zones and services ------------------------------------------------------------------------------------------------


def zones(call: Call) -> dict[str, Any]:
    found = sorted(hosts.zones(call.tx).items())
    return {"availabilityZoneInfo": [{"zoneName": name, "zoneState": {"available": _available(members)}, "hosts": None}
                                     for name, members in found]}  # fmt: skip


def _available(members: list[sa.RowMapping]) -> bool:
    return any(not host["disabled"] for host in members)


def zones_detail(call: Call) -> dict[str, Any]:
    out = []
    for name, members in sorted(hosts.zones(call.tx).items()):
        services = {
            host["hostname"]: {
                "nova-compute": {
                    "available": hosts.is_up(host),
                    "active": True,
                    "updated_at": host["last_seen_at"].strftime("%Y-%m-%dT%H:%M:%S.%f"),
                }
            }
            for host in members
            if not host["disabled"]
        }
        available = _available(members)
        out.append({"zoneName": name, "zoneState": {"available": available}, "hosts": services if available else None})
    internal: dict[str, Any] = {}
    for binary, (_, host) in hosts.internal_services(call.tx).items():
        stamp = now().strftime("%Y-%m-%dT%H:%M:%S.%f")
        internal.setdefault(host, {})[binary] = {"available": True, "active": True, "updated_at": stamp}
    if internal:
        out.insert(0, {"zoneName": hosts.INTERNAL, "zoneState": {"available": True}, "hosts": internal})
    return {"availabilityZoneInfo": out}


def list_services(call: Call) -> dict[str, Any]:
    host, binary = call.arg("host"), call.arg("binary")
    found = [views.service(call, row) for row in hosts.list_hosts(call.tx)]
    internal = hosts.internal_services(call.tx).items()
    found += [views.internal_service(call, name, place, uuid, on) for place, (name, (uuid, on)) in enumerate(internal)]
    return {"services": [each for each in found if host in (None, each["host"]) and binary in (None, each["binary"])]}


def _refuse_internal(call: Call, *, id: str = "", binary: str = "") -> None:
    """Of nova-scheduler and nova-conductor nothing can be changed. In Nova's words."""
    for name, (uuid, _) in hosts.internal_services(call.tx).items():
        if id == uuid or binary == name:
            raise BadRequest(f"Updating a {name} service is not supported. Only nova-compute services can be updated.")


def update_service(call: Call) -> dict[str, Any]:
    """PUT /os-services/{id}: since 2.53 a service by its UUID, before that an action's name."""
    if not call.since(53):
        return _service_action(call)
    id, body = call.params["id"], call.body or {}
    call.check(body, s.update_service(call.version))
    if not is_uuid(id):
        raise BadRequest(f"Invalid uuid {id}")
    _refuse_internal(call, id=id)
    host = hosts.get_service(call.tx, id)
    changes: dict[str, Any] = {}
    if "status" in body:
        if body["status"] == "enabled" and body.get("disabled_reason"):
            raise BadRequest("Specifying 'disabled_reason' with status 'enabled' is invalid.")
        changes |= {"disabled": body["status"] == "disabled", "disabled_reason": body.get("disabled_reason")}
    if "forced_down" in body:
        changes["forced_down"] = str(body["forced_down"]).lower() in TRUE
    if not changes:
        raise BadRequest("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    return {"service": views.service(call, hosts.update_service(call.tx, host, **changes))}


def _service_action(call: Call) -> dict[str, Any]:
    action, body = call.params["id"], call.body
    call.check(body, s.service_action(call.version))
    changes: dict[str, Any]
    if action == "enable":
        changes = {"disabled": False, "disabled_reason": None}
    elif action == "disable":
        changes = {"disabled": True}
    elif action == "disable-log-reason":
        if "disabled_reason" not in body:
            raise BadRequest("Missing disabled reason field")
        changes = {"disabled": True, "disabled_reason": body["disabled_reason"]}
    elif action == "force-down" and call.since(11):
        if "forced_down" not in body:
            raise BadRequest("Missing forced_down field")
        changes = {"forced_down": str(body["forced_down"]).lower() in TRUE}
    else:
        raise NotFound("Unknown action")
    _refuse_internal(call, binary=body["binary"])
    host = hosts.find(call.tx, body["host"])
    if host is None or body["binary"] != "nova-compute":
        raise NotFound(f"Could not find binary {body['binary']} on host {body['host']}.")
    host = hosts.update_service(call.tx, host, **changes)
    names = {"enable": ("status",), "disable": ("status",), "disable-log-reason": ("status", "disabled_reason")}
    shown = views.service(call, host)
    return {"service": {name: shown[name] for name in ("host", "binary", *names.get(action, ("forced_down",)))}}


def delete_service(call: Call) -> None:
    id = call.params["id"]
    if call.since(53) and not is_uuid(id):
        raise BadRequest(f"Invalid uuid {id}")
    _refuse_internal(call, id=id)
    if call.since(53):
        host = hosts.get_service(call.tx, id)
    else:
        found = [row for row in hosts.list_hosts(call.tx) if str(row["number"]) == id]
        if not found:
            raise NotFound(f"Service {id} not found.")
        host = found[0]
    if _servers_on(call.tx, host["hostname"]):
        raise Conflict(
            "Unable to delete compute service that is hosting instances. Migrate or delete the instances first."
        )
    hosts.delete(call.tx, host)


# --- hypervisors -------------------------------------------------------------------------------------------------------


def hypervisors(call: Call) -> dict[str, Any]:
    return _hypervisors(call, detail=False)


def hypervisors_detail(call: Call) -> dict[str, Any]:
    return _hypervisors(call, detail=True)


def _hypervisors(call: Call, *, detail: bool) -> dict[str, Any]:
    rows = hosts.list_hosts(call.tx)
    pattern = call.arg("hypervisor_hostname_pattern") if call.since(53) else None
    size = paging.limit(call) if call.since(33) else len(rows)
    marker = call.arg("marker") if call.since(33) else None
    if pattern is not None:
        if call.arg("limit") is not None or marker is not None:
            raise BadRequest(
                "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported."
            )
        rows = _matching(rows, pattern)
    if marker is not None:
        key = "uuid" if call.since(53) else "number"
        place = next((place for place, row in enumerate(rows) if str(row[key]) == marker), None)
        if place is None:
            raise BadRequest(f"marker [{marker}] not found")
        rows = rows[place + 1 :]
    rows = rows[:size]
    used = views.used_by_host(call.tx) if detail else {}
    bodies = [views.hypervisor(call, row, used.get(row["hostname"], NO_USE) if detail else None) for row in rows]
    if _with_servers(call):
        bodies = [body | _servers_body(call, row["hostname"]) for body, row in zip(bodies, rows, strict=True)]
    out: dict[str, Any] = {"hypervisors": bodies}
    url = f"{call.api_url}/os-hypervisors{'/detail' if detail else ''}"
    if call.since(33) and rows and pattern is None:
        links = paging.next_link(call, rows, size, url, str(bodies[-1]["id"]))
        out |= {"hypervisors_links": links} if links else {}
    return out


def _matching(rows: list[sa.RowMapping], pattern: str) -> list[sa.RowMapping]:
    found = [row for row in rows if pattern in row["hostname"]]
    if not found:
        raise NotFound(f"No hypervisor matching '{pattern}' could be found.")
    return found


def _with_servers(call: Call) -> bool:
    text = call.arg("with_servers") if call.since(53) else None
    if text is not None and text.lower() not in (*TRUE, "0", "f", "false", "off", "n", "no"):
        raise BadRequest(f"Invalid input for query parameters with_servers. Value: {text}. It is not a boolean")
    return text is not None and text.lower() in TRUE


def _servers_on(tx: Tx, host: str) -> list[sa.RowMapping]:
    query = sa.select(SERVERS).where(SERVERS.c.host == host, SERVERS.c.deleted_at.is_(None))
    return tx.all(query.order_by(SERVERS.c.number))


def _servers_body(call: Call, host: str) -> dict[str, Any]:
    """The servers of a hypervisor; without any the key is left out before 2.75."""
    found = [{"name": views.instance_name(row), "uuid": row["id"]} for row in _servers_on(call.tx, host)]
    return {"servers": found} if found or call.since(75) else {}


def hypervisor(call: Call) -> dict[str, Any]:
    row = hosts.get_hypervisor(call.tx, call.params["id"], call.since(53))
    body = views.hypervisor(call, row, views.used_by_host(call.tx).get(row["hostname"], NO_USE))
    if _with_servers(call):
        body |= _servers_body(call, row["hostname"])
    return {"hypervisor": body}


def hypervisor_uptime(call: Call) -> dict[str, Any]:
    row = hosts.get_hypervisor(call.tx, call.params["id"], call.since(53))
    text = views.uptime(row)
    if text is None:
        raise BadRequest(f"Compute service of {row['hostname']} is unavailable at this time.")
    return {"hypervisor": views.hypervisor(call, row, None) | {"uptime": text}}


def hypervisor_search(call: Call) -> dict[str, Any]:
    rows = _matching(hosts.list_hosts(call.tx), call.params["id"])
    return {"hypervisors": [views.hypervisor(call, row, None) for row in rows]}


def hypervisor_servers(call: Call) -> dict[str, Any]:
    rows = _matching(hosts.list_hosts(call.tx), call.params["id"])
    return {"hypervisors": [views.hypervisor(call, row, None) | _servers_body(call, row["hostname"]) for row in rows]}


def statistics(call: Call) -> dict[str, Any]:
    """Sums over the hosts that are not disabled."""
    names = ("vcpus", "memory_mb", "local_gb", "vcpus_used", "memory_mb_used", "local_gb_used", "free_ram_mb",
             "free_disk_gb", "current_workload", "running_vms", "disk_available_least")  # fmt: skip
    used = views.used_by_host(call.tx)
    rows = call.tx.all(sa.select(HOSTS).where(HOSTS.c.disabled.is_(False)))
    bodies = [views.hypervisor(call, row, used.get(row["hostname"], NO_USE)) for row in rows]
    return {
        "hypervisor_statistics": {"count": len(rows)} | {name: sum(body[name] for body in bodies) for name in names}
    }


# --- quotas and limits -------------------------------------------------------------------------------------------------

LIMIT_NAMES = {
    "metadata_items": ("maxServerMeta", "maxImageMeta"), "injected_files": ("maxPersonality",),
    "injected_file_content_bytes": ("maxPersonalitySize",), "instances": ("maxTotalInstances",),
    "cores": ("maxTotalCores",), "ram": ("maxTotalRAMSize",), "key_pairs": ("maxTotalKeypairs",),
    "floating_ips": ("maxTotalFloatingIps",), "security_groups": ("maxSecurityGroups",),
    "security_group_rules": ("maxSecurityGroupRules",), "server_groups": ("maxServerGroups",),
    "server_group_members": ("maxServerGroupMembers",),
}  # fmt: skip
USED_NAMES = {
    "ram": "totalRAMUsed", "cores": "totalCoresUsed", "instances": "totalInstancesUsed",
    "floating_ips": "totalFloatingIpsUsed", "security_groups": "totalSecurityGroupsUsed",
    "server_groups": "totalServerGroupsUsed",
}  # fmt: skip


def limits(call: Call) -> dict[str, Any]:
    project = call.arg("tenant_id")
    if project is not None and not call.context.is_admin:
        raise Forbidden("Policy doesn't allow os_compute_api:limits:other_project to be performed.")
    project = project or call.context.project_id
    shown, allowed, used = (
        quotas.shown(call.version[1]),
        quotas.limits(call.tx, project),
        quotas.usages(call.tx, project),
    )
    absolute = {name: allowed[key] for key, names in LIMIT_NAMES.items() if key in shown for name in names}
    if call.since(39):
        del absolute["maxImageMeta"]
    absolute |= {name: used[key] for key, name in USED_NAMES.items() if key in shown}
    return {"limits": {"rate": [], "absolute": absolute}}


def _project(call: Call) -> str:
    """The path's project: everyone's own, administrators' any that there is."""
    id = call.params["id"]
    if not call.context.is_admin and id != call.context.project_id:
        raise Forbidden("Policy doesn't allow os_compute_api:os-quota-sets:show to be performed.")
    quotas.check_project(call.tx, id)
    return id


def quota_set(call: Call) -> dict[str, Any]:
    id = _project(call)
    found = quotas.limits(call.tx, id, call.arg("user_id"))
    return {"quota_set": {"id": id} | {name: found[name] for name in quotas.shown(call.version[1])}}


def quota_detail(call: Call) -> dict[str, Any]:
    id, user = _project(call), call.arg("user_id")
    found, used = quotas.limits(call.tx, id, user), quotas.usages(call.tx, id, user)
    details = {
        name: {"limit": found[name], "in_use": used[name], "reserved": 0} for name in quotas.shown(call.version[1])
    }
    return {"quota_set": {"id": id} | details}


def quota_defaults(call: Call) -> dict[str, Any]:
    id, found = call.params["id"], quotas.defaults(call.tx)
    return {"quota_set": {"id": id} | {name: found[name] for name in quotas.shown(call.version[1])}}


def _quota_schema(call: Call, key: str, *extra: str) -> dict[str, Any]:
    properties: dict[str, Any] = dict.fromkeys(quotas.shown(call.version[1]), s.LIMIT)
    return s.closed({key: s.closed(properties | dict.fromkeys(extra, s.BOOLEAN))}, (key,))


def update_quota(call: Call) -> dict[str, Any]:
    call.check(call.body, _quota_schema(call, "quota_set", "force"))
    id, user, wanted = _project(call), call.arg("user_id"), dict(call.body["quota_set"])
    if user and len(user) > 32:
        raise BadRequest(f"User ID {user[:80]} is not a valid user.")
    force = str(wanted.pop("force", False)).lower() in TRUE
    quotas.update(call.tx, id, user, wanted, force)
    found = quotas.limits(call.tx, id, user)
    return {"quota_set": {name: found[name] for name in quotas.shown(call.version[1])}}


def delete_quota(call: Call) -> None:
    quotas.reset(call.tx, call.params["id"], call.arg("user_id"))


def quota_class(call: Call) -> dict[str, Any]:
    name, found = call.params["id"], quotas.class_limits(call.tx, call.params["id"])
    return {"quota_class_set": {"id": name} | {key: found[key] for key in _class_names(call)}}


def _class_names(call: Call) -> list[str]:
    """Classes lost the network's quotas, and got those of server groups, in 2.50."""
    if call.since(50):
        return quotas.shown(call.version[1])
    return [name for name in quotas.shown(1) if name not in ("server_groups", "server_group_members")]


def update_quota_class(call: Call) -> dict[str, Any]:
    call.check(call.body, _quota_schema(call, "quota_class_set"))
    name = call.params["id"]
    if len(name) > 64:
        raise BadRequest(f"The quota class name {name[:80]} is longer than 64 characters.")
    quotas.store(call.tx, f"class:{name}", {key: int(value) for key, value in call.body["quota_class_set"].items()})
    found = quotas.class_limits(call.tx, name)
    return {"quota_class_set": {key: found[key] for key in _class_names(call)}}
