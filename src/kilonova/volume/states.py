"""The states of volumes, snapshots, backups and groups: the writes that flows make. All do nothing to what is gone."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import NotFound
from kilonova.model.ids import now
from kilonova.volume.tables import ATTACHMENTS, BACKUPS, GROUP_SNAPSHOTS, GROUPS, SNAPSHOTS, VOLUMES

KINDS = {
    "volume": VOLUMES, "snapshot": SNAPSHOTS, "backup": BACKUPS, "group": GROUPS, "group_snapshot": GROUP_SNAPSHOTS,
}  # fmt: skip


def find(tx: Tx, kind: str, id: str) -> sa.RowMapping | None:
    return tx.first(sa.select(KINDS[kind]).where(KINDS[kind].c.id == id))


def get_row(tx: Tx, kind: str, id: str) -> sa.RowMapping:
    row = find(tx, kind, id)
    if row is None:
        raise NotFound(f"{kind.replace('_', ' ').capitalize()} {id} could not be found.")
    return row


def update(tx: Tx, kind: str, id: str, **values: Any) -> None:
    table = KINDS[kind]
    tx.execute(table.update().where(table.c.id == id).values(updated_at=now(), **values))


def move(tx: Tx, kind: str, id: str, states: tuple[str, ...], **values: Any) -> bool:
    """Write `values` if the thing is in one of `states`; whether it was (Cinder: conditional_update)."""
    table = KINDS[kind]
    where = (table.c.id == id) & table.c.status.in_(states)
    return bool(tx.execute(table.update().where(where).values(updated_at=now(), **values)).rowcount)


def remove(tx: Tx, kind: str, id: str) -> None:
    table = KINDS[kind]
    tx.execute(table.delete().where(table.c.id == id))


def has_attachments(tx: Tx, volume_id: str) -> bool:
    """One that is attached; what is only reserved does not count."""
    attached = (ATTACHMENTS.c.volume_id == volume_id) & (ATTACHMENTS.c.status == "attached")
    return tx.scalar(sa.select(ATTACHMENTS.c.id).where(attached)) is not None


def has_snapshots(tx: Tx, volume_id: str) -> bool:
    return tx.scalar(sa.select(SNAPSHOTS.c.id).where(SNAPSHOTS.c.volume_id == volume_id).limit(1)) is not None


def settle(tx: Tx, volume_id: str, **values: Any) -> None:
    """The status that the volume had before what it was busy with."""
    row = find(tx, "volume", volume_id)
    if row is not None:
        before = row["previous_status"] or ("in-use" if has_attachments(tx, volume_id) else "available")
        update(tx, "volume", volume_id, status=before, previous_status=None, **values)
