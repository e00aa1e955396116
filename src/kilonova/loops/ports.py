"""Ports, bridges, rules and DHCP of a host kept true, and their state reported (Neutron: the L2 and DHCP agents)."""

from __future__ import annotations

from collections.abc import Callable

from kilonova.loops.watched import Watch, WatchedLoop
from kilonova.model.specs import HostNetwork

SECOND_LOOK = 0.2  # seconds; what looks left over is removed only when it still does


class PortLoop(WatchedLoop):
    """desired: what this host should carry; apply: makes it so, port id → ACTIVE | DOWN; report: tells the control side.

    watch: opens a watch (or None), so that a tap made by libvirt is wired at once; pending: apply wants a second look.
    """

    def __init__(
        self,
        desired: Callable[[], HostNetwork],
        apply: Callable[[HostNetwork], dict[str, str]],
        report: Callable[[dict[str, str]], None],
        watch: Callable[[], Watch | None] = lambda: None,
        pending: Callable[[], bool] = lambda: False,
        interval: float = 5.0,
    ) -> None:
        super().__init__("ports", self._ports, interval, watch, lambda name: name.startswith(("tap", "*")))
        self._desired, self._apply, self._report, self._pending = desired, apply, report, pending

    def _ports(self) -> float | None:
        self._report(self._apply(self._desired()))
        return SECOND_LOOK if self._pending() else None
