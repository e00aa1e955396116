"""The address translation of one router, as the one nft table of its namespace; pure.

Neutron's chains of iptables rules (l3/router_info.py), one for each floating IP, are four maps here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from kilonova.host.net.conntrack import Entry
from kilonova.host.net.nft import NAMED_PROTOCOLS
from kilonova.model.specs import PortForwardingSpec, RouterSpec

METADATA_IP = "169.254.169.254"
METADATA_PORT = 9697  # in the router's namespace (Neutron: metadata_port)
WITH_PORTS = {6, 17, 33, 132, 136}  # TCP, UDP, DCCP, SCTP, UDP-Lite


class Nat(msgspec.Struct, frozen=True):
    """What a router translates. gateway: the device towards the external network, and `source` its IPv4 address.

    floating: floating → fixed address; snat: the rest leaves with `source` too.
    """

    gateway: str | None = None
    source: str | None = None
    snat: bool = False
    floating: dict[str, str] = {}
    forwardings: tuple[PortForwardingSpec, ...] = ()

    @property
    def addresses(self) -> set[str]:
        """What the gateway's device must carry besides its own."""
        return set(self.floating) | {each.floating_ip_address for each in self.forwardings}


def nat_of(router: RouterSpec) -> Nat:
    """Nothing is translated without an IPv4 address on an external network."""
    leg = router.gateway
    if leg is None or not leg.admin_state_up:
        return Nat()
    source = next((ip.ip_address for ip in leg.fixed_ips if ipaddress.ip_address(ip.ip_address).version == 4), None)
    if source is None:
        return Nat(gateway=leg.device)
    return Nat(
        gateway=leg.device,
        source=source,
        snat=router.enable_snat,
        floating={
            each.floating_ip_address: each.fixed_ip_address for each in sorted(router.floating_ips, key=lambda f: f.id)
        },
        forwardings=router.port_forwardings,
    )


def render(table: str, nat: Nat) -> str:
    """The whole table as text for `nft -f`: replaces ours, touches no other."""
    fixed: dict[str, str] = {}
    for floating, address in nat.floating.items():
        fixed.setdefault(address, floating)
    shifted, kept, whole = _forwardings(nat.forwardings)
    interval, ports = "flags interval", f"{{ {', '.join(map(str, sorted(WITH_PORTS)))} }}"
    blocks = [
        _map("floating", "ipv4_addr : ipv4_addr", _pairs(nat.floating)),
        _map("fixed", "ipv4_addr : ipv4_addr", _pairs(fixed)),
        _map("forwarded", "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service", shifted, interval),
        _map("forwarded-as-is", "ipv4_addr . inet_proto . inet_service : ipv4_addr", kept, interval),
        _map("forwarded-whole", "ipv4_addr . inet_proto : ipv4_addr", whole),
        # What is sent to a floating IP, from wherever, goes to its fixed address.
        f""" chain to-fixed {{
  meta l4proto {ports} dnat ip to ip daddr . meta l4proto . th dport map @forwarded
  meta l4proto {ports} dnat to ip daddr . meta l4proto . th dport map @forwarded-as-is
  dnat to ip daddr . meta l4proto map @forwarded-whole
  dnat to ip daddr map @floating
 }}
""",
        f""" chain prerouting {{
  type nat hook prerouting priority -100; policy accept;
  iifname "qr-*" ip daddr {METADATA_IP} tcp dport 80 redirect to :{METADATA_PORT}
  jump to-fixed
 }}
""",
        " chain output {\n  type nat hook output priority -100; policy accept;\n  jump to-fixed\n }\n",
        # The metadata service is reached by that redirect and in no other way.
        f""" chain input {{
  type filter hook input priority 0; policy accept;
  tcp dport {METADATA_PORT} ct status & dnat == 0 drop
 }}
""",
        _postrouting(nat),
    ]
    return f"table ip {table}\ndelete table ip {table}\ntable ip {table} {{\n{''.join(blocks)}}}\n"


def _postrouting(nat: Nat) -> str:
    """Neutron: external_gateway_nat_fip_rules, external_gateway_nat_snat_rules, floating_forward_rules."""
    lines = ["type nat hook postrouting priority 100; policy accept;"]
    if nat.source is not None:
        # Between inside networks nothing changes, unless it was sent to a floating IP …
        lines.append(f'oifname != "{nat.gateway}" ct status & dnat == 0 accept')
        lines.append("snat to ip saddr map @fixed")
        if nat.snat:
            lines.append(f'oifname "{nat.gateway}" snat to {nat.source}')
        # … from inside: then the reply has to come back this way (hairpin).
        lines.append(f'iifname != "{nat.gateway}" ct status dnat snat to {nat.source}')
    return " chain postrouting {\n" + "".join(f"  {line}\n" for line in lines) + " }\n"


def _forwardings(forwardings: Iterable[PortForwardingSpec]) -> tuple[list[str], list[str], list[str]]:
    """Elements of the three maps: to other ports, to the same ports, protocols without ports.

    nft has no "same offset in another range", so such a range is an element a port.
    """
    shifted, kept, whole = [], [], []
    for each in forwardings:
        protocol = protocol_number(each.protocol)
        key, inside = f"{each.floating_ip_address} . {protocol}", each.internal_ip_address
        (low, high), (first, last) = each.external_ports, each.internal_ports
        if protocol not in WITH_PORTS:
            whole.append(f"{key} : {inside}")
        elif (low, high) == (first, last):
            kept.append(f"{key} . {_range(low, high)} : {inside}")
        elif first == last:
            shifted.append(f"{key} . {_range(low, high)} : {inside} . {first}")
        else:
            shifted += [
                f"{key} . {port} : {inside} . {first + (port - low) % (last - first + 1)}"
                for port in range(low, high + 1)
            ]
    return shifted, kept, whole


def protocol_number(protocol: str) -> int:
    return NAMED_PROTOCOLS[protocol.lower()] if protocol.lower() in NAMED_PROTOCOLS else int(protocol)


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def _pairs(values: Mapping[str, str]) -> list[str]:
    return [f"{key} : {value}" for key, value in values.items()]


def _map(name: str, of: str, elements: Sequence[str], flags: str = "") -> str:
    lines = [f"  type {of}", *([f"  {flags}"] if flags else [])]
    if elements:
        lines.append("  elements = { " + ",\n   ".join(elements) + " }")
    return f" map {name} {{\n" + "\n".join(lines) + "\n }\n"


def stale(entry: Entry, old: Nat, new: Nat) -> bool:
    """Would this connection be translated otherwise today? (Neutron: delete_conntrack_state of what was removed.)"""
    changed = {ip for ip, _ in set(old.floating.items()) ^ set(new.floating.items())}
    if changed & {entry.destination, entry.reply_destination}:
        return True
    if any(_forwards(each, entry) for each in set(old.forwardings) ^ set(new.forwardings)):
        return True
    translated = entry.reply_destination != entry.source
    if (old.source, old.snat) == (new.source, new.snat):
        return False
    return entry.reply_destination == old.source if translated else new.snat and not old.snat


def _forwards(forwarding: PortForwardingSpec, entry: Entry) -> bool:
    protocol = protocol_number(forwarding.protocol)
    if (entry.destination, entry.protocol) != (forwarding.floating_ip_address, protocol):
        return False
    low, high = forwarding.external_ports
    return protocol not in WITH_PORTS or low <= entry.port <= high
