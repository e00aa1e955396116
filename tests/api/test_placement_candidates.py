"""GET /allocation_candidates: who could give what is asked, and in which combinations."""

import uuid

import pytest
from test_placement_door import Placement, error

from kilonova.db.engine import Database


@pytest.fixture
def placement(database: Database) -> Placement:
    return Placement(database)


def test_candidates(placement: Placement) -> None:
    small, large = placement.host("small", VCPU=2, MEMORY_MB=512), placement.host("large", VCPU=8, MEMORY_MB=4096)
    answer = placement("GET", "/allocation_candidates", resources="VCPU:4,MEMORY_MB:1024").json()
    wanted = {"VCPU": 4, "MEMORY_MB": 1024}
    assert answer["allocation_requests"] == [{"allocations": {large: {"resources": wanted}}, "mappings": {"": [large]}}]
    assert answer["provider_summaries"][large]["resources"]["VCPU"] == {"capacity": 8, "used": 0}
    both = placement("GET", "/allocation_candidates", resources="VCPU:1", limit=1).json()
    assert len(both["allocation_requests"]) == 1
    huge = placement("GET", "/allocation_candidates", resources=f"VCPU:{'9' * 4400}", limit="9" * 4400)
    assert huge.json()["allocation_requests"] == []
    listed = placement("GET", "/allocation_candidates", resources="VCPU:1", version="1.10").json()
    assert listed["allocation_requests"][0] == {
        "allocations": [{"resource_provider": {"uuid": small}, "resources": {"VCPU": 1}}]
    }
    assert "No such resource class" in error(placement("GET", "/allocation_candidates", resources="X:1"), 400)["detail"]
    error(placement("GET", "/allocation_candidates"), 400)
    error(placement("GET", "/allocation_candidates", resources="VCPU:1", colour="red"), 400)
    error(placement("GET", "/allocation_candidates", resources="VCPU:1", version="1.9"), 404)


def test_granular_candidates_in_a_tree_with_shared_storage(placement: Placement) -> None:
    bare = placement.host("bare", VCPU=1)
    body = {"aggregates": [uuid.uuid4().hex], "resource_provider_generation": 1}
    answer = placement("PUT", f"/resource_providers/{bare}/aggregates", body).json()
    assert answer["aggregates"] == body["aggregates"]  # as it was written
    body = {"aggregates": ["-".join(uuid.uuid4().hex)], "resource_provider_generation": 2}
    error(placement("PUT", f"/resource_providers/{bare}/aggregates", body), 400)
    root = placement.host("root", VCPU=8)
    nic1, nic2 = placement.host("nic1", root, SRIOV_NET_VF=1), placement.host("nic2", root, SRIOV_NET_VF=1)
    store, aggregate = placement.host("store", DISK_GB=100), str(uuid.uuid4())
    for host, generation in ((root, 1), (store, 1)):
        body = {"aggregates": [aggregate], "resource_provider_generation": generation}
        assert placement("PUT", f"/resource_providers/{host}/aggregates", body).status_code == 200
    traits = {"traits": ["MISC_SHARES_VIA_AGGREGATE"], "resource_provider_generation": 2}
    assert placement("PUT", f"/resource_providers/{store}/traits", traits).status_code == 200
    query = {"resources": "VCPU:1,DISK_GB:10", "resources_A": "SRIOV_NET_VF:1", "resources_B": "SRIOV_NET_VF:1"}
    answer = placement("GET", "/allocation_candidates", group_policy="isolate", **query).json()
    maps = [(item["mappings"]["_A"], item["mappings"]["_B"]) for item in answer["allocation_requests"]]
    assert sorted(maps) == sorted([([nic1], [nic2]), ([nic2], [nic1])])
    assert all(store in item["allocations"] and root in item["allocations"] for item in answer["allocation_requests"])
    subtree = placement("GET", "/allocation_candidates", group_policy="isolate", same_subtree="_A,_B", **query).json()[
        "allocation_requests"
    ]
    assert subtree == []  # neither card is above the other
    error(placement("GET", "/allocation_candidates", **query), 400)  # no group_policy


def mappings(placement: Placement, version: str = "1.39", **query: str) -> list[dict[str, list[str]]]:
    answer = placement("GET", "/allocation_candidates", version=version, **query)
    assert answer.status_code == 200, answer.text
    return [item["mappings"] for item in answer.json()["allocation_requests"]]


def test_groups_that_must_part_find_the_one_way_there_is(placement: Placement) -> None:
    """Ten groups on ten cards: of the 10**10 ways to deal them out most are wrong from their second group on."""
    root = placement.host("root", VCPU=8)
    cards = [placement.host(f"card{number}", root, SRIOV_NET_VF=1) for number in range(10)]
    groups = {f"resources_{letter}": "SRIOV_NET_VF:1" for letter in "ABCDEFGHIJ"}
    (found,) = mappings(placement, group_policy="isolate", limit="1", **groups)
    assert sorted(uuids[0] for uuids in found.values()) == sorted(cards)
    assert mappings(placement, group_policy="isolate", resources_K="SRIOV_NET_VF:1", limit="1", **groups) == []
    assert len(mappings(placement, group_policy="none", limit="3", **groups)) == 3


def test_a_limit_is_met_by_many_hosts(placement: Placement) -> None:
    """Not by the first one's combinations alone, of which there may be more than anybody reads."""
    roots = {placement.host(f"root{number}", VCPU=8) for number in range(3)}
    for root in sorted(roots):
        for number in range(4):
            placement.host(f"{root}:{number}", root, SRIOV_NET_VF=4)
    query = {"resources": "VCPU:1", **{f"resources_{letter}": "SRIOV_NET_VF:1" for letter in "ABC"}}
    found = mappings(placement, group_policy="none", limit="6", **query)
    assert sorted(each[""][0] for each in found) == sorted([*roots, *roots])
    assert len(mappings(placement, group_policy="none", **query)) == 3 * 4**3


def test_groups_without_resources_part_as_well(placement: Placement) -> None:
    root = placement.host("root", VCPU=8)
    traits = {"traits": ["HW_NUMA_ROOT"], "resource_provider_generation": 1}
    assert placement("PUT", f"/resource_providers/{root}/traits", traits).status_code == 200
    query = {"resources_A": "VCPU:1", "required_B": "HW_NUMA_ROOT", "same_subtree": "_A,_B"}
    assert mappings(placement, group_policy="none", **query) == [{"_A": [root], "_B": [root]}]
    assert mappings(placement, group_policy="isolate", **query) == []


def test_who_knows_no_trees_gets_one_provider_of_each(placement: Placement) -> None:
    """Before microversion 1.29 (Placement: `exclude_nested_providers`)."""
    root = placement.host("root", VCPU=8)
    cards = [placement.host(f"card{number}", root, SRIOV_NET_VF=1) for number in range(2)]
    for query, version, count, told in (
        ("SRIOV_NET_VF:1", "1.28", 2, set(cards)), ("SRIOV_NET_VF:1", "1.29", 2, {root, *cards}),
        ("VCPU:1,SRIOV_NET_VF:1", "1.28", 0, set()), ("VCPU:1,SRIOV_NET_VF:1", "1.29", 2, {root, *cards}),
    ):  # fmt: skip
        answer = placement("GET", "/allocation_candidates", resources=query, version=version).json()
        assert (len(answer["allocation_requests"]), set(answer["provider_summaries"])) == (count, told), (query, version)


def test_the_query_is_read_as_placement_reads_it(placement: Placement) -> None:
    placement.host("one", VCPU=4)
    placement.host("two", VCPU=4)

    def asked(query: str, version: str = "1.39") -> int:
        answer = placement("GET", f"/allocation_candidates?{query}", version=version)
        return len(answer.json()["allocation_requests"]) if answer.status_code == 200 else -1

    assert asked("resources=VCPU:1&limit=2&limit=1") == 2  # the first
    assert asked("resources=VCPU:%201%20") == asked("resources=VCPU:%2B1") == 2
    for amount, word in (("-2", ">= 1. Got: -2."), ("0", ">= 1. Got: 0."), ("1.5", "positive integer"), ("", "positive")):
        assert word in error(placement("GET", "/allocation_candidates", resources=f"VCPU:{amount}"), 400)["detail"]
    orphan = placement("GET", f"/allocation_candidates?resources1=VCPU:1&member_of=!{uuid.uuid4()}", version="1.32")
    assert "orphaned member_of keys: member_of" in error(orphan, 400)["detail"]
