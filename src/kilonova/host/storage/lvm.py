"""Volumes in a thin pool of LVM: block devices of this host. Needs device-mapper. Cinder: `cinder/volume/drivers/lvm.py`.

Options, as Cinder's: volume_group. The pool is `<volume group>-pool`, made of what is free when there is none. Snapshots and
clones are thin: at once, of one moment, and they stay when what they were made of goes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kilonova.host.calls import run
from kilonova.host.storage.backend import GIB, BackendConfig, Capacity, checked
from kilonova.model.errors import HostError

NOT_THERE, THERE_ALREADY = "Failed to find logical volume", "already exists"
NEW = "_new-"


class LvmBackend:
    """Volumes have their own names; those of snapshots get a `_` before them, since LVM keeps `snapshot…` for itself."""

    storage_protocol = "local"

    def __init__(self, config: BackendConfig) -> None:
        self.config = config
        self.group = checked(config.options.get("volume_group", "cinder-volumes"))
        self.pool = f"{self.group}-pool"

    def create(self, name: str, size_gb: int) -> None:
        if self._size(name) is None:
            self._ensure_pool()
            what = ("--virtualsize", f"{size_gb}g", "--name", _own(name), f"{self.group}/{self.pool}")
            self._lvm("lvcreate", "--thin", *what, but=THERE_ALREADY)

    def create_from_snapshot(self, name: str, size_gb: int, snapshot: str) -> None:
        self._thin_copy(snapshot, name, size_gb * GIB)

    def clone(self, name: str, size_gb: int, source: str) -> None:
        self._thin_copy(source, name, size_gb * GIB)

    def _thin_copy(self, source: str, name: str, size: int) -> None:
        """At once. Without the flag by which LVM leaves snapshots inactive."""
        if self._size(name) is None:
            made = ("--setactivationskip", "n", "--name", _own(name), self._lv(source))
            self._size_of(source)
            self._lvm("lvcreate", "--snapshot", *made, but=THERE_ALREADY)
        self._grow(name, size)

    def delete(self, name: str) -> None:
        self._lvm("lvremove", "--yes", self._lv(name), but=NOT_THERE)

    def extend(self, name: str, size_gb: int) -> None:
        self._grow(name, size_gb * GIB)

    def create_snapshot(self, snapshot: str, volume: str) -> None:
        self._thin_copy(volume, snapshot, 0)

    def delete_snapshot(self, snapshot: str, volume: str) -> None:
        self.delete(snapshot)

    def revert(self, volume: str, snapshot: str) -> None:
        """A copy of the snapshot takes the volume's place; between the two, there is only the copy."""
        new, size = NEW + checked(volume), self._size(volume)
        if size is not None:
            self.delete(new)
            self._thin_copy(snapshot, new, size)
            self.delete(volume)
        elif self._size(new) is None:
            raise HostError(f"the backend {self.config.name} has no {volume}")
        self._lvm("lvrename", self.group, new, _own(volume))

    @contextmanager
    def local_path(self, name: str) -> Iterator[Path]:
        yield self._device(name)

    def connect(self, name: str) -> dict[str, Any]:
        return {"driver_volume_type": "local", "data": {"device_path": str(self._device(name)), "discard": True}}

    def disconnect(self, name: str) -> None:
        """A block device is there whether somebody has it open or not."""

    def rename(self, name: str, new: str) -> None:
        there = self._size(new) is not None
        if there and self._size(name) is not None:
            raise HostError(f"there is a volume {new} already")
        if not there:
            self._size_of(name)
            self._lvm("lvrename", self.group, _own(name), _own(new))

    def volumes(self) -> dict[str, int]:
        found = self._report("lv_name,lv_size,pool_lv", self.group)
        return {
            lv["lv_name"]: int(lv["lv_size"]) for lv in found if lv["pool_lv"] and not lv["lv_name"].startswith("_")
        }

    def stats(self) -> Capacity:
        self._ensure_pool()
        (pool,) = self._report("lv_size,data_percent", f"{self.group}/{self.pool}")
        total = int(pool["lv_size"]) / GIB
        return Capacity(total, total * (1 - float(pool["data_percent"] or 0) / 100))

    def _ensure_pool(self) -> None:
        if not self._report("lv_size", f"{self.group}/{self.pool}"):
            made = ("--type", "thin-pool", "--extents", "95%FREE", "--name", self.pool, self.group)
            self._lvm("lvcreate", *made, but=THERE_ALREADY)

    def _device(self, name: str) -> Path:
        self._size_of(name)
        self._lvm("lvchange", "--activate", "y", "--ignoreactivationskip", self._lv(name))
        return Path("/dev", self.group, _own(name))

    def _grow(self, name: str, size: int) -> None:
        if self._size_of(name) < size:
            self._lvm("lvextend", "--size", f"{size}b", self._lv(name))

    def _size(self, name: str) -> int | None:
        """In bytes; None when there is none."""
        found = self._report("lv_size", self._lv(name))
        return int(found[0]["lv_size"]) if found else None

    def _size_of(self, name: str) -> int:
        size = self._size(name)
        if size is None:
            raise HostError(f"the backend {self.config.name} has no {name}")
        return size

    def _lv(self, name: str) -> str:
        return f"{self.group}/{_own(name)}"

    def _report(self, fields: str, which: str) -> list[dict[str, str]]:
        """One entry a logical volume; none when there is no such."""
        shape = ("--reportformat", "json", "--units", "b", "--nosuffix", "-o", fields, which)
        text = self._lvm("lvs", *shape, but=NOT_THERE)
        return json.loads(text)["report"][0]["lv"] if text else []

    def _lvm(self, command: str, *arguments: str, but: str = "\0") -> str:
        """Its stdout; empty when it failed in the words of `but`."""
        try:
            return run([command, *arguments])
        except HostError as error:
            if but in str(error):
                return ""
            raise


def _own(name: str) -> str:
    if name.startswith(NEW):
        return NEW + checked(name.removeprefix(NEW))
    return f"_{name}" if checked(name).startswith("snapshot") else name
