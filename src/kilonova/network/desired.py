"""What one host should carry, read again and again: a row's content is fetched only when its revision has grown.

A revision grows with each change of the row and of what is the row's own: a port's with its addresses and groups, a
network's with its subnets, a group's with its rules. That saves work and is not the truth: now and then all is read anew.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql import Executable

from kilonova.db.engine import Tx
from kilonova.model.specs import GroupSpec, HostNetwork, NetworkSpec, PortSpec, RuleSpec
from kilonova.network import dhcp, overlays, ports, qos_specs, router_specs, scheduling, specs, tables

ANEW = 60.0  # seconds

_P, _N, _S, _G = tables.PORTS, tables.NETWORKS, tables.SUBNETS, tables.SECURITY_GROUPS
_A = tables.ADDRESS_GROUPS
_BOUND, _HELD = tables.PORT_SECURITY_GROUPS, tables.IP_ALLOCATIONS
_IDS: sa.BindParameter[str] = sa.bindparam("ids", expanding=True)

_OTHER, _GIVEN = _P.alias("other"), tables.DHCP_AGENT_BINDINGS
# A DHCP port is carried once its network has any other port, wherever that one is, or an administrator gave the network
# to an agent: until then there is nobody to serve, and its status stays as it was, since the next port is not up before it
# is served.
_NEEDED = sa.or_(
    _P.c.device_owner != dhcp.OWNER,
    sa.exists().where(_OTHER.c.network_id == _P.c.network_id, _OTHER.c.device_owner != dhcp.OWNER),
    sa.exists().where(_GIVEN.c.network_id == _P.c.network_id, _GIVEN.c.explicit),
)
PORTS_OF_HOST = (
    sa.select(_P.c.id, _P.c.revision_number, _P.c.network_id, _P.c.status)
    .where(_P.c.host == sa.bindparam("of_host"), _P.c.vif_type != "binding_failed", _NEEDED)
    .order_by(_P.c.created_at, _P.c.id)
)
# (network id, id, revision) of the networks, their subnets and their DHCP ports
NETWORK_REVISIONS = sa.union_all(
    sa.select(_N.c.id.label("network_id"), _N.c.id, _N.c.revision_number).where(_N.c.id.in_(_IDS)),
    sa.select(_S.c.network_id, _S.c.id, _S.c.revision_number).where(_S.c.network_id.in_(_IDS)),
    sa.select(_P.c.network_id, _P.c.id, _P.c.revision_number).where(
        _P.c.network_id.in_(_IDS), _P.c.device_owner == dhcp.OWNER
    ),
)
GROUP_REVISIONS = sa.select(_G.c.id, _G.c.revision_number).where(_G.c.id.in_(_IDS))
MEMBERS = (
    sa.select(_BOUND.c.security_group_id, _P.c.id, _P.c.revision_number)
    .join(_P, _P.c.id == _BOUND.c.port_id)
    .where(_BOUND.c.security_group_id.in_(_IDS))
    .order_by(_BOUND.c.security_group_id, _P.c.id)
)
ADDRESS_GROUPS = sa.select(_A.c.id, _A.c.revision_number, _A.c.addresses).where(_A.c.id.in_(_IDS)).order_by(_A.c.id)
MEMBER_ADDRESSES = (
    sa.select(_P.c.id, _P.c.allowed_address_pairs, _HELD.c.ip_address)
    .join(_HELD, _HELD.c.port_id == _P.c.id, isouter=True)
    .where(_P.c.id.in_(_IDS))
)

Revision = tuple[tuple[str, int], ...]
Groups = tuple[str, ...]


@dataclass
class Known:
    """What the last read found, by id."""

    ports: dict[str, tuple[int, PortSpec, Groups]] = field(default_factory=dict)
    combined: dict[Groups, tuple[RuleSpec, ...]] = field(default_factory=dict)  # the rules of several groups together
    networks: dict[str, tuple[Revision, NetworkSpec]] = field(default_factory=dict)
    rules: dict[str, tuple[int, tuple[RuleSpec, ...]]] = field(default_factory=dict)
    groups: dict[str, tuple[Revision, GroupSpec]] = field(default_factory=dict)
    membership: tuple[set[str], Sequence[Any], Sequence[Any]] | None = None
    addresses: dict[str, tuple[int, frozenset[str]]] = field(default_factory=dict)  # port id → (revision, …)


class Desired:
    """`read` gives what `host` should carry. What has not changed is the very same object as the last time."""

    def __init__(self, host: str) -> None:
        self.host = host
        self._known = Known()
        self._last = HostNetwork()
        self._read_anew = 0.0
        self._lock = threading.Lock()
        self._statuses: dict[str, str] = {}
        self._floating: dict[str, tuple[str, str]] = {}

    def read(self, tx: Tx) -> HostNetwork:
        """All ports bound to the host, their networks, and the members of the groups that their rules name."""
        with self._lock:
            if time.monotonic() - self._read_anew > ANEW or not self._read_anew:
                self._known = Known()
                self._read_anew = time.monotonic()
            rows = tx.execute(PORTS_OF_HOST, {"of_host": self.host}).all()
            routers = router_specs.router_specs(tx, self.host)
            found = self._ports(tx, {port_id: revision for port_id, revision, _, _ in rows})
            desired = HostNetwork(
                networks=self._networks(tx, list(dict.fromkeys([network_id for _, _, network_id, _ in rows]))),
                ports=found,
                routers=routers,
                groups=self._groups(tx, found),
            )
            self._statuses = {port_id: status for port_id, _, _, status in rows}
            self._floating = router_specs.floating_statuses(tx, routers)
            self._last = desired if desired != self._last else self._last
            return self._last

    def news(self, statuses: dict[str, str]) -> dict[str, str]:
        """Those that differ from what the last read saw; a floating IP is as its router's gateway is."""
        with self._lock:
            floating = {id: (before, statuses.get(gateway, "DOWN")) for id, (before, gateway) in self._floating.items()}
            ports = {port_id: status for port_id, status in statuses.items() if self._statuses.get(port_id) != status}
            return ports | {id: status for id, (before, status) in floating.items() if before != status}

    def _ports(self, tx: Tx, revisions: dict[str, int]) -> tuple[PortSpec, ...]:
        known = self._known.ports
        changed = [port_id for port_id, revision in revisions.items() if known.get(port_id, (None,))[0] != revision]
        groups_of = ports.security_groups_of(tx, changed) if changed else {}
        for spec in specs.port_specs(tx, changed):
            known[spec.id] = (revisions[spec.id], spec, tuple(groups_of[spec.id]))
        for port_id in known.keys() - revisions.keys():
            del known[port_id]
        rules = self._combined(tx, {groups for _, _, groups in known.values()})
        qos = qos_specs.of_host(tx, self.host)
        for port_id, (revision, spec, groups) in known.items():
            fresh = qos_specs.with_qos(specs.with_rules(spec, rules[groups]), qos.get(port_id, qos_specs.NONE))
            if fresh is not spec:
                known[port_id] = (revision, fresh, groups)
        return tuple([known[port_id][1] for port_id in revisions if port_id in known])

    def _combined(self, tx: Tx, wanted: set[Groups]) -> dict[Groups, tuple[RuleSpec, ...]]:
        """All rules of each of these sets of groups; the very same tuple for as long as they are the same."""
        rules = self._rules(tx, {group for groups in wanted for group in groups})
        fresh = {groups: specs.all_rules(rules[group] for group in groups) for groups in wanted}
        known = self._known.combined
        self._known.combined = {key: known[key] if known.get(key) == now else now for key, now in fresh.items()}
        return self._known.combined

    def _rules(self, tx: Tx, group_ids: set[str]) -> dict[str, tuple[RuleSpec, ...]]:
        known = self._known.rules
        revisions: dict[str, int] = dict(map(tuple, _in(tx, GROUP_REVISIONS, group_ids)))
        changed = [group for group, revision in revisions.items() if known.get(group, (None,))[0] != revision]
        for group, rules in specs.group_rules(tx, changed).items() if changed else ():
            known[group] = (revisions[group], tuple(rules))
        for group in known.keys() - revisions.keys():
            del known[group]
        return {group: known[group][1] if group in known else () for group in group_ids}

    def _networks(self, tx: Tx, ids: list[str]) -> tuple[NetworkSpec, ...]:
        known, revisions = self._known.networks, defaultdict[str, list[tuple[str, int]]](list)
        for network_id, ident, revision in _in(tx, NETWORK_REVISIONS, ids):
            revisions[network_id].append((ident, revision))
        tokens = {network_id: tuple(sorted(revisions[network_id])) for network_id in ids}
        changed = [network_id for network_id in ids if known.get(network_id, (None,))[0] != tokens[network_id]]
        mappings = scheduling.bridge_mappings(tx, self.host) if changed else {}
        for spec in specs.network_specs(tx, changed, mappings) if changed else ():
            known[spec.id] = (tokens[spec.id], spec)
        for network_id in known.keys() - tokens.keys():
            del known[network_id]
        overlaid = overlays.of_host(tx, self.host, ids)
        for network_id, (token, spec) in known.items():
            fresh = overlays.with_overlay(spec, overlaid.get(network_id))
            if fresh is not spec:
                known[network_id] = (token, fresh)
        return tuple([known[network_id][1] for network_id in ids if network_id in known])

    def _groups(self, tx: Tx, found: Iterable[PortSpec]) -> tuple[GroupSpec, ...]:
        """Those that any rule names, each with the addresses of its ports, allowed address pairs included."""
        rules = {id(port.rules): port.rules for port in found}  # ports with equal groups share them
        named = {rule.remote_group_id for each in rules.values() for rule in each if rule.remote_group_id}
        rows = _in(tx, MEMBERS, named)
        plain = _in(tx, ADDRESS_GROUPS, named - {group_id for group_id, _, _ in rows})
        if (named, rows, plain) != self._known.membership:
            self._addresses(tx, {port_id: revision for _, port_id, revision in rows})
            members = {group_id: list[tuple[str, int]]() for group_id in named}
            for group_id, port_id, revision in rows:
                members[group_id].append((port_id, revision))
            self._known.groups = {
                group_id: self._group(group_id, tuple(members[group_id])) for group_id in sorted(named)
            }
            for group_id, _, addresses in plain:
                self._known.groups[group_id] = (), GroupSpec(id=group_id, addresses=tuple(sorted(addresses)))
            self._known.membership = named, rows, plain
        return tuple([spec for _, spec in self._known.groups.values()])

    def _group(self, group_id: str, token: Revision) -> tuple[Revision, GroupSpec]:
        known, addresses = self._known.groups.get(group_id), self._known.addresses
        if known is not None and known[0] == token:
            return known
        all_of = frozenset[str]().union(*[addresses[port_id][1] for port_id, _ in token])
        return token, GroupSpec(id=group_id, addresses=tuple(sorted(all_of)))

    def _addresses(self, tx: Tx, revisions: dict[str, int]) -> None:
        known = self._known.addresses
        changed = {port_id for port_id, revision in revisions.items() if known.get(port_id, (None,))[0] != revision}
        fresh = {port_id: set[str]() for port_id in changed}
        for port_id, pairs, address in _in(tx, MEMBER_ADDRESSES, changed):
            fresh[port_id].update(pair["ip_address"] for pair in pairs)
            fresh[port_id].update([address] if address else [])
        known |= {port_id: (revisions[port_id], frozenset(found)) for port_id, found in fresh.items()}
        for port_id in known.keys() - revisions.keys():
            del known[port_id]


def host_network(tx: Tx, host: str) -> HostNetwork:
    """What `host` should carry, read once."""
    return Desired(host).read(tx)


def _in(tx: Tx, statement: Executable, ids: Iterable[str]) -> Sequence[sa.Row[*tuple[Any, ...]]]:
    wanted = list(ids)
    return tx.execute(statement, {"ids": wanted}).all() if wanted else []
