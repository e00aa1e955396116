"""One guest walks through the verbs that touch its disks, and finds what it wrote."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clouds import BUILT, RunningCloud, wait_for
from test_real_cloud import ssh

pytestmark = [pytest.mark.guest, pytest.mark.skipif(os.getuid() != 0, reason="a real host needs root")]

EPHEMERAL = "sudo mount -t ext4 /dev/vdb /mnt"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[RunningCloud]:
    made = RunningCloud(tmp_path / "cloud", "auto", "--guest-image", str(BUILT / "guest.qcow2")).up()
    yield made
    made.purge()


class Walk:
    """A server, and how it is led from state to state."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud, self.demo = cloud, cloud.connect()
        group = self.demo.network.create_security_group(name="ssh")
        self.demo.network.create_security_group_rule(
            security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22
        )
        admin = cloud.connect("kilonova-admin").compute
        sizes = {"vcpus": 1, "ram": 128, "ephemeral": 1}
        self.small = admin.create_flavor(name="small", disk=1, **sizes).id
        self.large = admin.create_flavor(name="large", disk=2, swap=64, **sizes).id
        self.image: str = cloud.json["images"]["kilonova-guest"]["id"]

    def server(self, name: str, image: str) -> Any:
        made = self.demo.compute.create_server(
            name=name, flavor_id=self.small, image_id=image, security_groups=[{"name": "ssh"}],
            networks=[{"uuid": self.cloud.json["networks"]["demo"]}],
        )  # fmt: skip
        self.comes(made, "ACTIVE")
        return made

    def comes(self, server: Any, status: str) -> None:
        found = wait_for(lambda: (s := self.demo.compute.get_server(server.id)).status in (status, "ERROR") and s, 120)
        assert found.status == status, found.fault
        wait_for(lambda: self.demo.compute.get_server(server.id).task_state is None, 120)

    def does(self, server: Any, action: Any, status: str) -> None:
        endpoint = self.demo.compute.post(f"/servers/{server.id}/action", json=action, microversion="2.77")
        assert endpoint.status_code == 202, endpoint.text
        self.comes(server, status)


@pytest.mark.timeout(900)  # six boots, one after another
def test_a_guest_finds_what_it_wrote(cloud: RunningCloud) -> None:
    walk = Walk(cloud)
    server = walk.server("walker", walk.image)
    ssh(
        cloud,
        server,
        f"echo root > kept; {EPHEMERAL} && echo more | sudo tee /mnt/kept; sudo umount /mnt; sync; echo ok",
    )
    walk.does(server, {"createImage": {"name": "snapshot"}}, "ACTIVE")
    image = walk.demo.image.find_image("snapshot")
    assert (image.status, image.disk_format) == ("active", "qcow2")
    twin = walk.server("twin", image.id)  # boots beside the rest

    walk.does(server, {"resize": {"flavorRef": walk.large}}, "VERIFY_RESIZE")
    assert ssh(cloud, server, "cat kept; echo new > new; sync") == "root\n"
    assert int(ssh(cloud, server, "cat /sys/block/vda/size")) == 2 << 21  # sectors
    walk.does(server, {"revertResize": None}, "ACTIVE")
    assert ssh(cloud, server, "cat kept; ls new || true") == "root\n"
    assert int(ssh(cloud, server, "cat /sys/block/vda/size")) == 1 << 21

    assert ssh(cloud, twin, "cat kept; hostname") == "root\ntwin\n"
    walk.demo.compute.delete_server(twin.id)

    walk.does(server, {"rebuild": {"imageRef": walk.image, "preserve_ephemeral": True}}, "ACTIVE")
    assert ssh(cloud, server, f"ls kept; {EPHEMERAL} && cat /mnt/kept; sudo umount /mnt") == "more\n"
    ssh(cloud, server, "echo again > kept; sync; echo ok")
    walk.does(server, {"shelve": None}, "SHELVED_OFFLOADED")
    assert [path for path in (cloud.state / "instances").glob("????????-*") if server.id in path.name] == []
    walk.does(server, {"unshelve": None}, "ACTIVE")
    assert ssh(cloud, server, "cat kept") == "again\n"
    assert walk.demo.image.find_image("walker-shelved") is None

    walk.does(server, {"resize": {"flavorRef": walk.large}}, "VERIFY_RESIZE")
    walk.does(server, {"confirmResize": None}, "ACTIVE")
    assert ssh(cloud, server, "cat kept") == "again\n"
    walk.demo.compute.delete_server(server.id)
    walk.demo.compute.wait_for_delete(server, interval=0.2, wait=60)
    assert list((cloud.state / "instances").glob("????????-*")) == []
