"""createImage and createBackup: what is refused, the image that they reserve, and what the client is told."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from compute_client import ADMIN, DEMO_PROJECT, OTHER, READER, Nova, messages

from kilonova.compute.tables import SERVERS
from kilonova.db.engine import Database
from kilonova.image.tables import IMAGES, MEMBERS

BACKUP = {"name": "b", "backup_type": "daily", "rotation": 2}
MANY = {str(number): "" for number in range(129)}


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def act(nova: Nova, id: str, action: str, argument: Any, **more: Any) -> Any:
    return nova.post(f"/servers/{id}/action", {action: argument}, **more)


def image(nova: Nova, image_id: str) -> Any:
    return nova.database.read(lambda tx: tx.first(sa.select(IMAGES).where(IMAGES.c.id == image_id)))


def put(nova: Nova, id: str, **values: Any) -> None:
    update = SERVERS.update().where(SERVERS.c.id == id).values(**values)
    nova.database.write(lambda tx: tx.execute(update) and None)


def test_an_image_is_reserved_with_what_the_server_and_its_image_say(nova: Nova) -> None:
    properties = {
        "hw_disk_bus": "scsi",
        "os_distro": "x",
        "img_signature": "s",
        "os_glance_task": "1",
        "cache_in_nova": "y",
    }
    base = nova.add_image(properties=properties, min_ram=32, min_disk=1)
    id = nova.active(imageRef=base)
    answer = act(nova, id, "createImage", {"name": "mine", "metadata": {"os_distro": "z", "k": "v"}})
    assert answer.status_code == 202
    row = image(nova, answer.json()["image_id"])
    assert (row["name"], row["status"], row["visibility"], row["owner"]) == ("mine", "queued", "private", DEMO_PROJECT)
    assert (row["min_ram"], row["min_disk"], row["disk_format"], row["container_format"]) == (32, 1, None, None)
    assert row["properties"] == {
        "hw_disk_bus": "scsi", "os_distro": "z", "k": "v", "instance_uuid": id, "user_id": "a" * 32, "image_type": "snapshot",
        "image_state": "available", "image_location": "snapshot", "owner_id": DEMO_PROJECT, "base_image_ref": base,
    }  # fmt: skip
    assert nova.shared.flows.started[-1] == ("createImage", id)
    server = nova.get(f"/servers/{id}").json()["server"]
    assert (server["status"], server["OS-EXT-STS:task_state"]) == ("ACTIVE", "image_snapshot_pending")
    refused = act(nova, id, "createImage", {"name": "again"})
    assert refused.status_code == 409 and "task_state image_snapshot_pending" in messages(refused)


@pytest.mark.parametrize("action", ["createImage", "createBackup", "shelve"])
def test_an_image_needs_as_large_a_disk_as_its_server_has(nova: Nova, action: str) -> None:
    id = nova.active(imageRef=nova.add_image(min_disk=0))
    argument = {"createImage": {"name": "i"}, "createBackup": BACKUP, "shelve": None}[action]
    assert act(nova, id, action, argument, version="2.1").status_code == 202
    rows = nova.database.read(lambda tx: list(tx.all(sa.select(IMAGES))))
    [made] = [row for row in rows if row["properties"].get("instance_uuid") == id]
    flavor = nova.get(f"/servers/{id}", version="2.47").json()["server"]["flavor"]
    assert made["min_disk"] == flavor["disk"] > 0


def test_the_image_is_told_by_a_header_until_2_44(nova: Nova) -> None:
    for version, header in (("2.1", True), ("2.44", True), ("2.45", False)):
        id = nova.active()
        answer = act(nova, id, "createImage", {"name": "i"}, version=version)
        found = answer.json()["image_id"] if not header else answer.headers["location"].rpartition("/")[2]
        assert image(nova, found)["properties"]["instance_uuid"] == id
        assert header == (not answer.content) == ("location" in answer.headers)
        assert not header or answer.headers["location"] == f"http://testserver/image/images/{found}"


def test_a_backup_has_its_type(nova: Nova) -> None:
    id = nova.active()
    row = image(nova, act(nova, id, "createBackup", BACKUP).json()["image_id"])
    assert {"image_type": "backup", "backup_type": "daily"}.items() <= row["properties"].items()
    assert nova.get(f"/servers/{id}").json()["server"]["OS-EXT-STS:task_state"] == "image_backup"
    for rotation in (0, 1):
        answer = act(nova, nova.active(), "createBackup", BACKUP | {"rotation": rotation}, version="2.1")
        assert answer.status_code == 202 and ("location" in answer.headers) == bool(rotation)


def test_an_image_that_another_project_makes_is_shared_with_the_servers(nova: Nova) -> None:
    id = nova.active()
    row = image(nova, act(nova, id, "createImage", {"name": "i"}, token=ADMIN).json()["image_id"])
    assert (row["visibility"], row["properties"]["instance_owner"]) == ("shared", DEMO_PROJECT)
    members = nova.database.read(lambda tx: tx.all(sa.select(MEMBERS).where(MEMBERS.c.image_id == row["id"])))
    assert [(member["member_id"], member["status"]) for member in members] == [(DEMO_PROJECT, "accepted")]


@pytest.mark.parametrize(
    ("prepare", "argument", "more", "status", "word"),
    [
        (lambda nova, id: put(nova, id, vm_state="resized"), {"name": "i"}, {}, 409, "vm_state resized"),
        (lambda nova, id: None, {"name": "i"}, {"token": OTHER}, 404, "could not be found"),
        (lambda nova, id: None, {"name": "i"}, {"token": READER}, 403, "create_image"),
        (lambda nova, id: None, {}, {}, 400, "name"),
        (lambda nova, id: None, {"name": "i", "metadata": {"k": 1}}, {}, 400, "metadata"),
        (lambda nova, id: None, {"name": "i", "metadata": MANY}, {"version": "2.38"}, 403, "limit"),
        (lambda nova, id: None, {"name": "i", "metadata": MANY}, {"version": "2.39"}, 202, ""),
        (lambda nova, id: act(nova, id, "lock", None), {"name": "i"}, {}, 202, ""),
    ],
)  # fmt: skip
def test_what_is_refused(
    nova: Nova, prepare: Callable[[Nova, str], Any], argument: Any, more: dict[str, str], status: int, word: str
) -> None:
    id = nova.active()
    prepare(nova, id)
    answer = act(nova, id, "createImage", argument, **more)
    assert answer.status_code == status
    assert status == 202 or word in messages(answer)
