"""The network of this host's ports, kept true: bridges, taps, rules, DHCP, metadata (Neutron: the L2 and DHCP agents)."""

from __future__ import annotations

import ipaddress
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kilonova.host.dataplane.bridge_nf import ensure_filtering
from kilonova.host.dataplane.namespaces import is_namespace
from kilonova.host.net import metadata, shaping
from kilonova.host.net.dhcp import Dhcp, dhcp_tap
from kilonova.host.net.dnsmasq import link_local, namespace_of, served_ips, wants_dhcp
from kilonova.host.net.link import Links, ensure_network_bridge
from kilonova.host.net.netlink import Link, LinkWatch
from kilonova.host.net.port_rules import PortRules
from kilonova.host.net.resolver import Resolver
from kilonova.host.net.router import Routers
from kilonova.host.net.router_meters import Count
from kilonova.host.net.vxlan import Overlays
from kilonova.host.netns import netns_path
from kilonova.model.errors import HostError
from kilonova.model.specs import HostNetwork, NetworkSpec, PortSpec, ServerSpec

LOG = logging.getLogger(__name__)
ACTIVE, DOWN = "ACTIVE", "DOWN"
OURS = ("tap", "brq", "vxlan-")  # the beginnings of the names of our devices, which are no one else's with our alias
LIBVIRT_PLUGS_WITHIN = (
    5.0  # seconds between libvirt's making a tap and its putting it into the bridge, at the very most
)


class HostNet:
    """The bridges and taps live in network namespace `netns` (None: the host's own).

    state_dir: the cloud's directory. source: what the metadata service serves. name_servers: what guests' DNS queries are
    passed on to; None: to nobody. underlay: the namespace of the host's overlay address (None: the current one).
    Nothing is touched before the first `apply`.
    """

    def __init__(
        self,
        netns: str | None,
        cloud_id: str,
        state_dir: Path,
        source: metadata.Source = metadata.Source(),
        name_servers: Callable[[], tuple[str, ...]] | None = None,
        underlay: str | None = None,
    ) -> None:
        self.netns = netns
        self.cloud_id = cloud_id
        self._source = source
        self._rules = PortRules(cloud_id, state_dir / "net")
        self.table = self._rules.table
        self._lock = threading.RLock()
        self._metadata = metadata.MetadataService(self._answer, self._post)
        self._resolver = Resolver(name_servers) if name_servers is not None else None
        self._dhcp = Dhcp(state_dir, self._metadata, self._resolver)
        self._routers = Routers(state_dir, cloud_id, self._metadata)
        self._overlays = Overlays(underlay)
        self._links: Links | None = None
        self._inode = 0
        self._orphans: set[str] = set()  # seen in the last pass too
        self._loose: dict[str, float] = {}  # tap → when it was first seen outside its bridge
        self._sources: dict[str, tuple[PortSpec, tuple[str, ...]]] = {}  # port id → it, and its addresses
        self._by_address: dict[tuple[str, str], PortSpec] = {}  # (network, address) → who has it

    @property
    def pending(self) -> bool:
        """Something waits for a second look: apply again soon."""
        return bool(self._orphans or self._loose) or self._routers.pending

    def dhcp_namespace(self, network_id: str) -> str:
        """The name of the namespace that sees the network's guests directly."""
        return namespace_of(network_id)

    def watch(self) -> LinkWatch:
        """Wakes when a device of the namespace comes, goes or changes."""
        return LinkWatch(self.netns)

    def apply(self, desired: HostNetwork) -> dict[str, str]:
        """Makes `desired` true, changing only what differs; port id → ACTIVE (truly wired) or DOWN.

        What is not desired is blocked at once and removed when the next pass says so too: a port may have been bound
        and plugged after `desired` was asked for. A network that cannot be served leaves its ports DOWN and the
        others alone; HostError when nothing can be done.
        """
        with self._lock:
            links = self._connect()
            ensure_filtering(self.netns)
            seen = links.list()
            wanted = _with_ports(desired)
            self._index(wanted.ports)
            self._routers.release(desired.routers, desired.networks, seen)
            orphans = self._find_orphans(links, seen, wanted) - {port.tap for port in desired.ports}
            self._rules.apply(wanted, {name for name in orphans if name.startswith("tap")})
            unrouted = self._routers.ensure(links, seen)
            statuses: dict[str, str] = {}
            for network in wanted.networks:
                ports = [port for port in wanted.ports if port.network_id == network.id]
                statuses.update(self._apply_network(links, seen, network, ports))
            self._loose = {tap: since for tap, since in self._loose.items() if tap in seen}
            self._remove(links, seen, orphans, wanted)
            statuses.update(dict.fromkeys(unrouted, DOWN))
            return {port.id: statuses.get(port.id, DOWN) for port in desired.ports}

    def _index(self, ports: Sequence[PortSpec]) -> None:
        """Whose a metadata request from an address is."""
        known, found = self._sources, dict[str, tuple[PortSpec, tuple[str, ...]]]()
        for port in ports:
            before = known.get(port.id)
            found[port.id] = before if before and before[0] is port else (port, _addresses(port))
        if found != known:
            self._sources = found
            self._by_address = {
                (port.network_id, address): port for port, addresses in found.values() for address in addresses
            }

    def _connect(self) -> Links:
        inode = os.stat(netns_path(self.netns)).st_ino if self.netns is not None and self._netns_exists() else 0
        if self._links is not None and inode == self._inode:
            return self._links
        self._disconnect()  # the namespace was made anew
        self._links, self._inode = Links(self.netns, self.cloud_id), inode
        self._rules.connect(self.netns)
        return self._links

    def _netns_exists(self) -> bool:
        return self.netns is not None and is_namespace(netns_path(self.netns))

    def _find_orphans(self, links: Links, seen: Mapping[str, Link], desired: HostNetwork) -> set[str]:
        wanted = {port.tap for port in desired.ports} | {network.bridge for network in desired.networks}
        wanted |= {dhcp_tap(network) for network in desired.networks if wants_dhcp(network)}
        wanted |= {network.overlay.device for network in desired.networks if network.overlay}
        bridges = {link.index for link in seen.values() if link.name.startswith("brq") and links.ours(link)}
        return {
            link.name
            for link in seen.values()
            if link.name not in wanted
            and ((link.name.startswith(OURS) and links.ours(link)) or link.master in bridges)
        }

    def _apply_network(
        self, links: Links, seen: dict[str, Link], network: NetworkSpec, ports: list[PortSpec]
    ) -> dict[str, str]:
        statuses = {}
        try:
            bridge = ensure_network_bridge(links, network, seen)
        except HostError as error:
            LOG.warning("network %s: %s", network.id, error)
            return {}
        served = carried = True
        if network.overlay is not None:
            try:
                self._overlays.ensure(links, network, bridge, seen.get(network.overlay.device))
            except (HostError, OSError) as error:
                LOG.warning("network %s: %s", network.id, error)
                carried = False
        if wants_dhcp(network):
            try:
                self._dhcp.ensure(network, ports, links, bridge, seen.get(dhcp_tap(network)))
            except (HostError, OSError) as error:
                LOG.warning("network %s: %s", network.id, error)
                served = False
        for port in ports:
            try:
                plugged = self._plug(links, seen.get(port.tap), bridge, port, network.mtu)
            except HostError as error:  # a tap may go while we look at it
                LOG.warning("port %s: %s", port.id, error)
                plugged = False
            wired = plugged and carried and port.admin_state_up and (served or not served_ips(network, port))
            statuses[port.id] = ACTIVE if wired else DOWN
        return statuses

    def _plug(self, links: Links, tap: Link | None, bridge: Link, port: PortSpec, mtu: int) -> bool:
        """In its bridge, marked as ours, with its network's MTU, and up."""
        if tap is None:
            self._loose.pop(port.tap, None)
            return False
        if tap.master != bridge.index and port.vif_type == "bridge" and tap.alias != links.alias:
            # libvirt plugs this one itself, and fails if it finds that done.
            since = self._loose.setdefault(port.tap, time.monotonic())
            if time.monotonic() - since < LIBVIRT_PLUGS_WITHIN:
                return False
        self._loose.pop(port.tap, None)
        links.attach(tap, bridge, mtu)
        try:
            shaping.ensure(links.netlink, tap, port.qos.ingress, mtu)
        except HostError as error:  # a kernel without tbf: the guest is unlimited, and reached
            LOG.warning("port %s: no bandwidth limit: %s", port.id, error)
        return True

    def _remove(self, links: Links, seen: Mapping[str, Link], orphans: set[str], desired: HostNetwork) -> None:
        for network_id in self._dhcp.listed() - {n.id for n in desired.networks if wants_dhcp(n)}:
            self._dhcp.remove(network_id)
        for name in sorted(orphans & self._orphans, reverse=True):  # taps before bridges
            if links.ours(seen[name]):
                links.delete(seen[name])
            else:  # somebody's own, in a bridge of ours
                links.detach(seen[name])
        self._orphans = orphans - self._orphans

    def _answer(self, asked: str, address: str, path: str) -> bytes | None:
        """`asked`: the network, or the router, in whose namespace the request arrived."""
        return metadata.lookup(path, self._asking(asked, address), self._source)

    def _asking(self, asked: str, address: str) -> ServerSpec:
        networks = self._routers.networks(asked) or (asked,)
        found = [self._by_address[key] for network_id in networks if (key := (network_id, address)) in self._by_address]
        server = self._source.server(found[0].device_id) if found else None
        # Whoever may write a port may write any device_id into it (Nova: _validate_shared_secret's X-Tenant-ID).
        if server is None or server.project_id != found[0].project_id:
            raise KeyError(address)
        return server

    def _post(self, asked: str, address: str, password: str) -> bool:
        return self._source.set_password(self._asking(asked, address).id, password)

    def meters(self) -> dict[str, dict[str, Count]]:
        """router id → metering label → what it has counted there."""
        return self._routers.meters()

    def close(self) -> None:
        """Lets go of sockets and threads; bridges, taps, rules and dnsmasq live on."""
        with self._lock:
            self._metadata.close()
            if self._resolver is not None:
                self._resolver.close()
            self._dhcp.close()
            self._routers.close()
            self._disconnect()

    def _disconnect(self) -> None:
        if self._links is not None:
            self._links.close()
        self._rules.close()
        self._links = None

    def purge(self) -> None:
        """Removes all that is this cloud's: the end of `down --purge`. Works after any crash, and twice."""
        with self._lock:
            self._routers.purge()
            for network_id in self._dhcp.listed():
                self._dhcp.remove(network_id)
            if self.netns is None or self._netns_exists():
                links = self._connect()
                for name, link in sorted(links.list().items(), reverse=True):
                    if name.startswith(OURS) and links.ours(link):
                        links.delete(link)
                self._rules.purge(self.netns)
            self._rules.forget()
            self._orphans = set()


def _addresses(port: PortSpec) -> tuple[str, ...]:
    given = (*(fixed.ip_address for fixed in port.fixed_ips), link_local(port.mac_address))
    return tuple(str(ipaddress.ip_address(address)) for address in given)


def _with_ports(desired: HostNetwork) -> HostNetwork:
    """Without networks that have no port here: they cost nothing until they have one."""
    used = {port.network_id for port in desired.ports}
    networks = tuple(network for network in desired.networks if network.id in used)
    known = {network.id for network in networks}
    ports = tuple([port for port in desired.ports if port.network_id in known])
    return HostNetwork(networks=networks, ports=ports, routers=desired.routers, groups=desired.groups)
