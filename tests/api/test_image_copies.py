"""One image in many stores: at its upload, by import, by copies; and one after another until it is gone."""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from image_client import OCTETS, Glance, until

from kilonova.db.engine import Database
from kilonova.image import images
from kilonova.image.stores import FileStore
from kilonova.model.errors import Unavailable

DATA = bytes(range(256)) * 9000
NAMES = ("fast", "far", "third")


@pytest.fixture
def glance(database: Database, tmp_path: Path) -> Glance:
    return Glance(database, tmp_path, stores=NAMES)


def kept(glance: Glance, image_id: str) -> list[str]:
    """The stores that have exactly these bytes."""
    return [name for name in NAMES if (glance.directory / name / image_id).exists()
            and (glance.directory / name / image_id).read_bytes() == DATA]  # fmt: skip


def files(glance: Glance) -> list[str]:
    return [path.name for name in (*NAMES, "staged") for path in (glance.directory / name).iterdir()]


def active(glance: Glance, store: str = "") -> str:
    image_id = str(glance.image()["id"])
    headers = {"X-Auth-Token": "alice", **OCTETS, **({"X-Image-Meta-Store": store} if store else {})}
    sent = glance.http.put(f"/image/v2/images/{image_id}/file", content=DATA, headers=headers)
    assert sent.status_code == 204, sent.text
    return image_id


def bring(glance: Glance, image_id: str, method: str, who: str = "alice", **more: Any) -> Any:
    headers = more.pop("headers", {})
    body = {"method": {"name": method}, **more}
    return glance("POST", f"/images/{image_id}/import", body, who=who, headers=headers)


def ended(glance: Glance, image_id: str) -> dict[str, Any]:
    """The image, once nothing is on its way to it."""

    def tasks() -> Any:
        return glance("GET", f"/images/{image_id}/tasks", who="admin").json()["tasks"]

    until(lambda: all(task["status"] in ("success", "failure") for task in tasks()), "the import ends")
    return dict(glance("GET", f"/images/{image_id}").json())


def break_down(glance: Glance, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """These stores take half of what comes, and are gone."""
    write = FileStore.write

    def breaking(self: FileStore, image_id: str, chunks: Iterable[bytes]) -> None:
        if self.name in names:
            next(iter(chunks))
            raise Unavailable(f"The image store {self.name} cannot be used: it is gone")
        write(self, image_id, chunks)

    monkeypatch.setattr(FileStore, "write", breaking)


def test_the_stores_are_told(glance: Glance) -> None:
    told = glance("GET", "/info/stores").json()["stores"]
    assert [each["id"] for each in told] == list(NAMES)
    assert [each["id"] for each in told if each.get("default")] == ["fast"]
    details = glance("GET", "/info/stores/detail", who="admin").json()["stores"]
    assert [(each["type"], each["properties"]["data_dir"]) for each in details] == [
        ("file", str(glance.directory / name)) for name in NAMES
    ]
    made = glance("POST", "/images", {"name": "image"})
    assert made.headers["OpenStack-image-store-ids"] == "fast,far,third"


def test_an_upload_goes_where_it_is_told(glance: Glance) -> None:
    first, second = active(glance), active(glance, "far")
    assert (kept(glance, first), kept(glance, second)) == (["fast"], ["far"])
    shown = {each["id"]: each["stores"] for each in glance("GET", "/images").json()["images"]}
    assert shown == {first: "fast", second: "far"}
    assert glance("GET", f"/images/{second}/file").content == DATA
    locations = glance("GET", f"/images/{second}/locations", who="admin").json()
    assert locations == [{"url": f"file://{glance.directory / 'far' / second}", "metadata": {"store": "far"}}]
    headers = {"X-Auth-Token": "alice", **OCTETS, "X-Image-Meta-Store": "nowhere"}
    refused = glance.http.put(f"/image/v2/images/{glance.image()['id']}/file", content=DATA, headers=headers)
    assert refused.status_code == 400


@pytest.mark.parametrize(("asked", "where"), [
    ({}, ["fast"]), ({"stores": ["far", "third"]}, ["far", "third"]), ({"all_stores": True}, ["fast", "far", "third"]),
    ({"headers": {"X-Image-Meta-Store": "third"}}, ["third"]),
])  # fmt: skip
def test_an_import_goes_to_each_that_is_asked_for(glance: Glance, asked: Any, where: list[str]) -> None:
    image_id = glance.image()["id"]
    assert glance.upload(image_id, DATA, kind="stage").status_code == 204
    assert bring(glance, image_id, "glance-direct", **asked).status_code == 202
    shown = ended(glance, image_id)
    assert (shown["status"], shown["stores"]) == ("active", ",".join(where))
    assert shown["os_glance_importing_to_stores"] == shown["os_glance_failed_import"] == ""
    assert kept(glance, image_id) == where and len(files(glance)) == len(where)
    usage = glance("GET", "/info/usage").json()["usage"]["image_size_total"]["usage"]
    assert usage == len(DATA) * len(where) >> 20


@pytest.mark.parametrize(("asked", "status"), [
    ({"stores": ["nowhere"]}, 409), ({"stores": "fast"}, 409), ({"stores": []}, 409), ({"stores": [["fast"]]}, 409),
    ({"stores": ["far"], "all_stores": True}, 400), ({"headers": {"X-Image-Meta-Store": "nowhere"}}, 409),
    ({"stores": ["far"], "headers": {"X-Image-Meta-Store": "far"}}, 400),
    ({"all_stores": True, "headers": {"X-Image-Meta-Store": "far"}}, 400),
])  # fmt: skip
def test_stores_that_cannot_be_asked_for(glance: Glance, asked: Any, status: int) -> None:
    image_id = glance.image()["id"]
    glance.upload(image_id, DATA, kind="stage")
    assert bring(glance, image_id, "glance-direct", **asked).status_code == status
    assert glance("GET", f"/images/{image_id}").json()["status"] == "uploading"


def test_where_all_must_have_it_one_that_fails_fails_all(glance: Glance, monkeypatch: pytest.MonkeyPatch) -> None:
    break_down(glance, monkeypatch, "far")
    image_id = glance.image()["id"]
    glance.upload(image_id, DATA, kind="stage")
    assert bring(glance, image_id, "glance-direct", all_stores=True).status_code == 202
    shown = ended(glance, image_id)
    assert (shown["status"], shown.get("stores")) == ("queued", None)
    assert shown["os_glance_failed_import"] == "fast,far,third" and files(glance) == []
    (task,) = glance("GET", f"/images/{image_id}/tasks", who="admin").json()["tasks"]
    assert task["status"] == "failure" and "far cannot be used" in task["message"]


def test_where_not_all_must_have_it_those_that_can_do(glance: Glance, monkeypatch: pytest.MonkeyPatch) -> None:
    break_down(glance, monkeypatch, "fast", "third")
    image_id = glance.image()["id"]
    glance.upload(image_id, DATA, kind="stage")
    assert bring(glance, image_id, "glance-direct", all_stores=True, all_stores_must_succeed=False).status_code == 202
    shown = ended(glance, image_id)
    assert (shown["status"], shown["stores"], shown["os_glance_failed_import"]) == ("active", "far", "fast,third")
    assert kept(glance, image_id) == ["far"] and len(files(glance)) == 1


def test_copies_and_how_they_go_again(glance: Glance) -> None:
    image_id = active(glance)
    copy = {"method": "copy-image", "who": "admin"}
    assert bring(glance, image_id, "copy-image", stores=["far"]).status_code == 403
    assert bring(glance, image_id, stores=["nowhere"], **copy).status_code == 409
    refused = bring(glance, image_id, stores=["far", "fast"], **copy)
    assert refused.status_code == 400 and "already present at store 'fast'" in refused.text
    assert bring(glance, image_id, stores=["far"], **copy).status_code == 202
    assert ended(glance, image_id)["stores"] == "fast,far"
    assert bring(glance, image_id, all_stores=True, **copy).status_code == 202
    assert ended(glance, image_id)["stores"] == "fast,far,third"
    assert kept(glance, image_id) == list(NAMES)
    assert bring(glance, image_id, all_stores=True, **copy).status_code == 202  # nothing to do
    gone = {"fast": 204, "nowhere": 409, "far": 204, "third": 403}
    assert glance("DELETE", f"/stores/fast/{image_id}").status_code == 403
    for store, status in gone.items():
        assert glance("DELETE", f"/stores/{store}/{image_id}", who="admin").status_code == status, store
    assert glance("GET", f"/images/{image_id}").json()["stores"] == "third" and kept(glance, image_id) == ["third"]
    assert glance("GET", f"/images/{image_id}/file").content == DATA
    glance("DELETE", f"/images/{image_id}")
    assert files(glance) == []


def test_of_one_that_is_not_there_nothing_is_deleted(glance: Glance) -> None:
    image_id = active(glance)
    bring(glance, image_id, "copy-image", "admin", stores=["far"])
    ended(glance, image_id)
    assert glance("DELETE", f"/stores/third/{image_id}", who="admin").status_code == 404
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda name: glance("DELETE", f"/stores/{name}/{image_id}", who="admin").status_code, NAMES[:2])
        assert sorted(both) == [204, 403]
    assert len(kept(glance, image_id)) == 1


def test_bytes_that_have_changed_are_not_copied(glance: Glance) -> None:
    image_id = active(glance)
    (glance.directory / "fast" / image_id).write_bytes(DATA[:-1] + b"!")
    assert bring(glance, image_id, "copy-image", "admin", stores=["far"]).status_code == 202
    shown = ended(glance, image_id)
    assert (shown["status"], shown["stores"], shown["os_glance_failed_import"]) == ("active", "fast", "far")
    assert not (glance.directory / "far" / image_id).exists()


def test_one_copy_at_a_time_and_none_of_what_is_deleted(glance: Glance, monkeypatch: pytest.MonkeyPatch) -> None:
    write, begun, go_on = FileStore.write, threading.Event(), threading.Event()

    def slow(self: FileStore, image_id: str, chunks: Iterable[bytes]) -> None:
        if self.name == "far":
            begun.set()
            assert go_on.wait(30)
        write(self, image_id, chunks)

    image_id = active(glance)
    monkeypatch.setattr(FileStore, "write", slow)
    assert bring(glance, image_id, "copy-image", "admin", stores=["far"]).status_code == 202
    assert begun.wait(30)
    usage = {name: each["usage"] for name, each in glance("GET", "/info/usage").json()["usage"].items()}
    assert (usage["image_stage_total"], usage["image_count_uploading"]) == (len(DATA) >> 20, 1)
    assert bring(glance, image_id, "copy-image", "admin", stores=["third"]).status_code == 409
    assert glance("DELETE", f"/images/{image_id}").status_code == 204
    go_on.set()
    until(lambda: not glance.imports._threads, "the copy ends")
    assert files(glance) == []


def test_a_restart_leaves_a_half_made_copy_nowhere(glance: Glance, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = active(glance)
    monkeypatch.setattr(glance.imports, "start", lambda task, owner: None)  # as if the process died at once
    assert bring(glance, image_id, "copy-image", "admin", stores=["far"]).status_code == 202
    (glance.directory / "far" / image_id).write_bytes(DATA)
    images.sweep(glance.database, glance.stores)
    shown = ended(glance, image_id)
    assert (shown["status"], shown["stores"], shown["os_glance_failed_import"]) == ("active", "fast", "far")
    assert kept(glance, image_id) == ["fast"]


def test_a_store_that_is_gone_is_done_without(glance: Glance, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = active(glance)
    bring(glance, image_id, "copy-image", "admin", stores=["far"])
    ended(glance, image_id)
    (glance.directory / "fast" / image_id).unlink()
    assert glance("GET", f"/images/{image_id}/file").content == DATA
    (glance.directory / "far" / image_id).unlink()
    assert glance("GET", f"/images/{image_id}/file").status_code == 503


def test_what_cannot_be_deleted_now_is_at_the_next_start(glance: Glance, monkeypatch: pytest.MonkeyPatch) -> None:
    image_id = active(glance)
    with monkeypatch.context() as broken:

        def gone(self: FileStore, image_id: str) -> None:
            raise Unavailable(f"The image store {self.name} cannot be used: it is gone")

        broken.setattr(FileStore, "delete", gone)
        broken.setattr(glance.stores, "unstage", lambda image_id: None)
        assert glance("DELETE", f"/images/{image_id}").status_code == 204
    assert files(glance) == [image_id]
    assert images.sweep(glance.database, glance.stores) == [image_id] and files(glance) == []
