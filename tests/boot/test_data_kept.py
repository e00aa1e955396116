"""One guest walks through the verbs that touch its disks, and finds what it wrote."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from clouds import BUILT, RunningCloud, wait_for
from test_real_cloud import ssh

pytestmark = [pytest.mark.guest, pytest.mark.skipif(os.getuid() != 0, reason="a real host needs root")]

EPHEMERAL = "sudo mount -t ext4 /dev/vdb /mnt"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    backends = ("--volume-backend", "file=file", "--volume-backend", "far=iscsi")
    options = ("--guest-image", str(BUILT / "guest.qcow2"), *backends)
    made = RunningCloud(tmp_path_factory.mktemp("kept") / "cloud", "auto", *options).up()
    yield made
    made.purge()


@pytest.fixture(scope="module")
def walk(cloud: RunningCloud) -> "Walk":
    return Walk(cloud)


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

    def server(self, name: str, image: str, **more: Any) -> Any:
        made = self.demo.compute.create_server(
            name=name, flavor_id=self.small, image_id=image, security_groups=[{"name": "ssh"}],
            networks=[{"uuid": self.cloud.json["networks"]["demo"]}], **more,
        )  # fmt: skip
        self.comes(made, "ACTIVE")
        return made

    def comes(self, server: Any, status: str) -> None:
        found = wait_for(lambda: (s := self.demo.compute.get_server(server.id)).status in (status, "ERROR") and s, 120)
        assert found.status == status, found.fault
        wait_for(lambda: self.demo.compute.get_server(server.id).task_state is None, 120)

    def does(self, server: Any, action: Any, status: str) -> None:
        answer = self.demo.compute.post(f"/servers/{server.id}/action", json=action, microversion="2.93")
        assert answer.status_code in (202, 204), answer.text  # 204: confirmResize
        self.comes(server, status)


@pytest.mark.timeout(900)  # six boots, one after another
def test_a_guest_finds_what_it_wrote(cloud: RunningCloud, walk: Walk) -> None:
    server = walk.server("walker", walk.image)
    ssh(
        cloud,
        server,
        f"echo root > kept; {EPHEMERAL} && echo more | sudo tee /mnt/kept; sudo umount /mnt; sync; echo ok",
    )
    ssh(cloud, server, "sudo rm /etc/dropbear/ed25519; sync; echo ok")  # as in a copy of the moment when one is made
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


def found(serial: str) -> str:
    """For the guest's shell: `$dev` is the disk of that volume, once it is there."""
    return f"dev=; while [ -z \"$dev\" ]; do dev=$(grep -l {serial[:20]} /sys/block/*/serial | cut -d/ -f4); done"


class Volumes:
    """Cinder's door, and the disks that a server finds behind it."""

    def __init__(self, walk: Walk, server: Any) -> None:
        self.walk, self.cloud, self.server = walk, walk.cloud, server
        self.http = walk.demo.block_storage

    def made(self, size: int, **more: Any) -> str:
        answer = self.http.post("/volumes", json={"volume": {"size": size, **more}}, microversion="3.71")
        assert answer.status_code == 202, answer.text
        id: str = answer.json()["volume"]["id"]
        self.comes("volumes", id, "available")
        return id

    def comes(self, kind: str, id: str, status: str) -> Any:
        one = kind.removesuffix("s")

        def look() -> Any:
            found = self.http.get(f"/{kind}/{id}").json()[one]
            return (found["status"] == status or "error" in found["status"]) and found

        found = wait_for(look, 180)
        assert found["status"] == status, found
        return found

    def does(self, id: str, action: str, argument: Any, status: str = "in-use") -> None:
        answer = self.http.post(f"/volumes/{id}/action", json={action: argument}, microversion="3.71")
        assert answer.status_code == 202, answer.text
        self.comes("volumes", id, status)

    def copy(self, kind: str, volume_id: str) -> str:
        """Of a volume in use, as of now."""
        wish = {kind: {"volume_id": volume_id, "force": True}}
        id: str = self.http.post(f"/{kind}s", json=wish, microversion="3.64").json()[kind]["id"]
        self.comes(f"{kind}s", id, "available")
        return id

    def attach(self, id: str) -> None:
        self.walk.demo.compute.create_volume_attachment(self.server, volume_id=id)
        self.comes("volumes", id, "in-use")

    def detach(self, id: str) -> None:
        self.walk.demo.compute.delete_volume_attachment(self.server, id)
        self.comes("volumes", id, "available")

    def guest(self, id: str, command: str, serial: str = "") -> str:
        """With the volume mounted at /mnt; `$dev` is its disk, found by its serial."""
        whole = f"{found(serial or id)}; sudo mount -t ext4 /dev/$dev /mnt; {{ {command}; }}; sync; sudo umount /mnt"
        return ssh(self.cloud, self.server, whole)


@pytest.mark.timeout(900)
def test_a_guest_on_volumes_finds_what_it_wrote(cloud: RunningCloud, walk: Walk) -> None:
    root = {
        "boot_index": 0, "source_type": "image", "uuid": walk.image, "destination_type": "volume", "volume_size": 1,
        "delete_on_termination": True,
    }  # fmt: skip
    server = walk.server("settler", "", block_device_mapping=[root])
    assert not any(path.name == "disk" for path in (cloud.state / "instances").glob("????????-*/*"))
    volumes = Volumes(walk, server)
    first = volumes.made(1)
    volumes.attach(first)
    ssh(cloud, server, f"{found(first)}; sudo mkfs.ext4 -q /dev/$dev; echo root > kept; sync; echo made")
    assert volumes.guest(first, "echo one | sudo tee /mnt/one") == "one\n"

    volumes.does(first, "os-extend", {"new_size": 2})
    grown = "sudo resize2fs /dev/$dev >/dev/null 2>&1; cat /mnt/one /sys/block/$dev/size"
    assert volumes.guest(first, grown).split() == ["one", str(2 << 21)]
    snapshot, backup = volumes.copy("snapshot", first), volumes.copy("backup", first)
    assert volumes.guest(first, "echo two | sudo tee /mnt/two") == "two\n"
    for copy in (volumes.made(2, snapshot_id=snapshot), volumes.made(2, backup_id=backup)):
        volumes.attach(copy)
        assert volumes.guest(copy, "cat /mnt/one; ls /mnt/two || true") == "one\n"
        volumes.detach(copy)
    volumes.http.delete(f"/snapshots/{snapshot}")
    wait_for(lambda: volumes.http.get(f"/snapshots/{snapshot}").status_code == 404)

    goes_over(cloud, walk, volumes, first)

    walk.demo.compute.delete_server(server.id)
    walk.demo.compute.wait_for_delete(server, interval=0.2, wait=60)


def goes_over(cloud: RunningCloud, walk: Walk, volumes: Volumes, first: str) -> None:
    """The disk moves to another backend and to another volume while the guest has its file system mounted."""
    admin = cloud.connect("kilonova-admin")
    admin.block_storage.create_type(name="elsewhere", extra_specs={"volume_backend_name": "far"})
    writes = "(while [ ! -e /tmp/stop ]; do date > /mnt/n; sync; done; rm /tmp/stop) >/dev/null 2>&1 &"
    mounted = f"{found(first)}; sudo mount -t ext4 /dev/$dev /mnt"
    ssh(cloud, volumes.server, f"{mounted}; sudo chmod 777 /mnt; {writes} echo begun")
    volumes.does(first, "os-retype", {"new_type": "elsewhere", "migration_policy": "on-demand"})
    assert volumes.http.get(f"/volumes/{first}").json()["volume"]["volume_type"] == "elsewhere"
    second = volumes.made(2)
    swap = {"volumeAttachment": {"volumeId": second}}
    answer = admin.compute.put(f"/servers/{volumes.server.id}/os-volume_attachments/{first}", json=swap)
    assert answer.status_code == 202, answer.text
    volumes.comes("volumes", second, "in-use")
    volumes.comes("volumes", first, "available")
    ends = "touch /tmp/stop; while [ -e /tmp/stop ]; do usleep 100000; done; sudo umount /mnt; echo ended"
    ssh(cloud, volumes.server, ends)
    assert volumes.guest(second, "cat /mnt/one /mnt/two", serial=first) == "one\ntwo\n"  # the serial stays until a new start
    assert ssh(cloud, volumes.server, "dmesg | grep -ci 'i/o error' || true") == "0\n"
