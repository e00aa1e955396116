"""What users are told of what went wrong behind their requests (Cinder: cinder/message)."""

import datetime
from typing import Any, Protocol

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.ids import new_id, now
from kilonova.volume.listing import Listed, page
from kilonova.volume.requests import links, missing, stamp
from kilonova.volume.tables import MESSAGES
from kilonova.web.call import Call

LIFE = datetime.timedelta(days=30)  # Cinder: message_ttl

ACTIONS = {
    "001": "schedule allocate volume", "002": "attach volume", "003": "copy volume to image", "004": "update attachment",
    "005": "copy image to volume", "007": "extend volume", "008": "create volume from backend storage",
    "009": "create snapshot", "010": "delete snapshot", "013": "create backup", "014": "delete backup",
    "015": "restore backup", "016": "reimage volume",
}  # fmt: skip
DETAILS = {
    "001": "An unknown error occurred.",
    "003": "Could not find any available weighted backend.",
    "004": "Failed to upload volume to image at backend.",
    "010": "Volume Driver failed to extend volume.",
    "012": "Driver failed to create the volume.",
    "013": "Snapshot failed to create.",
    "020": "Backup driver failed to create backup.",
    "026": "Backup driver failed to restore backup.",
    "028": "Compute service failed to reimage volume.",
}

LISTED = Listed("message", MESSAGES, "messages", {"event_id": "event_id", "guaranteed_until": "expires_at"}, {})


class Work(Protocol):
    """What went wrong: a flow, of whose project and request, and what it was about."""

    @property
    def project_id(self) -> str: ...
    @property
    def request_id(self) -> str: ...
    @property
    def subject_id(self) -> str: ...


def add(tx: Tx, work: Work, action: str, detail: str, kind: str) -> None:
    """`action`, `detail`: keys above; `kind`: VOLUME, VOLUME_SNAPSHOT, VOLUME_BACKUP."""
    tx.execute(
        MESSAGES.insert().values(
            id=new_id(), project_id=work.project_id, request_id=work.request_id, resource_type=kind,
            resource_uuid=work.subject_id, action_id=action, detail_id=detail, message_level="ERROR",
            created_at=now(), expires_at=now() + LIFE,
        )
    )  # fmt: skip


def index(call: Call) -> dict[str, Any]:
    found = page(call, LISTED, MESSAGES.c.expires_at > now())
    body: dict[str, Any] = {"messages": [_view(call, row) for row in found.rows]}
    return body | ({"messages_links": found.links} if found.links else {})


def show(call: Call) -> dict[str, Any]:
    return {"message": _view(call, _get(call))}


def delete(call: Call) -> None:
    call.tx.execute(MESSAGES.delete().where(MESSAGES.c.id == _get(call)["id"]))


def _get(call: Call) -> sa.RowMapping:
    row = call.tx.first(sa.select(MESSAGES).where(MESSAGES.c.id == call.params["id"]))
    if row is None or (row["project_id"] != call.context.project_id and not call.context.is_admin):
        raise missing("Message", call.params["id"])
    return row


def _view(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    return {
        "id": row["id"],
        "event_id": f"VOLUME_{row['resource_type']}_{row['action_id']}_{row['detail_id']}",
        "user_message": f"{ACTIONS[row['action_id']]}:{DETAILS[row['detail_id']]}",
        "message_level": row["message_level"],
        "created_at": stamp(row["created_at"]),
        "guaranteed_until": stamp(row["expires_at"]),
        "request_id": row["request_id"],
        "links": links(call, "messages", row["id"]),
        "resource_type": row["resource_type"],
        "resource_uuid": row["resource_uuid"],
    }
