"""An image's id is not given to another once the image is deleted."""

from alembic import op

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    missing.add_tables("image_ids")
    op.execute("INSERT INTO image_ids (id) SELECT id FROM images WHERE id NOT IN (SELECT id FROM image_ids)")
