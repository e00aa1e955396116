"""Names in a network: those of its ports, and with an uplink what the host's name servers know."""

import ipaddress
import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import netlab
import pytest
from netlab import EGRESS, Lab, in_netns
from test_net_dhcp6 import STATEFUL, duid, port6, subnet6, with_subnet
from test_net_metadata import server

from kilonova.host.calls import run
from kilonova.host.net.resolver import host_name_servers
from kilonova.model.specs import HostNetwork, NetworkSpec, RuleSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
A, AAAA, PTR, TXT = 1, 28, 12, 16
REFUSED, NXDOMAIN, TRUNCATED = 5, 3, 0x0200


def encoded(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def question(name: str, kind: int, ident: int) -> bytes:
    return struct.pack("!HHHHHH", ident, 0x0100, 1, 0, 0, 0) + encoded(name) + struct.pack("!HH", kind, 1)


def records(message: bytes) -> tuple[int, list[bytes]]:
    """The answer's code and the data of its records; names in them are not compressed by who answers here."""
    _, flags, questions, answers, _, _ = struct.unpack_from("!HHHHHH", message)

    def past_name(at: int) -> int:
        while message[at]:
            if message[at] >= 0xC0:
                return at + 2
            at += message[at] + 1
        return at + 1

    at = 12
    for _ in range(questions):
        at = past_name(at) + 4
    found = []
    for _ in range(answers):
        at = past_name(at)
        size = struct.unpack_from("!H", message, at + 8)[0]
        found.append(message[at + 10 : at + 10 + size])
        at += 10 + size
    return flags & 15, found


def ask(guest: str, server: str, name: str, kind: int = A, *, tcp: bool = False) -> tuple[int, list[bytes]]:
    query = question(name, kind, random.randrange(1 << 16))

    def talk() -> bytes:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect((server, 53))
            sock.sendall(struct.pack("!H", len(query)) + query if tcp else query)
            if not tcp:
                return sock.recv(65535)
            answer = b""
            while len(answer) < 2 or len(answer) < 2 + int.from_bytes(answer[:2], "big"):
                answer += sock.recv(65535)
            return answer[2:]

    return records(in_netns(guest, talk))


def ips(answer: tuple[int, list[bytes]]) -> set[str]:
    return {str(ipaddress.ip_address(data)) for data in answer[1]}


class World:
    """A name server of the host's, on loopback: knows `outside.example`, by datagram and, what is long, by TCP."""

    def __init__(self) -> None:
        self.address = f"127.88.{random.randrange(256)}.{random.randrange(1, 255)}"
        self.asked: list[bytes] = []
        self.sockets = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
        for sock in self.sockets:
            sock.bind((self.address, 53))
        self.sockets[1].listen()
        for serve in (self.udp, self.tcp):
            threading.Thread(target=serve, daemon=True).start()

    def answer(self, query: bytes, long: bool) -> bytes:
        self.asked.append(query[12:])
        end = query.index(b"\0", 12) + 5
        kind = int.from_bytes(query[end - 4 : end - 2], "big")
        asked = query[12:end]
        if encoded("outside.example") not in asked:
            return query[:2] + struct.pack("!HHHHH", 0x8183, 1, 0, 0, 0) + asked
        if kind == A:
            data = [socket.inet_aton("198.51.100.7")]
        else:
            data = [bytes([200]) + b"x" * 200 for _ in range(20)] if long else []
        flags = 0x8180 if data else 0x8180 | TRUNCATED
        body = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(each)) + each for each in data)
        return query[:2] + struct.pack("!HHHHH", flags, 1, len(data), 0, 0) + asked + body

    def udp(self) -> None:
        while True:
            try:
                query, client = self.sockets[0].recvfrom(65535)
                self.sockets[0].sendto(self.answer(query, long=False), client)
            except OSError:
                return

    def tcp(self) -> None:
        while True:
            try:
                peer, _ = self.sockets[1].accept()
            except OSError:
                return
            with peer:
                query = peer.recv(65535)
                answer = self.answer(query[2:], long=True)
                peer.sendall(struct.pack("!H", len(answer)) + answer)

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def dual_stack(**changes: object) -> NetworkSpec:
    return with_subnet(netlab.network(**changes), subnet6(STATEFUL))


def test_ports_are_known_by_their_names(lab: Lab) -> None:
    """Whether they have asked for a lease or not; those without a name by Neutron's for their address."""
    net = dual_stack()
    web = port6(net, "10.0.0.11", "fd00::11", hostname="Web")
    nameless = port6(net, "10.0.0.12", "fd00::12", rules=EGRESS)
    desired = HostNetwork(networks=(net,), ports=(web, nameless))
    guest = lab.guest(nameless, "10.0.0.12/24")
    lab.apply(desired)
    for name in ("web.novalocal", "web", "WEB.NovaLocal"):
        assert ips(ask(guest, "10.0.0.2", name)) == {"10.0.0.11"}
        assert ips(ask(guest, "10.0.0.2", name, AAAA)) == {"fd00::11"}
    assert ips(ask(guest, "10.0.0.2", "host-10-0-0-12.novalocal", tcp=True)) == {"10.0.0.12"}
    assert ips(ask(guest, "10.0.0.2", "host-fd00--12.novalocal", AAAA)) == {"fd00::12"}
    assert ask(guest, "10.0.0.2", "11.0.0.10.in-addr.arpa", PTR)[1] == [encoded("web.novalocal")]
    reply = netlab.dhcp6(guest, duid(nameless.mac_address))
    assert reply[23] == ipaddress.ip_address("fd00::2").packed
    run(["ip", "-n", guest, "addr", "add", "fd00::12/64", "dev", "eth0"])
    assert ips(ask(guest, "fd00::2", "web.novalocal")) == {"10.0.0.11"}
    assert ask(guest, "10.0.0.2", "nobody.novalocal")[0] == NXDOMAIN
    assert ask(guest, "10.0.0.2", "outside.example")[0] == REFUSED  # no uplink: own names only

    renamed = msgspec.structs.replace(web, hostname="db")
    lab.apply(HostNetwork(networks=(net,), ports=(renamed, nameless)))
    assert ips(ask(guest, "10.0.0.2", "db.novalocal")) == {"10.0.0.11"}
    assert ask(guest, "10.0.0.2", "web.novalocal")[0] == NXDOMAIN
    assert lab.writes(HostNetwork(networks=(net,), ports=(renamed, nameless))) == []


def test_names_of_several_labels_and_domains(lab: Lab) -> None:
    """A port's own domain goes before its network's; a bare name of several labels may be somebody's in the world."""
    net = dual_stack(dns_domain="example.org")
    web = port6(net, "10.0.0.11", "fd00::11", hostname="www.example.com")
    own = port6(net, "10.0.0.12", "fd00::12", hostname="db", dns_domain="a.test")
    guest = lab.guest(web, "10.0.0.11/24")
    lab.apply(HostNetwork(networks=(net,), ports=(web, own)))
    for name in ("db.a.test", "db"):
        assert ips(ask(guest, "10.0.0.2", name)) == {"10.0.0.12"}
    assert ips(ask(guest, "10.0.0.2", "www.example.com.example.org")) == {"10.0.0.11"}
    assert ips(ask(guest, "10.0.0.2", "www.example.com")) == set()
    options = netlab.dhcp(guest, web.mac_address)
    assert (options[12], options[15]) == (b"www", b"example.org")


def test_who_is_named_as_name_server(lab: Lab) -> None:
    """The subnet's own; dnsmasq where it has none; nobody for 0.0.0.0 and ::, as in Neutron."""
    for servers, servers6, option6, option23 in (
        ((), (), "10.0.0.2", "fd00::2"),
        (("9.9.9.9",), ("2620:fe::9",), "9.9.9.9", "2620:fe::9"),
        (("0.0.0.0",), ("::",), None, None),
    ):
        net = with_subnet(netlab.network(dns_nameservers=servers), subnet6(STATEFUL, dns_nameservers=servers6))
        one = port6(net, "10.0.0.11", "fd00::11")
        guest = lab.guest(one)
        lab.apply(HostNetwork(networks=(net,), ports=(one,)))
        found = netlab.dhcp(guest, one.mac_address).get(6)
        assert found == (socket.inet_aton(option6) if option6 else None)
        found = netlab.dhcp6(guest, duid(one.mac_address)).get(23)
        assert found == (ipaddress.ip_address(option23).packed if option23 else b"")  # there, and empty


def test_with_an_uplink_guests_ask_the_hosts_name_servers(tmp_path: Path, world: World) -> None:
    silent = "127.88.0.0"  # nobody listens there
    servers = [silent, world.address]
    lab = Lab(tmp_path, name_servers=lambda: tuple(servers))
    try:
        net = netlab.network()
        one = netlab.port(net, "10.0.0.11", hostname="web")
        guest = lab.guest(one, "10.0.0.11/24")
        desired = HostNetwork(networks=(net,), ports=(one,))
        lab.apply(desired)
        assert ips(ask(guest, "10.0.0.2", "outside.example")) == {"198.51.100.7"}
        assert ips(ask(guest, "10.0.0.2", "web.novalocal")) == {"10.0.0.11"}
        assert ask(guest, "10.0.0.2", "inside.example")[0] == NXDOMAIN
        code, found = ask(guest, "10.0.0.2", "outside.example", TXT, tcp=True)  # too long for a datagram
        assert (code, len(found)) == (0, 20)
        seen = len(world.asked)
        for name, kind in (("nobody.novalocal", A), ("bare", A), ("9.9.0.10.in-addr.arpa", PTR)):
            assert ask(guest, "10.0.0.2", name, kind) == (NXDOMAIN, [])
        assert len(world.asked) == seen  # of what is inside, nothing gets out
        assert lab.writes(desired) == []
        lab.restart()
        lab.apply(desired)
        assert ips(ask(guest, "10.0.0.2", "outside.example")) == {"198.51.100.7"}
        assert not netlab.connects(guest, "10.0.0.2", 5300)  # the way out is dnsmasq's alone
        servers[:] = []
        assert ask(guest, "10.0.0.2", "web.novalocal")[0] == 0
    finally:
        lab.close()


def test_a_domain_that_the_world_knows_too(tmp_path: Path, world: World) -> None:
    """What is not known here is asked there; a name known here has no other address there."""
    lab = Lab(tmp_path, name_servers=lambda: (world.address,))
    try:
        net = netlab.network(dns_domain="sub.example")
        one = netlab.port(net, "10.0.0.11", hostname="web")
        guest = lab.guest(one, "10.0.0.11/24")
        lab.apply(HostNetwork(networks=(net,), ports=(one,)))
        assert ips(ask(guest, "10.0.0.2", "web.sub.example")) == {"10.0.0.11"}
        assert ask(guest, "10.0.0.2", "web.sub.example", AAAA) == (0, [])
        assert not any(asked.endswith(struct.pack("!HH", A, 1)) for asked in world.asked)
        assert ask(guest, "10.0.0.2", "other.sub.example")[0] == NXDOMAIN
        assert encoded("other.sub.example") + struct.pack("!HH", A, 1) in world.asked
    finally:
        lab.close()


def test_the_hosts_name_servers(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("# x\nnameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\nnameserver no\nnameserver\n")
    assert host_name_servers(file) == ("127.0.0.53", "::1", "fe80::1%eth0")
    assert host_name_servers(tmp_path / "missing") == ()


def test_metadata_over_ipv6(tmp_path: Path) -> None:
    """fe80::a9fe:a9fe, as Neutron has it; the server is known by the link-local address of its port's MAC."""
    net = dual_stack()
    one = port6(net, "10.0.0.11", "fd00::11", rules=())
    other = port6(net, "10.0.0.12", "fd00::12", rules=(RuleSpec(direction="egress", ethertype="IPv6"),))
    lab = Lab(
        tmp_path,
        server={one.device_id: server(one, "red")}.get,
        openstack_files=lambda server: {"openstack/latest/meta_data.json": server.id.encode()},
    )
    try:
        guest, stranger = lab.guest(one), lab.guest(other)
        desired = HostNetwork(networks=(net,), ports=(one, other))
        lab.apply(desired)
        path = "/openstack/latest/meta_data.json"
        assert netlab.http_get(guest, path, "fe80::a9fe:a9fe%eth0") == (200, one.device_id.encode())
        assert netlab.http_get(stranger, path, "fe80::a9fe:a9fe%eth0")[0] == 404
        run(["ip", "-n", lab.netns, "link", "delete", f"tap{str(net.dhcp_port_id)[:11]}"])
        lab.apply(desired)
        assert netlab.http_get(guest, path, "fe80::a9fe:a9fe%eth0")[0] == 200
    finally:
        lab.close()
