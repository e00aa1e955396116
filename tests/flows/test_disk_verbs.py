"""The verbs on a server's disks where the property tests do not go: of servers that are off, and of several images."""

from typing import Any

import pytest
from handcloud import HandCloud
from stories import (
    BACKUP,
    LARGE,
    SMALL,
    WRITTEN,
    act,
    active,
    resize,
    shelved_server,
    written_server,
)

from kilonova.model.errors import HostError


def stopped_server(cloud: HandCloud) -> str:
    server_id = act("os-stop")(cloud, written_server(cloud))
    cloud.run()
    return server_id


def is_off(cloud: HandCloud, server_id: str, vm_state: str) -> None:
    server = cloud.server(server_id)
    assert (server["vm_state"], server["task_state"], server["power_state"]) == (vm_state, None, 4)
    assert cloud.host.power_states() == {server_id: 4}


def do(cloud: HandCloud, server_id: str, action: str, argument: Any = None) -> None:
    act(action, argument)(cloud, server_id)
    cloud.run()


def gone(cloud: HandCloud, server_id: str) -> None:
    cloud.delete(server_id)
    cloud.run()
    assert cloud.left() == {}
    assert [path.name for path in (cloud.folder / "images").iterdir()] == [cloud.image]


def test_a_stopped_server_stays_so_when_it_is_resized(cloud: HandCloud) -> None:
    for action, resources in (("revertResize", SMALL), ("confirmResize", LARGE)):
        server_id = stopped_server(cloud)
        resize(cloud, server_id)
        cloud.run()
        is_off(cloud, server_id, "resized")
        do(cloud, server_id, action)
        is_off(cloud, server_id, "stopped")
        assert cloud.disk(server_id) == {"content": WRITTEN, "size_gb": resources["DISK_GB"]}
        assert cloud.allocated() == {server_id: resources}
        do(cloud, server_id, "os-start")
        active(cloud, server_id)
        gone(cloud, server_id)


def test_a_resize_that_finds_no_room_says_so_and_changes_nothing(cloud: HandCloud) -> None:
    server_id = written_server(cloud)
    huge = {"name": "huge", "vcpus": 1, "ram": 8192, "disk": 1}
    flavor = cloud.api("POST", "/compute/v2.1/flavors", {"flavor": huge}, token="admin")["flavor"]["id"]
    do(cloud, server_id, "resize", {"flavorRef": flavor})
    active(cloud, server_id)
    assert "asked 8320, free 8192 of 8192" in cloud.server(server_id)["fault"]["message"]
    assert cloud.allocated() == {server_id: SMALL} and cloud.migrations() == []
    cloud.api("DELETE", f"/compute/v2.1/flavors/{flavor}", token="admin")
    gone(cloud, server_id)


def test_a_stopped_server_is_rebuilt_off_and_put_away(cloud: HandCloud) -> None:
    server_id = stopped_server(cloud)
    do(cloud, server_id, "rebuild", {"imageRef": cloud.image})
    is_off(cloud, server_id, "stopped")
    assert cloud.disk(server_id)["content"] == f"image {cloud.image}"
    do(cloud, server_id, "shelve")
    assert cloud.server(server_id)["vm_state"] == "shelved_offloaded"
    gone(cloud, server_id)


def test_a_server_that_was_kept_on_its_host_comes_back_with_its_disk(cloud: HandCloud) -> None:
    server_id = shelved_server(cloud)
    do(cloud, server_id, "unshelve")
    active(cloud, server_id)
    assert cloud.disk(server_id)["content"] == WRITTEN and cloud.server(server_id)["system_metadata"] == {}
    gone(cloud, server_id)


def test_a_server_that_was_kept_on_its_host_goes_with_its_image(cloud: HandCloud) -> None:
    gone(cloud, shelved_server(cloud))


def test_backups_are_rotated_by_their_type(cloud: HandCloud) -> None:
    server_id = written_server(cloud)
    anothers = {"name": "f", "owner": "q" * 32, "disk_format": "raw", "container_format": "bare", "backup_type": "daily",
                "image_type": "backup", "instance_uuid": server_id}  # fmt: skip
    foreign = cloud.api("POST", "/image/v2/images", anothers, token="admin")["id"]
    kind = {"Content-Type": "application/octet-stream", "X-Auth-Token": "admin"}
    cloud.http.put(f"/image/v2/images/{foreign}/file", content=b"0" * 512, headers=kind).raise_for_status()
    for name, kind in (("a", "daily"), ("b", "weekly"), ("c", "daily"), ("d", "daily")):
        do(cloud, server_id, "createBackup", BACKUP | {"name": name, "backup_type": kind, "rotation": 2})
    assert sorted(image["name"] for image in cloud.images() if image["id"] != cloud.image) == ["b", "c", "d"]
    do(cloud, server_id, "createBackup", BACKUP | {"name": "e", "rotation": 0})
    assert [image["name"] for image in cloud.images() if image["id"] != cloud.image] == ["b"]
    cloud.drop_images()
    cloud.api("DELETE", f"/image/v2/images/{foreign}", token="admin")
    gone(cloud, server_id)


def test_an_image_that_its_user_deletes_on_the_way_leaves_the_server_as_it_was(cloud: HandCloud) -> None:
    server_id = written_server(cloud)
    act("createImage", {"name": "i"})(cloud, server_id)
    image = next(image["id"] for image in cloud.images() if image["id"] != cloud.image)
    cloud.faults = {("before", "upload_root_copy"): lambda: cloud.api("DELETE", f"/image/v2/images/{image}")}
    cloud.run()
    active(cloud, server_id)
    assert "was deleted while its data was on the way" in cloud.server(server_id)["fault"]["message"]
    gone(cloud, server_id)


def test_an_image_whose_data_is_lost_is_told_to_hosts_in_a_sentence(cloud: HandCloud) -> None:
    target = cloud.folder / "fetched"
    with pytest.raises(HostError, match=r"The data of image nowhere cannot be read\.$"):
        cloud.control_side.fetch_image("nowhere", target)
    assert not target.exists()


def test_an_administrator_lends_a_volume_to_a_server_of_others(cloud: HandCloud) -> None:
    """What the request was allowed, the flow's steps are: the volume is another project's than its server."""
    server_id = written_server(cloud)
    made = cloud.api("POST", "/volume/v3/volumes", {"volume": {"size": 1, "volume_type": "here"}}, token="admin")
    own = made["volume"]["id"]
    cloud.run()
    path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments"
    cloud.api("POST", path, {"volumeAttachment": {"volumeId": own}}, token="admin")
    cloud.run()
    assert cloud.volumes_of(server_id)[own] == "in-use"
    cloud.api("DELETE", f"{path}/{own}", token="admin")
    cloud.run()
    assert cloud.volumes()[own] == "available" and own not in cloud.volumes_of(server_id)
    cloud.api("DELETE", f"/volume/v3/volumes/{own}", token="admin")
    gone(cloud, server_id)
