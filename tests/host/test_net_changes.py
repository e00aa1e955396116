"""Changes of a network and its ports reach the guests that run: MTU, administrative states."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import netlab
import pytest
from netlab import EGRESS, PING, Lab

from kilonova.host.calls import run
from kilonova.host.dataplane.bridge_nf import SWITCHES
from kilonova.host.net.link import list_links
from kilonova.host.netns import netns_path
from kilonova.model.specs import HostNetwork, NetworkSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def test_all_devices_of_a_network_follow_its_mtu(lab: Lab) -> None:
    net = netlab.network()
    one, two = netlab.port(net, "10.0.0.11"), netlab.port(net, "10.0.0.12", rules=(*EGRESS, PING))
    guest, _ = lab.guest(one, "10.0.0.11/24"), lab.guest(two, "10.0.0.12/24")
    device = f"ns-{str(net.dhcp_port_id)[:11]}"

    def whole(size: int) -> bool:
        """Does an unfragmented packet of this size reach the other guest?"""
        try:
            run(["ping", "-c1", "-W0.5", "-M", "do", "-s", str(size - 28), "10.0.0.12"], netns=guest)
        except Exception:
            return False
        return True

    for mtu in (1450, 1400, 8950, 1500):
        changed = HostNetwork(networks=(msgspec.structs.replace(net, mtu=mtu),), ports=(one, two))
        lab.apply(changed)
        links, space = list_links(lab.netns), list_links(lab.net.dhcp_namespace(net.id))
        taps = [net.bridge, one.tap, two.tap, f"tap{str(net.dhcp_port_id)[:11]}"]
        assert {name: links[name].mtu for name in taps} == dict.fromkeys(taps, mtu)
        assert space[device].mtu == mtu
        assert netlab.dhcp(guest, one.mac_address)[26] == mtu.to_bytes(2, "big")
        for name in lab.guests:  # as a guest would that heeds option 26
            run(["ip", "-n", name, "link", "set", "eth0", "mtu", str(mtu)])
        assert whole(mtu)
        assert not whole(mtu + 4)
        assert lab.writes(changed) == []


def test_a_port_that_is_closed_is_cut_at_once_and_comes_back_with_its_connections(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11", rules=(*EGRESS, netlab.tcp(8022), PING))
    two = netlab.port(net, "10.0.0.12", rules=(*EGRESS, PING))
    a, b = lab.guest(one, "10.0.0.11/24"), lab.guest(two, "10.0.0.12/24")
    up = HostNetwork(networks=(net,), ports=(one, two))
    down = HostNetwork(networks=(net,), ports=(msgspec.structs.replace(one, admin_state_up=False), two))
    assert set(lab.apply(up).values()) == {"ACTIVE"}
    with netlab.listener(a, 8022) as server:
        client = netlab.in_netns(b, socket.create_connection, ("10.0.0.11", 8022), 1)
        served, _ = server.accept()
        with client, served:
            served.settimeout(5)
            client.sendall(b"before")
            assert served.recv(10) == b"before"
            assert lab.apply(down) == {one.id: "DOWN", two.id: "ACTIVE"}
            client.sendall(b"later!")  # TCP tries again and again
            served.settimeout(0.6)
            with pytest.raises(TimeoutError):
                served.recv(10)
            assert not netlab.pings(b, "10.0.0.11")
            assert not netlab.pings(a, "10.0.0.12")
            assert netlab.dhcp(a, one.mac_address, timeout=0.5) == {}
            with netlab.packet_socket(a) as out, netlab.packet_socket(b) as incoming:
                out.send(netlab.arp_frame(one.mac_address, one.mac_address, "10.0.0.11", "10.0.0.12"))
                assert not netlab.receives(incoming, netlab.raw(one.mac_address))
            assert lab.writes(down) == []
            assert set(lab.apply(up).values()) == {"ACTIVE"}
            served.settimeout(10)
            assert served.recv(10) == b"later!"
            assert netlab.pings(b, "10.0.0.11")


def test_a_network_that_is_down_has_no_dhcp(lab: Lab) -> None:
    """What the host is told of one (`network.specs.network_spec`): no DHCP port. Traffic flows, as in Neutron."""
    net = netlab.network()
    one, two = netlab.port(net, "10.0.0.11"), netlab.port(net, "10.0.0.12", rules=(*EGRESS, PING))
    guest, _ = lab.guest(one, "10.0.0.11/24"), lab.guest(two, "10.0.0.12/24")

    def state(spec: NetworkSpec) -> HostNetwork:
        return HostNetwork(networks=(spec,), ports=(one, two))

    lab.apply(state(net))
    assert netlab.dhcp(guest, one.mac_address)
    closed = msgspec.structs.replace(net, dhcp_port_id=None, dhcp_mac=None)
    for _ in range(2):  # what is left over goes with the second look
        assert set(lab.apply(state(closed)).values()) == {"ACTIVE"}
    assert netlab.dhcp(guest, one.mac_address, timeout=0.5) == {}
    assert not netns_path(lab.net.dhcp_namespace(net.id)).exists()
    assert netlab.pids_with(str(lab.state)) == []
    assert netlab.pings(guest, "10.0.0.12")
    lab.apply(state(net))
    assert netlab.dhcp(guest, one.mac_address)


def test_security_groups_need_br_netfilter_and_the_loop_keeps_it_on(lab: Lab) -> None:
    """In the cloud's namespace; the switches of others, such as the root's, are not the loop's to touch."""
    net = netlab.network()
    one, two = netlab.port(net, "10.0.0.11"), netlab.port(net, "10.0.0.12")
    guest, other = lab.guest(one, "10.0.0.11/24"), lab.guest(two, "10.0.0.12/24")
    desired = HostNetwork(networks=(net,), ports=(one, two))
    lab.apply(desired)
    root = [switch.read_text() for switch in SWITCHES]
    for switch in SWITCHES:
        netlab.in_netns(lab.netns, switch.write_text, "0")
        netlab.in_netns(other, switch.write_text, "0")
    assert netlab.pings(guest, "10.0.0.12")  # bridged frames are not looked at
    lab.apply(desired)
    assert not netlab.pings(guest, "10.0.0.12")
    assert lab.writes(desired) == []
    assert [netlab.in_netns(other, switch.read_text) for switch in SWITCHES] == ["0\n"] * 3
    assert [switch.read_text() for switch in SWITCHES] == root
