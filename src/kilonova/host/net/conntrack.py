"""Connections that the kernel remembers: forgotten when the rules that let them through are."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from kilonova.host.net import netlink
from kilonova.host.net.netlink import Netlink, attribute, attributes
from kilonova.model.errors import HostError

CT_NEW, CT_GET, CT_DELETE = 0x100, 0x101, 0x102  # NFNL_SUBSYS_CTNETLINK << 8 | message
TUPLE_ORIG, TUPLE_REPLY, ZONE = 1, 2, 18
TUPLE_IP, TUPLE_PROTO = 1, 2
IP_SRC, IP_DST, IP6_SRC, IP6_DST = 1, 2, 3, 4
PROTO_NUM, PROTO_DST_PORT = 1, 3
ICMP_TYPE, ICMP_CODE, ICMP6_TYPE, ICMP6_CODE = 5, 6, 8, 9
NFGENMSG = struct.Struct("!BBH")
FAMILIES = (socket.AF_INET, socket.AF_INET6)


@dataclass(frozen=True)
class Entry:
    """A connection: who began it and whom they asked (`port`: of a protocol that has ports, else 0; `icmp`: type and
    code of one that has these), and from and to whom the replies go. What is translated differs there."""

    source: str
    destination: str
    protocol: int
    port: int
    reply_source: str
    reply_destination: str
    icmp: tuple[int, int] = (0, 0)


def forget_matching(
    connection: Netlink, stale: Callable[[Entry], bool], family: int = socket.AF_INET, zone: int | None = None
) -> int:
    """Delete a namespace's entries (of one zone) that are `stale`, over a netfilter socket in it; how many there were."""
    count = 0
    request = NFGENMSG.pack(family, 0, 0)
    wanted = struct.pack("!H", zone or 0)
    if zone is not None:  # a kernel that cannot choose by it gives all
        request += attribute(ZONE, wanted)
    for kind, body in connection.request("conntrack list", CT_GET, netlink.DUMP, request):
        values = dict(attributes(body[NFGENMSG.size :]))
        here = zone is None or values.get(ZONE, b"\0\0") == wanted
        if kind != CT_NEW or not here or not stale(_entry(values)):
            continue
        payload = NFGENMSG.pack(family, 0, 0)
        payload += b"".join(attribute(kind, values[kind]) for kind in (ZONE,) if kind in values)
        payload += attribute(TUPLE_ORIG | netlink.NESTED, values[TUPLE_ORIG])
        try:
            connection.request("conntrack delete", CT_DELETE, netlink.ACK, payload)
        except HostError as error:
            if netlink.refusal(error) != errno.ENOENT:  # it ended by itself
                raise
        count += 1
    return count


def _entry(values: dict[int, bytes]) -> Entry:
    def parts(kind: int) -> tuple[str, str, dict[int, bytes]]:
        halves = dict(attributes(values[kind]))
        ips, proto = dict(attributes(halves[TUPLE_IP])), dict(attributes(halves[TUPLE_PROTO]))
        source, destination = (IP_SRC, IP_DST) if IP_SRC in ips else (IP6_SRC, IP6_DST)
        return str(ipaddress.ip_address(ips[source])), str(ipaddress.ip_address(ips[destination])), proto

    source, destination, proto = parts(TUPLE_ORIG)
    reply_source, reply_destination, _ = parts(TUPLE_REPLY)
    port = int.from_bytes(proto.get(PROTO_DST_PORT, b""), "big")
    icmp = [
        proto.get(old) or proto.get(new) or b"\0" for old, new in ((ICMP_TYPE, ICMP6_TYPE), (ICMP_CODE, ICMP6_CODE))
    ]
    return Entry(
        source, destination, proto[PROTO_NUM][0], port, reply_source, reply_destination, (icmp[0][0], icmp[1][0])
    )
