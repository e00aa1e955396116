"""The one MetaData that every room's tables.py adds its tables to, and the column types they share."""

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex
from sqlalchemy.types import TypeDecorator

METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Json(TypeDecorator[Any]):
    """A JSON document, stored as text on both databases so that they behave alike."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else json.dumps(value, separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        return None if value is None else json.loads(value)


def unique_where(name: str, *columns: Any, where: Any) -> sa.Index:
    """A unique index over the rows of which `where` is true, on both databases."""
    return sa.Index(name, *columns, unique=True, sqlite_where=where, info={"where": where})


@compiles(CreateIndex, "postgresql")
def _create_index(create: CreateIndex, compiler: Any, **options: Any) -> str:
    """`postgresql_where` would load that dialect into every cloud: 3 MiB."""
    text: str = compiler.visit_create_index(create, **options)
    where = create.element.info.get("where")
    if where is None:
        return text
    return f"{text} WHERE {compiler.sql_compiler.process(where, include_table=False, literal_binds=True)}"
