"""RBAC policies: whom an object is opened to, made and taken back (Neutron: RbacPluginMixin)."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import APIError, BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import (
    address_groups,
    address_scopes,
    networks,
    qos_policies,
    query,
    quotas,
    rows,
    security_groups,
    sharing,
    subnet_pools,
    tables,
)
from kilonova.network import attributes as a
from kilonova.network.rows import Row
from kilonova.network.service_tables import QOS_POLICIES
from kilonova.web.call import Call, Context
from kilonova.web.validate import is_uuid

TABLE = tables.RBAC_POLICIES
Find = Callable[[Tx, Context, str], Row]
OBJECTS: dict[str, tuple[Find, sa.Table]] = {
    sharing.NETWORK: (networks.get, tables.NETWORKS),
    sharing.SUBNET_POOL: (subnet_pools.get, tables.SUBNET_POOLS),
    sharing.ADDRESS_SCOPE: (address_scopes.get, tables.ADDRESS_SCOPES),
    sharing.SECURITY_GROUP: (security_groups.get, tables.SECURITY_GROUPS),
    sharing.ADDRESS_GROUP: (address_groups.get, tables.ADDRESS_GROUPS),
    sharing.QOS_POLICY: (qos_policies.get, QOS_POLICIES),
}


def object_type(value: Any) -> str:
    kind = a.text(64)(value).strip().lower()
    if kind not in OBJECTS:
        raise a.invalid_input(f"'{value}' is not a valid RBAC object type")
    return str(kind)


def target(value: Any) -> str:
    if value != sharing.ALL and not (isinstance(value, str) and is_uuid(value)):
        raise a.invalid_input(f"'{str(value)[:64]}' is not a valid target project ID; expected a UUID or '*'")
    return str(value)


ATTRIBUTES = {
    "object_type": a.Attribute(object_type, default=a.REQUIRED, put=False),
    "object_id": a.Attribute(a.identifier, default=a.REQUIRED, put=False),
    "action": a.Attribute(a.text(), default=a.REQUIRED, put=False),
    "target_tenant": a.Attribute(target, default=a.REQUIRED),
    "id": a.Attribute(a.documents, post=False, put=False),
}
LISTING = query.Listing(
    "rbac_policies",
    TABLE,
    {
        **{name: TABLE.c[name] for name in ("id", "project_id", "object_type", "object_id", "action")},
        "target_tenant": TABLE.c.target_project,
        "tenant_id": TABLE.c.project_id,
    },
)


def not_found(policy_id: str) -> NotFound:
    return NotFound(f"RBAC policy of type unknown with ID {policy_id} not found", type="RbacPolicyNotFound")


def get(tx: Tx, context: Context, policy_id: str) -> Row:
    return rows.find(tx, TABLE, policy_id, rows.owned(context, TABLE), not_found)


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return query.page(call, LISTING, rows.owned(call.context, TABLE))


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("rbac_policy", body, ATTRIBUTES, context, create=True)
    values["target_project"] = values.pop("target_tenant")
    check_wildcard(context, values["target_project"], "create_rbac_policy")
    check_action(values)
    quotas.check(tx, values["project_id"], "rbac_policy")
    find, table = OBJECTS[values["object_type"]]
    opened = find(tx, context, values["object_id"])
    check_owner(context, values, opened)
    check_scope(tx, values, opened)
    tx.hold(table.c.id, opened["id"])  # no policy of what is being deleted
    row = {"id": new_id(), **values}
    if not rows.insert_ignore(tx, TABLE, row):
        raise Conflict("An RBAC policy already exists with those values.", type="DuplicateRbacPolicy")
    touch(tx, row, external=True)
    return get(tx, context, row["id"])


def check_wildcard(context: Context, target_project: str, action: str) -> None:
    """Only an admin opens a thing to all, unless an operator lets others."""
    if target_project == sharing.ALL and not context.may(f"{action}:target_tenant"):
        raise a.disallowed(action, f"{action}:target_tenant")


def check_action(values: Row) -> None:
    external = [sharing.EXTERNAL] if values["object_type"] == sharing.NETWORK else []
    allowed = [sharing.SHARED, *external]
    if values["action"] not in allowed:
        error = a.invalid_input("")
        error.message = (
            f"Invalid action '{values['action']}' for object type '{values['object_type']}'. Valid actions: "
            f"{', '.join(allowed)}"
        )
        error.type = "InvalidActionForType"
        raise error


def check_owner(context: Context, policy: Row, opened: Row) -> None:
    if not rows.owns(context, opened):
        what = "networks" if policy["object_type"] == sharing.NETWORK else "objects"
        raise a.invalid_input(f"Only admins can manipulate policies on {what} they do not own")


def check_scope(tx: Tx, policy: Row, opened: Row) -> None:
    """A subnet pool goes only to those who see its address scope (Neutron: validate_rbac_policy_create)."""
    scope_id = opened["address_scope_id"] if policy["object_type"] == sharing.SUBNET_POOL else None
    if scope_id is None:
        return
    owner = tx.scalar(sa.select(tables.ADDRESS_SCOPES.c.project_id).where(tables.ADDRESS_SCOPES.c.id == scope_id))
    if not {policy["target_project"], sharing.ALL} & {owner, *sharing.targets(tx, scope_id)}:
        raise BadRequest(
            f"Failed to init RBAC policy for {policy['object_id']} because the project {policy['target_project']} does "
            f"not see the pool's address scope {scope_id}.",
            type="RbacPolicyInitError",
        )


def touch(tx: Tx, policy: Row, *, external: bool | None = None) -> None:
    """A network's revision grows; the first policy that makes it external does so, and the last one gone ends it."""
    if policy["object_type"] != sharing.NETWORK:
        return
    values = {"external": external} if policy["action"] == sharing.EXTERNAL and external is not None else {}
    rows.touch(tx, tables.NETWORKS, policy["object_id"], **values)


def update(tx: Tx, context: Context, policy_id: str, body: Any) -> Row:
    policy = get(tx, context, policy_id)
    values = a.prepare("rbac_policy", body, ATTRIBUTES, context, create=False)
    after = str(values.get("target_tenant", policy["target_project"]))
    check_wildcard(context, after, "update_rbac_policy")
    if after == policy["target_project"]:
        return policy
    opened = OBJECTS[policy["object_type"]][0](tx, context, policy["object_id"])
    check_owner(context, policy, opened)
    check_scope(tx, {**policy, "target_project": after}, opened)
    if after != sharing.ALL:
        check_unused(tx, policy, after)
    with rows.conflict(Conflict("An RBAC policy already exists with those values.", type="DuplicateRbacPolicy")):
        tx.execute(TABLE.update().where(TABLE.c.id == policy["id"]).values(target_project=after))
    touch(tx, policy)
    return get(tx, context, policy_id)


def delete(tx: Tx, context: Context, policy_id: str) -> None:
    policy = get(tx, context, policy_id)
    check_unused(tx, policy)
    tx.execute(TABLE.delete().where(TABLE.c.id == policy["id"]))
    if policy["action"] == sharing.EXTERNAL and not sharing.targets(tx, policy["object_id"], sharing.EXTERNAL):
        networks.check_no_gateways(tx, policy["object_id"])
        touch(tx, policy, external=False)
    else:
        touch(tx, policy)


def check_unused(tx: Tx, policy: Row, instead: str = "") -> None:
    """Conflict when a project depends on the policy and no other policy opens the object to it: the object's own, too,
    when it is for all (Neutron: RbacNeutronDbObjectMixin). `instead`: the project that it will be for."""
    if policy["action"] == sharing.EXTERNAL:
        check_no_routers(tx, policy, instead)
    elif policy["object_type"] == sharing.NETWORK:
        try:
            network = networks.get_any(tx, policy["object_id"])
            networks.check_not_shared_by_others(tx, network, policy["target_project"])
        except APIError as error:
            raise sharing.in_use(policy["object_id"], error.message) from error
    else:
        users, gone = users_of(tx, policy), policy["target_project"]
        left = sharing.targets(tx, policy["object_id"]) - {gone}
        losing = users - left if gone == sharing.ALL else users & {gone}
        if sharing.ALL not in left and losing:
            raise sharing.in_use(policy["object_id"], f"project_id={gone}")


def users_of(tx: Tx, policy: Row) -> set[str]:
    """The projects that use the object (Neutron: get_bound_project_ids)."""
    object_id, bound = policy["object_id"], tables.PORT_SECURITY_GROUPS
    if policy["object_type"] == sharing.QOS_POLICY:
        return qos_policies.users(tx, object_id)
    pools, subnets, ports, rules = tables.SUBNET_POOLS, tables.SUBNETS, tables.PORTS, tables.SECURITY_GROUP_RULES
    of_group = sa.select(bound.c.port_id).where(bound.c.security_group_id == object_id)
    users, condition = {
        sharing.SUBNET_POOL: (subnets, subnets.c.subnetpool_id == object_id),
        sharing.ADDRESS_SCOPE: (pools, pools.c.address_scope_id == object_id),
        sharing.SECURITY_GROUP: (ports, ports.c.id.in_(of_group)),
        sharing.ADDRESS_GROUP: (rules, rules.c.remote_address_group_id == object_id),
    }[policy["object_type"]]
    return set(tx.execute(sa.select(users.c.project_id).where(condition).distinct()).scalars())


def check_no_routers(tx: Tx, policy: Row, instead: str) -> None:
    """Conflict when routers have their gateway on the network only thanks to the policy."""
    network_id, gone = policy["object_id"], policy["target_project"]
    left = sharing.targets(tx, network_id, sharing.EXTERNAL) - {gone} | {instead}
    if sharing.ALL in left:
        return
    nets, routers, legs, ports = tables.NETWORKS, tables.ROUTERS, tables.ROUTER_PORTS, tables.PORTS
    if gone == sharing.ALL and tx.scalar(sa.select(nets.c.is_default).where(nets.c.id == network_id)):
        raise sharing.in_use(policy["object_id"], "Default external networks must be shared to everyone.")
    losing = routers.c.project_id == gone if gone != sharing.ALL else routers.c.project_id.not_in(left)
    attached = (
        sa.select(routers.c.id).join(legs, legs.c.router_id == routers.c.id).join(ports, ports.c.id == legs.c.port_id)
    )
    on_it = attached.where(ports.c.network_id == network_id, legs.c.port_type == networks.GATEWAY_OWNER, losing)
    if tx.scalar(on_it.limit(1)):
        raise sharing.in_use(
            policy["object_id"], "There are routers attached to this network that depend on this policy for access."
        )
