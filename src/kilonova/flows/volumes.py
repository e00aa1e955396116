"""The stories of a volume: made, grown, moved, filled from elsewhere, gone."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.flow.step import CONTROL, HOST, Flow, Running, Step
from kilonova.host.contract import Host
from kilonova.model.errors import Later
from kilonova.volume import messages, moves, scheduler, states
from kilonova.volume.tables import BACKUPS, SNAPSHOTS, VOLUMES

CREATING, DELETING, EXTENDING, UPLOADING = "creating", "deleting", "extending", "uploading"
DOWNLOADING, REVERTING, RESTORING, RETYPING = "downloading", "reverting", "restoring-backup", "retyping"


def tell(tx: Tx, flow: Running, action: str, detail: str) -> None:
    """The owner finds in the messages what became of it (volume/messages.py)."""
    messages.add(tx, flow, action, detail, "VOLUME")


# create and delete


def select_backend(tx: Tx, flow: Running) -> Any:  # Cinder: the scheduler's schedule_create_volume
    return {"backend": scheduler.select_backend(tx, flow.subject_id)}


def release_backend(tx: Tx, flow: Running) -> Any:
    """Nothing of the volume is there any more."""
    states.update(tx, "volume", flow.subject_id, host=None, backend=None)


def set_available(tx: Tx, flow: Running) -> Any:
    states.move(tx, "volume", flow.subject_id, (CREATING,), status="available")


def create_failed(tx: Tx, flow: Running, error: str, details: str) -> None:
    states.update(tx, "volume", flow.subject_id, status="error")
    if flow.step == select_backend.__name__:
        tell(tx, flow, "001", "003")
    else:
        tell(tx, flow, "008", "012")


CREATE_VOLUME = Flow(
    "create_volume",
    (
        Step(select_backend,     release_backend,    CONTROL, CREATING),
        Step(Host.create_volume, Host.delete_volume, HOST,    CREATING),
        Step(set_available,      None,               CONTROL, None),  # the last step: nothing can fail after it
    ),
    on_failure=create_failed,
    subject="volume",
)  # fmt: skip


def mark_deleting(tx: Tx, flow: Running) -> Any:
    states.update(tx, "volume", flow.subject_id, status=DELETING)


def wait_for_copies(tx: Tx, flow: Running) -> Any:
    """What is being made from it, or backed up, reads it until it is made; its snapshots go before it."""
    if _is_read(tx, flow.subject_id) or states.has_snapshots(tx, flow.subject_id):
        raise Later(1.0)


def _is_read(tx: Tx, volume_id: str) -> bool:
    copies = (VOLUMES.c.source_volid == volume_id) & (VOLUMES.c.status == CREATING)
    backups = (BACKUPS.c.volume_id == volume_id) & (BACKUPS.c.status == CREATING)
    readers = (sa.select(VOLUMES.c.id).where(copies).limit(1), sa.select(BACKUPS.c.id).where(backups).limit(1))
    return any(tx.scalar(query) for query in readers)


def set_deleted(tx: Tx, flow: Running) -> Any:
    states.remove(tx, "volume", flow.subject_id)


DELETE_VOLUME = CREATE_VOLUME.undone(
    "delete_volume",
    task_state=DELETING,
    before=(Step(mark_deleting, None, CONTROL, DELETING), Step(wait_for_copies, None, CONTROL, DELETING)),
    after=(Step(set_deleted, None, CONTROL, None),),
)


# Verbs that begin in `available` or `in-use`, and end there: the request has set the status, and kept the one before


def settle(tx: Tx, flow: Running) -> Any:
    states.settle(tx, flow.subject_id)


def wait_for_readers(tx: Tx, flow: Running) -> Any:
    """A copy under way has the size that its row says, and QEMU resizes no disk that it copies."""
    snapshots = (SNAPSHOTS.c.volume_id == flow.subject_id) & (SNAPSHOTS.c.status == CREATING)
    if _is_read(tx, flow.subject_id) or tx.scalar(sa.select(SNAPSHOTS.c.id).where(snapshots).limit(1)):
        raise Later(1.0)


def set_extended(tx: Tx, flow: Running) -> Any:
    states.settle(tx, flow.subject_id, size=flow.data["size_gb"], new_size=None)


def extend_failed(tx: Tx, flow: Running, error: str, details: str) -> None:
    states.update(tx, "volume", flow.subject_id, status="error_extending", new_size=None, previous_status=None)
    tell(tx, flow, "007", "010")


# A volume that has grown by half is as large as it is: nothing is undone, its row says the old size.
EXTEND_VOLUME = Flow(
    "extend_volume",
    (
        Step(wait_for_readers,   None, CONTROL, EXTENDING, deadline=24 * 3600.0),
        Step(Host.extend_volume, None, HOST,    EXTENDING),
        Step(set_extended,       None, CONTROL, None),
    ),
    on_failure=extend_failed,
    subject="volume",
)  # fmt: skip


def upload_failed(tx: Tx, flow: Running, error: str, details: str) -> None:
    states.settle(tx, flow.subject_id)
    tell(tx, flow, "003", "004")


UPLOAD_VOLUME = Flow(
    "upload_volume",  # Cinder: copy_volume_to_image
    (
        Step(Host.upload_volume, Host.withdraw_upload, HOST,    UPLOADING),
        Step(settle,             None,                 CONTROL, None),
    ),
    on_failure=upload_failed,
    subject="volume",
)  # fmt: skip


def reimage_failed(tx: Tx, flow: Running, error: str, details: str) -> None:
    states.update(tx, "volume", flow.subject_id, status="error", previous_status=None)
    tell(tx, flow, "016", "028")


# What was there is written over at once: there is no way back.
REIMAGE_VOLUME = Flow(
    "reimage_volume",
    (
        Step(Host.reimage_volume, None, HOST,    DOWNLOADING),
        Step(settle,              None, CONTROL, None),
    ),
    on_failure=reimage_failed,
    subject="volume",
)  # fmt: skip


def set_reverted(tx: Tx, flow: Running) -> Any:
    states.settle(tx, flow.subject_id)
    states.move(tx, "snapshot", flow.data["snapshot_id"], ("restoring",), status="available")


def revert_failed(tx: Tx, flow: Running, error: str, details: str) -> None:
    states.update(tx, "volume", flow.subject_id, status="error", previous_status=None)
    states.move(tx, "snapshot", flow.data["snapshot_id"], ("restoring",), status="available")


REVERT_TO_SNAPSHOT = Flow(
    "revert_to_snapshot",
    (
        Step(Host.revert_to_snapshot, None, HOST,    REVERTING),
        Step(set_reverted,            None, CONTROL, None),
    ),
    on_failure=revert_failed,
    subject="volume",
)  # fmt: skip


def set_restored(tx: Tx, flow: Running) -> Any:
    """Bytes that boot make it bootable, whatever it was before (Cinder: BackupMetadataAPI)."""
    backup = states.find(tx, "backup", flow.data["backup_id"])
    if backup is not None and backup["bootable"]:
        states.update(tx, "volume", flow.subject_id, bootable=True, image_metadata=backup["image_metadata"])
    states.settle(tx, flow.subject_id)
    states.move(tx, "backup", flow.data["backup_id"], ("restoring",), status="available")


def restore_failed(tx: Tx, flow: Running, error: str, details: str) -> None:
    states.update(tx, "volume", flow.subject_id, status="error_restoring", previous_status=None)
    states.move(tx, "backup", flow.data["backup_id"], ("restoring",), status="available")
    tell(tx, flow, "015", "026")


RESTORE_BACKUP = Flow(
    "restore_backup",
    (
        Step(Host.restore_backup, None, HOST,    RESTORING),
        Step(set_restored,        None, CONTROL, None),
    ),
    on_failure=restore_failed,
    subject="volume",
)  # fmt: skip


# To another type, or to another backend. A volume that has to move is copied, and then the copy takes its place.


def select_target(tx: Tx, flow: Running) -> Any:
    """Returns {"backend", "old_backend"}: the same where the volume can stay."""
    if flow.kind == "migrate_volume":
        old = states.get_row(tx, "volume", flow.subject_id)["backend"]
        found = {"backend": flow.data["backend"], "old_backend": old}
        states.update(tx, "volume", flow.subject_id, migration_status="migrating")
    else:
        found = moves.select_target(tx, flow.subject_id, flow.data["policy"])
    states.update(tx, "volume", flow.subject_id, target_backend=found["backend"])
    return found


def switch(tx: Tx, flow: Running) -> Any:
    """From here on the volume is what it was asked to be."""
    moves.switch(tx, flow.subject_id, (flow.results(tx).get("copy_volume") or {}).get("connection"))


def set_moved(tx: Tx, flow: Running) -> Any:
    migrated = {"migration_status": "success"} if flow.kind == "migrate_volume" else {}
    states.settle(tx, flow.subject_id, **migrated)


def move_failed(tx: Tx, flow: Running, error: str, details: str) -> None:
    migrated = {"migration_status": "error"} if flow.kind == "migrate_volume" else {}
    states.settle(tx, flow.subject_id, new_type_id=None, target_backend=None, **migrated)
    if flow.step == select_target.__name__:
        tell(tx, flow, "001", "003")


def moving(status: str | None) -> tuple[Step, ...]:
    return (
        Step(select_target,        None,             CONTROL, status),
        Step(Host.copy_volume,     Host.delete_copy, HOST,    status),  # nothing where it can stay; a guest goes over to it
        Step(switch,               None,             CONTROL, status),  # of no return: the copy is the volume
        Step(Host.delete_original, None,             HOST,    status),
        Step(set_moved,            None,             CONTROL, None),
    )  # fmt: skip


RETYPE_VOLUME = Flow("retype_volume", moving(RETYPING), move_failed, no_return=switch, subject="volume")
MIGRATE_VOLUME = Flow("migrate_volume", moving(None), move_failed, no_return=switch, subject="volume")

FLOWS = (
    CREATE_VOLUME, DELETE_VOLUME, EXTEND_VOLUME, UPLOAD_VOLUME, REIMAGE_VOLUME, REVERT_TO_SNAPSHOT, RESTORE_BACKUP,
    RETYPE_VOLUME, MIGRATE_VOLUME,
)  # fmt: skip
