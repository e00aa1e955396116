"""Trunks and their sub-ports."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    missing.add_tables("trunks", "trunk_subports")
