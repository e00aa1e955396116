"""The stories of volumes, snapshots, backups and groups."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from handcloud import HandCloud
from story import Story

from kilonova.flow.tables import FLOWS
from kilonova.volume import states
from kilonova.volume.tables import BACKUPS, GROUP_SNAPSHOTS, GROUPS, SNAPSHOTS, TYPES, VOLUMES

VOLUMES_API = "/volume/v3"
FORCED = {"volume": "volumes", "snapshot": "snapshots", "backup": "backups"}


class StorageLife:
    """`kind`: volume, snapshot, backup, group or group_snapshot; administrators delete the first three by force."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def delete(self, cloud: HandCloud, id: str) -> bool:
        if self.kind in FORCED:
            path, body = f"/{FORCED[self.kind]}/{id}/action", {"os-force_delete": {}}
            return ask(cloud, "POST", path, body).status_code == 202
        if self.kind == "group":
            return ask(cloud, "POST", f"/groups/{id}/action", {"delete": {"delete-volumes": True}}).status_code == 202
        return ask(cloud, "DELETE", f"/group_snapshots/{id}").status_code == 202

    def is_gone(self, cloud: HandCloud, id: str) -> bool:
        return row(cloud, self.kind, id) is None

    def clear(self, cloud: HandCloud, id: str) -> None:
        """Groups of snapshots before groups, snapshots and backups before volumes."""
        for kind in ("group_snapshot", "group", "backup", "snapshot", "volume"):
            for each in rows(cloud, kind):
                StorageLife(kind).delete(cloud, each["id"])
            cloud.run()
        cloud.drop_images()
        assert self.is_gone(cloud, id)

    def failed_in(self, cloud: HandCloud, id: str, state: str) -> None:
        assert the(cloud, self.kind, id)["status"] == state
        query = sa.select(FLOWS.c.error).where(FLOWS.c.subject_id == id).order_by(FLOWS.c.created_at.desc())
        assert "injected here" in cloud.database.read(lambda tx: tx.scalar(query))


VOLUME, SNAPSHOT, BACKUP = StorageLife("volume"), StorageLife("snapshot"), StorageLife("backup")
GROUP, GROUP_SNAPSHOT = StorageLife("group"), StorageLife("group_snapshot")


def ask(cloud: HandCloud, method: str, path: str, body: Any = None) -> Any:
    """As an administrator, in the newest version."""
    cloud.control_side.report_inventory(cloud.host.inventory())  # its sign of life
    headers = {"X-Auth-Token": "admin", "OpenStack-API-Version": "volume 3.71"}
    return cloud.http.request(method, VOLUMES_API + path, json=body, headers=headers)


def made(cloud: HandCloud, kind: str, body: dict[str, Any], path: str = "") -> str:
    answer = ask(cloud, "POST", path or f"/{kind}s", {kind: body})
    assert answer.status_code < 300, answer.text
    id: str = answer.json()[kind]["id"]
    return id


def row(cloud: HandCloud, kind: str, id: str) -> sa.RowMapping | None:
    return cloud.database.read(lambda tx: states.find(tx, kind, id))


def the(cloud: HandCloud, kind: str, id: str) -> sa.RowMapping:
    found = row(cloud, kind, id)
    assert found is not None
    return found


def rows(cloud: HandCloud, kind: str) -> list[sa.RowMapping]:
    """Children before parents."""
    table = {"volume": VOLUMES, "snapshot": SNAPSHOTS, "backup": BACKUPS, "group": GROUPS,
             "group_snapshot": GROUP_SNAPSHOTS}[kind]  # fmt: skip
    return cloud.database.read(lambda tx: tx.all(sa.select(table).order_by(table.c.created_at.desc())))


def volume(cloud: HandCloud, **more: Any) -> str:
    """One that is `available`, in the backend `file` unless its type says otherwise."""
    id = made(cloud, "volume", {"size": 1, "volume_type": "here", **more})
    cloud.run()
    assert the(cloud, "volume", id)["status"] == "available"
    return id


def content(cloud: HandCloud, volume_id: str) -> Any:
    """(backend, size, what it holds) by the host's word."""
    name = the(cloud, "volume", volume_id)["stored_as"]
    found = [file for file in cloud.host.leftovers()["volumes"] if file.startswith(f"{name}@")]
    assert len(found) == 1
    held = cloud.host.held("volumes", found[0])
    return found[0].partition("@")[2], held["size_gb"], held["content"]


def holds(status: str, backend: str, size: int, what: str) -> Callable[[HandCloud, str], None]:
    """A story's `done` or `failed`: the volume by the API's word and by the host's; nothing else is being done."""

    def look(cloud: HandCloud, volume_id: str) -> None:
        found = the(cloud, "volume", volume_id)
        assert (found["status"], found["size"], found["backend"]) == (status, size, backend)
        assert (found["new_size"], found["new_type_id"], found["target_backend"]) == (None, None, None)
        assert content(cloud, volume_id) == (backend, size, what.replace("IMAGE", f"image {cloud.image}"))
        assert all(each["status"] == "available" for kind in ("snapshot", "backup") for each in rows(cloud, kind))
        used = ask(cloud, "GET", f"/os-quota-sets/{found['project_id']}?usage=true").json()["quota_set"]
        snapshots = sum(each["size"] for each in rows(cloud, "snapshot"))
        expected = sum(each["size"] for each in rows(cloud, "volume")) + snapshots
        assert (used["gigabytes"]["in_use"], used["gigabytes"]["reserved"]) == (expected, 0)

    return look


def never_was(cloud: HandCloud, volume_id: str) -> None:
    """A volume that could not be made: its row says so, and is all there is."""
    assert cloud.host.leftovers()["volumes"] == []
    assert the(cloud, "volume", volume_id)["host"] is None
    messages = ask(cloud, "GET", f"/messages?resource_uuid={volume_id}").json()["messages"]
    assert [message["message_level"] for message in messages] == ["ERROR"]


def gone(cloud: HandCloud, id: str) -> None:
    """All that the story has made is gone."""
    assert all(rows(cloud, kind) == [] for kind in ("volume", "snapshot", "backup", "group", "group_snapshot"))
    assert cloud.left() == {}


def act(action: str, argument: Any = None) -> Callable[[HandCloud, str | None], str]:
    def start(cloud: HandCloud, id: str | None) -> str:
        assert id is not None
        answer = ask(cloud, "POST", f"/volumes/{id}/action", {action: argument})
        assert answer.status_code == 202, answer.text
        return id

    return start


def forced(life: StorageLife) -> Callable[[HandCloud, str | None], str]:
    def start(cloud: HandCloud, id: str | None) -> str:
        assert id is not None and life.delete(cloud, id)
        return id

    return start


def reimage(cloud: HandCloud, id: str | None) -> str:
    return act("os-reimage", {"image_id": cloud.image})(cloud, id)


def bind_types_to_nothing(cloud: HandCloud) -> None:
    """From now on volumes of all types may move to each backend."""
    cloud.database.write(lambda tx: tx.execute(TYPES.update().values(extra_specs={})) and None)


def migrate(cloud: HandCloud, id: str | None) -> str:
    bind_types_to_nothing(cloud)
    return act("os-migrate_volume", {"host": f"{cloud.host.name}@other#other"})(cloud, id)


def uploaded(cloud: HandCloud, volume_id: str) -> None:
    holds("available", "file", 1, "zeros")(cloud, volume_id)
    found = [image for image in cloud.images() if image["name"] == "up"]
    assert [image["status"] for image in found] == ["active"]
    cloud.drop_images()


def not_uploaded(cloud: HandCloud, volume_id: str) -> None:
    holds("available", "file", 1, "zeros")(cloud, volume_id)
    assert [image["id"] for image in cloud.images()] == [cloud.image]


def changed_since_snapshot(cloud: HandCloud) -> str:
    id = volume(cloud)
    made(cloud, "snapshot", {"volume_id": id})
    cloud.run()
    return changed(cloud, id)


def changed_since_backup(cloud: HandCloud) -> str:
    id = volume(cloud)
    made(cloud, "backup", {"volume_id": id})
    cloud.run()
    return changed(cloud, id)


def changed(cloud: HandCloud, id: str) -> str:
    reimage(cloud, id)
    cloud.run()
    assert content(cloud, id)[2] == f"image {cloud.image}"
    return id


def revert(cloud: HandCloud, id: str | None) -> str:
    return act("revert", {"snapshot_id": rows(cloud, "snapshot")[0]["id"]})(cloud, id)


def restore(cloud: HandCloud, id: str | None) -> str:
    assert id is not None
    backup = rows(cloud, "backup")[0]["id"]
    answer = ask(cloud, "POST", f"/backups/{backup}/restore", {"restore": {"volume_id": id}})
    assert answer.status_code == 202, answer.text
    return id


def snapshot_made(cloud: HandCloud, id: str) -> None:
    assert the(cloud, "snapshot", id)["status"] == "available"
    name = the(cloud, "snapshot", id)["stored_as"]
    assert cloud.host.held("snapshots", name) == {"content": "zeros"}


def snapshot_never_was(cloud: HandCloud, id: str) -> None:
    assert cloud.host.leftovers()["snapshots"] == []
    assert [each["status"] for each in rows(cloud, "volume")] == ["available"]


def snapshotted(cloud: HandCloud) -> str:
    id = made(cloud, "snapshot", {"volume_id": volume(cloud)})
    cloud.run()
    return id


def only_the_volume(cloud: HandCloud, id: str) -> None:
    assert row(cloud, "snapshot", id) is None and row(cloud, "backup", id) is None
    assert [each["status"] for each in rows(cloud, "volume")] == ["available"]
    left = cloud.host.leftovers()
    assert (len(left["volumes"]), left["snapshots"], left["backups"]) == (1, [], [])


def backup_made(cloud: HandCloud, id: str) -> None:
    assert the(cloud, "backup", id)["status"] == "available"
    assert cloud.host.held("backups", id) == {"content": "zeros"}
    assert [each["status"] for each in rows(cloud, "volume")] == ["available"]


def backup_never_was(cloud: HandCloud, id: str) -> None:
    assert cloud.host.leftovers()["backups"] == []
    assert [each["status"] for each in rows(cloud, "volume")] == ["available"]


def backed_up(cloud: HandCloud) -> str:
    id = made(cloud, "backup", {"volume_id": volume(cloud)})
    cloud.run()
    return id


def grouped(cloud: HandCloud) -> str:
    """A group with one volume."""
    wish = {"group_type": cloud.group_type, "volume_types": ["here"]}
    group = made(cloud, "group", wish)
    volume(cloud, group_id=group)
    return group


def copy_of_group(cloud: HandCloud, id: str | None) -> str:
    answer = ask(cloud, "POST", "/groups/action", {"create-from-src": {"source_group_id": id}})
    assert answer.status_code == 202, answer.text
    group: str = answer.json()["group"]["id"]
    return group


def group_copied(cloud: HandCloud, id: str) -> None:
    assert the(cloud, "group", id)["status"] == "available"
    assert [each["status"] for each in rows(cloud, "volume")] == ["available"] * 2
    assert len(cloud.host.leftovers()["volumes"]) == 2


def still_there(cloud: HandCloud, id: str) -> None:
    assert {each["status"] for each in rows(cloud, "volume")} == {"available"}


def group_snapshotted(cloud: HandCloud) -> str:
    id = made(cloud, "group_snapshot", {"group_id": grouped(cloud)})
    cloud.run()
    return id


def group_snapshot_made(cloud: HandCloud, id: str) -> None:
    assert the(cloud, "group_snapshot", id)["status"] == "available"
    assert [each["status"] for each in rows(cloud, "snapshot")] == ["available"]


def group_snapshot_gone(cloud: HandCloud, id: str) -> None:
    assert row(cloud, "group_snapshot", id) is None and rows(cloud, "snapshot") == []
    assert [each["status"] for each in rows(cloud, "volume")] == ["available"]


AVAILABLE, GROWN = holds("available", "file", 1, "zeros"), holds("available", "file", 2, "zeros")
ELSEWHERE = holds("available", "other", 1, "zeros")
RETYPE = {"new_type": "elsewhere", "migration_policy": "on-demand"}
VOLUME_STORIES = {
    "create_volume": Story(
        lambda cloud: None, lambda cloud, _: made(cloud, "volume", {"size": 1, "volume_type": "here"}),
        AVAILABLE, never_was, life=VOLUME,
    ),
    "delete_volume": Story(volume, forced(VOLUME), gone, life=VOLUME),
    "extend_volume": Story(
        volume, act("os-extend", {"new_size": 2}), GROWN,
        lambda cloud, id: None, "error_extending", VOLUME,
    ),
    "upload_volume": Story(
        volume, act("os-volume_upload_image", {"image_name": "up"}), uploaded, not_uploaded, "available", VOLUME
    ),
    "reimage_volume": Story(
        volume, reimage, holds("available", "file", 1, "IMAGE"), lambda cloud, id: None, "error", VOLUME
    ),
    "revert_to_snapshot": Story(
        changed_since_snapshot, revert, AVAILABLE, lambda cloud, id: None, "error", VOLUME
    ),
    "restore_backup": Story(
        changed_since_backup, restore, AVAILABLE, lambda cloud, id: None, "error_restoring", VOLUME
    ),
    "retype_volume": Story(volume, act("os-retype", RETYPE), ELSEWHERE, AVAILABLE, "available", VOLUME),
    "migrate_volume": Story(volume, migrate, ELSEWHERE, AVAILABLE, "available", VOLUME),
    "create_snapshot": Story(
        volume, lambda cloud, id: made(cloud, "snapshot", {"volume_id": id}), snapshot_made, snapshot_never_was,
        life=SNAPSHOT,
    ),
    "delete_snapshot": Story(snapshotted, forced(SNAPSHOT), only_the_volume, life=SNAPSHOT),
    "create_backup": Story(
        volume, lambda cloud, id: made(cloud, "backup", {"volume_id": id}), backup_made, backup_never_was, life=BACKUP
    ),
    "delete_backup": Story(backed_up, forced(BACKUP), only_the_volume, life=BACKUP),
    "create_group": Story(grouped, copy_of_group, group_copied, still_there, life=GROUP),
    "delete_group": Story(grouped, forced(GROUP), gone, life=GROUP),
    "create_group_snapshot": Story(
        grouped, lambda cloud, id: made(cloud, "group_snapshot", {"group_id": id}), group_snapshot_made, still_there,
        life=GROUP_SNAPSHOT,
    ),
    "delete_group_snapshot": Story(
        group_snapshotted, forced(GROUP_SNAPSHOT), group_snapshot_gone, life=GROUP_SNAPSHOT
    ),
}  # fmt: skip
