"""Requests made of OpenStack's descriptions, sent to a running cloud, and what its answers must be."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import openapi
from furniture import FURNITURE
from operations import DESCRIPTIONS, MOUNTS, Operation, has_route, operations, service_of
from values import Values

ADMIN, MEMBER, NOBODY = "kilonova-admin", "kilonova", ""
CALLERS, TAME = (ADMIN, ADMIN, ADMIN, MEMBER, MEMBER, NOBODY), (ADMIN, ADMIN, ADMIN, MEMBER)
VERSIONS = {
    "compute": ("2.1", "2.26", "2.37", "2.53", "2.73", "2.90", "2.96"), "placement": ("1.0", "1.10", "1.27", "1.36", "1.39"),
    "block-storage": ("3.0", "3.27", "3.50", "3.60", "3.71"),
}  # fmt: skip
TYPES = {"block-storage": "volume"}  # as OpenStack-API-Version names them
OFTEN = {"GET": 2, "HEAD": 1, "POST": 6, "PUT": 4, "PATCH": 4, "DELETE": 2}
KEPT = 12  # ids of a kind that are remembered; paths and bodies of an operation
NEWEST = {"compute": "2.1", "placement": "1.39", "block-storage": "3.71"}  # at which the furniture is made
LONGEST = 60_000  # letters of an address, of which the client takes 65,536
IDENTS = ("id", "uuid", "alias", "name", "namespace", "access", "host_name", "member_id")  # of a thing, the best first
HANG = 60  # seconds without an answer
NO_SERVICE = {"code": 404, "title": "Not Found", "message": "No such service."}
GENERATION = "resource_provider_generation"
OWN = ("/application_credentials", "/credentials/OS-EC2")  # what only a user makes of its own: that harms nobody
KEYSTONE, NEUTRON, NOVA, ERRORS = {"error"}, {"NeutronError"}, {"code", "message"}, {"errors"}


@dataclass
class Request:
    operation: Operation
    path: str  # with its query, below the service
    caller: str
    version: str | None
    body: Any = None
    media: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        body = "" if self.body is None else json.dumps(self.body, default=repr)[:1500]
        words = (
            self.operation.about,
            self.operation.method,
            self.path[:300],
            self.caller or "(no token)",
            self.version or "",
        )
        return " ".join((*words, body))


class Ids:
    """What answers have told of: noun → ids. `kept`: those without which a run could not go on."""

    def __init__(self) -> None:
        self.known: dict[str, list[str]] = defaultdict(list)
        self.kept: set[str] = set()

    def learn(self, body: Any, noun: str = "") -> None:
        if isinstance(body, list):
            for each in body[:KEPT]:
                self.learn({"id": each} if isinstance(each, str) else each, noun)
        elif isinstance(body, dict):
            ident = next((body[key] for key in IDENTS if key in body), None)
            if isinstance(ident, str | int) and noun and str(ident) not in self.known[noun]:
                self.known[noun] = [*self.known[noun][-KEPT + 1 :], str(ident)]
            for key, value in body.items():
                if isinstance(value, dict | list):
                    self.learn(value, singular(key))

    def forget(self, path: str) -> None:
        last = path.partition("?")[0].rpartition("/")[2]
        for idents in self.known.values():
            if last in idents:
                idents.remove(last)

    def of(self, name: str) -> list[str]:
        """Of the things that a field of this name names (`implied_role_id`: any role's); all for ""."""
        if not name:
            return [ident for idents in self.known.values() for ident in idents]
        noun = singular(re.sub(r"(_?(id|uuid|Ref|name|value))s?$", "", name.replace("tenant", "project")))
        last = noun.rpartition("_")[2]
        ends = (ident for known, idents in self.known.items() if known.rpartition("_")[2] == last for ident in idents)
        return self.known.get(noun) or list(ends)


def singular(word: str) -> str:
    word = word.replace("-", "_")
    return word[:-3] + "y" if word.endswith("ies") else word.removesuffix("s")


class Fuzzer:
    """One run against the cloud at `url`; `tokens` logs a caller in. `found`: what was wrong, each with one request."""

    def __init__(self, url: str, login: Any) -> None:
        self.url, self.login = url, login
        self.http = httpx.Client(timeout=HANG, follow_redirects=False)
        self.tokens = {ADMIN: login(ADMIN), MEMBER: login(MEMBER), NOBODY: ""}
        self.ids = Ids()
        self.me = {caller: self.whoami(caller) for caller in (ADMIN, MEMBER)}
        self.spare: list[str] = []  # tokens that may be taken away
        self.paths: dict[tuple[str, str], list[str]] = defaultdict(list)  # service, template → paths that were good
        self.bodies: dict[Operation, list[Any]] = defaultdict(list)  # that were good
        self.found: dict[str, str] = {}
        self.seen: Counter[tuple[Operation, int]] = Counter()
        self.every = [each for about in DESCRIPTIONS for each in operations(about)]
        self.offered = {each for each in self.every if has_route(each)}
        self.weights = list(accumulate(OFTEN[each.method] for each in self.every))
        self.look_around()
        self.there = {
            "public": self.first("network", "/v2.0/networks?router:external=true"),
            "service_role": self.first("identity", "/v3/roles?name=service"),
        }
        self.furnish()

    def first(self, about: str, path: str) -> str:
        """The id of the first of a list."""
        answer = self.send(Request(Operation(about, "GET", ""), path, ADMIN, None)).json()
        return str(next(found for found in answer.values() if isinstance(found, list))[0]["id"])

    def look_around(self) -> None:
        """Learns of what a new cloud has; that is needed to the end."""
        for each in (each for each in self.every if each in self.offered):
            if each.method == "GET" and "{" not in each.path:
                answer = self.send(Request(each, each.path, ADMIN, None))
                if answer.status_code == 200 and "json" in answer.headers.get("content-type", ""):
                    self.ids.learn(answer.json())
        self.ids.kept = {ident for noun in self.ids.known.values() for ident in noun}

    def furnish(self) -> None:
        """What a caller may not make is refused: no matter."""
        for caller in (ADMIN, MEMBER):
            known = self.me[caller] | self.there
            for about, words, body in FURNITURE:
                raw = isinstance(body, bytes)
                fill = partial(re.sub, r"@(\w+)", partial(self.newest, known))
                (method, path), told = fill(words).split(), json.loads(fill(json.dumps(None if raw else body)))
                operation = Operation(about, method, openapi.find_path(about, path.partition("?")[0]) or path)
                made = Request(operation, path, caller, NEWEST.get(about), body if raw else told)
                found = operation in self.every and openapi.body_schema(about, method, operation.path, made.version)
                made.media = "application/octet-stream" if raw else found[0] if found else made.media
                self.try_one(made)

    def newest(self, known: dict[str, str], named: re.Match[str]) -> str:
        return known.get(named[1]) or (self.ids.known[named[1]] or [""])[-1]

    def whoami(self, caller: str) -> dict[str, str]:
        request = Request(Operation("identity", "GET", "/v3/auth/tokens"), "/v3/auth/tokens", caller, None)
        request.headers["X-Subject-Token"] = self.tokens[caller]
        token = self.send(request).json()["token"]
        return {"me": token["user"]["id"], "mine": token["project"]["id"], "myrole": token["roles"][-1]["id"]}

    def choose(self, random: Random) -> Operation:
        """Of all, offered or not: a new route is then tried where it was chosen before, and no other request is another."""
        return random.choices(self.every, cum_weights=self.weights)[0]

    def draw(self, random: Random) -> Request:
        """A request of one of the operations, few not offered."""
        values = Values(random, self.ids.of, lambda schema: openapi.resolve(operation.about, schema))
        operation = self.choose(random)
        while operation not in self.offered and not values.one_in(30):
            operation = self.choose(random)
        about, method, template = operation.about, operation.method, operation.path
        version = values.pick(VERSIONS[about]) if about in VERSIONS else None
        caller = values.pick(TAME if values.tame else CALLERS)
        query = []
        for each in openapi.parameters(about, method, template):
            if each["in"] == "query" and values.one_in(40 if values.tame else 6):
                value = values.of(each.get("schema", {}), each["name"].partition("[")[0])
                query.append((each["name"], value if isinstance(value, str) else json.dumps(value)))
        where = (self.path(operation, caller, values) + ("?" + urlencode(query) if query else ""))[:LONGEST]
        made = Request(operation, where, caller, version)
        if "/auth/tokens" in template and method != "POST":
            there = self.spare if method == "DELETE" else self.tokens.values()
            made.headers["X-Subject-Token"] = values.pick([*there, "x"])
        if found := openapi.body_schema(about, method, template, version):
            made.media, schema = found
            known = self.bodies[operation]
            if known and values.one_in(2):
                made.body = self.current(made, values.changed(values.pick(known)), values)
            elif "json" in made.media:
                made.body = None if values.one_in(30) else values.of(schema)
            else:
                made.body = random.randbytes(random.randrange(1000))
        return made

    def current(self, request: Request, body: Any, values: Values) -> Any:
        """With the generation that a resource provider has now; without it nothing would ever be changed twice."""
        if not values.tame or not isinstance(body, dict) or GENERATION not in body:
            return body
        uuid = request.path.split("/")[2]
        answer = self.send(Request(request.operation, f"/resource_providers/{uuid}", ADMIN, "1.39"), "GET")
        return body | {GENERATION: answer.json()["generation"]} if answer.status_code == 200 else body

    def path(self, operation: Operation, caller: str, values: Values) -> str:
        """Often one that was good before, perhaps by another method: what was granted is then looked at, and taken."""
        about, template = operation.about, operation.path
        if (known := self.paths[about, template]) and values.one_in(2):
            return str(values.pick(known))
        path, before = "", ""
        for word in template.strip("/").split("/"):
            name = word[1:-1] if word.startswith("{") else ""
            if not name:
                path, before = f"{path}/{word}", singular(word)
            elif about == "block-storage" and name in ("project_id", "admin_project_id") and values.tame and caller:
                path += "/" + self.me[caller]["mine"]
            else:
                generic = name in ("id", "uuid", "name", "value")
                path += "/" + quote(values.ident(before if generic else name), safe="")
        return path

    def harms(self, request: Request) -> bool:
        """Whether it would end the run's own users: of Keystone's things those that were there stay as they are."""
        if request.operation.about != "identity" or request.operation.method not in ("DELETE", "PATCH", "POST", "PUT"):
            return False
        if request.operation.method == "POST" and request.operation.path.endswith(OWN):
            return False
        named = set(request.path.partition("?")[0].split("/")) & self.ids.kept
        return bool(named) and (request.operation.method != "PUT" and request.operation.path != "/v3/auth/tokens")

    def send(self, request: Request, method: str = "") -> httpx.Response:
        about = request.operation.about
        headers = {"X-Auth-Token": self.tokens[request.caller]} if request.caller else {}
        if request.version:
            headers["OpenStack-API-Version"] = f"{TYPES.get(about, about)} {request.version}"
        content = None
        if isinstance(request.body, bytes):
            content = request.body
        elif request.body is not None:
            content = json.dumps(request.body).encode()
        if content is not None:
            headers["Content-Type"] = request.media
        url = f"{self.url}/{MOUNTS.get(about, about)}{request.path}"
        return self.http.request(method or request.operation.method, url, content=content, headers=headers | request.headers)

    def try_one(self, request: Request) -> None:
        if self.harms(request):
            return
        try:
            answer = self.send(request)
        except httpx.HTTPError as error:
            self.wrong(request, f"no answer: {type(error).__name__}")
            return
        self.seen[request.operation, answer.status_code] += 1
        for complaint in complaints(request, answer):
            self.wrong(request, f"{complaint}\n      {answer.status_code} {answer.text[:600]}")
        if answer.status_code == 401 and request.caller:
            self.tokens[request.caller] = self.login(request.caller)
        if answer.status_code < 300 and request.operation.method == "DELETE":
            self.ids.forget(request.path)
        elif answer.status_code < 300:
            self.remember(request, answer)

    def remember(self, request: Request, answer: httpx.Response) -> None:
        about, template = request.operation.about, request.operation.path
        kept = self.paths[about, template]
        if (path := request.path.partition("?")[0]) not in kept and "{" in template:
            kept[:] = [*kept[-KEPT + 1 :], path]
        if request.body is not None and request.operation.method != "GET":
            kept = self.bodies[request.operation]
            kept[:] = [*kept[-KEPT + 1 :], request.body]
        if template == "/v3/auth/tokens" and "X-Subject-Token" in answer.headers:
            self.spare = [*self.spare[-KEPT + 1 :], answer.headers["X-Subject-Token"]]
        if answer.content and "json" in answer.headers.get("content-type", ""):
            literal = [word for word in template.split("/") if word and not word.startswith("{")]
            self.ids.learn(answer.json(), singular(literal[-1]) if literal else "")

    def wrong(self, request: Request, complaint: str) -> None:
        kind = re.sub(r"[0-9a-f-]{32,36}|'[^']*'|\d+", "…", complaint.partition("\n")[0])
        self.found.setdefault(f"{request.operation} {kind[:60]}", f"{complaint}\n      {request}")


def complaints(request: Request, answer: httpx.Response) -> Iterable[str]:
    """What no answer may be: a 5xx, a good one that its description does not know, an error not in the service's form.

    501 is what Nova itself answers for services that are not there (Ironic).
    """
    operation, status = request.operation, answer.status_code
    if status >= 500 and status != 501:
        yield f"answered {status}"
        return
    if operation.method == "HEAD" or not answer.content:
        return
    if status >= 400:
        if not well_formed(operation.about, answer):
            yield "an error in no form of this service"
        return
    described = openapi.find_path(operation.about, operation.path) and has_route(operation)
    if "json" not in answer.headers.get("content-type", "") or not described or "fields=" in request.path:
        return
    body = without_nulls(answer.json()) if operation.about == "network" else answer.json()
    acts = operation.path.endswith("/action") and isinstance(request.body, dict)
    action = next(iter(request.body), None) if acts else None
    try:
        openapi.check_response(operation.about, operation.method, operation.path, status, body, request.version, action)
    except AssertionError as error:
        yield "breaks its schema: " + str(error).partition("\n")[2][:300].replace("\n", " ")


def without_nulls(body: Any) -> Any:
    """The description forgets that Neutron writes null for what is not set."""
    if isinstance(body, dict):
        return {key: without_nulls(value) for key, value in body.items() if value is not None}
    return [without_nulls(item) for item in body] if isinstance(body, list) else body


def well_formed(about: str, answer: httpx.Response) -> bool:
    """An error in the service's own words, and saying something."""
    if about == "image" or "json" not in answer.headers.get("content-type", ""):
        return about == "image" and "<h1>" in answer.text
    body = answer.json()
    inner: Any = next(iter(body.values()), None)
    if inner == NO_SERVICE:
        return service_of(about) is None
    if about == "placement":
        return set(body) == ERRORS and all(each["status"] == answer.status_code and each["detail"] for each in inner)
    if about == "network":
        return set(body) == NEUTRON and bool(inner["type"] and inner["message"])
    if about == "identity":
        return set(body) == KEYSTONE and inner["code"] == answer.status_code and bool(inner["message"])
    return len(body) == 1 and set(inner) >= NOVA and inner["code"] == answer.status_code and bool(inner["message"])
