"""Neutron alone behind its HTTP door, with tokens that name who asks."""

from typing import Any

import httpx
import openapi
from starlette.testclient import TestClient

from kilonova.db.engine import Database
from kilonova.model.errors import Unauthorized
from kilonova.network.routes import SERVICE
from kilonova.web.call import Context
from kilonova.web.policy import with_implied
from kilonova.web.router import Application

DEMO, OTHER, ADMIN, READER = "demo", "other", "admin", "reader"
CONTEXTS = {
    DEMO: Context(
        user_id="u1", project_id="11111111111111111111111111111111", roles=with_implied(frozenset({"member"}))
    ),
    READER: Context(user_id="u2", project_id="11111111111111111111111111111111", roles=frozenset({"reader"})),
    OTHER: Context(
        user_id="u3", project_id="22222222222222222222222222222222", roles=with_implied(frozenset({"member"}))
    ),
    ADMIN: Context(
        user_id="u4", project_id="33333333333333333333333333333333", roles=with_implied(frozenset({"admin"}))
    ),
}


def authenticate(database: Database, token: str) -> Context:
    if token not in CONTEXTS:
        raise Unauthorized("The request you have made requires authentication.")
    return CONTEXTS[token]


def without_nulls(body: Any) -> Any:
    """The description forgets that Neutron writes null for what is not set."""
    if isinstance(body, dict):
        return {key: without_nulls(value) for key, value in body.items() if value is not None}
    return [without_nulls(item) for item in body] if isinstance(body, list) else body


class Neutron:
    """`neutron.post("/v2.0/networks", {...}, token=DEMO)`; `make` expects success and returns the resource."""

    def __init__(self, database: Database) -> None:
        self.database = database
        application = Application([SERVICE], database, authenticate, None, "http://testserver")
        self.http = TestClient(application, raise_server_exceptions=True)

    def call(self, method: str, path: str, body: Any = None, token: str | None = DEMO) -> httpx.Response:
        headers = {"X-Auth-Token": token} if token else {}
        response = self.http.request(method, f"/network{path}", json=body, headers=headers)
        assert response.status_code < 500, response.text
        route = path.partition("?")[0].rstrip("/")
        if openapi.available() and response.content and openapi.find_path("network", route) and "fields=" not in path:
            openapi.check_response("network", method, route, response.status_code, without_nulls(response.json()))
        return response

    def get(self, path: str, token: str | None = DEMO) -> httpx.Response:
        return self.call("GET", path, token=token)

    def post(self, path: str, body: Any, token: str = DEMO) -> httpx.Response:
        return self.call("POST", path, body, token)

    def put(self, path: str, body: Any, token: str = DEMO) -> httpx.Response:
        return self.call("PUT", path, body, token)

    def delete(self, path: str, token: str = DEMO) -> httpx.Response:
        return self.call("DELETE", path, token=token)

    def make(self, name: str, /, token: str = DEMO, **values: Any) -> dict[str, Any]:
        response = self.post(f"/v2.0/{name.replace('_', '-')}s", {name: values}, token)
        assert response.status_code == 201, response.text
        made: dict[str, Any] = response.json()[name]
        return made

    def list(self, collection: str, query: str = "", token: str = DEMO) -> list[dict[str, Any]]:
        response = self.get(f"/v2.0/{collection}{query}", token)
        assert response.status_code == 200, response.text
        found: list[dict[str, Any]] = response.json()[collection.replace("-", "_")]
        return found


def refused(response: httpx.Response, status: int, kind: str) -> str:
    """The message of an error of this status and NeutronError type."""
    error = response.json()["NeutronError"]
    assert (response.status_code, error["type"]) == (status, kind), response.text
    return str(error["message"])
