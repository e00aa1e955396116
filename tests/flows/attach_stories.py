"""The stories of a server that gets a volume of the user's own, and gives it back."""

from handcloud import HandCloud
from story import ServerLife, Story
from volume_stories import ask


class LifeWithAVolume(ServerLife):
    """The volume outlives its server."""

    def clear(self, cloud: HandCloud, id: str) -> None:
        super().clear(cloud, id)
        for volume_id, status in cloud.volumes().items():
            assert status == "available"
            assert ask(cloud, "DELETE", f"/volumes/{volume_id}").status_code == 202
        cloud.run()


def own_volume(cloud: HandCloud, server_id: str) -> str:
    """The one that did not come with the server."""
    (found,) = set(cloud.volumes()) - cloud.came_with[server_id]
    return found


def with_a_free_volume(cloud: HandCloud) -> str:
    server_id = cloud.create()
    cloud.run()
    cloud.came_with = {server_id: set(cloud.volumes())}
    cloud.api("POST", "/volume/v3/volumes", {"volume": {"size": 1, "volume_type": "here"}})
    cloud.run()
    return server_id


def attach(cloud: HandCloud, server_id: str | None) -> str:
    assert server_id is not None
    body = {"volumeAttachment": {"volumeId": own_volume(cloud, server_id)}}
    cloud.api("POST", f"/compute/v2.1/servers/{server_id}/os-volume_attachments", body)
    return server_id


def with_an_attached_volume(cloud: HandCloud) -> str:
    server_id = attach(cloud, with_a_free_volume(cloud))
    cloud.run()
    attached(cloud, server_id)
    return server_id


def detach(cloud: HandCloud, server_id: str | None) -> str:
    assert server_id is not None
    path = f"/compute/v2.1/servers/{server_id}/os-volume_attachments/{own_volume(cloud, server_id)}"
    cloud.api("DELETE", path)
    return server_id


def attached(cloud: HandCloud, server_id: str) -> None:
    own = own_volume(cloud, server_id)
    assert cloud.volumes_of(server_id)[own] == "in-use"
    assert own in cloud.disk(server_id, "domains")["volumes"]
    as_before(cloud, server_id, 2)


def detached(cloud: HandCloud, server_id: str) -> None:
    own = own_volume(cloud, server_id)
    assert cloud.volumes()[own] == "available" and own not in cloud.volumes_of(server_id)
    assert own not in cloud.disk(server_id, "domains").get("volumes", [])
    as_before(cloud, server_id, 1)


def as_before(cloud: HandCloud, server_id: str, connections: int) -> None:
    server = cloud.server(server_id)
    assert (server["vm_state"], server["task_state"]) == ("active", None)
    assert len(cloud.host.leftovers()["connections"]) == connections


LIFE = LifeWithAVolume()
ATTACH_STORIES = {
    "attach_volume": Story(with_a_free_volume, attach, attached, detached, "active", LIFE),
    "detach_volume": Story(with_an_attached_volume, detach, detached, attached, "active", LIFE),
}
