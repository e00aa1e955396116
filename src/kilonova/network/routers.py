"""Routers (Neutron: L3_NAT_dbonly_mixin and its extensions). One host carries each: none is distributed or HA."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import attributes as a
from kilonova.network import extra_routes, query, quotas, router_gateways, router_ports, rows, scheduling, tables
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE = tables.ROUTERS

ATTRIBUTES = {
    "name": a.Attribute(a.text(), default=""),
    "description": a.Attribute(a.text(), default=""),
    "admin_state_up": a.Attribute(a.boolean, default=True),
    "external_gateway_info": a.Attribute(router_gateways.info, default=None),
    "routes": a.Attribute(extra_routes.ROUTES, post=False),
    "distributed": a.Attribute(a.or_none(a.boolean), admin=True),
    "ha": a.Attribute(a.or_none(a.boolean), admin=True),
    "flavor_id": a.Attribute(a.or_none(a.identifier), default=None, put=False),
    "availability_zone_hints": a.Attribute(a.list_of(a.text()), put=False),
    **{
        name: a.Attribute(a.documents, post=False, put=False)
        for name in (
            "id",
            "status",
            "availability_zones",
            "enable_snat",
            "revision_number",
            "created_at",
            "updated_at",
            "tags",
        )
    },
}
LISTING = query.Listing(
    "routers", TABLE, query.standard_columns(TABLE, "name", "admin_state_up", "status", "enable_snat")
)


def not_found(router_id: str) -> NotFound:
    return NotFound(f"Router {router_id} could not be found", type="RouterNotFound")


def get(tx: Tx, context: Context, router_id: str) -> Row:
    return rows.find(tx, TABLE, router_id, rows.owned(context, TABLE), not_found)


def get_any(tx: Tx, router_id: str) -> Row:
    return rows.find(tx, TABLE, router_id, sa.true(), not_found)


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return query.page(call, LISTING, rows.owned(call.context, TABLE))


def check_kind(values: dict[str, Any]) -> None:
    """Takes out of `values` what says which kind of router it is: there is but one."""
    for name, kind in (("distributed", "Distributed"), ("ha", "Highly available")):
        if values.pop(name, None):
            raise a.invalid_input(f"{kind} routers are not offered here")
    if flavor_id := values.pop("flavor_id", None):
        raise NotFound(f"Flavor {flavor_id} could not be found.", type="FlavorNotFound")
    for zone in values.get("availability_zone_hints", ()):
        if zone not in scheduling.ZONES:
            raise NotFound(f"AvailabilityZone {zone} could not be found.", type="AvailabilityZoneNotFound")


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("router", body, ATTRIBUTES, context, create=True)
    gateway = values.pop("external_gateway_info")
    router_gateways.check_policy(context, gateway, "create_router")
    check_kind(values)
    quotas.check(tx, values["project_id"], "router")
    row = {"id": new_id(), **values, **rows.stamps()}
    tx.execute(TABLE.insert().values(**row))
    router = get_any(tx, row["id"])
    if gateway is not None:
        router_gateways.change(tx, context, router, gateway)
    return get_any(tx, row["id"])


def update(tx: Tx, context: Context, router_id: str, body: Any) -> Row:
    get(tx, context, router_id)
    values = a.prepare("router", body, ATTRIBUTES, context, create=False)
    check_kind(values)
    router = locked(tx, context, router_id)
    if "routes" in values:
        values["routes"] = extra_routes.check(tx, router, values["routes"])
        router = {**router, "routes": values["routes"]}
    if "external_gateway_info" in values:
        gateway = values.pop("external_gateway_info")
        router_gateways.check_policy(context, gateway, "update_router")
        router_gateways.change(tx, context, router, gateway)
    if values:
        tx.execute(TABLE.update().where(TABLE.c.id == router_id).values(**values))
    return get_any(tx, router_id)


def locked(tx: Tx, context: Context, router_id: str) -> Row:
    """The router, with a revision of this transaction's: of two that change its legs at once, one starts again."""
    router = get(tx, context, router_id)
    rows.touch(tx, TABLE, router["id"])
    return get_any(tx, router["id"])


def change_routes(tx: Tx, context: Context, router_id: str, body: Any, *, add: bool) -> Row:
    """PUT add_extraroutes, remove_extraroutes: the rest of the routes stay as they are."""
    router = locked(tx, context, router_id)
    if not isinstance(body, dict) or not isinstance(body.get("routes"), list):
        raise a.bad_request("Invalid input for routes. Reason: a list of routes is required.")
    given = a.checked("routes", extra_routes.ROUTES, body["routes"])
    routes = (extra_routes.added if add else extra_routes.without)(router["routes"], given)
    tx.execute(TABLE.update().where(TABLE.c.id == router_id).values(routes=extra_routes.check(tx, router, routes)))
    return get_any(tx, router_id)


def delete(tx: Tx, context: Context, router_id: str) -> None:
    """With its gateway; Conflict while it has interfaces, or floating IPs that go by it."""
    router = locked(tx, context, router_id)
    found = router_ports.legs(tx, [router_id])[router_id]
    attached = [leg.port["id"] for leg in found if leg.type != router_ports.GATEWAY]
    if attached:
        raise Conflict(f"Router {router_id} has ports still attached: {', '.join(attached)}", type="RouterInUse")
    gateway = router_ports.gateway(found)
    if gateway is not None:
        router_gateways.remove(tx, router, gateway)
    with rows.conflict(Conflict(f"Router {router_id} still has ports", type="RouterInUse")):
        tx.execute(TABLE.delete().where(TABLE.c.id == router_id))
