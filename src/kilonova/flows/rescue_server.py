"""A server that does not boot any more is started from another image, its own disks beside it; and back."""

from typing import Any

from kilonova.compute import states
from kilonova.compute.verbs import RESCUING, UNRESCUING
from kilonova.db.engine import Tx
from kilonova.flow.step import CONTROL, HOST, Flow, Running, Step
from kilonova.flows.create_server import set_active, set_error
from kilonova.flows.power_server import power_on
from kilonova.host.contract import Host


def set_rescue_image(tx: Tx, flow: Running) -> Any:
    """From here on the server's spec has it, for as long as it is rescued or about to be."""
    states.set_rescue_image(tx, flow.subject_id, flow.data["rescue_image_id"])


def clear_rescue_image(tx: Tx, flow: Running) -> Any:
    states.set_rescue_image(tx, flow.subject_id, None)


def set_rescued(tx: Tx, flow: Running) -> Any:
    states.set_rescued(tx, flow.subject_id)


RESCUE_SERVER = Flow(
    "rescue",
    (
        Step(set_rescue_image,          clear_rescue_image,      CONTROL, RESCUING),
        Step(Host.prepare_rescue_disks, Host.drop_rescue_disks,  HOST,    RESCUING),
        Step(Host.shut_down_guest,      None,                    HOST,    RESCUING, deadline=4000.0),
        *power_on(RESCUING),
        Step(set_rescued,               None,                    CONTROL, None),
    ),
    on_failure=set_error,
)  # fmt: skip

UNRESCUE_SERVER = Flow(  # the rescue system is not asked, as by Nova
    "unrescue",
    (
        Step(Host.power_off_guest,   None, HOST,    UNRESCUING),
        Step(clear_rescue_image,     None, CONTROL, UNRESCUING),
        Step(Host.drop_rescue_disks, None, HOST,    UNRESCUING),
        *power_on(UNRESCUING),
        Step(set_active,             None, CONTROL, None),
    ),
    on_failure=set_error,
)  # fmt: skip

FLOWS = (RESCUE_SERVER, UNRESCUE_SERVER)
