"""Limits: how much of a service's resource one project or domain gets, where that is not the registered limit's default.

The model is Keystone's `flat`: each project's limit is its own, whatever is above or below it.
"""

from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.identity import access, registered_limits, views
from kilonova.identity.records import Row, expecting, forbidden, hold, not_found, row_of
from kilonova.identity.seed import REGION
from kilonova.identity.tables import LIMITS, PROJECTS, REGISTERED_LIMITS, SERVICES
from kilonova.model.errors import BadRequest, Conflict
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call

MODEL = {
    "name": "flat",
    "description": "Limit enforcement and validation does not take project hierarchy into consideration.",
}
FILTERS = ("service_id", "region_id", "resource_name", "project_id", "domain_id")


def model(call: Call) -> Row:
    return {"model": MODEL}


def view(call: Call, row: Row) -> Row:
    body: Row = {key: row[key] for key in ("id", "service_id", "resource_name", "resource_limit", "description")}
    for key in ("region_id", "project_id", "domain_id"):
        body[key] = row[key] or None
    return {**body, "links": {"self": views.url(call, f"limits/{row['id']}")}}


def _rows(tx: Tx, *conditions: Any) -> list[Row]:
    """Limits, each with what its registered limit says of the resource."""
    r = REGISTERED_LIMITS.c
    joined = sa.select(LIMITS, r.service_id, r.region_id, r.resource_name).join(
        REGISTERED_LIMITS, r.id == LIMITS.c.registered_limit_id
    )
    return [row_of(row) for row in tx.all(joined.where(*conditions).order_by(LIMITS.c.id))]


def _domain_of(tx: Tx, row: Row) -> str:
    if row["domain_id"]:
        return str(row["domain_id"])
    return str(tx.scalar(sa.select(PROJECTS.c.domain_id).where(PROJECTS.c.id == row["project_id"])))


def _may_see(call: Call, row: Row) -> bool:
    who = call.context
    if access.reads_all(who) and not who.project_id and not who.domain_id:
        return True
    if who.domain_id:
        return _domain_of(call.tx, row) == who.domain_id
    return bool(who.project_id) and row["project_id"] == who.project_id


def index(call: Call) -> Row:
    """A token of the system sees all; one of a domain what is in it; one of a project its own."""
    wanted = {key: value for key, value in call.query if key in FILTERS}
    rows = [row for row in _rows(call.tx) if all((row[key] or "") == value for key, value in wanted.items())]
    return views.collection(call, "limits", [row for row in rows if _may_see(call, row)], view)


def _fetch(call: Call) -> Row:
    rows = _rows(call.tx, LIMITS.c.id == call.params["id"])
    if not rows and access.reads_all(call.context):
        raise not_found("limit", call.params["id"])
    if not rows or not (access.reads_all(call.context) or _may_see(call, rows[0])):
        raise forbidden("identity:get_limit")
    return rows[0]


def show(call: Call) -> Row:
    return {"limit": view(call, _fetch(call))}


def _check_owner(tx: Tx, asked: Row) -> None:
    for name, is_domain in (("project_id", False), ("domain_id", True)):
        if asked.get(name):
            chosen = (PROJECTS.c.id == asked[name], PROJECTS.c.is_domain.is_(is_domain))
            if not tx.first(sa.select(PROJECTS.c.id).where(*chosen)):
                raise expecting(name, "limit")
            hold(tx, PROJECTS, "project", asked[name])


def create(call: Call) -> Row:
    made = []
    for asked in call.body["limits"]:
        registered_limits.check_place(call.tx, asked, "limit")
        _check_owner(call.tx, asked)
        base = registered_limits.find(call.tx, asked)
        if base is None:
            raise BadRequest("Unable to create a limit that has no corresponding registered limit.")
        hold(call.tx, REGISTERED_LIMITS, "registered limit", base["id"])
        row = {
            "id": new_hex_id(),
            "project_id": asked.get("project_id") or "",
            "domain_id": asked.get("domain_id") or "",
            "resource_limit": asked["resource_limit"],
            "description": asked.get("description"),
            "registered_limit_id": base["id"],
        }
        if not insert_new(call.tx.connection, LIMITS, row):
            raise Conflict("Conflict occurred attempting to store limit - Duplicate entry.")
        made.append(view(call, {**row, **{name: base[name] for name in registered_limits.WHAT}}))
    return {"limits": made}


def change(call: Call) -> Row:
    row, asked = _fetch(call), call.body["limit"]
    if asked:
        call.tx.execute(sa.update(LIMITS).where(LIMITS.c.id == row["id"]).values(**asked))
    return {"limit": view(call, {**row, **asked})}


def delete(call: Call) -> None:
    call.tx.execute(sa.delete(LIMITS).where(LIMITS.c.id == _fetch(call)["id"]))


def in_force(tx: Tx, service_type: str, project_id: str) -> dict[str, int]:
    """Resource → how many of it the project may have of that service; -1 is no limit. What is not registered is not in it."""
    r = REGISTERED_LIMITS.c
    own = sa.and_(LIMITS.c.registered_limit_id == r.id, LIMITS.c.project_id == project_id)
    query = (
        sa.select(r.resource_name, sa.func.coalesce(LIMITS.c.resource_limit, r.default_limit))
        .join(SERVICES, SERVICES.c.id == r.service_id)
        .outerjoin(LIMITS, own)
        .where(SERVICES.c.type == service_type, r.region_id.in_(("", REGION)))
        .order_by(r.region_id)  # what is said of the region counts more
    )
    return dict(tx.execute(query).tuples().all())


def forget(tx: Tx, keys: list[str]) -> None:
    """Those of projects and domains that are being deleted."""
    tx.execute(sa.delete(LIMITS).where(sa.or_(LIMITS.c.project_id.in_(keys), LIMITS.c.domain_id.in_(keys))))
