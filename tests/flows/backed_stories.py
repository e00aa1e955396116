"""The stories of a server that boots from a volume: its image, rebuild, shelve; and those of a disk that is swapped."""

import json
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from attach_stories import with_an_attached_volume
from handcloud import HandCloud
from story import ServerLife, Story
from volume_stories import ask, content, made, rows, the

from kilonova.volume.tables import ATTACHMENTS

WRITTEN = "what the guest wrote"


class BackedLife(ServerLife):
    """What is left of it: volumes of which there are snapshots, which an image names."""

    def clear(self, cloud: HandCloud, id: str) -> None:
        super().clear(cloud, id)
        cloud.drop_images()
        for kind in ("snapshot", "volume"):
            for each in rows(cloud, kind):
                assert each["status"] == "available", (kind, each["status"])
                assert ask(cloud, "DELETE", f"/{kind}s/{each['id']}").status_code == 202
            cloud.run()


def server(cloud: HandCloud, **more: Any) -> str:
    """One in BUILD, on a volume made from the image; a second volume beside it. Both go with it."""
    cloud.control_side.report_inventory(cloud.host.inventory())
    common = {"destination_type": "volume", "volume_size": 1, "volume_type": "here", "delete_on_termination": True}
    root = {"source_type": "image", "uuid": cloud.image, "boot_index": 0, **common}
    devices = [root, {"source_type": "blank", **common}]
    networks = [{"uuid": cloud.network}]
    body = {"name": "b", "flavorRef": cloud.flavor, "networks": networks, "block_device_mapping_v2": devices, **more}
    server_id: str = cloud.api("POST", "/compute/v2.1/servers", {"server": body}, version="2.67")["server"]["id"]
    return server_id


def root_volume(cloud: HandCloud, server_id: str) -> str:
    shown = cloud.api("GET", f"/compute/v2.1/servers/{server_id}/os-volume_attachments", version="2.79")
    volume_id: str = shown["volumeAttachments"][0]["volumeId"]
    return volume_id


def guest_writes(cloud: HandCloud, volume_id: str, words: str = WRITTEN) -> None:
    backend, size, _ = content(cloud, volume_id)
    name = f"{the(cloud, 'volume', volume_id)['stored_as']}@{backend}"
    (cloud.host.folder / "volumes" / name).write_text(json.dumps({"size_gb": size, "content": words}))


def written(cloud: HandCloud) -> str:
    server_id = server(cloud)
    cloud.run()
    guest_writes(cloud, root_volume(cloud, server_id))
    active(cloud, server_id, WRITTEN)
    return server_id


def active(cloud: HandCloud, server_id: str, what: str) -> None:
    """It runs, both volumes are in use by it, and the root has these bytes."""
    row = cloud.server(server_id)
    assert (row["vm_state"], row["task_state"], row["power_state"]) == ("active", None, 1)
    assert set(cloud.volumes_of(server_id).values()) == {"in-use"} and len(cloud.volumes_of(server_id)) == 2
    assert set(attachments(cloud, server_id)) == {"attached"}
    assert len(cloud.host.leftovers()["connections"]) == 2
    assert content(cloud, root_volume(cloud, server_id))[2] == what


def attachments(cloud: HandCloud, server_id: str) -> list[str]:
    query = sa.select(ATTACHMENTS.c.status).where(ATTACHMENTS.c.server_id == server_id)
    return cloud.database.read(lambda tx: list(tx.execute(query).scalars()))


def act(action: str, argument: Any = None) -> Callable[[HandCloud, str | None], str]:
    def start(cloud: HandCloud, server_id: str | None) -> str:
        assert server_id is not None
        wish = argument(cloud) if callable(argument) else argument
        cloud.api("POST", f"/compute/v2.1/servers/{server_id}/action", {action: wish}, version="2.96")
        return server_id

    return start


def image_made(cloud: HandCloud, server_id: str) -> None:
    """It has no bytes, and names a snapshot of each volume."""
    active(cloud, server_id, WRITTEN)
    (image,) = [each for each in cloud.images() if each["id"] != cloud.image]
    assert (image["status"], image["size"], image["bdm_v2"]) == ("active", 0, "True")
    assert cloud.http.get(f"/image/v2/images/{image['id']}/file").status_code == 204
    mapping = json.loads(image["block_device_mapping"])
    assert [each["boot_index"] for each in mapping] == [0, None]
    found = [the(cloud, "snapshot", each["snapshot_id"]) for each in mapping]
    assert {each["status"] for each in found} == {"available"} and len(found) == 2
    assert cloud.host.held("snapshots", found[0]["stored_as"]) == {"content": WRITTEN}


def no_image_made(cloud: HandCloud, server_id: str) -> None:
    active(cloud, server_id, WRITTEN)
    assert [image["id"] for image in cloud.images()] == [cloud.image]
    assert rows(cloud, "snapshot") == []


def offloaded(cloud: HandCloud, server_id: str) -> None:
    """Nothing of it is on the host but its volumes, which are kept for it; there is no image of it."""
    row = cloud.server(server_id)
    assert (row["vm_state"], row["task_state"], row["power_state"], row["host"]) == ("shelved_offloaded", None, 4, None)
    assert set(cloud.volumes_of(server_id).values()) == {"reserved"}
    assert set(attachments(cloud, server_id)) == {"reserved"}
    assert {kind for kind, things in cloud.host.leftovers().items() if things} == {"volumes"}
    assert [image["id"] for image in cloud.images()] == [cloud.image]


def as_written(cloud: HandCloud, server_id: str) -> None:
    active(cloud, server_id, WRITTEN)


def rebuilt(cloud: HandCloud, server_id: str) -> None:
    active(cloud, server_id, f"image {cloud.image}")
    assert cloud.server(server_id)["name"] == "anew"


def has_its_volumes(cloud: HandCloud, server_id: str) -> None:
    """Whatever became of the bytes: nothing is stuck, and it can be rebuilt again."""
    assert set(cloud.volumes_of(server_id).values()) <= {"in-use", "reserved"}
    act("rebuild", lambda cloud: {"imageRef": cloud.image, "name": "anew"})(cloud, server_id)
    cloud.run()
    rebuilt(cloud, server_id)


def with_two_volumes(cloud: HandCloud) -> str:
    """An attached one of the user's that was written to, and a larger one that is free."""
    server_id = with_an_attached_volume(cloud)
    cloud.swapped = next(iter(set(cloud.volumes()) - cloud.came_with[server_id]))
    guest_writes(cloud, cloud.swapped)
    made(cloud, "volume", {"size": 2, "volume_type": "elsewhere", "name": "new"})
    cloud.run()
    return server_id


def new_volume(cloud: HandCloud) -> Any:
    return next(each for each in rows(cloud, "volume") if each["name"] == "new")


def swap(cloud: HandCloud, server_id: str | None) -> str:
    assert server_id is not None
    path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments/{cloud.swapped}"
    cloud.api("PUT", path, {"volumeAttachment": {"volumeId": new_volume(cloud)["id"]}}, token="admin")
    return server_id


def has_one_of_two(cloud: HandCloud, server_id: str, had: str, free: str) -> None:
    assert cloud.volumes_of(server_id)[had] == "in-use" and cloud.volumes()[free] == "available"
    assert cloud.disk(server_id, "domains")["volumes"] == [had]
    assert free not in cloud.host.leftovers()["connections"]
    assert len(attachments(cloud, server_id)) == 2 and content(cloud, had)[2] == WRITTEN
    row = cloud.server(server_id)
    assert (row["vm_state"], row["task_state"]) == ("active", None)


def swapped(cloud: HandCloud, server_id: str) -> None:
    has_one_of_two(cloud, server_id, new_volume(cloud)["id"], cloud.swapped)


def not_swapped(cloud: HandCloud, server_id: str) -> None:
    has_one_of_two(cloud, server_id, cloud.swapped, new_volume(cloud)["id"])


LIFE = BackedLife()
REBUILD = act("rebuild", lambda cloud: {"imageRef": cloud.image, "name": "anew"})
BACKED_STORIES = {
    "snapshot_volume_backed": Story(
        written, act("createImage", {"name": "i"}), image_made, no_image_made, "active", LIFE
    ),
    "shelve_volume_backed": Story(written, act("shelve"), offloaded, as_written, "active", LIFE),
    "rebuild_volume_backed": Story(written, REBUILD, rebuilt, has_its_volumes, life=LIFE),
    "swap_volume": Story(with_two_volumes, swap, swapped, not_swapped, "active", LIFE),
}
