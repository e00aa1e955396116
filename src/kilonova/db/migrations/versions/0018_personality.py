"""Files that servers are given by their request."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    missing.add_columns("compute_servers", "personality")
