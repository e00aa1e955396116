"""Networks: who sees them, made, changed, deleted (Neutron: NeutronDbPluginV2 and Ml2Plugin)."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import associations, dns, provider, qos_policies, query, quotas, rows, segments, sharing, tables
from kilonova.network import attributes as a
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context
from kilonova.web.policy import rule

TABLE, SUBNETS = tables.NETWORKS, tables.SUBNETS
SMALLEST_MTU = {4: 68, 6: 1280}
READS_OWN = rule("rule:project_reader_or_admin or rule:service_api")
GATEWAY_OWNER, FLOATING_OWNER = "network:router_gateway", "network:floatingip"

ATTRIBUTES = {
    "name": a.Attribute(a.text(), default=""),
    "description": a.Attribute(a.text(), default=""),
    "admin_state_up": a.Attribute(a.boolean, default=True),
    "shared": a.Attribute(a.boolean, default=False, admin=True),
    "router:external": a.Attribute(a.boolean, default=False, admin=True),
    "is_default": a.Attribute(a.boolean, default=False, admin=True),
    "mtu": a.Attribute(a.integer(0, 65535), default=0),
    "port_security_enabled": a.Attribute(a.boolean, default=True),
    "qos_policy_id": qos_policies.POLICY_ID,
    "dns_domain": a.Attribute(dns.domain, default=""),
    **provider.ATTRIBUTES,
    **{
        name: a.Attribute(a.documents, post=False, put=False)
        for name in (
            "id",
            "status",
            "subnets",
            "revision_number",
            "created_at",
            "updated_at",
            "tags",
            "l2_adjacency",
        )
    },
}
COLUMNS = {"router:external": "external", **provider.COLUMNS}
LISTING = query.Listing(
    "networks",
    TABLE,
    query.standard_columns(
        TABLE, "name", "admin_state_up", "status", "mtu", "port_security_enabled", "is_default", **COLUMNS
    ),
)  # fmt: skip


def not_found(network_id: str) -> NotFound:
    return NotFound(f"Network {network_id} could not be found.", type="NetworkNotFound")


def visible(context: Context) -> sa.ColumnElement[bool]:
    """Its project's networks to a reader; to everybody those shared with the project or external for it."""
    shown = TABLE.c.id.in_(sharing.granted(context, sharing.NETWORK, sharing.SHARED, sharing.EXTERNAL))
    return shown | rows.owned(context, TABLE) if context.may("get_network", READS_OWN(context, {})) else shown


def get(tx: Tx, context: Context, network_id: str) -> Row:
    return rows.find(tx, TABLE, network_id, visible(context), not_found)


def get_any(tx: Tx, network_id: str) -> Row:
    return rows.find(tx, TABLE, network_id, sa.true(), not_found)


def available(tx: Tx, context: Context) -> list[Row]:
    """The networks a server gets when none is asked for: the project's own and shared ones, not external ones
    (Nova: _get_available_networks)."""
    shared = TABLE.c.id.in_(sharing.granted(context, sharing.NETWORK))
    own = sa.or_(TABLE.c.project_id == context.project_id, shared)
    statement = sa.select(TABLE).where(own, sa.not_(TABLE.c.external))
    return list(tx.all(statement.order_by(TABLE.c.created_at, TABLE.c.id)))


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    if not call.context.is_admin and (hidden := [key for key, _ in call.query if key in provider.COLUMNS]):
        raise a.disallowed(f"get_network:{hidden[0]}")
    return query.page(call, sharing.listing(LISTING, call.context, sharing.NETWORK), visible(call.context))


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("network", body, ATTRIBUTES, context, create=True)
    first, *others = asked = provider.asked(values)
    carrier = provider.columns(tx, first)
    quotas.check(tx, values["project_id"], "network")
    row = {
        "id": new_id(),
        "project_id": values["project_id"],
        "name": values["name"],
        "description": values["description"],
        "admin_state_up": values["admin_state_up"],
        "external": values["router:external"],
        "is_default": values["is_default"] and values["router:external"],
        "mtu": checked_mtu([kind or provider.PROJECT_TYPE for kind, _, _ in asked], values["mtu"]),
        "port_security_enabled": values["port_security_enabled"],
        "dns_domain": values["dns_domain"],
        **carrier,
        **rows.stamps(),
    }
    with rows.conflict(provider.in_use(row)):
        tx.execute(TABLE.insert().values(**row))
    segments.insert(tx, row["id"], carrier)
    for other in others:
        segments.insert(tx, row["id"], provider.columns(tx, other))
    check_one_default(tx, row)
    share(tx, row, {"shared": values["shared"], "router:external": values["router:external"]})
    qos_policies.attach_new_network(tx, context, row, values.get("qos_policy_id"))
    return get_any(tx, row["id"])


def update(tx: Tx, context: Context, network_id: str, body: Any) -> Row:
    network = get(tx, context, network_id)
    values = a.prepare("network", body, ATTRIBUTES, context, create=False)
    if not rows.owns(context, network):
        raise a.foreign()
    if "mtu" in values:
        kinds = [segment["network_type"] for segment in segments.of_network(tx, network["id"])]
        values["mtu"] = checked_mtu(kinds, values["mtu"])
        for version in tx.execute(
            sa.select(SUBNETS.c.ip_version).where(SUBNETS.c.network_id == network["id"])
        ).scalars():
            check_carries(network, values["mtu"], version)
    if values.get("router:external") is False and network["external"]:
        check_no_gateways(tx, network["id"])
    share(tx, network, values)
    values.pop("shared", None)
    if "qos_policy_id" in values:
        qos_policies.attach(tx, context, "network", network["id"], values.pop("qos_policy_id"))
    rows.touch(tx, TABLE, network["id"], **{COLUMNS.get(name, name): value for name, value in values.items()})
    changed = get_any(tx, network["id"])
    if "is_default" in values:
        check_one_default(tx, changed)
    return changed


def share(tx: Tx, network: Row, values: dict[str, Any]) -> None:
    """`shared` and `router:external` are for all projects; taken back, an external network is so for nobody."""
    shared, external = values.get("shared"), values.get("router:external")
    if shared is False and sharing.ALL in sharing.targets(tx, network["id"]):
        check_not_shared_by_others(tx, network)
        sharing.revoke(tx, network["id"])
    if shared:
        sharing.grant(tx, network["project_id"], sharing.NETWORK, network["id"])
    if external is False:
        sharing.revoke(tx, network["id"], sharing.EXTERNAL, None)
    if external and not sharing.targets(tx, network["id"], sharing.EXTERNAL):
        sharing.grant(tx, network["project_id"], sharing.NETWORK, network["id"], sharing.EXTERNAL)


def default_external(tx: Tx, where: sa.ColumnElement[bool]) -> str | None:
    """The id of the default external network, if it is `where`."""
    found = tx.scalar(sa.select(TABLE.c.id).where(TABLE.c.is_default, TABLE.c.external, where))
    return None if found is None else str(found)


def check_one_default(tx: Tx, network: Row) -> None:
    """Conflict when another network is the default external one."""
    other = TABLE.c.id != network["id"]
    if network["is_default"] and network["external"] and (found := default_external(tx, other)):
        raise Conflict(f"A default external network already exists: {found}.", type="DefaultExternalNetworkExists")


def touch_carried(tx: Tx) -> None:
    """Where a physical network is carried has changed: what hosts are told of networks on one has too."""
    tx.execute(TABLE.update().where(TABLE.c.physical_network != "").values(revision_number=TABLE.c.revision_number + 1))


def checked_mtu(kinds: Iterable[str], mtu: int) -> int:
    """The MTU asked for, 0 being the largest that segments of all these types can carry."""
    largest = min(map(provider.max_mtu, kinds))
    if mtu > largest:
        raise a.invalid_input(f"Requested MTU is too big, maximum is {largest}")
    return mtu or largest


def check_carries(network: Row, mtu: int, version: int) -> None:
    """Conflict when that is less than every link must carry by this version of IP."""
    if mtu < SMALLEST_MTU[version]:
        raise Conflict(
            f"Unable to complete operation on network {network['id']}: its MTU of {mtu} is below {SMALLEST_MTU[version]}, "
            f"the least that IPv{version} needs.",
            type="NetworkMTUSubnetConflict",
        )


def check_no_gateways(tx: Tx, network_id: str) -> None:
    ports = tables.PORTS
    gateways = ports.c.network_id == network_id, ports.c.device_owner.in_([GATEWAY_OWNER, FLOATING_OWNER])
    if tx.scalar(sa.select(ports.c.id).where(*gateways).limit(1)):
        raise Conflict(
            f"External network {network_id} cannot be updated to be made non-external, since it has existing gateway "
            "ports.",
            type="ExternalNetworkInUse",
        )


def check_not_shared_by_others(tx: Tx, network: Row, target: str = sharing.ALL) -> None:
    """Conflict when ports of projects that would lose it are on it: of all that have no policy of their own, or of
    this one (Neutron: InvalidSharedSetting)."""
    ports, left = tables.PORTS, sharing.targets(tx, network["id"]) - {target}
    losing = ports.c.project_id == target
    if target == sharing.ALL:
        losing = ports.c.project_id.not_in(["", network["project_id"], *left])
    others = sa.select(ports.c.id).where(
        ports.c.network_id == network["id"], losing, ports.c.device_owner.not_like("network:%")
    )
    if sharing.ALL not in left and target != network["project_id"] and tx.scalar(others.limit(1)):
        raise Conflict(
            f"Unable to reconfigure sharing settings for network {network['id']}. Multiple tenants are using it.",
            type="InvalidSharedSetting",
        )


def in_use(network_id: str) -> Conflict:
    return Conflict(
        f"Unable to complete operation on network {network_id}. There are one or more ports still in use on the "
        "network.",
        type="NetworkInUse",
    )


def delete(tx: Tx, context: Context, network_id: str) -> None:
    """With its subnets; a DHCP port goes along, any other port is a Conflict."""
    network = get(tx, context, network_id)
    if not rows.owns(context, network):
        raise a.foreign()
    ports, subnets = tables.PORTS, tables.SUBNETS
    on_it = ports.c.network_id == network["id"]
    associations.forget_free(tx, network["id"])
    if tx.scalar(sa.select(ports.c.id).where(on_it, ports.c.device_owner != "network:dhcp").limit(1)):
        raise in_use(network["id"])
    sharing.forget(tx, network["id"])
    with rows.conflict(in_use(network["id"])):
        tx.execute(ports.delete().where(on_it, ports.c.device_owner == "network:dhcp"))
        tx.execute(subnets.delete().where(subnets.c.network_id == network["id"]))
        tx.execute(TABLE.delete().where(TABLE.c.id == network["id"]))
