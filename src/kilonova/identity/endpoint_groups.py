"""Endpoint groups, and which endpoints the catalogue of a project has (OS-EP-FILTER).

A project that nothing is associated with sees all endpoints (Keystone's return_all_endpoints_if_no_filter).
"""

from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.identity import views
from kilonova.identity.records import ASKED_WRONG, Row, expecting, get, hold, insert, row_of, select, split, update
from kilonova.identity.tables import ENDPOINT_GROUPS, ENDPOINTS, PROJECT_ENDPOINT_GROUPS, PROJECT_ENDPOINTS, PROJECTS
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call

FILTERS = ("service_id", "region_id", "interface")


def view(call: Call, row: Row) -> Row:
    body = {key: row[key] for key in ("id", "name", "description", "filters")}
    return {**row["extra"], **body, "links": {"self": views.url(call, f"OS-EP-FILTER/endpoint_groups/{row['id']}")}}


def _check(filters: Row) -> None:
    if set(filters) - set(FILTERS):
        raise expecting(" or ".join(FILTERS), "endpoint_group")


def index(call: Call) -> Row:
    return views.collection(call, "endpoint_groups", select(call, ENDPOINT_GROUPS, ("name",)), view)


def fetch(call: Call) -> Row:
    return get(call.tx, ENDPOINT_GROUPS, "Endpoint Group", call.params["group_id"])


def show(call: Call) -> Row:
    return {"endpoint_group": view(call, fetch(call))}


def create(call: Call) -> Row:
    asked = call.body["endpoint_group"]
    if not asked["filters"]:
        raise BadRequest(f"filters field is required and cannot be empty. {ASKED_WRONG}")
    _check(asked["filters"])
    known, extra = split(ENDPOINT_GROUPS, asked, ("id",))
    row = {"description": None, **known, "id": new_hex_id(), "extra": extra}
    insert(call.tx, ENDPOINT_GROUPS, "endpoint_group", row)
    return {"endpoint_group": view(call, row)}


def change(call: Call) -> Row:
    row, asked = fetch(call), call.body["endpoint_group"]
    _check(asked.get("filters") or {})
    known, extra = split(ENDPOINT_GROUPS, asked, ("id",))
    new = update(call.tx, ENDPOINT_GROUPS, "endpoint_group", row["id"], {**known, "extra": extra})
    return {"endpoint_group": view(call, new)}


def delete(call: Call) -> None:
    key = fetch(call)["id"]
    call.tx.execute(sa.delete(PROJECT_ENDPOINT_GROUPS).where(PROJECT_ENDPOINT_GROUPS.c.endpoint_group_id == key))
    call.tx.execute(sa.delete(ENDPOINT_GROUPS).where(ENDPOINT_GROUPS.c.id == key))


# --- which endpoints, which projects --------------------------------------------------------------------------------


def members(tx: Tx, group: Row) -> list[Row]:
    """The endpoints that fit all filters of the group."""
    fits = [ENDPOINTS.c[key] == value for key, value in group["filters"].items() if key in FILTERS]
    return [row_of(row) for row in tx.all(sa.select(ENDPOINTS).where(*fits).order_by(ENDPOINTS.c.id))]


def groups_of(tx: Tx, project_id: str) -> list[Row]:
    a = PROJECT_ENDPOINT_GROUPS.c
    chosen = sa.select(a.endpoint_group_id).where(a.project_id == project_id)
    rows = tx.all(sa.select(ENDPOINT_GROUPS).where(ENDPOINT_GROUPS.c.id.in_(chosen)).order_by(ENDPOINT_GROUPS.c.id))
    return [row_of(row) for row in rows]


def endpoints_of(tx: Tx, project_id: str) -> list[Row] | None:
    """The project's endpoints, its own and those of its groups; None when it has no filter at all."""
    a = PROJECT_ENDPOINTS.c
    own = sa.select(a.endpoint_id).where(a.project_id == project_id)
    found = [row_of(row) for row in tx.all(sa.select(ENDPOINTS).where(ENDPOINTS.c.id.in_(own)))]
    groups = groups_of(tx, project_id)
    if not found and not groups:
        return None
    for group in groups:
        found += members(tx, group)
    return sorted({row["id"]: row for row in found}.values(), key=lambda row: str(row["id"]))


def list_members(call: Call) -> Row:
    return views.collection(call, "endpoints", members(call.tx, fetch(call)), views.endpoint)


def list_of_project(call: Call) -> Row:
    project = get(call.tx, PROJECTS, "project", call.params["project_id"])
    return views.collection(call, "endpoints", endpoints_of(call.tx, project["id"]) or [], views.endpoint)


def list_groups_of_project(call: Call) -> Row:
    project = get(call.tx, PROJECTS, "project", call.params["project_id"])
    return views.collection(call, "endpoint_groups", groups_of(call.tx, project["id"]), view)


def _projects(call: Call, chosen: Any) -> Row:
    rows = call.tx.all(sa.select(PROJECTS).where(PROJECTS.c.id.in_(chosen)).order_by(PROJECTS.c.id))
    return views.collection(call, "projects", [row_of(row) for row in rows], views.project)


def list_projects(call: Call) -> Row:
    a = PROJECT_ENDPOINT_GROUPS.c
    return _projects(call, sa.select(a.project_id).where(a.endpoint_group_id == fetch(call)["id"]))


def list_projects_of_endpoint(call: Call) -> Row:
    endpoint, a = get(call.tx, ENDPOINTS, "endpoint", call.params["endpoint_id"]), PROJECT_ENDPOINTS.c
    return _projects(call, sa.select(a.project_id).where(a.endpoint_id == endpoint["id"]))


# --- associations ---------------------------------------------------------------------------------------------------


HELD = {"project_id": (PROJECTS, "project"), "endpoint_id": (ENDPOINTS, "endpoint"),
        "endpoint_group_id": (ENDPOINT_GROUPS, "endpoint group")}  # fmt: skip


def _pair(call: Call) -> tuple[sa.Table, Row, bool]:
    """The table of the path's association, its columns, and whether there is one."""
    project = get(call.tx, PROJECTS, "project", call.params["project_id"])["id"]
    if "endpoint_id" in call.params:
        endpoint = get(call.tx, ENDPOINTS, "endpoint", call.params["endpoint_id"])["id"]
        table, values = PROJECT_ENDPOINTS, {"project_id": project, "endpoint_id": endpoint}
    else:
        table, values = PROJECT_ENDPOINT_GROUPS, {"project_id": project, "endpoint_group_id": fetch(call)["id"]}
    found = call.tx.first(sa.select(table).where(*(table.c[key] == value for key, value in values.items())))
    return table, values, found is not None


def _missing(values: Row) -> NotFound:
    other = values.get("endpoint_id") or values["endpoint_group_id"]
    kind = "Endpoint" if "endpoint_id" in values else "Endpoint Group"
    return NotFound(f"{kind} {other} not found in project {values['project_id']}.")


def check(call: Call) -> Any:
    _, values, there = _pair(call)
    if not there:
        raise _missing(values)
    if "endpoint_id" in values:
        return None
    path = f"OS-EP-FILTER/endpoint_groups/{values['endpoint_group_id']}/projects/{values['project_id']}"
    return {"project_endpoint_group": {**values, "links": {"self": views.url(call, path)}}}


def add(call: Call) -> None:
    table, values, there = _pair(call)
    for name, key in values.items():
        hold(call.tx, *HELD[name], key)
    if there or not insert_new(call.tx.connection, table, values):
        raise Conflict("Conflict occurred attempting to store project_endpoint - Duplicate Entry.")


def remove(call: Call) -> None:
    table, values, there = _pair(call)
    if not there:
        raise _missing(values)
    call.tx.execute(sa.delete(table).where(*(table.c[key] == value for key, value in values.items())))


def forget(tx: Tx, **ids: list[str]) -> None:
    """Associations of what is being deleted: `project_id=`, `endpoint_id=`."""
    for table in (PROJECT_ENDPOINTS, PROJECT_ENDPOINT_GROUPS):
        for column, keys in ids.items():
            if column in table.c:
                tx.execute(sa.delete(table).where(table.c[column].in_(keys)))
