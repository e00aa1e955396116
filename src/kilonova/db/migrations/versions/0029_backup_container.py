"""A backup keeps the container that its user named."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    missing.add_columns("volume_backups", "container")
