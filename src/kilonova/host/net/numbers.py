"""What must stay the same from one pass, and one process, to the next: marks, conntrack zones, the ports last applied.

One small file a port, a network and a group, so that one port's change writes one file.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kilonova.host.net.live_flows import Judged
from kilonova.model.errors import HostError
from kilonova.model.specs import GroupSpec, HostNetwork, PortSpec

HIGHEST = 0xFFFF  # a mark has 16 bits, a conntrack zone too; 0 means none
T = TypeVar("T", bound=msgspec.Struct)


class PortNumber(msgspec.Struct, frozen=True):
    """`applied`: the port whose rules are loaded; None before they are."""

    mark: int
    applied: PortSpec | None = None


class Zone(msgspec.Struct, frozen=True):
    zone: int


class Numbers:
    """Kept in `directory`: `ports`, `networks` and `groups`, a file an id."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.ports = _read(directory / "ports", PortNumber)
        self.zones = _read(directory / "networks", Zone)
        self.groups = _read(directory / "groups", GroupSpec)

    def number(self, desired: HostNetwork) -> None:
        """Gives every port and network its number; those that are gone keep theirs until `applied`."""
        new = [port for port in desired.ports if port.id not in self.ports]
        taken = {number.mark for number in self.ports.values()} if new else set()
        free = (mark for mark in range(1, HIGHEST + 1) if mark not in taken)
        for port in new:
            self.ports[port.id] = PortNumber(_next(free, "ports"))
        used = {zone.zone for zone in self.zones.values()}
        for network in desired.networks:
            if network.id not in self.zones:
                # By the id, so that a lost file changes nothing, and clouds in one namespace seldom meet.
                start = zlib.crc32(network.id.encode()) % HIGHEST
                order = ((start + step) % HIGHEST + 1 for step in range(HIGHEST))
                zone = _next((zone for zone in order if zone not in used), "networks")
                self.zones[network.id] = Zone(zone)
                used.add(zone)

    def stale(self, desired: HostNetwork) -> dict[int, Judged]:
        """Zone → what is to be asked of its connections: of ports gone or moved, of rules and members taken away."""
        now = {port.id: port for port in desired.ports}
        gone, less = defaultdict[int, set[str]](set), defaultdict[int, dict[str, PortSpec]](dict)
        for ident, number in self.ports.items():
            old, new = number.applied, now.get(ident)
            zone = self.zones.get(old.network_id) if old is not None else None
            if old is None or old is new or zone is None:
                continue
            kept = {ip.ip_address for ip in new.fixed_ips} if new is not None else set()
            if lost := {ip.ip_address for ip in old.fixed_ips} - kept:
                gone[zone.zone] |= lost
            if new is not None and lost_rules(old, new):
                less[zone.zone][ident] = new
        for group_id in self._shrunk(desired):
            for port in desired.ports:
                if names(port, group_id):
                    less[self.zones[port.network_id].zone][port.id] = port
        return {
            zone: Judged(frozenset(gone.get(zone, ())), tuple(less.get(zone, {}).values()))
            for zone in gone.keys() | less.keys()
        }

    def _shrunk(self, desired: HostNetwork) -> list[str]:
        """The groups that have lost members. That no rule names one any more is seen by `lost_rules`."""
        now = {group.id: group for group in desired.groups}
        return [
            old.id
            for old in self.groups.values()
            if (new := now.get(old.id)) is not None and new is not old and set(old.addresses) - set(new.addresses)
        ]

    def applied(self, desired: HostNetwork) -> None:
        """These ports' rules are loaded, and what they took away is forgotten."""
        for port in desired.ports:
            before = self.ports[port.id]
            if before.applied is not port:
                self.ports[port.id] = PortNumber(before.mark, port)
                if before.applied != port:
                    self._write("ports", port.id, self.ports[port.id])
        for group in desired.groups:
            old = self.groups.get(group.id)
            self.groups[group.id] = group
            if old is not group and old != group:
                self._write("groups", group.id, group)
        for network in desired.networks:
            if not (self._directory / "networks" / network.id).exists():
                self._write("networks", network.id, self.zones[network.id])
        self._forget("ports", self.ports, {port.id for port in desired.ports})
        self._forget("networks", self.zones, {network.id for network in desired.networks})
        self._forget("groups", self.groups, {group.id for group in desired.groups})

    def clear(self) -> None:
        self._forget("ports", self.ports, set())
        self._forget("networks", self.zones, set())
        self._forget("groups", self.groups, set())

    def _write(self, kind: str, ident: str, value: msgspec.Struct) -> None:
        folder = self._directory / kind
        folder.mkdir(parents=True, exist_ok=True)
        new = folder / f".{ident}"
        new.write_bytes(msgspec.json.encode(value))
        new.replace(folder / ident)

    def _forget(self, kind: str, known: dict[str, Any], kept: set[str]) -> None:
        for ident in known.keys() - kept:
            del known[ident]
            (self._directory / kind / ident).unlink(missing_ok=True)


def _read(folder: Path, kind: type[T]) -> dict[str, T]:
    found = {}
    for path in folder.glob("[!.]*"):
        try:
            found[path.name] = msgspec.json.decode(path.read_bytes(), type=kind)
        except msgspec.DecodeError:  # a crash of the machine: the number is given anew
            continue
    return found


def names(port: PortSpec, group_id: str) -> bool:
    return any(rule.remote_group_id == group_id for rule in port.rules)


def lost_rules(old: PortSpec, new: PortSpec) -> bool:
    """Does the port allow less than before? What a remote group has lost is another question."""
    if not new.port_security_enabled:
        return False
    if not old.port_security_enabled:
        return True
    if old.rules is new.rules or old.rules == new.rules:
        return False
    before, after = _remotes(old), _remotes(new)
    for key, remotes in before.items():
        if key not in after:
            return True
        allowed = after[key]
        if allowed is not None and (remotes is None or remotes - allowed):
            return True
    return False


def _remotes(port: PortSpec) -> Mapping[tuple[object, ...], set[str] | None]:
    """What a rule matches → from whom: CIDRs and ids of groups; None: anyone."""
    found: dict[tuple[object, ...], set[str] | None] = {}
    for rule in port.rules:
        key = (rule.direction, rule.ethertype, rule.protocol, rule.port_range_min, rule.port_range_max)
        known = found.get(key, set())
        if known is None or (rule.remote_ips is None and rule.remote_group_id is None):
            found[key] = None
        else:
            found[key] = (
                known | set(rule.remote_ips or ()) | ({rule.remote_group_id} if rule.remote_group_id else set())
            )
    return found


def _next(free: Iterable[int], what: str) -> int:
    for number in free:
        return number
    raise HostError(f"this host has {HIGHEST} {what} already, and no number for one more")
