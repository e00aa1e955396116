"""What a fake guest's consoles show: a serial port that says again what is typed, and a screen that changes its colour.

Both speak the real protocols, so that a browser, a terminal or a VNC client can be tried on them.
"""

import struct
from collections.abc import Callable
from typing import Any

BANNER = b"This guest is fake: it says again what you type.\r\n"
RFB = b"RFB 003.008\n"
WIDTH, HEIGHT, NAME = 320, 200, b"fake guest"
# The pixel format offered: 32 bits, 24 of them colour, little-endian; bits of red at 16, of green at 8, of blue at 0.
FORMAT = struct.pack(">BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
COLOURS = (b"\x40", b"\x80", b"\xc0")  # each byte of a pixel
SET_FORMAT, SET_ENCODINGS, UPDATE, KEY, POINTER, CUT_TEXT = 0, 2, 3, 4, 5, 6
LENGTHS = {SET_FORMAT: 20, SET_ENCODINGS: 4, UPDATE: 10, KEY: 8, POINTER: 6, CUT_TEXT: 8}


class FakeSerial:
    def __init__(self, alive: Callable[[], bool]) -> None:
        self._alive, self._said = alive, BANNER

    def exchange(self, data: bytes) -> tuple[int, bytes, bool]:
        said, self._said = self._said + data.replace(b"\r", b"\r\n"), b""
        return len(data), said, not self._alive()

    def close(self) -> None:
        self._said = b""


class FakeScreen:
    """The server's side of RFB 3.8 (RFC 6143), without a password, in Raw encoding; any key is the next colour."""

    def __init__(self, alive: Callable[[], bool]) -> None:
        self._alive, self._came = alive, b""
        self._out: list[bytes] = [RFB]
        self._next = self._version
        self._bytes_a_pixel, self._colour, self._asked, self._shown = 4, 0, False, -1

    def exchange(self, data: bytes) -> tuple[int, bytes, bool]:
        self._came += data
        going = True
        while going and self._came:
            going = self._next()
        said, self._out = b"".join(self._out), []
        return len(data), said, self._next == self._refused or not self._alive()

    def close(self) -> None:
        self._came = b""

    def _take(self, length: int) -> bytes | None:
        if len(self._came) < length:
            return None
        taken, self._came = self._came[:length], self._came[length:]
        return taken

    def _version(self) -> bool:
        version = self._take(len(RFB))
        if version is not None:
            self._out.append(b"\x01\x01")  # one way to say who one is: not at all
            self._next = self._security if version == RFB else self._refused
        return version is not None

    def _security(self) -> bool:
        if self._take(1) != b"\x01":
            self._next = self._refused
            return False
        self._out.append(bytes(4))
        self._next = self._shared
        return True

    def _refused(self) -> bool:
        return False

    def _shared(self) -> bool:
        self._take(1)
        self._out.append(struct.pack(">HH", WIDTH, HEIGHT) + FORMAT + struct.pack(">I", len(NAME)) + NAME)
        self._next = self._message
        return True

    def _message(self) -> bool:
        kind = self._came[0]
        length = LENGTHS.get(kind)
        if length is None:
            self._next = self._refused
            return False
        if kind == SET_ENCODINGS and len(self._came) >= length:
            length += 4 * struct.unpack(">H", self._came[2:4])[0]
        if kind == CUT_TEXT and len(self._came) >= length:
            length += struct.unpack(">I", self._came[4:8])[0]
        message = self._take(length)
        if message is None:
            return False
        if kind == SET_FORMAT:
            self._bytes_a_pixel = max(message[4] // 8, 1)
        if kind == KEY and message[1]:
            self._colour = (self._colour + 1) % len(COLOURS)
        if kind == UPDATE:
            self._asked = True
            self._shown = self._shown if message[1] else -1  # not incremental: all of it
        self._update()
        return True

    def _update(self) -> None:
        if self._asked and self._shown != self._colour:
            self._asked, self._shown = False, self._colour
            pixels = COLOURS[self._colour] * (WIDTH * HEIGHT * self._bytes_a_pixel)
            self._out.append(struct.pack(">BxHHHHHi", 0, 1, 0, 0, WIDTH, HEIGHT, 0) + pixels)


WIRES: dict[str, Any] = {"novnc": FakeScreen, "serial": FakeSerial}
