"""Volumes and snapshots in Nova's old words, until 2.35; and the snapshots that Cinder's file drivers ask Nova for.

Nova: `nova/api/openstack/compute/{volumes,snapshots,assisted_volume_snapshots}.py`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from kilonova.compute import block_devices, servers, states
from kilonova.compute import schemas as s
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, Forbidden
from kilonova.volume import snapshots, volumes
from kilonova.volume.requests import OverLimit, stamp
from kilonova.volume.tables import ATTACHMENTS, SNAPSHOTS, TYPES, VOLUMES
from kilonova.web import nesting, paging
from kilonova.web.call import Call, Reply
from kilonova.web.validate import TRUE, is_uuid, whole

Result = TypeVar("Result")
TEXT = {"type": "string"}
LABEL = {"type": "string", "maxLength": 255}  # Nova leaves the length to Cinder, which answers 400, too
CREATE_VOLUME = s.closed(
    {
        "volume": s.closed(
            {
                "volume_type": TEXT, "metadata": {"type": "object"}, "snapshot_id": TEXT, "size": s.POSITIVE,
                "availability_zone": LABEL, "display_name": LABEL, "display_description": LABEL,
            },
            ("size",),
        )
    },
    ("volume",),
)  # fmt: skip
CREATE_SNAPSHOT = s.closed(
    {
        "snapshot": s.closed(
            {"volume_id": TEXT, "force": s.BOOLEAN, "display_name": LABEL, "display_description": LABEL}, ("volume_id",)
        )
    },
    ("snapshot",),
)
WORD = {"type": "string", "minLength": 1}
CREATE_INFO = s.closed(
    {"snapshot_id": WORD, "type": {"type": "string", "enum": ["qcow2"]}, "new_file": WORD, "id": WORD},
    ("snapshot_id", "type", "new_file"),
)
ASSISTED = s.closed(
    {"snapshot": s.closed({"volume_id": WORD, "create_info": CREATE_INFO}, ("volume_id", "create_info"))},
    ("snapshot",),
)


def _as_nova(do: Callable[[], Result]) -> Result:
    """Cinder's quotas end in a 413, Nova's in a 403; what Cinder finds in conflict is a bad request of Nova."""
    try:
        return do()
    except OverLimit as error:
        raise Forbidden(error.message) from error
    except Conflict as error:
        raise BadRequest(error.message) from error


def _page(call: Call, table: sa.Table) -> list[sa.RowMapping]:
    """The project's own, newest first; `offset` and `limit` (Nova: common.limited)."""
    offset = whole(call.arg("offset", "0") or "")
    if offset is None:
        raise BadRequest("Invalid input for query parameters offset. It is not a non-negative integer.")
    own = sa.select(table).where(table.c.project_id == call.context.project_id)
    rows = call.tx.all(own.order_by(table.c.created_at.desc(), table.c.id.desc()))
    return rows[offset:][: paging.limit(call)]


# --- volumes -----------------------------------------------------------------------------------------------------------


def list_volumes(call: Call) -> dict[str, Any]:
    return {"volumes": _volumes(call.tx, _page(call, VOLUMES))}


def show_volume(call: Call) -> dict[str, Any]:
    return {"volume": _volumes(call.tx, [volumes.get(call.tx, call.context, call.params["id"])])[0]}


def create_volume(call: Call) -> Reply:
    asked = call.body["volume"]
    wanted = volumes.Wanted(
        size=int(asked["size"]),
        name=asked.get("display_name"),
        description=asked.get("display_description"),
        volume_type=asked.get("volume_type") or None,
        availability_zone=asked.get("availability_zone") or None,
        metadata=_metadata(asked.get("metadata") or {}),
        snapshot_id=asked.get("snapshot_id") or None,
    )
    row = _as_nova(lambda: volumes.create(call.tx, call.context, wanted, call.services.storage))
    body = _volumes(call.tx, [row])[0]
    return Reply({"volume": body}, headers={"Location": f"{call.api_url}/os-volumes/{row['id']}"})


def _metadata(asked: dict[str, Any]) -> dict[str, str]:
    """Cinder's rule: keys and values are text of at most 255 characters."""
    for name, value in asked.items():
        if not (isinstance(value, str) and len(value) <= 255 and 0 < len(name) <= 255):
            raise BadRequest(f"Invalid input for field/attribute metadata. Value: {name[:80]}.")
    return asked


def delete_volume(call: Call) -> None:
    flows = call.services.storage
    _as_nova(lambda: volumes.delete(call.tx, call.context, call.params["id"], flows, cascade=False, force=False))


def _volumes(tx: Tx, rows: list[sa.RowMapping]) -> list[dict[str, Any]]:
    ids = [row["id"] for row in rows]
    types = dict(tx.execute(sa.select(TYPES.c.id, TYPES.c.name)).tuples().all())
    attached: dict[str, sa.RowMapping] = {}  # one of each: there was no multi-attach then
    where = (ATTACHMENTS.c.volume_id.in_(ids), ATTACHMENTS.c.status == "attached", ATTACHMENTS.c.server_id.is_not(None))
    for row in tx.all(sa.select(ATTACHMENTS).where(*where).order_by(ATTACHMENTS.c.created_at)) if ids else ():
        attached.setdefault(row["volume_id"], row)
    return [_volume(tx, row, types.get(row["type_id"]), attached.get(row["id"])) for row in rows]


def _volume(tx: Tx, row: sa.RowMapping, type_name: str | None, attachment: sa.RowMapping | None) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if attachment is not None:
        shown = {"id": row["id"], "volumeId": row["id"], "serverId": attachment["server_id"]}
        device = block_devices.find(tx, attachment["server_id"], row["id"])
        shown |= {"device": device["device"]} if device is not None and device["device"] else {}
    return {
        "id": row["id"],
        "status": row["status"],
        "size": row["size"],
        "availabilityZone": row["availability_zone"],
        "createdAt": stamp(row["created_at"]),
        "attachments": [shown],
        "displayName": row["name"],
        "displayDescription": row["description"],
        "volumeType": type_name,
        "snapshotId": row["snapshot_id"],
        "metadata": row["metadata"],
    }


# --- snapshots ---------------------------------------------------------------------------------------------------------


def list_snapshots(call: Call) -> dict[str, Any]:
    return {"snapshots": [_snapshot(row) for row in _page(call, SNAPSHOTS)]}


def show_snapshot(call: Call) -> dict[str, Any]:
    return {"snapshot": _snapshot(snapshots.get(call.tx, call.context, call.params["id"]))}


def create_snapshot(call: Call) -> dict[str, Any]:
    asked = call.body["snapshot"]
    values = {"name": asked.get("display_name"), "description": asked.get("display_description"), "metadata": {}}
    in_use = str(asked.get("force", False)).lower() in TRUE
    row = _as_nova(
        lambda: snapshots.create(
            call.tx, call.context, asked["volume_id"], values, call.services.storage, in_use=in_use
        )
    )
    return {"snapshot": _snapshot(row)}


def delete_snapshot(call: Call) -> None:
    _as_nova(lambda: snapshots.delete(call.tx, call.context, call.params["id"], call.services.storage))


def _snapshot(row: sa.RowMapping) -> dict[str, Any]:
    return {
        "id": row["id"],
        "volumeId": row["volume_id"],
        "status": row["status"],
        "size": row["size"],
        "createdAt": stamp(row["created_at"]),
        "displayName": row["name"],
        "displayDescription": row["description"],
    }


# --- assisted snapshots ------------------------------------------------------------------------------------------------

NEEDLESS = "The volume service makes this volume's snapshots by itself: there was nothing for the server's host to do."


def create_assisted(call: Call) -> dict[str, Any]:
    """Answered once it is asked for, and then the host finds no file that Cinder shares with it (Nova: the same)."""
    asked = call.body["snapshot"]
    _note(call, asked["volume_id"], "volume_snapshot_create")
    given = asked["create_info"].get("id")
    return {"snapshot": {"id": given if given is None or is_uuid(given) else None, "volumeId": asked["volume_id"]}}


def delete_assisted(call: Call) -> None:
    try:
        info = nesting.loads(call.arg("delete_info") or "")
        volume_id = info["volume_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"delete_info is not JSON with a volume_id: {error}") from error
    if not isinstance(volume_id, str):
        raise BadRequest("delete_info: volume_id is not text.")
    _note(call, volume_id, "volume_snapshot_delete")


def _note(call: Call, volume_id: str, action: str) -> None:
    """BadRequest, as in Nova, for a volume of no server, of several, and of one that cannot act now."""
    rows = block_devices.of_volume(call.tx, volume_id)
    if not rows:
        raise BadRequest(f"No volume Block Device Mapping with id {volume_id[:80]}.")
    if len(rows) > 1:
        raise BadRequest(f"Block Device Mapping {volume_id} is a multi-attach volume and is not valid for this operation.")
    server = states.get_row(call.tx, rows[0]["server_id"])  # of whichever project: it is a service that asks
    if not server["host"]:
        raise BadRequest(f"Instance {server['id']} is not ready")
    if server["task_state"] is not None:
        raise BadRequest(servers.cannot(server, action, "task_state").message)
    call.services.flows.note(call.tx, action, server["id"], call.context, NEEDLESS)
