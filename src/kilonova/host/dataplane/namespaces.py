"""The named network namespaces of a cloud: its own, and those made in it later (DHCP, routers).

Each is written into `DIR/namespaces` before it is made, so that a purge after any crash finds it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kilonova.host.calls import outside, run
from kilonova.host.dataplane import processes
from kilonova.host.netns import in_netns, netns_path

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1


def listed_namespaces(state: Path) -> list[str]:
    try:
        return (state / "namespaces").read_text().split()
    except FileNotFoundError:
        return []


def ensure_namespace(state: Path, name: str) -> bool:
    """Make a namespace with lo up, listed in the cloud's state directory. True when it had to be made."""
    with _list(state) as names:
        if name not in names:
            names.append(name)
    path = netns_path(name)
    made = not is_namespace(path)
    if made:
        path.unlink(missing_ok=True)  # a mount point left from before a reboot, or by a crash between its two halves
        run(["ip", "netns", "add", name])
    with outside("ioctl lo up"):
        in_netns(path, _lo_up)
    return made


def delete_namespace(state: Path, name: str) -> None:
    """End the processes in a namespace and remove it, from the list last. Nothing happens when it is gone."""
    path = netns_path(name)
    if is_namespace(path):
        inside = set(processes.in_netns_file(path))
        processes.end(inside, lambda pid: pid in processes.in_netns_file(path))
        run(["ip", "netns", "delete", name])
    path.unlink(missing_ok=True)
    if name in listed_namespaces(state):
        with _list(state) as names:
            names.remove(name)


def is_namespace(path: Path) -> bool:
    """A file of nsfs, not the empty file it is mounted on."""
    try:
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    except OSError:
        return False


def _lo_up() -> None:
    request = struct.Struct("16sH22x")  # struct ifreq: name, flags
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        flags = request.unpack(fcntl.ioctl(handle, SIOCGIFFLAGS, request.pack(b"lo", 0)))[1]
        if not flags & IFF_UP:
            fcntl.ioctl(handle, SIOCSIFFLAGS, request.pack(b"lo", flags | IFF_UP))


@contextmanager
def _list(state: Path) -> Iterator[list[str]]:
    """The names, to be changed in place: written back whole, under a lock that threads respect too."""
    with (state / "namespaces.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names = listed_namespaces(state)
        before = list(names)
        yield names
        if names != before:
            new = state / "namespaces.new"
            new.write_text("".join(f"{name}\n" for name in names))
            new.replace(state / "namespaces")
