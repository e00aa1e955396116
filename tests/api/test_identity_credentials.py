"""Credentials, EC2 keys and policy documents at the door."""

import json

import pytest
import sqlalchemy as sa
from identity_client import Keystone

from kilonova.db.engine import Database
from kilonova.identity.tables import CREDENTIALS


@pytest.fixture
def keystone(database: Database) -> Keystone:
    return Keystone(database)


def test_credentials_are_their_users_own_and_sealed(keystone: Keystone, database: Database) -> None:
    ids = keystone.ids
    demo = keystone.login("demo", project="demo")
    answer = keystone.post("/v3/credentials", {"credential": {"type": "totp", "blob": "hush"}}, demo)
    assert answer.status_code == 201
    made = answer.json()["credential"]
    assert (made["user_id"], made["blob"], made["project_id"]) == (ids["users"]["demo"], "hush", None)
    stored = database.read(lambda tx: tx.scalar(sa.select(CREDENTIALS.c.blob)))
    assert "hush" not in stored
    path = f"/v3/credentials/{made['id']}"
    assert keystone.get(path, demo).json()["credential"] == made
    other = keystone.post("/v3/credentials", {"credential": {"type": "cert", "blob": "x"}}).json()["credential"]
    assert keystone.get(f"/v3/credentials/{other['id']}", demo).status_code == 403
    assert keystone.get("/v3/credentials/none-such", demo).status_code == 403
    assert keystone.get("/v3/credentials/none-such").status_code == 404
    assert [row["id"] for row in keystone.get("/v3/credentials", demo).json()["credentials"]] == [made["id"]]
    assert len(keystone.get("/v3/credentials").json()["credentials"]) == 2
    assert len(keystone.get("/v3/credentials?type=cert").json()["credentials"]) == 1
    changed = keystone.patch(path, {"credential": {"blob": "new"}}, demo).json()["credential"]
    assert changed["blob"] == "new"
    foreign = {"credential": {"type": "x", "blob": "x", "user_id": ids["users"]["admin"]}}
    assert keystone.post("/v3/credentials", foreign, demo).status_code == 403
    assert keystone.patch(path, {"credential": {"user_id": ids["users"]["admin"]}}, demo).status_code == 403
    assert keystone.delete(path, demo).status_code == 204
    assert keystone.get(path).status_code == 404


@pytest.mark.parametrize("blob", ["no json", "[]", '{"secret": "s"}', '{"access": 1}'])
def test_an_ec2_credential_must_have_its_keys(keystone: Keystone, blob: str) -> None:
    body = {"credential": {"type": "ec2", "blob": blob, "project_id": keystone.ids["projects"]["demo"]}}
    assert keystone.post("/v3/credentials", body).status_code == 400


def test_ec2_keys(keystone: Keystone) -> None:
    ids, demo = keystone.ids, keystone.login("demo", project="demo")
    base = f"/v3/users/{ids['users']['demo']}/credentials/OS-EC2"
    assert keystone.post(base, {}, demo).status_code == 400
    answer = keystone.post(base, {"tenant_id": ids["projects"]["demo"]}, demo)
    assert answer.status_code == 201
    made = answer.json()["credential"]
    assert (made["user_id"], made["tenant_id"]) == (ids["users"]["demo"], ids["projects"]["demo"])
    assert len(made["secret"]) == 32
    assert keystone.get(f"{base}/{made['access']}", demo).json()["credential"] == made
    assert [row["access"] for row in keystone.get(base, demo).json()["credentials"]] == [made["access"]]
    (kept,) = keystone.get("/v3/credentials?type=ec2", demo).json()["credentials"]
    assert json.loads(kept["blob"])["secret"] == made["secret"]
    assert keystone.get(f"/v3/users/{ids['users']['admin']}/credentials/OS-EC2", demo).status_code == 403
    assert keystone.delete(f"{base}/{made['access']}", demo).status_code == 204
    assert keystone.delete(f"{base}/{made['access']}", demo).status_code == 404


def test_policies(keystone: Keystone) -> None:
    demo = keystone.login("demo", project="demo")
    body = {"policy": {"type": "application/json", "blob": '{"rule": "yes"}'}}
    assert keystone.post("/v3/policies", body, demo).status_code == 403
    made = keystone.post("/v3/policies", body).json()["policy"]
    assert made["blob"] == body["policy"]["blob"]
    path = f"/v3/policies/{made['id']}"
    assert keystone.patch(path, {"policy": {"type": "text/plain"}}).json()["policy"]["type"] == "text/plain"
    assert keystone.get(path).json()["policy"]["blob"] == made["blob"]
    assert len(keystone.get("/v3/policies?type=text/plain").json()["policies"]) == 1
    assert keystone.delete(path).status_code == 204
    assert keystone.get(path).status_code == 404


@pytest.mark.parametrize(("depth", "status"), [(97, 201), (98, 400), (980, 400), (100_000, 400)])
def test_a_document_is_nested_no_deeper_than_it_can_be_kept(keystone: Keystone, depth: int, status: int) -> None:
    """The body's own two objects count; Python's decoder alone would let pass what its encoder then cannot write."""
    inner = '{"a":' * depth + "[]" + "}" * depth
    raw = '{"policy": {"type": "x", "blob": ' + inner + "}}"
    headers = {"X-Auth-Token": keystone.admin, "Content-Type": "application/json"}
    answer = keystone.http.post("/identity/v3/policies", content=raw, headers=headers)
    assert answer.status_code == status, answer.text
    assert keystone.get("/v3/policies").status_code == 200
