"""Rows as Cinder's bodies."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.volume import parts, services
from kilonova.volume.requests import links, stamp
from kilonova.volume.tables import ATTACHMENTS, TYPES, VOLUMES
from kilonova.web.call import Call

Row = sa.RowMapping
STATUSES = {"managing": "creating", "error_managing": "error", "error_managing_deleting": "deleting"}
VISIBLE_SPECS = ("multiattach", "RESKEY:availability_zones", "replication_enabled")  # for those who are no admins


def volume_summary(call: Call, row: Row) -> dict[str, Any]:
    return {"id": row["id"], "name": row["name"], "links": links(call, "volumes", row["id"])}


def volume_details(call: Call, rows: list[Row]) -> list[dict[str, Any]]:
    """Each as GET /volumes/{id} shows it."""
    ids = [row["id"] for row in rows]
    names = dict(call.tx.execute(sa.select(TYPES.c.id, TYPES.c.name)).tuples().all())
    query = sa.select(ATTACHMENTS).where(ATTACHMENTS.c.volume_id.in_(ids)).order_by(ATTACHMENTS.c.created_at)
    attached: dict[str, list[Row]] = {}
    for one in call.tx.all(query) if ids else []:
        attached.setdefault(one["volume_id"], []).append(one)
    return [
        {**_volume(call, row, names, attached.get(row["id"], [])), **_extended(call, row), **_later(call, row)}
        for row in rows
    ]


def volume(call: Call, row: Row) -> dict[str, Any]:
    return {"volume": volume_details(call, [row])[0]}


def volume_made(call: Call, row: Row) -> dict[str, Any]:
    """As a create or an update answers: without what extensions add to what is shown."""
    extended = _extended(call, row)
    return {"volume": {key: value for key, value in volume_details(call, [row])[0].items() if key not in extended}}


def _extended(call: Call, row: Row) -> dict[str, Any]:
    body: dict[str, Any] = {}
    if parts.may(call.context, parts.PROJECT):
        body["os-vol-tenant-attr:tenant_id"] = row["project_id"]
    if row["image_metadata"]:
        body["volume_image_metadata"] = row["image_metadata"]
    if parts.may(call.context, parts.HOST):
        body["os-vol-host-attr:host"] = services.host_of(row)
    if parts.may(call.context, parts.MIGRATION):
        body |= {"os-vol-mig-status-attr:migstat": row["migration_status"], "os-vol-mig-status-attr:name_id": None}
    return body


def _volume(call: Call, row: Row, types: dict[str, str], attached: list[Row]) -> dict[str, Any]:
    metadata = dict(row["metadata"])
    if row["readonly"] is not None:
        metadata["readonly"] = str(row["readonly"])
    body = {
        "id": row["id"],
        "status": STATUSES.get(row["status"], row["status"]),
        "size": row["size"],
        "availability_zone": row["availability_zone"],
        "created_at": stamp(row["created_at"]),
        "updated_at": stamp(row["updated_at"]),
        "name": row["name"],
        "description": row["description"],
        "volume_type": types.get(row["type_id"]),
        "snapshot_id": row["snapshot_id"],
        "source_volid": row["source_volid"],
        "metadata": metadata,
        "links": links(call, "volumes", row["id"]),
        "user_id": row["user_id"],
        "bootable": str(row["bootable"]).lower(),
        "encrypted": False,
        "replication_status": None,
        "consistencygroup_id": None,
        "multiattach": row["multiattach"],
        "attachments": [_attached(call, one) for one in attached if one["status"] == "attached"],
    }
    return body | ({"migration_status": row["migration_status"]} if call.context.is_admin else {})


def _later(call: Call, row: Row) -> dict[str, Any]:
    """What newer microversions add."""
    admin = call.context.is_admin
    added = (
        (13, True, {"group_id": row["group_id"]}),
        (21, admin, {"provider_id": None}),
        (48, True, {"shared_targets": False, "service_uuid": None}),
        (61, admin, {"cluster_name": None}),
        (63, True, {"volume_type_id": row["type_id"]}),
        (65, True, {"consumes_quota": True}),
    )
    body: dict[str, Any] = {}
    for minor, shown, fields in added:
        if shown and call.since(minor):
            body |= fields
    return body


def _attached(call: Call, row: Row) -> dict[str, Any]:
    privileged = call.context.is_admin or "service" in call.context.roles
    return {
        "id": row["volume_id"],
        "attachment_id": row["id"],
        "volume_id": row["volume_id"],
        "server_id": row["server_id"],
        "host_name": row["attached_host"] if privileged else None,
        "device": row["mountpoint"],
        "attached_at": stamp(row["attached_at"]),
    }


def snapshot(call: Call, row: Row, *, detail: bool = False) -> dict[str, Any]:
    body = {
        "id": row["id"],
        "created_at": stamp(row["created_at"]),
        "updated_at": stamp(row["updated_at"]),
        "name": row["name"],
        "description": row["description"],
        "volume_id": row["volume_id"],
        "status": row["status"],
        "size": row["size"],
        "metadata": row["metadata"],
    }
    if not detail:
        return body
    if parts.may(call.context, parts.SNAPSHOT):
        body |= {
            "os-extended-snapshot-attributes:project_id": row["project_id"],
            "os-extended-snapshot-attributes:progress": row["progress"],
        }
    if call.since(14):
        body["group_snapshot_id"] = row["group_snapshot_id"]
    if call.since(41):
        body["user_id"] = row["user_id"]
    if call.since(65):
        body["consumes_quota"] = True
    return body


def volume_type(call: Call, row: Row) -> dict[str, Any]:
    body = {name: row[name] for name in ("id", "name", "is_public", "description")}
    if parts.may(call.context, parts.EXTRA_SPECS):
        body["extra_specs"] = extra_specs(call, row)
    if parts.may(call.context, parts.IS_PUBLIC):
        body["os-volume-type-access:is_public"] = row["is_public"]
    if parts.may(call.context, parts.QOS_SPECS):
        body["qos_specs_id"] = row["qos_specs_id"]
    return body


def extra_specs(call: Call, row: Row) -> dict[str, str]:
    """Of a volume type, those that the caller may see."""
    specs: dict[str, str] = row["extra_specs"]
    if parts.may(call.context, parts.ALL_EXTRA_SPECS):
        return specs
    return {key: specs[key] for key in VISIBLE_SPECS if key in specs}


def volume_type_made(call: Call, row: Row) -> dict[str, Any]:
    """As a create or an update answers."""
    return {key: value for key, value in volume_type(call, row).items() if key != "qos_specs_id"}


def backup_summary(call: Call, row: Row) -> dict[str, Any]:
    return {"id": row["id"], "name": row["name"], "links": links(call, "backups", row["id"])}


def backup(call: Call, row: Row, *, has_children: bool) -> dict[str, Any]:
    body = {
        "id": row["id"],
        "status": row["status"],
        "size": row["size"],
        "object_count": row["object_count"],
        "availability_zone": row["availability_zone"],
        "container": row["container"],
        "created_at": stamp(row["created_at"]),
        "updated_at": stamp(row["updated_at"]),
        "name": row["name"],
        "description": row["description"],
        "fail_reason": row["fail_reason"],
        "volume_id": row["volume_id"],
        "links": links(call, "backups", row["id"]),
        "is_incremental": row["parent_id"] is not None,
        "has_dependent_backups": has_children,
        "snapshot_id": row["snapshot_id"],
        "data_timestamp": stamp(row["data_timestamp"]),
    }
    if call.since(43):
        body["metadata"] = row["metadata"]
    if call.since(18) and parts.may(call.context, parts.OF_BACKUP):
        body["os-backup-project-attr:project_id"] = row["project_id"]
    if call.since(56):
        body["user_id"] = row["user_id"]
    return body


def transfer_summary(call: Call, row: Row) -> dict[str, Any]:
    where = links(call, "os-volume-transfer", row["id"])
    return {"id": row["id"], "volume_id": row["volume_id"], "name": row["name"], "links": where}


def transfer(call: Call, row: Row) -> dict[str, Any]:
    body = transfer_summary(call, row) | {"created_at": stamp(row["created_at"])}
    if call.since(55):
        body["no_snapshots"] = row["no_snapshots"]
    if call.since(57):
        body |= {
            "destination_project_id": None,
            "source_project_id": row["source_project_id"],
            "accepted": False,
        }
    return body


def attachment_summary(row: Row) -> dict[str, Any]:
    return {"id": row["id"], "status": row["status"], "instance": row["server_id"], "volume_id": row["volume_id"]}


def attachment(row: Row) -> dict[str, Any]:
    return attachment_summary(row) | {
        "attached_at": stamp(row["attached_at"]) or "",
        "detached_at": "",
        "attach_mode": row["mode"] or "null",
        "connection_info": row["connection_info"] or {},
    }


def group(call: Call, row: Row) -> dict[str, Any]:
    body = {
        "id": row["id"],
        "status": row["status"],
        "availability_zone": row["availability_zone"],
        "created_at": stamp(row["created_at"]),
        "name": row["name"],
        "description": row["description"],
        "group_type": row["group_type_id"],
        "volume_types": row["volume_type_ids"],
    }
    if call.since(14):
        body |= {"group_snapshot_id": row["group_snapshot_id"], "source_group_id": row["source_group_id"]}
    if call.since(25) and call.arg("list_volume", "").lower() == "true":  # type: ignore[union-attr]
        body["volumes"] = volume_ids(call.tx, row["id"])
    if call.since(38):
        body["replication_status"] = "disabled"
    if call.since(58) and parts.may(call.context, parts.OF_GROUP):
        body["project_id"] = row["project_id"]
    return body


def volume_ids(tx: Tx, group_id: str) -> list[str]:
    query = sa.select(VOLUMES.c.id).where(VOLUMES.c.group_id == group_id).order_by(VOLUMES.c.created_at, VOLUMES.c.id)
    return list(tx.execute(query).scalars())


def group_snapshot_summary(row: Row) -> dict[str, Any]:
    return {"id": row["id"], "name": row["name"], "group_type_id": row["group_type_id"]}


def group_snapshot(call: Call, row: Row) -> dict[str, Any]:
    body = {
        "id": row["id"],
        "group_id": row["group_id"],
        "group_type_id": row["group_type_id"],
        "status": row["status"],
        "created_at": stamp(row["created_at"]),
        "name": row["name"],
        "description": row["description"],
    }
    if call.since(58) and parts.may(call.context, parts.OF_GROUP_SNAPSHOT):
        body["project_id"] = row["project_id"]
    return body


def group_type(call: Call, row: Row) -> dict[str, Any]:
    body = {name: row[name] for name in ("id", "name", "description", "is_public")}
    return body | ({"group_specs": row["group_specs"]} if parts.may(call.context, parts.GROUP_SPECS) else {})
