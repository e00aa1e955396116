"""Run a function inside a network namespace: the one way in.

A namespace belongs to a thread, so a throw-away thread enters it with setns(2), runs the function and ends: nothing is
forked and nothing has to find its way back. A socket opened inside stays in that namespace for as long as it lives.
"""

from __future__ import annotations

import contextvars
import ctypes
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

NETNS_DIR = Path("/run/netns")  # where iproute2 keeps named namespaces
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def netns_path(name: str | os.PathLike[str]) -> Path:
    """The file of a namespace: a bare name is one of iproute2's, anything with a slash is a path already."""
    text = os.fspath(name)
    return Path(text) if "/" in text else NETNS_DIR / text


def in_netns(
    netns: str | os.PathLike[str] | None, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call fn inside a network namespace; give back its value or raise its exception.

    netns: a name below /run/netns, a path (`/proc/PID/ns/net` too), or None for the current namespace (fn then runs
    in the calling thread). Raises FileNotFoundError when the namespace is not there, OSError when it cannot be entered.
    """
    if netns is None:
        return fn(*args, **kwargs)
    fd = os.open(netns_path(netns), os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _in_thread(lambda: _enter(fd), fn, *args, **kwargs)
    finally:
        os.close(fd)


def in_scratch_netns(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call fn inside a new network namespace, which is gone when fn and the sockets it opened are."""
    return _in_thread(_unshare, fn, *args, **kwargs)


def _enter(fd: int) -> None:
    # os.setns exists only from Python 3.12 on.
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


def _unshare() -> None:
    if _libc.unshare(CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")


def _in_thread(enter: Callable[[], None], fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    values: list[T] = []
    errors: list[BaseException] = []
    context = contextvars.copy_context()  # request ids and call hooks follow the caller inside

    def body() -> None:
        try:
            enter()
            values.append(context.run(fn, *args, **kwargs))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="in-netns", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return values[0]
