"""The rules of a host's ports, as parts of one nft ruleset (`ruleset.py` loads them): one a port, a network, a group.

Anti-spoofing is stateless, in the bridge family. Security groups are stateful, in `ip` and `ip6`, which see bridged
frames through br_netfilter: conntrack works there, and not in the bridge family of every kernel. There the tap is no
longer visible, so the bridge family leaves a mark: the sender's number in the upper 16 bits, the receiver's in the lower.
Conntrack has one zone a network, since the addresses of different tenants overlap.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from kilonova.host.net.ruleset import Chain, Element, Part, Set
from kilonova.model.specs import GroupSpec, NetworkSpec, PacketLimitSpec, PortSpec, RuleSpec

ADDRESSES = (("ip", "ipv4_addr"), ("ip6", "ipv6_addr"))
METADATA_IP, METADATA_IP6 = "169.254.169.254", "fe80::a9fe:a9fe"
LARGEST_SEGMENT = 65536 + 64
MOST_PACKETS = 10**9  # a second: one in a nanosecond, the kernel's unit
MOST_LIMITED = 10**10  # bytes a second: rate and burst together, in nanobytes, must fit 64 bits
ICMP = {1, 58}
NAMED_PROTOCOLS = {  # Neutron's names (IP_PROTOCOL_MAP) → IANA numbers
    "ah": 51, "dccp": 33, "egp": 8, "esp": 50, "gre": 47, "icmp": 1, "icmpv6": 58, "igmp": 2, "ip": 0, "ipip": 4,
    "ipv6-encap": 41, "ipv6-frag": 44, "ipv6-icmp": 58, "ipv6-nonxt": 59, "ipv6-opts": 60, "ipv6-route": 43, "ospf": 89,
    "pgm": 113, "rsvp": 46, "sctp": 132, "tcp": 6, "udp": 17, "udplite": 136, "vrrp": 112,
}  # fmt: skip
PORTED = {6: "tcp", 17: "udp", 132: "sctp", 33: "dccp", 136: "udplite"}  # whose ports nft matches

# A probe (sender 0.0.0.0) for an address of somebody else's would make that one give it up.
ARP_GUARD = """
  arp saddr ip 0.0.0.0 iifname . arp saddr ether . arp daddr ip @addresses return
  iifname . arp saddr ether . arp saddr ip @addresses return
  drop
"""
IP_GUARD = """
  udp dport 67 jump guard-dhcp
  ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 return
  udp sport 67 udp dport 68 drop
  iifname . ether saddr . ip saddr @addresses return
  drop
"""
# The hardware address in a DHCP message is who speaks: in another's name, a guest could decline that one's address.
DHCP_GUARD = """
  iifname . @th,288,48 @clients return
  drop
"""
# `own-…` compares the target of an advertisement, and of a solicitation for duplicates, which would make another give up.
IP6_GUARD = """
  icmpv6 type { nd-router-advert, nd-redirect } drop
  icmpv6 type nd-neighbor-advert iifname vmap @advertisers
  ip6 saddr :: icmpv6 type nd-neighbor-solicit iifname vmap @advertisers
  udp sport 547 udp dport 546 drop
  ip6 saddr :: icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld-listener-report, mld2-listener-report } return
  iifname . ether saddr . ip6 saddr @addresses6 return
  drop
"""
# What a guest needs before and besides its security groups (Neutron: the provider rules of its firewall driver).
ALWAYS = {
    ("ip", "egress"): (
        "udp sport 68 udp dport 67 return",
        f"ip daddr {METADATA_IP} tcp dport 80 return",
    ),
    ("ip", "ingress"): ("udp sport 67 udp dport 68 return",),
    ("ip6", "egress"): (
        "icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report, nd-router-solicit,"
        " nd-neighbor-solicit, nd-neighbor-advert } return",
        "udp sport 546 udp dport 547 return",
        f"ip6 daddr {METADATA_IP6} tcp dport 80 return",
    ),
    ("ip6", "ingress"): (
        "icmpv6 type { mld-listener-query, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } return",
        "udp sport 547 udp dport 546 return",
    ),
}
# Of a port whose groups are stateless, replies of the metadata service still come in.
ANSWERS = {
    ("ip", "egress"): (),
    ("ip", "ingress"): (f"ip saddr {METADATA_IP} tcp sport 80 return",),
    ("ip6", "egress"): (),
    ("ip6", "ingress"): (f"ip6 saddr {METADATA_IP6} tcp sport 80 return",),
}


def addresses_of(port: PortSpec, version: int) -> tuple[tuple[str, str], ...]:
    """The (MAC, CIDR) pairs a port may send from: its own, its allowed address pairs, its IPv6 link-local address."""
    pairs: dict[str, list[ipaddress.IPv4Network | ipaddress.IPv6Network]] = {}
    wanted = [(port.mac_address, ip.ip_address) for ip in port.fixed_ips]
    wanted += [(mac or port.mac_address, cidr) for mac, cidr in port.allowed_address_pairs]
    wanted += [(mac, _link_local(mac)) for mac in _macs(port)]
    for mac, cidr in wanted:
        network = ipaddress.ip_network(cidr, strict=False)
        if network.version == version:
            pairs.setdefault(mac.lower(), []).append(network)
    return tuple((mac, cidr) for mac, networks in sorted(pairs.items()) for cidr in _collapsed(networks))


def rule_matches(rule: RuleSpec, family: str) -> str | None:
    """The match of one security group rule in a family; None when it can match nothing there.

    A rule that cannot be understood matches nothing either: it opens no door, and spoils no other port's rules.
    """
    if (rule.ethertype == "IPv6") != (family == "ip6"):
        return None
    try:
        return _match(rule, family)
    except ValueError:
        return None


def _match(rule: RuleSpec, family: str) -> str | None:
    words = []
    side = "saddr" if rule.direction == "ingress" else "daddr"
    if rule.remote_group_id is not None:
        words.append(f"{family} {side} @{_members(rule.remote_group_id)}")
    if rule.remote_ips is not None:
        version = 6 if family == "ip6" else 4
        networks = [ipaddress.ip_network(ip, strict=False) for ip in rule.remote_ips]
        remote = _collapsed(network for network in networks if network.version == version)
        if not remote:
            return None
        if not any(cidr.endswith("/0") for cidr in remote):
            words.append(f"{family} {side} {{ {', '.join(remote)} }}")
    return " ".join([*words, *_protocol_matches(rule, family)])


def protocol_number(protocol: str | None, version: int) -> int | None:
    """None: any. ValueError for what is neither a name nor a number. With IPv6, ICMP means ICMPv6, as in Neutron."""
    if protocol in (None, "any", "0", "ip"):
        return None
    name = str(protocol).lower()
    number = NAMED_PROTOCOLS[name] if name in NAMED_PROTOCOLS else int(name)
    return (58 if version == 6 else 1) if number in ICMP else number


def _protocol_matches(rule: RuleSpec, family: str) -> list[str]:
    number = protocol_number(rule.protocol, 6 if family == "ip6" else 4)
    if number is None:
        return []
    low, high = rule.port_range_min, rule.port_range_max
    words = [f"meta l4proto {number}"]
    if number in PORTED:
        if low is None and high is None:
            return words
        first, last = low if low is not None else 0, high if high is not None else 65535
        return [f"{PORTED[number]} dport {first}" + (f"-{last}" if first != last else "")]
    if number in ICMP:
        name = "icmpv6" if number == 58 else "icmp"
        words += [f"{name} type {low}"] if low is not None else []
        words += [f"{name} code {high}"] if high is not None else []
    return words


# What is there without any port. Of a map, `of` tells the types of keys and values.
SETS = (
    Set("bridge", "blocked", "set", "type ifname"),
    Set("bridge", "guarded", "set", "type ifname"),
    Set("bridge", "insulated", "set", "type ifname"),
    Set("bridge", "macs", "set", "type ifname . ether_addr"),
    Set("bridge", "clients", "set", "typeof iifname . @th,288,48"),  # as macs, in what nft takes for numbers
    Set("bridge", "addresses", "set", "type ifname . ether_addr . ipv4_addr; flags interval"),
    Set("bridge", "addresses6", "set", "type ifname . ether_addr . ipv6_addr; flags interval"),
    Set("bridge", "sources", "map", "type ifname : mark"),
    Set("bridge", "targets", "map", "type ifname : verdict"),
    Set("bridge", "advertisers", "map", "type ifname : verdict"),
    Set("bridge", "policed", "map", "type ifname : verdict"),
    Set("bridge", "throttled", "map", "type ifname : verdict"),
    Set("bridge", "untracked", "map", "type ifname : verdict"),
    *(
        each
        for family in ("ip", "ip6")
        for each in (
            Set(family, "bridges", "set", "type ifname"),
            Set(family, "zones", "map", "typeof iifname : ct zone"),
            Set(family, "senders", "map", "type mark : verdict"),
            Set(family, "receivers", "map", "type mark : verdict"),
        )
    ),
)
CHAINS = (
    Chain("bridge", "guard-arp", ARP_GUARD),
    Chain("bridge", "guard-dhcp", DHCP_GUARD),
    Chain("bridge", "guard-ip", IP_GUARD),
    Chain("bridge", "guard-ip6", IP6_GUARD),
    # Anything but ARP, IPv4 and IPv6 is dropped: a VLAN tag, say, would hide a frame from br_netfilter.
    Chain(
        "bridge",
        "guard",
        """
  iifname . ether saddr != @macs drop
  ether type vmap { arp : goto guard-arp, ip : goto guard-ip, ip6 : goto guard-ip6 }
  drop
""",
    ),
    Chain(
        "bridge",
        "prerouting",
        """
  type filter hook prerouting priority -400; policy accept;
  iifname @blocked drop
  meta mark set iifname map @sources
  iifname @guarded jump guard
  iifname vmap @untracked
  iifname vmap @policed
""",
    ),
    Chain(
        "bridge",
        "forward",
        """
  type filter hook forward priority -200; policy accept;
  oifname @blocked drop
  oifname vmap @throttled
  oifname vmap @targets
""",
    ),
    # A bridge of the cloud's own is no way to the host, which would answer for each of its addresses there.
    Chain(
        "bridge",
        "input",
        """
  type filter hook input priority -200; policy accept;
  iifname @insulated drop
""",
    ),
    # What the host itself would send (a bridge's own IGMP queries): forward does not see it.
    Chain(
        "bridge",
        "output",
        """
  type filter hook output priority -200; policy accept;
  oifname @blocked drop
""",
    ),
    *(
        each
        for family in ("ip", "ip6")
        for each in (
            Chain(
                family,
                "prerouting",
                """
  type filter hook prerouting priority -300; policy accept;
  iifname != @bridges return
  meta mark & 0x0000ffff == 0x0000ffff notrack
  meta mark & 0x0000ffff != 0x0000ffff ct zone set iifname map @zones
  meta mark set meta mark & 0xffff0000
""",
            ),
            Chain(
                family,
                "forward",
                """
  type filter hook forward priority 0; policy accept;
  iifname != @bridges return
  meta mark & 0xffff0000 vmap @senders
  meta mark & 0x0000ffff vmap @receivers
""",
            ),
        )
    ),
)
FIXED = Part(sets=SETS, chains=CHAINS)


class Tracking(NamedTuple):
    """In a network with ports whose groups are stateless: the kernel remembers connections of `macs`, whose ports need
    it; what `others`, taps, send to one another passes without (Neutron: `CT --notrack`)."""

    macs: frozenset[str]
    others: frozenset[str]


def blocked_part(tap: str) -> Part:
    """A device that may neither send nor receive."""
    return Part(elements=frozenset({Element("bridge", "blocked", f'"{tap}"')}))


def network_part(network: NetworkSpec, zone: int, taps: Iterable[str] = (), tracking: Tracking | None = None) -> Part:
    """`taps`: the devices in its bridge, which are no way to the host; none where the bridge is not the cloud's own."""
    bridge = f'"{network.bridge}"'
    elements = [
        element
        for family in ("ip", "ip6")
        for element in (Element(family, "bridges", bridge), Element(family, "zones", bridge, str(zone)))
    ]
    elements += [Element("bridge", "insulated", f'"{tap}"') for tap in taps]
    if tracking is None:
        return Part(elements=frozenset(elements))
    tracked, untracked = Set("bridge", f"tracked-{zone}", "set", "type ether_addr"), f"untracked-{zone}"
    # Noted where no receiver is known yet; taken back before the receiver's number takes its place.
    chain = Chain("bridge", untracked, f"  ether daddr @{tracked.name} return\n  meta mark set meta mark or 0xffff\n")
    elements += [Element("bridge", tracked.name, mac) for mac in tracking.macs]
    elements += [Element("bridge", "untracked", f'"{tap}"', f"jump {untracked}") for tap in tracking.others]
    return Part((tracked,), (chain,), frozenset(elements))


def tracking_of(ports: Iterable[PortSpec]) -> Tracking:
    """Of all ports of a network. Administratively down ones, too: nothing passes there in any case."""
    macs, others = set[str](), set[str]()
    for port in ports:
        if port.port_security_enabled and not is_stateless(port.rules):
            macs.update(_macs(port))
        else:
            others.add(port.tap)
    return Tracking(frozenset(macs), frozenset(others))


def is_stateless(rules: tuple[RuleSpec, ...]) -> bool:
    """Where one group is stateful, the port is."""
    return bool(rules) and not any(rule.stateful for rule in rules)


def group_part(group: GroupSpec) -> Part:
    """The addresses of a remote group's members, as a set in each family."""
    elements: list[Element] = []
    for family, addresses in (("ip", [a for a in group.addresses if ":" not in a]),
                              ("ip6", [a for a in group.addresses if ":" in a])):  # fmt: skip
        if any("/" in address for address in addresses):
            addresses = _collapsed(ipaddress.ip_network(address, strict=False) for address in addresses)
        elements += [Element(family, _members(group.id), address) for address in addresses]
    sets = tuple(Set(family, _members(group.id), "set", f"type {kind}; flags interval") for family, kind in ADDRESSES)
    return Part(sets=sets, elements=frozenset(elements))


def port_part(port: PortSpec, mark: int) -> Part:
    """`mark`: 1..65535. With admin_state_up False the port is blocked; without port security it is not filtered."""
    if not port.admin_state_up:
        return blocked_part(port.tap)
    qos = qos_part(port, mark)
    if not port.port_security_enabled:
        return qos
    tap, macs = f'"{port.tap}"', _macs(port)
    to, own = Chain("bridge", f"to-{mark}", f"  meta mark set meta mark or {mark:#x}\n"), f"own-{mark}"
    chains = [to, Chain("bridge", own, f"  @th,64,128 {{ {_targets(port)} }} return\n  drop\n")]
    elements = [
        Element("bridge", "guarded", tap),
        Element("bridge", "sources", tap, f"{mark << 16:#010x}"),
        Element("bridge", "targets", tap, f"jump {to.name}"),
        Element("bridge", "advertisers", tap, f"jump {own}"),
        *(Element("bridge", "macs", f"{tap} . {mac}") for mac in macs),
        *(Element("bridge", "clients", f"{tap} . 0x{mac.replace(':', '')}") for mac in macs),
        *(Element("bridge", "addresses", f"{tap} . {mac} . {cidr}") for mac, cidr in addresses_of(port, 4)),
        *(Element("bridge", "addresses6", f"{tap} . {mac} . {cidr}") for mac, cidr in addresses_of(port, 6)),
    ]
    for family in ("ip", "ip6"):
        for direction, jumps, shift in (("egress", "senders", 16), ("ingress", "receivers", 0)):
            chain = _group_chain(family, direction, port.rules)
            chains.append(chain)
            elements.append(Element(family, jumps, f"{mark << shift:#010x}", f"jump {chain.name}"))
    return Part(chains=(*chains, *qos.chains), elements=qos.elements.union(elements))


def qos_part(port: PortSpec, mark: int) -> Part:
    """What a guest sends is dropped over its limit and marked (Neutron: tc police, and iptables' DSCP target); packets
    that are too many are dropped both ways. Bytes towards it can wait: `shaping.py`."""
    qos, tap = port.qos, f'"{port.tap}"'
    lines = [_packet_limit(qos.egress_packets)] if qos.egress_packets is not None else []
    if qos.egress is not None:
        # nft lets a second's worth and the burst pass at once; the largest segment that a guest may send must fit.
        burst = min(max(qos.egress.burst_kb * 125, LARGEST_SEGMENT), 2**32 - 1)
        rate = min(qos.egress.kbps * 125, MOST_LIMITED)  # one that the kernel refuses would keep all rules from loading
        lines.append(f"limit rate over {rate} bytes/second burst {burst} bytes drop")
    if qos.dscp is not None:
        lines += [f"ip dscp set {qos.dscp}", f"ip6 dscp set {qos.dscp}"]
    towards = [_packet_limit(qos.ingress_packets)] if qos.ingress_packets is not None else []
    chains, elements = [], set[Element]()
    for name, of, body in ((f"qos-{mark}", "policed", lines), (f"qos-in-{mark}", "throttled", towards)):
        if body:
            chains.append(Chain("bridge", name, "".join(f"  {line}\n" for line in body)))
            elements.add(Element("bridge", of, tap, f"jump {name}"))
    return Part((), tuple(chains), frozenset(elements))


def _packet_limit(limit: PacketLimitSpec) -> str:
    """A tenth of a second's may pass at once where no burst is given."""
    rate = min(limit.kpps * 1000, MOST_PACKETS)
    burst = min(limit.burst_kpps * 1000 or rate // 10, 2**32 - 1)
    return f"limit rate over {rate}/second burst {burst} packets drop"


@functools.lru_cache(maxsize=4096)
def _group_chain(family: str, direction: str, rules: tuple[RuleSpec, ...]) -> Chain:
    """Named after what it says: ports with equal rules share it."""
    if is_stateless(rules):
        lines = [*ALWAYS[family, direction], *ANSWERS[family, direction]]
    else:
        lines = ["ct state established,related return", *ALWAYS[family, direction], "ct state invalid drop"]
    for rule in rules:
        if rule.direction == direction and (match := rule_matches(rule, family)) is not None:
            lines.append(f"{match} return".strip())
    body = "".join(f"  {line}\n" for line in [*dict.fromkeys(lines), "drop"])
    return Chain(family, f"{direction}-{hashlib.sha256(body.encode()).hexdigest()[:16]}", body)


def remote_groups(rules: Iterable[RuleSpec]) -> set[str]:
    return {rule.remote_group_id for rule in rules if rule.remote_group_id}


def _members(group_id: str) -> str:
    return f"members-{group_id}"


def _macs(port: PortSpec) -> list[str]:
    return sorted({port.mac_address.lower(), *(mac.lower() for mac, _ in port.allowed_address_pairs if mac)})


def _targets(port: PortSpec) -> str:
    """The IPv6 addresses a port may say are its own, as ranges of a neighbour advertisement's target field."""
    networks = [ipaddress.IPv6Network(cidr) for _, cidr in addresses_of(port, 6)]
    merged = list(ipaddress.collapse_addresses(networks))
    return ", ".join(f"{int(net[0]):#034x}-{int(net[-1]):#034x}" for net in merged)


def _link_local(mac: str) -> str:
    """The EUI-64 link-local address of a MAC address (Neutron: `get_ipv6_addr_by_EUI64`)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    host = bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + b"\0" * 6 + host))


def _collapsed(networks: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> list[str]:
    """Without overlaps: nft refuses a set whose intervals do."""
    return [str(network) for network in ipaddress.collapse_addresses(networks)]  # type: ignore[type-var]
