"""The workers: threads that claim a flow, run its steps as long as they are theirs, and let go of it.

`ControlWorkers` run CONTROL steps beside the database. `HostWorkers` run HOST steps and see the journal only through
`HostSeam`, which an agent on another host will speak over HTTPS.
"""

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from kilonova.filelock import held
from kilonova.flow.log import LEASE, Journal, Stale
from kilonova.flow.step import CONTROL, HostWork, Outcome
from kilonova.model.errors import Cancelled, Later

log = logging.getLogger(__name__)
POLL = 1.0  # seconds between looks when no bell rings
HOST_WORKERS = 4  # HOST steps at once on one host

Verb = Callable[[HostWork, Callable[[], bool]], Outcome]


class HostSeam(Protocol):
    """All that a host's worker asks of the control side."""

    def claim(self, host: str) -> HostWork | None: ...
    def record(self, work: HostWork, outcome: Outcome) -> HostWork | None: ...
    def beat(self, token: str) -> bool: ...
    def holds(self, token: str) -> bool: ...
    def wait(self, host: str, timeout: float) -> None: ...


class LocalSeam:
    """The seam of a host in the same process as the database."""

    def __init__(self, journal: Journal, nudge: Callable[[], None]) -> None:
        """`nudge`: as for ControlWorkers."""
        self.journal, self.nudge = journal, nudge

    def claim(self, host: str) -> HostWork | None:
        row = self.journal.claim(host)
        return self.journal.host_work(row) if row is not None else None

    def record(self, work: HostWork, outcome: Outcome) -> HostWork | None:
        """CONTROL steps that follow are run here and now: the host need not wait until one of ControlWorkers has time."""
        following = self.journal.record(work, outcome)
        if following is None or isinstance(following, HostWork):
            return following
        row = control_steps(self.journal, following, work.host)
        if row is None:
            self.nudge()
            return None
        return self.journal.host_work(row)

    def beat(self, token: str) -> bool:
        return self.journal.beat(token)

    def holds(self, token: str) -> bool:
        return self.journal.holds(token)

    def wait(self, host: str, timeout: float) -> None:
        self.journal.doorbell.wait(host, timeout)


class Threads:
    """`count` threads that call `turn()` until `stop()`; an exception is logged, and the thread goes on."""

    def __init__(self, name: str, count: int, turn: Callable[[], None]) -> None:
        self._turn = turn
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end_soon(self) -> None:
        """Ask all to end after the step each is in."""
        self._stopping.set()

    def stop(self, timeout: float = 30) -> None:
        """Ask all to end, and wait for the step each is in."""
        self.end_soon()
        for thread in self._threads:
            thread.join(timeout)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def _run(self) -> None:
        while not self.stopping:
            try:
                self._turn()
            except Exception:
                log.exception("a worker's turn failed")
                self._stopping.wait(POLL)


class ControlWorkers(Threads):
    """`nudge` tells the loops that rows they keep true may have changed."""

    def __init__(self, journal: Journal, nudge: Callable[[], None], count: int = 2) -> None:
        super().__init__("control", count, self._work)
        self.journal, self.nudge = journal, nudge

    def _work(self) -> None:
        if control_turn(self.journal):
            self.nudge()
        else:
            self.journal.doorbell.wait(CONTROL, POLL)


def control_turn(journal: Journal) -> bool:
    """Run one claimed flow's CONTROL steps; False when nothing was due."""
    row = journal.claim(CONTROL)
    if row is None:
        return False
    try:
        control_steps(journal, row)
    except Stale as stale:
        log.warning("%s", stale)
    return True


def control_steps(journal: Journal, row: sa.RowMapping | None, host: str | None = None) -> sa.RowMapping | None:
    """Run the CONTROL steps that come next; the flow's row when a HOST step of `host` follows, under the same lease."""
    while row is not None and row["queue"] == CONTROL:
        row = journal.control_step(row, host)
    return row


class HostWorkers(Threads):
    """`run_verb` runs one HOST step on the host; `nudge` tells the host's loops that something was done."""

    def __init__(self, seam: HostSeam, host: str, run_verb: Verb, locks: Path, nudge: Callable[[], None]) -> None:
        super().__init__(f"host-{host}", HOST_WORKERS, self._work)
        self.seam, self.host, self.run_verb, self.locks, self.nudge = seam, host, run_verb, locks, nudge
        locks.mkdir(parents=True, exist_ok=True)

    def _work(self) -> None:
        if not host_turn(self.seam, self.host, self.run_verb, self.locks, self.nudge):
            self.seam.wait(self.host, POLL)


def host_turn(seam: HostSeam, host: str, run_verb: Verb, locks: Path, nudge: Callable[[], None]) -> bool:
    """Run one claimed flow's HOST steps under its server's lock; False when nothing was due."""
    work = seam.claim(host)
    if work is None:
        return False
    try:
        with beating(seam, work.token) as cancelled, held(locks / work.subject_id):
            # A stalled worker never acts beside its successor: the token is looked at under the lock, by `holds` before
            # the first step, by `record` before each further one.
            going_on = seam.holds(work.token)
            while work is not None and going_on:
                work = seam.record(work, attempt(run_verb, work, cancelled))
    except Stale as stale:
        log.warning("%s", stale)
    nudge()
    return True


def attempt(run_verb: Verb, work: HostWork, cancelled: Callable[[], bool]) -> Outcome:
    try:
        return run_verb(work, cancelled)
    except Later as later:
        return Outcome("Waiting", seconds=later.seconds, waits_for=later.waits_for)
    except Cancelled:
        return Outcome("Superseded")
    except Exception as error:
        log.exception("%s: %s failed on %s %s", work.request_id, work.verb, work.subject, work.subject_id)
        notes = "\n".join(getattr(error, "__notes__", ()))  # the host's own logs
        return Outcome("Error", message=str(error) or repr(error), traceback=traceback.format_exc(), details=notes)


@contextmanager
def beating(seam: HostSeam, token: str) -> Iterator[Callable[[], bool]]:
    """Keep the lease while the step runs; yields `cancelled()`, which asks the control side at most once a second."""
    ended, lost = threading.Event(), threading.Event()
    asked = [time.monotonic()]

    def ask() -> None:
        try:
            if not seam.beat(token):
                lost.set()
        except Exception:
            log.exception("a lease could not be prolonged")

    def beat() -> None:
        while not ended.wait(LEASE / 3):
            ask()

    def cancelled() -> bool:
        if time.monotonic() - asked[0] > 1:
            asked[0] = time.monotonic()
            ask()
        return lost.is_set()

    thread = threading.Thread(target=beat, name="beat", daemon=True)
    thread.start()
    try:
        yield cancelled
    finally:
        ended.set()
