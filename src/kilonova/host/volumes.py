"""The volume verbs of a real host: its backends keep the bytes, images and backups come in and go out through them.

Cinder: `cinder/volume/flows/manager/create_volume.py`, `cinder/volume/volume_utils.py` (copy_image_to_volume and its like).
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kilonova.host.calls import outside, run
from kilonova.host.contract import VolumeWork
from kilonova.host.storage import Backend, Capacity
from kilonova.host.storage.backups import Backups, write_zeros
from kilonova.model.errors import HostError
from kilonova.model.specs import ImageSpec, PoolSpec, StoredBackup, StoredVolume

log = logging.getLogger(__name__)
COPY_SECONDS = 24 * 3600.0
QEMU_FORMATS = {"vhd": "vpc", "ploop": "parallels"}  # Glance's word → qemu-img's, where they differ


class Volumes:
    """`backends`: by name. `base(image)`: the raw copy of an image, fetched once."""

    def __init__(self, backends: Mapping[str, Backend], backups: Path, base: Callable[[ImageSpec], Path]) -> None:
        self.backends, self.backups, self.base = backends, Backups(backups), base

    def pools(self) -> tuple[PoolSpec, ...]:
        found = []
        for name, backend in self.backends.items():
            has, protocol = _room(backend), backend.storage_protocol
            found.append(PoolSpec(name=name, protocol=protocol, total_gb=has.total_gb, free_gb=has.free_gb))
        return tuple(found)

    def create_volume(self, work: VolumeWork) -> Any:
        volume, backend = work.volume, self._backend(work.volume.backend)
        if volume.from_snapshot:
            backend.create_from_snapshot(volume.name, volume.size_gb, volume.from_snapshot)
        elif volume.from_volume:
            backend.clone(volume.name, volume.size_gb, volume.from_volume)
        else:
            backend.create(volume.name, volume.size_gb)
        if volume.image:
            self._write_image(volume, volume.image, zeros=True)
        if volume.from_backup:
            self._restore(volume, volume.from_backup, work.cancelled)

    def delete_volume(self, work: VolumeWork) -> Any:
        self._delete(work.volume.backend, work.volume.name)

    def extend_volume(self, work: VolumeWork) -> Any:
        self._backend(work.volume.backend).extend(work.volume.name, work.data["size_gb"])

    def reimage_volume(self, work: VolumeWork) -> Any:
        if work.volume.image is None:
            raise HostError(f"{work.volume.name} is given no image")
        self._write_image(work.volume, work.volume.image, zeros=False)

    def upload_volume(self, work: VolumeWork) -> Any:
        """By way of a file beside the backups, which goes again. A volume in use: as of one moment."""
        backend, own = self._backend(work.volume.backend), f"snapshot-{work.data['image_id']}"
        disk_format = work.data["disk_format"]
        folder = self.backups.folder.parent / "uploads"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = folder / work.data["image_id"]
        backend.create_snapshot(own, work.volume.name)
        try:
            with backend.local_path(own) as source:
                command = ["qemu-img", "convert", "-f", "raw", "-O", QEMU_FORMATS.get(disk_format, disk_format)]
                run([*command, str(source), str(target)], timeout=COPY_SECONDS)
            work.images.store_image(work.data["image_id"], target, disk_format)
        finally:
            target.unlink(missing_ok=True)
            backend.delete_snapshot(own, work.volume.name)

    def withdraw_upload(self, work: VolumeWork) -> Any:
        with outside("image drop"):
            work.images.drop_image(work.data["image_id"])

    def copy_volume(self, work: VolumeWork) -> Any:
        volume, name = work.volume, work.results["select_target"]["backend"]
        if name != volume.backend:
            target = self._backend(name)
            target.create(volume.name, volume.size_gb)
            with self._backend(volume.backend).local_path(volume.name) as old, target.local_path(volume.name) as new:
                _copy(old, new, zeros=True)

    def delete_copy(self, work: VolumeWork) -> Any:
        self._delete_other(work, "backend")

    def delete_original(self, work: VolumeWork) -> Any:
        self._delete_other(work, "old_backend")

    def _delete_other(self, work: VolumeWork, which: str) -> None:
        """In that backend, if the volume is not there now."""
        name = work.results.get("select_target", {}).get(which, work.volume.backend)
        if name != work.volume.backend:
            self._delete(name, work.volume.name)

    def create_snapshot(self, work: VolumeWork) -> Any:
        assert work.snapshot is not None
        self._backend(work.volume.backend).create_snapshot(work.snapshot.name, work.volume.name)

    def delete_snapshot(self, work: VolumeWork) -> Any:
        assert work.snapshot is not None
        self._backend(work.volume.backend).delete_snapshot(work.snapshot.name, work.volume.name)

    def revert_to_snapshot(self, work: VolumeWork) -> Any:
        self._backend(work.volume.backend).revert(work.volume.name, work.data["snapshot"])

    def backup_volume(self, work: VolumeWork) -> Any:
        assert work.backup is not None
        with self._at_rest(work) as source:
            self.backups.write(work.backup.id, source, work.backup.parent_id, work.cancelled)
        return {"object_count": 2}

    @contextmanager
    def _at_rest(self, work: VolumeWork) -> Iterator[Path]:
        """The bytes to be backed up, as of one moment: the snapshot's, or those of a snapshot made for it."""
        assert work.backup is not None
        backend, wanted = self._backend(work.volume.backend), work.backup.from_snapshot
        own = _own_snapshot(work.backup)
        if wanted is None:
            backend.create_snapshot(own, work.volume.name)
        try:
            with backend.local_path(wanted or own) as path:
                yield path
        finally:
            if wanted is None:
                backend.delete_snapshot(own, work.volume.name)

    def delete_backup(self, work: VolumeWork) -> Any:
        assert work.backup is not None
        if work.volume.backend in self.backends:
            self.backends[work.volume.backend].delete_snapshot(_own_snapshot(work.backup), work.volume.name)
        self.backups.delete(work.backup.id)

    def restore_backup(self, work: VolumeWork) -> Any:
        self._restore(work.volume, work.data["location"], work.cancelled)

    def connect_volume(self, name: str, backend: str) -> dict[str, Any]:
        return self._backend(backend).connect(name)

    def stored_volumes(self, backend: str) -> dict[str, int]:
        return self._backend(backend).volumes()

    def has_snapshot(self, name: str, backend: str) -> bool:
        try:
            with self._backend(backend).local_path(name):
                return name not in self._backend(backend).volumes()
        except HostError:
            return False

    def _write_image(self, volume: StoredVolume, image: ImageSpec, *, zeros: bool) -> None:
        base = self.base(image)
        with self._backend(volume.backend).local_path(volume.name) as target:
            _copy(base, target, zeros=zeros)
            if not zeros:  # nothing of what was there before, beyond the image either
                with outside("zero the rest"), target.open("r+b", buffering=0) as out:
                    end = out.seek(0, os.SEEK_END)
                    write_zeros(out, base.stat().st_size, end - base.stat().st_size)
                    os.fsync(out.fileno())

    def _restore(self, volume: StoredVolume, backup_id: str, cancelled: Callable[[], bool]) -> None:
        with self._backend(volume.backend).local_path(volume.name) as target:
            self.backups.restore(backup_id, target, cancelled)

    def _delete(self, backend: str, name: str) -> None:
        if backend not in self.backends:
            raise HostError(f"this host has no volume backend {backend!r} any more, and {name} is in it")
        self.backends[backend].disconnect(name)
        self.backends[backend].delete(name)

    def _backend(self, name: str) -> Backend:
        if name not in self.backends:
            raise HostError(f"this host has no volume backend {name!r}")
        return self.backends[name]


def _room(backend: Backend) -> Capacity:
    """None in a backend that does not answer: the host's other things go on."""
    try:
        return backend.stats()
    except HostError as error:
        log.warning("a volume backend does not tell its capacity: %s", error)
        return Capacity(0.0, 0.0)


def _own_snapshot(backup: StoredBackup) -> str:
    """The snapshot that is made for a backup alone."""
    return f"snapshot-{backup.id}"


def _copy(source: Path, target: Path, *, zeros: bool) -> None:
    """Raw bytes over those of a target that is there and as large. `zeros`: what of it the source does not write (again)
    reads as zero already, so holes stay holes."""
    command = ["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", "-t", "writeback"]
    command += ["--target-is-zero"] if zeros else []
    run([*command, str(source), str(target)], timeout=COPY_SECONDS)
