"""What Cinder keeps besides volumes and their types: snapshots, backups, transfers, groups, attachments, services."""

import base64
import json
from typing import Any

import pytest
from compute_client import ADMIN_PROJECT
from volume_client import ADMIN, DEMO, DEMO_PROJECT, OTHER, OTHER_PROJECT, READER, Cinder, cinder, volume_type

from kilonova.compute.tables import BLOCK_DEVICES
from kilonova.model.ids import new_id, now
from kilonova.volume.routes import OPERATIONS

__all__ = ["cinder"]


# Snapshots


def test_snapshots(cinder: Cinder) -> None:
    volume = cinder.volume()
    made = cinder.made("snapshot", volume_id=volume["id"], name="s", metadata={"k": "v"}, run=False)
    assert made["status"] == "creating"
    cinder.run()
    path = f"/snapshots/{made['id']}"
    shown = cinder.get(path).json()["snapshot"]
    assert (shown["status"], shown["size"], shown["metadata"]) == ("available", 1, {"k": "v"})
    assert shown["os-extended-snapshot-attributes:progress"] == "100%"
    assert cinder.put(path, {"snapshot": {"name": "t", "description": "d"}}).json()["snapshot"]["name"] == "t"
    assert cinder.put(f"{path}/metadata/k", {"meta": {"k": "w"}}).json() == {"meta": {"k": "w"}}
    assert cinder.get(f"{path}/metadata").json() == {"metadata": {"k": "w"}}
    assert cinder.get(f"{path}/metadata/k").json() == {"meta": {"k": "w"}}
    assert cinder.post(f"{path}/metadata", {"metadata": {"l": "x"}}).json() == {"metadata": {"k": "w", "l": "x"}}
    assert cinder.put(f"{path}/metadata", {"metadata": {"k": "y"}}).json() == {"metadata": {"k": "y"}}
    assert cinder.get(f"{path}/metadata/l").status_code == 404
    assert cinder.delete(f"{path}/metadata/k").status_code == 200
    assert [each["id"] for each in cinder.get("/snapshots?name=t").json()["snapshots"]] == [made["id"]]
    assert cinder.post(f"{path}/action", {"os-reset_status": {"status": "error"}}).status_code == 403
    assert cinder.post(f"{path}/action", {"os-reset_status": {"status": "error"}}, ADMIN).status_code == 202
    assert cinder.get("/snapshots/detail?status=error").json()["snapshots"][0]["id"] == made["id"]
    assert cinder.delete(path).status_code == 202
    cinder.run()
    assert cinder.get(path).status_code == 404 and cinder.host.leftovers()["snapshots"] == []
    for wish, status in (
        ({"volume_id": new_id()}, 404), ({}, 404), ({"volume_id": volume["id"], "force": "maybe"}, 400),
    ):  # fmt: skip
        assert cinder.post("/snapshots", {"snapshot": wish}).status_code == status
    cinder.act(volume, "os-reset_status", {"status": "in-use"}, ADMIN)
    wish = {"snapshot": {"volume_id": volume["id"]}}
    assert cinder.post("/snapshots", wish, version="3.65").status_code == 400
    assert (
        cinder.post("/snapshots", {"snapshot": {**wish["snapshot"], "force": True}}, version="3.0").status_code == 202
    )
    assert cinder.post("/snapshots", wish).status_code == 202


def test_a_snapshot_s_quota_is_the_volume_s_size(cinder: Cinder) -> None:
    volume = cinder.volume(size=2)
    cinder.put(f"/os-quota-sets/{DEMO_PROJECT}", {"quota_set": {"gigabytes": 3, "snapshots": 1}}, ADMIN)
    refused = cinder.post("/snapshots", {"snapshot": {"volume_id": volume["id"]}})
    assert refused.status_code == 413 and "snapshot" in refused.text
    cinder.put(f"/os-quota-sets/{DEMO_PROJECT}", {"quota_set": {"gigabytes": 9}}, ADMIN)
    cinder.made("snapshot", volume_id=volume["id"])
    assert cinder.post("/snapshots", {"snapshot": {"volume_id": volume["id"]}}).status_code == 413
    refused = cinder.put(f"/os-quota-sets/{DEMO_PROJECT}", {"quota_set": {"gigabytes": 1}}, ADMIN)
    assert refused.status_code == 400 and "Current usage is 4" in refused.text


# Backups


def test_backups_whole_and_incremental(cinder: Cinder) -> None:
    volume = cinder.volume()
    whole = cinder.made("backup", volume_id=volume["id"], name="b", container="c")
    assert (whole["status"], whole["size"], whole["is_incremental"]) == ("available", 1, False)
    second = cinder.made("backup", volume_id=volume["id"], incremental=True)
    assert second["is_incremental"] and (whole["container"], second["container"]) == ("c", None)
    named = cinder.put(f"/backups/{second['id']}", {"backup": {"name": "n", "metadata": {"k": "v"}}})
    assert (named.status_code, named.json()["backup"]["name"]) == (200, "n")
    assert cinder.get(f"/backups/{second['id']}").json()["backup"]["metadata"] == {"k": "v"}
    action = f"/backups/{second['id']}/action"
    assert cinder.post(action, {"os-reset_status": {"status": "error"}}).status_code == 403
    for status in ("error", "available"):
        assert cinder.post(action, {"os-reset_status": {"status": status}}, ADMIN).status_code == 202
        assert cinder.get(f"/backups/{second['id']}").json()["backup"]["status"] == status
    assert cinder.get(f"/backups/{whole['id']}").json()["backup"]["has_dependent_backups"]
    assert cinder.delete(f"/backups/{whole['id']}").status_code == 400
    assert cinder.look(volume)["status"] == "available"
    restored = cinder.post(f"/backups/{second['id']}/restore", {"restore": {"name": "r"}}).json()["restore"]
    cinder.run()
    found = cinder.get(f"/volumes/{restored['volume_id']}").json()["volume"]
    assert (found["name"], found["status"], found["size"]) == ("r", "available", 1)
    small = cinder.made("backup", volume_id=cinder.volume(size=2)["id"])
    wish = {"restore": {"volume_id": volume["id"]}}
    assert cinder.post(f"/backups/{small['id']}/restore", wish).status_code == 400
    for id in (second["id"], whole["id"], small["id"]):
        assert cinder.delete(f"/backups/{id}").status_code == 202
        cinder.run()
    assert cinder.get("/backups/detail").json() == {"backups": []} and cinder.host.leftovers()["backups"] == []
    other = cinder.volume()
    wish = {"backup": {"volume_id": other["id"], "incremental": True}}
    assert cinder.post("/backups", wish).status_code == 400
    assert cinder.look(other)["status"] == "available"


def test_what_is_restored_boots_as_it_did(cinder: Cinder) -> None:
    image = cinder.image()
    boots = cinder.volume(imageRef=image)
    backup = cinder.made("backup", volume_id=boots["id"])
    blank = cinder.volume()
    for wish in ({}, {"volume_id": blank["id"]}):
        restored = cinder.post(f"/backups/{backup['id']}/restore", {"restore": wish}).json()["restore"]
        cinder.run()
        found = cinder.get(f"/volumes/{restored['volume_id']}").json()["volume"]
        assert (found["status"], found["bootable"]) == ("available", "true")
        assert found["volume_image_metadata"]["image_id"] == image
    other = cinder.made("backup", volume_id=cinder.volume()["id"])
    restored = cinder.post(f"/backups/{other['id']}/restore", {"restore": {}}).json()["restore"]
    assert cinder.get(f"/volumes/{restored['volume_id']}").json()["volume"]["bootable"] == "false"


def test_a_record_of_a_backup_is_carried_to_where_it_was_forgotten(cinder: Cinder) -> None:
    backup = cinder.made("backup", volume_id=cinder.volume()["id"], name="b")
    record = cinder.get(f"/backups/{backup['id']}/export_record", ADMIN).json()["backup-record"]
    assert cinder.get(f"/backups/{backup['id']}/export_record").status_code == 403
    assert cinder.post("/backups/import_record", {"backup-record": record}, ADMIN).status_code == 400
    told = json.loads(base64.b64decode(record["backup_url"]))
    told["id"] = new_id()
    record["backup_url"] = base64.b64encode(json.dumps(told).encode()).decode()
    imported = cinder.post("/backups/import_record", {"backup-record": record}, ADMIN)
    assert imported.status_code == 201 and imported.json()["backup"]["id"] == told["id"]
    assert cinder.delete(f"/backups/{backup['id']}").status_code == 202
    cinder.run()
    assert cinder.host.leftovers()["backups"] == [backup["id"]]  # the imported record tells of it
    answer = cinder.post(f"/backups/{told['id']}/restore", {"restore": {}}, ADMIN)
    cinder.run()
    restored = cinder.get(f"/volumes/{answer.json()['restore']['volume_id']}", ADMIN).json()["volume"]
    assert restored["status"] == "available"
    assert cinder.delete(f"/backups/{told['id']}", ADMIN).status_code == 202
    cinder.run()
    assert cinder.host.leftovers()["backups"] == []
    deep = base64.b64encode(b"[" * 100_000).decode()
    long = base64.b64encode(json.dumps(told | {"container": "c" * 256}).encode()).decode()
    for bad in ("x", deep, long, base64.b64encode(b"[]").decode(), base64.b64encode(b'{"id": "../x"}').decode()):
        wrong = {"backup-record": {**record, "backup_url": bad}}
        assert cinder.post("/backups/import_record", wrong, ADMIN).status_code == 400


# Transfers


@pytest.mark.parametrize("path", ["/os-volume-transfer", "/volume-transfers"])
def test_a_volume_is_given_to_who_has_the_key(cinder: Cinder, path: str) -> None:
    volume = cinder.volume()
    cinder.made("snapshot", volume_id=volume["id"])
    made = cinder.post(path, {"transfer": {"volume_id": volume["id"], "name": "t"}}).json()["transfer"]
    assert cinder.look(volume)["status"] == "awaiting-transfer"
    assert cinder.get(f"{path}/{made['id']}", OTHER).status_code == 404
    assert [each["id"] for each in cinder.get(f"{path}/detail").json()["transfers"]] == [made["id"]]
    shown = cinder.get(f"{path}/{made['id']}").json()["transfer"]
    assert (shown["volume_id"], shown["name"], "auth_key" in shown) == (volume["id"], "t", False)
    accept = f"{path}/{made['id']}/accept"
    assert cinder.post(accept, {"accept": {"auth_key": "wrong"}}, OTHER).status_code == 400
    cinder.put(f"/os-quota-sets/{OTHER_PROJECT}", {"quota_set": {"snapshots": 0}}, ADMIN)
    assert cinder.post(accept, {"accept": {"auth_key": made["auth_key"]}}, OTHER).status_code == 413
    cinder.delete(f"/os-quota-sets/{OTHER_PROJECT}", ADMIN)
    assert cinder.post(accept, {"accept": {"auth_key": made["auth_key"]}}, OTHER).status_code == 202
    assert cinder.look(volume, OTHER)["status"] == "available"
    assert cinder.get(f"/volumes/{volume['id']}").status_code == 404
    assert len(cinder.get("/snapshots", OTHER).json()["snapshots"]) == 1
    assert cinder.get("/limits").json()["limits"]["absolute"]["totalVolumesUsed"] == 0
    again = cinder.post(path, {"transfer": {"volume_id": volume["id"]}}, OTHER).json()["transfer"]
    assert cinder.delete(f"/volumes/{volume['id']}", OTHER).status_code == 400
    assert cinder.delete(f"{path}/{again['id']}", OTHER).status_code == 202
    assert cinder.look(volume, OTHER)["status"] == "available"


# Attachments, old and new


def test_attachments_from_reservation_to_the_end(cinder: Cinder) -> None:
    volume, server, second = cinder.volume(), new_id(), new_id()
    wish = {"volume_uuid": volume["id"], "instance_uuid": server}
    made = cinder.post("/attachments", {"attachment": wish}).json()["attachment"]
    assert (made["status"], made["instance"], made["connection_info"]) == ("reserved", server, {})
    assert cinder.look(volume)["status"] == "reserved"
    assert cinder.post("/attachments", {"attachment": {**wish, "instance_uuid": second}}).status_code == 400
    path = f"/attachments/{made['id']}"
    connector = {"host": "h", "mountpoint": "/dev/vdb", "mode": "rw"}
    updated = cinder.put(path, {"attachment": {"connector": connector}}).json()["attachment"]
    assert updated["connection_info"]["driver_volume_type"] == "file" and updated["attach_mode"] == "rw"
    assert cinder.look(volume)["status"] == "attaching"
    assert cinder.get(path).json()["attachment"] == updated
    assert cinder.get(path, OTHER).status_code == 404
    assert cinder.post(f"{path}/action", {"os-complete": {}}).status_code == 204
    shown = cinder.look(volume)
    assert shown["status"] == "in-use"
    assert [(each["server_id"], each["device"]) for each in shown["attachments"]] == [(server, "/dev/vdb")]
    assert cinder.delete(f"/volumes/{volume['id']}").status_code == 400
    assert [each["id"] for each in cinder.get("/attachments/detail").json()["attachments"]] == [made["id"]]
    assert cinder.get(path, OTHER).status_code == 404
    assert cinder.delete(path).json() == {"attachments": []}
    assert cinder.look(volume)["status"] == "available"


def test_the_older_words_for_attaching(cinder: Cinder) -> None:
    volume, server = cinder.volume(), new_id()
    assert cinder.act(volume, "os-reserve", {}).status_code == 202
    assert cinder.look(volume)["status"] == "attaching"
    assert cinder.act(volume, "os-reserve", {}).status_code == 400
    assert cinder.act(volume, "os-unreserve", {}).status_code == 202
    info = cinder.act(volume, "os-initialize_connection", {"connector": {"host": "h"}}).json()["connection_info"]
    assert info["driver_volume_type"] == "file"
    attach = {"instance_uuid": server, "mountpoint": "/dev/vdc", "mode": "rw"}
    assert cinder.act(volume, "os-attach", attach).status_code == 202
    assert cinder.act(volume, "os-attach", attach).status_code == 400
    assert cinder.look(volume)["attachments"][0]["server_id"] == server
    assert cinder.act(volume, "os-begin_detaching", {}).status_code == 202
    assert cinder.look(volume)["status"] == "detaching"
    assert cinder.act(volume, "os-roll_detaching", {}).status_code == 202
    assert cinder.act(volume, "os-extend", {"new_size": 2}, version="3.41").status_code == 400
    assert cinder.act(volume, "os-extend", {"new_size": 2}).status_code == 202
    assert (cinder.look(volume)["status"], cinder.look(volume)["size"]) == ("in-use", 2)
    assert cinder.act(volume, "os-detach", {}).status_code == 202
    assert cinder.look(volume)["status"] == "available"
    cinder.act(volume, "os-update_readonly_flag", {"readonly": True})
    assert cinder.act(volume, "os-attach", attach).status_code == 400


def test_a_multiattach_volume_is_in_use_until_the_last_lets_go(cinder: Cinder) -> None:
    volume_type(cinder, "multi", extra_specs={"multiattach": "<is> True"})
    volume = cinder.volume(volume_type="multi")
    ids = []
    for _ in range(2):
        wish = {"volume_uuid": volume["id"], "instance_uuid": new_id(), "connector": {"host": "h"}}
        made = cinder.post("/attachments", {"attachment": wish}).json()["attachment"]
        cinder.post(f"/attachments/{made['id']}/action", {"os-complete": {}})
        ids.append(made["id"])
    assert cinder.look(volume)["multiattach"] and len(cinder.look(volume)["attachments"]) == 2
    left = cinder.delete(f"/attachments/{ids[0]}").json()["attachments"]
    assert [each["id"] for each in left] == [ids[1]] and cinder.look(volume)["status"] == "in-use"
    cinder.delete(f"/attachments/{ids[1]}")
    assert cinder.look(volume)["status"] == "available"


def test_what_a_server_has_open_is_let_go_by_the_server(cinder: Cinder) -> None:
    volume, server = cinder.volume(), new_id()
    wish = {"volume_uuid": volume["id"], "instance_uuid": server, "connector": {"host": "h"}}
    made = cinder.post("/attachments", {"attachment": wish}).json()["attachment"]
    cinder.post(f"/attachments/{made['id']}/action", {"os-complete": {}})
    with cinder.database.engine.begin() as connection:
        row = {"id": new_id(), "server_id": server, "volume_id": volume["id"], "attachment_id": made["id"]}
        connection.execute(BLOCK_DEVICES.insert().values(**row, source_type="volume", created_at=now()))
    refused = cinder.delete(f"/attachments/{made['id']}")
    assert refused.status_code == 409 and f"instance {server} using the Compute API" in refused.text
    assert cinder.act(volume, "os-detach", {}).status_code == 409
    assert cinder.act(volume, "os-force_detach", {}, ADMIN).status_code == 409
    assert cinder.act(volume, "os-terminate_connection", {"connector": {"host": "h"}}).status_code == 409
    assert cinder.act(volume, "os-reset_status", {"attach_status": "detached"}, ADMIN).status_code == 409
    with cinder.database.engine.begin() as connection:
        connection.execute(BLOCK_DEVICES.delete())
    assert cinder.delete(f"/attachments/{made['id']}").status_code == 200
    assert cinder.look(volume)["status"] == "available"


# Moves


def test_a_volume_becomes_an_image_and_an_image_a_volume_again(cinder: Cinder) -> None:
    volume = cinder.volume()
    answer = cinder.act(volume, "os-volume_upload_image", {"image_name": "up", "disk_format": "raw"})
    told = answer.json()["os-volume_upload_image"]
    assert (answer.status_code, told["status"], told["visibility"]) == (202, "uploading", "private")
    assert cinder.look(volume)["status"] == "available"
    other = cinder.act(volume, "os-volume_upload_image", {"image_name": "q", "disk_format": "qcow2"}).json()
    id = other["os-volume_upload_image"]["image_id"]
    assert cinder.http.get(f"/image/v2/images/{id}", headers={"X-Auth-Token": "demo"}).json()["status"] == "active"
    image = cinder.http.get(f"/image/v2/images/{told['image_id']}", headers={"X-Auth-Token": "demo"}).json()
    assert (image["status"], image["name"]) == ("active", "up")
    again = cinder.act(volume, "os-reimage", {"image_id": cinder.image(b"\2" * 600)})
    assert again.status_code == 202 and cinder.look(volume)["bootable"] == "true"
    public = {"image_name": "p", "visibility": "public"}
    assert cinder.act(volume, "os-volume_upload_image", public).status_code == 403
    assert cinder.act(volume, "os-reimage", {"image_id": new_id()}).status_code == 400
    assert cinder.look(volume)["status"] == "available"


def test_a_volume_is_retyped_where_it_is_or_moves_for_it(cinder: Cinder) -> None:
    for name, backend in (("here", "file"), ("also-here", "file"), ("there", "other"), ("nowhere", "none")):
        volume_type(cinder, name, extra_specs={"volume_backend_name": backend})
    volume = cinder.volume(volume_type="here")

    def place() -> Any:
        shown = cinder.look(volume, ADMIN)
        return shown["status"], shown["volume_type"], shown["os-vol-host-attr:host"]

    assert cinder.act(volume, "os-retype", {"new_type": "also-here"}).status_code == 202
    assert place() == ("available", "also-here", "host-1@file#file")
    assert cinder.act(volume, "os-retype", {"new_type": "there", "migration_policy": "never"}).status_code == 202
    assert place() == ("available", "also-here", "host-1@file#file")  # it would have had to move
    assert cinder.get("/messages").json()["messages"][0]["resource_uuid"] == volume["id"]
    assert cinder.act(volume, "os-retype", {"new_type": "there", "migration_policy": "on-demand"}).status_code == 202
    assert place() == ("available", "there", "host-1@other#other")
    assert cinder.host.leftovers()["volumes"] == [f"volume-{volume['id']}@other"]
    assert cinder.act(volume, "os-retype", {"new_type": "there"}).status_code == 400
    assert cinder.act(volume, "os-retype", {"new_type": "unknown"}).status_code == 400
    assert cinder.act(volume, "os-migrate_volume", {"host": "host-1@file#file"}).status_code == 403
    refused = cinder.act(volume, "os-migrate_volume", {"host": "host-1@file#file"}, ADMIN)
    assert refused.status_code == 400
    assert "the type asks for volume_backend_name other" in refused.json()["badRequest"]["message"]
    volume = cinder.volume()
    other = {"file": "other", "other": "file"}[place()[2].partition("#")[2]]
    assert cinder.act(volume, "os-migrate_volume", {"host": f"host-1@{other}#{other}"}, ADMIN).status_code == 202
    assert place() == ("available", "__DEFAULT__", f"host-1@{other}#{other}")
    assert cinder.look(volume, ADMIN)["migration_status"] == "success"
    assert cinder.act(volume, "os-migrate_volume", {"host": "mars@file#file"}, ADMIN).status_code == 400


def test_a_volume_goes_back_to_its_newest_snapshot_alone(cinder: Cinder) -> None:
    volume = cinder.volume()
    assert cinder.act(volume, "revert", {"snapshot_id": new_id()}).status_code == 400
    first, second = (cinder.made("snapshot", volume_id=volume["id"])["id"] for _ in range(2))
    assert cinder.act(volume, "revert", {"snapshot_id": first}).status_code == 400
    assert cinder.act(volume, "revert", {"snapshot_id": second}, version="3.39").status_code == 400
    assert cinder.act(volume, "revert", {"snapshot_id": second}).status_code == 202
    assert cinder.look(volume)["status"] == "available"
    cinder.act(volume, "os-reset_status", {"status": "error"}, ADMIN)
    assert cinder.act(volume, "revert", {"snapshot_id": second}).status_code == 409


@pytest.mark.parametrize(("of_volumes", "of_snapshots"), [
    ("/os-volume-manage", "/os-snapshot-manage"), ("/manageable_volumes", "/manageable_snapshots"),
])  # fmt: skip
def test_volumes_and_snapshots_are_let_go_and_taken_over(cinder: Cinder, of_volumes: str, of_snapshots: str) -> None:
    volume = cinder.volume()
    snapshot = cinder.made("snapshot", volume_id=volume["id"])
    path = f"/snapshots/{snapshot['id']}"
    assert cinder.post(f"{path}/action", {"os-unmanage": None}, ADMIN).status_code == 202
    assert cinder.get(path).status_code == 404 and len(cinder.host.leftovers()["snapshots"]) == 1
    ref = {"source-name": f"_snapshot-{snapshot['id']}"}
    wish = {"snapshot": {"volume_id": volume["id"], "ref": ref, "name": "back"}}
    taken = cinder.post(of_snapshots, wish, ADMIN)
    assert taken.status_code == 202 and taken.json()["snapshot"]["status"] == "available"
    assert cinder.post(of_snapshots, wish, ADMIN).status_code == 400
    assert cinder.delete(f"/snapshots/{taken.json()['snapshot']['id']}", ADMIN).status_code == 202
    cinder.run()
    assert cinder.host.leftovers()["snapshots"] == []
    host = cinder.look(volume, ADMIN)["os-vol-host-attr:host"]
    assert cinder.act(volume, "os-unmanage", {}, ADMIN).status_code == 202
    assert cinder.get(f"/volumes/{volume['id']}").status_code == 404
    listed = cinder.get(f"{of_volumes}/detail?host={host.replace('#', '%23')}", ADMIN).json()[
        "manageable-volumes"
    ]
    assert [(each["reference"]["source-name"], each["safe_to_manage"]) for each in listed] == [
        (f"volume-{volume['id']}", True)
    ]
    wish = {"volume": {"host": host, "ref": listed[0]["reference"], "name": "back", "bootable": None}}
    taken = cinder.post(of_volumes, wish, ADMIN)
    assert taken.status_code == 202 and taken.json()["volume"]["size"] == 1
    assert cinder.post(of_volumes, wish, ADMIN).status_code == 400
    assert cinder.delete(f"/volumes/{taken.json()['volume']['id']}", ADMIN).status_code == 202
    cinder.run()
    assert cinder.host.leftovers()["volumes"] == []
    wish["volume"]["ref"] = {"source-name": "volume-unknown"}
    assert cinder.post(of_volumes, wish, ADMIN).status_code == 400


# Groups


def test_groups_of_volumes(cinder: Cinder) -> None:
    wish = {"group_type": {"name": "g", "group_specs": {"k": "v"}}}
    kind = cinder.post("/group_types", wish, ADMIN).json()["group_type"]
    assert kind["group_specs"] == {"k": "v"} and "group_specs" not in cinder.get(f"/group_types/{kind['id']}").text
    specs = f"/group_types/{kind['id']}/group_specs"
    assert cinder.put(f"{specs}/k", {"k": "w"}, ADMIN).json() == cinder.get(f"{specs}/k", ADMIN).json() == {"k": "w"}
    assert cinder.post(specs, {"group_specs": {"l": "x"}}, ADMIN).json() == {"group_specs": {"l": "x"}}
    assert cinder.get(specs, ADMIN).json() == {"group_specs": {"k": "w", "l": "x"}}
    assert cinder.delete(f"{specs}/l", ADMIN).status_code == 202
    assert cinder.get(f"{specs}/l", ADMIN).status_code == cinder.delete(f"{specs}/l", ADMIN).status_code == 404
    named = cinder.put(f"/group_types/{kind['id']}", {"group_type": {"description": "d"}}, ADMIN).json()["group_type"]
    assert (named["name"], named["description"]) == ("g", "d")
    group = cinder.made("group", group_type="g", volume_types=["__DEFAULT__"], name="n")
    assert (group["status"], group["group_type"]) == ("available", kind["id"])
    volume = cinder.volume(group_id=group["id"])
    assert volume["group_id"] == group["id"]
    assert cinder.delete(f"/volumes/{volume['id']}").status_code == 400
    other = cinder.volume()
    path = f"/groups/{group['id']}"
    assert cinder.put(path, {"group": {"add_volumes": other["id"]}}).status_code == 202
    assert cinder.look(other)["group_id"] == group["id"]
    assert cinder.put(path, {"group": {"remove_volumes": other["id"], "name": "m"}}).status_code == 202
    assert cinder.put(path, {"group": {"remove_volumes": other["id"]}}).status_code == 400
    shown = cinder.get(f"{path}?list_volume=true").json()["group"]
    assert (shown["name"], shown["volumes"]) == ("m", [volume["id"]])
    snapshot = cinder.made("group_snapshot", group_id=group["id"], name="gs")
    assert snapshot["status"] == "available"
    for status in ("error", "available"):
        reset = {"reset_status": {"status": status}}
        assert cinder.post(f"/group_snapshots/{snapshot['id']}/action", reset).status_code == 403
        assert cinder.post(f"/group_snapshots/{snapshot['id']}/action", reset, ADMIN).status_code == 202
        assert cinder.get(f"/group_snapshots/{snapshot['id']}").json()["group_snapshot"]["status"] == status
    mine = cinder.get("/snapshots/detail").json()["snapshots"]
    assert [each["group_snapshot_id"] for each in mine] == [snapshot["id"]]
    assert cinder.delete(f"/snapshots/{mine[0]['id']}").status_code == 400
    wish = {"create-from-src": {"name": "copy", "group_snapshot_id": snapshot["id"], "source_group_id": None}}
    copy = cinder.post("/groups/action", wish).json()["group"]
    cinder.run()
    assert cinder.get(f"/groups/{copy['id']}").json()["group"]["status"] == "available"
    assert cinder.post(f"{path}/action", {"delete": {"delete-volumes": True}}).status_code == 400
    assert cinder.delete(f"/group_snapshots/{snapshot['id']}").status_code == 202
    cinder.run()
    assert cinder.get("/group_snapshots").json() == {"group_snapshots": []}
    assert cinder.post(f"{path}/action", {"delete": {"delete-volumes": False}}).status_code == 400
    for id in (group["id"], copy["id"]):
        assert cinder.post(f"/groups/{id}/action", {"delete": {"delete-volumes": True}}).status_code == 202
        cinder.run()
    assert cinder.get("/groups/detail").json() == {"groups": []}
    assert [each["id"] for each in cinder.get("/volumes").json()["volumes"]] == [other["id"]]
    assert cinder.delete(f"/group_types/{kind['id']}", ADMIN).status_code == 202


# Services, pools, quotas, and what the service says of itself


def test_services_hosts_and_pools(cinder: Cinder) -> None:
    services = cinder.get("/os-services", ADMIN).json()["services"]
    assert {(each["binary"], each["host"]) for each in services} == {
        ("cinder-scheduler", "host-1"), ("cinder-backup", "host-1"), ("cinder-volume", "host-1@file"),
        ("cinder-volume", "host-1@other"),
    }  # fmt: skip

    def frozen() -> list[str]:
        return [each["host"] for each in cinder.get("/os-services", ADMIN).json()["services"] if each.get("frozen")]

    off = {"host": "host-1@other", "binary": "cinder-volume"}
    assert cinder.put("/os-services/disable", off, ADMIN).json()["status"] == "disabled"
    reason = {**off, "disabled_reason": "paint"}
    assert cinder.put("/os-services/disable-log-reason", reason, ADMIN).json()["disabled_reason"] == "paint"
    for _ in range(2):
        assert cinder.look(cinder.volume(), ADMIN)["os-vol-host-attr:host"] == "host-1@file#file"
    assert cinder.put("/os-services/enable", off, ADMIN).json()["status"] == "enabled"
    assert cinder.put("/os-services/enable", {**off, "host": "mars"}, ADMIN).status_code == 404
    assert cinder.put("/os-services/freeze", {"host": "mars"}, ADMIN).status_code == 400
    assert cinder.put("/os-services/freeze", {"host": "host-1@other"}, ADMIN).status_code == 200
    assert frozen() == ["host-1@other"]
    for _ in range(2):
        assert cinder.look(cinder.volume(), ADMIN)["os-vol-host-attr:host"] == "host-1@file#file"
    assert cinder.put("/os-services/thaw", {"host": "host-1@other"}, ADMIN).status_code == 200
    assert frozen() == []
    on = cinder.get("/os-services?host=host-1@other", ADMIN).json()["services"][0]
    assert (on["status"], on["disabled_reason"]) == ("enabled", None)
    for word in ("failover_host", "failover"):  # as the openstack command says it below and from 3.26
        refused = cinder.put(f"/os-services/{word}", {"host": "host-1@file"}, ADMIN)
        assert (refused.status_code, "no replication" in refused.text) == (400, True)
    logs = cinder.put("/os-services/get-log", {"binary": "cinder-backup"}, ADMIN).json()["log_levels"]
    assert [(each["host"], each["levels"]) for each in logs] == [("host-1", {"kilonova": "INFO"})]
    assert cinder.put("/os-services/set-log", {"level": "DEBUG"}, ADMIN).status_code == 403
    pools = cinder.get("/scheduler-stats/get_pools?detail=true", ADMIN).json()["pools"]
    assert {each["name"] for each in pools} == {"host-1@file#file", "host-1@other#other"}
    assert pools[0]["capabilities"]["storage_protocol"] == "file"
    found = cinder.get("/capabilities/host-1@file", ADMIN).json()
    assert found["namespace"] == "OS::Storage::Capabilities::host-1@file"
    used = cinder.get("/os-hosts/host-1@file", ADMIN).json()["host"][0]["resource"]
    assert (used["project"], used["volume_count"]) == ("(total)", "4")
    assert len(cinder.get("/os-hosts", ADMIN).json()["hosts"]) == 4
    for path in ("/os-services", "/os-hosts", "/scheduler-stats/get_pools", "/capabilities/host-1@file", "/clusters"):
        assert cinder.get(path).status_code == 403, path
    assert cinder.put("/os-hosts/host-1@file", {"status": "disable"}, ADMIN).status_code == 400
    assert cinder.get("/clusters", ADMIN).json() == {"clusters": []}
    assert cinder.get("/clusters/c", ADMIN).status_code == 404
    for verb in ("enable", "disable"):
        assert cinder.put(f"/clusters/{verb}", {"name": "c"}, ADMIN).status_code == 404
    assert cinder.post("/workers/cleanup", {}, ADMIN).json() == {"cleaning": [], "unavailable": []}
    assert cinder.get("/os-availability-zone").json() == {
        "availabilityZoneInfo": [{"zoneName": "nova", "zoneState": {"available": True}}]
    }


def test_quotas_of_projects_types_and_classes(cinder: Cinder) -> None:
    path = f"/os-quota-sets/{DEMO_PROJECT}"
    assert cinder.get(path).json()["quota_set"]["volumes"] == 10
    assert cinder.get(f"{path}/defaults").json()["quota_set"]["gigabytes"] == 1000
    assert cinder.get(f"/os-quota-sets/{OTHER_PROJECT}").status_code == 403
    assert cinder.put(path, {"quota_set": {"volumes": 1}}).status_code == 403
    for bad in ({"volumes": "x"}, {"volumes": -2}, {"nothing": 1}, {}):
        assert cinder.put(path, {"quota_set": bad}, ADMIN).status_code == 400, bad
    assert cinder.put(path, {"quota_set": {"volumes": 1}}, ADMIN).json()["quota_set"]["volumes"] == 1
    cinder.volume()
    refused = cinder.post("/volumes", {"volume": {"size": 1}})
    assert refused.status_code == 413 and "Maximum number of volumes allowed (1)" in refused.text
    assert cinder.delete(path, ADMIN).status_code == 200
    volume_type(cinder, "few")
    cinder.put(path, {"quota_set": {"volumes_few": 0, "per_volume_gigabytes": 5}}, ADMIN)
    assert cinder.post("/volumes", {"volume": {"size": 1, "volume_type": "few"}}).status_code == 413
    assert cinder.post("/volumes", {"volume": {"size": 6}}).status_code == 413
    assert cinder.put("/os-quota-class-sets/default", {"quota_class_set": {"backups": 3}}, ADMIN).status_code == 200
    assert cinder.get(f"/os-quota-sets/{OTHER_PROJECT}", OTHER).json()["quota_set"]["backups"] == 3
    classes = cinder.get("/os-quota-class-sets/default", ADMIN).json()["quota_class_set"]
    assert (classes["backups"], classes["volumes"]) == (3, 10)
    absolute = cinder.get("/limits").json()["limits"]["absolute"]
    assert (absolute["totalVolumesUsed"], absolute["totalGigabytesUsed"], absolute["maxTotalBackups"]) == (1, 1, 3)


def test_what_the_service_says_of_itself(cinder: Cinder) -> None:
    root = cinder.http.get("/volume/")
    assert (root.status_code, root.json()["versions"][0]["version"]) == (300, "3.71")
    assert cinder.http.get("/volume/v3/").status_code == 200
    assert any(each["alias"] == "os-vol-host-attr" for each in cinder.get("/extensions").json()["extensions"])
    assert {each["resource"] for each in cinder.get("/resource_filters").json()["resource_filters"]} >= {"volume"}
    assert cinder.get("/volumes", version="3.72").status_code == 406
    words = {"X-Auth-Token": DEMO, "OpenStack-API-Version": "volumev3 3.54"}  # as some clients write it
    answer = cinder.http.get("/volume/v3/attachments", headers=words)
    assert (answer.status_code, answer.headers["OpenStack-API-Version"]) == (200, "volume 3.54")
    assert cinder.get("/attachments", version="3.26").status_code == 404
    assert cinder.get("/cgsnapshots").status_code == 404 and cinder.get("/volumes/detail", READER).status_code == 200


def test_every_list_answers_below_the_project_as_without_it(cinder: Cinder) -> None:
    """Each in the shape that its description says, which the client looks at."""
    cinder.in_project = False
    cinder.volume(ADMIN)
    paths = [key.split()[1] for key in OPERATIONS if key.startswith("GET") and "{" not in key]
    assert len(paths) > 30
    for path in paths:
        query = "?host=host-1@file%23file" if "manage" in path else ""
        answers = [cinder.get(f"{root}{path}{query}", ADMIN) for root in ("", f"/{ADMIN_PROJECT}")]
        assert [answer.status_code for answer in answers] == [200, 200], (path, answers[0].text)
        bare = answers[1].text.replace(f"/v3/{ADMIN_PROJECT}/", "/v3/").replace(f"/volume/{ADMIN_PROJECT}/", "/volume/")
        assert bare == answers[0].text
