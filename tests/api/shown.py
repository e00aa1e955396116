"""A pytest plugin (`-p shown`): which test had a good answer of which operation, written to docs/shown-by.tsv.

Of several tests the one that had the fewest others is named: it is the most about it. `make api-shown` runs it.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import openapi
import pytest
from operations import DESCRIPTIONS, MOUNTS, SERVER_ACTIONS, SHOWN, shape

from kilonova.web.call import Call, Reply, Route
from kilonova.web.router import Application
from kilonova.web.service import Service

ABOUT = {MOUNTS.get(about, about): about for about in DESCRIPTIONS}
answered: dict[str, set[str]] = defaultdict(set)  # test → the operations that it had an answer of
running = ""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global running
    running = item.nodeid.partition("[")[0]
    result: Any = yield
    return result


def pytest_configure() -> None:
    handle = Application.handle

    def noted(self: Application, service: Service, route: Route, call: Call, raw: bytes) -> Reply:
        reply = handle(self, service, route, call, raw)
        if (reply.status or route.status) < 400 and service.prefix in ABOUT:
            path = next(key.split()[1] for key, each in service.routes.items() if each is route)
            about = ABOUT[service.prefix]
            word = f"{about} {call.method} {shape(openapi.find_path(about, f'/{call.path}') or path)}"
            answered[running].add(word)
            if path == SERVER_ACTIONS and isinstance(call.body, dict):
                answered[running].add(f"{word} {next(iter(call.body), '')}")
        return reply

    Application.handle = noted  # type: ignore[method-assign]


def pytest_sessionfinish(exitstatus: int) -> None:
    if exitstatus:  # a test that failed shows nothing
        return
    best: dict[str, tuple[int, str]] = {}
    for test, words in answered.items():
        for word in words:
            best[word] = min(best.get(word, (10**6, "")), (len(words), test))
    SHOWN.write_text("".join(f"{word}\t{best[word][1]}\n" for word in sorted(best)))
