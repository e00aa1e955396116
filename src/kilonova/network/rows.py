"""What all of Neutron's rows share: who sees them, their revision and times, and conflicts told by the database."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from kilonova.db import dialect
from kilonova.db.engine import Tx
from kilonova.model.errors import APIError, NotFound
from kilonova.model.ids import now
from kilonova.web.call import Context

Row = Mapping[Any, Any]


def stamps() -> dict[str, Any]:
    when = now()
    return {"created_at": when, "updated_at": when, "revision_number": 1}


def touch(tx: Tx, table: sa.Table, row_id: str, **values: Any) -> None:
    """Update a row; its revision grows (Neutron: revision plugin)."""
    tx.execute(
        table.update()
        .where(table.c.id == row_id)
        .values(**values, updated_at=now(), revision_number=table.c.revision_number + 1)
    )


def owned(context: Context, table: sa.Table) -> sa.ColumnElement[bool]:
    """An admin sees all, a project its own."""
    return sa.true() if context.is_admin else table.c.project_id == context.project_id


def owns(context: Context, row: Row) -> bool:
    return context.is_admin or (bool(context.project_id) and row["project_id"] == context.project_id)


def find(
    tx: Tx, table: sa.Table, row_id: str, visible: sa.ColumnElement[bool], missing: Callable[[str], NotFound]
) -> Row:
    """The visible row; an id that is none, or another project's, is missing alike."""
    row = None
    if len(row_id) <= 36 and "\x00" not in row_id:
        row = tx.first(sa.select(table).where(table.c.id == row_id, visible))
    if row is None:
        raise missing(row_id)
    return row


@contextmanager
def conflict(error: APIError) -> Iterator[None]:
    """Answer `error` when the database refuses a row that a concurrent transaction made impossible."""
    try:
        yield
    except IntegrityError as cause:
        raise error from cause


def insert_ignore(tx: Tx, table: sa.Table, values: dict[str, Any]) -> bool:
    """INSERT … ON CONFLICT DO NOTHING; whether a row was made.

    When the other row is not in our snapshot yet, PostgreSQL answers with a serialization failure, and the whole
    transaction is replayed; SQLite has one writer.
    """
    return dialect.insert_new(tx.connection, table, dict(values))
