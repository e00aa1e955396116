"""A real guest of this host: boots from its overlay, hears DHCP over its tap, reads its config drive. Both VIF types."""

import base64
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import netlab
import pytest
from guestlab import SERVER

from kilonova.host.contract import Work
from kilonova.host.dataplane import DataPlane, DataPlaneConfig
from kilonova.host.libvirt.connection import Connection
from kilonova.host.libvirt.host import LibvirtHost, LibvirtHostConfig
from kilonova.host.net.backend import HostNet
from kilonova.model.ids import new_id
from kilonova.model.specs import FlavorSpec, HostNetwork, ImageSpec, ServerSpec

pytestmark = [pytest.mark.guest, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, libvirt")]

BUILD = Path(__file__).parents[2] / "build"
FILES = {"guest": ("guest.qcow2", "qcow2"), "kernel": ("vmlinuz", "aki"), "ramdisk": ("initrd.img", "ari")}
BOOT_SECONDS = 90
STEPS = ("prepare_disks", "get_guest_xml", "plug_vifs", "create_guest")
CREATED = b"#!/bin/sh\necho user data of $(hostname) sees $(cat /sys/class/dmi/id/product_name)\n"

replace = msgspec.structs.replace


class Lab:
    def __init__(self, state: Path) -> None:
        self.plane = DataPlane.ensure(DataPlaneConfig(state=state, cloud_id=new_id()))
        self.net = HostNet(self.plane.netns, self.plane.config.cloud_id, state)
        config = LibvirtHostConfig(
            instances=state / "instances", cloud_id=self.plane.config.cloud_id, netns=self.plane.netns,
            fetch_image=lambda image_id, path: path.write_bytes((BUILD / FILES[image_id][0]).read_bytes()) and None,
        )  # fmt: skip
        self.host = LibvirtHost("here", config, Connection(self.plane.libvirt_uri), self.net)

    def close(self) -> None:
        self.net.purge()
        self.host.close()
        self.plane.purge()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    assert (BUILD / "guest.qcow2").exists(), "there is no guest image: `make image` builds it"
    lab = Lab(tmp_path_factory.mktemp("boot"))
    yield lab
    lab.close()


def image(name: str) -> ImageSpec:
    file, disk_format = FILES[name]
    data = (BUILD / file).read_bytes()
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return ImageSpec(id=name, name=name, disk_format=disk_format, size=len(data), checksum=digest)


def make_server(vif_type: str, **changes: object) -> ServerSpec:
    network = netlab.network()
    port = netlab.port(network, "10.0.0.77", vif_type=vif_type)
    return replace(
        SERVER,
        hostname="booted",
        flavor=FlavorSpec(id="1", name="m1.nano", vcpus=1, memory_mb=128, disk_gb=1),
        image=image("guest"),
        networks=(network,),
        ports=(replace(port, device_id=SERVER.id, project_id=SERVER.project_id, hostname="booted"),),
        config_drive=True,
        user_data=base64.b64encode(CREATED).decode(),
        **changes,
    )


CASES = {
    "bridge": lambda: make_server("bridge"),
    "tap": lambda: make_server("tap"),
    "kernel and ramdisk": lambda: make_server("bridge", kernel=image("kernel"), ramdisk=image("ramdisk")),
}


@pytest.mark.parametrize("case", CASES)
def test_a_guest_boots(lab: Lab, case: str) -> None:
    made = CASES[case]()
    desired = HostNetwork(networks=made.networks, ports=made.ports)
    results: dict[str, object] = {}
    try:
        for step in STEPS:
            results[step] = getattr(lab.host, step)(Work(server=made, results=results))
        deadline = time.monotonic() + 10
        while (states := lab.host.apply_network(desired)) != {made.ports[0].id: "ACTIVE"}:
            assert time.monotonic() < deadline, states
            time.sleep(0.1)
        lab.host.resume_guest(Work(server=made, results=results))
        deadline = time.monotonic() + BOOT_SECONDS
        while "user data of" not in (text := lab.host.console_output(made.id, None)) or "ready: booted" not in text:
            assert time.monotonic() < deadline, text[-3000:]
            time.sleep(0.25)
        assert "10.0.0.77/24" in text
        assert "user data of booted sees OpenStack Nova" in text
        if made.kernel:
            cmdline = results["get_guest_xml"]["xml"].partition("<cmdline>")[2].partition("<")[0]  # type: ignore[index]
            assert cmdline == "root=/dev/vda console=tty0 console=ttyS0 no_timer_check nokaslr"
            assert "SYSLINUX" not in text
    finally:
        for step in ("destroy_guest", "unplug_vifs", "delete_disks"):
            getattr(lab.host, step)(Work(server=made))
        for _ in range(2):
            lab.host.apply_network(HostNetwork())
    assert lab.plane.status().guests == 0
    assert not [name for name in netlab.list_links(lab.plane.netns) if name.startswith(("tap", "brq"))]
