"""Why one thing can or cannot reach another: the way a packet takes by the rows that hosts make true, and what ends it.

It is followed as the kernel would take it: the guest's own choice of next hop, anti-spoofing and security groups at each
tap, translation and routes in each router, and at last whether the reply finds back.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kilonova.model.specs import RouterPortSpec, RouterSpec
from kilonova.network import path_rules, path_translation
from kilonova.network.path_rows import IP, Lookup, Place
from kilonova.network.path_rules import METADATA, Decision, Kind
from kilonova.network.rows import Row
from kilonova.web.call import Context

HOPS = 8  # routers, before it is a loop
LEGS = ("network:router_interface", "network:router_gateway")


@dataclass(frozen=True)
class Hop:
    """One room on the way. kind: tap, bridge, group, router, nat, outside, metadata …"""

    kind: str
    detail: str
    device: str = ""
    id: str = ""
    host: str = ""
    rule: Row | None = None


@dataclass(frozen=True)
class Crossing:
    """One frame over one bridge, for a host to try. A side that is None is the wire out of it."""

    network_id: str
    bridge: str
    host: str
    sender: Place | None
    receiver: Place | None
    source: IP | None
    destination: IP | None
    kind: Kind
    allowed: bool


@dataclass(frozen=True)
class Passage:
    """One packet through one router, for a host to try: `shown`, `inner` and `port` are what it has then instead of
    `source`, `destination` and its own port. `out` None: there is no way out for it."""

    router: RouterSpec
    host: str
    into: RouterPortSpec
    out: RouterPortSpec | None
    source: IP | None
    destination: IP | None
    kind: Kind
    shown: IP | None
    inner: IP | None
    port: int | None


@dataclass(frozen=True)
class Path:
    """`reachable` None: that is not to be said from here. `reason`: one word for what ended it."""

    reachable: bool | None
    reason: str
    explanation: str
    source: IP | None
    destination: IP | None
    hops: Sequence[Hop] = ()
    trials: Sequence[Crossing | Passage] = ()


class Stop(Exception):
    def __init__(self, reason: str, text: str, reachable: bool | None = False) -> None:
        super().__init__(text)
        self.reason, self.text, self.reachable = reason, text, reachable


@dataclass
class Walk:
    """One packet on its way; `context` is who asks, and is told nothing about what is another's."""

    lookup: Lookup
    context: Context
    kind: Kind
    ends: frozenset[str] = frozenset()  # the ports meant by the destination; empty: whoever has the address
    hops: list[Hop] = field(default_factory=list)
    trials: list[Crossing | Passage] = field(default_factory=list)
    translated: bool = False
    end: str = "It is reached."

    def follow(self, start: Place | None, source: IP | None, destination: IP | None) -> Path:
        """From a port, or from outside, to an address, or outside."""
        reachable: bool | None
        try:
            self._from_outside(source, destination) if start is None else self._from_guest(start, source, destination)
            reachable, reason, text = True, "reachable", self.end
        except Stop as stop:
            reachable, reason, text = stop.reachable, stop.reason, stop.text
        return Path(reachable, reason, text, source, destination, self.hops, self.trials)

    # from where it starts

    def _from_guest(self, start: Place, source: IP | None, destination: IP | None) -> None:
        self._alive(start)
        if source is None:
            raise Stop("no-address", f"{_port(start)} has no IPv{self.kind.version} address.")
        self._hop("tap", f"{source} leaves {_port(start)}", start)
        own = [ip for ip in start.spec.fixed_ips if ipaddress.ip_address(ip.ip_address) == source]
        if start.spec.port_security_enabled and not own and not self._may_send(start, source):
            text = f"Anti-spoofing: {source} is neither an address of {_port(start)} nor in its allowed address pairs."
            raise Stop("spoofed", text)
        nexthop = self._next_hop(start, destination)
        if destination == METADATA[0] and self.kind.number == 6 and self.kind.port == 80:
            return self._metadata(start, nexthop)
        receiver = self._find(start.spec.network_id, nexthop)
        if receiver is None:
            return self._onto_the_wire(start, source, destination, nexthop)
        return self._pass(start, receiver, nexthop != destination, source, destination)

    def _from_outside(self, source: IP | None, destination: IP | None) -> None:
        assert destination is not None
        where = [each for each in self.lookup.holders(destination) if self._is_on_a_wire(each.spec.network_id)]
        if not where:
            text = f"Nothing outside leads to {destination}: it is no floating IP and on no external network."
            raise Stop("no-floating-ip", text)
        self._hop("outside", f"{source or 'anybody'} sends to {destination}")
        self._pass(None, where[0], False, source, destination)

    def _is_on_a_wire(self, network_id: str) -> bool:
        row = self.lookup.network_row(network_id)
        return bool(row["external"] or row["physical_network"])

    def _may_send(self, place: Place, source: IP) -> bool:
        return any(source in ipaddress.ip_network(cidr) for _, cidr in place.spec.allowed_address_pairs)

    def _next_hop(self, place: Place, destination: IP | None) -> IP:
        """What the guest does with the routes that DHCP gave it."""
        own = {ip.subnet_id for ip in place.spec.fixed_ips}
        network = self.lookup.network(place.spec.network_id)
        subnets = [s for s in network.subnets if s.id in own and s.ip_version == self.kind.version]
        found: list[tuple[int, IP | None]] = []
        for subnet in subnets:
            ways: list[tuple[str, str | None]] = [(subnet.cidr, None), *subnet.host_routes]
            default = str(path_rules.ANYWHERE[self.kind.version])
            if subnet.gateway_ip and default not in [cidr for cidr, _ in subnet.host_routes]:
                ways.append((default, subnet.gateway_ip))
            for cidr, via in ways:
                to = ipaddress.ip_network(cidr, strict=False)
                if (destination in to) if destination is not None else to.prefixlen == 0:
                    found.append((to.prefixlen, ipaddress.ip_address(via) if via else destination))
        if not found and destination == METADATA[0] and subnets:
            return METADATA[0]
        best = max(found, key=lambda way: way[0], default=None)
        if best is None or best[1] is None:
            text = f"{_port(place)} has no route to {destination or 'the outside'}: its subnet has no gateway."
            raise Stop("no-gateway", text)
        return best[1]

    def _find(self, network_id: str, address: IP) -> Place | None:
        """Who answers for an address in a network."""
        for place in (*self.lookup.holders(address, network_id), *self.lookup.sharing(address, network_id)):
            return place
        return None

    # over a bridge

    def _cross(
        self, network_id: str, sender: Place | None, receiver: Place | None, source: IP | None, destination: IP | None
    ) -> None:
        """Both ends' filters; raises Stop where one of them says no."""
        self._mine(receiver)
        known = receiver or sender
        assert known is not None
        bridge = known.spec.bridge
        out = self._decide(sender, "egress", destination)
        into = self._decide(receiver, "ingress", source)
        usable = receiver is None or self._dead(receiver) is None
        allowed = all(each is None or each.rule is not None for each in (out, into)) and usable
        host = known.row["host"]
        ends = (sender, receiver, source, destination, self.kind)
        self.trials.append(Crossing(network_id, bridge, host, *ends, allowed))
        self._gate(sender, out, "egress", destination)
        name = self.lookup.network_row(network_id)["name"] or network_id
        self.hops.append(Hop("bridge", f"network {name}", bridge, network_id, host))
        if receiver is not None:
            self._alive(receiver)
            self._gate(receiver, into, "ingress", source)
        self._reply(receiver, "egress", source)
        self._reply(sender, "ingress", destination)

    def _pass(
        self, sender: Place | None, receiver: Place, passes: bool, source: IP | None, destination: IP | None
    ) -> None:
        """Over the bridge to the receiver, and on. `passes`: it was only the next hop."""
        if receiver.row["device_owner"] == "network:floatingip":
            return self._to_floating(receiver, sender, source, destination)
        if not passes and self.ends and receiver.spec.id not in self.ends and not _is_network_s(receiver):
            text = f"{destination} is {_port(receiver)}'s address where the packet goes: the other one is in another network."
            raise Stop("overlap", text)
        self._cross(receiver.spec.network_id, sender, receiver, source, destination)
        return self._enter(receiver, passes, source, destination, sender)

    def _decide(self, place: Place | None, direction: str, peer: IP | None) -> Decision | None:
        """None: nothing is filtered there."""
        if place is None or not place.spec.port_security_enabled:
            return None
        rules = self.lookup.rules(place.spec.id)
        return path_rules.decide(rules, direction, self.kind, peer, self.lookup.members)

    def _reply(self, place: Place | None, direction: str, peer: IP | None) -> None:
        """Where all groups are stateless, a reply needs a rule as any packet does (host/net/nft.py: _group_chain)."""
        if place is None or not place.spec.port_security_enabled:
            return
        rules, kind = self.lookup.rules(place.spec.id), self.kind.answer
        if not rules or any(rule.stateful for _, rule in rules):
            return
        if path_rules.decide(rules, direction, kind, peer, self.lookup.members).rule is None:
            text = (
                f"The groups of {_port(place)} are stateless, and none of their rules allows {direction} of the reply."
            )
            raise Stop("reply-denied", text)

    def _gate(self, place: Place | None, decision: Decision | None, direction: str, peer: IP | None) -> None:
        if place is None:
            return
        if decision is None:
            if not _is_network_s(place):
                self._hop("group", "port security is off: nothing is filtered", place)
            return
        which = f"{self.kind} {'to' if direction == 'egress' else 'from'} {peer or 'the outside'}"
        if decision.rule is None:
            near = [f"rule {row['id']}: {why}" for row, why in decision.others]
            self._hop("group", f"no {direction} rule allows {which}" + "".join(f"; {each}" for each in near), place)
            text = f"No rule of the security groups of {_port(place)} allows {direction} of {which}."
            raise Stop(f"{direction}-denied", text)
        rule = decision.rule
        text = f"{direction} of {which} is allowed by rule {rule['id']} of group {rule['security_group_id']}"
        self.hops.append(replace(self._at("group", text, place), rule=rule))

    def _alive(self, place: Place) -> None:
        why = self._dead(place)
        if why is not None:
            raise why

    def _dead(self, place: Place) -> Stop | None:
        row = place.row
        if not row["admin_state_up"]:
            return Stop("port-admin-down", f"{_port(place)} is administratively down: all of its packets are dropped.")
        if not row["host"] or row["vif_type"] in ("unbound", "binding_failed"):
            return Stop("port-unbound", f"{_port(place)} is not bound to a host: nothing is plugged there.")
        if row["status"] != "ACTIVE":
            return Stop("port-down", f"{_port(place)} is {row['status']}: it is not wired on {row['host']}.")
        return None

    def _mine(self, place: Place | None) -> None:
        """Of a guest or a router of another project nothing is told."""
        if place is None or self.context.is_admin or place.row["device_owner"] == "network:dhcp":
            return
        project = place.row["project_id"]
        if place.row["device_owner"] in LEGS:
            found = self.lookup.router_of(place.spec.id)
            project = found[0]["project_id"] if found else project
        if project != self.context.project_id:
            text = "From here on it is another project's: what happens there is not yours to see."
            raise Stop("not-yours", text, reachable=None)

    # where it arrives

    def _enter(
        self, place: Place, passes: bool, source: IP | None, destination: IP | None, sender: Place | None
    ) -> None:
        """At a port: the end, or the router behind it. `passes`: it was only the next hop."""
        found = self.lookup.router_of(place.spec.id)
        if found is not None:
            leg = next((leg for leg in found[1].ports if leg.id == place.spec.id), None)
            return self._through(*found, leg, source, destination)
        if passes:
            text = (
                f"{destination or 'The rest'} lies behind {_port(place)}: whether that passes it on is its own matter."
            )
            raise Stop("guest-forwards", text, reachable=None)
        return self._arrived(place, source, sender)

    def _arrived(self, place: Place, source: IP | None, sender: Place | None) -> None:
        self._hop("tap", f"arrives at {_port(place)}", place)
        if not _is_network_s(place):
            self._way_back(place, source, sender)

    def _way_back(self, place: Place, source: IP | None, sender: Place | None) -> None:
        """The reply goes to who sent the packet, if that is a neighbour, or to the leg it came by."""
        if not place.spec.fixed_ips or self._is_neighbour(place, source, sender):
            return
        try:
            nexthop = self._next_hop(place, source)
        except Stop:
            back_to = source or "the outside"
            text = f"{_port(place)} is reached, but has no route back to {back_to}: its subnet has no gateway."
            raise Stop("no-way-back", text) from None
        if sender is None:  # on a provider network: the wire beyond is not ours
            return
        back = self._find(place.spec.network_id, nexthop)
        if back is not None and back.spec.id == sender.spec.id:
            return
        found = self.lookup.router_of(back.spec.id) if back else None
        if found is None or self.translated or path_translation.route(found[1], self.lookup, source) is None:
            text = f"{_port(place)} is reached, but replies by {nexthop}, which does not lead back to {source}."
            raise Stop("no-way-back", text)

    def _is_neighbour(self, place: Place, source: IP | None, sender: Place | None) -> bool:
        if sender is None or source is None or source not in sender.addresses:
            return False
        try:
            return self._next_hop(place, source) == source
        except Stop:
            return False

    def _to_floating(self, place: Place, sender: Place | None, source: IP | None, destination: IP | None) -> None:
        """A floating IP's own port carries nothing: the gateway of its router does."""
        found = self.lookup.router_of_floating(place.spec.id)
        if found is None:
            text = f"The floating IP {destination} is not associated with any port behind a router."
            raise Stop("floating-ip-free", text)
        gateway = found[1].gateway
        leg = self.lookup.place(gateway.id) if gateway else None
        if leg is None:
            raise Stop("no-gateway", f"{_router(found[0])} has no gateway that works to the external network.")
        self._cross(leg.spec.network_id, sender, leg, source, destination)
        self._through(*found, gateway, source, destination)

    def _metadata(self, start: Place, nexthop: IP) -> None:
        """The one thing that guests reach whatever their groups say."""
        found = self.lookup.network(start.spec.network_id)
        gateway = self._find(start.spec.network_id, nexthop)
        if (gateway is None or self.lookup.router_of(gateway.spec.id) is None) and found.dhcp_port_id is None:
            raise Stop("no-metadata", "The network has neither a router nor a DHCP server that answers for metadata.")
        self._hop("metadata", "the metadata service answers, whatever security groups say")

    def _onto_the_wire(self, start: Place, source: IP, destination: IP | None, nexthop: IP) -> None:
        if self._is_on_a_wire(start.spec.network_id):
            self._must_not_leave(_port(start))
            self._cross(start.spec.network_id, start, None, source, destination)
            self._hop("outside", f"{destination or 'the outside'} is beyond the physical network")
            self.end = "It leaves by the physical network; what is there is not ours."
            return
        decision = self._decide(start, "egress", destination)
        self._gate(start, decision, "egress", destination)
        if nexthop == destination:
            text = f"{destination} would be in {_port(start)}'s own network, and no port there has it."
            raise Stop("no-such-address", text)
        raise Stop("no-router", f"No port has the gateway's address {nexthop}: no router is attached to the subnet.")

    # through a router

    def _through(
        self, row: Row, router: RouterSpec, leg: RouterPortSpec | None, source: IP | None, destination: IP | None
    ) -> None:
        if sum(hop.kind == "router" for hop in self.hops) >= HOPS:
            raise Stop("loop", "It goes in circles: the routes of the routers lead to each other.")
        if not row["admin_state_up"]:
            raise Stop("router-admin-down", f"{_router(row)} is administratively down.")
        if leg is None:
            raise Stop("router-unbound", f"{_router(row)} is on no host, or its port is not bound there.")
        self.hops.append(Hop("router", _router(row), router.namespace, row["id"], row["host"]))
        kind, asked = self.kind, destination
        inner = path_translation.destination_of(router, self.kind, destination)
        if inner is not None:
            self.hops.append(Hop("nat", f"{destination} is {_where(inner)} (destination)", router.namespace, row["id"]))
            self.translated, destination = True, inner.address
            self.kind = replace(self.kind, port=inner.port if inner.port is not None else self.kind.port)
        elif destination is not None and path_translation.is_own(router, destination):
            self.end = f"{_router(row)} itself answers."
            return
        way = path_translation.route(router, self.lookup, destination)
        shown = path_translation.source_of(router, way.leg, leg, source, inner is not None) if way else source
        passage = (source, asked, kind, shown, destination, self.kind.port)
        self.trials.append(Passage(router, row["host"], leg, way.leg if way else None, *passage))
        if way is None:
            raise Stop("no-route", f"{_router(row)} has no route to {destination or 'the outside: it has no gateway'}.")
        if shown != source:
            self.hops.append(
                Hop("nat", f"{source or 'anybody'} is shown as {shown} (source)", router.namespace, row["id"])
            )
            self.translated = True
        self._out_of(row, way, shown, source, destination)

    def _out_of(
        self, row: Row, way: path_translation.Way, shown: IP | None, source: IP | None, destination: IP | None
    ) -> None:
        leg = self.lookup.place(way.leg.id)
        assert leg is not None
        self._alive(leg)
        nexthop = way.via or destination
        receiver = self._find(way.leg.network_id, nexthop) if nexthop is not None else None
        if receiver is not None:
            return self._pass(leg, receiver, way.via is not None, shown, destination)
        if not self._is_on_a_wire(way.leg.network_id):
            raise Stop("no-such-address", f"{_router(row)} looks for {nexthop}, and no port of that network has it.")
        self._must_not_leave(_router(row))
        self._cross(way.leg.network_id, leg, None, shown, destination)
        self._hop("outside", f"{destination or 'the outside'} is beyond the external network")
        if shown == source and not self._on_link(way.leg.network_id, shown):
            if self.kind.version == 6:
                text = "It leaves by the external network; whether the outside has a route back is not ours to say."
                raise Stop("outside", text, reachable=None)
            text = (
                f"It leaves as {shown}, which the outside cannot answer: neither a floating IP nor SNAT stands for it."
            )
            raise Stop("no-snat", text)
        self.end = "It leaves by the external network; what is beyond (the host, its uplink) is not ours."
        return None

    def _must_not_leave(self, where: str) -> None:
        if self.ends:
            text = f"{where} knows no way into the network of the destination: the packet would leave for the outside."
            raise Stop("no-route", text)

    def _on_link(self, network_id: str, address: IP | None) -> bool:
        subnets = self.lookup.network(network_id).subnets
        return address is None or any(address in ipaddress.ip_network(each.cidr, strict=False) for each in subnets)

    def _hop(self, kind: str, detail: str, place: Place | None = None) -> None:
        self.hops.append(self._at(kind, detail, place))

    def _at(self, kind: str, detail: str, place: Place | None) -> Hop:
        if place is None:
            return Hop(kind, detail)
        return Hop(kind, detail, place.spec.tap, place.spec.id, place.row["host"])


def _is_network_s(place: Place) -> bool:
    """A leg of a router, a DHCP server: not a guest."""
    return str(place.row["device_owner"]).startswith("network:")


def _port(place: Place) -> str:
    return f"port {place.row['name'] or place.spec.id}"


def _router(row: Row) -> str:
    return f"router {row['name'] or row['id']}"


def _where(inner: path_translation.Inner) -> str:
    return str(inner.address) if inner.port is None else f"{inner.address} port {inner.port}"
