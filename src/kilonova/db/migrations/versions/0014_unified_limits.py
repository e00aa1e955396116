"""Registered limits and limits, endpoint groups and filters, policies of endpoints, consumers; when tokens were revoked."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    missing.add_tables(
        "identity_consumers",
        "identity_endpoint_groups",
        "identity_project_endpoint_groups",
        "identity_project_endpoints",
        "identity_policy_associations",
        "identity_registered_limits",
        "identity_limits",
    )
    missing.add_columns("identity_revoked_tokens", "revoked_at")
