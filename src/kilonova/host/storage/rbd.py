"""Volumes as RBD images of a Ceph cluster: for who outgrows one machine. Cinder: `cinder/volume/drivers/rbd.py`.

Options, as Cinder's: rbd_pool, rbd_user, rbd_ceph_conf, rbd_keyring_conf (the file of the user's key), rbd_secret_uuid. A
snapshot of a volume is Ceph's own, so it is of one moment whoever writes; beside it stands an image of its name, a clone
that takes no room, so that it can be found and read by that name. Volumes made of it are copies: they need nothing.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kilonova.host.calls import run
from kilonova.host.storage.backend import GIB, BackendConfig, Capacity, checked
from kilonova.host.storage.export import exported
from kilonova.model.errors import HostError

COPY_SECONDS = 24 * 3600.0
NO_SUCH, THERE_ALREADY = "(2) No such file", "(17) File exists"
SIZE = "kilonova.size"  # an image's metadata: how large it was before a revert that is under way
SNAPSHOT, NEW, MOMENT = "snapshot-", ".new-", "moment-"


class RbdBackend:
    """Talks to the cluster by its own commands, `rbd` and `ceph`: nothing of it is loaded into this process."""

    storage_protocol = "ceph"

    def __init__(self, config: BackendConfig) -> None:
        self.config = config
        self.pool = config.options.get("rbd_pool", "volumes")
        self.user = config.options.get("rbd_user", "cinder")
        self.conf = config.options.get("rbd_ceph_conf", "/etc/ceph/ceph.conf")
        self.keyring = config.options.get("rbd_keyring_conf", f"/etc/ceph/ceph.client.{self.user}.keyring")

    def create(self, name: str, size_gb: int) -> None:
        self._rbd("create", self._spec(name), "--size", f"{size_gb}G", but=THERE_ALREADY)

    def create_from_snapshot(self, name: str, size_gb: int, snapshot: str) -> None:
        if self._size(name) is None:
            self._size_of(snapshot)
            self._copy(self._spec(snapshot), name, size_gb)

    def clone(self, name: str, size_gb: int, source: str) -> None:
        if self._size(name) is None:
            self._size_of(source)
            moment = f"{self._spec(source)}@{MOMENT}{name}"
            self._rbd("snap", "create", moment, "--no-progress", but=THERE_ALREADY)
            self._copy(moment, name, size_gb, moment)

    def _copy(self, source: str, name: str, size_gb: int, moment: str | None = None) -> None:
        """The image has its name when it is whole, and nothing of the way there is left."""
        new = NEW + name
        self._remove(new)
        self._rbd("cp", source, self._spec(new), "--no-progress", timeout=COPY_SECONDS)
        self._grow(new, size_gb * GIB)
        if moment:
            self._rbd("snap", "rm", moment, "--no-progress", but=NO_SUCH)
        self._rbd("mv", self._spec(new), self._spec(name))

    def delete(self, name: str) -> None:
        self._remove(NEW + checked(name))
        self._remove(name)

    def extend(self, name: str, size_gb: int) -> None:
        self._size_of(name)
        self._grow(name, size_gb * GIB)

    def create_snapshot(self, snapshot: str, volume: str) -> None:
        self._size_of(volume)
        moment = f"{self._spec(volume)}@{checked(snapshot)}"
        self._rbd("snap", "create", moment, "--no-progress", but=THERE_ALREADY)
        # Format 2: the snapshot need not be protected, and may go before its clone.
        self._rbd("clone", "--rbd-default-clone-format", "2", moment, self._spec(snapshot), but=THERE_ALREADY)

    def delete_snapshot(self, snapshot: str, volume: str) -> None:
        self._remove(snapshot)
        self._rbd("snap", "rm", f"{self._spec(volume)}@{snapshot}", "--no-progress", but=NO_SUCH)

    def revert(self, volume: str, snapshot: str) -> None:
        """A rollback gives an image the snapshot's size, too; what it was is kept with the image until it is again."""
        kept = self._rbd("image-meta", "get", self._spec(volume), SIZE, but=NO_SUCH).strip()
        size = int(kept) if kept else self._size_of(volume)
        if not kept:
            self._rbd("image-meta", "set", self._spec(volume), SIZE, str(size))
        rollback = f"{self._spec(volume)}@{checked(snapshot)}"
        self._rbd("snap", "rollback", rollback, "--no-progress", timeout=COPY_SECONDS)
        self._grow(volume, size)
        self._rbd("image-meta", "remove", self._spec(volume), SIZE)

    @contextmanager
    def local_path(self, name: str) -> Iterator[Path]:
        self._size_of(name)
        options = {"driver": "rbd", "pool": self.pool, "image": name, "conf": self.conf, "user": self.user}
        with exported(self.config.run, {**options, "key-secret": "key"}, ("key", self._key())) as path:
            yield path

    def connect(self, name: str) -> dict[str, Any]:
        """Cinder: `initialize_connection`. The key goes into libvirt's secret on the guest's host."""
        self._size_of(name)
        monitors = json.loads(self._run("ceph", "mon", "dump", "--format", "json"))["mons"]
        addresses = [each["public_addr"].rpartition("/")[0].rpartition(":") for each in monitors]
        own = uuid.uuid5(uuid.UUID(self.config.cloud_id), f"ceph {self.user}")
        data = {
            "name": self._spec(name),
            "hosts": [host for host, _, _ in addresses],
            "ports": [port for _, _, port in addresses],
            "auth_enabled": True,
            "auth_username": self.user,
            "secret_type": "ceph",
            "secret_uuid": self.config.options.get("rbd_secret_uuid", str(own)),
            "keyring": Path(self.keyring).read_text(),
            "discard": True,
        }
        return {"driver_volume_type": "rbd", "data": data}

    def disconnect(self, name: str) -> None:
        """An image is there whether somebody has it open or not."""

    def rename(self, name: str, new: str) -> None:
        there = self._size(new) is not None
        if there and self._size(name) is not None:
            raise HostError(f"there is a volume {new} already")
        if not there:
            self._size_of(name)
            self._rbd("mv", self._spec(name), self._spec(new))

    def volumes(self) -> dict[str, int]:
        images = json.loads(self._rbd("ls", "--long", self.pool, "--format", "json"))
        ours = (each for each in images if "snapshot" not in each and not each["image"].startswith((SNAPSHOT, NEW)))
        return {each["image"]: each["size"] for each in ours}

    def stats(self) -> Capacity:
        return capacity(json.loads(self._run("ceph", "df", "--format", "json", timeout=10)), self.pool)

    def _grow(self, name: str, size: int) -> None:
        if self._size_of(name) < size:
            self._rbd("resize", self._spec(name), "--size", f"{size}B", "--no-progress")

    def _remove(self, name: str) -> None:
        self._rbd("rm", self._spec(name), "--no-progress", but=NO_SUCH, timeout=COPY_SECONDS)

    def _size(self, name: str) -> int | None:
        """In bytes; None when there is no such image."""
        found = self._rbd("info", self._spec(name), "--format", "json", but=NO_SUCH)
        return int(json.loads(found)["size"]) if found else None

    def _size_of(self, name: str) -> int:
        size = self._size(name)
        if size is None:
            raise HostError(f"the backend {self.config.name} has no {name}")
        return size

    def _spec(self, name: str) -> str:
        return f"{self.pool}/{name if name.startswith(NEW) else checked(name)}"

    def _key(self) -> str:
        return self._run("ceph-authtool", self.keyring, "-n", f"client.{self.user}", "-p", alone=True).strip()

    def _rbd(self, *arguments: str, but: str = "\0", timeout: float = 60) -> str:
        """Its stdout; empty when it failed in the words of `but`."""
        try:
            return self._run("rbd", *arguments, timeout=timeout)
        except HostError as error:
            if but in str(error):
                return ""
            raise

    def _run(self, program: str, *arguments: str, timeout: float = 60, alone: bool = False) -> str:
        access = [] if alone else ["-c", self.conf, "--id", self.user, "--keyring", self.keyring]
        return run([program, *arguments, *access], timeout=timeout)


def capacity(df: dict[str, Any], pool: str) -> Capacity:
    """Of `ceph df`'s JSON: what a pool holds and may hold still, its copies counted. Zero where no manager counts."""
    for each in df["pools"]:
        if each["name"] == pool:
            has, free = each["stats"].get("stored", 0), each["stats"].get("max_avail", 0)
            return Capacity((has + free) / GIB, free / GIB)
    return Capacity(0.0, 0.0)
