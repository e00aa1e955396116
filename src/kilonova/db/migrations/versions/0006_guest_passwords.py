"""Passwords that guests posted to the metadata service, and hosts' uptimes."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    missing.add_columns("compute_servers", "guest_password")
    missing.add_columns("compute_hosts", "uptime")
