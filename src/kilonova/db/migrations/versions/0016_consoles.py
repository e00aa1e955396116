"""Tokens of consoles."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    missing.add_tables("compute_console_tokens")
