"""extra_dhcp_opts of ports: each guest gets its own, and nobody's nonsense hurts another."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import netlab
import pytest
from netlab import EGRESS, PING, Lab

from kilonova.host.calls import run
from kilonova.model.specs import FixedIP, HostNetwork

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def test_options_of_a_port_reach_its_guest_alone(lab: Lab) -> None:
    net = netlab.network()
    nonsense = (("no-such-option", "x"), ("router", "nowhere"), ("300", "x"), ("dns-server", ""))
    mine = (*nonsense, ("mtu", "1300"), ("42", "10.0.0.123"), ("domain-name", "own.example"))
    one, two = netlab.port(net, "10.0.0.11", dhcp_options=mine), netlab.port(net, "10.0.0.12")
    first, second = lab.guest(one), lab.guest(two)
    desired = HostNetwork(networks=(net,), ports=(one, two))
    assert set(lab.apply(desired).values()) == {"ACTIVE"}
    ack, other = netlab.dhcp(first, one.mac_address), netlab.dhcp(second, two.mac_address)
    assert (ack["ip"], other["ip"]) == (socket.inet_aton("10.0.0.11"), socket.inet_aton("10.0.0.12"))
    assert (ack[15], other[15]) == (b"own.example", b"novalocal")
    assert ack[42] == socket.inet_aton("10.0.0.123")
    assert 42 not in other
    assert (ack[26], other[26]) == ((1300).to_bytes(2, "big"), (1450).to_bytes(2, "big"))
    assert other[3] == socket.inet_aton("10.0.0.1")
    assert lab.writes(desired) == []


def test_the_subnets_of_a_network_reach_each_other_on_the_wire(lab: Lab) -> None:
    net = netlab.network()
    second = msgspec.structs.replace(
        net.subnets[0],
        id="two",
        cidr="10.0.1.0/24",
        gateway_ip=None,
        dhcp_ip="10.0.1.2",
        dns_nameservers=("2001:db8::53",),
    )
    net = msgspec.structs.replace(net, subnets=(*net.subnets, second))
    one = netlab.port(net, "10.0.0.11")
    two = netlab.port(net, "10.0.0.12", rules=(*EGRESS, PING))
    two = msgspec.structs.replace(two, fixed_ips=(FixedIP(subnet_id="two", ip_address="10.0.1.12"),))
    a, b = lab.guest(one, "10.0.0.11/24"), lab.guest(two, "10.0.1.12/24")
    lab.apply(HostNetwork(networks=(net,), ports=(one, two)))
    ack, other = netlab.dhcp(a, one.mac_address), netlab.dhcp(b, two.mac_address)
    assert bytes([24, 10, 0, 1, 0, 0, 0, 0]) in ack[121]
    assert bytes([24, 10, 0, 0, 0, 0, 0, 0]) in other[121]
    assert other[6] == socket.inet_aton("10.0.1.2")  # a name server of the other family is none of this one's
    run(["ip", "-n", a, "route", "add", "10.0.1.0/24", "dev", "eth0"])
    run(["ip", "-n", b, "route", "add", "10.0.0.0/24", "dev", "eth0"])
    assert netlab.pings(a, "10.0.1.12")
