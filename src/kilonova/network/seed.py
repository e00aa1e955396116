"""What a new cloud has: the demo project's network, the external one, and what networks on demand are made of."""

import ipaddress
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.network import networks, subnet_pools, subnets, tables
from kilonova.web.call import Context

DEMO_CIDR = "192.168.233.0/24"
POOL = {"name": "default-v4", "prefixes": ["10.0.0.0/16"], "default_prefixlen": 26, "shared": True, "is_default": True}


def seed(tx: Tx, *, demo_project_id: str, admin_project_id: str, public_cidr: str | None) -> dict[str, str]:
    """Make networks `demo` and `public` where they are missing; returns name → id.

    `public_cidr`, e.g. 172.24.4.0/24: the host's end is .1, floating IPs come from .100 on (in a smaller one from its middle
    on). None: a LAN's addresses
    are for its operator to hand out.
    """
    demo_id = ensure(tx, demo_project_id, {"name": "demo"}, {"name": "demo-subnet", "cidr": DEMO_CIDR})
    public_id = ensure(
        tx,
        admin_project_id,
        {
            "name": "public", "router:external": True, "provider:network_type": "flat",
            "provider:physical_network": "public",
        },
        public_subnet(public_cidr) if public_cidr else None,
    )  # fmt: skip
    return {"demo": demo_id, "public": public_id}


def public_subnet(cidr: str) -> dict[str, Any]:
    public = ipaddress.ip_network(cidr)
    pool = {"start": str(public[min(100, public.num_addresses // 2)]), "end": str(public[-2])}
    gateway = str(public[1])
    return {
        "name": "public-subnet", "cidr": cidr, "gateway_ip": gateway, "enable_dhcp": False, "allocation_pools": [pool]
    }  # fmt: skip


def ensure(tx: Tx, project_id: str, network: dict[str, Any], subnet: dict[str, Any] | None) -> str:
    table = tables.NETWORKS
    same = sa.select(table.c.id).where(table.c.project_id == project_id, table.c.name == network["name"])
    found = tx.scalar(same.order_by(table.c.created_at, table.c.id))
    if found is not None:
        return str(found)
    context = Context(project_id=project_id, roles=frozenset({"admin"}))
    network_id = str(networks.create(tx, context, network)["id"])
    if subnet:
        subnets.create(tx, context, {"network_id": network_id, "ip_version": 4, **subnet})
    if network.get("router:external"):
        offer_topologies(tx, context, network_id)
    return network_id


def offer_topologies(tx: Tx, context: Context, network_id: str) -> None:
    """The default external network and pool of addresses, of which `server create --network auto` makes a project's
    first network. An administrator's own choice of either stays."""
    if networks.default_external(tx, sa.true()) is None:
        networks.update(tx, context, network_id, {"is_default": True})
    if subnet_pools.default_of(tx, 4) is None:
        subnet_pools.create(tx, context, POOL)
