"""The volume verbs of a real host, on files: bytes go in and out by images, snapshots, clones, copies and backups."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from kilonova.host.contract import VolumeWork
from kilonova.host.storage import GIB, BackendConfig, make_backend
from kilonova.host.volumes import Volumes
from kilonova.model.errors import HostError
from kilonova.model.ids import new_id
from kilonova.model.specs import ImageSpec, StoredBackup, StoredSnapshot, StoredVolume

WORD, END = b"the first bytes of an image", b"and its last"


class Glance:
    """Takes in what a volume uploads, and says what it was."""

    def __init__(self) -> None:
        self.taken: dict[str, tuple[str, bytes]] = {}

    def store_image(self, image_id: str, source: Path, disk_format: str) -> None:
        self.taken[image_id] = disk_format, source.read_bytes()

    def drop_image(self, image_id: str) -> None:
        self.taken.pop(image_id, None)


class Lab:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image = ImageSpec(id=new_id(), name="i", disk_format="raw", size=1 << 20)
        self.base = folder / "base"
        self.base.write_bytes(WORD.ljust((1 << 20) - len(END), b"\0") + END)
        names = ("one", "two")
        places = {name: BackendConfig(name, folder / name, folder / "run", new_id()) for name in names}
        backends = {name: make_backend("file", place) for name, place in places.items()}
        self.host = Volumes(backends, folder / "backups", lambda image: self.base)
        self.glance = Glance()

    def work(self, volume: StoredVolume, **more: Any) -> VolumeWork:
        return VolumeWork(volume, control=self.glance, **more)  # type: ignore[arg-type]

    def volume(self, size_gb: int = 1, **source: Any) -> StoredVolume:
        id = new_id()
        made = StoredVolume(id=id, name=f"volume-{id}", size_gb=size_gb, backend="one", **source)
        for _ in range(2):  # twice is as once
            self.host.create_volume(self.work(made))
        return made

    def file(self, volume: StoredVolume, backend: str = "one") -> Path:
        return self.folder / backend / "volumes" / volume.name

    def starts_with(self, volume: StoredVolume, backend: str = "one") -> bytes:
        with self.file(volume, backend).open("rb") as file:
            return file.read(len(WORD))

    def write(self, volume: StoredVolume, word: bytes) -> None:
        with self.file(volume).open("r+b") as file:
            file.write(word)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_an_image_goes_in_whole_and_the_rest_is_zeros(lab: Lab) -> None:
    volume = lab.volume(image=lab.image)
    with lab.file(volume).open("rb") as file:
        assert file.read(1 << 20) == lab.base.read_bytes()
        assert not any(file.read(1 << 20))
    assert lab.file(volume).stat().st_size == GIB
    assert lab.file(volume).stat().st_blocks * 512 < 8 << 20  # holes cost nothing
    lab.write(volume, b"z" * len(WORD))
    with lab.file(volume).open("r+b") as file:
        file.seek(5 << 20)
        file.write(b"left over")
    lab.host.reimage_volume(lab.work(volume))
    with lab.file(volume).open("rb") as file:
        assert file.read(1 << 20) == lab.base.read_bytes()
        file.seek(5 << 20)
        assert not any(file.read(9))


def test_a_volume_comes_out_as_an_image_of_any_format(lab: Lab) -> None:
    volume, tool = lab.volume(image=lab.image), lab.folder / "out"
    for disk_format, magic in (("qcow2", b"QFI\xfb"), ("vmdk", b"KDMV"), ("vhdx", b"vhdxfile")):
        image_id = new_id()
        data = {"image_id": image_id, "disk_format": disk_format}
        lab.host.upload_volume(lab.work(volume, data=data))
        kind, content = lab.glance.taken[image_id]
        assert kind == disk_format and content.startswith(magic)
        tool.write_bytes(content)
        compare = ["qemu-img", "compare", "-f", disk_format, "-F", "raw", str(tool), str(lab.file(volume))]
        assert subprocess.run(compare, capture_output=True, check=False).returncode == 0
        lab.host.withdraw_upload(lab.work(volume, data=data))
    assert lab.glance.taken == {}
    assert list((lab.folder / "uploads").iterdir()) == [] and list((lab.folder / "one" / "snapshots").iterdir()) == []


def test_snapshots_clones_and_the_way_back(lab: Lab) -> None:
    volume = lab.volume(image=lab.image)
    snapshot = StoredSnapshot(id=new_id(), name="snapshot-1")
    lab.host.create_snapshot(lab.work(volume, snapshot=snapshot))
    lab.write(volume, b"x" * len(WORD))
    assert lab.starts_with(lab.volume(2, from_snapshot="snapshot-1")) == WORD
    assert lab.starts_with(lab.volume(2, from_volume=volume.name)) == b"x" * len(WORD)
    lab.host.revert_to_snapshot(lab.work(volume, data={"snapshot": "snapshot-1"}))
    assert lab.starts_with(volume) == WORD
    assert lab.host.has_snapshot("snapshot-1", "one") and not lab.host.has_snapshot(volume.name, "one")
    lab.host.delete_snapshot(lab.work(volume, snapshot=snapshot))
    assert not lab.host.has_snapshot("snapshot-1", "one")


def test_a_backup_and_one_that_adds_to_it_come_back(lab: Lab) -> None:
    volume = lab.volume(image=lab.image)
    whole, more = StoredBackup(id=new_id()), StoredBackup(id=new_id())
    for _ in range(2):
        lab.host.backup_volume(lab.work(volume, backup=whole))
    lab.write(volume, b"y" * len(WORD))
    more = StoredBackup(id=new_id(), parent_id=whole.id)
    lab.host.backup_volume(lab.work(volume, backup=more))
    assert lab.starts_with(lab.volume(from_backup=whole.id)) == WORD
    assert lab.starts_with(lab.volume(from_backup=more.id)) == b"y" * len(WORD)
    lab.host.restore_backup(lab.work(volume, data={"location": whole.id}))
    assert lab.starts_with(volume) == WORD
    for backup in (more, whole):
        lab.host.delete_backup(lab.work(volume, backup=backup))
    assert lab.host.backups.names() == [] and list((lab.folder / "one" / "snapshots").iterdir()) == []


def test_a_volume_moves_to_another_backend_and_is_in_one_place_at_the_end(lab: Lab) -> None:
    volume = lab.volume(image=lab.image)
    results = {"select_target": {"backend": "two", "old_backend": "one"}}
    for _ in range(2):
        lab.host.copy_volume(lab.work(volume, results=results))
    assert lab.starts_with(volume, "two") == WORD
    moved = StoredVolume(id=volume.id, name=volume.name, size_gb=1, backend="two")
    lab.host.delete_copy(lab.work(moved, results=results))  # it is the volume by now: not to be touched
    assert lab.starts_with(volume, "two") == WORD
    for _ in range(2):
        lab.host.delete_original(lab.work(moved, results=results))
    assert not lab.file(volume).exists() and lab.starts_with(volume, "two") == WORD


def test_what_is_not_there_is_said_in_a_sentence(lab: Lab) -> None:
    volume = StoredVolume(id=new_id(), name="volume-x", size_gb=1, backend="mars")
    with pytest.raises(HostError, match="no volume backend 'mars'"):
        lab.host.create_volume(lab.work(volume))
    lost = StoredVolume(id=new_id(), name="volume-y", size_gb=1, backend="one", from_backup=new_id())
    with pytest.raises(HostError, match="no backup"):
        lab.host.create_volume(lab.work(lost))
    lab.host.delete_volume(lab.work(lost))
    assert lab.host.stored_volumes("one") == {}
