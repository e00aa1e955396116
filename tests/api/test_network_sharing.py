"""RBAC policies: what a project sees of another's, and when it can be taken back, on both databases."""

from typing import Any

import pytest
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, READER, Neutron, refused

from kilonova.db.engine import Database
from kilonova.model.ids import new_id
from kilonova.network import agents

ME, THEM = CONTEXTS[DEMO].project_id, CONTEXTS[OTHER].project_id


@pytest.fixture
def neutron(database: Database) -> Neutron:
    database.write(lambda tx: agents.report(tx, "host1", {"public": "br-ex"}))
    return Neutron(database)


def share(neutron: Neutron, kind: str, thing: dict[str, Any], to: str = THEM, token: str = DEMO, **values: Any) -> Any:
    body = {"object_type": kind, "object_id": thing["id"], "action": "access_as_shared", "target_tenant": to, **values}
    return neutron.post("/v2.0/rbac-policies", {"rbac_policy": body}, token)


def policy(response: Any) -> dict[str, Any]:
    assert response.status_code in (200, 201), response.text
    found: dict[str, Any] = response.json()["rbac_policy"]
    return found


def test_create_show_list_update_delete(neutron: Neutron) -> None:
    network = neutron.make("network")
    made = policy(share(neutron, "network", network))
    assert made == {
        "id": made["id"], "object_type": "network", "object_id": network["id"], "action": "access_as_shared",
        "target_tenant": THEM, "project_id": ME, "tenant_id": ME,
    }  # fmt: skip
    path = f"/v2.0/rbac-policies/{made['id']}"
    assert policy(neutron.get(path)) == made
    assert neutron.list("rbac-policies", f"?target_tenant={THEM}&object_type=network") == [made]
    assert neutron.list("rbac-policies", "?object_type=subnetpool") == neutron.list("rbac-policies", token=OTHER) == []
    refused(neutron.get(path, OTHER), 404, "RbacPolicyNotFound")
    refused(neutron.delete(path, OTHER), 404, "RbacPolicyNotFound")
    refused(share(neutron, "network", network), 409, "DuplicateRbacPolicy")
    assert neutron.get(f"/v2.0/networks/{network['id']}").json()["network"]["revision_number"] > 1
    elsewhere = CONTEXTS[ADMIN].project_id
    assert policy(neutron.put(path, {"rbac_policy": {"target_tenant": elsewhere}}))["target_tenant"] == elsewhere
    refused(neutron.get(f"/v2.0/networks/{network['id']}", OTHER), 404, "NetworkNotFound")
    assert neutron.delete(path).status_code == 204
    refused(neutron.get(path), 404, "RbacPolicyNotFound")


def test_what_makes_no_sense_is_refused(neutron: Neutron) -> None:
    network, theirs = neutron.make("network"), neutron.make("network", ADMIN, shared=True)
    for values, status, kind in (
        ({"object_type": "router"}, 400, "InvalidInput"),
        ({"object_id": new_id()}, 404, "NetworkNotFound"),
        ({"object_id": "x"}, 400, "HTTPBadRequest"),
        ({"object_id": theirs["id"]}, 400, "InvalidInput"),
        ({"action": "access_as_admin"}, 400, "InvalidActionForType"),
        ({"target_tenant": "nobody"}, 400, "InvalidInput"),
        ({"target_tenant": None}, 400, "InvalidInput"),
        ({"target_tenant": "*"}, 403, "PolicyNotAuthorized"),
        ({"extra": 1}, 400, "HTTPBadRequest"),
    ):
        refused(share(neutron, "network", network, **values), status, kind)
    assert share(neutron, "network", network, token=READER).status_code == 403
    pool = neutron.make("subnetpool", name="p", prefixes=["10.0.0.0/8"])
    refused(share(neutron, "subnetpool", pool, action="access_as_external"), 400, "InvalidActionForType")
    neutron.put(f"/v2.0/quotas/{ME}", {"quota": {"rbac_policy": 0}}, ADMIN)
    refused(share(neutron, "network", network), 409, "OverQuota")


def test_a_network_is_seen_and_used_by_whom_it_is_shared_with(neutron: Neutron) -> None:
    network = neutron.make("network")
    subnet = neutron.make("subnet", network_id=network["id"], cidr="10.0.0.0/24", ip_version=4)
    path = f"/v2.0/networks/{network['id']}"
    refused(neutron.get(path, OTHER), 404, "NetworkNotFound")
    made = policy(share(neutron, "network", network))
    seen = neutron.get(path, OTHER).json()["network"]
    assert seen["shared"] and seen["subnets"] == [subnet["id"]]
    assert not neutron.get(path).json()["network"]["shared"]  # to its owner it is not
    assert neutron.get(f"/v2.0/subnets/{subnet['id']}", OTHER).status_code == 200
    assert [one["id"] for one in neutron.list("networks", "?shared=True", OTHER)] == [network["id"]]
    assert neutron.list("networks", "?shared=True") == []
    assert [one["id"] for one in neutron.list("subnets", "?shared=True", OTHER)] == [subnet["id"]]
    refused(neutron.put(path, {"network": {"name": "mine"}}, OTHER), 404, "HTTPNotFound")
    refused(neutron.delete(path, OTHER), 404, "HTTPNotFound")
    port = neutron.make("port", OTHER, network_id=network["id"])
    gone = f"/v2.0/rbac-policies/{made['id']}"
    refused(neutron.delete(gone), 409, "RbacPolicyInUse")
    refused(neutron.put(gone, {"rbac_policy": {"target_tenant": ME}}), 409, "RbacPolicyInUse")
    everybody = policy(share(neutron, "network", network, to="*", token=ADMIN))
    assert neutron.get(path).json()["network"]["shared"]
    assert neutron.delete(gone).status_code == 204  # the other one still lets them
    refused(neutron.delete(f"/v2.0/rbac-policies/{everybody['id']}", ADMIN), 409, "RbacPolicyInUse")
    refused(neutron.put(path, {"network": {"shared": False}}, ADMIN), 409, "InvalidSharedSetting")
    neutron.delete(f"/v2.0/ports/{port['id']}", OTHER)
    assert neutron.delete(f"/v2.0/rbac-policies/{everybody['id']}", ADMIN).status_code == 204
    refused(neutron.get(path, OTHER), 404, "NetworkNotFound")


def test_the_attribute_shared_is_a_policy_for_all(neutron: Neutron) -> None:
    network = neutron.make("network", ADMIN, shared=True)
    (made,) = neutron.list("rbac-policies", f"?object_id={network['id']}", ADMIN)
    assert (made["target_tenant"], made["action"]) == ("*", "access_as_shared")
    assert neutron.get(f"/v2.0/networks/{network['id']}", OTHER).json()["network"]["shared"]
    body = {"network": {"shared": False}}
    assert not neutron.put(f"/v2.0/networks/{network['id']}", body, ADMIN).json()["network"]["shared"]
    assert neutron.list("rbac-policies", token=ADMIN) == []
    neutron.put(f"/v2.0/networks/{network['id']}", {"network": {"shared": True}}, ADMIN)
    assert neutron.delete(f"/v2.0/networks/{network['id']}", ADMIN).status_code == 204
    assert neutron.list("rbac-policies", token=ADMIN) == []  # nothing is left behind


def test_an_external_network_for_some_projects(neutron: Neutron) -> None:
    network = neutron.make("network", ADMIN)
    neutron.make("subnet", ADMIN, network_id=network["id"], cidr="172.24.4.0/24", ip_version=4, enable_dhcp=False)
    path = f"/v2.0/networks/{network['id']}"
    made = policy(share(neutron, "network", network, token=ADMIN, action="access_as_external"))
    assert neutron.get(path, ADMIN).json()["network"]["router:external"]
    assert neutron.get(path, OTHER).json()["network"]["shared"] is False
    refused(neutron.get(path), 404, "NetworkNotFound")
    router = neutron.make("router", OTHER, external_gateway_info={"network_id": network["id"]})
    gone = f"/v2.0/rbac-policies/{made['id']}"
    refused(neutron.delete(gone, ADMIN), 409, "RbacPolicyInUse")
    assert neutron.delete(f"/v2.0/routers/{router['id']}", OTHER).status_code == 204
    assert neutron.delete(gone, ADMIN).status_code == 204
    assert not neutron.get(path, ADMIN).json()["network"]["router:external"]


def test_an_external_network_for_all_is_used_thanks_to_its_policy(neutron: Neutron) -> None:
    network = neutron.make("network", ADMIN, **{"router:external": True})
    neutron.make("subnet", ADMIN, network_id=network["id"], cidr="172.24.4.0/24", ip_version=4, enable_dhcp=False)
    (made,) = neutron.list("rbac-policies", f"?object_id={network['id']}", ADMIN)
    assert (made["target_tenant"], made["action"]) == ("*", "access_as_external")
    neutron.make("router", OTHER, external_gateway_info={"network_id": network["id"]})
    gone = f"/v2.0/rbac-policies/{made['id']}"
    refused(neutron.delete(gone, ADMIN), 409, "RbacPolicyInUse")
    policy(share(neutron, "network", network, token=ADMIN, action="access_as_external"))
    assert neutron.delete(gone, ADMIN).status_code == 204
    refused(neutron.get(f"/v2.0/networks/{network['id']}"), 404, "NetworkNotFound")


def test_subnet_pools_and_address_scopes_are_shared(neutron: Neutron) -> None:
    scope = neutron.make("address_scope", name="s", ip_version=4)
    pool = neutron.make("subnetpool", name="p", prefixes=["10.0.0.0/16"], default_prefixlen=24)
    of_scope, of_pool = policy(share(neutron, "address_scope", scope)), policy(share(neutron, "subnetpool", pool))
    assert neutron.get(f"/v2.0/subnetpools/{pool['id']}", OTHER).json()["subnetpool"]["shared"]
    assert not neutron.get(f"/v2.0/subnetpools/{pool['id']}").json()["subnetpool"]["shared"]
    theirs = neutron.make("subnetpool", OTHER, name="q", prefixes=["10.7.0.0/16"], address_scope_id=scope["id"])
    network = neutron.make("network", OTHER)["id"]
    subnet = neutron.make("subnet", OTHER, network_id=network, subnetpool_id=pool["id"], ip_version=4)
    for made in (of_scope, of_pool):
        refused(neutron.delete(f"/v2.0/rbac-policies/{made['id']}"), 409, "RbacPolicyInUse")
    neutron.delete(f"/v2.0/subnets/{subnet['id']}", OTHER)
    neutron.delete(f"/v2.0/subnetpools/{theirs['id']}", OTHER)
    for made in (of_scope, of_pool):
        assert neutron.delete(f"/v2.0/rbac-policies/{made['id']}").status_code == 204
    refused(neutron.get(f"/v2.0/subnetpools/{pool['id']}", OTHER), 404, "SubnetPoolNotFound")
    refused(neutron.get(f"/v2.0/address-scopes/{scope['id']}", OTHER), 404, "AddressScopeNotFound")


def test_a_subnet_pool_is_shared_with_those_who_see_its_scope(neutron: Neutron) -> None:
    scope = neutron.make("address_scope", ADMIN, name="s", ip_version=4)
    policy(share(neutron, "address_scope", scope, ME, ADMIN))
    pool = neutron.make("subnetpool", name="p", prefixes=["10.0.0.0/24"], address_scope_id=scope["id"])
    refused(share(neutron, "subnetpool", pool), 400, "RbacPolicyInitError")
    policy(share(neutron, "subnetpool", pool, CONTEXTS[ADMIN].project_id))  # whose scope it is
    policy(share(neutron, "address_scope", scope, THEM, ADMIN))
    made = policy(share(neutron, "subnetpool", pool))
    elsewhere = {"rbac_policy": {"target_tenant": "4" * 32}}
    refused(neutron.put(f"/v2.0/rbac-policies/{made['id']}", elsewhere), 400, "RbacPolicyInitError")


def test_security_and_address_groups_are_shared(neutron: Neutron) -> None:
    group = neutron.make("security_group", name="g")
    addresses = neutron.make("address_group", name="a", addresses=["192.0.2.0/24"])
    of_group = policy(share(neutron, "security_group", group))
    of_addresses = policy(share(neutron, "address_group", addresses))
    path = f"/v2.0/security-groups/{group['id']}"
    assert neutron.get(path, OTHER).json()["security_group"]["shared"]
    assert [one["id"] for one in neutron.list("security-groups", "?shared=True", OTHER)] == [group["id"]]
    refused(neutron.put(path, {"security_group": {"name": "x"}}, OTHER), 404, "HTTPNotFound")
    refused(neutron.delete(path, OTHER), 404, "HTTPNotFound")
    rule = {"security_group_id": group["id"], "direction": "ingress"}
    answer = neutron.post("/v2.0/security-group-rules", {"security_group_rule": rule}, OTHER)
    refused(answer, 403, "PolicyNotAuthorized")
    network = neutron.make("network", OTHER)["id"]
    port = neutron.make("port", OTHER, network_id=network, security_groups=[group["id"]])
    own = neutron.make("security_group", OTHER, name="own")
    made = neutron.make(
        "security_group_rule", OTHER, security_group_id=own["id"], direction="ingress",
        remote_address_group_id=addresses["id"],
    )  # fmt: skip
    refused(neutron.delete(f"/v2.0/rbac-policies/{of_group['id']}"), 409, "RbacPolicyInUse")
    refused(neutron.delete(f"/v2.0/rbac-policies/{of_addresses['id']}"), 409, "RbacPolicyInUse")
    neutron.delete(f"/v2.0/ports/{port['id']}", OTHER)
    neutron.delete(f"/v2.0/security-group-rules/{made['id']}", OTHER)
    for one in (of_group, of_addresses):
        assert neutron.delete(f"/v2.0/rbac-policies/{one['id']}").status_code == 204
    refused(neutron.get(path, OTHER), 404, "SecurityGroupNotFound")
    refused(neutron.get(f"/v2.0/address-groups/{addresses['id']}", OTHER), 404, "AddressGroupNotFound")


def make_policy(neutron: Neutron, token: str = ADMIN, **values: Any) -> dict[str, Any]:
    response = neutron.post("/v2.0/qos/policies", {"policy": {"name": "q", **values}}, token)
    assert response.status_code == 201, response.text
    made: dict[str, Any] = response.json()["policy"]
    return made


def test_qos_policies_are_shared(neutron: Neutron) -> None:
    qos = make_policy(neutron, project_id=ME)
    path = f"/v2.0/qos/policies/{qos['id']}"
    refused(neutron.get(path, OTHER), 404, "QosPolicyNotFound")
    made = policy(share(neutron, "qos_policy", qos))
    seen = neutron.get(path, OTHER).json()["policy"]
    assert (seen["shared"], neutron.get(path).json()["policy"]["shared"]) == (True, False)
    found = neutron.get("/v2.0/qos/policies?shared=True", OTHER).json()["policies"]
    assert [one["id"] for one in found] == [qos["id"]]
    assert neutron.get("/v2.0/qos/policies?shared=True").json()["policies"] == []
    network = neutron.make("network", OTHER, qos_policy_id=qos["id"])
    port = neutron.make("port", OTHER, network_id=network["id"], qos_policy_id=qos["id"])
    gone = f"/v2.0/rbac-policies/{made['id']}"
    refused(neutron.delete(gone), 409, "RbacPolicyInUse")
    neutron.put(f"/v2.0/networks/{network['id']}", {"network": {"qos_policy_id": None}}, OTHER)
    refused(neutron.delete(gone), 409, "RbacPolicyInUse")
    neutron.put(f"/v2.0/ports/{port['id']}", {"port": {"qos_policy_id": None}}, OTHER)
    refused(share(neutron, "qos_policy", qos, action="access_as_external"), 400, "InvalidActionForType")
    assert neutron.delete(gone).status_code == 204
    refused(neutron.get(path, OTHER), 404, "QosPolicyNotFound")
    policy(share(neutron, "qos_policy", qos))
    assert neutron.delete(path, ADMIN).status_code == 204
    assert neutron.list("rbac-policies") == []


def test_a_qos_policy_shared_with_all_is_one_for_all(neutron: Neutron) -> None:
    qos = make_policy(neutron, shared=True)
    path = f"/v2.0/qos/policies/{qos['id']}"
    (made,) = neutron.list("rbac-policies", f"?object_id={qos['id']}", ADMIN)
    assert (made["object_type"], made["target_tenant"], qos["shared"]) == ("qos_policy", "*", True)
    network = neutron.make("network", OTHER, qos_policy_id=qos["id"])
    refused(neutron.put(path, {"policy": {"shared": False}}, ADMIN), 409, "RbacPolicyInUse")
    policy(share(neutron, "qos_policy", qos, token=ADMIN))
    changed = neutron.put(path, {"policy": {"shared": False}}, ADMIN).json()["policy"]
    assert changed["shared"] is False
    assert neutron.get(path, OTHER).json()["policy"]["shared"]
    refused(neutron.get(path), 404, "QosPolicyNotFound")
    neutron.delete(f"/v2.0/networks/{network['id']}", OTHER)
    assert neutron.put(path, {"policy": {"shared": True}}, ADMIN).json()["policy"]["shared"]
    own = neutron.make("network", ADMIN, qos_policy_id=qos["id"])  # even its own project's use of it counts
    refused(neutron.put(path, {"policy": {"shared": False}}, ADMIN), 409, "RbacPolicyInUse")
    wild = next(one for one in neutron.list("rbac-policies", token=ADMIN) if one["target_tenant"] == "*")
    change = {"rbac_policy": {"target_tenant": CONTEXTS[ADMIN].project_id}}
    refused(neutron.put(f"/v2.0/rbac-policies/{wild['id']}", change, ADMIN), 409, "RbacPolicyInUse")
    neutron.delete(f"/v2.0/networks/{own['id']}", ADMIN)
    assert neutron.get(path).json()["policy"]["shared"]
