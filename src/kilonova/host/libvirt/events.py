"""What libvirt tells of guests as it happens: started, paused, shut down by themselves, killed, changed by virsh.

libvirt has one event loop a process. Connections that are opened after it was made tell of their domains through it.
"""

from __future__ import annotations

import functools
import threading
from contextlib import suppress
from typing import Any

import libvirt

from kilonova.host.calls import outside

PAUSE = 0.5  # seconds between two tries to reach a libvirtd that is away
KEEP_ALIVE = 5, 3  # seconds between, and count of, questions without an answer until a connection is given up


class GuestWatch:
    """Lifecycle events of a libvirtd's domains, over a connection of its own, which is opened again when it breaks."""

    def __init__(self, uri: str) -> None:
        _event_loop()
        self._uri = uri
        self._changed = threading.Condition()
        self._names: set[str] = set()
        self._conn: libvirt.virConnect | None = None
        self._stopped = False

    def names(self) -> set[str]:
        """Blocks for the next event; the server ids that it is about, `*` for any. Empty: stopped."""
        with self._changed:
            while not self._names and not self._stopped:
                if self._conn is None:
                    self._open()
                if not self._names:
                    self._changed.wait(PAUSE if self._conn is None else None)
            found, self._names = self._names, set()
            return set() if self._stopped else found

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(libvirt.libvirtError):
                conn.close()

    def _open(self) -> None:
        """Events that nobody heard may have been: any guest may have changed."""
        with suppress(libvirt.libvirtError):
            with outside("libvirt open"):
                conn = libvirt.open(self._uri)
            conn.registerCloseCallback(self._closed, None)
            conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._happened, None)
            conn.setKeepAlive(*KEEP_ALIVE)
            self._conn = conn
            self._names.add("*")

    def _happened(self, conn: Any, domain: libvirt.virDomain, event: int, detail: int, opaque: Any) -> None:
        with self._changed:
            self._names.add(domain.UUIDString())
            self._changed.notify_all()

    def _closed(self, conn: Any, reason: int, opaque: Any) -> None:
        with self._changed:
            self._conn = None
            self._changed.notify_all()


@functools.cache
def _event_loop() -> None:
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_run, name="libvirt-events", daemon=True).start()


def _run() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
