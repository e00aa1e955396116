"""Request bodies against JSON schemas, with messages in the manner of Nova's."""

import functools
import ipaddress
import json
import uuid
from collections.abc import Iterator
from typing import Any

from kilonova.model.errors import BadRequest

TRUE = ("true", "1", "on", "yes", "y", "t")  # oslo.utils: strutils.TRUE_STRINGS


def is_uuid(value: object) -> bool:
    """With its dashes or without them, as OpenStack's services take it."""
    if not isinstance(value, str):
        return True
    try:
        return len(value) in (32, 36) and str(uuid.UUID(value)).replace("-", "") == value.replace("-", "").lower()
    except ValueError:
        return False


def is_ipv4(value: object) -> bool:
    return not isinstance(value, str) or _parses(ipaddress.IPv4Address, value)


def is_ipv6(value: object) -> bool:
    return not isinstance(value, str) or _parses(ipaddress.IPv6Address, value)


def whole(text: str) -> int | None:
    """The number that ASCII digits write, 10**18 for all beyond it; None for any other text."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0")
    return int(digits or "0") if len(digits) < 19 else 10**18


def _parses(kind: Any, value: str) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True


def _drop_unknown(validator: Any, allowed: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """`additionalProperties` of a relaxed check (Nova: _SchemaValidator with relax_additional_properties)."""
    if allowed is False and isinstance(instance, dict):
        for key in set(instance) - set(schema.get("properties", {})):
            del instance[key]
        return
    yield from _kinds()[0].VALIDATORS["additionalProperties"](validator, allowed, instance, schema)


@functools.cache
def _kinds() -> tuple[Any, Any, Any]:
    """Validators of JSON schemas, strict and relaxed, and the formats they check; loaded by the first body."""
    import jsonschema

    strict = jsonschema.Draft202012Validator
    relaxed = jsonschema.validators.extend(strict, {"additionalProperties": _drop_unknown})
    formats = jsonschema.FormatChecker(formats=())
    for name, test in {"uuid": is_uuid, "ipv4": is_ipv4, "ipv6": is_ipv6}.items():
        formats.checks(name)(test)
    return strict, relaxed, formats


@functools.lru_cache(maxsize=512)
def _validator(text: str, relaxed: bool) -> Any:
    strict, loose, formats = _kinds()
    return (loose if relaxed else strict)(json.loads(text, object_pairs_hook=_quick_first), format_checker=formats)


def _quick_first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A schema's keywords in the order in which they are tried: how much there is before what that is, and last whether it is
    there twice, which of unlike kinds takes its number squared."""
    order = {"maxItems": 0, "maxProperties": 0, "maxLength": 0, "uniqueItems": 2}
    return dict(sorted(pairs, key=lambda pair: order.get(pair[0], 1)))


def check(body: Any, schema: Any, *, relaxed: bool = False) -> None:
    """BadRequest, naming the place and what was expected, when `body` does not fit `schema`.

    `relaxed`: keys that a closed object does not know are taken out of `body` instead.
    """
    error = next(iter(_validator(json.dumps(schema), relaxed).iter_errors(body)), None)
    if error is None:
        return
    place = "/".join(str(part) for part in error.absolute_path)
    message = (
        f"Invalid input for field/attribute {place}. Value: {error.instance!r:.200}. " if place else "Invalid input: "
    )
    why = error.message  # what it is, and then what is wrong with it
    raise BadRequest(message + (why if len(why) <= 500 else f"{why[:350]}…{why[-150:]}"))
