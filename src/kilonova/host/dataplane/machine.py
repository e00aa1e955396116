"""What the clouds of one machine share, under one lock: claims on public subnets, and what we changed in the host.

Everything here is a small JSON file, replaced whole while the lock is held. A sysctl or a directory that Kilonova
had to change is put back when the last cloud that needs it is purged.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilonova.host.dataplane import config as places
from kilonova.host.dataplane.config import DataPlaneConfig
from kilonova.model.errors import HostError

PATIENCE = 60.0  # seconds to wait for another Kilonova process of this machine


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file; {} when there is none, or when a crash of the machine left it unreadable."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    with new.open("w") as file:
        json.dump(value, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


@dataclass(frozen=True)
class Machine:
    """Held by `locked()`; every method is a measure-then-act on the shared files."""

    run: Path
    shared: Path

    @property
    def claims_file(self) -> Path:
        return self.shared / "claims.json"

    @property
    def changes_file(self) -> Path:
        """Sysctls live until the next boot, and so does this file."""
        return self.run / "sysctls.json"

    @property
    def made_file(self) -> Path:
        return self.shared / "directories.json"

    # Claims: cidr → {"cloud_id", "state"}

    def claims(self) -> dict[str, dict[str, str]]:
        """The claims of clouds that exist: a state directory removed without a purge does not hold its subnet."""
        found = read_json(self.claims_file)
        live = {cidr: claim for cidr, claim in found.items() if _exists(claim)}
        if live != found:
            write_json(self.claims_file, live)
        return live

    def claim(self, cidr: str, cloud: DataPlaneConfig) -> None:
        claims = {c: claim for c, claim in self.claims().items() if claim["cloud_id"] != cloud.cloud_id}
        claims[cidr] = {"cloud_id": cloud.cloud_id, "state": str(cloud.state)}
        write_json(self.claims_file, claims)

    def unclaim(self, cloud: DataPlaneConfig) -> None:
        claims = {c: claim for c, claim in self.claims().items() if claim["cloud_id"] != cloud.cloud_id}
        write_json(self.claims_file, claims)

    # Sysctls of the root namespace: path → {"was", "set", "users"}

    def set_sysctl(self, path: str, value: str, user: str) -> None:
        """Set a sysctl on a cloud's behalf, remembering what it was before the first cloud that changed it."""
        now = Path(path).read_text().strip()
        changes = read_json(self.changes_file)
        if path not in changes and now == value:
            return
        change = changes.setdefault(path, {"was": now, "set": value, "users": []})
        if user not in change["users"]:
            change["users"].append(user)
            write_json(self.changes_file, changes)  # before the change: a crash between must not forget it
        if now != value:
            Path(path).write_text(value)

    def release_sysctls(self, user: str, only: str | None = None) -> None:
        """Put back the sysctls (or `only` one) that no other cloud needs, unless somebody set them again since."""
        changes = read_json(self.changes_file)
        for path, change in list(changes.items()):
            if user not in change["users"] or only not in (None, path):
                continue
            change["users"].remove(user)
            if not change["users"]:
                del changes[path]
                with suppress(OSError):
                    if Path(path).read_text().strip() == change["set"]:
                        Path(path).write_text(change["was"])
        if self.changes_file.exists():
            write_json(self.changes_file, changes)

    # Directories that a mount needs to be there: {path: true}

    def make_directory(self, path: Path) -> None:
        if not path.is_dir():
            write_json(self.made_file, {**read_json(self.made_file), str(path): True})
            path.mkdir(parents=True, exist_ok=True)

    def tidy(self) -> None:
        """After a purge: when this was the machine's last cloud, take away what the clouds shared.

        Not before: removing a directory that is a mount point in another cloud's namespace unmounts it there.
        """
        if self.claims() or any(entry.is_dir() for entry in self.run.iterdir()):
            return
        for path in sorted(read_json(self.made_file), reverse=True):
            with suppress(OSError):
                Path(path).rmdir()
        for file in (self.claims_file, self.made_file, self.changes_file, self.run / "lock"):
            file.unlink(missing_ok=True)
        for directory in (self.shared, self.run):
            with suppress(OSError):
                directory.rmdir()


def _exists(claim: dict[str, str]) -> bool:
    written = read_json(Path(claim["state"]) / "dataplane.json")
    cloud = DataPlaneConfig(Path(claim["state"]), claim["cloud_id"])
    return written.get("cloud_id") == cloud.cloud_id or (places.RUN / cloud.id8).exists()


@contextmanager
def locked() -> Iterator[Machine]:
    """The machine's shared files, held exclusively against every other Kilonova process here."""
    fd = _lock(places.RUN / "lock")
    try:
        yield Machine(places.RUN, places.SHARED)
    finally:
        os.close(fd)


def _lock(path: Path) -> int:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # the last cloud's purge removed the directory in between
        except PermissionError as error:
            raise HostError("a cloud with real guests needs root: run as root, or take --virt fake") from error
        if _take(fd, path, deadline):
            return fd
        os.close(fd)


def _take(fd: int, path: Path, deadline: float) -> bool:
    """False when the file was unlinked by a purge while we waited for it."""
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(fd, 32, 0).decode().strip()
                os.close(fd)
                raise HostError(
                    f"process {holder} has held {path} for {PATIENCE:g} s: see what it waits for, or end it"
                ) from None
            time.sleep(0.02)
    if not path.exists() or os.stat(path).st_ino != os.fstat(fd).st_ino:
        return False
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return True
