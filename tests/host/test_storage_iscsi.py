"""The cloud's own tgtd: CHAP, its death and its return with all targets, volumes that grow under an open connection."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from planelab import traces
from storagelab import IscsiLab

from kilonova.host.dataplane.daemons import Daemons
from kilonova.host.dataplane.processes import command_line
from kilonova.host.libvirt.connection import Connection
from kilonova.host.libvirt.secrets import ensure_secret
from kilonova.host.storage import GIB, IscsiBackend
from kilonova.model.errors import HostError
from kilonova.model.specs import VolumeSpec

pytestmark = [
    pytest.mark.xdist_group("libvirtd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces"),
]
VOLUME = "volume-1"
replace = msgspec.structs.replace


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[IscsiLab]:
    with IscsiLab(tmp_path) as made:
        yield made


def tgtd(lab: IscsiLab) -> int:
    pid = Daemons(lab.plane.config).pid("tgtd")
    assert pid and command_line(pid)[0].endswith("tgtd")
    return pid


def kill(lab: IscsiLab, daemon: str) -> None:
    pid = Daemons(lab.plane.config).pid(daemon)
    assert pid
    os.kill(pid, signal.SIGKILL)
    while command_line(pid):
        time.sleep(0.005)


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_wrong_password_is_refused(lab: IscsiLab) -> None:
    lab.backend.create(VOLUME, 1)
    info = lab.backend.connect(VOLUME)
    with pytest.raises(HostError, match="Authentication failure"):
        lab.qemu_io(info, "read 0 512", auth_password="0123456789abcdef")
    with pytest.raises(HostError, match="Authentication failure"):
        lab.qemu_io(info, "read 0 512", auth_username="somebody")
    lab.backend.disconnect(VOLUME)
    with pytest.raises(HostError, match="Failed to connect"):
        lab.read_as_guest(info, 0, 8)


def test_targets_are_the_owners_secret(lab: IscsiLab) -> None:
    lab.backend.create(VOLUME, 1)
    lab.backend.connect(VOLUME)
    (file,) = (lab.plane.config.volumes_dir / ".targets").glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_backends_share_one_tgtd_and_its_numbers(lab: IscsiLab) -> None:
    config = lab.backend.config
    other = IscsiBackend(type(config)("other", config.folder.parent / "other", config.run, config.cloud_id))
    infos = []
    for backend, name in ((lab.backend, "volume-a"), (other, "volume-b"), (lab.backend, "volume-c")):
        backend.create(name, 1)
        infos.append(backend.connect(name))
    lab.backend.disconnect("volume-a")
    other.create("volume-d", 1)
    infos.append(other.connect("volume-d"))
    files = [json.loads(file.read_text()) for file in (config.folder.parent / ".targets").glob("*.json")]
    assert sorted((each["tid"], each["name"]) for each in files) == [(1, "volume-d"), (2, "volume-b"), (3, "volume-c")]
    for info in infos[1:]:
        assert lab.read_as_guest(info, 0, 8) == b"\0" * 8


@pytest.mark.parametrize("event", ["killed", "extended", "killed twice, then extended"])
def test_who_is_connected_stays_so(lab: IscsiLab, event: str) -> None:
    """Writes go on all the while, sixteen at a time; not one of them fails or is lost."""
    lab.backend.create(VOLUME, 1)
    info = lab.backend.connect(VOLUME)
    bench = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{lab.plane.netns}", "--", "qemu-img", "bench", "-w", "--pattern", "97", "-c", "50000",
         "-d", "16", "-s", "4096", "--image-opts", lab.options(info)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: lab.backend.volumes() and lab.written() > 8 << 20)
    for _ in range(event.count("killed") + event.count("twice")):
        kill(lab, "tgtd")
        time.sleep(1)
    if "extended" in event:
        lab.backend.extend(VOLUME, 2)
    assert bench.poll() is None, "all was written before anything happened"
    _, errors = bench.communicate(timeout=120)
    assert bench.returncode == 0, errors
    with lab.backend.local_path(VOLUME) as path, path.open("rb") as file:
        assert file.read(50000 * 4096).strip(b"a") == b""
    if "extended" in event:
        assert lab.read_as_guest(info, 2 * GIB - 8, 8) == b"\0" * 8


@pytest.mark.parametrize("dead", [["reaper"], ["tgtd", "reaper"]])
def test_a_restart_adopts_it_or_starts_it_with_its_targets(lab: IscsiLab, dead: list[str]) -> None:
    lab.backend.create(VOLUME, 1)
    info = lab.backend.connect(VOLUME)
    before = tgtd(lab)
    for name in reversed(dead):
        kill(lab, name)
    lab.plane.ensure_daemons()
    assert (tgtd(lab) == before) == ("tgtd" not in dead)
    wait_until(lambda: VOLUME in lab.shown())
    assert lab.backend.connect(VOLUME) == info
    assert lab.read_as_guest(info, 0, 8) == b"\0" * 8
    lab.plane.stop_daemons()
    assert Daemons(lab.plane.config).pid("tgtd") is None
    lab.plane.ensure_daemons()
    wait_until(lambda: VOLUME in lab.shown())


def test_a_cloud_that_wants_none_any_more_has_none(lab: IscsiLab) -> None:
    plane = type(lab.plane).ensure(
        type(lab.plane.config)(state=lab.plane.config.state, cloud_id=lab.plane.config.cloud_id)
    )
    assert Daemons(plane.config).pid("tgtd") is None
    assert Daemons(plane.config).pid("libvirtd")


def test_a_purge_leaves_nothing_of_it(lab: IscsiLab) -> None:
    lab.backend.create(VOLUME, 1)
    lab.backend.connect(VOLUME)
    pid = tgtd(lab)
    lab.plane.purge()
    assert command_line(pid) == []
    assert set(traces(lab.plane.config)) <= {"state"}  # the volumes themselves: statedir's to remove
    assert os.listdir(lab.plane.config.state) == ["volumes"]


def test_it_runs_beside_a_libvirt_of_the_hosts(lab: IscsiLab, tmp_path: Path) -> None:
    """There only tgtd is the cloud's own."""
    config = lab.plane.config
    tenant = type(lab.plane).ensure(
        type(config)(
            state=tmp_path / "tenant",
            cloud_id="0" + config.cloud_id[1:],
            host_net=True,
            libvirt_uri=lab.plane.libvirt_uri,
            iscsi=True,
        )
    )
    connection = Connection(lab.plane.libvirt_uri)
    try:
        for number, cloud in enumerate((config.cloud_id, tenant.config.cloud_id)):
            data = {"target_iqn": f"iqn.2010-10.org.openstack:volume-{number}", "auth_password": "a password"}
            for _ in range(2):
                ensure_secret(connection.get(), VolumeSpec(id="1", driver_volume_type="iscsi", connection=data), cloud)
        assert tenant.status().libvirtd is None
        pid = Daemons(tenant.config).pid("tgtd")
        wait_until(lambda: pid and command_line(pid)[0].endswith("tgtd"))
        assert f"portal={tenant.config.iscsi_portal}" in command_line(pid or 0)
    finally:
        tenant.purge()
    assert Daemons(tenant.config).pid("tgtd") is None
    assert lab.plane.status().libvirtd
    (secret,) = connection.get().listAllSecrets()
    assert "volume-0" in secret.XMLDesc()
    connection.close()
