"""Many clients who ask Keystone for one and the same thing at once, on both databases: one makes it, none gets a 5xx."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from identity_client import Keystone
from test_identity_walks import things
from test_placement_races import CLIENTS, at_once

from kilonova.db.engine import Database
from kilonova.identity.security import Compliance, Settings
from kilonova.identity.tables import (
    ASSIGNMENTS,
    CREDENTIALS,
    ENDPOINTS,
    FAILED_LOGINS,
    GROUPS,
    LIMITS,
    MEMBERSHIPS,
    POLICIES,
    POLICY_ASSOCIATIONS,
    PROJECT_ENDPOINTS,
    PROJECTS,
    REGIONS,
    REGISTERED_LIMITS,
    ROLES,
    SERVICES,
    TRUSTS,
    USERS,
)


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


# The kind that is deleted, its table; then what is made of it meanwhile: method, path and body, with KEY for the id, and
# the column that names it.
DOMAIN, PROJECT, USER, ROLE = ("domains", PROJECTS), ("projects", PROJECTS), ("users", USERS), ("roles", ROLES)
SERVICE, REGION, REGISTERED = ("services", SERVICES), ("regions", REGIONS), ("registered_limits", REGISTERED_LIMITS)
NAMED = {"name": "NUMBER"}
AMOUNT = {"service_id": "{services}", "resource_name": "NUMBER", "resource_limit": 1}
RACES = (
    (DOMAIN, "POST", "users", {"user": {**NAMED, "domain_id": "KEY"}}, USERS.c.domain_id),
    (DOMAIN, "POST", "groups", {"group": {**NAMED, "domain_id": "KEY"}}, GROUPS.c.domain_id),
    (DOMAIN, "POST", "projects", {"project": {**NAMED, "domain_id": "KEY"}}, PROJECTS.c.domain_id),
    (DOMAIN, "POST", "roles", {"role": {**NAMED, "domain_id": "KEY"}}, ROLES.c.domain_id),
    (PROJECT, "POST", "projects", {"project": {**NAMED, "parent_id": "KEY"}}, PROJECTS.c.parent_id),
    (PROJECT, "POST", "users/{users}/credentials/OS-EC2", {"tenant_id": "KEY"}, CREDENTIALS.c.project_id),
    (PROJECT, "PUT", "OS-EP-FILTER/projects/KEY/endpoints/{endpoints}", None, PROJECT_ENDPOINTS.c.project_id),
    (PROJECT, "PUT", "projects/KEY/users/{users}/roles/{roles}", None, ASSIGNMENTS.c.target_id),
    (USER, "PUT", "projects/{projects}/users/KEY/roles/{roles}", None, ASSIGNMENTS.c.actor_id),
    (USER, "PUT", "groups/{groups}/users/KEY", None, MEMBERSHIPS.c.user_id),
    (ROLE, "PUT", "projects/{projects}/users/{users}/roles/KEY", None, ASSIGNMENTS.c.role_id),
    (SERVICE, "POST", "endpoints", {"endpoint": {"service_id": "KEY", "interface": "public", "url": "http://a/"}},
     ENDPOINTS.c.service_id),
    (SERVICE, "POST", "registered_limits", {"registered_limits": [
        {"service_id": "KEY", "resource_name": "a", "default_limit": 1}]}, REGISTERED_LIMITS.c.service_id),
    (REGION, "POST", "endpoints", {"endpoint": {"service_id": "{services}", "region_id": "KEY", "interface": "public",
                                                "url": "http://a/"}}, ENDPOINTS.c.region_id),
    (REGION, "POST", "regions", {"region": {"parent_region_id": "KEY"}}, REGIONS.c.parent_region_id),
    (REGISTERED, "POST", "limits", {"limits": [{**AMOUNT, "project_id": "{projects}"}]}, LIMITS.c.registered_limit_id),
    (("policies", POLICIES), "PUT", "policies/KEY/OS-ENDPOINT-POLICY/endpoints/{endpoints}", None,
     POLICY_ASSOCIATIONS.c.policy_id),
)  # fmt: skip


def deletable(keystone: Keystone, kind: str, number: int, ids: dict[str, str]) -> str:
    """The id of a new one of that kind."""
    if kind == "registered_limits":
        asked = {"service_id": ids["services"], "resource_name": str(number), "default_limit": 1}
        return str(keystone.post(f"/v3/{kind}", {kind: [asked]}).json()[kind][0]["id"])
    extra: dict[str, Any] = {"services": {"type": "t"}, "policies": {"type": "t", "blob": "b"}}.get(kind, {})
    name = "policy" if kind == "policies" else kind[:-1]
    body = {name: {**({} if kind in ("regions", "policies") else {"name": f"deleted-{number}"}), **extra}}
    body[name] |= {"enabled": False} if kind == "domains" else {}
    made = keystone.post(f"/v3/{kind}", body)
    assert made.status_code == 201, made.text
    return str(made.json()[name]["id"])


@pytest.mark.parametrize(
    ("deleted", "method", "path", "body", "column"), RACES, ids=[f"{race[0][0]}-{race[4]}" for race in RACES]
)
def test_what_is_deleted_leaves_no_orphan(
    keystone: Keystone, database: Database, deleted: Any, method: str, path: str, body: Any, column: Any
) -> None:
    """Something is made of it at the same moment: then that goes too, or is refused, or the delete is."""
    (kind, table), ids = deleted, things(keystone)
    keys = [deletable(keystone, kind, number, ids) for number in range(CLIENTS // 2)]

    def filled(text: str, number: int) -> str:
        for name, key in (("KEY", keys[number]), ("NUMBER", str(number)), *((f"{{{name}}}", id) for name, id in ids.items())):
            text = text.replace(name, key)
        return text

    def work(client: int) -> int:
        number, deletes = divmod(client, 2)
        if deletes:
            return int(keystone.delete(f"/v3/{kind}/{keys[number]}").status_code)
        asked = json.loads(filled(json.dumps(body), number))
        return int(keystone.request(method, f"/v3/{filled(path, number)}", asked).status_code)

    assert set(at_once(work)) <= {200, 201, 204, 400, 403, 404, 409}
    there = sa.select(table.c.id).where(table.c.id.in_(keys))
    orphans = sa.select(sa.func.count()).select_from(column.table).where(column.in_(keys), column.not_in(there))
    assert database.read(lambda tx: tx.scalar(orphans)) == 0


def test_a_trust_has_its_trustee(keystone: Keystone, database: Database) -> None:
    ids = things(keystone)
    keys = [deletable(keystone, "users", number, ids) for number in range(CLIENTS // 2)]
    demo = keystone.login("demo", project="demo")
    asked = {"trustor_user_id": keystone.ids["users"]["demo"], "impersonation": True, "roles": []}

    def work(client: int) -> int:
        key = keys[client // 2]
        if client % 2:
            return int(keystone.delete(f"/v3/users/{key}").status_code)
        made = keystone.post("/v3/OS-TRUST/trusts", {"trust": {**asked, "trustee_user_id": key}}, demo)
        return int(made.status_code)

    assert set(at_once(work)) <= {201, 204, 404}
    t = TRUSTS.c
    left = sa.select(sa.func.count()).select_from(TRUSTS).where(t.trustee_user_id.in_(keys), t.deleted_at.is_(None))
    assert database.read(lambda tx: tx.scalar(left)) == 0


@pytest.mark.parametrize("kind", ["user", "group", "project"])
def test_many_are_made_in_one_domain(keystone: Keystone, kind: str) -> None:
    """They meet in the domain's row, and wait for each other."""
    found = at_once(lambda number: keystone.post(f"/v3/{kind}s", {kind: {"name": f"made-{number}"}}).status_code)
    assert found == [201] * CLIENTS
