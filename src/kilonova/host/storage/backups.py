"""Backups of volumes in a folder: the chunks that hold anything, compressed, and an index of where each lies.

Cinder: `cinder/backup/chunkeddriver.py`. An incremental backup keeps the chunks that its parent has not; its index names
all of them, so a restore reads one index, and a parent must stay as long as it has children.
"""

import errno
import hashlib
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from kilonova.host.calls import outside
from kilonova.model.errors import Cancelled, HostError

CHUNK = 1 << 20  # bytes
ZEROS = bytes(CHUNK)
LEVEL = 1  # of zlib: a backup is read off a disk about as fast as this compresses


class Backups:
    """`folder/<backup id>/index.json`, written last, says that a backup is whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, backup_id: str, source: Path, parent_id: str | None, cancelled: Callable[[], bool]) -> int:
        """Keep the bytes of `source`, a file or device, beyond those of the parent; how many bytes that took."""
        home = self._home(backup_id)
        known = self._known(parent_id) if parent_id else {}
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        chunks: list[list[Any] | None] = []
        with outside("backup write"), (home / "chunks").open("wb") as out:
            for number, chunk in enumerate(_chunks(source)):
                if number % 64 == 0 and cancelled():
                    raise Cancelled(f"another action wants backup {backup_id}")
                chunks.append(self._keep(backup_id, chunk, known, out))
            out.flush()
            os.fsync(out.fileno())
            size = out.tell()
        with outside("backup index"):
            fresh = home / ".index.json"
            fresh.write_text(json.dumps({"chunk": CHUNK, "chunks": chunks}))
            fresh.replace(home / "index.json")
        return size

    def _keep(self, backup_id: str, chunk: bytes, known: dict[str, list[Any]], out: Any) -> list[Any] | None:
        """The chunk's entry: [backup that has it, place, length there, SHA-256]; None: zeros, to the chunk's full length."""
        if len(chunk) == CHUNK and _is_zeros(chunk):
            return None
        digest = hashlib.sha256(chunk).hexdigest()
        if digest not in known:
            packed = zlib.compress(chunk, LEVEL)
            known[digest] = [backup_id, out.tell(), len(packed), digest]
            out.write(packed)
        return known[digest]

    def _known(self, backup_id: str) -> dict[str, list[Any]]:
        return {entry[3]: entry for entry in self._index(backup_id)["chunks"] if entry}

    def restore(self, backup_id: str, target: Path, cancelled: Callable[[], bool]) -> None:
        """The backup's bytes over the first ones of `target`. HostError when one of them is damaged."""
        index = self._index(backup_id)
        with outside("backup restore"), target.open("r+b", buffering=0) as out:
            for number, entry in enumerate(index["chunks"]):
                if number % 64 == 0 and cancelled():
                    raise Cancelled(f"another action wants what is restored from {backup_id}")
                place, length = number * index["chunk"], index["chunk"]
                if entry is not None:
                    out.seek(place)
                    out.write(self._read(entry))
                else:
                    write_zeros(out, place, length)
            out.flush()
            os.fsync(out.fileno())

    def _read(self, entry: list[Any]) -> bytes:
        backup_id, place, length, digest = entry
        try:
            with (self._home(backup_id) / "chunks").open("rb") as file:
                file.seek(place)
                chunk = zlib.decompress(file.read(length))
        except (OSError, zlib.error) as error:
            raise HostError(f"backup {backup_id} cannot be read: {error}") from error
        if hashlib.sha256(chunk).hexdigest() != digest:
            raise HostError(f"backup {backup_id} is damaged at byte {place}")
        return chunk

    def delete(self, backup_id: str) -> None:
        with outside("backup rmtree"):
            shutil.rmtree(self._home(backup_id), ignore_errors=True)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.is_dir() else []

    def _index(self, backup_id: str) -> dict[str, Any]:
        try:
            index: dict[str, Any] = json.loads((self._home(backup_id) / "index.json").read_text())
        except FileNotFoundError:
            raise HostError(f"this host has no backup {backup_id}") from None
        return index

    def _home(self, backup_id: str) -> Path:
        return self.folder / str(uuid.UUID(backup_id))  # never a path that leads elsewhere


def write_zeros(out: IO[bytes], place: int, length: int) -> None:
    """Only where there is anything else: a hole stays one."""
    end = place + length
    for start in range(place, end, CHUNK):
        size = min(CHUNK, end - start)
        if not _is_hole(out.fileno(), start, size) and not _is_zeros(os.pread(out.fileno(), size, start)):
            out.seek(start)
            out.write(bytes(size))
            out.flush()


def _is_zeros(chunk: bytes) -> bool:
    return chunk == ZEROS[: len(chunk)]  # counting them would look at each


def _is_hole(fd: int, place: int, length: int) -> bool:
    """Whether the file system says, unread, that there is nothing (lseek(2))."""
    try:
        return os.lseek(fd, place, os.SEEK_DATA) >= place + length
    except OSError as error:
        return error.errno == errno.ENXIO  # nothing from here on; others: no such question to this device


def _chunks(source: Path) -> Iterator[bytes]:
    with source.open("rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        for place in range(0, size, CHUNK):
            length = min(CHUNK, size - place)
            yield bytes(length) if _is_hole(file.fileno(), place, length) else os.pread(file.fileno(), length, place)
