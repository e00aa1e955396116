"""A pytest plugin (`-p shown`): which test had a good answer of which operation, written to docs/shown-by.tsv.

Of what only ever refuses (docs/not-offered.toml), the good answer is that refusal. Of several tests the one that had the
fewest others is named: it is the most about it. `make api-shown` runs it; lines of files of tests that did not run stay.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openapi
import pytest
from operations import DESCRIPTIONS, DOCS, MOUNTS, SERVER_ACTIONS, SHOWN, Operation, refusal, shown, word

from kilonova.model.errors import APIError
from kilonova.web.call import Call, Reply, Route
from kilonova.web.router import Application
from kilonova.web.service import Service

ABOUT = {MOUNTS.get(about, about): about for about in DESCRIPTIONS}
answered: dict[str, set[str]] = defaultdict(set)  # test → the operations that it had an answer of
ran: set[Path] = set()
running = ""


def file_of(test: str) -> Path:
    return DOCS.parent / test.partition("::")[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global running
    running = item.nodeid.partition("[")[0]
    ran.add(file_of(running))
    result: Any = yield
    return result


def pytest_configure() -> None:
    handle = Application.handle

    def noted(self: Application, service: Service, route: Route, call: Call, raw: bytes) -> Reply:
        try:
            reply = handle(self, service, route, call, raw)
        except APIError as error:
            note(service, route, call, error.status)
            raise
        note(service, route, call, reply.status or route.status)
        return reply

    Application.handle = noted  # type: ignore[method-assign]


def note(service: Service, route: Route, call: Call, status: int) -> None:
    if service.prefix not in ABOUT:
        return
    path = next(key.split()[1] for key, each in service.routes.items() if each is route)
    about = ABOUT[service.prefix]
    asked = Operation(about, call.method, openapi.find_path(about, f"/{call.path}") or path)
    each = [asked]
    if path == SERVER_ACTIONS and isinstance(call.body, dict):
        each.append(replace(asked, action=next(iter(call.body), "")))
    answered[running].update(word(one) for one in each if (status == refusal(one) if refusal(one) else status < 400))


def pytest_sessionfinish(exitstatus: int) -> None:
    if exitstatus:  # a test that failed shows nothing
        return
    best: dict[str, tuple[int, str]] = {}
    for test, words in answered.items():
        for each in words:
            best[each] = min(best.get(each, (10**6, "")), (len(words), test))
    found = {each: test for each, (_, test) in best.items()}
    found |= {each: test for each, test in shown().items() if file_of(test).exists() and file_of(test) not in ran}
    SHOWN.write_text("".join(f"{each}\t{found[each]}\n" for each in sorted(found)))
