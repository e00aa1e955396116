"""A packet that is tried on a copy of live rules: how it is made, sent and seen, and what nft says of its way."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeVar

from kilonova.host.calls import outside
from kilonova.host.contract import FirstFrame

PATIENCE = 0.3  # seconds for a packet to pass
NUMBERS = {"tcp": 6, "udp": 17}
SOURCE_PORT = 49152
T = TypeVar("T")


def traced(act: Callable[[], T], table: str) -> tuple[T, list[str]]:
    """What `act` gives, and what nft said of the tables of that name the while: `bridge guard-ip: … drop`."""
    with outside("nft monitor"):
        monitor = subprocess.Popen(["nft", "monitor", "trace"], stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.1)  # until it listens
        given = act()
    finally:
        monitor.terminate()
        text = monitor.communicate()[0]
    found = re.findall(rf"^trace id \w+ (\w+) {re.escape(table)} (\S+) rule (.*)$", text, re.M)
    return given, [f"{family} {chain}: {rule.strip()}" for family, chain, rule in found]


def packet_socket(device: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    made.bind((device, 3))
    return made


def ethernet(frame: FirstFrame, payload: bytes) -> bytes:
    """A TCP SYN, a UDP datagram or an echo request, with right checksums."""
    source, destination = ip_address(frame.source), ip_address(frame.destination)
    six = source.version == 6
    number = NUMBERS.get(frame.protocol, 58 if six else 1)
    body = _body(number, frame.port, payload)
    pseudo = source.packed + destination.packed
    pseudo += struct.pack("!II", len(body), number) if six else struct.pack("!BBH", 0, number, len(body))
    at = {6: 16, 17: 6}.get(number, 2)
    check = checksum(body if number == 1 else pseudo + body)
    body = body[:at] + struct.pack("!H", check) + body[at + 2 :]
    if six:
        head = struct.pack("!IHBB", 6 << 28, len(body), number, 64) + source.packed + destination.packed
    else:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, number, 0)
        head += source.packed + destination.packed
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    macs = bytes.fromhex((frame.destination_mac + frame.source_mac).replace(":", ""))
    return macs + struct.pack("!H", 0x86DD if six else 0x0800) + head + body


def _body(number: int, port: int, payload: bytes) -> bytes:
    if number == 6:
        return struct.pack("!HHIIBBHHH", SOURCE_PORT, port, 1, 0, 5 << 4, 2, 64240, 0, 0) + payload
    if number == 17:
        return struct.pack("!HHHH", SOURCE_PORT, port, 8 + len(payload), 0) + payload
    return struct.pack("!BBHHH", 128 if number == 58 else 8, 0, 0, 1, 1) + payload


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
