"""Registered limits: how much of a service's resource a project gets unless its own limit says otherwise."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.identity import views
from kilonova.identity.records import Row, expecting, get, hold, row_of, select, update
from kilonova.identity.tables import LIMITS, REGIONS, REGISTERED_LIMITS, SERVICES
from kilonova.model.errors import Conflict, Forbidden, NotFound
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call

L = REGISTERED_LIMITS.c
WHAT = ("service_id", "region_id", "resource_name")


def view(call: Call, row: Row) -> Row:
    body = {key: row[key] for key in ("id", "service_id", "resource_name", "default_limit", "description")}
    links = {"self": views.url(call, f"registered_limits/{row['id']}")}
    return {**body, "region_id": row["region_id"] or None, "links": links}


def index(call: Call) -> Row:
    return views.collection(call, "registered_limits", select(call, REGISTERED_LIMITS, WHAT), view)


def fetch(call: Call) -> Row:
    return get(call.tx, REGISTERED_LIMITS, "registered limit", call.params["id"])


def show(call: Call) -> Row:
    return {"registered_limit": view(call, fetch(call))}


def check_place(tx: Tx, row: Row, kind: str) -> None:
    """BadRequest when the service or the region is none."""
    for name, table in (("service_id", SERVICES), ("region_id", REGIONS)):
        if row.get(name):
            try:
                hold(tx, table, name.removesuffix("_id"), row[name])
            except NotFound as error:
                raise expecting(name, kind) from error


def find(tx: Tx, row: Row) -> Row | None:
    """The registered limit of that service, region and resource."""
    same = [L[name] == (row.get(name) or "") for name in WHAT]
    found = tx.first(sa.select(REGISTERED_LIMITS).where(*same))
    return row_of(found) if found else None


def create(call: Call) -> Row:
    made = []
    for asked in call.body["registered_limits"]:
        check_place(call.tx, asked, "registered_limit")
        row = {"description": None, **asked, "id": new_hex_id(), "region_id": asked.get("region_id") or ""}
        if not insert_new(call.tx.connection, REGISTERED_LIMITS, row):
            raise _double()
        made.append(view(call, row))
    return {"registered_limits": made}


def _double() -> Conflict:
    return Conflict("Conflict occurred attempting to store registered_limit - Duplicate entry.")


def _refuse_double(tx: Tx, row: Row) -> None:
    there = find(tx, row)
    if there and there["id"] != row["id"]:
        raise _double()


def _refuse_used(tx: Tx, row: Row) -> None:
    if tx.first(sa.select(LIMITS.c.id).where(LIMITS.c.registered_limit_id == row["id"])):
        raise Forbidden(
            f"Unable to update or delete registered limit {row['id']} because there are project limits associated with it."
        )


def change(call: Call) -> Row:
    old = fetch(call)
    _refuse_used(call.tx, old)
    asked: dict[str, Any] = dict(call.body["registered_limit"])
    if "region_id" in asked:
        asked["region_id"] = asked["region_id"] or ""
    new = {**old, **asked}
    check_place(call.tx, asked, "registered_limit")
    _refuse_double(call.tx, new)
    if asked:
        update(call.tx, REGISTERED_LIMITS, "registered_limit", old["id"], asked)
    return {"registered_limit": view(call, new)}


def delete(call: Call) -> None:
    row = fetch(call)
    _refuse_used(call.tx, row)
    call.tx.execute(sa.delete(REGISTERED_LIMITS).where(L.id == row["id"]))
