"""A server made anew on its host from an image: its ports, volumes and identity stay, its disks go.

Nova: `rebuild_instance` in `nova/compute/manager.py`.
"""

from typing import Any

from kilonova.compute import states
from kilonova.db.engine import Tx
from kilonova.flow.step import CONTROL, HOST, Flow, Running, Step
from kilonova.flows.create_server import set_error
from kilonova.flows.power_server import as_it_was, was_running
from kilonova.host.contract import Host

REBUILDING, REBUILD_DEVICES = "rebuilding", "rebuild_block_device_mapping"
REBUILD_SPAWNING = "rebuild_spawning"


def set_rebuilt(tx: Tx, flow: Running) -> Any:
    states.set_back(tx, flow.subject_id, running=was_running(flow))


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

FLOWS = (REBUILD_SERVER,)
