"""The seam between images and where their bytes lie: one Protocol, one contract test over all kinds of store.

Glance: a driver of glance_store (`glance_store/driver.py`).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class StoreConfig:
    """What one store is made from. name: Glance's store identifier; options: those of its kind, by Glance's names.

    folder: the store's own on this machine, for a kind that needs one. cloud_id: part of each name elsewhere, so that
    clouds can share a bucket or a pool.
    """

    name: str
    folder: Path
    cloud_id: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


class Store(Protocol):
    """Whole images, by their ids. Verbs raise Unavailable where the place cannot be reached."""

    name: str
    kind: str
    description: str

    def write(self, image_id: str, chunks: Iterable[bytes]) -> None:
        """Keep what comes, in place of what was kept for that image: once it has ended, and nothing of it if it ends with an
        error. TooLarge when there is no more room."""

    def read(self, image_id: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes from `start`. Unavailable when they cannot be had: now, before any answer is begun."""

    def delete(self, image_id: str) -> None:
        """What is kept for the image, if there is any."""

    def sweep(self, known: Collection[str]) -> list[str]:
        """Remove all of this cloud's that is of none of these images, what was half written included; the names."""

    def path(self, image_id: str) -> Path | None:
        """The file of this machine that holds the bytes; None where there is none."""

    def url(self, image_id: str) -> str:
        """Where it is, for `locations`."""

    def properties(self) -> dict[str, Any]:
        """What GET /v2/info/stores/detail tells of this kind (Glance: glance/api/v2/discovery.py)."""
