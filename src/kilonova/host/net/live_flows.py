"""Which connections that live may live on when ports allow less: those that their rules of today would let begin.

Neutron's agents forget all of a port's connections of the rule's protocol (IpConntrackManager): then a server that speaks
next, through another rule, is not heard, since its guest's rules know only who asked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kilonova.host.net import nft
from kilonova.host.net.conntrack import Entry
from kilonova.model.specs import GroupSpec, PortSpec, RuleSpec

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Net = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Judged:
    """In a conntrack zone: addresses that nobody has any more, and ports that allow less than before."""

    gone: frozenset[str] = frozenset()
    ports: tuple[PortSpec, ...] = ()


def forbidden(judged: Judged, neighbours: Iterable[PortSpec], groups: Iterable[GroupSpec]) -> Callable[[Entry], bool]:
    """neighbours: all ports of the network here; an address that one of them owns is not reached by another's pairs."""
    owners = {ipaddress.ip_address(ip.ip_address): port for port in neighbours for ip in port.fixed_ips}
    asked = {port.id for port in judged.ports}
    shared = [(ipaddress.ip_network(cidr), port) for port in judged.ports for _, cidr in port.allowed_address_pairs]
    members = {group.id: group.addresses for group in groups}

    def holders(address: IP) -> Iterable[PortSpec]:
        if address in owners:
            return [owners[address]] if owners[address].id in asked else []
        return [port for network, port in shared if address in network]

    def check(entry: Entry) -> bool:
        if judged.gone & {entry.source, entry.destination, entry.reply_source, entry.reply_destination}:
            return True
        source, destination = ipaddress.ip_address(entry.source), ipaddress.ip_address(entry.destination)
        return any(not allows(port, "egress", entry, destination, members) for port in holders(source)) or any(
            not allows(port, "ingress", entry, source, members) for port in holders(destination)
        )

    return check


def allows(port: PortSpec, direction: str, entry: Entry, peer: IP, members: Mapping[str, tuple[str, ...]]) -> bool:
    """Would the port's rules let this connection begin?"""
    if not port.port_security_enabled:
        return True
    return any(rule.direction == direction and _matches(rule, entry, peer, members) for rule in port.rules)


def _matches(rule: RuleSpec, entry: Entry, peer: IP, members: Mapping[str, tuple[str, ...]]) -> bool:
    try:
        return (
            (rule.ethertype == "IPv6") == (peer.version == 6)
            and _has_protocol(rule, entry, peer.version)
            and (rule.remote_ips is None or _within(peer, rule.remote_ips))
            and (rule.remote_group_id is None or _within(peer, members.get(rule.remote_group_id, ())))
        )
    except ValueError:  # a rule that cannot be understood matches nothing (nft.rule_matches)
        return False


def _has_protocol(rule: RuleSpec, entry: Entry, version: int) -> bool:
    number = nft.protocol_number(rule.protocol, version)
    if number is None:
        return True
    low, high = rule.port_range_min, rule.port_range_max
    if number != entry.protocol:
        return False
    if number in nft.ICMP:
        return low in (None, entry.icmp[0]) and high in (None, entry.icmp[1])
    if number not in nft.PORTED:
        return True
    return (low if low is not None else 0) <= entry.port <= (high if high is not None else 65535)


def _within(peer: IP, cidrs: Iterable[str]) -> bool:
    return any(peer in network for network in map(_network, cidrs) if network.version == peer.version)


def _network(cidr: str) -> Net:
    return ipaddress.ip_network(cidr, strict=False)
