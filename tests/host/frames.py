"""Ethernet frames as an attacker would make them by hand."""

import ipaddress
import socket
import struct

from netlab import checksum, raw

ALL_NODES, ALL_NODES_MAC = "ff02::1", "33:33:00:00:00:01"
ANY6 = "::"
RA, NS, NA, REDIRECT6, MLD2 = 134, 135, 136, 137, 143


def packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed


def ethernet(src_mac: str, dst_mac: str, kind: int, payload: bytes, tags: tuple[tuple[int, int], ...] = ()) -> bytes:
    """`tags`: (TPID, VLAN id) outermost first."""
    vlan = b"".join(struct.pack("!HH", tpid, vid) for tpid, vid in tags)
    return raw(dst_mac) + raw(src_mac) + vlan + struct.pack("!H", kind) + payload


def udp(sport: int, dport: int, payload: bytes) -> bytes:
    return struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def ip4(src: str, dst: str, protocol: int, payload: bytes, fragment: int = 0, ident: int = 7) -> bytes:
    """`fragment`: the header's flags and offset, such as 0x2000 for the first of several."""
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), ident, fragment, 64, protocol, 0,
        socket.inet_aton(src), socket.inet_aton(dst),
    )  # fmt: skip
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ip6(src: str, dst: str, next_header: int, payload: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), next_header, 255) + packed(src) + packed(dst) + payload


def icmp6(src: str, dst: str, kind: int, body: bytes) -> bytes:
    """With its checksum; `body` is what follows it."""
    message = struct.pack("!BBH", kind, 0, 0) + body
    message += b"\0" * (len(message) % 2)
    pseudo = packed(src) + packed(dst) + struct.pack("!II", len(message), 58)
    return message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]


def advertisement(target: str, mac: str) -> bytes:
    """The body of a neighbour advertisement: override set, the target's link-layer address as option."""
    return b"\x20\0\0\0" + packed(target) + b"\x02\x01" + raw(mac)


def solicitation(target: str) -> bytes:
    return b"\0\0\0\0" + packed(target)


def router_advertisement(prefix: str, mac: str, lifetime: int = 1800, flags: int = 0) -> bytes:
    """Hop limit 64, one on-link autonomous /64 prefix; `flags`: 0x80 managed, 0x40 other."""
    head = struct.pack("!BBHII", 64, flags, lifetime, 0, 0)
    option = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 86400, 14400, 0) + packed(prefix)
    return head + b"\x01\x01" + raw(mac) + option


def fragments6(src: str, dst: str, chain: bytes, first: int, ident: int = 9) -> list[bytes]:
    """Two fragments of `chain`, which starts with a destination-options header (60); the first has `first` bytes."""
    parts = [(0, 1, chain[:first]), (first // 8, 0, chain[first:])]
    return [
        ip6(src, dst, 44, struct.pack("!BBHI", 60, 0, offset << 3 | more, ident) + part) for offset, more, part in parts
    ]


def options_then(next_header: int, payload: bytes) -> bytes:
    """A destination-options header of 8 bytes padding, then the payload."""
    return bytes([next_header, 0, 1, 4, 0, 0, 0, 0]) + payload
