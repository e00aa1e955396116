"""resize, confirmResize, revertResize and the migrations that they leave, at the door."""

from collections.abc import Callable
from typing import Any

import pytest
from compute_client import ADMIN, DEMO_PROJECT, READER, Nova, messages

from kilonova.compute import migrations, quotas, states
from kilonova.db.engine import Database, Tx
from kilonova.web.validate import is_uuid


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def act(nova: Nova, id: str, action: str, argument: Any = None, **more: Any) -> Any:
    return nova.post(f"/servers/{id}/action", {action: argument}, **more)


def put(nova: Nova, id: str, **values: Any) -> None:
    nova.database.write(lambda tx: states._update(tx, id, **values))


def play_resize(nova: Nova, id: str, memory_mb: int = 512) -> None:
    """What the flow writes to the database."""

    def run(tx: Tx) -> None:
        row = states.get_row(tx, id)
        new = {**row["flavor"], "id": "3", "name": "m1.small", "memory_mb": memory_mb, "disk_gb": 2}
        uuid = migrations.begin(tx, row, new, row["user_id"], row["project_id"])
        migrations.set_flavor(tx, id, new)
        migrations.set_status(tx, uuid, "finished")
        states.set_resized(tx, id, running=True)

    nova.database.write(run)


def limit(nova: Nova, **values: int) -> None:
    nova.database.write(lambda tx: quotas.store(tx, f"project:{DEMO_PROJECT}", values))


@pytest.mark.parametrize(
    ("prepare", "argument", "status", "word"),
    [
        (lambda nova, id: None, {"flavorRef": "3"}, 202, ""),
        (lambda nova, id: put(nova, id, vm_state="stopped"), {"flavorRef": "3"}, 202, ""),
        (lambda nova, id: None, {"flavorRef": "2"}, 400, "instances must change flavor"),
        (lambda nova, id: None, {"flavorRef": "nowhere"}, 400, "Flavor nowhere could not be found"),
        (lambda nova, id: None, {}, 400, "flavorRef"),
        (lambda nova, id: None, {"flavorRef": "3", "x": 1}, 400, "'x'"),
        (lambda nova, id: play_resize(nova, id), {"flavorRef": "2"}, 409, "vm_state resized"),
        (lambda nova, id: put(nova, id, task_state="image_uploading"), {"flavorRef": "3"}, 409, "task_state image_uploading"),
        (lambda nova, id: limit(nova, ram=300), {"flavorRef": "3"}, 403, "Requested 256, but already used 256 of 300 ram"),
    ],
)  # fmt: skip
def test_a_resize_is_checked_at_once(
    nova: Nova, prepare: Callable[[Nova, str], Any], argument: Any, status: int, word: str
) -> None:
    id = nova.active(flavorRef="2")
    prepare(nova, id)
    answer = act(nova, id, "resize", argument)
    assert answer.status_code == status, answer.text
    if status == 202:
        assert nova.shared.flows.started[-1] == ("resize", id)
        assert nova.get(f"/servers/{id}").json()["server"]["status"] == "RESIZE"
    else:
        assert word in messages(answer)


def test_a_disk_gets_no_smaller(nova: Nova) -> None:
    answer = act(nova, nova.active(flavorRef="3"), "resize", {"flavorRef": "2"})
    assert (answer.status_code, "Unable to resize disk down" in messages(answer)) == (400, True)


@pytest.mark.parametrize(("action", "status"), [("confirmResize", "VERIFY_RESIZE"), ("revertResize", "REVERT_RESIZE")])
def test_a_resize_is_confirmed_or_reverted_once(nova: Nova, action: str, status: str) -> None:
    id = nova.active(flavorRef="2")
    refused = act(nova, id, action)
    assert (refused.status_code, "vm_state active" in messages(refused)) == (409, True)
    play_resize(nova, id)
    server = nova.get(f"/servers/{id}").json()["server"]
    assert (server["status"], server["flavor"]["original_name"]) == ("VERIFY_RESIZE", "m1.small")
    assert act(nova, id, action).status_code == (204 if action == "confirmResize" else 202)
    assert nova.shared.flows.started[-1] == (action, id)
    assert nova.get(f"/servers/{id}").json()["server"]["status"] == status
    for again in ("confirmResize", "revertResize"):
        assert act(nova, id, again).status_code in (400, 409)


def test_a_revert_stays_within_the_quota(nova: Nova) -> None:
    id = nova.active(flavorRef="2")
    play_resize(nova, id, memory_mb=128)
    limit(nova, ram=200)
    answer = act(nova, id, "revertResize")
    assert (answer.status_code, "Requested 128, but already used 128 of 200 ram" in messages(answer)) == (403, True)


def test_migrations_are_shown_to_administrators(nova: Nova) -> None:
    first, second = nova.active(flavorRef="2"), nova.active(flavorRef="2")
    play_resize(nova, first)
    play_resize(nova, second)
    for version in ("2.1", "2.22", "2.23", "2.58", "2.59", "2.66", "2.79", "2.80", "2.96"):
        listed = nova.get("/os-migrations", ADMIN, version).json()["migrations"]
        minor = int(version.partition(".")[2])
        assert [row["instance_uuid"] for row in listed] == ([second, first] if minor >= 59 else [first, second])
        row = listed[0]
        assert (row["status"], row["source_compute"], row["dest_compute"]) == ("finished", "host-1", "host-1")
        assert (row["old_instance_type_id"], row["new_instance_type_id"]) == (2, 3)
        assert (row.get("migration_type") == "resize") == (minor >= 23)
        assert is_uuid(row.get("uuid", "")) == (minor >= 59)
        assert (row.get("project_id") == DEMO_PROJECT) == (minor >= 80)
    page = nova.get("/os-migrations?limit=1", ADMIN).json()
    assert [row["instance_uuid"] for row in page["migrations"]] == [second]
    following = page["migrations_links"][0]["href"].partition("/compute/v2.1")[2]
    assert [row["instance_uuid"] for row in nova.get(following, ADMIN).json()["migrations"]] == [first]
    for query, count in (
        (f"instance_uuid={first}", 1), ("status=error", 0), ("migration_type=resize", 2), ("host=host-1", 2),
        ("host=host-2", 0), (f"project_id={DEMO_PROJECT}", 2), ("user_id=nobody", 0),
        ("changes-since=2001-01-01T00:00:00Z", 2), ("changes-before=2001-01-01T00:00:00Z", 0),
    ):  # fmt: skip
        assert len(nova.get(f"/os-migrations?{query}", ADMIN).json()["migrations"]) == count, query
    for query in ("marker=nowhere", "x=y", "changes-since=never"):
        assert nova.get(f"/os-migrations?{query}", ADMIN).status_code == 400
    assert nova.get("/os-migrations").status_code == 403
    assert nova.get("/os-migrations", READER).status_code == 403


def test_a_servers_own_list_is_of_live_migrations(nova: Nova) -> None:
    id = nova.active(flavorRef="2")
    play_resize(nova, id)
    assert nova.get(f"/servers/{id}/migrations", ADMIN).json() == {"migrations": []}
    number = nova.get("/os-migrations", ADMIN).json()["migrations"][0]["id"]
    for asked, word in ((number, "is not live-migration"), (number + 1, "not found"), ("x", "not found")):
        answer = nova.get(f"/servers/{id}/migrations/{asked}", ADMIN)
        assert (answer.status_code, word in messages(answer)) == (404, True)
    assert nova.get(f"/servers/{id}/migrations", ADMIN, "2.22").status_code == 404


def test_a_resize_says_how_the_disk_is_partitioned(nova: Nova) -> None:
    """Until it is said again."""
    id = nova.active()
    for asked, shown in (({}, "MANUAL"), ({"OS-DCF:diskConfig": "AUTO"}, "AUTO"), ({}, "AUTO")):
        assert act(nova, id, "resize", {"flavorRef": "3"} | asked).status_code == 202
        assert nova.get(f"/servers/{id}").json()["server"]["OS-DCF:diskConfig"] == shown
        put(nova, id, task_state=None)
