"""What a guest may try against its router, and by way of it."""

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import frames
import netlab
import pytest
from frames import ethernet, udp
from netlab import EGRESS, PING
from planelab import PlaneLab
from routerlab import GATEWAY, RouterLab, desired, leg, router

from kilonova.host.calls import run
from kilonova.host.dataplane.neighbours import DIRECTORIES, ROOM
from kilonova.host.netns import in_netns
from kilonova.model.specs import NetworkSpec, PortSpec, RouterSpec, RuleSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
UDP = RuleSpec(direction="ingress", ethertype="IPv4", protocol="udp")
LOOSE_SOURCE_ROUTE = 0x83


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RouterLab]:
    lab = RouterLab(tmp_path)
    yield lab
    lab.close()


class Site:
    """A guest in each of two networks behind a router with a gateway."""

    def __init__(self, lab: RouterLab, **changes: object) -> None:
        self.lab = lab
        self.nets = netlab.network(enable_dhcp=False), netlab.network("10.1.0.0/24", enable_dhcp=False)
        self.ports: tuple[PortSpec, ...] = (
            netlab.port(self.nets[0], "10.0.0.11", **changes),
            netlab.port(self.nets[1], "10.1.0.11", rules=(*EGRESS, PING, UDP)),
        )
        self.guests = [lab.routed(port, f"{port.fixed_ips[0].ip_address[:4]}.0.1") for port in self.ports]
        legs = leg(self.nets[0], "10.0.0.1"), leg(self.nets[1], "10.1.0.1")
        self.inside = legs[0]
        self.router = router(*legs, leg(lab.external, GATEWAY, external=True))
        lab.apply(desired((*self.nets, lab.external), self.ports, self.router))
        assert netlab.pings(self.guests[0], "10.1.0.11")

    def arrives(self, packet: bytes, mark: bytes) -> bool:
        """From the first guest, by the router, at the second's."""
        with netlab.packet_socket(self.guests[0]) as out, netlab.packet_socket(self.guests[1]) as incoming:
            out.send(ethernet(self.ports[0].mac_address, self.inside.mac_address, 0x0800, packet))
            return netlab.receives(incoming, mark)


def packet(source: str, destination: str, payload: bytes, options: bytes = b"") -> bytes:
    """IPv4 with options, to UDP port 9."""
    body = udp(9, 9, payload)
    words = 5 + len(options) // 4
    ends = frames.packed(source) + frames.packed(destination)
    head = struct.pack("!BBHHHBBH", 0x40 | words, 0, words * 4 + len(body), 1, 0, 64, 17, 0) + ends + options
    return head[:10] + struct.pack("!H", netlab.checksum(head)) + head[12:] + body


def test_a_sender_chooses_no_way_through_a_router(lab: RouterLab) -> None:
    site = Site(lab)
    assert site.arrives(packet("10.0.0.11", "10.1.0.11", b"as-it-should-be"), b"as-it-should-be")
    way = bytes([1, LOOSE_SOURCE_ROUTE, 7, 4]) + frames.packed("10.1.0.11")
    assert not site.arrives(packet("10.0.0.11", "10.0.0.1", b"by-my-own-way", way), b"by-my-own-way")
    in_netns(site.router.namespace, Path("/proc/sys/net/ipv4/conf/all/accept_source_route").write_text, "1")
    in_netns(
        site.router.namespace, Path(f"/proc/sys/net/ipv4/conf/{site.inside.device}/accept_source_route").write_text, "1"
    )
    assert site.arrives(packet("10.0.0.11", "10.0.0.1", b"by-my-own-way", way), b"by-my-own-way")  # so one to be feared
    lab.apply(desired((*site.nets, lab.external), site.ports, site.router))
    assert not site.arrives(packet("10.0.0.11", "10.0.0.1", b"by-my-own-way", way), b"by-my-own-way")


@pytest.mark.parametrize("security", [True, False])
def test_a_router_offers_nothing_but_metadata(lab: RouterLab, security: bool) -> None:
    site = Site(lab, **({} if security else {"port_security_enabled": False, "rules": ()}))
    lines = run(["ss", "-Hlntu"], netns=site.router.namespace).splitlines()
    assert {line.split()[4].rpartition(":")[2] for line in lines} <= {"9697"}, lines
    attacker = site.guests[0]
    for address in ("10.0.0.1", "10.1.0.1", GATEWAY):
        for port in (22, 80, 9697):
            assert not netlab.connects(attacker, address, port, 0.2), (address, port)
    for source in ("127.0.0.1", "10.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0"):
        mark = f"from-{source}".encode()
        assert not site.arrives(packet(source, "10.1.0.11", mark), mark), source
    if security:
        assert not site.arrives(packet("10.1.0.12", "10.1.0.11", b"from-a-neighbour"), b"from-a-neighbour")


def test_redirects_and_advertisements_change_no_routers_mind(lab: RouterLab) -> None:
    """Of a port without port security, which may say anything."""
    site = Site(lab, port_security_enabled=False, rules=())
    before = run(["ip", "route", "show", "table", "all"], netns=site.router.namespace)
    mac = site.ports[0].mac_address
    quoted = packet("10.0.0.1", "10.1.0.11", b"quoted--")
    body = b"\x05\x01\0\0" + frames.packed("10.0.0.11") + quoted + b"\0" * (len(quoted) % 2)
    body = body[:2] + struct.pack("!H", netlab.checksum(body)) + body[4:]
    advert = frames.icmp6("fe80::66", frames.ALL_NODES, frames.RA, frames.router_advertisement("fd66::", mac))
    with netlab.packet_socket(site.guests[0]) as out:
        for source in ("10.1.0.11", "172.24.4.1", "10.0.0.11"):
            out.send(ethernet(mac, site.inside.mac_address, 0x0800, frames.ip4(source, "10.0.0.1", 1, body)))
        out.send(ethernet(mac, frames.ALL_NODES_MAC, 0x86DD, frames.ip6("fe80::66", frames.ALL_NODES, 58, advert)))
    assert netlab.pings(site.guests[0], "10.1.0.11")
    assert run(["ip", "route", "show", "table", "all"], netns=site.router.namespace) == before
    assert "fd66" not in run(["ip", "-6", "addr"], netns=site.router.namespace)


def test_who_asks_for_addresses_that_nobody_has_keeps_no_other_router_from_its_own(tmp_path: Path) -> None:
    """The kernel has one table of neighbours for all namespaces."""
    plane = PlaneLab(tmp_path / "plane")
    before = [(path / name).read_text() for path in DIRECTORIES for name in ROOM]
    plane.network()
    lab = RouterLab(tmp_path / "lab")
    try:
        nets = [netlab.network(f"10.{number}.0.0/24", enable_dhcp=False) for number in range(3)]
        large: NetworkSpec = netlab.network("10.9.0.0/16", enable_dhcp=False, gateway_ip=None)
        ports = [netlab.port(net, f"10.{number}.0.11", rules=(*EGRESS, PING)) for number, net in enumerate(nets)]
        attacker, asking, _ = (lab.routed(port, f"10.{number}.0.1") for number, port in enumerate(ports))
        theirs = router(leg(nets[0], "10.0.0.1"), leg(large, "10.9.0.1"))
        ours: RouterSpec = router(leg(nets[1], "10.1.0.1"), leg(nets[2], "10.2.0.1"))
        lab.apply(desired((*nets, large), tuple(ports), theirs, ours))
        assert netlab.pings(asking, "10.2.0.11")
        stop = threading.Event()
        flood = threading.Thread(target=in_netns, args=(attacker, asks_on, stop))
        flood.start()
        try:
            time.sleep(2)
            assert len(run(["ip", "-n", theirs.namespace, "neigh"]).splitlines()) > 1100  # more than the default table
            for _ in range(3):
                run(["ip", "-n", ours.namespace, "neigh", "flush", "all"])
                assert netlab.pings(asking, "10.2.0.11")
        finally:
            stop.set()
            flood.join()
    finally:
        lab.close()
        plane.close()
    assert [(path / name).read_text() for path in DIRECTORIES for name in ROOM] == before


def asks_on(stop: threading.Event) -> None:
    """In the attacker's namespace: a packet to each address of the large network, again and again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while not stop.is_set():
            for number in range(0x10, 0xFFF0):
                sock.sendto(b"?", (f"10.9.{number >> 8}.{number & 255}", 9))
                if stop.is_set():
                    return
