"""`limit` and `marker`, the way Nova, Neutron, Glance and Keystone page."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from kilonova.model.errors import BadRequest
from kilonova.web.call import Call
from kilonova.web.validate import whole

MAX_LIMIT = 1000


def limit(call: Call, maximum: int = MAX_LIMIT) -> int:
    """The page's size. BadRequest when it is not a whole number from 0 up."""
    text = call.arg("limit")
    if text is None:
        return maximum
    asked = whole(text)
    if asked is None:
        raise BadRequest(f"Invalid input for query parameter limit: {text!r} is not a non-negative integer.")
    return min(asked, maximum)


def next_link(call: Call, rows: Sequence[Any], size: int, url: str, marker: str) -> list[dict[str, str]]:
    """`[{"rel": "next", "href": …}]` when the page is full, else []."""
    if not size or len(rows) < size:
        return []
    query = [(key, value) for key, value in call.query if key != "marker"]
    return [{"rel": "next", "href": f"{url}?{urlencode([*query, ('marker', marker)])}"}]
