"""Backups over HTTP."""

from typing import Any

import sqlalchemy as sa

from kilonova.model.errors import BadRequest
from kilonova.volume import backups, states, views
from kilonova.volume.listing import Listed, page
from kilonova.volume.requests import bad_input, boolean, text
from kilonova.volume.tables import BACKUPS
from kilonova.web.call import Call, Reply

COLUMNS = {"display_name": "name", "display_description": "description", "tenant_id": "project_id"}
LISTED = Listed("backup", BACKUPS, "backups", COLUMNS, {})
DETAILED = Listed("backup", BACKUPS, "backups/detail", COLUMNS, {})
RESET = ("available", "error")


def index(call: Call) -> dict[str, Any]:
    found = page(call, LISTED)
    return _paged({"backups": [views.backup_summary(call, row) for row in found.rows]}, found)


def detail(call: Call) -> dict[str, Any]:
    found = page(call, DETAILED)
    return _paged({"backups": [_view(call, row) for row in found.rows]}, found)


def _paged(body: dict[str, Any], found: Any) -> dict[str, Any]:
    if found.links:
        body["backups_links"] = found.links
    if found.count is not None:
        body["count"] = found.count
    return body


def _view(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    return views.backup(call, row, has_children=backups.children(call.tx, row["id"]))


def show(call: Call) -> dict[str, Any]:
    return {"backup": _view(call, backups.get(call.tx, call.context, call.params["id"]))}


def create(call: Call) -> dict[str, Any]:
    asked = dict(call.body["backup"])
    for name in ("force", "incremental"):
        asked[name] = boolean(asked[name], name) if asked.get(name) is not None else False
    for name in ("name", "description", "container"):
        asked[name] = text(asked.get(name))
    if not call.since(43):
        asked.pop("metadata", None)
    if not call.since(51):
        asked.pop("availability_zone", None)
    row = backups.create(call.tx, call.context, asked, call.services.storage)
    return {"backup": views.backup_summary(call, row)}


def update(call: Call) -> dict[str, Any]:
    """3.9; metadata since 3.43."""
    asked = call.body["backup"]
    names = ("name", "description", *(("metadata",) if call.since(43) else ()))
    values: dict[str, Any] = {name: text(asked[name]) for name in names if name in asked}
    if not values:
        raise bad_input(f"Must specify one of {', '.join(names)} for update.")
    if "metadata" in values:
        values["metadata"] = values["metadata"] or {}
    row = backups.update(call.tx, call.context, call.params["id"], values)
    return {"backup": views.backup_summary(call, row)}


def delete(call: Call) -> None:
    backups.delete(call.tx, call.context, call.params["id"], call.services.storage)


def restore(call: Call) -> dict[str, Any]:
    asked, id = call.body["restore"], call.params["id"]
    volume = backups.restore(
        call.tx, call.context, id, asked.get("volume_id"), text(asked.get("name")), call.services.storage
    )
    return {"restore": {"backup_id": id, "volume_id": volume["id"], "volume_name": volume["name"]}}


def export_record(call: Call) -> dict[str, Any]:
    return {"backup-record": backups.export(call.tx, call.context, call.params["id"])}


def import_record(call: Call) -> dict[str, Any]:
    asked = call.body["backup-record"]
    row = backups.import_(call.tx, call.context, asked["backup_service"], asked["backup_url"])
    return {"backup": views.backup_summary(call, row)}


def action(call: Call) -> Reply:
    if not isinstance(call.body, dict) or len(call.body) != 1:
        raise BadRequest("There is one action to a request.")
    name, argument = next(iter(call.body.items()))
    row = backups.get(call.tx, call.context, call.params["id"])
    if name not in ("os-reset_status", "os-force_delete"):
        raise BadRequest(f"There is no such action: {name}")
    if name == "os-force_delete":
        backups.delete(call.tx, call.context, row["id"], call.services.storage, force=True)
    else:
        status = argument.get("status") if isinstance(argument, dict) else None
        if status not in RESET:
            raise bad_input(f"The status of a backup is reset to one of {', '.join(RESET)}, not {status}.")
        states.update(call.tx, "backup", row["id"], status=status)
    return Reply(status=202)
