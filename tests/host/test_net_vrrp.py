"""An address that two ports share by allowed address pairs moves from one to the other, and its users follow."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import frames
import netlab
import pytest
from frames import ethernet, icmp6, ip4, ip6
from msgspec.structs import replace
from netlab import EGRESS, PING, Lab

from kilonova.host.calls import run
from kilonova.host.netns import in_netns
from kilonova.model.specs import FixedIP, HostNetwork, RuleSpec, SubnetSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
VIP, VIP6, VMAC = "10.0.0.200", "fd00::200", "00:00:5e:00:01:07"
PING6 = RuleSpec(direction="ingress", ethertype="IPv6", protocol="icmp")
VRRP = RuleSpec(direction="ingress", ethertype="IPv4", protocol="vrrp")


class Site:
    """Two guests that may have the address, with a hardware address of its own or without, and one that uses it."""

    def __init__(self, lab: Lab, virtual_mac: bool) -> None:
        self.net = netlab.network(enable_dhcp=False)
        six = SubnetSpec(id="v6", cidr="fd00::/64", ip_version=6, gateway_ip=None, enable_dhcp=False)
        self.net = replace(self.net, subnets=(*self.net.subnets, six))
        self.mac = VMAC if virtual_mac else ""
        # With keepalived's use_vmac the holder announces by one hardware address, and answers by its own as well.
        pairs = tuple((mac, cidr) for mac in {self.mac, ""} for cidr in (f"{VIP}/32", f"{VIP6}/128"))
        ports = []
        for number in (11, 12, 13):
            port = netlab.port(self.net, f"10.0.0.{number}", rules=(*EGRESS, PING, PING6, VRRP))
            fixed = (*port.fixed_ips, FixedIP(subnet_id="v6", ip_address=f"fd00::{number}"))
            ports.append(replace(port, fixed_ips=fixed, allowed_address_pairs=pairs if number < 13 else ()))
        self.ports = ports
        self.guests = [lab.guest(port, f"{port.fixed_ips[0].ip_address}/24") for port in ports]
        for guest, number in zip(self.guests, (11, 12, 13), strict=True):
            run(["ip", "-n", guest, "addr", "add", f"fd00::{number}/64", "dev", "eth0", "nodad"])
            for name, value in (("arp_ignore", "1"), ("arp_announce", "2")):
                in_netns(guest, Path(f"/proc/sys/net/ipv4/conf/all/{name}").write_text, value)
        lab.apply(HostNetwork(networks=(self.net,), ports=tuple(ports)))

    def take(self, number: int) -> None:
        """As keepalived does: the addresses, and their announcement over IPv4 and IPv6."""
        guest, mac = self.guests[number], self.mac or self.ports[number].mac_address
        device = "vrrp" if self.mac else "eth0"
        if self.mac:
            run(["ip", "-n", guest, "link", "add", "vrrp", "link", "eth0", "address", VMAC, "type", "macvlan"])
            run(["ip", "-n", guest, "link", "set", "vrrp", "up"])
        run(["ip", "-n", guest, "addr", "add", f"{VIP}/32", "dev", device])
        run(["ip", "-n", guest, "addr", "add", f"{VIP6}/128", "dev", device, "nodad"])
        message = icmp6(VIP6, frames.ALL_NODES, frames.NA, frames.advertisement(VIP6, mac))
        with netlab.packet_socket(guest) as out:
            out.send(netlab.arp_frame(mac, mac, VIP, VIP))
            out.send(ethernet(mac, frames.ALL_NODES_MAC, 0x86DD, ip6(VIP6, frames.ALL_NODES, 58, message)))

    def leave(self, number: int) -> None:
        guest = self.guests[number]
        if self.mac:
            run(["ip", "-n", guest, "link", "delete", "vrrp"])
        else:
            run(["ip", "-n", guest, "addr", "del", f"{VIP}/32", "dev", "eth0"])
            run(["ip", "-n", guest, "addr", "del", f"{VIP6}/128", "dev", "eth0"])

    def answers(self, number: int) -> bool:
        """The user's ping comes to this one, over both families."""
        return all(self.counted(number, ip) for ip in (VIP, VIP6))

    def counted(self, number: int, ip: str) -> bool:
        def received() -> int:
            text = in_netns(self.guests[number], Path("/proc/thread-self/net/snmp6").read_text).split()
            echoes = int(text[text.index("Icmp6InEchos") + 1])
            lines = in_netns(self.guests[number], Path("/proc/thread-self/net/snmp").read_text).splitlines()
            names, values = [line.split() for line in lines if line.startswith("Icmp:")]
            return echoes + int(values[names.index("InEchos")])

        before = received()
        return netlab.pings(self.guests[2], ip) and received() == before + 1


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


@pytest.mark.parametrize("virtual_mac", [False, True])
def test_a_shared_address_moves_and_its_users_follow(lab: Lab, virtual_mac: bool) -> None:
    site = Site(lab, virtual_mac)
    site.take(0)
    assert site.answers(0)
    site.leave(0)
    site.take(1)
    assert site.answers(1)
    site.leave(1)
    site.take(0)
    assert site.answers(0)
    # The protocol's own advertisements, from the port's address to its multicast group.
    advert = struct.pack("!BBBBBBH", 0x21, 7, 100, 1, 0, 1, 0) + b"vrrp-advertisement"
    macs = site.ports[0].mac_address, "01:00:5e:00:00:12"
    with netlab.packet_socket(site.guests[0]) as out, netlab.packet_socket(site.guests[1]) as incoming:
        out.send(ethernet(*macs, 0x0800, ip4("10.0.0.11", "224.0.0.18", 112, advert)))
        assert netlab.receives(incoming, b"vrrp-advertisement")


def test_a_third_may_not_take_it(lab: Lab) -> None:
    site = Site(lab, virtual_mac=False)
    site.take(0)
    assert site.answers(0)
    mac = site.ports[2].mac_address
    message = icmp6(VIP6, frames.ALL_NODES, frames.NA, frames.advertisement(VIP6, mac))
    with netlab.packet_socket(site.guests[2]) as out, netlab.packet_socket(site.guests[1]) as incoming:
        out.send(netlab.arp_frame(mac, mac, VIP, VIP))
        assert not netlab.receives(incoming, netlab.raw(mac) + frames.packed(VIP))
        out.send(ethernet(mac, frames.ALL_NODES_MAC, 0x86DD, ip6(VIP6, frames.ALL_NODES, 58, message)))
        assert not netlab.receives(incoming, message)
    assert site.answers(0)
