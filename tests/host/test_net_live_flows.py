"""Rules that change under connections that live: what no rule of today would let begin is cut, all else goes on."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import netlab
import pytest
from msgspec.structs import replace
from netlab import EGRESS, PING, Lab, tcp

from kilonova.host.calls import run
from kilonova.host.netns import in_netns
from kilonova.model.specs import FixedIP, GroupSpec, HostNetwork, PortSpec, RuleSpec, SubnetSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
UDP = RuleSpec(direction="ingress", ethertype="IPv4", protocol="udp")
SIX = RuleSpec(direction="ingress", ethertype="IPv6", protocol="tcp", port_range_min=8022, port_range_max=8023)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


class Flow:
    """A connection of a client to a server; either may speak next."""

    def __init__(self, stack: ExitStack, client: str, server: str, ip: str, port: int, kind: int = socket.SOCK_STREAM):
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        listening = stack.enter_context(in_netns(server, socket.socket, family, kind))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("", port))
        self.client = stack.enter_context(in_netns(client, socket.socket, family, kind))
        self.client.settimeout(3)
        if kind == socket.SOCK_STREAM:
            listening.listen()
            self.client.connect((ip, port))
            self.server = stack.enter_context(listening.accept()[0])
            listening.close()  # the next flow may want its port
        else:
            self.client.connect((ip, port))
            self.client.send(b"?")
            listening.settimeout(3)
            listening.connect(listening.recvfrom(1)[1])
            self.server = listening
        assert self.alive()

    def alive(self, first: str = "server") -> bool:
        """Does each hear the other? `first` speaks first: rules of the other's guest have not let it in."""
        ends = (self.server, self.client) if first == "server" else (self.client, self.server)
        for sender, receiver in (ends, ends[::-1]):
            receiver.settimeout(1.2)
            try:
                sender.send(b"x")
                if not receiver.recv(9):
                    return False
            except OSError:
                return False
        return True


class Site:
    """A server's guest, a client's that only asks, and another client's."""

    def __init__(self, lab: Lab, *rules: RuleSpec, **changes: object) -> None:
        self.lab, self.stack = lab, ExitStack()
        self.net = netlab.network(enable_dhcp=False)
        six = SubnetSpec(id="v6", cidr="fd00::/64", ip_version=6, gateway_ip=None, enable_dhcp=False)
        self.net = replace(self.net, subnets=(*self.net.subnets, six))
        self.ports = [netlab.port(self.net, f"10.0.0.{number}") for number in (11, 12, 13)]
        self.ports = [
            replace(port, fixed_ips=(*port.fixed_ips, FixedIP(subnet_id="v6", ip_address=f"fd00::{number}")))
            for port, number in zip(self.ports, (11, 12, 13), strict=True)
        ]
        self.ports[0] = replace(self.ports[0], rules=(*EGRESS, *rules), **changes)
        self.guests = [lab.guest(port, f"{port.fixed_ips[0].ip_address}/24") for port in self.ports]
        for guest, number in zip(self.guests, (11, 12, 13), strict=True):
            run(["ip", "-n", guest, "addr", "add", f"fd00::{number}/64", "dev", "eth0", "nodad"])
        self.groups: tuple[GroupSpec, ...] = ()
        self.apply()

    def apply(self, *ports: PortSpec) -> None:
        """With these ports in place of what they were."""
        new = {port.id: port for port in ports}
        self.ports = [new.get(port.id, port) for port in self.ports]
        self.lab.apply(HostNetwork(networks=(self.net,), ports=tuple(self.ports), groups=self.groups))

    def rules(self, *rules: RuleSpec, of: int = 0) -> None:
        self.apply(replace(self.ports[of], rules=rules))

    def flow(self, port: int, client: int = 1, ip: str = "10.0.0.11", kind: int = socket.SOCK_STREAM) -> Flow:
        return Flow(self.stack, self.guests[client], self.guests[0], ip, port, kind)


@pytest.mark.parametrize("first", ["server", "client"])
def test_a_rule_cuts_what_it_alone_allowed(lab: Lab, first: str) -> None:
    site = Site(lab, tcp(8022), tcp(8023), tcp(8024), PING)
    with site.stack:
        one, two, three = (site.flow(port) for port in (8022, 8023, 8024))
        whole = RuleSpec(direction="ingress", ethertype="IPv4", protocol="tcp", port_range_min=8024)
        site.rules(*EGRESS, tcp(8022), whole, PING)
        assert one.alive(first)
        assert not two.alive(first)
        assert three.alive(first)  # by another rule now
        assert netlab.pings(site.guests[1], "10.0.0.11")


def test_udp_and_ipv6(lab: Lab) -> None:
    site = Site(lab, UDP, SIX)
    with site.stack:
        flows = [
            site.flow(9001, kind=socket.SOCK_DGRAM),
            site.flow(8022, ip="fd00::11"),
            site.flow(8023, ip="fd00::11"),
        ]
        site.rules(*EGRESS, replace(SIX, port_range_max=8022))
        assert [flow.alive() for flow in flows] == [False, True, False]


def test_a_rule_for_fewer_remotes_cuts_those_it_leaves_out(lab: Lab) -> None:
    site = Site(lab, tcp(8022))
    with site.stack:
        one, two = site.flow(8022), site.flow(8022, client=2)
        site.rules(*EGRESS, replace(tcp(8022), remote_ips=("10.0.0.12/32",)))
        assert one.alive()
        assert not two.alive()


def test_an_egress_rule_cuts_what_its_guest_began(lab: Lab) -> None:
    site = Site(lab, tcp(8022), tcp(8023))
    with site.stack:
        one, two = site.flow(8022), site.flow(8023)
        site.rules(replace(tcp(8022), direction="egress"), of=1)
        assert one.alive("client")
        assert not two.alive("client")


def test_who_leaves_a_remote_group_is_cut_and_who_stays_is_not(lab: Lab) -> None:
    site = Site(lab)
    site.groups = (GroupSpec(id="g", addresses=("10.0.0.12", "10.0.0.13")),)
    with site.stack:
        site.rules(*EGRESS, RuleSpec(direction="ingress", ethertype="IPv4", remote_group_id="g"), tcp(8023))
        one, two, other = site.flow(8022), site.flow(8022, client=2), site.flow(8023, client=2)
        site.groups = (GroupSpec(id="g", addresses=("10.0.0.12",)),)
        site.apply()
        assert one.alive()
        assert not two.alive()
        assert other.alive()  # by a rule for anyone


def test_an_address_of_a_pair_is_judged_by_its_ports_rules_and_a_neighbours_is_not(lab: Lab) -> None:
    everything = (("", "10.0.0.0/24"),)
    site = Site(lab, tcp(8022), allowed_address_pairs=everything)
    run(["ip", "-n", site.guests[0], "addr", "add", "10.0.0.200/24", "dev", "eth0"])
    site.rules(*EGRESS, tcp(8022), of=2)
    with site.stack:
        virtual = site.flow(8022, ip="10.0.0.200")
        neighbour = Flow(site.stack, site.guests[1], site.guests[2], "10.0.0.13", 8022)
        site.rules(*EGRESS)
        assert not virtual.alive()
        assert neighbour.alive()


def test_a_change_that_dies_before_it_forgets_is_finished_by_the_next_process(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(lab, tcp(8022), tcp(8023))
    with site.stack:
        one, two = site.flow(8022), site.flow(8023)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("kilonova.host.net.conntrack.forget_matching", interrupted)
            site.rules(*EGRESS, tcp(8022))
        lab.restart()
        site.apply()
        assert one.alive()
        assert not two.alive()


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt
