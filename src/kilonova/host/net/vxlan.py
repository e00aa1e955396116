"""VXLAN devices, by which a network's bridges on several hosts are one (Neutron: the Linux bridge agent's `vxlan-<VNI>`).

    the cloud's namespace                          the underlay: the namespace of the host's overlay address
    brqNET ── vxlan-VNI  ==UDP port 4789==>  eth0 ──wire── another host's

The device is born from the underlay's namespace and keeps its socket there, wherever the device itself is. It learns nothing:
who is behind which host is told to it, as Neutron's l2population does, and frames for nobody known (broadcasts, an address
that has just moved) go to each host that carries the network, and to no other.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from kilonova.host.net import netlink
from kilonova.host.net.link import Links
from kilonova.host.net.netlink import ACK, CREATE, DUMP, IFINFO, REPLACE, Link, Netlink, attribute, attributes
from kilonova.host.netns import netns_path
from kilonova.model.errors import HostError
from kilonova.model.specs import NetworkSpec, OverlaySpec

PORT = 4789  # IANA's
VXLAN_ID, VXLAN_LOCAL, VXLAN_LEARNING, VXLAN_PORT = 1, 4, 7, 15
NEWNEIGH, DELNEIGH, GETNEIGH, APPEND = 28, 29, 30, 0x800
NDMSG = struct.Struct("=BxHiHBB")
NDA_DST, NDA_LLADDR = 1, 2
NTF_SELF, PERMANENT_NOARP = 0x02, 0x80 | 0x40
FLOOD = "00:00:00:00:00:00"  # the entry of frames for nobody known

Entry = tuple[str, str]  # MAC address, the address of its host


class Overlays:
    """`underlay`: the namespace whose addresses and routes the outer packets use (None: the current one)."""

    def __init__(self, underlay: str | None) -> None:
        self.underlay = underlay

    def ensure(self, links: Links, network: NetworkSpec, bridge: Link, seen: Link | None) -> None:
        """The network's device: in its bridge, up, with exactly the entries that `network.overlay` tells."""
        overlay = network.overlay
        assert overlay is not None
        link = seen or links.netlink.link(overlay.device)
        if link is not None and told_by(link) != (overlay.vni, overlay.local):
            if link.kind != "vxlan":
                raise HostError(f"{link.name} exists and is no VXLAN but a {link.kind or 'device'}")
            links.delete(link)  # what it was born with cannot be changed
            link = None
        if link is None:
            self._add(links, overlay, network.mtu)
            link = links.netlink.link(overlay.device)
            if link is None:
                raise HostError(f"{overlay.device} vanished while it was being set up")
        links.attach_port(link, bridge, network.mtu)
        ensure_entries(links.netlink, link, overlay)

    def _add(self, links: Links, overlay: OverlaySpec, mtu: int) -> None:
        data = (
            attribute(VXLAN_ID, overlay.vni),
            attribute(VXLAN_LOCAL, socket.inet_aton(overlay.local)),
            attribute(VXLAN_LEARNING, b"\0"),
            attribute(VXLAN_PORT, struct.pack(">H", PORT)),
        )
        info = (attribute(netlink.INFO_KIND, "vxlan"), attribute(netlink.INFO_DATA, data))
        name, kind = attribute(netlink.IFLA_IFNAME, overlay.device), attribute(netlink.IFLA_LINKINFO, info)
        underlay = Netlink(self.underlay)
        try:
            with _place(links.netns) as place:
                underlay.add_link("vxlan", name, place, *links.birth(mtu), kind)
        except HostError as error:
            if netlink.refusal(error) == 17:  # EEXIST
                raise HostError(f"{overlay.device}: VNI {overlay.vni} is in use on this host already") from error
            raise
        finally:
            underlay.close()


@contextmanager
def _place(netns: str | None) -> Iterator[bytes]:
    fd = os.open(netns_path(netns) if netns else "/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield attribute(netlink.IFLA_NET_NS_FD, fd)
    finally:
        os.close(fd)


def told_by(link: Link) -> tuple[int, str] | None:
    """VNI and local address of a device that is as we make them; None for any other."""
    found = dict(attributes(link.data))
    if link.kind != "vxlan" or found.get(VXLAN_LEARNING) != b"\0" or found.get(VXLAN_PORT) != struct.pack(">H", PORT):
        return None
    local = found.get(VXLAN_LOCAL, b"")
    return int(struct.unpack("=I", found[VXLAN_ID])[0]), socket.inet_ntoa(local) if len(local) == 4 else ""


def ensure_entries(connection: Netlink, link: Link, overlay: OverlaySpec) -> None:
    wanted = {(FLOOD, peer.address) for peer in overlay.peers}
    wanted |= {(mac.lower(), peer.address) for peer in overlay.peers for mac in peer.macs}
    found = entries(connection, link)
    placed = {mac for mac, _ in wanted - {(FLOOD, peer.address) for peer in overlay.peers}}
    for entry in sorted(wanted - found):  # one that has moved is replaced: never is it nowhere
        _change(connection, link, entry, add=True)
    for entry in sorted(found - wanted):
        if entry[0] not in placed:
            _change(connection, link, entry, add=False)


def entries(connection: Netlink, link: Link) -> set[Entry]:
    """What the device has been told, flood entries included."""
    found = set()
    payload = IFINFO.pack(socket.AF_BRIDGE, 0, link.index, 0, 0)
    for kind, body in connection.request("fdb list", GETNEIGH, DUMP, payload):
        _, _, index, _, flags, _ = NDMSG.unpack_from(body)
        held = dict(attributes(body[NDMSG.size :]))
        if kind == NEWNEIGH and index == link.index and flags & NTF_SELF and len(held.get(NDA_DST, b"")) == 4:
            found.add((held[NDA_LLADDR].hex(":"), socket.inet_ntoa(held[NDA_DST])))
    return found


def _change(connection: Netlink, link: Link, entry: Entry, *, add: bool) -> None:
    mac, address = entry
    payload = NDMSG.pack(socket.AF_BRIDGE, 0, link.index, PERMANENT_NOARP, NTF_SELF, 0)
    payload += attribute(NDA_LLADDR, bytes.fromhex(mac.replace(":", ""))) + attribute(
        NDA_DST, socket.inet_aton(address)
    )
    how = CREATE | (APPEND if mac == FLOOD else REPLACE) if add else 0
    connection.request(f"fdb {'add' if add else 'delete'}", NEWNEIGH if add else DELNEIGH, ACK | how, payload)
