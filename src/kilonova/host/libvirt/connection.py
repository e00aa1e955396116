"""One libvirt connection for a whole process: opened when needed, opened again when libvirtd went away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import libvirt

from kilonova.host.calls import outside
from kilonova.model.errors import HostError


class Connection:
    """Shared by all threads: libvirt's own connection object allows that, and one lock guards its replacement.

    uri: such as qemu+unix:///system?socket=/run/kilonova/1a2b3c4d/libvirt/libvirt-sock.
    patience: how many seconds to try to open it; a killed libvirtd is back within one.
    """

    def __init__(self, uri: str, patience: float = 10.0) -> None:
        self.uri = uri
        self.patience = patience
        self._lock = threading.Lock()
        self._conn: libvirt.virConnect | None = None
        # Without a handler libvirt prints each error on stderr, those included that a caller expects.
        libvirt.registerErrorHandler(_silent, None)

    def get(self) -> libvirt.virConnect:
        """A connection that answered just now. Raises HostError when libvirt cannot be reached in time.

        It may still break during the caller's own call, which then raises libvirtError; whether to try again is the
        caller's to say, since libvirt may have done what it was asked.
        """
        with self._lock:
            if self._conn is not None and not _answers(self._conn):
                self._drop()
            if self._conn is None:
                self._conn = self._open()
            return self._conn

    def close(self) -> None:
        """Let go of it; a later `get` opens it anew."""
        with self._lock:
            self._drop()

    def _open(self) -> libvirt.virConnect:
        deadline = time.monotonic() + self.patience
        pause = 0.02
        while True:
            try:
                with outside("libvirt open"):
                    return libvirt.open(self.uri)
            except libvirt.libvirtError as error:
                if time.monotonic() + pause > deadline:
                    raise HostError(f"libvirt at {self.uri} cannot be reached: {error}") from error
            time.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    def _drop(self) -> None:
        if self._conn is not None:
            with suppress(libvirt.libvirtError):
                self._conn.close()
            self._conn = None


@contextmanager
def calling(name: str) -> Iterator[None]:
    """One libvirt call: through the gate, its errors as HostError."""
    try:
        with outside(name):
            yield
    except libvirt.libvirtError as error:
        raise HostError(f"{name} failed: {error}") from error


@contextmanager
def unless(*codes: int) -> Iterator[None]:
    """Somebody was faster: libvirt's answer that there is nothing left to do."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() not in codes:
            raise


def _answers(conn: libvirt.virConnect) -> bool:
    """A round trip to libvirtd, some 0.1 ms: isAlive alone does not see an end that nobody has read from yet."""
    try:
        conn.getLibVersion()
        return bool(conn.isAlive())
    except libvirt.libvirtError:
        return False


def _silent(context: object, error: object) -> None:
    return None
