"""JSON that clients send, in bodies and in strings within: nested no deeper than what is done with it can bear.

Python's decoders stop near its recursion limit, and what they let pass may be too deep for who writes it down again.
"""

import json
from typing import Any

DEPTH = 100  # lists and objects within each other


def is_too_deep(value: Any, left: int = DEPTH) -> bool:
    """Whether a JSON value has more than `left` lists and objects within each other."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return not left or any(is_too_deep(each, left - 1) for each in inner)


def loads(text: str | bytes) -> Any:
    """The value of a string of JSON. ValueError."""
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"nested more than {DEPTH} deep") from error
    if is_too_deep(value):
        raise ValueError(f"nested more than {DEPTH} deep")
    return value
