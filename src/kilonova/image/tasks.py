"""Tasks: the rows that tell of imports, while they run and for two days after (Glance: task_time_to_live)."""

import datetime
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.image.paging import behind, collection, one_key, page_size
from kilonova.image.tables import TASKS
from kilonova.model.errors import BadRequest, NotFound
from kilonova.model.ids import iso, new_id, now
from kilonova.web.call import Call, Context
from kilonova.web.validate import is_uuid

Row = sa.RowMapping
LIFE = datetime.timedelta(hours=48)
STATUSES = ("pending", "processing", "success", "failure")
UNDER_WAY = ("pending", "processing")
SORT_KEYS = ("id", "type", "status", "owner", "created_at", "updated_at", "expires_at")


def create(tx: Tx, context: Context, kind: str, image_id: str, asked: dict[str, Any]) -> str:
    """A pending task of the caller's; its id. Those that have had their time go."""
    when, id = now(), new_id()
    tx.execute(TASKS.delete().where(TASKS.c.expires_at < when))
    tx.execute(
        TASKS.insert().values(
            id=id, type=kind, status="pending", owner=context.project_id, input=asked, message="", image_id=image_id,
            request_id=context.request_id, user_id=context.user_id, created_at=when, updated_at=when,
        )
    )  # fmt: skip
    return id


def begin(tx: Tx, id: str) -> None:
    tx.execute(TASKS.update().where(TASKS.c.id == id).values(status="processing", updated_at=now()))


def end(tx: Tx, id: str, status: str, message: str, result: dict[str, Any] | None = None) -> None:
    """`status`: success or failure, for good."""
    when = now()
    tx.execute(
        TASKS.update()
        .where(TASKS.c.id == id, TASKS.c.status.in_(UNDER_WAY))
        .values(status=status, message=message, result=result, updated_at=when, expires_at=when + LIFE)
    )


def interrupted(tx: Tx) -> list[Row]:
    """At start: what ran when the service ended runs no more. The tasks, as they were."""
    found = tx.all(sa.select(TASKS).where(TASKS.c.status.in_(UNDER_WAY)))
    for task in found:
        end(tx, task["id"], "failure", "The service was restarted while the data came in: ask for the import again.")
    return found


def targets(task: Row) -> list[str]:
    """The stores that the data go to; none named: the default one."""
    return list(task["input"].get("backend") or ())


def all_must_succeed(task: Row) -> bool:
    """Whether the data are to come to every store that they go to, or to none."""
    return bool(task["input"].get("import_req", {}).get("all_stores_must_succeed", True))


def under_way(tx: Tx, image_id: str) -> bool:
    query = sa.select(TASKS.c.id).where(TASKS.c.image_id == image_id, TASKS.c.status.in_(UNDER_WAY))
    return tx.first(query) is not None


def of_image(tx: Tx, context: Context, image_id: str) -> list[Row]:
    """The caller's own (Glance: _is_task_visible): they say where data came from, and whose hand it was."""
    query = sa.select(TASKS).where(TASKS.c.image_id == image_id).order_by(TASKS.c.created_at, TASKS.c.id)
    return tx.all(query if context.is_admin else query.where(TASKS.c.owner == context.project_id))


def get(tx: Tx, id: str) -> Row:
    row = tx.first(sa.select(TASKS).where(TASKS.c.id == id))
    if row is None:
        raise NotFound(f"No task found with ID {id}")
    return row


def _brief(row: Row) -> dict[str, Any]:
    body = {name: row[name] for name in ("id", "type", "status", "owner")}
    body |= {"created_at": iso(row["created_at"]), "updated_at": iso(row["updated_at"])}
    body |= {"self": f"/v2/tasks/{row['id']}", "schema": "/v2/schemas/task"}
    if row["expires_at"]:
        body["expires_at"] = iso(row["expires_at"])
    return body


def view(row: Row) -> dict[str, Any]:
    known = {name: row[name] for name in ("image_id", "request_id", "user_id") if row[name]}
    return {**_brief(row), **known, **{name: row[name] for name in ("input", "message", "result")}}


# The API of its own, for administrators


def show(call: Call) -> dict[str, Any]:
    return view(get(call.tx, call.params["task_id"]))


def index(call: Call) -> dict[str, Any]:
    """GET /v2/tasks: newest first."""
    limit, order, query = page_size(call), [one_key(call, SORT_KEYS)], sa.select(TASKS)
    for name, known in (("status", STATUSES), ("type", ("import", "api_image_import")), ("owner", None)):
        value = call.arg(name)
        if value and known and value not in known:
            raise BadRequest(f"Invalid {name} value: {value}")
        if value:
            query = query.where(TASKS.c[name] == value)
    last = None
    if marker := call.arg("marker"):
        if not is_uuid(marker):
            raise BadRequest("Invalid marker format")
        last = call.tx.first(query.where(TASKS.c.id == marker))
        if last is None:
            raise BadRequest(f"No task found with ID {marker}")
    rows = behind(call.tx, query, TASKS, order, last, limit)
    return collection(call, "tasks", [_brief(row) for row in rows], 0 < limit <= len(rows))
