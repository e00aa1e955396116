"""Metering labels as the values a host is given with its routers."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.specs import MeterRuleSpec, MeterSpec
from kilonova.network.rows import Row
from kilonova.network.service_tables import METERING_LABEL_RULES as RULES
from kilonova.network.service_tables import METERING_LABELS as LABELS


def meters(tx: Tx, routers: Sequence[Row]) -> Mapping[str, tuple[MeterSpec, ...]]:
    """router id → the labels of its project and the shared ones that have a rule."""
    projects = {router["project_id"] for router in routers}
    wanted = sa.or_(LABELS.c.project_id.in_(projects), LABELS.c.shared)
    rules = (
        sa.select(RULES, LABELS.c.project_id, LABELS.c.shared)
        .join(LABELS, LABELS.c.id == RULES.c.metering_label_id)
        .where(wanted)
        .order_by(RULES.c.metering_label_id, RULES.c.excluded.desc(), RULES.c.id)
    )
    of_label, labels = defaultdict[str, list[MeterRuleSpec]](list), dict[str, Row]()
    for row in tx.all(rules):
        of_label[row["metering_label_id"]].append(rule_spec(row))
        labels[row["metering_label_id"]] = row
    specs = {label_id: MeterSpec(id=label_id, rules=tuple(found)) for label_id, found in of_label.items()}
    return {
        router["id"]: tuple(
            specs[label_id]
            for label_id, row in labels.items()
            if row["shared"] or row["project_id"] == router["project_id"]
        )
        for router in routers
    }


def rule_spec(row: Row) -> MeterRuleSpec:
    """`remote_ip_prefix` is, for all its name, the inside address: the source of what leaves, the destination of what
    enters (Neutron: prepare_source_and_destination_rule_legacy)."""
    leaves = row["direction"] == "egress"
    return MeterRuleSpec(
        direction=row["direction"],
        source=row["source_ip_prefix"] or (row["remote_ip_prefix"] if leaves else None),
        destination=row["destination_ip_prefix"] or (None if leaves else row["remote_ip_prefix"]),
        excluded=row["excluded"],
    )
