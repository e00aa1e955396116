"""The bandwidth limit towards a guest: a token bucket on its tap (tc-tbf, as Neutron's Linux bridge agent made it).

What leaves a tap towards the guest can wait, so it is shaped; what comes from the guest cannot, and nft drops it (`nft.py`).
Numbers are those of linux/pkt_sched.h.
"""

from __future__ import annotations

import struct

from kilonova.host.net.netlink import ACK, CREATE, REPLACE, Link, Netlink, attribute, attributes
from kilonova.model.specs import LimitSpec

NEWQDISC, DELQDISC, GETQDISC = 36, 37, 38
TCMSG = struct.Struct("=BxxxiIII")
ROOT = 0xFFFFFFFF
ECHO = 8  # else the kernel tells the answer to listeners only
TCA_KIND, TCA_OPTIONS, TBF_PARMS, TBF_BURST = 1, 2, 1, 6
ETHERNET = 1  # a link layer that needs no table of rates
RATE = struct.Struct("=BBHhHI")
PARMS = struct.Struct("=12s12sIII")
UINT_MAX = 2**32 - 1
LATENCY = 0.05  # seconds that a packet waits at most (Neutron: tbf_latency)
BURST_RATE = 0.8  # of the rate, where no burst is given (neutron_lib: DEFAULT_BURST_RATE)
TIMER = 250  # the kernel's ticks a second, at least: what a tick brings must fit the bucket


def bucket(limit: LimitSpec, mtu: int) -> tuple[int, int, int]:
    """(bytes a second, bytes that may pass at once, bytes that may wait). A whole packet always fits."""
    rate = min(limit.kbps * 125, UINT_MAX)
    burst = int((limit.burst_kb or limit.kbps * BURST_RATE) * 125)
    burst = min(max(burst, rate // TIMER, mtu + 64), UINT_MAX // 2)
    return rate, burst, min(int(rate * LATENCY) + burst, UINT_MAX)


def ensure(netlink: Netlink, link: Link, limit: LimitSpec | None, mtu: int) -> None:
    """The device has this limit, or none; nothing is written when that is so. Raises HostError."""
    if limit is None:
        if link.qdisc == "tbf":
            netlink.request("qdisc delete", DELQDISC, ACK, TCMSG.pack(0, link.index, 0, ROOT, 0))
        return
    rate, burst, queue = bucket(limit, mtu)
    if link.qdisc == "tbf" and _found(netlink, link) == (rate, queue):
        return
    parms = PARMS.pack(RATE.pack(0, ETHERNET, 0, 0, 0, rate), bytes(12), queue, 0, 0)
    options = (attribute(TBF_PARMS, parms), attribute(TBF_BURST, burst))
    payload = TCMSG.pack(0, link.index, 0, ROOT, 0) + attribute(TCA_KIND, "tbf") + attribute(TCA_OPTIONS, options)
    netlink.request("qdisc set", NEWQDISC, ACK | CREATE | REPLACE, payload)


def _found(netlink: Netlink, link: Link) -> tuple[int, int]:
    """(bytes a second, bytes that may wait), which tell the burst too; zeros when it is none of this kind."""
    for kind, body in netlink.request("qdisc get", GETQDISC, ACK | ECHO, TCMSG.pack(0, link.index, 0, ROOT, 0)):
        options = dict(attributes(dict(attributes(body[TCMSG.size :])).get(TCA_OPTIONS, b"")))
        if kind == NEWQDISC and TBF_PARMS in options:
            rate, _, queue, _, _ = PARMS.unpack_from(options[TBF_PARMS])
            return RATE.unpack(rate)[-1], queue
    return 0, 0
