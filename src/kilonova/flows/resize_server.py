"""A server gets another flavor, on its host: resize, and then its confirmation or its way back.

Nova: `prep_resize`, `resize_instance`, `finish_resize`, `confirm_resize`, `revert_resize` in `nova/compute/manager.py`.
"""

from typing import Any

from kilonova.compute import migrations, states
from kilonova.db.engine import Tx
from kilonova.flow.step import CONTROL, HOST, Flow, Running, Step
from kilonova.flows.create_server import set_error
from kilonova.flows.power_server import as_it_was, keep_state, was_running
from kilonova.host.contract import Host
from kilonova.model.errors import HostError

RESIZE_PREP, RESIZE_MIGRATING, RESIZE_MIGRATED = "resize_prep", "resize_migrating", "resize_migrated"
RESIZE_FINISH, RESIZE_REVERTING = "resize_finish", "resize_reverting"


def prepare_resize(tx: Tx, flow: Running) -> Any:
    """Both flavors' resources are claimed until the resize is confirmed or reverted."""
    server = states.get_row(tx, flow.subject_id)
    return {"migration": migrations.begin(tx, server, flow.data["flavor"], flow.user_id, flow.project_id)}


def give_up_resize(tx: Tx, flow: Running) -> Any:
    migrations.give_back(tx, flow.subject_id, "error")


def take_new_flavor(tx: Tx, flow: Running) -> Any:
    migrations.set_flavor(tx, flow.subject_id, _migration(tx, flow)["new_flavor"])


def take_old_flavor(tx: Tx, flow: Running) -> Any:
    migrations.set_flavor(tx, flow.subject_id, _migration(tx, flow)["old_flavor"])


def set_resized(tx: Tx, flow: Running) -> Any:
    migrations.set_status(tx, _migration(tx, flow)["uuid"], "finished")
    states.set_resized(tx, flow.subject_id, running=was_running(tx, flow))


def end_confirm(tx: Tx, flow: Running) -> Any:
    migrations.release(tx, flow.subject_id, "confirmed")
    states.set_back(tx, flow.subject_id, running=was_running(tx, flow))


def begin_revert(tx: Tx, flow: Running) -> Any:
    return {"migration": _migration(tx, flow)["uuid"]}


def end_revert(tx: Tx, flow: Running) -> Any:
    migrations.give_back(tx, flow.subject_id, "reverted")
    states.set_back(tx, flow.subject_id, running=was_running(tx, flow))


def _migration(tx: Tx, flow: Running) -> Any:
    found = migrations.current(tx, flow.subject_id)
    if found is None:
        raise HostError(f"server {flow.subject_id} is not being resized")
    return found


RESIZE_SERVER = Flow(
    "resize",
    (
        Step(prepare_resize,       give_up_resize,      CONTROL, RESIZE_PREP),
        Step(Host.shut_down_guest, Host.power_on_guest, HOST,    RESIZE_MIGRATING, deadline=4000.0, when=was_running),
        Step(Host.set_disks_aside, Host.put_disks_back, HOST,    RESIZE_MIGRATING),
        Step(take_new_flavor,      take_old_flavor,     CONTROL, RESIZE_MIGRATED),
        Step(Host.grow_disks,      None,                HOST,    RESIZE_FINISH),  # copies: they go
        Step(Host.prepare_disks,   None,                HOST,    RESIZE_FINISH),  # what the new flavor has besides
        *as_it_was(RESIZE_FINISH),
        Step(set_resized,          None,                CONTROL, None),
    ),
    on_failure=keep_state,
)  # fmt: skip

# What is confirmed has no way back: an old disk that cannot be removed now is owed its end.
CONFIRM_RESIZE = Flow(
    "confirmResize",
    (
        Step(Host.drop_old_disks, None, HOST,    None),
        Step(end_confirm,         None, CONTROL, None),
    ),
)  # fmt: skip

# No undos: the new disks are gone, and a server that cannot come back keeps its old ones, and says why.
REVERT_RESIZE = Flow(
    "revertResize",
    (
        Step(begin_revert,        None, CONTROL, RESIZE_REVERTING),
        Step(Host.destroy_guest,  None, HOST,    RESIZE_REVERTING),
        Step(Host.put_disks_back, None, HOST,    RESIZE_REVERTING),
        Step(take_old_flavor,     None, CONTROL, RESIZE_REVERTING),
        *as_it_was(RESIZE_REVERTING),
        Step(end_revert,          None, CONTROL, None),
    ),
    on_failure=set_error,
)  # fmt: skip

FLOWS = (RESIZE_SERVER, CONFIRM_RESIZE, REVERT_RESIZE)
