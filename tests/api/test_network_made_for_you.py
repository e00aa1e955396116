"""What Neutron counts and makes itself: address availability, topologies on demand, subnets for kinds of ports."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, Neutron, refused

from kilonova.db.engine import Database
from kilonova.network import agents

ME = CONTEXTS[DEMO].project_id
TOPOLOGY = "/v2.0/auto-allocated-topology"


@pytest.fixture
def neutron(database: Database) -> Neutron:
    database.write(lambda tx: agents.report(tx, "host1", {"public": "br-ex"}))
    return Neutron(database)


def availability(neutron: Neutron, path: str = "", token: str = ADMIN) -> Any:
    # The description calls its numbers and lists strings, which they are not: not held against it.
    headers = {"X-Auth-Token": token}
    return neutron.http.get(f"/network/v2.0/network-ip-availabilities{path}", headers=headers)


def test_ip_availability(neutron: Neutron) -> None:
    network = neutron.make("network", name="n")
    four = neutron.make(
        "subnet", network_id=network["id"], cidr="10.0.0.0/24", ip_version=4, name="four",
        allocation_pools=[{"start": "10.0.0.10", "end": "10.0.0.19"}, {"start": "10.0.0.30", "end": "10.0.0.30"}],
    )  # fmt: skip
    six = neutron.make("subnet", network_id=network["id"], cidr="fd00::/64", ip_version=6, enable_dhcp=False)
    neutron.make("port", network_id=network["id"], fixed_ips=[{"subnet_id": four["id"]}])
    found = availability(neutron, f"/{network['id']}").json()["network_ip_availability"]
    total = 2**64 - 2  # but the network's own address and the gateway's
    assert found == {
        "network_id": network["id"], "network_name": "n", "project_id": ME, "tenant_id": ME,
        "used_ips": 2, "total_ips": 11 + total,  # DHCP's port has one too
        "subnet_ip_availability": [
            {"subnet_id": four["id"], "subnet_name": "four", "cidr": "10.0.0.0/24", "ip_version": 4, "total_ips": 11,
             "used_ips": 2},
            {"subnet_id": six["id"], "subnet_name": "", "cidr": "fd00::/64", "ip_version": 6, "total_ips": total,
             "used_ips": 0},
        ],
    }  # fmt: skip
    empty = neutron.make("network")
    several = availability(neutron).json()["network_ip_availabilities"]
    assert {one["network_id"]: one["total_ips"] for one in several} == {network["id"]: 11 + total, empty["id"]: 0}
    (only,) = availability(neutron, "?ip_version=6").json()["network_ip_availabilities"]
    assert only["total_ips"] == total
    assert availability(neutron, "?network_name=n").json()["network_ip_availabilities"] == [found]
    assert availability(neutron, token=DEMO).json() == {"network_ip_availabilities": []}
    refused(availability(neutron, f"/{network['id']}", DEMO), 404, "HTTPNotFound")
    refused(availability(neutron, "/nobody"), 404, "NetworkNotFound")


def outside(neutron: Neutron, **values: Any) -> str:
    network = neutron.make("network", ADMIN, **{"router:external": True, "is_default": True, **values})
    neutron.make("subnet", ADMIN, network_id=network["id"], cidr="172.24.4.0/24", ip_version=4, enable_dhcp=False)
    return str(network["id"])


def default_pools(neutron: Neutron) -> None:
    for prefix in ("10.0.0.0/16", "fd00:1::/48"):
        length = 26 if "." in prefix else 64
        values = {"name": "p", "prefixes": [prefix], "is_default": True, "shared": True, "default_prefixlen": length}
        neutron.make("subnetpool", ADMIN, **values)


def test_a_topology_is_made_when_asked_for(neutron: Neutron) -> None:
    dry = f"{TOPOLOGY}/{ME}?fields=dry-run"
    refused(neutron.get(dry), 409, "AutoAllocationFailure")
    public = outside(neutron)
    assert (
        refused(neutron.get(dry), 409, "AutoAllocationFailure") == "Deployment error: No default subnetpools defined."
    )
    default_pools(neutron)
    assert neutron.get(dry).json()["auto_allocated_topology"]["id"] == "dry-run=pass"
    assert [one["id"] for one in neutron.list("networks")] == [public]
    made = neutron.get(f"{TOPOLOGY}/None").json()["auto_allocated_topology"]
    assert made["project_id"] == made["tenant_id"] == ME
    assert neutron.get(f"{TOPOLOGY}/{ME}").json()["auto_allocated_topology"] == made
    (router,) = neutron.list("routers")
    assert router["external_gateway_info"]["network_id"] == public
    subnets = neutron.list("subnets", f"?network_id={made['id']}")
    assert sorted(one["name"] for one in subnets) == ["auto_allocated_subnet_v4", "auto_allocated_subnet_v6"]
    legs = neutron.list("ports", f"?device_id={router['id']}&network_id={made['id']}")
    assert sorted(ip["subnet_id"] for leg in legs for ip in leg["fixed_ips"]) == sorted(one["id"] for one in subnets)
    refused(neutron.get(f"{TOPOLOGY}/{ME}", OTHER), 403, "NotAuthorized")
    refused(neutron.get(f"{TOPOLOGY}/{ME}?fields=x"), 400, "BadRequest")
    assert neutron.delete(f"{TOPOLOGY}/{ME}").status_code == 204
    assert neutron.list("routers") == [] and [one["id"] for one in neutron.list("networks")] == [public]
    assert neutron.delete(f"{TOPOLOGY}/{ME}").status_code == 204


def test_a_project_has_one_topology_however_often_it_asks_at_once(neutron: Neutron) -> None:
    outside(neutron)
    default_pools(neutron)
    with ThreadPoolExecutor(4) as workers:
        answers = list(workers.map(lambda _: neutron.get(f"{TOPOLOGY}/{ME}"), range(4)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["auto_allocated_topology"]["id"] for answer in answers}) == 1
    assert len(neutron.list("networks", f"?project_id={ME}")) == len(neutron.list("routers")) == 1


def test_one_external_network_is_the_default_one(neutron: Neutron) -> None:
    first = outside(neutron)
    assert neutron.get(f"/v2.0/networks/{first}").json()["network"]["is_default"] is True
    body = {"network": {"router:external": True, "is_default": True}}
    refused(neutron.post("/v2.0/networks", body, ADMIN), 409, "DefaultExternalNetworkExists")
    refused(neutron.post("/v2.0/networks", {"network": {"is_default": True}}), 403, "PolicyNotAuthorized")
    assert "is_default" not in neutron.make("network")
    assert neutron.put(f"/v2.0/networks/{first}", {"network": {"is_default": False}}, ADMIN).status_code == 200
    assert neutron.post("/v2.0/networks", body, ADMIN).status_code == 201


def test_subnets_for_kinds_of_ports(neutron: Neutron) -> None:
    network = neutron.make("network", ADMIN, shared=True)["id"]

    def subnet(cidr: str, *kinds: str) -> str:
        values = {"network_id": network, "cidr": cidr, "ip_version": 4, "service_types": list(kinds)}
        made = neutron.make("subnet", ADMIN, **values)
        assert made["service_types"] == list(kinds)
        return str(made["id"])

    plain, servers = subnet("10.0.0.0/24"), subnet("10.0.1.0/24", "compute:nova")

    def port(**values: Any) -> str:
        made = neutron.make("port", network_id=network, **values)
        (address,) = made["fixed_ips"]
        return str(address["subnet_id"])

    assert port() == plain
    assert port(device_owner="compute:nova") == servers
    assert port(device_owner="compute:other") == plain
    assert port(fixed_ips=[{"subnet_id": servers}]) == servers
    path = f"/v2.0/subnets/{servers}"
    assert neutron.put(path, {"subnet": {"service_types": []}}, ADMIN).json()["subnet"]["service_types"] == []
    for bad in (["x:y"], [7], "compute:nova"):
        refused(neutron.put(path, {"subnet": {"service_types": bad}}, ADMIN), 400, "HTTPBadRequest")
    refused(neutron.put(path, {"subnet": {"service_types": ["compute:nova"]}}), 403, "PolicyNotAuthorized")
