"""The rules of QoS policies, by type, and the types that hosts make true (Neutron: QoSPlugin, qos_policy_validator)."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import attributes as a
from kilonova.network import qos_policies, query, rows
from kilonova.network.qos_policies import ENFORCED
from kilonova.network.rows import Row
from kilonova.network.service_tables import QOS_POLICIES
from kilonova.network.service_tables import QOS_RULES as TABLE
from kilonova.web.call import Call, Context

DSCP_MARKS = (0, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 44, 46, 48, 56)
KBPS, DIRECTIONS = a.integer(0, a.INT_MAX), ("ingress", "egress")
ID = a.Attribute(a.text(), post=False, put=False)


def mark(value: Any) -> int:
    return int(a.one_of(*DSCP_MARKS)(a.integer()(value)))


DIRECTION = a.Attribute(a.one_of(*DIRECTIONS), default="egress")
# type → the attributes of its rules
TYPES: dict[str, dict[str, a.Attribute]] = {
    "bandwidth_limit": {
        "max_kbps": a.Attribute(KBPS, default=a.REQUIRED),
        "max_burst_kbps": a.Attribute(KBPS, default=0),
        "direction": DIRECTION,
    },
    "dscp_marking": {"dscp_mark": a.Attribute(mark, default=a.REQUIRED)},
    "packet_rate_limit": {
        "max_kpps": a.Attribute(KBPS, default=a.REQUIRED),
        "max_burst_kpps": a.Attribute(KBPS, default=0),
        "direction": DIRECTION,
    },
    "minimum_bandwidth": {"min_kbps": a.Attribute(KBPS, default=a.REQUIRED), "direction": DIRECTION},
}


def not_found(policy_id: str, rule_id: str) -> NotFound:
    return NotFound(f"QoS rule {rule_id} for policy {policy_id} could not be found.", type="QosRuleNotFound")


def get(tx: Tx, policy_id: str, kind: str, rule_id: str) -> Row:
    of_policy = sa.and_(TABLE.c.qos_policy_id == policy_id, TABLE.c.type == kind)
    return rows.find(tx, TABLE, rule_id, of_policy, lambda missing: not_found(policy_id, missing))


def policy_of(tx: Tx, context: Context, kind: str, rule_id: str) -> str:
    """The rule's policy, for the routes that name only the rule."""
    own = sa.select(QOS_POLICIES.c.id).where(rows.owned(context, QOS_POLICIES))
    mine = sa.and_(TABLE.c.type == kind, TABLE.c.qos_policy_id.in_(own))
    return str(rows.find(tx, TABLE, rule_id, mine, lambda missing: not_found("", missing))["qos_policy_id"])


def list_page(call: Call, policy_id: str, kind: str) -> tuple[list[Row], dict[str, Any]]:
    qos_policies.get_own(call.tx, call.context, policy_id)
    collection = f"{kind}_rules"
    columns = {name: TABLE.c[name] for name in ("id", *TYPES[kind])}
    listing = query.Listing(collection, TABLE, columns, path=f"qos/policies/{policy_id}/{collection}")
    return query.page(call, listing, sa.and_(TABLE.c.qos_policy_id == policy_id, TABLE.c.type == kind))


def create(tx: Tx, context: Context, policy_id: str, kind: str, body: Any) -> Row:
    policy = qos_policies.get_own(tx, context, policy_id)
    values = a.prepare(f"policy_{kind}_rule", body, {**TYPES[kind], "id": ID}, context, create=True)
    del values["project_id"]  # its policy's
    rows.touch(tx, QOS_POLICIES, policy["id"])  # one change of its rules at a time
    check_values(tx, policy["id"], values)
    row = {"id": new_id(), "qos_policy_id": policy["id"], "type": kind, **values}
    check_duplicate(tx, row)
    tx.execute(TABLE.insert().values(**row))
    qos_policies.check_enforced(tx, policy["id"], qos_policies.holders(tx, policy["id"]))
    return get(tx, policy["id"], kind, row["id"])


def update(tx: Tx, context: Context, policy_id: str, kind: str, rule_id: str, body: Any) -> Row:
    policy = qos_policies.get_own(tx, context, policy_id)
    rule = get(tx, policy["id"], kind, rule_id)
    values = a.prepare(f"policy_{kind}_rule", body, {**TYPES[kind], "id": ID}, context, create=False)
    rows.touch(tx, QOS_POLICIES, policy["id"])
    check_values(tx, policy["id"], values)
    check_duplicate(tx, {**rule, **values})
    if values:
        tx.execute(TABLE.update().where(TABLE.c.id == rule["id"]).values(**values))
    return get(tx, policy["id"], kind, rule["id"])


def delete(tx: Tx, context: Context, policy_id: str, kind: str, rule_id: str) -> None:
    policy = qos_policies.get_own(tx, context, policy_id)
    rule = get(tx, policy["id"], kind, rule_id)
    rows.touch(tx, QOS_POLICIES, policy["id"])
    tx.execute(TABLE.delete().where(TABLE.c.id == rule["id"]))


def check_values(tx: Tx, policy_id: str, values: dict[str, Any]) -> None:
    """Conflict when less is allowed than is promised, in one direction (Neutron: check_bandwidth_rule_conflict)."""
    for rule in tx.all(sa.select(TABLE).where(TABLE.c.qos_policy_id == policy_id, TABLE.c.direction != "")):
        if values.get("direction", rule["direction"]) != rule["direction"]:
            continue
        given, limit, minimum = None, rule["max_kbps"], rule["min_kbps"]
        if minimum is not None and "max_kbps" in values and minimum > values["max_kbps"]:
            given = values["max_kbps"]
        if limit is not None and "min_kbps" in values and limit < values["min_kbps"]:
            given = values["min_kbps"]
        if given is not None:
            raise Conflict(
                f"Unable to add the rule with value {given} to the policy {policy_id} as the existing rule of type "
                f"{rule['type']} has value {limit if limit is not None else minimum}.",
                type="QoSRuleParameterConflict",
            )


def check_duplicate(tx: Tx, row: Any) -> None:
    """Conflict for a second rule of a type in one direction (Neutron: check_rules_conflict)."""
    same = [TABLE.c[name] == row.get(name, "") for name in ("qos_policy_id", "type", "direction")]
    found = tx.scalar(sa.select(TABLE.c.id).where(*same, TABLE.c.id != row["id"]))
    if found is not None:
        raise Conflict(
            f"Rule {row['type']} conflicts with rule {found} which already exists in QoS Policy "
            f"{row['qos_policy_id']}.",
            type="QoSRulesConflict",
        )


def body(row: Row) -> dict[str, Any]:
    return {key: row[key] for key in ("id", *TYPES[row["type"]])}


# Types


def rule_types(*, every: bool) -> list[dict[str, str]]:
    """Those that hosts make true, or every one that a policy may have."""
    return [{"type": kind} for kind in (TYPES if every else ENFORCED)]


def rule_type(kind: str) -> dict[str, Any]:
    """NotFound for a type that no policy can have. Who makes it true, and with which values."""
    if kind not in TYPES:
        raise NotFound(f"Rule type {kind} could not be found.", type="QosRuleTypeNotFound")
    whole: dict[str, Any] = {"start": 0, "end": a.INT_MAX}
    values: dict[str, Any] = {"direction": list(DIRECTIONS), "dscp_mark": list(DSCP_MARKS)}
    parameters = [
        {
            "parameter_name": name,
            "parameter_type": "choices" if name in values else "range",
            "parameter_values": values.get(name, whole),
        }
        for name in TYPES[kind]
    ]
    return {
        "type": kind,
        "drivers": [{"name": "linuxbridge", "supported_parameters": parameters}] if kind in ENFORCED else [],
    }
