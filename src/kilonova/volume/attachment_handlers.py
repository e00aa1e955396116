"""Attachments (3.27) and transfers over HTTP."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest
from kilonova.volume import attachments, states, transfers, views
from kilonova.volume.listing import Listed, page
from kilonova.volume.requests import boolean, text
from kilonova.volume.tables import ATTACHMENTS, TRANSFERS, VOLUMES
from kilonova.web.call import Call, Reply

COLUMNS = {"instance_id": "server_id", "attach_status": "status", "instance_uuid": "server_id"}
# An attachment has no project of its own: the list is of those whose volumes the caller has.
JOINED = sa.select(ATTACHMENTS, VOLUMES.c.project_id, ATTACHMENTS.c.attached_at.label("updated_at")).join(
    VOLUMES, ATTACHMENTS.c.volume_id == VOLUMES.c.id
).subquery()  # fmt: skip
LISTED = Listed("attachment", JOINED, "attachments", COLUMNS, {})


def index(call: Call) -> dict[str, Any]:
    return _listed(call, views.attachment_summary)


def detail(call: Call) -> dict[str, Any]:
    return _listed(call, views.attachment)


def _listed(call: Call, view: Any) -> dict[str, Any]:
    found = page(call, LISTED)
    return {"attachments": [view(row) for row in found.rows]}


def show(call: Call) -> dict[str, Any]:
    return {"attachment": views.attachment(attachments.get(call.tx, call.context, call.params["id"]))}


def create(call: Call) -> dict[str, Any]:
    """Reserved; with a connector, connected at once."""
    asked = call.body["attachment"]
    mode = asked.get("mode") if call.since(54) else None

    def reserve(tx: Tx) -> sa.RowMapping:
        return attachments.reserve(tx, call.context, asked["volume_uuid"], asked.get("instance_uuid"), mode)

    row = call.database.write(reserve)
    if asked.get("connector"):
        try:
            row = _connect(call, row["id"], asked["connector"])
        except Exception:
            call.database.write(lambda tx: attachments.delete(tx, call.context, row["id"]) and None)
            raise
    return {"attachment": views.attachment(row)}


def _connect(call: Call, id: str, connector: dict[str, Any]) -> sa.RowMapping:
    """What the backend says of the connection is asked between two transactions."""

    def look(tx: Tx) -> sa.RowMapping:
        row = attachments.get(tx, call.context, id)
        volume = states.get_row(tx, "volume", row["volume_id"])
        attachments.check_connectable(tx, volume, row)
        return volume

    volume = call.database.read(look)
    if not volume["host"]:
        raise BadRequest(f"Invalid volume: Volume {volume['id']} has not been scheduled to any host.")
    found = call.services.storage.connect_volume(volume["host"], volume["stored_as"], volume["backend"])
    done = not call.since(44)
    return call.database.write(lambda tx: attachments.connect(tx, call.context, id, connector, found, done=done))


def update(call: Call) -> dict[str, Any]:
    row = _connect(call, call.params["id"], call.body["attachment"]["connector"])
    return {"attachment": views.attachment(row)}


def delete(call: Call) -> dict[str, Any]:
    row = attachments.get(call.tx, call.context, call.params["id"])
    attachments.check_not_a_servers(call.tx, [row["id"]], call.services.storage)
    left = attachments.delete(call.tx, call.context, row["id"])
    return {"attachments": [views.attachment_summary(row) for row in left]}


def action(call: Call) -> Reply:
    if not isinstance(call.body, dict) or set(call.body) != {"os-complete"}:
        raise BadRequest("There is no such action for an attachment but os-complete.")
    attachments.complete(call.tx, call.context, call.params["id"])
    return Reply(status=204)


# Transfers, by either of their two addresses (os-volume-transfer; volume-transfers since 3.55)


def transfer_index(call: Call) -> dict[str, Any]:
    return {"transfers": [views.transfer_summary(call, row) for row in _transfers(call)]}


def transfer_detail(call: Call) -> dict[str, Any]:
    return {"transfers": [views.transfer(call, row) for row in _transfers(call)]}


def _transfers(call: Call) -> list[sa.RowMapping]:
    query = sa.select(TRANSFERS).order_by(TRANSFERS.c.created_at, TRANSFERS.c.id)
    if not (call.context.is_admin and boolean(call.arg("all_tenants") or "false", "all_tenants")):
        query = query.where(TRANSFERS.c.source_project_id == call.context.project_id)
    return call.tx.all(query)


def transfer_show(call: Call) -> dict[str, Any]:
    return {"transfer": views.transfer(call, transfers.get(call.tx, call.context, call.params["id"]))}


def transfer_create(call: Call) -> dict[str, Any]:
    asked = call.body["transfer"]
    without = boolean(asked.get("no_snapshots", False), "no_snapshots") if call.since(55) else False
    name = text(asked.get("name"))
    row, key = transfers.create(call.tx, call.context, asked["volume_id"], name, no_snapshots=without)
    return {"transfer": views.transfer(call, row) | {"auth_key": key}}


def transfer_accept(call: Call) -> dict[str, Any]:
    row = transfers.accept(call.tx, call.context, call.params["id"], call.body["accept"]["auth_key"])
    return {"transfer": views.transfer_summary(call, row)}


def transfer_delete(call: Call) -> None:
    transfers.delete(call.tx, call.context, call.params["id"])
