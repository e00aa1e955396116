"""What flows act on, as the flow engine must know it."""

from kilonova.compute import spec
from kilonova.compute import states as server_states
from kilonova.db.engine import Tx
from kilonova.flow.step import Subject
from kilonova.image import images
from kilonova.model.errors import NotFound
from kilonova.model.specs import ImageSpec, ServerSpec, StorageSpec
from kilonova.volume import specs, states


class ServerSubject:
    def host(self, tx: Tx, subject_id: str) -> str | None:
        host: str | None = server_states.get_row(tx, subject_id)["host"]
        return host

    def spec(self, tx: Tx, subject_id: str) -> ServerSpec:
        return spec.server_spec(tx, subject_id)

    def set_task_state(self, tx: Tx, subject_id: str, task_state: str | None) -> None:
        server_states.set_task_state(tx, subject_id, task_state)


class StorageSubject:
    """A volume, or a snapshot, backup or group of volumes; its status is what servers call their task state."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def host(self, tx: Tx, subject_id: str) -> str | None:
        row = states.get_row(tx, self.kind, subject_id)
        if self.kind == "snapshot":
            row = states.get_row(tx, "volume", row["volume_id"])
        host: str | None = row["host"]
        return host

    def spec(self, tx: Tx, subject_id: str) -> StorageSpec:
        if self.kind == "snapshot":
            return specs.snapshot_spec(tx, subject_id)
        if self.kind == "backup":
            return specs.backup_spec(tx, subject_id)
        return specs.volume_spec(tx, subject_id, _image_spec)

    def set_task_state(self, tx: Tx, subject_id: str, task_state: str | None) -> None:
        if task_state is not None:
            states.update(tx, self.kind, subject_id, status=task_state)


def _image_spec(tx: Tx, image_id: str) -> ImageSpec:
    """One that is gone is for the host to find out: the step fails, and its flow with it."""
    try:
        return images.image_spec(tx, image_id)
    except NotFound:
        return ImageSpec(id=image_id, name="", disk_format="raw", size=0)


SUBJECTS: dict[str, Subject] = {  # by the kind that a flow names
    "server": ServerSubject(),
    **{kind: StorageSubject(kind) for kind in ("volume", "snapshot", "backup", "group", "group_snapshot")},
}
