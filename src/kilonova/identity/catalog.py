"""Regions, services and endpoints, and the catalogue that they make."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.identity import endpoint_groups, endpoint_policies, views
from kilonova.identity.records import Row, get, hold, insert, row_of, select, split, update
from kilonova.identity.tables import ENDPOINTS, REGIONS, REGISTERED_LIMITS, SERVICES
from kilonova.model.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call


def catalog(call: Call, tx: Tx, project_id: str) -> list[Row]:
    """Enabled services with their enabled endpoints, of a project those that it is to see (endpoint_groups.py).

    Addresses that need a project are left out where there is none.
    """
    seen = endpoint_groups.endpoints_of(tx, project_id) if project_id else None
    visible = None if seen is None else {row["id"] for row in seen}
    services = tx.all(sa.select(SERVICES).where(SERVICES.c.enabled).order_by(SERVICES.c.type))
    endpoints: dict[str, list[Row]] = {}
    for row in tx.all(sa.select(ENDPOINTS).where(ENDPOINTS.c.enabled).order_by(ENDPOINTS.c.id)):
        if visible is not None and row["id"] not in visible:
            continue
        url = views.own_url(call, row["url"])
        for name in ("$(project_id)s", "$(tenant_id)s", "%(project_id)s", "%(tenant_id)s"):
            if name in url:
                url = url.replace(name, project_id) if project_id else ""
        if not url:
            continue
        endpoints.setdefault(row["service_id"], []).append(
            {
                "id": row["id"],
                "interface": row["interface"],
                "region": row["region_id"],
                "region_id": row["region_id"],
                "url": url,
            }
        )
    return [
        {
            "id": row["id"],
            "type": row["type"],
            "name": row["extra"].get("name") or "",
            "endpoints": endpoints.get(row["id"], []),
        }
        for row in services
        if visible is None or row["id"] in endpoints
    ]


# --- regions ------------------------------------------------------------------------------------------------------


def list_regions(call: Call) -> Row:
    return views.collection(call, "regions", select(call, REGIONS, ("parent_region_id",)), views.region)


def show_region(call: Call) -> Row:
    return {"region": views.region(call, get(call.tx, REGIONS, "region", call.params["id"]))}


def create_region(call: Call) -> Row:
    """POST, or PUT with the id in the path."""
    asked = call.body["region"]
    key = call.params.get("id") or asked.get("id") or new_hex_id()
    if asked.get("id") not in (None, "", key):
        raise BadRequest("Conflicting region IDs specified: the body's is not the one in the URL.")
    if call.tx.first(sa.select(REGIONS.c.id).where(REGIONS.c.id == key)):
        raise Conflict(f"Conflict occurred attempting to store region - Duplicate ID, {key}.")
    known, extra = split(REGIONS, asked, ("id",))
    if known.get("parent_region_id"):
        hold(call.tx, REGIONS, "region", known["parent_region_id"])
    row = {"parent_region_id": None, **known, "id": key, "description": known.get("description") or "", "extra": extra}
    insert(call.tx, REGIONS, "region", row)
    return {"region": views.region(call, row)}


def update_region(call: Call) -> Row:
    key = call.params["id"]
    known, extra = split(REGIONS, call.body["region"], ("id",))
    parent = known.get("parent_region_id")
    if parent:
        hold(call.tx, REGIONS, "region", parent)
    while parent:
        if parent == key:
            raise BadRequest(
                f"The specified parent region {known['parent_region_id']} would create a circular region hierarchy."
            )
        parent = get(call.tx, REGIONS, "region", parent)["parent_region_id"]
    if "description" in known:
        known["description"] = known["description"] or ""
    return {"region": views.region(call, update(call.tx, REGIONS, "region", key, {**known, "extra": extra}))}


def delete_region(call: Call) -> None:
    """With its children, unless one of them has endpoints."""
    key = call.params["id"]
    get(call.tx, REGIONS, "region", key)
    family = [key]
    for parent in family:
        family += call.tx.execute(sa.select(REGIONS.c.id).where(REGIONS.c.parent_region_id == parent)).scalars()
    if call.tx.first(sa.select(ENDPOINTS.c.id).where(ENDPOINTS.c.region_id.in_(family))):
        raise Forbidden(f"Unable to delete region {key} because it or its child regions have associated endpoints.")
    _refuse_limited(call, "region", REGISTERED_LIMITS.c.region_id.in_(family))
    endpoint_policies.forget(call.tx, "region_id", family)
    call.tx.execute(sa.delete(REGIONS).where(REGIONS.c.id.in_(family)))


def _refuse_limited(call: Call, kind: str, condition: Any) -> None:
    """What registered limits are for stays while they do."""
    if call.tx.first(sa.select(REGISTERED_LIMITS.c.id).where(condition)):
        raise Forbidden(f"Unable to delete {kind} because registered limits are associated with it.")


# --- services -----------------------------------------------------------------------------------------------------


def list_services(call: Call) -> Row:
    return views.collection(call, "services", select(call, SERVICES, ("type", "name")), views.service)


def show_service(call: Call) -> Row:
    return {"service": views.service(call, get(call.tx, SERVICES, "service", call.params["id"]))}


def create_service(call: Call) -> Row:
    known, extra = split(SERVICES, call.body["service"], ("id",))
    row = {"enabled": True, **known, "id": new_hex_id(), "extra": {"name": "", **extra}}
    insert(call.tx, SERVICES, "service", row)
    return {"service": views.service(call, row)}


def update_service(call: Call) -> Row:
    known, extra = split(SERVICES, call.body["service"], ("id",))
    row = update(call.tx, SERVICES, "service", call.params["id"], {**known, "extra": extra})
    return {"service": views.service(call, row)}


def delete_service(call: Call) -> None:
    """With its endpoints."""
    key = call.params["id"]
    get(call.tx, SERVICES, "service", key)
    _refuse_limited(call, "service", REGISTERED_LIMITS.c.service_id == key)
    endpoint_policies.forget(call.tx, "service_id", [key])
    forget_endpoints(call.tx, ENDPOINTS.c.service_id == key)
    call.tx.execute(sa.delete(SERVICES).where(SERVICES.c.id == key))


# --- endpoints ----------------------------------------------------------------------------------------------------


def list_endpoints(call: Call) -> Row:
    rows = select(call, ENDPOINTS, ("interface", "service_id", "region_id"))
    return views.collection(call, "endpoints", rows, views.endpoint)


def show_endpoint(call: Call) -> Row:
    return {"endpoint": views.endpoint(call, get(call.tx, ENDPOINTS, "endpoint", call.params["id"]))}


def _endpoint_values(call: Call, asked: Row) -> Row:
    """Columns from a body; the old attribute `region` names a region, which is made where it is missing."""
    known, extra = split(ENDPOINTS, asked, ("id", "region"))
    region = asked.get("region")
    if region and not known.get("region_id"):
        known["region_id"] = region
        if not call.tx.first(sa.select(REGIONS.c.id).where(REGIONS.c.id == region)):
            insert(call.tx, REGIONS, "region", {"id": region, "description": "", "extra": {}})
    if known.get("region_id"):
        _must_exist(call, REGIONS, "region", known["region_id"])
    if "service_id" in known:
        _must_exist(call, SERVICES, "service", known["service_id"])
    return {**known, "extra": extra}


def _must_exist(call: Call, table: Any, kind: str, key: str) -> None:
    try:
        hold(call.tx, table, kind, key)
    except NotFound as error:
        raise BadRequest(error.message) from error


def create_endpoint(call: Call) -> Row:
    values = _endpoint_values(call, call.body["endpoint"])
    row = {"region_id": None, "enabled": True, **values, "id": new_hex_id()}
    insert(call.tx, ENDPOINTS, "endpoint", row)
    return {"endpoint": views.endpoint(call, row)}


def update_endpoint(call: Call) -> Row:
    key = call.params["id"]
    get(call.tx, ENDPOINTS, "endpoint", key)
    values = _endpoint_values(call, call.body["endpoint"])
    return {"endpoint": views.endpoint(call, update(call.tx, ENDPOINTS, "endpoint", key, values))}


def delete_endpoint(call: Call) -> None:
    row = row_of(get(call.tx, ENDPOINTS, "endpoint", call.params["id"]))
    forget_endpoints(call.tx, ENDPOINTS.c.id == row["id"])


def forget_endpoints(tx: Tx, condition: sa.ColumnElement[bool]) -> None:
    """Endpoints and what is associated with them."""
    keys = list(tx.execute(sa.select(ENDPOINTS.c.id).where(condition)).scalars())
    endpoint_groups.forget(tx, endpoint_id=keys)
    endpoint_policies.forget(tx, "endpoint_id", keys)
    tx.execute(sa.delete(ENDPOINTS).where(ENDPOINTS.c.id.in_(keys)))
