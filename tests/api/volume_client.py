"""Cinder behind its HTTP door, over the fake host: flows run when a test says so; answers are held against descriptions."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openapi
import pytest
from compute_client import ADMIN, CONTEXTS, DEMO, DEMO_PROJECT, DOMAIN, OTHER, OTHER_PROJECT, READER, authenticate
from cryptography.fernet import Fernet, MultiFernet
from image_stores import file_stores
from starlette.testclient import TestClient

from kilonova.compute.routes import SERVICE as COMPUTE
from kilonova.db.engine import Database
from kilonova.flow.log import Journal
from kilonova.flow.tables import FLOWS
from kilonova.flow.wake import Doorbell
from kilonova.flow.worker import LocalSeam, control_turn, host_turn
from kilonova.flows.asks import Asks
from kilonova.flows.controlside import LocalControlSide
from kilonova.flows.hostside import run_verb
from kilonova.flows.storage_actions import StorageActions
from kilonova.flows.stories import FLOWS as STORIES
from kilonova.flows.subject import SUBJECTS
from kilonova.host.fake import FakeHost
from kilonova.identity.limits import in_force
from kilonova.identity.tables import PROJECTS
from kilonova.image.imports import Imports
from kilonova.image.routes import SERVICE as IMAGE
from kilonova.volume import seed
from kilonova.volume.routes import SERVICE as VOLUME
from kilonova.web.router import Application

__all__ = ["ADMIN", "CONTEXTS", "DEMO", "DEMO_PROJECT", "DOMAIN", "OTHER", "OTHER_PROJECT", "READER"]
LATEST = "3.71"


class Answering(Asks):
    """Questions are answered by the one host there is, at once."""

    def __init__(self, host: FakeHost) -> None:
        super().__init__()
        self.host = host

    def ask(self, host: str, verb: str, **arguments: Any) -> Any:
        return getattr(self.host, verb)(**arguments)


class Cinder:
    """`call` and its kin by token (DEMO unless said), in microversion `version`, each answer held against the description.

    Of Cinder's two addresses, a test asks without the project on SQLite, and with it on PostgreSQL.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.in_project = database.engine.dialect.name == "postgresql"
        self.host = FakeHost("host-1", folder / "fake")
        self.host.backends = ("file", "other")
        asks, images = Answering(self.host), file_stores(folder)
        self.journal = Journal(database, STORIES, SUBJECTS, Doorbell(), "node")
        self.control = LocalControlSide(database, self.journal, asks, images, self.host.name)
        self.storage = StorageActions(self.journal, asks)
        fernet = MultiFernet([Fernet(Fernet.generate_key())])
        imports = Imports(database, images)
        shared = SimpleNamespace(
            flows=None, storage=self.storage, images=images, imports=imports, fernet=fernet, limits=in_force
        )
        application = Application((VOLUME, IMAGE, COMPUTE), database, authenticate, shared, "http://testserver")
        self.http = TestClient(application, raise_server_exceptions=True)
        database.write(lambda tx: seed.seed(tx))
        self.control.report_inventory(self.host.inventory())
        with database.engine.begin() as connection:
            for id in (DEMO_PROJECT, OTHER_PROJECT):
                row = {"id": id, "name": id, "domain_id": "default", "parent_id": "default", "is_domain": False,
                       "enabled": True, "description": "", "extra": {}}  # fmt: skip
                connection.execute(PROJECTS.insert().values({key: row[key] for key in row if key in PROJECTS.c}))

    def call(
        self, method: str, path: str, body: Any = None, token: str = DEMO, version: str = LATEST
    ) -> httpx.Response:
        """`path` below /v3, or with a project's id before it."""
        if self.in_project and not re.match("/[0-9a-f]{32}/", path):
            path = f"/{CONTEXTS[token].project_id}{path}"
        headers = {"X-Auth-Token": token, "OpenStack-API-Version": f"volume {version}"}
        answer = self.http.request(method, f"/volume/v3{path}", json=body, headers=headers)
        if openapi.available() and answer.status_code < 300 and answer.content:
            action = next(iter(body)) if path.partition("?")[0].endswith("/action") and body else None
            openapi.check_response(
                "block-storage", method, f"/v3{path}", answer.status_code, answer.json(), version, action
            )
        return answer

    def get(self, path: str, token: str = DEMO, version: str = LATEST) -> httpx.Response:
        return self.call("GET", path, None, token, version)

    def post(self, path: str, body: Any, token: str = DEMO, version: str = LATEST) -> httpx.Response:
        return self.call("POST", path, body, token, version)

    def put(self, path: str, body: Any, token: str = DEMO, version: str = LATEST) -> httpx.Response:
        return self.call("PUT", path, body, token, version)

    def delete(self, path: str, token: str = DEMO, version: str = LATEST) -> httpx.Response:
        return self.call("DELETE", path, None, token, version)

    def made(self, kind: str, token: str = DEMO, *, path: str = "", run: bool = True, **values: Any) -> Any:
        """What POST answers, as it is once its flow has run: `kind` is the body's key."""
        path = path or f"/{kind}s"
        answer = self.post(path, {kind: values}, token)
        assert answer.status_code < 300, answer.text
        found = answer.json()[kind]
        if run:
            self.run()
            found = self.get(f"{path}/{found['id']}", token).json()[kind]
        return found

    def volume(self, token: str = DEMO, *, run: bool = True, **values: Any) -> Any:
        return self.made("volume", token, run=run, **{"size": 1, **values})

    def act(self, volume: Any, action: str, argument: Any = None, token: str = DEMO, version: str = LATEST) -> Any:
        """The answer to an action on a volume, once its flow has run."""
        answer = self.post(f"/volumes/{volume['id']}/action", {action: argument}, token, version)
        self.run()
        return answer

    def look(self, volume: Any, token: str = DEMO) -> Any:
        return self.get(f"/volumes/{volume['id']}", token).json()["volume"]

    def image(self, content: bytes = b"\0" * 512, token: str = DEMO, **values: Any) -> str:
        """The id of an active image."""
        headers = {"X-Auth-Token": token}
        wish = {"name": "i", "disk_format": "raw", "container_format": "bare", **values}
        id: str = self.http.post("/image/v2/images", json=wish, headers=headers).json()["id"]
        headers["Content-Type"] = "application/octet-stream"
        self.http.put(f"/image/v2/images/{id}/file", content=content, headers=headers).raise_for_status()
        return id

    def run(self) -> None:
        """All flows to their ends."""
        locks = self.folder / "locks"
        locks.mkdir(exist_ok=True)

        def verb(work: Any, cancelled: Any) -> Any:
            return run_verb(self.host, self.control, work, cancelled)

        for _ in range(300):
            worked = control_turn(self.journal)
            worked |= host_turn(LocalSeam(self.journal, lambda: None), self.host.name, verb, locks, lambda: None)
            if not worked and not self.database.write(
                lambda tx: tx.execute(FLOWS.update().where(FLOWS.c.wake_at > 0).values(wake_at=0.0)).rowcount
            ):
                return
        raise AssertionError("the flows do not come to an end")


def volume_type(cinder: Cinder, name: str, **values: Any) -> Any:
    answer = cinder.post("/types", {"volume_type": {"name": name, **values}}, ADMIN)
    assert answer.status_code == 200, answer.text
    return answer.json()["volume_type"]


@pytest.fixture
def cinder(database: Database, tmp_path: Path) -> Cinder:
    return Cinder(database, tmp_path)
