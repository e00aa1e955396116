"""Identifiers and times, in OpenStack's forms."""

import datetime
import secrets
import uuid


def new_id() -> str:
    """A UUID with dashes (servers, ports, images …)."""
    return str(uuid.uuid4())


def new_hex_id() -> str:
    """A UUID without dashes (Keystone's users, projects, roles …)."""
    return uuid.uuid4().hex


def new_request_id() -> str:
    return f"req-{uuid.uuid4()}"


def new_mac() -> str:
    """A MAC address under Neutron's default base_mac fa:16:3e."""
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def now() -> datetime.datetime:
    """UTC without a zone: what the database holds."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)


def in_utc(when: datetime.datetime) -> datetime.datetime:
    """Without a zone, as `now`. ValueError where that lies outside the years 1 to 9999, which its zone can take it to."""
    try:
        return when.astimezone(datetime.UTC).replace(tzinfo=None) if when.tzinfo else when
    except OverflowError as error:
        raise ValueError(f"{when.isoformat()} lies outside the years 1 to 9999") from error


def read_time(text: str) -> datetime.datetime:
    """ISO 8601, as queries and bodies have it; a query's blank was its plus. ValueError when it is no time, as `in_utc`."""
    return in_utc(datetime.datetime.fromisoformat(text.replace(" ", "+")))


def iso(when: datetime.datetime) -> str:
    """`2026-01-02T03:04:05Z`, as Nova and Neutron write times."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
