"""The network in Nova's old words (until 2.35), and what of it servers' actions do, on both databases."""

import pytest
from compute_client import ADMIN, DEMO, OTHER, READER, Nova, messages
from test_compute_floating_ips import give_floating_ip

from kilonova.compute.extensions import EXTENSIONS
from kilonova.db.engine import Database

OLD = "2.35"


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def new_group(nova: Nova, name: str = "web") -> str:
    body = {"security_group": {"name": name, "description": "of a test"}}
    return str(nova.post("/os-security-groups", body, version=OLD).json()["security_group"]["id"])


def test_groups(nova: Nova) -> None:
    id = new_group(nova)
    names = [group["name"] for group in nova.get("/os-security-groups", version=OLD).json()["security_groups"]]
    assert names == ["default", "web"]
    body = {"security_group": {"name": "www", "description": ""}}
    assert nova.put(f"/os-security-groups/{id}", body, version=OLD).json()["security_group"]["name"] == "www"
    assert nova.get(f"/os-security-groups/{id}", token=OTHER, version=OLD).status_code == 404
    assert nova.get("/os-security-groups/7", version=OLD).status_code == 400
    assert nova.get(f"/os-security-groups/{id}", version="2.36").status_code == 404
    assert nova.post("/os-security-groups", body, READER, OLD).status_code == 403
    assert nova.delete("/os-security-groups/", version=OLD).status_code == 404  # the group without a name
    assert nova.delete(f"/os-security-groups/{id}", version=OLD).status_code == 202
    assert nova.delete(f"/os-security-groups/{id}", version=OLD).status_code == 404


def test_rules(nova: Nova) -> None:
    id = new_group(nova)
    asked = {"parent_group_id": id, "ip_protocol": "tcp", "from_port": "22", "to_port": 22, "cidr": "10.0.0.0/8"}
    made = nova.post("/os-security-group-rules", {"security_group_rule": asked}, version=OLD)
    assert made.status_code == 200
    rule = made.json()["security_group_rule"]
    assert rule == {
        "id": rule["id"], "parent_group_id": id, "ip_protocol": "tcp", "from_port": 22, "to_port": 22, "group": {},
        "ip_range": {"cidr": "10.0.0.0/8"},
    }  # fmt: skip
    again = nova.post("/os-security-group-rules", {"security_group_rule": asked}, version=OLD)
    assert (again.status_code, messages(again)) == (400, f"This rule already exists in group {id}")
    of_group = {"parent_group_id": id, "ip_protocol": "icmp", "group_id": id}
    icmp = nova.post("/os-security-group-rules", {"security_group_rule": of_group}, version=OLD)
    told = icmp.json()["security_group_rule"]
    assert (told["from_port"], told["to_port"], told["group"]["name"], told["ip_range"]) == (-1, -1, "web", {})
    shown = nova.get(f"/os-security-groups/{id}", version=OLD).json()["security_group"]["rules"]
    assert {entry["id"] for entry in shown} == {rule["id"], told["id"]}
    assert nova.delete(f"/os-security-group-rules/{rule['id']}", version=OLD).status_code == 202
    assert nova.delete(f"/os-security-group-rules/{rule['id']}", version=OLD).status_code == 404
    assert nova.shared.flows.looks == 3


@pytest.mark.parametrize("wrong", [
    {}, {"ip_protocol": "tcp"}, {"ip_protocol": "tcp", "from_port": 2, "to_port": 1},
    {"ip_protocol": "tcp", "from_port": 0, "to_port": 1}, {"ip_protocol": "gre", "from_port": 1, "to_port": 1},
    {"ip_protocol": "icmp", "from_port": -2, "to_port": 1}, {"ip_protocol": "tcp", "from_port": "a", "to_port": 1},
    {"ip_protocol": "tcp", "from_port": [], "to_port": {}}, {"cidr": "10.0.0.0/0"}, {"cidr": 7}, {"cidr": "::/999"},
    {"ip_protocol": ["tcp"], "from_port": 1, "to_port": 1}, {"ip_protocol": {"a": 1}, "from_port": 1, "to_port": 1},
    {"ip_protocol": "tcp", "from_port": 1, "to_port": 65536}, {"ip_protocol": "tcp", "from_port": 1.5, "to_port": 2},
])  # fmt: skip
def test_wrong_rules(nova: Nova, wrong: dict[str, object]) -> None:
    body = {"security_group_rule": {"parent_group_id": new_group(nova), **wrong}}
    assert nova.post("/os-security-group-rules", body, version=OLD).status_code == 400


def test_groups_of_a_server(nova: Nova) -> None:
    id, group = nova.active(networks=[{"uuid": nova.network()}]), new_group(nova)

    def names() -> list[str]:
        found = nova.get(f"/servers/{id}/os-security-groups").json()["security_groups"]
        return [entry["name"] for entry in found]

    assert nova.post(f"/servers/{id}/action", {"addSecurityGroup": {"name": "web"}}).status_code == 202
    assert names() == ["default", "web"]
    refused = nova.delete(f"/os-security-groups/{group}", version=OLD)
    assert (refused.status_code, messages(refused)) == (400, f"Security Group {group} in use.")
    assert nova.post(f"/servers/{id}/action", {"removeSecurityGroup": {"name": group}}).status_code == 202
    assert names() == ["default"]
    assert nova.post(f"/servers/{id}/action", {"removeSecurityGroup": {"name": "web"}}).status_code == 404
    assert nova.post(f"/servers/{id}/action", {"addSecurityGroup": {"name": "none"}}).status_code == 404
    assert nova.post(f"/servers/{id}/action", {"addSecurityGroup": {"name": ""}}).status_code == 400
    new_group(nova)
    assert nova.post(f"/servers/{id}/action", {"addSecurityGroup": {"name": "web"}}).status_code == 409
    assert nova.shared.flows.looks == 2, "hosts are told of what was changed, at once"


def test_fixed_ips(nova: Nova) -> None:
    network = nova.network()
    id = nova.active(networks=[{"uuid": network}])

    def addresses() -> list[str]:
        return [ip["addr"] for ip in nova.get(f"/servers/{id}/ips").json()["addresses"].get("net", [])]

    (first,) = addresses()
    assert nova.post(f"/servers/{id}/action", {"addFixedIp": {"networkId": network}}, version="2.43").status_code == 202
    assert addresses()[0] == first
    second = addresses()[1]
    remove = {"removeFixedIp": {"address": second}}
    assert nova.post(f"/servers/{id}/action", remove, version="2.44").status_code == 404
    assert nova.post(f"/servers/{id}/action", remove, version="2.43").status_code == 202
    assert nova.post(f"/servers/{id}/action", remove, version="2.43").status_code == 400
    assert addresses() == [first]
    elsewhere = {"addFixedIp": {"networkId": nova.network("other")}}
    assert nova.post(f"/servers/{id}/action", elsewhere, version="2.43").status_code == 404


def test_floating_ips(nova: Nova) -> None:
    id = nova.active(networks=[{"uuid": nova.network()}])
    give_floating_ip(nova, id)
    assert nova.get("/os-floating-ip-pools", version=OLD).json() == {"floating_ip_pools": [{"name": "ext"}]}
    assert nova.post("/os-floating-ips", {"pool": "none"}, version=OLD).status_code == 404
    floating = nova.post("/os-floating-ips", {"pool": "ext"}, version=OLD).json()["floating_ip"]
    assert nova.get("/os-floating-ips", version=OLD).json() == {"floating_ips": [floating]}
    assert (floating["pool"], floating["instance_id"], floating["fixed_ip"]) == ("ext", None, None)
    taken = nova.post(f"/servers/{id}/action", {"addFloatingIp": {"address": floating["ip"]}}, version="2.43")
    assert taken.status_code == 400  # its fixed address has one
    other = nova.active(networks=[{"uuid": nova.get("/os-networks", version=OLD).json()["networks"][0]["id"]}])
    body = {"address": floating["ip"]}
    assert nova.post(f"/servers/{other}/action", {"addFloatingIp": body}, version="2.43").status_code == 202
    assert nova.get(f"/os-floating-ips/{floating['id']}", version=OLD).json()["floating_ip"]["instance_id"] == other
    assert nova.post(f"/servers/{id}/action", {"removeFloatingIp": body}, version="2.43").status_code == 409
    assert nova.post(f"/servers/{other}/action", {"removeFloatingIp": body}, version="2.43").status_code == 202
    assert nova.get(f"/os-floating-ips/{floating['id']}", token=OTHER, version=OLD).status_code == 404
    assert nova.delete(f"/os-floating-ips/{floating['id']}", version=OLD).status_code == 202
    assert nova.shared.flows.looks == 3
    assert nova.get("/os-floating-ips/x", version=OLD).status_code == 400


def test_networks(nova: Nova) -> None:
    id = nova.network()
    (mine,) = nova.get("/os-networks", version=OLD).json()["networks"]
    assert (mine["id"], mine["label"], "bridge" in mine) == (id, "net", False)
    assert "bridge" in nova.get(f"/os-networks/{id}", token=ADMIN, version=OLD).json()["network"]
    tenant = {"id": id, "cidr": "None", "label": "net"}
    headers = {"X-Auth-Token": DEMO}  # not by `nova`: its checker knows no format cidr, which tells the oneOf apart
    assert nova.http.get("/compute/v2.1/os-tenant-networks", headers=headers).json() == {"networks": [tenant]}
    assert nova.http.get(f"/compute/v2.1/os-tenant-networks/{id}", headers=headers).json() == {"network": tenant}
    assert nova.get(f"/os-networks/{id}", token=OTHER, version=OLD).status_code == 404


def test_extensions(nova: Nova) -> None:
    listed = nova.get("/extensions").json()["extensions"]
    assert [entry["alias"] for entry in listed] == list(EXTENSIONS)
    assert nova.get("/extensions/os-keypairs").json()["extension"] in listed
    assert nova.get("/extensions/none").status_code == 404
