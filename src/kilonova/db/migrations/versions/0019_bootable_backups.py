"""Backups know whether what they hold boots, and from which image it came."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    missing.add_columns("volume_backups", "bootable", "image_metadata")
