"""The door of consoles: a page for a person's browser, and at the same path the websocket that the page, or a tool, opens.

A token in the address says which server's console it is. Nova has a process of its own for this
(nova/console/websocketproxy.py).
"""

import logging
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

import anyio.to_thread
import sqlalchemy as sa
from anyio import CapacityLimiter
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from kilonova.compute import consoles
from kilonova.compute.flows import Flows
from kilonova.console import pages
from kilonova.console.relay import GOING_AWAY, Relay
from kilonova.db.engine import Database
from kilonova.model.errors import Unavailable

log = logging.getLogger(__name__)
AT_ONCE = 64  # exchanges and look-ups under way at a time
SERVER = [(b"server", b"WebSockify")]  # whose protocol it is: clients of Nova's proxy look for it


class ConsoleDoor:
    """`/console/novnc`, `/console/serial`, and their files below `/console/static`. `public_url` ends with no slash."""

    def __init__(self, database: Database, flows: Flows, public_url: str) -> None:
        self.database, self.flows, self.public_url = database, flows, public_url
        self.limiter = CapacityLimiter(AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await self.connect(WebSocket(scope, receive, send))
        await (await self.answer(Request(scope)))(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        _, _, path = request.url.path.strip("/").partition("/")
        if request.method not in ("GET", "HEAD"):
            return Response("", 405, {"Allow": "GET, HEAD"})
        if path.startswith("static/"):
            return await pages.static(path.removeprefix("static/"), request)
        if path not in pages.TITLES:
            return pages.sorry("There is no such page.", 404)
        found = await self.find(request)
        if found is None or found["console_type"] != path:
            return pages.sorry("This address of a console has expired, or never was one.", 404)
        return pages.page(path, found)

    async def find(self, asked: HTTPConnection) -> sa.RowMapping | None:
        token = token_of(asked.url.query, asked.cookies)
        return await anyio.to_thread.run_sync(
            self.database.read, lambda tx: consoles.find(tx, token), limiter=self.limiter
        )

    async def connect(self, socket: WebSocket) -> None:
        """Refuses with 403 what has no good token, or comes from another site's page."""
        if not from_here(socket, self.public_url):
            log.warning("console: refused a page of %s", socket.headers.get("origin"))
            return await socket.close()
        found = await self.find(socket)
        if found is None:
            return await socket.close()
        wanted = socket.headers.get("sec-websocket-protocol", "")
        await socket.accept("binary" if "binary" in wanted.replace(",", " ").split() else None, SERVER)
        where = (found["server_id"], found["host"], found["console_type"])
        log.info("console: %s of server %s opened", found["console_type"], found["server_id"])
        try:
            console = await anyio.to_thread.run_sync(self.flows.open_console, *where, limiter=self.limiter)
        except Unavailable as error:
            return await socket.close(GOING_AWAY, str(error)[:120])
        await Relay(socket, console, self.limiter).run()
        log.info("console: %s of server %s closed", found["console_type"], found["server_id"])


def token_of(query: str, cookies: Mapping[str, str]) -> str:
    """`?token=`; else inside noVNC's `?path=`; else the cookie that old noVNCs send."""
    given = {name: values[-1] for name, values in parse_qs(query).items()}
    inside = parse_qs(urlsplit(given.get("path", "")).query)
    return given.get("token") or inside.get("token", [""])[-1] or cookies.get("token", "")


def from_here(socket: WebSocket, public_url: str) -> bool:
    """Whether the page that asks is ours: a browser says whose it is, and other programs say nothing, as with Nova.

    Ours is the address that the browser itself used, by the same scheme, and the cloud's public name, which a proxy may
    have before it.
    """
    origin = socket.headers.get("origin")
    if origin is None:
        return True
    scheme = {"ws": "http", "wss": "https"}[socket.url.scheme]
    public = urlsplit(public_url)
    return origin.lower() in (
        f"{scheme}://{socket.headers.get('host', '')}".lower(),
        f"{public.scheme}://{public.netloc}".lower(),
    )
