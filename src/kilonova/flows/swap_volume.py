"""A server's disk goes over to another volume while its guest runs (Nova: `swap_volume` of nova/compute/manager.py)."""

from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from kilonova.compute import block_devices
from kilonova.compute.devices import Device
from kilonova.db.engine import Tx
from kilonova.flow.step import CONTROL, HOST, Flow, Running, Step
from kilonova.flow.tables import FLOWS as JOURNAL
from kilonova.flows.attach_volume import attached, check_attachment, complete, owner, roll_detaching
from kilonova.host.contract import Host
from kilonova.model.errors import NotFound
from kilonova.volume import attachments
from kilonova.volume import states as volume_states
from kilonova.volume.tables import ATTACHMENTS


def release_new_volume(tx: Tx, flow: Running) -> Any:
    with suppress(NotFound):  # somebody else took it away
        attachments.delete(tx, owner(tx, flow.subject_id, flow.request_id), flow.data["attachment_id"])


def set_swapped(tx: Tx, flow: Running) -> Any:
    """The new volume has the old one's place among the server's, and the old one is free."""
    row, context = attached(tx, flow), owner(tx, flow.subject_id, flow.request_id)
    new = volume_states.get_row(tx, "volume", flow.data["new_volume_id"])
    if row["attachment_id"]:
        with suppress(NotFound):
            attachments.delete(tx, context, row["attachment_id"])
    mine = {"volume_id": new["id"], "attachment_id": flow.data["attachment_id"], "size_gb": new["size"]}
    block_devices.change(tx, row["id"], **mine)
    complete(tx, flow.subject_id, {**row, **mine}, flow.results(tx)["swap_volume"]["connection"])


def adopt_new_volume(tx: Tx, flow: Running) -> None:
    """Of a swap that this flow has put an end to: the server has that volume, too, until it is gone itself."""
    broken_off = (JOURNAL.c.subject_id == flow.subject_id) & (JOURNAL.c.kind == SWAP_VOLUME.name)
    for data in tx.execute(sa.select(JOURNAL.c.data).where(broken_off, JOURNAL.c.state == "superseded")).scalars():
        reserved = tx.first(sa.select(ATTACHMENTS).where(ATTACHMENTS.c.id == data["attachment_id"]))
        if reserved is not None and block_devices.find(tx, flow.subject_id, data["new_volume_id"]) is None:
            new = Device("volume", "volume", data["new_volume_id"])
            mine = {"volume_id": data["new_volume_id"], "attachment_id": reserved["id"]}
            block_devices.add(tx, flow.subject_id, new, **mine)


SWAP_VOLUME = Flow(
    "swap_volume",
    (
        Step(check_attachment, release_new_volume,    CONTROL, None),
        Step(Host.swap_volume, Host.swap_volume_back, HOST,    None, deadline=24 * 3600.0),
        Step(set_swapped,      None,                  CONTROL, None),
    ),
    on_failure=roll_detaching,
    no_return=Host.swap_volume,  # the guest writes to the new one
    queues=True,
)  # fmt: skip

FLOWS = (SWAP_VOLUME,)
