"""The journal of all flows: who may run which step next, and what became of it.

Every write is guarded by the lease's token: a worker whose lease was taken over gets `Stale` and writes nothing.
"""

import time
import traceback
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from kilonova.db import dialect
from kilonova.db.engine import Database, Tx
from kilonova.flow import statements
from kilonova.flow.step import (
    CONTROL,
    FINAL_STATES,
    HOST,
    QUEUED,
    Flow,
    HostWork,
    Outcome,
    Running,
    Step,
    Subject,
)
from kilonova.flow.tables import FLOWS
from kilonova.flow.wake import Doorbell
from kilonova.model.errors import Conflict, KilonovaError, Later
from kilonova.model.ids import new_id, now

LEASE = 30.0  # seconds; a living worker beats it every third of that
LONGEST_PAUSE = 60.0


class Stale(KilonovaError):
    """The lease this write relied on is somebody else's by now."""


class Journal:
    def __init__(
        self, database: Database, flows: dict[str, Flow], subjects: Mapping[str, Subject], doorbell: Doorbell, node: str
    ) -> None:
        """`subjects`: by the kind that each flow names. `node` names this process's state directory: its dead
        predecessors' leases bear the same name."""
        self.database, self.flows, self.subjects, self.doorbell, self.node = database, flows, subjects, doorbell, node

    # --- starting, turning, waking -------------------------------------------------------------------------------

    def start(self, tx: Tx, kind: str, subject_id: str, who: dict[str, str], data: dict[str, Any]) -> str:
        """Write a new flow; it runs once `tx` is committed. `who`: project_id, user_id, request_id.

        Conflict when the subject has a running flow already, unless this one queues.
        """
        flow, identifier, moment = self.flows[kind], new_id(), now()
        first = flow.steps[0]
        queue = CONTROL if first.runs == CONTROL else self.subjects[flow.subject].host(tx, subject_id)
        if queue is None:
            raise Conflict(f"{subject_id} is on no host, which {kind} needs.")
        row = {
            **who, "id": identifier, "kind": kind, "subject_id": subject_id, "state": "running", "step": first.name,
            "queue": queue, "wake_at": 0.0, "step_since": time.time(), "attempts": 0, "failures": 0, "data": data,
            "created_at": moment, "updated_at": moment,
        }  # fmt: skip
        busy = self.running(tx, subject_id)
        if busy is not None and not flow.queues:
            raise Conflict(f"Another action is under way on {subject_id}; try again when it has ended.")
        if busy is not None:
            self._update(tx, busy, {"updated_at": moment})  # its end and this meet in its row: one sees the other
            tx.execute(statements.INSERT_FLOW, {**row, "state": QUEUED})
            return identifier
        tx.execute(statements.INSERT_FLOW, row)
        self._set_task_state(tx, row, first)
        tx.after_commit(lambda: self.doorbell.ring(queue))
        return identifier

    def note(self, tx: Tx, kind: str, subject_id: str, who: dict[str, str], error: str | None) -> None:
        """What needed no flow is in the journal, too: a step of one transaction, ended in it."""
        identifier, moment = new_id(), now()
        result, state = ("Error", "failed") if error else ("Success", "done")
        row: dict[str, Any] = {
            **who, "id": identifier, "kind": kind, "subject_id": subject_id, "state": state, "step": kind, "queue": CONTROL,
            "wake_at": 0.0, "step_since": time.time(), "attempts": 0, "failures": 0, "data": {}, "error": error,
            "created_at": moment, "updated_at": moment,
        }  # fmt: skip
        tx.execute(FLOWS.insert(), row)
        event = {
            "flow_id": identifier, "step": kind, "undo": False, "started_at": moment, "finished_at": moment,
            "result": result, "host": None, "details": {"message": error} if error else {}, "traceback": None,
        }  # fmt: skip
        tx.execute(statements.INSERT_EVENT, event)

    def running(self, tx: Tx, subject_id: str) -> sa.RowMapping | None:
        return tx.first(statements.RUNNING_OF, {"of_subject": subject_id})

    def start_or_turn(self, tx: Tx, kind: str, subject_id: str, who: dict[str, str], data: dict[str, Any]) -> None:
        """Start `kind`; a flow that runs is turned into it before its next step. Nothing when it runs already.

        One that queues turns nothing.
        """
        row = self.running(tx, subject_id)
        if row is None or self.flows[kind].queues:
            self.start(tx, kind, subject_id, who, data)
        elif kind not in (row["kind"], row["turn_into"]):  # of two that would replace it, the later one
            turned = {**row["data"], "turn": {"who": who, "data": data}}
            self._update(tx, row, {"turn_into": kind, "wake_at": 0.0, "data": turned})
            tx.after_commit(lambda: self.doorbell.ring(row["queue"]))

    def wake(self, tx: Tx, key: str) -> None:
        """Let the flows that wait for the row `key` go on, in the commit that made it true."""
        if tx.execute(statements.WAKE, {"row_key": key, "wake_at": 0.0}).rowcount:
            tx.after_commit(lambda: self.doorbell.ring(CONTROL))

    def void_leases(self) -> None:
        """At start: what this state directory's dead predecessor held is free at once."""
        held = FLOWS.c.leased_by == self.node
        clear: dict[str, Any] = {"token": None, "lease_until": None, "leased_by": None, "wake_at": 0.0}
        self.database.write(lambda tx: tx.execute(FLOWS.update().where(held).values(clear)) and None)

    # --- leases --------------------------------------------------------------------------------------------------

    def claim(self, queue: str) -> sa.RowMapping | None:
        """Lease the flow of this queue that has been due the longest; None when there is none."""
        due = {"of_queue": queue, "moment": time.time()}
        if self.database.read(lambda tx: tx.scalar(statements.DUE, due)) is None:
            return None  # without the write lock: most looks find nothing

        def take(tx: Tx) -> sa.RowMapping | None:
            lease = {"token": new_id(), "lease_until": time.time() + LEASE, "leased_by": self.node}
            row = tx.first(statements.take_due(tx), {**due, **lease})
            if row is not None and row["turn_into"]:
                self._turn(tx, row)
            return row

        row = self.database.write(take)
        return self.claim(queue) if row is not None and row["turn_into"] else row

    def beat(self, token: str) -> bool:
        """Prolong a lease. False when it is lost, or the flow is to be turned into another: stop soon."""

        def prolong(tx: Tx) -> bool:
            kept = tx.execute(statements.PROLONG, {"held": token, "lease_until": time.time() + LEASE}).rowcount
            return bool(kept) and tx.scalar(statements.TURN_OF, {"held": token}) is None

        return self.database.write(prolong)

    def holds(self, token: str) -> bool:
        return self.database.read(lambda tx: tx.first(statements.TURN_OF, {"held": token})) is not None

    def _guarded(self, tx: Tx, flow_id: str, token: str) -> sa.RowMapping:
        row = tx.first(statements.GUARD_FLOW, {"of_flow": flow_id, "held": token, "updated_at": now()})
        if row is None:
            raise Stale(f"the lease on flow {flow_id} was taken over")
        return row

    # --- CONTROL steps -------------------------------------------------------------------------------------------

    def control_step(self, claimed: sa.RowMapping, host: str | None = None) -> sa.RowMapping | None:
        """Run the flow's next CONTROL step with its event row; the flow's row when the same worker goes on: with another
        CONTROL step, or with one of `host`, whose worker this is."""
        return self.database.write(lambda tx: self._kept(tx, self._control_step(tx, claimed), host))

    def _control_step(self, tx: Tx, claimed: sa.RowMapping) -> sa.RowMapping | None:
        row = self._guarded(tx, claimed["id"], claimed["token"])
        if row["turn_into"]:
            self._turn(tx, row)
            return None
        step = self._step(row)
        verb = step.undo if row["state"] == "unwinding" else step.do
        assert verb is not None
        started = now()
        try:
            with tx.connection.begin_nested():
                outcome = Outcome("Success", returned=verb(tx, self._running(row)))
        except Later as later:
            outcome = Outcome("Waiting", seconds=later.seconds, waits_for=later.waits_for)
        except IntegrityError as error:  # somebody else was quicker: look again
            outcome = Outcome("Waiting", message=str(error), seconds=0.05)
        except DBAPIError as error:
            if dialect.should_replay(error):
                raise
            outcome = Outcome("Error", message=str(error), traceback=traceback.format_exc())
        except Exception as error:
            outcome = Outcome("Error", message=str(error), traceback=traceback.format_exc())
        if outcome.result != "Waiting":
            self._event(tx, row, verb.__name__, started, outcome)
        return self._move_on(tx, row, outcome)

    # --- HOST steps ----------------------------------------------------------------------------------------------

    def host_work(self, claimed: sa.RowMapping) -> HostWork:
        """Commit the intent (the event row), and give all that the host's worker needs."""
        return self.database.write(lambda tx: self._host_work(tx, self._guarded(tx, claimed["id"], claimed["token"])))

    def _host_work(self, tx: Tx, row: sa.RowMapping, spec: Any = None) -> HostWork:
        """`spec`: what the step before was given under the same lease; None reads today's rows."""
        step = self._step(row)
        verb = step.undo if row["state"] == "unwinding" else step.do
        assert verb is not None
        died = {"of_flow": row["id"], "finished_at": now(), "result": "Interrupted"}
        tx.execute(statements.END_UNFINISHED, died)
        started = {"flow_id": row["id"], "step": verb.__name__, "undo": row["state"] == "unwinding",
                   "started_at": now(), "host": row["queue"]}  # fmt: skip
        event_id = tx.execute(statements.BEGIN_EVENT, started).scalar_one()
        results = self.results(tx, row["id"])
        kind = self.flows[row["kind"]].subject
        return HostWork(
            row["id"], row["token"], event_id, verb.__name__, row["subject_id"], row["request_id"],
            spec or self.subjects[kind].spec(tx, row["subject_id"]), results, kind, row["data"], row["queue"],
            time.time() - (row["step_since"] or time.time()),
        )  # fmt: skip

    def record(self, work: HostWork, outcome: Outcome) -> HostWork | sa.RowMapping | None:
        """Write how a HOST step ended. What follows under the same lease: this host's next step, or the flow's row when it
        is a CONTROL step. None when this worker has no more to do.

        Raises Stale, having written nothing, when the lease was taken over.
        """

        def write(tx: Tx) -> HostWork | sa.RowMapping | None:
            row = self._guarded(tx, work.flow_id, work.token)
            done = {"finished_at": now(), "result": outcome.result, "details": details(outcome),
                    "traceback": outcome.traceback}  # fmt: skip
            tx.execute(statements.END_EVENT, {"of_event": work.event_id, **done})
            if row["turn_into"]:
                self._turn(tx, row)
                return None
            following = self._kept(tx, self._move_on(tx, row, outcome), work.host)
            if following is None or following["queue"] == CONTROL:
                return following
            turned_back = following["state"] != row["state"]
            return self._host_work(tx, following, None if turned_back else work.spec)

        return self.database.write(write)

    def results(self, tx: Tx, flow_id: str) -> dict[str, Any]:
        """What the flow's steps returned, by name."""
        found = tx.all(statements.SUCCESSES, {"of_flow": flow_id})
        return {event["step"]: (event["details"] or {}).get("returned") for event in found}

    # --- moving the cursor ---------------------------------------------------------------------------------------

    def _running(self, row: sa.RowMapping) -> Running:
        excluded = frozenset(row["data"].get("excluded", ()))
        names = ("id", "kind", "subject_id", "project_id", "user_id", "request_id", "data", "error", "step")
        return Running(**{name: row[name] for name in names}, excluded=excluded, journal=self)

    def _step(self, row: sa.RowMapping) -> Step:
        flow = self.flows[row["kind"]]
        return flow.steps[flow.index(row["step"])]

    def _host(self, tx: Tx, row: sa.RowMapping, step: Step) -> str | None:
        """Where a HOST step is to run; None when there never was a host."""
        return self._subject(row).host(tx, row["subject_id"]) if step.runs == HOST else None

    def _subject(self, row: sa.RowMapping) -> Subject:
        return self.subjects[self.flows[row["kind"]].subject]

    def _event(self, tx: Tx, row: sa.RowMapping, verb: str, started: Any, outcome: Outcome) -> None:
        event = {
            "flow_id": row["id"], "step": verb, "undo": row["state"] == "unwinding", "started_at": started,
            "finished_at": now(), "result": outcome.result, "host": None, "details": details(outcome),
            "traceback": outcome.traceback,
        }  # fmt: skip
        tx.execute(statements.INSERT_EVENT, event)

    def _move_on(self, tx: Tx, row: sa.RowMapping, outcome: Outcome) -> sa.RowMapping | None:
        flow, step = self.flows[row["kind"]], self._step(row)
        if outcome.result == "Waiting":
            waited = time.time() - (row["step_since"] or time.time())
            if waited < step.deadline or row["state"] == "unwinding" or flow.must_go_on(step.name):
                pause = {"wake_at": time.time() + outcome.seconds, "waits_for": outcome.waits_for}
                return self._release(tx, row, pause)
            message = f"{step.name} still waited after {step.deadline:g} s"
            outcome = Outcome("Error", message=outcome.message or message)
            self._event(tx, row, step.name, now(), outcome)
        if outcome.result == "Success":
            return self._backward(tx, row) if row["state"] == "unwinding" else self._forward(tx, row)
        return self._failed(tx, row, outcome)

    def _forward(self, tx: Tx, row: sa.RowMapping) -> sa.RowMapping | None:
        flow = self.flows[row["kind"]]
        for step in flow.steps[flow.index(row["step"]) + 1 :]:
            host = self._host(tx, row, step)
            unwanted = step.when is not None and not step.when(tx, self._running(row))
            if unwanted or (step.runs == HOST and host is None):  # there never was a host: nothing of ours is there
                self._event(tx, row, step.name, now(), Outcome("Skipped"))
                continue
            self._set_task_state(tx, row, step)
            return self._to(tx, row, step, host or CONTROL, {})
        return self._end(tx, row, "done")

    def _backward(self, tx: Tx, row: sa.RowMapping, *, this_too: bool = False) -> sa.RowMapping | None:
        """To the undo before this one (or this step's own, which may be half done)."""
        flow = self.flows[row["kind"]]
        here = flow.index(row["step"])
        if not this_too and row["step"] == row["rewind_to"]:
            step = flow.steps[here]
            self._set_task_state(tx, row, step)
            return self._to(tx, row, step, CONTROL, {"state": "running", "rewind_to": None})
        for step in reversed(flow.steps[: here + 1 if this_too else here]):
            if step.undo is None or (step.when is not None and not step.when(tx, self._running(row))):
                continue
            host = self._host(tx, row, step)
            if step.runs == HOST and host is None:
                continue
            return self._to(tx, row, step, host or CONTROL, {"state": "unwinding"})
        return self._end(tx, row, "failed")

    def _failed(self, tx: Tx, row: sa.RowMapping, outcome: Outcome) -> sa.RowMapping | None:
        flow, step = self.flows[row["kind"]], self._step(row)
        if row["state"] == "unwinding" or flow.must_go_on(step.name):  # owed: again, later
            failures = row["failures"] + 1
            pause = min(0.25 * 2 ** min(failures, 10), LONGEST_PAUSE)
            return self._release(tx, row, {"failures": failures, "wake_at": time.time() + pause})
        error = row["error"] or outcome.message or outcome.result
        changes: dict[str, Any] = {"error": error}
        rewind = flow.on_host_failure
        if rewind and step.runs == HOST and row["attempts"] + 1 < rewind.attempts:
            excluded = [*row["data"].get("excluded", []), row["queue"]]
            changes |= {"attempts": row["attempts"] + 1, "rewind_to": rewind.to.__name__}
            changes["data"] = {**row["data"], "excluded": excluded, "details": outcome.details}
        else:
            assert flow.on_failure is not None
            flow.on_failure(tx, self._running(row), error, outcome.details or row["data"].get("details", ""))
        return self._backward(tx, self._update(tx, row, changes), this_too=True)

    def _to(self, tx: Tx, row: sa.RowMapping, step: Step, queue: str, changes: dict[str, Any]) -> sa.RowMapping | None:
        """Set the cursor, under the same lease."""
        cursor = {"step": step.name, "queue": queue, "wake_at": 0.0, "waits_for": None, "failures": 0,
                  "step_since": time.time()}  # fmt: skip
        return self._update(tx, row, {**cursor, **changes})

    def _kept(self, tx: Tx, row: sa.RowMapping | None, host: str | None) -> sa.RowMapping | None:
        """The row where its worker, `host`'s or none's, goes on; else the lease is given up for another to go on."""
        return row if row is None or row["queue"] in (CONTROL, host) else self._release(tx, row, {})

    def _release(self, tx: Tx, row: sa.RowMapping, changes: dict[str, Any]) -> sa.RowMapping | None:
        """Give up the lease: nothing more for this worker (None)."""
        free = {"token": None, "lease_until": None, "leased_by": None}
        self._update(tx, row, {**free, **changes})
        queue = changes.get("queue", row["queue"])
        if changes.get("state") not in FINAL_STATES and changes.get("wake_at", 0.0) <= time.time():
            tx.after_commit(lambda: self.doorbell.ring(queue))
        return None

    def _end(self, tx: Tx, row: sa.RowMapping, state: str) -> sa.RowMapping | None:
        assert state in FINAL_STATES
        self._release(tx, row, {"state": state, "updated_at": now()})
        if state == "superseded":
            return None
        if any(step.task_state for step in self.flows[row["kind"]].steps):
            self._subject(row).set_task_state(tx, row["subject_id"], None)
        following = tx.first(statements.QUEUED_OF, {"of_subject": row["subject_id"]})
        if following is not None:
            self._update(tx, following, {"state": "running", "step_since": time.time()})
            self._set_task_state(tx, following, self._step(following))
            tx.after_commit(lambda: self.doorbell.ring(CONTROL))
        return None

    def _set_task_state(self, tx: Tx, row: Mapping[str, Any] | sa.RowMapping, step: Step) -> None:
        """A step without one leaves it as it is; the flow's end clears it."""
        if step.task_state is not None:
            self.subjects[self.flows[row["kind"]].subject].set_task_state(tx, row["subject_id"], step.task_state)

    def _turn(self, tx: Tx, row: sa.RowMapping) -> None:
        """End this flow, and start the one it was turned into, in one commit."""
        turn = row["data"]["turn"]
        self._end(tx, row, "superseded")
        self.start(tx, row["turn_into"], row["subject_id"], turn["who"], turn["data"])

    def _update(self, tx: Tx, row: sa.RowMapping, changes: dict[str, Any]) -> sa.RowMapping:
        """The row as it is then."""
        fresh = tx.first(statements.UPDATE_FLOW, {"of_flow": row["id"], **changes})
        assert fresh is not None
        return fresh


def details(outcome: Outcome) -> dict[str, Any]:
    """What an event keeps of an outcome: calls as [name, milliseconds]."""
    calls = [[name, round(seconds * 1000, 2)] for name, seconds in outcome.calls]
    kept = {"returned": outcome.returned, "message": outcome.message, "calls": calls}
    return {key: value for key, value in kept.items() if value}
