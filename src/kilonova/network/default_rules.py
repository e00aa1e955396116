"""Default security group rules: what each new group begins with (Neutron: SecurityGroupDefaultRule)."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.network import tables

TABLE = tables.DEFAULT_SECURITY_GROUP_RULES
PARENT = "PARENT"  # as a remote group: the new group itself
SAYS = ("direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix",
        "remote_group_id", "remote_address_group_id")  # fmt: skip


def of_new_group(tx: Tx, group_id: str, *, default: bool) -> list[dict[str, Any]]:
    """The columns of its rules. `default`: whether it is its project's default group."""
    used = TABLE.c.used_in_default_sg if default else TABLE.c.used_in_non_default_sg
    found = tx.all(sa.select(TABLE).where(used).order_by(TABLE.c.created_at, TABLE.c.id))
    rules = [{key: row[key] for key in SAYS} | {"security_group_id": group_id} for row in found]
    return [rule | ({"remote_group_id": group_id} if rule["remote_group_id"] == PARENT else {}) for rule in rules]
