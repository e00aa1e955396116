"""A flow is a literal list of steps, do beside undo."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from kilonova.db.engine import Tx

CONTROL = "control"  # inside one database transaction with its event row: exactly once, no I/O
HOST = "host"  # on the subject's host, outside any transaction: at least once

QUEUED = "queued"  # until the subject's running flow has ended
FINAL_STATES = ("done", "failed", "superseded")
RUNNING_STATES = ("running", "unwinding")


class Journal(Protocol):
    """What a step may ask of the journal (flow/log.py) that it runs in."""

    def start_or_turn(self, tx: Tx, kind: str, subject_id: str, who: dict[str, str], data: dict[str, Any]) -> None: ...
    def results(self, tx: Tx, flow_id: str) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Running:
    """The flow as a CONTROL step sees it. `data` holds the request's own words; `excluded` the hosts already tried."""

    id: str
    kind: str
    subject_id: str
    project_id: str
    user_id: str
    request_id: str
    data: dict[str, Any]
    excluded: frozenset[str] = frozenset()
    error: str | None = None
    step: str = ""  # the cursor; when it failed, where
    journal: "Journal | None" = field(default=None, repr=False, compare=False)

    def start(self, tx: Tx, kind: str, subject_id: str, data: dict[str, Any]) -> None:
        """Begin another flow in this step's commit, by the same user; one that runs there is turned into it."""
        assert self.journal is not None
        who = {"project_id": self.project_id, "user_id": self.user_id, "request_id": self.request_id}
        self.journal.start_or_turn(tx, kind, subject_id, who, data)

    def results(self, tx: Tx) -> dict[str, Any]:
        """What the flow's steps returned so far, by name."""
        assert self.journal is not None
        return self.journal.results(tx, self.id)


@dataclass(frozen=True)
class Step:
    """`do`/`undo`: CONTROL: `fn(tx, running)`; HOST: a method of the host contract, called by its name.

    `undo` None: nothing to undo. `deadline`: seconds from the step's first start after which waiting turns to failure.
    `when(tx, running)`: whether the step is done and undone for this subject, the same at every look while either has
    anything to do; not that of a first step.
    """

    do: Callable[..., Any]
    undo: Callable[..., Any] | None
    runs: str
    task_state: str | None
    deadline: float = 600.0
    when: Callable[[Tx, Running], bool] | None = None

    @property
    def name(self) -> str:
        return self.do.__name__


@dataclass(frozen=True)
class Rewind:
    """A HOST step's failure goes back to step `to`, which chooses another host, `attempts` hosts in all."""

    to: Callable[..., Any]
    attempts: int


@dataclass(frozen=True)
class Flow:
    """`on_failure(tx, running, error, details)` commits when unwinding begins; without it a failed step is owed:
    tried again with growing pauses until it is done. `no_return`: a step; what comes behind it is owed, too, since there
    is no way back any more. `subject`: what it acts on, a kind that the journal knows. `action`: Nova's name of the
    instance action, if other than `name`. `queues`: where another flow runs, it waits for that one's end; its first step
    is a CONTROL step."""

    name: str
    steps: tuple[Step, ...]
    on_failure: Callable[[Tx, Running, str, str], None] | None = None
    on_host_failure: Rewind | None = None
    no_return: Callable[..., Any] | None = None
    subject: str = "server"
    action: str = ""
    queues: bool = False

    def must_go_on(self, name: str) -> bool:
        """Whether a failure of this step does not unwind the flow, but is owed."""
        passed = self.no_return is not None and self.index(name) > self.index(self.no_return.__name__)
        return self.on_failure is None or passed

    def index(self, name: str) -> int:
        for index, step in enumerate(self.steps):
            if step.name == name:
                return index
        raise KeyError(f"flow {self.name} has no step {name}")

    def undone(self, name: str, *, task_state: str, before: tuple[Step, ...], after: tuple[Step, ...]) -> "Flow":
        """This list's undos, last first, as a flow of its own."""
        undos = tuple(
            Step(step.undo, None, step.runs, task_state, when=step.when) for step in reversed(self.steps) if step.undo
        )
        return Flow(name, (*before, *undos, *after), subject=self.subject)


class Subject(Protocol):
    """One kind of what flows act on (servers, volumes …), as far as the engine must know it."""

    def host(self, tx: Tx, subject_id: str) -> str | None: ...
    def spec(self, tx: Tx, subject_id: str) -> Any: ...
    def set_task_state(self, tx: Tx, subject_id: str, task_state: str | None) -> None: ...


@dataclass(frozen=True)
class HostWork:
    """A leased HOST step, as the host's worker gets it: all of it can cross a wire.

    `subject`: the kind of what it acts on; `data`: the request's own words, as for CONTROL steps.
    """

    flow_id: str
    token: str
    event_id: int
    verb: str
    subject_id: str
    request_id: str
    spec: Any
    results: dict[str, Any]
    subject: str = "server"
    data: dict[str, Any] = field(default_factory=dict)
    host: str = ""
    waited: float = 0.0  # seconds since the step began for the first time


@dataclass(frozen=True)
class Outcome:
    """How a step ended: result is Success, Error, Waiting or Superseded."""

    result: str
    returned: Any = None
    message: str = ""
    traceback: str | None = None
    details: str = ""  # the host's own logs, for the fault
    seconds: float = 0.0
    waits_for: str | None = None
    calls: tuple[tuple[str, float], ...] = ()
