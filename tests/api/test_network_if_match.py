"""Changes that depend on a row's revision, over HTTP, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from network_client import ADMIN, DEMO, OTHER, Neutron, refused

from kilonova.db.engine import Database
from kilonova.network import agents
from kilonova.network.routes import SERVICE


@pytest.fixture
def neutron(database: Database) -> Neutron:
    database.write(lambda tx: agents.report(tx, "host1", {"public": "br-ex"}))
    return Neutron(database)


def change(
    neutron: Neutron, method: str, path: str, match: object, body: Any = None, token: str = ADMIN
) -> httpx.Response:
    headers = {"X-Auth-Token": token, "If-Match": str(match)}
    return neutron.http.request(method, f"/network{path}", json=body, headers=headers)


def one_of_each(neutron: Neutron) -> list[tuple[str, str, int]]:
    """(path, name, revision) of one of each kind that has a revision."""
    network, empty = neutron.make("network", ADMIN), neutron.make("network", ADMIN)
    port = neutron.make("port", ADMIN, network_id=network["id"])
    outside = neutron.make("network", ADMIN, **{"router:external": True})
    neutron.make("subnet", ADMIN, network_id=outside["id"], cidr="172.24.4.0/24", ip_version=4, enable_dhcp=False)
    (segment,) = neutron.list("segments", f"?network_id={network['id']}", ADMIN)
    policy = neutron.post("/v2.0/qos/policies", {"policy": {"name": "q"}}, ADMIN).json()["policy"]
    made = [
        ("networks", "network", neutron.make("network", ADMIN)),
        ("subnets", "subnet", neutron.make("subnet", ADMIN, network_id=empty["id"], cidr="10.0.0.0/24", ip_version=4)),
        ("ports", "port", neutron.make("port", ADMIN, network_id=network["id"])),
        ("routers", "router", neutron.make("router", ADMIN)),
        ("floatingips", "floatingip", neutron.make("floatingip", ADMIN, floating_network_id=outside["id"])),
        ("security-groups", "security_group", neutron.make("security_group", ADMIN, name="g")),
        ("subnetpools", "subnetpool", neutron.make("subnetpool", ADMIN, name="p", prefixes=["10.0.0.0/8"])),
        ("address-groups", "address_group", neutron.make("address_group", ADMIN, name="a")),
        ("trunks", "trunk", neutron.make("trunk", ADMIN, port_id=port["id"])),
        ("segments", "segment", segment),
        ("qos/policies", "policy", policy),
    ]  # fmt: skip
    return [(f"/v2.0/{collection}/{row['id']}", name, row["revision_number"]) for collection, name, row in made]


def test_every_resource_with_a_revision_obeys(neutron: Neutron) -> None:
    for path, name, revision in one_of_each(neutron):
        body = {name: {"description": "d"}}
        for method in ("PUT", "DELETE"):
            wrong = change(neutron, method, path, f"revision_number={revision + 1}", body if method == "PUT" else None)
            message = refused(wrong, 412, "RevisionNumberConstraintFailed")
            assert message == f"Constrained to {revision + 1}, but current revision is {revision}"
        done = change(neutron, "PUT", path, f"revision_number={revision}", body)
        assert (done.status_code, done.json()[name]["description"]) == (200, "d"), path
        refused(
            change(neutron, "PUT", path, f"revision_number={revision}", body), 412, "RevisionNumberConstraintFailed"
        )
        again = done.json()[name]["revision_number"]
        if name == "segment":
            refused(change(neutron, "DELETE", path, f"revision_number={again}"), 409, "SegmentInUse")
        else:
            assert change(neutron, "DELETE", path, f'"revision_number={again}"').status_code == 204, path


def test_no_route_that_shows_a_revision_is_left_out(neutron: Neutron) -> None:
    """By the route table: each PUT and DELETE of what GET shows with a revision refuses one that is far off."""
    seen = 0
    for path, name, _ in one_of_each(neutron):
        collection, _, ident = path.removeprefix("/v2.0/").rpartition("/")
        for key in SERVICE.routes:
            method, route = key.split()
            if method in ("PUT", "DELETE") and route.startswith(f"/v2.0/{collection}/{{id}}") and route.count("{") == 1:
                seen += 1
                answer = change(neutron, method, route.replace("{id}", ident), "revision_number=99999", {name: {}})
                refused(answer, 412, "RevisionNumberConstraintFailed")
    assert seen > 30


def test_what_is_no_revision(neutron: Neutron) -> None:
    network = neutron.make("network")
    path, body = f"/v2.0/networks/{network['id']}", {"network": {"name": "n"}}
    for match, words in (
        ("revision_number=x", "must be in the format of revision_number=<int>"),
        ("revision_number=-1", "must be in the format of revision_number=<int>"),
        ("revision_number=1, revision_number=2", "Multiple revision_number etags"),
    ):
        assert words in refused(change(neutron, "PUT", path, match, body), 400, "BadRequest")
    assert change(neutron, "PUT", path, '"another-tag", *', body).status_code == 200
    label = neutron.post("/v2.0/metering/metering-labels", {"metering_label": {"name": "l"}}, ADMIN).json()
    path = f"/v2.0/metering/metering-labels/{label['metering_label']['id']}"
    message = refused(change(neutron, "DELETE", path, "revision_number=1"), 400, "BadRequest")
    assert message == "Bad metering-labels request: Revision matching not supported for this resource."
    path = f"/v2.0/networks/{network['id']}"
    refused(change(neutron, "PUT", path, "revision_number=99", body, OTHER), 404, "NetworkNotFound")


def test_of_many_that_saw_the_same_one_wins(neutron: Neutron) -> None:
    group = neutron.make("security_group", name="g")
    path, match = f"/v2.0/security-groups/{group['id']}", f"revision_number={group['revision_number']}"

    def rename(number: int) -> int:
        body = {"security_group": {"name": f"g{number}"}}
        return change(neutron, "PUT", path, match, body, DEMO).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(rename, range(8)))
    assert statuses == [200] + [412] * 7
