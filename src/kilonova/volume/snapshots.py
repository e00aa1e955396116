"""Snapshots of volumes: found, made, asked to go away; and a volume that gets a snapshot's bytes back."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict
from kilonova.model.ids import new_id, now
from kilonova.volume import quotas, states, types, volumes
from kilonova.volume.flows import Flows
from kilonova.volume.requests import invalid, missing
from kilonova.volume.tables import SNAPSHOTS, VOLUMES
from kilonova.web.call import Context
from kilonova.web.policy import check_row


def get(tx: Tx, context: Context, id: str) -> sa.RowMapping:
    row = states.find(tx, "snapshot", id)
    if row is None or (row["project_id"] != context.project_id and not context.is_admin):
        raise missing("Snapshot", id)
    check_row(context, "volume", row)
    return row


def create(
    tx: Tx, context: Context, volume_id: str, values: dict[str, Any], flows: Flows, *, in_use: bool
) -> sa.RowMapping:
    """`values`: name, description, metadata; `in_use`: of an attached volume too."""
    volume = volumes.get(tx, context, volume_id)
    check(volume, in_use)
    type_name = types.by_id(tx, volume["type_id"])["name"]
    quotas.reserve(tx, context.project_id, type_name, snapshots=1, gigabytes=volume["size"])
    made = insert(tx, context, volume, values)
    flows.begin(tx, "create_snapshot", made, context, {})
    return states.get_row(tx, "snapshot", made)


def check(volume: sa.RowMapping, in_use: bool) -> None:
    """Whether a snapshot can be made of it now."""
    if not volume["host"]:
        raise invalid("volume", "The snapshot cannot be created because volume has not been scheduled to any host.")
    if volume["status"] == "maintenance":
        raise invalid("volume", "The snapshot cannot be created when the volume is in maintenance mode.")
    if volume["migration_status"] not in volumes.MIGRATED:
        raise invalid("volume", "Snapshot cannot be created while volume is migrating.")
    if volume["status"] == "error":
        raise invalid("volume", "The snapshot cannot be created when the volume is in error status.")
    valid = ("available", "in-use") if in_use else ("available",)
    if volume["status"] not in valid:
        raise invalid(
            "volume",
            f"Volume {volume['id']} status must be {', '.join(valid)}, but current status is: {volume['status']}.",
        )


def insert(tx: Tx, context: Context, volume: sa.RowMapping, values: dict[str, Any]) -> str:
    """The id of a row that is `creating`."""
    id = new_id()
    tx.hold(VOLUMES.c.id, volume["id"])
    tx.execute(
        SNAPSHOTS.insert().values(
            id=id, stored_as=f"snapshot-{id}", volume_id=volume["id"], project_id=context.project_id, user_id=context.user_id,
            status="creating",            type_id=volume["type_id"], size=volume["size"], created_at=now(), **values,
        )
    )  # fmt: skip
    return id


def update(tx: Tx, context: Context, id: str, values: dict[str, Any]) -> sa.RowMapping:
    snapshot = get(tx, context, id)
    if values:
        states.update(tx, "snapshot", snapshot["id"], **values)
    return states.get_row(tx, "snapshot", snapshot["id"])


def delete(tx: Tx, context: Context, id: str, flows: Flows, *, force: bool = False) -> None:
    snapshot = get(tx, context, id)
    if snapshot["group_snapshot_id"] or (not force and snapshot["status"] not in ("available", "error")):
        status = "" if force else "status must be available or error and "
        raise invalid("snapshot", f"Snapshot {status}must not be part of a group.")
    states.update(tx, "snapshot", snapshot["id"], status="deleting")
    flows.start(tx, "delete_snapshot", snapshot["id"], context, {})


def revert(tx: Tx, context: Context, volume_id: str, snapshot_id: str, flows: Flows) -> None:
    """The volume gets the bytes of its newest snapshot back (3.40)."""
    volume = volumes.get(tx, context, volume_id)
    every = volumes.snapshots_of(tx, volume["id"])
    if not every:
        raise invalid("volume", f"Volume {volume_id} doesn't have any snapshots.")
    newest = every[-1]
    if newest["id"] != snapshot_id:
        raise invalid(
            "snapshot", f"Specified snapshot {snapshot_id} is None or not the latest one of volume {volume_id}."
        )
    if volume["size"] != newest["size"]:
        raise invalid(
            "snapshot",
            f"Can't revert volume {volume_id} to its latest snapshot {snapshot_id}. The volume size must be equal to "
            "the snapshot size.",
        )
    for kind, row in (("Volume", volume), ("Snapshot", newest)):
        if row["status"] != "available":
            raise Conflict(
                f"Invalid {kind.lower()}: Can't revert volume {volume_id} to its latest snapshot {snapshot_id}. "
                f"{kind}'s status must be 'available'."
            )
    states.update(tx, "volume", volume["id"], status="reverting", previous_status="available")
    states.update(tx, "snapshot", newest["id"], status="restoring")
    data = {"snapshot_id": newest["id"], "snapshot": newest["stored_as"]}
    flows.begin(tx, "revert_to_snapshot", volume["id"], context, data)
