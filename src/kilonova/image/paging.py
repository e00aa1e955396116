"""Pages of the image service's lists: how large, from where on, and their links."""

from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest
from kilonova.web.call import Call
from kilonova.web.validate import whole

Row = sa.RowMapping
Order = list[tuple[str, bool]]  # (key, descending), most important first
DEFAULT_LIMIT, MAX_LIMIT = 25, 1000


def behind(
    tx: Tx, query: sa.Select[Any], table: sa.Table, order: Order, last: Row | None, limit: int
) -> list[Row]:  # fmt: skip
    """Rows of the query in that order, from behind the `last` one, `limit` at most."""
    if last is not None:
        query = query.where(_past(last, table, order))
    return tx.all(query.order_by(*_in_sql(table, order)).limit(limit))


def _in_sql(table: sa.Table, order: Order) -> Iterator[sa.ColumnElement[Any]]:
    """What is null comes first on the way up; of what is alike, the id decides."""
    for key, descending in [*order, ("id", order[-1][1])]:
        column = table.c[key]
        ways = [column.is_not(None), column] if column.nullable else [column]
        yield from (way.desc() if descending else way.asc() for way in ways)


def _past(row: Row, table: sa.Table, order: Order) -> sa.ColumnElement[bool]:
    """Behind the row in that order."""
    alike: list[sa.ColumnElement[bool]] = []
    places: list[sa.ColumnElement[bool]] = []
    for key, descending in [*order, ("id", order[-1][1])]:
        column, value = table.c[key], row[key]
        if value is None:
            further = sa.false() if descending else column.is_not(None)
        elif descending:
            further = (column < value) | column.is_(None)
        else:
            further = column > value
        places.append(sa.and_(*alike, further))
        alike.append(column.is_(None) if value is None else column == value)
    return sa.or_(*places)


def collection(call: Call, kind: str, bodies: list[dict[str, Any]], more: bool, marker: str = "id") -> dict[str, Any]:
    """The page as an answer, with its links. kind: where it is below /v2; marker: what of the last one the next page begins
    behind."""
    query = [(key, value) for key, value in call.query if key != "marker"]
    answer: dict[str, Any] = {
        kind.rpartition("/")[2]: bodies,
        "first": f"/v2/{kind}" + ("?" + urlencode(query) if query else ""),
        "schema": f"/v2/schemas/{kind}",
    }
    if more:
        answer["next"] = f"/v2/{kind}?" + urlencode([*query, ("marker", bodies[-1][marker])])
    return answer


def one_key(call: Call, keys: Collection[str]) -> tuple[str, bool]:
    """The `sort_key`, and whether from its high end: of lists that are sorted by one."""
    key, way = call.arg("sort_key", "created_at") or "", call.arg("sort_dir", "desc")
    if way not in ("asc", "desc"):
        raise BadRequest(f"Invalid sort direction: {way}")
    if key not in keys:
        raise BadRequest("Sort key supplied was not valid.")
    return key, way == "desc"


def page_size(call: Call, default: int = DEFAULT_LIMIT) -> int:
    """Its `limit`, within ours. BadRequest when it is none."""
    text = call.arg("limit")
    if text is None:
        return default
    limit = whole(text)
    if limit is None:
        raise BadRequest("limit param must be positive" if whole(text[1:]) else "limit param must be an integer")
    return min(limit, MAX_LIMIT)
