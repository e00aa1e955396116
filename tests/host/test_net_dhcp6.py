"""IPv6 addresses as guests come to them: DHCPv6 from dnsmasq, SLAAC from a router's advertisements."""

import ipaddress
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import frames
import msgspec
import netlab
import pytest
from netlab import Lab, in_netns

from kilonova.host.calls import run
from kilonova.host.net.dnsmasq import is_answered, served_ips
from kilonova.model.specs import FixedIP, HostNetwork, NetworkSpec, PortSpec, SubnetSpec
from kilonova.network import ipam

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
STATEFUL, STATELESS, SLAAC = "dhcpv6-stateful", "dhcpv6-stateless", "slaac"


def subnet6(mode: str | None, **changes: object) -> SubnetSpec:
    values = {
        "id": "six", "cidr": "fd00::/64", "ip_version": 6, "gateway_ip": "fd00::1", "enable_dhcp": True,
        "dhcp_ip": "fd00::2", "ipv6_address_mode": mode, "ipv6_ra_mode": mode,
    }  # fmt: skip
    return SubnetSpec(**values | changes)  # type: ignore[arg-type]


def with_subnet(net: NetworkSpec, subnet: SubnetSpec) -> NetworkSpec:
    return msgspec.structs.replace(net, subnets=(*net.subnets, subnet))


def port6(net: NetworkSpec, ip4: str, ip6: str, **changes: object) -> PortSpec:
    one = netlab.port(net, ip4, **changes)
    return msgspec.structs.replace(one, fixed_ips=(*one.fixed_ips, FixedIP(subnet_id="six", ip_address=ip6)))


def duid(mac: str) -> bytes:
    return b"\0\3\0\1" + netlab.raw(mac)


def addresses(guest: str) -> set[str]:
    lines = run(["ip", "-n", guest, "-6", "-o", "addr", "show", "dev", "eth0"]).splitlines()
    return {line.split()[3].split("/")[0] for line in lines}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()
    assert netlab.pids_with(str(tmp_path)) == []


@pytest.mark.parametrize("mode", [STATEFUL, None])
def test_dhcpv6_hands_out_the_fixed_address(lab: Lab, mode: str | None) -> None:
    """A subnet without modes is served as well, as Neutron does."""
    net = with_subnet(netlab.network(), subnet6(mode, dns_nameservers=("2001:db8::53", "2001:db8::54")))
    one = port6(net, "10.0.0.11", "fd00::11", dhcp6_options=(("sntp-server", "[2001:db8::123]"),))
    stranger = netlab.port(net, "10.0.0.12", port_security_enabled=False)
    guest, other = lab.guest(one), lab.guest(stranger)
    assert lab.apply(HostNetwork(networks=(net,), ports=(one, stranger)))[one.id] == "ACTIVE"
    reply = netlab.dhcp6(guest, duid(one.mac_address))
    assert ipaddress.ip_address(reply["ip"]) == ipaddress.ip_address("fd00::11")
    assert reply[23] == frames.packed("2001:db8::53") + frames.packed("2001:db8::54")
    assert reply[24] == b"\x09novalocal\0"
    assert "ip" not in netlab.dhcp6(other, duid(stranger.mac_address), timeout=1)
    assert socket.inet_ntoa(netlab.dhcp(guest, one.mac_address)["ip"]) == "10.0.0.11"


def test_only_what_is_left_to_dhcp_comes_by_it(lab: Lab) -> None:
    """Stateless: the options, without an address."""
    net = with_subnet(netlab.network(), subnet6(STATELESS))
    one = netlab.port(net, "10.0.0.11", dhcp6_options=(("bootfile-url", "http://boot/me"),))
    address = ipam.eui64("fd00::/64", one.mac_address)
    one = msgspec.structs.replace(one, fixed_ips=(*one.fixed_ips, FixedIP(subnet_id="six", ip_address=address)))
    guest = lab.guest(one)
    assert lab.apply(HostNetwork(networks=(net,), ports=(one,))) == {one.id: "ACTIVE"}
    reply = netlab.dhcp6(guest, duid(one.mac_address), stateful=False)
    assert reply[23] == frames.packed("fd00::2")
    assert 3 not in reply
    assert "ip" not in netlab.dhcp6(guest, duid(one.mac_address), timeout=1)


def test_who_is_served() -> None:
    """Neutron: _build_cmdline_callback."""
    assert [is_answered(subnet6(mode)) for mode in (STATEFUL, STATELESS, SLAAC, None)] == [True, True, False, True]
    assert not is_answered(subnet6(None, ipv6_ra_mode=STATEFUL))  # somebody else's DHCPv6
    assert is_answered(subnet6(STATEFUL, ipv6_ra_mode=None))
    assert not is_answered(subnet6(STATEFUL, cidr="fd00::/48"))  # dnsmasq serves /64 and smaller
    for mode, served in ((STATEFUL, ["fd00::11"]), (STATELESS, []), (SLAAC, [])):
        net = with_subnet(netlab.network(), subnet6(mode))
        one = port6(net, "10.0.0.11", "fd00::11")
        assert [ip for _, ip in served_ips(net, one)] == ["10.0.0.11", *served]


def test_an_address_moves_to_another_port(lab: Lab) -> None:
    net = with_subnet(netlab.network(), subnet6(STATEFUL))
    one, two = port6(net, "10.0.0.11", "fd00::11"), port6(net, "10.0.0.11", "fd00::11")
    first, second = lab.guest(one), lab.guest(two)
    wanted = frames.packed("fd00::11")
    lab.apply(HostNetwork(networks=(net,), ports=(one,)))
    assert netlab.dhcp6(first, duid(one.mac_address))["ip"] == wanted
    lab.apply(HostNetwork(networks=(net,), ports=(two,)))
    assert netlab.dhcp6(second, duid(two.mac_address))["ip"] == wanted


def test_what_ipam_computes_is_what_a_guest_comes_to(lab: Lab) -> None:
    """The kernel's SLAAC from a router that advertises the subnet; no advertisement without one."""
    net = with_subnet(netlab.network(), subnet6(SLAAC))
    one = netlab.port(net, "10.0.0.11")
    address = ipam.eui64("fd00::/64", one.mac_address)
    one = msgspec.structs.replace(one, fixed_ips=(*one.fixed_ips, FixedIP(subnet_id="six", ip_address=address)))
    router = netlab.port(
        net, "10.0.0.1", port_security_enabled=False, device_owner="network:router_interface", rules=()
    )
    guest, space = lab.guest(one), lab.guest(router)
    lab.apply(HostNetwork(networks=(net,), ports=(one, router)))
    source = netlab.link_local(router.mac_address)
    assert addresses(guest) == {netlab.link_local(one.mac_address)}
    message = frames.icmp6(
        source, frames.ALL_NODES, frames.RA, frames.router_advertisement("fd00::", router.mac_address)
    )
    packet = frames.ip6(source, frames.ALL_NODES, 58, message)
    with netlab.packet_socket(space) as sock:
        deadline = time.monotonic() + 5
        while address not in addresses(guest):
            assert time.monotonic() < deadline, addresses(guest)
            sock.send(frames.ethernet(router.mac_address, frames.ALL_NODES_MAC, 0x86DD, packet))
            time.sleep(0.05)
    assert netlab.pings(guest, "fd00::2")  # the DHCP port, which answers names there
    assert f"via {source}" in run(["ip", "-n", guest, "-6", "route", "show", "default"])


def test_the_dhcp_port_believes_no_router(lab: Lab) -> None:
    net = with_subnet(netlab.network(), subnet6(STATEFUL))
    rogue = netlab.port(net, "10.0.0.66", port_security_enabled=False)
    guest = lab.guest(rogue)
    lab.apply(HostNetwork(networks=(net,), ports=(rogue,)))
    source = netlab.link_local(rogue.mac_address)
    body = frames.router_advertisement("fd66::", rogue.mac_address)
    packet = frames.ip6(source, frames.ALL_NODES, 58, frames.icmp6(source, frames.ALL_NODES, frames.RA, body))
    with netlab.packet_socket(guest) as sock:
        sock.send(frames.ethernet(rogue.mac_address, frames.ALL_NODES_MAC, 0x86DD, packet))
    space = lab.net.dhcp_namespace(net.id)
    assert netlab.pings(guest, "fe80::a9fe:a9fe%eth0")  # the advertisement has been seen by then
    assert run(["ip", "-n", space, "-6", "route", "show", "default"]) == ""
    assert "fd66" not in run(["ip", "-n", space, "-6", "addr"])
    assert in_netns(space, Path("/proc/sys/net/ipv4/ip_forward").read_text) == "0\n"


def test_ipv6_comes_and_goes_with_its_subnet(lab: Lab) -> None:
    net = netlab.network()
    both = with_subnet(net, subnet6(STATEFUL))
    one = port6(both, "10.0.0.11", "fd00::11")
    guest = lab.guest(one)
    lab.apply(HostNetwork(networks=(net,), ports=(one,)))
    assert netlab.dhcp6(guest, duid(one.mac_address), timeout=0.6) == {}
    desired = HostNetwork(networks=(both,), ports=(one,))
    lab.apply(desired)
    assert netlab.dhcp6(guest, duid(one.mac_address))["ip"] == frames.packed("fd00::11")
    assert lab.writes(desired) == []
    lab.restart()
    assert not {"address add", "address delete", "sysctl dhcp namespace"} & {
        name.removeprefix("netlink ") for name in lab.writes(desired)
    }
    lab.apply(HostNetwork(networks=(net,), ports=(one,)))
    assert netlab.dhcp6(guest, duid(one.mac_address), timeout=0.6) == {}


@pytest.mark.parametrize("mode", [STATEFUL, STATELESS, SLAAC])
def test_a_network_without_ipv4(lab: Lab, mode: str) -> None:
    """Also where dnsmasq has nothing to hand out, it answers names."""
    subnet = subnet6(mode)
    net = msgspec.structs.replace(netlab.network(), subnets=(subnet,))
    one = port6(net, "10.0.0.11", "fd00::11", hostname="web")
    one = msgspec.structs.replace(one, fixed_ips=one.fixed_ips[1:])
    guest = lab.guest(one, "fd00::11/64")
    assert lab.apply(HostNetwork(networks=(net,), ports=(one,))) == {one.id: "ACTIVE"}
    reply = netlab.dhcp6(guest, duid(one.mac_address), stateful=mode == STATEFUL, timeout=1)
    assert reply.get("ip") == (frames.packed("fd00::11") if mode == STATEFUL else None)
    assert reply.get(23) == (None if mode == SLAAC else frames.packed("fd00::2"))
    assert netlab.pings(guest, "fd00::2")
    named = msgspec.structs.replace(one, hostname="db")
    desired = HostNetwork(networks=(net,), ports=(named,))
    assert lab.apply(desired) == {one.id: "ACTIVE"}
    assert lab.writes(desired) == []


def test_what_is_broken_by_hand_serves_ipv6_again(lab: Lab) -> None:
    net = with_subnet(netlab.network(), subnet6(STATEFUL))
    one = port6(net, "10.0.0.11", "fd00::11", hostname="web")
    guest = lab.guest(one, "fd00::11/64")
    desired = HostNetwork(networks=(net,), ports=(one,))
    lab.apply(desired)
    space, device = lab.net.dhcp_namespace(net.id), f"ns-{str(net.dhcp_port_id)[:11]}"
    switch = Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6")
    for number, break_it in enumerate(
        (
            lambda: run(["ip", "-n", space, "-6", "addr", "flush", "dev", device]),
            lambda: run(["ip", "-n", space, "addr", "del", "fd00::2/64", "dev", device]),
            lambda: run(["ip", "-n", space, "addr", "add", "fd00::3/64", "dev", device]),
            lambda: run(["ip", "-n", space, "link", "set", device, "down"]),
            lambda: in_netns(space, switch.write_text, "1"),
            lambda: run(["ip", "-n", lab.netns, "link", "del", f"tap{str(net.dhcp_port_id)[:11]}"]),
        )
    ):
        break_it()
        lab.apply(desired)
        assert netlab.dhcp6(guest, duid(one.mac_address)).get("ip") == frames.packed("fd00::11"), number
        assert netlab.pings(guest, "fd00::2"), number
        assert not netlab.pings(guest, "fd00::3"), number
        assert lab.writes(desired) == [], number
