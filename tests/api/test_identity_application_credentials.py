"""Application credentials and their access rules at the door."""

import time
from typing import Any

import pytest
from delegation import by_credential, token_of, with_placement
from identity_client import Keystone

from kilonova.db.engine import Database
from kilonova.identity import times
from kilonova.web import access_rules


@pytest.fixture
def keystone(database: Database) -> Keystone:
    return Keystone(database)


def path(keystone: Keystone, user: str = "demo", kind: str = "application_credentials") -> str:
    return f"/v3/users/{keystone.ids['users'][user]}/{kind}"


def make(keystone: Keystone, token: str, user: str = "demo", **asked: Any) -> dict[str, Any]:
    answer = keystone.post(path(keystone, user), {"application_credential": {"name": "c", **asked}}, token)
    assert answer.status_code == 201, answer.text
    return answer.json()["application_credential"]


def test_its_life(keystone: Keystone) -> None:
    demo, ids = keystone.login("demo", project="demo"), keystone.ids
    made = make(keystone, demo, description="d", roles=[{"name": "reader"}])
    assert [role["name"] for role in made["roles"]] == ["reader"]
    assert (made["project_id"], made["unrestricted"], made["expires_at"]) == (ids["projects"]["demo"], False, None)
    shown = keystone.get(f"{path(keystone)}/{made['id']}", demo).json()["application_credential"]
    assert shown == {key: value for key, value in made.items() if key != "secret"}
    assert keystone.get(f"{path(keystone)}?name=c", demo).json()["application_credentials"] == [shown]
    assert keystone.get(f"{path(keystone)}?name=d", demo).json()["application_credentials"] == []
    answer = by_credential(keystone, id=made["id"], secret=made["secret"])
    token = answer.json()["token"]
    assert token["application_credential"] == {"id": made["id"], "name": "c", "restricted": True}
    assert token["methods"] == ["application_credential"]
    assert [role["name"] for role in token["roles"]] == ["reader"]
    assert token["project"]["id"] == ids["projects"]["demo"]
    named = by_credential(keystone, name="c", user={"name": "demo", "domain": {"id": "default"}}, secret=made["secret"])
    assert named.status_code == 201
    text = token_of(answer)
    assert keystone.get("/v3/auth/tokens", X_Subject_Token=text).json()["token"] == token
    assert keystone.get("/v3/auth/projects", text).status_code == 200
    assert keystone.delete(f"{path(keystone)}/{made['id']}", demo).status_code == 204
    assert keystone.get("/v3/auth/projects", text).status_code == 401
    assert keystone.get("/v3/auth/tokens", X_Subject_Token=text).status_code == 404
    assert keystone.get(f"{path(keystone)}/{made['id']}", demo).status_code == 404
    assert by_credential(keystone, id=made["id"], secret=made["secret"]).status_code == 401


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ({}, 400),
        ({"name": "c", "odd": 1}, 400),
        ({"name": "c", "expires_at": "soon"}, 400), ({"name": "c", "expires_at": "9999-12-31T23:59:59-14:00"}, 400),
        ({"name": "c", "expires_at": "2020-01-01T00:00:00.000000"}, 400),
        ({"name": "c", "roles": [{"name": "admin"}]}, 400),
        ({"name": "c", "roles": [{"name": "none-such"}]}, 404),
        ({"name": "c", "roles": [{"id": "a", "name": "b"}]}, 400),
        ({"name": "c", "access_rules": [{"id": "none-such"}]}, 404),
        ({"name": "c", "access_rules": [{"service": "x", "method": "GET"}]}, 400),
        ({"name": "c", "access_rules": [{"service": "x", "method": "LOOK", "path": "/"}]}, 400),
        ({"name": "taken"}, 409),
    ],
)
def test_wrong_input(keystone: Keystone, asked: dict[str, Any], status: int) -> None:
    demo = keystone.login("demo", project="demo")
    make(keystone, demo, name="taken")
    answer = keystone.post(path(keystone), {"application_credential": asked}, demo)
    assert answer.status_code == status, answer.text


def test_refusals(keystone: Keystone) -> None:
    demo, ids = keystone.login("demo", project="demo"), keystone.ids
    made = make(keystone, demo)
    for wrong in (
        {"id": made["id"], "secret": "wrong"},
        {"id": "none-such", "secret": made["secret"]},
        {"name": "d", "user": {"id": ids["users"]["demo"]}, "secret": made["secret"]},
        {"name": "c", "user": {"id": ids["users"]["admin"]}, "secret": made["secret"]},
    ):
        assert by_credential(keystone, **wrong).status_code == 401
    assert by_credential(keystone, secret="x").status_code == 400
    scope = {"project": {"id": ids["projects"]["demo"]}}
    assert by_credential(keystone, scope, id=made["id"], secret=made["secret"]).status_code == 401
    other = make(keystone, keystone.admin, "admin")
    for method in ("GET", "DELETE"):
        foreign = keystone.request(method, f"{path(keystone, 'admin')}/{other['id']}", token=demo)
        assert foreign.status_code == 403
        assert keystone.request(method, f"{path(keystone)}/{other['id']}", token=demo).status_code == 404
    assert keystone.get(path(keystone, "admin"), demo).status_code == 403
    assert keystone.get(f"{path(keystone)}/{made['id']}").status_code == 200  # an administrator looks
    body = {"application_credential": {"name": "for another"}}
    assert keystone.post(path(keystone), body).status_code == 403
    assert keystone.post(path(keystone), body, keystone.login("demo")).status_code == 400


def test_what_manages_others_must_be_unrestricted(keystone: Keystone) -> None:
    demo, base = keystone.login("demo", project="demo"), path(keystone)
    for unrestricted, status in ((False, 403), (True, 201)):
        made = make(keystone, demo, name=f"c{unrestricted}", unrestricted=unrestricted)
        token = token_of(by_credential(keystone, id=made["id"], secret=made["secret"]))
        body = {"application_credential": {"name": f"n{unrestricted}"}}
        answer = keystone.post(base, body, token)
        assert answer.status_code == status and (status == 201 or not answer.json()["error"]["message"].endswith(".."))
        assert keystone.delete(f"{base}/{made['id']}", token).status_code == (204 if unrestricted else 403)


def test_rescoping_keeps_it_where_it_is(keystone: Keystone) -> None:
    made = make(keystone, keystone.admin, "admin", roles=[{"name": "reader"}])
    token = token_of(by_credential(keystone, id=made["id"], secret=made["secret"]))
    for scope in ("unscoped", {"system": {"all": True}}, {"project": {"id": keystone.ids["projects"]["admin"]}}):
        assert keystone.rescope(token, scope).status_code == 403
    again = keystone.rescope(token).json()["token"]
    assert again["application_credential"]["id"] == made["id"]
    assert again["project"]["id"] == keystone.ids["projects"]["admin"]
    assert [role["name"] for role in again["roles"]] == ["reader"]


def test_a_token_ends_with_its_credential(keystone: Keystone, monkeypatch: pytest.MonkeyPatch) -> None:
    demo, soon = keystone.login("demo", project="demo"), time.time() + 600
    made = make(keystone, demo, expires_at=times.brief(soon))
    answer = by_credential(keystone, id=made["id"], secret=made["secret"])
    assert answer.json()["token"]["expires_at"].startswith(made["expires_at"])
    monkeypatch.setattr(times.time, "time", lambda: soon + 1)
    assert keystone.get("/v3/auth/projects", token_of(answer)).status_code == 401
    assert by_credential(keystone, id=made["id"], secret=made["secret"]).status_code == 401


@pytest.mark.parametrize("how", ["role taken", "role deleted", "user", "project", "disabled"])
def test_it_goes_with_what_it_hangs_on(keystone: Keystone, how: str) -> None:
    user, project = keystone.make("user", name="u", password="secret"), keystone.make("project", name="p")
    role = keystone.make("role", name="own")
    grant = f"/v3/projects/{project['id']}/users/{user['id']}/roles/{role['id']}"
    keystone.put(grant)
    base = f"/v3/users/{user['id']}/application_credentials"
    body = {"application_credential": {"name": "c"}}
    made = keystone.post(base, body, keystone.login("u", project="p")).json()["application_credential"]
    token = token_of(by_credential(keystone, id=made["id"], secret=made["secret"]))
    assert keystone.get("/v3/auth/projects", token).status_code == 200
    if how == "role taken":
        keystone.delete(grant)
        keystone.put(grant)
    elif how == "role deleted":
        keystone.delete(f"/v3/roles/{role['id']}")
    elif how == "disabled":
        keystone.patch(f"/v3/users/{user['id']}", {"user": {"enabled": False}})
    else:
        keystone.delete(f"/v3/{how}s/{user['id'] if how == 'user' else project['id']}")
    assert keystone.get("/v3/auth/projects", token).status_code == 401
    assert by_credential(keystone, id=made["id"], secret=made["secret"]).status_code == 401
    assert keystone.get(f"{base}/{made['id']}").status_code == (200 if how == "disabled" else 404)


def test_access_rules_hold_at_every_service_s_door(keystone: Keystone, database: Database) -> None:
    rules = [
        {"service": "placement", "method": "GET", "path": "/resource_providers"},
        {"service": "placement", "method": "GET", "path": "/placement/traits/*"},
        {"service": "identity", "method": "GET", "path": "/v3/users/{user_id}"},
    ]
    made = make(keystone, keystone.admin, "admin", access_rules=rules)
    answer = by_credential(keystone, id=made["id"], secret=made["secret"])
    told = answer.json()["token"]["application_credential"]["access_rules"]
    assert [{key: rule[key] for key in ("service", "method", "path")} for rule in told] == rules
    http, headers = with_placement(keystone, database), {"X-Auth-Token": token_of(answer)}
    headers["OpenStack-API-Version"] = "placement 1.39"
    me = keystone.ids["users"]["admin"]
    for method, where, status in (
        ("GET", "/placement/resource_providers", 200),
        ("POST", "/placement/resource_providers", 401),
        ("GET", "/placement/resource_providers/x", 401),
        ("GET", "/placement/traits/HW_CPU_X86_AVX", 204),
        ("GET", "/placement/traits", 401),
        ("GET", f"/identity/v3/users/{me}", 200),
        ("GET", f"/identity/v3/users/{me}/projects", 401),
        ("DELETE", f"/identity/v3/users/{me}", 401),
        ("POST", f"/identity/v3/users/{me}/application_credentials", 401),
    ):
        assert http.request(method, where, headers=headers).status_code == status, (method, where)
    check = {**headers, "X-Subject-Token": headers["X-Auth-Token"]}
    assert http.get("/identity/v3/auth/tokens", headers=check).status_code == 200


def test_no_rules_at_all_allow_nothing(keystone: Keystone) -> None:
    made = make(keystone, keystone.admin, "admin", access_rules=[])
    token = token_of(by_credential(keystone, id=made["id"], secret=made["secret"]))
    assert keystone.get("/v3/regions", token).status_code == 401


def test_access_rules_are_told_as_they_were_made(keystone: Keystone) -> None:
    demo = keystone.login("demo", project="demo")
    rules = [{"service": "compute", "method": "GET", "path": f"/v2.1/{place}"} for place in "fcbeda"]
    make(keystone, demo, access_rules=rules)
    told = keystone.get(path(keystone, kind="access_rules"), demo).json()["access_rules"]
    assert [row["path"] for row in told] == [rule["path"] for rule in rules]


def test_access_rules_are_shared_and_kept_while_in_use(keystone: Keystone) -> None:
    demo = keystone.login("demo", project="demo")
    rule = {"service": "compute", "method": "GET", "path": "/v2.1/servers"}
    one = make(keystone, demo, name="one", access_rules=[rule])
    (kept,) = one["access_rules"]
    two = make(keystone, demo, name="two", access_rules=[{"id": kept["id"]}, rule])
    assert two["access_rules"] == [kept]
    base = path(keystone, kind="access_rules")
    assert [row["id"] for row in keystone.get(base, demo).json()["access_rules"]] == [kept["id"]]
    assert keystone.get(f"{base}?service=image", demo).json()["access_rules"] == []
    assert keystone.get(f"{base}/{kept['id']}", demo).json()["access_rule"].items() >= rule.items()
    assert keystone.get(f"{base}/none-such", demo).status_code == 404
    assert keystone.delete(f"{base}/{kept['id']}", demo).status_code == 403
    for each in (one, two):
        keystone.delete(f"{path(keystone)}/{each['id']}", demo)
    other = path(keystone, "admin", "access_rules")
    assert keystone.get(other, demo).status_code == keystone.delete(f"{other}/{kept['id']}", demo).status_code == 403
    assert keystone.delete(f"{base}/{kept['id']}", demo).status_code == 204
    assert keystone.get(base, demo).json()["access_rules"] == []


@pytest.mark.parametrize(
    ("rule", "path", "fits"),
    [
        ("/v2.1/servers", "/v2.1/servers", True),
        ("/v2.1/servers", "/v2x1/servers", False),
        ("/v2.1/servers/*", "/v2.1/servers/1/action", False),
        ("/v2.1/servers/**", "/v2.1/servers/1/action", True),
        ("/v2.1/{project}/servers", "/v2.1/p/servers", True),
        ("/v2.1/servers/*/action", "/v2.1/servers/1/action", True),
        ("/**", "/anything/at all", True),
        ("/(a+)+$", "/aaaa", False),
        ("/*a*b", "/xaab", True),
        ("/*a*b", "/ab", False),
        ("/*", "/", False),
        ("/a/**/b", "/a//b", True),
        ("/{a}{b}", "/xy", True),
        ("/*", "/a\nb", True),
        # Tried one after another, these ways would take longer than there is time.
        ("/" + "*a" * 110 + "b", "/" + "a" * 4000, False),
        ("/" + "**a" * 70 + "b", "/" + "a/" * 2000, False),
    ],
)
def test_patterns(rule: str, path: str, fits: bool) -> None:
    assert access_rules.fits(rule, path) is fits


def test_one_request_names_so_many_roles_and_rules_and_no_more(keystone: Keystone) -> None:
    """Each is looked up while nobody else may write: with as many as a body holds, that was half a minute."""
    demo = keystone.login("demo", project="demo")
    user, project = keystone.ids["users"]["demo"], keystone.ids["projects"]["demo"]
    rules = [{"service": "image", "method": "GET", "path": f"/{number}"} for number in range(101)]
    trust = {"trustor_user_id": user, "trustee_user_id": keystone.ids["users"]["admin"], "impersonation": True,
             "project_id": project}  # fmt: skip
    for number, status in ((100, 201), (101, 400)):
        asked: dict[str, Any] = {"name": str(number), "roles": [{"name": "member"}] * number}
        asked["access_rules"] = rules[:number]
        made = keystone.post(f"/v3/users/{user}/application_credentials", {"application_credential": asked}, demo)
        assert made.status_code == status, made.text
        body = {"trust": {**trust, "roles": asked["roles"]}}
        assert keystone.post("/v3/OS-TRUST/trusts", body, demo).status_code == status
