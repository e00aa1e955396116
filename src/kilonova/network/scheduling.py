"""Which agents are alive, and the one that a router or a network's DHCP goes to (Neutron: its agent schedulers)."""

import datetime
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.ids import now
from kilonova.network import tables
from kilonova.network.rows import Row

TABLE = tables.AGENTS
L2, DHCP, L3 = "Linux bridge agent", "DHCP agent", "L3 agent"
ZONES = ("nova",)  # the availability zones of routers and agents
DOWN_AFTER = 75  # seconds (Neutron: agent_down_time)


def fresh() -> sa.ColumnElement[bool]:
    return TABLE.c.heartbeat_timestamp > now() - datetime.timedelta(seconds=DOWN_AFTER)


def candidates(tx: Tx, kind: str) -> list[Row]:
    """Agents of that type that are alive and not disabled, the least known first come first."""
    usable = sa.select(TABLE).where(TABLE.c.agent_type == kind, TABLE.c.admin_state_up, fresh())
    return list(tx.all(usable.order_by(TABLE.c.created_at, TABLE.c.id)))


def l3_host(tx: Tx) -> str:
    """The host of the L3 agent that carries fewest routers; "" when none is alive."""
    routers, agents = tables.ROUTERS, candidates(tx, L3)
    counted = sa.select(routers.c.host, sa.func.count().label("number")).group_by(routers.c.host)
    load = {row["host"]: row["number"] for row in tx.all(counted)}
    return str(min(agents, key=lambda agent: load.get(agent["host"], 0))["host"]) if agents else ""


def overlay_addresses(tx: Tx) -> dict[str, str]:
    """Host → its overlay address, of those that have one. A dead agent's host counts: its guests live on."""
    reported = tx.execute(sa.select(TABLE.c.host, TABLE.c.configurations).where(TABLE.c.agent_type == L2))
    return {host: found["tunneling_ip"] for host, found in reported.all() if found.get("tunneling_ip")}


def physical_networks(tx: Tx) -> set[str]:
    """All that some host carries (Neutron: the keys of network_vlan_ranges)."""
    reported = tx.execute(sa.select(TABLE.c.configurations).where(TABLE.c.agent_type == L2)).scalars()
    return {name for configurations in reported for name in configurations.get("bridge_mappings", {})}


def bridge_mappings(tx: Tx, host: str) -> dict[str, str]:
    """Physical network → the bridge that carries it on the host."""
    return dict(configuration(tx, host).get("bridge_mappings", {}))


def configuration(tx: Tx, host: str) -> dict[str, Any]:
    """What its L2 agent reports of itself."""
    found = tx.scalar(sa.select(TABLE.c.configurations).where(TABLE.c.host == host, TABLE.c.agent_type == L2))
    return dict(found or {})
