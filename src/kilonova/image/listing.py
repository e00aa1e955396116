"""GET /v2/images: filters and sorting."""

import operator
from collections.abc import Callable

import sqlalchemy as sa

from kilonova.image import images, members
from kilonova.image.paging import Order, behind, page_size
from kilonova.image.tables import IMAGES
from kilonova.model.errors import BadRequest
from kilonova.model.ids import read_time
from kilonova.web.call import Call
from kilonova.web.validate import whole

Row = sa.RowMapping
Test = Callable[[Row], bool]
Condition = sa.ColumnElement[bool]

SORT_KEYS = ("name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at")
STRETCH = 500  # rows looked at at a time
OPERATORS = {
    "gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le, "eq": operator.eq, "neq": operator.ne,
}  # fmt: skip
MANY = {"id", "name", "status", "container_format", "disk_format"}  # take `in:a,b`
NUMBERS = {"min_ram", "min_disk", "size", "virtual_size"}
TEXTS = {"owner", "checksum", "os_hash_algo", "os_hash_value"}
NOT_FILTERS = {"limit", "marker", "member_status", "sort", "sort_key", "sort_dir", "visibility", "os_hidden"}


def page(call: Call) -> tuple[list[Row], bool]:
    """One page, and whether another may follow. The database sorts and sifts, but for tags, times and properties: those are
    looked at a stretch at a time, until the page is full."""
    limit, order = page_size(call), _order(call)
    wanted = [*_scope(call), *(_filter(call, key) for key in dict.fromkeys(key for key, _ in call.query))]
    tests = [one for one in wanted if callable(one)]
    conditions = [one for one in wanted if not callable(one)]
    query = sa.select(IMAGES).where(images.visible(call.context), *conditions)
    last, marker = None, call.arg("marker")
    if marker is not None:
        last = call.tx.first(sa.select(IMAGES).where(IMAGES.c.id == marker, images.visible(call.context)))
        if last is None:
            raise BadRequest(f"No image found with ID {marker}")
    found: list[Row] = []
    stretch = STRETCH if tests else limit
    while len(found) < limit:
        rows = behind(call.tx, query, IMAGES, order, last, stretch)
        found += [row for row in rows if all(test(row) for test in tests)]
        if len(rows) < stretch:
            break
        last = rows[-1]
    return found[:limit], 0 < limit <= len(found)


def _order(call: Call) -> Order:
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
    order: dict[str, bool] = {}  # a key's first place counts
    for place, key in enumerate(keys):
        order.setdefault(key, (dirs[place] if len(dirs) > 1 else dirs[0]) == "desc")
    return list(order.items())


def _boolean(call: Call, key: str, default: bool | None) -> bool | None:
    text = call.arg(key)
    if text is None:
        return default
    if text.lower() not in ("true", "false"):
        raise BadRequest(f"Invalid value '{text}' for '{key}' filter. Valid values are 'true' or 'false'.")
    return text.lower() == "true"


def _scope(call: Call) -> list[Condition]:
    """Which of the visible images this list is about: community ones only when asked for, hidden ones likewise."""
    wanted, status = call.arg("visibility"), call.arg("member_status") or "accepted"
    if wanted not in (None, "community", "public", "private", "shared", "all"):
        raise BadRequest(f"Invalid visibility value: {wanted}")
    if status not in ("pending", "accepted", "rejected", "all"):
        raise BadRequest(f"Invalid status: {status}")
    hidden = _boolean(call, "os_hidden", False)
    context = call.context
    conditions = [IMAGES.c.os_hidden == hidden]
    if not context.is_admin:
        taken = members.shared_with(call.tx, context.project_id, status)
        shown = [IMAGES.c.owner == context.project_id, IMAGES.c.visibility == "public"]
        if wanted in ("community", "all"):
            shown.append(IMAGES.c.visibility == "community")
        conditions.append(sa.or_(*shown, (IMAGES.c.visibility != "community") & IMAGES.c.id.in_(taken)))
    if wanted not in (None, "all"):
        conditions.append(IMAGES.c.visibility == wanted)
    return conditions


def _filter(call: Call, key: str) -> Test | Condition:
    """As SQL where the attribute is a column that can be compared so, else as a test of a row."""
    value = call.arg(key) or ""
    if key in NOT_FILTERS:
        return sa.true()
    if key == "changes-since":
        raise BadRequest('The "changes-since" filter is no longer available on v2.')
    if key == "protected":
        wanted = _boolean(call, key, None)
        return IMAGES.c.protected == wanted
    if key == "tag":
        tags = {tag.strip() for tag in call.args(key)}
        return lambda row: tags <= set(row["tags"])
    if key in ("size_min", "size_max"):
        number = _number(key, value)
        return IMAGES.c.size >= number if key == "size_min" else IMAGES.c.size <= number
    if key in ("created_at", "updated_at"):
        return _time_filter(key, value)
    if key in NUMBERS:
        number = _number(key, value)
        return IMAGES.c[key] == number
    if key in MANY:
        names = _names(key, value)
        return IMAGES.c[key].in_(names)
    if key in TEXTS:
        return IMAGES.c[key] == value
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
        when = read_time(text).replace(microsecond=0)
    except ValueError:
        raise BadRequest(f"Invalid time value {text!r} for {key}; give it as ISO 8601, 2026-01-02T03:04:05Z.") from None
    return lambda row: bool(compare(row[key].replace(microsecond=0), when))
