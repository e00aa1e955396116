"""Routers: a namespace `qrouter-<id>` each, as Neutron's L3 agent makes them, kept true in every pass.

A leg is a veth pair: `qr-…` (inside networks) or `qg-…` (the external one) in the namespace, `tap…` in the network's bridge.
"""

from __future__ import annotations

import dataclasses
import hashlib
import ipaddress
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from kilonova.host.calls import outside
from kilonova.host.dataplane.namespaces import delete_namespace, ensure_namespace, is_namespace
from kilonova.host.net import arp, conntrack, netlink, radvd, router_meters, routes, ruleset
from kilonova.host.net.dnsmasq import METADATA_IP6, wants_dhcp
from kilonova.host.net.link import Links, bridge_port_forwards, ensure_network_bridge
from kilonova.host.net.metadata import MetadataService
from kilonova.host.net.netlink import NETLINK_NETFILTER, Link, Netlink, attribute
from kilonova.host.net.router_nft import METADATA_PORT, Nat, nat_of, render, stale
from kilonova.host.net.routes import Route
from kilonova.host.netns import in_netns, netns_path
from kilonova.model.errors import HostError
from kilonova.model.specs import NetworkSpec, RouterPortSpec, RouterSpec, SubnetSpec

LOG = logging.getLogger(__name__)
Networks = Mapping[str, NetworkSpec]
SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/arp_ignore": "1",  # a leg answers for its own addresses, not for those of others
    "net/ipv4/conf/all/arp_announce": "2",
    "net/ipv4/conf/all/promote_secondaries": "1",
    "net/ipv4/conf/all/accept_source_route": "0",
    "net/ipv6/conf/all/accept_source_route": "-1",
    # A guest must not be shown a shorter way: past the router, replies would not be translated back.
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/conf/default/send_redirects": "0",
}


@dataclasses.dataclass(frozen=True)
class Leg:
    """One leg with what its device must carry, as `10.0.0.1/24`."""

    port: RouterPortSpec
    network: NetworkSpec
    addresses: frozenset[str]

    @property
    def subnets(self) -> list[SubnetSpec]:
        """Those that the leg has an address in."""
        own = {ip.subnet_id for ip in self.port.fixed_ips}
        return [subnet for subnet in self.network.subnets if subnet.id in own]

    @property
    def answers6(self) -> bool:
        """The metadata service is at its IPv6 address here: where no DHCP server of the network has that (Neutron's
        L3 and DHCP agents share this out in the same way)."""
        return not self.port.external and not wants_dhcp(self.network) and any(s.ip_version == 6 for s in self.subnets)

    def sysctls(self) -> dict[str, str]:
        """Its link-local address, if any, is there at once: no duplicate address detection."""
        conf = f"net/ipv6/conf/{self.port.device}"
        versions = {subnet.ip_version for subnet in self.subnets}
        if 6 not in versions:
            return {f"{conf}/disable_ipv6": "1"}
        # Upstream's advertisements say the way out where nobody else does (Neutron: _enable_ra_on_gw).
        has_gateway = any(subnet.gateway_ip for subnet in self.subnets if subnet.ip_version == 6)
        accept = "2" if self.port.external and not has_gateway else "0"
        return {
            f"{conf}/dad_transmits": "0",
            f"{conf}/accept_ra": accept,
            f"{conf}/ndisc_notify": "1",
            f"{conf}/disable_ipv6": "0",
        }


def legs_of(router: RouterSpec, networks: Networks) -> list[Leg]:
    """Raises HostError when a leg's network or subnet is not among the host's."""
    legs = []
    floating = {f"{address}/32" for address in nat_of(router).addresses}
    for port in router.ports:
        if not port.admin_state_up:
            continue
        network = networks.get(port.network_id)
        lengths = (
            {s.id: ipaddress.ip_network(s.cidr, strict=False).prefixlen for s in network.subnets} if network else {}
        )
        if network is None or any(ip.subnet_id not in lengths for ip in port.fixed_ips):
            raise HostError(f"router {router.id}: the network or a subnet of its port {port.id} is not known here")
        own = {f"{ipaddress.ip_address(ip.ip_address)}/{lengths[ip.subnet_id]}" for ip in port.fixed_ips}
        leg = Leg(port, network, frozenset(own | floating if port.external else own))
        metadata = {f"{METADATA_IP6}/64"} if leg.answers6 else set()
        legs.append(dataclasses.replace(leg, addresses=leg.addresses | metadata))
    return legs


def wanted_routes(router: RouterSpec, legs: Iterable[Leg], index: Mapping[str, int]) -> dict[tuple[str, int], Route]:
    """By key. index: device → its number. The external subnets' gateways give the default routes, the network's other
    subnets are on its link; extra routes win."""
    found: dict[tuple[str, int], Route] = {}
    for leg in legs:
        for subnet in leg.network.subnets if leg.port.external else ():
            if subnet not in leg.subnets:  # floating IPs may be in any of the external network's
                one = routes.route(subnet.cidr, None, index[leg.port.device])
                found[one.key] = one
            elif subnet.gateway_ip:
                gateway = ipaddress.ip_address(subnet.gateway_ip)
                onlink = gateway not in ipaddress.ip_network(subnet.cidr, strict=False) and not gateway.is_link_local
                default = "::/0" if subnet.ip_version == 6 else "0.0.0.0/0"
                one = routes.route(default, subnet.gateway_ip, index[leg.port.device], onlink=onlink)
                found.setdefault(one.key, one)
    for destination, nexthop in router.routes:
        address = ipaddress.ip_address(nexthop)
        over = [leg for leg in legs for s in leg.subnets if address in ipaddress.ip_network(s.cidr, strict=False)]
        if not over:
            LOG.warning("router %s: no leg leads to %s, the next hop to %s", router.id, nexthop, destination)
            continue
        one = routes.route(destination, nexthop, index[over[0].port.device])
        found[one.key] = one
    return found


class Applied(msgspec.Struct):
    """What the router's namespace was last given: its inode, nft's generation there and the hash of the rules; `nat` is
    what the connections that live were translated by; `announced`: (device's index, address), as neighbours know."""

    inode: int = 0
    generation: int = -1
    version: str = ""
    nat: Nat = Nat()
    announced: set[tuple[int, str]] = set()
    labels: list[str] = []  # that may have a counter


class Router:
    """One router on this host. `directory` says that it exists, before anything else does."""

    def __init__(self, router_id: str, state_dir: Path, table: str) -> None:
        self.id = router_id
        self.namespace = f"qrouter-{router_id}"
        self.directory = state_dir / "net" / "routers" / router_id
        self.pending = False  # an address waits to be announced until its bridge lets frames through
        self._state, self._table = state_dir, table
        self._radvd = radvd.Radvd(self.namespace, self.directory)
        self._inside: Netlink | None = None
        self._nft: Netlink | None = None
        self._inode = 0
        self._done: tuple[RouterSpec, list[Leg]] | None = None  # what the last pass made true
        self.answers6: dict[str, int] = {}  # network → the device that has the metadata service's IPv6 address
        self._applied = self._read()

    def release(self, spec: RouterSpec, networks: Networks) -> None:
        """Gives up the external addresses that are no longer its own: another router may take them in this pass."""
        if not is_namespace(netns_path(self.namespace)):
            return
        legs = legs_of(spec, networks)
        if self._done == (spec, legs):
            return
        inside = self._open()
        wanted = {leg.port.device: leg.addresses for leg in legs if leg.port.external}
        found = routes.list_addresses(inside)
        for link in inside.links().values():
            if link.name.startswith("qg-"):
                for address in sorted(found.get(link.index, set()) - wanted.get(link.name, frozenset())):
                    inside.change_address(link.index, address, add=False)

    def ensure(self, spec: RouterSpec, networks: Networks, links: Links, seen: dict[str, Link]) -> None:
        """All of it. `seen`: the devices of the bridges' namespace, brought up to date. Raises HostError, OSError."""
        legs, nat = legs_of(spec, networks), nat_of(spec)
        self._done, self.pending = None, False
        if not is_namespace(netns_path(self.namespace)) or self._inside is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            ensure_namespace(self._state, self.namespace)
        inside = self._open()
        there = inside.links()
        known = {key: value for leg in legs if leg.port.device in there for key, value in leg.sysctls().items()}
        self._set_sysctls({**SYSCTLS, **known})
        self._apply_rules(spec, nat)  # before the first packet can pass without them
        for name in sorted(set(there) - {leg.port.device for leg in legs}):
            if name.startswith(("qr-", "qg-")):
                inside.delete_link(there.pop(name))
                seen.pop(_tap_of(name), None)
        for leg in legs:
            there[leg.port.device] = self._join(leg, links, seen, there.get(leg.port.device))
        index = {leg.port.device: there[leg.port.device].index for leg in legs}
        self._apply_addresses(legs, index)
        self._apply_routes(wanted_routes(spec, legs, index))
        self._forget_connections(nat)
        self._announce(legs, index, links)
        self._radvd.ensure(radvd.render((leg.port, leg.network) for leg in legs))
        self.answers6 = {leg.network.id: index[leg.port.device] for leg in legs if leg.answers6}
        self._done = (spec, legs)

    def remove(self, seen: dict[str, Link]) -> None:
        """From any half-made state to nothing. The devices go first: a namespace's own go some time after it."""
        if is_namespace(netns_path(self.namespace)):
            self._radvd.ensure("")
            inside = self._open()
            for link in inside.links().values():
                if link.name.startswith(("qr-", "qg-")):
                    inside.delete_link(link)
                    seen.pop(_tap_of(link.name), None)
        self.close()
        delete_namespace(self._state, self.namespace)
        with suppress(FileNotFoundError):
            shutil.rmtree(self.directory)

    def close(self) -> None:
        for connection in (self._inside, self._nft):
            if connection is not None:
                connection.close()
        self._inside = self._nft = None

    def _open(self) -> Netlink:
        """The socket in the namespace that has the name now."""
        inode = os.stat(netns_path(self.namespace)).st_ino
        if self._inside is None or inode != self._inode:
            self.close()
            self._inside, self._nft = Netlink(self.namespace), Netlink(self.namespace, NETLINK_NETFILTER)
            self._inode = inode
            if self._applied.inode != inode:
                self._applied = Applied(inode)
        return self._inside

    def _set_sysctls(self, wanted: Mapping[str, str]) -> None:
        wrong = in_netns(self.namespace, _differing, wanted)
        if wrong:
            with outside("sysctl router"):
                in_netns(self.namespace, _write_all, wrong)

    def _join(self, leg: Leg, links: Links, seen: dict[str, Link], device: Link | None) -> Link:
        """The veth pair, in the bridge on one side, with the port's MAC in the namespace on the other, both up."""
        assert self._inside is not None
        tap, name, mac, mtu = leg.port.tap, leg.port.device, leg.port.mac_address.lower(), leg.network.mtu
        bridge = ensure_network_bridge(links, leg.network, seen)
        outer = seen.get(tap)
        if device is not None and (outer is None or device.mac != mac or device.kind != "veth"):
            self._inside.delete_link(device)
            outer = device = None
        elif device is None and outer is not None:
            links.delete(outer)  # its other end went with a namespace of that name
            outer = None
        if outer is None or outer.mtu != mtu or not outer.up or outer.alias != links.alias:
            outer = links.ensure_veth(tap, mtu, name, self.namespace, mac)
        links.attach(outer, bridge)
        seen[tap] = dataclasses.replace(outer, master=bridge.index)
        if device is None:
            device = self._inside.link(name)
            if device is None:
                raise HostError(f"{name} is not in the namespace {self.namespace}")
            self._set_sysctls(leg.sysctls())
        if not device.up or device.mtu != mtu or device.alias != links.alias:
            attrs = (attribute(netlink.IFLA_MTU, mtu), attribute(netlink.IFLA_IFALIAS, links.alias.encode()))
            self._inside.set_link(device, "link set up", *attrs, up=True)
        return device

    def _apply_addresses(self, legs: Iterable[Leg], index: Mapping[str, int]) -> None:
        assert self._inside is not None
        found = routes.list_addresses(self._inside)
        connected = {(route.destination, route.index) for route in routes.list_routes(self._inside)[1]}
        for leg in legs:
            device = index[leg.port.device]
            there = found.get(device, set())
            # The kernel makes the route of an address once: who deleted it gets it back with the address.
            whole = {ip for ip in there & leg.addresses if not _alone(ip) and not ip.startswith(METADATA_IP6)}
            torn = {ip for ip in whole if (_network(ip), device) not in connected}
            for address in sorted(there - leg.addresses | torn):
                self._inside.change_address(device, address, add=False)
            for address in sorted(leg.addresses - there | torn, key=_alone):  # the leg's own before floating ones
                self._inside.change_address(device, address, add=True)

    def _apply_routes(self, wanted: Mapping[tuple[str, int], Route]) -> None:
        assert self._inside is not None
        made = routes.list_routes(self._inside)[0]
        for route in sorted(set(wanted.values()) - made):
            try:
                routes.set_route(self._inside, route)
            except HostError as error:  # of one route; the others, and the router, live
                LOG.warning("router %s: %s via %s", self.id, error, route.gateway)
        for route in sorted(route for route in made if route.key not in wanted):
            routes.delete_route(self._inside, route)

    def _apply_rules(self, spec: RouterSpec, nat: Nat) -> None:
        """Loaded when they changed, or when nft's generation says that somebody touched the namespace's rules."""
        assert self._nft is not None
        text, last, labels = render(self._table, nat), self._applied, [meter.id for meter in spec.meters]
        version = hashlib.sha256((text + router_meters.render(self._table, spec, ())).encode()).hexdigest()
        generation = self._nft.nft_generation()
        if (last.generation, last.version) == (generation, version):
            return
        if set(labels) - set(last.labels):  # written down before there is anything to forget
            last.labels = sorted({*last.labels, *labels})
            self._write()
        ruleset.load(self.namespace, text + router_meters.render(self._table, spec, last.labels))
        last.labels = labels
        now = self._nft.nft_generation()
        # One commit is ours; another one in between may have been anybody's, so the next pass loads again.
        last.generation, last.version = now if now == generation + 1 else -1, version
        self._write()

    def _forget_connections(self, nat: Nat) -> None:
        """After the new rules are there, and before it is written down which they are: a crash repeats it."""
        assert self._nft is not None
        old = self._applied.nat
        if old != nat:
            conntrack.forget_matching(self._nft, lambda entry: stale(entry, old, nat))
            self._applied.nat = nat
            self._write()

    def _announce(self, legs: Iterable[Leg], index: Mapping[str, int], links: Links) -> None:
        """Each new IPv4 address, once its bridge passes frames on."""
        known = self._applied.announced
        held: set[tuple[int, str]] = set()
        fresh: list[tuple[str, str, list[str]]] = []
        for leg in legs:
            port, device = leg.port, index[leg.port.device]
            own = {(device, address.partition("/")[0]) for address in leg.addresses if ":" not in address}
            if own <= known or bridge_port_forwards(links.netlink, port.tap):
                held |= own
            else:
                held |= own & known
                self.pending = True
            if new := sorted(address for _, address in own & held - known):
                fresh.append((port.device, port.mac_address.lower(), new))
        if fresh:
            arp.announce(self.namespace, fresh)
        if held != known:
            self._applied.announced = held
            self._write()

    def _read(self) -> Applied:
        try:
            return msgspec.json.decode((self.directory / "applied.json").read_bytes(), type=Applied)
        except (FileNotFoundError, msgspec.DecodeError):
            return Applied()

    def _write(self) -> None:
        new = self.directory / "applied.new"
        new.write_bytes(msgspec.json.encode(self._applied))
        new.replace(self.directory / "applied.json")


class Routers:
    """All routers of this host. What exists is known from the directories."""

    def __init__(self, state_dir: Path, cloud_id: str, metadata: MetadataService) -> None:
        self._state, self._table, self._metadata = state_dir, f"kilonova_{cloud_id[:8]}", metadata
        self._root = state_dir / "net" / "routers"
        self._routers: dict[str, Router] = {}
        self._wanted: dict[str, RouterSpec] = {}
        self._networks: dict[str, NetworkSpec] = {}
        self._failed: set[str] = set()  # routers that met trouble in this pass
        self._answers6: dict[str, set[str]] = {}  # router → networks whose metadata it answers for over IPv6

    @property
    def pending(self) -> bool:
        return any(router.pending for router in self._routers.values())

    def listed(self) -> set[str]:
        """The ids of the routers that have anything of ours left."""
        try:
            return {entry.name for entry in os.scandir(self._root)}
        except FileNotFoundError:
            return set()

    def networks(self, router_id: str) -> tuple[str, ...]:
        """The networks that ask the metadata service by this name: a router's inside ones, or the one behind the
        slash; empty for what is no router's."""
        router_id, _, network_id = router_id.partition("/")
        if network_id:
            return (network_id,)
        router = self._wanted.get(router_id)
        return tuple(port.network_id for port in router.ports if not port.external) if router else ()

    def release(self, desired: Iterable[RouterSpec], networks: Iterable[NetworkSpec], seen: dict[str, Link]) -> None:
        """The first half of a pass: routers and external addresses that are no longer wanted go. A router that is
        administratively down does not exist, as with Neutron's agents. `seen`: the devices of the bridges' namespace,
        brought up to date here and below."""
        self._wanted = {router.id: router for router in desired if router.admin_state_up}
        self._networks = {network.id: network for network in networks}
        self._failed = set()
        for router_id in sorted(self.listed() - set(self._wanted)):
            self._try(router_id, self._remove, seen)
        for spec in self._wanted.values():
            self._try(spec.id, Router.release, spec, self._networks)

    def ensure(self, links: Links, seen: dict[str, Link]) -> set[str]:
        """The second half: those that are wanted are made true. The ids of the ports of those that are not."""
        for spec in self._wanted.values():
            self._try(spec.id, self._ensure, spec, links, seen)
        return {port.id for spec in self._wanted.values() if spec.id in self._failed for port in spec.ports}

    def _try(self, router_id: str, act: Callable[..., None], *args: object) -> None:
        """One router's trouble leaves the others alone."""
        if router_id not in self._routers:
            self._routers[router_id] = Router(router_id, self._state, self._table)
        try:
            act(self._routers[router_id], *args)
        except (HostError, OSError, ValueError) as error:
            LOG.warning("router %s: %s", router_id, error)
            self._failed.add(router_id)

    def _ensure(self, router: Router, spec: RouterSpec, links: Links, seen: dict[str, Link]) -> None:
        router.ensure(spec, self._networks, links, seen)
        self._metadata.ensure(spec.id, spec.namespace, ("0.0.0.0", METADATA_PORT))
        # Link-local addresses say who asks only together with the network.
        for network_id in self._answers6.pop(spec.id, set()) - router.answers6.keys():
            self._metadata.remove(f"{spec.id}/{network_id}")
        self._answers6[spec.id] = set(router.answers6)
        for network_id, index in router.answers6.items():
            self._metadata.ensure(f"{spec.id}/{network_id}", spec.namespace, (METADATA_IP6, 80, 0, index))

    def _remove(self, router: Router, seen: dict[str, Link]) -> None:
        for key in (router.id, *(f"{router.id}/{each}" for each in self._answers6.pop(router.id, ()))):
            self._metadata.remove(key)
        router.remove(seen)
        self._routers.pop(router.id)

    def meters(self) -> dict[str, dict[str, router_meters.Count]]:
        """router id → label → what it has counted there since the router was made."""
        return {each: router_meters.read(f"qrouter-{each}", self._table) for each in sorted(self.listed())}

    def purge(self) -> None:
        """All of them; raises HostError for the first that resists."""
        for router_id in sorted(self.listed()):
            self._remove(self._routers.setdefault(router_id, Router(router_id, self._state, self._table)), {})

    def close(self) -> None:
        """Lets go of sockets; namespaces, rules and radvd live on."""
        for router in self._routers.values():
            router.close()


def _tap_of(device: str) -> str:
    """The other end of a leg's device: both have the port's id behind their prefix."""
    return f"tap{device[3:]}"


def _alone(address: str) -> bool:
    """A host's address without a network around it, such as a floating IP's."""
    return ipaddress.ip_interface(address).network.num_addresses == 1


def _network(address: str) -> str:
    return str(ipaddress.ip_interface(address).network)


def _differing(wanted: Mapping[str, str]) -> dict[str, str]:
    """In the namespace. A kernel without IPv6 has nothing to set."""
    found = {}
    for name, value in wanted.items():
        path = Path("/proc/sys") / name
        with suppress(FileNotFoundError):
            if path.read_text().strip() != value:
                found[name] = value
    return found


def _write_all(values: Mapping[str, str]) -> None:
    for name, value in values.items():
        with suppress(FileNotFoundError):
            (Path("/proc/sys") / name).write_text(value)
