"""A request's body as a plain iterator of bytes, for a handler that runs in a worker thread."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager

import anyio.from_thread
from anyio import CancelScope, CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request

from kilonova.model.errors import BadRequest, TooManyRequests, Unavailable

RETRY_AFTER = 30  # seconds


async def pieces(parts: Iterator[bytes], limiter: CapacityLimiter) -> AsyncIterator[bytes]:
    """An answer's body, each piece made in a worker thread; `parts` is closed there too when the client goes away.

    An empty piece says that it is still alive: it is not sent, and lets a client that is gone be noticed.
    """
    try:
        while (part := await to_thread.run_sync(next, parts, None, limiter=limiter)) is not None:
            if part:
                yield part
    finally:
        if isinstance(parts, Generator):
            with CancelScope(shield=True):
                await to_thread.run_sync(parts.close, limiter=limiter)


class ByteStream:
    """Iterate once. Raises BadRequest when the client goes away before the end, or stops sending: of one that has lost its
    network, nothing tells more. Unavailable when the cloud stops before."""

    PATIENCE, LEAST = 60.0, 64 << 10  # seconds of waiting for so many bytes

    def __init__(self, request: Request) -> None:
        self._parts = request.stream()

    async def _next(self, seconds: float) -> bytes | None:
        """None where the server ends: it would log whatever is raised then."""
        try:
            with anyio.fail_after(seconds):
                return await self._parts.__anext__()
        except asyncio.CancelledError:
            return None

    def __iter__(self) -> Iterator[bytes]:
        left, owed = self.PATIENCE, self.LEAST
        while True:
            since = time.monotonic()
            try:
                part = anyio.from_thread.run(self._next, left)
            except StopAsyncIteration:
                return
            except ClientDisconnect as error:
                raise BadRequest("The client went away before the end of the data.") from error
            except TimeoutError as error:
                raise BadRequest(f"Fewer than {self.LEAST} bytes of the data came in {self.PATIENCE:g} seconds.") from error
            if part is None:
                raise Unavailable("This cloud stops before all of the data has come.")
            left, owed = left - (time.monotonic() - since), owed - len(part)
            if owed <= 0:
                left, owed = self.PATIENCE, self.LEAST
            yield part


class Places:
    """Those of uploads under way: a project may have as many as it leaves to all others, so one alone half of them, and
    whoever comes next finds some, too."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def one_of(self, project_id: str) -> Iterator[None]:
        """TooManyRequests where the project has its share."""
        with self._lock:
            held, free = self._taken[project_id], self._number - self._taken.total()
            if held and held >= free:
                raise TooManyRequests(
                    f"The project has {held} uploads under way, and {free} places are left for all others: try again when "
                    "one of them has ended.",
                    RETRY_AFTER,
                )
            self._taken[project_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[project_id] -= 1
                self._taken += Counter()  # forgets who has none
