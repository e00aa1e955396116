"""Metering labels and their rules: which traffic of a project's routers is counted (Neutron: MeteringPlugin)."""

import ipaddress
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import attributes as a
from kilonova.network import query, rows
from kilonova.network.rows import Row
from kilonova.network.service_tables import METERING_LABEL_RULES as RULES
from kilonova.network.service_tables import METERING_LABELS as LABELS
from kilonova.web.call import Call, Context

PREFIXES = ("remote_ip_prefix", "source_ip_prefix", "destination_ip_prefix")


def ip_prefix(value: Any) -> str | None:
    """In full; the bits of a host are masked away, as netaddr's IPNetwork is when it is compared."""
    if value is None or value == "":
        return None
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError(f"'{value}' is not a valid IP subnet") from None


LABEL_ATTRIBUTES = {
    "name": a.Attribute(a.text(), default="", put=False),
    "description": a.Attribute(a.text(1024), default="", put=False),
    "shared": a.Attribute(a.boolean, default=False, put=False),
    "id": a.Attribute(a.text(), post=False, put=False),
}
RULE_ATTRIBUTES = {
    "metering_label_id": a.Attribute(a.identifier, default=a.REQUIRED, put=False),
    "direction": a.Attribute(a.one_of("ingress", "egress"), default=a.REQUIRED, put=False),
    "excluded": a.Attribute(a.boolean, default=False, put=False),
    **{name: a.Attribute(ip_prefix, default=None, put=False) for name in PREFIXES},
    "id": a.Attribute(a.text(), post=False, put=False),
}
LABEL_LISTING = query.Listing(
    "metering_labels",
    LABELS,
    {
        **{name: LABELS.c[name] for name in ("id", "project_id", "name", "description", "shared")},
        "tenant_id": LABELS.c.project_id,
    },
    path="metering/metering-labels",
)
RULE_LISTING = query.Listing(
    "metering_label_rules",
    RULES,
    {name: RULES.c[name] for name in ("id", "metering_label_id", "direction", "excluded", *PREFIXES)},
    path="metering/metering-label-rules",
)


def no_label(label_id: str) -> NotFound:
    return NotFound(f"Metering label '{label_id}' does not exist.", type="MeteringLabelNotFound")


def no_rule(rule_id: str) -> NotFound:
    return NotFound(f"Metering label rule '{rule_id}' does not exist.", type="MeteringLabelRuleNotFound")


def of_own_label(context: Context) -> sa.ColumnElement[bool]:
    return RULES.c.metering_label_id.in_(sa.select(LABELS.c.id).where(rows.owned(context, LABELS)))


def get_label(tx: Tx, context: Context, label_id: str) -> Row:
    return rows.find(tx, LABELS, label_id, rows.owned(context, LABELS), no_label)


def get_rule(tx: Tx, context: Context, rule_id: str) -> Row:
    return rows.find(tx, RULES, rule_id, of_own_label(context), no_rule)


def list_labels(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return query.page(call, LABEL_LISTING, rows.owned(call.context, LABELS))


def list_rules(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return query.page(call, RULE_LISTING, of_own_label(call.context))


def create_label(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("metering_label", body, LABEL_ATTRIBUTES, context, create=True)
    row = {"id": new_id(), **values}
    tx.execute(LABELS.insert().values(**row))
    return row


def create_rule(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("metering_label_rule", body, RULE_ATTRIBUTES, context, create=True)
    del values["project_id"]  # its label's
    check_prefixes(values)
    label = get_label(tx, context, values["metering_label_id"])
    tx.execute(LABELS.update().where(LABELS.c.id == label["id"]).values(name=label["name"]))  # one rule at a time
    check_overlap(tx, values)
    row = {"id": new_id(), **values}
    with rows.conflict(no_label(label["id"])):
        tx.execute(RULES.insert().values(**row))
    return row


def check_prefixes(values: dict[str, Any]) -> None:
    """Neutron: validate_metering_label_rule."""
    if values["remote_ip_prefix"] and (values["source_ip_prefix"] or values["destination_ip_prefix"]):
        raise BadRequest(
            "Cannot use 'remote-ip-prefix' in conjunction with 'source-ip-prefix' or 'destination-ip-prefix'.",
            type="Invalid",
        )
    given = [ipaddress.ip_network(values[name]) for name in PREFIXES if values[name]]
    if not given:
        raise BadRequest(
            "You must define at least one of the following parameters 'remote_ip_prefix', or 'source_ip_prefix' or "
            "'destination_ip_prefix'.",
            type="Invalid",
        )
    if len({prefix.version for prefix in given}) > 1:
        raise a.invalid_input("'source_ip_prefix' and 'destination_ip_prefix' are of different IP versions")


def check_overlap(tx: Tx, values: dict[str, Any]) -> None:
    """Conflict when another rule of the label, its direction and kind has some of the remote prefix (Neutron:
    check_for_rule_overlaps)."""
    if not values["remote_ip_prefix"]:
        return
    same = [RULES.c[name] == values[name] for name in ("metering_label_id", "direction", "excluded")]
    remote = ipaddress.ip_network(values["remote_ip_prefix"])
    for row in tx.all(sa.select(RULES).where(*same, RULES.c.remote_ip_prefix.is_not(None))):
        if ipaddress.ip_network(row["remote_ip_prefix"]).overlaps(remote):
            raise Conflict(
                f"Metering label rule with remote_ip_prefix '{values['remote_ip_prefix']}' overlaps another.",
                type="MeteringLabelRuleOverlaps",
            )


def delete_label(tx: Tx, context: Context, label_id: str) -> None:
    """With its rules."""
    label = get_label(tx, context, label_id)
    tx.execute(LABELS.delete().where(LABELS.c.id == label["id"]))


def delete_rule(tx: Tx, context: Context, rule_id: str) -> None:
    rule = get_rule(tx, context, rule_id)
    tx.execute(RULES.delete().where(RULES.c.id == rule["id"]))


def label_bodies(tx: Tx, context: Context, found: Sequence[Row]) -> list[dict[str, Any]]:
    same = ("id", "name", "description", "shared", "project_id")
    return [{**{key: row[key] for key in same}, "tenant_id": row["project_id"]} for row in found]


def rule_bodies(tx: Tx, context: Context, found: Sequence[Row]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in ("id", "metering_label_id", "direction", "excluded", *PREFIXES)} for row in found]
