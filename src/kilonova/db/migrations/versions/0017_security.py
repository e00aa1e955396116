"""What security compliance keeps of passwords, and of logins that failed."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    missing.add_tables("identity_failed_logins")
    missing.add_columns(
        "identity_users",
        "password_created_at",
        "password_expires_at",
        "password_self_service",
        "password_history",
        "last_active_at",
    )
