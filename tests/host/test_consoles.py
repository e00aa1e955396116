"""Consoles on their host: exchanged without waiting, taken over, forgotten; found in XML; and those of a fake guest."""

import base64
import os
import pty
import socket
import struct
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clouds import wait_for

from kilonova.host import consoles
from kilonova.host.consoles import GUEST_ENDED, TAKEN_OVER, Consoles, Descriptor
from kilonova.host.fake import FakeHost
from kilonova.host.fake_consoles import BANNER, FORMAT, HEIGHT, NAME, RFB, WIDTH, FakeScreen
from kilonova.host.libvirt.consoles import Place, place
from kilonova.model.errors import HostError

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def held() -> Iterator[Consoles]:
    made = Consoles()
    yield made
    made.end()


def pair() -> tuple[socket.socket, Callable[[], Descriptor]]:
    """A guest's end, and the way to it."""
    guest, ours = socket.socketpair()
    return guest, lambda: Descriptor(ours.detach())


def exchange(held: Consoles, ident: str, data: bytes = b"") -> dict[str, Any]:
    answer = held.exchange(ident, base64.b64encode(data).decode())
    return answer | {"data": base64.b64decode(answer["data"])}


def test_bytes_both_ways_until_the_guest_ends(held: Consoles) -> None:
    guest, connect = pair()
    ident = held.open(connect)["id"]
    assert exchange(held, ident) == {"taken": 0, "data": b"", "ended": None}  # nothing is waited for
    assert exchange(held, ident, b"ls\r")["taken"] == 3
    assert guest.recv(9) == b"ls\r"
    guest.sendall(b"file")
    guest.close()
    assert exchange(held, ident) == {"taken": 0, "data": b"file", "ended": GUEST_ENDED}
    assert len(held) == 0 and exchange(held, ident)["ended"] == GUEST_ENDED


def test_a_guest_that_does_not_read_takes_what_there_is_room_for(held: Consoles) -> None:
    guest, connect = pair()
    ident, sent = held.open(connect)["id"], 0
    while taken := exchange(held, ident, bytes(1 << 20))["taken"]:
        sent += taken
    got = 0
    guest.setblocking(False)
    while got < sent:
        got += len(guest.recv(1 << 20))
    assert exchange(held, ident, b"x")["taken"] == 1


def test_much_from_the_guest_comes_in_pieces(held: Consoles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consoles, "AT_ONCE", 100)
    monkeypatch.setattr(consoles, "PIECE", 60)
    guest, connect = pair()
    guest.sendall(bytes(range(200)))
    ident = held.open(connect)["id"]
    assert [len(exchange(held, ident)["data"]) for _ in range(3)] == [120, 80, 0]


def test_a_terminal_ends_with_its_other_end(held: Consoles) -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    ident = held.open(lambda: Descriptor(slave))["id"]
    assert exchange(held, ident, b"\x03\r")["taken"] == 2
    assert os.read(master, 9) == b"\x03\r"
    os.write(master, b"login: ")
    assert wait_for(lambda: exchange(held, ident)["data"]) == b"login: "
    os.close(master)
    assert exchange(held, ident)["ended"] == GUEST_ENDED


def test_a_newcomer_takes_over_what_only_one_can_have(held: Consoles) -> None:
    first, connect_first = pair()
    second, connect_second = pair()
    third, connect_third = pair()
    one = held.open(connect_first, "s/serial")["id"]
    other = held.open(connect_third, "t/serial")["id"]
    two = held.open(connect_second, "s/serial")["id"]
    assert exchange(held, one) == {"taken": 0, "data": b"", "ended": TAKEN_OVER}
    assert first.recv(1) == b""
    for ident, guest in ((two, second), (other, third)):
        guest.sendall(b"hi")
        assert exchange(held, ident)["data"] == b"hi"
    held.close(one)
    held.close(two)
    assert second.recv(1) == b"" and len(held) == 1


def test_who_cannot_be_reached_holds_nothing(held: Consoles) -> None:
    def refuse() -> Descriptor:
        raise HostError("the guest does not run")

    with pytest.raises(HostError):
        held.open(refuse, "s/serial")
    assert len(held) == 0


def test_what_nobody_asks_for_ends(held: Consoles, monkeypatch: pytest.MonkeyPatch) -> None:
    guest, connect = pair()
    held.open(connect)
    held.sweep()
    assert len(held) == 1
    monkeypatch.setattr(consoles, "FORGOTTEN", -1.0)
    held.sweep()
    assert len(held) == 0 and guest.recv(1) == b""


def test_there_is_an_end_to_how_many(held: Consoles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consoles, "MOST", 1)
    _, connect = pair()
    held.open(connect)
    with pytest.raises(HostError, match="close one of them first"):
        held.open(connect)


def test_where_consoles_are() -> None:
    """libvirt fills in the port and the terminal when the guest starts."""
    xml = (GOLDEN / "plain.xml").read_text()
    live = xml.replace('port="-1"', 'port="5903"').replace(
        '<serial type="pty">', '<serial type="pty"><source path="/dev/pts/7"/>'
    )
    assert place(live, "novnc") == Place("127.0.0.1", 5903)
    assert place(live.replace('listen="127.0.0.1"', 'listen="0.0.0.0"'), "novnc") == Place("127.0.0.1", 5903)
    assert place(live, "serial") == Place(port=1, path="/dev/pts/7")
    assert place(xml, "novnc") == place(xml, "serial") == Place()
    single = (GOLDEN / "old.xml").read_text()
    assert "<log file=" in single
    live = single.replace('<serial type="pty">', '<serial type="pty"><source path="/dev/pts/7"/>')
    assert place(live, "serial") == Place(port=0, path="/dev/pts/7")
    assert place(live, "novnc") == Place()


def test_a_fake_guests_serial_port(tmp_path: Path) -> None:
    host = FakeHost("a", tmp_path)
    with pytest.raises(HostError):
        host.open_console("s", "serial")
    assert host.console_address("s", "serial")["running"] is False
    host._put("domains", "s", {"xml": "", "power_state": 1})
    assert host.console_address("s", "novnc") == {"running": True, "address": None, "port": 5900}
    ident = host.open_console("s", "serial")["id"]
    assert exchange(host.consoles, ident, b"a\r")["data"] == BANNER + b"a\r\n"
    host._drop("domains", "s")
    assert exchange(host.consoles, ident)["ended"] == GUEST_ENDED


def test_a_fake_guests_screen() -> None:
    screen = FakeScreen(lambda: True)

    def say(data: bytes) -> bytes:
        taken, said, ended = screen.exchange(data)
        assert taken == len(data) and not ended
        return said

    assert say(b"") == RFB
    assert say(RFB) == b"\x01\x01"
    assert say(b"\x01") == bytes(4)
    assert say(b"\x01") == struct.pack(">HH", WIDTH, HEIGHT) + FORMAT + struct.pack(">I", len(NAME)) + NAME
    pixel_format = bytes(4) + struct.pack(">BBBBHHHBBB3x", 8, 8, 0, 1, 7, 7, 3, 0, 3, 6)  # a byte each
    assert say(pixel_format + b"\x02\x00\x00\x01" + bytes(4)) == b""
    update = struct.pack(">BBHHHH", 3, 0, 0, 0, WIDTH, HEIGHT)
    again = b"\x03\x01" + update[2:]
    first = say(update[:3]) + say(update[3:])
    assert len(first) == 16 + WIDTH * HEIGHT
    assert say(again) == b""  # nothing new
    key = struct.pack(">BBxxI", 4, 1, 0x61)
    second = say(key + b"\x06\x00\x00\x00\x00\x00\x00\x02hi" + b"\x05" + bytes(5))
    assert len(second) == len(first) and second != first
    assert screen.exchange(b"\xff")[2] is True  # no message of RFB


def test_a_screen_of_another_version_is_refused() -> None:
    screen = FakeScreen(lambda: True)
    assert screen.exchange(b"RFB 003.003\n")[2] is True
    assert FakeScreen(lambda: False).exchange(b"")[2] is True
