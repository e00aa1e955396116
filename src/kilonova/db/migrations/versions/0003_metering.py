"""Metering labels and their rules."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    missing.add_tables("metering_labels", "metering_label_rules")
