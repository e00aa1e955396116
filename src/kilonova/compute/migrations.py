"""Migrations: what a server's resize leaves behind, its claim on the old flavor's resources, and who may see it.

Nova: `nova/objects/migration.py`, and conductor's `_replace_allocation_with_migration`.
"""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import scheduler, states
from kilonova.compute.tables import MIGRATIONS, SERVERS
from kilonova.db.engine import Tx
from kilonova.model.errors import NoValidHost
from kilonova.model.ids import new_id, now
from kilonova.placement import allocations
from kilonova.placement.allocations import Claim

BROKEN_OFF = ("migrating", "finished", "confirming", "reverting")


def begin(tx: Tx, server: sa.RowMapping, flavor: dict[str, Any], user_id: str, project_id: str) -> str:
    """The server holds the new flavor's resources from here on, and its new migration the old one's; the migration's uuid.

    NoValidHost, with the arithmetic, when its host has no room for both.
    """
    uuid, when, old = new_id(), now(), allocations.for_consumer(tx, server["id"])
    providers = sorted({row["provider"] for row in old})
    new = {provider: scheduler.resources(tx, server["id"], flavor) for provider in providers}
    try:
        allocations.replace(tx, [_claim(uuid, old, server, "MIGRATION"), _claim_new(server, new)])
    except allocations.OverCapacity as error:
        raise NoValidHost({server["host"]: error.message}) from error
    row = {
        "uuid": uuid, "server_id": server["id"], "migration_type": "resize", "status": "migrating",
        "source_host": server["host"], "dest_host": server["host"], "old_flavor": server["flavor"], "new_flavor": flavor,
        "old_vm_state": server["vm_state"], "user_id": user_id, "project_id": project_id, "created_at": when,
        "updated_at": when,
    }  # fmt: skip
    tx.execute(MIGRATIONS.insert().values(**row))
    return uuid


def give_back(tx: Tx, server_id: str, status: str) -> None:
    """The server holds the old flavor's resources again, its migration nothing. Nothing when there is no migration."""
    migration = current(tx, server_id)
    if migration is None:
        return
    server, old = states.get_row(tx, server_id), allocations.for_consumer(tx, migration["uuid"])
    if old:
        claims = [_claim(server_id, old, server, "INSTANCE"), Claim(migration["uuid"], {}, "", "")]
        allocations.replace(tx, claims)
    set_status(tx, migration["uuid"], status)


def release(tx: Tx, server_id: str, status: str) -> None:
    """The old flavor's resources are free."""
    for migration in tx.all(sa.select(MIGRATIONS).where(_broken_off(server_id))):
        allocations.release(tx, migration["uuid"])
        set_status(tx, migration["uuid"], status)


def current(tx: Tx, server_id: str, status: str | None = None) -> sa.RowMapping | None:
    """The server's resize that is neither confirmed nor reverted; `status`: if it is in that."""
    query = sa.select(MIGRATIONS).where(_broken_off(server_id)).order_by(MIGRATIONS.c.number.desc())
    row = tx.first(query)
    return row if row is not None and status in (None, row["status"]) else None


def move(tx: Tx, uuid: str, source: str, target: str) -> bool:
    """From one status to another; whether it was in the first."""
    row = (MIGRATIONS.c.uuid == uuid) & (MIGRATIONS.c.status == source)
    return bool(tx.execute(MIGRATIONS.update().where(row).values(status=target, updated_at=now())).rowcount)


def set_status(tx: Tx, uuid: str, status: str) -> None:
    tx.execute(MIGRATIONS.update().where(MIGRATIONS.c.uuid == uuid).values(status=status, updated_at=now()))


def set_flavor(tx: Tx, server_id: str, flavor: dict[str, Any]) -> None:
    """What the server is from here on, to its users, its quota and its host."""
    columns = {"flavor": flavor, "flavor_id": flavor["id"], "vcpus": flavor["vcpus"], "memory_mb": flavor["memory_mb"]}
    tx.execute(SERVERS.update().where(SERVERS.c.id == server_id).values(**columns, updated_at=now()))


def _broken_off(server_id: str) -> sa.ColumnElement[bool]:
    return (MIGRATIONS.c.server_id == server_id) & MIGRATIONS.c.status.in_(BROKEN_OFF)


def _claim(consumer: str, held: list[sa.RowMapping], server: sa.RowMapping, kind: str) -> Claim:
    """The same resources, by another consumer."""
    resources: dict[str, dict[str, int]] = {}
    for row in held:
        resources.setdefault(row["provider"], {})[row["resource_class"]] = row["used"]
    return Claim(consumer, resources, server["project_id"], server["user_id"], type=kind)


def _claim_new(server: sa.RowMapping, resources: dict[str, dict[str, int]]) -> Claim:
    return Claim(server["id"], resources, server["project_id"], server["user_id"], type="INSTANCE")
