"""Loops keep their own pace, lose no nudge, survive failures, and end when told."""

import threading
import time

import pytest

from kilonova.loops.inventory import InventoryLoop
from kilonova.loops.loop import BURST, LONGEST_REST, SHARE, Loop, Pace
from kilonova.loops.ports import PortLoop
from kilonova.loops.power import PowerLoop
from kilonova.model.specs import HostInventory, HostNetwork


def until(check: object, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():  # type: ignore[operator]
            return True
        time.sleep(0.002)
    return False


def test_a_nudge_during_a_pass_makes_one_more_pass() -> None:
    passes, go = [], threading.Semaphore(0)

    def action() -> None:
        passes.append(1)
        go.acquire()

    loop = Loop("test", action, 60.0)
    loop.start()
    assert until(lambda: len(passes) == 1)
    for _ in range(5):
        loop.nudge()
    go.release()
    assert until(lambda: len(passes) == 2)
    go.release()
    time.sleep(0.05)
    assert len(passes) == 2
    go.release()
    loop.stop()
    count = len(passes)
    loop.nudge()
    time.sleep(0.02)
    assert len(passes) == count


def test_a_failure_is_tried_again_soon_and_logged_once_in_full(caplog: pytest.LogCaptureFixture) -> None:
    passes = []

    def action() -> None:
        passes.append(1)
        if len(passes) < 3:
            raise RuntimeError("no luck")

    loop = Loop("test", action, 60.0)
    loop.start()
    assert until(lambda: len(passes) == 3)
    loop.stop()
    records = [record for record in caplog.records if "no luck" in record.getMessage()]
    assert [bool(record.exc_info) for record in records] == [True, False]


def test_the_interval_is_the_pace_and_an_action_may_ask_for_less() -> None:
    passes = []
    loop = Loop("test", lambda: passes.append(1), 0.01)
    loop.start()
    assert until(lambda: len(passes) > 3)
    loop.stop()
    soon = []

    def hasty() -> float:
        soon.append(1)
        return 0.01

    quick = Loop("test", hasty, 60.0)
    quick.start()
    assert until(lambda: len(soon) > 3)
    quick.stop()


def test_a_loop_goes_at_once_when_nudged_now_and_then_and_takes_its_share_when_nudged_without_end() -> None:
    now, pace = 1000.0, Pace(1000.0)
    for _ in range(50):
        now += 1.0
        assert pace.rest(now, 0.02) == 0
    took, start = 0.0, now
    while now < start + 60:
        now += 0.01 + pace.rest(now + 0.01, 0.01)
        took += 0.01
    assert BURST + 60 * SHARE - 0.1 < took < BURST + 60 * SHARE + 0.1
    assert pace.rest(now, 1000.0) == LONGEST_REST


class FakeWatch:
    def __init__(self) -> None:
        self.events: list[set[str]] = []
        self.wake = threading.Semaphore(0)
        self.closed = False

    def names(self) -> set[str]:
        self.wake.acquire()
        return self.events.pop(0) if self.events else set()

    def stop(self) -> None:
        self.wake.release()

    def close(self) -> None:
        self.closed = True


def test_the_port_loop_asks_applies_reports_and_wakes_for_a_tap() -> None:
    reports: list[dict[str, str]] = []
    watch = FakeWatch()
    pending = [True, False]
    loop = PortLoop(
        HostNetwork,
        lambda desired: {"port": "ACTIVE"},
        reports.append,
        watch=lambda: watch,
        pending=lambda: pending.pop(0) if pending else False,
        interval=60.0,
    )
    loop.start()
    assert until(lambda: len(reports) == 2)  # the first pass wanted a second look
    for names, more in (({"eth7"}, 0), ({"tap12345678-9a"}, 1)):
        before = len(reports)
        watch.events.append(names)
        watch.wake.release()
        until(lambda: len(reports) > before, 0.1)  # noqa: B023
        assert len(reports) == before + more
    loop.stop()
    assert watch.closed
    assert reports[0] == {"port": "ACTIVE"}


def test_power_and_inventory_report_what_they_see() -> None:
    states: list[dict[str, int]] = []
    unsettled, watch = [True, False, False], FakeWatch()

    def report(seen: dict[str, int], age: float) -> bool:
        assert age >= 0
        states.append(seen)
        return unsettled.pop(0)

    power = PowerLoop(lambda: {"server": 1}, report, watch=lambda: watch, interval=60.0)
    power.start()
    assert until(lambda: states == [{"server": 1}] * 2)  # the first pass wanted a second look
    watch.events.append({"a guest"})
    watch.wake.release()
    assert until(lambda: len(states) == 3)
    power.stop()
    assert watch.closed
    seen: list[HostInventory] = []
    host = HostInventory(hostname="host", vcpus=2, memory_mb=1024, disk_gb=10)
    inventory = InventoryLoop(lambda: host, seen.append)
    inventory.start()
    assert inventory.reported.wait(5)
    assert seen == [host]
    inventory.stop()
