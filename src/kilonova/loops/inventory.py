"""What a host offers, reported: its sign of life too (Nova: `update_available_resource`)."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kilonova.loops.loop import Loop
from kilonova.model.specs import HostInventory


class InventoryLoop(Loop):
    """`reported` is set once the control side knows this host."""

    def __init__(
        self,
        observe: Callable[[], HostInventory],
        report: Callable[[HostInventory], None],
        interval: float = 10.0,
    ) -> None:
        super().__init__("inventory", self._inventory, interval)
        self._observe, self._report = observe, report
        self.reported = threading.Event()

    def _inventory(self) -> None:
        self._report(self._observe())
        self.reported.set()
