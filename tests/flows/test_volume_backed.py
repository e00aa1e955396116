"""Servers on volumes where the property tests do not go, and what a volume's attachments say at each turn."""

from typing import Any

import pytest
import sqlalchemy as sa
from attach_stories import attach, with_a_free_volume
from backed_stories import (
    LIFE,
    WRITTEN,
    act,
    active,
    attachments,
    offloaded,
    rebuilt,
    root_volume,
    server,
    written,
)
from handcloud import HandCloud
from volume_stories import ask, bind_types_to_nothing, content, made, rows, the, volume

from kilonova.compute.spec import server_spec
from kilonova.host.contract import Work
from kilonova.host.fake import FakeHost
from kilonova.image.tables import IMAGES
from kilonova.model.errors import HostError
from kilonova.placement.tables import ALLOCATIONS
from kilonova.volume.tables import ATTACHMENTS, VOLUMES

COMPUTE = "/compute/v2.1/servers"


def do(cloud: HandCloud, server_id: str, action: str, argument: Any = None) -> None:
    act(action, argument)(cloud, server_id)
    cloud.run()


def refused(cloud: HandCloud, server_id: str, body: Any, version: str = "2.96") -> tuple[int, str]:
    headers = {"OpenStack-API-Version": f"compute {version}"}
    answer = cloud.http.post(f"{COMPUTE}/{server_id}/action", json=body, headers=headers)
    return answer.status_code, answer.text


def gone(cloud: HandCloud, server_id: str) -> None:
    LIFE.clear(cloud, server_id)
    assert cloud.left() == {}


def test_a_server_on_volumes_is_put_away_and_comes_back(cloud: HandCloud) -> None:
    server_id = written(cloud)
    assert cloud.server(server_id)["image_id"] == ""
    classes = cloud.database.read(lambda tx: list(tx.execute(sa.select(ALLOCATIONS.c.resource_class)).scalars()))
    assert sorted(classes) == ["MEMORY_MB", "VCPU"]  # its root disk is none of the host's
    do(cloud, server_id, "shelve")
    offloaded(cloud, server_id)
    assert set(cloud.server(server_id)["system_metadata"]) == {"shelved_at", "shelved_host"}
    do(cloud, server_id, "unshelve")
    active(cloud, server_id, WRITTEN)
    assert cloud.server(server_id)["system_metadata"] == {}
    gone(cloud, server_id)


def test_whether_a_volume_boots_is_asked_where_no_image_is_named(cloud: HandCloud) -> None:
    device = {"source_type": "volume", "destination_type": "volume", "boot_index": 0, "uuid": volume(cloud),
              "delete_on_termination": True}  # fmt: skip
    wanted = {"name": "b", "flavorRef": cloud.flavor, "networks": "none", "block_device_mapping_v2": [device]}
    headers = {"OpenStack-API-Version": "compute 2.67", "X-Auth-Token": "demo"}
    answer = cloud.http.post(COMPUTE, json={"server": wanted}, headers=headers)
    assert (answer.status_code, answer.json()["badRequest"]["message"]) == (
        400, f"Block Device {device['uuid']} is not bootable.",
    )  # fmt: skip
    server_id = cloud.api("POST", COMPUTE, {"server": wanted | {"imageRef": cloud.image}}, "2.67")["server"]["id"]
    cloud.run()
    assert cloud.server(server_id)["vm_state"] == "active" and root_volume(cloud, server_id) == device["uuid"]
    gone(cloud, server_id)


def test_a_volume_of_an_image_for_hardware_that_there_is_not_boots_no_server(cloud: HandCloud) -> None:
    id = volume(cloud)
    asks = VOLUMES.update().where(VOLUMES.c.id == id).values(bootable=True, image_metadata={"hw_tpm_version": "2.0"})
    cloud.database.write(lambda tx: tx.execute(asks))
    device = {"source_type": "volume", "destination_type": "volume", "boot_index": 0, "uuid": id}
    wanted = {"name": "b", "flavorRef": cloud.flavor, "networks": "none", "block_device_mapping_v2": [device]}
    headers = {"OpenStack-API-Version": "compute 2.67", "X-Auth-Token": "demo"}
    answer = cloud.http.post(COMPUTE, json={"server": wanted}, headers=headers)
    assert answer.status_code == 400 and "hw_tpm_version is '2.0'" in answer.text


def test_a_volume_is_detached_from_a_server_that_was_put_away(cloud: HandCloud) -> None:
    server_id = written(cloud)
    do(cloud, server_id, "shelve")
    (other,) = set(cloud.volumes_of(server_id)) - {root_volume(cloud, server_id)}
    cloud.api("DELETE", f"{COMPUTE}/{server_id}/os-volume_attachments/{other}")
    assert cloud.volumes()[other] == "detaching"
    cloud.run()
    assert cloud.volumes()[other] == "available" and attachments(cloud, server_id) == ["reserved"]
    gone(cloud, server_id)


def test_a_server_boots_from_the_image_of_another_that_is_gone(cloud: HandCloud) -> None:
    """The volumes were to go with the first; there are snapshots of them, so they stay."""
    first = written(cloud)
    do(cloud, first, "createImage", {"name": "whole"})
    image = next(each["id"] for each in cloud.images() if each["name"] == "whole")
    cloud.delete(first)
    cloud.run()
    assert set(cloud.volumes().values()) == {"available"} and len(cloud.volumes()) == 2
    second = server(cloud, imageRef=image, block_device_mapping_v2=[])
    cloud.run()
    active(cloud, second, WRITTEN)
    shown = cloud.api("GET", f"{COMPUTE}/{second}/os-volume_attachments", version="2.79")["volumeAttachments"]
    assert [(each["device"], each["delete_on_termination"]) for each in shown] == [("/dev/vda", True), ("/dev/vdb", True)]
    assert cloud.server(second)["image_id"] == image
    do(cloud, second, "createImage", {"name": "again"})  # names its own snapshots, not those of its image
    named = [each["block_device_mapping"] for each in cloud.images() if each["name"] in ("whole", "again")]
    assert named[0] != named[1]
    gone(cloud, second)


def test_a_delete_breaks_an_image_off_with_its_snapshots(cloud: HandCloud) -> None:
    server_id = written(cloud)
    cloud.faults = {("reaching", "wait_for_volume_snapshots"): lambda: cloud.delete(server_id)}
    do(cloud, server_id, "createImage", {"name": "i"})
    assert rows(cloud, "snapshot") == [] and cloud.server(server_id)["vm_state"] == "deleted"
    assert [image["id"] for image in cloud.images()] == [cloud.image]
    assert cloud.left() == {}


def test_what_a_rebuild_does_to_the_root_volume(cloud: HandCloud) -> None:
    server_id = written(cloud)
    wish = {"name": "j", "disk_format": "raw", "container_format": "bare"}
    other = cloud.api("POST", "/image/v2/images", wish)["id"]
    octets = {"Content-Type": "application/octet-stream"}
    cloud.http.put(f"/image/v2/images/{other}/file", content=b"j" * 512, headers=octets).raise_for_status()
    status, text = refused(cloud, server_id, {"rebuild": {"imageRef": other}}, "2.92")
    assert status == 400 and "Unable to rebuild with a different image for a volume-backed server" in text
    cloud.api("POST", f"{COMPUTE}/{server_id}/action", {"rebuild": {"imageRef": cloud.image}}, version="2.92")
    cloud.run()
    active(cloud, server_id, WRITTEN)  # the same image: the volume is kept
    do(cloud, server_id, "rebuild", {"imageRef": other})
    active(cloud, server_id, f"image {other}")
    assert the(cloud, "volume", root_volume(cloud, server_id))["image_metadata"]["image_id"] == other
    gone(cloud, server_id)


def test_a_rebuild_that_could_not_write_the_volume_leaves_a_server_that_starts(
    cloud: HandCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_id = written(cloud)

    def broken(work: Any) -> Any:
        raise HostError("the disk is full")

    monkeypatch.setattr(cloud.host, "reimage_volume", broken)
    do(cloud, server_id, "rebuild", {"imageRef": cloud.image, "name": "anew"})
    assert cloud.server(server_id)["vm_state"] == "error"
    assert cloud.volumes()[root_volume(cloud, server_id)] == "error"
    monkeypatch.undo()
    reset = {"os-reset_status": {"status": "in-use"}}  # an administrator's word that it is sound, as with Cinder
    assert ask(cloud, "POST", f"/volumes/{root_volume(cloud, server_id)}/action", reset).status_code == 202
    do(cloud, server_id, "reboot", {"type": "HARD"})
    active(cloud, server_id, WRITTEN)
    do(cloud, server_id, "rebuild", {"imageRef": cloud.image, "name": "anew"})
    rebuilt(cloud, server_id)
    gone(cloud, server_id)


def test_what_is_refused_of_a_server_on_volumes(cloud: HandCloud) -> None:
    server_id = written(cloud)
    backup = {"createBackup": {"name": "b", "backup_type": "daily", "rotation": 1}}
    assert refused(cloud, server_id, backup)[0] == 400
    small = {"volumes": 10, "snapshots": 1}
    ask(cloud, "PUT", f"/os-quota-sets/{'p' * 32}", {"quota_set": small})
    status, text = refused(cloud, server_id, {"createImage": {"name": "i"}})
    assert status == 413 or status == 403, text
    assert rows(cloud, "snapshot") == [] and len(cloud.images()) == 1
    ask(cloud, "DELETE", f"/os-quota-sets/{'p' * 32}")
    gone(cloud, server_id)


def test_a_create_beyond_the_quota_frees_the_volume_it_was_given(cloud: HandCloud) -> None:
    """Reserved by the request, before any step: it failed at the first of the steps about volumes, and was kept for ever."""
    own = made(cloud, "volume", {"size": 1, "volume_type": "here"})
    cloud.run()
    common = {"source_type": "volume", "destination_type": "volume"}
    blank = {"source_type": "blank", "destination_type": "volume", "volume_size": 1}
    image = {"uuid": cloud.image, "source_type": "image", "destination_type": "local", "boot_index": 0}
    devices = [image, {**common, "uuid": own}, blank]
    ask(cloud, "PUT", f"/os-quota-sets/{'p' * 32}", {"quota_set": {"volumes": 1}})
    server_id = server(cloud, block_device_mapping_v2=devices)
    assert the(cloud, "volume", own)["status"] == "reserved"
    cloud.run()
    assert cloud.server(server_id)["vm_state"] == "error"
    assert the(cloud, "volume", own)["status"] == "available" and attachments(cloud, server_id) == []
    ask(cloud, "DELETE", f"/os-quota-sets/{'p' * 32}")
    gone(cloud, server_id)


def test_a_hard_reboot_waits_for_a_disk_that_comes_or_goes(cloud: HandCloud) -> None:
    """It would leave the volume between two states."""
    server_id, seen = with_a_free_volume(cloud), []
    wish = {"reboot": {"type": "HARD"}}
    cloud.faults = {("before", "attach_volume"): lambda: seen.append(refused(cloud, server_id, wish)[0])}
    attach(cloud, server_id)
    cloud.run()
    assert seen == [409]
    assert set(cloud.volumes_of(server_id).values()) == {"in-use"}
    gone(cloud, server_id)


def test_a_volume_in_use_moves_to_another_backend(cloud: HandCloud) -> None:
    server_id = written(cloud)
    root = root_volume(cloud, server_id)
    answer = ask(cloud, "POST", f"/volumes/{root}/action", {
        "os-retype": {"new_type": "elsewhere", "migration_policy": "on-demand"}
    })  # fmt: skip
    assert answer.status_code == 202, answer.text
    cloud.run()
    assert content(cloud, root) == ("other", 1, WRITTEN)
    active(cloud, server_id, WRITTEN)
    query = sa.select(ATTACHMENTS.c.connection_info).where(ATTACHMENTS.c.volume_id == root)
    info = cloud.database.read(lambda tx: tx.scalar(query))
    assert info["device_path"].endswith("@other") and info["volume_id"] == root
    host = {"host": f"{cloud.host.name}@file#file"}
    assert ask(cloud, "POST", f"/volumes/{root}/action", {"os-migrate_volume": host}).status_code == 400  # not by its type
    bind_types_to_nothing(cloud)
    assert ask(cloud, "POST", f"/volumes/{root}/action", {"os-migrate_volume": host}).status_code == 202
    path = f"{COMPUTE}/{server_id}/os-volume_attachments/{root}"
    assert cloud.http.delete(path).status_code in (400, 403)  # a root disk, and under way
    cloud.run()
    assert content(cloud, root) == ("file", 1, WRITTEN)
    active(cloud, server_id, WRITTEN)
    gone(cloud, server_id)


def test_a_guest_does_not_start_while_its_volume_moves(cloud: HandCloud) -> None:
    server_id = written(cloud)
    do(cloud, server_id, "os-stop")
    root, steps = root_volume(cloud, server_id), []
    cloud.faults = {
        ("before", "copy_volume"): lambda: act("os-start")(cloud, server_id) and None,
        ("before", "switch"): lambda: steps.extend(cloud.events()),
    }
    does(cloud, root, "os-retype", {"new_type": "elsewhere", "migration_policy": "on-demand"})
    active(cloud, server_id, WRITTEN)
    assert ("connect_volumes", "Success") not in steps[steps.index(("set_stopped", "Success")) :]
    assert content(cloud, root)[0] == "other"
    gone(cloud, server_id)


def test_a_device_has_a_name_of_the_bus_that_it_asks_for(cloud: HandCloud) -> None:
    """What its host hears of it, too; the server's own disk is on its image's bus."""
    asked = (("scsi", "lun"), (None, None), ("ide", "cdrom"), (None, "cdrom"), ("virtio", "disk"))
    devices = [
        {"source_type": "volume", "destination_type": "volume", "uuid": volume(cloud), "delete_on_termination": True,
         **({"disk_bus": bus} if bus else {}), **({"device_type": kind} if kind else {})}
        for bus, kind in asked
    ]  # fmt: skip
    wanted = {"name": "b", "flavorRef": cloud.flavor, "networks": "none", "imageRef": cloud.image}
    body = {"server": wanted | {"block_device_mapping_v2": devices}}
    server_id = cloud.api("POST", COMPUTE, body, "2.67")["server"]["id"]
    cloud.run()
    found = cloud.database.read(lambda tx: server_spec(tx, server_id)).volumes
    assert [(each.device, each.bus, each.device_type) for each in found] == [
        ("/dev/sda", "scsi", "lun"), ("/dev/vdb", "", "disk"), ("/dev/hda", "ide", "cdrom"), ("/dev/sdb", "", "cdrom"),
        ("/dev/vdc", "virtio", "disk"),
    ]  # fmt: skip
    gone(cloud, server_id)


def test_a_volume_s_name_is_not_the_config_drive_s(cloud: HandCloud) -> None:
    """They can be on one bus, or on two whose names begin alike."""
    image = IMAGES.update().where(IMAGES.c.id == cloud.image)
    for machine, cdrom in (("pc", "scsi"), ("q35", None)):
        properties = {"hw_disk_bus": "scsi", "hw_machine_type": machine} | ({"hw_cdrom_bus": cdrom} if cdrom else {})
        cloud.database.write(lambda tx, wanted=properties: tx.execute(image.values(properties=wanted)))
        wanted = {"name": "b", "flavorRef": cloud.flavor, "networks": "none", "imageRef": cloud.image, "config_drive": True}
        server_id = cloud.api("POST", COMPUTE, {"server": wanted}, "2.67")["server"]["id"]
        cloud.run()
        for device in ("/dev/sdc", "/dev/sdd"):  # behind the root disk and the config drive
            body = {"volumeAttachment": {"volumeId": volume(cloud)}}
            path = f"{COMPUTE}/{server_id}/os-volume_attachments"
            assert cloud.api("POST", path, body)["volumeAttachment"]["device"] == device
            cloud.run()
        cloud.delete(server_id)
        cloud.run()


def test_a_volume_has_the_name_that_it_got(cloud: HandCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host gives it another than it was promised where the guest has something else there."""
    attached = FakeHost.attach_volume

    def elsewhere(host: FakeHost, work: Work) -> Any:
        attached(host, work)
        return {"device": "/dev/vdx"}

    monkeypatch.setattr(FakeHost, "attach_volume", elsewhere)
    server_id = attach(cloud, with_a_free_volume(cloud))
    cloud.run()
    listed = cloud.api("GET", f"{COMPUTE}/{server_id}/os-volume_attachments")["volumeAttachments"]
    assert "/dev/vdx" in [each["device"] for each in listed]


def test_what_is_refused_of_a_swap(cloud: HandCloud) -> None:
    server_id = written(cloud)
    root = root_volume(cloud, server_id)
    (second,) = set(cloud.volumes_of(server_id)) - {root}
    small, large = (made(cloud, "volume", {"size": size, "volume_type": "here"}) for size in (1, 2))
    cloud.run()
    does(cloud, second, "os-extend", {"new_size": 2})

    def swap(old: str, new: str, token: str = "admin") -> int:
        path, headers = f"{COMPUTE}/{server_id}/os-volume_attachments/{old}", {"X-Auth-Token": token}
        status: int = cloud.http.put(path, json={"volumeAttachment": {"volumeId": new}}, headers=headers).status_code
        return status

    assert swap(second, large, "demo") == 403
    assert swap(second, small) == 400  # smaller
    assert swap(second, root) == 400  # attached already
    assert swap(second, second) == 400
    assert swap(second, "c" * 8 + "-0000-4000-8000-" + "0" * 12) == 404
    assert swap(large, small) == 404  # not the server's
    do(cloud, server_id, "os-stop")
    assert swap(second, large) == 409
    do(cloud, server_id, "os-start")
    cloud.faults = {("before", "swap_volume"): lambda: busy.append(swap(second, large))}
    busy: list[int] = []
    assert swap(second, large) == 202
    cloud.run()
    assert busy == [400]  # it is being detached already
    assert set(cloud.volumes_of(server_id)) == {root, large}
    assert (cloud.volumes()[second], cloud.volumes()[small]) == ("available", "available")
    gone(cloud, server_id)


def test_a_volume_of_several_servers_is_not_swapped(cloud: HandCloud) -> None:
    """Whoever writes to it from elsewhere would write to the old one."""
    for token, path, body in (
        ("admin", "types", {"volume_type": {"name": "many", "extra_specs": {
            "multiattach": "<is> True", "volume_backend_name": "file"}}}),
        ("demo", "volumes", {"volume": {"size": 1, "volume_type": "many", "name": "shared"}}),
    ):  # fmt: skip
        cloud.api("POST", f"/volume/v3/{path}", body, token=token)
    cloud.run()
    shared = next(row["id"] for row in rows(cloud, "volume") if row["name"] == "shared")
    server_id = cloud.create()
    cloud.run()
    cloud.api("POST", f"{COMPUTE}/{server_id}/os-volume_attachments", {"volumeAttachment": {"volumeId": shared}}, "2.60")
    cloud.run()
    elsewhere = {"attachment": {"volume_uuid": shared, "instance_uuid": "c" * 8 + "-0000-4000-8000-" + "0" * 12}}
    cloud.http.post("/volume/v3/attachments", json=elsewhere, headers={
        "X-Auth-Token": "demo", "OpenStack-API-Version": "volume 3.71"}).raise_for_status()  # fmt: skip
    new = made(cloud, "volume", {"size": 1, "volume_type": "here"})
    cloud.run()
    answer = cloud.http.put(
        f"{COMPUTE}/{server_id}/os-volume_attachments/{shared}", json={"volumeAttachment": {"volumeId": new}},
        headers={"X-Auth-Token": "admin"},
    )  # fmt: skip
    assert answer.status_code == 409, answer.text
    assert shared in cloud.volumes_of(server_id)
    assert cloud.volumes()[new] == "available"


def test_a_delete_during_a_swap_frees_both_volumes(cloud: HandCloud) -> None:
    server_id = written(cloud)
    (second,) = set(cloud.volumes_of(server_id)) - {root_volume(cloud, server_id)}
    new = made(cloud, "volume", {"size": 1, "volume_type": "elsewhere"})
    cloud.run()
    cloud.faults = {("reaching", "set_swapped"): lambda: cloud.delete(server_id)}
    path = f"{COMPUTE}/{server_id}/os-volume_attachments/{second}"
    cloud.api("PUT", path, {"volumeAttachment": {"volumeId": new}}, token="admin")
    cloud.run()
    assert cloud.server(server_id)["vm_state"] == "deleted"
    assert set(cloud.volumes().values()) == {"available"} and new in cloud.volumes()
    assert cloud.host.leftovers()["connections"] == []
    gone(cloud, server_id)


def test_whoever_swaps_volumes_by_hand_tells_cinder(cloud: HandCloud) -> None:
    """os-migrate_volume_completion moves what is attached by no server; what a server has is the server's."""
    old, new = (made(cloud, "volume", {"size": 1, "volume_type": "here"}) for _ in range(2))
    cloud.run()
    does(cloud, old, "os-attach", {"host_name": "h", "mountpoint": "/dev/x"})
    answer = ask(cloud, "POST", f"/volumes/{old}/action", {"os-migrate_volume_completion": {"new_volume": new}})
    assert (answer.status_code, answer.json()) == (200, {"save_volume_id": new})
    assert (cloud.volumes()[old], cloud.volumes()[new]) == ("available", "in-use")
    does(cloud, new, "os-detach", None)
    server_id = written(cloud)
    wish = {"os-migrate_volume_completion": {"new_volume": new}}
    assert ask(cloud, "POST", f"/volumes/{root_volume(cloud, server_id)}/action", wish).status_code == 409
    gone(cloud, server_id)


def does(cloud: HandCloud, volume_id: str, action: str, argument: Any) -> None:
    answer = ask(cloud, "POST", f"/volumes/{volume_id}/action", {action: argument})
    assert answer.status_code == 202, answer.text
    cloud.run()
