"""Agents: what Neutron lists of the hosts that have reported. One Kilonova process does both agents' work."""

import uuid
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import NotFound
from kilonova.model.ids import now
from kilonova.network import attributes as a
from kilonova.network import dhcp, networks, ports, provider, query, router_ports, rows, scheduling, tables
from kilonova.network.rows import Row
from kilonova.web.call import Call

TABLE = tables.AGENTS
TYPES = {
    scheduling.L2: ("neutron-linuxbridge-agent", "N/A"),
    scheduling.DHCP: ("neutron-dhcp-agent", "dhcp_agent"),
    scheduling.L3: ("neutron-l3-agent", "l3_agent"),
}
SPACE = uuid.UUID("6c9ea4a4-3a4c-4a5f-9a3b-6d6f6b696c6f")

ATTRIBUTES = {
    "admin_state_up": a.Attribute(a.boolean),
    "description": a.Attribute(a.or_none(a.text())),
}
LISTING = query.Listing(
    "agents",
    TABLE,
    {name: TABLE.c[name] for name in ("id", "agent_type", "host", "admin_state_up", "description")},
    {
        # Neutron's usual database compares text without regard to case, and clients rely on it.
        "agent_type": lambda values: sa.func.lower(TABLE.c.agent_type).in_([value.lower() for value in values]),
        "alive": lambda values: alive_condition(values),
        "binary": lambda values: TABLE.c.agent_type.in_(
            [kind for kind, (binary, _) in TYPES.items() if binary in values]
        ),
        "topic": lambda values: TABLE.c.agent_type.in_([kind for kind, (_, topic) in TYPES.items() if topic in values]),
    },
)


def alive_condition(values: list[str]) -> sa.ColumnElement[bool]:
    fresh = scheduling.fresh()
    wanted = {a.checked("alive", a.boolean, value) for value in values}
    return sa.or_(*([fresh] if True in wanted else []), *([sa.not_(fresh)] if False in wanted else []), sa.false())


def is_alive(agent: Row) -> bool:
    return bool((now() - agent["heartbeat_timestamp"]).total_seconds() < scheduling.DOWN_AFTER)


def report(tx: Tx, host: str, bridge_mappings: Mapping[str, str] | None = None, overlay_ip: str = "") -> None:
    """A host is there: its agents' heartbeat, made known when it is the first.

    When they come, or come back, what waited for an agent gets one; not with each beat, or what an administrator has
    taken from an agent would be back. `bridge_mappings`: physical network → the bridge that carries it on the host.
    overlay_ip: where its end of VXLANs is, "" when it has none.
    """
    when = now()
    alive = tx.scalar(sa.select(sa.func.count()).where(TABLE.c.host == host, scheduling.fresh()))
    beaten = tx.execute(TABLE.update().where(TABLE.c.host == host).values(heartbeat_timestamp=when))
    for kind in TYPES if beaten.rowcount < len(TYPES) else ():
        row = {
            "id": str(uuid.uuid5(SPACE, f"{kind}/{host}")), "agent_type": kind, "host": host, "configurations": {},
            "created_at": when, "started_at": when, "heartbeat_timestamp": when, "admin_state_up": True,
        }  # fmt: skip
        rows.insert_ignore(tx, TABLE, row)
    mappings = dict(bridge_mappings or {})
    found = {"bridge_mappings": mappings, **(overlay_configuration(overlay_ip) if overlay_ip else {})}
    before = scheduling.configuration(tx, host)
    if before != found:
        own = TABLE.update().where(TABLE.c.host == host, TABLE.c.agent_type == scheduling.L2)
        tx.execute(own.values(configurations=found))
    if before.get("bridge_mappings", {}) != mappings:
        carry(tx, host)
    if alive < len(TYPES):
        adopt(tx)


def overlay_configuration(address: str) -> dict[str, Any]:
    """In the words of Neutron's Linux bridge agent."""
    return {"tunneling_ip": address, "tunnel_types": [provider.VXLAN], "l2_population": True}


def adopt(tx: Tx) -> None:
    dhcp.adopt(tx)
    router_ports.adopt(tx)


def carry(tx: Tx, host: str) -> None:
    """The host's physical networks have other bridges now: its ports on them are bound anew."""
    networks.touch_carried(tx)
    nets, table = tables.NETWORKS, tables.PORTS
    physical = sa.select(nets.c.id).where(nets.c.physical_network != "")
    for port in tx.all(sa.select(table).where(table.c.host == host, table.c.network_id.in_(physical))):
        vif_type = port["vif_type"] if port["vif_type"] in ("bridge", "tap") else "bridge"
        ports.bind(tx, port, host, vif_type)


def is_known(tx: Tx, host: str) -> bool:
    return tx.scalar(sa.select(TABLE.c.id).where(TABLE.c.host == host).limit(1)) is not None


def not_found(agent_id: str) -> NotFound:
    return NotFound(f"Agent {agent_id} could not be found.", type="AgentNotFound")


def get(tx: Tx, agent_id: str) -> Row:
    return rows.find(tx, TABLE, agent_id, sa.true(), not_found)


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return query.page(call, LISTING, sa.true())


def update(tx: Tx, call: Call, agent_id: str, body: Any) -> Row:
    agent = get(tx, agent_id)
    values = a.prepare("agent", body, ATTRIBUTES, call.context, create=False)
    if values:
        tx.execute(TABLE.update().where(TABLE.c.id == agent["id"]).values(**values))
    if values.get("admin_state_up"):
        adopt(tx)
    return get(tx, agent_id)


def delete(tx: Tx, agent_id: str) -> None:
    agent, bindings = get(tx, agent_id), tables.DHCP_AGENT_BINDINGS
    tx.execute(bindings.delete().where(bindings.c.agent_id == agent["id"]))
    tx.execute(TABLE.delete().where(TABLE.c.id == agent["id"]))
