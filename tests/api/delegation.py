"""What the tests of delegated tokens share: a way to ask for them, and a second service that is asked with them."""

from typing import Any

import httpx
from identity_client import ROOT, Keystone
from starlette.testclient import TestClient

from kilonova.db.engine import Database
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
