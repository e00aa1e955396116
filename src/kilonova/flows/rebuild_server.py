"""A server made anew on its host from an image: its ports, volumes and identity stay, its disks go.

Nova: `rebuild_instance` in `nova/compute/manager.py`.
"""

from dataclasses import replace
from typing import Any

from kilonova.compute import block_devices, states
from kilonova.db.engine import Tx
from kilonova.flow.step import CONTROL, HOST, Flow, Running, Step
from kilonova.flows.attach_volume import complete_attachments, hands, owner
from kilonova.flows.create_server import set_error
from kilonova.flows.power_server import as_it_was, was_running
from kilonova.host.contract import Host
from kilonova.model.errors import KilonovaError, Later
from kilonova.volume import attachments, moves
from kilonova.volume import states as volume_states

REBUILDING, REBUILD_DEVICES = "rebuilding", "rebuild_block_device_mapping"
REBUILD_SPAWNING = "rebuild_spawning"


def set_rebuilt(tx: Tx, flow: Running) -> Any:
    states.set_back(tx, flow.subject_id, running=was_running(tx, flow))


# No undos: what the disks held is to go. A server that cannot be made anew says why, and may be rebuilt again.
REBUILD_SERVER = Flow(
    "rebuild",
    (
        Step(Host.destroy_guest, None, HOST,    REBUILDING),
        Step(Host.discard_disks, None, HOST,    REBUILD_DEVICES),
        Step(Host.prepare_disks, None, HOST,    REBUILD_SPAWNING),
        *as_it_was(REBUILD_SPAWNING),
        Step(set_rebuilt,        None, CONTROL, None),
    ),
    on_failure=set_error,
)  # fmt: skip


# The image goes into the root volume instead; ephemeral disks are made anew as ever


def begin_reimage(tx: Tx, flow: Running) -> Any:
    """From here on the volume is only kept for the server, and Cinder writes the image over it."""
    volume = volume_states.find(tx, "volume", flow.data["root_volume"])
    row = block_devices.find(tx, flow.subject_id, flow.data["root_volume"])
    if volume is None or row is None:
        raise KilonovaError(f"The root volume {flow.data['root_volume']} of this server is gone.")
    if volume["status"] == "downloading":  # a rebuild before this one has begun it
        raise Later(1.0)
    context = owner(tx, flow.subject_id, flow.request_id)
    if row["attachment_id"]:
        attachments.reserve_again(tx, context, row["attachment_id"])
    if volume["status"] == "error":  # a rebuild before this one could not write it
        volume_states.update(tx, "volume", volume["id"], status="reserved")
    anyone = replace(context, admin=True)  # the request was allowed to use that image
    moves.reimage(tx, anyone, volume["id"], flow.data["image"], hands(flow), reserved=True)


def wait_for_reimage(tx: Tx, flow: Running) -> Any:  # Nova: wait_for_instance_event volume-reimaged
    volume = volume_states.find(tx, "volume", flow.data["root_volume"])
    status = volume["status"] if volume is not None else "deleted"
    if status == "downloading":
        raise Later(1.0, waits_for=f"volume:{flow.data['root_volume']}")
    if status != "reserved":
        raise KilonovaError(f"The image could not be written over the root volume: that is {status}.")


REBUILD_VOLUME_BACKED = Flow(
    "rebuild_volume_backed",
    (
        Step(Host.destroy_guest,      None, HOST,    REBUILDING),
        Step(Host.discard_disks,      None, HOST,    REBUILD_DEVICES),
        Step(Host.disconnect_volumes, None, HOST,    REBUILD_DEVICES),
        Step(begin_reimage,           None, CONTROL, REBUILD_DEVICES),
        Step(wait_for_reimage,        None, CONTROL, REBUILD_DEVICES, deadline=24 * 3600.0),
        Step(Host.prepare_disks,      None, HOST,    REBUILD_SPAWNING),
        *as_it_was(REBUILD_SPAWNING),
        Step(complete_attachments,    None, CONTROL, REBUILD_SPAWNING),
        Step(set_rebuilt,             None, CONTROL, None),
    ),
    on_failure=set_error,
    action="rebuild",
)  # fmt: skip

FLOWS = (REBUILD_SERVER, REBUILD_VOLUME_BACKED)
