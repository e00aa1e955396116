"""A loop that a watch wakes: what happens is seen at once, and the interval is the fallback."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from kilonova.loops.loop import Loop


class Watch(Protocol):
    """Something that tells what has changed (`host.contract.Watch`)."""

    def names(self) -> set[str]: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class WatchedLoop(Loop):
    """`watch` opens one, or gives None where there is nothing to watch; `concerns`: whether a change is this loop's."""

    def __init__(
        self,
        name: str,
        action: Callable[[], float | None],
        interval: float,
        watch: Callable[[], Watch | None],
        concerns: Callable[[str], bool] = lambda name: True,
    ) -> None:
        super().__init__(name, action, interval)
        self._open_watch, self._concerns = watch, concerns
        self._watch: Watch | None = None
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        self._watch = self._open_watch()
        if self._watch is not None:
            name = f"loop-{self.name}-watch"
            self._watcher = threading.Thread(target=self._see, args=(self._watch,), name=name, daemon=True)
            self._watcher.start()
        super().start()

    def stop(self) -> None:
        if self._watch is not None and self._watcher is not None:
            self._watch.stop()
            self._watcher.join()
            self._watch.close()
            self._watch = None
        super().stop()

    def _see(self, watch: Watch) -> None:
        while names := watch.names():
            if any(map(self._concerns, names)):
                self.nudge()
