"""Projects, users, groups, roles and the catalogue at the door, as admins, domain managers and plain users see them."""

from typing import Any

import pytest
from identity_client import Keystone

from kilonova.db.engine import Database
from statements import statements


@pytest.fixture
def keystone(database: Database) -> Keystone:
    return Keystone(database)


def names(answer: Any, kind: str) -> set[str]:
    assert answer.status_code == 200, answer.text
    return {row["name"] for row in answer.json()[kind]}


def test_a_domain_s_own_role_is_given_on_any_domain_but_not_in_another_s_project(keystone: Keystone) -> None:
    domain = keystone.post("/v3/domains", {"domain": {"name": "elsewhere"}}).json()["domain"]["id"]
    role = keystone.post("/v3/roles", {"role": {"name": "own", "domain_id": "default"}}).json()["role"]["id"]
    project = keystone.post("/v3/projects", {"project": {"name": "p", "domain_id": domain}}).json()["project"]["id"]
    user = keystone.ids["users"]["demo"]
    assert keystone.put(f"/v3/domains/{domain}/users/{user}/roles/{role}").status_code == 204
    assert keystone.put(f"/v3/projects/{project}/users/{user}/roles/{role}").status_code == 403


def test_discovery(keystone: Keystone) -> None:
    root = keystone.get("/", token="")
    assert root.status_code == 300
    (version,) = root.json()["versions"]["values"]
    assert version["id"] == "v3.14"
    assert version["links"][0]["href"] == root.headers["Location"] == "http://testserver/identity/v3/"
    assert keystone.get("/v3", token="").json()["version"] == version
    assert keystone.get("/v3/", token="").json()["version"] == version


def test_user_life(keystone: Keystone) -> None:
    user = keystone.make("user", name="ann", password="secret", email="a@example.org")
    assert user["domain_id"] == "default"
    assert user["email"] == "a@example.org"
    assert "password" not in user
    assert user["links"]["self"].endswith(f"/identity/v3/users/{user['id']}")
    path = f"/v3/users/{user['id']}"
    changed = keystone.patch(path, {"user": {"name": "anna", "email": None, "shoe": "41"}}).json()["user"]
    assert (changed["name"], changed.get("email"), changed["shoe"]) == ("anna", None, "41")
    assert keystone.get(path).json()["user"] == changed
    assert names(keystone.get("/v3/users?name=anna"), "users") == {"anna"}
    assert names(keystone.get("/v3/users?name__startswith=an"), "users") == {"anna"}
    assert names(keystone.get("/v3/users?enabled=false"), "users") == set()
    assert keystone.post("/v3/users", {"user": {"name": "anna"}}).status_code == 409
    assert keystone.patch(path, {"user": {"name": "demo"}}).status_code == 409
    assert keystone.delete(path).status_code == 204
    assert keystone.get(path).json()["error"]["message"] == f"Could not find user: {user['id']}."
    assert keystone.delete(path).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v3/users", {"user": {}}, 400),
        ("POST", "/v3/users", {"user": {"name": ""}}, 400),
        ("POST", "/v3/users", {"user": {"name": 7}}, 400),
        ("POST", "/v3/users", {"user": {"name": "n" * 256}}, 400),
        ("POST", "/v3/users", {"user": {"name": "n", "enabled": "yes"}}, 400),
        ("POST", "/v3/users", {"user": {"name": "n", "domain_id": "none-such"}}, 404),
        ("POST", "/v3/users", {}, 400),
        ("POST", "/v3/users", None, 400),
        ("POST", "/v3/domains", {"domain": {"name": "n" * 65}}, 400),
        ("POST", "/v3/domains", {"domain": {"name": "Default"}}, 409),
        ("POST", "/v3/projects", {"project": {"name": "n", "parent_id": "none-such"}}, 404),
        ("POST", "/v3/projects", {"project": {"name": "n", "tags": ["a,b"]}}, 400),
        ("POST", "/v3/roles", {"role": {"name": "admin"}}, 409),
        ("POST", "/v3/endpoints", {"endpoint": {"service_id": "x", "interface": "odd", "url": "http://x"}}, 400),
        ("POST", "/v3/endpoints", {"endpoint": {"service_id": "x", "interface": "public", "url": "http://x"}}, 400),
        ("POST", "/v3/services", {"service": {"type": "x", "enabled": "True"}}, 400),
        ("POST", "/v3/regions", {"region": {"parent_region_id": "none-such"}}, 404),
        ("POST", "/v3/regions", {"region": {"id": "RegionOne"}}, 409),
        ("DELETE", "/v3/regions/RegionOne", None, 403),
        ("DELETE", "/v3/domains/default", None, 403),
        ("POST", "/v3/users", {"user": {"name": "u", "federated": [{"idp_id": "x", "protocols": [{}]}]}}, 400),
        ("POST", "/v3/users", {"user": {"name": "u", "federated": [{"idp_id": "x", "protocols": []}]}}, 400),
        ("POST", "/v3/users", {"user": {"name": "u", "options": {"multi_factor_auth_rules": [[]]}}}, 400),
        ("POST", "/v3/users", {"user": {"name": "u", "options": {"lock_password": "yes"}}}, 400),
        ("POST", "/v3/roles", {"role": {"name": "r", "options": {"odd": True}}}, 400),
        ("GET", "/v3/users?marker=none-such", None, 404),
        ("GET", "/v3/users?limit=-1", None, 400),
        ("GET", "/v3/none-such", None, 404),
        ("PUT", "/v3/users", None, 405),
        ("PUT", "/v3/projects/none-such/users/none-such/roles/none-such", None, 404),
        ("GET", "/v3/role_assignments?user.id=a&group.id=b", None, 400),
    ],
)
def test_wrong_input(keystone: Keystone, method: str, path: str, body: Any, status: int) -> None:
    answer = keystone.request(method, path, body)
    assert answer.status_code == status, answer.text
    assert len(answer.json()["error"]["message"]) > 15
    assert ("Allow" in answer.headers) is (status == 405)


def test_filters_given_twice(keystone: Keystone) -> None:
    """Both must fit, however many there are."""
    names = lambda query: [user["name"] for user in keystone.get(f"/v3/users?{query}").json()["users"]]  # noqa: E731
    assert names("name=demo&name=demo") == ["demo"]
    assert names("name=demo&name=admin") == names("enabled=true&enabled=false") == []
    assert names("name__startswith=d&name__contains=em") == ["demo"]
    many = "&".join(f"name=n{number}" for number in range(2500))
    for kind in ("users", "groups", "projects", "domains", "roles"):
        assert keystone.get(f"/v3/{kind}?{many}").json()[kind] == []


def test_pages(keystone: Keystone) -> None:
    assert keystone.get(f"/v3/users?limit={'9' * 4400}").status_code == 200
    for number in range(5):
        keystone.make("user", name=f"u{number}")
    seen, url = [], "/v3/users?limit=3"
    while url:
        body = keystone.get(url).json()
        seen += [row["name"] for row in body["users"]]
        assert len(body["users"]) <= 3
        following = body["links"]["next"]
        assert bool(following) == bool(body.get("truncated"))
        url = following.removeprefix("http://testserver/identity") if following else None
    assert sorted(seen) == ["admin", "demo", "u0", "u1", "u2", "u3", "u4"]


def test_project_tree(keystone: Keystone) -> None:
    top = keystone.make("project", name="top", description="d", colour="red")
    assert (top["parent_id"], top["domain_id"], top["is_domain"], top["colour"]) == ("default", "default", False, "red")
    child = keystone.make("project", name="child", parent_id=top["id"])
    shown = keystone.get(f"/v3/projects/{child['id']}?parents_as_ids").json()["project"]
    assert shown["parents"] == {top["id"]: {"default": None}}
    shown = keystone.get(f"/v3/projects/{top['id']}?subtree_as_ids").json()["project"]
    assert shown["subtree"] == {child["id"]: None}
    assert names(keystone.get(f"/v3/projects?parent_id={top['id']}"), "projects") == {"child"}
    assert keystone.delete(f"/v3/projects/{top['id']}").status_code == 403
    assert keystone.delete(f"/v3/projects/{child['id']}").status_code == 204
    assert keystone.delete(f"/v3/projects/{top['id']}").status_code == 204


def test_how_deep_projects_go(keystone: Keystone) -> None:
    parent, chain = "default", []
    for level in range(5):
        chain.append(keystone.make("project", name=f"p{level}", parent_id=parent)["id"])
        parent = chain[-1]
    deeper = keystone.post("/v3/projects", {"project": {"name": "deeper", "parent_id": parent}})
    assert (deeper.status_code, "Max hierarchy depth reached" in deeper.text) == (403, True)
    shown = keystone.get(f"/v3/projects/{chain[2]}?parents_as_ids&subtree_as_ids").json()["project"]
    assert shown["parents"] == {chain[1]: {chain[0]: {"default": None}}}
    assert shown["subtree"] == {chain[3]: {chain[4]: None}}
    role, admin = keystone.ids["roles"]["reader"], keystone.ids["users"]["admin"]
    grant = f"/v3/OS-INHERIT/projects/{chain[0]}/users/{admin}/roles/{role}/inherited_to_projects"
    assert keystone.put(grant).status_code == 204
    shown = keystone.get(f"/v3/projects/{chain[2]}?parents_as_list&subtree_as_list").json()["project"]
    assert [each["project"]["id"] for each in shown["parents"]] == [chain[1]]
    assert [each["project"]["id"] for each in shown["subtree"]] == chain[3:]
    off = {"project": {"enabled": False}}
    assert keystone.patch(f"/v3/projects/{chain[3]}", off).status_code == 403
    assert keystone.patch(f"/v3/projects/{chain[4]}", off).status_code == 200
    assert keystone.patch(f"/v3/projects/{chain[3]}", off).status_code == 200
    assert keystone.patch(f"/v3/projects/{chain[4]}", {"project": {"enabled": True}}).status_code == 403
    under = keystone.post("/v3/projects", {"project": {"name": "u", "parent_id": chain[3]}})
    assert (under.status_code, "disabled project" in under.text) == (403, True)
    query = f"scope.project.id={chain[0]}&include_subtree=1&effective&user.id={admin}"
    rows = keystone.get(f"/v3/role_assignments?{query}").json()["role_assignments"]
    assert {row["scope"]["project"]["id"] for row in rows} == set(chain[1:])
    assert keystone.delete(f"/v3/projects/{chain[0]}?cascade=1").status_code == 204
    assert keystone.get(f"/v3/projects/{chain[4]}").status_code == 404


def test_immutable(keystone: Keystone) -> None:
    project = keystone.make("project", name="rock", options={"immutable": True})
    path = f"/v3/projects/{project['id']}"
    assert keystone.patch(path, {"project": {"name": "sand"}}).status_code == 403
    assert keystone.delete(path).status_code == 403
    assert keystone.patch(path, {"project": {"options": {"immutable": False}}}).status_code == 200
    assert keystone.delete(path).status_code == 204


def test_the_roles_that_rules_name_are_immutable(keystone: Keystone) -> None:
    """As keystone-manage bootstrap makes them: else one slip ends whoever could mend it."""
    for name, key in keystone.ids["roles"].items():
        assert keystone.get(f"/v3/roles/{key}").json()["role"]["options"] == {"immutable": True}, name
        assert keystone.delete(f"/v3/roles/{key}").status_code == 403
        assert keystone.patch(f"/v3/roles/{key}", {"role": {"name": "boss"}}).status_code == 403
    assert keystone.post("/v3/roles", {"role": {"name": "r", "domain_id": "f" * 32}}).status_code == 404
    free = {"role": {"options": {"immutable": False}}}
    reader = keystone.ids["roles"]["reader"]
    assert keystone.patch(f"/v3/roles/{reader}", free).status_code == 200
    assert keystone.delete(f"/v3/roles/{reader}").status_code == 204


def test_tags(keystone: Keystone) -> None:
    project = keystone.make("project", name="p", tags=["red"])
    path = f"/v3/projects/{project['id']}/tags"
    assert keystone.put(f"{path}/blue").status_code == 201
    assert keystone.get(f"{path}/blue").status_code == 204
    assert keystone.get(f"{path}/green").status_code == 404
    assert keystone.get(path).json()["tags"] == ["red", "blue"]
    assert names(keystone.get("/v3/projects?tags=red,blue"), "projects") == {"p"}
    assert names(keystone.get("/v3/projects?tags-any=red,green"), "projects") == {"p"}
    assert "p" not in names(keystone.get("/v3/projects?not-tags-any=red"), "projects")
    assert keystone.put(path, {"tags": ["one"]}).json()["tags"] == ["one"]
    assert keystone.delete(f"{path}/two").status_code == 404
    assert keystone.delete(f"{path}/one").status_code == 204
    assert keystone.delete(path).status_code == 204
    assert keystone.get(path).json()["tags"] == []


def test_domain_takes_its_content_along(keystone: Keystone) -> None:
    domain = keystone.make("domain", name="d", description="x")
    user = keystone.make("user", name="u", domain_id=domain["id"])
    project = keystone.make("project", name="p", domain_id=domain["id"])
    group = keystone.make("group", name="g", domain_id=domain["id"])
    path = f"/v3/domains/{domain['id']}"
    assert keystone.delete(path).status_code == 403
    assert keystone.patch(path, {"domain": {"enabled": False}}).json()["domain"]["enabled"] is False
    assert names(keystone.get("/v3/domains?enabled=false"), "domains") == {"d"}
    assert keystone.delete(path).status_code == 204
    for kind, row in (("user", user), ("project", project), ("group", group)):
        assert keystone.get(f"/v3/{kind}s/{row['id']}").status_code == 404


def test_groups_give_roles(keystone: Keystone) -> None:
    ids, group = keystone.ids, keystone.make("group", name="ops")
    member = f"/v3/groups/{group['id']}/users/{ids['users']['demo']}"
    keystone.put(f"/v3/projects/{ids['projects']['service']}/groups/{group['id']}/roles/{ids['roles']['manager']}")
    assert keystone.auth("demo", project="service").status_code == 401
    assert keystone.get(member).status_code == 404
    assert keystone.put(member).status_code == 204
    assert keystone.get(member).status_code == 204
    token = keystone.auth("demo", project="service").json()["token"]
    assert {role["name"] for role in token["roles"]} == {"manager", "member", "reader"}
    assert names(keystone.get(f"/v3/users/{ids['users']['demo']}/groups"), "groups") == {"ops"}
    assert names(keystone.get(f"/v3/groups/{group['id']}/users"), "users") == {"demo"}
    effective = keystone.get(
        f"/v3/role_assignments?effective&user.id={ids['users']['demo']}&scope.project.id={ids['projects']['service']}"
    ).json()["role_assignments"]
    assert len(effective) == 3
    assert all("membership" in row["links"] for row in effective)
    assert keystone.delete(f"/v3/groups/{group['id']}").status_code == 204
    assert keystone.auth("demo", project="service").status_code == 401


def test_inherited_roles(keystone: Keystone) -> None:
    ids = keystone.ids
    grant = f"/v3/OS-INHERIT/domains/default/users/{ids['users']['demo']}/roles/{ids['roles']['reader']}"
    grant += "/inherited_to_projects"
    assert keystone.put(grant).status_code == 204
    assert keystone.request("HEAD", grant).status_code == 204
    assert keystone.auth("demo", domain="Default").status_code == 401
    token = keystone.auth("demo", project="service").json()["token"]
    assert [role["name"] for role in token["roles"]] == ["reader"]
    rows = keystone.get("/v3/role_assignments?scope.OS-INHERIT:inherited_to=projects&include_names").json()
    (row,) = rows["role_assignments"]
    assert row["scope"] == {"domain": {"id": "default", "name": "Default"}, "OS-INHERIT:inherited_to": "projects"}
    assert row["role"]["name"] == "reader"
    assert keystone.delete(grant).status_code == 204
    assert keystone.auth("demo", project="service").status_code == 401


def test_grants(keystone: Keystone) -> None:
    ids = keystone.ids
    base = f"/v3/projects/{ids['projects']['demo']}/users/{ids['users']['demo']}/roles"
    assert names(keystone.get(base), "roles") == {"member"}
    assert keystone.get(f"{base}/{ids['roles']['reader']}").status_code == 404
    assert keystone.put(f"{base}/{ids['roles']['reader']}").status_code == 204
    assert keystone.put(f"{base}/{ids['roles']['reader']}").status_code == 204
    assert keystone.delete(f"{base}/{ids['roles']['reader']}").status_code == 204
    assert keystone.delete(f"{base}/{ids['roles']['reader']}").status_code == 404
    system = f"/v3/system/users/{ids['users']['demo']}/roles/{ids['roles']['reader']}"
    assert keystone.put(system).status_code == 204
    reader = keystone.login("demo", system="all")
    assert names(keystone.get("/v3/users", reader), "users") == {"admin", "demo"}
    assert keystone.post("/v3/users", {"user": {"name": "x"}}, reader).status_code == 403
    listed = keystone.get("/v3/role_assignments?scope.system=all").json()
    assert len(listed["role_assignments"]) == 2
    assert listed["links"]["self"].endswith("/v3/role_assignments?scope.system=all")


def test_implied_roles(keystone: Keystone) -> None:
    role = keystone.make("role", name="auditor", description="looks")
    ids = keystone.ids["roles"]
    path = f"/v3/roles/{role['id']}/implies/{ids['reader']}"
    assert keystone.get(path).status_code == 404
    assert keystone.put(path).status_code == 201
    assert keystone.put(path).status_code == 409
    assert keystone.request("HEAD", path).status_code == 204
    body = keystone.get(f"/v3/roles/{role['id']}/implies").json()["role_inference"]
    assert [each["name"] for each in body["implies"]] == ["reader"]
    inferences = keystone.get("/v3/role_inferences").json()["role_inferences"]
    assert {each["prior_role"]["name"] for each in inferences} == {"admin", "manager", "member", "auditor"}
    assert keystone.put(f"/v3/roles/{role['id']}/implies/{ids['admin']}").status_code == 403
    assert keystone.delete(path).status_code == 204
    assert keystone.delete(f"/v3/roles/{role['id']}").status_code == 204


def test_plain_users_see_only_themselves(keystone: Keystone) -> None:
    demo, ids = keystone.login("demo", project="demo"), keystone.ids
    assert keystone.get(f"/v3/users/{ids['users']['demo']}", demo).status_code == 200
    assert keystone.get(f"/v3/projects/{ids['projects']['demo']}", demo).status_code == 200
    assert names(keystone.get(f"/v3/users/{ids['users']['demo']}/projects", demo), "projects") == {"demo"}
    for path in (
        "/v3/users",
        f"/v3/users/{ids['users']['admin']}",
        "/v3/users/none-such",
        "/v3/projects",
        f"/v3/projects/{ids['projects']['admin']}",
        "/v3/services",
        "/v3/endpoints",
        "/v3/roles",
        "/v3/role_assignments",
        "/v3/groups",
        f"/v3/users/{ids['users']['admin']}/projects",
    ):
        answer = keystone.get(path, demo)
        assert answer.status_code == 403, path
        assert "You are not authorized to perform the requested action: identity:" in answer.json()["error"]["message"]
    assert keystone.delete(f"/v3/projects/{ids['projects']['demo']}", demo).status_code == 403
    assert keystone.get("/v3/regions", demo).status_code == 200


def test_a_domain_manager_stays_in_the_domain(keystone: Keystone) -> None:
    domain = keystone.make("domain", name="d")
    boss = keystone.make("user", name="boss", password="secret", domain_id=domain["id"])
    keystone.put(f"/v3/domains/{domain['id']}/users/{boss['id']}/roles/{keystone.ids['roles']['manager']}")
    who = {"id": boss["id"], "password": "secret"}
    asked = {"identity": {"methods": ["password"], "password": {"user": who}}, "scope": {"domain": {"name": "d"}}}
    token = keystone.request("POST", "/v3/auth/tokens", {"auth": asked}, token="").headers["X-Subject-Token"]
    made = keystone.post("/v3/users", {"user": {"name": "w"}}, token)
    assert made.json()["user"]["domain_id"] == domain["id"]
    project = keystone.post("/v3/projects", {"project": {"name": "p"}}, token).json()["project"]
    assert project["domain_id"] == domain["id"]
    assert names(keystone.get("/v3/users", token), "users") == {"boss", "w"}
    assert names(keystone.get("/v3/projects", token), "projects") == {"p"}
    grant = f"/v3/projects/{project['id']}/users/{made.json()['user']['id']}/roles"
    assert keystone.put(f"{grant}/{keystone.ids['roles']['member']}", token=token).status_code == 204
    assert keystone.put(f"{grant}/{keystone.ids['roles']['admin']}", token=token).status_code == 403
    foreign = {"user": {"name": "x", "domain_id": "default"}}
    assert keystone.post("/v3/users", foreign, token).status_code == 403
    assert keystone.delete(f"/v3/users/{keystone.ids['users']['demo']}", token).status_code == 403
    assert keystone.post("/v3/domains", {"domain": {"name": "e"}}, token).status_code == 403
    # Whether there is such a thing elsewhere is not told, nor what is wrong with it.
    for place in ({"parent_id": keystone.ids["projects"]["demo"]}, {"parent_id": "f" * 32}, {"domain_id": "f" * 32},
                  {"parent_id": keystone.ids["projects"]["demo"], "domain_id": domain["id"]}):  # fmt: skip
        answer = keystone.post("/v3/projects", {"project": {"name": "x", **place}}, token)
        assert answer.status_code == 403 and "identity:create_project" in answer.text


def test_a_domain_s_own_roles_are_for_administrators_and_readers_of_the_system(keystone: Keystone) -> None:
    """As Keystone's get_domain_role and its like have it; global roles are for readers of any domain."""
    domain = keystone.make("domain", name="d")
    role = keystone.make("role", name="secret", domain_id=domain["id"])
    demo, roles = keystone.ids["users"]["demo"], keystone.ids["roles"]
    keystone.put(f"/v3/domains/default/users/{demo}/roles/{roles['manager']}")
    keystone.put(f"/v3/system/users/{demo}/roles/{roles['reader']}")
    manager, system = keystone.login("demo", domain="Default"), keystone.login("demo", system="all")
    assert "secret" not in names(keystone.get("/v3/roles", manager), "roles")
    assert keystone.get(f"/v3/roles?domain_id={domain['id']}", manager).status_code == 403
    unseen, unknown = (keystone.get(f"/v3/roles/{key}", manager) for key in (role["id"], "f" * 32))
    assert unseen.status_code == unknown.status_code == 404
    assert unseen.text == unknown.text.replace("f" * 32, role["id"])
    assert keystone.get(f"/v3/roles/{roles['member']}", manager).status_code == 200
    for token in (system, keystone.admin):
        assert names(keystone.get(f"/v3/roles?domain_id={domain['id']}", token), "roles") == {"secret"}
        assert keystone.get(f"/v3/roles/{role['id']}", token).status_code == 200
    assert keystone.patch(f"/v3/roles/{role['id']}", {"role": {"description": "d"}}).status_code == 200
    assert keystone.delete(f"/v3/roles/{role['id']}").status_code == 204


def test_catalogue(keystone: Keystone) -> None:
    service = keystone.make("service", type="object-store", name="swift", description="o")
    region = keystone.put("/v3/regions/far", {"region": {"description": "away", "parent_region_id": "RegionOne"}})
    assert region.status_code == 201
    url = "http://far/v1/AUTH_$(project_id)s"
    endpoint = keystone.make("endpoint", service_id=service["id"], interface="public", url=url, region_id="far")
    assert (endpoint["url"], endpoint["region"], endpoint["region_id"]) == (url, "far", "far")
    entry = next(e for e in keystone.get("/v3/auth/catalog").json()["catalog"] if e["type"] == "object-store")
    assert entry["endpoints"][0]["url"] == f"http://far/v1/AUTH_{keystone.ids['projects']['admin']}"
    assert len(keystone.get(f"/v3/endpoints?service_id={service['id']}").json()["endpoints"]) == 1
    changed = keystone.patch(f"/v3/endpoints/{endpoint['id']}", {"endpoint": {"enabled": False}})
    assert changed.json()["endpoint"]["enabled"] is False
    entry = next(e for e in keystone.get("/v3/auth/catalog").json()["catalog"] if e["type"] == "object-store")
    assert entry["endpoints"] == []
    assert keystone.patch("/v3/regions/RegionOne", {"region": {"parent_region_id": "far"}}).status_code == 400
    assert keystone.delete("/v3/regions/far").status_code == 403
    assert keystone.delete(f"/v3/services/{service['id']}").status_code == 204
    assert keystone.get(f"/v3/endpoints/{endpoint['id']}").status_code == 404
    assert keystone.delete("/v3/regions/far").status_code == 204


def test_own_password(keystone: Keystone) -> None:
    path = f"/v3/users/{keystone.ids['users']['demo']}/password"
    wrong = {"user": {"original_password": "wrong", "password": "new"}}
    assert keystone.request("POST", path, wrong, token="").status_code == 401
    right = {"user": {"original_password": "demo-secret", "password": "new"}}
    assert keystone.request("POST", path, right, token="").status_code == 204
    assert keystone.auth("demo").status_code == 401
    assert keystone.auth("demo", "new").status_code == 201


def test_seeding_again_changes_nothing(keystone: Keystone, database: Database) -> None:
    from kilonova.identity.seed import seed

    keystone.delete(f"/v3/users/{keystone.ids['users']['demo']}")
    before = keystone.get("/v3/endpoints").json()
    again = database.write(lambda tx: seed(tx, admin_password="other", demo_password="other"))
    assert again["projects"] == keystone.ids["projects"]
    assert set(again["users"]) == {"admin"}
    assert keystone.get("/v3/endpoints").json() == before
    assert keystone.auth("admin", project="admin").status_code == 201


@pytest.mark.parametrize("path", ["/v3/users/%00", "/v3/users?name=%00", "/v3/projects?name__contains=%00"])
def test_a_zero_byte_is_wrong_input(keystone: Keystone, path: str) -> None:
    assert keystone.get(path).status_code == 400
    assert keystone.post("/v3/users", {"user": {"name": "a\0b"}}).status_code == 400


def test_a_page_of_users_reads_no_more_than_it_shows(keystone: Keystone) -> None:
    for number in range(7):
        keystone.post("/v3/users", {"user": {"name": f"page-{number}", "password": "secret"}})
    every = [user["id"] for user in keystone.get("/v3/users").json()["users"]]
    found: list[str] = []
    with statements(keystone.app.database) as seen:
        body = keystone.get("/v3/users?limit=2").json()
        while True:
            found += [user["id"] for user in body["users"]]
            if not body["links"]["next"]:
                break
            body = keystone.get(body["links"]["next"].partition("/identity")[2]).json()
    assert found == every
    pages = [text for text in seen if "FROM identity_users" in text and "ORDER BY" in text]
    assert len(pages) > 3 and all("LIMIT" in text for text in pages)
    assert keystone.get("/v3/users?limit=2&marker=nobody").status_code == 404


def test_effective_roles_are_worked_out_for_whom_and_where_they_are_asked(keystone: Keystone) -> None:
    """A domain's role of a group is one for each user in each project: of many, that was minutes, whoever was asked for."""
    group, ids = keystone.make("group", name="many"), keystone.ids
    grant = f"/v3/OS-INHERIT/domains/default/groups/{group['id']}/roles/{ids['roles']['reader']}/inherited_to_projects"
    assert keystone.put(grant).status_code == 204
    demo, project = ids["users"]["demo"], ids["projects"]["service"]
    keystone.put(f"/v3/groups/{group['id']}/users/{demo}")
    counts = []
    for more in range(0, 12, 6):
        for number in range(more):
            user = keystone.make("user", name=f"many-{number}")
            keystone.put(f"/v3/groups/{group['id']}/users/{user['id']}")
        with statements(keystone.app.database) as seen:
            body = keystone.get(f"/v3/role_assignments?effective&user.id={demo}&scope.project.id={project}").json()
        (row,) = body["role_assignments"]
        assert (row["user"]["id"], row["scope"]["project"]["id"]) == (demo, project) and "membership" in row["links"]
        counts.append(len(seen))
    assert counts[0] == counts[1]
    query = f"scope.project.id={ids['projects']['demo']}&role.id={ids['roles']['reader']}"
    on_demo = keystone.get(f"/v3/role_assignments?effective&{query}")
    assert len(on_demo.json()["role_assignments"]) > 7
