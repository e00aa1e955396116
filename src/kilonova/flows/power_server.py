"""A server's power: stopped, started, rebooted, paused, suspended; and back after its host was down.

A guest is always started from today's rows, as Nova's hard reboot does it: whatever was plugged, attached or changed
while it was off is there when it is on again.
"""

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from kilonova.compute import states
from kilonova.compute.tables import SERVERS
from kilonova.compute.verbs import (
    PAUSING,
    POWERING_OFF,
    POWERING_ON,
    REBOOT_STARTED,
    REBOOT_STARTED_HARD,
    REBOOTING,
    REBOOTING_HARD,
    RESUMING,
    SUSPENDING,
    UNPAUSING,
)
from kilonova.db.engine import Tx
from kilonova.flow.log import Journal
from kilonova.flow.step import CONTROL, HOST, Flow, Running, Step
from kilonova.flows.attach_volume import complete_attachments, has_volumes
from kilonova.flows.create_server import set_active, set_error, wait_for_vif_plugged
from kilonova.host.contract import Host
from kilonova.model.ids import new_request_id
from kilonova.network import ports

ALIVE = (1, 3)  # power states: running, paused


def expect_vif_plugged(tx: Tx, flow: Running) -> Any:
    """The taps went with the host: their ports are down until the port loop has seen them wired again."""
    project_id = states.get_row(tx, flow.subject_id)["project_id"]
    ports.set_statuses(tx, {port["id"]: "DOWN" for port in ports.server_ports(tx, flow.subject_id, project_id)})


def set_stopped(tx: Tx, flow: Running) -> Any:
    states.set_resting(tx, flow.subject_id, "stopped")


def set_running_again(tx: Tx, flow: Running) -> Any:
    states.set_running_again(tx, flow.subject_id)


def set_paused(tx: Tx, flow: Running) -> Any:
    states.set_resting(tx, flow.subject_id, "paused")


def set_suspended(tx: Tx, flow: Running) -> Any:
    states.set_resting(tx, flow.subject_id, "suspended")


def keep_state(tx: Tx, flow: Running, error: str, details: str) -> None:
    """The server is in the vm_state it was in, and has a fault (Nova: reverts_task_state, wrap_instance_fault)."""
    states.set_fault(tx, flow.subject_id, error, details)


def power_on(task_state: str) -> tuple[Step, ...]:
    """From off, or half on, to running. Disks and what is connected stay; the rest is made anew."""
    return (
        Step(expect_vif_plugged,   None,                 CONTROL, task_state),
        Step(Host.connect_volumes, None,                 HOST,    task_state, when=has_volumes),  # they stay connected
        Step(Host.get_guest_xml,   None,                 HOST,    task_state),
        Step(Host.plug_vifs,       None,                 HOST,    task_state),  # they stay, for the next start
        Step(Host.create_guest,    Host.power_off_guest, HOST,    task_state),
        Step(wait_for_vif_plugged, None,                 CONTROL, task_state, deadline=300.0),
        Step(Host.resume_guest,    None,                 HOST,    task_state),  # power_off_guest ends it
    )  # fmt: skip


def was_running(tx: Tx, flow: Running) -> bool:
    """The server is to run when the flow has ended, as it did before."""
    return bool(flow.data["running"])


DEFINING = (Host.connect_volumes, Host.get_guest_xml)


def as_it_was(task_state: str) -> tuple[Step, ...]:
    """As `power_on` for a server that ran; the guest of one that did not is only defined from today's rows."""
    steps = [step if step.do in DEFINING else replace(step, when=was_running) for step in power_on(task_state)]
    place = [step.do for step in steps].index(Host.get_guest_xml) + 1
    define = Step(Host.define_guest, None, HOST, task_state)  # each start defines it anew
    return (*steps[:place], define, *steps[place:])


START_SERVER = Flow("start", (*power_on(POWERING_ON), Step(set_active, None, CONTROL, None)), on_failure=keep_state)

STOP_SERVER = Flow(
    "stop",
    (
        Step(Host.shut_down_guest, None, HOST,    POWERING_OFF, deadline=4000.0),  # it has its own patience
        Step(set_stopped,          None, CONTROL, None),
    ),
    on_failure=keep_state,
)  # fmt: skip


def keep_state_or_error(tx: Tx, flow: Running, error: str, details: str) -> None:
    """A guest that could not be shut down still runs; one that does not come back is in error (Nova: reboot_instance)."""
    fail = keep_state if flow.step in OFF_STEPS else set_error
    fail(tx, flow, error, details)


OFF_STEPS = (Host.shut_down_guest.__name__, Host.power_off_guest.__name__)

REBOOT_SERVER = Flow(  # soft: the guest is asked to end; it is put to an end when it takes too long
    "reboot",
    (
        Step(Host.shut_down_guest, None, HOST, REBOOTING, deadline=4000.0),
        *power_on(REBOOT_STARTED),
        Step(set_active, None, CONTROL, None),
    ),
    on_failure=keep_state_or_error,
)

HARD_REBOOT_SERVER = Flow(
    "hard_reboot",
    (
        Step(Host.power_off_guest, None, HOST, REBOOTING_HARD),
        *power_on(REBOOT_STARTED_HARD),
        Step(complete_attachments, None, CONTROL, REBOOT_STARTED_HARD),  # a rebuild that failed had given them up
        Step(set_active, None, CONTROL, None),
    ),
    on_failure=keep_state_or_error,
    action="reboot",
)

PAUSE_SERVER = Flow(
    "pause",
    (
        Step(Host.pause_guest, None, HOST,    PAUSING),
        Step(set_paused,       None, CONTROL, None),
    ),
    on_failure=keep_state,
)  # fmt: skip

UNPAUSE_SERVER = Flow(
    "unpause",
    (
        Step(Host.resume_guest, None, HOST,    UNPAUSING),
        Step(set_active,        None, CONTROL, None),
    ),
    on_failure=keep_state,
)  # fmt: skip

SUSPEND_SERVER = Flow(
    "suspend",
    (
        Step(Host.suspend_guest, None, HOST,    SUSPENDING),
        Step(set_suspended,      None, CONTROL, None),
    ),
    on_failure=keep_state,
)  # fmt: skip

RESUME_SERVER = Flow(
    "resume",
    (
        Step(expect_vif_plugged,   None,               CONTROL, RESUMING),
        Step(Host.connect_volumes, None,               HOST,    RESUMING),
        Step(Host.plug_vifs,       None,               HOST,    RESUMING),
        Step(Host.restore_guest,   Host.suspend_guest, HOST,    RESUMING),  # paused, with its memory
        Step(wait_for_vif_plugged, None,               CONTROL, RESUMING, deadline=300.0),
        Step(Host.resume_guest,    None,               HOST,    RESUMING),  # suspend_guest ends it
        Step(set_active,           None,               CONTROL, None),
    ),
    on_failure=keep_state,
)  # fmt: skip

TRIGGER_CRASH_DUMP = Flow("trigger_crash_dump", (Step(Host.inject_nmi, None, HOST, None),), on_failure=keep_state)

RESUME_ON_BOOT = Flow(
    "resume_state_on_host_boot",
    (*power_on(POWERING_ON), Step(set_running_again, None, CONTROL, None)),
    on_failure=set_error,
)


FLOWS = (
    START_SERVER, STOP_SERVER, REBOOT_SERVER, HARD_REBOOT_SERVER, PAUSE_SERVER, UNPAUSE_SERVER, SUSPEND_SERVER,
    RESUME_SERVER, TRIGGER_CRASH_DUMP, RESUME_ON_BOOT,
)  # fmt: skip


def resume_on_boot(tx: Tx, journal: Journal, host: str, power_states: dict[str, int]) -> list[str]:
    """Start the flow for each server that ran on `host` and whose guest is gone; their ids.

    Nova: those whose power_state is running (`_resume_guests_state`). What was paused is off then, as in Nova: its memory
    is gone, and the power loop says so. What was suspended has its memory on the disk, and stays as it is.

    For a host that was down: rebooted, or its guests ended by `kilonova down`. A server with a running flow is left to it.
    """
    alive = {server_id for server_id, state in power_states.items() if state in ALIVE}
    ran = (SERVERS.c.vm_state == "active") | SERVERS.c.vm_state.in_(("rescued", "resized")) & (
        SERVERS.c.power_state == states.RUNNING
    )
    here = (SERVERS.c.host == host) & SERVERS.c.task_state.is_(None) & SERVERS.c.deleted_at.is_(None)
    rows = tx.all(sa.select(SERVERS).where(here, ran))
    lost = [row for row in rows if row["id"] not in alive and journal.running(tx, row["id"]) is None]
    for row in lost:
        who = {"project_id": row["project_id"], "user_id": row["user_id"], "request_id": new_request_id()}
        journal.start(tx, RESUME_ON_BOOT.name, row["id"], who, {})
    return [row["id"] for row in lost]
