"""What a router does with a packet: translation and routes as its namespace has them (host/net/router_nft.py, router.py)."""

import ipaddress
from dataclasses import dataclass

from kilonova.model.specs import RouterPortSpec, RouterSpec
from kilonova.network import security_group_rules
from kilonova.network.path_rows import IP, Lookup, Net
from kilonova.network.path_rules import ANYWHERE, Kind


@dataclass(frozen=True)
class Inner:
    """Where a floating IP leads; `port` when a forwarding changes it."""

    address: IP
    port: int | None = None


@dataclass(frozen=True)
class Way:
    """Out by that leg, to a next router or (None) to a neighbour."""

    leg: RouterPortSpec
    via: IP | None = None


def gateway_source(router: RouterSpec) -> IP | None:
    """Nothing is translated without an IPv4 address on an external network."""
    leg = router.gateway
    if leg is None or not leg.admin_state_up:
        return None
    found = (ipaddress.ip_address(ip.ip_address) for ip in leg.fixed_ips)
    return next((address for address in found if address.version == 4), None)


def destination_of(router: RouterSpec, kind: Kind, destination: IP | None) -> Inner | None:
    if destination is None or gateway_source(router) is None:
        return None
    for each in router.port_forwardings:
        (low, high), (first, last) = each.external_ports, each.internal_ports
        here = (
            each.floating_ip_address == str(destination) and security_group_rules.number(each.protocol) == kind.number
        )
        inside = ipaddress.ip_address(each.internal_ip_address)
        if here and kind.number not in security_group_rules.WITH_PORTS:
            return Inner(inside)
        if here and kind.port is not None and low <= kind.port <= high:
            return Inner(inside, first + (kind.port - low) % (last - first + 1))
    for floating in router.floating_ips:
        if floating.floating_ip_address == str(destination):
            return Inner(ipaddress.ip_address(floating.fixed_ip_address))
    return None


def source_of(
    router: RouterSpec, out: RouterPortSpec, into: RouterPortSpec, source: IP | None, inward: bool
) -> IP | None:
    """What the packet's source is behind the router; `inward`: its destination was a floating IP."""
    own = gateway_source(router)
    if own is None or (source is not None and source.version == 6) or (not out.external and not inward):
        return source
    for floating in router.floating_ips:
        if source is not None and floating.fixed_ip_address == str(source):
            return ipaddress.ip_address(floating.floating_ip_address)
    if (out.external and router.enable_snat) or (inward and not into.external):
        return own
    return source


def is_own(router: RouterSpec, address: IP) -> bool:
    """The router itself answers there."""
    legs = {ip.ip_address for leg in router.ports if leg.admin_state_up for ip in leg.fixed_ips}
    forwarded = {each.floating_ip_address for each in router.port_forwardings} if gateway_source(router) else set()
    return str(address) in legs | forwarded


def route(router: RouterSpec, lookup: Lookup, destination: IP | None) -> Way | None:
    """The longest prefix; of equals an extra route. `destination` None: the outside."""
    found: list[tuple[Net, int, Way]] = []
    connected: list[tuple[Net, RouterPortSpec]] = []
    for leg in router.ports:
        own = {ip.subnet_id for ip in leg.fixed_ips}
        for subnet in lookup.network(leg.network_id).subnets if leg.admin_state_up else ():
            if subnet.id not in own and not leg.external:
                continue
            net = ipaddress.ip_network(subnet.cidr, strict=False)
            found.append((net, 0, Way(leg)))
            if subnet.id in own:
                connected.append((net, leg))
                if leg.external and subnet.gateway_ip:
                    found.append((ANYWHERE[subnet.ip_version], 0, Way(leg, ipaddress.ip_address(subnet.gateway_ip))))
    for to, via in router.routes:
        nexthop = ipaddress.ip_address(via)
        over = next((leg for net, leg in connected if nexthop in net), None)
        if over is not None:
            found.append((ipaddress.ip_network(to, strict=False), 1, Way(over, nexthop)))
    fits = [each for each in found if (destination in each[0] if destination is not None else each[0].prefixlen == 0)]
    return max(fits, key=lambda each: (each[0].prefixlen, each[1]))[2] if fits else None
