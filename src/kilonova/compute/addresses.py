"""Ports and addresses of servers, many servers at once: one query each, since lists show a thousand servers."""

from collections.abc import Collection, Sequence
from itertools import compress
from typing import Any

import sqlalchemy as sa

from kilonova.compute.patterns import Pattern
from kilonova.compute.tables import SERVERS
from kilonova.db.engine import Tx, parts
from kilonova.network import ports
from kilonova.network.tables import (
    FLOATING_IPS,
    IP_ALLOCATIONS,
    NETWORKS,
    PORT_SECURITY_GROUPS,
    PORTS,
    SECURITY_GROUPS,
)

OF_SERVER = ports.of_server(SERVERS.c.id, SERVERS.c.project_id)


def of_servers(tx: Tx, ids: Collection[str]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Server id → network name → [{"version", "addr", "mac", "type"}], in the order of the server's ports.

    `type` fixed or floating, a floating address right behind the fixed one it stands for.
    """
    out: dict[str, dict[str, list[dict[str, Any]]]] = {}
    stands_for = sa.and_(
        FLOATING_IPS.c.fixed_port_id == PORTS.c.id, FLOATING_IPS.c.fixed_ip_address == IP_ALLOCATIONS.c.ip_address
    )
    for chunk in parts(ids):
        query: sa.Select[Any] = (
            sa.select(
                PORTS.c.device_id,
                PORTS.c.mac_address,
                NETWORKS.c.name,
                IP_ALLOCATIONS.c.ip_address,
                FLOATING_IPS.c.floating_ip_address,
            )
            .join(IP_ALLOCATIONS, IP_ALLOCATIONS.c.port_id == PORTS.c.id)
            .join(FLOATING_IPS, stands_for, isouter=True)
            .join(NETWORKS, NETWORKS.c.id == PORTS.c.network_id)
            .join(SERVERS, OF_SERVER)
            .where(SERVERS.c.id.in_(chunk))
            .order_by(PORTS.c.position, PORTS.c.created_at, PORTS.c.id, IP_ALLOCATIONS.c.id)
        )
        for row in tx.execute(query):
            server, mac, network, address, floating = row
            fixed = {"version": 6 if ":" in address else 4, "addr": address, "mac": mac, "type": "fixed"}
            entries = out.setdefault(server, {}).setdefault(network, [])
            entries += [] if fixed in entries else [fixed]  # several external networks can lead to one address
            entries += [{"version": 4, "addr": floating, "mac": mac, "type": "floating"}] if floating else []
    return out


def floating_ips(tx: Tx, server_id: str) -> tuple[str, ...]:
    """The floating addresses that lead to the server, in the order of its ports."""
    networks = of_servers(tx, [server_id]).get(server_id, {}).values()
    return tuple(entry["addr"] for entries in networks for entry in entries if entry["type"] == "floating")


def security_groups(tx: Tx, ids: Collection[str]) -> dict[str, list[str]]:
    """Server id → the names of its ports' security groups, each once for each group."""
    out: dict[str, list[str]] = {}
    for chunk in parts(ids):
        query: sa.Select[Any] = (
            sa.select(PORTS.c.device_id, SECURITY_GROUPS.c.id, SECURITY_GROUPS.c.name)
            .join(PORT_SECURITY_GROUPS, PORT_SECURITY_GROUPS.c.port_id == PORTS.c.id)
            .join(SECURITY_GROUPS, SECURITY_GROUPS.c.id == PORT_SECURITY_GROUPS.c.security_group_id)
            .join(SERVERS, OF_SERVER)
            .where(SERVERS.c.id.in_(chunk))
            .distinct()
        )
        for server, _group, name in sorted(map(tuple, tx.execute(query)), key=lambda row: (row[0], row[2])):
            out.setdefault(server, []).append(name)
    return out


def matching(tx: Tx, ids: Collection[str], pattern: Pattern) -> set[str]:
    """The servers that have an address in which the pattern is found."""
    out: set[str] = set()
    for chunk in parts(ids):
        query: sa.Select[Any] = (
            sa.select(PORTS.c.device_id, IP_ALLOCATIONS.c.ip_address)
            .join(IP_ALLOCATIONS, IP_ALLOCATIONS.c.port_id == PORTS.c.id)
            .join(SERVERS, OF_SERVER)
            .where(SERVERS.c.id.in_(chunk))
        )
        held = tx.execute(query).all()
        out |= {row[0] for row in compress(held, pattern.found_in([row[1] for row in held]))}
    return out


def interfaces(tx: Tx, server: sa.RowMapping) -> list[dict[str, Any]]:
    """The server's ports: {"id", "network_id", "mac_address", "status", "fixed_ips": [{"subnet_id", "ip_address"}]}."""
    held = ports.server_ports(tx, server["id"], server["project_id"])
    ips: dict[str, list[dict[str, str]]] = {}
    theirs = IP_ALLOCATIONS.c.port_id.in_([port["id"] for port in held])
    for row in tx.all(sa.select(IP_ALLOCATIONS).where(theirs).order_by(IP_ALLOCATIONS.c.id)):
        ips.setdefault(row["port_id"], []).append({"subnet_id": row["subnet_id"], "ip_address": row["ip_address"]})
    names = ("id", "network_id", "mac_address", "status")
    return [{**{name: port[name] for name in names}, "fixed_ips": ips.get(port["id"], [])} for port in held]


def tags_of_ports(server: sa.RowMapping, ids: Sequence[str]) -> dict[str, str | None]:
    """Port id → the tag that it was asked for with. `ids`: of the server's ports, in the order of its requests."""
    asked = server["requested_networks"]
    by_port = {entry["port_id"]: entry.get("tag") for entry in asked if entry.get("port_id")}
    return {
        id: by_port.get(id, asked[place].get("tag") if place < len(asked) else None) for place, id in enumerate(ids)
    }
