"""Usage by project, audits, events of other services, and what Nova keeps for old clients."""

import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from compute_client import ADMIN, DEMO, DEMO_PROJECT, OTHER, OTHER_PROJECT, Nova, messages
from image_stores import file_stores

from kilonova.compute import states
from kilonova.compute.more_routes import GONE
from kilonova.db.engine import Database

JANUARY, FEBRUARY = "2026-01-01T00:00:00", "2026-02-01T00:00:00"


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def ran(nova: Nova, start: str, end: str | None = None, token: str = DEMO) -> str:
    """A server that was launched then, and deleted."""
    id = nova.active(token, flavorRef="2")
    times: dict[str, Any] = {"launched_at": datetime.datetime.fromisoformat(start)}
    if end:
        times["terminated_at"] = times["deleted_at"] = datetime.datetime.fromisoformat(end)
        times["vm_state"] = "deleted"
    nova.database.write(lambda tx: states._update(tx, id, **times))
    return id


def usage(nova: Nova, path: str = "", token: str = ADMIN, version: str = "2.39", **query: str) -> Any:
    period = {"start": JANUARY, "end": FEBRUARY, **query}
    asked = "&".join(f"{key}={quote(value)}" for key, value in period.items())
    return nova.get(f"/os-simple-tenant-usage{path}?{asked}", token, version)


def test_usage_is_summed_over_the_time_asked_for(nova: Nova) -> None:
    first = ran(nova, "2026-01-10T00:00:00", "2026-01-10T06:00:00")
    second = ran(nova, "2025-12-31T00:00:00", "2026-01-01T02:00:00")  # two hours of it in January
    third = ran(nova, "2026-01-31T23:00:00", token=OTHER)
    ran(nova, "2026-02-02T00:00:00")
    found = {row["tenant_id"]: row for row in usage(nova).json()["tenant_usages"]}
    assert {project: row["total_hours"] for project, row in found.items()} == {DEMO_PROJECT: 8.0, OTHER_PROJECT: 1.0}
    mine = found[DEMO_PROJECT]
    assert (mine["total_memory_mb_usage"], mine["total_vcpus_usage"]) == (8.0 * 256, 8.0)
    assert "server_usages" not in mine
    detailed = usage(nova, detailed="1").json()["tenant_usages"]
    assert [row["instance_id"] for each in detailed for row in each["server_usages"]] == [first, second, third]
    shown = usage(nova, f"/{DEMO_PROJECT}", DEMO).json()["tenant_usage"]
    assert [(row["instance_id"], row["hours"], row["state"]) for row in shown["server_usages"]] == [
        (first, 6.0, "terminated"), (second, 2.0, "terminated"),
    ]  # fmt: skip
    assert usage(nova, f"/{'9' * 32}").json() == {"tenant_usage": {}}


def test_usage_is_paged_by_servers(nova: Nova) -> None:
    first, second = (ran(nova, "2026-01-10T00:00:00", "2026-01-10T06:00:00") for _ in range(2))
    page = usage(nova, version="2.40", limit="1", detailed="1").json()
    assert [row["instance_id"] for row in page["tenant_usages"][0]["server_usages"]] == [first]
    following = page["tenant_usages_links"][0]["href"].partition("/compute/v2.1")[2]
    page = nova.get(following, ADMIN, "2.40").json()
    assert [row["instance_id"] for row in page["tenant_usages"][0]["server_usages"]] == [second]
    shown = usage(nova, f"/{DEMO_PROJECT}", DEMO, "2.96", limit="1").json()
    assert (len(shown["tenant_usage"]["server_usages"]), len(shown["tenant_usage_links"])) == (1, 1)
    assert usage(nova, version="2.40", marker="nowhere").status_code == 400


def test_usage_that_is_none_is_refused(nova: Nova) -> None:
    for query in ({"start": "yesterday"}, {"start": FEBRUARY, "end": JANUARY}, {"start": FEBRUARY}):
        assert usage(nova, **query).status_code == 400
    assert usage(nova, version="2.75", colour="red").status_code == 400
    assert usage(nova, token=DEMO).status_code == 403
    assert usage(nova, f"/{DEMO_PROJECT}", OTHER).status_code == 403


def test_no_audits_run(nova: Nova) -> None:
    log = nova.get("/os-instance_usage_audit_log", ADMIN).json()["instance_usage_audit_logs"]
    assert (log["num_hosts_not_run"], log["hosts_not_run"], log["log"]) == (1, ["host-1"], {})
    before = nova.get("/os-instance_usage_audit_log/2026-02-03 10:00:00", ADMIN).json()["instance_usage_audit_log"]
    assert (before["period_beginning"], before["period_ending"]) == ("2026-01-01 00:00:00", "2026-02-01 00:00:00")
    assert nova.get("/os-instance_usage_audit_log/yesterday", ADMIN).status_code == 400
    assert nova.get("/os-instance_usage_audit_log").status_code == 403


def test_events_of_other_services_are_answered(nova: Nova) -> None:
    here, waiting, nowhere = nova.active(), nova.made(), "11111111-1111-1111-1111-111111111111"

    def send(id: str, name: str = "network-vif-plugged", version: str = "2.96", token: str = ADMIN, **more: str) -> Any:
        event = {"name": name, "server_uuid": id, **more}
        return nova.post("/os-server-external-events", {"events": [event]}, token, version)

    answer = send(here, tag="port")
    assert (answer.status_code, answer.json()["events"][0]["code"]) == (200, 200)
    for id, name, code in (
        (nowhere, "network-changed", 404),
        (waiting, "network-changed", 422),
        (here, "volume-extended", 400),
    ):
        answer = send(id, name)
        event = answer.json()["events"][0]
        assert (answer.status_code, event["status"], event["code"]) == (207, "failed", code)
    assert send(here, "volume-extended", "2.50").status_code == 400
    assert send(here, "tea-is-ready").status_code == 400
    assert send(here, token=DEMO).status_code == 403


@pytest.mark.parametrize(("path", "methods"), GONE, ids=[path for path, _ in GONE])
def test_what_is_gone_says_so(nova: Nova, path: str, methods: str) -> None:
    for method in methods.split():
        answer = nova.http.request(
            method,
            f"/compute/v2.1/{path}",
            headers={"X-Auth-Token": DEMO},
            json={} if method in ("POST", "PUT") else None,
        )
        assert (answer.status_code, answer.json()["computeFault"]["code"]) == (410, 410)


# --- hosts and images of old -------------------------------------------------------------------------------------------


def test_hosts_as_they_were_until_242(nova: Nova) -> None:
    nova.active(flavorRef="2")
    assert nova.get("/os-hosts", ADMIN, "2.42").json() == {
        "hosts": [{"host_name": "host-1", "service": "compute", "zone": "nova"}]
    }
    assert nova.get("/os-hosts?zone=west", ADMIN, "2.42").json() == {"hosts": []}
    lines = [line["resource"] for line in nova.get("/os-hosts/host-1", ADMIN, "2.1").json()["host"]]
    assert [line["project"] for line in lines] == ["(total)", "(used_now)", "(used_max)", DEMO_PROJECT]
    assert [line["memory_mb"] for line in lines] == [16384, 256, 256, 256]
    put = nova.put("/os-hosts/host-1", {"status": "disable"}, ADMIN, "2.42")
    assert put.json() == {"host": "host-1", "status": "disabled"}
    assert nova.get("/os-services", ADMIN).json()["services"][0]["status"] == "disabled"
    assert nova.put("/os-hosts/host-1", {"status": "perhaps"}, ADMIN, "2.42").status_code == 400
    assert nova.get("/os-hosts/nowhere", ADMIN, "2.42").status_code == 404
    assert nova.get("/os-hosts", ADMIN, "2.43").status_code == 404
    assert nova.get("/os-hosts", DEMO, "2.42").status_code == 403
    for path in ("host-1/reboot", "host-1/startup", "host-1/shutdown"):
        headers = {"X-Auth-Token": ADMIN, "OpenStack-API-Version": "compute 2.1"}
        assert nova.http.get(f"/compute/v2.1/os-hosts/{path}", headers=headers).status_code == 501


def test_images_in_nova_s_words(nova: Nova) -> None:
    server = nova.active()
    kept = {"instance_uuid": server, "image_type": "snapshot", "auto_disk_config": "true"}
    mine = nova.add_image(name="mine", visibility="private", owner=DEMO_PROJECT, properties=kept)
    nova.add_image(name="theirs", visibility="private", owner=OTHER_PROJECT)
    listed = {row["name"] for row in nova.get("/images", version="2.35").json()["images"]}
    assert listed == {"guest", "mine"}
    for query in (f"server={server}", f"server=http://x/servers/{server}", "type=snapshot", "name=mine",
                  "name=mine&status=ACTIVE"):  # fmt: skip
        found = nova.get(f"/images/detail?{query}", version="2.1").json()["images"]
        assert [row["id"] for row in found] == [mine], query
    assert nova.get("/images?changes-since=2126-01-01T00:00:00Z", version="2.1").json()["images"] == []
    shown = nova.get(f"/images/{mine}", version="2.1").json()["image"]
    assert (shown["status"], shown["progress"], shown["server"]["id"]) == ("ACTIVE", 100, server)
    assert (shown["metadata"], shown["OS-DCF:diskConfig"]) == (kept, "AUTO")
    page = nova.get("/images?limit=1", version="2.1").json()
    assert (len(page["images"]), len(page["images_links"])) == (1, 1)
    for query in ("limit=x", "marker=nowhere"):
        assert nova.get(f"/images?{query}", version="2.1").status_code == 400
    assert nova.get(f"/images/{mine}", OTHER, "2.1").status_code == 404
    assert nova.get(f"/images/{mine}", version="2.36").status_code == 404


def test_images_metadata_and_end(nova: Nova, tmp_path: Path) -> None:
    nova.shared.images = file_stores(tmp_path)  # type: ignore[attr-defined]
    id = nova.add_image(name="mine", visibility="public", owner=DEMO_PROJECT, properties={"a": "1"})

    def put(path: str, body: Any, token: str = DEMO) -> Any:
        return nova.put(f"/images/{id}/metadata{path}", body, token, "2.38")

    assert nova.get(f"/images/{id}/metadata", version="2.38").json() == {"metadata": {"a": "1"}}
    added = nova.post(f"/images/{id}/metadata", {"metadata": {"b": "2"}}, version="2.38")
    assert added.json() == {"metadata": {"a": "1", "b": "2"}}
    assert put("/b", {"meta": {"b": "3"}}).json() == {"meta": {"b": "3"}}
    assert nova.get(f"/images/{id}/metadata/b", version="2.38").json() == {"meta": {"b": "3"}}
    assert put("", {"metadata": {"c": "4"}}).json() == {"metadata": {"c": "4"}}
    assert nova.delete(f"/images/{id}/metadata/c", version="2.38").status_code == 204
    for answer, status in (
        (put("/x", {"meta": {"y": "1"}}), 400), (put("", {"metadata": {"x": "1"}}, OTHER), 403),
        (nova.get(f"/images/{id}/metadata/c", version="2.38"), 404),
        (nova.delete(f"/images/{id}/metadata/c", version="2.38"), 404),
        (nova.get(f"/images/{id}/metadata", version="2.39"), 404),
        (put("", {"metadata": {f"k{number}": "" for number in range(129)}}), 403),
        (nova.delete(f"/images/{id}", OTHER, "2.1"), 403),
    ):  # fmt: skip
        assert (answer.status_code, bool(messages(answer))) == (status, True)
    assert nova.delete(f"/images/{id}", version="2.1").status_code == 204
    assert nova.get(f"/images/{id}", version="2.1").status_code == 404


def test_servers_have_another_name_of_old(nova: Nova) -> None:
    last = "2.102"
    answer = nova.post("/os-volumes_boot", nova.body(), version="2.37")
    id = answer.json()["server"]["id"]
    assert (answer.status_code, answer.headers["Location"].rpartition("/compute/v2.1")[2]) == (202, f"/servers/{id}")
    nova.play_create(id)
    assert [row["id"] for row in nova.get("/os-volumes_boot", version=last).json()["servers"]] == [id]
    assert nova.get("/os-volumes_boot").status_code == 404  # from 2.103 on
    assert [row["status"] for row in nova.get("/os-volumes_boot/detail", version=last).json()["servers"]] == ["ACTIVE"]
    renamed = nova.put(f"/os-volumes_boot/{id}", {"server": {"name": "other"}}, version=last).json()["server"]
    assert (renamed["name"], nova.get(f"/os-volumes_boot/{id}", version=last).json()["server"]["name"]) == ("other", "other")
    assert nova.post(f"/os-volumes_boot/{id}/action", {"lock": None}, version=last).status_code == 202
    assert nova.get(f"/servers/{id}").json()["server"]["locked"] is True
    assert nova.get(f"/os-volumes_boot/{id}", OTHER, last).status_code == 404
    assert nova.delete(f"/os-volumes_boot/{id}", ADMIN, last).status_code == 204
    assert nova.shared.flows.started[-1] == ("delete", id)
