"""Addresses of old, which name a project, and requests that end too soon."""

import asyncio
from typing import Any

import pytest
from compute_client import ADMIN, DEMO, DEMO_PROJECT, OTHER_PROJECT, Nova, messages

from kilonova.db.engine import Database


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


@pytest.mark.parametrize("root", ["v2.1", "v2"])
def test_a_version_may_be_followed_by_the_projects_id(nova: Nova, root: str) -> None:
    id, headers = nova.active(), {"X-Auth-Token": DEMO}

    def get(project: str, rest: str, token: str = DEMO) -> Any:
        return nova.http.get(f"/compute/{root}/{project}/{rest}", headers={"X-Auth-Token": token})

    plain = nova.http.get(f"/compute/{root}/servers/{id}", headers=headers).json()
    assert get(DEMO_PROJECT, f"servers/{id}").json() == plain
    listed = get(DEMO_PROJECT, "servers/detail?limit=1")
    assert [server["id"] for server in listed.json()["servers"]] == [id]
    answer = get(OTHER_PROJECT, f"servers/{id}")
    assert answer.status_code == 400
    assert messages(answer).startswith(f"Malformed request URL: URL's project_id '{OTHER_PROJECT}' doesn't match Context's")
    assert get(DEMO_PROJECT, f"servers/{id}", ADMIN).status_code == 400
    assert get(DEMO_PROJECT, "nonsense").status_code == get("Not-An-Id", "servers").status_code == 404
    deleted = nova.http.delete(f"/compute/{root}/{DEMO_PROJECT}/servers/{id}", headers=headers)
    assert deleted.status_code == 204


def test_a_request_whose_sender_goes_away_is_none_of_our_errors(nova: Nova, caplog: pytest.LogCaptureFixture) -> None:
    scope = {
        "type": "http", "method": "POST", "path": "/compute/v2.1/servers", "raw_path": b"/compute/v2.1/servers",
        "query_string": b"", "headers": [(b"x-auth-token", DEMO.encode())], "client": ("198.18.0.1", 1),
        "server": ("testserver", 80), "scheme": "http", "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    heard = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    said: list[Any] = []

    async def receive() -> Any:
        return heard.pop(0)

    async def send(message: Any) -> None:
        said.append(message)

    asyncio.run(nova.http.app(scope, receive, send))
    assert said[0]["status"] == 400
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
