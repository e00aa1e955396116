"""A small level-triggered loop: a thread that makes one thing true again and again, and keeps its own pace.

It takes no input. `nudge` says only that something may have changed; what, the pass finds out by itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

LOG = logging.getLogger(__name__)
SHARE = 0.1  # of a CPU
BURST = 0.1  # CPU seconds
LONGEST_REST = 0.5  # seconds
FIRST_RETRY = 0.2  # seconds; doubles with each failure in a row, up to the loop's interval


class Pace:
    """A loop that is nudged now and then goes at once; one that is nudged without end leaves the CPU to those who nudge.

    Passes are paid, in CPU seconds, from a purse that holds BURST at most and fills at SHARE of a CPU.
    """

    def __init__(self, now: float) -> None:
        self._purse, self._filled = BURST, now

    def rest(self, now: float, spent: float) -> float:
        """The seconds to rest after a pass that has just ended and took `spent`."""
        self._purse = min(BURST, self._purse + (now - self._filled) * SHARE) - spent
        self._filled = now
        return min(max(0.0, -self._purse / SHARE), LONGEST_REST)


class Loop:
    """Runs `action` at once, after each nudge, and every `interval` seconds; nudges during a pass make one more pass.

    `action` may return the seconds after which it wants another look, sooner than `interval`. An exception is logged
    and tried again.
    """

    def __init__(self, name: str, action: Callable[[], float | None], interval: float) -> None:
        self.name = name
        self.interval = interval
        self._action = action
        self._nudged = threading.Event()
        self._stopped = False
        self._failures = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"loop-{self.name}", daemon=True)
        self._thread.start()

    def nudge(self) -> None:
        self._nudged.set()

    def stop(self) -> None:
        """Returns when the pass under way has ended; no further one begins."""
        self._stopped = True
        self._nudged.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self) -> None:
        pace = Pace(time.monotonic())
        while not self._stopped:
            self._nudged.clear()  # before the pass: what changes from here on needs another one
            start = time.thread_time()
            pause = self._pass()
            time.sleep(pace.rest(time.monotonic(), time.thread_time() - start))
            self._nudged.wait(pause)

    def _pass(self) -> float:
        """One pass; the seconds until the next, if nobody nudges."""
        try:
            soon = self._action()
        except Exception as error:
            self._failures += 1
            pause = min(self.interval, FIRST_RETRY * 2 ** (self._failures - 1))
            LOG.warning("the %s loop failed, again in %g s: %s", self.name, pause, error, exc_info=self._failures == 1)
            return pause
        self._failures = 0
        return self.interval if soon is None else min(soon, self.interval)
