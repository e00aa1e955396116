"""Rows as Neutron's bodies, byte for byte the attributes of the extensions we list."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.ids import iso
from kilonova.network import (
    address_scopes,
    agents,
    dns,
    ipam,
    ports,
    provider,
    qos_policies,
    scheduling,
    security_groups,
    segments,
    sharing,
    tables,
    trunks,
)
from kilonova.network.rows import Row
from kilonova.web.call import Context

Body = dict[str, Any]


def standard(row: Row, tags: bool = True) -> Body:
    body = {
        "description": row["description"],
        "project_id": row["project_id"],
        "tenant_id": row["project_id"],
        "revision_number": row["revision_number"],
        "created_at": iso(row["created_at"]),
        "updated_at": iso(row["updated_at"]),
    }
    return body | ({"tags": row["tags"]} if tags else {})


def networks(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    table = tables.SUBNETS
    found: dict[str, list[str]] = {row["id"]: [] for row in rows}
    routed: set[str] = set()  # those whose subnets are each a segment's
    statement = sa.select(table.c.id, table.c.network_id, table.c.segment_id)
    statement = statement.where(table.c.network_id.in_(list(found)))
    for subnet in tx.all(statement.order_by(table.c.created_at, table.c.id)):
        found[subnet["network_id"]].append(subnet["id"])
        routed |= {subnet["network_id"]} if subnet["segment_id"] else set()
    shared = sharing.among(tx, context, sharing.NETWORK, list(found))
    scopes = address_scopes.of_networks(tx, list(found))
    policies = qos_policies.attached(tx, "network", list(found))
    carried = segments.of_networks(tx, list(found)) if context.is_admin else {}
    return [
        network(context, row, found[row["id"]], row["id"] in shared)
        | network_scopes(scopes.get(row["id"], {}))
        | {"qos_policy_id": policies.get(row["id"]), "l2_adjacency": row["id"] not in routed}
        | (provider.body(carried[row["id"]]) if context.is_admin else {})
        for row in rows
    ]


def network_scopes(scopes: Mapping[int, str]) -> Body:
    return {"ipv4_address_scope": scopes.get(4), "ipv6_address_scope": scopes.get(6)}


def network(context: Context, row: Row, subnet_ids: Iterable[str], shared: bool) -> Body:
    own = context.is_admin or row["project_id"] == context.project_id or shared
    body = {
        "id": row["id"],
        "name": row["name"],
        "admin_state_up": row["admin_state_up"],
        "status": row["status"],
        "subnets": list(subnet_ids) if own else [],
        "shared": shared,
        "mtu": row["mtu"],
        "port_security_enabled": row["port_security_enabled"],
        "dns_domain": row["dns_domain"],
        "router:external": row["external"],
        **standard(row),
    }
    if row["external"]:
        body["is_default"] = row["is_default"]
    return body


def subnets(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    same = ("id", "name", "network_id", "ip_version", "cidr", "gateway_ip", "enable_dhcp", "allocation_pools",
            "dns_nameservers", "host_routes", "ipv6_ra_mode", "ipv6_address_mode", "subnetpool_id",
            "service_types")  # fmt: skip
    hidden = ("segment_id",) if context.is_admin else ()
    nets, network_ids = tables.NETWORKS, {row["network_id"] for row in rows}
    outside = sa.select(nets.c.id).where(nets.c.id.in_(list(network_ids)), nets.c.external)
    external = set(tx.execute(outside).scalars())
    return [
        {
            **{key: row[key] for key in (*same, *hidden)},
            "router:external": row["network_id"] in external,
            **standard(row),
        }
        for row in rows
    ]


def segment_bodies(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    same = ("id", "network_id", "name", "description", "network_type", "revision_number")
    return [
        {
            **{key: row[key] for key in same},
            **{key: row[key] or None for key in ("physical_network", "segmentation_id")},
            **{key: iso(row[key]) for key in ("created_at", "updated_at")},
        }
        for row in rows
    ]


def port_bodies(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    ids = [row["id"] for row in rows]
    addresses, groups = ipam.fixed_ips(tx, ids), ports.security_groups_of(tx, ids)
    own, carried = qos_policies.attached(tx, "port", ids), trunks.details(tx, ids)
    network_ids = {row["network_id"] for row in rows}
    of_networks = qos_policies.attached(tx, "network", network_ids)
    nets = tables.NETWORKS
    names = sa.select(nets.c.id, nets.c.dns_domain).where(nets.c.id.in_(list(network_ids)))
    domains = {row["id"]: row["dns_domain"] for row in tx.all(names)} if rows else {}
    return [
        port(context, row, addresses[row["id"]], groups[row["id"]])
        | {"dns_assignment": dns.assignment(row, domains[row["network_id"]], addresses[row["id"]])}
        | {"qos_policy_id": own.get(row["id"]), "qos_network_policy_id": of_networks.get(row["network_id"])}
        | ({"trunk_details": carried[row["id"]]} if row["id"] in carried else {})
        for row in rows
    ]


def port(context: Context, row: Row, addresses: list[dict[str, str]], groups: list[str]) -> Body:
    same = ("id", "name", "network_id", "mac_address", "admin_state_up", "status", "device_id", "device_owner",
            "port_security_enabled", "allowed_address_pairs", "extra_dhcp_opts", "dns_name", "dns_domain")  # fmt: skip
    body = {
        **{key: row[key] for key in same},
        "fixed_ips": addresses,
        "security_groups": groups,
        "binding:vnic_type": row["vnic_type"],
        **standard(row),
    }
    if context.is_admin:
        body |= {
            "binding:host_id": row["host"],
            "binding:vif_type": row["vif_type"],
            "binding:vif_details": row["vif_details"],
            "binding:profile": row["profile"],
        }
    return body


def security_group_bodies(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    ids = [row["id"] for row in rows]
    found, shared = security_groups.rules_of(tx, ids), sharing.among(tx, context, sharing.SECURITY_GROUP, ids)
    defaults = default_groups(tx, ids)
    return [
        {
            "id": row["id"],
            "name": row["name"],
            "stateful": row["stateful"],
            "shared": row["id"] in shared,
            "security_group_rules": [rule(each, row["id"] in defaults) for each in found[row["id"]]],
            **standard(row),
        }
        for row in rows
    ]


def rules(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    defaults = default_groups(tx, [row["security_group_id"] for row in rows])
    return [rule(row, row["security_group_id"] in defaults) for row in rows]


def default_groups(tx: Tx, group_ids: Sequence[str]) -> set[str]:
    """Those of the groups that are their project's default one."""
    marks = tables.DEFAULT_SECURITY_GROUPS.c.security_group_id
    return set(tx.execute(sa.select(marks).where(marks.in_(list(group_ids)))).scalars())


def rule(row: Row, of_default: bool) -> Body:
    prefix = row["remote_ip_prefix"]
    same = ("id", "security_group_id", "direction", "ethertype", "protocol", "port_range_min", "port_range_max",
            "remote_ip_prefix", "remote_group_id", "remote_address_group_id")  # fmt: skip
    return {
        **{key: row[key] for key in same},
        "belongs_to_default_sg": of_default,
        "normalized_cidr": str(ipaddress.ip_network(prefix, strict=False)) if prefix else None,
        **standard(row, tags=False),
    }


def agent_bodies(tx: Tx, context: Context, rows: Sequence[Row]) -> list[Body]:
    return [agent(row) for row in rows]


def agent(row: Row) -> Body:
    binary, topic = agents.TYPES[row["agent_type"]]
    return {
        "id": row["id"],
        "agent_type": row["agent_type"],
        "binary": binary,
        "topic": topic,
        "host": row["host"],
        "admin_state_up": row["admin_state_up"],
        "alive": agents.is_alive(row),
        "description": row["description"],
        "configurations": row["configurations"],
        "availability_zone": None if row["agent_type"] == scheduling.L2 else scheduling.ZONES[0],
        **{key: row[key].strftime("%Y-%m-%d %H:%M:%S") for key in ("created_at", "started_at", "heartbeat_timestamp")},
    }


def version(base_url: str) -> Body:
    links = [{"rel": "self", "href": f"{base_url}/v2.0/"}]
    return {"id": "v2.0", "status": "CURRENT", "links": links}


def resources(base_url: str, collections: Mapping[str, str]) -> Body:
    """What GET /v2.0 answers: `collections` is name → collection."""
    return {
        "resources": [
            {
                "name": name,
                "collection": collection,
                "links": [{"rel": "self", "href": f"{base_url}/v2.0/{collection}"}],
            }
            for name, collection in collections.items()
        ]
    }
