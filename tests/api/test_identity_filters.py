"""Endpoint groups and filters, policies of endpoints, OAuth1 consumers and revocation events at the door."""

from typing import Any

import pytest
from identity_client import Keystone

from kilonova.db.engine import Database

EP = "/v3/OS-EP-FILTER"


@pytest.fixture
def keystone(database: Database) -> Keystone:
    return Keystone(database)


def endpoint(keystone: Keystone, kind: str, interface: str = "public") -> dict[str, Any]:
    service = keystone.get(f"/v3/services?type={kind}").json()["services"][0]["id"]
    path = f"/v3/endpoints?service_id={service}&interface={interface}"
    return keystone.get(path).json()["endpoints"][0]


def catalogue(keystone: Keystone) -> set[tuple[str, str]]:
    """(type, interface) of all that project demo sees."""
    token = keystone.auth("demo", project="demo").json()["token"]
    return {(each["type"], row["interface"]) for each in token["catalog"] for row in each["endpoints"]}


def test_a_project_s_catalogue_is_what_it_is_associated_with(keystone: Keystone) -> None:
    project, whole = keystone.ids["projects"]["demo"], catalogue(keystone)
    image = endpoint(keystone, "image")
    path = f"{EP}/projects/{project}/endpoints/{image['id']}"
    assert keystone.get(path).status_code == keystone.delete(path).status_code == 404
    assert keystone.put(path).status_code == 204
    assert keystone.put(path).status_code == 409
    assert keystone.get(path).status_code == 204
    assert catalogue(keystone) == {("image", "public")}
    body = {"endpoint_group": {"name": "g", "description": "d", "filters": {"interface": "internal"}}}
    group = keystone.post(f"{EP}/endpoint_groups", body).json()["endpoint_group"]
    own = f"{EP}/endpoint_groups/{group['id']}"
    members = {row["interface"] for row in keystone.get(f"{own}/endpoints").json()["endpoints"]}
    assert members == {"internal"}
    assert keystone.get(f"{own}/projects/{project}").status_code == 404
    assert keystone.put(f"{own}/projects/{project}").status_code == 204
    shown = keystone.get(f"{own}/projects/{project}").json()["project_endpoint_group"]
    assert (shown["endpoint_group_id"], shown["project_id"]) == (group["id"], project)
    kinds = {kind for kind, _ in whole}
    assert catalogue(keystone) == {("image", "public")} | {(kind, "internal") for kind in kinds}
    listed = keystone.get(f"{EP}/projects/{project}/endpoints").json()["endpoints"]
    assert len(listed) == len(kinds) + 1
    assert [row["id"] for row in keystone.get(f"{own}/projects").json()["projects"]] == [project]
    assert [row["id"] for row in keystone.get(f"{EP}/endpoints/{image['id']}/projects").json()["projects"]] == [project]
    groups = keystone.get(f"{EP}/projects/{project}/endpoint_groups").json()["endpoint_groups"]
    assert [row["id"] for row in groups] == [group["id"]]
    assert keystone.delete(path).status_code == 204
    assert keystone.delete(f"{own}/projects/{project}").status_code == 204
    assert catalogue(keystone) == whole


def test_endpoint_groups(keystone: Keystone) -> None:
    def post(**asked: Any) -> Any:
        body = {"name": "g", "filters": {"region_id": "RegionOne"}, **asked}
        return keystone.post(f"{EP}/endpoint_groups", {"endpoint_group": body})

    made = post().json()["endpoint_group"]
    path = f"{EP}/endpoint_groups/{made['id']}"
    assert keystone.get(path).json()["endpoint_group"] == made
    for wrong in ({"filters": {}}, {"filters": {"colour": "red"}}, {"filters": {"interface": "odd"}}, {"name": ""}):
        assert post(**wrong).status_code == 400, wrong
    changed = keystone.patch(path, {"endpoint_group": {"name": "h", "filters": {"interface": "admin"}}})
    assert (changed.json()["endpoint_group"]["name"], changed.status_code) == ("h", 200)
    assert keystone.patch(path, {"endpoint_group": {"filters": {"colour": "red"}}}).status_code == 400
    assert len(keystone.get(f"{EP}/endpoint_groups?name=h").json()["endpoint_groups"]) == 1
    assert keystone.get(f"{EP}/endpoint_groups?name=g").json()["endpoint_groups"] == []
    demo = keystone.login("demo", project="demo")
    assert keystone.get(path, demo).status_code == keystone.delete(path, demo).status_code == 403
    assert keystone.delete(path).status_code == 204
    assert keystone.get(path).status_code == 404


def test_an_endpoint_s_policy_is_the_nearest(keystone: Keystone) -> None:
    where = endpoint(keystone, "image")
    own = f"/v3/endpoints/{where['id']}/OS-ENDPOINT-POLICY/policy"
    assert keystone.get(own).status_code == 404
    regions = [keystone.put(f"/v3/regions/{name}", {"region": {}}).json()["region"]["id"] for name in ("above",)]
    keystone.patch("/v3/regions/RegionOne", {"region": {"parent_region_id": regions[0]}})
    bonds = {}
    for kind, path in (
        ("service", f"services/{where['service_id']}"),
        ("above", f"services/{where['service_id']}/regions/above"),
        ("region", f"services/{where['service_id']}/regions/RegionOne"),
        ("endpoint", f"endpoints/{where['id']}"),
    ):
        policy = keystone.post("/v3/policies", {"policy": {"type": kind, "blob": "b"}}).json()["policy"]
        base = f"/v3/policies/{policy['id']}/OS-ENDPOINT-POLICY"
        bonds[kind] = f"{base}/{path}"
        assert keystone.get(f"{base}/{path}").status_code == 404
        assert keystone.put(f"{base}/{path}").status_code == 204
        assert keystone.put(f"{base}/{path}").status_code == keystone.get(f"{base}/{path}").status_code == 204
        assert keystone.get(own).json()["policy"]["type"] == kind
        assert where["id"] in [row["id"] for row in keystone.get(f"{base}/endpoints").json()["endpoints"]]
    assert keystone.delete(f"{base}/{path}").status_code == 204
    assert keystone.delete(f"{base}/{path}").status_code == 404
    assert keystone.get(own).json()["policy"]["type"] == "region"
    assert keystone.get(f"{base}/endpoints").json()["endpoints"] == []
    assert keystone.delete(bonds["region"]).status_code == 204
    assert keystone.get(own).json()["policy"]["type"] == "above"
    for row in keystone.get("/v3/policies").json()["policies"]:
        assert keystone.delete(f"/v3/policies/{row['id']}").status_code == 204
    assert keystone.get(own).status_code == 404


def test_consumers(keystone: Keystone) -> None:
    answer = keystone.post("/v3/OS-OAUTH1/consumers", {"consumer": {"description": "d", "colour": "red"}})
    assert answer.status_code == 201
    made = answer.json()["consumer"]
    path = f"/v3/OS-OAUTH1/consumers/{made['id']}"
    assert len(made.pop("secret")) == 32
    assert (made["description"], made["colour"]) == ("d", "red")
    assert keystone.get(path).json()["consumer"] == made
    assert keystone.get("/v3/OS-OAUTH1/consumers").json()["consumers"] == [made]
    changed = keystone.patch(path, {"consumer": {"description": "e"}}).json()["consumer"]
    assert changed["description"] == "e" and "secret" not in changed
    assert keystone.patch(path, {"consumer": {"secret": "mine"}}).status_code == 400
    demo = keystone.login("demo", project="demo")
    assert keystone.get(path, demo).status_code == keystone.delete(path, demo).status_code == 403
    assert keystone.delete(path).status_code == 204
    assert keystone.get(path).status_code == 404


def test_revocation_events(keystone: Keystone) -> None:
    user = keystone.make("user", name="u", password="secret")
    project = keystone.make("project", name="p")
    token = keystone.login("u")
    audit = keystone.get("/v3/auth/tokens", X_Subject_Token=token).json()["token"]["audit_ids"][0]
    assert keystone.get("/v3/OS-REVOKE/events").json()["events"] == []
    keystone.delete("/v3/auth/tokens", X_Subject_Token=token)
    keystone.delete(f"/v3/users/{user['id']}/tokens")
    keystone.patch(f"/v3/projects/{project['id']}", {"project": {"enabled": False}})
    events = keystone.get("/v3/OS-REVOKE/events").json()["events"]
    assert [(event.get("audit_id"), event.get("user_id"), event.get("project_id")) for event in events] == [
        (audit, None, None), (None, user["id"], None), (None, None, project["id"]),
    ]  # fmt: skip
    last = events[-1]["revoked_at"]
    assert keystone.get(f"/v3/OS-REVOKE/events?since={last}").json()["events"] == events[-1:]
    assert keystone.get("/v3/OS-REVOKE/events?since=yesterday").status_code == 400
    assert keystone.get("/v3/OS-REVOKE/events", keystone.login("demo", project="demo")).status_code == 403


def test_all_tokens_of_a_user_are_ended(keystone: Keystone) -> None:
    demo = keystone.login("demo", project="demo")
    path = f"/v3/users/{keystone.ids['users']['demo']}/tokens"
    assert keystone.delete(path, demo).status_code == 403
    assert keystone.delete(path).status_code == 204
    assert keystone.get("/v3/auth/projects", demo).status_code == 401
    assert keystone.get("/v3/auth/projects", keystone.login("demo")).status_code == 200
