"""Host aggregates, and the availability zones that they make of hosts (Nova: compute.api.AggregateAPI)."""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from kilonova.compute import hosts
from kilonova.compute.tables import AGGREGATE_HOSTS, AGGREGATES, HOSTS, SERVERS
from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id, now
from kilonova.web.validate import whole

DEFAULT_ZONE = "nova"  # of hosts that no aggregate gives one (Nova: default_availability_zone)
ZONE = "availability_zone"
MAX_ID = 2147483647


def get(tx: Tx, id: str) -> sa.RowMapping:
    """BadRequest when it is no number, NotFound."""
    number = whole(id.removeprefix("-"))
    if number is None:
        raise BadRequest(f"Invalid input received: id must be an integer, not {id[:80]}")
    row = tx.first(sa.select(AGGREGATES).where(AGGREGATES.c.id == min(number, MAX_ID)))
    if row is None or id.startswith("-"):
        raise NotFound(f"Aggregate {id} could not be found.", type="AggregateNotFound")
    return row


def list_aggregates(tx: Tx) -> list[sa.RowMapping]:
    return tx.all(sa.select(AGGREGATES).order_by(AGGREGATES.c.id))


def members(tx: Tx, ids: Collection[int]) -> dict[int, list[str]]:
    """Aggregate → the names of its hosts, in order."""
    out: dict[int, list[str]] = {id: [] for id in ids}
    query = sa.select(AGGREGATE_HOSTS).where(AGGREGATE_HOSTS.c.aggregate_id.in_(list(ids)))
    for row in tx.all(query.order_by(AGGREGATE_HOSTS.c.hostname)):
        out[row["aggregate_id"]].append(row["hostname"])
    return out


def create(tx: Tx, name: str, zone: str | None) -> sa.RowMapping:
    uuid = new_id()
    metadata = {ZONE: zone} if zone else {}
    values = {"uuid": uuid, "name": name, "metadata": metadata, "created_at": now()}
    if not insert_new(tx.connection, AGGREGATES, values):
        raise _exists(name)
    row = tx.first(sa.select(AGGREGATES).where(AGGREGATES.c.uuid == uuid))
    assert row is not None
    return row


def _exists(name: str) -> Conflict:
    return Conflict(f"Aggregate {name} already exists.", type="AggregateNameExists")


def rename(tx: Tx, row: sa.RowMapping, name: str) -> None:
    query = sa.select(AGGREGATES.c.id).where(AGGREGATES.c.name == name, AGGREGATES.c.id != row["id"])
    if tx.scalar(query) is not None:
        raise _exists(name)
    _save(tx, row["id"], name=name)


def set_metadata(
    tx: Tx, row: sa.RowMapping, changes: dict[str, str | None], what: str = "metadata of aggregate"
) -> None:
    """Keys that are None go. BadRequest when hosts with servers, or of another zone, would change theirs."""
    there = members(tx, [row["id"]])[row["id"]]
    if ZONE in changes:
        reason = _why_no_zone(tx, row, there, changes[ZONE])
        if reason:
            raise BadRequest(f"Cannot update {what} {row['id']}. Reason: {reason}.")
    metadata = {key: value for key, value in {**row["metadata"], **changes}.items() if value is not None}
    _save(tx, row["id"], metadata=metadata)
    _set_zones(tx, there)


def _why_no_zone(tx: Tx, row: sa.RowMapping, there: list[str], zone: str | None) -> str | None:
    """Nova: is_safe_to_update_az."""
    if not zone:
        return f"Aggregate {row['name']} does not support empty named availability zone"
    others = sorted({other for host in there for other in _zones(tx, host, but=row["id"]) if other != zone})
    if others:
        return f"One or more hosts already in availability zone(s) {others}"
    if row["metadata"].get(ZONE) != zone and _servers_on(tx, there):
        return "One or more hosts contain instances in this zone"
    return None


def delete(tx: Tx, row: sa.RowMapping) -> None:
    if members(tx, [row["id"]])[row["id"]]:
        raise BadRequest(f"Cannot remove host from aggregate {row['id']}. Reason: Host aggregate is not empty.")
    tx.execute(AGGREGATES.delete().where(AGGREGATES.c.id == row["id"]))


def add_host(tx: Tx, row: sa.RowMapping, host: str) -> None:
    """NotFound when there is no such host; Conflict when it is there, or its zone would change under its servers."""
    if hosts.find(tx, host) is None:
        raise NotFound(f"Compute host {host} could not be found.", type="ComputeHostNotFound")
    zone, others = row["metadata"].get(ZONE), sorted(_zones(tx, host, but=row["id"]))
    if host in members(tx, [row["id"]])[row["id"]]:
        raise Conflict(f"Aggregate {row['id']} already has host {host}.", type="AggregateHostExists")
    reason = None
    if zone and others and others != [zone]:
        reason = f"One or more hosts already in availability zone(s) {others}"
    elif zone and not others:
        reason = _why_servers_stay(tx, host, "added to", DEFAULT_ZONE, zone)
    if reason:
        raise Conflict(f"Cannot add host to aggregate {row['id']}. Reason: {reason}.")
    tx.execute(AGGREGATE_HOSTS.insert().values(aggregate_id=row["id"], hostname=host))
    _save(tx, row["id"])
    _set_zones(tx, [host])


def remove_host(tx: Tx, row: sa.RowMapping, host: str) -> None:
    if host not in members(tx, [row["id"]])[row["id"]]:
        raise NotFound(f"Cannot remove host {host} in aggregate {row['id']}", type="AggregateHostNotFound")
    zone = row["metadata"].get(ZONE)
    if zone and not _zones(tx, host, but=row["id"]):
        reason = _why_servers_stay(tx, host, "removed from", zone, DEFAULT_ZONE)
        if reason:
            raise Conflict(f"Cannot remove host from aggregate {row['id']}. Reason: {reason}.")
    gone = (AGGREGATE_HOSTS.c.aggregate_id == row["id"]) & (AGGREGATE_HOSTS.c.hostname == host)
    tx.execute(AGGREGATE_HOSTS.delete().where(gone))
    _save(tx, row["id"])
    _set_zones(tx, [host])


def _why_servers_stay(tx: Tx, host: str, moved: str, before: str, after: str) -> str | None:
    count = _servers_on(tx, [host])
    if not count or before == after:
        return None
    return (
        f"The host cannot be {moved} the aggregate as the availability zone of the host would change from '{before}' "
        f"to '{after}' but the host already has {count} instance(s)"
    )


def _zones(tx: Tx, host: str, but: int) -> set[str]:
    """The zones that the host's other aggregates give it."""
    joined = sa.select(AGGREGATES.c.metadata).join(AGGREGATE_HOSTS, AGGREGATE_HOSTS.c.aggregate_id == AGGREGATES.c.id)
    rows = tx.all(joined.where(AGGREGATE_HOSTS.c.hostname == host, AGGREGATES.c.id != but))
    return {row["metadata"][ZONE] for row in rows if ZONE in row["metadata"]}


def _servers_on(tx: Tx, names: Collection[str]) -> int:
    living = sa.select(sa.func.count()).where(SERVERS.c.host.in_(list(names)), SERVERS.c.deleted_at.is_(None))
    return int(tx.scalar(living))


def _set_zones(tx: Tx, names: Collection[str]) -> None:
    """Each host's zone as its aggregates have it now."""
    for name in names:
        zone = min(_zones(tx, name, but=0), default=DEFAULT_ZONE)
        tx.execute(HOSTS.update().where(HOSTS.c.hostname == name).values(availability_zone=zone))


def _save(tx: Tx, id: int, **values: Any) -> None:
    tx.execute(AGGREGATES.update().where(AGGREGATES.c.id == id).values(updated_at=now(), **values))
