"""With whom a shared image is shared, and whether they took it."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.image import images, quotas
from kilonova.image.tables import IMAGES, MEMBERS
from kilonova.model.errors import Conflict, Forbidden, NotFound
from kilonova.model.ids import now
from kilonova.web.call import Context

Row = sa.RowMapping


def _shared(tx: Tx, context: Context, image_id: str, doing: str) -> Row:
    row = images.get(tx, context, image_id)
    if row["visibility"] != "shared":
        raise Forbidden(f"Not allowed to {doing} for image {image_id}: Only shared images have members.")
    return row


def list_all(tx: Tx, context: Context, image_id: str) -> list[Row]:
    """The owner sees all, a member sees itself."""
    row = _shared(tx, context, image_id, "list members")
    query = sa.select(MEMBERS).where(MEMBERS.c.image_id == row["id"]).order_by(MEMBERS.c.created_at)
    if not context.is_admin and row["owner"] != context.project_id:
        query = query.where(MEMBERS.c.member_id == context.project_id)
    return tx.all(query)


def get(tx: Tx, context: Context, image_id: str, member_id: str) -> Row:
    """NotFound also where listing would be Forbidden, as Glance has it."""
    try:
        rows = list_all(tx, context, image_id)
    except Forbidden as error:
        raise NotFound(error.message) from error
    return _one(rows, image_id, member_id)


def _one(rows: list[Row], image_id: str, member_id: str) -> Row:
    for row in rows:
        if row["member_id"] == member_id:
            return row
    raise NotFound(f"{member_id} not found in the member list of the image {image_id}.")


def add(tx: Tx, context: Context, image_id: str, member_id: str) -> Row:
    row = _shared(tx, context, image_id, "create members")
    if not images.is_owner(context, row):
        raise Forbidden(f"Not allowed to create members for image {image_id}.")
    there = tx.scalar(sa.select(sa.func.count()).select_from(MEMBERS).where(MEMBERS.c.image_id == row["id"]))
    quotas.check_count("members", int(there or 0) + 1)
    when = now()
    values: dict[str, Any] = {
        "image_id": row["id"], "member_id": member_id, "status": "pending", "created_at": when, "updated_at": when,
    }  # fmt: skip
    if not insert_new(tx.connection, MEMBERS, values):
        raise Conflict(f"Member {member_id} is duplicated for image {image_id}")
    return get(tx, context, image_id, member_id)


def set_status(tx: Tx, context: Context, image_id: str, member_id: str, status: str) -> Row:
    """Only the member itself (or an admin) takes or declines."""
    _shared(tx, context, image_id, "update members")
    _one(list_all(tx, context, image_id), image_id, member_id)
    if not context.is_admin and context.project_id != member_id:
        raise Forbidden(f"Not allowed to update members for image {image_id}.")
    tx.execute(
        MEMBERS.update()
        .where(MEMBERS.c.image_id == image_id, MEMBERS.c.member_id == member_id)
        .values(status=status, updated_at=now())
    )
    return get(tx, context, image_id, member_id)


def remove(tx: Tx, context: Context, image_id: str, member_id: str) -> None:
    row = _shared(tx, context, image_id, "delete members")
    _one(list_all(tx, context, image_id), image_id, member_id)
    if not images.is_owner(context, row):
        raise Forbidden(f"Not allowed to delete members for image {image_id}.")
    tx.execute(MEMBERS.delete().where(MEMBERS.c.image_id == image_id, MEMBERS.c.member_id == member_id))


def shared_with(tx: Tx, project_id: str, status: str) -> set[str]:
    """The images shared with a project, its answer being `status` (or "all")."""
    query = sa.select(MEMBERS.c.image_id).where(MEMBERS.c.member_id == project_id)
    if status != "all":
        query = query.where(MEMBERS.c.status == status)
    return set(tx.execute(query.join(IMAGES, IMAGES.c.id == MEMBERS.c.image_id)).scalars())
