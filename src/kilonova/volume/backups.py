"""Backups of volumes: made, restored, exported and imported, asked to go away (Cinder: `cinder/backup/api.py`)."""

import base64
import binascii
import datetime
import json
from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest
from kilonova.model.ids import new_id, now, read_time
from kilonova.volume import quotas, services, snapshots, states, volumes
from kilonova.volume.flows import Flows
from kilonova.volume.requests import bad_input, invalid, missing
from kilonova.volume.tables import BACKUPS
from kilonova.web import nesting
from kilonova.web.call import Context
from kilonova.web.policy import check_row
from kilonova.web.validate import is_uuid

SERVICE = "cinder.backup.drivers.kilonova"  # in exported records: clients know such words


def get(tx: Tx, context: Context, id: str) -> sa.RowMapping:
    row = states.find(tx, "backup", id)
    if row is None or (row["project_id"] != context.project_id and not context.is_admin):
        raise missing("Backup", id)
    check_row(context, "volume", row)
    return row


def create(tx: Tx, context: Context, asked: dict[str, Any], flows: Flows) -> sa.RowMapping:
    """`asked`: volume_id, name, description, container, snapshot_id, force, incremental, metadata, availability_zone."""
    volume = volumes.get(tx, context, asked["volume_id"])
    snapshot = snapshots.get(tx, context, asked["snapshot_id"]) if asked.get("snapshot_id") else None
    if snapshot is not None and snapshot["volume_id"] != volume["id"]:
        raise invalid("snapshot", f"Snapshot {snapshot['id']} is not one of volume {volume['id']}.")
    _check(volume, snapshot, bool(asked.get("force")))
    zone = asked.get("availability_zone") or volume["availability_zone"]
    if zone not in services.zones(tx):
        raise bad_input(f"Availability zone '{zone}' is invalid.")
    when = snapshot["created_at"] if snapshot is not None else now()
    parent = _parent(tx, volume["id"], when) if asked.get("incremental") else None
    quotas.reserve(tx, context.project_id, backups=1, backup_gigabytes=volume["size"])
    id = new_id()
    made = {
        "id": id, "location": id, "project_id": context.project_id, "user_id": context.user_id, "status": "creating",
        "name": asked.get("name"), "description": asked.get("description"), "volume_id": volume["id"],
        "snapshot_id": asked.get("snapshot_id"), "parent_id": parent, "size": volume["size"], "host": volume["host"],
        "backend": volume["backend"], "availability_zone": zone, "data_timestamp": when, "created_at": now(),
        "metadata": asked.get("metadata") or {}, "bootable": volume["bootable"],
        "image_metadata": volume["image_metadata"], "container": asked.get("container"),
    }  # fmt: skip
    tx.execute(BACKUPS.insert().values(**made))
    if snapshot is not None:
        states.update(tx, "snapshot", snapshot["id"], status="backing-up")
    else:
        states.update(tx, "volume", volume["id"], status="backing-up", previous_status=volume["status"])
    flows.begin(tx, "create_backup", id, context, {})
    return states.get_row(tx, "backup", id)


def _check(volume: sa.RowMapping, snapshot: sa.RowMapping | None, force: bool) -> None:
    if snapshot is not None:
        if snapshot["status"] != "available":
            raise invalid(
                "snapshot",
                f'Snapshot to be backed up must be available, but the current status is "{snapshot["status"]}".',
            )
        return
    if volume["status"] not in ("available", "in-use"):
        raise invalid(
            "volume",
            f'Volume to be backed up must be available or in-use, but the current status is "{volume["status"]}".',
        )
    volumes.check_stays(volume, "back up")
    if volume["status"] == "in-use" and not force:
        raise invalid("volume", "Backing up an in-use volume must use the force flag.")


def _parent(tx: Tx, volume_id: str, when: datetime.datetime) -> str:
    """The newest whole backup of the volume's state before `when`."""
    where = (BACKUPS.c.volume_id == volume_id, BACKUPS.c.status == "available", BACKUPS.c.data_timestamp < when)
    newest = (BACKUPS.c.data_timestamp.desc(), BACKUPS.c.created_at.desc())
    found = tx.scalar(sa.select(BACKUPS.c.id).where(*where).order_by(*newest).limit(1))
    if found is None:
        raise invalid("backup", "No backups available to do an incremental backup.")
    tx.hold(BACKUPS.c.id, found)
    return str(found)


def children(tx: Tx, id: str) -> bool:
    return tx.scalar(sa.select(BACKUPS.c.id).where(BACKUPS.c.parent_id == id).limit(1)) is not None


def update(tx: Tx, context: Context, id: str, values: dict[str, Any]) -> sa.RowMapping:
    get(tx, context, id)
    states.update(tx, "backup", id, **values)
    return states.get_row(tx, "backup", id)


def delete(tx: Tx, context: Context, id: str, flows: Flows, *, force: bool = False) -> None:
    backup = get(tx, context, id)
    if not force and backup["status"] not in ("available", "error"):
        raise invalid("backup", "Backup status must be available or error")
    if children(tx, backup["id"]):
        raise invalid("backup", "Incremental backups exist for this backup.")
    states.update(tx, "backup", backup["id"], status="deleting")
    same = (BACKUPS.c.location == backup["location"]) & (BACKUPS.c.id != backup["id"])
    shared = tx.scalar(sa.select(BACKUPS.c.id).where(same).limit(1)) is not None
    flows.start(tx, "delete_backup", backup["id"], context, {"shared": shared})


def restore(tx: Tx, context: Context, id: str, volume_id: str | None, name: str | None, flows: Flows) -> sa.RowMapping:
    """Into the volume of that id, or into a new one; the volume."""
    backup = get(tx, context, id)
    if backup["status"] != "available":
        raise invalid("backup", "Backup status must be available")
    if volume_id is None:
        title = name or f"restore_backup_{id}"
        text = f"auto-created_from_restore_from_backup_{id}"
        wanted = volumes.Wanted(size=backup["size"], name=title, description=text, backup_id=id)
        return volumes.create(tx, context, wanted, flows)
    volume = volumes.get(tx, context, volume_id)
    if volume["status"] != "available":
        raise invalid("volume", "Volume to be restored to must be available")
    volumes.check_stays(volume, "restore to")
    if backup["size"] > volume["size"]:
        raise invalid(
            "volume", f"volume size {volume['size']} is too small to restore backup of size {backup['size']}."
        )
    if volume["host"] != backup["host"]:
        raise invalid("volume", f"the backup is kept by host {backup['host']}, the volume is on {volume['host']}.")
    states.update(tx, "volume", volume["id"], status="restoring-backup", previous_status="available")
    states.update(tx, "backup", id, status="restoring", restore_volume_id=volume["id"])
    flows.begin(tx, "restore_backup", volume["id"], context, {"backup_id": id, "location": backup["location"]})
    return states.get_row(tx, "volume", volume["id"])


EXPORTED = ("id", "location", "name", "description", "volume_id", "size", "object_count", "availability_zone", "host",
            "backend", "metadata", "bootable", "image_metadata", "container")  # fmt: skip


def export(tx: Tx, context: Context, id: str) -> dict[str, str]:
    backup = get(tx, context, id)
    if backup["status"] != "available":
        raise invalid("backup", f"Backup status must be available and not {backup['status']}.")
    if backup["parent_id"]:
        raise invalid("backup", "An incremental backup is of no use without its parents: it is not exported.")
    record = {name: backup[name] for name in EXPORTED} | {"data_timestamp": backup["data_timestamp"].isoformat()}
    return {"backup_service": SERVICE, "backup_url": base64.b64encode(json.dumps(record).encode()).decode()}


def import_(tx: Tx, context: Context, service: str, url: str) -> sa.RowMapping:
    """A backup that an exported record tells of, whose files are still where they were."""
    if service != SERVICE:
        raise BadRequest(f"Import failed: no service here keeps backups of the kind {service}.")
    record = _decoded(url)
    quotas.reserve(tx, context.project_id, backups=1, backup_gigabytes=record["size"])
    made = {name: record.get(name) for name in EXPORTED if name in record} | {
        "project_id": context.project_id, "user_id": context.user_id, "status": "available", "created_at": now(),
        "data_timestamp": read_time(record["data_timestamp"]),
    }  # fmt: skip
    if not insert_new(tx.connection, BACKUPS, made):
        raise invalid("backup", f"Backup already exists in database: {record['id']}")
    return states.get_row(tx, "backup", record["id"])


def _decoded(url: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = nesting.loads(base64.b64decode(url.encode("ascii"), validate=True))
        ids = all(isinstance(record[name], str) and is_uuid(record[name]) for name in ("id", "location", "volume_id"))
        words = all(isinstance(record[name], str) for name in ("availability_zone", "host", "backend", "data_timestamp"))
        texts = [record.get(name) for name in ("name", "description", "container")]
        short = all(each is None or (isinstance(each, str) and len(each) <= 255) for each in texts)
        numbers = all(
            isinstance(record[name], int) and 0 <= record[name] < 1 << 31 for name in ("size", "object_count")
        )
        booting = isinstance(record.get("bootable", False), bool) and isinstance(record.get("image_metadata", {}), dict)
        if ids and words and short and numbers and booting and isinstance(record["metadata"], dict):
            read_time(record["data_timestamp"])
            return record
    except (ValueError, binascii.Error, TypeError, KeyError, UnicodeError):
        pass
    raise bad_input("Can't parse backup record.")
