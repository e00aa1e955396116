"""The real clients, keystoneauth1 and `openstack`, against a real server."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from identity_client import PASSWORDS, application
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3

from kilonova.db.engine import Database


@pytest.fixture
def root(tmp_path: Path) -> Iterator[str]:
    """The public root of a served Keystone, on a port of its own."""
    database = Database(f"sqlite:///{tmp_path}/kilonova.db")
    database.migrate()
    app, _ = application(database)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    listener = server.config.bind_socket()
    listener.listen(64)  # clients may come before the server's own thread is ready
    app.public_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield app.public_url
    server.should_exit = True
    thread.join()
    listener.close()
    database.close()


def login(root: str, user: str = "demo", **scope: object) -> session.Session:
    auth = v3.Password(f"{root}/identity", username=user, password=PASSWORDS[user], user_domain_id="default", **scope)
    return session.Session(auth=auth)


def test_keystoneauth(root: str) -> None:
    demo = login(root, project_name="demo", project_domain_name="Default")
    assert demo.get_endpoint(service_type="compute", interface="public") == f"{root}/compute/v2.1"
    assert demo.get_endpoint(service_type="identity", interface="internal", version=3) == f"{root}/identity/v3"
    assert demo.auth.get_access(demo).role_names == ["member", "reader"]
    with pytest.raises(exceptions.Forbidden):
        demo.get("/users", endpoint_filter={"service_type": "identity"})
    token = v3.Token(f"{root}/identity", demo.get_token(), unscoped=True)
    assert session.Session(auth=token).get(f"{root}/identity/v3/auth/projects").json()["projects"][0]["name"] == "demo"
    with pytest.raises(exceptions.Unauthorized):
        login(root, project_name="admin", project_domain_id="default").get_token()


def test_a_session_logs_in_again_when_its_token_is_revoked(root: str) -> None:
    demo = login(root, project_name="demo", project_domain_name="Default")
    first = demo.get_token()
    headers = {"X-Subject-Token": first}
    assert demo.delete(f"{root}/identity/v3/auth/tokens", headers=headers).status_code == 204
    assert demo.get(f"{root}/identity/v3/auth/projects").status_code == 200
    assert demo.get_token() != first


def test_openstack_client(root: str) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OS_")},
        "OS_AUTH_URL": f"{root}/identity",
        "OS_USERNAME": "admin",
        "OS_PASSWORD": PASSWORDS["admin"],
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_DOMAIN_ID": "default",
    }

    def openstack(*words: str) -> str:
        command = [Path(sys.executable).parent / "openstack", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout

    catalog = json.loads(openstack("catalog", "list", "-f", "json"))
    assert {entry["Type"] for entry in catalog} == {
        "identity", "compute", "network", "image", "block-storage", "volumev3", "placement",
    }  # fmt: skip
    made = json.loads(openstack("user", "create", "ann", "--password", "x", "--project", "demo", "-f", "json"))
    assert made["name"] == "ann"
    openstack("role", "add", "--user", "ann", "--project", "demo", "reader")
    rows = json.loads(openstack("role", "assignment", "list", "--names", "--user", "ann", "-f", "json"))
    assert [(row["Role"], row["Project"]) for row in rows] == [("reader", "demo@Default")]
