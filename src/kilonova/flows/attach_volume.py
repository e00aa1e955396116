"""A server's volumes in its flows: made and reserved by its create, attached to it later, and detached.

Nova: `DriverVolumeBlockDevice` (nova/virt/block_device.py); `attach_volume` and `detach_volume` of the compute manager.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import sqlalchemy as sa

from kilonova.compute import block_devices, states
from kilonova.db.engine import Tx
from kilonova.flow.log import Journal
from kilonova.flow.step import CONTROL, HOST, Flow, Running, Step
from kilonova.flows.asks import Asks
from kilonova.flows.departing import forget_unfinished_images
from kilonova.flows.storage_actions import StorageActions
from kilonova.host.contract import Host
from kilonova.model.errors import KilonovaError, Later, NotFound
from kilonova.volume import attachments, volumes
from kilonova.volume import states as volume_states
from kilonova.volume.tables import VOLUMES
from kilonova.web.call import Context

POLL = 1.0  # seconds until a volume that is being made is looked at again, if nobody rings


def hands(flow: Running) -> StorageActions:
    """The volume API's, inside a step: what they start, they start in the step's own commit."""
    return StorageActions(cast(Journal, flow.journal), Asks())


def owner(tx: Tx, server_id: str, request_id: str = "") -> Context:
    """In whose name a server's volumes are made and attached: its owner's, whoever asked. The API has said yes already,
    to an administrator perhaps, whose own volume it is: so nothing is kept from it."""
    server = states.get_row(tx, server_id)
    who = {"user_id": server["user_id"], "project_id": server["project_id"], "request_id": request_id}
    return Context(**who, roles=frozenset({"admin", "member", "reader"}))


# --- of a create and its undoing -------------------------------------------------------------------------------------


def has_volumes(tx: Tx, flow: Running) -> bool:
    """Or is getting them: their rows are there from the request until `delete_volumes`."""
    return block_devices.has_any(tx, flow.subject_id)


def create_volumes(tx: Tx, flow: Running) -> Any:
    """Those that are made from an image or a snapshot, or blank; the rest exist, and were reserved when asked for."""
    context, made = owner(tx, flow.subject_id, flow.request_id), []
    for row in block_devices.of_server(tx, flow.subject_id):
        if row["volume_id"] is None:
            wanted = volumes.Wanted(
                size=row["size_gb"],
                name="",
                volume_type=row["volume_type"],
                snapshot_id=row["source_id"] if row["source_type"] == "snapshot" else None,
                image=row["source_id"] if row["source_type"] == "image" else None,
            )
            volume = volumes.create(tx, context, wanted, hands(flow))
            block_devices.change(tx, row["id"], volume_id=volume["id"])
            made.append(volume["id"])
    return {"volumes": made} if made else None


def delete_volumes(tx: Tx, flow: Running) -> Any:
    """Those that go with their server (`delete_on_termination`); the others stay, and are the user's, and so do those of
    which there are snapshots: an image may be made of them (Cinder refuses their deletion, and Nova goes on). Those that
    the request reserved are let go of here, too: a create that fails at `create_volumes` never came to `reserve_volumes`."""
    forget_unfinished_images(tx, flow)  # nor are the snapshots of those a reason to keep a volume
    context = owner(tx, flow.subject_id, flow.request_id)
    for row in block_devices.of_server(tx, flow.subject_id):
        _release(tx, context, row)
        if row["volume_id"]:
            tx.hold(VOLUMES.c.id, row["volume_id"])  # of two servers that share it, the last one counts as that
        volume = volume_states.find(tx, "volume", row["volume_id"]) if row["volume_id"] else None
        shared = len(block_devices.of_volume(tx, row["volume_id"])) > 1 if row["volume_id"] else False
        needed = volume is not None and any(
            one["status"] != "deleting" for one in volumes.snapshots_of(tx, volume["id"])
        )
        if volume is not None and row["delete_on_termination"] and not shared and not needed:
            volumes.start_delete(tx, context, volume, hands(flow))
        block_devices.remove(tx, row["id"])


def reserve_volumes(tx: Tx, flow: Running) -> Any:  # Nova: attachment_create, _await_block_device_map_created
    context = owner(tx, flow.subject_id, flow.request_id)
    for row in block_devices.of_server(tx, flow.subject_id):
        if row["attachment_id"]:
            continue
        volume = volume_states.find(tx, "volume", row["volume_id"])
        status = volume["status"] if volume is not None else "deleted"
        if status in ("creating", "downloading"):
            raise Later(POLL, waits_for=f"volume:{row['volume_id']}")
        if status != "available":
            raise KilonovaError(f"Volume {row['volume_id']} did not finish being created: its status is {status}.")
        reserved = attachments.reserve(tx, context, row["volume_id"], flow.subject_id)
        block_devices.change(tx, row["id"], attachment_id=reserved["id"])


def unreserve_volumes(tx: Tx, flow: Running) -> Any:  # Nova: attachment_delete
    context = owner(tx, flow.subject_id, flow.request_id)
    for row in block_devices.of_server(tx, flow.subject_id):
        _release(tx, context, row)


def complete_attachments(tx: Tx, flow: Running) -> Any:  # Nova: attachment_update, attachment_complete
    """The volumes are in use, each by the connection that `connect_volumes` gave it; those that were before stay so."""
    context = owner(tx, flow.subject_id)
    kept = [row for row in block_devices.of_server(tx, flow.subject_id) if row["attachment_id"]]
    found = {row["id"]: attachments.get(tx, context, row["attachment_id"]) for row in kept}
    rows = [row for row in kept if found[row["id"]]["status"] != "attached" or not found[row["id"]]["connection_info"]]
    connections = (flow.results(tx).get("connect_volumes") or {}).get("connections", {}) if rows else {}
    for row in rows:
        if row["volume_id"] in connections:
            complete(tx, flow.subject_id, row, connections[row["volume_id"]])


def keep_reserved(tx: Tx, flow: Running) -> Any:  # Nova: _terminate_volume_connections
    """No host has the volumes open any more; they stay the server's."""
    context = owner(tx, flow.subject_id, flow.request_id)
    for row in block_devices.of_server(tx, flow.subject_id):
        if row["attachment_id"]:
            attachments.reserve_again(tx, context, row["attachment_id"])


def complete(tx: Tx, server_id: str, row: Mapping[str, Any] | sa.RowMapping, connection: dict[str, Any]) -> None:
    """`row`: the block device. Its volume is in use by that connection."""
    connector = {"host": states.get_row(tx, server_id)["host"], "mountpoint": row["device"]}
    context = owner(tx, server_id)
    attachments.connect(tx, context, row["attachment_id"], connector, connection, done=True)


def _release(tx: Tx, context: Context, row: sa.RowMapping) -> None:
    if row["attachment_id"]:
        with suppress(NotFound):  # somebody else took it away
            attachments.delete(tx, context, row["attachment_id"])
        block_devices.change(tx, row["id"], attachment_id=None)


# --- one volume of a server that is there ----------------------------------------------------------------------------


def attached(tx: Tx, flow: Running) -> sa.RowMapping:
    row = block_devices.find(tx, flow.subject_id, flow.data["volume_id"])
    if row is None:
        raise KilonovaError(f"server {flow.subject_id} has no volume {flow.data['volume_id']} any more")
    return row


def check_attachment(tx: Tx, flow: Running) -> Any:
    """The request has reserved the volume already; the server may have gone since."""
    if states.get_row(tx, flow.subject_id)["deleted_at"]:
        raise KilonovaError(f"server {flow.subject_id} was deleted meanwhile")
    attached(tx, flow)


def remove_attachment(tx: Tx, flow: Running) -> Any:
    row = block_devices.find(tx, flow.subject_id, flow.data["volume_id"])
    if row is not None:
        _release(tx, owner(tx, flow.subject_id, flow.request_id), row)
        block_devices.remove(tx, row["id"])


def complete_attachment(tx: Tx, flow: Running) -> Any:
    """Without a host (shelved and offloaded), the volume is kept for the server, and connected when that is back."""
    row, results = dict(attached(tx, flow)), flow.results(tx)
    device = (results.get("attach_volume") or {}).get("device") or row["device"]
    if device != row["device"]:  # the guest had something else there
        block_devices.change(tx, row["id"], device=device)
        row["device"] = device
    found = (results.get("connect_volumes") or {}).get("connections", {})
    if row["volume_id"] in found:
        complete(tx, flow.subject_id, row, found[row["volume_id"]])
    else:
        attachments.complete(tx, owner(tx, flow.subject_id, flow.request_id), row["attachment_id"])


def set_fault(tx: Tx, flow: Running, error: str, details: str) -> None:
    """The server goes on as it was; its fault tells why the volume is not there."""
    states.set_fault(tx, flow.subject_id, error, details)


def roll_detaching(tx: Tx, flow: Running, error: str, details: str) -> None:
    with suppress(NotFound):  # it went with its server
        attachments.roll_detaching(tx, owner(tx, flow.subject_id, flow.request_id), flow.data["volume_id"])
    states.set_fault(tx, flow.subject_id, error, details)


ATTACH_VOLUME = Flow(
    "attach_volume",
    (
        Step(check_attachment,     remove_attachment,       CONTROL, None),
        Step(Host.connect_volumes, Host.disconnect_volumes, HOST,    None),
        Step(Host.attach_volume,   Host.detach_volume,      HOST,    None),
        Step(complete_attachment,  None,                    CONTROL, None),  # the last step: nothing can fail after it
    ),
    on_failure=set_fault,
    queues=True,
)  # fmt: skip

DETACH_VOLUME = Flow(
    "detach_volume",
    (
        Step(check_attachment,        None,               CONTROL, None),
        Step(Host.detach_volume,      Host.attach_volume, HOST,    None),
        Step(Host.disconnect_volumes, None,               HOST,    None),
        Step(remove_attachment,       None,               CONTROL, None),
    ),
    on_failure=roll_detaching,
    no_return=Host.detach_volume,  # the guest has let go of it
    queues=True,
)  # fmt: skip

FLOWS = (ATTACH_VOLUME, DETACH_VOLUME)
