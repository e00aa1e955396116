"""Servers as the API sees them: found, changed, locked, tagged, and asked to go away."""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import quotas, states
from kilonova.compute.flows import Flows
from kilonova.compute.tables import SERVER_TAGS, SERVERS
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound, OverQuota
from kilonova.model.ids import now
from kilonova.web.call import Context
from kilonova.web.policy import check_row

MAX_TAGS = 50


def get(tx: Tx, context: Context, id: str, *, deleted: bool = False) -> sa.RowMapping:
    """NotFound when it is not there, another project's, or deleted (unless `deleted` ones are wanted too)."""
    row = tx.first(sa.select(SERVERS).where(SERVERS.c.id == id))
    hidden = row is not None and not context.is_admin and row["project_id"] != context.project_id
    if row is None or hidden or (row["deleted_at"] and not deleted):
        raise NotFound(f"Instance {id} could not be found.", type="InstanceNotFound")
    check_row(context, "compute", row)
    return row


def check_unlocked(context: Context, server: sa.RowMapping) -> None:
    """Conflict when it is locked; administrators may act on what is locked."""
    if server["locked_by"] and not context.is_admin:
        raise Conflict(f"Instance {server['id']} is locked")


def cannot(server: sa.RowMapping, verb: str, attribute: str = "vm_state") -> Conflict:
    """Nova's refusal of an action in the present state."""
    return Conflict(f"Cannot '{verb}' instance {server['id']} while it is in {attribute} {server[attribute]}")


def update(tx: Tx, context: Context, id: str, fields: dict[str, Any]) -> sa.RowMapping:
    """`fields` are columns."""
    server = get(tx, context, id)
    if fields:
        tx.execute(SERVERS.update().where(SERVERS.c.id == server["id"]).values(updated_at=now(), **fields))
    return get(tx, context, id)


def delete(tx: Tx, context: Context, id: str, flows: Flows, *, verb: str = "delete") -> None:
    """Starts the delete; a second delete of the same server changes nothing."""
    server = get(tx, context, id)
    check_unlocked(context, server)
    if server["task_state"] == "deleting":
        return
    states.mark_deleting(tx, id)
    flows.start(tx, "delete", id, context, {})


def set_guest_password(tx: Tx, id: str, password: str) -> bool:
    """Keep what the guest posted; False, and nothing kept, when there is one already."""
    free = SERVERS.update().where(SERVERS.c.id == id, SERVERS.c.guest_password == "")
    return bool(tx.execute(free.values(guest_password=password)).rowcount)


def lock(tx: Tx, context: Context, id: str, reason: str | None) -> None:
    server = get(tx, context, id)
    owner = context.project_id == server["project_id"] and not context.is_admin
    if owner and server["locked_by"] == "admin":
        raise Conflict(f"Instance {id} is locked")
    update(tx, context, id, {"locked_by": "owner" if owner else "admin", "locked_reason": reason})


def unlock(tx: Tx, context: Context, id: str) -> None:
    server = get(tx, context, id)
    if server["locked_by"] == "admin" and not context.is_admin:
        raise Conflict(f"Instance {id} is locked")
    update(tx, context, id, {"locked_by": None, "locked_reason": None})


def set_metadata(
    tx: Tx, context: Context, id: str, new: dict[str, str], *, replace: bool, verb: str = "update metadata"
) -> dict[str, str]:
    """All of the server's metadata afterwards. OverQuota when there would be too many items."""
    server = get(tx, context, id)
    check_unlocked(context, server)
    if server["vm_state"] not in ("active", "paused", "suspended", "stopped"):
        raise cannot(server, verb)
    merged: dict[str, str] = dict(new) if replace else server["metadata"] | new
    check_metadata_quota(tx, server["project_id"], merged)
    update(tx, context, id, {"metadata": merged})
    return merged


def check_metadata_quota(tx: Tx, project_id: str, metadata: dict[str, str]) -> None:
    allowed = quotas.limits(tx, project_id)["metadata_items"]
    if 0 <= allowed < len(metadata):
        raise OverQuota(f"Maximum number of metadata items exceeds {allowed}")


def delete_metadata(tx: Tx, context: Context, id: str, key: str) -> None:
    metadata = get(tx, context, id)["metadata"]
    if key not in metadata:
        raise NotFound("Metadata item was not found")
    rest = {name: value for name, value in metadata.items() if name != key}
    set_metadata(tx, context, id, rest, replace=True, verb="delete metadata")


def tags(tx: Tx, ids: list[str]) -> dict[str, list[str]]:
    """Server id → its tags in order."""
    out: dict[str, list[str]] = {}
    query = sa.select(SERVER_TAGS).where(SERVER_TAGS.c.server_id.in_(ids)).order_by(SERVER_TAGS.c.tag)
    for row in tx.all(query) if ids else []:
        out.setdefault(row["server_id"], []).append(row["tag"])
    return out


def check_taggable(server: sa.RowMapping, verb: str) -> None:
    if server["vm_state"] not in ("active", "paused", "suspended", "stopped"):
        raise cannot(server, verb)


def set_tags(tx: Tx, server_id: str, new: list[str]) -> None:
    """BadRequest when there are too many."""
    wanted = sorted(set(new))
    if len(wanted) > MAX_TAGS:
        raise BadRequest(f"The number of tags exceeded the per-server limit {MAX_TAGS}")
    tx.execute(SERVER_TAGS.delete().where(SERVER_TAGS.c.server_id == server_id))
    if wanted:
        tx.execute(SERVER_TAGS.insert(), [{"server_id": server_id, "tag": tag} for tag in wanted])
