"""Subnet pools and address scopes over HTTP, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, READER, Neutron, refused

from kilonova.db.engine import Database
from kilonova.model.ids import new_id
from kilonova.network import prefixes


@pytest.fixture
def neutron(database: Database) -> Neutron:
    return Neutron(database)


def pool(neutron: Neutron, *cidrs: str, token: str = DEMO, **values: Any) -> dict[str, Any]:
    return neutron.make("subnetpool", token, **{"name": "p", "prefixes": list(cidrs or ("10.0.0.0/8",)), **values})


def subnet(neutron: Neutron, token: str = DEMO, **values: Any) -> Any:
    values.setdefault("network_id", None) or values.update(network_id=neutron.make("network", token)["id"])
    return neutron.post("/v2.0/subnets", {"subnet": {"ip_version": 4, **values}}, token)


def cidr(response: Any) -> str:
    assert response.status_code == 201, response.text
    return str(response.json()["subnet"]["cidr"])


def test_create_show_list_update_delete(neutron: Neutron) -> None:
    made = pool(neutron, "10.11.12.0/31", "10.0.1.0/24", "10.0.0.0/24", min_prefixlen="29")
    same = {
        "name": "p", "description": "", "ip_version": 4, "prefixes": ["10.0.0.0/23", "10.11.12.0/31"],
        "min_prefixlen": "29", "default_prefixlen": "29", "max_prefixlen": "32", "default_quota": None, "is_default": False,
        "shared": False, "address_scope_id": None, "tags": [], "project_id": CONTEXTS[DEMO].project_id,
    }  # fmt: skip
    assert {key: made[key] for key in same} == same
    path = f"/v2.0/subnetpools/{made['id']}"
    assert neutron.get(path).json()["subnetpool"] == made
    assert neutron.list("subnetpools", "?min_prefixlen=29&shared=False") == [made]
    assert neutron.list("subnetpools", "?shared=True") == []
    changed = neutron.put(path, {"subnetpool": {"name": "q", "min_prefixlen": 24, "max_prefixlen": 30}}).json()[
        "subnetpool"
    ]
    assert (changed["name"], changed["min_prefixlen"], changed["revision_number"]) == ("q", "24", 2)
    assert neutron.put(f"{path}/tags/a", None).status_code == 201
    assert neutron.get(path).json()["subnetpool"]["tags"] == ["a"]
    assert neutron.get("/v2.0/quotas/x/details", ADMIN).json()["quota"]["subnetpool"]["limit"] == -1
    assert neutron.delete(path).status_code == 204
    refused(neutron.get(path), 404, "SubnetPoolNotFound")


def test_another_project_s_pool_is_not_there(neutron: Neutron) -> None:
    path = f"/v2.0/subnetpools/{pool(neutron)['id']}"
    for answer in (neutron.get(path, OTHER), neutron.put(path, {"subnetpool": {}}, OTHER), neutron.delete(path, OTHER)):
        refused(answer, 404, "SubnetPoolNotFound")
    assert neutron.list("subnetpools", token=OTHER) == []
    assert neutron.post("/v2.0/subnetpools", {"subnetpool": {}}, READER).status_code == 403


BAD: list[tuple[dict[str, Any], int, str]] = [
    ({"prefixes": []}, 400, "EmptySubnetPoolPrefixList"),
    ({"prefixes": ["10.0.0.0/8", "fd00::/8"]}, 400, "PrefixVersionMismatch"),
    ({"prefixes": ["10.0.0.0/8", "10.0.0.0/8"]}, 400, "HTTPBadRequest"),
    ({"prefixes": ["10.0.0.0/33"]}, 400, "HTTPBadRequest"),
    ({"prefixes": "10.0.0.0/8"}, 400, "HTTPBadRequest"),
    ({"prefixes": [{}]}, 400, "HTTPBadRequest"),
    ({"name": " "}, 400, "HTTPBadRequest"),
    ({"min_prefixlen": -1}, 400, "HTTPBadRequest"),
    ({"min_prefixlen": 30, "max_prefixlen": 24}, 400, "IllegalSubnetPoolPrefixBounds"),
    ({"max_prefixlen": 33}, 400, "IllegalSubnetPoolPrefixBounds"),
    ({"default_prefixlen": 4}, 400, "IllegalSubnetPoolPrefixBounds"),
    ({"default_prefixlen": 30, "max_prefixlen": 28}, 400, "IllegalSubnetPoolPrefixBounds"),
    ({"shared": True}, 403, "PolicyNotAuthorized"),
    ({"is_default": True}, 403, "PolicyNotAuthorized"),
    ({"address_scope_id": new_id()}, 404, "AddressScopeNotFound"),
    ({"ip_version": 4}, 400, "HTTPBadRequest"),
]


def test_what_makes_no_sense_is_refused(neutron: Neutron) -> None:
    for values, status, kind in BAD:
        body = {"subnetpool": {"name": "p", "prefixes": ["10.0.0.0/8"], **values}}
        refused(neutron.post("/v2.0/subnetpools", body), status, kind)
    assert neutron.list("subnetpools") == []


def test_subnets_are_cut_from_a_pool(neutron: Neutron) -> None:
    made = pool(neutron, "10.0.0.0/16", default_prefixlen=24, min_prefixlen=20, max_prefixlen=28)
    ask = {"subnetpool_id": made["id"]}
    first = subnet(neutron, **ask)
    assert cidr(first) == "10.0.0.0/24"
    body = first.json()["subnet"]
    assert (body["subnetpool_id"], body["gateway_ip"]) == (made["id"], "10.0.0.1")
    assert neutron.list("subnets", f"?subnetpool_id={made['id']}") == [
        neutron.get(f"/v2.0/subnets/{body['id']}").json()["subnet"]
    ]
    assert cidr(subnet(neutron, **ask, prefixlen=20)) == "10.0.16.0/20"
    assert cidr(subnet(neutron, **ask, prefixlen=26)) == "10.0.1.0/26"  # in the smallest hole
    assert cidr(subnet(neutron, **ask, cidr="10.0.2.0/24")) == "10.0.2.0/24"
    for values, status, kind in (
        ({"cidr": "10.0.2.128/25"}, 409, "SubnetAllocationError"),
        ({"cidr": "11.0.2.0/24"}, 409, "SubnetAllocationError"),
        ({"prefixlen": 29}, 400, "MaxPrefixSubnetAllocationError"),
        ({"prefixlen": 19}, 400, "MinPrefixSubnetAllocationError"),
        ({"prefixlen": 24, "cidr": "10.0.9.0/24"}, 400, "BadRequest"),
        ({"ip_version": 6}, 400, "BadRequest"),
        ({"use_default_subnetpool": True}, 400, "BadRequest"),
        ({"allocation_pools": [{"start": "10.0.3.2", "end": "10.0.3.3"}]}, 400, "BadRequest"),
        ({"subnetpool_id": new_id()}, 404, "SubnetPoolNotFound"),
        ({"subnetpool_id": None}, 400, "BadRequest"),
    ):
        refused(subnet(neutron, **{**ask, **values}), status, kind)
    refused(subnet(neutron, OTHER, **ask), 404, "SubnetPoolNotFound")
    refused(neutron.delete(f"/v2.0/subnetpools/{made['id']}"), 400, "SubnetPoolDeleteError")
    assert neutron.delete(f"/v2.0/subnets/{body['id']}").status_code == 204
    assert cidr(subnet(neutron, **ask)) == "10.0.0.0/24"  # what is given back is free again


def test_an_exhausted_pool_and_a_project_s_quota(neutron: Neutron) -> None:
    made = pool(neutron, "10.0.0.0/24", default_prefixlen=26, default_quota=128)
    ask = {"subnetpool_id": made["id"]}
    assert [cidr(subnet(neutron, **ask)) for _ in range(2)] == ["10.0.0.0/26", "10.0.0.64/26"]
    refused(subnet(neutron, **ask), 409, "SubnetPoolQuotaExceeded")
    neutron.put(f"/v2.0/subnetpools/{made['id']}", {"subnetpool": {"default_quota": 10_000}})
    assert [cidr(subnet(neutron, **ask)) for _ in range(2)] == ["10.0.0.128/26", "10.0.0.192/26"]
    message = refused(subnet(neutron, **ask), 409, "SubnetAllocationError")
    assert message == "Failed to allocate subnet: Insufficient prefix space to allocate subnet size /26."


def test_ipv6_subnets_and_the_default_pool(neutron: Neutron) -> None:
    refused(subnet(neutron, ip_version=6, use_default_subnetpool=True), 400, "BadRequest")
    made = pool(neutron, "fd00:1::/48", token=ADMIN, is_default=True, shared=True)
    assert (made["min_prefixlen"], made["max_prefixlen"], made["shared"]) == ("64", "128", True)
    ask = {"ip_version": 6, "use_default_subnetpool": True, "ipv6_address_mode": "slaac", "ipv6_ra_mode": "slaac"}
    assert [cidr(subnet(neutron, **ask)) for _ in range(2)] == ["fd00:1::/64", "fd00:1:0:1::/64"]
    second = {"subnetpool": {"name": "q", "prefixes": ["fd00:2::/48"], "is_default": True}}
    refused(neutron.post("/v2.0/subnetpools", second, ADMIN), 400, "InvalidInput")
    assert neutron.list("subnetpools", token=OTHER) == [made]
    refused(
        neutron.put(f"/v2.0/subnetpools/{made['id']}", {"subnetpool": {"name": "mine"}}, OTHER),
        404,
        "HTTPNotFound",
    )
    refused(neutron.delete(f"/v2.0/subnetpools/{made['id']}", OTHER), 404, "HTTPNotFound")


def test_prefixes_are_added_and_removed(neutron: Neutron) -> None:
    made = pool(neutron, "10.0.0.0/24", default_prefixlen=26)
    path = f"/v2.0/subnetpools/{made['id']}"

    def change(action: str, *prefixes: str) -> Any:
        return neutron.put(f"{path}/{action}", {"prefixes": list(prefixes)})

    assert change("add_prefixes", "10.0.1.0/24", "10.9.0.0/24").json() == {"prefixes": ["10.0.0.0/23", "10.9.0.0/24"]}
    assert cidr(subnet(neutron, subnetpool_id=made["id"], cidr="10.9.0.64/26")) == "10.9.0.64/26"
    refused(change("remove_prefixes", "10.9.0.0/25"), 400, "IllegalSubnetPoolPrefixUpdate")
    assert change("remove_prefixes", "10.0.0.0/24", "10.9.0.128/25").json() == {
        "prefixes": ["10.0.1.0/24", "10.9.0.0/25"]
    }
    assert change("remove_prefixes", "172.16.0.0/12").json() == {"prefixes": ["10.0.1.0/24", "10.9.0.0/25"]}
    refused(change("add_prefixes", "fd00::/64"), 400, "PrefixVersionMismatch")
    refused(change("add_prefixes"), 400, "HTTPBadRequest")
    refused(neutron.put(f"{path}/add_prefixes", {"prefixes": [7]}), 400, "HTTPBadRequest")
    refused(neutron.put(path, {"subnetpool": {"prefixes": ["10.9.0.0/16"]}}), 400, "IllegalSubnetPoolPrefixUpdate")
    wider = neutron.put(path, {"subnetpool": {"prefixes": ["10.0.0.0/8"]}}).json()["subnetpool"]
    assert wider["prefixes"] == ["10.0.0.0/8"]


def test_a_pool_has_so_many_prefixes_and_no_more(neutron: Neutron) -> None:
    """Each subnet is looked for in all of them: a hundred at once took a quarter of a minute."""
    many = [f"2001:db8:{number:x}::/48" for number in range(1, 2001, 2)]
    pool = neutron.make("subnetpool", name="a", prefixes=many)["id"]
    path = f"/v2.0/subnetpools/{pool}"
    one_more = neutron.put(f"{path}/add_prefixes", {"prefixes": ["2001:db9::/48"]})
    assert "at most 1000" in refused(one_more, 400, "IllegalSubnetPoolPrefixUpdate")
    split = neutron.put(f"{path}/remove_prefixes", {"prefixes": ["2001:db8:1::1/128"]})
    assert "at most 1000" in refused(split, 400, "IllegalSubnetPoolPrefixUpdate")
    assert neutron.get(path).json()["subnetpool"]["prefixes"] == many


def nets(numbers: set[int]) -> list[str]:
    return [f"10.0.0.{number}/32" for number in numbers]


@given(st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)))
def test_sets_of_addresses(mine: set[int], theirs: set[int]) -> None:
    left = [int(str(ip).rpartition(".")[2]) for net in prefixes.without(nets(mine), nets(theirs)) for ip in net]
    assert left == sorted(mine - theirs)
    assert prefixes.overlap(nets(mine), nets(theirs)) is bool(mine & theirs)
    assert prefixes.within(nets(mine), nets(theirs)) is (mine <= theirs)


def test_subnets_of_one_network_are_of_one_pool(neutron: Neutron) -> None:
    one, two = pool(neutron, "10.0.0.0/16"), pool(neutron, "10.1.0.0/16")
    network = neutron.make("network")["id"]
    ask = {"network_id": network, "prefixlen": 24}
    cidr(subnet(neutron, **ask, subnetpool_id=one["id"]))
    refused(subnet(neutron, **ask, subnetpool_id=two["id"]), 400, "NetworkSubnetPoolAffinityError")
    refused(subnet(neutron, network_id=network, cidr="10.7.0.0/24"), 400, "NetworkSubnetPoolAffinityError")
    assert cidr(subnet(neutron, **ask, subnetpool_id=one["id"])) == "10.0.1.0/24"


def test_a_network_s_subnets_come_on_board(neutron: Neutron) -> None:
    made, network = pool(neutron, "10.0.0.0/16"), neutron.make("network")["id"]
    there = subnet(neutron, network_id=network, cidr="10.5.0.0/24").json()["subnet"]
    path = f"/v2.0/subnetpools/{made['id']}/onboard_network_subnets"
    assert neutron.put(path, {"network_id": network}).json() == [{"id": there["id"], "cidr": "10.5.0.0/24"}]
    assert neutron.get(f"/v2.0/subnets/{there['id']}").json()["subnet"]["subnetpool_id"] == made["id"]
    assert neutron.get(f"/v2.0/subnetpools/{made['id']}").json()["subnetpool"]["prefixes"] == [
        "10.0.0.0/16",
        "10.5.0.0/24",
    ]
    refused(neutron.put(path, {"network_id": network}), 400, "IllegalSubnetPoolUpdate")
    refused(neutron.put(path, {}), 400, "InvalidInput")
    refused(neutron.put(path, {"network_id": neutron.make("network", OTHER)["id"]}), 404, "NetworkNotFound")


def test_address_scopes(neutron: Neutron) -> None:
    scope = neutron.make("address_scope", name="s", ip_version=4)
    assert scope == {
        "id": scope["id"], "name": "s", "ip_version": 4, "shared": False, "project_id": CONTEXTS[DEMO].project_id,
        "tenant_id": CONTEXTS[DEMO].project_id,
    }  # fmt: skip
    path = f"/v2.0/address-scopes/{scope['id']}"
    assert neutron.list("address-scopes", "?ip_version=4") == [scope]
    refused(neutron.get(path, OTHER), 404, "AddressScopeNotFound")
    renamed = neutron.put(path, {"address_scope": {"name": "t"}}).json()["address_scope"]
    assert renamed == {**scope, "name": "t"}
    refused(neutron.put(path, {"address_scope": {"shared": True}}), 403, "PolicyNotAuthorized")
    made = pool(neutron, "10.0.0.0/16", address_scope_id=scope["id"])
    body = {"name": "q", "prefixes": ["10.0.5.0/24"], "address_scope_id": scope["id"]}
    refused(neutron.post("/v2.0/subnetpools", {"subnetpool": body}), 409, "AddressScopePrefixConflict")
    refused(
        neutron.post("/v2.0/subnetpools", {"subnetpool": {**body, "prefixes": ["fd00::/48"]}}), 400,
        "IllegalSubnetPoolIpVersionAssociationToAddressScope",
    )  # fmt: skip
    refused(neutron.delete(path), 409, "AddressScopeInUse")
    network = neutron.make("network")["id"]
    cidr(subnet(neutron, network_id=network, subnetpool_id=made["id"], prefixlen=24))
    found = neutron.get(f"/v2.0/networks/{network}").json()["network"]
    assert (found["ipv4_address_scope"], found["ipv6_address_scope"]) == (scope["id"], None)
    plain = pool(neutron, "10.1.0.0/16")
    answer = subnet(neutron, network_id=network, subnetpool_id=plain["id"], prefixlen=24)
    refused(answer, 400, "NetworkAddressScopeAffinityError")
    shared = neutron.put(path, {"address_scope": {"shared": True}}, ADMIN).json()["address_scope"]
    assert shared["shared"] and neutron.get(path, OTHER).json()["address_scope"]["shared"]
    refused(neutron.put(path, {"address_scope": {"shared": False}}, ADMIN), 400, "AddressScopeUpdateError")
    refused(neutron.delete(path, OTHER), 404, "HTTPNotFound")
    other = pool(neutron, "10.2.0.0/16", token=OTHER, address_scope_id=scope["id"])
    answer = neutron.put(f"/v2.0/subnetpools/{other['id']}", {"subnetpool": {"name": "x"}}, OTHER)
    refused(answer, 400, "IllegalSubnetPoolUpdate")
    for one in (None, {"ip_version": 5}, {"ip_version": "four"}):
        refused(neutron.post("/v2.0/address-scopes", {"address_scope": one}), 400, "HTTPBadRequest")


def test_an_unused_scope_goes(neutron: Neutron) -> None:
    scope = neutron.make("address_scope", name="s", ip_version=6)
    assert neutron.delete(f"/v2.0/address-scopes/{scope['id']}").status_code == 204
    refused(neutron.get(f"/v2.0/address-scopes/{scope['id']}"), 404, "AddressScopeNotFound")


@pytest.mark.timeout(300)
def test_many_at_once_never_get_one_prefix_twice(neutron: Neutron) -> None:
    made = pool(neutron, "10.0.0.0/24", default_prefixlen=28)
    networks = [neutron.make("network")["id"] for _ in range(24)]

    def ask(network: str) -> tuple[int, str]:
        answer = subnet(neutron, network_id=network, subnetpool_id=made["id"])
        body = answer.json()
        return answer.status_code, body["subnet"]["cidr"] if "subnet" in body else body["NeutronError"]["type"]

    with ThreadPoolExecutor(8) as workers:
        answers = list(workers.map(ask, networks))
    assert sorted(what for status, what in answers if status == 201) == sorted(f"10.0.0.{16 * n}/28" for n in range(16))
    assert [what for status, what in answers if status != 201] == ["SubnetAllocationError"] * 8


def test_only_one_of_two_default_pools_at_once(neutron: Neutron) -> None:
    def ask(number: int) -> int:
        body = {"name": "p", "prefixes": [f"10.{number}.0.0/16"], "is_default": True}
        return neutron.post("/v2.0/subnetpools", {"subnetpool": body}, ADMIN).status_code

    with ThreadPoolExecutor(4) as workers:
        answers = list(workers.map(ask, range(8)))
    assert sorted(answers)[0] == 201 and set(sorted(answers)[1:]) <= {400, 409}
