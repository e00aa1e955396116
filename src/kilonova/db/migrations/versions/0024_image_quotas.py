"""Image quotas are counted by one request of a project at a time."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    missing.add_tables("image_quota_locks")
