"""Unified limits at the door."""

from typing import Any

import pytest
from identity_client import Keystone

from kilonova.db.engine import Database


@pytest.fixture
def keystone(database: Database) -> Keystone:
    return Keystone(database)


def register(keystone: Keystone, **asked: Any) -> dict[str, Any]:
    service = keystone.get("/v3/services?type=compute").json()["services"][0]["id"]
    body = {"service_id": service, "resource_name": "cores", "default_limit": 10, **asked}
    answer = keystone.post("/v3/registered_limits", {"registered_limits": [body]})
    assert answer.status_code == 201, answer.text
    (made,) = answer.json()["registered_limits"]
    return made


def limit(keystone: Keystone, base: dict[str, Any], **asked: Any) -> Any:
    body = {"service_id": base["service_id"], "resource_name": base["resource_name"], "resource_limit": 5}
    if base["region_id"]:
        body["region_id"] = base["region_id"]
    return keystone.post("/v3/limits", {"limits": [{**body, **asked}]})


def test_registered_limits(keystone: Keystone) -> None:
    demo = keystone.login("demo", project="demo")
    made = register(keystone, region_id="RegionOne", description="d")
    path = f"/v3/registered_limits/{made['id']}"
    assert (made["region_id"], made["default_limit"], made["description"]) == ("RegionOne", 10, "d")
    assert keystone.get(path, demo).json()["registered_limit"] == made
    other = register(keystone, resource_name="ram_mb")
    assert other["region_id"] is None
    listed = keystone.get("/v3/registered_limits?resource_name=cores", demo).json()["registered_limits"]
    assert listed == [made]
    changed = keystone.patch(path, {"registered_limit": {"default_limit": 20}}).json()["registered_limit"]
    assert changed["default_limit"] == 20
    assert keystone.patch(path, {"registered_limit": {"default_limit": -2}}).status_code == 400
    twin = {"region_id": None, "resource_name": "ram_mb"}
    assert keystone.patch(path, {"registered_limit": twin}).status_code == 409
    assert keystone.patch(path, {"registered_limit": {"default_limit": 1}}, demo).status_code == 403
    service = f"/v3/services/{made['service_id']}"
    assert keystone.delete(service).status_code == 403
    assert keystone.delete(path).status_code == 204
    assert keystone.get(path).status_code == 404


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({"service_id": "none"}, 400),
        ({"region_id": "none"}, 400),
        ({"resource_name": ""}, 400),
        ({"default_limit": "many"}, 400),
        ({"odd": 1}, 400),
        ({}, 409),
    ],
)
def test_wrong_registered_limits(keystone: Keystone, asked: dict[str, Any], status: int) -> None:
    made = register(keystone)
    body = {"service_id": made["service_id"], "resource_name": "cores", "default_limit": 1, **asked}
    answer = keystone.post("/v3/registered_limits", {"registered_limits": [body]})
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize("kind", ["registered_limits", "limits"])
def test_one_request_makes_so_many_limits_and_no_more(keystone: Keystone, kind: str) -> None:
    refused = keystone.post(f"/v3/{kind}", {kind: [{}] * 501}, keystone.login("admin", system="all"))
    assert refused.status_code == 400 and "is too long" in refused.text


def test_limits_of_projects_and_domains(keystone: Keystone) -> None:
    base, demo, ids = register(keystone), keystone.login("demo", project="demo"), keystone.ids
    made = limit(keystone, base, project_id=ids["projects"]["demo"], description="d")
    assert made.status_code == 201, made.text
    (own,) = made.json()["limits"]
    assert (own["project_id"], own["domain_id"], own["resource_limit"]) == (ids["projects"]["demo"], None, 5)
    (foreign,) = limit(keystone, base, project_id=ids["projects"]["admin"]).json()["limits"]
    (domain,) = limit(keystone, base, domain_id="default").json()["limits"]
    assert limit(keystone, base, domain_id="default").status_code == 409
    path = f"/v3/limits/{own['id']}"
    assert keystone.get(path, demo).json()["limit"] == own
    assert keystone.get(f"/v3/limits/{foreign['id']}", demo).status_code == 403
    assert keystone.get("/v3/limits/none-such", demo).status_code == 403
    assert [row["id"] for row in keystone.get("/v3/limits", demo).json()["limits"]] == [own["id"]]
    system = keystone.login("admin", system="all")
    assert len(keystone.get("/v3/limits", system).json()["limits"]) == 3
    narrow = keystone.get("/v3/limits?domain_id=default&resource_name=cores", system).json()["limits"]
    assert [row["id"] for row in narrow] == [domain["id"]]
    assert keystone.get("/v3/limits?service_id=none", system).json()["limits"] == []
    assert keystone.patch(path, {"limit": {"resource_limit": 7}}).json()["limit"]["resource_limit"] == 7
    assert keystone.patch(path, {"limit": {"resource_limit": 7}}, demo).status_code == 403
    assert keystone.patch(path, {"limit": {"service_id": "x"}}).status_code == 400
    used = f"/v3/registered_limits/{base['id']}"
    assert keystone.patch(used, {"registered_limit": {"default_limit": 1}}).status_code == 403
    assert keystone.delete(used).status_code == 403
    assert keystone.delete(path).status_code == 204
    assert keystone.get(path).status_code == 404


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"project_id": "none"},
        {"domain_id": "none"},
        {"project_id": "p", "domain_id": "d"},
        {"project_id": "demo", "resource_name": "unregistered"},
        {"project_id": "demo", "resource_limit": -5},
    ],
)
def test_wrong_limits(keystone: Keystone, asked: dict[str, Any]) -> None:
    base = register(keystone)
    if asked.get("project_id") == "demo":
        asked = {**asked, "project_id": keystone.ids["projects"]["demo"]}
    assert limit(keystone, base, **asked).status_code == 400


def test_limits_go_with_their_project(keystone: Keystone) -> None:
    base, project = register(keystone), keystone.make("project", name="p")
    (made,) = limit(keystone, base, project_id=project["id"]).json()["limits"]
    assert keystone.delete(f"/v3/projects/{project['id']}").status_code == 204
    assert keystone.get(f"/v3/limits/{made['id']}").status_code == 404
    assert keystone.delete(f"/v3/registered_limits/{base['id']}").status_code == 204


def test_the_model(keystone: Keystone) -> None:
    model = keystone.get("/v3/limits/model", keystone.login("demo", project="demo")).json()["model"]
    assert model["name"] == "flat" and "hierarchy" in model["description"]
