"""A network is served as soon as its DHCP port is the host's, with or without guests here, on the real kernel."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import netlab
import pytest
from netlab import Lab

from kilonova.host.net.link import list_links
from kilonova.model.specs import FixedIP, HostNetwork, NetworkSpec, PortSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()
    assert netlab.pids_with(str(tmp_path)) == []


def dhcp_port(net: NetworkSpec) -> PortSpec:
    subnet = net.subnets[0]
    assert net.dhcp_port_id and net.dhcp_mac and subnet.dhcp_ip
    return PortSpec(
        id=net.dhcp_port_id, network_id=net.id, mac_address=net.dhcp_mac, port_security_enabled=False,
        fixed_ips=(FixedIP(subnet_id=subnet.id, ip_address=subnet.dhcp_ip),), device_owner="network:dhcp",
        device_id=f"dhcp-{net.id}",
    )  # fmt: skip


def test_the_dhcp_port_is_active_once_it_is_wired(lab: Lab) -> None:
    net = netlab.network()
    server = dhcp_port(net)
    desired = HostNetwork(networks=(net,), ports=(server,))
    lab.apply(desired)
    assert lab.apply(desired) == {server.id: "ACTIVE"}
    assert lab.writes(desired) == []
    links = list_links(lab.netns)
    assert links[server.tap].master == links[net.bridge].index
    lab.apply(HostNetwork())
    lab.apply(HostNetwork())
    assert not {server.tap, net.bridge} & set(list_links(lab.netns))


def test_a_guest_is_served_beside_the_dhcp_port(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11")
    desired = HostNetwork(networks=(net,), ports=(one, dhcp_port(net)))
    lab.apply(desired)
    guest = lab.guest(one)
    assert lab.apply(desired) == {one.id: "ACTIVE", str(net.dhcp_port_id): "ACTIVE"}
    assert netlab.dhcp(guest, one.mac_address)["ip"] == socket.inet_aton("10.0.0.11")
    assert lab.writes(desired) == []
