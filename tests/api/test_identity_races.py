"""Many clients who ask Keystone for one and the same thing at once, on both databases: one makes it, none gets a 5xx."""

from collections.abc import Callable
from typing import Any

import pytest
from identity_client import Keystone
from test_identity_walks import things
from test_placement_races import CLIENTS, at_once

from kilonova.db.engine import Database
from kilonova.identity.security import Compliance, Settings
from kilonova.identity.tables import FAILED_LOGINS


@pytest.fixture
def keystone(database: Database) -> Keystone:
    return Keystone(database)


PUTS = (
    # path, what those get that come later
    ("projects/{projects}/users/{users}/roles/{roles}", 204),
    ("groups/{groups}/users/{users}", 204),
    ("projects/{projects}/tags/walked", 201),
    ("policies/{policies}/OS-ENDPOINT-POLICY/services/{services}", 204),
    ("roles/{roles}/implies/{implied}", 409),
    ("OS-EP-FILTER/projects/{projects}/endpoints/{endpoints}", 409),
)


@pytest.mark.parametrize(("path", "later"), PUTS)
def test_what_is_put_is_there_once(keystone: Keystone, path: str, later: int) -> None:
    ids = things(keystone) | {"implied": keystone.make("role", name="implied")["id"]}
    url = "/v3/" + path.format(**ids)
    found = sorted(answer.status_code for answer in at_once(lambda _: keystone.put(url)))
    assert found[0] in (201, 204) and found[1:] == [later] * (CLIENTS - 1)
    assert keystone.get(url).status_code in (200, 204)
    assert keystone.delete(url).status_code == 204 and keystone.get(url).status_code == 404


def test_tags_of_all_are_kept(keystone: Keystone) -> None:
    tags = f"/v3/projects/{keystone.make('project', name='tagged')['id']}/tags"
    at_once(lambda number: keystone.put(f"{tags}/tag-{number}"))
    assert set(keystone.get(tags).json()["tags"]) == {f"tag-{number}" for number in range(CLIENTS)}


@pytest.mark.parametrize("kind", ["registered_limits", "limits"])
def test_a_limit_is_one(keystone: Keystone, kind: str) -> None:
    ids = things(keystone)
    what = {"service_id": ids["services"], "resource_name": "cores"}
    bodies: dict[str, Callable[[], Any]] = {
        "registered_limits": lambda: [{**what, "default_limit": 5}],
        "limits": lambda: [{**what, "project_id": ids["projects"], "resource_limit": 3}],
    }
    if kind == "limits":
        assert keystone.post("/v3/registered_limits", {"registered_limits": bodies["registered_limits"]()}).status_code == 201
    found = at_once(lambda _: keystone.post(f"/v3/{kind}", {kind: bodies[kind]()}).status_code)
    assert sorted(found) == [201] + [409] * (CLIENTS - 1)
    system = keystone.login("admin", system="all")
    assert len(keystone.get(f"/v3/{kind}", system).json()[kind]) == 1


def test_a_token_ends_once(keystone: Keystone) -> None:
    token = keystone.login("demo", project="demo")
    found = at_once(lambda _: keystone.delete("/v3/auth/tokens", X_Subject_Token=token).status_code)
    assert set(found) <= {204, 404} and 204 in found
    assert keystone.get("/v3/projects", token).status_code == 401


@pytest.mark.parametrize("name", ["demo", "nobody"])
def test_each_failed_login_counts(keystone: Keystone, database: Database, name: str) -> None:
    keystone.app.shared.identity = Settings(None, Compliance(lockout_failure_attempts=CLIENTS + 1))
    assert set(at_once(lambda _: keystone.auth(name, "wrong").status_code)) == {401}
    assert database.read(lambda tx: tx.scalar(FAILED_LOGINS.select().with_only_columns(FAILED_LOGINS.c.count))) == CLIENTS
    keystone.auth(name, "wrong")
    assert keystone.auth(name).status_code == 401
