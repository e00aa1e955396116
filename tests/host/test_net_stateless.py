"""Stateless security groups: replies need rules of their own, and the kernel remembers nothing of their connections."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import netlab
import pytest
from frames import ethernet, ip4, udp
from netlab import EGRESS, PING, tcp
from routerlab import RouterLab, desired, leg, router

from kilonova.host.calls import run
from kilonova.model.specs import FixedIP, HostNetwork, RuleSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
REPLIES = RuleSpec(
    direction="ingress", ethertype="IPv4", protocol="tcp", port_range_min=32768, port_range_max=65535, stateful=False
)


def stateless(*rules: RuleSpec) -> tuple[RuleSpec, ...]:
    return tuple(msgspec.structs.replace(rule, stateful=False) for rule in rules)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RouterLab]:
    lab = RouterLab(tmp_path)
    yield lab
    lab.close()


class Site:
    """A server whose group is stateless, clients with a stateless and with a stateful one; a network behind a router."""

    def __init__(self, lab: RouterLab) -> None:
        self.lab = lab
        self.net, self.far = netlab.network(enable_dhcp=False), netlab.network("10.1.0.0/24", enable_dhcp=False)
        self.ports = [netlab.port(self.net, f"10.0.0.{number}") for number in (11, 12, 13)]
        self.ports.append(netlab.port(self.far, "10.1.0.11", rules=(*EGRESS, tcp(8022))))
        self.router = router(leg(self.net, "10.0.0.1"), leg(self.far, "10.1.0.1"))
        self.guests = [lab.routed(port, f"{port.fixed_ips[0].ip_address.rpartition('.')[0]}.1") for port in self.ports]

    def apply(self, *rules: tuple[RuleSpec, ...]) -> HostNetwork:
        """The rules of the first ports; the others keep theirs."""
        for number, each in enumerate(rules):
            self.ports[number] = msgspec.structs.replace(self.ports[number], rules=each)
        want = desired((self.net, self.far), tuple(self.ports), self.router)
        self.lab.apply(want)
        return want

    def entries(self) -> list[str]:
        """Of the guests: what the namespace's own devices say is in no zone."""
        return [line for line in run(["conntrack", "-L"], netns=self.lab.netns).splitlines() if "zone=" in line]


def test_replies_need_rules_of_their_own(lab: RouterLab) -> None:
    site = Site(lab)
    server, other, stateful, far = site.guests
    site.apply(stateless(tcp(8022)), stateless(*EGRESS), EGRESS)
    with netlab.listener(server, 8022):
        assert not netlab.connects(stateful, "10.0.0.11", 8022)  # the server may not answer
        site.apply(stateless(tcp(8022), *EGRESS))
        assert netlab.connects(stateful, "10.0.0.11", 8022)  # whose own group lets replies in
        assert not netlab.connects(other, "10.0.0.11", 8022)  # and this one's does not
        assert not netlab.connects(other, "10.0.0.11", 8023)
        want = site.apply(stateless(tcp(8022), *EGRESS), (*stateless(*EGRESS), REPLIES))
        assert netlab.connects(other, "10.0.0.11", 8022)
        assert lab.writes(want) == []
        lab.restart()
        assert "nft -f" not in lab.writes(want)
    with netlab.listener(stateful, 8022), netlab.listener(far, 8022):
        assert not netlab.connects(other, "10.0.0.13", 8022)
        site.apply(stateless(tcp(8022), *EGRESS), (*stateless(*EGRESS), REPLIES), (tcp(8022),))
        assert netlab.connects(other, "10.0.0.13", 8022)  # the stateful one needs no egress rule to answer
        assert netlab.connects(other, "10.1.0.11", 8022)


def test_the_kernel_remembers_connections_of_stateful_ports_only(lab: RouterLab) -> None:
    site = Site(lab)
    server, other, stateful, far = site.guests
    site.apply(stateless(tcp(8022), *EGRESS), (*stateless(*EGRESS), REPLIES), EGRESS)
    with netlab.listener(server, 8022), netlab.listener(far, 8022):
        assert netlab.connects(other, "10.0.0.11", 8022)
        assert site.entries() == []
        assert netlab.connects(far, "10.0.0.11", 8022)  # seen in its own network, and not in the stateless one's
        assert netlab.connects(other, "10.1.0.11", 8022)
        assert len(site.entries()) == 2
        assert len({line.split("zone=")[1].split()[0] for line in site.entries()}) == 1
        assert netlab.connects(stateful, "10.0.0.11", 8022)
        assert len(site.entries()) == 3
        site.apply((*EGRESS, tcp(8022)))  # stateful from now on
        assert netlab.connects(other, "10.0.0.11", 8022)
        assert len(site.entries()) == 4


def test_an_address_pairs_hardware_address_is_a_stateful_ports_too(lab: RouterLab) -> None:
    site = Site(lab)
    server, _, stateful, _ = site.guests
    virtual = "00:00:5e:00:01:07"
    site.ports[2] = msgspec.structs.replace(site.ports[2], allowed_address_pairs=((virtual, "10.0.0.200/32"),))
    site.apply(stateless(tcp(8022), *EGRESS))
    run(["ip", "-n", stateful, "link", "add", "vrrp", "link", "eth0", "address", virtual, "type", "macvlan"])
    run(["ip", "-n", stateful, "addr", "flush", "dev", "eth0"])
    run(["ip", "-n", stateful, "link", "set", "vrrp", "up"])
    run(["ip", "-n", stateful, "addr", "add", "10.0.0.200/24", "dev", "vrrp"])
    with netlab.listener(server, 8022):
        assert netlab.connects(stateful, "10.0.0.11", 8022)


def test_fragments_are_put_together_before_rules_read_them(lab: RouterLab) -> None:
    site = Site(lab)
    opened = RuleSpec(direction="ingress", ethertype="IPv4", protocol="udp", port_range_min=53, port_range_max=53)
    site.apply(stateless(opened), stateless(*EGRESS))
    for port, passes in ((53, True), (54, False)):
        mark = b"in-the-second-part-%d" % port
        packet = udp(5000, port, b"x" * 24 + mark)
        parts = [
            ip4("10.0.0.12", "10.0.0.11", 17, packet[:16], 0x2000),
            ip4("10.0.0.12", "10.0.0.11", 17, packet[16:], 2),
        ]
        macs = site.ports[1].mac_address, site.ports[0].mac_address
        with netlab.packet_socket(site.guests[1]) as out, netlab.packet_socket(site.guests[0]) as incoming:
            for part in parts:
                out.send(ethernet(*macs, 0x0800, part))
            assert netlab.receives(incoming, mark) is passes


def test_ipv6(lab: RouterLab) -> None:
    net = netlab.network(enable_dhcp=False)
    six = msgspec.structs.replace(net.subnets[0], id="v6", cidr="fd00::/64", ip_version=6, gateway_ip=None)
    net = msgspec.structs.replace(net, subnets=(*net.subnets, six))
    ports = []
    for number in (11, 12):
        fixed = FixedIP(subnet_id="v6", ip_address=f"fd00::{number}")
        ports.append(msgspec.structs.replace(netlab.port(net, f"10.0.0.{number}"), fixed_ips=(fixed,)))
    guests = [lab.guest(port) for port in ports]
    for guest, number in zip(guests, (11, 12), strict=True):
        run(["ip", "-n", guest, "addr", "add", f"fd00::{number}/64", "dev", "eth0", "nodad"])
    ping = msgspec.structs.replace(PING, ethertype="IPv6")

    def pings(*rules: RuleSpec) -> bool:
        answers = stateless(*EGRESS, msgspec.structs.replace(ping, port_range_min=129), *rules)
        new = [
            msgspec.structs.replace(port, rules=each)
            for port, each in zip(ports, (answers, stateless(*EGRESS, ping)), strict=True)
        ]
        lab.apply(HostNetwork(networks=(net,), ports=tuple(new)))
        return netlab.pings(guests[0], "fd00::12")

    assert pings()

    assert run(["conntrack", "-L", "-f", "ipv6"], netns=lab.netns) == ""
    ports[0], ports[1] = ports[1], ports[0]
    guests.reverse()
    assert not netlab.pings(guests[0], "fd00::11")  # whose rules let replies in, and no questions
