"""The legs of routers: which ports they are, on which host, and that no two of their subnets overlap."""

import ipaddress
import itertools
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest
from kilonova.network import associations, ipam, ports, rows, scheduling, tables
from kilonova.network.rows import Row

TABLE, ROUTERS = tables.ROUTER_PORTS, tables.ROUTERS
INTERFACE, GATEWAY = "network:router_interface", "network:router_gateway"


def bad_request(message: str) -> BadRequest:
    """neutron_lib.exceptions.BadRequest of a router."""
    return BadRequest(f"Bad router request: {message}.", type="BadRequest")


@dataclass(frozen=True)
class Leg:
    port: Row
    type: str
    fixed_ips: Sequence[dict[str, str]]

    @property
    def addresses(self) -> list[str]:
        return [ip["ip_address"] for ip in self.fixed_ips]

    @property
    def subnet_ids(self) -> list[str]:
        return [ip["subnet_id"] for ip in self.fixed_ips]


def legs(tx: Tx, router_ids: Collection[str]) -> dict[str, list[Leg]]:
    """router id → its legs, in the order they were attached."""
    table, found = tables.PORTS, {router_id: list[Leg]() for router_id in router_ids}
    attached = (
        sa.select(table, TABLE.c.router_id, TABLE.c.port_type)
        .join(TABLE, TABLE.c.port_id == table.c.id)
        .where(TABLE.c.router_id.in_(list(found)))
        .order_by(table.c.created_at, table.c.id)
    )
    there = tx.all(attached)
    addresses = ipam.fixed_ips(tx, [row["id"] for row in there])
    for row in there:
        found[row["router_id"]].append(Leg(row, row["port_type"], addresses[row["id"]]))
    return found


def gateway(found: Iterable[Leg]) -> Leg | None:
    return next((leg for leg in found if leg.type == GATEWAY), None)


def subnets(tx: Tx, ids: Iterable[str]) -> list[Row]:
    """In the order of the ids."""
    wanted, table = list(dict.fromkeys(ids)), tables.SUBNETS
    found = {row["id"]: row for row in tx.all(sa.select(table).where(table.c.id.in_(wanted)))}
    return [found[subnet_id] for subnet_id in wanted if subnet_id in found]


def check_subnets(tx: Tx, found: Sequence[Leg], new: Sequence[Row]) -> None:
    """BadRequest when one of the new subnets is attached, or overlaps (Neutron: _check_for_dup_router_subnets).

    Of the external network all subnets count, whether the gateway has an address in them or not.
    """
    new_ids, attached = {subnet["id"] for subnet in new}, list[Row]()
    for leg in found:
        if double := [subnet_id for subnet_id in leg.subnet_ids if subnet_id in new_ids]:
            raise bad_request(f"Router already has a port on subnet {double[0]}")
        if leg.type == GATEWAY:
            attached += ipam.subnets_of(tx, leg.port["network_id"])
        else:
            attached += subnets(tx, leg.subnet_ids)
    for old, fresh in itertools.product(attached, new):
        check_overlap(old, fresh)
    for one, other in itertools.combinations(new, 2):
        check_overlap(one, other)


def check_changed_leg(tx: Tx, port: Row, subnet_ids: Sequence[str]) -> None:
    """As `check_subnets`, for a port whose addresses have changed, if it is a leg."""
    router_id = tx.scalar(sa.select(TABLE.c.router_id).where(TABLE.c.port_id == port["id"]))
    if router_id is not None:
        rows.touch(tx, ROUTERS, router_id)
        others = [leg for leg in legs(tx, [router_id])[router_id] if leg.port["id"] != port["id"]]
        check_subnets(tx, others, subnets(tx, subnet_ids))


def check_overlap(one: Row, other: Row) -> None:
    first, second = ipaddress.ip_network(one["cidr"]), ipaddress.ip_network(other["cidr"])
    if first.version == second.version and first.overlaps(second):
        raise bad_request(
            f"Cidr {other['cidr']} of subnet {other['id']} overlaps with cidr {one['cidr']} of subnet {one['id']}"
        )


def attach(tx: Tx, router: Row, port: Row, port_type: str) -> None:
    """The port is a leg from now on, bound where the router is."""
    tx.execute(TABLE.insert().values(port_id=port["id"], router_id=router["id"], port_type=port_type))
    host = ensure_host(tx, router["id"])
    if host:
        ports.bind(tx, port, host, "bridge")


def ensure_host(tx: Tx, router_id: str) -> str:
    """The router's host, chosen now when it has none; "" while no L3 agent is alive."""
    host = tx.scalar(sa.select(ROUTERS.c.host).where(ROUTERS.c.id == router_id))
    if not host:
        host = scheduling.l3_host(tx)
        if host:
            rows.touch(tx, ROUTERS, router_id, host=host)
    return str(host)


def move(tx: Tx, router_id: str, host: str) -> None:
    """The router and its legs to that host; "" for none. Its floating IPs are down until a host says otherwise."""
    rows.touch(tx, ROUTERS, router_id, host=host)
    associations.set_statuses(tx, dict.fromkeys(associations.floating_ips_through(tx, router_id), "DOWN"))
    for leg in legs(tx, [router_id])[router_id]:
        if host:
            ports.bind(tx, leg.port, host, "bridge")
        else:
            rows.touch(tx, tables.PORTS, leg.port["id"], **ports.UNBOUND)


def adopt(tx: Tx) -> None:
    """Routers that have legs and no host get one, now that an agent is there (Neutron: auto_schedule_routers)."""
    waiting = sa.select(ROUTERS.c.id).where(ROUTERS.c.host == "", ROUTERS.c.id.in_(sa.select(TABLE.c.router_id)))
    for router_id in tx.execute(waiting.order_by(ROUTERS.c.created_at, ROUTERS.c.id)).scalars().all():
        if host := scheduling.l3_host(tx):
            move(tx, router_id, host)
