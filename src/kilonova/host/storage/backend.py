"""The seam between volumes and where their bytes lie: one Protocol, one contract test over all kinds of backend.

Cinder: a volume driver (`cinder/interface/volume_driver.py`, `volume_snapshotmanagement_driver.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kilonova.model.errors import HostError

GIB = 1 << 30
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

# (volume's name, a new file) → True when a guest has the volume open: its bytes, as of one moment, are in the file then
CopyLive = Callable[[str, Path], bool]


def checked(name: str) -> str:
    """A name that leads nowhere else: no path, no option of a command, no other pool. Raises HostError."""
    if not NAME.fullmatch(name):
        raise HostError(f"{name!r} cannot be the name of a volume")
    return name


def nobody_has_it_open(name: str, target: Path) -> bool:
    return False


@dataclass(frozen=True)
class BackendConfig:
    """What one backend is made from. name: Cinder's `volume_backend_name`; options: those of its kind, by Cinder's names.

    folder: the backend's own, in the one of all backends. run: the cloud's directory below /run, for sockets. portal: where
    the cloud's tgtd listens.
    """

    name: str
    folder: Path
    run: Path
    cloud_id: str
    options: Mapping[str, str] = field(default_factory=dict)
    copy_live: CopyLive = nobody_has_it_open
    portal: str = "127.0.0.1:3260"


@dataclass(frozen=True)
class Capacity:
    """GiB of the whole place, and of what is free in it (Cinder: total_capacity_gb, free_capacity_gb)."""

    total_gb: float
    free_gb: float


class Backend(Protocol):
    """One place for volumes. Names are Cinder's `volume-<id>` and `snapshot-<id>`; sizes are in GiB.

    Each method runs at least once, from any half-done state: it measures, then acts, and twice is as once. It raises
    HostError. A volume or snapshot that is read (copied, extended, connected) must exist; one that is deleted need not.
    """

    storage_protocol: str  # Cinder's word for how guests are connected: file, iSCSI, ceph

    def create(self, name: str, size_gb: int) -> None:
        """An empty volume: all its bytes read as zero."""

    def create_from_snapshot(self, name: str, size_gb: int, snapshot: str) -> None:
        """A volume with a snapshot's bytes, at least as large; it stays when the snapshot goes."""

    def clone(self, name: str, size_gb: int, source: str) -> None:
        """A volume with another's bytes as of one moment, in use or not; it stays when the source goes."""

    def delete(self, name: str) -> None: ...

    def extend(self, name: str, size_gb: int) -> None:
        """At least that large afterwards, in use or not; a guest that has it open is told by somebody else."""

    def create_snapshot(self, snapshot: str, volume: str) -> None:
        """The volume's bytes as of one moment, in use or not."""

    def delete_snapshot(self, snapshot: str, volume: str) -> None: ...

    def revert(self, volume: str, snapshot: str) -> None:
        """The volume, which nobody has open, gets the snapshot's bytes back; its size stays. The snapshot is kept."""

    def local_path(self, name: str) -> AbstractContextManager[Path]:
        """A file or block device with the bytes of a volume or snapshot, to be read and written while it is open."""

    def connect(self, name: str) -> dict[str, Any]:
        """Lets guests open it. Returns Cinder's connection_info: {"driver_volume_type", "data"}, the same each time."""

    def disconnect(self, name: str) -> None:
        """Nobody has it attached any more."""

    def rename(self, name: str, new: str) -> None:
        """Cinder's manage and unmanage: a volume that nobody has open gets another name."""

    def volumes(self) -> dict[str, int]:
        """Name → bytes of every volume there is, those included that Cinder does not know."""

    def stats(self) -> Capacity: ...
