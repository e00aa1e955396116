"""What a guest may try against its host, its neighbours' bridge and the services beside it, with its own addresses."""

import ipaddress
import os
import random
import socket
import struct
import time
import types
from collections.abc import Iterator
from pathlib import Path

import frames
import netlab
import pytest
from frames import ethernet, icmp6, ip4, ip6, udp
from msgspec.structs import replace
from netlab import EGRESS, PING, Lab, link_local

from kilonova.host.calls import run
from kilonova.host.net.link import list_links
from kilonova.host.netns import in_netns
from kilonova.model.specs import FixedIP, HostNetwork, PortSpec, RuleSpec, SubnetSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
HOSTS = "198.18.9.1"
PING6 = RuleSpec(direction="ingress", ethertype="IPv6", protocol="icmp")
GROUPS = RuleSpec(direction="ingress", ethertype="IPv4", protocol="udp", port_range_min=9, port_range_max=9)
MLD_QUERY, IGMP_QUERY = 130, 0x11


class Site:
    """An attacker and two neighbours, whose groups let pings in, and the host's namespace with an address of its own."""

    def __init__(self, lab: Lab, **changes: object) -> None:
        self.lab = lab
        net = netlab.network(**changes)
        six = SubnetSpec(id="v6", cidr="fd00::/64", ip_version=6, gateway_ip=None, enable_dhcp=False)
        self.net = replace(net, subnets=(*net.subnets, six))
        self.ports: list[PortSpec] = []
        for number in (11, 12, 13):
            port = netlab.port(self.net, f"10.0.0.{number}", rules=(*EGRESS, PING, PING6, GROUPS))
            fixed = (*port.fixed_ips, FixedIP(subnet_id="v6", ip_address=f"fd00::{number}"))
            self.ports.append(replace(port, fixed_ips=fixed))
        self.guests = [lab.guest(port, f"{port.fixed_ips[0].ip_address}/24") for port in self.ports]
        for guest, number in zip(self.guests, (11, 12, 13), strict=True):
            run(["ip", "-n", guest, "addr", "add", f"fd00::{number}/64", "dev", "eth0", "nodad"])
        self.attacker, self.victim, self.other = self.guests
        self.mac = self.ports[0].mac_address
        run(["ip", "-n", lab.netns, "link", "set", "lo", "up"])
        run(["ip", "-n", lab.netns, "addr", "add", f"{HOSTS}/32", "dev", "lo"])
        self.apply()

    def apply(self, **changes: object) -> HostNetwork:
        """`changes`: of the attacker's port."""
        ports = (replace(self.ports[0], **changes), *self.ports[1:])
        want = HostNetwork(networks=(self.net,), ports=ports)
        self.lab.apply(want)
        return want

    def send(self, *sent: bytes) -> None:
        with netlab.packet_socket(self.attacker) as out:
            for frame in sent:
                out.send(frame)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(
        tmp_path,
        server=lambda device_id: types.SimpleNamespace(id=device_id, project_id="p"),
        ec2_tree=lambda server: {"meta-data": {"instance-id": server.id}},
    )
    yield lab
    lab.close()


@pytest.mark.parametrize("security", [True, False])
def test_the_host_is_not_reached_by_the_bridge(lab: Lab, security: bool) -> None:
    """It would answer for any of its addresses on any of its devices; its own bridges' hardware address is known, too."""
    site = Site(lab)
    site.apply(**({} if security else {"port_security_enabled": False, "rules": ()}))
    run(["ip", "-n", lab.netns, "route", "add", "10.0.0.0/24", "dev", site.net.bridge])  # a way back, were it so
    run(["ip", "-n", site.attacker, "route", "add", f"{HOSTS}/32", "dev", "eth0"])
    with netlab.listener(lab.netns, 8022):
        assert not netlab.pings(site.attacker, HOSTS)
        bridge = list_links(lab.netns)[site.net.bridge].mac
        run(["ip", "-n", site.attacker, "neigh", "replace", HOSTS, "lladdr", bridge, "dev", "eth0"])
        assert not netlab.pings(site.attacker, HOSTS)
        assert not netlab.connects(site.attacker, HOSTS, 8022)
        with in_netns(lab.netns, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as listening:
            listening.bind(("0.0.0.0", 9000))
            listening.settimeout(0.3)
            site.send(ethernet(site.mac, bridge, 0x0800, ip4("10.0.0.11", HOSTS, 17, udp(9000, 9000, b"unanswered"))))
            with pytest.raises(TimeoutError):
                listening.recv(99)
        in_netns(lab.netns, Path("/proc/sys/net/ipv4/ip_forward").write_text, "1")
        packet = ip4("10.0.0.11", "10.0.0.12", 17, udp(9000, 9000, b"by-way-of-the-host"))
        with netlab.packet_socket(site.victim) as incoming:
            site.send(ethernet(site.mac, bridge, 0x0800, packet))
            assert not netlab.receives(incoming, b"by-way-of-the-host")
        assert netlab.pings(site.attacker, "10.0.0.12")


@pytest.mark.parametrize("delay", [0, 0xFFFF])
def test_a_false_querier_of_multicast_groups_silences_nobody(lab: Lab, delay: int) -> None:
    """The bridge withholds from a listener what it has not asked for: it must not believe that nobody has."""
    site = Site(lab)
    lla = link_local(site.mac)
    assert netlab.pings(site.victim, "fd00::13")
    alert = bytes([58, 0, 5, 2, 0, 0, 1, 0])
    for more in (b"", b"\x02\x7d\0\0"):  # as of the protocol's first version, and of its second
        body = struct.pack("!HH", delay, 0) + bytes(16) + more
        query = ip6(lla, frames.ALL_NODES, 0, alert + icmp6(lla, frames.ALL_NODES, MLD_QUERY, body))
        site.send(ethernet(site.mac, frames.ALL_NODES_MAC, 0x86DD, query[:7] + b"\1" + query[8:]))
        body = struct.pack("!BBH", IGMP_QUERY, min(delay, 255), 0) + bytes(4) + more
        body = body[:2] + struct.pack("!H", netlab.checksum(body)) + body[4:]
        site.send(ethernet(site.mac, "01:00:5e:00:00:01", 0x0800, ip4("10.0.0.11", "224.0.0.1", 2, body)))
    time.sleep(0.2)
    for guest in (site.victim, site.other):
        run(["ip", "-n", guest, "neigh", "flush", "dev", "eth0"])
    assert netlab.pings(site.victim, "fd00::13")


def test_a_bridge_learns_only_so_many_addresses(lab: Lab) -> None:
    """With port security it learns none but the port's own."""
    site = Site(lab)

    def flood(count: int) -> None:
        with netlab.packet_socket(site.attacker) as out:
            for _ in range(count):
                source = "02:" + ":".join(f"{random.randrange(256):02x}" for _ in range(5))
                out.send(ethernet(source, "02:00:00:00:00:01", 0x0800, bytes(46)))

    def learnt() -> int:
        return len(run(["bridge", "-n", lab.netns, "fdb", "show", "br", site.net.bridge, "dynamic"]).splitlines())

    flood(500)
    assert learnt() < 10
    site.apply(port_security_enabled=False, rules=())
    flood(10_000)
    if os.uname().release.split(".")[:2] >= ["6", "7"]:
        assert 1000 < learnt() <= 8192
    assert netlab.pings(site.victim, "10.0.0.13")


def test_addresses_that_nobody_may_have(lab: Lab) -> None:
    site = Site(lab)
    target = site.ports[1].mac_address
    for source in ("0.0.0.0", "255.255.255.255", "224.0.0.5", "127.0.0.1", "169.254.169.254", "10.0.0.255"):
        with netlab.packet_socket(site.victim) as incoming:
            site.send(ethernet(site.mac, target, 0x0800, ip4(source, "10.0.0.12", 17, udp(9, 9, b"from-nobody"))))
            assert not netlab.receives(incoming, b"from-nobody", 0.1), source
    for source in ("::", "::1", "ff02::1", "fe80::a9fe:a9fe", "::ffff:10.0.0.12", "fe80::1"):
        with netlab.packet_socket(site.victim) as incoming:
            site.send(ethernet(site.mac, target, 0x86DD, ip6(source, "fd00::12", 17, udp(9, 9, b"from-nobody"))))
            assert not netlab.receives(incoming, b"from-nobody", 0.1), source
    for source in ("01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", target):
        with netlab.packet_socket(site.victim) as incoming:
            site.send(ethernet(source, target, 0x0800, ip4("10.0.0.11", "10.0.0.12", 17, udp(9, 9, b"from-nobody"))))
            assert not netlab.receives(incoming, b"from-nobody", 0.1), source
    assert netlab.pings(site.attacker, "10.0.0.12")


@pytest.mark.parametrize("kind", [8, 9])
def test_dhcpv6_in_the_name_of_others(lab: Lab, kind: int) -> None:
    """RELEASE and DECLINE with the victim's identity, and a request with it, take nothing from the victim."""
    site = Site(lab)
    six = replace(site.net.subnets[1], enable_dhcp=True, dhcp_ip="fd00::2", ipv6_address_mode="dhcpv6-stateful")
    site.net = replace(site.net, subnets=(site.net.subnets[0], six))
    site.apply()
    mine, theirs = (b"\0\3\0\1" + netlab.raw(port.mac_address) for port in site.ports[:2])

    def served(guest: str, duid: bytes) -> str:
        return str(ipaddress.ip_address(netlab.dhcp6(guest, duid)["ip"]))

    def option(code: int, value: bytes) -> bytes:
        return struct.pack("!HH", code, len(value)) + value

    assert served(site.attacker, theirs) == "fd00::11"  # by its hardware address, and before the victim has asked
    assert served(site.victim, theirs) == "fd00::12"
    server = netlab.dhcp6(site.victim, theirs)[2]
    address = option(5, frames.packed("fd00::12") + struct.pack("!II", 0, 0))
    for client in (theirs, mine):
        association = option(3, struct.pack("!III", 1, 0, 0) + address)
        message = bytes([kind]) + b"xid" + option(1, client) + option(2, server) + option(8, b"\0\0") + association

        def say(message: bytes = message) -> None:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
                sock.bind(("::", 546))
                sock.settimeout(2)
                sock.sendto(message, ("ff02::1:2", 547, 0, socket.if_nametoindex("eth0")))
                sock.recv(999)  # it was heard

        in_netns(site.attacker, say)
        assert served(site.victim, theirs) == "fd00::12"
    assert netlab.dhcp6(site.attacker, theirs, timeout=1).get("ip") != frames.packed("fd00::12")
    assert served(site.victim, theirs) == "fd00::12"


def test_headers_do_not_say_who_asks_for_metadata(lab: Lab) -> None:
    site = Site(lab)
    run(["ip", "-n", site.attacker, "route", "add", "169.254.169.254", "via", "10.0.0.2"])
    victim = site.ports[1]
    lines = [
        "GET /latest/meta-data/instance-id HTTP/1.0",
        *(f"{name}: 10.0.0.12" for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "Host")),
        *(f"{name}: {victim.device_id}" for name in ("X-Instance-ID", "X-Tenant-ID", "X-Instance-ID-Signature")),
        f"X-Neutron-Network-ID: {victim.network_id}",
    ]

    def ask() -> bytes:
        with socket.create_connection(("169.254.169.254", 80), 3) as sock:
            sock.sendall("\r\n".join([*lines, "", ""]).encode())
            return b"".join(iter(lambda: sock.recv(65536), b""))

    answer = in_netns(site.attacker, ask)
    assert answer.endswith(site.ports[0].device_id.encode()), answer
    assert victim.device_id.encode() not in answer


def test_one_guest_cannot_hold_the_metadata_service_from_the_others(lab: Lab) -> None:
    site = Site(lab)
    for guest in site.guests:
        run(["ip", "-n", guest, "route", "add", "169.254.169.254", "via", "10.0.0.2"])

    def hold() -> list[socket.socket]:
        return [socket.create_connection(("169.254.169.254", 80), 3) for _ in range(100)]

    held = in_netns(site.attacker, hold)
    try:
        for _ in range(3):
            answer = netlab.http_get(site.victim, "/latest/meta-data/instance-id")
            assert answer == (200, site.ports[1].device_id.encode())
    finally:
        for each in held:
            each.close()


def test_the_services_beside_a_network_are_dhcp_dns_and_metadata(lab: Lab) -> None:
    """Nothing else listens in the namespace that guests see directly, and it passes nothing on."""
    site = Site(lab)
    space = lab.net.dhcp_namespace(site.net.id)
    lines = run(["ss", "-Hlntu"], netns=space).splitlines()
    ports = {line.split()[4].rpartition(":")[2] for line in lines}
    assert ports <= {"53", "67", "80", "547"}, lines
    with netlab.packet_socket(site.victim) as incoming:
        through = ip4("10.0.0.11", "10.0.0.12", 17, udp(9, 9, b"through-the-server"))
        site.send(ethernet(site.mac, str(site.net.dhcp_mac), 0x0800, through))
        assert not netlab.receives(incoming, b"through-the-server")
    for port in (22, 5300, 9697, 16509, 5900, 8774):
        assert not netlab.connects(site.attacker, "10.0.0.2", port), port
