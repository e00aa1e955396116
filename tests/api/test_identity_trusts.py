"""Trusts at the door: made, used, handed on, ended."""

import time
from typing import Any

import pytest
from delegation import by_trust, token_of
from identity_client import Keystone

from kilonova.db.engine import Database
from kilonova.identity import times, trusts


class Cast(Keystone):
    """The trustor demo (member and manager of project demo), a trustee tess and a third user, uwe."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.grant = f"/v3/projects/{self.project}/users/{self.trustor}/roles/{self.ids['roles']['manager']}"
        self.put(self.grant)
        self.tess = self.make("user", name="tess", password="secret")["id"]
        self.uwe = self.make("user", name="uwe", password="secret")["id"]
        self.demo = self.login("demo", project="demo")

    @property
    def trustor(self) -> str:
        return self.ids["users"]["demo"]

    @property
    def project(self) -> str:
        return self.ids["projects"]["demo"]

    def trust(self, token: str | None = None, **asked: Any) -> Any:
        body = {
            "trustor_user_id": self.trustor, "trustee_user_id": self.tess, "impersonation": False,
            "project_id": self.project, "roles": [{"name": "member"}],
        }  # fmt: skip
        return self.post("/v3/OS-TRUST/trusts", {"trust": {**body, **asked}}, token or self.demo)

    def made(self, token: str | None = None, **asked: Any) -> dict[str, Any]:
        answer = self.trust(token, **asked)
        assert answer.status_code == 201, answer.text
        return answer.json()["trust"]


@pytest.fixture
def keystone(database: Database) -> Cast:
    return Cast(database)


@pytest.mark.parametrize("impersonation", [False, True])
def test_a_trustee_acts_with_the_trustor_s_roles(keystone: Cast, impersonation: bool) -> None:
    made = keystone.made(impersonation=impersonation)
    assert [role["name"] for role in made["roles"]] == ["member"]
    assert made["redelegation_count"] == 0 and made["deleted_at"] is made["expires_at"] is None
    answer = by_trust(keystone, made["id"], keystone.tess)
    token = answer.json()["token"]
    assert token["OS-TRUST:trust"] == {
        "id": made["id"], "impersonation": impersonation,
        "trustor_user": {"id": keystone.trustor}, "trustee_user": {"id": keystone.tess},
    }  # fmt: skip
    assert token["user"]["id"] == (keystone.trustor if impersonation else keystone.tess)
    assert {role["name"] for role in token["roles"]} == {"member", "reader"}
    assert token["project"]["id"] == keystone.project
    text = token_of(answer)
    assert keystone.get("/v3/auth/tokens", X_Subject_Token=text).json()["token"] == token
    assert keystone.rescope(text, {"project": {"id": keystone.project}}).status_code == 403
    body = {"application_credential": {"name": "n"}}
    own = f"/v3/users/{token['user']['id']}/application_credentials"
    assert keystone.post(own, body, text).status_code == 403
    assert keystone.delete(f"/v3/OS-TRUST/trusts/{made['id']}", keystone.demo).status_code == 204
    assert keystone.get("/v3/auth/projects", text).status_code == 401
    assert by_trust(keystone, made["id"], keystone.tess).status_code == 401


def test_who_sees_and_ends_a_trust(keystone: Cast) -> None:
    made = keystone.made()
    path, uwe, tess = f"/v3/OS-TRUST/trusts/{made['id']}", keystone.login("uwe"), keystone.login("tess")
    role = made["roles"][0]["id"]
    for token in (keystone.demo, tess, keystone.admin):
        assert keystone.get(path, token).json()["trust"] == made
        assert [row["id"] for row in keystone.get(f"{path}/roles", token).json()["roles"]] == [role]
        assert keystone.get(f"{path}/roles/{role}", token).json()["role"]["id"] == role
        assert keystone.get(f"{path}/roles/none-such", token).status_code == 404
    for where in (path, f"{path}/roles", "/v3/OS-TRUST/trusts/none-such"):
        assert keystone.get(where, uwe).status_code == 403
    assert keystone.delete(path, uwe).status_code == keystone.delete(path, tess).status_code == 403
    lists = "/v3/OS-TRUST/trusts"
    assert keystone.get(lists, keystone.demo).status_code == 403
    assert [row["id"] for row in keystone.get(lists).json()["trusts"]] == [made["id"]]
    assert "roles" not in keystone.get(lists).json()["trusts"][0]
    assert len(keystone.get(f"{lists}?trustor_user_id={keystone.trustor}", keystone.demo).json()["trusts"]) == 1
    assert len(keystone.get(f"{lists}?trustee_user_id={keystone.tess}", tess).json()["trusts"]) == 1
    assert keystone.get(f"{lists}?trustor_user_id={keystone.trustor}", tess).status_code == 403
    assert keystone.get(f"{lists}?trustee_user_id={keystone.uwe}", uwe).json()["trusts"] == []
    assert keystone.delete(path).status_code == 204
    assert keystone.get(path).status_code == keystone.get(path, keystone.demo).status_code == 404
    assert keystone.get(lists).json()["trusts"] == []


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"trustor_user_id": "someone"}, 403, "should match the trustor"),
        ({"trustee_user_id": "none-such"}, 404, "Could not find user"),
        ({"roles": []}, 403, "At least one role"),
        ({"roles": [{"name": "admin"}]}, 404, "Could not find role"),
        ({"roles": [{"name": "none-such"}]}, 404, "Could not find role"),
        ({"project_id": "none-such"}, 404, "Could not find project"),
        ({"expires_at": "tomorrow"}, 400, "Timestamp not in expected format"),
        ({"expires_at": "9999-12-31T23:59:59.999999Z"}, 400, "Timestamp not in expected format"),
        ({"expires_at": "2020-01-01T00:00:00.000000Z"}, 400, "must not be before now"),
        ({"remaining_uses": 0}, 400, "remaining_uses"),
        ({"remaining_uses": 2, "allow_redelegation": True}, 400, "remaining_uses"),
        ({"allow_redelegation": True, "redelegation_count": 9}, 403, "greater than allowed 3"),
        ({"impersonation": "yes"}, 400, "impersonation"),
    ],
)
def test_wrong_input(keystone: Cast, asked: dict[str, Any], status: int, words: str) -> None:
    answer = keystone.trust(**asked)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]["message"]


def test_uses_run_out(keystone: Cast) -> None:
    made = keystone.made(remaining_uses=2)
    path = f"/v3/OS-TRUST/trusts/{made['id']}"
    assert by_trust(keystone, made["id"], keystone.uwe).status_code == 403
    first = token_of(by_trust(keystone, made["id"], keystone.tess))
    assert keystone.get(path, keystone.demo).json()["trust"]["remaining_uses"] == 1
    last = token_of(by_trust(keystone, made["id"], keystone.tess))
    assert by_trust(keystone, made["id"], keystone.tess).status_code == 401
    assert keystone.get(path, keystone.demo).status_code == 404
    for token in (first, last):
        assert keystone.get("/v3/auth/projects", token).status_code == 200
    assert keystone.delete(path, keystone.demo).status_code == 204
    for token in (first, last):
        assert keystone.get("/v3/auth/projects", token).status_code == 401
    assert keystone.delete(path, keystone.demo).status_code == 404


def test_it_is_over_in_time(keystone: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    soon = time.time() + 600
    made = keystone.made(expires_at=times.stamp(soon))
    answer = by_trust(keystone, made["id"], keystone.tess)
    assert answer.json()["token"]["expires_at"] == made["expires_at"] == times.stamp(soon)
    monkeypatch.setattr(trusts.time, "time", lambda: soon + 1)
    assert keystone.get("/v3/auth/projects", token_of(answer)).status_code == 401
    assert by_trust(keystone, made["id"], keystone.tess).status_code == 401


@pytest.mark.parametrize("how", ["role", "trustor", "trustee", "deleted", "project"])
def test_what_ends_its_tokens(keystone: Cast, how: str) -> None:
    made = keystone.made(roles=[{"name": "manager"}])
    token = token_of(by_trust(keystone, made["id"], keystone.tess))
    assert keystone.get("/v3/auth/projects", token).status_code == 200
    if how == "role":
        keystone.delete(keystone.grant)
    elif how == "project":
        keystone.patch(f"/v3/projects/{keystone.project}", {"project": {"enabled": False}})
    elif how == "deleted":
        keystone.delete(f"/v3/users/{keystone.trustor}")
    else:
        user = keystone.trustor if how == "trustor" else keystone.tess
        keystone.patch(f"/v3/users/{user}", {"user": {"enabled": False}})
    assert keystone.get("/v3/auth/projects", token).status_code == 401
    assert by_trust(keystone, made["id"], keystone.tess).status_code in (401, 403)


def test_redelegation(keystone: Cast) -> None:
    first = keystone.made(allow_redelegation=True, redelegation_count=2, roles=[{"name": "member"}, {"name": "reader"}])
    assert first["redelegation_count"] == 2
    token = token_of(by_trust(keystone, first["id"], keystone.tess))
    next_one = {"trustor_user_id": keystone.tess, "trustee_user_id": keystone.uwe, "allow_redelegation": True}
    for wrong, status in (
        ({"roles": [{"name": "manager"}]}, 403),
        ({"impersonation": True}, 403),
        ({"redelegation_count": 2}, 403),
        ({"allow_redelegation": False, "remaining_uses": 1}, 403),
    ):
        assert keystone.trust(token, **{**next_one, **wrong}).status_code == status, wrong
    second = keystone.made(token, **next_one)
    assert (second["redelegated_trust_id"], second["redelegation_count"]) == (first["id"], 1)
    far = token_of(by_trust(keystone, second["id"], keystone.uwe))
    third = {"trustor_user_id": keystone.uwe, "trustee_user_id": keystone.tess}
    last = keystone.made(far, **third)
    assert last["redelegation_count"] == 0
    end = token_of(by_trust(keystone, last["id"], keystone.tess))
    assert keystone.trust(end, trustor_user_id=keystone.tess).status_code == 403
    assert keystone.delete(f"/v3/OS-TRUST/trusts/{first['id']}", keystone.demo).status_code == 204
    for dead in (token, far, end):
        assert keystone.get("/v3/auth/projects", dead).status_code == 401


def test_a_trust_for_no_project_gives_an_unscoped_token(keystone: Cast) -> None:
    made = keystone.made(project_id=None, roles=[])
    token = by_trust(keystone, made["id"], keystone.tess).json()["token"]
    assert "project" not in token and token["OS-TRUST:trust"]["id"] == made["id"]
