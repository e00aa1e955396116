"""Walks along Keystone's routes: a grant of every kind, and HEAD wherever there is GET."""

from typing import Any

import pytest
from identity_client import Keystone

from kilonova.db.engine import Database
from kilonova.identity.routes import SERVICE

TARGETS = ("projects/{projects}", "domains/{domains}", "system")
INHERITED = ("OS-INHERIT/projects/{projects}", "OS-INHERIT/domains/{domains}")
SINGULAR = {"policies": "policy"}


@pytest.fixture
def keystone(database: Database) -> Keystone:
    return Keystone(database)


def things(keystone: Keystone) -> dict[str, str]:
    """The id of one of each, by the collection's name."""
    names = {"project": {}, "user": {}, "group": {}, "role": {}, "domain": {}, "region": {}, "service": {"type": "t"},
             "policy": {"type": "t", "blob": "b"}}  # fmt: skip
    policies = {"policy": "policies"}
    found = {}
    for name, more in names.items():
        body = {name: {"name": "walked", **more} if name not in ("region", "policy") else more}
        answer = keystone.post(f"/v3/{policies.get(name, name + 's')}", body)
        assert answer.status_code == 201, answer.text
        found[policies.get(name, name + "s")] = answer.json()[name]["id"]
    endpoint = {"service_id": found["services"], "interface": "public", "url": "http://127.0.0.1/"}
    found["endpoints"] = keystone.make("endpoint", **endpoint)["id"]
    found["credentials"] = keystone.make("credential", type="cert", blob="b", user_id=found["users"])["id"]
    return found


@pytest.mark.parametrize("actor", ["users", "groups"])
@pytest.mark.parametrize("target", [*TARGETS, *INHERITED])
def test_a_grant_is_given_seen_and_taken(keystone: Keystone, target: str, actor: str) -> None:
    ids = things(keystone)
    tail = "/inherited_to_projects" if target in INHERITED else ""
    roles = f"/v3/{target.format(**ids)}/{actor}/{ids[actor]}/roles"
    grant = f"{roles}/{ids['roles']}{tail}"
    assert keystone.get(grant).status_code == keystone.request("HEAD", grant).status_code == 404
    assert keystone.put(grant).status_code == keystone.put(grant).status_code == 204
    assert keystone.get(grant).status_code == keystone.request("HEAD", grant).status_code == 204
    if target != INHERITED[0]:  # Keystone has no such list
        assert [role["id"] for role in keystone.get(roles + tail).json()["roles"]] == [ids["roles"]]
    assert keystone.delete(grant).status_code == 204
    assert keystone.delete(grant).status_code == 404


def test_what_is_made_is_changed_and_deleted(keystone: Keystone) -> None:
    ids = things(keystone)
    member = f"/v3/groups/{ids['groups']}/users/{ids['users']}"
    assert keystone.put(member).status_code == keystone.delete(member).status_code == 204
    assert keystone.get(member).status_code == 404
    assert keystone.patch(f"/v3/domains/{ids['domains']}", {"domain": {"enabled": False}}).status_code == 200
    for kind in (
        "endpoints",
        "credentials",
        "policies",
        "services",
        "regions",
        "groups",
        "roles",
        "users",
        "projects",
        "domains",
    ):
        name, path = SINGULAR.get(kind, kind[:-1]), f"/v3/{kind}/{ids[kind]}"
        words = {"blob": "changed"} if kind in ("credentials", "policies") else {"description": "changed"}
        changed = keystone.patch(path, {name: words})
        assert changed.status_code == 200 and words.items() <= changed.json()[name].items(), changed.text
        assert keystone.get(path).json()[name] == changed.json()[name]
        assert keystone.delete(path).status_code == 204, path
        assert keystone.get(path).status_code == 404, path


def beside(keystone: Keystone, ids: dict[str, str]) -> dict[str, str]:
    """Ids of what Keystone's extensions keep, each of the things that `ids` names bound to the others."""
    policy, service = f"/v3/policies/{ids['policies']}/OS-ENDPOINT-POLICY", f"services/{ids['services']}"
    made = {"name": "g", "filters": {"interface": "public"}}
    group = keystone.post("/v3/OS-EP-FILTER/endpoint_groups", {"endpoint_group": made}).json()["endpoint_group"]["id"]
    for bond in (
        *(f"{policy}/{each}" for each in (f"endpoints/{ids['endpoints']}", service, f"{service}/regions/{ids['regions']}")),
        f"/v3/OS-EP-FILTER/endpoint_groups/{group}/projects/{ids['projects']}",
        f"/v3/OS-EP-FILTER/projects/{ids['projects']}/endpoints/{ids['endpoints']}",
        f"/v3/projects/{ids['projects']}/users/{ids['users']}/roles/{ids['roles']}",
        f"/v3/projects/{keystone.ids['projects']['admin']}/users/{keystone.ids['users']['admin']}/roles/{ids['roles']}",
    ):  # fmt: skip
        assert keystone.put(bond).status_code == 204, bond
    quota = {"service_id": ids["services"], "resource_name": "r"}
    register = {"registered_limits": [{**quota, "default_limit": 5}]}
    limit = {"limits": [{**quota, "resource_limit": 3, "project_id": ids["projects"]}]}
    wish = {"name": "c", "access_rules": [{"service": "image", "method": "GET", "path": "/v2/images"}]}
    keystone.patch(f"/v3/users/{ids['users']}", {"user": {"password": "secret"}})
    own, base = keystone.login("walked", project="walked"), f"/v3/users/{ids['users']}"
    credential = keystone.post(f"{base}/application_credentials", {"application_credential": wish}, own).json()
    trust = {
        "trustor_user_id": keystone.ids["users"]["admin"], "trustee_user_id": ids["users"], "impersonation": False,
        "project_id": keystone.ids["projects"]["admin"], "roles": [{"id": ids["roles"]}],
    }  # fmt: skip
    consumer = keystone.post("/v3/OS-OAUTH1/consumers", {"consumer": {}}).json()["consumer"]["id"]
    return {
        "endpoint_groups": group, "consumers": consumer,
        "registered_limits": keystone.post("/v3/registered_limits", register).json()["registered_limits"][0]["id"],
        "limits": keystone.post("/v3/limits", limit).json()["limits"][0]["id"],
        "application_credentials": credential["application_credential"]["id"],
        "access_rules": credential["application_credential"]["access_rules"][0]["id"],
        "trusts": keystone.post("/v3/OS-TRUST/trusts", {"trust": trust}).json()["trust"]["id"],
    }  # fmt: skip


def test_head_answers_as_get_without_a_body(keystone: Keystone) -> None:
    ids: dict[str, Any] = things(keystone)
    keystone.put(f"/v3/groups/{ids['groups']}/users/{ids['users']}")
    implied = keystone.make("role", name="implied")["id"]
    keystone.put(f"/v3/roles/{ids['roles']}/implies/{implied}")
    keystone.put(f"/v3/projects/{ids['projects']}/tags/walked")
    access = keystone.post(f"/v3/users/{ids['users']}/credentials/OS-EC2", {"tenant_id": ids["projects"]})
    ids |= {"implies": implied, "tags": "walked", "OS-EC2": access.json()["credential"]["access"]} | beside(keystone, ids)
    good = 0
    for key in SERVICE.routes:
        method, path = key.split()
        unlisted = path.startswith("/v3/OS-INHERIT/projects/") and path.endswith("/roles/inherited_to_projects")
        if method != "GET" or unlisted:  # Keystone has no such list
            continue
        words, before = [], ""
        for word in path.strip("/").split("/"):
            words.append(ids.get(before, "none") if word.startswith("{") else word)
            before = word
        url = "/" + "/".join(words)
        shown = keystone.request("GET", url, X_Subject_Token=keystone.admin)
        head = keystone.request("HEAD", url, X_Subject_Token=keystone.admin)
        checked = (
            204 if url.endswith(f"/implies/{implied}") else shown.status_code
        )  # as Keystone checks an implied role
        assert (head.status_code, head.content) == (checked, b""), url
        good += shown.status_code < 400
    assert good > 75
