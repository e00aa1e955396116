"""Request bodies held against JSON schemas: what is tried first."""

import time

import pytest

from kilonova.model.errors import BadRequest
from kilonova.web.validate import check


def test_how_much_there_is_comes_first_and_what_is_there_twice_last() -> None:
    """A body of the largest size would take seconds, or never be done."""
    text = {"type": "string"}
    with pytest.raises(BadRequest, match="is too long"):
        check([1] * 10, {"type": "array", "items": text, "maxItems": 9})
    begun = time.monotonic()
    with pytest.raises(BadRequest, match="is not of type 'string'"):
        check([*map(str, range(20_000)), 1], {"type": "array", "uniqueItems": True, "items": text})
    assert time.monotonic() - begun < 10
