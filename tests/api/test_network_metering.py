"""Metering labels and rules, over HTTP, on both databases."""

from typing import Any

import pytest
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, Neutron, refused
from test_network_routers import HOST, make_public

from kilonova.db.engine import Database
from kilonova.model.specs import MeterRuleSpec
from kilonova.network import agents, router_specs

LABELS, RULES = "/v2.0/metering/metering-labels", "/v2.0/metering/metering-label-rules"
MISSING = "0f4f0b8e-6d3b-4f8e-9d4c-2f4f5b1a9c11"


@pytest.fixture
def neutron(database: Database) -> Neutron:
    database.write(lambda tx: agents.report(tx, HOST, {"public": "br-ex"}))
    return Neutron(database)


def make_label(neutron: Neutron, **values: Any) -> dict[str, Any]:
    response = neutron.post(LABELS, {"metering_label": values}, ADMIN)
    assert response.status_code == 201, response.text
    return dict(response.json()["metering_label"])


def add_rule(neutron: Neutron, label: dict[str, Any], **values: Any) -> Any:
    rule = {"metering_label_id": label["id"], "direction": "ingress", **values}
    return neutron.post(RULES, {"metering_label_rule": rule}, ADMIN)


def listed(neutron: Neutron, path: str, token: str = ADMIN) -> list[str]:
    (found,) = neutron.get(path, token).json().values()
    return [each["id"] for each in found]


def test_label_create_show_list_delete(neutron: Neutron) -> None:
    project_id = CONTEXTS[DEMO].project_id
    label = make_label(neutron, name="web", description="d" * 1024, project_id=project_id)
    assert label == {
        "id": label["id"], "name": "web", "description": "d" * 1024, "shared": False, "project_id": project_id,
        "tenant_id": project_id,
    }  # fmt: skip
    other = make_label(neutron)
    path = f"{LABELS}/{label['id']}"
    assert neutron.get(path).json() == {"metering_label": label}
    assert listed(neutron, LABELS, DEMO) == [label["id"]]
    assert set(listed(neutron, LABELS)) == {label["id"], other["id"]}
    assert listed(neutron, f"{LABELS}?name=web&shared=false") == [label["id"]]
    assert listed(neutron, f"{LABELS}?id=33") == []
    page = neutron.get(f"{LABELS}?limit=1", ADMIN).json()
    assert page["metering_labels_links"][0]["href"].split("?")[0].endswith("/network" + LABELS)
    assert neutron.get(f"{path}?fields=name").json() == {"metering_label": {"name": "web"}}
    for token in (DEMO, OTHER):
        refused(neutron.post(LABELS, {"metering_label": {}}, token), 403, "PolicyNotAuthorized")
        refused(neutron.delete(path, token), 403, "PolicyNotAuthorized")
    refused(neutron.get(path, OTHER), 404, "MeteringLabelNotFound")
    assert neutron.delete(path, ADMIN).status_code == 204
    assert refused(neutron.get(path), 404, "MeteringLabelNotFound") == f"Metering label '{label['id']}' does not exist."
    refused(neutron.delete(path, ADMIN), 404, "MeteringLabelNotFound")


def test_bad_labels(neutron: Neutron) -> None:
    for body in (
        {"name": "x" * 256},
        {"description": "d" * 1025},
        {"shared": "perhaps"},
        {"colour": "red"},
        {"id": "x"},
    ):
        refused(neutron.post(LABELS, {"metering_label": body}, ADMIN), 400, "HTTPBadRequest")
    many = {"metering_labels": [{"name": "a"}, {"name": "b"}]}
    assert len(neutron.post(LABELS, many, ADMIN).json()["metering_labels"]) == 2


def test_rule_create_show_list_delete(neutron: Neutron) -> None:
    label = make_label(neutron, project_id=CONTEXTS[DEMO].project_id)
    rule = add_rule(neutron, label, remote_ip_prefix="10.0.0.7/24").json()["metering_label_rule"]
    assert rule == {
        "id": rule["id"], "metering_label_id": label["id"], "direction": "ingress", "excluded": False,
        "remote_ip_prefix": "10.0.0.0/24", "source_ip_prefix": None, "destination_ip_prefix": None,
    }  # fmt: skip
    both = {"source_ip_prefix": "fd00::/64", "destination_ip_prefix": "::/0", "direction": "egress", "excluded": True}
    assert {**both, **add_rule(neutron, label, **both).json()["metering_label_rule"]}["excluded"] is True
    path = f"{RULES}/{rule['id']}"
    assert neutron.get(path).json() == {"metering_label_rule": rule}
    assert listed(neutron, f"{RULES}?direction=ingress", DEMO) == [rule["id"]]
    assert listed(neutron, f"{RULES}?excluded=false&metering_label_id={label['id']}") == [rule["id"]]
    assert listed(neutron, RULES, OTHER) == []
    refused(neutron.get(path, OTHER), 404, "MeteringLabelRuleNotFound")
    refused(neutron.delete(path), 403, "PolicyNotAuthorized")
    assert neutron.delete(path, ADMIN).status_code == 204
    refused(neutron.get(path), 404, "MeteringLabelRuleNotFound")
    assert neutron.delete(f"{LABELS}/{label['id']}", ADMIN).status_code == 204
    assert listed(neutron, RULES) == []


def test_bad_rules(neutron: Neutron) -> None:
    label = make_label(neutron)
    for body, status, kind in [
        ({}, 400, "Invalid"),
        ({"remote_ip_prefix": "10.0.0.0/24", "source_ip_prefix": "10.0.0.0/24"}, 400, "Invalid"),
        ({"remote_ip_prefix": "10.0.0.0/33"}, 400, "HTTPBadRequest"),
        ({"remote_ip_prefix": 5}, 400, "HTTPBadRequest"),
        ({"source_ip_prefix": "10.0.0.0/24", "destination_ip_prefix": "fd00::/64"}, 400, "InvalidInput"),
        ({"remote_ip_prefix": "10.0.0.0/24", "direction": "sideways"}, 400, "HTTPBadRequest"),
        ({"remote_ip_prefix": "10.0.0.0/24", "metering_label_id": "x"}, 400, "HTTPBadRequest"),
        ({"remote_ip_prefix": "10.0.0.0/24", "metering_label_id": MISSING}, 404, "MeteringLabelNotFound"),
    ]:
        refused(add_rule(neutron, label, **body), status, kind)
    assert add_rule(neutron, label, remote_ip_prefix="10.0.0.0/24").status_code == 201
    refused(add_rule(neutron, label, remote_ip_prefix="10.0.0.128/25"), 409, "MeteringLabelRuleOverlaps")
    assert add_rule(neutron, label, remote_ip_prefix="fd00::/64").status_code == 201
    for fits in ({"direction": "egress"}, {"excluded": True}, {"remote_ip_prefix": "10.0.1.0/24"}):
        assert add_rule(neutron, label, **{"remote_ip_prefix": "10.0.0.0/24", **fits}).status_code == 201


def test_routers_are_told_what_to_count(neutron: Neutron) -> None:
    router = neutron.make("router", external_gateway_info={"network_id": make_public(neutron)["id"]})
    own, shared, others = (
        make_label(neutron, **values)
        for values in ({"project_id": CONTEXTS[DEMO].project_id}, {"shared": True}, {"name": "another project's"})
    )
    for label in (own, shared, others):
        add_rule(neutron, label, remote_ip_prefix="10.0.0.0/24")
        add_rule(neutron, label, source_ip_prefix="10.0.0.0/8", direction="egress", excluded=True)
    (spec,) = neutron.database.read(lambda tx: router_specs.router_specs(tx, HOST))
    assert spec.id == router["id"]
    assert {meter.id for meter in spec.meters} == {own["id"], shared["id"]}
    assert spec.meters[0].rules == (
        MeterRuleSpec(direction="egress", source="10.0.0.0/8", excluded=True),
        MeterRuleSpec(direction="ingress", destination="10.0.0.0/24"),
    )
