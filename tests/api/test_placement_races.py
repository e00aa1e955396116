"""Sixteen clients at Placement's door who want the last of what there is: on both databases it is never over-committed.

A client does as nova-scheduler: it asks for candidates, claims one, and after a 409 asks anew.
"""

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from test_placement_door import Placement

from kilonova.db.engine import Database

CLIENTS = 16
CONCURRENT = "placement.concurrent_update"


@pytest.fixture
def placement(database: Database) -> Placement:
    return Placement(database)


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """What each client, all begun together, found."""
    together = threading.Barrier(CLIENTS)

    def client(number: int) -> Any:
        together.wait(60)
        return work(number)

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(client, range(CLIENTS)))


def code(answer: Any) -> str:
    return "" if answer.status_code < 300 else str(answer.json()["errors"][0].get("code"))


def used(placement: Placement, provider: str) -> dict[str, int]:
    return dict(placement("GET", f"/resource_providers/{provider}/usages").json()["usages"])


def claimed(placement: Placement, number: int) -> list[dict[str, Any]]:
    """Claims of two CPUs and their memory, until no candidate is left: each as allocations say it."""
    mine = []
    while True:
        found = placement("GET", "/allocation_candidates?resources=VCPU:2,MEMORY_MB:100,DISK_GB:1&limit=1000").json()
        requests = found["allocation_requests"]
        if not requests:
            return mine
        wanted = requests[number % len(requests)]["allocations"]
        body = {
            "allocations": wanted, "project_id": "p", "user_id": "u", "consumer_generation": None,
            "consumer_type": "INSTANCE",
        }  # fmt: skip
        answer = placement("PUT", f"/allocations/{uuid.uuid4()}", body)
        assert answer.status_code in (204, 409), answer.text
        if answer.status_code == 204:
            mine.append(wanted)


def test_the_last_units_go_once(placement: Placement) -> None:
    """Two hosts with two NUMA cells each, and a disk that both share, whose room runs out first."""
    aggregate = str(uuid.uuid4())
    shared = placement.host("disks", DISK_GB=19)
    placement(
        "PUT",
        f"/resource_providers/{shared}/traits",
        {"resource_provider_generation": 1, "traits": ["MISC_SHARES_VIA_AGGREGATE"]},
    )
    hosts = [placement.host(f"host-{number}", MEMORY_MB=1050) for number in range(2)]
    cells = [placement.host(f"cell-{host}-{number}", host, VCPU=11) for host in hosts for number in range(2)]
    for provider in (shared, *hosts):
        now = placement("GET", f"/resource_providers/{provider}").json()["generation"]
        body = {"resource_provider_generation": now, "aggregates": [aggregate]}
        assert placement("PUT", f"/resource_providers/{provider}/aggregates", body).status_code == 200

    claims = [claim for some in at_once(lambda number: claimed(placement, number)) for claim in some]
    assert len(claims) == 19  # of twenty that the CPUs and the memory have room for
    taken: Counter[tuple[str, str]] = Counter()
    for claim in claims:
        for provider, what in claim.items():
            taken.update({(provider, name): amount for name, amount in what["resources"].items()})
    for provider, name, total in (
        (shared, "DISK_GB", 19), *((host, "MEMORY_MB", 1050) for host in hosts), *((cell, "VCPU", 11) for cell in cells),
    ):  # fmt: skip
        assert used(placement, provider) == {name: taken[provider, name]}  # nothing half done, nothing lost
        assert taken[provider, name] <= total


def test_one_consumer_is_claimed_for_once(placement: Placement) -> None:
    """All sixteen believe that there is no such consumer yet: one is right."""
    provider, consumer = placement.host("h", VCPU=1000), str(uuid.uuid4())
    answers = at_once(lambda number: placement.take(provider, consumer, VCPU=number + 1))
    assert Counter((answer.status_code, code(answer)) for answer in answers) == {(204, ""): 1, (409, CONCURRENT): 15}
    won = next(number + 1 for number, answer in enumerate(answers) if answer.status_code == 204)
    assert used(placement, provider) == {"VCPU": won}


def test_one_generation_is_written_once(placement: Placement) -> None:
    """Inventories by the same generation: one writer's stand, whole."""
    provider = placement.host("h", VCPU=8)
    before = placement("GET", f"/resource_providers/{provider}").json()["generation"]

    def write(number: int) -> Any:
        inventories = {"VCPU": {"total": number + 1}, "MEMORY_MB": {"total": number + 1}}
        body = {"resource_provider_generation": before, "inventories": inventories}
        return placement("PUT", f"/resource_providers/{provider}/inventories", body)

    answers = at_once(write)
    assert Counter((answer.status_code, code(answer)) for answer in answers) == {(200, ""): 1, (409, CONCURRENT): 15}
    won = next(number + 1 for number, answer in enumerate(answers) if answer.status_code == 200)
    held = placement("GET", f"/resource_providers/{provider}/inventories").json()
    assert {name: each["total"] for name, each in held["inventories"].items()} == {"VCPU": won, "MEMORY_MB": won}
    assert held["resource_provider_generation"] == before + 1


def test_moves_and_deletes_leave_no_trace(placement: Placement) -> None:
    """Each moves its consumer to a small host, which has room for five, then deletes it; the sum is right at each look."""
    big, small = placement.host("big", VCPU=16), placement.host("small", VCPU=5)
    consumers = [str(uuid.uuid4()) for _ in range(CLIENTS)]
    for consumer in consumers:
        assert placement.take(big, consumer, VCPU=1).status_code == 204

    def move(number: int) -> str:
        while True:
            answer = placement.take(small, consumers[number], 1, VCPU=1)
            assert used(placement, small).get("VCPU", 0) <= 5
            if code(answer) != CONCURRENT:
                return "moved" if answer.status_code == 204 else "no room"

    assert Counter(at_once(move)) == {"moved": 5, "no room": 11}
    assert [used(placement, each)["VCPU"] for each in (big, small)] == [11, 5]
    answers = at_once(lambda number: placement("DELETE", f"/allocations/{consumers[number]}"))
    assert {answer.status_code for answer in answers} == {204}
    assert [used(placement, each)["VCPU"] for each in (big, small)] == [0, 0]
