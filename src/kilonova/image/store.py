"""The stores of this cloud, the first of them its default, and where bytes wait between `stage` and `import`."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from kilonova.image.intake import Data, Intake
from kilonova.image.stores import FileStore, Store, StoreConfig
from kilonova.image.stores.file import pieces
from kilonova.model.errors import KilonovaError, Unavailable

log = logging.getLogger(__name__)


class Stores:
    """By their names. `held`: those that have an image (locations.py)."""

    def __init__(self, stores: Sequence[Store], staging: Path) -> None:
        self._stores = {store.name: store for store in stores}
        self.default = stores[0]
        self._staging = FileStore(StoreConfig("staging", staging))
        self._adopted: dict[tuple[int, int, int, int, str], tuple[str, Data]] = {}

    def __getitem__(self, name: str) -> Store:
        return self._stores[name]

    def __iter__(self) -> Iterator[Store]:
        return iter(self._stores.values())

    @property
    def names(self) -> list[str]:
        return list(self._stores)

    def write(self, image_id: str, intake: Intake, name: str = "") -> Data:
        """Take the bytes in. UnsupportedMediaType when they are refused (intake.py), TooLarge when the store is full."""
        (self._stores[name] if name else self.default).write(image_id, intake)
        return intake.data

    def adopt(self, image_id: str, source: Path, disk_format: str) -> Data:
        """A copy of a file of this machine in the default store. Two images of one file share its bytes where they can."""
        status = source.stat()
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, disk_format)
        if key in self._adopted and isinstance(self.default, FileStore):
            twin, data = self._adopted[key]
            if self.default.link(image_id, twin):
                return data
        data = self.write(image_id, Intake(pieces(source), disk_format))
        self._adopted[key] = image_id, data
        return data

    def read(self, image_id: str, held: Sequence[str], start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes from `start`, from the nearest store that answers. Unavailable, now, when none does."""
        there = [self._stores[name] for name in held if name in self._stores]
        problem = Unavailable(f"The data of image {image_id} lie in no store of this cloud, but in {', '.join(held)}.")
        for store in sorted(there, key=lambda each: each.path(image_id) is None):
            try:
                return store.read(image_id, start, length)
            except Unavailable as error:
                problem = error
        raise problem

    def path(self, image_id: str, held: Iterable[str]) -> Path | None:
        """A file of this machine that holds them; None where they lie elsewhere alone."""
        paths = (self._stores[name].path(image_id) for name in held if name in self._stores)
        return next((path for path in paths if path is not None), None)

    def delete(self, image_id: str, held: Iterable[str]) -> None:
        """From each of the stores, and what is staged. What cannot be reached now is left to the next start's `sweep`."""
        self.unstage(image_id)
        for name in held:
            try:
                if name in self._stores:
                    self._stores[name].delete(image_id)
            except KilonovaError as error:
                log.warning("image %s is left in the store %s until the next start: %s", image_id, name, error)

    def sweep(self, held: Mapping[str, Collection[str]], staged: Collection[str]) -> list[str]:
        """At start: remove what is of no image, half-written ones included. held: a store's name → images. The names."""
        gone = self._staging.sweep(staged)
        for name, store in self._stores.items():
            try:
                gone += store.sweep(held.get(name, ()))
            except KilonovaError as error:
                log.warning("the image store %s was not looked through: %s", name, error)
        return gone

    # Between `stage` and `import`

    def stage(self, image_id: str, chunks: Iterable[bytes]) -> int:
        """Take the bytes in unread; their size."""
        intake = Intake(chunks)
        self._staging.write(image_id, intake)
        return intake.data.size

    def read_staged(self, image_id: str) -> Iterator[bytes]:
        """Unavailable when it is gone."""
        try:
            return self._staging.read(image_id)
        except Unavailable as error:
            raise Unavailable(f"The staged data of image {image_id} is gone: stage it again.") from error

    def unstage(self, image_id: str) -> None:
        self._staging.delete(image_id)
