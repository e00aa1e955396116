"""Tasks of images: what imports have come to."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    missing.add_tables("image_tasks")
