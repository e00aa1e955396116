"""A running cloud under requests made of OpenStack's own descriptions: no 5xx, no hang, no answer that breaks its schema.

A thousand requests in every run of the tests; `make fuzz` makes twenty thousand, of another seed each time: it is printed,
and `make fuzz SEED=…` begins again with it.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import httpx
import openapi
import pytest
from clouds import RunningCloud
from fuzzer import ADMIN, Fuzzer
from operations import DESCRIPTIONS, Operation

REQUESTS, SEED = int(os.environ.get("KILONOVA_FUZZ", "1000")), int(os.environ.get("SEED") or "1")
ROUND = 2500  # requests to a cloud; then to a new one, since quotas and services have been changed at will


def login(cloud: RunningCloud) -> Callable[[str], str]:
    def run(caller: str) -> str:
        name = "admin" if caller == ADMIN else "demo"
        user = {"name": name, "domain": {"id": "default"}, "password": cloud.json[f"{name}_password"]}
        scope = {"project": {"name": name, "domain": {"id": "default"}}}
        auth = {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}
        answer = httpx.post(f"{cloud.json['url']}/identity/v3/auth/tokens", json={"auth": auth})
        assert answer.status_code == 201, answer.text
        return answer.headers["X-Subject-Token"]

    return run


def hammer(cloud: RunningCloud, requests: int, number: int) -> Fuzzer:
    fuzzer = Fuzzer(cloud.json["url"], login(cloud))

    for turn in itertools.count():
        if fuzzer.seen.total() >= requests:
            break
        fuzzer.try_one(fuzzer.draw(Random(f"{number}/{turn}")))
    return fuzzer


@pytest.mark.skipif(not openapi.available(), reason=f"OpenStack's descriptions are not in {openapi.HOME}")
@pytest.mark.timeout(300 + REQUESTS // 5)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_request_is_answered_wrongly(kind: str, tmp_path: Path, databases: Any) -> None:
    wrong: dict[str, str] = {}
    told: Counter[str] = Counter()
    good: set[Operation] = set()
    left, number = REQUESTS // 2, SEED
    while left > 0:
        options = ["--database", databases.empty(kind)] if kind == "postgresql" else []
        cloud = RunningCloud(tmp_path / f"cloud{number}", "fake", *options).up()
        try:
            fuzzer = hammer(cloud, min(left, ROUND), number)
            log = (cloud.state / "log").read_text()
        finally:
            cloud.purge()
        wrong |= fuzzer.found
        wrong |= {line: line for line in log.splitlines() if "a worker's turn failed" in line}
        for (operation, status), times in fuzzer.seen.items():
            told[f"{operation.about} {status}"] += times
            good |= {operation} if status < 300 and operation in fuzzer.offered else set()
        left, number = left - ROUND, number + 1
    print(f"seed {SEED}, {kind}: {sum(told.values())} requests, {dict(sorted(told.items()))}")
    for about in DESCRIPTIONS:
        there = {each for each in fuzzer.offered if each.about == about}
        print(f"{about}: {len(there & good)} of {len(there)} operations had a good answer")
    report = "\n".join(f"  {what}\n    {how}" for what, how in wrong.items())
    assert not wrong, f"{len(wrong)} kinds of wrong answers of seed {SEED}:\n{report}"
