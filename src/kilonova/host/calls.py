"""Every call that leaves this process on a host's behalf: commands, netlink, nft, libvirt.

One gate for all of them, so that each can be timed, shown in the trace, and (in tests) failed or crashed.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from kilonova.model.errors import HostError

_observers: list[Callable[[str, str], None]] = []
_local = threading.local()


@contextmanager
def observed(observer: Callable[[str, str], None]) -> Iterator[None]:
    """While open, `observer("before" | "after", name)` is called around each outside call, in the caller's thread."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


@contextmanager
def recorded() -> Iterator[list[tuple[str, float]]]:
    """Collects (name, seconds) of this thread's outside calls: the inside of a step, for its event row."""
    before = getattr(_local, "calls", None)
    calls: list[tuple[str, float]] = []
    _local.calls = calls
    try:
        yield calls
    finally:
        _local.calls = before


@contextmanager
def outside(name: str) -> Iterator[None]:
    """Wrap one call that leaves the process; `name` is like `libvirt defineXML` or `netlink tap add`."""
    for observer in tuple(_observers):
        observer("before", name)
    start = time.monotonic()
    try:
        yield
    finally:
        calls = getattr(_local, "calls", None)
        if calls is not None:
            calls.append((name, time.monotonic() - start))
    for observer in tuple(_observers):
        observer("after", name)


@dataclass(frozen=True)
class Apart:
    """What a command is started by, the files of this process that it keeps, by the same numbers, and where its stdout goes
    instead of being returned."""

    command: tuple[str, ...]
    fds: tuple[int, ...]
    stdout: int | None = None


def run(
    argv: Sequence[str],
    *,
    input: str | None = None,
    netns: str | None = None,
    timeout: float = 60,
    env: Mapping[str, str] | None = None,
    apart: Apart | None = None,
) -> str:
    """Run a command to its end, in network namespace `netns` (a name) if given, with `env` beside this process's own.

    Returns its stdout. Raises HostError with the command's own words when it fails, is missing or takes too long.
    """
    command = ["nsenter", f"--net=/run/netns/{netns}", "--", *argv] if netns else list(argv)
    command = [*apart.command, *command] if apart else command
    with outside(" ".join(argv[:2])):
        try:
            done = subprocess.run(
                command,
                input=input,
                stdout=subprocess.PIPE if apart is None or apart.stdout is None else apart.stdout,
                stderr=subprocess.PIPE,
                text=True,
                timeout=timeout,
                check=False,
                env={**os.environ, **(env or {})},
                pass_fds=apart.fds if apart else (),
            )
        except FileNotFoundError as error:
            raise HostError(f"{command[0]} is not installed on this host") from error
        except subprocess.TimeoutExpired as error:
            raise HostError(f"{' '.join(argv)} did not end in {timeout:g} s") from error
        if done.returncode:
            words = done.stderr.strip() or (done.stdout or "").strip()
            raise HostError(f"{' '.join(argv)} failed ({done.returncode}): {words}")
    return done.stdout or ""
