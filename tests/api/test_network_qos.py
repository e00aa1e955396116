"""QoS policies and rules, over HTTP, on both databases."""

from typing import Any

import pytest
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, Neutron, refused
from test_network_routers import HOST

from kilonova.db.engine import Database
from kilonova.model.specs import LimitSpec, PacketLimitSpec, QosSpec
from kilonova.network import agents
from kilonova.network.desired import Desired

POLICIES = "/v2.0/qos/policies"
MISSING = "0f4f0b8e-6d3b-4f8e-9d4c-2f4f5b1a9c11"
PROJECT = CONTEXTS[DEMO].project_id


@pytest.fixture
def neutron(database: Database) -> Neutron:
    database.write(lambda tx: agents.report(tx, HOST, {"public": "br-ex"}))
    return Neutron(database)


def make_policy(neutron: Neutron, **values: Any) -> dict[str, Any]:
    response = neutron.post(POLICIES, {"policy": {"name": "p", "project_id": PROJECT, **values}}, ADMIN)
    assert response.status_code == 201, response.text
    return dict(response.json()["policy"])


def add_rule(neutron: Neutron, policy: dict[str, Any], kind: str, token: str = ADMIN, **values: Any) -> Any:
    return neutron.post(f"{POLICIES}/{policy['id']}/{kind}_rules", {f"{kind}_rule": values}, token)


def test_policy_create_show_list_update_delete(neutron: Neutron) -> None:
    policy = make_policy(neutron, description="d")
    same = {
        "name": "p", "description": "d", "shared": False, "is_default": False, "rules": [], "project_id": PROJECT,
        "tenant_id": PROJECT, "tags": [], "revision_number": 1,
    }  # fmt: skip
    assert {key: policy[key] for key in same} == same
    path = f"{POLICIES}/{policy['id']}"
    assert neutron.get(path).json() == {"policy": policy}
    refused(neutron.get(path, OTHER), 404, "QosPolicyNotFound")
    assert neutron.get(f"{POLICIES}?name=p&is_default=false").json()["policies"] == [policy]
    assert neutron.get(POLICIES, OTHER).json()["policies"] == []
    for token in (DEMO, OTHER):
        refused(neutron.post(POLICIES, {"policy": {"name": "x"}}, token), 403, "PolicyNotAuthorized")
        refused(neutron.put(path, {"policy": {"name": "x"}}, token), 403, "PolicyNotAuthorized")
        refused(neutron.delete(path, token), 403, "PolicyNotAuthorized")
    changed = neutron.put(path, {"policy": {"name": "q", "shared": True}}, ADMIN).json()["policy"]
    assert (changed["name"], changed["shared"], changed["revision_number"] > 1) == ("q", True, True)
    assert neutron.get(path, OTHER).json()["policy"]["id"] == policy["id"]
    assert neutron.put(f"/v2.0/policies/{policy['id']}/tags/gold", None, ADMIN).status_code == 201
    assert [p["id"] for p in neutron.get(f"{POLICIES}?tags=gold").json()["policies"]] == [policy["id"]]
    for body in ({"name": "x" * 256}, {"shared": "perhaps"}, {"rules": []}, {"colour": "red"}):
        refused(neutron.post(POLICIES, {"policy": body}, ADMIN), 400, "HTTPBadRequest")
    assert neutron.delete(path, ADMIN).status_code == 204
    refused(neutron.get(path), 404, "QosPolicyNotFound")


RULES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("bandwidth_limit", {"max_kbps": "1000"}, {"max_kbps": 1000, "max_burst_kbps": 0, "direction": "egress"}),
    ("dscp_marking", {"dscp_mark": 26}, {"dscp_mark": 26}),
    ("packet_rate_limit", {"max_kpps": 5}, {"max_kpps": 5, "max_burst_kpps": 0, "direction": "egress"}),
    ("minimum_bandwidth", {"min_kbps": 10}, {"min_kbps": 10, "direction": "egress"}),
]


@pytest.mark.parametrize(("kind", "given", "made"), RULES)
def test_rule_create_show_list_update_delete(
    neutron: Neutron, kind: str, given: dict[str, Any], made: dict[str, Any]
) -> None:
    policy, name = make_policy(neutron), f"{kind}_rule"
    rule = add_rule(neutron, policy, kind, **given).json()[name]
    assert rule == {"id": rule["id"], **made}
    whole = neutron.get(f"{POLICIES}/{policy['id']}").json()["policy"]
    assert whole["rules"] == [{**rule, "type": kind, "qos_policy_id": policy["id"]}]
    assert whole["revision_number"] > policy["revision_number"]
    rules = f"{POLICIES}/{policy['id']}/{name}s"
    alias = f"/v2.0/qos/alias-{name.replace('_', '-')}s/{rule['id']}"
    assert neutron.get(rules).json() == {f"{name}s": [rule]}
    assert neutron.get(f"{rules}/{rule['id']}").json() == {name: rule}
    assert neutron.get(alias).json() == {f"alias_{name}": rule}
    attribute, value = next(iter(made.items()))
    other = 8 if kind == "dscp_marking" else value * 2
    changed = neutron.put(f"{rules}/{rule['id']}", {name: {attribute: other}}, ADMIN).json()[name]
    assert changed == {**rule, attribute: other}
    assert neutron.put(alias, {f"alias_{name}": given}, ADMIN).json()[f"alias_{name}"] == rule
    refused(add_rule(neutron, policy, kind, **given), 409, "QoSRulesConflict")
    for path in (f"{rules}/{rule['id']}", alias):
        refused(neutron.get(path, OTHER), 404, "QosPolicyNotFound" if path.startswith(rules) else "QosRuleNotFound")
        refused(neutron.delete(path), 403, "PolicyNotAuthorized")
    refused(add_rule(neutron, policy, kind, DEMO, **given), 403, "PolicyNotAuthorized")
    refused(neutron.get(f"{rules}/{MISSING}"), 404, "QosRuleNotFound")
    refused(add_rule(neutron, {"id": MISSING}, kind, **given), 404, "QosPolicyNotFound")
    for bad in ({}, {**given, attribute: "many"}, {**given, attribute: -1}, {**given, "colour": "red"}):
        refused(add_rule(neutron, policy, kind, **bad), 400, "HTTPBadRequest")
    if "direction" in made:
        refused(add_rule(neutron, policy, kind, **given, direction="sideways"), 400, "HTTPBadRequest")
        assert add_rule(neutron, policy, kind, **given, direction="ingress").status_code == 201
    assert neutron.delete(alias, ADMIN).status_code == 204
    refused(neutron.delete(f"{rules}/{rule['id']}", ADMIN), 404, "QosRuleNotFound")
    again = add_rule(neutron, policy, kind, **given).json()[name]["id"]
    assert neutron.delete(f"{rules}/{again}", ADMIN).status_code == 204


def test_a_limit_is_not_below_what_is_promised(neutron: Neutron) -> None:
    policy = make_policy(neutron)
    assert add_rule(neutron, policy, "minimum_bandwidth", min_kbps=100).status_code == 201
    refused(add_rule(neutron, policy, "bandwidth_limit", max_kbps=99), 409, "QoSRuleParameterConflict")
    assert add_rule(neutron, policy, "bandwidth_limit", max_kbps=99, direction="ingress").status_code == 201
    refused(
        add_rule(neutron, policy, "minimum_bandwidth", min_kbps=100, direction="ingress"),
        409,
        "QoSRuleParameterConflict",
    )


def test_rule_types_are_those_that_hosts_make_true(neutron: Neutron) -> None:
    path = "/v2.0/qos/rule-types"
    assert neutron.get(path).json() == {
        "rule_types": [{"type": kind} for kind in ("bandwidth_limit", "dscp_marking", "packet_rate_limit")]
    }
    assert len(neutron.get(f"{path}?all_rules=true").json()["rule_types"]) == 4
    refused(neutron.get(f"{path}?all_rules=perhaps"), 400, "HTTPBadRequest")
    shown = neutron.get(f"{path}/bandwidth_limit", ADMIN).json()["rule_type"]
    assert [each["parameter_name"] for each in shown["drivers"][0]["supported_parameters"]] == [
        "max_kbps", "max_burst_kbps", "direction",
    ]  # fmt: skip
    assert neutron.get(f"{path}/minimum_bandwidth", ADMIN).json()["rule_type"]["drivers"] == []
    refused(neutron.get(f"{path}/bandwidth_limit"), 403, "PolicyNotAuthorized")
    refused(neutron.get(f"{path}/speed", ADMIN), 404, "QosRuleTypeNotFound")


def test_policies_of_ports_and_networks(neutron: Neutron) -> None:
    policy, other = make_policy(neutron), make_policy(neutron)
    network = neutron.make("network", qos_policy_id=policy["id"])
    assert network["qos_policy_id"] == policy["id"]
    port = neutron.make("port", network_id=network["id"])
    assert (port["qos_policy_id"], port["qos_network_policy_id"]) == (None, policy["id"])
    path = f"/v2.0/ports/{port['id']}"
    changed = neutron.put(path, {"port": {"qos_policy_id": other["id"]}}).json()["port"]
    assert (changed["qos_policy_id"], changed["qos_network_policy_id"]) == (other["id"], policy["id"])
    message = refused(neutron.delete(f"{POLICIES}/{other['id']}", ADMIN), 409, "QosPolicyInUse")
    assert message == f"QoS Policy {other['id']} is used by port {port['id']}."
    refused(neutron.delete(f"{POLICIES}/{policy['id']}", ADMIN), 409, "QosPolicyInUse")
    # What no host keeps is promised to nobody.
    refused(add_rule(neutron, other, "minimum_bandwidth", min_kbps=1), 409, "QosRuleNotSupported")
    refused(add_rule(neutron, policy, "minimum_bandwidth", min_kbps=1), 409, "QosRuleNotSupportedByNetwork")
    assert neutron.get(f"{POLICIES}/{other['id']}").json()["policy"]["rules"] == []
    promising = make_policy(neutron)
    add_rule(neutron, promising, "minimum_bandwidth", min_kbps=1)
    refused(neutron.put(path, {"port": {"qos_policy_id": promising["id"]}}), 409, "QosRuleNotSupported")
    for body, status, kind in [
        ({"qos_policy_id": "x"}, 400, "HTTPBadRequest"),
        ({"qos_policy_id": MISSING}, 404, "QosPolicyNotFound"),
        ({"qos_policy_id": make_policy(neutron, project_id="other")["id"]}, 404, "QosPolicyNotFound"),
        ({"qos_network_policy_id": policy["id"]}, 400, "HTTPBadRequest"),
    ]:
        refused(neutron.put(path, {"port": body}), status, kind)
    assert neutron.put(path, {"port": {"qos_policy_id": None}}).json()["port"]["qos_policy_id"] is None
    assert neutron.delete(f"{POLICIES}/{other['id']}", ADMIN).status_code == 204
    assert neutron.delete(path).status_code == 204
    assert neutron.delete(f"/v2.0/networks/{network['id']}").status_code == 204
    assert neutron.delete(f"{POLICIES}/{policy['id']}", ADMIN).status_code == 204


def test_the_default_policy(neutron: Neutron) -> None:
    default = make_policy(neutron, is_default=True)
    body = {"policy": {"is_default": True, "project_id": PROJECT}}
    refused(neutron.post(POLICIES, body, ADMIN), 409, "QoSPolicyDefaultAlreadyExists")
    other = make_policy(neutron)
    refused(
        neutron.put(f"{POLICIES}/{other['id']}", {"policy": {"is_default": True}}, ADMIN),
        409,
        "QoSPolicyDefaultAlreadyExists",
    )
    make_policy(neutron, is_default=True, project_id=CONTEXTS[OTHER].project_id)
    assert neutron.make("network")["qos_policy_id"] == default["id"]
    assert neutron.make("network", qos_policy_id=other["id"])["qos_policy_id"] == other["id"]
    neutron.put(f"{POLICIES}/{default['id']}", {"policy": {"is_default": False}}, ADMIN)
    assert neutron.make("network")["qos_policy_id"] is None


def test_hosts_are_told_of_policies_and_their_changes(neutron: Neutron) -> None:
    policy, other, of_host = make_policy(neutron), make_policy(neutron), Desired(HOST)
    network = neutron.make("network", qos_policy_id=policy["id"])
    body = {"port": {"network_id": network["id"], "binding:host_id": HOST, "project_id": PROJECT}}
    port = neutron.post("/v2.0/ports", body, ADMIN).json()["port"]
    body["port"]["device_owner"] = "network:router_interface"
    neutron.post("/v2.0/ports", body, ADMIN)

    def told() -> list[QosSpec]:
        return [spec.qos for spec in neutron.database.read(of_host.read).ports if spec.qos != QosSpec()]

    assert told() == []
    add_rule(neutron, policy, "bandwidth_limit", max_kbps=1000, max_burst_kbps=80)
    add_rule(neutron, policy, "dscp_marking", dscp_mark=26)
    limits = QosSpec(egress=LimitSpec(kbps=1000, burst_kb=80), dscp=26)
    assert told() == [limits]  # the guest's, and not the network's own device
    add_rule(neutron, other, "bandwidth_limit", max_kbps=500, direction="ingress")
    neutron.put(f"/v2.0/ports/{port['id']}", {"port": {"qos_policy_id": other["id"]}})
    assert told() == [QosSpec(ingress=LimitSpec(kbps=500))]
    add_rule(neutron, other, "packet_rate_limit", max_kpps=2, max_burst_kpps=1, direction="ingress")
    assert told() == [QosSpec(ingress=LimitSpec(kbps=500), ingress_packets=PacketLimitSpec(kpps=2, burst_kpps=1))]
    neutron.put(f"/v2.0/ports/{port['id']}", {"port": {"qos_policy_id": None}})
    assert told() == [limits]
    neutron.put(f"/v2.0/networks/{network['id']}", {"network": {"qos_policy_id": None}}, ADMIN)
    assert told() == []
