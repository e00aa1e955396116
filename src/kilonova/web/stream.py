"""A request's body as a plain iterator of bytes, for a handler that runs in a worker thread."""

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
    """Iterate once. Raises BadRequest when the client goes away before the end."""

    def __init__(self, request: Request) -> None:
        self._parts = request.stream()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            try:
                yield anyio.from_thread.run(self._parts.__anext__)
            except StopAsyncIteration:
                return
            except ClientDisconnect as error:
                raise BadRequest("The client went away before the end of the data.") from error
