"""A packet too big for the way: its sender is told so, through security groups, routers and address translation."""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import netlab
import pytest
from msgspec.structs import replace
from netlab import EGRESS, tcp
from routerlab import FLOATING, GATEWAY, RouterLab, desired, floating, leg, network6, router

from kilonova.host.calls import run
from kilonova.host.netns import in_netns
from kilonova.model.errors import HostError
from kilonova.model.specs import FixedIP, RuleSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
NARROW, WIDE = 1300, 1450
OPEN = (*EGRESS, RuleSpec(direction="ingress", ethertype="IPv4"), RuleSpec(direction="ingress", ethertype="IPv6"))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RouterLab]:
    lab = RouterLab(tmp_path)
    yield lab
    lab.close()


def learnt(guest: str, address: str) -> int:
    """The MTU of the path that the guest's kernel has been told of."""
    words = run(["ip", "-n", guest, "route", "get", address]).split()
    return int(words[words.index("mtu") + 1]) if "mtu" in words else 0


def too_big(guest: str, address: str, size: int) -> str:
    """What ping says of a packet of this size (with its headers) that may not be fragmented."""
    head = 48 if ":" in address else 28
    try:
        return run(["ping", "-c2", "-i0.2", "-W1", "-Mdo", "-s", str(size - head), address], netns=guest)
    except HostError as error:
        return str(error)


def sends(client: str, server: str, address: str, port: int) -> int:
    """How many of 200,000 bytes of a client's arrive over TCP."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with in_netns(server, socket.socket, family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("", port))
        listening.listen()
        with in_netns(client, socket.create_connection, (address, port), 3) as asking:
            served, _ = listening.accept()
            asking.setblocking(False)
            served.settimeout(3)
            sent = got = 0
            with served, suppress(TimeoutError):
                while got < 200_000:
                    with suppress(BlockingIOError):
                        sent += asking.send(b"x" * (200_000 - sent)) if sent < 200_000 else 0
                    got += len(served.recv(100_000))
            return got


def test_between_networks_of_different_mtu(lab: RouterLab) -> None:
    """The guests' own groups let no ICMP in: the error belongs to what they sent."""
    wide = replace(netlab.network(enable_dhcp=False), mtu=WIDE)
    narrow = replace(netlab.network("10.1.0.0/24", enable_dhcp=False), mtu=NARROW)
    ports = netlab.port(wide, "10.0.0.11"), netlab.port(narrow, "10.1.0.11", rules=(*EGRESS, tcp(8022), netlab.PING))
    guests = [lab.routed(port, f"{port.fixed_ips[0].ip_address[:4]}.0.1") for port in ports]
    for guest, mtu in zip(guests, (WIDE, NARROW), strict=True):
        run(["ip", "-n", guest, "link", "set", "eth0", "mtu", str(mtu)])
    lab.apply(desired((wide, narrow), ports, router(leg(wide, "10.0.0.1"), leg(narrow, "10.1.0.1"))))
    assert "2 received" in too_big(guests[0], "10.1.0.11", NARROW)
    assert "2 received" not in too_big(guests[0], "10.1.0.11", WIDE)
    assert learnt(guests[0], "10.1.0.11") == NARROW
    run(["ip", "-n", guests[0], "route", "flush", "cache"])
    for guest in guests:  # segments larger than the way, as of a guest whose peer said nothing of its own size
        run(["ip", "-n", guest, "route", "change", "default", "via", f"10.{guests.index(guest)}.0.1", "advmss", "1400"])
    assert sends(guests[0], guests[1], "10.1.0.11", 8022) == 200_000
    assert learnt(guests[0], "10.1.0.11") == NARROW


def test_through_a_floating_ip_and_snat(lab: RouterLab) -> None:
    """An error in answer to what was translated reaches its sender, and names what that had sent to."""
    net = replace(netlab.network(enable_dhcp=False), mtu=NARROW)
    ports = netlab.port(net, "10.0.0.11", rules=(*EGRESS, tcp(8022), netlab.PING)), netlab.port(net, "10.0.0.12")
    guests = [lab.routed(port, "10.0.0.1") for port in ports]
    one = router(leg(net, "10.0.0.1"), leg(lab.external, GATEWAY, external=True))
    lab.apply(desired((net, lab.external), ports, replace(one, floating_ips=(floating(FLOATING[0], ports[0]),))))
    assert "2 received" not in too_big(lab.lan, FLOATING[0], 1500)
    assert learnt(lab.lan, FLOATING[0]) == NARROW
    run(["ip", "-n", lab.lan, "route", "flush", "cache"])
    assert sends(lab.lan, guests[0], FLOATING[0], 8022) == 200_000
    far = "198.18.77.1"  # behind a narrower link of the LAN's
    beyond = f"knb-{lab.cloud_id[:8]}"
    run(["ip", "netns", "add", beyond])
    try:
        run(
            [
                "ip",
                "-n",
                lab.lan,
                "link",
                "add",
                "far",
                "mtu",
                "1200",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                beyond,
            ]
        )
        run(["ip", "-n", beyond, "link", "set", "eth0", "up", "mtu", "1200"])
        run(["ip", "-n", lab.lan, "link", "set", "far", "up"])
        run(["ip", "-n", lab.lan, "addr", "add", "198.18.77.2/24", "dev", "far"])
        run(["ip", "-n", beyond, "addr", "add", f"{far}/24", "dev", "eth0"])
        run(["ip", "-n", beyond, "route", "add", "default", "via", "198.18.77.2"])
        in_netns(lab.lan, Path("/proc/sys/net/ipv4/ip_forward").write_text, "1")
        for guest in guests:  # by its floating IP, and by SNAT
            assert "2 received" in too_big(guest, far, 1200)
            assert "2 received" not in too_big(guest, far, 1280)
            assert learnt(guest, far) == 1200
    finally:
        run(["ip", "netns", "delete", beyond])


def test_ipv6_is_told_by_its_router(lab: RouterLab) -> None:
    nets = replace(network6("fd00:1::", None), mtu=WIDE), replace(network6("fd00:2::", None), mtu=NARROW)
    ports, guests = [], []
    for net, rules in zip(nets, (EGRESS, OPEN), strict=True):
        address = net.subnets[0].gateway_ip + "1"  # type: ignore[operator]
        fixed = (FixedIP(subnet_id=net.subnets[0].id, ip_address=address),)
        ports.append(replace(netlab.port(net, "0.0.0.0", rules=rules), fixed_ips=fixed))
        guests.append(lab.guest(ports[-1]))
        run(["ip", "-n", guests[-1], "addr", "replace", f"{address}/64", "dev", "eth0", "nodad"])
        run(["ip", "-n", guests[-1], "link", "set", "eth0", "mtu", str(net.mtu)])
        run(["ip", "-n", guests[-1], "route", "add", "default", "via", str(net.subnets[0].gateway_ip)])
    lab.apply(desired(nets, tuple(ports), router(leg(nets[0], "fd00:1::1"), leg(nets[1], "fd00:2::1"))))
    assert netlab.pings(guests[0], "fd00:2::11") or netlab.pings(guests[0], "fd00:2::11")
    assert "2 received" in too_big(guests[0], "fd00:2::11", NARROW)
    assert "2 received" not in too_big(guests[0], "fd00:2::11", WIDE)
    assert learnt(guests[0], "fd00:2::11") == NARROW
    assert sends(guests[0], guests[1], "fd00:2::11", 8022) == 200_000
