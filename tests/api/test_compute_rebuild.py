"""rebuild, shelve, shelveOffload and unshelve at the door: what each refuses, writes at once, and answers."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from compute_client import ADMIN, Nova, messages

from kilonova.compute import shelve, spec, states
from kilonova.db.engine import Database
from kilonova.image.tables import IMAGES

CERTIFICATES = ["c"]


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def act(nova: Nova, id: str, action: str, argument: Any = None, **more: Any) -> Any:
    return nova.post(f"/servers/{id}/action", {action: argument}, **more)


def put(nova: Nova, id: str, **values: Any) -> None:
    nova.database.write(lambda tx: states._update(tx, id, **values))


def row(nova: Nova, id: str) -> Any:
    return nova.database.read(lambda tx: states.get_row(tx, id))


@pytest.mark.parametrize(
    "version", ["2.1", "2.8", "2.9", "2.19", "2.26", "2.47", "2.54", "2.57", "2.63", "2.71", "2.75", "2.96"]
)
def test_a_rebuild_shows_the_server_as_it_will_be(nova: Nova, version: str) -> None:
    """Each answer is held against Nova's own description of it (compute_client)."""
    id, minor = nova.active(), int(version.partition(".")[2])
    other = nova.add_image(properties={"hw_disk_bus": "scsi"})
    answer = act(
        nova, id, "rebuild", {"imageRef": other, "name": " new ".strip(), "metadata": {"k": "v"}}, version=version
    )
    assert answer.status_code == 202, answer.text
    body = answer.json()["server"]
    assert (body["status"], body["image"]["id"], body["name"], body["metadata"]) == (
        "REBUILD",
        other,
        "new",
        {"k": "v"},
    )
    assert len(body["adminPass"]) == 12 and answer.headers["location"].endswith(f"/servers/{id}")
    assert ("key_name" in body, "user_data" in body) == (minor >= 54, minor >= 57)
    assert nova.shared.flows.started[-1] == ("rebuild", id)
    assert row(nova, id)["image_meta"]["properties"] == {"hw_disk_bus": "scsi"}


@pytest.mark.parametrize(
    ("prepare", "change", "version", "status", "word"),
    [
        (None, {"imageRef": "00000000-0000-4000-8000-000000000000"}, "2.96", 400, "image"),
        (None, {"imageRef": "x"}, "2.96", 400, "imageRef"),
        (None, {"hostname": "h2"}, "2.96", 202, ""),
        (None, {"hostname": "h2"}, "2.89", 400, "hostname"),
        (None, {"key_name": "nokey"}, "2.96", 400, "Invalid key_name provided."),
        (None, {"key_name": None}, "2.54", 202, ""),
        (None, {"key_name": None}, "2.53", 400, "key_name"),
        (None, {"user_data": "*"}, "2.57", 400, "base64"),
        (None, {"user_data": None}, "2.57", 202, ""),
        (None, {"user_data": "aGk="}, "2.56", 400, "user_data"),
        (None, {"trusted_image_certificates": CERTIFICATES}, "2.63", 400, "no key manager"),
        (None, {"trusted_image_certificates": None}, "2.63", 202, ""),
        (None, {"personality": [{"path": "/x", "contents": "aGk="}]}, "2.56", 202, ""),
        (None, {"personality": [{"path": "/x", "contents": "!"}]}, "2.56", 400, "base64"),
        (None, {"personality": []}, "2.57", 400, "personality"),
        (None, {"metadata": {str(n): "" for n in range(129)}}, "2.96", 403, "metadata items"),
        (None, {"preserve_ephemeral": True, "description": "d", "accessIPv4": "10.0.0.9"}, "2.96", 202, ""),
        ({"vm_state": "paused"}, {}, "2.96", 409, "vm_state paused"),
        ({"vm_state": "error"}, {}, "2.96", 202, ""),
        ({"locked_by": "admin"}, {}, "2.96", 409, "is locked"),
    ],
)  # fmt: skip
def test_a_rebuild_is_checked_at_once(
    nova: Nova, prepare: dict[str, Any] | None, change: dict[str, Any], version: str, status: int, word: str
) -> None:
    id = nova.active()
    put(nova, id, **(prepare or {}))
    answer = act(nova, id, "rebuild", {"imageRef": nova.image} | change, version=version)
    assert answer.status_code == status, answer.text
    if status == 202:
        found = row(nova, id)
        assert found["task_state"] == "rebuilding"
        for name in {"hostname", "description", "key_name", "user_data"} & set(change):
            assert found[name] == change[name]
    else:
        assert word in messages(answer)


def test_a_server_is_shelved_into_an_image_of_its_name(nova: Nova) -> None:
    id = nova.active(name="vm")
    assert act(nova, id, "shelve").status_code == 202
    images = nova.database.read(lambda tx: tx.all(sa.select(IMAGES).where(IMAGES.c.name == "vm-shelved")))
    assert [(image["status"], image["properties"]["instance_uuid"]) for image in images] == [("queued", id)]
    assert row(nova, id)["task_state"] == "shelving"
    for action in ("shelveOffload", "unshelve"):
        refused = act(nova, id, action, token=ADMIN)
        assert (refused.status_code, "vm_state active" in messages(refused)) == (409, True)


def shelved(nova: Nova, vm_state: str = "shelved_offloaded") -> str:
    id, image = nova.active(), nova.add_image(name="vm-shelved", properties={"hw_disk_bus": "ide"})
    nova.database.write(lambda tx: shelve.set_shelved(tx, id, image))
    put(nova, id, vm_state=vm_state, task_state=None, **({"host": None} if vm_state != "shelved" else {}))
    return id


def test_only_administrators_offload(nova: Nova) -> None:
    id = shelved(nova, "shelved")
    assert nova.get(f"/servers/{id}").json()["server"]["status"] == "SHELVED"
    assert act(nova, id, "shelveOffload").status_code == 403
    assert act(nova, id, "shelveOffload", token=ADMIN).status_code == 202
    assert nova.shared.flows.started[-1] == ("shelveOffload", id)


@pytest.mark.parametrize(
    ("vm_state", "argument", "more", "status", "word"),
    [
        ("shelved", None, {}, 202, ""),
        ("shelved_offloaded", None, {}, 202, ""),
        ("shelved_offloaded", {"anything": 1}, {"version": "2.76"}, 202, ""),
        ("shelved_offloaded", {"availability_zone": "nova"}, {"version": "2.77"}, 202, ""),
        ("shelved_offloaded", {}, {"version": "2.77"}, 400, "availability_zone"),
        ("shelved_offloaded", {"availability_zone": None}, {"version": "2.77"}, 400, "availability_zone"),
        ("shelved_offloaded", {"availability_zone": None}, {"version": "2.91"}, 202, ""),
        ("shelved_offloaded", {"availability_zone": "mars"}, {}, 400, "The requested availability zone is not available"),
        ("shelved", {"availability_zone": "nova"}, {}, 409, 'with status "shelved" is not supported'),
        ("shelved_offloaded", {"host": "host-1"}, {}, 403, "unshelve_to_host"),
        ("shelved_offloaded", {"host": "host-1"}, {"token": ADMIN}, 202, ""),
        ("shelved_offloaded", {"host": "nowhere"}, {"token": ADMIN}, 400, "Compute host nowhere could not be found."),
        ("shelved_offloaded", {"host": "host-1"}, {"token": ADMIN, "version": "2.90"}, 400, "availability_zone"),
    ],
)  # fmt: skip
def test_an_unshelve_may_name_its_place(
    nova: Nova, vm_state: str, argument: Any, more: dict[str, str], status: int, word: str
) -> None:
    id = shelved(nova, vm_state)
    answer = act(nova, id, "unshelve", argument, **more)
    assert answer.status_code == status, answer.text
    if status == 202:
        found, asked = row(nova, id), argument or {}
        assert (found["task_state"], found["requested_host"]) == ("unshelving", asked.get("host"))
        assert found["availability_zone"] == (asked.get("availability_zone") if "availability_zone" in asked else None)
    else:
        assert word in messages(answer)


def test_a_server_put_away_is_made_from_its_own_image_with_its_old_hardware(nova: Nova) -> None:
    id = shelved(nova)
    found = nova.database.read(lambda tx: spec.server_spec(tx, id))
    assert found.image is not None
    assert found.image.id == row(nova, id)["system_metadata"]["shelved_image_id"] != nova.image
    assert found.image.properties == {}
    put(nova, id, vm_state="active")
    nova.database.write(lambda tx: tx.execute(IMAGES.delete()) and None)
    gone = nova.database.read(lambda tx: spec.server_spec(tx, id)).image
    assert gone is not None and (gone.id, gone.size) == (nova.image, 0)


@pytest.mark.parametrize(
    "ask", [lambda nova, id: nova.delete(f"/servers/{id}"), lambda nova, id: act(nova, id, "forceDelete")]
)
def test_the_image_of_a_server_put_away_goes_with_it(nova: Nova, ask: Callable[[Nova, str], Any]) -> None:
    removed: list[str] = []
    nova.shared.images = type("Store", (), {"delete": lambda self, id, held: removed.append(id)})()  # type: ignore[attr-defined]
    id = shelved(nova)
    image = row(nova, id)["system_metadata"]["shelved_image_id"]
    assert ask(nova, id).status_code in (202, 204)
    assert removed == [image]
    assert nova.database.read(lambda tx: tx.first(sa.select(IMAGES).where(IMAGES.c.id == image))) is None
