"""Networks, subnets and the documents of Neutron, over HTTP, on both databases."""

import ipaddress
import time
from typing import Any

import httpx
import pytest
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, READER, Neutron, refused

from kilonova.db.engine import Database
from kilonova.network import agents, seed


@pytest.fixture
def neutron(database: Database) -> Neutron:
    return Neutron(database)


def make_subnet(neutron: Neutron, network: dict[str, Any], cidr: str, **values: Any) -> dict[str, Any]:
    version = ipaddress.ip_interface(cidr).version
    return neutron.make("subnet", network_id=network["id"], cidr=cidr, ip_version=version, **values)


def test_version_documents(neutron: Neutron) -> None:
    found = neutron.get("", token=None).json()["versions"]
    assert found == [
        {"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": "http://testserver/network/v2.0/"}]}
    ]
    names = {resource["name"] for resource in neutron.get("/v2.0/", token=None).json()["resources"]}
    assert {"extension", "network", "subnet", "port", "security_group"} <= names


def test_extensions_say_what_is_there(neutron: Neutron) -> None:
    aliases = {extension["alias"] for extension in neutron.list("extensions")}
    assert {"security-group", "port-security", "external-net", "quotas", "binding"} <= aliases
    assert not {"dvr", "l3-ha", "l3-flavors", "dns-integration-domain-keywords"} & aliases
    one = neutron.get("/v2.0/extensions/net-mtu").json()["extension"]
    assert (one["alias"], one["name"]) == ("net-mtu", "Network MTU")
    refused(neutron.get("/v2.0/extensions/dvr"), 404, "HTTPNotFound")
    refused(neutron.get("/v2.0/ha-routers"), 404, "HTTPNotFound")


def test_network_create_show_update_delete(neutron: Neutron) -> None:
    network = neutron.make("network", name="n", description="d")
    assert {key: network[key] for key in ("name", "admin_state_up", "status", "shared", "subnets", "mtu", "tags")} == {
        "name": "n", "admin_state_up": True, "status": "ACTIVE", "shared": False, "subnets": [], "mtu": 1450, "tags": [],
    }  # fmt: skip
    assert network["project_id"] == network["tenant_id"] == CONTEXTS[DEMO].project_id
    assert not any(key.startswith("provider:") for key in network)
    path = f"/v2.0/networks/{network['id']}"
    changed = neutron.put(path, {"network": {"name": "m", "mtu": 1400, "admin_state_up": "false"}}).json()["network"]
    assert (changed["name"], changed["mtu"], changed["admin_state_up"]) == ("m", 1400, False)
    assert changed["revision_number"] > network["revision_number"]
    assert neutron.get(path, ADMIN).json()["network"]["provider:network_type"] == "vxlan"
    assert neutron.get(f"{path}?fields=id&fields=mtu").json() == {"network": {"id": network["id"], "mtu": 1400}}
    gone = neutron.delete(path)
    assert (gone.status_code, gone.content) == (204, b"")
    assert refused(neutron.get(path), 404, "NetworkNotFound") == f"Network {network['id']} could not be found."


BAD_NETWORKS: list[tuple[Any, str]] = [
    (None, "Resource body required"),
    ([], "Resource body required"),
    ({}, "Unable to find 'network' in request body"),
    ({"network": "x"}, "not a dictionary"),
    ({"network": {"name": 3}}, "Invalid input for name. Reason: '3' is not a valid string."),
    ({"network": {"name": "x" * 256}}, "exceeds maximum length of 255"),
    ({"network": {"name": "a\x00b"}}, "NUL character"),
    ({"network": {"admin_state_up": "perhaps"}}, "cannot be converted to boolean"),
    ({"network": {"mtu": "big"}}, "'big' is not an integer"),
    ({"network": {"mtu": -1}}, "too small"),
    ({"network": {"colour": "red"}}, "Unrecognized attribute(s) 'colour'"),
    ({"network": {"status": "DOWN"}}, "Attribute 'status' not allowed in POST"),
    ({"network": {"project_id": "p2"}}, "requires admin privileges"),
    ({"networks": []}, "Resources required"),
    ({"networks": ["x"]}, "not a dictionary"),
]  # fmt: skip


def test_bad_network_bodies(neutron: Neutron) -> None:
    for body, words in BAD_NETWORKS:
        assert words in refused(neutron.post("/v2.0/networks", body), 400, "HTTPBadRequest")
    assert neutron.list("networks") == []


def test_policy_of_networks(neutron: Neutron) -> None:
    network = neutron.make("network", name="mine")
    path = f"/v2.0/networks/{network['id']}"
    for call in (neutron.get(path, OTHER), neutron.delete(path, OTHER), neutron.put(path, {"network": {}}, OTHER)):
        refused(call, 404, "NetworkNotFound")
    refused(neutron.post("/v2.0/networks", {"network": {}}, READER), 403, "PolicyNotAuthorized")
    for attribute in ("shared", "router:external"):
        message = refused(neutron.post("/v2.0/networks", {"network": {attribute: True}}), 403, "PolicyNotAuthorized")
        assert message == f"(rule:create_network and rule:create_network:{attribute}) is disallowed by policy"
        refused(neutron.put(path, {"network": {attribute: True}}), 403, "PolicyNotAuthorized")
    assert neutron.post("/v2.0/networks", {"network": {"shared": False}}).status_code == 201
    refused(neutron.get("/v2.0/networks", None), 401, "HTTPUnauthorized")


def test_shared_and_external_networks_are_seen_not_touched(neutron: Neutron) -> None:
    shared = neutron.make("network", ADMIN, shared=True)
    external = neutron.make("network", ADMIN, **{"router:external": True})
    subnet = {"cidr": "10.0.0.0/24", "ip_version": 4}
    seen = neutron.make("subnet", ADMIN, network_id=shared["id"], **subnet)
    outside = neutron.make("subnet", ADMIN, network_id=external["id"], **subnet)
    assert {network["id"] for network in neutron.list("networks")} == {shared["id"], external["id"]}
    assert [network["id"] for network in neutron.list("networks", "?router:external=True")] == [external["id"]]
    assert {found["id"] for found in neutron.list("subnets")} == {seen["id"], outside["id"]}
    for found in (seen, outside):
        path = f"/v2.0/subnets/{found['id']}"
        assert neutron.get(path).json()["subnet"]["router:external"] is (found is outside)
        refused(neutron.put(path, {"subnet": {"name": "x"}}), 404, "HTTPNotFound")
        refused(neutron.delete(path), 404, "HTTPNotFound")
    for network in (shared, external):
        refused(neutron.put(f"/v2.0/networks/{network['id']}", {"network": {"name": "x"}}), 404, "HTTPNotFound")
        refused(neutron.delete(f"/v2.0/networks/{network['id']}"), 404, "HTTPNotFound")
    more = {"network_id": shared["id"], "cidr": "10.1.0.0/24", "ip_version": 4}
    refused(neutron.post("/v2.0/subnets", {"subnet": more}), 403, "PolicyNotAuthorized")
    port = neutron.make("port", network_id=shared["id"])
    refused(
        neutron.put(f"/v2.0/networks/{shared['id']}", {"network": {"shared": False}}, ADMIN),
        409,
        "InvalidSharedSetting",
    )
    fixed = {"network_id": shared["id"], "fixed_ips": [{"ip_address": "10.0.0.77"}]}
    refused(neutron.post("/v2.0/ports", {"port": fixed}), 403, "PolicyNotAuthorized")
    assert neutron.get(f"/v2.0/ports/{port['id']}", OTHER).status_code == 404
    assert neutron.get(f"/v2.0/ports/{port['id']}", ADMIN).status_code == 200


def test_each_of_many_may_be_wrapped(neutron: Neutron) -> None:
    many = {"networks": [{"network": {"name": "a"}}, {"name": "b"}]}
    made = neutron.post("/v2.0/networks", many).json()["networks"]
    assert [network["name"] for network in made] == ["a", "b"]


def test_bulk_is_all_or_none(neutron: Neutron) -> None:
    made = neutron.post("/v2.0/networks", {"networks": [{"name": "a"}, {"name": "b"}]})
    assert made.status_code == 201
    assert [network["name"] for network in made.json()["networks"]] == ["a", "b"]
    refused(neutron.post("/v2.0/networks", {"networks": [{"name": "c"}, {"name": 1}]}), 400, "HTTPBadRequest")
    assert {network["name"] for network in neutron.list("networks")} == {"a", "b"}


@pytest.mark.parametrize(
    ("collection", "each"),
    [("address-groups", {"name": "a", "addresses": []}), ("subnetpools", {"name": "a", "prefixes": ["10.0.0.0/8"]})],
)
def test_bulk_has_an_end(neutron: Neutron, collection: str, each: dict[str, Any]) -> None:
    """Nobody else writes while it lasts, and there is no quota of these."""
    key = collection.replace("-", "_")
    assert neutron.post(f"/v2.0/{collection}", {key: [each] * 500}).status_code == 201
    assert "at most 500" in refused(neutron.post(f"/v2.0/{collection}", {key: [each] * 501}), 400, "HTTPBadRequest")


def test_bulk_lists_so_many_parts_and_no_more(neutron: Neutron) -> None:
    """Eight thousand addresses took forty seconds, in which nobody else wrote: each looked at all the others."""
    network = neutron.make("network")
    subnet = make_subnet(neutron, network, "10.0.0.0/8")["id"]

    def ports(number: int) -> Any:
        port = {"network_id": network["id"], "fixed_ips": [{"subnet_id": subnet}] * number}
        return neutron.post("/v2.0/ports", {"ports": [{"port": port}] * 6})

    begun = time.monotonic()
    made = ports(500)
    assert made.status_code == 201 and time.monotonic() - begun < 15
    addresses = {ip["ip_address"] for port in made.json()["ports"] for ip in port["fixed_ips"]}
    assert len(addresses) == 3000 and max(map(ipaddress.ip_address, addresses)) < ipaddress.ip_address("10.0.11.220")
    assert "at most 5000" in refused(ports(900), 400, "HTTPBadRequest")


def test_filters_sorting_pages(neutron: Neutron) -> None:
    for name in ("a", "b", "c", "d", "e"):
        neutron.make("network", name=name, admin_state_up=name != "e")
    names = lambda query: [network["name"] for network in neutron.list("networks", query)]  # noqa: E731
    assert names("?sort_key=name&sort_dir=desc") == ["e", "d", "c", "b", "a"]
    assert names("?name=a&name=c&sort_key=name") == ["a", "c"]
    assert names("?admin_state_up=False") == ["e"]
    assert names("?status=DOWN") == []
    assert names(f"?project_id={CONTEXTS[OTHER].project_id}") == []
    path, seen = "/v2.0/networks?sort_key=name&limit=2", []
    while path:
        page = neutron.get(path).json()
        seen.append([network["name"] for network in page["networks"]])
        following = [link["href"] for link in page.get("networks_links", []) if link["rel"] == "next"]
        path = following[0].removeprefix("http://testserver/network") if following else ""
    assert seen == [["a", "b"], ["c", "d"], ["e"]]
    path, seen = "/v2.0/networks?sort_key=name&limit=2&page_reverse=True", []
    while path:
        page = neutron.get(path).json()
        seen.append([network["name"] for network in page["networks"]])
        back = [link["href"] for link in page.get("networks_links", []) if link["rel"] == "previous"]
        path = back[0].removeprefix("http://testserver/network") if back else ""
    assert seen == [["d", "e"], ["b", "c"], ["a"]]
    rels = lambda query: {  # noqa: E731
        link["rel"] for link in neutron.get(f"/v2.0/networks?{query}").json().get("networks_links", [])
    }
    assert rels("limit=2") == {"next", "previous"}
    assert rels("limit=9") == rels("limit=2&name=none") == {"previous"}
    assert rels("limit=9&page_reverse=True") == {"next"}
    assert rels("name=a") == set()
    marker = neutron.list("networks", "?name=d")[0]["id"]
    assert names(f"?sort_key=name&limit=2&marker={marker}&page_reverse=True") == ["b", "c"]
    last = neutron.list("networks", "?name=e")[0]["id"]
    assert names(f"?sort_key=admin_state_up&sort_key=name&sort_dir=asc&sort_dir=desc&marker={last}") == [
        "d",
        "c",
        "b",
        "a",
    ]
    assert (
        names("?sort_key=name&sort_key=name&sort_dir=desc&sort_dir=asc" + "&sort_key=id&sort_dir=asc" * 2500)[0] == "e"
    )
    for query in ("?colour=red", "?limit=-1", "?sort_key=colour", "?sort_key=name&sort_dir=up", "?marker=none"):
        refused(neutron.get(f"/v2.0/networks{query}"), 400, "HTTPBadRequest")
    assert "NUL character" in refused(neutron.get("/v2.0/networks?name=%00"), 400, "HTTPBadRequest")


def test_an_mtu_is_enough_for_the_subnets(neutron: Neutron) -> None:
    small, large = neutron.make("network", mtu=67), neutron.make("network", mtu=1280)
    subnet = {"network_id": small["id"], "cidr": "10.0.0.0/24", "ip_version": 4}
    refused(neutron.post("/v2.0/subnets", {"subnet": subnet}), 409, "NetworkMTUSubnetConflict")
    path = f"/v2.0/networks/{large['id']}"
    make_subnet(neutron, large, "10.0.0.0/24")
    refused(neutron.put(path, {"network": {"mtu": 67}}), 409, "NetworkMTUSubnetConflict")
    assert neutron.put(path, {"network": {"mtu": 1279}}).status_code == 200
    six = {"network_id": large["id"], "cidr": "fd00::/64", "ip_version": 6}
    refused(neutron.post("/v2.0/subnets", {"subnet": six}), 409, "NetworkMTUSubnetConflict")
    neutron.put(path, {"network": {"mtu": 1280}})
    make_subnet(neutron, large, "fd00::/64")
    refused(neutron.put(path, {"network": {"mtu": 1279}}), 409, "NetworkMTUSubnetConflict")
    assert neutron.put(path, {"network": {"mtu": 0}}).json()["network"]["mtu"] == 1450


def test_subnet_defaults(neutron: Neutron) -> None:
    network = neutron.make("network")
    subnet = make_subnet(neutron, network, "10.0.0.7/24")
    assert (subnet["cidr"], subnet["gateway_ip"], subnet["enable_dhcp"]) == ("10.0.0.0/24", "10.0.0.1", True)
    assert subnet["allocation_pools"] == [{"start": "10.0.0.2", "end": "10.0.0.254"}]
    six = make_subnet(neutron, network, "fd00::/64", ipv6_ra_mode="slaac", ipv6_address_mode="slaac")
    assert six["allocation_pools"] == [{"start": "fd00::2", "end": "fd00::ffff:ffff:ffff:ffff"}]
    assert neutron.get(f"/v2.0/networks/{network['id']}").json()["network"]["subnets"] == [subnet["id"], six["id"]]


def test_subnet_with_everything(neutron: Neutron) -> None:
    network = neutron.make("network")
    given = {
        "name": "s", "gateway_ip": "10.0.0.254", "dns_nameservers": ["8.8.8.8", "1.1.1.1"],
        "host_routes": [{"destination": "10.9.0.0/16", "nexthop": "10.0.0.9"}],
        "allocation_pools": [{"start": "10.0.0.100", "end": "10.0.0.150"}, {"start": "10.0.0.10", "end": "10.0.0.20"}],
    }  # fmt: skip
    subnet = make_subnet(neutron, network, "10.0.0.0/24", **given)
    assert {key: subnet[key] for key in given} == {**given, "allocation_pools": given["allocation_pools"][::-1]}
    path = f"/v2.0/subnets/{subnet['id']}"
    change = {"gateway_ip": None, "enable_dhcp": False, "dns_nameservers": [], "host_routes": [], "name": "t"}
    changed = neutron.put(path, {"subnet": change}).json()["subnet"]
    assert {key: changed[key] for key in change} == change
    assert neutron.list("ports", "?device_owner=network:dhcp") == []
    read_only = refused(neutron.put(path, {"subnet": {"cidr": "10.0.1.0/24"}}), 400, "HTTPBadRequest")
    assert read_only == "Cannot update read-only attribute cidr"


BAD_SUBNETS: list[tuple[dict[str, Any], int, str]] = [
    ({"cidr": "10.0.0.0/24", "ip_version": 6}, 400, "InvalidInput"),
    ({"cidr": "10.0.0/24"}, 400, "HTTPBadRequest"),
    ({"cidr": 7}, 400, "HTTPBadRequest"),
    ({"cidr": "0.0.0.0/0"}, 400, "InvalidInput"),
    ({"cidr": "10.0.0.0/31"}, 400, "InvalidInput"),
    ({"cidr": "127.0.0.0/24"}, 400, "InvalidInput"),
    ({"cidr": "::ffff:10.0.0.0/120", "ip_version": 6}, 400, "InvalidInput"),
    ({"cidr": "224.0.0.0/24"}, 400, "InvalidInput"),
    ({"cidr": "192.168.1.128/25"}, 400, "InvalidInput"),  # overlaps with what is there
    ({"cidr": None}, 400, "BadRequest"),
    ({"cidr": None, "subnetpool_id": "pool"}, 404, "SubnetPoolNotFound"),
    ({"gateway_ip": "10.0.0.0"}, 400, "InvalidInput"),
    ({"gateway_ip": "fd00::1"}, 400, "InvalidInput"),
    ({"allocation_pools": [{"start": "10.0.0.9", "end": "10.0.0.5"}]}, 400, "InvalidAllocationPool"),
    ({"allocation_pools": [{"start": "10.0.0.9", "end": "10.0.1.5"}]}, 400, "OutOfBoundsAllocationPool"),
    ({"allocation_pools": [{"start": "10.0.0.1", "end": "10.0.0.5"}]}, 409, "GatewayConflictWithAllocationPools"),
    ({"allocation_pools": [{"start": "10.0.0.9"}]}, 400, "HTTPBadRequest"),
    ({"allocation_pools": "all"}, 400, "HTTPBadRequest"),
    ({"dns_nameservers": ["x"]}, 400, "HTTPBadRequest"),
    ({"dns_nameservers": [f"10.9.0.{n}" for n in range(6)]}, 400, "DNSNameServersExhausted"),
    ({"host_routes": [{"destination": "fd00::/8", "nexthop": "10.0.0.2"}]}, 400, "InvalidInput"),
    ({"host_routes": [{"destination": "10.1.0.0/16"}]}, 400, "HTTPBadRequest"),
    ({"ipv6_ra_mode": "slaac"}, 400, "InvalidInput"),
    ({"cidr": "fd00::/72", "ip_version": 6, "ipv6_address_mode": "slaac"}, 400, "InvalidInput"),
    ({"ip_version": 5}, 400, "HTTPBadRequest"),
    ({"ip_version": [4]}, 400, "HTTPBadRequest"),
    ({"network_id": "8e0d4ee1-7a5b-4ff5-96bd-8bc0a2f0d2a7"}, 404, "NetworkNotFound"),
    ({"network_id": "x"}, 400, "HTTPBadRequest"),
    (
        {"allocation_pools": [{"start": "10.0.0.2", "end": "10.0.0.9"}, {"start": "10.0.0.9", "end": "10.0.0.12"}]},
        409, "OverlappingAllocationPools",
    ),
]  # fmt: skip


def test_bad_subnets(neutron: Neutron) -> None:
    network = neutron.make("network")
    make_subnet(neutron, network, "192.168.1.0/24")
    for values, status, kind in BAD_SUBNETS:
        body = {"network_id": network["id"], "cidr": "10.0.0.0/24", "ip_version": 4, **values}
        assert len(refused(neutron.post("/v2.0/subnets", {"subnet": body}), status, kind)) > 20
    assert len(neutron.list("subnets")) == 1


def test_what_is_in_use_is_not_deleted(neutron: Neutron) -> None:
    network = neutron.make("network")
    subnet = make_subnet(neutron, network, "10.0.0.0/24")
    port = neutron.make("port", network_id=network["id"])
    refused(neutron.delete(f"/v2.0/networks/{network['id']}"), 409, "NetworkInUse")
    refused(neutron.delete(f"/v2.0/subnets/{subnet['id']}"), 409, "SubnetInUse")
    assert neutron.delete(f"/v2.0/ports/{port['id']}").status_code == 204
    assert neutron.delete(f"/v2.0/networks/{network['id']}").status_code == 204
    assert neutron.list("subnets") == neutron.list("ports") == []


def test_gateway_in_use_stays(neutron: Neutron) -> None:
    network = neutron.make("network")
    subnet = make_subnet(neutron, network, "10.0.0.0/24")
    neutron.make("port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.1"}])
    change = {"subnet": {"gateway_ip": "10.0.0.254", "allocation_pools": [{"start": "10.0.0.2", "end": "10.0.0.9"}]}}
    refused(neutron.put(f"/v2.0/subnets/{subnet['id']}", change), 409, "GatewayIpInUse")


def test_dhcp_port_follows_the_subnets(neutron: Neutron) -> None:
    network = neutron.make("network")
    first = make_subnet(neutron, network, "10.0.0.0/24")
    second = make_subnet(neutron, network, "10.1.0.0/24", enable_dhcp=False)
    query = f"?network_id={network['id']}&device_owner=network:dhcp"
    addresses = lambda: [ip["subnet_id"] for port in neutron.list("ports", query) for ip in port["fixed_ips"]]  # noqa: E731
    assert addresses() == [first["id"]]
    neutron.put(f"/v2.0/subnets/{second['id']}", {"subnet": {"enable_dhcp": True}})
    assert addresses() == [first["id"], second["id"]]
    assert neutron.delete(f"/v2.0/subnets/{first['id']}").status_code == 204
    assert addresses() == [second["id"]]


def test_tags(neutron: Neutron) -> None:
    network, plain = neutron.make("network", name="n"), neutron.make("network", name="plain")
    path = f"/v2.0/networks/{network['id']}/tags"
    assert neutron.put(path, {"tags": ["red", "blue"]}).json() == {"tags": ["blue", "red"]}
    assert neutron.put(f"{path}/green", None).status_code == 201
    assert neutron.get(f"{path}/green").status_code == 204
    assert neutron.get(path).json() == {"tags": ["blue", "green", "red"]}
    found = lambda query: [row["id"] for row in neutron.list("networks", query)]  # noqa: E731
    assert found("?tags=red,blue") == [network["id"]]
    assert found("?tags=red,pink") == found("?not-tags-any=red&name=n") == []
    assert found("?tags-any=red,pink") == [network["id"]]
    assert found("?not-tags=red") == [plain["id"]]
    assert neutron.delete(f"{path}/red").status_code == 204
    refused(neutron.delete(f"{path}/red"), 404, "TagNotFound")
    for body in ({"tags": "x"}, {"tags": [1]}, {"tags": ["a,b"]}, [], None):
        refused(neutron.put(path, body), 400, "HTTPBadRequest")
    refused(neutron.get(path, OTHER), 404, "NetworkNotFound")
    assert neutron.delete(path).status_code == 204
    assert neutron.get(path).json() == {"tags": []}


def test_tags_that_nothing_can_have(neutron: Neutron) -> None:
    tagged = neutron.make("network")["id"]
    neutron.put(f"/v2.0/networks/{tagged}/tags/red", None)
    long, many = "x" * 60_000, ",".join(f"t{number}" for number in range(501))
    for query, count in (
        ("tags=red", 1),
        (f"tags=red,{long}", 0),
        (f"tags-any=red,{long}", 1),
        (f"not-tags={long}", 1),
    ):
        assert len(neutron.list("networks", f"?{query}")) == count, query[:20]
    assert "501 tags" in refused(neutron.get(f"/v2.0/networks?tags-any={many}"), 400, "HTTPBadRequest")


def test_several_tags_are_added_at_once(neutron: Neutron) -> None:
    network = neutron.make("network")

    def add(body: Any, token: str = DEMO) -> httpx.Response:  # not in the description, which is older
        path = f"/network/v2.0/networks/{network['id']}/tags"
        return neutron.http.post(path, json=body, headers={"X-Auth-Token": token})

    assert neutron.get("/v2.0/extensions/tag-creation").status_code == 200
    for tags in (["red", "green"], ["green", "blue"], []):
        added = add({"tags": tags})
        assert (added.status_code, added.json()) == (200, {"tags": tags})
    tags = lambda: neutron.get(f"/v2.0/networks/{network['id']}").json()["network"]["tags"]  # noqa: E731
    assert tags() == ["blue", "green", "red"]
    for body in ({"tags": "x"}, {"tags": ["a,b"]}, {"tags": [f"t{n}" for n in range(48)]}, None):
        refused(add(body), 400, "HTTPBadRequest")
    refused(add({"tags": ["x"]}, OTHER), 404, "NetworkNotFound")
    assert tags() == ["blue", "green", "red"]


def test_quotas(neutron: Neutron) -> None:
    project = CONTEXTS[DEMO].project_id
    path = f"/v2.0/quotas/{project}"
    assert neutron.get(path).json()["quota"]["network"] == 100
    refused(neutron.put(path, {"quota": {"network": 5}}), 403, "PolicyNotAuthorized")
    refused(neutron.get(path, OTHER), 403, "PolicyNotAuthorized")
    assert neutron.put(path, {"quota": {"network": 1, "port": -1}}, ADMIN).json()["quota"]["network"] == 1
    neutron.make("network")
    message = refused(neutron.post("/v2.0/networks", {"network": {}}), 409, "OverQuota")
    assert message == "Quota exceeded for resources: ['network']."
    assert neutron.get(f"{path}/details").json()["quota"]["network"] == {"limit": 1, "used": 1, "reserved": 0}
    assert neutron.get(f"{path}/default").json()["quota"]["network"] == 100
    assert [quota["project_id"] for quota in neutron.list("quotas", token=ADMIN)] == [project]
    for quota in ({"network": "many"}, {"network": -2}, {"colour": 1}, 7):
        refused(neutron.put(path, {"quota": quota}, ADMIN), 400, "HTTPBadRequest")
    assert neutron.delete(path, ADMIN).status_code == 204
    refused(neutron.delete(path, ADMIN), 404, "TenantQuotaNotFound")
    assert neutron.get(path).json()["quota"]["port"] == 500


def test_agents_are_the_hosts_that_reported(neutron: Neutron) -> None:
    assert neutron.list("agents", token=ADMIN) == []
    for _ in range(2):
        neutron.database.write(lambda tx: agents.report(tx, "host-1"))
    found = neutron.list("agents", "?host=host-1&alive=true", ADMIN)
    assert {agent["agent_type"] for agent in found} == {"Linux bridge agent", "DHCP agent", "L3 agent"}
    assert all(agent["alive"] and agent["admin_state_up"] for agent in found)
    assert len(neutron.list("agents", "?agent_type=DHCP%20Agent", ADMIN)) == 1
    path = f"/v2.0/agents/{found[0]['id']}"
    assert neutron.put(path, {"agent": {"description": "here"}}, ADMIN).json()["agent"]["description"] == "here"
    assert neutron.get(path, ADMIN).json()["agent"]["description"] == "here"
    assert neutron.list("agents") == []
    for hidden in (neutron.get(path), neutron.put(path, {"agent": {"description": "mine"}}), neutron.delete(path)):
        refused(hidden, 404, "HTTPNotFound")
    refused(neutron.get("/v2.0/agents/none", ADMIN), 404, "AgentNotFound")


def test_seed_makes_both_networks_once(neutron: Neutron) -> None:
    projects = {"demo_project_id": CONTEXTS[DEMO].project_id, "admin_project_id": CONTEXTS[ADMIN].project_id}
    sow = lambda tx: seed.seed(tx, public_cidr="172.24.4.0/24", **projects)  # noqa: E731
    ids = neutron.database.write(sow)
    assert neutron.database.write(sow) == ids
    assert {network["name"]: network["id"] for network in neutron.list("networks")} == ids
    (public,) = neutron.list("subnets", f"?network_id={ids['public']}", ADMIN)
    assert (public["gateway_ip"], public["enable_dhcp"]) == ("172.24.4.1", False)
    assert public["allocation_pools"] == [{"start": "172.24.4.100", "end": "172.24.4.254"}]


def test_seed_leaves_the_defaults_that_there_are(neutron: Neutron) -> None:
    projects = {"demo_project_id": CONTEXTS[DEMO].project_id, "admin_project_id": CONTEXTS[ADMIN].project_id}
    mine = neutron.make("network", ADMIN, **{"router:external": True, "is_default": True})
    pool = neutron.make("subnetpool", ADMIN, name="mine", prefixes=["10.9.0.0/16"], is_default=True)
    ids = neutron.database.write(lambda tx: seed.seed(tx, public_cidr="172.24.4.0/24", **projects))
    default = [network["id"] for network in neutron.list("networks", "?is_default=true", ADMIN)]
    assert default == [mine["id"]] != [ids["public"]]
    assert [found["id"] for found in neutron.list("subnetpools", token=ADMIN)] == [pool["id"]]


def test_a_new_cloud_has_a_network_for_the_asking(neutron: Neutron) -> None:
    projects = {"demo_project_id": CONTEXTS[DEMO].project_id, "admin_project_id": CONTEXTS[ADMIN].project_id}
    ids = neutron.database.write(lambda tx: seed.seed(tx, public_cidr="172.24.4.0/24", **projects))
    topology = f"/v2.0/auto-allocated-topology/{CONTEXTS[OTHER].project_id}"
    assert neutron.get(f"{topology}?fields=dry-run", OTHER).status_code == 200
    made = neutron.get(topology, OTHER).json()["auto_allocated_topology"]["id"]
    (subnet,) = neutron.list("subnets", f"?network_id={made}", OTHER)
    assert subnet["cidr"].startswith("10.0.") and subnet["cidr"].endswith("/26")
    (router,) = neutron.list("routers", token=OTHER)
    assert router["external_gateway_info"]["network_id"] == ids["public"]


def test_a_quota_is_not_below_what_is_used_unless_forced(neutron: Neutron) -> None:
    for _ in range(2):
        neutron.make("network")
    path = f"/v2.0/quotas/{CONTEXTS[DEMO].project_id}"
    for flags in ({}, {"check_limit": True}, {"force": False}):
        message = refused(neutron.put(path, {"quota": {"network": 1, **flags}}, ADMIN), 400, "HTTPBadRequest")
        assert message == "Quota limit 1 for network must be greater than or equal to already used 2"
    assert neutron.get(path).json()["quota"]["network"] == 100
    for limit, flags in ((2, {}), (-1, {"check_limit": True}), (1, {"force": True})):
        assert neutron.put(path, {"quota": {"network": limit, **flags}}, ADMIN).json()["quota"]["network"] == limit
    refused(neutron.put(path, {"quota": {"force": "perhaps"}}, ADMIN), 400, "HTTPBadRequest")


def test_subnets_say_whether_they_are_outside(neutron: Neutron) -> None:
    outside = neutron.make("network", ADMIN, **{"router:external": True, "shared": True})
    there = make_subnet(neutron, neutron.make("network"), "10.0.0.0/24")
    public = neutron.make("subnet", ADMIN, network_id=outside["id"], cidr="172.24.4.0/24", ip_version=4)
    assert (there["router:external"], public["router:external"]) == (False, True)
    for wanted, subnet in (("True", public), ("False", there)):
        assert [found["id"] for found in neutron.list("subnets", f"?router:external={wanted}")] == [subnet["id"]]
    refused(neutron.put(f"/v2.0/subnets/{there['id']}", {"subnet": {"router:external": True}}), 400, "HTTPBadRequest")
