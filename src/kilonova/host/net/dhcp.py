"""The DHCP side of a network on this host: namespace, veth pair, addresses, dnsmasq, metadata socket."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kilonova.host.calls import outside
from kilonova.host.dataplane.namespaces import delete_namespace, ensure_namespace, is_namespace
from kilonova.host.net import metadata
from kilonova.host.net.dnsmasq import Dnsmasq, device_addresses, namespace_of, speaks_ipv6
from kilonova.host.net.link import Links
from kilonova.host.net.metadata import Address, MetadataService
from kilonova.host.net.netlink import Link, Netlink
from kilonova.host.net.resolver import FORWARD_TO, Resolver
from kilonova.host.netns import in_netns, netns_path
from kilonova.model.errors import HostError
from kilonova.model.specs import NetworkSpec, PortSpec


def dhcp_tap(network: NetworkSpec) -> str:
    """The bridge's end of the DHCP port's veth pair."""
    return f"tap{(network.dhcp_port_id or '')[:11]}"


def dhcp_device(network: NetworkSpec) -> str:
    """The namespace's end (Neutron: `ns-` and the port's id)."""
    return f"ns-{(network.dhcp_port_id or '')[:11]}"


class Dhcp:
    """All networks served on this host. What exists is known from the directories, made before anything else."""

    def __init__(self, state_dir: Path, service: MetadataService, resolver: Resolver | None) -> None:
        self._state = state_dir
        self._resolver = resolver
        self._root = state_dir / "net" / "dhcp"
        self._metadata = service
        self._inside: dict[str, tuple[int, Netlink]] = {}  # namespace → (inode, its netlink socket)
        self._servers: dict[str, Dnsmasq] = {}

    def listed(self) -> set[str]:
        """The ids of the networks that have anything of ours left."""
        try:
            return {entry.name for entry in os.scandir(self._root)}
        except FileNotFoundError:
            return set()

    def ensure(
        self, network: NetworkSpec, ports: Sequence[PortSpec], links: Links, bridge: Link, seen: Link | None
    ) -> None:
        """Addresses, metadata and DHCP of these ports are served. Raises HostError when something will not be."""
        namespace = namespace_of(network.id)
        server = self._server(network.id)
        if namespace not in self._inside or not is_namespace(netns_path(namespace)):
            server.directory.mkdir(parents=True, exist_ok=True)
            ensure_namespace(self._state, namespace)
        inside = self._netlink(namespace)
        device = self._join(network, links, bridge, seen, inside)
        addresses: list[Address] = [metadata.ADDRESS]
        if speaks_ipv6(network):
            addresses.append((metadata.ADDRESS6, 80, 0, device.index))
        try:
            self._metadata.ensure(network.id, namespace, *addresses)
            if self._resolver is not None:
                self._resolver.ensure(network.id, namespace)
        except OSError as error:
            raise HostError(f"no metadata service or no resolver in {namespace}: {error}") from error
        server.ensure(network, ports, device.name)

    def _join(self, network: NetworkSpec, links: Links, bridge: Link, seen: Link | None, inside: Netlink) -> Link:
        """The veth pair, in the bridge on one side, with the DHCP port's MAC and addresses on the other."""
        tap, name, mac = dhcp_tap(network), dhcp_device(network), str(network.dhcp_mac).lower()
        device = inside.link(name)
        if seen is not None and (device is None or device.mac != mac):
            links.delete(seen)
            seen = device = None
        if seen is None or seen.mtu != network.mtu or not seen.up or seen.alias != links.alias:
            seen = links.ensure_veth(tap, network.mtu, name, namespace_of(network.id), mac)
        links.attach(seen, bridge)
        device = device or inside.link(name)
        if device is None:
            raise HostError(f"{name} is not in the namespace {namespace_of(network.id)}")
        wanted, found = device_addresses(network), inside.addresses(device.index)
        speaks = [any(":" in address for address in addresses) for addresses in (wanted, found)]
        if not device.up or speaks[0] != speaks[1]:
            in_netns(namespace_of(network.id), _set_sysctls, name, speaks[0])
        if not device.up or device.mtu != network.mtu:
            inside.set_mtu_up(device, network.mtu)
            found = inside.addresses(device.index)
        for address in sorted(found - wanted):
            inside.change_address(device.index, address, add=False)
        for address in sorted(wanted - found):
            inside.change_address(device.index, address, add=True)
        return device

    def remove(self, network_id: str) -> None:
        """From any half-made state to nothing; the veth pair ends with its namespace."""
        namespace = namespace_of(network_id)
        self._metadata.remove(network_id)
        if self._resolver is not None:
            self._resolver.remove(network_id)
        self._server(network_id).stop()
        self._servers.pop(network_id, None)
        if namespace in self._inside:
            self._inside.pop(namespace)[1].close()
        delete_namespace(self._state, namespace)
        with suppress(FileNotFoundError):
            shutil.rmtree(self._root / network_id)

    def close(self) -> None:
        for _, connection in self._inside.values():
            connection.close()
        self._inside.clear()

    def _server(self, network_id: str) -> Dnsmasq:
        if network_id not in self._servers:
            forward_to = FORWARD_TO if self._resolver is not None else ""
            self._servers[network_id] = Dnsmasq(network_id, self._root / network_id, forward_to)
        return self._servers[network_id]

    def _netlink(self, namespace: str) -> Netlink:
        inode = os.stat(netns_path(namespace)).st_ino
        known = self._inside.get(namespace)
        if known is not None and known[0] == inode:
            return known[1]
        if known is not None:
            known[1].close()
        self._inside[namespace] = (inode, Netlink(namespace))
        return self._inside[namespace][1]


def _set_sysctls(device: str, ipv6: bool) -> None:
    """Of the namespace: the device has the addresses we give it and no other, and nothing is routed through it (a new
    namespace forwards IPv4 where the root namespace does)."""
    ours = Path("/proc/sys/net/ipv6/conf", device)
    values = {Path("/proc/sys/net/ipv4/ip_forward"): "0"}
    values |= {ours / name: value for name, value in (("accept_ra", "0"), ("autoconf", "0"), ("addr_gen_mode", "1"))}
    values[ours / "disable_ipv6"] = "0" if ipv6 else "1"
    with outside("sysctl dhcp namespace"):
        for path, value in values.items():
            if path.exists() and path.read_text().strip() != value:  # a kernel without IPv6 has half of them
                path.write_text(value)
