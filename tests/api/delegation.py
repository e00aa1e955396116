"""What the tests of delegated tokens share: a way to ask for them, and a second service that is asked with them."""

import hashlib
import time
from typing import Any

import httpx
from identity_client import ROOT, Keystone
from starlette.testclient import TestClient

from kilonova.db.engine import Database
from kilonova.identity import ec2_signatures
from kilonova.identity.routes import SERVICE as IDENTITY
from kilonova.identity.tokens import Authenticator
from kilonova.placement.routes import SERVICE as PLACEMENT
from kilonova.web.router import Application


def token_of(answer: httpx.Response) -> str:
    assert answer.status_code == 201, answer.text
    return answer.headers["X-Subject-Token"]


def by_credential(keystone: Keystone, scope: Any = None, **asked: Any) -> httpx.Response:
    """A token by application credential: `id=` or `name=` and `user=`, and `secret=`."""
    auth: dict[str, Any] = {"identity": {"methods": ["application_credential"], "application_credential": asked}}
    if scope is not None:
        auth["scope"] = scope
    return keystone.request("POST", "/v3/auth/tokens", {"auth": auth}, token="")


def by_trust(keystone: Keystone, trust_id: str, user_id: str, password: str = "secret") -> httpx.Response:
    """A token of a trust, for its trustee."""
    who = {"id": user_id, "password": password}
    auth = {
        "identity": {"methods": ["password"], "password": {"user": who}},
        "scope": {"OS-TRUST:trust": {"id": trust_id}},
    }
    return keystone.request("POST", "/v3/auth/tokens", {"auth": auth}, token="")


def with_placement(keystone: Keystone, database: Database) -> TestClient:
    """The same cloud with a second service in it."""
    shared = keystone.app.shared
    app = Application((IDENTITY, PLACEMENT), database, Authenticator(shared.fernet), shared, ROOT)
    return TestClient(app, ROOT, raise_server_exceptions=False)


def key_of(keystone: Keystone, token: str) -> dict[str, Any]:
    """An EC2 key of demo for project demo."""
    base = f"/v3/users/{keystone.ids['users']['demo']}/credentials/OS-EC2"
    answer = keystone.post(base, {"tenant_id": keystone.ids["projects"]["demo"]}, token)
    assert answer.status_code == 201, answer.text
    return answer.json()["credential"]


def signed(key: dict[str, Any], version: str = "2", **more: Any) -> dict[str, Any]:
    """What a service sends of a request that was signed with an EC2 key."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    asked: dict[str, Any] = {"access": key["access"], "host": "cloud:8773", "verb": "GET", "path": "/", **more}
    if version == "4":
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{key['access']}/{date[:8]}/RegionOne/ec2/aws4_request"
        signed_headers = "host;x-amz-date"
        asked["headers"] = {
            "Host": "cloud:8773", "X-Amz-Date": date,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope},SignedHeaders={signed_headers},Signature=x",
        }  # fmt: skip
        asked |= {"params": {"Action": "Test"}, "body_hash": hashlib.sha256(b"").hexdigest()}
    else:
        params = {"SignatureVersion": version, "Action": "Test", "Timestamp": now}
        if version == "2":
            params["SignatureMethod"] = "HmacSHA256"
        asked["params"] = {**params, **more.get("params", {})}
    return {**asked, "signature": ec2_signatures.sign(key["secret"], asked)}
