"""Each resource that has tags has the same seven operations on them."""

import pytest
from network_client import ADMIN, DEMO, OTHER, Neutron, refused

from kilonova.db.engine import Database
from kilonova.network.tags import RESOURCES

BODIES = {
    "subnets": ("subnet", {"cidr": "10.0.0.0/24", "ip_version": 4}), "ports": ("port", {}), "trunks": ("trunk", {}),
    "networks": ("network", {}), "routers": ("router", {}), "security-groups": ("security_group", {}),
    "subnetpools": ("subnetpool", {"name": "p", "prefixes": ["10.0.0.0/16"]}), "floatingips": ("floatingip", {}),
}  # fmt: skip


def made(neutron: Neutron, collection: str) -> tuple[str, str]:
    """The id of one of them, and whose it is."""
    if collection == "policies":
        answer = neutron.post("/v2.0/qos/policies", {"policy": {"name": "q"}}, ADMIN)
        return answer.json()["policy"]["id"], ADMIN
    name, body = BODIES[collection]
    network = neutron.make("network")["id"]
    if collection == "floatingips":
        public = neutron.make("network", ADMIN, **{"router:external": True})["id"]
        neutron.make("subnet", ADMIN, network_id=public, cidr="172.24.4.0/24", ip_version=4)
        body = {"floating_network_id": public}
    elif collection == "trunks":
        body = {"port_id": neutron.make("port", network_id=network)["id"]}
    elif collection in ("subnets", "ports"):
        body = {"network_id": network, **body}
    return neutron.make(name, **body)["id"], DEMO


@pytest.mark.parametrize("collection", RESOURCES)
def test_tags(database: Database, collection: str) -> None:
    neutron = Neutron(database)
    ident, owner = made(neutron, collection)
    path = f"/v2.0/{collection}/{ident}/tags"

    def tags() -> list[str]:
        return sorted(neutron.get(path, owner).json()["tags"])

    assert tags() == []
    assert neutron.put(path, {"tags": ["b", "a"]}, owner).json()["tags"] == ["a", "b"] == tags()
    assert neutron.put(f"{path}/c", None, owner).status_code == 201
    assert neutron.get(f"{path}/c", owner).status_code == 204
    assert neutron.get(f"{path}/d", owner).status_code == 404
    assert neutron.get(path, OTHER).status_code == neutron.put(f"{path}/d", None, OTHER).status_code == 404
    assert neutron.delete(f"{path}/a", owner).status_code == 204 and tags() == ["b", "c"]
    assert neutron.delete(f"{path}/a", owner).status_code == 404
    where = "qos/policies" if collection == "policies" else collection
    assert [
        each["id"] for each in neutron.get(f"/v2.0/{where}?tags=b,c", owner).json()[collection.replace("-", "_")]
    ] == [ident]
    assert neutron.delete(path, owner).status_code == 204 and tags() == []


def test_more_tags_than_any_list_has(database: Database) -> None:
    neutron = Neutron(database)
    network = neutron.make("network")["id"]
    body = {"tags": [str(number) for number in range(1001)]}
    for change in (neutron.put, neutron.post):
        refused(change(f"/v2.0/networks/{network}/tags", body), 400, "HTTPBadRequest")
