"""What METADATA has and a database lacks, for revisions: a cloud made by an older version has older tables."""

import json

import sqlalchemy as sa
from alembic import op

from kilonova.db.tables import METADATA, Json


def add_tables(*names: str) -> None:
    """Make those of the named tables that are not there."""
    METADATA.create_all(op.get_bind(), tables=[METADATA.tables[name] for name in names])


def add_columns(table: str, *names: str) -> bool:
    """Add those of the columns that are not there, each with its default in the rows there are; whether any was."""
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}
    missing = [METADATA.tables[table].c[name] for name in names if name not in there]
    for column in missing:
        op.add_column(
            table, sa.Column(column.name, column.type, nullable=column.nullable, server_default=_default(column))
        )
    return bool(missing)


def add_index(table: str, name: str) -> None:
    """Make the index unless it is there."""
    bind = op.get_bind()
    if name not in {index["name"] for index in sa.inspect(bind).get_indexes(table)}:
        next(index for index in METADATA.tables[table].indexes if index.name == name).create(bind)


def _default(column: sa.Column[object]) -> str | None:
    if column.default is None:
        return None
    value = column.default.arg  # type: ignore[attr-defined]
    if isinstance(column.type, Json):
        return json.dumps(value(None) if callable(value) else value)
    return str(int(value)) if isinstance(value, bool | int) else str(value)
