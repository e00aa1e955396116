"""Application credentials with their access rules, and trusts."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    missing.add_tables("identity_application_credentials", "identity_access_rules", "identity_trusts")
