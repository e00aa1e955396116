"""What Keystone's resources have in common: rows with extra attributes, filters by any attribute, pages, conflicts."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from kilonova.db.engine import Tx
from kilonova.identity.tables import REVISION
from kilonova.model.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.web.call import Call
from kilonova.web.validate import whole

Row = dict[str, Any]

ASKED_WRONG = (
    "The server could not comply with the request since it is either malformed or otherwise incorrect. "
    "The client is assumed to be in error."
)


def expecting(attribute: str, target: str) -> BadRequest:
    """Keystone's ValidationError."""
    return BadRequest(f"Expecting to find {attribute} in {target}. {ASKED_WRONG}", type="ValidationError")


def not_found(kind: str, key: str) -> NotFound:
    return NotFound(f"Could not find {kind}: {key}.")


def forbidden(action: str) -> Forbidden:
    return Forbidden(f"You are not authorized to perform the requested action: {action}.")


def conflict(kind: str, details: str) -> Conflict:
    return Conflict(f"Conflict occurred attempting to store {kind} - {details}.")


def touch(tx: Tx) -> None:
    """Say that tokens may now mean something else (see REVISION)."""
    bumped = tx.execute(sa.update(REVISION).where(REVISION.c.id == 1).values(number=REVISION.c.number + 1))
    if not bumped.rowcount:
        tx.execute(sa.insert(REVISION).values(id=1, number=1))


def row_of(mapping: sa.RowMapping | Row) -> Row:
    return {str(key): value for key, value in mapping.items()}


def get(tx: Tx, table: sa.Table, kind: str, key: str) -> Row:
    """The row with that id. NotFound, in Keystone's words."""
    found = tx.first(sa.select(table).where(table.c.id == key))
    if found is None:
        raise not_found(kind, key)
    return row_of(found)


def hold(tx: Tx, table: sa.Table, kind: str, key: str) -> None:
    """The row stays while something is made of it (see `Tx.hold`). NotFound when there is none."""
    if not tx.hold(table.c.id, key):
        raise not_found(kind, key)


def split(table: sa.Table, body: Mapping[str, Any], hidden: Iterable[str] = ()) -> tuple[Row, Row]:
    """A body's attributes as columns and extras; `hidden` columns are never a caller's to set."""
    own = {column.name for column in table.columns} - {"extra", *hidden}
    known = {key: value for key, value in body.items() if key in own}
    extra = {key: value for key, value in body.items() if key not in own and key not in hidden and key != "links"}
    return known, extra


def insert(tx: Tx, table: sa.Table, kind: str, row: Row) -> None:
    """Conflict when the name is taken. The savepoint keeps the transaction usable on PostgreSQL."""
    try:
        with tx.connection.begin_nested():
            tx.execute(sa.insert(table).values(**row))
    except IntegrityError as error:
        raise conflict(kind, f"Duplicate entry found with name {row.get('name', row.get('id'))}") from error


def update(tx: Tx, table: sa.Table, kind: str, key: str, values: Row) -> Row:
    """Change columns, merge `extra` (None removes), and give the new row."""
    old = get(tx, table, kind, key)
    if "extra" in values:
        merged = {**old["extra"], **values["extra"]}
        values = {**values, "extra": {name: value for name, value in merged.items() if value is not None}}
    if values:
        try:
            with tx.connection.begin_nested():
                tx.execute(sa.update(table).where(table.c.id == key).values(**values))
        except IntegrityError as error:
            raise conflict(kind, f"Duplicate entry found with name {values.get('name')}") from error
    return {**old, **values}


def refuse_immutable(row: Row, kind: str, action: str) -> None:
    """Keystone's ResourceUpdateForbidden and ResourceDeleteForbidden."""
    if row["options"].get("immutable"):
        raise Forbidden(
            f"Unable to {action} immutable {kind} resource: `{row['id']}. Set resource option `immutable` to false first."
        )


def boolean(value: str | None) -> bool:
    """A query's flag: present without a value is true (`?effective`), as are all words but 0 and false."""
    return value is not None and value.strip().lower() not in ("0", "false", "f", "n", "no", "off")


OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "": lambda value, wanted: value == wanted,
    "contains": lambda value, wanted: wanted in value,
    "icontains": lambda value, wanted: wanted.lower() in value.lower(),
    "iexact": lambda value, wanted: wanted.lower() == value.lower(),
    "startswith": lambda value, wanted: value.startswith(wanted),
    "istartswith": lambda value, wanted: value.lower().startswith(wanted.lower()),
    "endswith": lambda value, wanted: value.endswith(wanted),
    "iendswith": lambda value, wanted: value.lower().endswith(wanted.lower()),
}


def select(
    call: Call, table: sa.Table, filters: Iterable[str], *conditions: sa.ColumnElement[bool], paged: bool = False
) -> list[Row]:
    """The rows that fit the query: `filters` are the attributes it may name, each also with `__contains` and the like.

    A filter given twice must fit twice, as in Keystone. `paged`: `page` is what becomes of them, so no more are read than it
    needs.
    """
    allowed, rest = set(filters), []
    equal: dict[str, set[Any]] = defaultdict(set)
    for key, wanted in call.query:
        name, _, operator = key.partition("__")
        if name not in allowed or operator not in OPERATORS:
            continue
        column = table.c.get(name)
        if column is None or operator:
            rest.append((name, OPERATORS[operator], wanted))
        else:
            equal[name].add(boolean(wanted) if isinstance(column.type, sa.Boolean) else wanted)
    if any(len(values) > 1 for values in equal.values()):
        return []
    asked = [table.c[name] == value for name, [value] in equal.items()]
    statement = sa.select(table).where(*conditions, *asked).order_by(table.c.id)
    if paged and not rest:
        statement = _cut(call, table, statement)
    rows = [row_of(row) for row in call.tx.all(statement)]
    for name, matches, wanted in rest:
        rows = [row for row in rows if matches(str(row.get(name, row["extra"].get(name)) or ""), wanted)]
    return rows


def _cut(call: Call, table: sa.Table, statement: sa.Select[Any]) -> sa.Select[Any]:
    """From the marker on, which `page` looks for, to one more than its limit."""
    marker, size = call.arg("marker"), whole(call.arg("limit") or "")
    if marker is not None:
        statement = statement.where(table.c.id >= marker)
    return statement.limit(size + 2) if size else statement


def page(call: Call, rows: list[Row]) -> tuple[list[Row], str | None]:
    """Rows after `marker`, at most `limit`; and the marker of the next page, None at the end."""
    marker, limit = call.arg("marker"), call.arg("limit")
    if marker is not None:
        places = [place for place, row in enumerate(rows) if row["id"] == marker]
        if not places:
            raise NotFound(f"Marker {marker} could not be found.")
        rows = rows[places[0] + 1 :]
    if limit is None:
        return rows, None
    size = whole(limit)
    if size is None:
        raise BadRequest(f"Invalid input for query parameter limit: {limit!r} is not a non-negative integer.")
    if not 0 < size < len(rows):
        return rows, None
    return rows[:size], rows[size - 1]["id"]
