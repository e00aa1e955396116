"""Guests' consoles that somebody has open: each a wire to the guest, exchanged piece by piece by whoever asked for it.

No thread: the kernel buffers both ways, and an exchange gives and takes what there is room for. Who stops asking loses it.
"""

from __future__ import annotations

import base64
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from kilonova.model.errors import HostError
from kilonova.model.ids import new_id

MOST = 64  # consoles at a time
FORGOTTEN = 30.0  # seconds without an exchange
PIECE, AT_ONCE = 64 << 10, 256 << 10  # bytes of a read, and of one answer at most (about)
GUEST_ENDED = "The guest has ended the connection."
TAKEN_OVER = "Somebody else has opened this console."


class Wire(Protocol):
    """`exchange` waits for nothing: how many of the bytes were taken, what came, and whether that was all."""

    def exchange(self, data: bytes) -> tuple[int, bytes, bool]: ...
    def close(self) -> None: ...


class Descriptor:
    """A socket or a terminal, by its file descriptor, which is closed with it."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd

    def exchange(self, data: bytes) -> tuple[int, bytes, bool]:
        taken, ended = 0, False
        try:
            while taken < len(data):
                taken += os.write(self._fd, data[taken:])
        except BlockingIOError:
            pass
        except OSError:  # what it has said before it went is still to be read
            ended = True
        parts: list[bytes] = []
        size = 0
        try:
            while size < AT_ONCE:
                if not (part := os.read(self._fd, PIECE)):
                    ended = True
                    break
                parts.append(part)
                size += len(part)
        except BlockingIOError:
            pass
        except OSError:  # a terminal whose other end is closed
            ended = True
        return taken, b"".join(parts), ended

    def close(self) -> None:
        os.close(self._fd)


@dataclass
class _Open:
    wire: Wire
    alone: str
    asked_at: float = field(default_factory=time.monotonic)
    ended: str | None = None


class Consoles:
    """All of one host's, by their ids."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._lock = threading.Lock()

    def open(self, connect: Callable[[], Wire], alone: str = "") -> dict[str, Any]:
        """Returns {"id"}. `alone` names what only one can have at a time: the newcomer ends the one before."""
        self.sweep()
        with self._lock:
            if len(self._open) >= MOST:
                raise HostError(f"{MOST} consoles are open already: close one of them first")
            for other in self._open.values():
                if alone and other.alone == alone and other.ended is None:
                    other.ended = TAKEN_OVER
                    other.wire.close()
        made = _Open(connect(), alone)
        ident = new_id()
        with self._lock:
            self._open[ident] = made
        return {"id": ident}

    def exchange(self, console_id: str, data: str) -> dict[str, Any]:
        """As in host/contract.py. A console that nobody knows has ended."""
        with self._lock:
            found = self._open.get(console_id)
            if found is None or found.ended is not None:
                self._open.pop(console_id, None)
                return {"taken": 0, "data": "", "ended": found.ended if found else GUEST_ENDED}
            found.asked_at = time.monotonic()
            taken, said, ended = found.wire.exchange(base64.b64decode(data))
            if ended:
                self._open.pop(console_id).wire.close()
        return {"taken": taken, "data": base64.b64encode(said).decode(), "ended": GUEST_ENDED if ended else None}

    def close(self, console_id: str) -> dict[str, Any]:
        """Nothing happens when it has ended."""
        with self._lock:
            found = self._open.pop(console_id, None)
            if found is not None and found.ended is None:
                found.wire.close()
        return {}

    def sweep(self) -> None:
        """Ends those that nobody asks for any more."""
        now = time.monotonic()
        with self._lock:
            old = [ident for ident, each in self._open.items() if now - each.asked_at > FORGOTTEN]
        for ident in old:
            self.close(ident)

    def __len__(self) -> int:
        return len(self._open)

    def end(self) -> None:
        for ident in list(self._open):
            self.close(ident)
