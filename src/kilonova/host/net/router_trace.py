"""What a router does with a packet: its rules, addresses and routes as they are now, copied into a namespace of no name,
whose devices have the names of the router's legs; and there the packet itself with nft's trace on.
"""

from __future__ import annotations

import json
import os
import re
import select
import struct
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from kilonova.host.calls import run
from kilonova.host.contract import FirstFrame, FrameTrace
from kilonova.host.net.router import SYSCTLS
from kilonova.host.net.trial import PATIENCE, ethernet, packet_socket, traced
from kilonova.host.netns import in_netns, in_scratch_netns, netns_path

TRACE = """
table inet kn_trace {{
  chain ours {{
    type filter hook prerouting priority -500;
    iifname "{}" meta nftrace set 1
  }}
}}
"""
# Of a route, what is not of its making. With `onlink`, its gateway need not be where a route to it is.
PASSING = re.compile(r" (?:onlink|linkdown|dead|expires \S+|hoplimit \S+|pref \S+)")


@dataclass(frozen=True)
class Copy:
    """A router's namespace: `links` as `ip -json` shows its legs."""

    rules: str
    links: dict[str, dict[str, Any]]
    routes: tuple[tuple[str, str], ...]  # (-4 | -6, what `ip route` takes)
    sysctls: dict[str, str]


def try_router(frame: FirstFrame) -> FrameTrace:
    if not netns_path(frame.router).exists():
        return FrameTrace(delivered=False, wiring=[f"the namespace {frame.router} is not there"])
    copy = _copy(frame.router)
    wrong = [f"{name} is not there" for name in (frame.ingress, frame.egress) if name and name not in copy.links]
    wrong += [f"{name} is down" for name, link in copy.links.items() if "UP" not in link["flags"]]
    if frame.ingress not in copy.links:
        return FrameTrace(delivered=False, wiring=wrong)
    (device, data), rules = in_scratch_netns(_try, copy, frame)
    if not device:
        return FrameTrace(delivered=False, rules=rules, wiring=wrong)
    source, destination, port = _seen(data)
    return FrameTrace(
        delivered=True, rules=rules, wiring=wrong, left_by=device, source=source, destination=destination, port=port
    )


def _copy(namespace: str) -> Copy:
    links = {link["ifname"]: link for link in json.loads(run(["ip", "-json", "addr"], netns=namespace)) if link}
    routes = [
        (family, PASSING.sub("", line) + (" onlink" if " via " in line else ""))
        for family in ("-4", "-6")
        for line in run(["ip", family, "route"], netns=namespace).splitlines()
    ]
    return Copy(
        rules=run(["nft", "-s", "list", "ruleset"], netns=namespace),
        links={name: link for name, link in links.items() if name.startswith(("qr-", "qg-"))},
        routes=tuple(routes),
        sysctls=in_netns(namespace, lambda: {name: Path("/proc/sys", name).read_text() for name in SYSCTLS}),
    )


def _try(copy: Copy, frame: FirstFrame) -> tuple[tuple[str, bytes], list[str]]:
    """In the namespace. Its devices know no neighbours: what is sent leaves without a question for them."""
    for name, value in copy.sysctls.items():
        Path("/proc/sys", name).write_text(value)
    ends = {name: f"end{number}" for number, name in enumerate(copy.links)}
    lines = ["link set lo up"]
    for name, link in copy.links.items():
        lines.append(f"link add {name} address {link['address']} mtu {link['mtu']} type veth peer name {ends[name]}")
        lines += [f"link set {name} arp off up", f"link set {ends[name]} up"]
        lines += [
            f"addr add {a['local']}/{a['prefixlen']} dev {name} noprefixroute" for a in link["addr_info"] if _kept(a)
        ]
    run(["ip", "-batch", "-"], input="\n".join(lines) + "\n")
    for family, route in copy.routes:
        run(["ip", family, "route", "replace", *route.split()])
    run(["nft", "-f", "-"], input=copy.rules + TRACE.format(frame.ingress))
    return traced(lambda: _pass(ends, frame), _table(copy.rules))


def _kept(address: dict[str, Any]) -> bool:
    return bool(address["scope"] == "global" or address["family"] == "inet")


def _table(rules: str) -> str:
    """The one that translates (router_nft.py)."""
    found = re.search(r"^table ip (kilonova_\w{8}) ", rules, re.M)
    return found[1] if found else "kilonova"


def _pass(ends: dict[str, str], frame: FirstFrame) -> tuple[str, bytes]:
    """The leg by which it leaves, and what leaves; nothing when it does not."""
    mark = os.urandom(16)
    wires = {packet_socket(end): name for name, end in ends.items()}
    try:
        next(wire for wire, name in wires.items() if name == frame.ingress).send(ethernet(frame, mark))
        deadline = time.monotonic() + PATIENCE
        while (left := deadline - time.monotonic()) > 0:
            for wire in select.select(list(wires), [], [], left)[0]:
                # An error that comes back quotes the packet.
                if mark in (data := wire.recv(65536)) and not _is_error(data):
                    time.sleep(0.02)  # the trace is behind the packet
                    return wires[wire], data
        return "", b""
    finally:
        for wire in wires:
            wire.close()


def _header(data: bytes) -> tuple[int, int]:
    """Of an Ethernet frame: the protocol in its IP packet, and where that begins."""
    return (data[20], 54) if data[12:14] == b"\x86\xdd" else (data[23], 14 + (data[14] & 15) * 4)


def _is_error(data: bytes) -> bool:
    protocol, at = _header(data)
    return (protocol == 1 and data[at] not in (0, 8)) or (protocol == 58 and data[at] < 128)


def _seen(data: bytes) -> tuple[str, str, int]:
    """Source, destination and, of a protocol that has them, the destination's port."""
    protocol, at = _header(data)
    first, size = (22, 16) if data[12:14] == b"\x86\xdd" else (26, 4)
    port = struct.unpack_from("!H", data, at + 2)[0] if protocol in (6, 17) else 0
    return str(ip_address(data[first : first + size])), str(ip_address(data[first + size : first + 2 * size])), port
