"""Attachments: who has a volume open, or is about to (3.27; the older os-reserve … os-detach are kept by the same rows).

Cinder: `attachment_create` and its like in `cinder/volume/api.py`, `cinder/volume/manager.py`.
"""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict
from kilonova.model.ids import new_id, now
from kilonova.volume import parts, states, volumes
from kilonova.volume.flows import Flows
from kilonova.volume.requests import invalid, missing
from kilonova.volume.tables import ATTACHMENTS
from kilonova.web.call import Context


def get(tx: Tx, context: Context, id: str) -> sa.RowMapping:
    row = tx.first(sa.select(ATTACHMENTS).where(ATTACHMENTS.c.id == id))
    volume = states.find(tx, "volume", row["volume_id"]) if row is not None else None
    if row is None or volume is None or (volume["project_id"] != context.project_id and not context.is_admin):
        raise missing("Volume attachment", id)
    return row


def reserve(tx: Tx, context: Context, volume_id: str, server_id: str | None, mode: str | None = None) -> sa.RowMapping:
    """An attachment without a connection; the volume is `reserved` for it."""
    volume = volumes.get(tx, context, volume_id)
    if "error" in volume["status"]:
        raise invalid(
            "volume",
            "Volume attachments can not be created if the volume is in an error state. The Volume "
            f"{volume['id']} currently has a status of: {volume['status']}",
        )
    volumes.check_stays(volume, "attach")
    if volume["multiattach"] and volume["status"] == "in-use" and volume["bootable"]:
        parts.check(context, parts.MULTIATTACH_BOOTABLE)
    expected = ("available", "in-use", "downloading") if volume["multiattach"] else ("available", "downloading")
    again = any(one["server_id"] == server_id for one in volumes.attachments_of(tx, volume["id"]) if server_id)
    if volume["status"] in expected:
        states.update(tx, "volume", volume["id"], status="reserved")
    elif not again:
        raise invalid(
            "volume",
            f"Volume {volume['id']} status must be {' or '.join(expected)} to reserve, but the current status is "
            f"{volume['status']}.",
        )
    made = {
        "id": new_id(), "volume_id": volume["id"], "server_id": server_id, "status": "reserved",
        "mode": "ro" if volume["readonly"] else mode, "created_at": now(),
    }  # fmt: skip
    tx.execute(ATTACHMENTS.insert().values(**made))
    return get(tx, context, made["id"])


def connect(
    tx: Tx, context: Context, id: str, connector: dict[str, Any], connection: dict[str, Any], *, done: bool = False
) -> sa.RowMapping:
    """The host of `connector` has `connection` (from the backend) to open the volume by; `done`: and has opened it."""
    row = get(tx, context, id)
    volume = states.get_row(tx, "volume", row["volume_id"])
    check_connectable(tx, volume, row)
    mode = connector.get("mode") or row["mode"] or "rw"
    info = _connection_info(row, connection, mode)
    values = {
        "connector": connector, "connection_info": info, "mode": mode, "attached_host": connector.get("host"),
        "mountpoint": connector.get("mountpoint"), "status": "attaching",
    }  # fmt: skip
    tx.execute(ATTACHMENTS.update().where(ATTACHMENTS.c.id == id).values(**values))
    states.update(tx, "volume", volume["id"], status="attaching")
    return complete(tx, context, id) if done else get(tx, context, id)


def _connection_info(row: sa.RowMapping, connection: dict[str, Any], mode: str) -> dict[str, Any]:
    return {
        **connection["data"], "driver_volume_type": connection["driver_volume_type"], "attachment_id": row["id"],
        "volume_id": row["volume_id"], "access_mode": mode, "encrypted": False, "qos_specs": None, "cacheable": False,
    }  # fmt: skip


def reconnect(tx: Tx, volume_id: str, connection: dict[str, Any]) -> None:
    """The volume is elsewhere: those who have it open have it by this connection now."""
    for row in volumes.attachments_of(tx, volume_id):
        if row["connection_info"]:
            info = _connection_info(row, connection, row["mode"] or "rw")
            tx.execute(ATTACHMENTS.update().where(ATTACHMENTS.c.id == row["id"]).values(connection_info=info))


def check_connectable(tx: Tx, volume: sa.RowMapping, row: sa.RowMapping) -> None:
    if "error" in volume["status"]:
        raise Conflict(
            "Volume attachments can not be updated if the volume is in an error state. The Volume "
            f"{volume['id']} currently has a status of: {volume['status']}"
        )
    others = [one for one in volumes.attachments_of(tx, volume["id"]) if one["id"] != row["id"]]
    if not volume["multiattach"] and any(one["connector"] for one in others):
        taken = [one for one in others if one["connector"]]
        if any(one["server_id"] != row["server_id"] for one in taken):
            raise Conflict(f"duplicate connectors detected on volume {volume['id']}")


def complete(tx: Tx, context: Context, id: str) -> sa.RowMapping:
    """The volume is open there: `in-use` (3.44)."""
    row = get(tx, context, id)
    when = row["attached_at"] or now()
    tx.execute(ATTACHMENTS.update().where(ATTACHMENTS.c.id == id).values(status="attached", attached_at=when))
    states.update(tx, "volume", row["volume_id"], status="in-use", attach_status="attached")
    return get(tx, context, id)


def reserve_again(tx: Tx, context: Context, id: str) -> None:
    """Nobody has the volume open by it any more, and it stays who it is reserved for (Nova: a new attachment for the old)."""
    row = get(tx, context, id)
    bare = {"connector": None, "connection_info": None, "attached_host": None, "mountpoint": None, "attached_at": None}
    tx.execute(ATTACHMENTS.update().where(ATTACHMENTS.c.id == id).values(status="reserved", **bare))
    released(tx, row["volume_id"])


def delete(tx: Tx, context: Context, id: str) -> list[sa.RowMapping]:
    """The volume's other attachments. The volume goes back to what these make it: in-use, reserved or available."""
    row = get(tx, context, id)
    tx.execute(ATTACHMENTS.delete().where(ATTACHMENTS.c.id == id))
    return released(tx, row["volume_id"])


def check_not_a_servers(tx: Tx, ids: list[str], flows: Flows) -> None:
    """Conflict for what a server has open: taken away here, its guest would write into what others read next (Cinder:
    ConflictNovaUsingAttachment)."""
    server_id = flows.server_with(tx, ids)
    if server_id is not None:
        raise Conflict(f"Detach volume from instance {server_id} using the Compute API")


def released(tx: Tx, volume_id: str) -> list[sa.RowMapping]:
    left = volumes.attachments_of(tx, volume_id)
    statuses = {one["status"] for one in left}
    volume = states.get_row(tx, "volume", volume_id)
    status = next(
        (to for of, to in (("attached", "in-use"), ("attaching", "attaching"), ("reserved", "reserved"))
         if of in statuses), "available",
    )  # fmt: skip
    values = {"attach_status": "attached" if "attached" in statuses else "detached"}
    if volume["previous_status"]:  # busy with something else, which ends as it began
        values["previous_status"] = status
    if volume["status"] in ("reserved", "attaching", "detaching", "in-use", "error_attaching", "error_detaching"):
        values["status"] = status
    states.update(tx, "volume", volume_id, **values)
    return left


# The older protocol: one attachment at a time, of a volume and not of an attachment


def attach(tx: Tx, context: Context, volume_id: str, asked: dict[str, Any]) -> None:
    """os-attach: somebody has opened the volume. `asked`: instance_uuid or host_name, mountpoint, mode."""
    volume = volumes.get(tx, context, volume_id)
    mode = asked.get("mode", "rw")
    if volume["status"] == "maintenance":
        raise invalid("volume", "The volume cannot be attached in maintenance mode.")
    volumes.check_stays(volume, "attach")
    if volume["readonly"] and mode != "ro":
        raise BadRequest(f"Invalid attaching mode '{mode}' for volume {volume_id}.")
    expected = ("available", "attaching", "in-use") if volume["multiattach"] else ("available", "attaching")
    if volume["status"] not in expected:
        raise invalid("volume", f"Volume status must be {' or '.join(expected)} to attach, it is {volume['status']}.")
    tx.execute(
        ATTACHMENTS.insert().values(
            id=new_id(), volume_id=volume["id"], server_id=asked.get("instance_uuid"), status="attached", mode=mode,
            attached_host=asked.get("host_name"), mountpoint=asked["mountpoint"], attached_at=now(), created_at=now(),
        )
    )  # fmt: skip
    said = {"readonly": bool(volume["readonly"])}  # from now on it is shown
    states.update(tx, "volume", volume["id"], status="in-use", attach_status="attached", **said)


def detach(tx: Tx, context: Context, volume_id: str, attachment_id: str | None) -> None:
    volume = volumes.get(tx, context, volume_id)
    if volume["status"] == "maintenance":
        raise invalid("volume", "The volume cannot be detached in maintenance mode.")
    found = volumes.attachments_of(tx, volume["id"])
    if attachment_id:
        found = [one for one in found if one["id"] == attachment_id]
        if not found:
            raise missing("Volume attachment", attachment_id)
    elif len(found) > 1:
        raise invalid("volume", "Detach volume failed: More than one attachment, but no attachment_id provided.")
    for one in found:
        tx.execute(ATTACHMENTS.delete().where(ATTACHMENTS.c.id == one["id"]))
    released(tx, volume["id"])


def reserve_volume(tx: Tx, context: Context, volume_id: str) -> None:
    volume = volumes.get(tx, context, volume_id)
    volumes.check_stays(volume, "attach")
    expected = ("available", "in-use") if volume["multiattach"] else ("available",)
    if volume["status"] not in expected:
        raise invalid(
            "volume",
            f"Volume status must be {' or '.join(expected)} to reserve, but the status is {volume['status']}.",
        )
    states.update(tx, "volume", volume["id"], status="attaching")


def unreserve_volume(tx: Tx, context: Context, volume_id: str) -> None:
    """Nothing when it is not reserved."""
    volume = volumes.get(tx, context, volume_id)
    status = "in-use" if states.has_attachments(tx, volume["id"]) else "available"
    states.move(tx, "volume", volume["id"], ("attaching",), status=status)


def begin_detaching(tx: Tx, context: Context, volume_id: str, *, reserved: bool = False) -> None:
    """`reserved`: a volume that is only kept for its server, too."""
    volume = volumes.get(tx, context, volume_id)
    kept = reserved and volume["status"] == "reserved"
    volumes.check_stays(volume, "detach")
    if not kept and (volume["status"] != "in-use" or not states.has_attachments(tx, volume["id"])):
        raise invalid(
            "volume",
            "Unable to detach volume. Volume status must be 'in-use' and attach_status must be 'attached' to detach.",
        )
    states.update(tx, "volume", volume["id"], status="detaching")


def roll_detaching(tx: Tx, context: Context, volume_id: str) -> None:
    volume = volumes.get(tx, context, volume_id)
    status = "in-use" if states.has_attachments(tx, volume["id"]) else "reserved"
    states.move(tx, "volume", volume["id"], ("detaching",), status=status)
