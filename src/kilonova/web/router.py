"""Serves the services: routing, token, microversion, policy, body, transaction, faults. One path for every request."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from kilonova.db.engine import Database, Tx
from kilonova.model.errors import APIError, BadRequest, NotFound, TooLarge, Unavailable, UnsupportedMediaType
from kilonova.model.ids import new_request_id
from kilonova.web import access_rules, faults, microversion, nesting
from kilonova.web.call import Call, Context, Reply, Route, Version
from kilonova.web.policy import Defaults, Policies
from kilonova.web.service import Fault, Service
from kilonova.web.stream import ByteStream, Places, pieces

log = logging.getLogger(__name__)
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
MAX_UPLOADS = 200  # at a time; more wait, or are refused where their project has its share
MAX_DOWNLOADS = 200  # pieces in the making at a time
PROJECT = re.compile("[0-9a-f-]{1,64}")  # as Nova takes one in an address
STOPPED = "This cloud stops before the request has ended: look what became of it once it is up again."
MAX_BODY = 4 << 20  # bytes of JSON; images are streamed and have no such limit

Authenticate = Callable[[Database, str], Context]


class MethodNotAllowed(APIError):
    status = 405

    def __init__(self, method: str, allowed: Iterable[str]) -> None:
        super().__init__(f"The method {method} is not allowed for this resource.")
        self.headers["Allow"] = ", ".join(sorted(allowed))


class Table:
    """Routes by their path's segments: a literal beats a `{name}`."""

    def __init__(self, routes: Mapping[str, Route]) -> None:
        self.root: dict[str, Any] = {}
        for key, route in routes.items():
            method, path = key.split()
            node, names = self.root, []
            for segment in segments_of(path):
                if segment.startswith("{"):
                    names.append(segment[1:-1])
                    segment = "*"
                node = node.setdefault(segment, {})
            node.setdefault("", {})[method] = (route, tuple(names))

    def find(self, path: str) -> tuple[dict[str, tuple[Route, tuple[str, ...]]], list[str]] | None:
        """The path's methods and the values of its names; None when there is no such path."""
        return self._find(self.root, segments_of(path), [])

    def _find(self, node: dict[str, Any], segments: list[str], values: list[str]) -> Any:
        if not segments:
            return (node[""], values) if "" in node else None
        head, rest = segments[0], segments[1:]
        if head in node and head not in ("", "*"):
            found = self._find(node[head], rest, values)
            if found:
                return found
        return self._find(node["*"], rest, [*values, head]) if "*" in node and head else None


def segments_of(path: str) -> list[str]:
    """The root path has none."""
    bare = path.strip("/")
    return bare.split("/") if bare else []


class Application:
    """The ASGI application of all services. `public_url` has no trailing slash.

    `policies`: the rules as they hold; none: the services' own.
    `beside`: what is no service of OpenStack's, by the first part of its path.
    `written(prefix)` is called after each committed write to a service, for the loops that keep its rows true.
    """

    def __init__(
        self,
        services: Iterable[Service],
        database: Database,
        authenticate: Authenticate,
        shared: Any,
        public_url: str,
        written: Callable[[str], None] = lambda prefix: None,
        beside: Mapping[str, ASGIApp] | None = None,
        policies: Policies | None = None,
    ) -> None:
        services = tuple(services)
        self.policies = policies or Defaults(services)
        self.services = {service.prefix: (service, Table(service.routes)) for service in services}
        self.database = database
        self.authenticate = authenticate
        self.shared = shared
        self.public_url = public_url
        self.written = written
        self.beside = beside or {}
        self.uploads, self.downloads = anyio.CapacityLimiter(MAX_UPLOADS), anyio.CapacityLimiter(MAX_DOWNLOADS)
        self.places = Places(MAX_UPLOADS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await lifespan(receive, send)
        if (head := scope["path"].strip("/").partition("/")[0]) in self.beside:
            return await self.beside[head](scope, receive, send)
        if scope["type"] != "http":  # a websocket where there is none: 403
            return await send({"type": "websocket.close"})
        request = Request(scope, receive)
        response = await self.answer(request)
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        request_id, start = new_request_id(), time.monotonic()
        address = str(request.scope["path"])  # decoded; as part of an URL, what follows a ? of a name would be a query
        prefix, _, path = address.strip("/").partition("/")
        headers = {"X-Openstack-Request-Id": request_id, "X-Compute-Request-Id": request_id}
        if prefix != "compute":
            del headers["X-Compute-Request-Id"]
        service, table = self.services.get(prefix, (None, None))
        if service is None or table is None:
            body = b'{"error": {"code": 404, "title": "Not Found", "message": "No such service."}}'
            response = Response(body, 404, media_type="application/json")
        else:
            version = (0, 0)
            legacy = path.partition("/")[0] in service.legacy
            try:
                if service.microversions:
                    version = service.microversions.default
                    if not legacy:
                        version = microversion.negotiate(request.headers, service.microversions)
                response = await self.dispatch(service, table, path, request, version, request_id)
            except (Exception, asyncio.CancelledError) as error:
                # Cancelled by the server, whose stop has waited for long enough.
                told = Unavailable(STOPPED) if isinstance(error, asyncio.CancelledError) else error
                fault = faults.from_exception(told, request_id)
                body = service.fault(Fault(**{**vars(fault), "version": version}))
                response = render(Reply(body, fault.status, headers=fault.headers), fault.status)
                if fault.status == 401:
                    response.headers["WWW-Authenticate"] = f'Keystone uri="{self.public_url}/identity"'
            if service.microversions and not legacy:
                headers |= microversion.headers(version, service.microversions)
        response.headers.update({key: value for key, value in headers.items() if key not in response.headers})
        elapsed = time.monotonic() - start
        shown = quote(address, safe=PRINTABLE)  # one line, whatever the client writes
        log.info("%s %s %s %d %.1f ms", request_id, request.method, shown, response.status_code, elapsed * 1e3)
        return response

    async def dispatch(
        self, service: Service, table: Table, path: str, request: Request, version: Version, request_id: str
    ) -> Response:
        closed, query = request.scope["path"].endswith("/"), request.scope["query_string"].decode("latin-1")
        if "\0" in path or "%00" in query:
            raise BadRequest("The request's address has a NUL character, which no name or id can have.")
        head, slash, rest = path.partition("/")
        empty = bool(rest) and service.exact_paths and closed
        current = service.legacy.get(head, head)
        found = None if empty else table.find(current + slash + rest if rest else path)
        project, _, below = rest.partition("/")
        named = found is None and service.project_in_path and not empty and bool(PROJECT.fullmatch(project) and below)
        if named:
            found, path = table.find(f"{current}/{below}"), f"{head}/{below}"
        if found is None:
            raise NotFound("The resource could not be found.", type="HTTPNotFound")
        methods, values = found
        method = "GET" if request.method == "HEAD" and "HEAD" not in methods else request.method
        if method not in methods and path and closed:  # of what is below, whose name is empty
            raise NotFound("The resource could not be found.", type="HTTPNotFound")
        if method not in methods:
            raise MethodNotAllowed(request.method, methods)
        route, names = methods[method]
        if (route.since and version < route.since) or (route.until and version > route.until):
            raise NotFound("The resource could not be found.", type="HTTPNotFound")
        stream = ByteStream(request) if route.body == "stream" else None
        raw = b"" if stream else await read_body(request)
        call = Call(
            method=request.method,
            path=path,
            params=dict(zip(names, values, strict=True)),
            query=parse_qsl(query, keep_blank_values=True),
            headers=request.headers,
            body=None,
            context=Context(request_id=request_id),
            version=version,
            base_url=f"{self.public_url}/{service.prefix}",
            database=self.database,
            services=self.shared,
            rules=self.policies.of(service),
            client=request.client.host if request.client else "",
            stream=stream,
            legacy=head in service.legacy,
            path_project=project if named else None,
        )
        # An upload holds its thread for as long as its client likes: it must not be one that others wait for.
        limiter = self.uploads if stream else None
        reply = await anyio.to_thread.run_sync(self.handle, service, route, call, raw, limiter=limiter)
        return render(reply, reply.status or route.status, self.downloads)

    def handle(self, service: Service, route: Route, call: Call, raw: bytes) -> Reply:
        """In a worker thread: who asks, may they, is the body right, then the handler in its transaction."""
        if route.policy:
            context = self.authenticate(self.database, call.headers.get("x-auth-token", ""))
            if service.context_hook:
                context = service.context_hook(context)
            call.context = call.rules.seen(replace(context, request_id=call.context.request_id))
            if call.path_project not in (None, context.project_id):
                raise BadRequest(
                    f"Malformed request URL: URL's project_id '{call.path_project}' doesn't match Context's project_id "
                    f"'{context.project_id}'"
                )
            access_rules.check(service, call)
            scoped = service.any_scope or not (context.system or context.domain_id)
            policy = line_of(route, call, raw) if route.actions else route.policy
            if not scoped or not call.rules[policy](call.context, {}):
                if route.hidden:
                    raise NotFound("The resource could not be found.", type="HTTPNotFound")
                raise call.rules.refused(policy)
            call.context = call.rules.bound(call.context, policy)
        check_query(route, call)
        if raw:
            call.body = parse(raw, call.headers.get("content-type", ""))
        if route.schema is not None:
            call.check(call.body, route.schema(call.version) if callable(route.schema) else route.schema)
        mode = route.tx or ("read" if call.method in ("GET", "HEAD") else "write")
        if call.stream:
            with self.places.one_of(call.context.project_id):
                result = route.handler(call)
        elif mode == "none":
            result = route.handler(call)
        else:

            def run(tx: Tx) -> Any:
                call._tx = tx
                tx.after_commit(lambda: self.written(service.prefix))  # first: what the handler adds may wait for its effect
                return route.handler(call)

            result = self.database.write(run) if mode == "write" else self.database.read(run)
        return result if isinstance(result, Reply) else Reply(result)


def line_of(route: Route, call: Call, raw: bytes) -> str:
    """The policy of the action that the body names first, as handlers read it; the route's own where it names none."""
    try:
        body = parse(raw, call.headers.get("content-type", ""))
    except APIError:  # said once it is known that the caller may ask at all
        return route.policy
    action = next(iter(body), "") if isinstance(body, dict) else ""
    return route.actions.get(action, route.policy)


def check_query(route: Route, call: Call) -> None:
    """BadRequest for a parameter that is not known to this microversion of an operation that is strict."""
    steps = [since for since in route.query if since <= call.version]
    if steps and (unknown := sorted({name for name, _ in call.query} - route.query[max(steps)])):
        names = ", ".join(repr(name[:80]) for name in unknown[:5])
        raise BadRequest(
            f"Additional properties are not allowed ({names} {'was' if len(unknown) == 1 else 'were'} unexpected)"
        )


async def read_body(request: Request) -> bytes:
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > MAX_BODY:
                raise TooLarge(f"The request's body is larger than {MAX_BODY} bytes.")
            parts.append(part)
    except ClientDisconnect as error:
        raise BadRequest("The request ended before its body did.") from error
    return b"".join(parts)


def parse(raw: bytes, content_type: str) -> Any:
    """The body as JSON, whatever its declared type, but for forms, XML and the like, which are refused."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind and "json" not in kind and kind not in ("text/plain", "application/octet-stream"):
        raise UnsupportedMediaType(f"The content type {kind} is not supported; send application/json.")
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"Malformed request body: {error}") from error
    if raw.count(b"{") + raw.count(b"[") > nesting.DEPTH and nesting.is_too_deep(body):
        raise BadRequest(f"Malformed request body: nested more than {nesting.DEPTH} deep")
    if b"\\u0000" in raw and "\0" in strings_of(body):
        raise BadRequest("The request's body has a NUL character, which PostgreSQL cannot keep.")
    return body


def strings_of(body: Any) -> str:
    """All strings of a JSON value, keys too, run together."""
    if isinstance(body, dict):
        return "".join(key + strings_of(value) for key, value in body.items())
    if isinstance(body, list):
        return "".join(map(strings_of, body))
    return body if isinstance(body, str) else ""


def render(reply: Reply, status: int, downloads: anyio.CapacityLimiter | None = None) -> Response:
    # A header holds printable ASCII only: what a user named (a tag in a Location) is percent-encoded beyond that.
    headers = {name: quote(value, safe=PRINTABLE) for name, value in reply.headers.items()}
    if reply.body is None:
        return Response(b"", status, headers)
    if isinstance(reply.body, bytes):
        kind = headers.get("Content-Type", "text/html; charset=UTF-8")
        return Response(reply.body, status, headers, kind)
    if isinstance(reply.body, dict | list):
        return Response(msgspec.json.encode(reply.body), status, headers, "application/json")
    assert downloads is not None
    return StreamingResponse(pieces(iter(reply.body), downloads), status, headers)


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
