"""Volumes at Cinder's door: made, shown, listed, grown, deleted; and what is refused."""

from typing import Any

import pytest
from volume_client import ADMIN, DEMO_PROJECT, OTHER, READER, Cinder, cinder

from kilonova.model.ids import new_id
from kilonova.volume import states

__all__ = ["cinder"]


def test_a_volume_from_creation_to_deletion(cinder: Cinder) -> None:
    made = cinder.volume(run=False, name="a", description="b", metadata={"k": "v"})
    assert (made["status"], made["size"], made["volume_type"]) == ("creating", 1, "__DEFAULT__")
    cinder.run()
    shown = cinder.look(made)
    assert (shown["status"], shown["name"], shown["description"]) == ("available", "a", "b")
    assert (shown["metadata"], shown["attachments"], shown["bootable"]) == ({"k": "v"}, [], "false")
    project = f"{DEMO_PROJECT}/" if cinder.in_project else ""
    assert shown["links"][0]["href"] == f"http://testserver/volume/v3/{project}volumes/{made['id']}"
    assert len(cinder.host.leftovers()["volumes"]) == 1
    assert cinder.delete(f"/volumes/{made['id']}").status_code == 202
    assert cinder.look(made)["status"] == "deleting"
    cinder.run()
    assert cinder.get(f"/volumes/{made['id']}").status_code == 404
    assert cinder.host.leftovers()["volumes"] == []


def test_what_each_microversion_shows(cinder: Cinder) -> None:
    id = cinder.volume()["id"]
    added = {"3.13": "group_id", "3.48": "shared_targets", "3.63": "volume_type_id", "3.65": "consumes_quota"}
    for version, field in added.items():
        before = f"3.{int(version.removeprefix('3.')) - 1}"
        assert field in cinder.get(f"/volumes/{id}", version=version).json()["volume"]
        assert field not in cinder.get(f"/volumes/{id}", version=before).json()["volume"]
    mine, admins = (cinder.get(f"/volumes/{id}", token).json()["volume"] for token in ("demo", ADMIN))
    assert "os-vol-host-attr:host" not in mine
    assert admins["os-vol-host-attr:host"] in ("host-1@file#file", "host-1@other#other")


def test_a_volume_is_made_from_an_image_a_snapshot_or_a_volume(cinder: Cinder) -> None:
    image = cinder.image(b"\1" * 700, min_disk=1)
    first = cinder.volume(imageRef=image)
    assert (first["bootable"], first["volume_image_metadata"]["image_id"]) == ("true", image)
    snapshot = cinder.made("snapshot", volume_id=first["id"])
    for source in ({"snapshot_id": snapshot["id"]}, {"source_volid": first["id"]}):
        copy = cinder.volume(size=2, **source)
        assert (copy["status"], copy["size"], copy["bootable"]) == ("available", 2, "true")
        assert source.items() <= copy.items()
    held = [cinder.host.held("volumes", name) for name in cinder.host.leftovers()["volumes"]]
    assert sorted((each["size_gb"], each["content"]) for each in held) == [
        (1, f"image {image}"), (2, f"image {image}"), (2, f"image {image}"),
    ]  # fmt: skip
    for wrong, words in (
        ({"size": 1, "snapshot_id": cinder.made("snapshot", volume_id=copy["id"])["id"]}, "snapshot size 2GB"),
        ({"size": 1, "source_volid": copy["id"]}, "original volume size  2GB"),
        ({"size": 1, "imageRef": cinder.image(min_disk=5)}, "minDisk size 5GB"),
        ({"size": 1, "imageRef": new_id()}, "Invalid image identifier"),
    ):
        refused = cinder.post("/volumes", {"volume": wrong})
        assert refused.status_code == 400 and words in refused.text, refused.text
    for missing in ({"snapshot_id": new_id()}, {"source_volid": new_id()}, {"backup_id": new_id()}):
        assert cinder.post("/volumes", {"volume": missing}).status_code == 404


def test_bad_wishes_get_cinders_own_words(cinder: Cinder) -> None:
    for wish, status in (
        ({}, 400), ({"size": 0}, 400), ({"size": -1}, 400), ({"size": "x"}, 400), ({"size": 1.5}, 400),
        ({"size": 1, "availability_zone": "mars"}, 400), ({"size": 1, "volume_type": "none"}, 404),
        ({"size": 1, "metadata": {"a" * 256: "b"}}, 400), ({"size": 1, "name": "n" * 256}, 400),
        ({"size": 1, "multiattach": True}, 400), ({"size": 1, "unknown": 1}, 400),
        ({"size": 1, "group_id": new_id()}, 404),
    ):  # fmt: skip
        answer = cinder.post("/volumes", {"volume": wish})
        assert answer.status_code == status, (wish, answer.text)
        assert next(iter(answer.json())) in ("badRequest", "itemNotFound")
    assert cinder.get("/volumes").json() == {"volumes": []}


def test_lists_are_filtered_sorted_and_paged(cinder: Cinder) -> None:
    made = [cinder.volume(name=f"v{n}", metadata={"n": str(n)}) for n in range(3)]
    other = cinder.volume(OTHER, name="v1")

    def names(query: str, token: str = "demo", version: str = "3.71") -> list[str]:
        answer = cinder.get(f"/volumes/detail?{query}", token, version)
        assert answer.status_code == 200, answer.text
        return [volume["name"] for volume in answer.json()["volumes"]]

    assert names("") == ["v2", "v1", "v0"]
    assert names("sort=name:asc,name:desc") == ["v0", "v1", "v2"]  # a key's first place counts
    assert names("sort=name:asc") == ["v0", "v1", "v2"] and names("sort_key=name&sort_dir=desc") == ["v2", "v1", "v0"]
    assert names("name=v1") == ["v1"] and names("name~=v") == ["v2", "v1", "v0"]
    assert names("name~=nothing", version="3.30") == names("foo=bar", version="3.30") == ["v2", "v1", "v0"]
    assert names("name~=v", ADMIN, "3.33") == []
    for unknown in ("name~=v", "foo=bar"):
        assert cinder.get(f"/volumes?{unknown}", version="3.31").status_code == 400
    assert names("status=available&bootable=false&availability_zone=nova") == ["v2", "v1", "v0"]
    assert names("status=error") == [] and names("bootable=true") == []
    assert names("metadata=%7B%22n%22%3A%20%222%22%7D") == ["v2"]
    assert names("limit=2") == ["v2", "v1"] and names(f"marker={made[1]['id']}") == ["v0"]
    assert names("limit=1&offset=1") == ["v1"] and names("limit=0") == []
    assert len(names("all_tenants=1", ADMIN)) == 4 and names("all_tenants=1") == ["v2", "v1", "v0"]
    assert names(f"all_tenants=1&project_id={DEMO_PROJECT}", ADMIN) == ["v2", "v1", "v0"]
    assert names("created_at=gt:2000-01-01T00:00:00") == ["v2", "v1", "v0"]
    assert names("created_at=lt:2000-01-01T00:00:00") == []
    page = cinder.get("/volumes?limit=2").json()
    assert "marker=" in page["volumes_links"][0]["href"]
    assert cinder.get("/volumes?with_count=true").json()["count"] == 3
    for bad in ("limit=-1", "limit=x", "offset=-1", "sort=nothing", "sort=name:up", "sort=name&sort_key=id",
                "created_at=since:2000", "metadata=x", "foo=bar"):  # fmt: skip
        assert cinder.get(f"/volumes?{bad}").status_code == 400, bad
    assert cinder.get(f"/volumes?marker={new_id()}").status_code == 404
    summary = cinder.get("/volumes/summary").json()["volume-summary"]
    assert (summary["total_count"], summary["total_size"]) == (3, 3)
    assert sorted(summary["metadata"]["n"]) == ["0", "1", "2"]
    assert cinder.get(f"/volumes/{other['id']}").status_code == 404


def test_metadata_and_names_are_changed(cinder: Cinder) -> None:
    id = cinder.volume(metadata={"a": "1"})["id"]
    assert cinder.post(f"/volumes/{id}/metadata", {"metadata": {"b": "2"}}).json() == {"metadata": {"a": "1", "b": "2"}}
    assert cinder.put(f"/volumes/{id}/metadata/b", {"meta": {"b": "3"}}).json() == {"meta": {"b": "3"}}
    assert cinder.put(f"/volumes/{id}/metadata/b", {"meta": {"c": "3"}}).status_code == 400
    assert cinder.get(f"/volumes/{id}/metadata/b").json() == {"meta": {"b": "3"}}
    assert cinder.get(f"/volumes/{id}/metadata").json() == {"metadata": {"a": "1", "b": "3"}}
    assert cinder.delete(f"/volumes/{id}/metadata/b").status_code == 200
    assert cinder.get(f"/volumes/{id}/metadata/b").status_code == 404
    assert cinder.put(f"/volumes/{id}/metadata", {"metadata": {}}).json() == {"metadata": {}}
    changed = cinder.put(f"/volumes/{id}", {"volume": {"name": " n ", "description": "d"}}).json()["volume"]
    assert (changed["name"], changed["description"]) == ("n", "d")
    assert cinder.put(f"/volumes/{id}", {"volume": {}}).status_code == 400
    assert cinder.put(f"/volumes/{id}", {"volume": {"name": "x"}}, READER).status_code == 403


def test_metadata_has_so_many_items_and_no_more(cinder: Cinder) -> None:
    """Cinder has no limit; a list of all volumes in detail has all of it."""
    many = {f"key{number}": "x" for number in range(257)}
    rest = dict(list(many.items())[:255])
    assert cinder.post("/volumes", {"volume": {"size": 1, "metadata": many}}).status_code == 400
    volume = cinder.volume(metadata=rest)
    snapshot = cinder.made("snapshot", volume_id=volume["id"], metadata=rest)
    for path in (f"/volumes/{volume['id']}/metadata", f"/snapshots/{snapshot['id']}/metadata"):
        assert cinder.put(path, {"metadata": many}).status_code == 400
        over = cinder.post(path, {"metadata": {"key255": "x", "key256": "x"}})
        assert (over.status_code, over.json()["overLimit"]["message"][:21]) == (413, "Invalid metadata size")
        assert cinder.put(f"{path}/key255", {"meta": {"key255": "x"}}).status_code == 200
        assert cinder.put(f"{path}/key256", {"meta": {"key256": "x"}}).status_code == 413
        assert cinder.delete(f"{path}/key0").status_code == 200
    of_image = ({"metadata": rest}, {"metadata": {"key255": "x", "key256": "x"}})
    assert [cinder.act(volume, "os-set_image_metadata", each).status_code for each in of_image] == [200, 413]


def test_a_volume_grows_and_its_quota_with_it(cinder: Cinder) -> None:
    volume = cinder.volume()
    path = f"/os-quota-sets/{DEMO_PROJECT}"
    assert cinder.put(path, {"quota_set": {"gigabytes": 3}}, ADMIN).status_code == 200
    assert cinder.act(volume, "os-extend", {"new_size": 1}).status_code == 400
    over = cinder.act(volume, "os-extend", {"new_size": 4})
    assert over.status_code == 413 and "gigabytes" in over.json()["overLimit"]["message"]
    answer = cinder.post(f"/volumes/{volume['id']}/action", {"os-extend": {"new_size": 3}})
    assert answer.status_code == 202
    used = cinder.get(f"{path}?usage=true").json()["quota_set"]["gigabytes"]
    assert (used["in_use"], used["reserved"], used["limit"]) == (1, 2, 3)
    assert cinder.post("/volumes", {"volume": {"size": 1}}).status_code == 413
    assert cinder.act(volume, "os-extend", {"new_size": 3}).status_code == 400  # it is extending
    cinder.run()
    assert (cinder.look(volume)["size"], cinder.look(volume)["status"]) == (3, "available")
    used = cinder.get(f"{path}?usage=true").json()["quota_set"]["gigabytes"]
    assert (used["in_use"], used["reserved"]) == (3, 0)


def test_a_volume_with_snapshots_goes_with_them_or_not_at_all(cinder: Cinder) -> None:
    volume = cinder.volume()
    cinder.made("snapshot", volume_id=volume["id"])
    assert cinder.delete(f"/volumes/{volume['id']}").status_code == 400
    assert cinder.delete(f"/volumes/{volume['id']}?cascade=true").status_code == 202
    cinder.run()
    assert cinder.get("/volumes").json() == {"volumes": []} and cinder.get("/snapshots").json() == {"snapshots": []}
    left = cinder.host.leftovers()
    assert (left["volumes"], left["snapshots"]) == ([], [])


def test_a_source_stays_until_its_copy_is_made(cinder: Cinder) -> None:
    volume = cinder.volume()
    copy = cinder.volume(run=False, source_volid=volume["id"])
    assert cinder.delete(f"/volumes/{volume['id']}").status_code == 202
    cinder.run()
    assert cinder.look(copy)["status"] == "available"
    assert cinder.get(f"/volumes/{volume['id']}").status_code == 404


@pytest.mark.parametrize("status", ["error", "creating", "deleting", "in-use", "maintenance"])
def test_administrators_reset_states_and_delete_by_force(cinder: Cinder, status: str) -> None:
    volume = cinder.volume()
    assert cinder.act(volume, "os-reset_status", {"status": status}).status_code == 403
    assert cinder.act(volume, "os-reset_status", {"status": status}, ADMIN).status_code == 202
    assert cinder.look(volume)["status"] == status
    if status not in ("error", "deleting"):
        assert cinder.delete(f"/volumes/{volume['id']}").status_code == 400
    assert cinder.act(volume, "os-force_delete", {}).status_code == 403
    if status == "deleting":
        cinder.act(volume, "os-reset_status", {"status": "error"}, ADMIN)
    assert cinder.act(volume, "os-force_delete", {}, ADMIN).status_code == 202
    assert cinder.get(f"/volumes/{volume['id']}").status_code == 404


def test_flags_and_image_metadata(cinder: Cinder) -> None:
    volume = cinder.volume()
    assert cinder.act(volume, "os-set_bootable", {"bootable": True}).status_code == 200
    assert cinder.act(volume, "os-update_readonly_flag", {"readonly": True}).status_code == 202
    shown = cinder.look(volume)
    assert (shown["bootable"], shown["metadata"]) == ("true", {"readonly": "True"})
    assert cinder.act(volume, "os-update_readonly_flag", {"readonly": False}).status_code == 202
    assert cinder.look(volume)["metadata"] == {"readonly": "False"}
    assert cinder.act(volume, "os-set_image_metadata", {"metadata": {"a": "b"}}).json() == {"metadata": {"a": "b"}}
    assert cinder.act(volume, "os-show_image_metadata", {}).json() == {"metadata": {"a": "b"}}
    assert cinder.act(volume, "os-unset_image_metadata", {"key": "c"}).status_code == 404
    assert cinder.act(volume, "os-unset_image_metadata", {"key": "a"}).status_code == 200
    assert cinder.act(volume, "os-nothing", {}).status_code == 400
    assert cinder.post(f"/volumes/{volume['id']}/action", {}).status_code == 400


def test_a_volume_that_no_backend_takes_says_so_in_a_message(cinder: Cinder) -> None:
    specs: dict[str, Any] = {"volume_backend_name": "nowhere"}
    assert cinder.post("/types", {"volume_type": {"name": "t", "extra_specs": specs}}, ADMIN).status_code == 200
    volume = cinder.volume(volume_type="t")
    assert volume["status"] == "error"
    message = cinder.get("/messages").json()["messages"][0]
    assert (message["resource_uuid"], message["event_id"]) == (volume["id"], "VOLUME_VOLUME_001_003")
    assert "weighted backend" in message["user_message"]
    assert cinder.get(f"/messages/{message['id']}").json()["message"] == message
    assert cinder.get(f"/messages/{message['id']}", OTHER).status_code == 404
    assert cinder.delete(f"/messages/{message['id']}").status_code == 204
    assert cinder.delete(f"/messages/{message['id']}").status_code == 404
    assert cinder.delete(f"/volumes/{volume['id']}").status_code == 202
    cinder.run()
    assert cinder.get("/volumes").json() == {"volumes": []}


def test_the_project_in_the_address_is_the_tokens(cinder: Cinder) -> None:
    id = cinder.volume()["id"]
    shown = cinder.get(f"/{DEMO_PROJECT}/volumes/{id}").json()["volume"]
    assert shown["links"][0]["href"].endswith(f"/v3/{DEMO_PROJECT}/volumes/{id}")
    assert cinder.get(f"/{DEMO_PROJECT}/volumes/{id}", ADMIN).status_code == 400
    assert cinder.get(f"/volumes/{id}", READER).status_code == 200
    assert cinder.delete(f"/volumes/{id}", READER).status_code == 403
    row = cinder.database.read(lambda tx: states.get_row(tx, "volume", id))
    assert row["status"] == "available"
