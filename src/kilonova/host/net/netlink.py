"""The little of rtnetlink and nfnetlink that ports and the wire to the host need, over one socket in a network namespace.

Written here because a socket must be opened by a thread inside the namespace and then be used from any other thread, and
because it is small: pyroute2 opens its sockets lazily, one a thread, or forks to enter a namespace, takes 11 MiB of memory
and 0.15 s to load. Numbers are those of linux/rtnetlink.h.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kilonova.host.calls import outside
from kilonova.host.netns import in_netns, netns_path
from kilonova.model.errors import HostError

NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
REQUEST, ACK, DUMP, REPLACE, EXCL, CREATE = 1, 4, 0x300, 0x100, 0x200, 0x400
ERROR, DONE = 2, 3
DUMP_INTERRUPTED = 0x10
NEWLINK, DELLINK, GETLINK, SETLINK = 16, 17, 18, 19
NEWADDR, DELADDR, GETADDR = 20, 21, 22
GROUP_LINK = 1
IFA_ADDRESS, IFA_LOCAL, IFA_F_NODAD = 1, 2, 2

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_QDISC, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 6, 10, 18
IFLA_IFALIAS, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK = 20, 27, 28, 29
INFO_KIND, INFO_DATA, VETH_INFO_PEER = 1, 2, 1
BR_FORWARD_DELAY, BR_STP_STATE, BR_FDB_MAX_LEARNED = 1, 5, 47
MOMENT = 0.02  # seconds
MOST_LEARNED = 8192  # hardware addresses a bridge learns: a port without port security may invent them by the million
SKIP_STATS = 1 << 3
IFF_UP = 1
NESTED = 0x8000
NFT_GETGEN, NFT_NEWGEN = 0x0A10, 0x0A0F  # NFNL_SUBSYS_NFTABLES << 8 | message
NFTA_GEN_ID = 1

HEADER = struct.Struct("=LHHLL")
IFINFO = struct.Struct("=BxHiII")
IFADDR = struct.Struct("=BBBBi")


def attribute(kind: int, value: bytes | str | int | Sequence[bytes]) -> bytes:
    """One netlink attribute: an int is 32 bits, a str ends in NUL, a sequence is a nest."""
    if isinstance(value, int):
        payload = struct.pack("=I", value)
    elif isinstance(value, str):
        payload = value.encode() + b"\0"
    elif isinstance(value, bytes):
        payload = value
    else:
        payload, kind = b"".join(value), kind | NESTED
    size = 4 + len(payload)
    return struct.pack("=HH", size, kind) + payload + b"\0" * (-size % 4)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, offset)
        if size < 4:
            return
        yield kind & 0x3FFF, data[offset + 4 : offset + size]
        offset += size + (-size % 4)


@dataclass(frozen=True)
class Link:
    """One network device. `alias` is what we write on all that we make; `master` the index of its bridge, or 0."""

    index: int
    name: str
    kind: str
    up: bool
    mtu: int
    mac: str
    master: int
    alias: str
    group: int
    qdisc: str = ""
    data: bytes = b""  # of a VXLAN: what it was born with, as attributes


def parse_link(data: bytes) -> Link:
    _, _, index, flags, _ = IFINFO.unpack_from(data)
    found = dict(attributes(data[IFINFO.size :]))
    info = dict(attributes(found.get(IFLA_LINKINFO, b"")))

    def text(value: bytes) -> str:
        return value.rstrip(b"\0").decode(errors="replace")

    def number(which: int) -> int:
        return int(struct.unpack("=I", found[which])[0]) if which in found else 0

    kind = text(info.get(INFO_KIND, b""))
    return Link(
        index=index,
        name=text(found.get(IFLA_IFNAME, b"")),
        kind=kind,
        up=bool(flags & IFF_UP),
        mtu=number(IFLA_MTU),
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        master=number(IFLA_MASTER),
        alias=text(found.get(IFLA_IFALIAS, b"")),
        group=number(IFLA_GROUP),
        qdisc=text(found.get(IFLA_QDISC, b"")),
        data=info.get(INFO_DATA, b"") if kind == "vxlan" else b"",
    )


class Netlink:
    """A netlink socket in a namespace (None: the current one). Safe to use from several threads.

    Raises HostError, with the kernel's errno in `__cause__`, when the kernel refuses a request.
    """

    def __init__(self, netns: str | None, family: int = NETLINK_ROUTE, groups: int = 0) -> None:
        self._lock = threading.Lock()
        self._sequence = 0
        self._parsed: dict[bytes, Link] = {}  # of the last list: most devices are what they were
        try:
            self._socket = in_netns(netns, _open, family, groups)
        except OSError as error:
            raise HostError(
                f"cannot open netlink in the network namespace {netns or 'of the host'}: {error}"
            ) from error

    def close(self) -> None:
        self._socket.close()

    def request(self, what: str, kind: int, flags: int, payload: bytes) -> list[tuple[int, bytes]]:
        """Send one request and return the (type, payload) of each answer. `what` names it in traces and errors."""
        with self._lock, outside(f"netlink {what}"):
            self._sequence += 1
            header = HEADER.pack(HEADER.size + len(payload), kind, REQUEST | flags, self._sequence, 0)
            self._socket.send(header + payload)
            answers = self._answers(what, self._sequence)
        # A dump during which something changed may have missed some: ask again.
        return answers if answers is not None else self.request(what, kind, flags, payload)

    def _answers(self, what: str, sequence: int) -> list[tuple[int, bytes]] | None:
        answers: list[tuple[int, bytes]] = []
        whole = True
        while True:
            data = self._socket.recv(1 << 20)
            offset = 0
            while offset + HEADER.size <= len(data):
                size, kind, flags, answered, _ = HEADER.unpack_from(data, offset)
                body = data[offset + HEADER.size : offset + size]
                offset += size + (-size % 4)
                if answered != sequence:
                    continue
                whole = whole and not (kind != ERROR and flags & DUMP_INTERRUPTED)
                if kind == DONE:
                    return answers if whole else None
                if kind == ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code:
                        raise HostError(f"netlink {what}: {os.strerror(code)}") from OSError(code, os.strerror(code))
                    return answers
                answers.append((kind, body))
                if kind == NFT_NEWGEN:
                    return answers

    def links(self) -> dict[str, Link]:
        """All devices of the namespace, by name."""
        payload = IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_EXT_MASK, SKIP_STATS)
        bodies = [body for kind, body in self.request("link list", GETLINK, DUMP, payload) if kind == NEWLINK]
        self._parsed = {body: self._parsed.get(body) or parse_link(body) for body in bodies}
        return {link.name: link for link in self._parsed.values()}

    def link(self, name: str) -> Link | None:
        payload = IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name) + attribute(IFLA_EXT_MASK, SKIP_STATS)
        try:
            answers = self.request("link get", GETLINK, ACK, payload)
        except HostError as error:
            if refusal(error) == 19:  # ENODEV
                return None
            raise
        return next((parse_link(body) for kind, body in answers if kind == NEWLINK), None)

    def add_link(self, what: str, *attrs: bytes) -> None:
        payload = IFINFO.pack(0, 0, 0, 0, 0) + b"".join(attrs)
        self.request(f"{what} add", NEWLINK, ACK | CREATE | EXCL, payload)

    def add_bridge(self, name: str, *attrs: bytes) -> None:
        """One without STP, whose ports forward at once. A kernel before 6.7 passes over the limit, which it does not know."""
        limit = attribute(BR_FDB_MAX_LEARNED, MOST_LEARNED)
        quiet = (attribute(BR_FORWARD_DELAY, 0), attribute(BR_STP_STATE, 0), limit)
        info = (attribute(INFO_KIND, "bridge"), attribute(INFO_DATA, quiet))
        self.add_link("bridge", attribute(IFLA_IFNAME, name), *attrs, attribute(IFLA_LINKINFO, info))

    def add_veth(self, name: str, peer: str, peer_netns: str | None, *attrs: bytes, peer_attrs: bytes = b"") -> None:
        """One message makes both ends, each in its place; peer_netns None: here."""
        other = IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, peer) + peer_attrs
        fd = None if peer_netns is None else os.open(netns_path(peer_netns), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if fd is not None:
                other += attribute(IFLA_NET_NS_FD, fd)
            data = (attribute(VETH_INFO_PEER | NESTED, other),)
            info = (attribute(INFO_KIND, "veth"), attribute(INFO_DATA, data))
            self.add_link("veth", attribute(IFLA_IFNAME, name), *attrs, attribute(IFLA_LINKINFO, info))
        finally:
            if fd is not None:
                os.close(fd)

    def set_link(self, link: Link, what: str, *attrs: bytes, up: bool | None = None) -> None:
        flags, mask = (0, 0) if up is None else (IFF_UP if up else 0, IFF_UP)
        payload = IFINFO.pack(0, 0, link.index, flags, mask) + b"".join(attrs)
        self.request(what, NEWLINK, ACK, payload)

    def set_mtu_up(self, link: Link, mtu: int) -> None:
        self.set_link(link, "link set up", attribute(IFLA_MTU, mtu), up=True)

    def delete_link(self, link: Link) -> None:
        try:
            self.request("link delete", DELLINK, ACK, IFINFO.pack(0, 0, link.index, 0, 0))
        except HostError as error:
            if refusal(error) != 19:
                raise

    def addresses(self, index: int) -> set[str]:
        """The addresses of a device, as `10.0.0.2/24` and `fd00::2/64`."""
        return self.all_addresses().get(index, set())

    def all_addresses(self) -> dict[int, set[str]]:
        """Device index → its addresses, of every scope and however long they last."""
        found: dict[int, set[str]] = {}
        for kind, body in self.request("address list", GETADDR, DUMP, IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
            family, length, _, _, owner = IFADDR.unpack_from(body)
            held = dict(attributes(body[IFADDR.size :]))
            local = held.get(IFA_LOCAL, held.get(IFA_ADDRESS))
            if kind == NEWADDR and local and family in (socket.AF_INET, socket.AF_INET6):
                found.setdefault(owner, set()).add(f"{socket.inet_ntop(family, local)}/{length}")
        return found

    def change_address(self, index: int, address: str, *, add: bool) -> None:
        """IPv6 addresses are usable at once: nobody else may take those that are given out."""
        ip, _, length = address.partition("/")
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        packed = socket.inet_pton(family, ip)
        payload = IFADDR.pack(family, int(length), IFA_F_NODAD if add and family == socket.AF_INET6 else 0, 0, index)
        payload += attribute(IFA_ADDRESS, packed) + attribute(IFA_LOCAL, packed)
        kind, flags = (NEWADDR, ACK | CREATE | REPLACE) if add else (DELADDR, ACK)
        self.request(f"address {'add' if add else 'delete'}", kind, flags, payload)

    def nft_generation(self) -> int:
        """The number that each commit to the namespace's nft rules raises, whoever makes it."""
        for kind, body in self.request("nft generation", NFT_GETGEN, 0, struct.pack("=BBH", 0, 0, 0)):
            if kind == NFT_NEWGEN:
                return int(struct.unpack(">I", dict(attributes(body[4:]))[NFTA_GEN_ID])[0])
        raise HostError("netlink nft generation: no answer from nf_tables")


def _names(data: bytes) -> set[str]:
    """Of the devices that these messages are about."""
    names, offset = set(), 0
    while offset + HEADER.size <= len(data):
        size, kind, _, _, _ = HEADER.unpack_from(data, offset)
        if kind in (NEWLINK, DELLINK):
            names.add(parse_link(data[offset + HEADER.size : offset + size]).name)
        offset += size + (-size % 4)
    return names


class LinkWatch:
    """Sleeps until a device of a namespace comes, goes or changes."""

    def __init__(self, netns: str | None) -> None:
        self._socket = in_netns(netns, _open, NETLINK_ROUTE, GROUP_LINK)
        self._socket.setblocking(False)  # MSG_DONTWAIT is not enough: Python waits for its own timeout before it asks
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)

    def names(self) -> set[str]:
        """Blocks for the next change; the names of the devices that it and those just behind it are about, `*` for any.
        Empty: closed. A tap's birth is several changes."""
        poll = select.poll()
        for fd in (self._stop, self._socket.fileno()):
            poll.register(fd, select.POLLIN)
        if any(fd == self._stop for fd, _ in poll.poll()):
            return set()
        time.sleep(MOMENT)
        names = set[str]()
        while True:
            try:
                names |= _names(self._socket.recv(1 << 20))
            except BlockingIOError:
                return names or {"*"}
            except OSError:  # ENOBUFS: changes were lost, so something changed
                return {"*"}

    def stop(self) -> None:
        """Wakes the thread that waits in `names`, for good."""
        os.eventfd_write(self._stop, 1)

    def close(self) -> None:
        """After the last `names` has returned."""
        self._socket.close()
        os.close(self._stop)


def refusal(error: HostError) -> int:
    """The kernel's errno behind a HostError of this module; 0 when there is none."""
    cause = error.__cause__
    return cause.errno or 0 if isinstance(cause, OSError) else 0


def _open(family: int, groups: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
    sock.bind((0, groups))
    sock.settimeout(10)
    return sock
