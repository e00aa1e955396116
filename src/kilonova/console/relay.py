"""Bytes between one websocket and one guest's console, both ways, until either ends."""

import logging

import anyio
import anyio.to_thread
from anyio import CancelScope, CapacityLimiter
from starlette.websockets import WebSocket, WebSocketDisconnect

from kilonova.compute.flows import Console
from kilonova.model.errors import Unavailable

log = logging.getLogger(__name__)
ENDED, GOING_AWAY = 1000, 1011  # codes of closing: as it should be; the host cannot
QUICK, SLOW = 0.01, 0.1  # seconds between two exchanges: while something moves, and when all is quiet
PIECE = 64 << 10  # bytes for the guest in one exchange
ROOM = 256 << 10  # bytes for the guest that wait here; then the browser waits
MUCH = 128 << 10  # bytes at once that say that there is more


class Relay:
    def __init__(self, socket: WebSocket, console: Console, limiter: CapacityLimiter) -> None:
        self.socket, self.console, self.limiter = socket, console, limiter
        self.waiting = bytearray()  # for the guest
        self.came, self.went = anyio.Event(), anyio.Event()

    async def run(self) -> None:
        try:
            async with anyio.create_task_group() as both:
                both.start_soon(self._listen, both.cancel_scope)
                code, reason = await self._carry()
                await self.socket.close(code, reason[:120])
                both.cancel_scope.cancel()
        except* WebSocketDisconnect:
            pass  # in the middle of a send
        finally:
            with CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.console.close, limiter=self.limiter)

    async def _listen(self, whole: CancelScope) -> None:
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                return whole.cancel()
            self.waiting += message.get("bytes") or (message.get("text") or "").encode()
            self.came.set()
            while len(self.waiting) > ROOM:
                self.went = anyio.Event()
                await self.went.wait()

    async def _carry(self) -> tuple[int, str]:
        """Why it ended: a code of closing and a sentence."""
        pause = QUICK
        while True:
            self.came = anyio.Event()
            try:
                answer = await anyio.to_thread.run_sync(
                    self.console.exchange, bytes(self.waiting[:PIECE]), limiter=self.limiter
                )
            except Unavailable as error:
                log.warning("console: %s", error)
                return GOING_AWAY, str(error)
            del self.waiting[: answer.taken]
            self.went.set()
            if answer.data:
                await self.socket.send_bytes(answer.data)
            if answer.ended is not None:
                return ENDED, answer.ended
            pause = QUICK if answer.data or answer.taken else min(2 * pause, SLOW)
            if len(answer.data) < MUCH and not (answer.taken and self.waiting):
                with anyio.move_on_after(pause):
                    await self.came.wait()
