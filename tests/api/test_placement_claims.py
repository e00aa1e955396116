"""Placement as the scheduler and the flows use it: within their transactions."""

import threading
import uuid

import pytest

from kilonova.db.engine import Database
from kilonova.model.errors import NotFound
from kilonova.placement import allocations, candidates, providers
from kilonova.placement.allocations import OverCapacity
from statements import statements

HOST = "5e0c8e8e-0000-4000-8000-000000000001"
INVENTORIES = {
    "VCPU": {"total": 4, "allocation_ratio": 2.0},
    "MEMORY_MB": {"total": 1000, "reserved": 200},
    "DISK_GB": {"total": 50, "min_unit": 2, "max_unit": 20, "step_size": 2},
}


@pytest.fixture
def host(database: Database) -> str:
    database.write(lambda tx: providers.ensure_provider(tx, HOST, "host-1", INVENTORIES))
    return HOST


def claim(database: Database, consumer: str, resources: dict[str, int], provider: str = HOST) -> None:
    database.write(lambda tx: allocations.claim(tx, consumer, provider, resources, "p", "u"))


def used(database: Database) -> dict[str, int]:
    return database.read(lambda tx: allocations.usages(tx, HOST))


def generation(database: Database) -> int:
    return int(database.read(lambda tx: providers.get(tx, HOST))["generation"])


def test_a_report_writes_only_what_differs(database: Database, host: str) -> None:
    before = generation(database)
    database.write(lambda tx: providers.ensure_provider(tx, HOST, "host-1", INVENTORIES))
    assert generation(database) == before
    more = INVENTORIES | {"VCPU": {"total": 8, "allocation_ratio": 2.0}}
    database.write(lambda tx: providers.ensure_provider(tx, HOST, "host-1", more))
    assert generation(database) == before + 1


def test_a_ratio_and_what_is_reserved_are_the_operators(database: Database, host: str) -> None:
    """Set by `openstack resource provider inventory set`; a host's next report leaves them, and tells of its size."""
    set_ = {"total": 4, "allocation_ratio": 1.5, "reserved": 1, "max_unit": 2}
    database.write(
        lambda tx: providers.update_inventory(tx, providers.get(tx, HOST), "VCPU", {**providers.INVENTORY_DEFAULTS, **set_})
    )
    larger = INVENTORIES | {"VCPU": {"total": 8, "allocation_ratio": 2.0}}
    database.write(lambda tx: providers.ensure_provider(tx, HOST, "host-1", larger))
    (left,) = (row for row in database.read(lambda tx: providers.inventories(tx, HOST)) if row["resource_class"] == "VCPU")
    assert (left["total"], left["allocation_ratio"], left["reserved"]) == (8, 1.5, 1)
    before = generation(database)
    database.write(lambda tx: providers.ensure_provider(tx, HOST, "host-1", larger))
    assert generation(database) == before


def test_a_report_without_a_class_in_use_keeps_it(database: Database, host: str) -> None:
    claim(database, str(uuid.uuid4()), {"DISK_GB": 2})
    less = {"VCPU": INVENTORIES["VCPU"]}
    database.write(lambda tx: providers.ensure_provider(tx, HOST, "host-1", less))
    left = database.read(lambda tx: providers.inventories(tx, HOST))
    assert [row["resource_class"] for row in left] == ["DISK_GB", "VCPU"]


def test_a_name_passes_to_a_new_host_id(database: Database, host: str) -> None:
    other = str(uuid.uuid4())
    database.write(lambda tx: providers.ensure_provider(tx, other, "host-1", INVENTORIES))
    with pytest.raises(NotFound):
        database.read(lambda tx: providers.get(tx, HOST))


def test_claim_and_release_may_be_repeated(database: Database, host: str) -> None:
    server = str(uuid.uuid4())
    for _ in range(2):
        claim(database, server, {"VCPU": 8, "MEMORY_MB": 800, "DISK_GB": 0})
        assert used(database) == {"VCPU": 8, "MEMORY_MB": 800, "DISK_GB": 0}
    assert database.write(lambda tx: allocations.release(tx, server)) is True
    assert database.write(lambda tx: allocations.release(tx, server)) is False
    assert used(database) == {"VCPU": 0, "MEMORY_MB": 0, "DISK_GB": 0}


@pytest.mark.parametrize(
    ("resources", "why"),
    [
        ({"VCPU": 9}, "asked 9, free 8 of 8"),
        ({"MEMORY_MB": 801}, "asked 801, free 800 of 800"),
        ({"DISK_GB": 22}, "the largest unit is 20"),
        ({"DISK_GB": 3}, "no multiple of 2"),
        ({"VGPU": 1}, "invalid"),
    ],
)
def test_what_does_not_fit_changes_nothing(database: Database, host: str, resources: dict[str, int], why: str) -> None:
    server = str(uuid.uuid4())
    claim(database, server, {"VCPU": 1})

    def attempt(tx) -> None:  # type: ignore[no-untyped-def]
        with pytest.raises(OverCapacity, match=why):
            allocations.claim(tx, server, HOST, resources, "p", "u")

    database.write(attempt)  # committed, as a scheduler does that goes on to its next candidate
    assert used(database)["VCPU"] == 1


def test_why_not(database: Database, host: str) -> None:
    claim(database, str(uuid.uuid4()), {"VCPU": 6, "MEMORY_MB": 300})
    other = str(uuid.uuid4())
    database.write(lambda tx: providers.ensure_provider(tx, other, "host-2", {"VCPU": {"total": 64}}))
    asked = {"VCPU": 4, "MEMORY_MB": 600}
    first, second = database.read(lambda tx: candidates.hosts(tx, asked))
    assert (first.uuid, first.name, first.fits) == (HOST, "host-1", False)
    assert first.why_not == (
        "VCPU: asked 4, free 2, used 6 of 4 times 2, MEMORY_MB: asked 600, free 500, used 300 of 1000, 200 of it reserved"
    )
    assert (first.resources["VCPU"].total, first.resources["VCPU"].used, first.resources["VCPU"].free) == (4, 6, 2)
    assert second.why_not == "MEMORY_MB: asked 600, the host offers none"
    first, _ = database.read(lambda tx: candidates.hosts(tx, {"DISK_GB": 22}))
    assert first.why_not.startswith("DISK_GB: asked 22, the largest unit is 20; free ")
    small = database.read(lambda tx: candidates.hosts(tx, {"VCPU": 2}))
    assert [candidate.fits for candidate in small] == [True, True]


def test_claims_at_once_never_take_more_than_there_is(database: Database, host: str) -> None:
    """More writers than places, all at once: exactly as many get one as there are."""
    start, got, refused, broken = threading.Barrier(12), [], [], []

    def one() -> None:
        server = str(uuid.uuid4())
        start.wait()
        try:
            claim(database, server, {"VCPU": 1})
            got.append(server)
        except OverCapacity:
            refused.append(server)
        except Exception as error:
            broken.append(error)

    threads = [threading.Thread(target=one) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not broken and (len(got), len(refused)) == (8, 4)
    assert used(database)["VCPU"] == 8


def test_many_claims_on_many_providers_are_weighed_at_once(database: Database) -> None:
    """Each provider's usage was asked for with the names of all consumers in it: a thousand of both took half a minute."""

    def asked(number: int) -> int:
        """The length of all that the database was asked."""
        hosts = [f"{number:08x}-0000-4000-8000-{each:012x}" for each in range(number)]
        consumers = [f"{number:08x}-0000-4000-9000-{each:012x}" for each in range(number)]
        for host in hosts:
            database.write(lambda tx, host=host: providers.ensure_provider(tx, host, f"host-{host}", INVENTORIES))
        generations = {host: database.read(lambda tx, host=host: providers.get(tx, host)["generation"]) for host in hosts}
        stock = {host: (generation, INVENTORIES) for host, generation in generations.items()}
        claims = [
            allocations.Claim(consumer, {host: {"VCPU": 1}}, "p", "u")
            for consumer, host in zip(consumers, hosts, strict=True)
        ]
        with statements(database) as seen:
            database.write(lambda tx: allocations.reshape(tx, stock, claims))
        return sum(map(len, seen))

    assert asked(100) <= 10 * asked(10)
