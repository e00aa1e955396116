"""What the loaded rules do with a packet: a copy of them, as the kernel has them now, in a namespace of no name, and there
the packet itself with nft's trace on. Real guests see nothing, and real connections are not touched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from kilonova.host.calls import run
from kilonova.host.contract import FirstFrame, FrameTrace
from kilonova.host.net import router_trace
from kilonova.host.net.link import bridge_port_forwards, list_links
from kilonova.host.net.netlink import Link, Netlink
from kilonova.host.net.ruleset import FAMILIES
from kilonova.host.net.trial import PATIENCE, ethernet, packet_socket, traced
from kilonova.host.netns import in_scratch_netns
from kilonova.model.errors import HostError

WIRE = "kn-wire"  # in place of the device that leads out of a bridge
# Of the packet alone: the devices of the trial say something of themselves, too.
TRACE = """
table bridge kn_trace {{
  chain ours {{
    type filter hook prerouting priority -500;
    ether saddr {} meta nftrace set 1
  }}
}}
"""


def try_packets(netns: str | None, table: str, frames: Sequence[Any]) -> list[dict[str, Any]]:
    """For each FirstFrame a FrameTrace. Raises HostError when no rules are loaded."""
    tables = "".join(run(["nft", "-s", "list", "table", family, table], netns=netns) for family in FAMILIES)
    links = list_links(netns)

    def trace(frame: FirstFrame) -> FrameTrace:
        if frame.router:
            return router_trace.try_router(frame)
        delivered, rules = in_scratch_netns(_try, tables, table, frame)
        return FrameTrace(delivered=delivered, rules=rules, wiring=_wiring(links, frame))

    return [msgspec.to_builtins(trace(msgspec.convert(frame, FirstFrame))) for frame in frames]


def _wiring(links: dict[str, Link], frame: FirstFrame) -> list[str]:
    """What is wrong with the devices that the frame would cross."""
    bridge = links.get(frame.bridge)
    if bridge is None:
        return [f"the bridge {frame.bridge} is not there"]
    wrong = [] if bridge.up else [f"{frame.bridge} is down"]
    for name in (frame.ingress, frame.egress):
        link = links.get(name)
        if name and link is None:
            wrong.append(f"{name} is not there")
        elif link is not None and link.master != bridge.index:
            wrong.append(f"{name} is not in {frame.bridge}")
        elif link is not None and not link.up:
            wrong.append(f"{name} is down")
    return wrong


def _try(tables: str, table: str, frame: FirstFrame) -> tuple[bool, list[str]]:
    """In the namespace."""
    ingress, egress = frame.ingress or WIRE, frame.egress or WIRE
    for switch in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
        Path("/proc/sys/net/bridge", switch).write_text("1")
    lines = [f"link add {frame.bridge} type bridge forward_delay 0 stp_state 0 mcast_snooping 0"]
    lines += [f"link add {name} type veth peer name {end}" for name, end in ((ingress, "kn-in"), (egress, "kn-out"))]
    lines += [f"link set {name} master {frame.bridge} up" for name in (ingress, egress)]
    lines += [f"link set {name} up" for name in ("kn-in", "kn-out", frame.bridge)]
    run(["ip", "-batch", "-"], input="\n".join(lines) + "\n")
    run(["nft", "-f", "-"], input=tables + TRACE.format(frame.source_mac))
    _wait_for_carrier(ingress, egress)
    delivered, rules = traced(lambda: _cross(frame), table)
    return delivered, rules


def _wait_for_carrier(*names: str) -> None:
    netlink = Netlink(None)
    try:
        deadline = time.monotonic() + 3
        while not all(bridge_port_forwards(netlink, name) for name in names):
            if time.monotonic() > deadline:
                raise HostError("the bridge of the trial did not come up")
            time.sleep(0.01)
    finally:
        netlink.close()


def _cross(frame: FirstFrame) -> bool:
    """Sent in, and seen to come out."""
    mark = os.urandom(16)
    data = ethernet(frame, mark)
    with packet_socket("kn-in") as sender, packet_socket("kn-out") as receiver:
        sender.send(data)
        receiver.settimeout(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        with suppress(TimeoutError):
            while time.monotonic() < deadline:
                if mark in receiver.recv(65536):
                    time.sleep(0.02)  # the trace is behind the packet
                    return True
    return False
