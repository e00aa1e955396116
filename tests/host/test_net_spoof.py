"""What a guest may not send as somebody else: each attack made by hand from a guest's NIC, and watched for at its victim."""

import os
from collections.abc import Iterator
from pathlib import Path

import frames
import msgspec
import netlab
import pytest
from frames import ALL_NODES, ALL_NODES_MAC, ethernet, icmp6, ip4, ip6, udp
from netlab import EGRESS, Lab, link_local

from kilonova.model.specs import FixedIP, HostNetwork, NetworkSpec, PortSpec, RuleSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")

IPV4, IPV6, ARP, RARP, VLAN, QINQ = 0x0800, 0x86DD, 0x0806, 0x8035, 0x8100, 0x88A8
MINE, MINE6, THEIRS, THEIRS6, GATEWAY, GATEWAY6 = (
    "10.0.0.11", "fd00::11", "10.0.0.12", "fd00::12", "10.0.0.1", "fd00::1",
)  # fmt: skip
VRRP_MAC, VRRP, VRRP6 = "00:00:5e:00:01:07", "10.0.0.200", "fd00::77"


class Attack:
    """An attacker with a port of a security group that lets all out, and a victim whose port lets all in."""

    def __init__(self, lab: Lab, net: NetworkSpec, **changes: object) -> None:
        self.lab, self.net = lab, net
        rules = (*EGRESS, *(RuleSpec(direction="ingress", ethertype=each) for each in ("IPv4", "IPv6")))
        self.port = self.with_v6(netlab.port(net, MINE, rules=rules), MINE6, **changes)
        self.victim = self.with_v6(netlab.port(net, THEIRS, rules=rules), THEIRS6)
        self.mac, self.their_mac = self.port.mac_address, self.victim.mac_address
        self.lla, self.their_lla = link_local(self.mac), link_local(self.their_mac)
        self.a, self.b = lab.guest(self.port), lab.guest(self.victim)
        assert set(self.apply(self.port).values()) == {"ACTIVE"}
        self.out, self.incoming = netlab.packet_socket(self.a), netlab.packet_socket(self.b)
        self.count = 0

    def with_v6(self, port: PortSpec, ip6: str, **changes: object) -> PortSpec:
        fixed = (*port.fixed_ips, FixedIP(subnet_id="v6", ip_address=ip6))
        return msgspec.structs.replace(port, fixed_ips=fixed, **changes)

    def apply(self, port: PortSpec) -> dict[str, str]:
        return self.lab.apply(HostNetwork(networks=(self.net,), ports=(port, self.victim)))

    def mark(self) -> bytes:
        self.count += 1
        return b"attack-%05d" % self.count

    def arrives(self, *sent: bytes, mark: bytes) -> bool:
        """Is `mark` seen before an honest frame that was sent after it, or just behind that?"""
        self.count += 1
        end = b"behind-it-%05d" % self.count
        last = ethernet(self.mac, self.their_mac, IPV4, ip4(MINE, THEIRS, 17, udp(5000, 5001, end)))
        for frame in (*sent, last):
            self.out.send(frame)
        self.incoming.settimeout(3)
        seen = False
        while True:
            frame = self.incoming.recv(65536)
            seen = seen or mark in frame
            if end in frame:
                return seen or netlab.receives(self.incoming, mark, timeout=0.02)

    def close(self) -> None:
        self.out.close()
        self.incoming.close()

    # Attacks: True when the victim sees it

    def udp4(self, mac: str = "", src: str = MINE, sport: int = 5000, dport: int = 5001, **more: object) -> bool:
        mark = self.mark()
        packet = ip4(src, THEIRS, 17, udp(sport, dport, mark))
        return self.arrives(ethernet(mac or self.mac, self.their_mac, IPV4, packet, **more), mark=mark)  # type: ignore[arg-type]

    def udp6(self, mac: str = "", src: str = MINE6, sport: int = 5000, dport: int = 5001, **more: object) -> bool:
        mark = self.mark()
        packet = ip6(src, THEIRS6, 17, udp6(src, THEIRS6, sport, dport, mark))
        return self.arrives(ethernet(mac or self.mac, self.their_mac, IPV6, packet, **more), mark=mark)  # type: ignore[arg-type]

    def arp(self, sender_ip: str, sender_mac: str = "", mac: str = "", target: str = THEIRS) -> bool:
        sender_mac = sender_mac or self.mac
        frame = netlab.arp_frame(mac or self.mac, sender_mac, sender_ip, target)
        return self.arrives(frame, mark=frame[22:42])

    def icmp6(self, kind: int, body: bytes, src: str = "") -> bool:
        """To all nodes, recognised by the last bytes of its body and its checksum."""
        message = icmp6(src or self.lla, ALL_NODES, kind, body)
        frame = ethernet(self.mac, ALL_NODES_MAC, IPV6, ip6(src or self.lla, ALL_NODES, 58, message))
        return self.arrives(frame, mark=message)

    def fragmented6(self, next_header: int, payload: bytes, first: int, mark: bytes) -> bool:
        chain = frames.options_then(next_header, payload)
        parts = frames.fragments6(self.lla, ALL_NODES, chain, first, ident=self.count + 100)
        return self.arrives(*(ethernet(self.mac, ALL_NODES_MAC, IPV6, part) for part in parts), mark=mark)


def udp6(src: str, dst: str, sport: int, dport: int, payload: bytes) -> bytes:
    bare = udp(sport, dport, payload)
    padded = bare + b"\0" * (len(bare) % 2)
    pseudo = frames.packed(src) + frames.packed(dst) + len(bare).to_bytes(4, "big") + b"\0\0\0\x11"
    return bare[:6] + netlab.checksum(pseudo + padded).to_bytes(2, "big") + bare[8:]


def dual_stack() -> NetworkSpec:
    net = netlab.network()
    v6 = msgspec.structs.replace(
        net.subnets[0], id="v6", cidr="fd00::/64", ip_version=6, dhcp_ip=None, gateway_ip=GATEWAY6, enable_dhcp=False
    )
    return msgspec.structs.replace(net, subnets=(*net.subnets, v6))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


@pytest.fixture
def attack(lab: Lab) -> Iterator[Attack]:
    made = Attack(lab, dual_stack())
    yield made
    made.close()


def test_an_honest_guest_is_heard(attack: Attack) -> None:
    assert attack.udp4()
    assert attack.udp6()
    assert attack.udp6(src=attack.lla)
    assert attack.arp(MINE)
    assert attack.arp(MINE, target=MINE)  # gratuitous
    assert attack.icmp6(frames.NA, frames.advertisement(MINE6, attack.mac), src=MINE6)
    assert attack.icmp6(frames.NA, frames.advertisement(attack.lla, attack.mac))
    assert attack.icmp6(frames.NS, frames.solicitation(THEIRS6), src=MINE6)
    assert attack.icmp6(frames.NS, frames.solicitation(MINE6), src=frames.ANY6)  # duplicate address detection
    report = b"\0\0\0\1\4\0\0\0" + frames.packed("ff02::1:ff00:11")  # of multicast groups, behind a router alert option
    for source in (frames.ANY6, attack.lla):
        options = b"\x3a\0\5\2\0\0\1\0"
        message = icmp6(source, "ff02::16", frames.MLD2, report)
        frame = ethernet(attack.mac, "33:33:00:00:00:16", IPV6, ip6(source, "ff02::16", 0, options + message))
        assert attack.arrives(frame, mark=message), source
    assert attack.icmp6(133, b"\0\0\0\0\x01\x01" + netlab.raw(attack.mac))  # router solicitation


def test_mac_and_ip_of_others(attack: Attack) -> None:
    false = "fa:16:3e:aa:aa:aa"
    for mac in (false, attack.their_mac, "00:00:00:00:00:01"):
        assert not attack.udp4(mac=mac)
        assert not attack.udp6(mac=mac)
    for address in (THEIRS, GATEWAY, "10.0.0.99", "8.8.8.8", "0.0.0.0", "127.0.0.1", "255.255.255.255"):
        assert not attack.udp4(src=address), address
    for address in (THEIRS6, GATEWAY6, "fd00::99", "2001:db8::1", "::", "::1", attack.their_lla, "fe80::1"):
        assert not attack.udp6(src=address), address


def test_arp_in_the_name_of_others(attack: Attack) -> None:
    for address in (THEIRS, GATEWAY, "10.0.0.99"):
        assert not attack.arp(address), address
        assert not attack.arp(address, target=address), address  # gratuitous
    assert not attack.arp(MINE, sender_mac=attack.their_mac)
    assert not attack.arp(GATEWAY, sender_mac="fa:16:3e:aa:aa:aa", mac="fa:16:3e:aa:aa:aa")
    assert not attack.arp(MINE, mac="fa:16:3e:aa:aa:aa")
    assert attack.arp("0.0.0.0", target=MINE)  # a probe, as a DHCP client sends for the address it was given
    assert not attack.arp("0.0.0.0", target=THEIRS)  # one for the victim's would make it give the address up
    strange = netlab.arp_frame(attack.mac, attack.mac, GATEWAY, THEIRS)
    for at, value in ((15, 2), (18, 8), (19, 6)):  # hardware type, address lengths: what no rule can read
        frame = strange[:at] + bytes([value]) + strange[at + 1 :]
        assert not attack.arrives(frame, mark=frame[14:42])
    rarp = strange[:12] + RARP.to_bytes(2, "big") + strange[14:]
    assert not attack.arrives(rarp, mark=rarp[12:42])


def test_the_part_of_the_dhcp_server(attack: Attack) -> None:
    assert not attack.udp4(sport=67, dport=68)
    assert not attack.udp6(sport=547, dport=546)
    mark = attack.mark()
    packet = udp(67, 68, mark)
    parts = [ip4(MINE, THEIRS, 17, packet[:8], 0x2000), ip4(MINE, THEIRS, 17, packet[8:], 1)]
    assert not attack.arrives(*(ethernet(attack.mac, attack.their_mac, IPV4, part) for part in parts), mark=mark)


def test_dhcp_in_the_name_of_others(attack: Attack) -> None:
    """To decline an address for its owner makes dnsmasq withhold it from that one for ten minutes."""
    server, server_mac = "10.0.0.2", str(attack.net.dhcp_mac)

    def decline(client: str, sport: int = 68) -> bytes:
        head = b"\1\1\6\0" + b"kn-h" + bytes(20) + netlab.raw(client).ljust(16, b"\0") + bytes(192)
        options = b"\x63\x82\x53\x63\x35\x01\x04\x32\x04" + frames.packed(THEIRS) + b"\x36\x04" + frames.packed(server)
        return udp(sport, 67, (head + options + b"\xff").ljust(300, b"\0"))

    def send(*packets: bytes) -> None:
        for packet in packets:
            attack.out.send(ethernet(attack.mac, server_mac, IPV4, packet))
        assert attack.udp4()  # the last is through by now

    def victim_is_served() -> bool:
        found = netlab.dhcp(attack.b, attack.their_mac)
        return bool(found) and found["ip"] == frames.packed(THEIRS)

    assert victim_is_served()
    message = decline(attack.their_mac)
    for source, target in ((MINE, server), ("0.0.0.0", "255.255.255.255")):
        send(ip4(source, target, 17, message))
        send(ip4(source, target, 17, decline(attack.their_mac, sport=67)))
    for first in (8, 64):
        rest = ip4(MINE, server, 17, message[first:], first // 8, first)
        send(ip4(MINE, server, 17, message[:first], 0x2000, first), rest)
    assert victim_is_served()
    assert netlab.dhcp(attack.a, attack.mac)["ip"] == frames.packed(MINE)
    attack.apply(msgspec.structs.replace(attack.port, port_security_enabled=False, rules=()))
    send(ip4(MINE, server, 17, message))
    assert not victim_is_served()  # so the message was one to be feared


def test_the_part_of_the_router(attack: Attack) -> None:
    assert not attack.icmp6(frames.RA, frames.router_advertisement("fd66::", attack.mac))
    target = frames.packed("fe80::1") + frames.packed("2001:db8::1")
    assert not attack.icmp6(frames.REDIRECT6, b"\0\0\0\0" + target)
    mark = attack.mark()
    redirect = b"\x05\x01\0\0" + bytes([10, 0, 0, 11]) + ip4(THEIRS, "8.8.8.8", 17, udp(1, 2, mark))
    redirect = redirect[:2] + netlab.checksum(redirect + b"\0" * (len(redirect) % 2)).to_bytes(2, "big") + redirect[4:]
    frame = ethernet(attack.mac, attack.their_mac, IPV4, ip4(GATEWAY, THEIRS, 1, redirect))
    assert not attack.arrives(frame, mark=mark)  # a host heeds redirects of its gateway only


def test_neighbours_in_the_name_of_others(attack: Attack) -> None:
    for target in (THEIRS6, GATEWAY6, "fe80::1", attack.their_lla):
        assert not attack.icmp6(frames.NA, frames.advertisement(target, attack.mac)), target
        assert not attack.icmp6(frames.NA, frames.advertisement(target, attack.mac), src=MINE6), target
        assert not attack.icmp6(frames.NA, frames.advertisement(MINE6, attack.mac), src=target), target
        assert not attack.icmp6(frames.NS, frames.solicitation(THEIRS6), src=target), target
    # The victim, unsure of its address, would give it up
    assert not attack.icmp6(frames.NS, frames.solicitation(THEIRS6), src=frames.ANY6)


@pytest.mark.parametrize("first", [8, 16, 24])
def test_a_header_in_a_later_fragment_hides_nothing(attack: Attack, first: int) -> None:
    """Only destination options in the first fragment (the kernel discards that: RFC 8200), or half of the message."""
    lla, mac = attack.lla, attack.mac
    for kind, body in (
        (frames.RA, frames.router_advertisement("fd66::", mac)),
        (frames.NA, frames.advertisement(GATEWAY6, mac)),
        (frames.REDIRECT6, b"\0\0\0\0" + frames.packed("fe80::1") * 2),
    ):
        message = icmp6(lla, ALL_NODES, kind, body)
        assert not attack.fragmented6(58, message, first, mark=message[-16:]), kind
    mark = attack.mark()
    assert not attack.fragmented6(17, udp6(lla, ALL_NODES, 547, 546, mark), first, mark=mark[-8:])
    echo = icmp6(lla, ALL_NODES, 128, b"\0\x01\0\x01" + b"honest-fragments-pass-" * 4)
    if first > 8:
        assert attack.fragmented6(58, echo, first, mark=b"fragments-pass")


@pytest.mark.parametrize(
    "tags", [((VLAN, 5),), ((VLAN, 0),), ((QINQ, 5),), ((QINQ, 5), (VLAN, 6)), ((VLAN, 5), (VLAN, 6))]
)
def test_a_vlan_tag_hides_nothing(attack: Attack, tags: tuple[tuple[int, int], ...]) -> None:
    """Behind a tag the security groups would not look, so even what is honest is dropped."""
    assert not attack.udp4(tags=tags)
    assert not attack.udp6(tags=tags)
    assert not attack.udp4(src=GATEWAY, tags=tags)
    assert not attack.udp4(sport=67, dport=68, tags=tags)
    body = frames.router_advertisement("fd66::", attack.mac)
    message = icmp6(attack.lla, ALL_NODES, frames.RA, body)
    frame = ethernet(attack.mac, ALL_NODES_MAC, IPV6, ip6(attack.lla, ALL_NODES, 58, message), tags)
    assert not attack.arrives(frame, mark=message)


def test_fragments_of_ipv4_pass_whole_and_only_from_the_own_address(attack: Attack) -> None:
    def fragmented(src: str) -> bool:
        mark = attack.mark()
        packet = udp(5000, 5001, b"x" * 24 + mark)
        ident = attack.count + 100
        parts = [ip4(src, THEIRS, 17, packet[:16], 0x2000, ident), ip4(src, THEIRS, 17, packet[16:], 2, ident)]
        return attack.arrives(*(ethernet(attack.mac, attack.their_mac, IPV4, part) for part in parts), mark=mark)

    assert fragmented(MINE)
    assert not fragmented(GATEWAY)


@pytest.mark.parametrize("kind", [0x0004, 0x0026, 0x8863, 0x8864, 0x88CC, 0x8847, 0x22F0, 0x9000])
def test_no_other_protocol_leaves_a_guest(attack: Attack, kind: int) -> None:
    """Lengths (STP and other LLC), PPPoE, LLDP, MPLS …: what security groups cannot see."""
    mark = attack.mark()
    assert not attack.arrives(ethernet(attack.mac, "ff:ff:ff:ff:ff:ff", kind, mark.ljust(64, b"\0")), mark=mark)


def test_allowed_address_pairs_let_a_vrrp_address_pass(lab: Lab) -> None:
    pairs = ((VRRP_MAC, f"{VRRP}/32"), (VRRP_MAC, f"{VRRP6}/128"), ("", "10.0.0.64/28"))
    attack = Attack(lab, dual_stack(), allowed_address_pairs=pairs)
    try:
        assert attack.udp4(mac=VRRP_MAC, src=VRRP)
        assert attack.udp6(mac=VRRP_MAC, src=VRRP6)
        assert attack.arp(VRRP, sender_mac=VRRP_MAC, mac=VRRP_MAC, target=VRRP)
        assert attack.udp4(src="10.0.0.70")
        assert attack.arp("10.0.0.70", target="10.0.0.70")
        message = icmp6(VRRP6, ALL_NODES, frames.NA, frames.advertisement(VRRP6, VRRP_MAC))
        frame = ethernet(VRRP_MAC, ALL_NODES_MAC, IPV6, ip6(VRRP6, ALL_NODES, 58, message))
        assert attack.arrives(frame, mark=message)
        mark = attack.mark()  # the protocol itself: 112, to its multicast group
        frame = ethernet(attack.mac, "01:00:5e:00:00:12", IPV4, ip4(MINE, "224.0.0.18", 112, mark))
        assert attack.arrives(frame, mark=mark)
        assert not attack.udp4(src=VRRP)
        assert not attack.udp4(mac=VRRP_MAC, src=THEIRS)
        assert not attack.arp(THEIRS, sender_mac=VRRP_MAC, mac=VRRP_MAC)
        anyone = msgspec.structs.replace(attack.port, allowed_address_pairs=(("", "0.0.0.0/0"), ("", "::/0")))
        attack.apply(anyone)
        assert attack.udp4(src="8.8.8.8")
        assert attack.arp("8.8.8.8")
        assert attack.udp6(src="2001:db8::1")
        assert attack.icmp6(frames.NA, frames.advertisement("2001:db8::1", attack.mac), src="2001:db8::1")
        assert not attack.udp4(mac=VRRP_MAC, src="8.8.8.8")
    finally:
        attack.close()


def test_without_port_security_all_passes(attack: Attack) -> None:
    attack.apply(msgspec.structs.replace(attack.port, port_security_enabled=False, rules=()))
    assert attack.udp4(mac="fa:16:3e:aa:aa:aa", src="8.8.8.8")
    assert attack.udp6(src=GATEWAY6)
    assert attack.arp(GATEWAY)
    assert attack.udp4(sport=67, dport=68)
    assert attack.icmp6(frames.RA, frames.router_advertisement("fd66::", attack.mac))
    assert attack.icmp6(frames.NA, frames.advertisement(GATEWAY6, attack.mac))
    assert attack.udp4(tags=((VLAN, 5),))
    attack.apply(attack.port)
    assert not attack.arp(GATEWAY)
