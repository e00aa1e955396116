"""The engine on a toy: steps put a thing down and take it away again; what is left must be all or nothing."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from kilonova.db.engine import Database, Tx
from kilonova.flow.log import Journal, Stale
from kilonova.flow.step import CONTROL, HOST, Flow, HostWork, Outcome, Rewind, Running, Step
from kilonova.flow.tables import EVENTS, FLOWS
from kilonova.flow.wake import Doorbell
from kilonova.flow.worker import LocalSeam, control_turn, host_turn
from kilonova.model.errors import Conflict, Later

WHO = {"project_id": "p", "user_id": "u", "request_id": "req-1"}


class Crash(BaseException):
    """The process dies here."""


class Toy:
    """The subject, its steps, and the things they put down."""

    def __init__(self) -> None:
        self.things: set[str] = set()  # what hosts hold
        self.rows: set[str] = set()  # what control steps wrote (committed with the step, so kept by name)
        self.chosen: str | None = None
        self.errors: list[str] = []
        self.fault: dict[str, Callable[[], None]] = {}
        self.gate_open = True
        self.hosts_tried: list[str] = []
        self.task_states: list[str | None] = []

    def host(self, tx: Tx, subject_id: str) -> str | None:
        return self.chosen

    def spec(self, tx: Tx, subject_id: str) -> Any:
        return {"host": self.chosen}

    def set_task_state(self, tx: Tx, subject_id: str, task_state: str | None) -> None:
        self.task_states.append(task_state)

    def at(self, point: str) -> None:
        if point in self.fault:
            self.fault.pop(point)()

    def verb(self, work: HostWork, cancelled: Callable[[], bool]) -> Outcome:
        self.at(f"before {work.verb}")
        if work.verb == "make":
            self.things.add("half")
            self.at("inside make")
            self.things.add("made")
        elif work.verb == "unmake":
            self.things -= {"half", "made"}
        elif work.verb == "run":
            assert "made" in self.things
            self.things.add("running")
        elif work.verb == "halt":
            self.things.discard("running")
        self.at(f"after {work.verb}")
        return Outcome("Success", returned={"by": work.verb})

    def flows(self) -> dict[str, Flow]:
        toy = self

        def write(tx: Tx, flow: Running) -> Any:
            toy.at("before write")
            toy.rows.add("row")
            toy.at("after write")

        def unwrite(tx: Tx, flow: Running) -> Any:
            toy.rows.discard("row")

        def choose(tx: Tx, flow: Running) -> Any:
            toy.at("before choose")
            left = sorted({"h1", "h2", "h3"} - flow.excluded)
            toy.chosen = left[0]
            toy.hosts_tried.append(left[0])
            toy.at("after choose")

        def unchoose(tx: Tx, flow: Running) -> Any:
            toy.chosen = None

        def gate(tx: Tx, flow: Running) -> Any:
            if not toy.gate_open:
                raise Later(30, waits_for="gate")

        def finish(tx: Tx, flow: Running) -> Any:
            toy.at("before finish")
            toy.rows.add("active")

        def failed(tx: Tx, flow: Running, error: str, details: str) -> None:
            toy.errors.append(error)

        def mark(tx: Tx, flow: Running) -> Any:
            return None

        def gone(tx: Tx, flow: Running) -> Any:
            toy.rows = {"gone"}

        class Hands:
            def make(self) -> None: ...
            def unmake(self) -> None: ...
            def run(self) -> None: ...
            def halt(self) -> None: ...

        create = Flow(
            "create",
            (
                Step(write, unwrite, CONTROL, "writing"),
                Step(choose, unchoose, CONTROL, "choosing"),
                Step(Hands.make, Hands.unmake, HOST, "making"),
                Step(gate, None, CONTROL, "waiting", deadline=60),
                Step(Hands.run, Hands.halt, HOST, "running"),
                Step(finish, None, CONTROL, None),
            ),
            on_failure=failed,
            on_host_failure=Rewind(to=choose, attempts=3),
        )
        delete = create.undone(
            "delete", task_state="deleting",
            before=(Step(mark, None, CONTROL, "deleting"),), after=(Step(gone, None, CONTROL, None),),
        )  # fmt: skip

        def plug(tx: Tx, flow: Running) -> Any:
            toy.at("before plug")
            toy.rows.add("plug of " + ("one that is gone" if "gone" in toy.rows else "one that is there"))

        attach = Flow("attach", (Step(plug, None, CONTROL, None),), on_failure=failed, queues=True)
        return {"create": create, "delete": delete, "attach": attach}


class Machine:
    """A journal with its toy, run by hand: one turn of each queue after another."""

    def __init__(self, database: Database, locks: Path) -> None:
        self.database, self.locks, self.toy = database, locks, Toy()
        locks.mkdir()
        self.journal = Journal(database, self.toy.flows(), {"server": self.toy}, Doorbell(), "node")
        self.seam = LocalSeam(self.journal, lambda: None)

    def start(self, kind: str = "create") -> None:
        self.database.write(lambda tx: self.journal.start_or_turn(tx, kind, "s1", WHO, {}))

    def turn(self) -> bool:
        if control_turn(self.journal):
            return True
        hosts = ("h1", "h2", "h3")
        return any(host_turn(self.seam, host, self.toy.verb, self.locks, lambda: None) for host in hosts)

    def run(self) -> None:
        """Until nothing is due; a crash is followed by a restart, which voids the dead process's leases."""
        for _ in range(100):
            try:
                if not self.turn() and not self.turn():  # a turned flow goes on in another queue
                    if not self.state().intersection({"running", "unwinding"}):
                        return
                    if not self.hurry():
                        return
            except Crash:
                self.journal.void_leases()
        raise AssertionError("the flow does not come to an end")

    def hurry(self) -> bool:
        """Let pauses of what is owed pass at once; a flow that waits for a row is left waiting."""
        owed = FLOWS.c.waits_for.is_(None) & (FLOWS.c.wake_at > 0)
        update = FLOWS.update().where(owed).values(wake_at=0.0)
        return bool(self.database.write(lambda tx: tx.execute(update).rowcount))

    def state(self) -> set[str]:
        return {row["state"] for row in self.database.read(lambda tx: tx.all(sa.select(FLOWS)))}

    def events(self) -> list[tuple[str, str | None]]:
        rows = self.database.read(lambda tx: tx.all(sa.select(EVENTS).order_by(EVENTS.c.id)))
        return [(row["step"], row["result"]) for row in rows]


@pytest.fixture
def machine(database: Database, tmp_path: Path) -> Machine:
    return Machine(database, tmp_path / "locks")


def boom() -> None:
    raise RuntimeError("boom")


def crash() -> None:
    raise Crash


HOST_POINTS = ["before make", "inside make", "after make", "before run", "after run"]
CONTROL_POINTS = ["before write", "after write", "before choose", "after choose", "before finish"]


def test_runs_to_the_end_and_tells_each_step(machine: Machine) -> None:
    machine.start()
    machine.run()
    assert machine.state() == {"done"}
    assert machine.toy.things == {"half", "made", "running"}
    assert machine.events() == [(step, "Success") for step in ("write", "choose", "make", "gate", "run", "finish")]
    assert machine.toy.task_states == ["writing", "choosing", "making", "waiting", "running", None]


@pytest.mark.parametrize("point", CONTROL_POINTS)
def test_an_error_in_a_control_step_leaves_a_clean_slate(machine: Machine, point: str) -> None:
    machine.toy.fault[point] = boom
    machine.start()
    machine.run()
    assert machine.state() == {"failed"}
    assert machine.toy.errors == ["boom"]
    assert machine.toy.things == set() and machine.toy.chosen is None


@pytest.mark.parametrize("point", HOST_POINTS)
def test_an_error_on_a_host_goes_to_the_next_host(machine: Machine, point: str) -> None:
    machine.toy.fault[point] = boom
    machine.start()
    machine.run()
    assert machine.state() == {"done"}
    assert machine.toy.hosts_tried == ["h1", "h2"]
    assert machine.toy.things == {"half", "made", "running"} and machine.toy.errors == []


def test_when_every_host_fails_the_first_error_is_told(machine: Machine) -> None:
    toy = machine.toy

    def always(words: str) -> Callable[[], None]:
        def fail() -> None:
            toy.fault["inside make"] = always("a later error")
            raise RuntimeError(words)

        return fail

    toy.fault["inside make"] = always("the first error")
    machine.start()
    machine.run()
    assert machine.state() == {"failed"}
    assert toy.errors == ["the first error"]
    assert toy.hosts_tried == ["h1", "h2", "h3"]
    assert toy.things == set() and toy.chosen is None and toy.rows == set()


@pytest.mark.parametrize("point", HOST_POINTS)
def test_a_crash_on_a_host_resumes(machine: Machine, point: str) -> None:
    machine.toy.fault[point] = crash
    machine.start()
    machine.run()
    assert machine.state() == {"done"}
    assert machine.toy.hosts_tried == ["h1"]
    assert "Interrupted" in {result for _, result in machine.events()}


@pytest.mark.parametrize("point", ["before unmake", "after unmake", "before halt"])
@pytest.mark.parametrize("fault", [boom, crash])
def test_what_is_owed_is_tried_again(machine: Machine, point: str, fault: Callable[[], None]) -> None:
    machine.start()
    machine.run()
    machine.toy.fault[point] = fault
    machine.start("delete")
    machine.run()
    assert machine.state() == {"done"}
    assert machine.toy.things == set() and machine.toy.rows == {"gone"}


@pytest.mark.parametrize("turns", range(6))
def test_a_delete_at_any_time_wins(machine: Machine, turns: int) -> None:
    machine.toy.gate_open = False
    machine.start()
    for _ in range(turns):
        machine.turn()
    machine.start("delete")
    machine.start("delete")  # again: nothing more
    machine.run()
    assert machine.state() == {"superseded", "done"}
    assert machine.toy.things == set() and machine.toy.rows == {"gone"} and machine.toy.chosen is None


def test_a_stale_workers_write_is_refused(machine: Machine) -> None:
    machine.start()
    control_turn(machine.journal)
    stale = machine.seam.claim("h1")
    assert stale is not None
    machine.journal.void_leases()
    machine.run()
    with pytest.raises(Stale):
        machine.seam.record(stale, Outcome("Error", message="too late"))
    assert machine.state() == {"done"}
    assert not machine.seam.beat(stale.token)


def test_waiting_ends_with_the_row_it_waits_for(machine: Machine) -> None:
    machine.toy.gate_open = False
    machine.start()
    for _ in range(5):
        machine.turn()
    assert machine.state() == {"running"} and ("gate", "Success") not in machine.events()
    machine.toy.gate_open = True
    machine.database.write(lambda tx: machine.journal.wake(tx, "gate"))
    machine.run()
    assert machine.state() == {"done"}


def test_a_step_past_its_deadline_fails(machine: Machine) -> None:
    machine.toy.gate_open = False
    machine.start()
    for _ in range(5):
        machine.turn()
    past = FLOWS.update().values(step_since=time.time() - 61, wake_at=0.0)
    machine.database.write(lambda tx: tx.execute(past) and None)
    machine.run()
    assert machine.state() == {"failed"}
    assert machine.toy.errors == ["gate still waited after 60 s"]
    assert machine.toy.things == set()


def test_one_running_flow_a_server(machine: Machine) -> None:
    machine.start()
    with pytest.raises(Conflict):
        machine.database.write(lambda tx: machine.journal.start(tx, "create", "s1", WHO, {}))


def test_what_queues_runs_when_the_flow_before_it_has_ended(machine: Machine) -> None:
    machine.toy.gate_open = False
    machine.start()
    machine.run()
    machine.start("attach")
    machine.start("attach")
    machine.run()
    assert machine.state() == {"running", "queued"} and "active" not in machine.toy.rows
    machine.toy.gate_open = True
    machine.database.write(lambda tx: machine.journal.wake(tx, "gate"))
    machine.run()
    assert machine.state() == {"done"}
    assert machine.events()[-3:] == [("finish", "Success"), ("plug", "Success"), ("plug", "Success")]
    assert machine.toy.task_states[-1] is None


def test_what_queues_outlives_a_failure_before_it_and_a_crash(machine: Machine) -> None:
    machine.toy.gate_open = False
    machine.start()
    machine.run()
    machine.start("attach")
    machine.start("attach")
    machine.toy.fault["before finish"] = boom
    machine.toy.fault["before plug"] = crash
    machine.toy.gate_open = True
    machine.database.write(lambda tx: machine.journal.wake(tx, "gate"))
    machine.run()
    assert machine.state() == {"failed", "done"}
    assert [step for step, _ in machine.events()][-2:] == ["plug", "plug"]


def test_a_delete_goes_before_what_queues(machine: Machine) -> None:
    machine.toy.gate_open = False
    machine.start()
    machine.run()
    machine.start("attach")
    machine.start("delete")
    machine.run()
    assert machine.state() == {"superseded", "done"}
    assert machine.toy.rows == {"gone", "plug of one that is gone"} and machine.toy.things == set()
