"""GET /os-migrations and /servers/{id}/migrations (2.23)."""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import servers
from kilonova.compute.listing import changed_between
from kilonova.compute.tables import MIGRATIONS
from kilonova.model.errors import BadRequest, Forbidden, NotFound
from kilonova.web import paging
from kilonova.web.call import Call

HOSTS = ("source_compute", "source_node", "dest_compute", "dest_node", "dest_host")
FILTERS = {"status": "status", "migration_type": "migration_type", "source_compute": "source_host",
           "instance_uuid": "server_id"}  # fmt: skip


def index(call: Call) -> dict[str, Any]:
    """Administrators see all; a project's managers their project's, if they say so, without its hosts."""
    own = call.arg("project_id") == call.context.project_id != ""
    if not call.context.is_admin and not (own and call.since(80)):
        raise Forbidden("Policy doesn't allow os_compute_api:os-migrations:index:all_projects to be performed.")
    rows = call.tx.all(_query(call))
    if not call.since(59):
        return {"migrations": [_migration(call, row) for row in rows]}
    marker = call.arg("marker")
    if marker is not None:
        place = next((place for place, row in enumerate(rows) if row["uuid"] == marker), None)
        if place is None:
            raise BadRequest(f"Marker {marker} could not be found.")
        rows = rows[place + 1 :]
    size = paging.limit(call)
    page = rows[:size]
    body: dict[str, Any] = {"migrations": [_migration(call, row) for row in page]}
    url = f"{call.api_url}/os-migrations"
    if page and (links := paging.next_link(call, page, size, url, page[-1]["uuid"])):
        body["migrations_links"] = links
    return body


def of_server(call: Call) -> dict[str, Any]:
    """Live migrations that are under way: servers of this cloud stay on their host."""
    servers.get(call.tx, call.context, call.params["server_id"])
    return {"migrations": []}


def one_of_server(call: Call) -> dict[str, Any]:
    id, number = call.params["server_id"], call.params["id"]
    servers.get(call.tx, call.context, id)
    found = call.tx.first(
        sa.select(MIGRATIONS.c.number).where(
            MIGRATIONS.c.server_id == id, sa.cast(MIGRATIONS.c.number, sa.String) == number
        )
    )
    if found is None:
        raise NotFound(f"Migration {number} not found for instance {id}")
    raise NotFound(f"Migration {number} for server {id} is not live-migration.")


def _query(call: Call) -> sa.Select[Any]:
    table = MIGRATIONS.c
    query = sa.select(MIGRATIONS)
    for name, column in FILTERS.items():
        if (value := call.arg(name)) is not None:
            query = query.where(table[column] == value)
    if (host := call.arg("host")) is not None:
        query = query.where((table.source_host == host) | (table.dest_host == host))
    for name in ("user_id", "project_id"):
        if call.since(80) and (value := call.arg(name)) is not None:
            query = query.where(table[name] == value)
    if not call.since(59):
        return query.order_by(table.number)
    asked = call.arg("changes-before") if call.since(66) else None
    since, before = changed_between(call.arg("changes-since"), asked)
    if since:
        query = query.where(table.updated_at >= since)
    if before:
        query = query.where(table.updated_at <= before)
    return query.order_by(table.created_at.desc(), table.number.desc())


def _migration(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    body = {
        "id": row["number"],
        "instance_uuid": row["server_id"],
        "status": row["status"],
        "source_compute": row["source_host"],
        "source_node": row["source_host"],
        "dest_compute": row["dest_host"],
        "dest_node": row["dest_host"],
        "dest_host": None,
        "old_instance_type_id": _number(row["old_flavor"]),
        "new_instance_type_id": _number(row["new_flavor"]),
        "created_at": row["created_at"].strftime("%Y-%m-%dT%H:%M:%S.%f"),
        "updated_at": row["updated_at"].strftime("%Y-%m-%dT%H:%M:%S.%f"),
    }
    if not call.context.is_admin:
        body |= dict.fromkeys(HOSTS)
    if call.since(23):
        body["migration_type"] = row["migration_type"]
    if call.since(59):
        body["uuid"] = row["uuid"]
    if call.since(80):
        body |= {"user_id": row["user_id"], "project_id": row["project_id"]}
    return body


def _number(flavor: dict[str, Any]) -> int | None:
    """Nova's own number of a flavor, which it keeps beside the id; ours have the id alone."""
    return int(flavor["id"]) if str(flavor["id"]).isdecimal() and len(str(flavor["id"])) < 10 else None
