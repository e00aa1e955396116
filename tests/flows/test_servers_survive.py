"""Every flow, every step: fail it, kill it, repeat it, take it over, delete in the middle. Nothing is lost or left over.

The points are read from the flows' own lists, so a new step or flow comes under test by itself; tests/flows/stories.py
says how each flow comes about.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from handcloud import Crash, HandCloud
from stories import STORIES, act, story

from kilonova.flow.log import Stale
from kilonova.flow.step import CONTROL, HOST, HostWork, Outcome, Step
from kilonova.flow.worker import HostSeam, host_turn
from kilonova.flows.storage_actions import BROKEN_OFF
from kilonova.flows.stories import FLOWS
from kilonova.host.calls import observed


def undo_point(flow: str, step: Step) -> str:
    """Where the step's undo can be failed."""
    assert step.undo is not None
    undo = step.undo.__name__
    return f"{undo} again" if undo in [other.name for other in FLOWS[flow].steps] else undo


WHEN = ("before", "after")
STEPS = [(name, step) for name, flow in FLOWS.items() for step in flow.steps]
POINTS = [(name, step.name, when) for name, step in STEPS for when in WHEN]
LAST = {  # the last step whose failure unwinds
    name: flow.no_return.__name__ if flow.no_return else flow.steps[-1].name for name, flow in FLOWS.items()
}
UNDO_POINTS = [(name, undo_point(name, step), when) for name, step in STEPS if step.undo for when in WHEN]
HOST_STEPS = [(name, step.name) for name, step in STEPS if step.runs == HOST]
# A delete may come while a HOST step runs; CONTROL steps are transactions, so before them, or while they are undone.
INTERRUPTIONS = [
    (name, step.name, when) for name, step in STEPS for when in (WHEN if step.runs == HOST else ("reaching",))
]
UNDO_INTERRUPTIONS = [
    (name, undo_point(name, step) if step.runs == HOST else step.name, "before" if step.runs == HOST else "unwinding")
    for name, step in STEPS
    if step.undo
]


class Injected(Exception):
    """An error that a test put there."""


def raiser(error: type[BaseException]) -> Callable[[], None]:
    def act() -> None:
        raise error("injected here")

    return act


@pytest.fixture
def cloud(used_cloud: HandCloud) -> HandCloud:
    """Each of these tests begins with `prepared`."""
    return used_cloud


def play(cloud: HandCloud, flow: str, faults: dict[tuple[str, str], Callable[[], None]]) -> str:
    """Bring the flow about with these faults, and run it to its end; the server's id."""
    prepared = cloud.prepared(story(flow).prepare)
    cloud.faults = dict(faults)
    server_id = story(flow).start(cloud, prepared)
    cloud.run()
    assert cloud.faults == {}, "the flow never came to this point"
    return server_id


def delete_and_look(cloud: HandCloud, flow: str, subject_id: str) -> None:
    """The end of every story: nothing is left of it."""
    story(flow).life.clear(cloud, subject_id)
    assert cloud.left() == {}


def has_failed(cloud: HandCloud, flow: str, subject_id: str, step: str) -> None:
    failed, failed_in = story(flow).failed, story(flow).failed_in
    story(flow).life.failed_in(cloud, subject_id, failed_in if isinstance(failed_in, str) else failed_in(step))
    assert failed is not None
    failed(cloud, subject_id)


@pytest.mark.parametrize("flow", FLOWS)
def test_every_flow_has_a_story_and_ends_well(cloud: HandCloud, flow: str) -> None:
    server_id = play(cloud, flow, {})
    story(flow).done(cloud, server_id)
    assert (story(flow).failed is None) == (FLOWS[flow].on_failure is None)
    delete_and_look(cloud, flow, server_id)


def test_no_story_is_of_a_flow_that_is_no_more() -> None:
    assert set(STORIES) <= set(FLOWS)


@pytest.mark.parametrize(("flow", "step", "when"), POINTS)
def test_an_error_is_undone_or_owed(cloud: HandCloud, flow: str, step: str, when: str) -> None:
    server_id = play(cloud, flow, {(when, step): raiser(Injected)})
    if FLOWS[flow].must_go_on(step):
        story(flow).done(cloud, server_id)
    else:
        has_failed(cloud, flow, server_id, step)
    delete_and_look(cloud, flow, server_id)


@pytest.mark.parametrize(("flow", "step", "when"), POINTS)
def test_a_crash_is_resumed(cloud: HandCloud, flow: str, step: str, when: str) -> None:
    crashes = cloud.crashes
    server_id = play(cloud, flow, {(when, step): raiser(Crash)})
    assert cloud.crashes == crashes + 1
    story(flow).done(cloud, server_id)
    delete_and_look(cloud, flow, server_id)


@pytest.mark.parametrize(("flow", "undo", "when"), UNDO_POINTS)
@pytest.mark.parametrize("error", [Injected, Crash])
def test_unwinding_is_finished_whatever_happens(
    cloud: HandCloud, flow: str, undo: str, when: str, error: type[BaseException]
) -> None:
    server_id = play(cloud, flow, {("before", LAST[flow]): raiser(Injected), (when, undo): raiser(error)})
    has_failed(cloud, flow, server_id, LAST[flow])
    delete_and_look(cloud, flow, server_id)


@pytest.mark.parametrize(("flow", "step"), HOST_STEPS)
def test_a_host_step_done_twice_gives_the_same_end(cloud: HandCloud, flow: str, step: str) -> None:
    prepared = cloud.prepared(story(flow).prepare)
    cloud.twice.add(step)
    server_id = story(flow).start(cloud, prepared)
    cloud.run()
    assert cloud.twice == set()
    story(flow).done(cloud, server_id)
    delete_and_look(cloud, flow, server_id)


@pytest.mark.parametrize(("flow", "step"), STEPS, ids=lambda value: value.name if isinstance(value, Step) else value)
def test_a_stale_worker_is_refused(cloud: HandCloud, flow: str, step: Step) -> None:
    """A worker that was thought dead comes back with the step that its successor has finished."""
    server_id = play(cloud, flow, {("before", step.name): lambda: cloud.die(step.name)})
    stale = cloud.killed[step.name]
    before = cloud.events()
    if step.runs == CONTROL:
        with pytest.raises(Stale):
            cloud.journal.control_step(stale)
    else:
        with pytest.raises(Stale):
            cloud.seam.record(stale, Outcome("Error", message="too late"))
        assert not cloud.seam.beat(stale.token)
        host_turn(Offering(cloud.seam, stale), cloud.host.name, never, cloud.folder / "locks", lambda: None)
    assert cloud.events() == before
    story(flow).done(cloud, server_id)
    delete_and_look(cloud, flow, server_id)


class Offering:
    """The seam of a worker that has claimed `work` long ago."""

    def __init__(self, seam: HostSeam, work: HostWork) -> None:
        self.beat, self.holds, self.record = seam.beat, seam.holds, seam.record
        self.claim = lambda host: work


def never(*_: object) -> Outcome:
    raise AssertionError("a stale worker acted")


@pytest.mark.parametrize(("flow", "step", "when"), INTERRUPTIONS)
def test_a_delete_in_the_middle_wins_or_is_refused(cloud: HandCloud, flow: str, step: str, when: str) -> None:
    prepared = cloud.prepared(story(flow).prepare)
    subject_id = story(flow).start(cloud, prepared)
    won = interrupt(cloud, flow, subject_id, {}, (when, step))
    if not won:
        story(flow).done(cloud, subject_id)
    delete_and_look(cloud, flow, subject_id)


@pytest.mark.parametrize(("flow", "undo", "when"), UNDO_INTERRUPTIONS)
def test_a_delete_during_unwinding_wins_or_is_refused(cloud: HandCloud, flow: str, undo: str, when: str) -> None:
    prepared = cloud.prepared(story(flow).prepare)
    subject_id = story(flow).start(cloud, prepared)
    won = interrupt(cloud, flow, subject_id, {("before", LAST[flow]): raiser(Injected)}, (when, undo))
    if not won:
        has_failed(cloud, flow, subject_id, LAST[flow])
    delete_and_look(cloud, flow, subject_id)


def interrupt(
    cloud: HandCloud, flow: str, subject_id: str, faults: dict[tuple[str, str], Callable[[], None]], at: tuple[str, str]
) -> bool:
    """Delete the subject when the flow is there; whether that was accepted, and then it is gone at the end.

    Servers can always be deleted, and so can what is being made.
    """
    life, accepted = story(flow).life, []
    cloud.faults = {**faults, at: lambda: accepted.append(life.delete(cloud, subject_id))}
    cloud.run()
    assert cloud.faults == {}
    if FLOWS[flow].subject == "server" or flow in BROKEN_OFF:
        assert accepted == [True]
    if accepted[0]:
        assert life.is_gone(cloud, subject_id)
    return accepted[0]


def test_of_two_that_would_replace_a_flow_the_later_wins(cloud: HandCloud) -> None:
    """A hard reboot may replace a pause that is under way, and a delete the reboot that has not yet begun."""
    server_id = cloud.prepared(story("pause").prepare)
    assert server_id is not None

    def reboot_and_delete() -> None:
        act("reboot", {"type": "HARD"})(cloud, server_id)
        cloud.delete(server_id)

    cloud.faults = {("before", "pause_guest"): reboot_and_delete}
    story("pause").start(cloud, server_id)
    cloud.run()
    assert cloud.server(server_id)["vm_state"] == "deleted"
    assert cloud.left() == {}


def test_a_hard_reboot_puts_an_end_to_what_is_under_way(cloud: HandCloud) -> None:
    server_id = cloud.prepared(story("pause").prepare)
    cloud.faults = {("before", "pause_guest"): lambda: act("reboot", {"type": "HARD"})(cloud, server_id) and None}
    story("pause").start(cloud, server_id)
    cloud.run()
    assert server_id is not None
    story("hard_reboot").done(cloud, server_id)
    actions = cloud.api("GET", f"/compute/v2.1/servers/{server_id}/os-instance-actions")["instanceActions"]
    assert sorted(action["action"] for action in actions) == ["create", "pause", "reboot"]
    delete_and_look(cloud, "pause", server_id)


@pytest.mark.parametrize("flow", FLOWS)
def test_a_crash_around_each_outside_call(cloud: HandCloud, flow: str) -> None:
    """Crash points inside HOST steps: before and after each call that leaves the process, one story each."""
    number = 0
    while True:
        seen, crashes = 0, cloud.crashes

        def count(when: str, name: str, number: int = number) -> None:
            nonlocal seen
            seen += 1
            if seen == number + 1:
                raise Crash(f"{when} {name}")

        prepared = cloud.prepared(story(flow).prepare)
        with observed(count):
            server_id = story(flow).start(cloud, prepared)
            cloud.run()
        story(flow).done(cloud, server_id)
        delete_and_look(cloud, flow, server_id)
        if cloud.crashes == crashes:
            break
        number += 1
    assert number >= 2 * len({step for name, step in HOST_STEPS if name == flow}) - 2  # get_guest_xml has no calls


LEAKS = [  # but for two: ports go, bound or not, and a volume's attachment goes with the volume
    step for step in FLOWS["create"].steps if step.undo and step.name not in ("bind_ports", "reserve_volumes")
]


@pytest.mark.parametrize("step", LEAKS, ids=lambda step: step.name)
def test_a_step_that_leaks_is_found(cloud: HandCloud, step: Step) -> None:
    """The properties can fail: with a step that undoes nothing, what it left is seen."""
    create = FLOWS["create"]
    steps = tuple(replace(other, undo=None) if other is step else other for other in create.steps)
    prepared = cloud.prepared(story("create").prepare)
    cloud.boot({**FLOWS, "create": replace(create, steps=steps)})
    cloud.faults = {("before", "set_active"): raiser(Injected)}
    story("create").start(cloud, prepared)
    cloud.run()
    assert cloud.left() != {}
