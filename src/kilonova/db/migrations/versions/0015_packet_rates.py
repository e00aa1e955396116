"""QoS rules that limit packets a second."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    missing.add_columns("qos_rules", "max_kpps", "max_burst_kpps")
