"""Gratuitous ARP: a new holder of an address tells its neighbours (Neutron: ip_lib.send_ip_addr_adv_notif)."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from kilonova.host.calls import outside
from kilonova.host.netns import in_netns

ETH_P_ARP = 0x0806
REQUEST, REPLY = 1, 2
BROADCAST = b"\xff" * 6


def announce(netns: str, holders: Iterable[tuple[str, str, Iterable[str]]]) -> None:
    """holders: (device, its MAC address, addresses) in a namespace. Raises OSError.

    As request and as reply, since some neighbours heed only the one or the other.
    """
    frames = [
        (device, _frame(operation, mac, address))
        for device, mac, addresses in holders
        for address in addresses
        for operation in (REQUEST, REPLY)
    ]
    with outside("arp announce"):
        in_netns(netns, _send, frames)


def _frame(operation: int, mac: str, address: str) -> bytes:
    own, ip = bytes.fromhex(mac.replace(":", "")), socket.inet_aton(address)
    target = own if operation == REPLY else bytes(6)
    return BROADCAST + own + struct.pack("!HHHBBH", ETH_P_ARP, 1, 0x0800, 6, 4, operation) + own + ip + target + ip


def _send(frames: Iterable[tuple[str, bytes]]) -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:  # one for all: to close it takes the kernel a while
        for device, frame in frames:
            sock.sendto(frame, (device, ETH_P_ARP))
