"""The verbs on a server: what `POST /servers/{id}/action` may ask, when Nova allows it, and the flow that does it.

Nova: the `@check_instance_state` and `@check_instance_lock` of `nova/compute/api.py`, and `nova/policies`. An action that
is no work for a host has its line in `server_handlers.py` alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from kilonova.compute import schemas as s
from kilonova.compute import servers, states
from kilonova.compute.flows import Kind
from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict, NotFound
from kilonova.web.call import Call, Reply
from kilonova.web.checks import Rule
from kilonova.web.policy import project_member

# Nova's task states that an action sets at once
POWERING_OFF, POWERING_ON, PAUSING, UNPAUSING = "powering-off", "powering-on", "pausing", "unpausing"
SUSPENDING, RESUMING, REBOOTING, REBOOTING_HARD = "suspending", "resuming", "rebooting", "rebooting_hard"
REBOOT_STARTED, REBOOT_STARTED_HARD = "reboot_started", "reboot_started_hard"
RESCUING, UNRESCUING = "rescuing", "unrescuing"

IDLE: frozenset[str | None] = frozenset({None})
ALLOW_REBOOT = IDLE | {  # what a hard reboot may put an end to (Nova: task_states.ALLOW_REBOOT)
    REBOOTING, REBOOT_STARTED, REBOOTING_HARD, REBOOT_STARTED_HARD, PAUSING, UNPAUSING, SUSPENDING, RESUMING,
}  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """`data`: the request's own words, for the flow's steps; `reply`: what the client gets, None for an empty 202; `flow`:
    if other than the verb's."""

    data: dict[str, Any] = field(default_factory=dict)
    reply: Reply | None = None
    flow: Kind | None = None


Look = Callable[[Tx, Call, sa.RowMapping, Any], Asked]


def nothing_more(tx: Tx, call: Call, server: sa.RowMapping, argument: Any) -> Asked:
    return Asked()


@dataclass(frozen=True)
class Verb:
    """One line of VERBS.

    `flow`: its kind. `vm_states`, `task_states`: those in which it is allowed; a task state None is "nothing under way".
    `task_state`: set in the request's own transaction, so that a second request is refused; the flow's first step has the
    same. `policy`: Nova's name of the rule. `schema`: of the argument, or a function from the call to it. `look`: refuses
    what only this verb refuses, and gives its flow's data. `word`: in refusals, if other than the flow's name.
    `since`: the first microversion 2.x that has it. `locked_too`: a lock does not forbid it. `hostless`: a
    server without a host may have it, too.
    """

    flow: Kind
    vm_states: frozenset[str]
    task_state: str | None
    policy: str
    rule: Rule = project_member
    schema: Any = field(default_factory=dict)
    look: Look = nothing_more
    task_states: frozenset[str | None] = IDLE
    word: str = ""
    since: int = 1
    locked_too: bool = False
    hostless: bool = False


def in_states(*vm_states: str) -> frozenset[str]:
    return frozenset(vm_states)


REBOOT = s.closed({"type": {"enum": ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]}}, ("type",))
NULL = {"type": "null"}

VERBS: dict[str, Verb] = {
    #                  flow       vm_states it is allowed in  task_state   policy
    "os-stop":    Verb("stop",    in_states("active", "error"),     POWERING_OFF, "servers:stop"),
    "os-start":   Verb("start",   in_states("stopped"),             POWERING_ON,  "servers:start"),
    "reboot":     Verb("reboot",  in_states("active"),              REBOOTING,    "servers:reboot", schema=REBOOT),
    "pause":      Verb("pause",   in_states("active"),              PAUSING,      "os-pause-server:pause"),
    "unpause":    Verb("unpause", in_states("paused"),              UNPAUSING,    "os-pause-server:unpause"),
    "suspend":    Verb("suspend", in_states("active"),              SUSPENDING,   "os-suspend-server:suspend"),
    "resume":     Verb("resume",  in_states("suspended"),           RESUMING,     "os-suspend-server:resume"),
    "trigger_crash_dump": Verb(
        "trigger_crash_dump", in_states("active", "paused", "rescued", "resized", "error"), None,
        "servers:trigger_crash_dump", schema=NULL, since=17,
    ),
}  # fmt: skip
HARD_REBOOT = Verb(
    "hard_reboot", VERBS["reboot"].vm_states | {"stopped", "paused", "suspended", "error"}, REBOOTING_HARD,
    "servers:reboot", task_states=ALLOW_REBOOT, word="reboot",
)  # fmt: skip


def schema(verb: Verb, call: Call) -> Any:
    """Of the action's argument. NotFound when this microversion has no such action."""
    if not call.since(verb.since):
        raise NotFound("The resource could not be found.")
    return verb.schema(call) if callable(verb.schema) else verb.schema


def begin(verb: Verb, tx: Tx, call: Call, argument: Any) -> Reply | None:
    """Refuses as Nova does, else sets the task state and starts the flow; what the client gets."""
    if verb.flow == "reboot" and argument["type"].upper() == "HARD":
        verb = HARD_REBOOT
    server = servers.get(tx, call.context, call.params["id"])
    if not verb.locked_too:
        servers.check_unlocked(call.context, server)
    check_state(server, verb)
    asked = verb.look(tx, call, server, argument)
    if not states.set_task_state_from(tx, server["id"], verb.task_state, server["task_state"]):
        raise servers.cannot(servers.get(tx, call.context, server["id"]), verb.word or verb.flow, "task_state")
    call.services.flows.start(tx, asked.flow or verb.flow, server["id"], call.context, asked.data)
    return asked.reply


def check_state(server: sa.RowMapping, verb: Verb) -> None:
    """Conflict in a vm_state or task_state in which the verb is not allowed, and before the server ever ran."""
    word = verb.word or verb.flow
    if not server["host"] and not verb.hostless:
        raise Conflict(f"Instance {server['id']} is not ready")
    if server["vm_state"] not in verb.vm_states:
        raise servers.cannot(server, word)
    if server["task_state"] not in verb.task_states:
        raise servers.cannot(server, word, "task_state")
    if not server["launched_at"]:
        raise Conflict(f"Instance {server['id']} is in an invalid state for '{word}'")
