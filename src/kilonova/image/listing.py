"""GET /v2/images: filters, sorting, pages."""

import datetime
import operator
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from kilonova.image import images, members
from kilonova.image.tables import IMAGES
from kilonova.model.errors import BadRequest
from kilonova.model.ids import iso
from kilonova.web.call import Call
from kilonova.web.validate import whole

Row = sa.RowMapping
Test = Callable[[Row], bool]

SORT_KEYS = ("name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at")
DEFAULT_LIMIT, MAX_LIMIT = 25, 1000
OPERATORS = {
    "gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le, "eq": operator.eq, "neq": operator.ne,
}  # fmt: skip
MANY = {"id", "name", "status", "container_format", "disk_format"}  # take `in:a,b`
NUMBERS = {"min_ram", "min_disk", "size", "virtual_size"}
TEXTS = {"owner", "checksum", "os_hash_algo", "os_hash_value"}
NOT_FILTERS = {"limit", "marker", "member_status", "sort", "sort_key", "sort_dir", "visibility", "os_hidden"}


def page(call: Call) -> tuple[list[Row], bool]:
    """One page, and whether another may follow."""
    limit = page_size(call)
    order = _order(call)
    tests = [*_scope(call), *(_filter(call, key) for key in dict.fromkeys(key for key, _ in call.query))]
    rows = call.tx.all(sa.select(IMAGES).where(images.visible(call.context)))
    rows.sort(key=lambda row: row["id"], reverse=order[-1][1])
    for key, descending in reversed(order):
        rows.sort(key=lambda row: (row[key] is not None, row[key]), reverse=descending)
    if (marker := call.arg("marker")) is not None:
        rows = behind(rows, marker, "image")
    rows = [row for row in rows if all(test(row) for test in tests)]
    return rows[:limit], 0 < limit <= len(rows)


def behind(rows: list[Row], marker: str, noun: str) -> list[Row]:
    """Those after the row of that id. BadRequest when there is none."""
    for place, row in enumerate(rows):
        if row["id"] == marker:
            return rows[place + 1 :]
    raise BadRequest(f"No {noun} found with ID {marker}")


def page_size(call: Call) -> int:
    """Its `limit`, within ours. BadRequest when it is none."""
    text = call.arg("limit")
    if text is None:
        return DEFAULT_LIMIT
    limit = whole(text)
    if limit is None:
        raise BadRequest("limit param must be positive" if whole(text[1:]) else "limit param must be an integer")
    return min(limit, MAX_LIMIT)


def _order(call: Call) -> list[tuple[str, bool]]:
    """(key, descending), most important first."""
    keys, dirs = call.args("sort_key"), call.args("sort_dir")
    if (text := call.arg("sort")) is not None:
        if keys or dirs:
            raise BadRequest("Old and new sorting syntax cannot be combined")
        pairs = [part.strip().partition(":") for part in text.split(",")]
        keys, dirs = [key.strip() for key, _, _ in pairs], [way.strip() or "desc" for _, _, way in pairs]
    if len(dirs) > 1 and len(dirs) != len(keys):
        raise BadRequest("Number of sort dirs does not match the number of sort keys")
    keys, dirs = keys or ["created_at"], dirs or ["desc"]
    for key in keys:
        if key not in SORT_KEYS:
            raise BadRequest(f"Invalid sort key: {key}. It must be one of the following: {', '.join(SORT_KEYS)}.")
    for way in dirs:
        if way not in ("asc", "desc"):
            raise BadRequest(f"Invalid sort direction: {way}")
    return [(key, (dirs[place] if len(dirs) > 1 else dirs[0]) == "desc") for place, key in enumerate(keys)]


def _boolean(call: Call, key: str, default: bool | None) -> bool | None:
    text = call.arg(key)
    if text is None:
        return default
    if text.lower() not in ("true", "false"):
        raise BadRequest(f"Invalid value '{text}' for '{key}' filter. Valid values are 'true' or 'false'.")
    return text.lower() == "true"


def _scope(call: Call) -> list[Test]:
    """Which of the visible images this list is about: community ones only when asked for, hidden ones likewise."""
    wanted, status = call.arg("visibility"), call.arg("member_status") or "accepted"
    if wanted not in (None, "community", "public", "private", "shared", "all"):
        raise BadRequest(f"Invalid visibility value: {wanted}")
    if status not in ("pending", "accepted", "rejected", "all"):
        raise BadRequest(f"Invalid status: {status}")
    hidden = _boolean(call, "os_hidden", False)
    context = call.context
    taken = members.shared_with(call.tx, context.project_id, status)

    def shown(row: Row) -> bool:
        if context.is_admin or row["owner"] == context.project_id or row["visibility"] == "public":
            return True
        if row["visibility"] == "community":
            return wanted in ("community", "all")
        return row["id"] in taken

    tests: list[Test] = [shown, lambda row: row["os_hidden"] == hidden]
    if wanted not in (None, "all"):
        tests.append(lambda row: row["visibility"] == wanted)
    return tests


def _filter(call: Call, key: str) -> Test:
    value = call.arg(key) or ""
    if key in NOT_FILTERS:
        return lambda row: True
    if key == "changes-since":
        raise BadRequest('The "changes-since" filter is no longer available on v2.')
    if key == "protected":
        wanted = _boolean(call, key, None)
        return lambda row: row["protected"] == wanted
    if key == "tag":
        tags = {tag.strip() for tag in call.args(key)}
        return lambda row: tags <= set(row["tags"])
    if key in ("size_min", "size_max"):
        number = _number(key, value)
        if key == "size_min":
            return lambda row: row["size"] is not None and row["size"] >= number
        return lambda row: row["size"] is not None and row["size"] <= number
    if key in ("created_at", "updated_at"):
        return _time_filter(key, value)
    if key in NUMBERS:
        number = _number(key, value)
        return lambda row: row[key] == number
    if key in MANY:
        names = _names(key, value)
        return lambda row: row[key] in names
    if key in TEXTS:
        return lambda row: row[key] == value
    return lambda row: row["properties"].get(key) == value


def _number(key: str, value: str) -> int:
    number = whole(value)
    if number is None:
        raise BadRequest(f"Cannot convert image {key} '{value}' to an integer.")
    return number


def _names(key: str, value: str) -> set[str]:
    """`a`, or `in:a,b,"c,d"`."""
    if not value.startswith("in:"):
        return {value.removeprefix("eq:")} if value.startswith("eq:") else {value}
    names, name, quoted = [], "", False
    for character in value[3:]:
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            names.append(name)
            name = ""
        else:
            name += character
    if quoted:
        raise BadRequest(f"Invalid filter value {value} for {key}: The quote is not closed.")
    return {*names, name}


def _time_filter(key: str, value: str) -> Test:
    """`gt:2026-01-02T03:04:05Z`; without an operator, equal."""
    word, colon, rest = value.partition(":")
    compare, text = (OPERATORS[word], rest) if colon and word in OPERATORS else (operator.eq, value)
    if colon and word.isalpha() and word not in OPERATORS:
        raise BadRequest(f"Unable to filter using the specified operator: {word}")
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"Invalid time value {text!r} for {key}; give it as ISO 8601, 2026-01-02T03:04:05Z.") from None
    if when.tzinfo is not None:
        when = when.astimezone(datetime.UTC).replace(tzinfo=None)
    wanted: Any = iso(when)
    return lambda row: bool(compare(iso(row[key]), wanted))
