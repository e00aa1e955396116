"""Lists the way Neutron's API offers them: filters, tags, sorting, pages, fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa

from kilonova.network.attributes import bad_request, boolean
from kilonova.network.rows import Row
from kilonova.web.call import Call

CONTROLS = {"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"}
TAG_FILTERS = {"tags", "tags-any", "not-tags", "not-tags-any"}
MAX_NAMES = 500  # of tags in one filter: each is a term of the condition, of which SQLite takes a thousand
Condition = Callable[[list[str]], sa.ColumnElement[bool]]


@dataclass(frozen=True)
class Listing:
    """`columns`: attribute → column to filter and sort by. `special`: filters that are not a column's equality.

    `path`: where the collection is found below /v2.0, if not at its name.
    """

    collection: str
    table: sa.Table
    columns: Mapping[str, sa.ColumnElement[Any]]
    special: Mapping[str, Condition] = field(default_factory=dict)
    path: str = ""


def standard_columns(table: sa.Table, *names: str, **renamed: str) -> dict[str, sa.ColumnElement[Any]]:
    """The named columns, those that all resources have, and `attribute=column` for renamed ones."""
    common = ("id", "project_id", "description", "revision_number", "created_at", "updated_at")
    found: dict[str, sa.ColumnElement[Any]] = {name: table.c[name] for name in (*common, *names)}
    found["tenant_id"] = table.c.project_id
    return found | {attribute: table.c[column] for attribute, column in renamed.items()}


def page(call: Call, listing: Listing, visible: sa.ColumnElement[bool]) -> tuple[list[Row], dict[str, Any]]:
    """The rows that the query asks for, and `{"<collection>_links": …}` when it asked for a page."""
    statement = sa.select(listing.table).where(visible, *conditions(call, listing))
    order = sorting(call, listing)
    backwards = (call.arg("page_reverse") or "").lower() in ("true", "1")
    if backwards:
        order = [(column, not ascending) for column, ascending in order]
    if marker := call.arg("marker"):
        statement = statement.where(after(call, listing, order, marker, visible))
    statement = statement.order_by(*(column.asc() if ascending else column.desc() for column, ascending in order))
    limit = page_size(call)
    if limit:
        statement = statement.limit(limit)
    rows: list[Row] = list(call.tx.all(statement))
    if backwards:
        rows.reverse()
    return rows, links(call, listing, rows, limit, backwards) if limit else {}


def conditions(call: Call, listing: Listing) -> list[sa.ColumnElement[bool]]:
    asked: dict[str, list[str]] = {}
    for key, value in call.query:
        if key not in CONTROLS:
            asked.setdefault(key, []).append(value)
    tagged = "tags" in listing.table.c
    known = set(listing.columns) | set(listing.special) | (TAG_FILTERS if tagged else set())
    if unknown := sorted(set(asked) - known):
        raise bad_request(f"{unknown} is invalid attribute for filtering")
    found = []
    for key, values in asked.items():
        values = [value for value in values if "\x00" not in value]
        if key in listing.special:
            found.append(listing.special[key](values))
        elif key in TAG_FILTERS and tagged:
            found.append(with_tags(listing.table.c.tags, key, values))
        else:
            found.append(equals(key, listing.columns[key], values))
    return found


def equals(name: str, column: sa.ColumnElement[Any], values: list[str]) -> sa.ColumnElement[bool]:
    wanted: list[Any] = []
    for value in values:
        if isinstance(column.type, sa.Boolean):
            try:
                wanted.append(boolean(value))
            except ValueError as error:
                raise bad_request(f"Invalid input for {name}. Reason: {error}.") from None
        elif isinstance(column.type, sa.Integer):
            if value.lstrip("-").isdecimal() and value.isascii() and len(value) < 10:
                wanted.append(int(value))
        elif isinstance(column.type, sa.DateTime):
            column = sa.cast(column, sa.String)
            wanted.append(value.replace("T", " ").rstrip("Z"))
        elif value in ("", "None") and getattr(column, "nullable", False):
            return sa.or_(column.is_(None), column.in_(values))
        else:
            wanted.append(value)
    return column.in_(wanted)


def with_tags(column: sa.ColumnElement[Any], key: str, values: list[str]) -> sa.ColumnElement[bool]:
    """Tags are a JSON list in a text column: a tag is in it as `"tag"`."""
    import json

    names = sorted({name for value in values for name in value.split(",")})
    if len(names) > MAX_NAMES:
        raise bad_request(f"Invalid input for {key}. Reason: {len(names)} tags are more than {MAX_NAMES}.")
    raw = sa.type_coerce(column, sa.Text)
    each = [raw.contains(json.dumps(name), autoescape=True) if len(name) <= 255 else sa.false() for name in names]
    found = sa.and_(*each) if key in ("tags", "not-tags") else sa.or_(*each)
    return sa.not_(found) if key.startswith("not-") else found


def sorting(call: Call, listing: Listing) -> list[tuple[sa.ColumnElement[Any], bool]]:
    """(column, ascending), the id last so that the order is total."""
    keys, directions = call.args("sort_key"), call.args("sort_dir")
    if len(keys) != len(directions) and directions:
        raise bad_request("The number of sort_keys and sort_dirs must be same")
    if bad := [direction for direction in directions if direction not in ("asc", "desc")]:
        raise bad_request(f"{bad[0]} is invalid value for sort_dirs, valid value is 'asc' or 'desc'")
    if bad := [key for key in keys if key not in listing.columns]:
        raise bad_request(f"{bad} is invalid attribute for sort_key")
    asked: dict[str, str] = {}  # a key's first place counts
    for key, direction in zip(keys, directions or ["asc"] * len(keys), strict=True):
        asked.setdefault(key, direction)
    found = [(orderable(listing.columns[key]), direction == "asc") for key, direction in asked.items()]
    if "id" not in keys:
        found.append((listing.table.c.id, True))
    return found


def orderable(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Sorted and compared alike on both databases: no booleans, and null below all else."""
    if isinstance(column.type, sa.Boolean):
        return sa.cast(column, sa.Integer)
    if getattr(column, "nullable", False):
        return sa.func.coalesce(column, -1 if isinstance(column.type, sa.Integer) else "")
    return column


def after(
    call: Call,
    listing: Listing,
    order: list[tuple[sa.ColumnElement[Any], bool]],
    marker: str,
    visible: sa.ColumnElement[bool],
) -> sa.ColumnElement[bool]:
    """What comes after the marker's row in this order."""
    columns = [column for column, _ in order]
    row = None
    if "\x00" not in marker:
        row = call.tx.execute(sa.select(*columns).where(listing.table.c.id == marker, visible)).first()
    if row is None:
        raise bad_request(
            f"Invalid input for marker. Reason: there is no row with the id '{marker[:64]}' to go on from."
        )
    alternatives = []
    for index, (column, ascending) in enumerate(order):
        equal = [before == value for before, value in zip(columns[:index], row[:index], strict=True)]
        alternatives.append(sa.and_(*equal, column > row[index] if ascending else column < row[index]))
    return sa.or_(*alternatives)


def page_size(call: Call) -> int:
    value = call.arg("limit")
    if value is None:
        return 0
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise bad_request(f"Limit must be an integer 0 or greater and not '{value[:64]}'")
    return int(value)


def links(call: Call, listing: Listing, rows: list[Row], limit: int, backwards: bool) -> dict[str, Any]:
    """A page that is not full is the last one in its direction (Neutron: get_pagination_links)."""
    kept = [(key, value) for key, value in call.query if key not in ("marker", "page_reverse")]
    path = listing.path or listing.collection.replace("_", "-")
    url, found = f"{call.base_url}/v2.0/{path}", []
    full = len(rows) == limit
    if full or backwards:
        query = [*kept, *(("marker", row["id"]) for row in rows[-1:])]
        found.append({"rel": "next", "href": f"{url}?{urlencode(query)}"})
    if full or not backwards:
        query = [*kept, *(("marker", row["id"]) for row in rows[:1]), ("page_reverse", "True")]
        found.append({"rel": "previous", "href": f"{url}?{urlencode(query)}"})
    return {f"{listing.collection}_links": found} if found else {}


def fields(call: Call, body: dict[str, Any]) -> dict[str, Any]:
    """Only the attributes that `fields=` names; all when it names none."""
    wanted = {name for name in call.args("fields") if name}
    return {key: value for key, value in body.items() if key in wanted} if wanted else body
