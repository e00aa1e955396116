"""Access rules are told in the order in which they were made."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    missing.add_columns("identity_access_rules", "created_at")
