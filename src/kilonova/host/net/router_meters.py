"""What a router counts for metering labels: a named nft counter a label, in a table beside the one that translates.

The rules are loaded with that one, in one transaction; the counters stay through every change of rules. Forwarded packets
are seen here with their inside addresses: after DNAT, before SNAT.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable

import msgspec

from kilonova.host.calls import run
from kilonova.model.errors import HostError
from kilonova.model.specs import MeterRuleSpec, MeterSpec, RouterSpec


class Count(msgspec.Struct, frozen=True):
    packets: int
    bytes: int


def table_name(table: str) -> str:
    return f"{table}_meters"


def render(table: str, router: RouterSpec, before: Iterable[str]) -> str:
    """Commands for `nft -f`; none where nothing is, and was, counted. `before`: the labels that may have counters."""
    table, gone = f"inet {table_name(table)}", sorted(set(before) - {meter.id for meter in router.meters})
    if not router.meters:
        return f"add table {table}\ndelete table {table}\n" if gone else ""
    gateway = router.gateway.device if router.gateway else None
    lines = [
        f"add table {table}",
        f"add chain {table} forward {{ type filter hook forward priority 10; policy accept; }}",
        f"flush chain {table} forward",
    ]
    for label in [*(meter.id for meter in router.meters), *gone]:
        lines += [f"add counter {table} {label_name(label)}", f"add chain {table} {label_name(label)}"]
        lines.append(f"flush chain {table} {label_name(label)}")
    for label in gone:
        lines += [f"delete chain {table} {label_name(label)}", f"delete counter {table} {label_name(label)}"]
    for meter in router.meters if gateway else ():
        lines += [f"add rule {table} {label_name(meter.id)} {rule}" for rule in rules(meter, str(gateway))]
        lines.append(f"add rule {table} forward jump {label_name(meter.id)}")
    return "".join(f"{line}\n" for line in lines)


def label_name(label_id: str) -> str:
    return f"label-{label_id}"


def rules(meter: MeterSpec, gateway: str) -> list[str]:
    """What is excluded comes first; of the rest, a packet counts once."""
    in_order = sorted(meter.rules, key=lambda rule: not rule.excluded)
    counted = f'counter name "{label_name(meter.id)}" return'
    return [f"{match(rule, gateway)} {'return' if rule.excluded else counted}" for rule in in_order]


def match(rule: MeterRuleSpec, gateway: str) -> str:
    words = [f'{"oifname" if rule.direction == "egress" else "iifname"} "{gateway}"']
    for side, prefix in (("saddr", rule.source), ("daddr", rule.destination)):
        if prefix:
            network = ipaddress.ip_network(prefix)
            family = "ip" if network.version == 4 else "ip6"
            words.append(f"{family} {side} {network}" if network.prefixlen else f"meta nfproto ipv{network.version}")
    return " ".join(words)


def read(namespace: str, table: str) -> dict[str, Count]:
    """Label → what it has counted at this router; empty where nothing is counted."""
    try:
        listing = run(["nft", "-j", "list", "counters", "table", "inet", table_name(table)], netns=namespace)
    except HostError:
        return {}
    found = (each["counter"] for each in json.loads(listing)["nftables"] if "counter" in each)
    return {
        counter["name"].removeprefix("label-"): Count(packets=counter["packets"], bytes=counter["bytes"])
        for counter in found
    }
