"""Captures of taps: a packet socket each, whose own buffer is all that waits; read by whoever asked for it, as pcap.

No thread and no process: the kernel collects, and a read takes what there is. Whoever stops reading loses the capture.
"""

from __future__ import annotations

import base64
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Any

from kilonova.host.calls import outside
from kilonova.host.netns import in_netns
from kilonova.model.errors import HostError
from kilonova.model.ids import new_id

MAGIC = 0xA1B23C4D  # times in nanoseconds
SNAPLEN, ETHERNET = 262144, 1
ETH_P_ALL = 3
SO_RCVBUFFORCE, SO_TIMESTAMPNS = 33, 35
SOL_PACKET, PACKET_STATISTICS = 263, 6
BUFFER = 8 << 20  # bytes in the kernel, for bursts
AT_ONCE = 512 << 10  # bytes of one answer, about
MOST = 8  # captures at a time
FORGOTTEN = 15.0  # seconds without a read

HEADER = struct.pack("<IHHiIII", MAGIC, 2, 4, 0, 0, SNAPLEN, ETHERNET)


def record(seconds: int, nanoseconds: int, frame: bytes, length: int) -> bytes:
    """`length`: the frame's on the wire, of which `frame` may be the beginning."""
    return struct.pack("<IIII", seconds, nanoseconds, len(frame), length) + frame


class Capture:
    """One device's frames from now on, both ways. Raises HostError when the device is not there."""

    def __init__(self, netns: str | None, device: str, seconds: float, packets: int) -> None:
        self.device, self._left = device, packets
        self._until = time.monotonic() + seconds
        self.read_at = time.monotonic()
        with outside("capture open"):
            try:
                self._socket = in_netns(netns, _open, device)
            except OSError as error:
                raise HostError(f"{device} is not there to be captured: {error.strerror}") from error

    def read(self) -> tuple[bytes, bool]:
        """The records since the last read, and whether that was all. Does not wait."""
        self.read_at = time.monotonic()
        parts: list[bytes] = []
        size = 0
        while self._left > 0 and size < AT_ONCE:
            try:
                frame, extra, _, _ = self._socket.recvmsg(SNAPLEN, 64, socket.MSG_TRUNC)
            except BlockingIOError:
                return b"".join(parts), time.monotonic() >= self._until
            except OSError:  # the device is gone, or down
                return b"".join(parts), True
            when = next((data for _, kind, data in extra if kind == SO_TIMESTAMPNS), None)
            seconds, nanoseconds = struct.unpack("<qq", when) if when else divmod(time.time_ns(), 10**9)
            parts.append(record(seconds, nanoseconds, frame, len(frame)))
            size += len(parts[-1])
            self._left -= 1
        return b"".join(parts), self._left <= 0 or time.monotonic() >= self._until

    def dropped(self) -> int:
        """Frames that found the buffer full since this was last asked."""
        with suppress(OSError):
            _, dropped = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            return int(dropped)
        return 0

    def close(self) -> None:
        self._socket.close()


class Captures:
    """All of one host's, by their ids; `netns` is where the taps are."""

    def __init__(self, netns: str | None) -> None:
        self._netns = netns
        self._open: dict[str, Capture] = {}
        self._lock = threading.Lock()

    def start(self, device: str, seconds: float, packets: int) -> dict[str, Any]:
        """Returns {"id", "data": the pcap header in base64}."""
        self.sweep()
        with self._lock:
            if len(self._open) >= MOST:
                raise HostError(f"{MOST} captures run already: end one of them first")
            ident = new_id()
            self._open[ident] = Capture(self._netns, device, seconds, packets)
        return {"id": ident, "data": base64.b64encode(HEADER).decode()}

    def read(self, capture_id: str) -> dict[str, Any]:
        """Returns {"data": pcap records in base64, "ended": whether that was all}."""
        with self._lock:
            capture = self._open.get(capture_id)
            if capture is None:
                return {"data": "", "ended": True}
            data, ended = capture.read()
            if ended:
                self._open.pop(capture_id).close()
        return {"data": base64.b64encode(data).decode(), "ended": ended}

    def stop(self, capture_id: str) -> dict[str, Any]:
        """Nothing happens when it has ended. Returns {"dropped": frames the kernel had no room for}."""
        with self._lock:
            capture = self._open.pop(capture_id, None)
        if capture is None:
            return {"dropped": 0}
        dropped = capture.dropped()
        capture.close()
        return {"dropped": dropped}

    def sweep(self) -> None:
        """Ends those that nobody reads any more."""
        with self._lock:
            old = [ident for ident, each in self._open.items() if time.monotonic() - each.read_at > FORGOTTEN]
        for ident in old:
            self.stop(ident)

    def __len__(self) -> int:
        return len(self._open)

    def close(self) -> None:
        for ident in list(self._open):
            self.stop(ident)


def _open(device: str) -> socket.socket:
    # No protocol until it is bound: else the frames of other devices would be in it.
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        with suppress(OSError):
            made.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
        made.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        made.bind((device, ETH_P_ALL))
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
