"""What all of Cinder's resources share: its refusals in its own words, links, times, texts that are booleans."""

import datetime
from collections.abc import Mapping
from typing import Any

from kilonova.model.errors import APIError, BadRequest, NotFound, TooLarge
from kilonova.volume.schemas import MOST_METADATA
from kilonova.web.call import Call

TRUE, FALSE = ("1", "t", "true", "on", "y", "yes"), ("0", "f", "false", "off", "n", "no")


class OverLimit(APIError):
    """A quota that would be exceeded (Cinder: QuotaError)."""

    status = 413


def invalid(what: str, reason: str) -> BadRequest:
    """`what`: volume, snapshot, backup …"""
    return BadRequest(f"Invalid {what}: {reason}")


def bad_input(reason: str) -> BadRequest:
    return BadRequest(f"Invalid input received: {reason}")


def check_metadata(wanted: Mapping[str, str], had: Mapping[str, str]) -> None:
    """TooLarge, in the words of Cinder's InvalidVolumeMetadataSize, for more items than there may be; fewer is right."""
    if len(wanted) > max(MOST_METADATA, len(had)):
        raise TooLarge(f"Invalid metadata size: there would be {len(wanted)} items, of at most {MOST_METADATA}.")


def missing(what: str, id: str) -> NotFound:
    """`what`: Volume, Snapshot, Backup …"""
    return NotFound(f"{what} {id} could not be found.")


def boolean(value: Any, name: str = "value") -> bool:
    """As oslo.utils' strict bool_from_string. BadRequest for anything else."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in TRUE:
        return True
    if text in FALSE:
        return False
    raise BadRequest(f"Value {value!r} for {name} is not a boolean: say true or false.")


def flag(call: Call, name: str) -> bool:
    """A query parameter that is a boolean; False where it is not given."""
    value = call.arg(name)
    return False if value is None else boolean(value, f"query parameter {name}")


def stamp(when: datetime.datetime | None) -> str | None:
    """`2026-01-02T03:04:05.000000`, as Cinder writes times."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.%f") if when else None


def root(call: Call) -> str:
    """The API's address, with the project in it where the request's has it."""
    project = call.params.get("project_id")
    return f"{call.api_url}/{project}" if project else call.api_url


def links(call: Call, collection: str, id: str) -> list[dict[str, str]]:
    bookmark = root(call).replace(call.api_url, call.base_url, 1)
    return [
        {"rel": "self", "href": f"{root(call)}/{collection}/{id}"},
        {"rel": "bookmark", "href": f"{bookmark}/{collection}/{id}"},
    ]


def text(value: Any) -> str | None:
    """A name or description: without the blanks at its ends (Cinder: clean_name_and_description)."""
    return value.strip() if isinstance(value, str) else value
