"""A request's body as a plain iterator of bytes, for a handler that runs in a worker thread."""

import time
from collections.abc import AsyncIterator, Generator, Iterator

import anyio.from_thread
from anyio import CancelScope, CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request

from kilonova.model.errors import BadRequest


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
    network, nothing tells more."""

    PATIENCE, LEAST = 60.0, 64 << 10  # seconds of waiting for so many bytes

    def __init__(self, request: Request) -> None:
        self._parts = request.stream()

    async def _next(self, seconds: float) -> bytes:
        with anyio.fail_after(seconds):
            return await self._parts.__anext__()

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
            left, owed = left - (time.monotonic() - since), owed - len(part)
            if owed <= 0:
                left, owed = self.PATIENCE, self.LEAST
            yield part
