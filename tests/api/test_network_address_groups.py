"""Address groups, default security group rules and stateless groups: over HTTP, and as a host is told of them."""

from typing import Any

import pytest
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, READER, Neutron, refused

from kilonova.db.engine import Database
from kilonova.model.ids import new_id
from kilonova.model.specs import GroupSpec, HostNetwork
from kilonova.network import agents
from kilonova.network.desired import Desired

HOST = "host1"


@pytest.fixture
def neutron(database: Database) -> Neutron:
    database.write(lambda tx: agents.report(tx, HOST))
    return Neutron(database)


def test_create_show_list_update_delete(neutron: Neutron) -> None:
    made = neutron.make("address_group", name="a", addresses=["192.0.2.7/24", "2001:db8::/32", "198.51.100.1/32"])
    assert made["addresses"] == ["192.0.2.0/24", "2001:db8::/32", "198.51.100.1/32"]
    assert (made["name"], made["description"], made["shared"]) == ("a", "", False)
    assert made["project_id"] == CONTEXTS[DEMO].project_id
    path = f"/v2.0/address-groups/{made['id']}"
    assert neutron.get(path).json()["address_group"] == made
    assert neutron.list("address-groups", "?name=a") == [made]
    assert neutron.list("address-groups", token=OTHER) == []
    changed = neutron.put(path, {"address_group": {"description": "d"}}).json()["address_group"]
    assert (changed["description"], changed["revision_number"]) == ("d", 2)
    for answer in (
        neutron.get(path, OTHER),
        neutron.put(path, {"address_group": {}}, OTHER),
        neutron.delete(path, OTHER),
    ):
        refused(answer, 404, "AddressGroupNotFound")
    assert neutron.post("/v2.0/address-groups", {"address_group": {}}, READER).status_code == 403
    assert neutron.delete(path).status_code == 204
    refused(neutron.get(path), 404, "AddressGroupNotFound")


def test_addresses_are_added_and_removed(neutron: Neutron) -> None:
    made = neutron.make("address_group", addresses=["192.0.2.0/24"])
    path = f"/v2.0/address-groups/{made['id']}"

    def change(action: str, *addresses: Any) -> Any:
        return neutron.put(f"{path}/{action}", {"addresses": list(addresses)})

    answer = change("add_addresses", "198.51.100.9/32", "198.51.100.9/32")
    assert answer.json()["address_group"]["addresses"] == ["192.0.2.0/24", "198.51.100.9/32"]
    refused(change("add_addresses", "192.0.2.9/24"), 400, "AddressesAlreadyExist")
    refused(change("remove_addresses", "203.0.113.0/24"), 404, "AddressesNotFound")
    assert change("remove_addresses", "192.0.2.0/24").json()["address_group"]["addresses"] == ["198.51.100.9/32"]
    for bad in ("x", "192.0.2.300", 7, None):
        refused(change("add_addresses", bad), 400, "HTTPBadRequest")
    refused(change("remove_addresses", "192.0.2.1"), 404, "AddressesNotFound")
    one = change("add_addresses", "192.0.2.1", "2001:db8::1").json()["address_group"]["addresses"]
    assert one == ["198.51.100.9/32", "192.0.2.1/32", "2001:db8::1/128"]
    refused(neutron.put(f"{path}/add_addresses", {}), 400, "HTTPBadRequest")
    refused(neutron.put(f"{path}/add_addresses", {"addresses": []}, OTHER), 404, "AddressGroupNotFound")
    refused(neutron.put(path, {"address_group": {"addresses": []}}), 400, "HTTPBadRequest")
    for body in ({"addresses": "x"}, {"addresses": ["192.0.2.0/24"] * 2}, {"shared": True}):
        refused(neutron.post("/v2.0/address-groups", {"address_group": body}), 400, "HTTPBadRequest")


def test_rules_name_an_address_group(neutron: Neutron) -> None:
    group, made = neutron.make("security_group", name="g"), neutron.make("address_group", addresses=["192.0.2.0/24"])
    rule = neutron.make(
        "security_group_rule", security_group_id=group["id"], direction="ingress", remote_address_group_id=made["id"]
    )
    assert rule["remote_address_group_id"] == made["id"]
    found = neutron.list("security-group-rules", f"?remote_address_group_id={made['id']}")
    assert found == [rule]
    refused(neutron.delete(f"/v2.0/address-groups/{made['id']}"), 409, "AddressGroupInUse")
    same = {"security_group_id": group["id"], "direction": "ingress", "remote_address_group_id": made["id"]}
    for extra, status, kind in (
        ({}, 409, "SecurityGroupRuleExists"),
        ({"remote_ip_prefix": "10.0.0.0/8"}, 400, "SecurityGroupMultipleRemoteEntites"),
        ({"remote_group_id": group["id"]}, 400, "SecurityGroupMultipleRemoteEntites"),
        ({"remote_address_group_id": new_id()}, 404, "AddressGroupNotFound"),
        ({"remote_address_group_id": neutron.make("address_group", OTHER)["id"]}, 404, "AddressGroupNotFound"),
    ):
        refused(neutron.post("/v2.0/security-group-rules", {"security_group_rule": {**same, **extra}}), status, kind)


def test_a_host_is_told_of_the_addresses(neutron: Neutron) -> None:
    reader = Desired(HOST)

    def read() -> HostNetwork:
        found = neutron.database.read(reader.read)
        assert found == neutron.database.read(Desired(HOST).read)
        return found

    group = neutron.make("security_group", name="g")
    made = neutron.make("address_group", addresses=["198.51.100.9/32", "192.0.2.0/24"])
    neutron.make(
        "security_group_rule", security_group_id=group["id"], direction="ingress", remote_address_group_id=made["id"]
    )
    network = neutron.make("network")["id"]
    port = neutron.make("port", network_id=network, security_groups=[group["id"]])["id"]
    neutron.put(f"/v2.0/ports/{port}", {"port": {"binding:host_id": HOST}}, ADMIN)
    (named,) = [rule.remote_group_id for rule in read().ports[0].rules if rule.direction == "ingress"]
    assert named == made["id"]
    assert read().groups == (GroupSpec(id=made["id"], addresses=("192.0.2.0/24", "198.51.100.9/32")),)
    neutron.put(f"/v2.0/address-groups/{made['id']}/remove_addresses", {"addresses": ["192.0.2.0/24"]})
    assert read().groups == (GroupSpec(id=made["id"], addresses=("198.51.100.9/32",)),)


def test_stateless_groups(neutron: Neutron) -> None:
    group, other = neutron.make("security_group", name="g", stateful=False), neutron.make("security_group", name="h")
    assert (group["stateful"], other["stateful"]) == (False, True)
    assert [one["id"] for one in neutron.list("security-groups", "?stateful=False")] == [group["id"]]
    network = neutron.make("network")["id"]
    both = {"network_id": network, "security_groups": [group["id"], other["id"]]}
    refused(neutron.post("/v2.0/ports", {"port": both}), 409, "SecurityGroupConflict")
    port = neutron.make("port", network_id=network, security_groups=[group["id"]])["id"]
    refused(
        neutron.put(f"/v2.0/ports/{port}", {"port": {"security_groups": both["security_groups"]}}),
        409,
        "SecurityGroupConflict",
    )
    path = f"/v2.0/security-groups/{group['id']}"
    refused(neutron.put(path, {"security_group": {"stateful": True}}), 409, "SecurityGroupInUse")
    neutron.put(f"/v2.0/ports/{port}", {"port": {"binding:host_id": HOST}}, ADMIN)
    (spec,) = neutron.database.read(Desired(HOST).read).ports
    assert spec.rules and not any(rule.stateful for rule in spec.rules)
    neutron.delete(f"/v2.0/ports/{port}")
    assert neutron.put(path, {"security_group": {"stateful": True}}).json()["security_group"]["stateful"]
    refused(neutron.post("/v2.0/security-groups", {"security_group": {"stateful": "x"}}), 400, "HTTPBadRequest")


DEFAULT = "/v2.0/default-security-group-rules"


def test_the_rules_that_new_groups_begin_with(neutron: Neutron) -> None:
    found = neutron.list("default-security-group-rules", token=READER)
    said = {
        (one["direction"], one["ethertype"], one["remote_group_id"], one["used_in_non_default_sg"]) for one in found
    }
    assert said == {
        (way, kind, parent, parent is None)
        for way, parent in (("egress", None), ("ingress", "PARENT"))
        for kind in ("IPv4", "IPv6")
    }
    given = {"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}
    answer = neutron.post(DEFAULT, {"default_security_group_rule": given}, ADMIN)
    made = answer.json()["default_security_group_rule"]
    assert (made["used_in_default_sg"], made["used_in_non_default_sg"]) == (False, True)
    assert neutron.get(f"{DEFAULT}/{made['id']}").json()["default_security_group_rule"] == made
    group = neutron.make("security_group", name="g")
    assert [rule["port_range_min"] for rule in group["security_group_rules"] if rule["direction"] == "ingress"] == [22]
    assert not any(rule["belongs_to_default_sg"] for rule in group["security_group_rules"])
    (own,) = neutron.list("security-groups", "?name=default")
    assert len(own["security_group_rules"]) == 4
    assert all(rule["belongs_to_default_sg"] for rule in own["security_group_rules"])
    assert len(neutron.list("security-group-rules", "?belongs_to_default_sg=True")) == 4
    egress = [one["id"] for one in found if one["direction"] == "egress"]
    for one in (*egress, made["id"]):
        assert neutron.delete(f"{DEFAULT}/{one}", ADMIN).status_code == 204
    assert neutron.make("security_group", name="h")["security_group_rules"] == []


def test_default_rules_are_an_admin_s_and_must_make_sense(neutron: Neutron) -> None:
    good = {"direction": "ingress", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22}
    assert neutron.post(DEFAULT, {"default_security_group_rule": good}).status_code == 403
    for extra, status, kind in (
        ({"port_range_min": 23}, 400, "SecurityGroupInvalidPortRange"),
        ({"direction": "up"}, 400, "HTTPBadRequest"),
        ({"remote_group_id": new_id()}, 404, "SecurityGroupNotFound"),
        ({"remote_group_id": "PARENT", "remote_ip_prefix": "10.0.0.0/8"}, 400, "SecurityGroupMultipleRemoteEntites"),
        ({"security_group_id": new_id()}, 400, "HTTPBadRequest"),
    ):
        answer = neutron.post(DEFAULT, {"default_security_group_rule": {**good, **extra}}, ADMIN)
        refused(answer, status, kind)
    made = neutron.post(DEFAULT, {"default_security_group_rule": good}, ADMIN).json()["default_security_group_rule"]
    refused(neutron.post(DEFAULT, {"default_security_group_rule": good}, ADMIN), 409, "DefaultSecurityGroupRuleExists")
    assert neutron.delete(f"{DEFAULT}/{made['id']}").status_code == 403
    refused(neutron.get(f"{DEFAULT}/{new_id()}"), 404, "DefaultSecurityGroupRuleNotFound")
