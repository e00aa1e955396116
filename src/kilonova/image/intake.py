"""The bytes of an image on their way into a store: hashed and inspected as they pass.

A store keeps nothing of what ends with an error, so bytes that are refused here are never anybody's.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kilonova.model.disk_formats import check_safe
from kilonova.model.errors import TooLarge, UnsupportedMediaType

MAX_SIZE = 1 << 40  # bytes of an image (Glance: image_size_cap)
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


@dataclass
class Intake:
    """Iterate once. Raises UnsupportedMediaType at the end when the bytes are not what they should be; TooLarge
    once they are too many.

    disk_format: None where nobody need look into them. size, sha512: where it is known what they must come to.
    """

    chunks: Iterable[bytes]
    disk_format: str | None = None
    container_format: str = "bare"
    size: int | None = None
    sha512: str | None = None
    _data: Data | None = None

    @property
    def data(self) -> Data:
        assert self._data is not None, "not all of the bytes have passed"
        return self._data

    def __iter__(self) -> Iterator[bytes]:
        md5, sha512, size, head = hashlib.md5(usedforsecurity=False), hashlib.sha512(), 0, b""
        looked_at = self.disk_format if self.container_format == "bare" else None
        wrapper = _inspected(self.chunks) if looked_at else None
        for chunk in wrapper or self.chunks:
            md5.update(chunk)
            sha512.update(chunk)
            size += len(chunk)
            if size > MAX_SIZE:
                raise TooLarge(f"The incoming image is too large: it has more than {MAX_SIZE} bytes.")
            head += chunk[: PROBED - len(head)]
            yield chunk
        if self.size is not None and size != self.size:
            raise UnsupportedMediaType(f"Expected {self.size} bytes of image data but received {size}.")
        if self.sha512 is not None and sha512.hexdigest() != self.sha512:
            raise UnsupportedMediaType("The image data have changed since they were kept: their sha512 is another.")
        if looked_at and looked_at != "vmdk" and DESCRIPTOR.match(head):
            raise UnsupportedMediaType(f"Image disk_format {looked_at} does not match stream data vmdk")
        virtual = judge(wrapper, looked_at, size) if looked_at else None
        self._data = Data(size, md5.hexdigest(), sha512.hexdigest(), virtual)


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
            check_safe(inspector)
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
