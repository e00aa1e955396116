"""QoS policies, their rules, and which ports and networks have them."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    missing.add_tables("qos_policies", "qos_rules", "qos_port_bindings", "qos_network_bindings")
