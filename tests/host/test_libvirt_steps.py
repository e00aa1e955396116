"""Every HOST verb of create and delete, on a real libvirt, real taps and bridges: twice, crashed anywhere, undone."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from guestlab import NETWORK, PORT, SERVER, server

from kilonova.host.calls import observed
from kilonova.host.contract import Work
from kilonova.host.dataplane import DataPlane, DataPlaneConfig
from kilonova.host.libvirt.connection import Connection
from kilonova.host.libvirt.host import LibvirtHost, LibvirtHostConfig
from kilonova.host.net.backend import HostNet
from kilonova.host.net.link import list_links
from kilonova.model.errors import HostError
from kilonova.model.ids import new_id
from kilonova.model.specs import HostNetwork, ServerSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, libvirt")

replace = msgspec.structs.replace
CREATE = ("prepare_disks", "get_guest_xml", "plug_vifs", "create_guest", "resume_guest")
UNDO = ("destroy_guest", "unplug_vifs", "delete_disks")
UNDO_OF = {"prepare_disks": 2, "get_guest_xml": 2, "plug_vifs": 1, "create_guest": 0, "resume_guest": 0}
PAUSED, RUNNING, SHUTDOWN = 3, 1, 4


class Crash(BaseException):
    """No handler catches it: the rest of the step does not happen."""


class Lab:
    """One real host, and a server with one port of a VIF type on it."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.cloud_id = new_id()
        self.plane = DataPlane.ensure(DataPlaneConfig(state=state, cloud_id=self.cloud_id))
        config = LibvirtHostConfig(
            instances=state / "instances", cloud_id=self.cloud_id, fetch_image=self.fetch, netns=self.plane.netns,
            qemu_logs=self.plane.config.libvirt_dir / "log" / "qemu", tb_cache_mib=8,
        )  # fmt: skip
        self.net = HostNet(self.plane.netns, self.cloud_id, state)
        self.host = LibvirtHost("here", config, Connection(self.plane.libvirt_uri), self.net)
        self.image = b"no system, a BIOS that finds none\0" * 4096
        checksum = hashlib.md5(self.image, usedforsecurity=False).hexdigest()
        image = replace(SERVER.image, disk_format="raw", size=len(self.image), checksum=checksum)
        self.server = server(image=image, flavor=replace(SERVER.flavor, memory_mb=64), config_drive=True)

    def close(self) -> None:
        self.net.purge()
        self.host.close()
        self.plane.purge()

    def fetch(self, image_id: str, path: Path) -> None:
        path.write_bytes(self.image)

    def with_vif(self, vif_type: str) -> ServerSpec:
        return replace(self.server, ports=(replace(PORT, vif_type=vif_type),))

    def do(self, step: str, made: ServerSpec, results: dict[str, Any]) -> Any:
        results[step] = getattr(self.host, step)(Work(server=made, results=results))
        return results[step]

    def undo(self, made: ServerSpec, first: int = 0) -> None:
        for step in UNDO[first:]:
            self.do(step, made, {})
        for _ in range(2):  # what nobody desires is removed when a second pass says so too
            self.host.apply_network(HostNetwork())

    def left(self) -> dict[str, Any]:
        """All that a server may have left behind, from the real things."""
        conn = self.host.connection.get()
        links = [name for name in list_links(self.plane.netns) if name.startswith(("tap", "brq"))]
        folders = [path.name for path in (self.state / "instances").iterdir() if path.name != "_base"]
        found = {
            "domains": [domain.name() for domain in conn.listAllDomains()],
            "links": links,
            "folders": folders,
            "qemu": self.plane.status().guests,
        }
        return {name: value for name, value in found.items() if value}

    def picture(self, made: ServerSpec) -> dict[str, Any]:
        """What a step's end looks like; two equal pictures are the same end."""
        links = list_links(self.plane.netns)
        conn = self.host.connection.get()
        folder = self.state / "instances" / made.id
        return {
            "power": self.host.power_states(),
            "persistent": [(domain.name(), domain.isPersistent()) for domain in conn.listAllDomains()],
            "links": sorted((name, links[name].kind) for name in links if name.startswith(("tap", "brq"))),
            "files": sorted(path.name for path in folder.iterdir()) if folder.exists() else [],
            "guests": self.plane.status().guests,
        }


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("steps"))
    yield lab
    lab.close()


@pytest.mark.parametrize("vif_type", ["bridge", "tap"])
def test_each_verb_twice_ends_as_once(lab: Lab, vif_type: str) -> None:
    made, results = lab.with_vif(vif_type), {}
    for step in CREATE:
        lab.do(step, made, results)
        once = lab.picture(made)
        lab.do(step, made, results)
        assert lab.picture(made) == once, step
    assert once["power"] == {made.id: RUNNING}
    assert once["guests"] == 1
    assert (PORT.tap, "tun") in once["links"]
    for step in UNDO:
        lab.do(step, made, {})
        once = lab.picture(made)
        lab.do(step, made, {})
        assert lab.picture(made) == once, step
    lab.undo(made)
    assert lab.left() == {}


def test_the_guest_starts_paused_in_its_bridge_with_its_overlay(lab: Lab) -> None:
    made, results = lab.with_vif("bridge"), {}
    try:
        for step in CREATE[:-1]:
            lab.do(step, made, results)
        assert lab.host.power_states() == {made.id: PAUSED}
        links = list_links(lab.plane.netns)
        assert links[PORT.tap].master == links[NETWORK.bridge].index
        desired = HostNetwork(networks=(NETWORK,), ports=made.ports)
        assert set(lab.host.apply_network(desired)) == {PORT.id}
        info = json.loads(
            subprocess.run(
                ["qemu-img", "info", "-U", "--output=json", lab.host.layout.disk(made.id)], check=True, capture_output=True
            ).stdout
        )
        assert info["backing-filename"] == str(lab.host.layout.base(made.image.id))
        lab.do("resume_guest", made, results)
        assert lab.host.layout.console_log(made.id).exists()
    finally:
        lab.undo(made)
    assert lab.left() == {}


def crash_at(edge: int, act: Callable[[], object]) -> str:
    """Where it crashed; empty when there was no such edge."""
    seen = [0, ""]

    def observer(when: str, name: str) -> None:
        seen[0] += 1
        if seen[0] == edge:
            seen[1] = f"{when} {name}"
            raise Crash(seen[1])

    try:
        with observed(observer):
            act()
    except Crash:
        pass
    return str(seen[1])


@pytest.mark.parametrize("vif_type", ["bridge", "tap"])
@pytest.mark.parametrize("step", CREATE)
def test_a_step_that_dies_anywhere_is_repeated_then_undone(lab: Lab, step: str, vif_type: str) -> None:
    made = lab.with_vif(vif_type)
    results: dict[str, Any] = {}
    start, edge, want = CREATE.index(step), 1, None
    while True:
        rebuild(lab, made, results, start)
        where = crash_at(edge, lambda: lab.do(step, made, results))
        lab.do(step, made, results)
        picture = lab.picture(made)
        want = want or picture
        assert picture == want, where
        if not where:
            break
        # From the same half-done state, the undo: what a failing step's flow does next.
        rebuild(lab, made, results, start)
        assert crash_at(edge, lambda: lab.do(step, made, results)) == where
        lab.undo(made, UNDO_OF[step])
        lab.undo(made)
        assert lab.left() == {}, where
        edge += 1
    lab.undo(made)
    assert lab.left() == {}
    assert edge > 1 or step == "get_guest_xml"


def rebuild(lab: Lab, made: ServerSpec, results: dict[str, Any], upto: int) -> None:
    lab.undo(made)
    if upto == 0:
        shutil.rmtree(lab.host.layout.base_dir, ignore_errors=True)
    for before in CREATE[:upto]:
        lab.do(before, made, results)


@pytest.mark.parametrize("vif_type", ["bridge", "tap"])
def test_an_undo_that_dies_anywhere_is_repeated(lab: Lab, vif_type: str) -> None:
    made = lab.with_vif(vif_type)
    for step in UNDO:
        edge = 1
        while True:
            results: dict[str, Any] = {}
            for each in CREATE:
                lab.do(each, made, results)
            for each in UNDO[: UNDO.index(step)]:
                lab.do(each, made, {})
            where = crash_at(edge, lambda step=step: lab.do(step, made, {}))
            lab.do(step, made, {})
            lab.undo(made, UNDO.index(step))
            assert lab.left() == {}, where
            if not where:
                break
            edge += 1
        assert edge > 1 or vif_type == "bridge"


def test_a_domain_that_is_not_ours_is_left_alone(lab: Lab) -> None:
    conn = lab.host.connection.get()
    made = lab.with_vif("bridge")
    foreign = lab.do("get_guest_xml", made, {})["xml"].replace(lab.cloud_id, new_id())
    domain = conn.defineXML(foreign)
    try:
        assert lab.host.power_states() == {}
        for step in ("destroy_guest", "resume_guest", "create_guest"):
            with pytest.raises(HostError, match="not made by this cloud"):
                lab.do(step, made, {"get_guest_xml": {"xml": foreign}})
        assert conn.lookupByUUIDString(made.id).name() == made.instance_name
    finally:
        domain.undefine()


def test_a_guest_with_nvram_is_undefined_with_it(lab: Lab) -> None:
    image = replace(lab.server.image, properties={"hw_firmware_type": "uefi", "hw_machine_type": "q35"})
    made, results = replace(lab.server, image=image, flavor=replace(lab.server.flavor, memory_mb=128)), {}
    try:
        for step in CREATE[:-1]:
            lab.do(step, made, results)
        assert lab.host.layout.disk(made.id, "nvram.fd").exists()
    finally:
        lab.undo(made)
    assert lab.left() == {}


def test_resume_says_when_the_guest_is_gone_or_stopped(lab: Lab) -> None:
    made, results = lab.with_vif("bridge"), {}
    with pytest.raises(HostError, match="is gone"):
        lab.do("resume_guest", made, results)
    try:
        for step in CREATE[:-1]:
            lab.do(step, made, results)
        lab.host.connection.get().lookupByUUIDString(made.id).destroy()
        assert lab.host.power_states() == {made.id: SHUTDOWN}
        with pytest.raises(HostError, match="stopped before"):
            lab.do("resume_guest", made, results)
        lab.do("create_guest", made, results)  # from shut off, too
        assert lab.host.power_states() == {made.id: PAUSED}
        assert "qemu" in lab.host.failure_details(made.id)
    finally:
        lab.undo(made)
    assert lab.left() == {}


def test_libvirts_own_words_reach_the_fault(lab: Lab) -> None:
    made, results = lab.with_vif("bridge"), {}
    lab.do("get_guest_xml", made, results)
    with pytest.raises(HostError, match=r"createWithFlags failed: .*"):
        lab.do("create_guest", made, results)  # no disk was prepared
    lab.undo(made)
    assert lab.left() == {}


def test_the_inventory_is_this_machines(lab: Lab) -> None:
    inventory = lab.host.inventory()
    assert inventory.vcpus == os.cpu_count()
    assert inventory.memory_mb * 1024 == pytest.approx(os.sysconf("SC_PHYS_PAGES") * 4, rel=0.05)
    assert (inventory.hypervisor_type, inventory.cpu_info["arch"]) == ("QEMU", "x86_64")
    assert 1_000_000 < inventory.hypervisor_version < 100_000_000  # 7.2.22 is 7002022


@pytest.mark.parametrize(("length", "text"), [(None, "a\nb\nc\n"), (2, "b\nc\n"), (0, ""), (9, "a\nb\nc\n")])
def test_console_output_gives_the_last_lines(lab: Lab, length: int | None, text: str) -> None:
    log = lab.host.layout.console_log("a-server")
    log.parent.mkdir(exist_ok=True)
    log.write_text("a\nb\nc\n")
    try:
        assert lab.host.console_output("a-server", length) == text
        assert lab.host.console_output("another", length) == ""
    finally:
        log.unlink()
        log.parent.rmdir()
