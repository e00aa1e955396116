"""Security groups and rules, over HTTP, on both databases."""

from typing import Any

import pytest
from network_client import ADMIN, OTHER, READER, Neutron, refused

from kilonova.db.engine import Database

NOBODY = "8e0d4ee1-7a5b-4ff5-96bd-8bc0a2f0d2a7"


@pytest.fixture
def neutron(database: Database) -> Neutron:
    return Neutron(database)


def test_pages_over_null(neutron: Neutron) -> None:
    seen, query = [], "?sort_key=remote_group_id&limit=1"
    while found := neutron.list("security-group-rules", query):
        seen.append(found[0]["id"])
        query = f"?sort_key=remote_group_id&limit=1&marker={seen[-1]}"
    assert len(seen) == len(set(seen)) == 4


def test_each_project_has_a_default_group(neutron: Neutron) -> None:
    (group,) = neutron.list("security-groups")
    assert (group["name"], group["description"]) == ("default", "Default security group")
    rules = {(rule["direction"], rule["ethertype"], rule["remote_group_id"]) for rule in group["security_group_rules"]}
    assert rules == {
        ("egress", "IPv4", None), ("egress", "IPv6", None),
        ("ingress", "IPv4", group["id"]), ("ingress", "IPv6", group["id"]),
    }  # fmt: skip
    assert [found["id"] for found in neutron.list("security-groups", token=READER)] == [group["id"]]
    assert [found["id"] for found in neutron.list("security-groups", token=OTHER)] != [group["id"]]
    path = f"/v2.0/security-groups/{group['id']}"
    refused(neutron.delete(path), 409, "SecurityGroupCannotRemoveDefault")
    refused(neutron.put(path, {"security_group": {"name": "x"}}), 409, "SecurityGroupCannotUpdateDefault")
    again = {"security_group": {"name": "default"}}
    refused(neutron.post("/v2.0/security-groups", again), 409, "SecurityGroupDefaultAlreadyExists")
    assert neutron.put(path, {"security_group": {"description": "d"}}).json()["security_group"]["description"] == "d"


def test_an_administrator_sees_the_default_group_of_a_project_that_has_asked_for_nothing(neutron: Neutron) -> None:
    project = "4" * 32
    query = f"?project_id={project}&name=default"
    (group,) = neutron.list("security-groups", query, ADMIN)
    assert group["project_id"] == project and len(group["security_group_rules"]) == 4
    assert neutron.list("security-groups", query, ADMIN) == [group]
    assert neutron.list("security-groups", f"?project_id={'5' * 32}") == []
    assert len(neutron.list("security-groups", token=ADMIN)) == 3  # the administrator's own and the asker's, and this


def test_all_rules_of_an_own_group_are_seen(neutron: Neutron) -> None:
    group = neutron.make("security_group")
    rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": "tcp"}
    made = neutron.make("security_group_rule", ADMIN, **rule)
    assert made["project_id"] != group["project_id"]
    listed = lambda token: {found["id"] for found in neutron.list("security-group-rules", token=token)}  # noqa: E731
    assert made["id"] in listed(READER)
    assert made["id"] not in listed(OTHER)


def test_group_create_show_update_delete(neutron: Neutron) -> None:
    group = neutron.make("security_group", name="web", description="d")
    assert sorted(rule["ethertype"] for rule in group["security_group_rules"]) == ["IPv4", "IPv6"]
    assert {rule["direction"] for rule in group["security_group_rules"]} == {"egress"}
    path = f"/v2.0/security-groups/{group['id']}"
    changed = neutron.put(path, {"security_group": {"name": "www", "description": "e"}}).json()["security_group"]
    assert (changed["name"], changed["description"]) == ("www", "e")
    refused(neutron.get(path, OTHER), 404, "SecurityGroupNotFound")
    refused(neutron.delete(path, OTHER), 404, "SecurityGroupNotFound")
    assert neutron.delete(path).status_code == 204
    assert refused(neutron.get(path), 404, "SecurityGroupNotFound") == f"Security group {group['id']} does not exist"


def test_a_group_in_use_stays(neutron: Neutron) -> None:
    group, network = neutron.make("security_group", name="web"), neutron.make("network")
    port = neutron.make("port", network_id=network["id"], security_groups=[group["id"]])
    assert [found["id"] for found in neutron.list("ports", f"?security_groups={group['id']}")] == [port["id"]]
    refused(neutron.delete(f"/v2.0/security-groups/{group['id']}"), 409, "SecurityGroupInUse")
    neutron.delete(f"/v2.0/ports/{port['id']}")
    assert neutron.delete(f"/v2.0/security-groups/{group['id']}").status_code == 204


def test_rule_create_show_delete(neutron: Neutron) -> None:
    group = neutron.make("security_group", name="web")
    given = {"security_group_id": group["id"], "direction": "ingress", "protocol": "TCP", "port_range_min": "22",
             "port_range_max": 22, "remote_ip_prefix": "10.0.0.7/24"}  # fmt: skip
    rule = neutron.make("security_group_rule", **given)
    assert (rule["protocol"], rule["port_range_min"], rule["ethertype"]) == ("tcp", 22, "IPv4")
    assert (rule["remote_ip_prefix"], rule["normalized_cidr"]) == ("10.0.0.7/24", "10.0.0.0/24")
    message = refused(
        neutron.post("/v2.0/security-group-rules", {"security_group_rule": given}), 409, "SecurityGroupRuleExists"
    )
    assert message == f"Security group rule already exists. Rule id is {rule['id']}."
    path = f"/v2.0/security-group-rules/{rule['id']}"
    assert neutron.get(path).json()["security_group_rule"] == rule
    refused(neutron.get(path, OTHER), 404, "SecurityGroupRuleNotFound")
    found = neutron.list("security-group-rules", f"?security_group_id={group['id']}&direction=ingress")
    assert [one["id"] for one in found] == [rule["id"]]
    assert neutron.delete(path).status_code == 204
    refused(neutron.delete(path), 404, "SecurityGroupRuleNotFound")


def test_protocols_of_all_kinds(neutron: Neutron) -> None:
    group = neutron.make("security_group", name="web")
    seen = []
    for values in (
        {"protocol": 17},
        {"protocol": "icmp", "port_range_min": 8, "port_range_max": 0},
        {"protocol": "icmp", "ethertype": "IPv6"},
        {"protocol": "sctp", "port_range_min": 1, "port_range_max": 65535},
        {"protocol": None, "remote_group_id": group["id"]},
        {"remote_ip_prefix": "10.0.0.1"},
    ):
        rule = neutron.make("security_group_rule", security_group_id=group["id"], direction="ingress", **values)
        seen.append((rule["protocol"], rule["remote_ip_prefix"]))
    assert seen == [
        ("17", None), ("icmp", None), ("ipv6-icmp", None), ("sctp", None), (None, None), (None, "10.0.0.1/32"),
    ]  # fmt: skip


BAD_RULES: list[tuple[dict[str, Any], int, str]] = [
    ({"security_group_id": NOBODY}, 404, "SecurityGroupNotFound"),
    ({"remote_group_id": NOBODY}, 404, "SecurityGroupNotFound"),
    ({"remote_group_id": "no uuid"}, 404, "SecurityGroupNotFound"),
    ({"security_group_id": "no uuid"}, 404, "SecurityGroupNotFound"),
    ({"direction": "up"}, 400, "HTTPBadRequest"),
    ({"direction": None}, 400, "HTTPBadRequest"),
    ({"ethertype": "IPv5"}, 400, "SecurityGroupRuleInvalidEtherType"),
    ({"protocol": "bgp"}, 400, "SecurityGroupRuleInvalidProtocol"),
    ({"protocol": 256}, 400, "SecurityGroupRuleInvalidProtocol"),
    ({"protocol": ["tcp"]}, 400, "SecurityGroupRuleInvalidProtocol"),
    ({"port_range_min": 1, "port_range_max": 2}, 400, "SecurityGroupProtocolRequiredWithPorts"),
    ({"protocol": "tcp", "port_range_min": 80, "port_range_max": 22}, 400, "SecurityGroupInvalidPortRange"),
    ({"protocol": "tcp", "port_range_min": 80}, 400, "SecurityGroupInvalidPortRange"),
    ({"protocol": "tcp", "port_range_min": 0, "port_range_max": 9}, 400, "SecurityGroupInvalidPortValue"),
    ({"protocol": "tcp", "port_range_min": 70000, "port_range_max": 70000}, 400, "SecurityGroupInvalidPortValue"),
    ({"protocol": "tcp", "port_range_min": "ssh", "port_range_max": 22}, 400, "SecurityGroupInvalidPortValue"),
    ({"protocol": "esp", "port_range_min": 1, "port_range_max": 1}, 400, "SecurityGroupInvalidProtocolForPort"),
    ({"protocol": "icmp", "port_range_min": 256}, 400, "SecurityGroupInvalidIcmpValue"),
    ({"protocol": "icmp", "port_range_max": 1}, 400, "SecurityGroupMissingIcmpType"),
    ({"protocol": "ipv6-icmp"}, 400, "SecurityGroupEthertypeConflictWithProtocol"),
    ({"protocol": "icmpv6"}, 400, "SecurityGroupEthertypeConflictWithProtocol"),
    ({"protocol": 43}, 400, "SecurityGroupEthertypeConflictWithProtocol"),
    ({"remote_ip_prefix": "x"}, 400, "InvalidCIDR"),
    ({"remote_ip_prefix": "fd00::/8"}, 400, "SecurityGroupRuleParameterConflict"),
    ({"colour": "red"}, 400, "HTTPBadRequest"),
]


def test_bad_rules(neutron: Neutron) -> None:
    group = neutron.make("security_group", name="web")
    for values, status, kind in BAD_RULES:
        body = {"security_group_id": group["id"], "direction": "ingress", **values}
        response = neutron.post("/v2.0/security-group-rules", {"security_group_rule": body})
        assert len(refused(response, status, kind)) > 15
    both = {"security_group_id": group["id"], "direction": "ingress", "remote_ip_prefix": "10.0.0.0/8",
            "remote_group_id": group["id"]}  # fmt: skip
    response = neutron.post("/v2.0/security-group-rules", {"security_group_rule": both})
    refused(response, 400, "SecurityGroupMultipleRemoteEntites")
    assert len(neutron.list("security-group-rules", f"?security_group_id={group['id']}")) == 2


def test_group_quota(neutron: Neutron) -> None:
    path = "/v2.0/quotas/11111111111111111111111111111111"
    neutron.put(path, {"quota": {"security_group": 1, "security_group_rule": 4}}, ADMIN)
    (group,) = neutron.list("security-groups")
    refused(neutron.post("/v2.0/security-groups", {"security_group": {"name": "a"}}), 409, "OverQuota")
    rule = {"security_group_id": group["id"], "direction": "ingress", "protocol": "icmp"}
    refused(neutron.post("/v2.0/security-group-rules", {"security_group_rule": rule}), 409, "OverQuota")
    neutron.put(path, {"quota": {"security_group": 2, "security_group_rule": 5}}, ADMIN)
    message = refused(neutron.post("/v2.0/security-groups", {"security_group": {"name": "a"}}), 409, "OverQuota")
    assert message == "Quota exceeded for resources: ['security_group_rule']."  # two, for all that leaves


def test_the_same_rule_in_other_words_is_there_already(neutron: Neutron) -> None:
    group = neutron.make("security_group", name="g")["id"]

    def rule(**values: Any) -> Any:
        body = {"security_group_rule": {"security_group_id": group, "direction": "ingress", **values}}
        return neutron.post("/v2.0/security-group-rules", body)

    ports = {"port_range_min": 22, "port_range_max": 22}
    for first, *others in (
        ({"protocol": "tcp", **ports}, {"protocol": "6", **ports}, {"protocol": 6, "remote_ip_prefix": "0.0.0.0/0", **ports}),
        ({"protocol": "udp", "remote_ip_prefix": "0.0.0.0/0"}, {"protocol": "UDP"}, {"protocol": "17"}),
        (
            {"protocol": "icmpv6", "ethertype": "IPv6"},
            {"protocol": "ipv6-icmp", "ethertype": "IPv6", "remote_ip_prefix": "::/0"},
        ),
    ):  # fmt: skip
        assert rule(**first).status_code == 201
        for other in others:
            answer = rule(**other)
            assert (answer.status_code, answer.json()["NeutronError"]["type"]) == (409, "SecurityGroupRuleExists"), other
    made = rule(protocol="tcp", remote_ip_prefix="10.0.0.0/8", remote_group_id="", remote_address_group_id="", **ports)
    assert made.status_code == 201
    shown = made.json()["security_group_rule"]
    assert (shown["remote_group_id"], shown["remote_address_group_id"]) == (None, None)
