"""Which processes are a cloud's, and how to end them: by pid, after a second look, never by a name."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

PROC = Path("/proc")


def command_line(pid: int) -> list[str]:
    """argv of a live process; empty for one that is gone, a zombie or a kernel thread."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def all_pids() -> Iterator[int]:
    return (int(name) for name in os.listdir(PROC) if name.isdigit())


def pid_from(file: Path, argument: str) -> int | None:
    """The pid in a pid file, if that process lives and has `argument` in its argv: a reused pid has not."""
    try:
        pid = int(file.read_text())
    except (OSError, ValueError):
        return None
    return pid if argument in command_line(pid) else None


def with_argument(argument: str) -> list[int]:
    return [pid for pid in all_pids() if argument in command_line(pid)]


def in_netns_file(netns: Path) -> list[int]:
    """The processes whose network namespace is the one behind this file."""
    try:
        wanted = os.stat(netns)
    except OSError:
        return []
    found = []
    for pid in all_pids():
        try:
            there = os.stat(PROC / str(pid) / "ns" / "net")
        except OSError:
            continue
        if (there.st_dev, there.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.append(pid)
    return found


def end(pids: Iterable[int], still_ours: Callable[[int], bool], *, grace: float = 0.0) -> None:
    """End processes and wait until they have ended: SIGTERM and up to `grace` seconds first (0: SIGKILL at once).

    A pidfd pins each process before `still_ours` looks at it again, so that nobody else's new process is hit. An ended
    process that its parent has not collected counts as ended.
    """
    fds: list[int] = []
    try:
        for pid in set(pids) - {os.getpid()}:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            fds.append(fd)
            if not still_ours(pid):
                os.close(fds.pop())
        alive = fds
        if grace > 0:
            _send(alive, signal.SIGTERM)
            alive = _wait(alive, grace)
        _send(alive, signal.SIGKILL)
        _wait(alive, 10.0)
    finally:
        for fd in fds:
            os.close(fd)


def _send(fds: list[int], number: signal.Signals) -> None:
    for fd in fds:
        try:
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            continue


def _wait(fds: list[int], seconds: float) -> list[int]:
    """The ones that live on after at most `seconds`."""
    deadline = time.monotonic() + seconds
    alive = list(fds)
    while alive and (left := deadline - time.monotonic()) > 0:
        ended = select.select(alive, [], [], left)[0]
        alive = [fd for fd in alive if fd not in ended]
    return alive
