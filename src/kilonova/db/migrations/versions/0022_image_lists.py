"""Lists of images are read in their usual order."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    missing.add_index("images", "ix_images_list")
