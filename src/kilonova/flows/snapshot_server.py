"""A server's root disk as an image: createImage and createBackup. The guest runs on."""

from typing import Any

from kilonova.compute import states
from kilonova.db.engine import Tx
from kilonova.flow.step import CONTROL, HOST, Flow, Running, Step
from kilonova.flows.departing import drop_snapshots
from kilonova.flows.power_server import keep_state
from kilonova.host.contract import Host
from kilonova.image import delivery
from kilonova.model.errors import KilonovaError, Later
from kilonova.volume import states as volume_states

SNAPSHOT_PENDING, BACKUP = "image_snapshot_pending", "image_backup"
PENDING_UPLOAD, UPLOADING = "image_pending_upload", "image_uploading"


def begin_snapshot(tx: Tx, flow: Running) -> Any:
    """The request has made the image, queued; its id is in `flow.data`."""
    return {"image_id": flow.data["image_id"]}


def forget_image(tx: Tx, flow: Running) -> Any:
    delivery.forget(tx, flow.data["image_id"])


def end_snapshot(tx: Tx, flow: Running) -> Any:
    states.set_task_state(tx, flow.subject_id, None)


def copy_and_upload(copying: str, uploading: str) -> tuple[Step, ...]:
    """A copy of the disk becomes the image's data; what fails leaves neither."""
    return (
        Step(Host.copy_root_disk,   Host.drop_root_copy, HOST, copying),
        Step(Host.upload_root_copy, Host.withdraw_image, HOST, uploading),  # the copy goes with it
    )  # fmt: skip


CREATE_IMAGE = Flow(
    "createImage",
    (
        Step(begin_snapshot, forget_image, CONTROL, SNAPSHOT_PENDING),
        *copy_and_upload(PENDING_UPLOAD, UPLOADING),
        Step(end_snapshot,   None,         CONTROL, None),
    ),
    on_failure=keep_state,
)  # fmt: skip

CREATE_BACKUP = Flow(
    "createBackup",
    (
        Step(begin_snapshot,      forget_image, CONTROL, BACKUP),
        *copy_and_upload(PENDING_UPLOAD, UPLOADING),
        Step(Host.rotate_backups, None,         HOST,    BACKUP),  # a backup that is too old is gone for good
        Step(end_snapshot,        None,         CONTROL, None),
    ),
    on_failure=keep_state,
)  # fmt: skip


# Of a server that boots from a volume: the request has begun a snapshot of each of its volumes


def forget_volume_image(tx: Tx, flow: Running) -> Any:
    forget_image(tx, flow)
    drop_snapshots(tx, flow, flow.data["snapshots"])


def wait_for_volume_snapshots(tx: Tx, flow: Running) -> Any:
    for snapshot_id in flow.data["snapshots"]:
        snapshot = volume_states.find(tx, "snapshot", snapshot_id)
        status = snapshot["status"] if snapshot is not None else "deleted"
        if status == "creating":
            raise Later(1.0, waits_for=f"snapshot:{snapshot_id}")
        if status == "error" or snapshot is None:
            raise KilonovaError(
                f"The snapshot {snapshot_id} of a volume of this server did not come about: it is {status}."
            )


def end_volume_snapshot(tx: Tx, flow: Running) -> Any:
    """The image is whole: it has no bytes of its own."""
    delivery.accept_empty(tx, flow.data["image_id"])
    states.set_task_state(tx, flow.subject_id, None)


SNAPSHOT_VOLUME_BACKED = Flow(
    "snapshot_volume_backed",
    (
        Step(begin_snapshot,            forget_volume_image, CONTROL, SNAPSHOT_PENDING),
        Step(wait_for_volume_snapshots, None,                CONTROL, UPLOADING, deadline=24 * 3600.0),
        Step(end_volume_snapshot,       None,                CONTROL, None),
    ),
    on_failure=keep_state,
    action="createImage",
)  # fmt: skip

FLOWS = (CREATE_IMAGE, CREATE_BACKUP, SNAPSHOT_VOLUME_BACKED)
