"""Snapshots over HTTP."""

from typing import Any

import sqlalchemy as sa

from kilonova.model.errors import BadRequest
from kilonova.volume import snapshots, states, views
from kilonova.volume.listing import Listed, page
from kilonova.volume.requests import bad_input, boolean, missing, text
from kilonova.volume.tables import SNAPSHOTS
from kilonova.web.call import Call, Reply

COLUMNS = {"display_name": "name", "display_description": "description", "volume_size": "size"}
SINCE = {"metadata": 22, "consumes_quota": 65}
LISTED = Listed("snapshot", SNAPSHOTS, "snapshots", COLUMNS, SINCE)
DETAILED = Listed("snapshot", SNAPSHOTS, "snapshots/detail", COLUMNS, SINCE)
RESET = ("available", "creating", "deleting", "error", "error_deleting")
PROGRESS = {"creating": ("creating", "available", "error"), "deleting": ("deleting", "error", "error_deleting")}


def index(call: Call) -> dict[str, Any]:
    return _listed(call, LISTED, detail=False)


def detail(call: Call) -> dict[str, Any]:
    return _listed(call, DETAILED, detail=True)


def _listed(call: Call, listed: Listed, *, detail: bool) -> dict[str, Any]:
    found = page(call, listed)
    body: dict[str, Any] = {"snapshots": [views.snapshot(call, row, detail=detail) for row in found.rows]}
    if found.links:
        body["snapshots_links"] = found.links
    if found.count is not None:
        body["count"] = found.count
    return body


def create(call: Call) -> dict[str, Any]:
    asked = call.body["snapshot"]
    if not asked.get("volume_id"):
        raise missing("Volume", str(asked.get("volume_id")))
    force = boolean(asked["force"], "force") if asked.get("force") is not None else False
    if call.since(66):
        if "force" in asked and not force:
            raise bad_input("Since microversion 3.66 snapshots of in-use volumes are made unasked: force is not false.")
        force = True
    values = {
        "name": text(asked.get("name") or asked.get("display_name")),
        "description": text(asked.get("description") or asked.get("display_description")),
        "metadata": asked.get("metadata") or {},
    }
    row = snapshots.create(call.tx, call.context, asked["volume_id"], values, call.services.storage, in_use=force)
    return {"snapshot": views.snapshot(call, row, detail=call.since(14))}


def show(call: Call) -> dict[str, Any]:
    return {"snapshot": views.snapshot(call, _get(call), detail=True)}


def _get(call: Call) -> sa.RowMapping:
    return snapshots.get(call.tx, call.context, call.params["id"])


def update(call: Call) -> dict[str, Any]:
    asked, values = call.body["snapshot"], {}
    for name, old in (("name", "display_name"), ("description", "display_description")):
        for key in (old, name):
            if key in asked:
                values[name] = text(asked[key])
    if not values:
        raise bad_input("Must specify 'name' or 'description' for update.")
    row = snapshots.update(call.tx, call.context, call.params["id"], values)
    return {"snapshot": views.snapshot(call, row)}


def delete(call: Call) -> None:
    snapshots.delete(call.tx, call.context, call.params["id"], call.services.storage)


def action(call: Call) -> Reply:
    if not isinstance(call.body, dict) or len(call.body) != 1:
        raise BadRequest("There is one action to a request.")
    name, argument = next(iter(call.body.items()))
    if name not in ACTIONS:
        raise BadRequest(f"There is no such action: {name}")
    act = ACTIONS[name]
    row = _get(call)
    act(call, row, argument)
    return Reply(status=202)


def _reset_status(call: Call, row: sa.RowMapping, argument: Any) -> None:
    status = argument.get("status") if isinstance(argument, dict) else None
    if not isinstance(status, str) or status.lower() not in RESET:
        raise bad_input(f"The status of a snapshot is one of {', '.join(RESET)}, not {status}.")
    states.update(call.tx, "snapshot", row["id"], status=status.lower())


def _force_delete(call: Call, row: sa.RowMapping, argument: Any) -> None:
    snapshots.delete(call.tx, call.context, row["id"], call.services.storage, force=True)


def _update_status(call: Call, row: sa.RowMapping, argument: Any) -> None:
    """What a driver on the compute host reports (os-update_snapshot_status)."""
    status = argument.get("status") if isinstance(argument, dict) else None
    if row["status"] not in PROGRESS:
        raise BadRequest(f"Snapshot status {row['status']} not allowed for update_snapshot_status")
    if status not in PROGRESS[row["status"]]:
        raise BadRequest(f"Provided snapshot status {status} not allowed for snapshot with status {row['status']}.")
    values = {"status": status}
    progress = argument.get("progress")
    if progress is not None:
        if not (isinstance(progress, str) and progress.removesuffix("%").isdecimal() and len(progress) < 5
                and progress.endswith("%") and int(progress[:-1]) <= 100):  # fmt: skip
            raise BadRequest(f"The progress of a snapshot is like 45%, not {progress}.")
        values["progress"] = progress
    states.update(call.tx, "snapshot", row["id"], **values)


def _unmanage(call: Call, row: sa.RowMapping, argument: Any) -> None:
    """Cinder forgets it; its bytes stay in the backend."""
    if row["group_snapshot_id"] or row["status"] not in ("available", "error"):
        raise BadRequest(
            "Invalid snapshot: Snapshot status must be available or error and must not be part of a group."
        )
    states.remove(call.tx, "snapshot", row["id"])


ACTIONS = {
    "os-reset_status": _reset_status,
    "os-force_delete": _force_delete,
    "os-update_snapshot_status": _update_status,
    "os-unmanage": _unmanage,
}
