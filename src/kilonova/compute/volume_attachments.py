"""os-volume_attachments: the volumes of a server (Nova: nova/api/openstack/compute/volume_attachments.py)."""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import block_devices, servers
from kilonova.compute.devices import Device
from kilonova.model.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.volume import attachments, volumes
from kilonova.web import paging
from kilonova.web.call import Call, Reply

ATTACHABLE = ("active", "paused", "stopped", "resized", "soft-delete", "shelved", "shelved_offloaded")
SWAPPABLE = ("active", "paused", "resized")
MOST = 26  # disks of a server: its names have one letter


def index(call: Call) -> dict[str, Any]:
    server = servers.get(call.tx, call.context, call.params["server_id"])
    found = [_view(call, row) for row in block_devices.of_server(call.tx, server["id"]) if row["volume_id"]]
    offset = int(call.arg("offset") or 0) if (call.arg("offset") or "0").isdecimal() else 0
    return {"volumeAttachments": found[offset : offset + paging.limit(call)]}


def show(call: Call) -> dict[str, Any]:
    server = servers.get(call.tx, call.context, call.params["server_id"])
    return {"volumeAttachment": _view(call, _row(call, server))}


def create(call: Call) -> Reply:
    """The volume is reserved at once; a flow attaches it."""
    tx, asked = call.tx, call.body["volumeAttachment"]
    server = servers.get(tx, call.context, call.params["server_id"])
    servers.check_unlocked(call.context, server)
    if server["vm_state"] not in ATTACHABLE:
        raise servers.cannot(server, "attach_volume")
    if server["task_state"] == "deleting":
        raise servers.cannot(server, "attach_volume", "task_state")
    volume = volumes.get(tx, call.context, asked["volumeId"])
    block_devices.lock(tx, server["id"])
    if block_devices.find(tx, server["id"], volume["id"]) is not None:
        raise BadRequest(f"Invalid volume: volume {volume['id']} is already attached to instance {server['id']}.")
    if len(block_devices.of_server(tx, server["id"])) >= MOST - 1:
        raise Forbidden(f"The maximum allowed number of disks ({MOST}) is reached on this server.")
    if volume["multiattach"] and not call.since(60):
        raise Conflict("Multiattach volumes are only supported starting with compute API version 2.60.")
    reserved = attachments.reserve(tx, call.context, volume["id"], server["id"])
    device = Device(
        "volume", "volume", volume["id"],
        size_gb=volume["size"],
        delete_on_termination=asked.get("delete_on_termination", False),
        tag=asked.get("tag"),
        name=block_devices.name_one(tx, server, asked.get("device")),
    )  # fmt: skip
    row = block_devices.add(tx, server["id"], device, volume_id=volume["id"], attachment_id=reserved["id"])
    call.services.flows.start(tx, "attach_volume", server["id"], call.context, {"volume_id": volume["id"]})
    return Reply(status=202) if call.since(101) else Reply({"volumeAttachment": _made(call, row)}, 200)


def delete(call: Call) -> None:
    tx, server = call.tx, servers.get(call.tx, call.context, call.params["server_id"])
    servers.check_unlocked(call.context, server)
    if server["vm_state"] not in ATTACHABLE:
        raise servers.cannot(server, "detach_volume")
    row = _row(call, server)
    if row["boot_index"] == 0:
        raise Forbidden("Cannot detach a root device volume")
    offloaded = server["vm_state"] == "shelved_offloaded"
    attachments.begin_detaching(tx, call.context, row["volume_id"], reserved=offloaded)
    call.services.flows.start(tx, "detach_volume", server["id"], call.context, {"volume_id": row["volume_id"]})


def update(call: Call) -> None:
    """Another volume in this one's place, for administrators; or what becomes of it with the server (2.85)."""
    tx, asked = call.tx, call.body["volumeAttachment"]
    server = servers.get(tx, call.context, call.params["server_id"])
    row, wanted = _row(call, server), asked["volumeId"]
    if call.since(85) and wanted == row["volume_id"]:
        for name, kept in (("device", row["device"]), ("serverId", server["id"]), ("tag", row["tag"])):
            if name in asked and asked[name] != kept:
                raise BadRequest(f"The {name} field of an attachment cannot be changed.")
        if "id" in asked and asked["id"] != row["volume_id"]:
            raise BadRequest("The id field of an attachment cannot be changed.")
        if "delete_on_termination" in asked:
            block_devices.change(tx, row["id"], delete_on_termination=asked["delete_on_termination"])
        return
    _swap(call, server, row, wanted)


def _swap(call: Call, server: sa.RowMapping, row: sa.RowMapping, wanted: str) -> None:
    """The guest goes over to the other volume, with its bytes (Nova: swap_volume); it must run for that."""
    if not call.context.is_admin:
        raise Forbidden("Policy doesn't allow os_compute_api:os-volumes-attachments:swap to be performed.")
    tx = call.tx
    servers.check_unlocked(call.context, server)
    if server["vm_state"] not in SWAPPABLE:
        raise servers.cannot(server, "swap_volume")
    if server["task_state"]:
        raise servers.cannot(server, "swap_volume", "task_state")
    old, new = volumes.get(tx, call.context, row["volume_id"]), volumes.get(tx, call.context, wanted)
    if new["attach_status"] == "attached" or old["id"] == new["id"]:
        raise BadRequest("Invalid volume: New volume must be detached in order to swap.")
    if new["size"] < old["size"]:
        raise BadRequest("Invalid volume: New volume must be the same size or larger.")
    if old["multiattach"] and len(volumes.attachments_of(tx, old["id"])) > 1:
        raise Conflict("Swapping multi-attach volumes with more than one read/write attachment is not supported.")
    attachments.begin_detaching(tx, call.context, old["id"])
    reserved = attachments.reserve(tx, call.context, new["id"], server["id"])
    data = {
        "volume_id": old["id"], "new_volume_id": new["id"], "attachment_id": reserved["id"],
        "new_stored_as": new["stored_as"], "new_backend": new["backend"], "new_size_gb": new["size"],
    }  # fmt: skip
    call.services.flows.start(tx, "swap_volume", server["id"], call.context, data)


def _row(call: Call, server: sa.RowMapping) -> sa.RowMapping:
    row = block_devices.find(call.tx, server["id"], call.params["id"])
    if row is None:
        raise NotFound(f"Instance {server['id']} is not attached to volume {call.params['id']}")
    return row


def _made(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    body = {"id": row["volume_id"], "volumeId": row["volume_id"], "serverId": row["server_id"], "device": row["device"]}
    if call.since(70):
        body["tag"] = row["tag"]
    if call.since(79):
        body["delete_on_termination"] = row["delete_on_termination"]
    return body


def _view(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    body = _made(call, row)
    if call.since(89):  # the answer to POST keeps its id, in Nova, too
        del body["id"]
        body |= {"attachment_id": row["attachment_id"], "bdm_uuid": row["id"]}
    return body
