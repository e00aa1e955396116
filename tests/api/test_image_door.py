"""Glance over HTTP, on both databases; the bytes on a real disk."""

import errno
import hashlib
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from image_client import PATCH, Glance, qcow2, until

from kilonova.db.engine import Database
from kilonova.image import images


@pytest.fixture
def glance(database: Database, tmp_path: Path) -> Glance:
    return Glance(database, tmp_path)


def test_discovery_needs_no_token(glance: Glance) -> None:
    for path, status in (("/image/", 300), ("/image/versions", 200)):
        answer = glance.http.get(path)
        assert answer.status_code == status
        first = answer.json()["versions"][0]
        assert first["status"] == "CURRENT" and first["links"][0]["href"] == "http://testserver/image/v2/"


def test_an_empty_id_is_no_list(glance: Glance) -> None:
    for method in ("GET", "DELETE"):
        assert glance(method, "/images/").status_code == 404
    assert glance.http.get("/image/v2/").status_code == 300


def test_upload_and_download(glance: Glance) -> None:
    image, data = glance.image(os_distro="debian"), bytes(range(256)) * 5000
    url = f"/images/{image['id']}"
    assert (image["status"], image["checksum"], image["os_distro"]) == ("queued", None, "debian")
    empty = glance("GET", f"{url}/file")
    assert empty.status_code == 204 and empty.content == b""
    assert glance.upload(image["id"], data).status_code == 204
    shown = glance("GET", url).json()
    assert (shown["status"], shown["size"], shown["virtual_size"]) == ("active", len(data), len(data))
    assert shown["checksum"] == hashlib.md5(data).hexdigest()
    assert (shown["os_hash_algo"], shown["os_hash_value"]) == ("sha512", hashlib.sha512(data).hexdigest())
    whole = glance("GET", f"{url}/file")
    assert whole.content == data and whole.headers["Content-MD5"] == shown["checksum"]
    assert whole.headers["Content-Length"] == str(len(data))
    part = glance("GET", f"{url}/file", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == data[10:20]
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(data)}"
    assert glance("GET", f"{url}/file", headers={"Range": "bytes=-7"}).content == data[-7:]
    assert glance("GET", f"{url}/file", headers={"Range": f"bytes=-{'9' * 4400}"}).content == data
    for beyond in (f"{len(data)}-", f"{'9' * 4400}-", "-0"):
        assert glance("GET", f"{url}/file", headers={"Range": f"bytes={beyond}"}).status_code == 416
    assert glance.upload(image["id"], b"again").status_code == 409
    assert glance("GET", f"{url}/file").content == data
    assert glance.files() == [image["id"]]
    assert glance("DELETE", url).status_code == 204
    assert glance("GET", url).status_code == 404 and glance.files() == []


def test_a_hole_in_a_raw_image_takes_no_room(glance: Glance, tmp_path: Path) -> None:
    data = b"x" + bytes((8 << 20) - 2) + b"y"
    (tmp_path / "raw").write_bytes(data)
    measured = glance.stores.adopt("holes", tmp_path / "raw", "raw")
    path = glance.kept / "holes"
    assert measured.size == len(data) and measured.checksum == hashlib.md5(data).hexdigest()
    assert path.read_bytes() == data and path.stat().st_blocks * 512 < 4 << 20


def test_two_images_of_one_file_share_its_bytes(glance: Glance, tmp_path: Path) -> None:
    source = tmp_path / "guest.raw"
    source.write_bytes(b"guest" * 1000)
    first, second = (glance.stores.adopt(name, source, "raw") for name in ("one", "two"))
    assert first == second
    assert (glance.kept / "one").samefile(glance.kept / "two")
    assert not (glance.kept / "one").samefile(source)
    glance.store.delete("one")
    assert b"".join(glance.store.read("two")) == source.read_bytes()
    assert glance.stores.adopt("three", source, "raw") == first  # the file it would be linked to is gone
    source.write_bytes(b"other" * 1001)
    assert glance.stores.adopt("four", source, "raw").size == 5005
    assert b"".join(glance.store.read("two")) == b"guest" * 1000
    assert sorted(path.name for path in glance.kept.iterdir()) == ["four", "three", "two"]


def test_qcow2_is_measured(glance: Glance, tmp_path: Path) -> None:
    image = glance.image(disk_format="qcow2")
    assert glance.upload(image["id"], qcow2(tmp_path / "a", size="3M")).status_code == 204
    assert glance("GET", f"/images/{image['id']}").json()["virtual_size"] == 3 << 20


@pytest.mark.parametrize(
    ("declared", "kind"),
    [("qcow2", "backing"), ("qcow2", "data_file"), ("raw", "plain"), ("vmdk", "plain"), ("qcow2", "noise"),
     ("raw", "backing")],
)  # fmt: skip
def test_dangerous_or_wrong_content_is_refused(glance: Glance, tmp_path: Path, declared: str, kind: str) -> None:
    qcow2(tmp_path / "base")
    data = {
        "backing": lambda: qcow2(tmp_path / "b", "-b", str(tmp_path / "base"), "-F", "qcow2"),
        "data_file": lambda: qcow2(tmp_path / "d", "-o", f"data_file={tmp_path}/outside,data_file_raw=on"),
        "plain": lambda: qcow2(tmp_path / "p"),
        "noise": lambda: b"noise" * 1000,
    }[kind]()
    image = glance.image(disk_format=declared)
    refused = glance.upload(image["id"], data)
    assert refused.status_code == 415, refused.text
    shown = glance("GET", f"/images/{image['id']}").json()
    assert (shown["status"], shown["size"], shown["checksum"]) == ("queued", None, None)
    assert glance.files() == []
    staged = glance.upload(image["id"], data, kind="stage")
    assert staged.status_code == 204
    body = {"method": {"name": "glance-direct"}}
    assert glance("POST", f"/images/{image['id']}/import", body).status_code == 202
    until(lambda: glance("GET", f"/images/{image['id']}").json()["status"] == "queued", "still importing")
    assert glance.files() == []


def test_a_full_disk_is_told(glance: Glance, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    image = glance.image()
    monkeypatch.setattr("kilonova.image.stores.file.os.fsync", full)
    for kind in ("file", "stage"):
        refused = glance.upload(image["id"], b"data", kind=kind)
        assert refused.status_code == 413 and "No space left on device" in refused.text
        assert glance("GET", f"/images/{image['id']}").json()["status"] == "queued" and glance.files() == []
    monkeypatch.undo()
    assert glance.upload(image["id"], b"data").status_code == 204


def test_no_id_is_given_twice(glance: Glance, tmp_path: Path) -> None:
    """Hosts keep disks by it, and scripts name it: another's new image would be taken for the old one."""
    (tmp_path / "disk").write_bytes(b"x" * 512)
    asked = images.FromFile("old", tmp_path / "disk", "raw")
    seeded = images.register(glance.database, glance.stores, str(uuid.uuid4()), asked)
    gone = [(glance.image()["id"], "alice"), (seeded["id"], "admin")]
    for image_id, owner in gone:
        assert glance("DELETE", f"/images/{image_id}", who=owner).status_code == 204
        for asked in (image_id, image_id.upper()):
            again = glance("POST", "/images", {"id": asked, "visibility": "community"}, who="bob")
            assert again.status_code == 409 and "already exists" in again.text
        assert glance("GET", f"/images/{image_id}", who="admin").status_code == 404


def test_sweep_after_a_crash(glance: Glance) -> None:
    image, kept = glance.image(), glance.image()
    assert glance.upload(kept["id"], b"kept").status_code == 204
    glance.database.write(lambda tx: images.move(tx, image["id"], "queued", "saving"))
    (glance.kept / f"{image['id']}.0011.part").write_bytes(b"half")
    (glance.kept / str(uuid.uuid4())).write_bytes(b"orphan")
    assert len(images.sweep(glance.database, glance.stores)) == 2
    assert glance.files() == [kept["id"]]
    assert glance("GET", f"/images/{image['id']}").json()["status"] == "queued"


def test_who_sees_what(glance: Glance) -> None:
    private = glance.image(name="private", visibility="private")
    shared = glance.image(name="shared")
    glance.image(name="community", visibility="community")
    assert glance("POST", "/images", {"name": "p", "visibility": "public"}).status_code == 403
    glance.image(who="admin", name="public", visibility="public")
    assert sorted(glance.names("bob")) == ["public"]
    assert glance.names("bob", visibility="community") == ["community"]
    assert sorted(glance.names("alice")) == ["community", "private", "public", "shared"]
    assert glance("GET", f"/images/{private['id']}", who="bob").status_code == 404
    assert glance("DELETE", f"/images/{shared['id']}", who="bob").status_code == 404
    community = glance("GET", "/images", name="community").json()["images"][0]["id"]
    assert glance("DELETE", f"/images/{community}", who="bob").status_code == 403  # visible, but another's
    assert glance("POST", "/images", {"name": "x"}, who="watcher").status_code == 403
    assert glance("POST", "/images", {"name": "x", "owner": "p-alice"}, who="bob").status_code == 403


def test_readers_do_not_download_and_who_is_none_sees_no_image(glance: Glance) -> None:
    """Glance's get_image, get_images, get_members: reader; download_image: member. Another role's images are not there."""
    image, public = glance.image(), glance.image(who="admin", visibility="public")
    for found in (image, public):
        assert glance.upload(found["id"], b"data", who="admin").status_code == 204
        path = f"/images/{found['id']}"
        for who, shown, downloaded in (("alice", 200, 200), ("watcher", 200, 403), ("nova", 404, 403)):
            assert glance("GET", path, who=who).status_code == shown
            assert glance("GET", f"{path}/tasks", who=who).status_code == shown
            assert glance("GET", f"{path}/file", who=who).status_code == downloaded
    members = f"/images/{image['id']}/members"
    assert [glance("GET", members, who=who).status_code for who in ("watcher", "nova")] == [200, 403]
    assert [glance("GET", "/images", who=who).status_code for who in ("watcher", "nova")] == [200, 403]


def test_sharing(glance: Glance) -> None:
    image = glance.image(name="shared")
    path = f"/images/{image['id']}/members"
    added = glance("POST", path, {"member": "p-bob"})
    assert added.status_code == 200 and added.json()["status"] == "pending"
    assert glance("POST", path, {"member": "p-bob"}).status_code == 409
    assert glance("GET", f"/images/{image['id']}", who="bob").status_code == 200
    assert glance.names("bob") == [] and glance.names("bob", member_status="pending") == ["shared"]
    assert glance("PUT", f"{path}/p-bob", {"status": "accepted"}).status_code == 403  # the owner cannot accept
    assert glance("PUT", f"{path}/p-bob", {"status": "accepted"}, who="bob").json()["status"] == "accepted"
    assert glance("GET", f"{path}/p-bob").json()["status"] == "accepted"
    assert glance("PUT", f"{path}/p-bob", {"status": "perhaps"}, who="bob").status_code == 400
    assert glance.names("bob") == ["shared"] == glance.names("bob", visibility="shared")
    assert glance("POST", path, {"member": "p-x"}, who="bob").status_code == 403
    assert [member["member_id"] for member in glance("GET", path).json()["members"]] == ["p-bob"]
    assert glance("DELETE", f"{path}/p-bob").status_code == 204
    assert glance("GET", f"/images/{image['id']}", who="bob").status_code == 404
    alone = glance.image(visibility="private")
    assert glance("GET", f"/images/{alone['id']}/members").status_code == 403


def test_update(glance: Glance) -> None:
    image = glance.image(hw_disk_bus="ide")
    changed = glance.patch(
        image["id"],
        [{"op": "replace", "path": "/name", "value": "new"}, {"op": "add", "path": "/a~1b", "value": "c"},
         {"op": "remove", "path": "/hw_disk_bus"}, {"op": "replace", "path": "/tags", "value": ["x", "x", "y"]}],
    )  # fmt: skip
    assert changed.status_code == 200, changed.text
    body = changed.json()
    assert (body["name"], body["a/b"], body["tags"], "hw_disk_bus" in body) == ("new", "c", ["x", "y"], False)
    for change, status in (
        ({"op": "replace", "path": "/status", "value": "active"}, 403),
        ({"op": "replace", "path": "/nothing", "value": "1"}, 409),
        ({"op": "remove", "path": "/nothing"}, 409),
        ({"op": "remove", "path": "/name"}, 403),
        ({"op": "replace", "path": "/visibility", "value": "public"}, 403),
        ({"op": "replace", "path": "/visibility", "value": "secret"}, 400),
        ({"op": "replace", "path": "/owner", "value": "p-bob"}, 403),
        ({"op": "replace", "path": "/min_disk", "value": -1}, 400),
        ({"op": "replace", "path": "/disk_format", "value": "ami"}, 400),
        ({"op": "add", "path": "/os_glance_x", "value": "1"}, 403),
        ({"op": "add", "path": "/a//b", "value": "1"}, 400),
        ({"op": "move", "path": "/name"}, 400),
        ("not an object", 400),
    ):
        assert glance.patch(image["id"], [change]).status_code == status, change
    assert glance.patch(image["id"], [], kind="application/json").status_code == 415
    old = glance.patch(image["id"], [{"add": "/a~1b", "value": "d"}], kind=PATCH.replace("2.1", "2.0"))
    assert old.status_code == 409
    assert glance.upload(image["id"], b"data").status_code == 204
    active = [{"op": "replace", "path": "/disk_format", "value": "qcow2"}]
    assert glance.patch(image["id"], active).status_code == 403


def test_one_request_has_so_many_changes_and_no_more(glance: Glance) -> None:
    """More would keep all others from writing for seconds."""
    image, change = glance.image(), {"op": "add", "path": "/a", "value": "1"}
    assert glance.patch(image["id"], [change] * 1000).json()["a"] == "1"
    refused = glance.patch(image["id"], [change] * 1001)
    assert refused.status_code == 400 and "at most 1000" in refused.text


def test_protected_hidden_deactivated(glance: Glance) -> None:
    image = glance.image(protected=True, os_hidden=True)
    path = f"/images/{image['id']}"
    assert glance("DELETE", path).status_code == 403
    assert glance.names() == [] and glance.names(os_hidden="true") == ["image"]
    assert glance.upload(image["id"], b"data").status_code == 204
    assert glance("POST", f"{path}/actions/deactivate").status_code == 204
    assert glance("GET", f"{path}/file").status_code == 403
    assert glance("POST", f"{path}/actions/reactivate").status_code == 204
    assert glance("GET", f"{path}/file").content == b"data"
    glance.patch(image["id"], [{"op": "replace", "path": "/protected", "value": False}])
    assert glance("DELETE", path).status_code == 204


def test_tags(glance: Glance) -> None:
    image = glance.image(name="tagged", tags=["one"])
    glance.image(name="plain")
    assert glance("PUT", f"/images/{image['id']}/tags/two").status_code == 204
    assert glance.names(tag="two") == ["tagged"]
    assert glance("DELETE", f"/images/{image['id']}/tags/two").status_code == 204
    assert glance("DELETE", f"/images/{image['id']}/tags/two").status_code == 404
    assert glance("PUT", f"/images/{image['id']}/tags/{'t' * 256}").status_code == 400
    assert glance("GET", f"/images/{image['id']}").json()["tags"] == ["one"]


@pytest.mark.parametrize("tag", ["a?b", "a#b", "a%b", "a\nb", "é", ".."])
def test_a_name_in_an_address_is_taken_as_it_is(glance: Glance, tag: str) -> None:
    image = glance.image(tags=["a"])
    path = f"/images/{image['id']}/tags/{quote(tag, safe='').replace('.', '%2E')}"
    assert glance("PUT", path).status_code == 204
    assert glance("GET", f"/images/{image['id']}").json()["tags"] == sorted(["a", tag])
    assert glance("DELETE", path).status_code == 204
    assert glance("GET", f"/images/{image['id']}").json()["tags"] == ["a"]


def test_list(glance: Glance) -> None:
    for name, size in (("a", 10), ("b", 30), ("c", 20)):
        assert glance.upload(glance.image(name=name, flavour=name)["id"], bytes([1]) * size).status_code == 204
    assert glance.names(sort="name:asc") == ["a", "b", "c"]
    assert glance.names(sort="size:desc,name") == ["b", "c", "a"]
    assert glance.names(sort_key="name", sort_dir="desc") == ["c", "b", "a"]
    assert glance.names(size_min=15, size_max=25) == ["c"]
    assert sorted(glance.names(name="in:a,c")) == ["a", "c"] and glance.names(flavour="b") == ["b"]
    assert glance.names(created_at="lt:2001-01-01T00:00:00Z") == []
    seen, url = [], "/images?limit=2&sort=name:asc"
    while url:
        page = glance("GET", url).json()
        assert page["first"].startswith("/v2/images?") and page["schema"] == "/v2/schemas/images"
        seen += [image["name"] for image in page["images"]]
        url = page.get("next", "").removeprefix("/v2")
    assert seen == ["a", "b", "c"]
    assert glance.names(sort="name:asc", limit="9" * 4400) == ["a", "b", "c"]
    for bad in ("limit=-1", "limit=x", "limit=٣", "sort=colour", "sort_dir=up&sort_key=name", "visibility=no", "marker=none",
                "size_min=x", "created_at=gt:never", "protected=maybe", "member_status=x", "changes-since=1"):  # fmt: skip
        assert glance("GET", f"/images?{bad}").status_code == 400, bad


def test_schemas_and_stores(glance: Glance) -> None:
    for name in ("image", "images", "member", "members"):
        assert glance("GET", f"/schemas/{name}").json()["name"] == name
    assert glance("GET", "/info/stores").json()["stores"][0]["id"] == "file"
    assert glance("GET", "/info/stores/detail").status_code == 403
    assert glance("GET", "/info/stores/detail", who="admin").json()["stores"][0]["type"] == "file"
    image = glance.image()["id"]
    assert glance("GET", f"/images/{image}/tasks").json()["tasks"] == []
    assert glance("DELETE", f"/stores/file/{image}", who="admin").status_code == 409  # it has no data there
    glance.upload(image, b"x")
    assert glance("DELETE", f"/stores/file/{image}", who="admin").status_code == 403  # its only data


@pytest.mark.parametrize(
    ("body", "status"),
    [(None, 400), ([], 400), ({"name": 7}, 400), ({"id": "short"}, 400), ({"disk_format": "floppy"}, 400),
     ({"min_ram": -1}, 400), ({"status": "active"}, 403), ({"self": "x"}, 403), ({"os_glance_x": "y"}, 403),
     ({"extra": 5}, 400), ({"name": "x" * 256}, 400), ({"disk_format": "aki", "container_format": "bare"}, 400),
     ({"x" * 256: "y"}, 400), ({"locations": []}, 403), ({"owner": "p-bob"}, 403)],
)  # fmt: skip
def test_bad_images_are_refused(glance: Glance, body: Any, status: int) -> None:
    refused = glance("POST", "/images", body)
    assert refused.status_code == status, refused.text
    assert "<h1>" in refused.text and refused.headers["Content-Type"].startswith("text/html")


def test_upload_needs_its_formats_and_type(glance: Glance) -> None:
    made = glance("POST", "/images", {"name": "bare"}).json()
    refused = glance.upload(made["id"], b"x")
    assert refused.status_code == 400 and "disk_format, container_format must be set" in refused.text
    url = f"/image/v2/images/{made['id']}/file"
    assert glance.http.put(url, content=b"x", headers={"X-Auth-Token": "alice"}).status_code == 415
    assert glance.upload(str(uuid.uuid4()), b"x").status_code == 404
    same = glance("POST", "/images", {"id": made["id"]})
    assert same.status_code == 409


def test_a_seeded_file_and_its_spec(glance: Glance, tmp_path: Path) -> None:
    data, image_id = qcow2(tmp_path / "guest", size="2M"), str(uuid.uuid4())
    source = tmp_path / "guest"

    def seed() -> Any:
        properties = {"hw_disk_bus": "ide", "kernel_id": "k"}
        asked = images.FromFile("guest", source, "qcow2", min_disk=1, properties=properties)
        return images.register(glance.database, glance.stores, image_id, asked)

    assert seed()["id"] == seed()["id"] == image_id
    assert (glance.kept / image_id).read_bytes() == data and source.exists()
    spec = glance.database.read(lambda tx: images.image_spec(tx, image_id))
    assert (spec.disk_format, spec.size, spec.min_disk_gb, spec.kernel_id) == ("qcow2", len(data), 1, "k")
    assert glance.names("bob") == ["guest"]


def test_nul_characters_are_refused(glance: Glance) -> None:
    """PostgreSQL cannot keep them: never a 500 for it."""
    assert glance("POST", "/images", {"name": "a\0b"}).status_code == 400
    assert glance("POST", "/images", {"name": "a", "k\0": "v"}).status_code == 400
    assert glance("POST", "/images", {"name": "a\\u0000b"}).status_code == 201  # a backslash, not a NUL
    assert glance("GET", "/images/%00").status_code == 400
    assert glance("GET", "/images?owner=%00").status_code == 400


def test_locations(glance: Glance) -> None:
    image = glance.image(visibility="community")
    path, url = f"/images/{image['id']}/locations", {"url": "file:///etc/passwd"}
    assert glance("GET", path, who="nova").json() == []
    for who, status, why in (
        ("alice", 403, "http store must be enabled"), ("bob", 403, "http store must be enabled"),
        ("watcher", 403, ""), ("nova", 400, "Invalid location"), ("admin", 400, "Invalid location"),
    ):  # fmt: skip
        refused = glance("POST", path, url, who=who)
        assert refused.status_code == status and why in refused.text, who
    for bad in (None, [], {}, {"url": 7}, {**url, "validation_data": {"os_hash_algo": "sha512"}},
                {**url, "validation_data": {"os_hash_algo": "crc", "os_hash_value": "1"}}):  # fmt: skip
        assert glance("POST", path, bad).status_code == 400, bad
    glance.upload(image["id"], b"data")
    assert glance("POST", path, url).status_code == 409
    shown = glance("GET", path, who="nova").json()
    assert shown == [{"url": f"file://{glance.kept / image['id']}", "metadata": {"store": "file"}}]
    assert glance("GET", path).status_code == 403
    private = glance.image(visibility="private")
    assert glance("POST", f"/images/{private['id']}/locations", url, who="bob").status_code == 404
