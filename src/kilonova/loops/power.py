"""What the guests of a host really do, reported (Nova: `_sync_power_states`)."""

from __future__ import annotations

import time
from collections.abc import Callable

from kilonova.loops.watched import Watch, WatchedLoop

SECOND_LOOK = 0.3  # seconds


class PowerLoop(WatchedLoop):
    """observe: server id → Nova's power_state; report: tells the control side, which may want a second look.

    watch: opens a watch of the guests (or None), so that one that ends is seen at once.
    """

    def __init__(
        self,
        observe: Callable[[], dict[str, int]],
        report: Callable[[dict[str, int], float], bool],
        watch: Callable[[], Watch | None] = lambda: None,
        interval: float = 5.0,
    ) -> None:
        super().__init__("power", self._power, interval, watch)
        self._observe, self._report = observe, report

    def _power(self) -> float | None:
        began = time.monotonic()
        seen = self._observe()
        return SECOND_LOOK if self._report(seen, time.monotonic() - began) else None
