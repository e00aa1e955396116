"""Addresses and routes of both families, by netlink. Numbers are those of linux/rtnetlink.h and linux/if_addr.h."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from dataclasses import dataclass

from kilonova.host.net import netlink
from kilonova.host.net.metadata import ADDRESS6
from kilonova.host.net.netlink import IFADDR, Netlink, attribute, attributes
from kilonova.model.errors import HostError

NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_PERMANENT = 0x80
SCOPE_UNIVERSE, SCOPE_LINK, SCOPE_ANY = 0, 253, 255
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_TABLE = 1, 4, 5, 6, 15
MAIN = 254
KERNEL, STATIC, ADVERTISED = 2, 4, 9  # rtm_protocol: who made a route
UNICAST = 1
ONLINK = 4
RTMSG = struct.Struct("=BBBBBBBBI")


@dataclass(frozen=True, order=True)
class Route:
    """A route of the main table. destination: a CIDR; gateway: None for what is on the link; onlink: the gateway lies
    in none of the link's own subnets."""

    destination: str
    gateway: str | None
    index: int
    metric: int
    onlink: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """There is one route of each: a new one takes the place of the old."""
        return self.destination, self.metric


def route(destination: str, gateway: str | None, index: int, *, onlink: bool = False) -> Route:
    """As a dump shows one that was made without a metric."""
    network = ipaddress.ip_network(destination, strict=False)
    return Route(
        destination=str(network),
        gateway=str(ipaddress.ip_address(gateway)) if gateway else None,
        index=index,
        metric=1024 if network.version == 6 else 0,
        onlink=onlink,
    )


def list_addresses(connection: Netlink) -> dict[int, set[str]]:
    """Device index → its permanent addresses of global scope, as `10.0.0.2/24`: not link-local ones, but for that of the
    metadata service, nor advertised ones."""
    found: dict[int, set[str]] = {}
    for kind, body in connection.request("address list", netlink.GETADDR, netlink.DUMP, IFADDR.pack(0, 0, 0, 0, 0)):
        _, length, flags, scope, index = IFADDR.unpack_from(body)
        values = dict(attributes(body[IFADDR.size :]))
        packed = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
        if IFA_FLAGS in values:
            flags = struct.unpack("=I", values[IFA_FLAGS])[0]
        if kind != netlink.NEWADDR or not packed or not flags & IFA_F_PERMANENT:
            continue
        address = str(ipaddress.ip_address(packed))
        if scope == SCOPE_UNIVERSE or address == ADDRESS6:
            found.setdefault(index, set()).add(f"{address}/{length}")
    return found


def list_routes(connection: Netlink) -> tuple[set[Route], set[Route]]:
    """The unicast routes of the main table: (made by hand or by us, made by the kernel for its addresses)."""
    made: set[Route] = set()
    connected: set[Route] = set()
    request = RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)
    for kind, body in connection.request("route list", GETROUTE, netlink.DUMP, request):
        family, length, _, _, table, protocol, _, of, flags = RTMSG.unpack_from(body)
        values = dict(attributes(body[RTMSG.size :]))
        if kind != NEWROUTE or _number(values, RTA_TABLE, table) != MAIN or of != UNICAST or protocol == ADVERTISED:
            continue
        size = 16 if family == socket.AF_INET6 else 4
        destination = ipaddress.ip_network((values.get(RTA_DST, bytes(size)), length))
        if destination.is_link_local or destination.is_multicast:
            continue
        gateway = values.get(RTA_GATEWAY)
        found = Route(
            destination=str(destination),
            gateway=str(ipaddress.ip_address(gateway)) if gateway else None,
            index=_number(values, RTA_OIF, 0),
            metric=_number(values, RTA_PRIORITY, 0),
            onlink=bool(flags & ONLINK),
        )
        (connected if protocol == KERNEL else made).add(found)
    return made, connected


def list_destinations(connection: Netlink) -> set[tuple[ipaddress.IPv4Network, int]]:
    """Where the IPv4 routes of any table lead, but for the default ones: (network, device index or 0)."""
    found = set()
    request = RTMSG.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    for kind, body in connection.request("route list", GETROUTE, netlink.DUMP, request):
        length = RTMSG.unpack_from(body)[1]
        values = dict(attributes(body[RTMSG.size :]))
        if kind == NEWROUTE and length:
            found.add((ipaddress.IPv4Network((values[RTA_DST], length)), _number(values, RTA_OIF, 0)))
    return found


def set_route(connection: Netlink, wanted: Route) -> None:
    """Takes the place of another one to the same destination. Raises HostError when its gateway cannot be reached."""
    flags = netlink.ACK | netlink.CREATE | netlink.REPLACE
    scope = SCOPE_UNIVERSE if wanted.gateway or ":" in wanted.destination else SCOPE_LINK
    connection.request(f"route add {wanted.destination}", NEWROUTE, flags, _route(wanted, STATIC, scope))


def delete_route(connection: Netlink, old: Route) -> None:
    try:
        connection.request("route delete", DELROUTE, netlink.ACK, _route(old, 0, SCOPE_ANY))
    except HostError as error:
        if netlink.refusal(error) != errno.ESRCH:
            raise


def _route(route: Route, protocol: int, scope: int) -> bytes:
    destination = ipaddress.ip_network(route.destination)
    family = socket.AF_INET6 if destination.version == 6 else socket.AF_INET
    flags = ONLINK if route.onlink else 0
    payload = RTMSG.pack(family, destination.prefixlen, 0, 0, MAIN, protocol, scope, UNICAST, flags)
    if destination.prefixlen:
        payload += attribute(RTA_DST, destination.network_address.packed)
    if route.gateway:
        payload += attribute(RTA_GATEWAY, ipaddress.ip_address(route.gateway).packed)
    if route.metric:
        payload += attribute(RTA_PRIORITY, route.metric)
    return payload + attribute(RTA_OIF, route.index)


def _number(values: dict[int, bytes], kind: int, default: int) -> int:
    return int(struct.unpack("=I", values[kind])[0]) if kind in values else default
