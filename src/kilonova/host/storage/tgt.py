"""iSCSI targets of the cloud's own tgtd: one a volume, with CHAP, at LUN 1. Each is a file first, so that a restart has it.

Cinder: `cinder/volume/targets/tgt.py`. Why a target is made anew when its volume grows: tgtd reads a size only once, and an
initiator whose connection ends comes back by itself and sends again what was not answered.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kilonova.host.calls import outside, run
from kilonova.model.errors import HostError

PREFIX = "iqn.2010-10.org.openstack:"  # Cinder's target_prefix
LUN = 1  # 0 is tgtd's controller
DONE_BEFORE = ("already exists",)
NOT_THERE = ("can't find", "does not exist")
PATIENCE = 15.0  # seconds for the commands under way to end
PAUSE = 0.05


@dataclass(frozen=True)
class Target:
    """One volume's door. size (in bytes) and inode: of its file when it was opened."""

    name: str
    tid: int
    path: str
    user: str
    password: str
    size: int
    inode: int

    @property
    def iqn(self) -> str:
        return PREFIX + self.name

    @property
    def commands(self) -> list[list[str]]:
        """tgtadm's arguments, in order; the last one opens the door."""
        target, unit, account = _about("target", self.tid), _about("logicalunit", self.tid), ["--user", self.user]
        return [
            [*target, "--op", "new", "--targetname", self.iqn],
            [*unit, "--op", "new", "--lun", str(LUN), "--backing-store", self.path],
            [*unit, "--op", "update", "--lun", str(LUN), "--params", "thin_provisioning=1"],
            ["--lld", "iscsi", "--mode", "account", "--op", "new", *account, "--password", self.password],
            [*_about("account", self.tid), "--op", "bind", *account],
            [*target, "--op", "bind", "--initiator-address", "ALL"],
        ]


@dataclass(frozen=True)
class Shown:
    """A target as tgtd has it."""

    iqn: str
    whole: bool
    connections: tuple[tuple[str, str], ...]  # (session, connection)


class Targets:
    """`folder` holds a file a target; `socket` is tgtd's, without the `.0` that it adds."""

    def __init__(self, folder: Path, socket: Path, portal: str) -> None:
        self.folder, self.socket, self.portal = folder, socket, portal

    def ensure(self, name: str, path: Path) -> Target:
        """Open for initiators that know the password, with the file as it is now."""
        with self._locked():
            target = self._read(name) or self._reserve(name, path)
            shown = self._shown().get(target.tid)
            now = _looks(path)
            old = shown is not None and now != (target.size, target.inode)
            if shown is not None and (old or shown.iqn != target.iqn):
                self._close(target.tid)
                shown = None
            if shown is None or not shown.whole:
                self._open(target)
            if now != (target.size, target.inode):
                target = self._write(replace(target, size=now[0], inode=now[1]))
        return target

    def renew(self, name: str, path: Path) -> None:
        """After the file has grown, or is another: initiators that are connected see its size when they ask for it."""
        if self._read(name) is not None:
            self.ensure(name, path)

    def remove(self, name: str) -> None:
        with self._locked():
            target = self._read(name)
            if target is None:
                return
            shown = self._shown(absent_ok=True).get(target.tid)
            if shown is not None and shown.iqn == target.iqn:
                self._close(target.tid)
            self._tgtadm("--lld", "iscsi", "--mode", "account", "--op", "delete", "--user", target.user, but=NOT_THERE)
            with outside("tgt forget"):
                self._file(name).unlink()

    def _open(self, target: Target) -> None:
        for command in target.commands:
            self._tgtadm(*command, but=DONE_BEFORE)
        shown = self._shown().get(target.tid)
        if shown is None or not shown.whole:
            raise HostError(f"tgtd has not taken {target.path} as a target: see its log in the data plane's reaper.log")

    def _close(self, tid: int) -> None:
        """Nobody new comes in, those inside are sent away, what they asked for is waited for; then it goes."""
        target = _about("target", tid)
        self._tgtadm(*target, "--op", "unbind", "--initiator-address", "ALL", but=NOT_THERE)
        deadline = time.monotonic() + PATIENCE
        while (shown := self._shown().get(tid)) is not None:
            for session, connection in shown.connections:
                ids = ["--sid", session, "--cid", connection]
                self._tgtadm(*_about("conn", tid), "--op", "delete", *ids, but=NOT_THERE)
            if time.monotonic() > deadline:
                raise HostError(f"the target {shown.iqn} is still busy after {PATIENCE:g} s")
            if self._tgtadm(*target, "--op", "delete", but=("still active", *NOT_THERE)):
                break
            time.sleep(PAUSE)

    def _shown(self, *, absent_ok: bool = False) -> dict[int, Shown]:
        """All of tgtd's targets, by number. absent_ok: none when tgtd does not run."""
        try:
            text = self._run("--lld", "iscsi", "--mode", "target", "--op", "show")
        except HostError:
            if absent_ok:
                return {}
            raise
        return parse(text)

    def _tgtadm(self, *arguments: str, but: tuple[str, ...]) -> bool:
        """Whether it was done now; False when tgtd's answer is one of `but`."""
        try:
            self._run(*arguments)
        except HostError as error:
            if any(words in str(error) for words in but):
                return False
            raise
        return True

    def _run(self, *arguments: str) -> str:
        return run(["tgtadm", *arguments], env={"TGT_IPC_SOCKET": str(self.socket)})

    # The files

    def _read(self, name: str) -> Target | None:
        try:
            value: dict[str, Any] = json.loads(self._file(name).read_text())
        except FileNotFoundError:
            return None
        value.pop("commands")
        return Target(**value)

    def _reserve(self, name: str, path: Path) -> Target:
        """A number that no other volume has, and a user and a password of its own, as Cinder makes them."""
        taken = {json.loads(file.read_text())["tid"] for file in self.folder.glob("*.json")}
        tid = next(number for number in range(1, len(taken) + 2) if number not in taken)
        return self._write(Target(name, tid, str(path), secrets.token_hex(10), secrets.token_hex(8), *_looks(path)))

    def _write(self, target: Target) -> Target:
        file = self._file(target.name)
        new = file.with_suffix(".new")
        with outside("tgt remember"):
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
                json.dump({**asdict(target), "commands": target.commands}, opened, indent=1)
                opened.flush()
                os.fsync(opened.fileno())
            new.replace(file)
        return target

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _looks(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_ino


def _about(mode: str, tid: int) -> list[str]:
    return ["--lld", "iscsi", "--mode", mode, "--tid", str(tid)]


def parse(text: str) -> dict[int, Shown]:
    """The output of `tgtadm --mode target --op show`."""
    found = {}
    for part in re.split(r"^Target ", text, flags=re.MULTILINE)[1:]:
        number, iqn = part.split("\n", 1)[0].split(": ", 1)
        sessions = part.partition("I_T nexus information:")[2].partition("LUN information:")[0]
        account = part.partition("Account information:")[2].partition("ACL information:")[0].strip()
        whole = f"LUN: {LUN}\n" in part and bool(account) and "ALL" in part.partition("ACL information:")[2]
        found[int(number)] = Shown(iqn.strip(), whole, tuple(_connections(sessions)))
    return found


def _connections(sessions: str) -> Iterator[tuple[str, str]]:
    for part in sessions.split("I_T nexus: ")[1:]:
        for connection in re.findall(r"Connection: (\d+)", part):
            yield part.split("\n", 1)[0].strip(), connection
