"""The volumes of servers."""

from kilonova.db import missing

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    missing.add_tables("compute_block_devices")
