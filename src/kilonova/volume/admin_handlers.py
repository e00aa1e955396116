"""Services, hosts, pools, quotas and limits over HTTP; and what the service says of itself."""

from typing import Any

import sqlalchemy as sa

from kilonova.model.errors import BadRequest, Forbidden, NotFound
from kilonova.volume import quotas, scheduler, services, types
from kilonova.volume.listing import FILTERS
from kilonova.volume.requests import bad_input, flag, stamp
from kilonova.volume.tables import SNAPSHOTS, VOLUMES
from kilonova.web.call import Call, Reply

LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")


# Services


def service_index(call: Call) -> dict[str, Any]:
    wanted = {"host": call.arg("host"), "binary": call.arg("binary") or call.arg("service")}
    rows = services.listed(call.tx, **{name: value for name, value in wanted.items() if value})
    return {"services": [_service(call, row) for row in rows]}


def _service(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    body = {
        "binary": row["binary"],
        "host": row["host"],
        "zone": row["availability_zone"],
        "status": "disabled" if row["disabled"] else "enabled",
        "state": "up" if services.is_up(row) else "down",
        "updated_at": stamp(row["last_seen_at"]),
        "disabled_reason": row["disabled_reason"],
    }
    if call.since(7):
        body["cluster"] = None
    if row["binary"] == services.VOLUME:
        body |= {"replication_status": "disabled", "active_backend_id": None, "frozen": row["frozen"]}
        if call.since(49):
            body["backend_state"] = body["state"]
    return body


def _asked_service(call: Call) -> sa.RowMapping:
    binary = call.body.get("binary") or call.body.get("service")
    if not binary:
        raise bad_input("Name the service: 'binary' is missing.")
    return services.get(call.tx, call.body["host"], binary)


def service_enable(call: Call) -> dict[str, Any]:
    return _set_service(call, disabled=False)


def service_disable(call: Call) -> dict[str, Any]:
    return _set_service(call, disabled=True)


def service_disable_log_reason(call: Call) -> dict[str, Any]:
    return _set_service(call, disabled=True, reason=call.body["disabled_reason"])


def _set_service(call: Call, *, disabled: bool, reason: str | None = None) -> dict[str, Any]:
    row = _asked_service(call)
    services.update(call.tx, row, disabled=disabled, disabled_reason=reason)
    body = {
        "host": row["host"], "service": row["binary"], "binary": row["binary"], "disabled": disabled,
        "status": "disabled" if disabled else "enabled",
    }  # fmt: skip
    return body | ({"disabled_reason": reason} if reason is not None else {})


def freeze(call: Call) -> Reply:
    """The backend takes nothing new: as Cinder's, its service is disabled by it (manager.freeze_host)."""
    return _set_frozen(call, frozen=True, disabled=True, disabled_reason="frozen")


def thaw(call: Call) -> Reply:
    return _set_frozen(call, frozen=False, disabled=False, disabled_reason=None)


def _set_frozen(call: Call, **values: Any) -> Reply:
    services.update(call.tx, services.get_backend(call.tx, call.body["host"]), **values)
    return Reply(status=200)


def failover_host(call: Call) -> Reply:
    services.get_backend(call.tx, call.body["host"])
    raise bad_input("This cloud's backends have no replication to fail over to.")


def get_log(call: Call) -> dict[str, Any]:
    """3.32. One process, one level."""
    found = []
    for row in services.listed(call.tx):
        if call.body.get("server") in (None, "", row["host"]) and call.body.get("binary") in (
            None,
            "",
            "*",
            row["binary"],
        ):
            found.append({"binary": row["binary"], "host": row["host"], "levels": {"kilonova": "INFO"}})
    return {"log_levels": found}


def set_log(call: Call) -> Any:
    raise Forbidden("Log levels are set for the whole cloud when it is started, not by request.")


# Hosts, pools, capabilities


def host_index(call: Call) -> dict[str, Any]:
    rows = services.listed(call.tx, disabled=False)
    zone = call.arg("zone")
    return {"hosts": [_host(row) for row in rows if not zone or row["availability_zone"] == zone]}


def _host(row: sa.RowMapping) -> dict[str, Any]:
    return {
        "host_name": row["host"],
        "service": row["binary"],
        "zone": row["availability_zone"],
        "service-status": "available" if services.is_up(row) else "unavailable",
        "service-state": "disabled" if row["disabled"] else "enabled",
        "last-update": stamp(row["last_seen_at"]),
    }


def host_show(call: Call) -> dict[str, Any]:
    name = call.params["id"]
    found = services.listed(call.tx, host=name, binary=services.VOLUME)
    if not found:
        raise NotFound(f"Service cinder-volume could not be found on host {name}.")
    here = (VOLUMES.c.host == found[0]["machine"]) & (VOLUMES.c.backend == found[0]["backend"])
    volumes = call.tx.all(sa.select(VOLUMES.c.project_id, VOLUMES.c.size).where(here))
    joined = sa.select(SNAPSHOTS.c.project_id, SNAPSHOTS.c.size).join(VOLUMES, SNAPSHOTS.c.volume_id == VOLUMES.c.id)
    snapshots = call.tx.all(joined.where(here))
    projects = sorted({row["project_id"] for row in (*volumes, *snapshots)})
    resources = [_usage(name, "(total)", volumes, snapshots)]
    for project in projects:
        mine = [[row for row in rows if row["project_id"] == project] for rows in (volumes, snapshots)]
        resources.append(_usage(name, project, *mine))
    return {"host": resources}


def _usage(host: str, project: str, volumes: Any, snapshots: Any) -> dict[str, Any]:
    return {
        "resource": {
            "host": host,
            "project": project,
            "volume_count": str(len(volumes)),
            "total_volume_gb": str(sum(row["size"] for row in volumes)),
            "snapshot_count": str(len(snapshots)),
            "total_snapshot_gb": str(sum(row["size"] for row in snapshots)),
        }
    }


def host_update(call: Call) -> Any:
    raise BadRequest("A host is not enabled or disabled as a whole: enable or disable its services (os-services).")


def pools(call: Call) -> dict[str, Any]:
    found = []
    for row in services.listed(call.tx, binary=services.VOLUME):
        name = services.pool_name(row)
        if call.since(28) and call.arg("name") not in (None, name):
            continue
        if call.since(35) and call.arg("volume_type") and not _takes(call, row):
            continue
        pool = {"name": name}
        if flag(call, "detail"):
            pool["capabilities"] = services.capabilities(call.tx, row)  # type: ignore[assignment]
        found.append(pool)
    return {"pools": found}


def _takes(call: Call, row: sa.RowMapping) -> bool:
    wanted = types.by_name_or_id(call.tx, call.context, call.arg("volume_type") or "")
    return scheduler.refusal(call.tx, row, wanted, 0, None) is None


def capabilities(call: Call) -> dict[str, Any]:
    name = call.params["id"]
    found = services.listed(call.tx, host=name.partition("#")[0], binary=services.VOLUME)
    if not found:
        raise NotFound(f"Service cinder-volume could not be found on host {name}.")
    has = services.capabilities(call.tx, found[0])
    return {
        "namespace": f"OS::Storage::Capabilities::{name}",
        "vendor_name": has["vendor_name"],
        "volume_backend_name": has["volume_backend_name"],
        "pool_name": has["pool_name"],
        "driver_version": has["driver_version"],
        "storage_protocol": has["storage_protocol"],
        "display_name": None,
        "description": None,
        "visibility": "public",
        "replication_targets": [],
        "properties": {},
    }


# Quotas and limits


def _quota_project(call: Call) -> str:
    project = call.params["id"]
    if not call.context.is_admin and project != call.context.project_id:
        raise Forbidden("Policy doesn't allow volume_extension:quotas:show to be performed.")
    return project


def quota_show(call: Call) -> dict[str, Any]:
    project = _quota_project(call)
    found: dict[str, Any] = dict(quotas.limits(call.tx, project))
    if flag(call, "usage"):
        used = quotas.usages(call.tx, project)
        found = {name: {"limit": value, **used[name], "allocated": 0} for name, value in found.items()}
    return {"quota_set": {**found, "id": project}}


def quota_defaults(call: Call) -> dict[str, Any]:
    return {"quota_set": {**quotas.defaults(call.tx), "id": _quota_project(call)}}


def quota_update(call: Call) -> dict[str, Any]:
    quotas.update(call.tx, call.params["id"], call.body["quota_set"])
    return {"quota_set": quotas.limits(call.tx, call.params["id"])}


def quota_delete(call: Call) -> None:
    quotas.reset(call.tx, call.params["id"])


def quota_class_show(call: Call) -> dict[str, Any]:
    name = call.params["id"]
    return {"quota_class_set": {**quotas.class_limits(call.tx, name), "id": name}}


def quota_class_update(call: Call) -> dict[str, Any]:
    name, known = call.params["id"], quotas.class_limits(call.tx, call.params["id"])
    wanted = {key: int(value) for key, value in call.body["quota_class_set"].items() if key not in ("id", "class_name")}
    unknown = [key for key in wanted if key not in known]
    if unknown:
        raise BadRequest(f"Bad key in quota class set: {', '.join(unknown)}")
    quotas.store(call.tx, f"class:{name}", wanted)
    return {"quota_class_set": quotas.class_limits(call.tx, name)}


def limits(call: Call) -> dict[str, Any]:
    project = call.context.project_id
    if call.since(39) and call.context.is_admin and call.arg("project_id"):
        project = call.arg("project_id") or project
    allowed, used = quotas.limits(call.tx, project), quotas.usages(call.tx, project)
    names = {"gigabytes": "VolumeGigabytes", "backup_gigabytes": "BackupGigabytes", "volumes": "Volumes",
             "snapshots": "Snapshots", "backups": "Backups"}  # fmt: skip
    taken = {"gigabytes": "Gigabytes", "backup_gigabytes": "BackupGigabytes", "volumes": "Volumes",
             "snapshots": "Snapshots", "backups": "Backups"}  # fmt: skip
    absolute = {f"maxTotal{word}": allowed[name] for name, word in names.items()}
    absolute |= {f"total{word}Used": used[name]["in_use"] + used[name]["reserved"] for name, word in taken.items()}
    return {"limits": {"rate": [], "absolute": absolute}}


# What the service says of itself


def zones(call: Call) -> dict[str, Any]:
    found = [{"zoneName": name, "zoneState": {"available": up}} for name, up in services.zones(call.tx).items()]
    return {"availabilityZoneInfo": found}


def resource_filters(call: Call) -> dict[str, Any]:
    wanted = call.arg("resource")
    found = [{"resource": name, "filters": words} for name, words in FILTERS.items() if wanted in (None, name)]
    return {"resource_filters": found}


EXTENSIONS = {  # alias → (name, description)
    "os-vol-host-attr": ("VolumeHostAttribute", "Expose host as an attribute of a volume."),
    "os-vol-tenant-attr": ("VolumeTenantAttribute", "Expose the internal project_id as an attribute of a volume."),
    "os-vol-mig-status-attr": ("VolumeMigStatusAttribute", "Expose migration_status as an attribute of a volume."),
    "os-quota-sets": ("Quotas", "Quota management support."),
    "os-quota-class-sets": ("QuotaClasses", "Quota classes management support."),
    "os-types-manage": ("TypesManage", "Types manage support."),
    "os-types-extra-specs": ("TypesExtraSpecs", "Type extra specs support."),
    "os-volume-type-access": ("VolumeTypeAccess", "Volume type access support."),
    "os-volume-actions": ("VolumeActions", "Enable volume actions."),
    "os-admin-actions": ("AdminActions", "Enable admin actions."),
    "os-snapshot-actions": ("SnapshotActions", "Enable snapshot manager actions."),
    "os-extended-snapshot-attributes": ("ExtendedSnapshotAttributes", "Extended SnapshotAttributes support."),
    "os-vol-image-meta": ("VolumeImageMetadata", "Show image metadata associated with the volume."),
    "os-volume-transfer": ("VolumeTransfer", "Volume transfer management support."),
    "os-volume-unmanage": ("VolumeUnmanage", "Enable volume unmanage operation."),
    "os-snapshot-unmanage": ("SnapshotUnmanage", "Enable volume unmanage operation."),
    "os-volume-manage": ("VolumeManage", "Allows existing backend storage to be managed by Cinder."),
    "os-snapshot-manage": ("SnapshotManage", "Allows existing backend snapshots to be managed by Cinder."),
    "os-services": ("Services", "Services support."),
    "os-hosts": ("Hosts", "Admin-only host administration."),
    "os-availability-zone": ("AvailabilityZones", "Describe Availability Zones."),
    "os-used-limits": ("UsedLimits", "Provide data on limited resources that are being used."),
    "backups": ("Backups", "Backups support."),
    "qos-specs": ("Qos_specs_manage", "QoS specs support."),
    "capabilities": ("Capabilities", "Capabilities support."),
    "scheduler-stats": ("Scheduler_stats", "Scheduler stats support."),
    "OS-SCH-HNT": ("SchedulerHints", "Pass arbitrary key/value pairs to the scheduler."),
}


def extensions(call: Call) -> dict[str, Any]:
    return {
        "extensions": [
            {"alias": alias, "name": name, "description": text, "links": [], "updated": "2013-01-01T00:00:00+00:00"}
            for alias, (name, text) in EXTENSIONS.items()
        ]
    }


def nothing(name: str) -> Any:
    """A list of what this cloud never has."""

    def handler(call: Call) -> dict[str, Any]:
        return {name: []}

    return handler


def not_there(what: str) -> Any:
    def handler(call: Call) -> Any:
        raise NotFound(f"{what} {call.params.get('id', '')} could not be found.".replace("  ", " "))

    return handler


def cleanup(call: Call) -> dict[str, Any]:
    """3.24: nobody's work is left behind here that a restart does not take up."""
    return {"cleaning": [], "unavailable": []}
