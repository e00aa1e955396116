"""Lists of volumes, snapshots, backups and groups: filters, order, pages (Cinder: cinder/api/common.py)."""

import ast
import datetime
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa

from kilonova.model.errors import BadRequest, NotFound
from kilonova.model.ids import read_time
from kilonova.volume.requests import boolean, flag, missing, root
from kilonova.web.call import Call

Row = sa.RowMapping
Test = Callable[[Row], bool]
MAX_LIMIT = 1000
NOT_FILTERS = {"limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants", "with_count"}
TIMES = {"gt": operator.gt, "gte": operator.ge, "eq": operator.eq, "neq": operator.ne, "lt": operator.lt,
         "lte": operator.le}  # fmt: skip

# GET /resource_filters: what users may filter by
FILTERS: dict[str, list[str]] = {
    "volume": ["name", "status", "metadata", "bootable", "migration_status", "availability_zone", "group_id", "size",
               "created_at", "updated_at", "consumes_quota"],
    "backup": ["name", "status", "volume_id"],
    "snapshot": ["name", "status", "volume_id", "metadata", "availability_zone", "consumes_quota"],
    "group": ["name"],
    "group_snapshot": ["name", "status", "group_id"],
    "attachment": ["volume_id", "status", "instance_id", "attach_status"],
    "message": ["resource_uuid", "resource_type", "event_id", "request_id", "message_level"],
    "pool": ["name", "volume_type"],
    "volume_type": ["is_public", "extra_specs"],
}  # fmt: skip


@dataclass(frozen=True)
class Listed:
    """One kind of list. `columns`: what a query calls otherwise than its column is called; `hidden`: filters that came
    with a later microversion, by name."""

    kind: str  # in FILTERS
    table: sa.FromClause
    collection: str  # in the address
    columns: Mapping[str, str]
    hidden: Mapping[str, int]


@dataclass(frozen=True)
class Page:
    rows: list[Row]
    links: list[dict[str, str]]  # to the next page
    count: int | None  # of all pages, where it was asked for


def page(call: Call, listed: Listed, *more: sa.ColumnElement[bool]) -> Page:
    """One page of what the caller may see. `more`: conditions besides."""
    table, tests = listed.table, []
    query = sa.select(table).where(*more)
    if not (call.context.is_admin and flag(call, "all_tenants")):
        query = query.where(table.c.project_id == call.context.project_id)
    for name, value in filters(call, listed).items():
        found = _filter(listed, name, value, call)
        if isinstance(found, sa.ColumnElement):
            query = query.where(found)
        else:
            tests.append(found)
    rows = [row for row in call.tx.all(query) if all(test(row) for test in tests)]
    _sort(rows, call, listed)
    count = len(rows) if call.since(45) and call.arg("with_count") and flag(call, "with_count") else None
    size, offset = limit(call), _offset(call)
    rows = _after(rows, call.arg("marker"), listed)[offset:]
    kept = rows[:size]
    return Page(kept, _next(call, listed, kept, size), count)


def filters(call: Call, listed: Listed) -> dict[str, str]:
    """Those that apply. What a user may not filter by is no filter, and since 3.31 an error; `name~` is one since 3.34."""
    given = {name: value for name, value in call.query if name not in NOT_FILTERS}
    given = {name: value for name, value in given.items() if call.version[1] >= listed.hidden.get(_bare(name), 0)}
    if call.context.is_admin:
        return given
    allowed = FILTERS[listed.kind]
    unknown = [name for name in given if (_bare(name) if call.since(34) else name) not in allowed]
    if unknown and call.since(31):
        raise BadRequest(f"Invalid filters {', '.join(unknown)} are found in query options.")
    return {name: value for name, value in given.items() if name not in unknown}


def _bare(name: str) -> str:
    return name.removesuffix("~")


def _filter(listed: Listed, name: str, value: str, call: Call) -> sa.ColumnElement[bool] | Test:
    inexact = name.endswith("~") and call.since(34)
    key = listed.columns.get(_bare(name), _bare(name))
    if key in ("metadata", "image_metadata"):
        wanted = _mapping(name, value)
        return lambda row: wanted.items() <= row[key].items()
    if key in ("created_at", "updated_at"):
        return _times(key, value)
    if key == "consumes_quota":
        return sa.literal(boolean(value, name)) == sa.true()
    if key not in listed.table.c or (name.endswith("~") and not inexact):
        return sa.false()  # what no row has (Cinder: is_valid_model_filters)
    column = listed.table.c[key]
    if isinstance(column.type, sa.Boolean):
        return column == _bootable(name, value, call)
    if isinstance(column.type, sa.Integer):
        return column == (int(value) if value.isascii() and value.isdigit() and len(value) < 10 else -1)
    if inexact:
        return column.contains(value, autoescape=True)
    return column == value


def _bootable(name: str, value: str, call: Call) -> bool:
    if name == "bootable" and call.version[1] < 2:
        return value.lower() in ("true", "1", "yes")
    if value.lower() not in ("true", "false", "1", "0"):
        raise BadRequest(f"Invalid input received: Invalid value '{value}' for '{name}' filter.")
    return value.lower() in ("true", "1")


def _mapping(name: str, value: str) -> dict[str, str]:
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise BadRequest(f"The value of the filter {name} is no mapping: {value}") from error
    if not isinstance(found, dict):
        raise BadRequest(f"The value of the filter {name} is no mapping: {value}")
    return {str(key): str(item) for key, item in found.items()}


def _times(key: str, value: str) -> Test:
    """`gt:2026-01-02T03:04:05,lt:…` (3.60)"""
    tests: list[tuple[Any, datetime.datetime]] = []
    for part in value.split(","):
        word, colon, moment = part.partition(":")
        if not colon or word not in TIMES:
            raise BadRequest(f"Invalid {word} operator")
        try:
            tests.append((TIMES[word], read_time(moment)))
        except ValueError as error:
            raise BadRequest(f"Invalid {moment} value") from error
    return lambda row: row[key] is not None and all(test(row[key], when) for test, when in tests)


def limit(call: Call) -> int:
    return _whole(call, "limit", MAX_LIMIT, MAX_LIMIT)


def _offset(call: Call) -> int:
    return _whole(call, "offset", 0, None)


def _whole(call: Call, name: str, default: int, most: int | None) -> int:
    text = call.arg(name)
    if text is None:
        return default
    if not text.removeprefix("-").isdecimal() or not text.isascii() or len(text) > 18:
        raise BadRequest(f"{name} param must be an integer")
    number = int(text)
    if number < 0:
        raise BadRequest(f"{name} param must be positive")
    if most is None and number > 0x7FFFFFFF:
        raise BadRequest(f"{name} must be <= {0x7FFFFFFF}")
    return number if most is None else min(number, most)


def order(call: Call) -> list[tuple[str, bool]]:
    """(key, descending), most important first."""
    given = call.arg("sort")
    if given is not None:
        if call.arg("sort_key") is not None or call.arg("sort_dir") is not None:
            raise BadRequest(
                "The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter."
            )
        pairs = [part.partition(":") for part in given.strip().split(",")]
    else:
        pairs = [(call.arg("sort_key") or "created_at", ":", call.arg("sort_dir") or "desc")]
    out: dict[str, bool] = {}  # a key's first place counts
    for key, _, way in pairs:
        if (way.strip() or "desc") not in ("asc", "desc"):
            raise BadRequest("Invalid input received: Unknown sort direction, must be one of: asc, desc.")
        out.setdefault(key.strip(), (way.strip() or "desc") == "desc")
    return list(out.items())


def _sort(rows: list[Row], call: Call, listed: Listed) -> None:
    sort(rows, call, listed.table, listed.columns)


def sort(rows: list[Row], call: Call, table: sa.FromClause, columns: Mapping[str, str]) -> None:
    """In place. BadRequest for a key that there is not."""
    keys = order(call)
    rows.sort(key=lambda row: row["id"], reverse=keys[-1][1])
    for key, descending in reversed(keys):
        column = columns.get(key, key)
        if column not in table.c:
            raise BadRequest("Invalid input received: Sort key supplied is invalid: " + key)
        rows.sort(key=lambda row: (row[column] is not None, _plain(row[column])), reverse=descending)


def cut(call: Call, rows: list[Row], what: str, collection: str) -> tuple[list[Row], list[dict[str, str]]]:
    """Those behind the marker, as many as are asked for, and the link to the rest if there is one; `what` for messages."""
    marker, size = call.arg("marker"), limit(call)
    if marker is not None:
        ids = [row["id"] for row in rows]
        if marker not in ids:
            raise missing(what, marker)
        rows = rows[ids.index(marker) + 1 :]
    if not 0 < size < len(rows):
        return rows[:size], []
    address = f"{root(call)}/{collection}?limit={size}&marker={rows[size - 1]['id']}"
    return rows[:size], [{"rel": "next", "href": address}]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, dict | list) else value


def _after(rows: list[Row], marker: str | None, listed: Listed) -> list[Row]:
    if marker is None:
        return rows
    for place, row in enumerate(rows):
        if row["id"] == marker:
            return rows[place + 1 :]
    raise NotFound(f"{listed.kind.replace('_', ' ').capitalize()} {marker} could not be found.")


def _next(call: Call, listed: Listed, rows: list[Row], size: int) -> list[dict[str, str]]:
    if not size or len(rows) < size:
        return []
    query = [(key, value) for key, value in call.query if key != "marker"]
    address = f"{root(call)}/{listed.collection}?{urlencode([*query, ('marker', rows[-1]['id'])])}"
    return [{"rel": "next", "href": address}]
