"""A port that comes to a server that is there, and goes again (Nova: attach_interface, detach_interface of the manager).

The request has made or claimed the port and bound it to the server's host already, so whatever starts the guest meanwhile
plugs it too.
"""

from typing import Any

from kilonova.compute import interfaces, states
from kilonova.db.engine import Tx
from kilonova.flow.step import CONTROL, HOST, Flow, Running, Step
from kilonova.host.contract import Host
from kilonova.model.errors import KilonovaError, Later


def check_interface(tx: Tx, flow: Running) -> Any:
    """The server, or the port, may have gone since it was asked for."""
    server = states.get_row(tx, flow.subject_id)
    if server["deleted_at"]:
        raise KilonovaError(f"server {flow.subject_id} was deleted meanwhile")
    if interfaces.find(tx, server, flow.data["port_id"]) is None:
        raise KilonovaError(f"server {flow.subject_id} has no port {flow.data['port_id']} any more")


def deallocate_interface(tx: Tx, flow: Running) -> Any:  # Nova: deallocate_port_for_instance
    interfaces.release(tx, states.get_row(tx, flow.subject_id), flow.data["port_id"])


def wait_for_interface(tx: Tx, flow: Running) -> Any:
    """Wired, where a guest is at the tap's other end; a stopped server's is plugged when it starts."""
    server = states.get_row(tx, flow.subject_id)
    port = interfaces.find(tx, server, flow.data["port_id"])
    if port is None or server["power_state"] not in (states.RUNNING, states.PAUSED):
        return
    if port["status"] != "ACTIVE" and port["admin_state_up"]:
        raise Later(1.0, waits_for=f"port:{port['id']}")


def set_fault(tx: Tx, flow: Running, error: str, details: str) -> None:
    """The server goes on as it was."""
    states.set_fault(tx, flow.subject_id, error, details)


ATTACH_INTERFACE = Flow(
    "attach_interface",
    (
        Step(check_interface,       deallocate_interface,  CONTROL, None),
        Step(Host.attach_interface, Host.detach_interface, HOST,    None),
        Step(wait_for_interface,    None,                  CONTROL, None, deadline=300.0),  # nothing to undo
    ),
    on_failure=set_fault,
    queues=True,
)  # fmt: skip

DETACH_INTERFACE = Flow(
    "detach_interface",
    (
        Step(check_interface,       None,                  CONTROL, None),
        Step(Host.detach_interface, Host.attach_interface, HOST,    None),
        Step(deallocate_interface,  None,                  CONTROL, None),
    ),
    on_failure=set_fault,
    no_return=Host.detach_interface,  # the guest has let go of it
    queues=True,
)  # fmt: skip

FLOWS = (ATTACH_INTERFACE, DETACH_INTERFACE)
