"""Times as Keystone writes and reads them; in the tables they are seconds since the epoch."""

import datetime
import time
from typing import Any

from kilonova.identity.records import ASKED_WRONG
from kilonova.model.errors import BadRequest
from kilonova.model.ids import in_utc

FORMATS = ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%f%z", "%Y-%m-%dT%H:%M:%S%z",
           "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%dT%H:%M:%S")  # fmt: skip


def stamp(when: float | None) -> str | None:
    """`2026-01-02T03:04:05.000000Z`; None for never."""
    if when is None:
        return None
    return datetime.datetime.fromtimestamp(when, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def brief(when: float | None) -> str | None:
    """Without a zone, as application credentials and passwords say when they expire."""
    text = stamp(when)
    return text.rstrip("Z") if text else None


def parse(text: str) -> float | None:
    """None when it is no time, or none that `stamp` could write."""
    for form in FORMATS:
        try:
            found = in_utc(datetime.datetime.strptime(text, form)).replace(tzinfo=datetime.UTC).timestamp()
            stamp(found)  # the last microsecond of 9999 is rounded to the year 10000
        except ValueError:
            continue
        return found
    return None


def expiry(text: Any) -> float | None:
    """An `expires_at` of a body: BadRequest when it is no time, or not in the future (Keystone: parse_expiration_date)."""
    if text is None:
        return None
    found = parse(text) if isinstance(text, str) else None
    if found is None:
        raise BadRequest(f"Timestamp not in expected format. {ASKED_WRONG}")
    if found <= time.time():
        raise BadRequest(f"The 'expires_at' must not be before now. {ASKED_WRONG}")
    return found
