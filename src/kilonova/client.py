"""A small client of a cloud's own API, for the commands: token once, then JSON."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from kilonova.door import own_trust
from kilonova.model.errors import KilonovaError


class ClientError(KilonovaError):
    """The API refused; str() is its own sentence."""


class Client:
    """`cloud` is cloud.json's content. Acts as admin unless told otherwise."""

    def __init__(self, cloud: dict[str, Any], user: str = "admin") -> None:
        self.url = cloud["own_url"]
        self._http = httpx.Client(verify=own_trust(cloud["tls_cert"]), timeout=60, trust_env=False)
        identity = {
            "methods": ["password"],
            "password": {
                "user": {"name": user, "domain": {"id": "default"}, "password": cloud[f"{user}_password"]},
            },
        }
        scope = {"project": {"name": user, "domain": {"id": "default"}}}
        answer = self._send("POST", "/identity/v3/auth/tokens", json={"auth": {"identity": identity, "scope": scope}})
        self._http.headers["X-Auth-Token"] = answer.headers["X-Subject-Token"]
        self._http.headers["OpenStack-API-Version"] = "compute latest"

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, self.url + path, **arguments)
        except httpx.HTTPError as error:
            raise ClientError(
                f"the cloud at {self.url} does not answer ({error}); is `kilonova up` running?"
            ) from error
        if answer.status_code >= 400:
            raise ClientError(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer

    def get(self, path: str, **params: str) -> Any:
        return self._send("GET", path, params=params).json()

    def post(self, path: str, body: Any) -> Any:
        answer = self._send("POST", path, json=body)
        return answer.json() if answer.content else None

    @contextmanager
    def stream(self, path: str, **params: str) -> Iterator[Iterator[bytes]]:
        """The pieces of a long answer as they come; there may be nothing for long."""
        patience = httpx.Timeout(60, read=None)
        try:
            with self._http.stream("GET", self.url + path, params=params, timeout=patience) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    raise ClientError(f"GET {path}: {answer.status_code} {answer.text[:500]}")
                yield answer.iter_raw()
        except httpx.HTTPError as error:
            raise ClientError(f"the cloud at {self.url} went away ({error})") from error

    def find_server(self, name_or_id: str) -> dict[str, Any]:
        """By id, or by a name that only one server has."""
        listed = self.get("/compute/v2.1/servers/detail", all_tenants="1")["servers"]
        found = [server for server in listed if name_or_id in (server["id"], server["name"])]
        if len(found) != 1:
            what = "no server has" if not found else f"{len(found)} servers have"
            raise ClientError(f"{what} the name or id {name_or_id}; `openstack server list` shows them")
        server: dict[str, Any] = found[0]
        return server

    def ports(self, server_id: str) -> list[dict[str, Any]]:
        ports: list[dict[str, Any]] = self.get("/network/v2.0/ports", device_id=server_id)["ports"]
        return ports

    def last_action(self, server_id: str, kind: str = "create") -> dict[str, Any] | None:
        """The newest action of that kind with its events, oldest event first; None when there is none."""
        path = f"/compute/v2.1/servers/{server_id}/os-instance-actions"
        for action in self.get(path)["instanceActions"]:
            if action["action"] == kind:
                whole: dict[str, Any] = self.get(f"{path}/{action['request_id']}")["instanceAction"]
                whole["events"] = sorted(whole.get("events") or [], key=lambda event: event["start_time"])
                return whole
        return None
