"""Neutron's attribute maps: what a body may hold, how each value is checked and converted, and who may set it.

A converter takes the JSON value and returns what is stored; it raises ValueError with Neutron's reason
(neutron_lib.api.validators and converters), which becomes `Invalid input for NAME. Reason: REASON.`
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kilonova.model.errors import BadRequest, Forbidden, NotFound
from kilonova.web.call import Context
from kilonova.web.validate import is_uuid

Convert = Callable[[Any], Any]
REQUIRED: Any = object()
UNSET: Any = object()  # optional, and without a default: the key is absent when the client gave none
INT_MAX = 2**31 - 1


@dataclass(frozen=True)
class Attribute:
    """`post`/`put`: may be given on create/update. `admin`: only an admin may give another value than the default."""

    convert: Convert
    default: Any = UNSET
    post: bool = True
    put: bool = True
    admin: bool = False


def bad_request(message: str) -> BadRequest:
    return BadRequest(message, type="HTTPBadRequest")


def invalid_input(message: str) -> BadRequest:
    """neutron_lib.exceptions.InvalidInput."""
    return BadRequest(f"Invalid input for operation: {message}.", type="InvalidInput")


def disallowed(*rules: str) -> Forbidden:
    """Neutron's answer to a failed policy rule: `(rule:a and rule:b) is disallowed by policy`."""
    text = " and ".join(f"rule:{rule}" for rule in rules)
    return Forbidden(f"({text}) is disallowed by policy" if len(rules) > 1 else f"{text} is disallowed by policy",
                     type="PolicyNotAuthorized")  # fmt: skip


def foreign() -> NotFound:
    """To change what another project has is as if it were not there, seen or not (Neutron: PolicyHook.before)."""
    return NotFound("The resource could not be found.", type="HTTPNotFound")


def text(limit: int = 255) -> Convert:
    def convert(value: Any) -> str:
        if not isinstance(value, str) or "\x00" in value:
            raise ValueError(f"'{value}' is not a valid string")
        if len(value) > limit:
            raise ValueError(f"'{value}' exceeds maximum length of {limit}")
        return value

    return convert


def boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "1"):
        return True
    if isinstance(value, str) and value.lower() in ("false", "0"):
        return False
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError(f"'{value}' cannot be converted to boolean")


def integer(low: int = -INT_MAX, high: int = INT_MAX) -> Convert:
    def convert(value: Any) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | str)
            or not re.fullmatch(r"-?\d{1,12}", str(value), re.A)
        ):
            raise ValueError(f"'{value}' is not an integer")
        number = int(value)
        if number < low:
            raise ValueError(f"'{number}' is too small - must be at least '{low}'")
        if number > high:
            raise ValueError(f"'{number}' is too large - must be no larger than '{high}'")
        return number

    return convert


def one_of(*values: Any) -> Convert:
    def convert(value: Any) -> Any:
        if isinstance(value, bool) or value not in values:
            raise ValueError(f"'{value}' is not in {list(values)}")
        return value

    return convert


def or_none(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def identifier(value: Any) -> str:
    if not isinstance(value, str) or not is_uuid(value) or len(value) != 36:
        raise ValueError(f"'{value}' is not a valid UUID")
    return value.lower()


def mac_address(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}", value):
        raise ValueError(f"'{value}' is not a valid MAC address")
    mac = value.lower().replace("-", ":")
    if mac == "00:00:00:00:00:00":
        raise ValueError(f"'{value}' is not a valid MAC address: it is all zeros")
    if int(mac[:2], 16) & 1:
        raise ValueError(f"'{value}' is not a valid MAC address: it is a multicast address")
    return mac


def ip_address(value: Any) -> str:
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(f"'{value}' is not a valid IP address") from None


def cidr(value: Any) -> str:
    """A network with its prefix length; bits of a host are masked away, as Neutron does."""
    try:
        if not isinstance(value, str) or "%" in value or "/" not in value:
            raise ValueError
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"'{value}' is not a valid IP subnet") from None


def list_of(convert: Convert, limit: int = 1000, unique: bool = False) -> Convert:
    def convert_all(value: Any) -> list[Any]:
        if value is None:
            return []
        if not isinstance(value, list):
            raise ValueError(f"'{value}' is not a list")
        if len(value) > limit:
            raise ValueError(f"a list of {len(value)} is longer than {limit}")
        out = [convert(item) for item in value]
        if unique and any(item in out[:index] for index, item in enumerate(out)):
            raise ValueError(f"Duplicate items in the list: '{value}'")
        return out

    return convert_all


def mapping(required: Mapping[str, Convert], optional: Mapping[str, Convert] | None = None) -> Convert:
    """A JSON object with just these keys."""
    known = {**required, **(optional or {})}

    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValueError(f"'{value}' is not a dictionary")
        if unknown := sorted(set(value) - set(known)):
            raise ValueError(f"Unexpected keys supplied: {', '.join(map(str, unknown))}")
        if missing := sorted(set(required) - set(value)):
            raise ValueError(
                f"Validation of dictionary's keys failed. Expected keys: {missing}. Provided: {sorted(value)}"
            )
        return {key: known[key](item) for key, item in value.items()}

    return convert


def documents(value: Any) -> dict[str, Any]:
    """Any JSON object, null as empty."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"'{value}' is not a dictionary")
    return value


def prepare(
    resource: str, values: Any, attributes: Mapping[str, Attribute], context: Context, *, create: bool
) -> dict[str, Any]:
    """The checked and converted values; on create with defaults and `project_id` (Neutron: prepare_request_body).

    BadRequest for what does not fit, Forbidden for attributes that are the admin's.
    """
    if not isinstance(values, dict):
        raise bad_request(f"Invalid input for {resource}. Reason: '{values}' is not a dictionary.")
    values, out = dict(values), {}
    project_id = take_project(values, context, create)
    if unknown := sorted(str(key) for key in set(values) - set(attributes)):
        raise bad_request(f"Unrecognized attribute(s) '{', '.join(unknown)}'")
    for name, attribute in attributes.items():
        if name not in values:
            if create and attribute.default is REQUIRED and attribute.post:
                raise bad_request(f"Failed to parse request. Required attribute '{name}' not specified")
            if create and attribute.default is not UNSET and attribute.post:
                out[name] = attribute.default
            continue
        if create and not attribute.post:
            raise bad_request(f"Attribute '{name}' not allowed in POST")
        if not create and not attribute.put:
            raise bad_request(f"Cannot update read-only attribute {name}")
        out[name] = checked(name, attribute.convert, values[name])
        action = f"{'create' if create else 'update'}_{resource}"
        usual = not attribute.admin or (create and out[name] == attribute.default)
        if not usual and not context.may(f"{action}:{name}"):
            raise disallowed(action, f"{action}:{name}")
    if create:
        out["project_id"] = project_id
    return out


def parts(resource: str, attributes: Mapping[str, Attribute]) -> Iterator[str]:
    """The lines of policy of a resource's attributes that are the admin's."""
    for name, attribute in attributes.items():
        if attribute.admin:
            yield from (f"create_{resource}:{name}",) if attribute.post else ()
            yield from (f"update_{resource}:{name}",) if attribute.put else ()


def checked(name: str, convert: Convert, value: Any) -> Any:
    try:
        return convert(value)
    except ValueError as error:
        raise bad_request(f"Invalid input for {name}. Reason: {str(error).rstrip('.')[:400]}.") from None


def take_project(values: dict[str, Any], context: Context, create: bool) -> str:
    """The project a new row belongs to; another than one's own is the admin's to give."""
    given = {checked(key, text(), values.pop(key)) for key in ("project_id", "tenant_id") if key in values}
    if not given:
        return context.project_id
    if not create:
        raise bad_request("Cannot update read-only attribute tenant_id")
    if len(given) > 1:
        raise bad_request("'project_id' and 'tenant_id' do not match")
    project_id = str(given.pop())
    if project_id != context.project_id and not context.is_admin:
        raise bad_request(
            "Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires "
            "admin privileges"
        )
    return project_id


def names(attributes: Iterable[str]) -> str:
    return ", ".join(sorted(attributes))
