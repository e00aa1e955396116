"""Tokens at the door: how one gets them, what they say, and when they end."""

import time

import pytest
from identity_client import ROOT, Keystone

from kilonova.db.engine import Database
from kilonova.identity import tokens
from statements import statements

CATALOG = {"identity", "compute", "network", "image", "placement", "block-storage", "volumev3"}


@pytest.fixture
def keystone(database: Database) -> Keystone:
    return Keystone(database)


def test_project_token_tells_who_where_and_the_catalog(keystone: Keystone) -> None:
    answer = keystone.auth("demo", project="demo")
    assert answer.status_code == 201
    token = answer.json()["token"]
    assert token["user"]["name"] == "demo"
    assert token["user"]["domain"] == {"id": "default", "name": "Default"}
    assert token["project"]["id"] == keystone.ids["projects"]["demo"]
    assert {role["name"] for role in token["roles"]} == {"member", "reader"}
    assert token["methods"] == ["password"]
    assert len(token["audit_ids"]) == 1
    urls = {(s["type"], e["interface"]): e["url"] for s in token["catalog"] for e in s["endpoints"]}
    assert urls["identity", "public"] == f"{ROOT}/identity/v3"
    assert urls["compute", "internal"] == f"{ROOT}/compute/v2.1"
    assert {kind for kind, _ in urls} == CATALOG
    assert len(urls) == 3 * len(CATALOG)
    assert all(e["region"] == e["region_id"] == "RegionOne" for s in token["catalog"] for e in s["endpoints"])
    assert len(answer.headers["X-Subject-Token"]) < 255


def test_every_scope(keystone: Keystone) -> None:
    system = keystone.auth("admin", system="all").json()["token"]
    assert system["system"] == {"all": True}
    assert {role["name"] for role in system["roles"]} == {"admin", "manager", "member", "reader"}
    unscoped = keystone.auth("demo").json()["token"]
    assert not {"project", "domain", "system", "roles", "catalog"} & set(unscoped)
    assert keystone.auth("demo", domain="Default").status_code == 401
    keystone.put(f"/v3/domains/default/users/{keystone.ids['users']['demo']}/roles/{keystone.ids['roles']['reader']}")
    domain = keystone.auth("demo", domain="Default").json()["token"]
    assert domain["domain"] == {"id": "default", "name": "Default"}
    assert [role["name"] for role in domain["roles"]] == ["reader"]


def test_default_project_is_the_scope_when_none_is_asked(keystone: Keystone) -> None:
    demo, project = keystone.ids["users"]["demo"], keystone.ids["projects"]["demo"]
    keystone.patch(f"/v3/users/{demo}", {"user": {"default_project_id": project}})
    assert keystone.auth("demo").json()["token"]["project"]["id"] == project
    token = keystone.login("demo", project="demo")
    assert "project" not in keystone.rescope(token, "unscoped").json()["token"]


@pytest.mark.parametrize(
    ("user", "password", "scope"),
    [
        ("demo", "wrong", {"project": "demo"}),
        ("nobody", "wrong", {"project": "demo"}),
        ("demo", None, {"project": "admin"}),
        ("demo", None, {"project": "none-such"}),
        ("demo", None, {"system": "all"}),
        ("admin", None, {"domain": "none-such"}),
    ],
)
def test_refusals_do_not_tell_why(keystone: Keystone, user: str, password: str | None, scope: dict[str, str]) -> None:
    answer = keystone.auth(user, password, **scope)
    assert answer.status_code == 401
    assert answer.json()["error"]["message"] == "The request you have made requires authentication."
    assert answer.headers["WWW-Authenticate"] == f'Keystone uri="{ROOT}/identity"'


@pytest.mark.parametrize(
    ("auth", "status", "words"),
    [
        ({}, 400, "identity"),
        ({"identity": {}}, 400, "methods"),
        ({"identity": {"methods": []}}, 400, "methods"),
        ({"identity": {"methods": ["password"]}}, 400, "password in identity"),
        (
            {"identity": {"methods": ["password"], "password": {"user": {"name": "demo", "password": "x"}}}},
            400,
            "domain",
        ),
        ({"identity": {"methods": ["password"], "password": {"user": {"password": "x"}}}}, 400, "name"),
        ({"identity": {"methods": ["retina"], "retina": {}}}, 401, "unsupported method"),
        ({"identity": {"methods": ["token"], "token": {"id": "gAAAA-not-ours"}}}, 401, "authentication"),
        ({"identity": {"methods": ["token"], "token": {"id": "\u00e4"}}}, 401, "authentication"),
    ],
)
def test_malformed_requests(keystone: Keystone, auth: object, status: int, words: str) -> None:
    answer = keystone.request("POST", "/v3/auth/tokens", {"auth": auth}, token="")
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


def test_two_scopes_at_once_are_refused(keystone: Keystone) -> None:
    token = keystone.login("demo")
    answer = keystone.rescope(token, {"system": {"all": True}, "domain": {"id": "default"}})
    assert answer.status_code == 400
    assert "scope" in answer.json()["error"]["message"]


def test_rescoping_keeps_the_end_and_the_audit_chain(keystone: Keystone) -> None:
    first = keystone.auth("demo", project="demo")
    old = first.json()["token"]
    new = keystone.rescope(first.headers["X-Subject-Token"], "unscoped")
    token = new.json()["token"]
    assert token["expires_at"] == old["expires_at"]
    assert token["audit_ids"][1:] == old["audit_ids"]
    assert set(token["methods"]) == {"password", "token"}
    third = keystone.rescope(new.headers["X-Subject-Token"], {"project": {"id": old["project"]["id"]}}).json()["token"]
    assert third["audit_ids"][1:] == old["audit_ids"]


def test_a_token_tells_the_same_times_ever_after(keystone: Keystone) -> None:
    for _ in range(30):
        made = keystone.auth("demo", project="demo")
        said = made.json()["token"]
        told = keystone.get("/v3/auth/tokens", X_Subject_Token=made.headers["X-Subject-Token"]).json()["token"]
        again = keystone.rescope(made.headers["X-Subject-Token"], "unscoped").json()["token"]
        assert (told["issued_at"], told["expires_at"]) == (said["issued_at"], said["expires_at"])
        assert again["expires_at"] == said["expires_at"]
        assert said["expires_at"].endswith(".000000Z")


def test_validation(keystone: Keystone) -> None:
    demo = keystone.login("demo", project="demo")
    told = keystone.get("/v3/auth/tokens", X_Subject_Token=demo)
    assert told.status_code == 200
    assert told.headers["X-Subject-Token"] == demo
    assert told.json()["token"]["user"]["name"] == "demo"
    assert "catalog" not in keystone.get("/v3/auth/tokens?nocatalog", X_Subject_Token=demo).json()["token"]
    assert keystone.request("HEAD", "/v3/auth/tokens", X_Subject_Token=demo).status_code == 200
    assert keystone.get("/v3/auth/tokens", demo, X_Subject_Token=demo).status_code == 200
    assert keystone.get("/v3/auth/tokens", demo, X_Subject_Token=keystone.admin).status_code == 403
    assert keystone.get("/v3/auth/tokens").status_code == 404
    assert keystone.get("/v3/auth/tokens", X_Subject_Token="gAAAAnonsense").status_code == 404
    assert keystone.get("/v3/users", token="gAAAAnonsense").status_code == 401
    assert keystone.get("/v3/users", token="").status_code == 401


def test_a_revoked_token_is_gone_at_once(keystone: Keystone) -> None:
    demo = keystone.login("demo", project="demo")
    assert keystone.get("/v3/auth/projects", demo).status_code == 200
    assert keystone.delete("/v3/auth/tokens", X_Subject_Token=demo).status_code == 204
    assert keystone.get("/v3/auth/projects", demo).status_code == 401
    assert keystone.get("/v3/auth/tokens", X_Subject_Token=demo).status_code == 404
    assert keystone.rescope(demo).status_code == 401
    assert keystone.get("/v3/auth/projects", keystone.login("demo")).status_code == 200


def test_who_may_look_at_a_token_may_not_end_it(keystone: Keystone) -> None:
    service, looker = (keystone.make("user", name=name, password="secret")["id"] for name in ("nova", "looker"))
    roles = {role["name"]: role["id"] for role in keystone.get("/v3/roles").json()["roles"]}
    project = keystone.ids["projects"]["demo"]
    assert keystone.put(f"/v3/projects/{project}/users/{service}/roles/{roles['service']}").status_code == 204
    assert keystone.put(f"/v3/system/users/{looker}/roles/{roles['reader']}").status_code == 204
    demo = keystone.login("demo", project="demo")
    for who in (keystone.login("nova", project="demo"), keystone.login("looker", system="all")):
        assert keystone.get("/v3/auth/tokens", who, X_Subject_Token=demo).status_code == 200
        assert keystone.delete("/v3/auth/tokens", who, X_Subject_Token=demo).status_code == 403
    assert keystone.get("/v3/auth/projects", demo).status_code == 200
    assert keystone.delete("/v3/auth/tokens", X_Subject_Token=demo).status_code == 204
    assert keystone.get("/v3/auth/projects", demo).status_code == 401


def test_another_process_sees_the_revocation(keystone: Keystone, database: Database) -> None:
    fernet = keystone.app.shared.fernet
    other, demo = tokens.Authenticator(fernet), keystone.login("demo", project="demo")
    context = other(database, demo)
    assert (context.project_name, context.roles) == ("demo", frozenset({"member", "reader"}))
    keystone.delete("/v3/auth/tokens", X_Subject_Token=demo)
    with pytest.raises(Exception, match="requires authentication"):
        other(database, demo)


@pytest.mark.parametrize("how", ["password", "own password", "disabled", "deleted", "project", "role", "domain"])
def test_what_ends_tokens(keystone: Keystone, how: str) -> None:
    other = keystone.make("domain", name="other")
    user = keystone.make("user", name="u", password="secret", domain_id=other["id"])
    project = keystone.make("project", name="p", domain_id=other["id"])
    grant = f"/v3/projects/{project['id']}/users/{user['id']}/roles/{keystone.ids['roles']['member']}"
    assert keystone.put(grant).status_code == 204
    who = {"id": user["id"], "password": "secret"}
    asked = {
        "identity": {"methods": ["password"], "password": {"user": who}},
        "scope": {"project": {"id": project["id"]}},
    }
    token = keystone.request("POST", "/v3/auth/tokens", {"auth": asked}, token="").headers["X-Subject-Token"]
    assert keystone.get(f"/v3/users/{user['id']}", token).status_code == 200
    path = f"/v3/users/{user['id']}"
    if how == "password":
        keystone.patch(path, {"user": {"password": "new"}})
    elif how == "own password":
        body = {"user": {"original_password": "secret", "password": "new"}}
        assert keystone.request("POST", f"{path}/password", body, token="").status_code == 204
    elif how == "disabled":
        keystone.patch(path, {"user": {"enabled": False}})
        keystone.patch(path, {"user": {"enabled": True}})
    elif how == "deleted":
        keystone.delete(path)
    elif how == "project":
        keystone.patch(f"/v3/projects/{project['id']}", {"project": {"enabled": False}})
        keystone.patch(f"/v3/projects/{project['id']}", {"project": {"enabled": True}})
    elif how == "role":
        keystone.delete(grant)
    else:
        keystone.patch(f"/v3/domains/{other['id']}", {"domain": {"enabled": False}})
    assert keystone.get(path, token).status_code == 401
    assert keystone.get("/v3/auth/tokens", X_Subject_Token=token).status_code == 404


def test_an_expired_token_is_told_of_only_on_demand(keystone: Keystone, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = keystone.login("demo", project="demo")
    now = time.time()
    monkeypatch.setattr(tokens.time, "time", lambda: now + 2 * 3600)
    admin = keystone.login("admin", project="admin")
    assert keystone.get("/v3/auth/projects", demo).status_code == 401
    assert keystone.get("/v3/auth/tokens", admin, X_Subject_Token=demo).status_code == 404
    assert keystone.get("/v3/auth/tokens?allow_expired=1", admin, X_Subject_Token=demo).status_code == 200


def test_a_new_role_shows_in_an_old_token(keystone: Keystone) -> None:
    demo, ids = keystone.login("demo", project="demo"), keystone.ids
    keystone.put(f"/v3/projects/{ids['projects']['demo']}/users/{ids['users']['demo']}/roles/{ids['roles']['manager']}")
    told = keystone.get("/v3/auth/tokens", X_Subject_Token=demo).json()["token"]
    assert {role["name"] for role in told["roles"]} == {"manager", "member", "reader"}


def test_what_a_token_may_reach(keystone: Keystone) -> None:
    unscoped = keystone.login("admin")
    names = {row["name"] for row in keystone.get("/v3/auth/projects", unscoped).json()["projects"]}
    assert names == {"admin", "demo"}
    assert keystone.get("/v3/auth/domains", unscoped).json()["domains"] == []
    assert keystone.get("/v3/auth/system", unscoped).json()["system"] == [{"all": True}]
    assert keystone.get("/v3/auth/system", keystone.login("demo")).json()["system"] == []
    assert keystone.get("/v3/auth/catalog", unscoped).status_code == 403
    assert len(keystone.get("/v3/auth/catalog").json()["catalog"]) == len(CATALOG)


def test_long_passwords_count_whole(keystone: Keystone) -> None:
    keystone.make("user", name="long", password="x" * 100 + "a")
    assert keystone.auth("long", "x" * 100 + "a").status_code == 201
    assert keystone.auth("long", "x" * 100 + "b").status_code == 401


def test_a_known_token_takes_one_small_query(keystone: Keystone, database: Database) -> None:
    authenticate = tokens.Authenticator(keystone.app.shared.fernet)
    demo = keystone.login("demo", project="demo")
    first = authenticate(database, demo)
    with statements(database) as asked:
        assert authenticate(database, demo) == first
    assert len([text for text in asked if text.startswith("SELECT")]) == 1
