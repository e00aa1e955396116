"""Routers and IPv6: advertisements by mode, addresses and routes that a guest's own kernel makes of them, forwarding."""

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import netlab
import pytest
from msgspec.structs import replace
from netlab import EGRESS
from routerlab import RouterLab, desired, leg, network6, router

from kilonova.host.calls import run
from kilonova.host.net import radvd
from kilonova.host.netns import in_netns
from kilonova.model.specs import FixedIP, NetworkSpec, PortSpec, RuleSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
OPEN = (*EGRESS, RuleSpec(direction="ingress", ethertype="IPv6"))
MANAGED, OTHER = 0x80, 0x40


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RouterLab]:
    lab = RouterLab(tmp_path)
    yield lab
    lab.close()
    assert netlab.pids_with(str(tmp_path)) == []


def port6(net: NetworkSpec, address: str | None = None) -> PortSpec:
    """With the address that the kernel makes of its MAC address, or with another."""
    mac = netlab.mac()
    octets = netlab.raw(mac)
    host = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    prefix = socket.inet_pton(socket.AF_INET6, net.subnets[0].cidr.partition("/")[0])
    fixed = FixedIP(
        subnet_id=net.subnets[0].id, ip_address=address or socket.inet_ntop(socket.AF_INET6, prefix[:8] + host)
    )
    return PortSpec(
        id=str(uuid.uuid4()),
        network_id=net.id,
        mac_address=mac,
        fixed_ips=(fixed,),
        rules=OPEN,
        vif_type="tap",
        device_id=str(uuid.uuid4()),
    )


def within(seconds: float, check: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def knows(guest: str, *words: str) -> bool:
    text = run(["ip", "-n", guest, "-6", "addr"]) + run(["ip", "-n", guest, "-6", "route"])
    return all(word in text for word in words)


def pings6(guest: str, ip: str) -> bool:
    return within(3, lambda: netlab.pings(guest, ip))  # neighbours may still be asking who has their address


def test_a_guest_configures_itself_and_talks_to_another_network(lab: RouterLab) -> None:
    nets = network6("fd00:1::", radvd.SLAAC), network6("fd00:2::", radvd.SLAAC)
    ports = port6(nets[0]), port6(nets[1])
    guests = [lab.guest(port) for port in ports]
    legs = leg(nets[0], "fd00:1::1"), leg(nets[1], "fd00:2::1")
    one = router(*legs)
    assert set(lab.apply(desired(nets, ports, one)).values()) == {"ACTIVE"}
    for guest, port in zip(guests, ports, strict=True):
        own = port.fixed_ips[0].ip_address
        assert within(20, lambda guest=guest, own=own: knows(guest, own, "default via fe80::", "mtu 1400"))  # type: ignore[misc]
    assert pings6(guests[0], ports[1].fixed_ips[0].ip_address)
    shut = replace(ports[1], rules=EGRESS)
    lab.apply(desired(nets, (ports[0], shut), one))
    assert not netlab.pings(guests[0], shut.fixed_ips[0].ip_address)
    assert pings6(guests[1], ports[0].fixed_ips[0].ip_address)
    lab.apply(desired(nets, ports, replace(one, ports=legs[1:])))
    assert solicited(guests[1])  # the one that has taken over
    lab.apply(desired(nets, ports))
    assert netlab.pids_with(f"{one.id}/radvd.pid") == []
    # It took leave: what it told the guest of the way out is void.
    assert within(3, lambda: not knows(guests[1], "default via"))


def solicited(guest: str) -> bytes:
    """The router advertisement, from its type on, that answers a guest's solicitation."""

    def ask() -> bytes:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sock:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            sock.settimeout(1)
            for _ in range(100):
                try:
                    sock.sendto(b"\x85" + bytes(7), ("ff02::2", 0, 0, socket.if_nametoindex("eth0")))
                    while True:
                        data = sock.recv(2000)
                        if data[0] == 134:
                            return data
                except OSError:  # no answer, or no link-local address yet
                    time.sleep(0.1)
        return b""

    return in_netns(guest, ask)


@pytest.mark.parametrize(
    ("mode", "flags", "autonomous"),
    [(radvd.SLAAC, 0, True), (radvd.STATELESS, OTHER, True), (radvd.STATEFUL, MANAGED, False)],
)
def test_what_is_advertised_follows_the_subnets_mode(lab: RouterLab, mode: str, flags: int, autonomous: bool) -> None:
    net = network6("fd00:1::", mode)
    port = port6(net)
    guest = lab.guest(port)
    lab.apply(desired((net,), (port,), router(leg(net, "fd00:1::1"))))
    said = solicited(guest)
    assert said[5] & (MANAGED | OTHER) == flags
    prefix = said.find(b"\x03\x04\x40")  # option 3, 32 octets, /64
    assert bool(said[prefix + 3] & 0x40) == autonomous
    assert said[prefix + 16 : prefix + 32] == socket.inet_pton(socket.AF_INET6, "fd00:1::")
    server = socket.inet_pton(socket.AF_INET6, "fd00:53::1")
    assert (server in said) == (mode != radvd.STATEFUL)  # there DHCPv6 says it


def test_a_subnet_without_a_mode_is_routed_and_not_advertised(lab: RouterLab) -> None:
    inside, outside = network6("fd00:1::", None), network6("fd00:2::", None)
    external = replace(
        lab.external, subnets=(*lab.external.subnets, replace(outside.subnets[0], gateway_ip="fd00:2::1"))
    )
    run(["ip", "-n", lab.lan, "addr", "add", "fd00:2::1/64", "dev", "lan", "nodad"])
    run(["ip", "-n", lab.lan, "route", "add", "fd00:1::/64", "via", "fd00:2::10"])
    port = port6(inside, "fd00:1::11")
    guest = lab.guest(port)
    run(["ip", "-n", guest, "addr", "add", "fd00:1::11/64", "dev", "eth0", "nodad"])
    run(["ip", "-n", guest, "route", "add", "default", "via", "fd00:1::1"])
    out = leg(external, "172.24.4.10", "fd00:2::10", external=True)
    one = router(leg(inside, "fd00:1::1"), out)
    want = desired((inside, external), (port,), one)
    lab.apply(want)
    assert pings6(guest, "fd00:2::1")
    assert netlab.pids_with(f"{one.id}/radvd.pid") == []
    assert lab.writes(want) == []


def test_without_an_external_gateway_the_way_out_is_what_the_lan_advertises(lab: RouterLab) -> None:
    inside, outside = network6("fd00:1::", None), network6("fd00:2::", None)
    external = replace(lab.external, subnets=(*lab.external.subnets, replace(outside.subnets[0], gateway_ip=None)))
    run(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"], netns=lab.lan)
    run(["ip", "-n", lab.lan, "addr", "add", "fd00:2::1/64", "dev", "lan", "nodad"])
    run(["ip", "-n", lab.lan, "addr", "add", "fd00:9::1/128", "dev", "lo"])
    run(["ip", "-n", lab.lan, "route", "add", "fd00:1::/64", "via", "fd00:2::10"])
    theirs = radvd.Radvd(lab.lan, lab.state)
    port = port6(inside, "fd00:1::11")
    guest = lab.guest(port)
    run(["ip", "-n", guest, "addr", "add", "fd00:1::11/64", "dev", "eth0", "nodad"])
    run(["ip", "-n", guest, "route", "add", "default", "via", "fd00:1::1"])
    out = leg(external, "172.24.4.10", "fd00:2::10", external=True)
    one = router(leg(inside, "fd00:1::1"), out)
    want = desired((inside, external), (port,), one)
    lab.apply(want)
    assert not netlab.pings(guest, "fd00:9::1")
    theirs.ensure("interface lan { AdvSendAdvert on; prefix fd00:2::/64 { AdvAutonomous on; }; };\n")
    try:
        assert within(20, lambda: knows(one.namespace, "default via fe80::"))
        assert pings6(guest, "fd00:9::1")
        assert lab.writes(want) == []
        assert knows(one.namespace, "default via fe80::")
    finally:
        theirs.stop()
