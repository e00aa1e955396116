"""Migrations, which are what resizes leave behind, and servers' notes of their own."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    missing.add_tables("compute_migrations")
    missing.add_columns("compute_servers", "system_metadata")
