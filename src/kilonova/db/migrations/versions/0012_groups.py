"""Server groups and host aggregates."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    missing.add_tables(
        "compute_server_groups", "compute_server_group_members", "compute_aggregates", "compute_aggregate_hosts"
    )
