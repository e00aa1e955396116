"""Tags of networks, subnets, ports, routers, floating IPs and security groups (Neutron: standard-attr-tag)."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import NotFound
from kilonova.network import attributes as a
from kilonova.network import (
    floating_ips,
    networks,
    ports,
    qos_policies,
    routers,
    rows,
    security_groups,
    subnet_pools,
    subnets,
    tables,
    trunks,
)
from kilonova.network.rows import Row
from kilonova.network.service_tables import QOS_POLICIES, TRUNKS
from kilonova.web.call import Context

MAX_TAGS = 50
Get = Callable[[Tx, Context, str], Row]
RESOURCES: dict[str, tuple[str, sa.Table, Get]] = {
    "networks": ("network", tables.NETWORKS, networks.get),
    "subnets": ("subnet", tables.SUBNETS, subnets.get),
    "ports": ("port", tables.PORTS, ports.get),
    "routers": ("router", tables.ROUTERS, routers.get),
    "floatingips": ("floatingip", tables.FLOATING_IPS, floating_ips.get),
    "subnetpools": ("subnetpool", tables.SUBNET_POOLS, subnet_pools.get),
    "security-groups": ("security_group", tables.SECURITY_GROUPS, security_groups.get),
    "trunks": ("trunk", TRUNKS, trunks.get),
    "policies": ("policy", QOS_POLICIES, qos_policies.get),
}


def one(value: Any) -> str:
    """A tag. BadRequest when it is empty, too long, or has a comma (which separates tags in filters)."""
    tag = a.checked("tags", a.text(255), value)
    if not tag or "," in tag:
        raise a.bad_request(f"Invalid input for tags. Reason: '{tag}' is not a tag: one character or more, no comma.")
    return str(tag)


def given(value: Any) -> list[str]:
    """Tags, each once, in order. BadRequest for too many."""
    tags = sorted(set(a.checked("tags", a.list_of(one), value)))
    if len(tags) > MAX_TAGS:
        raise a.bad_request(f"Invalid input for tags. Reason: {len(tags)} tags are more than {MAX_TAGS}.")
    return tags


def get(tx: Tx, context: Context, collection: str, row_id: str) -> list[str]:
    return list(RESOURCES[collection][2](tx, context, row_id)["tags"])


def put(tx: Tx, context: Context, collection: str, row_id: str, tags: list[str]) -> list[str]:
    """Make the row's tags these, each once, in order."""
    resource, table, find = RESOURCES[collection]
    row = find(tx, context, row_id)
    if not rows.owns(context, row):
        raise a.disallowed(f"update_{resource}s_tags")
    tags = given(tags)
    if tags != row["tags"]:
        rows.touch(tx, table, row["id"], tags=tags)
    return tags


def named(body: Any) -> list[str]:
    if not isinstance(body, dict) or not isinstance(body.get("tags"), list):
        raise a.bad_request('Invalid tags body: it is {"tags": [names]}.')
    return list(a.checked("tags", a.list_of(one), body["tags"]))


def replace(tx: Tx, context: Context, collection: str, row_id: str, body: Any) -> list[str]:
    return put(tx, context, collection, row_id, named(body))


def extend(tx: Tx, context: Context, collection: str, row_id: str, body: Any) -> list[str]:
    """Add to the row's tags. The answer is the tags of the body (Neutron: TagPlugin.create_tags)."""
    added = named(body)
    put(tx, context, collection, row_id, [*get(tx, context, collection, row_id), *added])
    return added


def add(tx: Tx, context: Context, collection: str, row_id: str, tag: str) -> None:
    put(tx, context, collection, row_id, [*get(tx, context, collection, row_id), one(tag)])


def find(tx: Tx, context: Context, collection: str, row_id: str, tag: str) -> list[str]:
    """The row's tags. NotFound when this one is not among them."""
    tags = get(tx, context, collection, row_id)
    if tag not in tags:
        raise NotFound(f"Tag {tag} could not be found.", type="TagNotFound")
    return tags


def remove(tx: Tx, context: Context, collection: str, row_id: str, tag: str) -> None:
    tags = find(tx, context, collection, row_id, tag)
    put(tx, context, collection, row_id, [other for other in tags if other != tag])
