"""Which security group rule lets a packet through, and why each other one does not (host/net/nft.py does it for real)."""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kilonova.model.specs import RuleSpec
from kilonova.network import security_group_rules
from kilonova.network.path_rows import IP, Net, networks_of
from kilonova.network.rows import Row

ECHO = {(4, False): 8, (6, False): 128, (4, True): 0, (6, True): 129}  # (version, reply) → the ICMP type of a ping
EPHEMERAL = 49152  # the port that a reply goes to
METADATA = (ipaddress.ip_address("169.254.169.254"), ipaddress.ip_address("fe80::a9fe:a9fe"))
ANYWHERE = {4: ipaddress.ip_network("0.0.0.0/0"), 6: ipaddress.ip_network("::/0")}


@dataclass(frozen=True)
class Kind:
    """What is sent: `protocol` tcp | udp | icmp, `port` of the first two, `version` of IP."""

    protocol: str
    port: int | None
    version: int
    reply: bool = False

    @property
    def answer(self) -> "Kind":
        """What comes back, where nobody remembers what was asked."""
        return Kind(self.protocol, EPHEMERAL if self.port is not None else None, self.version, reply=True)

    @property
    def number(self) -> int:
        return {"tcp": 6, "udp": 17}.get(self.protocol, 58 if self.version == 6 else 1)

    def __str__(self) -> str:
        return self.protocol if self.port is None else f"{self.protocol} port {self.port}"


@dataclass(frozen=True)
class Decision:
    """`rule`: the one that lets it through; `others`: (rule, why it does not match) of the right direction."""

    rule: Row | None
    others: list[tuple[Row, str]] = field(default_factory=list)


def decide(
    rules: Iterable[tuple[Row, RuleSpec]],
    direction: str,
    kind: Kind,
    peer: IP | None,
    members: Callable[[str], list[Net]],
) -> Decision:
    """`peer` None: anybody outside. `members`: a remote group's addresses."""
    others: list[tuple[Row, str]] = []
    for row, rule in rules:
        if rule.direction != direction:
            continue
        why = mismatch(rule, kind, peer, members)
        if why is None:
            return Decision(row)
        others.append((row, why))
    return Decision(None, others)


def mismatch(rule: RuleSpec, kind: Kind, peer: IP | None, members: Callable[[str], list[Net]]) -> str | None:
    """Why the rule does not match; None when it does."""
    if rule.ethertype != f"IPv{kind.version}":
        return f"it is for {rule.ethertype}"
    number = security_group_rules.number(rule.protocol) or None
    if number in security_group_rules.ICMP:
        number = 58 if kind.version == 6 else 1
    if number is not None and number != kind.number:
        return f"it is for {rule.protocol}"
    low, high = rule.port_range_min, rule.port_range_max
    if number in security_group_rules.ICMP:
        if low not in (None, ECHO[kind.version, kind.reply]) or high not in (None, 0):
            return f"it is for ICMP type {low}" + (f", code {high}" if high is not None else "")
    elif number is not None and kind.port is not None:
        first, last = low if low is not None else 0, high if high is not None else 65535
        if not first <= kind.port <= last:
            return f"it is for port {first}" if first == last else f"it is for ports {first} to {last}"
    return _mismatched_peer(rule, kind.version, peer, members)


def _mismatched_peer(rule: RuleSpec, version: int, peer: IP | None, members: Callable[[str], list[Net]]) -> str | None:
    if rule.remote_ips is not None and not _within(peer, networks_of(rule.remote_ips), version):
        return f"it is for {', '.join(rule.remote_ips) or 'no address'}"
    if rule.remote_group_id is not None and not _within(peer, members(rule.remote_group_id), version):
        return f"it is for members of the group {rule.remote_group_id}"
    return None


def _within(peer: IP | None, networks: Iterable[Net], version: int) -> bool:
    if peer is None:
        return ANYWHERE[version] in networks
    return any(peer in network for network in networks)
