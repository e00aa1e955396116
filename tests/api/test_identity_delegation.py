"""What delegated tokens must not get at: by them nobody comes to more than was delegated."""

import json
from typing import Any

import pytest
import sqlalchemy as sa
from delegation import by_credential, by_trust, key_of, signed, token_of
from identity_client import Keystone

from kilonova.db.engine import Database
from kilonova.identity.tables import CREDENTIALS

HOW = ["restricted", "trust", "ec2"]  # delegated tokens that change nothing here
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


class Cast(Keystone):
    """demo, who has a passcode's secret and an EC2 key, and lets others act."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.user, self.project = self.ids["users"]["demo"], self.ids["projects"]["demo"]
        self.demo = self.login("demo", project="demo")
        self.totp = self.keep(type="totp", blob=SECRET).json()["credential"]["id"]
        self.key = key_of(self, self.demo)
        self.ec2 = f"/v3/users/{self.user}/credentials/OS-EC2"

    def keep(self, token: str | None = None, **credential: Any) -> Any:
        return self.post("/v3/credentials", {"credential": {"user_id": self.user, **credential}}, token or self.demo)

    def credential(self, **asked: Any) -> str:
        """A token of a new application credential of demo."""
        body = {"application_credential": {"name": "c", "roles": [{"name": "reader"}], **asked}}
        made = self.post(f"/v3/users/{self.user}/application_credentials", body, self.demo).json()
        made = made["application_credential"]
        return token_of(by_credential(self, id=made["id"], secret=made["secret"]))

    def trust(self, trustee: str, impersonation: bool = True) -> str:
        """The id of a new trust of demo."""
        body = {
            "trustor_user_id": self.user, "trustee_user_id": trustee, "impersonation": impersonation,
            "project_id": self.project, "roles": [{"name": "reader"}],
        }  # fmt: skip
        return self.post("/v3/OS-TRUST/trusts", {"trust": body}, self.demo).json()["trust"]["id"]

    def by_key(self, **key: Any) -> Any:
        return self.post("/v3/ec2tokens", {"credentials": signed({**self.key, **key})})

    def token(self, how: str) -> str:
        if how == "ec2":
            return str(self.by_key().headers["X-Subject-Token"])
        if how == "trust":
            tess = self.make("user", name="tess", password="secret")["id"]
            return token_of(by_trust(self, self.trust(tess), tess))
        return self.credential(unrestricted=how == "unrestricted")


@pytest.fixture
def keystone(database: Database) -> Cast:
    return Cast(database)


@pytest.mark.parametrize("how", HOW)
def test_a_delegated_token_changes_no_credential(keystone: Cast, how: str) -> None:
    token, path = keystone.token(how), f"/v3/credentials/{keystone.totp}"
    blob = json.dumps({"access": "a", "secret": "s"})
    for asked in ({"type": "totp", "blob": SECRET}, {"type": "ec2", "blob": blob}, {"type": "cert", "blob": "x"}):
        assert keystone.keep(token, project_id=keystone.project, **asked).status_code == 403, asked
    assert keystone.patch(path, {"credential": {"blob": "x"}}, token).status_code == 403
    assert keystone.delete(path, token).status_code == 403
    assert keystone.post(keystone.ec2, {"tenant_id": keystone.project}, token).status_code == 403
    assert keystone.delete(f"{keystone.ec2}/{keystone.key['access']}", token).status_code == 403
    assert len(keystone.get("/v3/credentials", keystone.demo).json()["credentials"]) == 2


@pytest.mark.parametrize("how", ["restricted", "unrestricted", "trust"])
def test_a_delegated_token_sees_no_secret_of_its_user_s(keystone: Cast, how: str) -> None:
    token = keystone.token(how)
    assert keystone.get("/v3/credentials", token).json()["credentials"] == []
    assert keystone.get(keystone.ec2, token).json()["credentials"] == []
    assert keystone.get(f"/v3/credentials/{keystone.totp}", token).status_code == 403
    assert keystone.get(f"{keystone.ec2}/{keystone.key['access']}", token).status_code == 403


def test_an_unrestricted_application_credential_keeps_its_own_ec2_keys(keystone: Cast) -> None:
    token, other = keystone.token("unrestricted"), keystone.ids["projects"]["admin"]
    made = key_of(keystone, token)
    assert [row["access"] for row in keystone.get(keystone.ec2, token).json()["credentials"]] == [made["access"]]
    assert keystone.get(f"{keystone.ec2}/{made['access']}", token).json()["credential"] == made
    (kept,) = keystone.get("/v3/credentials", token).json()["credentials"]
    path = f"/v3/credentials/{kept['id']}"
    assert keystone.post(keystone.ec2, {"tenant_id": other}, token).status_code == 403
    blob = json.dumps({"access": "a", "secret": "s"})
    assert keystone.keep(token, type="ec2", blob=blob, project_id=other).status_code == 403
    assert keystone.keep(token, type="totp", blob=SECRET, project_id=keystone.project).status_code == 403
    for change in ({"project_id": other}, {"type": "totp", "blob": SECRET}):
        assert keystone.patch(path, {"credential": change}, token).status_code == 403, change
    assert keystone.delete(f"{keystone.ec2}/{keystone.key['access']}", token).status_code == 403
    assert keystone.delete(path, token).status_code == 204
    assert keystone.keep(token, type="ec2", blob=blob, project_id=keystone.project).status_code == 201
    answer = keystone.by_key(access="a", secret="s").json()["token"]
    assert [role["name"] for role in answer["roles"]] == ["reader"]


@pytest.mark.parametrize("bound", ["trust_id", "app_cred_id", "access_token_id"])
def test_no_blob_says_by_what_a_key_was_delegated(keystone: Cast, bound: str) -> None:
    forged = {"access": "a", "secret": "s", bound: "x"}
    asked = {"type": "ec2", "project_id": keystone.project}
    for token in (keystone.demo, keystone.token("unrestricted")):
        assert keystone.keep(token, blob=json.dumps(forged), **asked).status_code == 400
    made = keystone.keep(blob=json.dumps({**forged, bound: None}), **asked).json()["credential"]
    change = {"credential": {"blob": json.dumps(forged)}}
    assert keystone.patch(f"/v3/credentials/{made['id']}", change, keystone.demo).status_code == 400


def stored(keystone: Cast, database: Database, **blob: Any) -> None:
    """A blob as it may stand in a database from before blobs were looked at."""
    sealed = keystone.app.shared.identity.sealer.encrypt(
        json.dumps({"access": keystone.key["access"], "secret": keystone.key["secret"], **blob}).encode()
    )
    change = sa.update(CREDENTIALS).where(CREDENTIALS.c.type == "ec2").values(blob=sealed.decode())
    database.write(lambda tx: tx.execute(change))


def test_a_key_of_a_trust_is_its_trustee_s_alone(keystone: Cast, database: Database) -> None:
    tess = keystone.make("user", name="tess", password="secret")["id"]
    for impersonation in (True, False):
        trust_id = keystone.trust(tess, impersonation)
        stored(keystone, database, trust_id=trust_id)
        answer = keystone.by_key()
        if impersonation:  # made with the trust's token, whose user demo then is
            assert answer.json()["token"]["OS-TRUST:trust"]["id"] == trust_id
        else:
            assert answer.status_code == 401
    admin = keystone.ids["users"]["admin"]
    body = {
        "trustor_user_id": admin, "trustee_user_id": tess, "impersonation": True,
        "project_id": keystone.ids["projects"]["admin"], "roles": [{"name": "admin"}],
    }  # fmt: skip
    foreign = keystone.post("/v3/OS-TRUST/trusts", {"trust": body}).json()["trust"]["id"]
    for forged in ({"trust_id": foreign}, {"access_token_id": "x"}, {"app_cred_id": "x"}):
        stored(keystone, database, **forged)
        assert keystone.by_key().status_code == 401, forged


def test_a_trust_shows_and_ends_no_application_credential(keystone: Cast) -> None:
    rule = {"service": "compute", "method": "GET", "path": "/v2.1/servers"}
    body = {"application_credential": {"name": "c", "access_rules": [rule]}}
    base = f"/v3/users/{keystone.user}"
    made = keystone.post(f"{base}/application_credentials", body, keystone.demo).json()["application_credential"]
    token = keystone.token("trust")
    for path in (
        f"{base}/application_credentials/{made['id']}",
        f"{base}/access_rules/{made['access_rules'][0]['id']}",
    ):
        for method, where in (("DELETE", path), ("GET", path), ("GET", path.rpartition("/")[0])):
            assert keystone.request(method, where, token=token).status_code == 403, (method, where)
        assert keystone.get(path, keystone.demo).status_code == 200


@pytest.mark.parametrize("how", ["restricted", "unrestricted"])
def test_an_application_credential_has_nothing_to_do_with_trusts(keystone: Cast, how: str) -> None:
    token, admin = keystone.token(how), keystone.ids["users"]["admin"]
    trust_id, base = keystone.trust(admin), "/v3/OS-TRUST/trusts"
    body = {
        "trustor_user_id": keystone.user, "trustee_user_id": admin, "impersonation": False,
        "project_id": keystone.project, "roles": [{"name": "reader"}],
    }  # fmt: skip
    assert keystone.post(base, {"trust": body}, token).status_code == 403
    for method, path in (
        ("GET", f"{base}?trustor_user_id={keystone.user}"),
        ("GET", f"{base}/{trust_id}"),
        ("GET", f"{base}/{trust_id}/roles"),
        ("DELETE", f"{base}/{trust_id}"),
    ):
        answer = keystone.request(method, path, token=token)
        assert answer.status_code == 403, (method, path)
        assert not answer.json()["error"]["message"].endswith("..")


def test_a_token_by_an_ec2_key_manages_nothing_and_stays_where_it_is(keystone: Cast) -> None:
    project = keystone.make("project", name="p")["id"]
    keystone.put(f"/v3/projects/{project}/users/{keystone.user}/roles/{keystone.ids['roles']['member']}")
    token = keystone.token("ec2")
    for path in ("/v3/auth/projects", f"/v3/users/{keystone.user}", "/v3/credentials", keystone.ec2):
        assert keystone.get(path, token).status_code == 403, path
    assert keystone.get("/v3/auth/tokens", X_Subject_Token=token).json()["token"]["methods"] == ["ec2credential"]
    for scope in ({"project": {"id": project}}, {"project": {"id": keystone.project}}, "unscoped"):
        assert keystone.rescope(token, scope).status_code == 403, scope
    again = keystone.rescope(token).json()["token"]
    assert (again["project"]["id"], again["methods"]) == (keystone.project, ["token", "ec2credential"])


def test_a_blob_nested_deep_is_refused(keystone: Cast) -> None:
    depth = 100_000
    deep = '{"access": "a", "secret": ' + "[" * depth + "]" * depth + "}"
    made = keystone.keep(type="ec2", blob='{"access": "a"}', project_id=keystone.project).json()["credential"]
    for blob in (deep, "[" * depth):
        assert keystone.keep(type="ec2", blob=blob, project_id=keystone.project).status_code == 400
        change = {"credential": {"blob": blob}}
        assert keystone.patch(f"/v3/credentials/{made['id']}", change, keystone.demo).status_code == 400


def test_a_credential_is_an_ec2_key_from_the_first(keystone: Cast) -> None:
    blob = '{"access": "a", "secret": "s"}'
    answer = keystone.keep(type="EC2", blob=blob, project_id=keystone.project)
    assert answer.status_code == 400 and "'ec2'" in answer.json()["error"]["message"]
    cert = keystone.keep(type="cert", blob=blob, project_id=keystone.project).json()["credential"]
    (key,) = keystone.get("/v3/credentials?type=ec2", keystone.demo).json()["credentials"]
    change = {"credential": {"type": "cert", "blob": "x"}}
    assert keystone.patch(f"/v3/credentials/{key['id']}", change, keystone.demo).status_code == 200
    for method in ("GET", "DELETE"):  # it is an EC2 key no more
        assert keystone.request(method, f"{keystone.ec2}/{keystone.key['access']}", token=keystone.demo).status_code == 404
    for kind in ("ec2", "EC2"):
        change = {"credential": {"type": kind}}
        assert keystone.patch(f"/v3/credentials/{cert['id']}", change, keystone.demo).status_code == 400
