"""Which host a server goes to (Nova: nova-scheduler's FilterScheduler), and why the others do not take it."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from kilonova.compute import block_devices, hosts, server_groups, states
from kilonova.compute.tables import SERVERS
from kilonova.db.engine import Tx
from kilonova.model.errors import NoValidHost
from kilonova.placement import allocations, candidates


def resources(tx: Tx, server_id: str, flavor: dict[str, Any]) -> dict[str, int]:
    """What a server of that flavor takes of its host, by resource class; a root disk in a volume takes nothing (Nova:
    resources_from_flavor)."""
    root_gb = flavor["disk_gb"] if block_devices.root(tx, server_id) is None else 0
    swap_gb = -(-flavor["swap_mb"] // 1024)
    asked = {
        "VCPU": flavor["vcpus"],
        "MEMORY_MB": flavor["memory_mb"],
        "DISK_GB": root_gb + flavor["ephemeral_gb"] + swap_gb,
    }
    return {name: amount for name, amount in asked.items() if amount}


def select_destination(tx: Tx, server_id: str, excluded: set[str]) -> str:
    """Claims the server's resources on the best host, sets the server's host and returns its name.

    Best is the one that its group would rather have (soft-affinity …), then the one with the most free RAM (Nova:
    RAMWeigher). NoValidHost says of every host why it was refused, with the arithmetic. A server that has its claim
    already keeps its host.
    """
    server = states.get_row(tx, server_id)
    asked = resources(tx, server_id, server["flavor"])
    known = {host["uuid"]: host for host in hosts.list_hosts(tx)}
    reasons: dict[str, str] = {}
    fitting: list[tuple[int, int, candidates.Candidate]] = []
    group = server_groups.Placed(tx, server_id)
    for candidate in candidates.hosts(tx, asked):
        host = known.get(candidate.uuid)
        if host is None:  # a resource provider that is no compute host
            continue
        if (
            server["host"] == host["hostname"]
            and server["host"] not in excluded
            and _holds(tx, server_id, host["uuid"])
        ):
            return str(host["hostname"])
        why = _refusal(tx, server, host, excluded) or group.refusal(host["hostname"]) or candidate.why_not
        if why:
            reasons[host["hostname"]] = why
        else:
            memory = candidate.resources.get("MEMORY_MB")
            fitting.append((group.weight(host["hostname"]), memory.free if memory else 0, candidate))
    for _weight, _free, candidate in sorted(fitting, key=lambda item: (-item[0], -item[1], item[2].name)):
        try:
            allocations.claim(tx, server_id, candidate.uuid, asked, server["project_id"], server["user_id"])
        except allocations.OverCapacity as error:
            reasons[known[candidate.uuid]["hostname"]] = error.message
            continue
        name = str(known[candidate.uuid]["hostname"])
        states.set_host(tx, server_id, name)
        return name
    wanted = server["requested_host"]
    if wanted and wanted not in {host["hostname"] for host in known.values()}:
        reasons[wanted] = "the server was asked for on this host, and there is no such host"
    raise NoValidHost(reasons)


def _holds(tx: Tx, server_id: str, provider: str) -> bool:
    return any(row["provider"] == provider for row in allocations.for_consumer(tx, server_id))


def _refusal(tx: Tx, server: sa.RowMapping, host: sa.RowMapping, excluded: set[str]) -> str | None:
    """The first filter that refuses the host, in words; None when all let it pass."""
    name = host["hostname"]
    if server["requested_host"] and server["requested_host"] != name:
        return f"the server was asked for on host {server['requested_host']}"
    if name in excluded:
        return "an earlier attempt failed there (RetryFilter)"
    if host["disabled"]:
        return f"its compute service is disabled: {host['disabled_reason'] or 'no reason given'} (ComputeFilter)"
    if not hosts.is_up(host):
        return f"its compute service is down, last seen {host['last_seen_at']:%Y-%m-%d %H:%M:%S} UTC (ComputeFilter)"
    zone = server["availability_zone"]
    if zone and zone != host["availability_zone"]:
        return f"asked for zone {zone}, the host is in {host['availability_zone']} (AvailabilityZoneFilter)"
    return _affinity(tx, server["scheduler_hints"], name)


def _affinity(tx: Tx, hints: dict[str, Any], name: str) -> str | None:
    different, same = _hosts_of(tx, hints.get("different_host")), _hosts_of(tx, hints.get("same_host"))
    if name in different:
        return "a server that this one must not share a host with is there (DifferentHostFilter)"
    if hints.get("same_host") and name not in same:
        return "none of the servers that this one must share a host with is there (SameHostFilter)"
    return None


def _hosts_of(tx: Tx, servers: str | Iterable[str] | None) -> set[str]:
    ids = [servers] if isinstance(servers, str) else list(servers or ())
    if not ids:
        return set()
    query = sa.select(SERVERS.c.host).where(SERVERS.c.id.in_(ids), SERVERS.c.deleted_at.is_(None))
    return {host for (host,) in tx.execute(query) if host}


def release_allocation(tx: Tx, server_id: str) -> None:
    """Frees what the server holds of its host. Safe to repeat."""
    allocations.release(tx, server_id)
