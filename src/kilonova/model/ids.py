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


def iso(when: datetime.datetime) -> str:
    """`2026-01-02T03:04:05Z`, as Nova and Neutron write times."""
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
