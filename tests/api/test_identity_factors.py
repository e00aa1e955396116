"""One-time passwords, multi-factor rules and receipts, EC2 signatures, at the door."""

import base64
import hashlib
import hmac
import time
from typing import Any

import pytest
from delegation import by_credential, key_of, signed, token_of
from identity_client import Keystone

from kilonova.db.engine import Database
from kilonova.identity import ec2_signatures, receipts, totp

SECRET = base64.b32encode(b"12345678901234567890").decode()
RECEIPT = "Openstack-Auth-Receipt"


@pytest.fixture
def keystone(database: Database) -> Keystone:
    return Keystone(database)


def now_code() -> str:
    return totp.passcode(b"12345678901234567890", time.time())


def enroll(keystone: Keystone, rules: Any = None) -> str:
    """User ann with a password and a secret for passcodes; her id."""
    options = {"multi_factor_auth_rules": rules} if rules else {}
    user = keystone.make("user", name="ann", password="secret", options=options)["id"]
    keystone.make("credential", type="totp", blob=SECRET, user_id=user)
    return user


def attempt(keystone: Keystone, user: str, *methods: str, receipt: str = "", **asked: Any) -> Any:
    identity: dict[str, Any] = {"methods": list(methods)}
    if "password" in methods:
        identity["password"] = {"user": {"id": user, "password": asked.get("password", "secret")}}
    if "totp" in methods:
        identity["totp"] = {"user": {"id": user, "passcode": asked.get("passcode", now_code())}}
    headers = {"Openstack_Auth_Receipt": receipt} if receipt else {}
    return keystone.request("POST", "/v3/auth/tokens", {"auth": {"identity": identity}}, "", **headers)


@pytest.mark.parametrize(("when", "code"), [(59, "287082"), (1111111109, "081804"), (20000000000, "353130")])
def test_passcodes_are_those_of_rfc_6238(when: int, code: str) -> None:
    assert totp.passcode(b"12345678901234567890", when) == code


def test_a_passcode_logs_in(keystone: Keystone) -> None:
    user = enroll(keystone)
    answer = attempt(keystone, user, "totp")
    assert answer.status_code == 201
    assert answer.json()["token"]["methods"] == ["totp"]
    both = attempt(keystone, user, "password", "totp")
    assert both.json()["token"]["methods"] == ["password", "totp"]
    before = totp.passcode(b"12345678901234567890", time.time() - 300)
    for wrong in (before if before != now_code() else "000000", "", "ä", "9" * 50):
        assert attempt(keystone, user, "totp", passcode=wrong).status_code == 401
    assert attempt(keystone, keystone.ids["users"]["demo"], "totp").status_code == 401
    assert attempt(keystone, "none-such", "totp").status_code == 401
    assert attempt(keystone, user, "password", "totp", password="wrong").status_code == 401


@pytest.mark.parametrize(("blob", "good"), [(SECRET.lower(), True), (SECRET.rstrip("="), True), ("!?", False), ("", False)])
def test_secrets(blob: str, good: bool) -> None:
    assert (totp.secret_of(blob) == b"12345678901234567890") is good


def test_two_factors_at_once_or_one_after_the_other(keystone: Keystone) -> None:
    user = enroll(keystone, [["password", "totp"], ["password", "application_credential"]])
    assert attempt(keystone, user, "password", "totp").status_code == 201
    first = keystone.http.post(
        "/identity/v3/auth/tokens",
        json={"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": user, "password": "secret"}}}}},
    )
    assert first.status_code == 401
    body = first.json()
    assert body["required_auth_methods"] == [["password", "totp"], ["password", "application_credential"]]
    assert body["receipt"]["methods"] == ["password"]
    assert body["receipt"]["user"] == {"id": user, "name": "ann", "domain": {"id": "default", "name": "Default"}}
    receipt = first.headers[RECEIPT]
    second = attempt(keystone, user, "totp", receipt=receipt)
    assert second.status_code == 201
    assert second.json()["token"]["methods"] == ["password", "totp"]
    assert keystone.rescope(token_of(second)).status_code == 201
    assert attempt(keystone, user, "totp", receipt=receipt, passcode="1").status_code == 401
    assert attempt(keystone, user, "totp", receipt="gAAAAnonsense").status_code == 401
    assert attempt(keystone, keystone.ids["users"]["demo"], "password", receipt=receipt).status_code == 401
    assert keystone.get("/v3/auth/projects", receipt).status_code == 401
    assert keystone.delete(f"/v3/users/{user}/tokens").status_code == 204
    assert attempt(keystone, user, "totp", receipt=receipt).status_code == 401


def test_a_receipt_is_good_for_five_minutes(keystone: Keystone, monkeypatch: pytest.MonkeyPatch) -> None:
    user, fernet = enroll(keystone, [["password", "totp"]]), keystone.app.shared.fernet
    now = time.time()
    old = receipts.encode(fernet, receipts.Receipt(user, ("password",), now - 301, now - 1))
    assert attempt(keystone, user, "totp", receipt=old).status_code == 401
    good = receipts.encode(fernet, receipts.Receipt(user, ("password",), now, now + 60))
    assert attempt(keystone, user, "totp", receipt=good).status_code == 201


def test_rules_that_are_off_or_know_no_method(keystone: Keystone) -> None:
    user = enroll(keystone, [["retina"]])
    assert attempt(keystone, user, "password").status_code == 201
    path = f"/v3/users/{user}"
    options = {"multi_factor_auth_rules": [["password", "totp"]], "multi_factor_auth_enabled": False}
    keystone.patch(path, {"user": {"options": options}})
    assert attempt(keystone, user, "password").status_code == 201
    keystone.patch(path, {"user": {"options": {"multi_factor_auth_enabled": True}}})
    answer = keystone.http.post(
        "/identity/v3/auth/tokens",
        json={"auth": {"identity": {"methods": ["totp"], "totp": {"user": {"id": user, "passcode": now_code()}}}}},
    )
    assert (answer.status_code, RECEIPT.lower() in answer.headers) == (401, True)


# --- EC2 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0", "1", "2", "4"])
def test_a_signature_gets_a_token_for_a_service(keystone: Keystone, version: str) -> None:
    demo = keystone.login("demo", project="demo")
    key = key_of(keystone, demo)
    answer = keystone.post("/v3/ec2tokens", {"credentials": signed(key, version)})
    assert answer.status_code == 200, answer.text
    token = answer.json()["token"]
    assert token["user"]["name"] == "demo" and token["project"]["id"] == keystone.ids["projects"]["demo"]
    assert token["methods"] == ["ec2credential"]
    wrong = {**signed(key, version), "signature": "x"}
    assert keystone.post("/v3/ec2tokens", {"credentials": wrong}).status_code == 401
    assert keystone.post("/v3/ec2tokens", {"credentials": signed(key, version)}, demo).status_code == 403


@pytest.mark.parametrize("version", [1, 4])
def test_an_object_store_learns_who_signed(keystone: Keystone, version: int) -> None:
    demo = keystone.login("demo", project="demo")
    key = key_of(keystone, demo)
    if version == 1:
        text = "GET\n\n\n\nx-amz-date:Tue, 27 Mar 2007 19:36:42 +0000\n/bucket/key"
        signature = base64.b64encode(hmac.digest(key["secret"].encode(), text.encode(), "sha1")).decode()
    else:
        text = f"AWS4-HMAC-SHA256\n20260102T030405Z\n20260102/RegionOne/s3/aws4_request\n{'0' * 64}"
        mac = f"AWS4{key['secret']}".encode()
        for part in ("20260102", "RegionOne", "s3", "aws4_request"):
            mac = hmac.digest(mac, part.encode(), "sha256")
        signature = hmac.new(mac, text.encode(), "sha256").hexdigest()
    asked = {"access": key["access"], "signature": signature, "token": base64.urlsafe_b64encode(text.encode()).decode()}
    answer = keystone.post("/v3/s3tokens", {"credentials": asked})
    assert answer.status_code == 200 and answer.json()["token"]["user"]["name"] == "demo"
    assert "X-Subject-Token" not in answer.headers
    other = base64.urlsafe_b64encode(text.replace("s3/", "ec2/").replace("key", "kez").encode()).decode()
    for wrong in ({"signature": "x"}, {"token": other}, {"token": ""}, {"token": 5}):
        assert keystone.post("/v3/s3tokens", {"credentials": {**asked, **wrong}}).status_code == 401, wrong
    assert keystone.post("/v3/s3tokens", {"credentials": {**asked, "token": "a"}}).status_code == 400
    assert keystone.post("/v3/s3tokens", {"credentials": asked}, demo).status_code == 403


def test_version_4_of_aws_own_example() -> None:
    """docs.aws.amazon.com, Signature Version 4 test suite: get-vanilla-query-order-key-case."""
    asked = {
        "host": "example.amazonaws.com", "verb": "GET", "path": "/", "body_hash": hashlib.sha256(b"").hexdigest(),
        "params": {"Param2": "value2", "Param1": "value1"},
        "headers": {
            "Host": "example.amazonaws.com", "X-Amz-Date": "20150830T123600Z",
            "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            "SignedHeaders=host;x-amz-date, Signature=x",
        },
    }  # fmt: skip
    found = ec2_signatures.sign("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", asked)
    assert found == "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"credentials": {}}, 401),
        ({"credentials": {"access": "none-such", "signature": "x"}}, 404),
        ({"credentials": {"access": 5}}, 401),
        ([], 400),
    ],
)
def test_wrong_ec2_requests(keystone: Keystone, body: Any, status: int) -> None:
    assert keystone.post("/v3/ec2tokens", body).status_code == status


def test_incomplete_and_old_signatures(keystone: Keystone) -> None:
    key = key_of(keystone, keystone.login("demo", project="demo"))
    for lacking in ({"params": {}}, {"params": {"SignatureVersion": "9"}}, {"params": {"SignatureVersion": "2"}}):
        asked = {"access": key["access"], "signature": "x", **lacking}
        assert keystone.post("/v3/ec2tokens", {"credentials": asked}).status_code == 400, lacking
    assert keystone.post("/v3/ec2tokens", {"credentials": {"access": key["access"]}}).status_code == 401
    old = signed(key, "2", params={"Timestamp": "2020-01-01T00:00:00Z"})
    assert keystone.post("/v3/ec2tokens", {"credentials": old}).status_code == 401
    portless = signed({**key}, "2", host="cloud")
    assert keystone.post("/v3/ec2tokens", {"credentials": {**portless, "host": "cloud:8773"}}).status_code == 200


def test_a_key_made_by_an_application_credential_gives_no_more(keystone: Keystone) -> None:
    demo, user = keystone.login("demo", project="demo"), keystone.ids["users"]["demo"]
    body = {"application_credential": {"name": "c", "roles": [{"name": "reader"}], "unrestricted": True}}
    made = keystone.post(f"/v3/users/{user}/application_credentials", body, demo).json()["application_credential"]
    token = token_of(by_credential(keystone, id=made["id"], secret=made["secret"]))
    key = key_of(keystone, token)
    answer = keystone.post("/v3/ec2tokens", {"credentials": signed(key, "2")}).json()["token"]
    assert [role["name"] for role in answer["roles"]] == ["reader"]
    assert answer["application_credential"]["id"] == made["id"]
    (kept,) = keystone.get("/v3/credentials?type=ec2", demo).json()["credentials"]
    blob = {"credential": {"blob": '{"access": "a", "secret": "s"}'}}
    assert keystone.patch(f"/v3/credentials/{kept['id']}", blob, demo).status_code == 400
    keystone.delete(f"/v3/users/{user}/application_credentials/{made['id']}", demo)
    assert keystone.post("/v3/ec2tokens", {"credentials": signed(key, "2")}).status_code == 401
