"""Images as files of one directory, each by its id.

A file appears under its name only when it is whole (written beside, synced, renamed), so that a reader never meets half
an image, and a killed write leaves nothing but a `.part` file that `sweep` removes.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from kilonova.image.stores.store import CHUNK, StoreConfig
from kilonova.model.errors import TooLarge, Unavailable


class FileStore:
    kind = "file"
    description = "Files of the cloud's state directory"

    def __init__(self, config: StoreConfig) -> None:
        self.name, self.directory = config.name, config.folder
        if "filesystem_store_datadir" in config.options:
            self.directory = Path(config.options["filesystem_store_datadir"])
            self.description = f"Files in {self.directory}"
        self.directory.mkdir(parents=True, exist_ok=True)

    def path(self, image_id: str) -> Path:
        return self.directory / image_id

    def url(self, image_id: str) -> str:
        return f"file://{self.path(image_id)}"

    def properties(self) -> dict[str, Any]:
        return {"data_dir": str(self.directory), "chunk_size": CHUNK, "thin_provisioning": True}

    def write(self, image_id: str, chunks: Iterable[bytes]) -> None:
        with self._part(image_id) as part:
            write_sparse(chunks, part)
            os.replace(part, self.path(image_id))
        self._sync_directory()

    def link(self, image_id: str, twin: str) -> bool:
        """Another image's bytes for this one, too, which nothing changes in place; whether that can be."""
        with contextlib.suppress(OSError), self._part(image_id) as part:  # deleted since, or no hard links here
            os.link(self.path(twin), part)
            os.replace(part, self.path(image_id))
            self._sync_directory()
            return True
        return False

    def read(self, image_id: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        try:
            file = open(self.path(image_id), "rb")  # noqa: SIM115 (the iterator closes it)
        except OSError as error:
            raise Unavailable(f"The data of image {image_id} cannot be read: {error.strerror}.") from error
        return _read(file, start, length)

    def delete(self, image_id: str) -> None:
        self.path(image_id).unlink(missing_ok=True)

    def sweep(self, known: Collection[str]) -> list[str]:
        gone = [path for path in sorted(self.directory.iterdir()) if path.name not in known]
        for path in gone:
            path.unlink(missing_ok=True)
        return [path.name for path in gone]

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


def write_sparse(chunks: Iterable[bytes], target: Path) -> None:
    """A new file of these bytes, on the disk; what is zero takes no room."""
    size = 0
    with open(target, "wb") as file:
        for chunk in chunks:
            size += len(chunk)
            if chunk.count(0) == len(chunk):
                file.seek(len(chunk), os.SEEK_CUR)
            else:
                file.write(chunk)
        file.truncate(size)
        file.flush()
        os.fsync(file.fileno())


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
