"""QoS policies, and which ports and networks they are for (Neutron: QoSPlugin, QosPolicy, the ML2 extension `qos`)."""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import APIError, Conflict, NotFound
from kilonova.model.ids import iso, new_id
from kilonova.network import attributes as a
from kilonova.network import query, rows, sharing, tables
from kilonova.network.rows import Row
from kilonova.network.service_tables import QOS_NETWORK_BINDINGS, QOS_PORT_BINDINGS, QOS_RULES
from kilonova.network.service_tables import QOS_POLICIES as TABLE
from kilonova.web.call import Call, Context

# What the host makes true; a policy with anything else cannot be a port's or a network's.
ENFORCED = ("bandwidth_limit", "dscp_marking", "packet_rate_limit")
BINDINGS = {"port": QOS_PORT_BINDINGS, "network": QOS_NETWORK_BINDINGS}

ATTRIBUTES = {
    "name": a.Attribute(a.text(), default=""),
    "description": a.Attribute(a.text(), default=""),
    "shared": a.Attribute(a.boolean, default=False),
    "is_default": a.Attribute(a.boolean, default=False),
    **{
        name: a.Attribute(a.documents, post=False, put=False)
        for name in ("id", "rules", "revision_number", "created_at", "updated_at", "tags")
    },
}
LISTING = query.Listing("policies", TABLE, query.standard_columns(TABLE, "name", "is_default"), path="qos/policies")
POLICY_ID = a.Attribute(a.or_none(a.identifier))  # of a port or network


def not_found(policy_id: str) -> NotFound:
    return NotFound(f"QoS policy {policy_id} could not be found.", type="QosPolicyNotFound")


def default_exists(project_id: str) -> Conflict:
    return Conflict(f"A default QoS policy exists for project {project_id}.", type="QoSPolicyDefaultAlreadyExists")


def visible(context: Context) -> sa.ColumnElement[bool]:
    return sharing.seen(context, sharing.QOS_POLICY, TABLE)


def get(tx: Tx, context: Context, policy_id: str) -> Row:
    return rows.find(tx, TABLE, policy_id, visible(context), not_found)


def get_own(tx: Tx, context: Context, policy_id: str) -> Row:
    return rows.find(tx, TABLE, policy_id, rows.owned(context, TABLE), not_found)


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return query.page(call, sharing.listing(LISTING, call.context, sharing.QOS_POLICY), visible(call.context))


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("policy", body, ATTRIBUTES, context, create=True)
    shared = values.pop("shared")
    row = {"id": new_id(), **values, **rows.stamps()}
    with rows.conflict(default_exists(values["project_id"])):
        tx.execute(TABLE.insert().values(**row))
    share(tx, row, shared)
    return get(tx, context, row["id"])


def update(tx: Tx, context: Context, policy_id: str, body: Any) -> Row:
    policy = get(tx, context, policy_id)
    values = a.prepare("policy", body, ATTRIBUTES, context, create=False)
    if not rows.owns(context, policy):
        raise a.foreign()
    share(tx, policy, values.pop("shared", None))
    with rows.conflict(default_exists(policy["project_id"])):
        rows.touch(tx, TABLE, policy["id"], **values)
    return get(tx, context, policy_id)


def share(tx: Tx, policy: Row, shared: bool | None) -> None:
    """With all projects, or no longer so; None: as it was (Neutron: update_shared)."""
    if shared:
        sharing.grant(tx, policy["project_id"], sharing.QOS_POLICY, policy["id"])
    elif shared is False and sharing.ALL in sharing.targets(tx, policy["id"]):
        if users(tx, policy["id"]) - sharing.targets(tx, policy["id"]):
            raise sharing.in_use(policy["id"], f"project_id={sharing.ALL}")
        sharing.revoke(tx, policy["id"])


def users(tx: Tx, policy_id: str) -> set[str]:
    """The projects whose ports or networks have the policy (Neutron: get_bound_project_ids)."""
    found = set[str]()
    for kind, bound in BINDINGS.items():
        table = {"port": tables.PORTS, "network": tables.NETWORKS}[kind]
        joined = sa.select(table.c.project_id).join(bound, bound.c[f"{kind}_id"] == table.c.id)
        found |= set(tx.execute(joined.where(bound.c.policy_id == policy_id)).scalars())
    return found


def delete(tx: Tx, context: Context, policy_id: str) -> None:
    """With its rules; Conflict while a port or network has it."""
    policy = get(tx, context, policy_id)
    if not rows.owns(context, policy):
        raise a.foreign()
    for kind, table in BINDINGS.items():
        holder = tx.scalar(sa.select(table.c[f"{kind}_id"]).where(table.c.policy_id == policy["id"]).limit(1))
        if holder is not None:
            raise in_use(policy["id"], kind, str(holder))
    sharing.forget(tx, policy["id"])
    with rows.conflict(in_use(policy["id"], "port", "made just now")):
        tx.execute(TABLE.delete().where(TABLE.c.id == policy["id"]))


def in_use(policy_id: str, kind: str, holder: str) -> Conflict:
    return Conflict(f"QoS Policy {policy_id} is used by {kind} {holder}.", type="QosPolicyInUse")


# Of ports and networks


def attached(tx: Tx, kind: str, ids: Collection[str]) -> dict[str, str]:
    """port or network id → its own policy's, for those that have one."""
    table = BINDINGS[kind]
    found = tx.execute(sa.select(table).where(table.c[f"{kind}_id"].in_(list(ids)))).all() if ids else []
    return {row[0]: row[1] for row in found}


def attach(tx: Tx, context: Context, kind: str, holder: str, policy_id: str | None) -> None:
    """Make this the only policy of a port or network; None: it has none. Conflict for rules that no host can keep."""
    table = BINDINGS[kind]
    if policy_id is not None:
        check_enforced(tx, get(tx, context, policy_id)["id"], {kind: holder})
    tx.execute(table.delete().where(table.c[f"{kind}_id"] == holder))
    if policy_id is not None:
        with rows.conflict(not_found(policy_id)):
            tx.execute(table.insert().values(policy_id=policy_id, **{f"{kind}_id": holder}))


def attach_new_network(tx: Tx, context: Context, network: Row, policy_id: str | None) -> None:
    """The policy asked for, or the project's default one."""
    is_default = TABLE.c.project_id == network["project_id"], TABLE.c.is_default
    policy_id = policy_id or tx.scalar(sa.select(TABLE.c.id).where(*is_default))
    if policy_id is not None:
        attach(tx, context, "network", network["id"], policy_id)


def check_enforced(tx: Tx, policy_id: str, holders: dict[str, str]) -> None:
    """Conflict when the policy has a rule that is not made true (Neutron: validate_policy)."""
    others = QOS_RULES.c.qos_policy_id == policy_id, QOS_RULES.c.type.not_in(ENFORCED)
    kind = tx.scalar(sa.select(QOS_RULES.c.type).where(*others).limit(1))
    if kind is not None and holders:
        raise unsupported(str(kind), *next(iter(holders.items())))


def unsupported(rule_type: str, holder_kind: str, holder: str) -> APIError:
    suffix = "ByNetwork" if holder_kind == "network" else ""
    return Conflict(f"Rule {rule_type} is not supported by {holder_kind} {holder}", type=f"QosRuleNotSupported{suffix}")


def holders(tx: Tx, policy_id: str) -> dict[str, str]:
    """One network or port that has the policy, as {kind: id}."""
    for kind in ("network", "port"):
        table = BINDINGS[kind]
        found = tx.scalar(sa.select(table.c[f"{kind}_id"]).where(table.c.policy_id == policy_id).limit(1))
        if found is not None:
            return {kind: str(found)}
    return {}


def bodies(tx: Tx, context: Context, found: Sequence[Row]) -> list[dict[str, Any]]:
    of_policy: dict[str, list[dict[str, Any]]] = {row["id"]: [] for row in found}
    rules = sa.select(QOS_RULES).where(QOS_RULES.c.qos_policy_id.in_(list(of_policy))).order_by(QOS_RULES.c.id)
    for rule in tx.all(rules):
        shown = {key: value for key, value in rule.items() if value not in (None, "")}
        of_policy[rule["qos_policy_id"]].append(shown)
    shared = sharing.among(tx, context, sharing.QOS_POLICY, list(of_policy))
    same = ("id", "name", "description", "is_default", "project_id", "revision_number", "tags")
    return [
        {
            **{key: row[key] for key in same},
            "tenant_id": row["project_id"],
            "shared": row["id"] in shared,
            "rules": of_policy[row["id"]],
            "created_at": iso(row["created_at"]),
            "updated_at": iso(row["updated_at"]),
        }
        for row in found
    ]
