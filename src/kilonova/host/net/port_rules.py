"""The rules of this host's ports, kept true: who may send as whom, what security groups let through, what is cut."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kilonova.host.net import conntrack, live_flows, nft, ruleset
from kilonova.host.net.numbers import Numbers
from kilonova.host.net.ruleset import Part, Ruleset
from kilonova.model.specs import GroupSpec, HostNetwork, RuleSpec


def table_name(cloud_id: str) -> str:
    """Not the name alone: in the host's own namespace the uplink has a table of the cloud too."""
    return f"kilonova_{cloud_id[:8]}_ports"


class PortRules:
    """`directory` keeps what the next process must know. Between `connect` and `close` the namespace is the same one."""

    def __init__(self, cloud_id: str, directory: Path) -> None:
        self.table = table_name(cloud_id)
        self._numbers = Numbers(directory)
        self._ruleset: Ruleset | None = None
        self._made: dict[str, tuple[object, Part]] = {}  # a part's name → what it was made of, and it
        self._applied: HostNetwork | None = None

    def connect(self, netns: str | None) -> None:
        self.close()
        self._ruleset = Ruleset(netns, self.table)

    def close(self) -> None:
        if self._ruleset is not None:
            self._ruleset.close()
        self._ruleset = None

    def apply(self, desired: HostNetwork, blocked: Iterable[str]) -> None:
        """`blocked`: devices that may neither send nor receive. Work is done for what is not the same as the last time."""
        assert self._ruleset is not None
        desired = _with_groups(desired)
        self._numbers.number(desired)
        self._ruleset.apply(self._parts(desired, blocked))
        if desired != self._applied:
            self._forget_connections(desired)
            self._numbers.applied(desired)
            self._applied = desired

    def _forget_connections(self, desired: HostNetwork) -> None:
        """After the new rules are there, and before it is written down which they are: a crash repeats it."""
        assert self._ruleset is not None
        for zone, judged in sorted(self._numbers.stale(desired).items()):
            neighbours = [port for port in desired.ports if self._numbers.zones[port.network_id].zone == zone]
            forbidden = live_flows.forbidden(judged, neighbours, desired.groups)
            for family in conntrack.FAMILIES:
                conntrack.forget_matching(self._ruleset.netlink, forbidden, family, zone)

    def purge(self, netns: str | None) -> None:
        ruleset.purge(netns, self.table)
        self.forget()

    def forget(self) -> None:
        """All that was of this cloud is gone."""
        self._numbers.clear()
        self._made, self._applied = {}, None

    def _parts(self, desired: HostNetwork, blocked: Iterable[str]) -> dict[str, Part]:
        before, numbers = self._made, self._numbers
        made: dict[str, tuple[object, Part]] = {"": (None, nft.FIXED)}
        tracking, taps = _tracking(desired), _taps(desired)
        for network in desired.networks:
            name, zone = f"network {network.id}", numbers.zones[network.id].zone
            known, of = before.get(name), (network.bridge, taps.get(network.id, frozenset()), tracking.get(network.id))
            made[name] = known if known and known[0] == of else (of, nft.network_part(network, zone, *of[1:]))
        for group in desired.groups:
            name = f"group {group.id}"
            known = before.get(name)
            made[name] = known if known and known[0] == group else (group, nft.group_part(group))
        for port in desired.ports:
            known = before.get(port.id)
            same = known is not None and (known[0] is port or known[0] == port)
            made[port.id] = known if known and same else (port, nft.port_part(port, numbers.ports[port.id].mark))
        for tap in blocked:
            made[f"blocked {tap}"] = (tap, nft.blocked_part(tap))
        self._made = made
        return {name: part for name, (_, part) in made.items()}


def _taps(desired: HostNetwork) -> dict[str, frozenset[str]]:
    """Of the networks whose bridges are the cloud's own. What is closed is blocked anyhow."""
    own = {network.id: set[str]() for network in desired.networks if not network.physical_bridge}
    for port in desired.ports:
        if port.network_id in own:
            own[port.network_id].add(port.tap)
    for network in desired.networks:
        if network.id in own and network.overlay is not None:
            own[network.id].add(network.overlay.device)
    return {network_id: frozenset(taps) for network_id, taps in own.items()}


def _tracking(desired: HostNetwork) -> dict[str, nft.Tracking]:
    """Of the networks that have a port whose groups are stateless."""
    stateless = {port.network_id for port in desired.ports if nft.is_stateless(port.rules)}
    return {
        network_id: nft.tracking_of(port for port in desired.ports if port.network_id == network_id)
        for network_id in stateless
    }


def _with_groups(desired: HostNetwork) -> HostNetwork:
    """A group that a rule names and that is not given has no members: the rule matches nothing, and spoils nothing."""
    rules: dict[int, tuple[RuleSpec, ...]] = {id(port.rules): port.rules for port in desired.ports}
    missing = nft.remote_groups(rule for each in rules.values() for rule in each) - {
        group.id for group in desired.groups
    }
    if not missing:
        return desired
    groups = (*desired.groups, *(GroupSpec(id=group_id) for group_id in sorted(missing)))
    return HostNetwork(networks=desired.networks, ports=desired.ports, routers=desired.routers, groups=groups)
