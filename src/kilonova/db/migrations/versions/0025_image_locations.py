"""Images lie in stores, in one or in many; until now there was the one."""

from alembic import op

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    missing.add_tables("image_locations")
    op.execute(
        "INSERT INTO image_locations (image_id, store, place) SELECT id, 'file', 1 FROM images "
        "WHERE checksum IS NOT NULL AND id NOT IN (SELECT image_id FROM image_locations)"
    )
