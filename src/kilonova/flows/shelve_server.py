"""A server that is put away: its disk an image, nothing of it on a host; and its return.

Nova: `_shelve_instance`, `_shelve_offload_instance`, `_unshelve_instance` in `nova/compute/manager.py`.
"""

from dataclasses import replace
from typing import Any

from kilonova.compute import shelve, states
from kilonova.db.engine import Tx
from kilonova.flow.step import CONTROL, HOST, Flow, Running, Step
from kilonova.flows.attach_volume import complete_attachments, keep_reserved
from kilonova.flows.create_server import (
    SPAWNING,
    bind_ports,
    release_allocation,
    select_destination,
    set_active,
    unbind_ports,
)
from kilonova.flows.power_server import keep_state, power_on, was_running
from kilonova.flows.snapshot_server import begin_snapshot, copy_and_upload, forget_image
from kilonova.host.contract import Host

SHELVING, OFFLOADING, UNSHELVING = "shelving", "shelving_offloading", "unshelving"
PENDING_UPLOAD, UPLOADING = "shelving_image_pending_upload", "shelving_image_uploading"


def set_shelved(tx: Tx, flow: Running) -> Any:
    """The image is whole: what follows takes the server's own disk away."""
    shelve.set_shelved(tx, flow.subject_id, flow.data.get("image_id"))


def begin_shelve(tx: Tx, flow: Running) -> Any:
    """There is nothing to be made before the guest is off."""


def set_offloaded(tx: Tx, flow: Running) -> Any:
    shelve.set_offloaded(tx, flow.subject_id)


def begin_unshelve(tx: Tx, flow: Running) -> Any:
    return {"image_id": flow.data["image_id"]}


def set_unshelved(tx: Tx, flow: Running) -> Any:
    """The server has a disk of its own again, and needs the image no more."""
    shelve.set_unshelved(tx, flow.subject_id)


def set_idle(tx: Tx, flow: Running) -> Any:
    states.set_task_state(tx, flow.subject_id, None)


def has_image(tx: Tx, flow: Running) -> bool:
    return bool(flow.data["image_id"])


def was_offloaded(tx: Tx, flow: Running) -> bool:
    return bool(flow.data["offloaded"])


OFFLOAD = (
    Step(Host.destroy_guest,      None, HOST,    OFFLOADING),
    Step(Host.unplug_vifs,        None, HOST,    OFFLOADING),
    Step(Host.delete_disks,       None, HOST,    OFFLOADING),
    Step(Host.disconnect_volumes, None, HOST,    OFFLOADING),  # they stay the server's
    Step(keep_reserved,           None, CONTROL, OFFLOADING),
    Step(unbind_ports,            None, CONTROL, OFFLOADING),
    Step(release_allocation,      None, CONTROL, OFFLOADING),
    Step(set_offloaded,           None, CONTROL, None),
)  # fmt: skip

# Nova, too, offloads at once where nobody sets its shelved_offload_time.
SHELVE_SERVER = Flow(
    "shelve",
    (
        Step(begin_snapshot,       forget_image,        CONTROL, SHELVING),
        Step(Host.shut_down_guest, Host.power_on_guest, HOST,    SHELVING, deadline=4000.0, when=was_running),
        *copy_and_upload(PENDING_UPLOAD, UPLOADING),
        Step(set_shelved,          None,                CONTROL, OFFLOADING),
        *OFFLOAD,
    ),
    on_failure=keep_state,
    no_return=set_shelved,
)  # fmt: skip

# Its bytes are in a volume: there is nothing to be kept on the host until an offload.
SHELVE_VOLUME_BACKED = Flow(
    "shelve_volume_backed",
    (
        Step(begin_shelve,         None,                CONTROL, SHELVING),
        Step(Host.shut_down_guest, Host.power_on_guest, HOST,    SHELVING, deadline=4000.0, when=was_running),
        Step(set_shelved,          None,                CONTROL, OFFLOADING),
        *OFFLOAD,
    ),
    on_failure=keep_state,
    no_return=set_shelved,
    action="shelve",
)  # fmt: skip

# With a shelved_offload_time of -1 the server stays on its host, off, until shelveOffload.
SHELVE_AND_KEEP = replace(
    SHELVE_SERVER,
    steps=(*SHELVE_SERVER.steps[: SHELVE_SERVER.index("set_shelved") + 1], Step(set_idle, None, CONTROL, None)),
)

SHELVE_OFFLOAD = Flow("shelveOffload", OFFLOAD)

UNDOS = {  # nothing stays on the host
    Host.connect_volumes: Host.disconnect_volumes,
    Host.plug_vifs: Host.unplug_vifs,
    Host.create_guest: Host.destroy_guest,
}

UNSHELVE_SERVER = Flow(
    "unshelve",
    (
        Step(begin_unshelve,      None,               CONTROL, UNSHELVING),
        Step(select_destination,  release_allocation, CONTROL, UNSHELVING, when=was_offloaded),
        Step(bind_ports,          unbind_ports,       CONTROL, UNSHELVING, when=was_offloaded),
        Step(Host.prepare_disks,  Host.delete_disks,  HOST,    SPAWNING, when=was_offloaded),
        *(replace(step, undo=UNDOS.get(step.do, step.undo)) for step in power_on(SPAWNING)),
        Step(complete_attachments, keep_reserved,     CONTROL, SPAWNING),
        Step(set_unshelved,       None,               CONTROL, SPAWNING),
        Step(Host.withdraw_image, None,               HOST,    SPAWNING, when=has_image),
        Step(set_active,          None,               CONTROL, None),
    ),
    on_failure=keep_state,
    no_return=set_unshelved,
)  # fmt: skip

FLOWS = (SHELVE_SERVER, SHELVE_VOLUME_BACKED, SHELVE_OFFLOAD, UNSHELVE_SERVER)
