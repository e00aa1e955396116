"""Volumes as raw files below the cloud's state directory: the embedded default.

Holes cost nothing. Where the file system shares blocks (btrfs, XFS), snapshots and clones are made at once; elsewhere
they are copied. docs/adr/0007-a-volume-is-a-raw-file.md says why not qcow2. Cinder: `cinder/volume/drivers/remotefs.py`.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kilonova.host.calls import outside, run
from kilonova.host.storage.backend import GIB, NAME, BackendConfig, Capacity, checked
from kilonova.model.errors import HostError

FICLONE = 0x40049409  # ioctl_ficlone(2)
COPY_SECONDS = 24 * 3600.0


class FileBackend:
    """`folder/volumes/<name>` and `folder/snapshots/<name>`; a file has its name only when it is whole."""

    storage_protocol = "file"

    def __init__(self, config: BackendConfig) -> None:
        self.config = config

    def create(self, name: str, size_gb: int) -> None:
        target = self._volume(name)
        if not target.exists():
            with _appearing(target) as new:
                _grow(new, size_gb * GIB)

    def create_from_snapshot(self, name: str, size_gb: int, snapshot: str) -> None:
        source = self._existing(self._snapshot(snapshot))
        self._copy(name, size_gb, lambda new: copy_at_rest(source, new))

    def clone(self, name: str, size_gb: int, source: str) -> None:
        self._copy(name, size_gb, lambda new: self._copy_moment(source, new))

    def _copy(self, name: str, size_gb: int, fill: Callable[[Path], None]) -> None:
        target = self._volume(name)
        if not target.exists():
            with _appearing(target) as new:
                fill(new)
                _grow(new, size_gb * GIB)

    def delete(self, name: str) -> None:
        self._unlink(self._volume(name))

    def extend(self, name: str, size_gb: int) -> None:
        _grow(self._existing(self._volume(name)), size_gb * GIB)

    def create_snapshot(self, snapshot: str, volume: str) -> None:
        target = self._snapshot(snapshot)
        if not target.exists():
            with _appearing(target) as new:
                self._copy_moment(volume, new)

    def delete_snapshot(self, snapshot: str, volume: str) -> None:
        self._unlink(self._snapshot(snapshot))

    def revert(self, volume: str, snapshot: str) -> None:
        target, source = self._existing(self._volume(volume)), self._existing(self._snapshot(snapshot))
        with _appearing(target) as new:
            copy_at_rest(source, new)
            _grow(new, target.stat().st_size)

    @contextmanager
    def local_path(self, name: str) -> Iterator[Path]:
        snapshot = self._snapshot(name)
        yield snapshot if snapshot.exists() else self._existing(self._volume(name))

    def connect(self, name: str) -> dict[str, Any]:
        path = self._existing(self._volume(name))
        return {"driver_volume_type": "file", "data": {"device_path": str(path), "format": "raw", "discard": True}}

    def disconnect(self, name: str) -> None:
        """A file is there whether somebody has it open or not."""

    def rename(self, name: str, new: str) -> None:
        source, target = self._volume(name), self._volume(new)
        if source.exists() and target.exists():
            raise HostError(f"there is a volume {new} already")
        if not target.exists():
            with _touching("file rename", target):
                self._existing(source).rename(target)

    def volumes(self) -> dict[str, int]:
        found = {}
        with outside("file list"):
            for entry in os.scandir(self._folder("volumes")):
                if NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    found[entry.name] = entry.stat().st_size
        return found

    def stats(self) -> Capacity:
        with outside("file statvfs"):
            usage = shutil.disk_usage(self._folder("volumes"))
        return Capacity(usage.total / GIB, usage.free / GIB)

    def _copy_moment(self, volume: str, new: Path) -> None:
        """A volume's bytes as of one moment: at once by shared blocks, or by the QEMU that writes to it, or at rest."""
        source = self._existing(self._volume(volume))
        if not _share_blocks(source, new) and not self.config.copy_live(volume, new):
            copy_at_rest(source, new)

    def _folder(self, kind: str) -> Path:
        folder = self.config.folder / kind
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def _volume(self, name: str) -> Path:
        return self._folder("volumes") / checked(name)

    def _snapshot(self, name: str) -> Path:
        return self._folder("snapshots") / checked(name)

    def _existing(self, path: Path) -> Path:
        if not path.exists():
            raise HostError(f"the backend {self.config.name} has no {path.name}")
        return path

    def _unlink(self, path: Path) -> None:
        with _touching("file unlink", path):
            _new(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _share_blocks(source: Path, new: Path) -> bool:
    """At once and as of one moment, even while somebody writes: the file system holds writers off. False: it cannot."""
    with outside("file reflink"), source.open("rb") as old, new.open("wb") as copy:
        try:
            fcntl.ioctl(copy, FICLONE, old.fileno())
        except OSError:
            return False
    return True


def copy_at_rest(source: Path, new: Path) -> None:
    """Of a file that nobody writes; sharing its blocks where the file system can. HostError when it cannot be copied."""
    run(["cp", "--reflink=auto", "--sparse=auto", "--", str(source), str(new)], timeout=COPY_SECONDS)


def _grow(path: Path, size: int) -> None:
    """At least `size` bytes; never smaller."""
    with _touching("file grow", path), path.open("ab") as file:
        if os.fstat(file.fileno()).st_size < size:
            os.ftruncate(file.fileno(), size)


def _new(target: Path) -> Path:
    return target.with_name(f".{target.name}.new")


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A file that has its name only once it is whole, and on the disk."""
    new = _new(target)
    new.unlink(missing_ok=True)
    try:
        yield new
        with _touching("file rename", target):
            with new.open("rb") as file:
                os.fsync(file.fileno())
            new.chmod(0o600)
            os.replace(new, target)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def _touching(what: str, path: Path) -> Iterator[None]:
    """One change of a file through the gate; the system's refusals as HostError."""
    try:
        with outside(what):
            yield
    except OSError as error:
        raise HostError(f"{what} {path.name}: {error.strerror or error}") from error
