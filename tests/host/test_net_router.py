"""Routers on real packets: between networks, out by SNAT, in by floating IPs and port forwardings, and back."""

import os
import socket
import threading
import time
import types
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import netlab
import pytest
from msgspec.structs import replace
from netlab import EGRESS, PING
from routerlab import FLOATING, GATEWAY, LAN, RouterLab, desired, floating, leg, pinging, router, seen_source

from kilonova.host.calls import run
from kilonova.host.net.backend import HostNet
from kilonova.host.net.link import list_links
from kilonova.host.netns import in_netns, netns_path
from kilonova.model.specs import FixedIP, FloatingIPSpec, HostNetwork, NetworkSpec, PortForwardingSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
OPEN = (*EGRESS, PING, netlab.tcp(8022))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RouterLab]:
    lab = RouterLab(tmp_path)
    yield lab
    lab.close()
    assert netlab.pids_with(str(tmp_path)) == []


class Site:
    """One network with a router to the LAN; its guests by name."""

    def __init__(self, lab: RouterLab, *addresses: str, **changes: object) -> None:
        self.lab = lab
        self.net = netlab.network(enable_dhcp=False)
        self.inside, self.out = leg(self.net, "10.0.0.1"), leg(lab.external, GATEWAY, external=True)
        self.router = router(self.inside, self.out, **changes)
        self.ports = [netlab.port(self.net, address, rules=OPEN) for address in addresses]
        self.guests = [lab.routed(port, "10.0.0.1") for port in self.ports]

    def apply(self, **changes: object) -> dict[str, str]:
        self.router = replace(self.router, **changes)
        return self.lab.apply(self.desired())

    def desired(self) -> HostNetwork:
        return desired((self.net, self.lab.external), tuple(self.ports), self.router)


def test_between_networks_the_sources_stay_and_security_groups_hold(lab: RouterLab) -> None:
    nets = netlab.network("10.0.0.0/24"), netlab.network("10.0.1.0/24")
    one, two = netlab.port(nets[0], "10.0.0.11"), netlab.port(nets[1], "10.0.1.11", rules=OPEN)
    a, b = lab.routed(one, "10.0.0.1"), lab.routed(two, "10.0.1.1")
    legs = leg(nets[0], "10.0.0.1"), leg(nets[1], "10.0.1.1")
    gone = router(*legs)
    want = desired(nets, (one, two), gone)
    assert set(lab.apply(want).values()) == {"ACTIVE"}
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    assert in_netns(lab.netns, switch.read_text).strip() == "1"  # else this shows nothing
    assert netlab.pings(a, "10.0.0.1")
    assert netlab.pings(a, "10.0.1.11")
    assert seen_source(b, a, "10.0.1.11", 8022) == "10.0.0.11"
    assert seen_source(b, a, "10.0.1.11", 8080) is None
    assert not netlab.pings(b, "10.0.0.11")
    only = replace(two, rules=(netlab.RuleSpec(direction="ingress", ethertype="IPv4", remote_ips=("10.0.0.12",)),))
    lab.apply(desired(nets, (one, only), gone))
    assert not netlab.pings(a, "10.0.1.11")
    free = replace(one, port_security_enabled=False), replace(two, port_security_enabled=False)
    lab.apply(desired(nets, free, gone))
    assert netlab.pings(b, "10.0.0.11")
    down = desired(nets, free, replace(gone, admin_state_up=False))
    statuses = lab.apply(down)
    assert {statuses[each.id] for each in legs} == {"DOWN"}
    assert {statuses[each.id] for each in free} == {"ACTIVE"}
    assert not netlab.pings(a, "10.0.1.11")
    assert not netlab.pings(a, "10.0.0.1")
    assert not netns_path(gone.namespace).exists()
    lab.apply(want)
    assert netlab.pings(a, "10.0.1.11")
    closed = replace(gone, ports=(legs[0], replace(legs[1], admin_state_up=False)))
    assert lab.apply(desired(nets, (one, two), closed))[legs[1].id] == "DOWN"
    assert not netlab.pings(a, "10.0.1.11")
    assert netlab.pings(a, "10.0.0.1")


def test_two_subnets_of_one_network(lab: RouterLab) -> None:
    first, second = netlab.network("10.0.0.0/24"), netlab.network("10.0.1.0/24")
    net = replace(first, subnets=(first.subnets[0], second.subnets[0]))
    one = netlab.port(net, "10.0.0.11", rules=OPEN)
    two = replace(one, id=str(uuid.uuid4()), mac_address=netlab.mac(),
                  fixed_ips=(FixedIP(subnet_id=net.subnets[1].id, ip_address="10.0.1.11"),))  # fmt: skip
    a, b = lab.routed(one, "10.0.0.1"), lab.routed(two, "10.0.1.1")
    lab.apply(desired((net,), (one, two), router(leg(net, "10.0.0.1", "10.0.1.1"))))
    assert seen_source(b, a, "10.0.1.11", 8022) == "10.0.0.11"
    assert netlab.pings(b, "10.0.0.11")


def test_snat_out(lab: RouterLab) -> None:
    site = Site(lab, "10.0.0.11")
    [a] = site.guests
    assert set(site.apply().values()) == {"ACTIVE"}
    assert seen_source(lab.lan, a, LAN, 8022) == GATEWAY
    assert netlab.pings(a, LAN)
    assert seen_source(a, lab.lan, "10.0.0.11", 8022) is None  # the LAN knows no way in
    run(["ip", "-n", lab.lan, "route", "add", "10.0.0.0/24", "via", GATEWAY])
    with pinging(a, LAN):
        site.apply(enable_snat=False)
        assert seen_source(lab.lan, a, LAN, 8022) == "10.0.0.11"
        entries = run(["conntrack", "-L", "-p", "icmp"], netns=site.router.namespace)
        assert GATEWAY not in entries  # nor does the ping that runs
    site.apply(ports=(site.inside,))
    assert not netlab.pings(a, LAN)


def test_floating_ip_in_and_out(lab: RouterLab) -> None:
    site = Site(lab, "10.0.0.11", "10.0.0.12")
    a, b = site.guests
    site.apply(floating_ips=(floating(FLOATING[0], site.ports[0]),))
    assert seen_source(a, lab.lan, FLOATING[0], 8022) == LAN
    assert seen_source(a, lab.netns, FLOATING[0], 8022) == "172.24.4.2"
    assert seen_source(a, lab.lan, FLOATING[0], 8080) is None  # security groups hold here too
    assert seen_source(lab.lan, a, LAN, 8022) == FLOATING[0]
    assert seen_source(lab.lan, b, LAN, 8022) == GATEWAY
    assert netlab.pings(lab.lan, FLOATING[0])
    site.apply(enable_snat=False)
    assert seen_source(lab.lan, a, LAN, 8022) == FLOATING[0]
    site.apply(floating_ips=(), enable_snat=True)
    assert not netlab.pings(lab.lan, FLOATING[0])
    assert seen_source(lab.lan, a, LAN, 8022) == GATEWAY


def test_a_floating_ip_of_another_external_subnet(lab: RouterLab) -> None:
    site = Site(lab, "10.0.0.11")
    [a] = site.guests
    second = replace(lab.external.subnets[0], id=str(uuid.uuid4()), cidr="172.24.5.0/24", gateway_ip="172.24.5.1")
    lab.external = replace(lab.external, subnets=(*lab.external.subnets, second))
    run(["ip", "-n", lab.lan, "addr", "del", f"{LAN}/24", "dev", "lan"])  # only the other subnet is there
    run(["ip", "-n", lab.lan, "addr", "add", "172.24.5.1/24", "dev", "lan"])
    site.apply(floating_ips=(floating("172.24.5.100", site.ports[0]),))
    assert seen_source(a, lab.lan, "172.24.5.100", 8022) == "172.24.5.1"
    assert lab.writes(site.desired()) == []


def test_between_inside_networks_nothing_is_translated(lab: RouterLab) -> None:
    site = Site(lab, "10.0.0.11")
    other = netlab.network("10.0.1.0/24", enable_dhcp=False)
    theirs = netlab.port(other, "10.0.1.11", rules=OPEN)
    there = lab.routed(theirs, "10.0.1.1")
    one = replace(
        site.router,
        ports=(*site.router.ports, leg(other, "10.0.1.1")),
        floating_ips=(floating(FLOATING[0], site.ports[0]),),
    )
    lab.apply(desired((site.net, other, lab.external), (*site.ports, theirs), one))
    assert seen_source(there, site.guests[0], "10.0.1.11", 8022) == "10.0.0.11"
    assert seen_source(site.guests[0], there, "10.0.0.11", 8022) == "10.0.1.11"
    assert seen_source(site.guests[0], there, FLOATING[0], 8022) == GATEWAY


def test_tenants_with_the_same_addresses_meet_by_their_floating_ips(lab: RouterLab) -> None:
    sites = Site(lab, "10.0.0.11"), Site(lab, "10.0.0.11")
    moved = replace(sites[1].out, fixed_ips=(replace(sites[1].out.fixed_ips[0], ip_address="172.24.4.11"),))
    sites[1].router = replace(sites[1].router, ports=(sites[1].inside, moved))
    routers = [
        replace(site.router, floating_ips=(floating(FLOATING[number], site.ports[0]),))
        for number, site in enumerate(sites)
    ]
    networks = (*(site.net for site in sites), lab.external)
    lab.apply(desired(networks, (sites[0].ports[0], sites[1].ports[0]), *routers))
    [a], [b] = sites[0].guests, sites[1].guests
    assert seen_source(b, a, FLOATING[1], 8022) == FLOATING[0]
    assert seen_source(a, b, FLOATING[0], 8022) == FLOATING[1]


def test_hairpin_brings_the_reply_back_through_the_router(lab: RouterLab) -> None:
    site = Site(lab, "10.0.0.11", "10.0.0.12", "10.0.0.13")
    a, b, c = site.guests
    site.apply(floating_ips=(floating(FLOATING[0], site.ports[0]), floating(FLOATING[1], site.ports[1])))
    assert seen_source(b, a, FLOATING[1], 8022) == FLOATING[0]
    assert seen_source(b, c, FLOATING[1], 8022) == GATEWAY
    assert seen_source(a, a, FLOATING[0], 8022) == FLOATING[0]
    assert seen_source(b, a, "10.0.0.12", 8022) == "10.0.0.11"


class Echo:
    """Answers UDP on a port of a guest with a name, until closed."""

    def __init__(self, guest: str, name: bytes, port: int = 8022) -> None:
        self._socket = in_netns(guest, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("0.0.0.0", port))
        self._name = name
        self._closing = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self._socket.settimeout(0.1)
        while not self._closing:
            try:
                _, sender = self._socket.recvfrom(100)
                self._socket.sendto(self._name, sender)
            except OSError:
                continue

    def close(self) -> None:
        self._closing = True
        self._thread.join()
        self._socket.close()


UDP = netlab.RuleSpec(direction="ingress", ethertype="IPv4", protocol="udp")


def who_answers(lab: RouterLab, address: str, ports: int, move: Callable[[], object]) -> list[bytes]:
    """One flow of UDP, 50 a second, from the LAN; `move` in the middle. The answers to what is sent after it."""
    with in_netns(lab.lan, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((address, ports))
        asking.settimeout(0.02)

        def ask() -> bytes | None:
            try:
                asking.send(b"?")
                return asking.recv(100)
            except OSError:
                return None

        before = [ask() for _ in range(10)]
        assert before[-1] == b"one"
        moving = threading.Thread(target=move)
        moving.start()
        while moving.is_alive():
            ask()
            time.sleep(0.02)
        time.sleep(0.2)
        asking.setblocking(False)
        with suppress(BlockingIOError):  # answers that came late, on a busy machine
            while asking.recv(100):
                pass
        asking.settimeout(2)
        after = [ask() for _ in range(5)]
        return [answer for answer in after if answer is not None and answer != b"one"]


def test_a_floating_ip_moves_while_traffic_runs(lab: RouterLab) -> None:
    site = Site(lab, "10.0.0.11", "10.0.0.12")
    site.ports = [replace(port, rules=(*OPEN, UDP)) for port in site.ports]
    site.apply(floating_ips=(floating(FLOATING[0], site.ports[0]),))
    echoes = [Echo(guest, name) for guest, name in zip(site.guests, (b"one", b"two"), strict=True)]
    try:

        def move() -> None:
            site.apply(floating_ips=(floating(FLOATING[0], site.ports[1]),))

        assert who_answers(lab, FLOATING[0], 8022, move) == [b"two"] * 5
    finally:
        for echo in echoes:
            echo.close()


def test_a_floating_ip_moves_to_another_router(lab: RouterLab) -> None:
    site = Site(lab, "10.0.0.11")
    other = netlab.network("10.0.1.0/24", enable_dhcp=False)
    second = router(leg(other, "10.0.1.1"), leg(lab.external, "172.24.4.11", external=True))
    theirs = netlab.port(other, "10.0.1.11", rules=(*OPEN, UDP))
    site.ports = [replace(site.ports[0], rules=(*OPEN, UDP))]
    guests = [*site.guests, lab.routed(theirs, "10.0.1.1")]
    nets = (site.net, other, lab.external)

    def apply(first: tuple[FloatingIPSpec, ...], last: tuple[FloatingIPSpec, ...]) -> None:
        routers = replace(site.router, floating_ips=first), replace(second, floating_ips=last)
        lab.apply(desired(nets, (*site.ports, theirs), *reversed(routers)))

    apply((floating(FLOATING[0], site.ports[0]),), ())
    echoes = [Echo(guest, name) for guest, name in zip(guests, (b"one", b"two"), strict=True)]
    try:
        answers = who_answers(lab, FLOATING[0], 8022, lambda: apply((), (floating(FLOATING[0], theirs),)))
        assert answers == [b"two"] * 5
        # The first router would have passed it on; the LAN has learnt who is asked now.
        assert second.ports[1].mac_address in run(["ip", "-n", lab.lan, "neigh", "show", FLOATING[0]])
    finally:
        for echo in echoes:
            echo.close()


def forwarding(protocol: str, outside: tuple[int, int], inside: tuple[int, int], address: str) -> PortForwardingSpec:
    return PortForwardingSpec(
        floating_ip_address=FLOATING[0],
        protocol=protocol,
        external_ports=outside,
        internal_ip_address=address,
        internal_ports=inside,
    )


def test_port_forwarding(lab: RouterLab) -> None:
    site = Site(lab, "10.0.0.11", "10.0.0.12")
    anything = (*EGRESS, *(replace(UDP, protocol=name) for name in ("tcp", "udp")))
    site.ports = [replace(port, rules=anything) for port in site.ports]
    a, b = site.guests
    forwardings = (
        forwarding("tcp", (22, 22), (8022, 8022), "10.0.0.11"),
        forwarding("udp", (22, 22), (22, 22), "10.0.0.12"),
        forwarding("tcp", (100, 110), (100, 110), "10.0.0.12"),
        forwarding("tcp", (200, 210), (1200, 1210), "10.0.0.11"),
        forwarding("udp", (300, 310), (53, 53), "10.0.0.12"),
    )
    site.apply(port_forwardings=forwardings)
    assert seen_source(a, lab.lan, FLOATING[0], 22, at=8022) == LAN
    assert seen_source(b, lab.lan, FLOATING[0], 22, "udp") == LAN
    assert seen_source(b, lab.lan, FLOATING[0], 105, at=105) == LAN
    assert seen_source(a, lab.lan, FLOATING[0], 207, at=1207) == LAN
    assert seen_source(b, lab.lan, FLOATING[0], 304, "udp", at=53) == LAN
    assert seen_source(b, lab.lan, FLOATING[0], 8022) is None
    assert seen_source(a, b, FLOATING[0], 22, at=8022) == GATEWAY  # hairpin
    assert seen_source(lab.lan, a, LAN, 8022) == GATEWAY  # a forwarding gives no address of one's own

    def move() -> None:
        site.apply(port_forwardings=(forwarding("udp", (22, 22), (22, 22), "10.0.0.11"), *forwardings[2:]))

    echoes = [Echo(a, b"two", 22), Echo(b, b"one", 22)]
    try:
        assert who_answers(lab, FLOATING[0], 22, move) == [b"two"] * 5
    finally:
        for echo in echoes:
            echo.close()
    assert seen_source(a, lab.lan, FLOATING[0], 22, at=8022) is None


def test_extra_routes(lab: RouterLab) -> None:
    site = Site(lab, "10.0.0.11")
    appliance = netlab.port(site.net, "10.0.0.50", rules=OPEN, allowed_address_pairs=(("", "192.168.77.0/24"),))
    site.ports.append(appliance)
    behind = lab.routed(appliance, "10.0.0.1")
    run(["ip", "-n", behind, "addr", "add", "192.168.77.1/32", "dev", "lo"])
    run(["ip", "-n", lab.lan, "route", "add", "192.168.77.0/24", "via", GATEWAY])
    bad = ("192.168.78.0/24", "10.9.9.9")
    statuses = site.apply(routes=(("192.168.77.0/24", "10.0.0.50"), bad), enable_snat=False)
    assert set(statuses.values()) == {"ACTIVE"}
    assert netlab.pings(lab.lan, "192.168.77.1")
    site.apply(routes=(bad,))
    assert not netlab.pings(lab.lan, "192.168.77.1")
    site.apply(routes=(("0.0.0.0/0", "10.0.0.50"),))  # wins over the external gateway
    assert "default via 10.0.0.50" in run(["ip", "-n", site.router.namespace, "route"])
    site.apply(routes=())
    assert f"default via {LAN}" in run(["ip", "-n", site.router.namespace, "route"])


def test_metadata_by_way_of_the_router(tmp_path: Path) -> None:
    def server(device_id: str) -> object:
        return types.SimpleNamespace(id=device_id, project_id="p")

    def tree(server: Any) -> object:
        return {"meta-data": {"instance-id": server.id}}

    lab = RouterLab(tmp_path, server=server, ec2_tree=tree)
    try:
        site = Site(lab, "10.0.0.11")
        [a] = site.guests
        site.apply()
        path = "/latest/meta-data/instance-id"
        assert netlab.http_get(a, path) == (200, site.ports[0].device_id.encode())
        for address in ("10.0.0.1", GATEWAY):
            assert not netlab.connects(a, address, 9697)
        assert not netlab.connects(lab.lan, GATEWAY, 9697)
        run(["ip", "-n", lab.lan, "route", "add", "169.254.169.254/32", "via", GATEWAY])
        assert not netlab.connects(lab.lan, "169.254.169.254", 80)
        lab.restart()
        site.apply()
        assert netlab.http_get(a, path)[0] == 200
    finally:
        lab.close()


def test_a_restart_loses_no_packet_and_what_is_right_is_left_alone(lab: RouterLab) -> None:
    site = Site(lab, "10.0.0.11")
    [a] = site.guests
    site.apply(floating_ips=(floating(FLOATING[0], site.ports[0]),))
    assert lab.writes(site.desired()) == []
    allowed = ("nft -f", "nft -s", "metadata listen", "ioctl lo up")
    with pinging(a, LAN) as out, pinging(lab.lan, FLOATING[0]) as incoming:
        for _ in range(3):
            lab.restart()
            assert [name for name in lab.writes(site.desired()) if name not in allowed] == []
            assert lab.writes(site.desired()) == []
            time.sleep(0.2)
    for ping in (out, incoming):
        assert ping.sent > 20
        assert ping.lost == 0


def test_what_is_no_longer_desired_goes_and_the_external_bridge_stays(lab: RouterLab) -> None:
    site = Site(lab, "10.0.0.11")
    site.apply()
    taps = {site.inside.tap, site.out.tap}
    assert taps <= set(list_links(lab.netns))
    lab.apply(desired((site.net, lab.external), tuple(site.ports)))
    assert not taps & set(list_links(lab.netns))
    assert not netns_path(site.router.namespace).exists()
    assert "br-ex" in list_links(lab.netns)
    missing = replace(lab.external, physical_bridge="br-none")
    statuses = lab.apply(desired((site.net, missing), tuple(site.ports), site.router))
    assert statuses[site.inside.id] == statuses[site.out.id] == "DOWN"
    assert statuses[site.ports[0].id] == "ACTIVE"
    assert "br-none" not in list_links(lab.netns)


def test_without_a_namespace_of_the_clouds_own(lab: RouterLab) -> None:
    """As with --host-net; the lab's namespace plays the host's."""
    site = Site(lab, "10.0.0.11")
    site.router = replace(site.router, floating_ips=(floating(FLOATING[0], site.ports[0]),))
    in_netns(lab.netns, lab.net.close)
    lab.net = in_netns(lab.netns, HostNet, None, lab.cloud_id, lab.state)
    try:
        assert set(in_netns(lab.netns, lab.net.apply, site.desired()).values()) == {"ACTIVE"}
        deadline = time.monotonic() + 5  # the kernel's moment until the devices have a carrier
        while not netlab.pings(site.guests[0], "10.0.0.1"):
            assert time.monotonic() < deadline
        in_netns(lab.netns, lab.net.apply, site.desired())
        assert seen_source(site.guests[0], lab.lan, FLOATING[0], 8022) == LAN
        assert seen_source(lab.lan, site.guests[0], LAN, 8022) == FLOATING[0]
        in_netns(lab.netns, lab.net.purge)
        assert not netns_path(site.router.namespace).exists()
    finally:
        lab.restart()


def test_a_network_that_only_a_router_is_in(lab: RouterLab) -> None:
    net: NetworkSpec = netlab.network(enable_dhcp=False)
    inside = leg(net, "10.0.0.1")
    assert lab.apply(desired((net,), (), router(inside))) == {inside.id: "ACTIVE"}
    assert list_links(lab.netns)[inside.tap].master == list_links(lab.netns)[net.bridge].index


def test_a_leg_has_its_networks_mtu(lab: RouterLab) -> None:
    net = netlab.network(enable_dhcp=False)
    inside = leg(net, "10.0.0.1")
    one = router(inside)
    for mtu in (1450, 1300, 1400):
        lab.apply(desired((replace(net, mtu=mtu),), (), one))
        ends = list_links(one.namespace)[inside.device], list_links(lab.netns)[inside.tap]
        assert {end.mtu for end in ends} == {mtu}
