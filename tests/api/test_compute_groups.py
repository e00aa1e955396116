"""Server groups and host aggregates at Nova's door, and what the scheduler makes of them."""

import uuid
from typing import Any

import pytest
from compute_client import ADMIN, DEMO_PROJECT, OTHER, READER, Nova, messages

from kilonova.compute import quotas, scheduler, states
from kilonova.db.engine import Database
from kilonova.model.errors import NoValidHost


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def group(nova: Nova, policy: str, **more: Any) -> str:
    answer = nova.post("/os-server-groups", {"server_group": {"name": "g", "policy": policy, **more}})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["server_group"]["id"])


def in_group(nova: Nova, id: str, **values: Any) -> str:
    body = nova.body(**values) | {"os:scheduler_hints": {"group": id}}
    answer = nova.post("/servers", body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["server"]["id"])


def placed(nova: Nova, id: str) -> str:
    nova.play_create(id)
    return str(nova.database.read(lambda tx: states.get_row(tx, id)["host"]))


# --- groups ------------------------------------------------------------------------------------------------------------


def test_a_group_is_shown_as_each_microversion_has_it(nova: Nova) -> None:
    old = {"server_group": {"name": "old", "policies": ["anti-affinity"]}}
    made = nova.post("/os-server-groups", old, version="2.1").json()["server_group"]
    assert (made["policies"], made["metadata"], made["members"]) == (["anti-affinity"], {}, [])
    for version in ("2.12", "2.13", "2.15", "2.63", "2.64", "2.96"):
        minor = int(version.partition(".")[2])
        shown = nova.get(f"/os-server-groups/{made['id']}", version=version).json()["server_group"]
        assert (shown.get("project_id") == DEMO_PROJECT) == (minor >= 13)
        assert (shown.get("policy") == "anti-affinity", "policies" in shown) == (minor >= 64, minor < 64)
    new = group(nova, "anti-affinity", rules={"max_server_per_host": "2"})
    assert nova.get(f"/os-server-groups/{new}").json()["server_group"]["rules"] == {"max_server_per_host": 2}
    assert nova.delete(f"/os-server-groups/{new}").status_code == 204
    assert (
        nova.get(f"/os-server-groups/{new}").status_code == nova.delete(f"/os-server-groups/{new}").status_code == 404
    )


@pytest.mark.parametrize(
    ("asked", "version", "word"),
    [
        ({"name": "g"}, "2.96", "policy"),
        ({"name": "g", "policy": "nearby"}, "2.96", "nearby"),
        ({"name": "", "policy": "affinity"}, "2.96", "name"),
        ({"name": "g", "policies": ["affinity"]}, "2.64", "polic"),
        ({"name": "g", "policies": ["affinity", "anti-affinity"]}, "2.63", "polic"),
        ({"name": "g", "policies": ["soft-affinity"]}, "2.14", "soft-affinity"),
        ({"name": "g", "policy": "affinity", "rules": {"max_server_per_host": 2}}, "2.64", "Only anti-affinity"),
        ({"name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": 0}}, "2.64", "0"),
    ],
)
def test_a_group_that_is_none_is_refused(nova: Nova, asked: Any, version: str, word: str) -> None:
    answer = nova.post("/os-server-groups", {"server_group": asked}, version=version)
    assert (answer.status_code, word in messages(answer)) == (400, True), answer.text


def test_groups_are_a_project_s_own(nova: Nova) -> None:
    mine = group(nova, "affinity")
    assert nova.get(f"/os-server-groups/{mine}", OTHER).status_code == 404
    assert nova.delete(f"/os-server-groups/{mine}", OTHER).status_code == 404
    assert nova.get("/os-server-groups?all_projects=1", OTHER).json() == {"server_groups": []}
    assert nova.get("/os-server-groups", ADMIN).json() == {"server_groups": []}
    assert [row["id"] for row in nova.get("/os-server-groups?all_projects", ADMIN).json()["server_groups"]] == [mine]
    assert nova.get(f"/os-server-groups/{mine}", READER).status_code == 200
    assert nova.delete(f"/os-server-groups/{mine}", READER).status_code == 403
    theirs = nova.body() | {"os:scheduler_hints": {"group": mine}}
    answer = nova.post("/servers", theirs, OTHER)
    assert (answer.status_code, "could not be found" in messages(answer)) == (400, True)


def test_groups_are_paged_and_counted(nova: Nova) -> None:
    made = [group(nova, "affinity") for _ in range(3)]
    assert [row["id"] for row in nova.get("/os-server-groups?limit=1&offset=1").json()["server_groups"]] == [made[1]]
    for query in ("limit=-1", "offset=x", "colour=red"):
        assert nova.get(f"/os-server-groups?{query}").status_code == 400
    assert nova.get("/limits").json()["limits"]["absolute"]["totalServerGroupsUsed"] == 3
    nova.database.write(lambda tx: quotas.store(tx, f"project:{DEMO_PROJECT}", {"server_groups": 3}))
    answer = nova.post("/os-server-groups", {"server_group": {"name": "g", "policy": "affinity"}})
    assert (answer.status_code, messages(answer)) == (403, "Quota exceeded, too many server groups.")


def test_members_are_its_living_servers(nova: Nova) -> None:
    id = group(nova, "soft-anti-affinity")
    first, second = in_group(nova, id), in_group(nova, id)
    assert nova.get(f"/os-server-groups/{id}").json()["server_group"]["members"] == [first, second]
    assert nova.get(f"/servers/{first}").json()["server"]["server_groups"] == [id]
    assert "server_groups" not in nova.get(f"/servers/{first}", version="2.70").json()["server"]
    nova.database.write(lambda tx: states.set_deleted(tx, first))
    assert nova.get(f"/os-server-groups/{id}").json()["server_group"]["members"] == [second]
    nova.database.write(lambda tx: quotas.store(tx, f"project:{DEMO_PROJECT}", {"server_group_members": 2}))
    body = nova.body(min_count=2) | {"os:scheduler_hints": {"group": id}}
    answer = nova.post("/servers", body)
    assert (answer.status_code, messages(answer)) == (403, "Quota exceeded, too many servers in group")
    assert nova.delete(f"/os-server-groups/{id}").status_code == 204
    assert nova.get(f"/servers/{second}").json()["server"]["server_groups"] == []


@pytest.mark.parametrize("hint", ["nowhere", 7, "11111111-1111-1111-1111-111111111111"])
def test_a_hint_that_names_no_group_is_refused(nova: Nova, hint: Any) -> None:
    assert nova.post("/servers", nova.body() | {"os:scheduler_hints": {"group": hint}}).status_code == 400


# --- the scheduler -----------------------------------------------------------------------------------------------------


def test_anti_affinity_spreads_and_then_refuses(nova: Nova) -> None:
    nova.add_host("host-2")
    id = group(nova, "anti-affinity")
    hosts = {placed(nova, in_group(nova, id)) for _ in range(2)}
    assert hosts == {"host-1", "host-2"}
    third = in_group(nova, id)
    with pytest.raises(NoValidHost, match=r"1 of its server group is there, 1 may be .ServerGroupAntiAffinityFilter"):
        nova.play_create(third)


def test_anti_affinity_may_allow_more_on_a_host(nova: Nova) -> None:
    id = group(nova, "anti-affinity", rules={"max_server_per_host": 2})
    assert [placed(nova, in_group(nova, id)) for _ in range(2)] == ["host-1", "host-1"]
    with pytest.raises(NoValidHost, match=r"2 of its server group are there, 2 may be"):
        nova.play_create(in_group(nova, id))


def test_affinity_keeps_together(nova: Nova) -> None:
    id = group(nova, "affinity")
    first = placed(nova, in_group(nova, id))
    nova.add_host("host-2", memory_mb=1 << 20)  # where there is more room
    assert placed(nova, in_group(nova, id)) == first
    apart = in_group(nova, id)
    nova.database.write(lambda tx: states._update(tx, apart, requested_host="host-2"))
    with pytest.raises(NoValidHost, match=rf"its server group is on {first} .ServerGroupAffinityFilter"):
        nova.play_create(apart)


@pytest.mark.parametrize(("policy", "hosts"), [("soft-affinity", 1), ("soft-anti-affinity", 2)])
def test_soft_policies_are_wishes(nova: Nova, policy: str, hosts: int) -> None:
    nova.add_host("host-2")
    id = group(nova, policy)
    seen = [placed(nova, in_group(nova, id)) for _ in range(4)]
    assert len(set(seen[:2])) == hosts
    assert len(seen) == 4  # no server was refused


def test_a_server_that_has_left_its_host_is_in_nobody_s_way(nova: Nova) -> None:
    id = group(nova, "anti-affinity")
    first = in_group(nova, id)
    assert placed(nova, first) == "host-1"

    def leave(tx: Any) -> None:
        scheduler.release_allocation(tx, first)
        states.set_host(tx, first, None)

    nova.database.write(leave)
    assert placed(nova, in_group(nova, id)) == "host-1"


# --- aggregates --------------------------------------------------------------------------------------------------------


def aggregate(nova: Nova, name: str = "a", zone: str | None = None) -> int:
    answer = nova.post("/os-aggregates", {"aggregate": {"name": name, "availability_zone": zone}}, ADMIN)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["aggregate"]["id"])


def act(nova: Nova, id: int, verb: str, **argument: Any) -> Any:
    return nova.post(f"/os-aggregates/{id}/action", {verb: argument}, ADMIN)


def test_an_aggregate_lives(nova: Nova) -> None:
    id = aggregate(nova, "rack-1", "east")
    assert act(nova, id, "add_host", host="host-1").json()["aggregate"]["hosts"] == ["host-1"]
    shown = nova.get(f"/os-aggregates/{id}", ADMIN).json()["aggregate"]
    assert (shown["availability_zone"], shown["metadata"]) == ("east", {"availability_zone": "east"})
    assert "uuid" not in nova.get(f"/os-aggregates/{id}", ADMIN, "2.40").json()["aggregate"]
    assert nova.get("/os-aggregates", ADMIN).json() == {"aggregates": [shown]}
    put = nova.put(f"/os-aggregates/{id}", {"aggregate": {"name": "rack-2"}}, ADMIN)
    assert put.json()["aggregate"]["name"] == "rack-2"
    metadata = act(nova, id, "set_metadata", metadata={"ssd": "true", "old": None}).json()["aggregate"]["metadata"]
    assert metadata == {"availability_zone": "east", "ssd": "true"}
    refused = nova.delete(f"/os-aggregates/{id}", ADMIN)
    assert (refused.status_code, "Host aggregate is not empty" in messages(refused)) == (400, True)
    assert act(nova, id, "remove_host", host="host-1").json()["aggregate"]["hosts"] == []
    assert nova.delete(f"/os-aggregates/{id}", ADMIN).status_code == 200
    assert nova.get(f"/os-aggregates/{id}", ADMIN).status_code == 404
    assert [nova.get(f"/os-aggregates/{word}", ADMIN).status_code for word in ("-1", "x")] == [404, 400]


def test_an_aggregate_s_zone_is_its_hosts_and_its_servers(nova: Nova) -> None:
    nova.add_host("host-2")
    id = aggregate(nova, "a", "east")
    assert nova.create(availability_zone="east").status_code == 400
    assert act(nova, id, "add_host", host="host-2").status_code == 200
    zones = nova.get("/os-availability-zone").json()["availabilityZoneInfo"]
    assert [zone["zoneName"] for zone in zones] == ["east", "nova"]
    server = nova.active(availability_zone="east")
    shown = nova.get(f"/servers/{server}", ADMIN).json()["server"]
    assert (shown["OS-EXT-SRV-ATTR:host"], shown["OS-EXT-AZ:availability_zone"]) == ("host-2", "east")
    for answer, status in (
        (act(nova, id, "remove_host", host="host-2"), 409),
        (act(nova, id, "set_metadata", metadata={"availability_zone": "west"}), 400),
        (nova.put(f"/os-aggregates/{id}", {"aggregate": {"availability_zone": "west"}}, ADMIN), 400),
        (act(nova, aggregate(nova, "b", "west"), "add_host", host="host-2"), 409),
        (act(nova, aggregate(nova, "c"), "add_host", host="host-2"), 200),  # no zone: nothing changes
    ):
        assert answer.status_code == status, answer.text
    nova.database.write(lambda tx: states.set_deleted(tx, server))
    assert act(nova, id, "remove_host", host="host-2").status_code == 200
    zones = nova.get("/os-availability-zone").json()["availabilityZoneInfo"]
    assert [zone["zoneName"] for zone in zones] == ["nova"]


def test_aggregates_refuse_as_nova_does(nova: Nova) -> None:
    id = aggregate(nova)
    act(nova, id, "add_host", host="host-1")
    for method, path, body, status in (
        ("POST", "", {"aggregate": {"name": "a"}}, 409),
        ("POST", "", {"aggregate": {"name": ""}}, 400),
        ("POST", "", {"aggregate": {"name": "x" * 256}}, 400),
        ("POST", "", {"aggregate": {"name": "b", "availability_zone": "a:b"}}, 400),
        ("PUT", f"/{id}", {"aggregate": {}}, 400),
        ("PUT", "/777", {"aggregate": {"name": "n"}}, 404),
        ("GET", "/x", None, 400),
        ("GET", "/99999999999999999999", None, 404),
        ("DELETE", "/777", None, 404),
        ("POST", f"/{id}/action", {"add_host": {"host": "host-1"}}, 409),
        ("POST", f"/{id}/action", {"add_host": {"host": "nowhere"}}, 404),
        ("POST", f"/{id}/action", {"remove_host": {"host": "nowhere"}}, 404),
        ("POST", f"/{id}/action", {"dance": {}}, 400),
        ("POST", f"/{id}/action", {"set_metadata": {"metadata": {"availability_zone": ""}}}, 400),
    ):
        answer = nova.call(method, f"/os-aggregates{path}", body, ADMIN)
        assert answer.status_code == status, (method, path, body, answer.text)
    for path in ("", f"/{id}"):
        assert nova.get(f"/os-aggregates{path}").status_code == 403


def test_a_host_that_is_gone_is_in_no_aggregate(nova: Nova) -> None:
    nova.add_host("host-2")
    id = aggregate(nova)
    act(nova, id, "add_host", host="host-2")
    services = nova.get("/os-services?host=host-2", ADMIN).json()["services"]
    assert nova.delete(f"/os-services/{services[0]['id']}", ADMIN).status_code == 204
    assert nova.get(f"/os-aggregates/{id}", ADMIN).json()["aggregate"]["hosts"] == []


def test_images_are_cached_on_the_hosts_of_an_aggregate(nova: Nova) -> None:
    flows = nova.shared.flows
    for host in ("host-2", "host-3"):
        nova.add_host(host)
    id = aggregate(nova)
    for host in ("host-1", "host-2"):
        act(nova, id, "add_host", host=host)
    kernel, queued = nova.add_image(), nova.add_image(status="queued")
    image = nova.add_image(properties={"kernel_id": kernel})
    flows.deaf = {"host-1"}
    body = {"cache": [{"id": image}, {"id": queued}, {"id": str(uuid.uuid4())}]}  # the last is nobody's image
    path = f"/os-aggregates/{id}/images"
    assert nova.post(path, body, ADMIN, "2.80").status_code == 404
    accepted = nova.post(path, body, ADMIN)
    assert (accepted.status_code, accepted.content) == (202, b"")
    assert flows.cached == [("host-2", image), ("host-2", kernel)]
    for wrong, status in (
        ({"cache": []}, 400),
        ({"cache": [{"id": "x"}]}, 400),
        ({"cache": [{"id": image}, {"id": image}]}, 400),
        ({}, 400),
    ):
        assert nova.post(path, wrong, ADMIN).status_code == status, wrong
    assert nova.post("/os-aggregates/777/images", body, ADMIN).status_code == 404
    assert nova.post(path, body).status_code == 403
    assert len(flows.cached) == 2
