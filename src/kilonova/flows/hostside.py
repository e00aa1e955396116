"""A host's side of the seam: its workers, its loops, its answers. Knows the control side by its contract alone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from kilonova.flow.step import HostWork, Outcome
from kilonova.flow.worker import POLL, HostSeam, HostWorkers, Threads
from kilonova.flows.chaos import mortal
from kilonova.host.calls import recorded
from kilonova.host.contract import LOOK, QUESTIONS, Answer, Ask, ControlSide, Host, VolumeWork, Work
from kilonova.loops.cache import CacheLoop
from kilonova.loops.inventory import InventoryLoop
from kilonova.loops.ports import PortLoop
from kilonova.loops.power import PowerLoop
from kilonova.model.errors import Cancelled, HostError, Later
from kilonova.model.specs import ServerSpec, StorageSpec


class HostRunner:
    """One host's workers and loops. `work` and `control` are all that they see of the control side."""

    def __init__(self, host: Host, work: HostSeam, control: ControlSide, locks: Path) -> None:
        self.host, self.control = host, control
        self.ports = PortLoop(
            control.desired_network,
            host.apply_network,
            control.report_ports,
            watch=host.watch_network,
            pending=host.network_pending,
        )
        self.power = PowerLoop(host.power_states, control.report_power_states, watch=host.watch_guests)
        self.inventory = InventoryLoop(host.inventory, control.report_inventory)
        self.cache = CacheLoop(host.evict_images)
        self.workers = HostWorkers(work, host.name, partial(run_verb, host, control), locks, self.ports.nudge)
        self.listeners = Threads(f"asks-{host.name}", 2, self._listen)

    def start(self, *, after_boot: bool) -> None:
        """`after_boot`: the machine was down since the last start, and its guests with it."""
        if after_boot:
            self.control.report_boot(self.host.power_states())
        for part in (self.listeners, self.inventory, self.ports, self.power, self.cache, self.workers):
            part.start()

    def end_soon(self) -> None:
        """Begin to stop: what waits for work waits no more than once."""
        self.workers.end_soon()
        self.listeners.end_soon()

    def stop(self) -> None:
        self.end_soon()
        for part in (self.workers, self.cache, self.power, self.ports, self.inventory, self.listeners):
            part.stop()
        self.host.close()

    def _listen(self) -> None:
        ask = self.control.next_ask(POLL)
        if ask is not None and ask.verb == LOOK:
            self.ports.nudge()
        elif ask is not None:
            self.control.answer(answer(self.host, ask))


def run_verb(host: Host, control: ControlSide, work: HostWork, cancelled: Callable[[], bool]) -> Outcome:
    """Run one HOST step: the host's method of that name, its outside calls collected for the trace."""
    verb, of_server = getattr(host, work.verb), work.subject == "server"
    given = server_work(work, cancelled, control) if of_server else volume_work(work, cancelled, control)
    with mortal(work.verb), recorded() as calls:
        try:
            returned = verb(given)
        except (Later, Cancelled):
            raise
        except Exception as error:
            details = host.failure_details(work.subject_id) if of_server else ""
            if details:
                error.add_note(details)
            raise
    return Outcome("Success", returned=returned, calls=tuple(calls))


def server_work(work: HostWork, cancelled: Callable[[], bool], control: ControlSide) -> Work:
    server = msgspec.convert(work.spec, ServerSpec)  # over a wire it came as JSON
    return Work(server, work.results, cancelled, work.data, work.waited, control)


def volume_work(work: HostWork, cancelled: Callable[[], bool], control: ControlSide) -> VolumeWork:
    spec = msgspec.convert(work.spec, StorageSpec)
    return VolumeWork(spec.volume, spec.snapshot, spec.backup, work.results, cancelled, work.data, control)


def answer(host: Host, ask: Ask) -> Answer:
    if ask.verb not in QUESTIONS:
        return Answer(ask.id, error=f"{ask.verb} is no question to a host")
    try:
        return Answer(ask.id, getattr(host, ask.verb)(**ask.arguments))
    except (HostError, OSError) as error:
        return Answer(ask.id, error=str(error))
