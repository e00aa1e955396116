"""The wire between the host and a cloud: a veth whose far end is a port of the cloud's external bridge.

    root namespace                     the cloud's namespace
    kn-<id8>  172.24.N.1/24  ==veth==  uplink -- br-ex  172.24.N.2/24, default route via .1

With --host-net there is no wire: the external bridge stands in the root namespace and has the gateway's address itself.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import time
from contextlib import closing
from pathlib import Path

from kilonova.host.calls import outside
from kilonova.host.dataplane.config import UPLINK, DataPlaneConfig
from kilonova.host.net import routes
from kilonova.host.net.netlink import IFLA_IFALIAS, IFLA_MASTER, Link, Netlink, attribute, refusal
from kilonova.model.errors import HostError

IPv4Network = ipaddress.IPv4Network
ATTEMPTS = 5
CANDIDATES = tuple(IPv4Network(f"172.24.{n}.0/24") for n in range(256))


def gateway(network: IPv4Network) -> ipaddress.IPv4Address:
    """The host's end."""
    return network.network_address + 1


def own_address(network: IPv4Network) -> ipaddress.IPv4Address:
    """The cloud's own leg: where its namespace talks to the host from."""
    return network.network_address + 2


def networks_in_use(own_link: str) -> list[IPv4Network]:
    """The IPv4 networks that the root namespace has addresses in or routes to, but for those over `own_link`."""
    with outside("netlink routes"), closing(Netlink(None)) as connection:
        own = connection.link(own_link)
        found = [
            (IPv4Network(address, strict=False), index)
            for index, addresses in connection.all_addresses().items()
            for address in addresses
            if ":" not in address
        ]
        found += routes.list_destinations(connection)
    return [network for network, index in found if own is None or index != own.index]


def first_free(taken: list[IPv4Network]) -> IPv4Network:
    for candidate in CANDIDATES:
        if not any(candidate.overlaps(each) for each in taken):
            return candidate
    raise HostError("no 172.24.N.0/24 is free on this machine: purge a cloud, or name a subnet with --public-cidr")


def ensure_wire(config: DataPlaneConfig, network: IPv4Network) -> None:
    """Veth, external bridge, addresses and the default route, from any half-done state. Raises HostError.

    The kernel takes the links of a removed namespace away a moment later, so what was just there may be gone: again.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _ensure_wire(config, network)
        except HostError as error:
            if refusal(error) != errno.ENODEV or attempt == ATTEMPTS:
                raise
            time.sleep(0.02)


def _ensure_wire(config: DataPlaneConfig, network: IPv4Network) -> None:
    if config.host_net:
        with outside("netlink external bridge"), closing(Netlink(None)) as connection:
            bridge = _ensure_bridge(connection, config)
            _only_address(connection, bridge, gateway(network), network.prefixlen)
        return
    with closing(Netlink(None)) as outer, closing(Netlink(config.netns)) as inner:
        with outside("netlink veth"):
            _ensure_veth(outer, inner, config, network)
        with outside("netlink external bridge"):
            _ensure_inside(inner, config, network)


def _ensure_veth(outer: Netlink, inner: Netlink, config: DataPlaneConfig, network: IPv4Network) -> None:
    link = outer.link(config.name)
    if link is not None:
        _refuse_foreign(link, config, "veth")
        if inner.link(UPLINK) is None:
            outer.delete_link(link)  # its other end is not in the namespace we have now
            link = None
    if link is None:
        outer.add_veth(config.name, UPLINK, config.netns)
        link = _need(outer, config.name)
    _own_and_up(outer, link, config)
    _only_address(outer, link, gateway(network), network.prefixlen)


def _ensure_inside(inner: Netlink, config: DataPlaneConfig, network: IPv4Network) -> None:
    bridge = _ensure_bridge(inner, config)
    _own_and_up(inner, _need(inner, UPLINK), config, bridge)
    _only_address(inner, bridge, own_address(network), network.prefixlen)
    default = routes.route("0.0.0.0/0", str(gateway(network)), bridge.index)
    if default not in routes.list_routes(inner)[0]:
        routes.set_route(inner, default)


def _ensure_bridge(connection: Netlink, config: DataPlaneConfig) -> Link:
    bridge = connection.link(config.external_bridge)
    if bridge is None:
        connection.add_bridge(config.external_bridge)
        bridge = _need(connection, config.external_bridge)
    _refuse_foreign(bridge, config, "bridge")
    _own_and_up(connection, bridge, config)
    return bridge


def _own_and_up(connection: Netlink, link: Link, config: DataPlaneConfig, bridge: Link | None = None) -> None:
    """With our alias, up, and in the bridge if there is one; nothing is written when that is so."""
    master = bridge.index if bridge else link.master
    if (link.alias, link.up, link.master) != (config.alias, True, master):
        attrs = attribute(IFLA_MASTER, master), attribute(IFLA_IFALIAS, config.alias.encode())
        connection.set_link(link, "link set up", *attrs, up=True)


def _need(connection: Netlink, name: str) -> Link:
    found = connection.link(name)
    if found is None:
        raise HostError(f"{name} vanished while it was set up") from OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    return found


def _refuse_foreign(link: Link, config: DataPlaneConfig, kind: str) -> None:
    """Without an alias it is ours, made just before a crash: the name says so, and the kind is right."""
    if link.alias != config.alias and (link.alias or link.kind != kind):
        raise HostError(
            f"link {link.name} exists and is not this cloud's ({link.alias or 'no alias'}): remove or rename it"
        )


def _only_address(connection: Netlink, link: Link, address: ipaddress.IPv4Address, prefix: int) -> None:
    wanted = f"{address}/{prefix}"
    there = {each for each in connection.addresses(link.index) if ":" not in each}
    for old in there - {wanted}:
        connection.change_address(link.index, old, add=False)
    if there != {wanted}:  # with an address the kernel may have taken others of its subnet away
        connection.change_address(link.index, wanted, add=True)


def delete_links(config: DataPlaneConfig) -> None:
    """Every link of this cloud in the root namespace, known by its alias (or as our veth made just before a crash)."""
    with outside("netlink delete links"), closing(Netlink(None)) as connection:
        for link in connection.links().values():
            half_made = link.name in (config.name, config.external_bridge) and not link.alias
            if link.alias == config.alias or (half_made and link.name != "br-ex"):
                connection.delete_link(link)


def links_with_alias_prefix(prefix: str) -> list[str]:
    """Names of the root namespace's links whose ifalias starts so."""
    with outside("netlink links"), closing(Netlink(None)) as connection:
        return [link.name for link in connection.links().values() if link.alias.startswith(prefix)]


def forwarding_sysctl(link: str) -> Path:
    return Path(f"/proc/sys/net/ipv4/conf/{link}/forwarding")
