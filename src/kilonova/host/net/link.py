"""Bridges and taps by netlink. `plug_vifs` and the port loop call the same functions, so that either may come first.

All that we make carries the ifalias `kilonova:<cloud_id>`; what lacks it is never changed or removed. The alias is a
second message after the device's birth, so devices are also born in an interface group of the cloud: one that a crash
left without its alias is still known as ours.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kilonova.host.calls import outside
from kilonova.host.net import netlink
from kilonova.host.net.netlink import Link, Netlink, attribute, attributes
from kilonova.host.netns import in_netns
from kilonova.model.errors import HostError
from kilonova.model.specs import NetworkSpec

TUNSETIFF, TUNSETPERSIST = 0x400454CA, 0x400454CB
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
EEXIST, ENODEV = 17, 19
INFO_SLAVE_DATA, BRPORT_STATE, FORWARDING = 5, 1, 3


def alias_of(cloud_id: str) -> str:
    return f"kilonova:{cloud_id}"


def group_of(cloud_id: str) -> int:
    """The interface group that devices of a cloud are born in; never 0, the group of everyone else."""
    return int(cloud_id.replace("-", "")[:7], 16) | 0x40000000


class Links:
    """The devices of one network namespace (None: the current one), over one netlink socket."""

    def __init__(self, netns: str | None, cloud_id: str) -> None:
        self.netns = netns
        self.cloud_id = cloud_id
        self.alias = alias_of(cloud_id)
        self.group = group_of(cloud_id)
        self.netlink = Netlink(netns)

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.netlink.close()

    def list(self) -> dict[str, Link]:
        return self.netlink.links()

    def ours(self, link: Link) -> bool:
        return link.alias == self.alias or (not link.alias and link.group == self.group)

    def ensure_bridge(self, name: str, mtu: int, seen: Link | None = None) -> Link:
        """The bridge, up, with our alias, no STP, and no address by which guests could talk to the host."""
        link = seen or self.netlink.link(name)
        if link is None:
            with self._unless_there():
                self.netlink.add_bridge(name, *self.birth(mtu))
            link = self._need(name)
        elif link.kind != "bridge":
            raise HostError(f"{name} exists and is no bridge but a {link.kind or 'device'}")
        return self._finish(link, mtu)

    def ensure_tap(self, name: str, mtu: int) -> Link:
        """A persistent tap (Nova: `create_tap_dev`), up, with our alias; not yet in a bridge."""
        link = self.netlink.link(name)
        if link is None:
            with outside("tap add"):
                in_netns(self.netns, self._make_tap, name)
            link = self._need(name)
        elif link.kind not in ("tun", "veth"):
            raise HostError(f"{name} exists and is no tap but a {link.kind or 'device'}")
        return self._finish(link, mtu)

    def _make_tap(self, name: str) -> None:
        # Persistent only once it has its alias: a crash before that closes the file, and the tap is gone.
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        try:
            flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
            try:
                fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            except OSError as error:
                raise HostError(f"cannot make the tap {name}: {error.strerror}") from error
            self.netlink.set_link(
                self._need(name), "link set alias", attribute(netlink.IFLA_IFALIAS, self.alias.encode())
            )
            fcntl.ioctl(fd, TUNSETPERSIST, 1)
        finally:
            os.close(fd)

    def attach(self, link: Link, bridge: Link, mtu: int | None = None) -> None:
        """Put a device into a bridge, mark it as ours, give it this MTU, and bring it up; nothing when that is so already."""
        if link.alias != self.alias:
            if link.alias.startswith("kilonova:"):
                raise HostError(f"{link.name} belongs to another cloud ({link.alias})")
            self.netlink.set_link(link, "link set alias", attribute(netlink.IFLA_IFALIAS, self.alias.encode()))
        if link.master != bridge.index:
            self.netlink.set_link(link, "link set master", attribute(netlink.IFLA_MASTER, bridge.index))
        if mtu is not None and link.mtu != mtu:
            self.netlink.set_link(link, "link set mtu", attribute(netlink.IFLA_MTU, mtu))
        if not link.up:
            self.netlink.set_link(link, "link set up", up=True)

    def detach(self, link: Link) -> None:
        """Out of its bridge, and otherwise as it is; nothing when it is gone."""
        try:
            self.netlink.set_link(link, "link set nomaster", attribute(netlink.IFLA_MASTER, 0))
        except HostError as error:
            if netlink.refusal(error) != ENODEV:
                raise

    def attach_port(self, link: Link, bridge: Link, mtu: int) -> None:
        """As `attach`, of a device that is our own from its birth: the host takes no address on it either."""
        if not link.up:
            disable_ipv6(self.netns, link.name)
        self.attach(link, bridge, mtu)

    def ensure_veth(self, name: str, mtu: int, peer: str, peer_netns: str, peer_mac: str) -> Link:
        """A pair of devices: `name` here, `peer` with its MAC address in another namespace (up is the caller's)."""
        link = self.netlink.link(name)
        if link is None:
            mac = attribute(netlink.IFLA_ADDRESS, bytes.fromhex(peer_mac.replace(":", "")))
            with self._unless_there():
                size = attribute(netlink.IFLA_MTU, mtu)
                self.netlink.add_veth(name, peer, peer_netns, *self.birth(mtu), peer_attrs=mac + size)
            link = self._need(name)
        return self._finish(link, mtu)

    def delete(self, link: Link) -> None:
        """Remove a device of ours. Raises HostError for anybody else's."""
        if not self.ours(link):
            raise HostError(f"{link.name} is not ours (ifalias {link.alias!r}): left alone")
        self.netlink.delete_link(link)

    def birth(self, mtu: int) -> tuple[bytes, ...]:
        """What a device has from its first moment."""
        return attribute(netlink.IFLA_MTU, mtu), attribute(netlink.IFLA_GROUP, self.group)

    @contextmanager
    def _unless_there(self) -> Iterator[None]:
        try:
            yield
        except HostError as error:
            if netlink.refusal(error) != EEXIST:  # else: the step or the loop was faster
                raise

    def _finish(self, link: Link, mtu: int) -> Link:
        """From any half-made state to done: alias, no IPv6 of the host's own on it, MTU, up."""
        if link.alias.startswith("kilonova:") and link.alias != self.alias:
            raise HostError(f"{link.name} belongs to another cloud ({link.alias})")
        if link.alias == self.alias and link.mtu == mtu and link.up:
            return link
        if link.alias != self.alias:
            self.netlink.set_link(link, "link set alias", attribute(netlink.IFLA_IFALIAS, self.alias.encode()))
        if not link.up:
            disable_ipv6(self.netns, link.name)
        if link.mtu != mtu or not link.up:
            self.netlink.set_mtu_up(link, mtu)
        return self._need(link.name)

    def _need(self, name: str) -> Link:
        link = self.netlink.link(name)
        if link is None:
            raise HostError(f"{name} vanished while it was being set up")
        return link


def ensure_network_bridge(links: Links, network: NetworkSpec, seen: dict[str, Link]) -> Link:
    """The network's bridge, kept in `seen`. That of a physical network is somebody else's: used as it is, or missed."""
    found = seen.get(network.bridge)
    if not network.physical_bridge:
        found = links.ensure_bridge(network.bridge, network.mtu, found)
    elif found is None or found.kind != "bridge":
        raise HostError(f"the bridge {network.bridge} of network {network.id}'s physical network is not there")
    seen[network.bridge] = found
    return found


def bridge_port_forwards(connection: Netlink, name: str) -> bool:
    """Frames of this port of a bridge are passed on: not so for the kernel's moment until its carrier is known."""
    payload = netlink.IFINFO.pack(0, 0, 0, 0, 0) + attribute(netlink.IFLA_IFNAME, name)
    for kind, body in connection.request("link get", netlink.GETLINK, netlink.ACK, payload):
        if kind == netlink.NEWLINK:
            info = dict(attributes(dict(attributes(body[netlink.IFINFO.size :])).get(netlink.IFLA_LINKINFO, b"")))
            state = dict(attributes(info.get(INFO_SLAVE_DATA, b""))).get(BRPORT_STATE, b"")
            return state == bytes([FORWARDING])
    return False


def disable_ipv6(netns: str | None, name: str) -> None:
    """The host takes no link-local address on a device of the guests (Neutron: `disable_ipv6` of its bridges)."""
    with outside("sysctl disable_ipv6"):
        in_netns(netns, _write, Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1")


def _write(path: Path, value: str) -> None:
    if path.exists():  # a kernel without IPv6 has nothing to switch off
        path.write_text(value)


def ensure_bridge(netns: str | None, name: str, mtu: int, cloud_id: str) -> None:
    """The bridge of a network. Raises HostError when the name is taken by something else or by another cloud."""
    with Links(netns, cloud_id) as links:
        links.ensure_bridge(name, mtu)


def ensure_tap(netns: str | None, name: str, mtu: int, cloud_id: str) -> None:
    """The tap of a port whose VIF type is `tap`: QEMU opens it by name."""
    with Links(netns, cloud_id) as links:
        links.ensure_tap(name, mtu)


def attach(netns: str | None, bridge: str, name: str, cloud_id: str) -> None:
    """Put a tap into its bridge. Raises HostError when either is not there."""
    with Links(netns, cloud_id) as links:
        port, master = links.netlink.link(name), links.netlink.link(bridge)
        if port is None or master is None:
            raise HostError(f"cannot plug {name} into {bridge}: {bridge if port else name} does not exist")
        links.attach(port, master)


def delete_link(netns: str | None, name: str, cloud_id: str | None = None) -> None:
    """Remove a device of ours (of this cloud, if given); nothing when it is gone, HostError when it is not ours."""
    connection = Netlink(netns)
    try:
        link = connection.link(name)
        if link is None:
            return
        wanted = alias_of(cloud_id) if cloud_id else "kilonova:"
        half_made = cloud_id is not None and not link.alias and link.group == group_of(cloud_id)
        if not link.alias.startswith(wanted) and not half_made:
            raise HostError(f"{name} is not ours (ifalias {link.alias!r}): left alone")
        connection.delete_link(link)
    finally:
        connection.close()


def list_links(netns: str | None) -> dict[str, Link]:
    """All devices of a namespace by name, each with its ifalias, kind, master and state."""
    connection = Netlink(netns)
    try:
        return connection.links()
    finally:
        connection.close()
