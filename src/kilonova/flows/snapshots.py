"""The stories of a volume's snapshot, of its backup, and of groups of volumes: made, and gone."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.flow.step import CONTROL, HOST, Flow, Running, Step
from kilonova.host.contract import Host
from kilonova.model.errors import Later
from kilonova.volume import messages, states
from kilonova.volume.tables import BACKUPS, SNAPSHOTS, VOLUMES

CREATING, DELETING = "creating", "deleting"


# Snapshots


def snapshot_made(tx: Tx, flow: Running) -> Any:
    states.move(tx, "snapshot", flow.subject_id, (CREATING,), status="available", progress="100%")


def snapshot_failed(tx: Tx, flow: Running, error: str, details: str) -> None:
    states.update(tx, "snapshot", flow.subject_id, status="error")
    messages.add(tx, flow, "009", "013", "VOLUME_SNAPSHOT")


CREATE_SNAPSHOT = Flow(
    "create_snapshot",
    (
        Step(Host.create_snapshot, Host.delete_snapshot, HOST,    CREATING),
        Step(snapshot_made,        None,                 CONTROL, None),
    ),
    on_failure=snapshot_failed,
    subject="snapshot",
)  # fmt: skip


def mark_snapshot(tx: Tx, flow: Running) -> Any:
    states.update(tx, "snapshot", flow.subject_id, status=DELETING)


def wait_for_volumes(tx: Tx, flow: Running) -> Any:
    """What is being made from it, or backed up, reads it until it is made."""
    volumes = (VOLUMES.c.snapshot_id == flow.subject_id) & (VOLUMES.c.status == CREATING)
    backups = (BACKUPS.c.snapshot_id == flow.subject_id) & (BACKUPS.c.status == CREATING)
    if tx.scalar(sa.select(VOLUMES.c.id).where(volumes).limit(1)) or tx.scalar(sa.select(BACKUPS.c.id).where(backups)):
        raise Later(1.0)


def snapshot_gone(tx: Tx, flow: Running) -> Any:
    states.remove(tx, "snapshot", flow.subject_id)


DELETE_SNAPSHOT = CREATE_SNAPSHOT.undone(
    "delete_snapshot",
    task_state=DELETING,
    before=(Step(mark_snapshot, None, CONTROL, DELETING), Step(wait_for_volumes, None, CONTROL, DELETING)),
    after=(Step(snapshot_gone, None, CONTROL, None),),
)


# Backups


def let_go(tx: Tx, backup_id: str) -> None:
    """What was being backed up is as it was."""
    backup = states.get_row(tx, "backup", backup_id)
    if backup["snapshot_id"]:
        states.move(tx, "snapshot", backup["snapshot_id"], ("backing-up",), status="available")
    volume = states.find(tx, "volume", backup["volume_id"])
    if volume is not None and volume["status"] == "backing-up":
        states.settle(tx, volume["id"])


def backup_made(tx: Tx, flow: Running) -> Any:
    states.move(tx, "backup", flow.subject_id, (CREATING,), status="available", object_count=2)
    let_go(tx, flow.subject_id)


def backup_failed(tx: Tx, flow: Running, error: str, details: str) -> None:
    states.update(tx, "backup", flow.subject_id, status="error", fail_reason=error[:255])
    let_go(tx, flow.subject_id)
    messages.add(tx, flow, "013", "020", "VOLUME_BACKUP")


CREATE_VOLUME_BACKUP = Flow(
    "create_backup",
    (
        Step(Host.backup_volume, Host.delete_backup, HOST,    CREATING),
        Step(backup_made,        None,               CONTROL, None),
    ),
    on_failure=backup_failed,
    subject="backup",
)  # fmt: skip


def mark_backup(tx: Tx, flow: Running) -> Any:
    let_go(tx, flow.subject_id)
    states.update(tx, "backup", flow.subject_id, status=DELETING)


def wait_for_restores(tx: Tx, flow: Running) -> Any:
    volumes = (VOLUMES.c.backup_id == flow.subject_id) & (VOLUMES.c.status == CREATING)
    if tx.scalar(sa.select(VOLUMES.c.id).where(volumes).limit(1)):
        raise Later(1.0)


def has_files(tx: Tx, running: Running) -> bool:
    """Not when another record, an imported one, tells of the same files."""
    return not running.data.get("shared")


def backup_gone(tx: Tx, flow: Running) -> Any:
    states.remove(tx, "backup", flow.subject_id)


DELETE_VOLUME_BACKUP = Flow(
    "delete_backup",
    (
        Step(mark_backup,        None, CONTROL, DELETING),
        Step(wait_for_restores,  None, CONTROL, DELETING),
        Step(Host.delete_backup, None, HOST,    DELETING, when=has_files),
        Step(backup_gone,        None, CONTROL, None),
    ),
    subject="backup",
)  # fmt: skip


# Groups: each volume and snapshot has a flow of its own, and the group waits for them


def wait_for_snapshots(tx: Tx, flow: Running) -> Any:
    query = sa.select(SNAPSHOTS.c.status).where(SNAPSHOTS.c.group_snapshot_id == flow.subject_id)
    found = set(tx.execute(query).scalars())
    if CREATING in found:
        raise Later(1.0)
    states.update(tx, "group_snapshot", flow.subject_id, status="error" if "error" in found else "available")


def group_snapshot_failed(tx: Tx, flow: Running, error: str, details: str) -> None:
    states.update(tx, "group_snapshot", flow.subject_id, status="error")


CREATE_GROUP_SNAPSHOT = Flow(
    "create_group_snapshot",
    (Step(wait_for_snapshots, None, CONTROL, CREATING, deadline=24 * 3600.0),),
    on_failure=group_snapshot_failed,
    subject="group_snapshot",
)


def wait_for_snapshots_gone(tx: Tx, flow: Running) -> Any:
    mine = SNAPSHOTS.c.group_snapshot_id == flow.subject_id
    if tx.scalar(sa.select(SNAPSHOTS.c.id).where(mine).limit(1)):
        raise Later(1.0)
    states.remove(tx, "group_snapshot", flow.subject_id)


DELETE_GROUP_SNAPSHOT = Flow(
    "delete_group_snapshot", (Step(wait_for_snapshots_gone, None, CONTROL, DELETING),), subject="group_snapshot"
)


def wait_for_members(tx: Tx, flow: Running) -> Any:
    """Of a group made from another, or from a group snapshot."""
    query = sa.select(VOLUMES.c.status).where(VOLUMES.c.group_id == flow.subject_id)
    found = set(tx.execute(query).scalars())
    if CREATING in found:
        raise Later(1.0)
    states.update(tx, "group", flow.subject_id, status="error" if "error" in found else "available")


def group_failed(tx: Tx, flow: Running, error: str, details: str) -> None:
    states.update(tx, "group", flow.subject_id, status="error")


CREATE_GROUP = Flow(
    "create_group",
    (Step(wait_for_members, None, CONTROL, CREATING, deadline=24 * 3600.0),),
    on_failure=group_failed,
    subject="group",
)


def wait_for_members_gone(tx: Tx, flow: Running) -> Any:
    if tx.scalar(sa.select(VOLUMES.c.id).where(VOLUMES.c.group_id == flow.subject_id).limit(1)):
        raise Later(1.0)
    states.remove(tx, "group", flow.subject_id)


DELETE_GROUP = Flow("delete_group", (Step(wait_for_members_gone, None, CONTROL, DELETING),), subject="group")

FLOWS = (
    CREATE_SNAPSHOT, DELETE_SNAPSHOT, CREATE_VOLUME_BACKUP, DELETE_VOLUME_BACKUP, CREATE_GROUP_SNAPSHOT,
    DELETE_GROUP_SNAPSHOT, CREATE_GROUP, DELETE_GROUP,
)  # fmt: skip
