"""Every operation of OpenStack's six descriptions: offered by which test's word, or not and why. `make api-table`.

The table stands at the end of docs/api.md. It is made of the descriptions, the services' route tables,
`docs/not-offered.toml` (why not) and `docs/shown-by.tsv` (which tests got an answer of it: `make api-shown`).
What has a route and only ever refuses, in OpenStack's own words for it, is not offered: its reason begins with the
status, and a test shows that.
"""

import fnmatch
import functools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openapi

from kilonova.app import SERVICES
from kilonova.compute.server_handlers import ACTIONS, ASKING
from kilonova.image.metadef_schemas import SCHEMAS as METADEFS
from kilonova.image.schemas import SCHEMAS
from kilonova.web.router import segments_of
from kilonova.web.service import Service

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, REASONS, SHOWN = DOCS / "api.md", DOCS / "not-offered.toml", DOCS / "shown-by.tsv"
MARK = "<!-- What follows is made by `make api-table`: do not edit it. -->\n"
COMMAND = "make api-table"
DESCRIPTIONS = ("identity", "image", "placement", "network", "compute", "block-storage")
MOUNTS = {"block-storage": "volume"}  # where the service's name is another
METHODS = ("get", "head", "post", "put", "patch", "delete")
SERVER_ACTIONS = "/v2.1/servers/{id}/action"


@dataclass(frozen=True)
class Operation:
    """`about`: the description's name; `action`: of a server, as the body names it."""

    about: str
    method: str
    path: str
    action: str = ""

    def __str__(self) -> str:
        return f"{self.method} {self.path}" + f" {self.action}" * bool(self.action)


@dataclass(frozen=True)
class Line:
    """One of the table: `test` that had the answer of it that it should have, `reason` why it is not offered."""

    operation: Operation
    offered: bool
    test: str = ""
    reason: str = ""


def operations(about: str) -> list[Operation]:
    """All of a description, in its order."""
    paths = openapi.document(about)["paths"]
    return [Operation(about, m.upper(), path) for path, item in paths.items() for m in METHODS if m in item]


def server_actions() -> list[Operation]:
    return [Operation("compute", "POST", SERVER_ACTIONS, name) for name in openapi.actions("compute", SERVER_ACTIONS)]


def shape(path: str) -> str:
    """The path with the names of its ids taken out: two routes of one shape are one."""
    return "/" + "/".join("{}" if each.startswith("{") else each for each in segments_of(path))


def service_of(about: str) -> Service | None:
    return next((each for each in SERVICES if each.prefix == MOUNTS.get(about, about)), None)


@functools.cache
def offered(about: str) -> frozenset[str]:
    """`METHOD /shape` of each route that answers; GET answers HEAD. Two of Glance's routes have a name for each schema."""
    service = service_of(about)
    found = {f"{key.split()[0]} {shape(key.split()[1])}" for key in (service.routes if service else ())}
    if about == "image":
        found |= {f"GET /v2/schemas/{name}" for name in SCHEMAS}
        found |= {f"GET /v2/schemas/metadefs/{name}" for name in METADEFS}
    return frozenset(found | {f"HEAD {key.removeprefix('GET ')}" for key in found if key.startswith("GET ")})


def has_route(operation: Operation) -> bool:
    if operation.action:
        return operation.action in ACTIONS or operation.action in ASKING
    return f"{operation.method} {shape(operation.path)}" in offered(operation.about)


@functools.cache
def reasons() -> dict[str, dict[str, str]]:
    """Description → pattern of operations → why they are not offered; the first that fits is the reason."""
    found: dict[str, dict[str, str]] = tomllib.loads(REASONS.read_text())
    return found


def fits(operation: Operation, pattern: str) -> bool:
    """`GET /v3/a`, `* /v3/a/*`, or a path alone for all its methods."""
    return fnmatch.fnmatchcase(str(operation), pattern if " " in pattern else f"* {pattern}")


def reason(operation: Operation) -> str:
    return next((why for pattern, why in reasons()[operation.about].items() if fits(operation, pattern)), "")


def refusal(operation: Operation) -> int:
    """The status of an operation that has a route and refuses whatever is asked of it; 0 of any other."""
    status, colon, _ = reason(operation).partition(": ")
    return int(status) if colon and status.isdigit() else 0


@functools.cache
def shown() -> dict[str, str]:
    """`description METHOD /shape` → the test that had an answer of it."""
    lines = SHOWN.read_text().splitlines() if SHOWN.exists() else []
    return dict(line.split("\t") for line in lines)


def table(about: str) -> list[Line]:
    return [_line(each) for each in operations(about)]


def table_of_actions() -> list[Line]:
    return [_line(each) for each in server_actions()]


def word(operation: Operation) -> str:
    """What `docs/shown-by.tsv` calls it."""
    named = f"{operation.about} {operation.method} {shape(operation.path)}"
    return named + f" {operation.action}" * bool(operation.action)


def _line(operation: Operation) -> Line:
    test = shown().get(word(operation), "") if has_route(operation) else ""
    if has_route(operation) and not refusal(operation):
        return Line(operation, True, test)
    return Line(operation, False, test, reason(operation))


def rendered() -> Iterator[str]:
    """The page's lines behind its mark."""
    tables = {about: table(about) for about in DESCRIPTIONS}
    every = [line for lines in tables.values() for line in lines]
    yield "\n## Every operation\n\n"
    yield f"The {len(every)} operations of OpenStack's own OpenAPI descriptions. One that is offered names a test\n"
    yield "that had a good answer of it; one that is not says why. A reason that begins with a status is of an operation\n"
    yield "that is refused with it, as OpenStack refuses it where there is no such thing: a test shows that, too.\n\n"
    yield "| Description | Operations | Offered, each shown by a test | Not offered |\n|---|---|---|---|\n"
    for about, lines in (*tables.items(), ("all", every)):
        there = sum(line.offered for line in lines)
        yield f"| {about} | {len(lines)} | {there} | {len(lines) - there} |\n"
    for about, lines in tables.items():
        yield f"\n### {about}\n\n{HEAD}"
        yield from map(_row, lines)
    yield f"\n### Actions of servers\n\n`POST {SERVER_ACTIONS}` is one operation with many bodies.\n\n{HEAD}"
    yield from map(_row, table_of_actions())


HEAD = "| Operation | Offered | Shown by, or why not |\n|---|---|---|\n"


def _row(line: Line) -> str:
    name = line.operation.action or str(line.operation)
    return f"| `{name}` | {'yes' if line.offered else 'no'} | {f'`{line.test}`' if line.offered else line.reason} |\n"


def written() -> str:
    """The whole page: what people wrote, up to its mark, and the tables."""
    return PAGE.read_text().partition(MARK)[0] + MARK + "".join(rendered())


if __name__ == "__main__":
    if not openapi.available():
        raise SystemExit(f"{openapi.HOME} is not there; KILONOVA_OPENAPI names the folder of the descriptions")
    PAGE.write_text(written())
