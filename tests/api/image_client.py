"""Glance with its rows and its files, for tests at its door."""

import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openapi
from image_stores import file_stores
from starlette.testclient import TestClient

from kilonova.db.engine import Database
from kilonova.image.fetch import WebSource
from kilonova.image.imports import Imports
from kilonova.image.routes import SERVICE
from kilonova.web.call import Context
from kilonova.web.router import Application

ROLES = {"admin": {"admin", "member", "reader"}, "alice": {"member", "reader"}, "bob": {"member", "reader"},
         "watcher": {"reader"}, "nova": {"service"}}  # fmt: skip
PROJECTS = {"admin": "p-admin", "alice": "p-alice", "bob": "p-bob", "watcher": "p-alice", "nova": "p-service"}
OCTETS = {"Content-Type": "application/octet-stream"}
PATCH = "application/openstack-images-v2.1-json-patch"


class Glance:
    """`stores`: names of directories, the first by default."""

    def __init__(
        self, database: Database, directory: Path, web: WebSource | None = None, stores: tuple[str, ...] = ()
    ) -> None:  # fmt: skip
        self.directory, self.kept = directory, directory / "images"
        self.stores = file_stores(directory, *stores)
        self.store = self.stores.default
        self.database = database
        who = {
            name: Context(user_id=name, project_id=PROJECTS[name], roles=frozenset(roles))
            for name, roles in ROLES.items()
        }
        self.imports = Imports(database, self.stores, web)
        self.limits: dict[str, int] = {}  # what every project may have
        shared = SimpleNamespace(images=self.stores, imports=self.imports, limits=lambda *_: self.limits)
        self.app = Application([SERVICE], database, lambda _, token: who[token], shared, "http://testserver")
        self.http = TestClient(self.app, raise_server_exceptions=False)

    def __call__(self, method: str, path: str, body: Any = None, who: str = "alice", **more: Any) -> httpx.Response:
        headers = {"X-Auth-Token": who, **more.pop("headers", {})}
        answer = self.http.request(method, f"/image/v2{path}", json=body, headers=headers, params=more or None)
        if openapi.available() and answer.headers.get("Content-Type") == "application/json":
            openapi.check_response("image", method, f"/v2{path}", answer.status_code, answer.json())
        return answer

    def image(self, who: str = "alice", **values: Any) -> dict[str, Any]:
        body = {"name": "image", "disk_format": "raw", "container_format": "bare", **values}
        made = self("POST", "/images", body, who=who)
        assert made.status_code == 201, made.text
        return dict(made.json())

    def upload(self, image_id: str, data: bytes, who: str = "alice", kind: str = "file") -> httpx.Response:
        headers = {"X-Auth-Token": who, **OCTETS}
        return self.http.put(f"/image/v2/images/{image_id}/{kind}", content=data, headers=headers)

    def patch(self, image_id: str, changes: Any, who: str = "alice", kind: str = PATCH) -> httpx.Response:
        return self("PATCH", f"/images/{image_id}", changes, who=who, headers={"Content-Type": kind})

    def names(self, who: str = "alice", **query: Any) -> list[str]:
        answer = self("GET", "/images", who=who, **query)
        assert answer.status_code == 200, answer.text
        return [image["name"] for image in answer.json()["images"]]

    def files(self) -> list[str]:
        """All that is kept in the default store, and what is staged."""
        staged = [f"{path.name}.staged" for path in (self.directory / "staged").iterdir()]
        return sorted(staged + [path.name for path in self.kept.iterdir()])


def qcow2(path: Path, *options: str, size: str = "1M") -> bytes:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *options, path, size], check=True, capture_output=True)
    return path.read_bytes()


def until(check: Any, what: str) -> None:
    for _ in range(500):
        if check():
            return
        time.sleep(0.01)
    raise AssertionError(what)
