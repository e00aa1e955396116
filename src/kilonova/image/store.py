"""Where the bytes of images lie, and how they get there: hashed and inspected on the way in.

A file appears under its image's id only when it is whole and safe (written beside, synced, renamed), so that a reader
never meets half an image, and a killed upload leaves nothing but a `.part` file that `sweep` removes.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilonova.model.errors import TooLarge, Unavailable, UnsupportedMediaType

CHUNK = 1 << 20  # bytes
MAX_VIRTUAL = 1 << 50  # bytes: no disk is larger, a header may say anything
UNTYPED = {"ami", "ari", "aki", "ploop"}  # formats that have no header to look for
# How QEMU knows a VMDK that is a text naming other files (vmdk_probe): comments, then its version.
DESCRIPTOR = re.compile(rb"(#[^\n]*\n|[ \t]*\r?\n)*version=[1-3]\r?\n")
PROBED = 2048  # bytes that QEMU looks at
RAW_DISKS = {"raw", "gpt", "iso", "luks"}  # what a raw disk may hold and still be a raw disk


@dataclass(frozen=True)
class Data:
    """What was measured while the bytes passed. Sizes in bytes."""

    size: int
    checksum: str  # md5
    os_hash_value: str  # sha512
    virtual_size: int | None

    @property
    def columns(self) -> dict[str, Any]:
        return {
            "size": self.size, "virtual_size": self.virtual_size, "checksum": self.checksum, "os_hash_algo": "sha512",
            "os_hash_value": self.os_hash_value,
        }  # fmt: skip


class FileStore:
    """One directory, one file an image."""

    id = "file"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._adopted: dict[tuple[int, int, int, int, str], tuple[str, Data]] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def path(self, image_id: str) -> Path:
        return self.directory / image_id

    def staged(self, image_id: str) -> Path:
        """Where bytes wait between `stage` and `import`."""
        return self.directory / f"{image_id}.staged"

    def write(
        self, image_id: str, chunks: Iterable[bytes], disk_format: str, container_format: str = "bare",
        expected_size: int | None = None,
    ) -> Data:  # fmt: skip
        """Take the bytes in. UnsupportedMediaType when their format is not what was declared, or is unsafe; TooLarge when
        the disk is full."""
        with self._part(image_id) as part:
            data = _copy(chunks, part, disk_format, container_format, expected_size)
            os.replace(part, self.path(image_id))
        self._sync_directory()
        return data

    def stage(self, image_id: str, chunks: Iterable[bytes]) -> int:
        """Take the bytes in unread, for a later import; their size."""
        with self._part(image_id) as part:
            size = _copy(chunks, part, None, "", None).size
            os.replace(part, self.staged(image_id))
        self._sync_directory()
        return size

    def read_staged(self, image_id: str) -> Iterator[bytes]:
        """What was staged. Unavailable when it is gone."""
        if not self.staged(image_id).exists():
            raise Unavailable(f"The staged data of image {image_id} is gone: stage it again.")
        return pieces(self.staged(image_id))

    def adopt(self, image_id: str, source: Path, disk_format: str) -> Data:
        """A copy of a file of this machine. Two images of one file share its bytes, which nothing changes in place."""
        status = source.stat()
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, disk_format)
        if key in self._adopted:
            twin, data = self._adopted[key]
            with contextlib.suppress(OSError), self._part(image_id) as part:  # deleted since, or no hard links here
                os.link(self.path(twin), part)
                os.replace(part, self.path(image_id))
                self._sync_directory()
                return data
        data = self.write(image_id, pieces(source), disk_format)
        self._adopted[key] = image_id, data
        return data

    def read(self, image_id: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes from `start`. Unavailable when the file is gone: opened now, before any answer is begun."""
        try:
            file = open(self.path(image_id), "rb")  # noqa: SIM115 (the iterator closes it)
        except OSError as error:
            raise Unavailable(f"The data of image {image_id} cannot be read: {error.strerror}.") from error
        return _read(file, start, length)

    def delete(self, image_id: str) -> None:
        for path in (self.path(image_id), self.staged(image_id)):
            path.unlink(missing_ok=True)

    def sweep(self, known: Collection[str]) -> list[str]:
        """Remove every file that is no known image's, half-written ones included; their names."""
        gone = []
        for path in sorted(self.directory.iterdir()):
            if path.name not in known and path.name.removesuffix(".staged") not in known:
                path.unlink(missing_ok=True)
                gone.append(path.name)
        return gone

    @contextlib.contextmanager
    def _part(self, image_id: str) -> Iterator[Path]:
        part = self.directory / f"{image_id}.{secrets.token_hex(4)}.part"
        try:
            yield part
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise TooLarge(f"Image storage media is full: {error.strerror} in {self.directory}.") from error
        finally:
            part.unlink(missing_ok=True)

    def _sync_directory(self) -> None:
        fd = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def pieces(path: Path) -> Iterator[bytes]:
    """A file piece by piece."""
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _read(file: Any, start: int, length: int | None) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while length is None or length > 0:
            chunk = file.read(CHUNK if length is None else min(CHUNK, length))
            if not chunk:
                return
            if length is not None:
                length -= len(chunk)
            yield chunk


def _copy(
    chunks: Iterable[bytes], target: Path, disk_format: str | None, container_format: str, expected_size: int | None
) -> Data:
    """Write sparsely, hash, and (with a `disk_format`) inspect."""
    md5, sha512, size, head = hashlib.md5(usedforsecurity=False), hashlib.sha512(), 0, b""
    inspect = disk_format is not None and container_format == "bare"
    wrapper = _inspected(chunks) if inspect else None
    with open(target, "wb") as file:
        for chunk in wrapper or chunks:
            md5.update(chunk)
            sha512.update(chunk)
            size += len(chunk)
            head += chunk[: PROBED - len(head)]
            if chunk.count(0) == len(chunk):
                file.seek(len(chunk), os.SEEK_CUR)
            else:
                file.write(chunk)
        file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
    if expected_size is not None and size != expected_size:
        raise UnsupportedMediaType(f"Expected {expected_size} bytes of image data but received {size}.")
    if inspect and disk_format != "vmdk" and DESCRIPTOR.match(head):
        raise UnsupportedMediaType(f"Image disk_format {disk_format} does not match stream data vmdk")
    virtual = judge(wrapper, disk_format, size) if wrapper is not None and disk_format is not None else None
    return Data(size, md5.hexdigest(), sha512.hexdigest(), virtual)


def _inspected(chunks: Iterable[bytes]) -> Any:
    from oslo_utils.imageutils import format_inspector  # takes 0.1 s to load

    return format_inspector.InspectWrapper(iter(chunks))


def judge(wrapper: Any, disk_format: str, size: int) -> int | None:
    """The virtual size in bytes. UnsupportedMediaType when the content is another format, or an unsafe one.

    Unlike Glance, a disk declared raw must not carry the header of a disk container: whoever reads it by its header
    would follow it.
    """
    from oslo_utils.imageutils import format_inspector

    try:
        wrapper.close()
        found = {str(item): item for item in wrapper.formats or []}
        if set(found) == {"iso", "gpt"}:
            found.pop("gpt")  # a bootable ISO has both
        if len(found) > 1:
            raise UnsupportedMediaType(f"Multiple formats detected: {', '.join(sorted(found))}")
        name, inspector = next(iter(found.items()))
        matches = (
            name == disk_format
            or (disk_format == "raw" and name in RAW_DISKS)
            or (disk_format in UNTYPED and name in ("raw", "gpt"))
        )
        if not matches:
            raise UnsupportedMediaType(f"Image disk_format {disk_format} does not match stream data {name}")
        if name not in RAW_DISKS:
            inspector.safety_check()
        if disk_format in RAW_DISKS:
            return size
        virtual = int(inspector.virtual_size)
        if virtual > MAX_VIRTUAL:
            raise UnsupportedMediaType(f"Image has a virtual size of {virtual} bytes, of at most {MAX_VIRTUAL}.")
        return virtual
    except format_inspector.SafetyCheckFailed as error:
        why = "; ".join(str(failure) for failure in error.failures.values())
        raise UnsupportedMediaType(f"Image failed safety checks: {why}") from error
    except (format_inspector.ImageFormatError, ValueError, KeyError, IndexError) as error:
        raise UnsupportedMediaType(f"Image format inspection failed: {error}") from error
