"""What `_base` may lose: images that no disk of this host is made over, when they are old or when room is short.
And what it gets before a server asks for it.

Nova: `nova/virt/libvirt/imagecache.py` (ImageCacheManager, remove_unused_original_minimum_age_seconds), `cache_images`.
"""

import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kilonova.host.calls import outside
from kilonova.host.libvirt.disk import backing, locked
from kilonova.host.libvirt.layout import Layout
from kilonova.model.specs import ImageSpec

LOG = logging.getLogger(__name__)

IMAGE = re.compile("[0-9a-f]{40}")  # the SHA-1 of an image's id
YOUNGEST = 300.0  # seconds that a server has from the image's arrival to its disk over it


@dataclass(frozen=True)
class Limits:
    """`age`: seconds unused, after which an image goes; `free`: of the file system, below which the oldest go at once."""

    age: float = 86400.0
    free: float = 0.1


def evict(layout: Layout, limits: Limits | None = None) -> list[str]:
    """Removes what may go, oldest first; the names. A file that a disk is over stays, whatever its age."""
    limits, gone = limits or Limits(), []
    used = in_use(layout)
    for base in sorted(_images(layout), key=lambda path: path.stat().st_mtime):
        age = time.time() - base.stat().st_mtime
        if base in used or age < YOUNGEST or (age < limits.age and _is_roomy(layout, limits)):
            continue
        if _remove(layout, base):
            gone.append(base.name)
    return gone


def in_use(layout: Layout) -> set[Path]:
    """Files of `_base` that a server's disk is over, be it one that is put aside."""
    found = set()
    for path in layout.instances.glob("*-*/disk*"):
        try:
            found.add(backing(path))
        except (OSError, ValueError):  # no qcow2: a config drive; or gone since
            continue
    return {path for path in found if path is not None}


def _images(layout: Layout) -> Iterator[Path]:
    if layout.base_dir.exists():
        yield from (path for path in layout.base_dir.iterdir() if IMAGE.fullmatch(path.name))


def _is_roomy(layout: Layout, limits: Limits) -> bool:
    room = shutil.disk_usage(layout.base_dir)
    return room.free >= limits.free * room.total


def _remove(layout: Layout, base: Path) -> bool:
    """Under the lock of who would use it: a use since we looked shows in its time."""
    with locked(layout, base.name):
        if time.time() - base.stat().st_mtime < YOUNGEST or base in in_use(layout):
            return False
        with outside("base unlink"):
            for empty in (layout.base_dir / "overlays").glob(f"{base.name}_*"):
                empty.unlink(missing_ok=True)
            os.unlink(base)
    return True


class Precache:
    """Fetches images one after another, in a thread that lives as long as there are some to fetch.

    Nothing of it outlives the process, as in Nova: what is not here when a server asks for it is fetched then.
    """

    def __init__(self, fetch: Callable[[ImageSpec], object]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()
        self._waiting: dict[str, ImageSpec] = {}
        self._works = False

    def add(self, image: ImageSpec) -> None:
        with self._lock:
            self._waiting[image.id] = image
            if not self._works:
                self._works = True
                threading.Thread(target=self._work, name="precache", daemon=True).start()

    def close(self) -> None:
        """The one that is being fetched is the last."""
        with self._lock:
            self._waiting.clear()

    def _work(self) -> None:
        while (image := self._next()) is not None:
            try:
                self._fetch(image)
            except Exception as error:
                LOG.warning("image %s was not fetched beforehand: %s", image.id, error)

    def _next(self) -> ImageSpec | None:
        with self._lock:
            if not self._waiting:
                self._works = False
                return None
            return self._waiting.pop(next(iter(self._waiting)))
