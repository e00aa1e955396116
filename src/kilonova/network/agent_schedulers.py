"""Which agent has which router, and which network's DHCP (Neutron: l3_agent_scheduler and dhcp_agent_scheduler)."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict, NotFound
from kilonova.network import agents, dhcp, networks, router_ports, routers, rows, scheduling, tables
from kilonova.network import attributes as a
from kilonova.network.rows import Row

BINDINGS = tables.DHCP_AGENT_BINDINGS


def asked(body: Any, name: str) -> str:
    if not isinstance(body, dict) or name not in body:
        raise a.bad_request(f"Invalid input for {name}. Reason: it is missing.")
    return str(a.checked(name, a.text(), body[name]))


def of_kind(tx: Tx, agent_id: str, kind: str) -> Row:
    """The agent; InvalidL3Agent, InvalidDHCPAgent when it is another kind's or disabled."""
    agent = agents.get(tx, agent_id)
    if agent["agent_type"] != kind or not agent["admin_state_up"]:
        if kind == scheduling.L3:
            raise NotFound(f"Agent {agent_id} is not a L3 Agent or has been disabled", type="InvalidL3Agent")
        raise NotFound(f"Agent {agent_id} is not a valid DHCP Agent or has been disabled.", type="InvalidDHCPAgent")
    return agent


def routers_of(tx: Tx, agent_id: str) -> list[Row]:
    """None of an agent of another kind."""
    agent, table = agents.get(tx, agent_id), tables.ROUTERS
    if agent["agent_type"] != scheduling.L3:
        return []
    hosted = sa.select(table).where(table.c.host == agent["host"])
    return list(tx.all(hosted.order_by(table.c.created_at, table.c.id)))


def agents_of_router(tx: Tx, router_id: str) -> list[Row]:
    router = routers.get_any(tx, router_id)
    return on_hosts(tx, scheduling.L3, [router["host"]])


def on_hosts(tx: Tx, kind: str, hosts: Sequence[str]) -> list[Row]:
    table = tables.AGENTS
    return list(tx.all(sa.select(table).where(table.c.agent_type == kind, table.c.host.in_(hosts))))


def add_router(tx: Tx, agent_id: str, body: Any) -> None:
    """Nothing to do when it is there; Conflict when another agent has it."""
    agent = of_kind(tx, agent_id, scheduling.L3)
    router = routers.get_any(tx, asked(body, "router_id"))
    if router["host"] == agent["host"]:
        return
    if holders := agents_of_router(tx, router["id"]):
        raise Conflict(
            f"The router {router['id']} has been already hosted by the L3 Agent {holders[0]['id']}.",
            type="RouterHostedByL3Agent",
        )
    router_ports.move(tx, router["id"], agent["host"])


def remove_router(tx: Tx, agent_id: str, router_id: str) -> None:
    agent, router = agents.get(tx, agent_id), routers.get_any(tx, router_id)
    if agent["agent_type"] != scheduling.L3 or router["host"] != agent["host"]:
        raise Conflict(
            f"The router {router_id} is not hosted by the L3 Agent {agent_id}.", type="RouterNotHostedByL3Agent"
        )
    router_ports.move(tx, router_id, "")


def networks_of(tx: Tx, agent_id: str) -> list[Row]:
    agents.get(tx, agent_id)
    table = tables.NETWORKS
    served = sa.select(BINDINGS.c.network_id).where(BINDINGS.c.agent_id == agent_id)
    return list(tx.all(sa.select(table).where(table.c.id.in_(served)).order_by(table.c.created_at, table.c.id)))


def agents_of_network(tx: Tx, network_id: str) -> list[Row]:
    network, table = networks.get_any(tx, network_id), tables.AGENTS
    serving = sa.select(BINDINGS.c.agent_id).where(BINDINGS.c.network_id == network["id"])
    return list(tx.all(sa.select(table).where(table.c.id.in_(serving)).order_by(table.c.id)))


def is_bound(tx: Tx, agent_id: str, network_id: str) -> bool:
    same = sa.select(BINDINGS.c.agent_id).where(BINDINGS.c.network_id == network_id, BINDINGS.c.agent_id == agent_id)
    return tx.scalar(same) is not None


def add_network(tx: Tx, agent_id: str, body: Any) -> None:
    agent = of_kind(tx, agent_id, scheduling.DHCP)
    network = networks.get_any(tx, asked(body, "network_id"))
    if is_bound(tx, agent["id"], network["id"]):
        raise Conflict(
            f"The network {network['id']} has been already hosted by the DHCP Agent {agent_id}.",
            type="NetworkHostedByDHCPAgent",
        )
    given = {"network_id": network["id"], "agent_id": agent["id"], "explicit": True}
    rows.insert_ignore(tx, BINDINGS, given)
    dhcp.sync(tx, network["id"])


def remove_network(tx: Tx, agent_id: str, network_id: str) -> None:
    """Its DHCP ends, until a subnet or a bound port asks for it again."""
    of_kind(tx, agent_id, scheduling.DHCP)
    network = networks.get_any(tx, network_id)
    if not is_bound(tx, agent_id, network["id"]):
        raise Conflict(
            f"The network {network_id} is not hosted by the DHCP Agent {agent_id}.", type="NetworkNotHostedByDhcpAgent"
        )
    tx.execute(BINDINGS.delete().where(BINDINGS.c.network_id == network["id"], BINDINGS.c.agent_id == agent_id))
    if not agents_of_network(tx, network["id"]):
        dhcp.remove(tx, network["id"])
