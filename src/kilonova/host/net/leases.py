"""dnsmasq's leases, read from its file, and given back in a guest's name: what dnsmasq's own dhcp_release does."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ALL_SERVERS = "ff02::1:2"
RELEASE = 8
CLIENT_ID, SERVER_ID, IA_NA, IA_TA, IA_ADDRESS = 1, 2, 3, 4, 5
DUID_LLT, DUID_LL = 1, 3  # the kinds that end in the MAC address


@dataclass(frozen=True)
class Lease:
    """`client`: the MAC of an IPv4 lease, the DUID of an IPv6 one, which also has its IA and its server's DUID."""

    ip: str
    client: bytes
    association: bytes = b""  # the IA's option code and id
    server: bytes = b""


def read(path: Path) -> Iterator[Lease]:
    """IPv4 lines are `expiry mac ip name client-id`, then `duid <server>`, then `expiry iaid ip name duid`."""
    server = b""
    with suppress(FileNotFoundError):
        for line in path.read_text().splitlines():
            fields = line.split()
            with suppress(ValueError, IndexError):
                if fields[0] == "duid":
                    server = _octets(fields[1])
                elif ":" not in fields[2]:
                    yield Lease(
                        fields[2], _octets(fields[1].rsplit("-", 1)[-1])
                    )  # `06-…`: other hardware than Ethernet
                else:
                    code = IA_TA if fields[1].startswith("T") else IA_NA
                    association = struct.pack("!HI", code, int(fields[1].lstrip("T")))
                    yield Lease(fields[2], _octets(fields[4]), association, server)


def is_held(lease: Lease, mac: str, ip: str) -> bool:
    """Is it the lease of the port with this MAC and address? Of a DUID without a MAC, only the address can tell."""
    if ipaddress.ip_address(lease.ip) != ipaddress.ip_address(ip):
        return False
    octets = bytes.fromhex(mac.replace(":", ""))
    if not lease.server:
        return lease.client == octets
    kind = int.from_bytes(lease.client[:2], "big")
    return kind not in (DUID_LLT, DUID_LL) or lease.client.endswith(octets)


def release(lease: Lease, servers: Mapping[str, str], device: str) -> None:
    """Call it inside the namespace. `servers`: CIDR → dnsmasq's IPv4 address there."""
    if lease.server:
        _release6(lease, device)
        return
    for cidr, server in servers.items():
        if ipaddress.ip_address(lease.ip) in ipaddress.ip_network(cidr, strict=False):
            _release4(lease, server, device)


def _release4(lease: Lease, server: str, device: str) -> None:
    packet = struct.pack("!BBBBIHH", 1, 1, 6, 0, int.from_bytes(os.urandom(4), "big"), 0, 0)
    packet += socket.inet_aton(lease.ip) + b"\0" * 12 + lease.client.ljust(16, b"\0") + b"\0" * 192
    packet += b"\x63\x82\x53\x63" + b"\x35\x01\x07" + b"\x36\x04" + socket.inet_aton(server) + b"\xff"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        sock.sendto(packet.ljust(300, b"\0"), (server, 67))


def _release6(lease: Lease, device: str) -> None:
    code, iaid = struct.unpack("!HI", lease.association)
    address = _option(IA_ADDRESS, ipaddress.IPv6Address(lease.ip).packed + struct.pack("!II", 0, 0))
    times = b"" if code == IA_TA else struct.pack("!II", 0, 0)
    packet = struct.pack("!B3s", RELEASE, os.urandom(3)) + _option(CLIENT_ID, lease.client)
    packet += _option(SERVER_ID, lease.server) + _option(code, struct.pack("!I", iaid) + times + address)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        sock.sendto(packet, (ALL_SERVERS, 547, 0, socket.if_nametoindex(device)))


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("!HH", code, len(value)) + value


def _octets(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
