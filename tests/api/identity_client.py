"""A cloud with only Keystone in it, and a client whose every answer is held against the OpenAPI description."""

import types
from typing import Any

import httpx
import openapi
from cryptography.fernet import Fernet, MultiFernet
from starlette.testclient import TestClient

from kilonova.db.engine import Database
from kilonova.identity import passwords, security, seed, tokens
from kilonova.identity.routes import SERVICE
from kilonova.web.router import Application

PASSWORDS = {"admin": "admin-secret", "demo": "demo-secret"}
ROOT = "http://testserver"


def application(
    database: Database, url: str = ROOT, fernet: Any = None, settings: security.Settings | None = None
) -> tuple[Application, dict[str, Any]]:
    """The app over a seeded database, and the seed's ids."""
    passwords.ROUNDS = 4
    fernet = fernet or MultiFernet([Fernet(Fernet.generate_key())])
    ids = database.write(lambda tx: seed.seed(tx, admin_password=PASSWORDS["admin"], demo_password=PASSWORDS["demo"]))
    shared = types.SimpleNamespace(fernet=fernet, identity=settings or security.Settings(fernet))
    return Application([SERVICE], database, tokens.Authenticator(fernet), shared, url), ids


class Keystone:
    """`get/post/…(path, body, token=…)` below /identity; the default token is an admin's on project admin."""

    def __init__(self, database: Database) -> None:
        self.app, self.ids = application(database)
        self.http = TestClient(self.app, ROOT, raise_server_exceptions=False, follow_redirects=False)
        self.admin = self.login("admin", project="admin")

    def login(self, user: str, password: str | None = None, **scope: str) -> str:
        answer = self.auth(user, password, **scope)
        assert answer.status_code == 201, answer.text
        return answer.headers["X-Subject-Token"]

    def auth(self, user: str, password: str | None = None, **scope: str) -> httpx.Response:
        """`project=`, `domain=` (names, in Default) or `system="all"`; nothing is no scope at all."""
        who = {"name": user, "domain": {"id": "default"}, "password": password or PASSWORDS.get(user, "secret")}
        asked: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": who}}}
        if "project" in scope:
            asked["scope"] = {"project": {"name": scope["project"], "domain": {"name": "Default"}}}
        if "domain" in scope:
            asked["scope"] = {"domain": {"name": scope["domain"]}}
        if "system" in scope:
            asked["scope"] = {"system": {"all": True}}
        return self.request("POST", "/v3/auth/tokens", {"auth": asked}, token="")

    def rescope(self, token: str, scope: Any = None) -> httpx.Response:
        asked: dict[str, Any] = {"identity": {"methods": ["token"], "token": {"id": token}}}
        if scope is not None:
            asked["scope"] = scope
        return self.request("POST", "/v3/auth/tokens", {"auth": asked}, token="")

    def request(
        self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str
    ) -> httpx.Response:
        token = self.admin if token is None else token
        sent = {"X-Auth-Token": token} if token else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.http.request(method, "/identity" + path, json=body, headers=sent)
        if answer.content and answer.status_code < 300 and openapi.available():
            openapi.check_response("identity", method, path, answer.status_code, answer.json())
        if answer.status_code >= 400:
            assert answer.status_code < 500, answer.text
            if method != "HEAD":
                assert set(answer.json()["error"]) == {"code", "title", "message"}
                assert answer.json()["error"]["code"] == answer.status_code
        return answer

    def get(self, path: str, token: str | None = None, **headers: str) -> Any:
        return self.request("GET", path, None, token, **headers)

    def post(self, path: str, body: Any, token: str | None = None) -> Any:
        return self.request("POST", path, body, token)

    def patch(self, path: str, body: Any, token: str | None = None) -> Any:
        return self.request("PATCH", path, body, token)

    def put(self, path: str, body: Any = None, token: str | None = None) -> Any:
        return self.request("PUT", path, body, token)

    def delete(self, path: str, token: str | None = None, **headers: str) -> Any:
        return self.request("DELETE", path, None, token, **headers)

    def make(self, kind: str, **attributes: Any) -> dict[str, Any]:
        """Create a resource as admin: `make("user", name="u")`."""
        answer = self.post(f"/v3/{kind}s", {kind: attributes})
        assert answer.status_code == 201, answer.text
        return answer.json()[kind]
