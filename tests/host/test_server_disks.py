"""The verbs on a server's disks, on a real libvirt and real files: twice, crashed anywhere, undone."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_libvirt_steps import CREATE, Lab, crash_at

from kilonova.host.contract import Work
from kilonova.host.libvirt import disk
from kilonova.model.errors import Cancelled, HostError
from kilonova.model.specs import ServerSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, libvirt")

replace = msgspec.structs.replace
SNAPSHOT = {"image_id": "snapshot", "quiesce": False}
RUNNING, SHUTDOWN = 1, 4


class ImageService:
    """What the control side keeps of images, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def store_image(self, image_id: str, source: Path, disk_format: str) -> None:
        target = self.folder / f"{image_id}.{disk_format}"
        if not target.exists():
            shutil.copyfile(source, target)

    def drop_image(self, image_id: str) -> None:
        for path in self.folder.glob(f"{image_id}.*"):
            path.unlink()


class DiskLab(Lab):
    """A server without ports on it, which are no matter here."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.made = replace(self.server, ports=(), networks=())
        self.images = ImageService(state / "glance")

    def verb(self, name: str, made: ServerSpec | None = None, **data: Any) -> Any:
        work = Work(made or self.made, data={**SNAPSHOT, **data}, control=self.images)  # type: ignore[arg-type]
        return getattr(self.host, name)(work)

    def create(self) -> None:
        results: dict[str, Any] = {}
        for step in CREATE:
            self.do(step, self.made, results)

    @property
    def folder(self) -> Path:
        return self.host.layout.server(self.made.id)

    def files(self) -> dict[str, list[str]]:
        folders = [*sorted(self.state.glob("instances/*-*")), self.images.folder]
        return {folder.name: sorted(path.name for path in folder.iterdir()) for folder in folders}


@pytest.fixture(scope="module")
def whole_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiskLab]:
    lab = DiskLab(tmp_path_factory.mktemp("disks"))
    yield lab
    lab.close()


@pytest.fixture
def lab(whole_lab: DiskLab) -> Iterator[DiskLab]:
    whole_lab.create()
    yield whole_lab
    whole_lab.undo(whole_lab.made)
    whole_lab.images.drop_image("snapshot")
    assert whole_lab.left() == {}
    assert whole_lab.files() == {"glance": []}


def info(path: Path) -> dict[str, Any]:
    text = subprocess.run(["qemu-img", "info", "-U", "--output=json", path], check=True, capture_output=True).stdout
    found: dict[str, Any] = json.loads(text)
    return found


def content(path: Path, length: int) -> bytes:
    raw = path.with_name("as-raw")
    subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", path, raw], check=True)
    try:
        return raw.read_bytes()[:length]
    finally:
        raw.unlink()


def write(path: Path, text: str) -> None:
    """Into the disk of a guest that is off, where the image has its first sector."""
    command = f"write -P {ord(text)} 0 512"
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", command, path], check=True, capture_output=True)


def is_whole(lab: DiskLab, copy: Path) -> None:
    found = info(copy)
    assert (found["format"], found["virtual-size"]) == ("qcow2", 1 << 30)
    assert "backing-filename" not in found
    assert content(copy, len(lab.image)) == lab.image


@pytest.mark.parametrize("power", ["running", "paused", "off"])
def test_a_copy_is_whole_by_itself_and_the_guest_is_as_it_was(lab: DiskLab, power: str) -> None:
    domain = lab.host.connection.get().lookupByUUIDString(lab.made.id)
    if power == "paused":
        domain.suspend()
    if power == "off":
        lab.verb("power_off_guest")
    before, files = lab.host.power_states(), lab.files()
    lab.verb("copy_root_disk")
    lab.verb("copy_root_disk")
    is_whole(lab, lab.host.layout.root_copy(lab.made.id))
    assert lab.host.power_states() == before
    assert "<mirror" not in domain.XMLDesc()
    lab.verb("upload_root_copy")
    lab.verb("upload_root_copy")
    is_whole(lab, lab.images.folder / "snapshot.qcow2")
    lab.verb("withdraw_image")
    assert lab.files() == files


@pytest.mark.parametrize("power", ["running", "off"])
def test_a_copy_that_dies_anywhere_is_made_anew_or_dropped(lab: DiskLab, power: str) -> None:
    if power == "off":
        lab.verb("power_off_guest")
    copy, edge, files = lab.host.layout.root_copy(lab.made.id), 1, lab.files()
    while crash_at(edge, lambda: lab.verb("copy_root_disk")):
        lab.verb("copy_root_disk")
        assert info(copy)["virtual-size"] == 1 << 30
        lab.verb("drop_root_copy")
        crash_at(edge, lambda: lab.verb("copy_root_disk"))
        lab.verb("drop_root_copy")
        assert lab.files() == files
        edge += 1
    assert edge > 4
    is_whole(lab, copy)
    lab.verb("drop_root_copy")


def test_a_copy_gives_way_to_another_action(lab: DiskLab) -> None:
    files = lab.files()
    work = Work(lab.made, data=SNAPSHOT, cancelled=lambda: True)
    try:
        lab.host.copy_root_disk(work)
    except Cancelled:
        lab.verb("drop_root_copy")
        assert lab.files() == files
    else:
        is_whole(lab, lab.host.layout.root_copy(lab.made.id))  # it was done before it could be asked


def test_file_systems_that_must_be_frozen_and_cannot_fail_the_copy(lab: DiskLab) -> None:
    """The server's image promises an agent, the guest has none."""
    files = lab.files()
    with pytest.raises(HostError, match="could not be frozen"):
        lab.verb("copy_root_disk", quiesce=True)
    lab.verb("drop_root_copy", quiesce=True)
    assert lab.files() == files
    lab.verb("copy_root_disk", quiesce=None)
    is_whole(lab, lab.host.layout.root_copy(lab.made.id))
    lab.verb("drop_root_copy")


def larger(lab: DiskLab) -> ServerSpec:
    return replace(lab.made, flavor=replace(lab.made.flavor, disk_gb=2, swap_mb=8, ephemeral_gb=1))


def test_a_resized_server_has_its_bytes_on_a_larger_disk_and_gets_the_old_one_back(lab: DiskLab) -> None:
    lab.verb("power_off_guest")
    root, files, old = lab.folder / "disk", lab.files(), lab.host.layout.old(lab.made.id)
    write(root, "a")
    for name in ("set_disks_aside", "grow_disks", "prepare_disks"):
        lab.verb(name, larger(lab))
        lab.verb(name, larger(lab))
    assert info(root)["virtual-size"] == 2 << 30
    assert content(root, 1) == b"a"
    assert sorted(path.name for path in lab.folder.iterdir()) == ["disk", "disk.config", "disk.eph0", "disk.swap"]
    write(root, "b")
    lab.verb("power_on_guest", larger(lab))
    assert lab.host.power_states() == {lab.made.id: RUNNING}
    lab.verb("power_off_guest")
    lab.verb("put_disks_back")
    lab.verb("put_disks_back")
    assert lab.files() == files and not old.exists()
    assert (info(root)["virtual-size"], content(root, 1)) == (1 << 30, b"a")
    lab.verb("set_disks_aside", larger(lab))
    lab.verb("drop_old_disks")
    lab.verb("drop_old_disks")
    assert not old.exists() and content(root, 1) == b"a"


@pytest.mark.parametrize("verb", ["set_disks_aside", "put_disks_back", "drop_old_disks", "grow_disks", "discard_disks"])
def test_a_change_of_disks_that_dies_anywhere_is_repeated(lab: DiskLab, verb: str) -> None:
    lab.verb("power_off_guest")
    edge, want = 1, None
    while True:
        if verb in ("put_disks_back", "drop_old_disks"):
            lab.verb("set_disks_aside")
        where = crash_at(edge, lambda: lab.verb(verb, larger(lab)))
        lab.verb(verb, larger(lab))
        found = lab.files(), {path.name: info(path)["virtual-size"] for path in lab.folder.glob("disk")}
        want = want or found
        assert found == want, where
        lab.verb("put_disks_back")
        lab.verb("discard_disks")
        lab.verb("prepare_disks")
        if not where:
            break
        edge += 1
    assert edge > 2


def test_what_is_behind_a_disk_is_read_from_the_disk(lab: DiskLab) -> None:
    lab.verb("power_off_guest")
    assert disk.backing(lab.folder / "disk") == lab.host.layout.base(lab.made.image.id)  # type: ignore[union-attr]
    flat = lab.folder / "flat"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", lab.folder / "disk", flat], check=True)
    flat.replace(lab.folder / "disk")
    assert disk.backing(lab.folder / "disk") is None
    assert str(lab.host.layout.base_dir) not in lab.verb("get_guest_xml")["xml"]
    lab.verb("power_on_guest")
    assert lab.host.power_states() == {lab.made.id: RUNNING}
