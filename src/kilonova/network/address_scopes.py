"""Address scopes: subnet pools among which no address is twice (Neutron: AddressScopeDbMixin)."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import attributes as a
from kilonova.network import query, quotas, rows, sharing, tables
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE = tables.ADDRESS_SCOPES
ATTRIBUTES = {
    "name": a.Attribute(a.text(), default=""),
    "ip_version": a.Attribute(lambda value: a.one_of(4, 6)(a.integer()(value)), default=a.REQUIRED, put=False),
    "shared": a.Attribute(a.boolean, default=False, admin=True),
    "id": a.Attribute(a.documents, post=False, put=False),
}
LISTING = query.Listing(
    "address_scopes",
    TABLE,
    {
        "tenant_id": TABLE.c.project_id,
        **{name: TABLE.c[name] for name in ("id", "project_id", "name", "ip_version")},
    },
)


def not_found(scope_id: str) -> NotFound:
    return NotFound(f"Address scope {scope_id} could not be found.", type="AddressScopeNotFound")


def get(tx: Tx, context: Context, scope_id: str) -> Row:
    return rows.find(tx, TABLE, scope_id, sharing.seen(context, sharing.ADDRESS_SCOPE, TABLE), not_found)


def own(tx: Tx, context: Context, scope_id: str) -> Row:
    scope = get(tx, context, scope_id)
    if not rows.owns(context, scope):
        raise a.foreign()
    return scope


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    context = call.context
    listing = sharing.listing(LISTING, context, sharing.ADDRESS_SCOPE)
    return query.page(call, listing, sharing.seen(context, sharing.ADDRESS_SCOPE, TABLE))


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("address_scope", body, ATTRIBUTES, context, create=True)
    quotas.check(tx, values["project_id"], "address_scope")
    scope_id, shared = new_id(), values.pop("shared")
    tx.execute(TABLE.insert().values(id=scope_id, **values))
    if shared:
        sharing.grant(tx, values["project_id"], sharing.ADDRESS_SCOPE, scope_id)
    return get(tx, context, scope_id)


def update(tx: Tx, context: Context, scope_id: str, body: Any) -> Row:
    scope = get(tx, context, scope_id)
    values = a.prepare("address_scope", body, ATTRIBUTES, context, create=False)
    own(tx, context, scope_id)
    shared = values.pop("shared", None)
    if shared is False and sharing.is_shared(tx, context, sharing.ADDRESS_SCOPE, scope["id"]):
        raise BadRequest(
            f"Unable to update address scope {scope['id']} : Shared address scope can't be unshared.",
            type="AddressScopeUpdateError",
        )
    if shared:
        sharing.grant(tx, scope["project_id"], sharing.ADDRESS_SCOPE, scope["id"])
    if values:
        tx.execute(TABLE.update().where(TABLE.c.id == scope["id"]).values(**values))
    return get(tx, context, scope_id)


def lock(tx: Tx, scope_id: str) -> None:
    """Of two that give pools to a scope at once, the later one sees the earlier one's."""
    tx.execute(TABLE.update().where(TABLE.c.id == scope_id).values(changes=TABLE.c.changes + 1))


def in_use(scope_id: str) -> Conflict:
    return Conflict(
        f"Unable to complete operation on address scope {scope_id}. There are one or more subnet pools in use on the "
        "address scope.",
        type="AddressScopeInUse",
    )


def delete(tx: Tx, context: Context, scope_id: str) -> None:
    scope, pools = own(tx, context, scope_id), tables.SUBNET_POOLS
    if tx.scalar(sa.select(pools.c.id).where(pools.c.address_scope_id == scope["id"]).limit(1)):
        raise in_use(scope["id"])
    sharing.forget(tx, scope["id"])
    with rows.conflict(in_use(scope["id"])):
        tx.execute(TABLE.delete().where(TABLE.c.id == scope["id"]))


def of_network(tx: Tx, network_id: str, ip_version: int) -> str | None:
    """The scope that the network's subnets of this family are in (Neutron: get_network_address_scope)."""
    pools, subnets = tables.SUBNET_POOLS, tables.SUBNETS
    joined = sa.select(pools.c.address_scope_id).join(subnets, subnets.c.subnetpool_id == pools.c.id)
    found = joined.where(
        subnets.c.network_id == network_id, subnets.c.ip_version == ip_version, pools.c.address_scope_id.is_not(None)
    )
    scope_id = tx.scalar(found.limit(1))
    return None if scope_id is None else str(scope_id)


def of_networks(tx: Tx, network_ids: list[str]) -> dict[str, dict[int, str]]:
    """network id → family → its address scope."""
    pools, subnets = tables.SUBNET_POOLS, tables.SUBNETS
    joined = sa.select(subnets.c.network_id, pools.c.ip_version, pools.c.address_scope_id).join(
        pools, subnets.c.subnetpool_id == pools.c.id
    )
    found = dict[str, dict[int, str]]()
    for network_id, version, scope_id in tx.execute(
        joined.where(subnets.c.network_id.in_(network_ids), pools.c.address_scope_id.is_not(None))
    ):
        found.setdefault(network_id, {})[version] = scope_id
    return found
