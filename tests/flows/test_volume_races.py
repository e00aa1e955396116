"""Something is made of a volume, a snapshot or a backup while that is taken away: one of the two is refused, or waits."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from backed_stories import server
from handcloud import HandCloud
from volume_stories import ask, made, rows, the, volume

from kilonova.compute import block_devices
from kilonova.db.engine import Tx
from kilonova.model.errors import Later
from kilonova.volume import quotas, types

Story = Callable[[HandCloud], Any]  # → two requests, (method, path, body) each


def taken(cloud: HandCloud, kind: str, volume_id: str, **more: Any) -> str:
    id = made(cloud, kind, {"volume_id": volume_id, **more})
    cloud.run()
    return id


def snapshot_and_delete(cloud: HandCloud) -> Any:
    id = volume(cloud)
    return ("POST", "/snapshots", {"snapshot": {"volume_id": id}}), ("DELETE", f"/volumes/{id}", None)


def snapshot_and_transfer(cloud: HandCloud) -> Any:
    id = volume(cloud)
    return (
        ("POST", "/snapshots", {"snapshot": {"volume_id": id}}),
        ("POST", "/volume-transfers", {"transfer": {"volume_id": id}}),
    )


def snapshot_and_move(cloud: HandCloud) -> Any:
    id = volume(cloud)
    host = {"host": f"{cloud.host.name}@other#other"}
    return (
        ("POST", "/snapshots", {"snapshot": {"volume_id": id}}),
        ("POST", f"/volumes/{id}/action", {"os-migrate_volume": host}),
    )


def clone_and_delete(cloud: HandCloud) -> Any:
    id = volume(cloud)
    return ("POST", "/volumes", {"volume": {"source_volid": id}}), ("DELETE", f"/volumes/{id}", None)


def copy_and_delete(cloud: HandCloud) -> Any:
    id = taken(cloud, "snapshot", volume(cloud))
    return ("POST", "/volumes", {"volume": {"snapshot_id": id}}), ("DELETE", f"/snapshots/{id}", None)


def restore_and_delete(cloud: HandCloud) -> Any:
    id = taken(cloud, "backup", volume(cloud))
    wanted = {"volume": {"backup_id": id, "volume_type": "here"}}
    return ("POST", "/volumes", wanted), ("DELETE", f"/backups/{id}", None)


def increment_and_delete(cloud: HandCloud) -> Any:
    id = volume(cloud)
    parent = taken(cloud, "backup", id)
    body = {"backup": {"volume_id": id, "incremental": True}}
    return ("POST", "/backups", body), ("DELETE", f"/backups/{parent}", None)


def volume_and_its_type(cloud: HandCloud) -> Any:
    id = made(cloud, "volume_type", {"name": "passing"}, "/types")
    return ("DELETE", f"/types/{id}", None), ("POST", "/volumes", {"volume": {"size": 1, "volume_type": id}})


STORIES = (
    snapshot_and_delete, snapshot_and_transfer, snapshot_and_move, clone_and_delete, copy_and_delete, restore_and_delete,
    increment_and_delete, volume_and_its_type,
)  # fmt: skip


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_of_two_at_once_one_sees_the_other(cloud: HandCloud, monkeypatch: pytest.MonkeyPatch, story: Story) -> None:
    """The rival's request comes when the first has looked and not yet written, and is done by then; on SQLite it waits."""
    first, rival = story(cloud)
    answers: list[Any] = []
    patience = 5.0 if cloud.database.engine.dialect.name == "postgresql" else 0.5

    def ask_rival() -> None:
        answers.append(ask(cloud, *rival))
        if first[1] == "/volumes" and patience > 1:
            cloud.run()

    other = threading.Thread(target=ask_rival)

    def meanwhile(act: Callable[..., Any]) -> Callable[..., Any]:
        def looked(*args: Any, **kwargs: Any) -> Any:
            found = act(*args, **kwargs)
            if not other.ident:
                other.start()
                other.join(patience)
            return found

        return looked

    monkeypatch.setattr(quotas, "check_size", meanwhile(quotas.check_size))
    monkeypatch.setattr(quotas, "reserve", meanwhile(quotas.reserve))
    monkeypatch.setattr(types, "in_use", meanwhile(types.in_use))
    answers.insert(0, ask(cloud, *first))
    assert other.ident, answers[0].text
    other.join(10)
    assert sorted(answer.status_code // 100 for answer in answers) in ([2, 4], [2, 2]), [each.text for each in answers]
    cloud.run()
    found = {row["id"]: row["status"] for row in rows(cloud, "volume")}
    assert set(found.values()) <= {"available", "awaiting-transfer"}
    for snapshot in rows(cloud, "snapshot"):
        assert snapshot["status"] == found[snapshot["volume_id"]] == "available"
        assert the(cloud, "volume", snapshot["volume_id"])["backend"] == "file"
    backups = {row["id"]: row for row in rows(cloud, "backup")}
    assert all(row["status"] == "available" and row["parent_id"] in (None, *backups) for row in backups.values())


def test_a_shared_volume_goes_with_the_last_of_its_servers(cloud: HandCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both go at once: each saw the other's attachment, and left the volume to it."""
    specs = {"multiattach": "<is> True", "volume_backend_name": "file"}
    made(cloud, "volume_type", {"name": "shared", "extra_specs": specs}, "/types")
    id = volume(cloud, volume_type="shared")
    servers = [server(cloud), server(cloud)]
    cloud.run()
    for server_id in servers:
        body = {"volumeAttachment": {"volumeId": id, "delete_on_termination": True}}
        path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments"
        cloud.api("POST", path, body, version="2.79")
        cloud.run()
    of_volume, others = block_devices.of_volume, list[threading.Thread]()

    def other_looks_too(tx: Tx, volume_id: str) -> Any:
        found = of_volume(tx, volume_id)
        if volume_id == id and not others:
            others.append(threading.Thread(target=cloud.run))
            others[0].start()
            others[0].join(2)
        return found

    monkeypatch.setattr(block_devices, "of_volume", other_looks_too)
    for server_id in servers:
        cloud.delete(server_id)
    cloud.run()
    others[0].join(20)
    cloud.run()
    assert rows(cloud, "volume") == []


@pytest.mark.parametrize(
    ("verb", "kind", "source"), [("create_snapshot", "snapshot", "volume_id"), ("create_volume", "volume", "source_volid")]
)
def test_a_volume_grows_once_the_copies_under_way_are_made(
    cloud: HandCloud, monkeypatch: pytest.MonkeyPatch, verb: str, kind: str, source: str
) -> None:
    """A copy of a disk that grows has not the size that its row says, and QEMU refuses to resize what it copies."""
    id, order, copy, extend = volume(cloud), list[str](), getattr(cloud.host, verb), cloud.host.extend_volume

    def copying(work: Any) -> Any:
        order.append("begun" if not order else "made")
        if len(order) == 1:
            assert ask(cloud, "POST", f"/volumes/{id}/action", {"os-extend": {"new_size": 2}}).status_code == 202
            raise Later(1.0)
        return copy(work)

    def extending(work: Any) -> Any:
        order.append("extended")
        return extend(work)

    monkeypatch.setattr(cloud.host, verb, copying)
    monkeypatch.setattr(cloud.host, "extend_volume", extending)
    made(cloud, kind, {source: id})
    cloud.run()
    assert order == ["begun", "made", "extended"]
    assert the(cloud, "volume", id)["size"] == 2
    assert [each["status"] for each in (*rows(cloud, "volume"), *rows(cloud, kind))].count("available") >= 2
