"""Volumes, and all that goes with them."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0010"
down_revision = "0009"

TABLES = (
    "volume_qos_specs", "volume_types", "volume_type_access", "volume_default_types", "volume_group_types",
    "volume_groups", "volumes", "volume_snapshots", "volume_group_snapshots", "volume_attachments", "volume_backups",
    "volume_transfers", "volume_messages", "volume_services", "volume_quotas", "volume_quota_locks",
)  # fmt: skip


def upgrade() -> None:
    missing.add_tables(*TABLES)
