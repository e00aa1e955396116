"""How each flow is brought about, and what is true at its end: what the property tests must be told; the rest they find."""

from collections.abc import Callable
from typing import Any

import pytest
from attach_stories import ATTACH_STORIES
from backed_stories import BACKED_STORIES
from handcloud import HandCloud
from story import Story
from volume_stories import VOLUME_STORIES

from kilonova.flows.stories import flows


def active_server(cloud: HandCloud) -> str:
    server_id = cloud.create()
    cloud.run()
    active(cloud, server_id)
    return server_id


def server_of_a_host_that_went_down(cloud: HandCloud) -> str:
    server_id = active_server(cloud)
    cloud.host_goes_down()
    return server_id


def delete(cloud: HandCloud, server_id: str | None) -> str:
    assert server_id is not None
    cloud.delete(server_id)
    return server_id


def act(action: str, argument: Any = None, token: str = "demo") -> Callable[[HandCloud, str | None], str]:
    """A story's `start`: the action, as its owner asks for it."""

    def start(cloud: HandCloud, server_id: str | None) -> str:
        assert server_id is not None
        cloud.api("POST", f"/compute/v2.1/servers/{server_id}/action", {action: argument}, version="2.96", token=token)
        return server_id

    return start


def then(*actions: str) -> Callable[[HandCloud], str]:
    """A story's `prepare`: an active server that has been acted on."""

    def prepare(cloud: HandCloud) -> str:
        server_id = active_server(cloud)
        for action in actions:
            act(action)(cloud, server_id)
            cloud.run()
        return server_id

    return prepare


def after_reboot(step: str) -> str:
    return "active" if step == "shut_down_guest" else "error"


def after_hard_reboot(step: str) -> str:
    return "suspended" if step == "power_off_guest" else "error"


def still_suspended(cloud: HandCloud, server_id: str) -> None:
    """Its memory is where it was before."""
    keeps_what_it_has(cloud, server_id)
    assert cloud.host.power_states() == {server_id: 4}
    act("resume")(cloud, server_id)
    cloud.run()
    active(cloud, server_id)


def rescued(cloud: HandCloud, server_id: str) -> None:
    is_in("rescued", 1)(cloud, server_id)
    assert cloud.left()["rescue_disks"] == [server_id]
    assert cloud.server(server_id)["admin_password"] is None


def not_rescued(cloud: HandCloud, server_id: str) -> None:
    keeps_what_it_has(cloud, server_id)
    assert "rescue_disks" not in cloud.left()
    assert "rescue_image_id" not in cloud.server(server_id)["image_meta"]


def is_in(vm_state: str, power_state: int) -> Callable[[HandCloud, str], None]:
    """A story's `done`: the server by the API's word, its guest by the host's; it has all it had."""

    def look(cloud: HandCloud, server_id: str) -> None:
        server = cloud.server(server_id)
        assert (server["vm_state"], server["task_state"], server["power_state"]) == (vm_state, None, power_state)
        assert cloud.host.power_states() == {server_id: power_state}
        keeps_what_it_has(cloud, server_id)

    return look


def host_comes_up(cloud: HandCloud, server_id: str | None) -> str:
    assert server_id is not None
    cloud.control_side.report_boot(cloud.host.power_states())
    return server_id


def active(cloud: HandCloud, server_id: str) -> None:
    server = cloud.server(server_id)
    assert (server["vm_state"], server["task_state"], server["power_state"]) == ("active", None, 1)
    assert cloud.host.power_states() == {server_id: 1}
    found = {kind: len(things) for kind, things in cloud.host.leftovers().items() if things}
    attached = cloud.volumes_of(server_id)
    volumes = {"volumes": len(cloud.volumes()), "connections": len(attached)}
    assert found == {"domains": 1, "disks": 1, "taps": 2, "bridges": 1, **volumes}
    assert set(attached.values()) == {"in-use"}


def deleted(cloud: HandCloud, server_id: str) -> None:
    assert cloud.server(server_id)["vm_state"] == "deleted"
    assert cloud.left() == {}


def clean_slate(cloud: HandCloud, server_id: str) -> None:
    assert cloud.left() == {}


def keeps_what_it_has(cloud: HandCloud, server_id: str) -> None:
    left = cloud.left()
    assert left["disks"] == [server_id] and left["ports"] and left["allocations"]


def image_made(cloud: HandCloud, server_id: str) -> None:
    """The server is as it was, and there is one image more, whole."""
    active(cloud, server_id)
    images = [image for image in cloud.images() if image.get("instance_uuid") == server_id]
    assert [image["status"] for image in images] == ["active"]
    assert images[0]["base_image_ref"] == cloud.image
    assert len(cloud.http.get(f"/image/v2/images/{images[0]['id']}/file").content) == images[0]["size"] > 0
    cloud.drop_images()


def no_image_made(cloud: HandCloud, server_id: str) -> None:
    active(cloud, server_id)
    assert [image["id"] for image in cloud.images()] == [cloud.image]
    assert [path.name for path in (cloud.folder / "images").iterdir()] == [cloud.image]


BACKUP = {"name": "b", "backup_type": "daily", "rotation": 1}


WRITTEN = "what the guest wrote"
SMALL, LARGE = {"VCPU": 1, "MEMORY_MB": 128, "DISK_GB": 1}, {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 2}


def resize(cloud: HandCloud, server_id: str | None) -> str:
    return act("resize", {"flavorRef": cloud.larger_flavor})(cloud, server_id)


def written_server(cloud: HandCloud) -> str:
    server_id = active_server(cloud)
    cloud.guest_writes(server_id, WRITTEN)
    return server_id


def resized_server(cloud: HandCloud) -> str:
    server_id = resize(cloud, written_server(cloud))
    cloud.run()
    resized(cloud, server_id)
    return server_id


def resized(cloud: HandCloud, server_id: str) -> None:
    server = cloud.server(server_id)
    assert (server["vm_state"], server["task_state"], server["power_state"]) == ("resized", None, 1)
    assert (server["flavor"]["name"], server["memory_mb"]) == ("m1.small", 512)
    assert cloud.host.power_states() == {server_id: 1}
    assert cloud.disk(server_id) == {"content": WRITTEN, "size_gb": 2}
    assert cloud.disk(server_id, "old_disks") == {"content": WRITTEN, "size_gb": 1}
    assert cloud.migrations() == [(server_id, "finished")]
    held = cloud.allocated()
    assert held.pop(server_id) == LARGE
    assert list(held.values()) == [SMALL]


def has_flavor(name: str, resources: dict[str, int], migration: str) -> Callable[[HandCloud, str], None]:
    """Active, in one flavor, with its disk and no other's."""

    def look(cloud: HandCloud, server_id: str) -> None:
        active(cloud, server_id)
        assert cloud.server(server_id)["flavor"]["name"] == name
        assert cloud.disk(server_id) == {"content": WRITTEN, "size_gb": resources["DISK_GB"]}
        assert cloud.allocated() == {server_id: resources}
        assert cloud.migrations() in ([(server_id, migration)], [])

    return look


def has_its_old_disk(cloud: HandCloud, server_id: str) -> None:
    """Its new disk may be gone already."""
    keeps_what_it_has(cloud, server_id)
    assert WRITTEN in (cloud.disk(server_id)["content"])


def rebuild(cloud: HandCloud, server_id: str | None) -> str:
    return act("rebuild", {"imageRef": cloud.image, "name": "anew"})(cloud, server_id)


def rebuilt(cloud: HandCloud, server_id: str) -> None:
    active(cloud, server_id)
    assert cloud.disk(server_id) == {"content": f"image {cloud.image}", "size_gb": 1}
    assert cloud.server(server_id)["name"] == "anew"


def keeps_its_place(cloud: HandCloud, server_id: str) -> None:
    left = cloud.left()
    assert left["ports"] and left["allocations"]


def not_put_away(cloud: HandCloud, server_id: str) -> None:
    has_flavor("m1.nano", SMALL, "")(cloud, server_id)
    no_image_made(cloud, server_id)


def offloaded_server(cloud: HandCloud) -> str:
    server_id = act("shelve")(cloud, written_server(cloud))
    cloud.run()
    offloaded(cloud, server_id)
    return server_id


def offloaded(cloud: HandCloud, server_id: str) -> None:
    """Nothing of it is on a host, and its image has what its guest wrote."""
    server = cloud.server(server_id)
    assert (server["vm_state"], server["task_state"], server["power_state"]) == ("shelved_offloaded", None, 4)
    assert server["host"] is None and cloud.allocated() == {}
    assert {kind for kind, things in cloud.host.leftovers().items() if things} == {"volumes"}
    image = cloud.api("GET", f"/image/v2/images/{server['system_metadata']['shelved_image_id']}")
    assert (image["name"], image["status"], image["base_image_ref"]) == ("s-shelved", "active", cloud.image)
    assert WRITTEN.encode() in cloud.http.get(f"/image/v2/images/{image['id']}/file").content


def shelved_server(cloud: HandCloud) -> str:
    """Of a cloud that does not offload by itself: off, its disk on its host."""
    cloud.boot(flows(keep_shelved=True))
    server_id = act("shelve")(cloud, written_server(cloud))
    cloud.run()
    cloud.boot()
    server = cloud.server(server_id)
    assert (server["vm_state"], server["task_state"], server["power_state"]) == ("shelved", None, 4)
    assert cloud.host.power_states() == {server_id: 4}
    assert cloud.disk(server_id)["content"] == WRITTEN
    return server_id


def unshelved(cloud: HandCloud, server_id: str) -> None:
    """Its disk is the image's, which is no more."""
    server = cloud.server(server_id)
    active(cloud, server_id)
    assert cloud.disk(server_id)["content"].startswith("image ") and server["system_metadata"] == {}
    assert cloud.server(server_id)["image_id"] == cloud.image
    assert [path.name for path in (cloud.folder / "images").iterdir()] == [cloud.image]


def with_a_free_port(cloud: HandCloud) -> str:
    server_id = active_server(cloud)
    cloud.free_port = cloud.api("POST", "/network/v2.0/ports", {"port": {"network_id": cloud.network}})["port"]["id"]
    return server_id


def attach_port(cloud: HandCloud, server_id: str | None) -> str:
    assert server_id is not None
    body = {"interfaceAttachment": {"port_id": cloud.free_port}}
    cloud.api("POST", f"/compute/v2.1/servers/{server_id}/os-interface", body)
    return server_id


def with_an_attached_port(cloud: HandCloud) -> str:
    server_id = attach_port(cloud, with_a_free_port(cloud))
    cloud.run()
    has_the_port(cloud, server_id)
    return server_id


def detach_port(cloud: HandCloud, server_id: str | None) -> str:
    assert server_id is not None
    cloud.api("DELETE", f"/compute/v2.1/servers/{server_id}/os-interface/{cloud.free_port}")
    return server_id


def has_the_port(cloud: HandCloud, server_id: str) -> None:
    port = cloud.api("GET", f"/network/v2.0/ports/{cloud.free_port}")["port"]
    assert (port["device_id"], port["status"]) == (server_id, "ACTIVE")
    assert len(cloud.host.leftovers()["taps"]) == 3
    keeps_what_it_has(cloud, server_id)


def port_is_free(cloud: HandCloud, server_id: str) -> None:
    port = cloud.api("GET", f"/network/v2.0/ports/{cloud.free_port}")["port"]
    assert (port["device_id"], port["status"]) == ("", "DOWN")
    active(cloud, server_id)


STORIES = {
    "create": Story(lambda cloud: None, lambda cloud, _: cloud.create(), active, clean_slate),
    "delete": Story(active_server, delete, deleted),
    "stop": Story(active_server, act("os-stop"), is_in("stopped", 4), keeps_what_it_has, "active"),
    "start": Story(then("os-stop"), act("os-start"), active, keeps_what_it_has, "stopped"),
    "reboot": Story(active_server, act("reboot", {"type": "SOFT"}), active, keeps_what_it_has, after_reboot),
    "hard_reboot": Story(
        then("suspend"), act("reboot", {"type": "HARD"}), active, keeps_what_it_has, after_hard_reboot
    ),
    "pause": Story(active_server, act("pause"), is_in("paused", 3), keeps_what_it_has, "active"),
    "unpause": Story(then("pause"), act("unpause"), active, keeps_what_it_has, "paused"),
    "suspend": Story(active_server, act("suspend"), is_in("suspended", 4), keeps_what_it_has, "active"),
    "resume": Story(then("suspend"), act("resume"), active, still_suspended, "suspended"),
    "rescue": Story(active_server, act("rescue"), rescued, not_rescued),
    "unrescue": Story(then("rescue"), act("unrescue"), active, keeps_what_it_has),
    "trigger_crash_dump": Story(active_server, act("trigger_crash_dump"), active, keeps_what_it_has, "active"),
    "createImage": Story(active_server, act("createImage", {"name": "i"}), image_made, no_image_made, "active"),
    "createBackup": Story(active_server, act("createBackup", BACKUP), image_made, no_image_made, "active"),
    "resize": Story(written_server, resize, resized, has_flavor("m1.nano", SMALL, "error"), "active"),
    "confirmResize": Story(resized_server, act("confirmResize"), has_flavor("m1.small", LARGE, "confirmed")),
    "revertResize": Story(
        resized_server, act("revertResize"), has_flavor("m1.nano", SMALL, "reverted"), has_its_old_disk
    ),
    "rebuild": Story(written_server, rebuild, rebuilt, keeps_its_place),
    "shelve": Story(written_server, act("shelve"), offloaded, not_put_away, "active"),
    "shelveOffload": Story(shelved_server, act("shelveOffload", token="admin"), offloaded),
    "unshelve": Story(offloaded_server, act("unshelve"), unshelved, offloaded, "shelved_offloaded"),
    "resume_state_on_host_boot": Story(server_of_a_host_that_went_down, host_comes_up, active, keeps_what_it_has),
    "attach_interface": Story(with_a_free_port, attach_port, has_the_port, port_is_free, "active"),
    "detach_interface": Story(with_an_attached_port, detach_port, port_is_free, has_the_port, "active"),
    **ATTACH_STORIES,
    **BACKED_STORIES,
    **VOLUME_STORIES,
}


def story(flow: str) -> Story:
    if flow not in STORIES:
        pytest.fail(
            f"Flow {flow!r} is in kilonova.flows.stories.FLOWS, but the property tests do not know how it comes about: "
            f"add a Story for it to STORIES in tests/flows/stories.py."
        )
    return STORIES[flow]
