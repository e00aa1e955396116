"""Volumes and snapshots in Nova's old words (until 2.35), over the volume service itself; its assisted snapshots."""

import json
from typing import Any

import httpx
import openapi
import pytest
from compute_client import ADMIN, Nova, messages
from volume_client import DEMO, OTHER, READER, Cinder, cinder

from kilonova.compute import block_devices
from kilonova.compute.devices import Device
from kilonova.db.engine import Database
from kilonova.model.ids import new_id

__all__ = ["cinder"]
OLD = "2.35"


def ask(
    cinder: Cinder, method: str, path: str, body: Any = None, token: str = DEMO, version: str = OLD
) -> httpx.Response:
    headers = {"X-Auth-Token": token, "OpenStack-API-Version": f"compute {version}"}
    answer = cinder.http.request(method, f"/compute/v2.1{path}", json=body, headers=headers)
    route = "/v2.1" + path.partition("?")[0]
    if openapi.available() and answer.content and answer.status_code < 300:
        openapi.check_response("compute", method, route, answer.status_code, answer.json(), version, None)
    return answer


def test_volumes(cinder: Cinder) -> None:
    asked = {"size": "1", "display_name": "old", "display_description": "d", "metadata": {"a": "b"}}
    made = ask(cinder, "POST", "/os-volumes", {"volume": asked})
    assert made.status_code == 200, made.text
    id = made.json()["volume"]["id"]
    assert made.headers["Location"].endswith(f"/compute/v2.1/os-volumes/{id}")
    assert made.json()["volume"]["status"] == "creating"
    cinder.run()
    shown = ask(cinder, "GET", f"/os-volumes/{id}").json()["volume"]
    assert shown | {"createdAt": ""} == {
        "id": id, "status": "available", "size": 1, "availabilityZone": "nova", "createdAt": "", "attachments": [{}],
        "displayName": "old", "displayDescription": "d", "volumeType": "__DEFAULT__", "snapshotId": None,
        "metadata": {"a": "b"},
    }  # fmt: skip
    assert cinder.look(shown)["name"] == "old"
    second = cinder.volume()["id"]
    for path in ("/os-volumes", "/os-volumes/detail"):
        assert [volume["id"] for volume in ask(cinder, "GET", path).json()["volumes"]] == [second, id]
        assert [volume["id"] for volume in ask(cinder, "GET", f"{path}?limit=1&offset=1").json()["volumes"]] == [id]
        assert ask(cinder, "GET", path, token=OTHER).json() == {"volumes": []}
        assert ask(cinder, "GET", f"{path}?offset=x").status_code == 400
    assert ask(cinder, "GET", f"/os-volumes/{id}", token=OTHER).status_code == 404
    assert ask(cinder, "GET", f"/os-volumes/{id}", version="2.36").status_code == 404
    assert ask(cinder, "DELETE", f"/os-volumes/{id}", token=READER).status_code == 403
    assert ask(cinder, "DELETE", f"/os-volumes/{id}").status_code == 202
    cinder.run()
    assert ask(cinder, "GET", f"/os-volumes/{id}").status_code == 404
    assert ask(cinder, "DELETE", f"/os-volumes/{id}").status_code == 404


def test_an_attached_volume_tells_its_server(cinder: Cinder) -> None:
    id, server = cinder.volume()["id"], new_id()
    wanted = {"attachment": {"volume_uuid": id, "instance_uuid": server, "connector": {"host": cinder.host.name}}}
    attachment = cinder.post("/attachments", wanted).json()["attachment"]["id"]
    assert cinder.post(f"/attachments/{attachment}/action", {"os-complete": None}).status_code == 204
    shown = ask(cinder, "GET", f"/os-volumes/{id}").json()["volume"]
    assert (shown["status"], shown["attachments"]) == ("in-use", [{"id": id, "volumeId": id, "serverId": server}])
    assert ask(cinder, "DELETE", f"/os-volumes/{id}").status_code == 400


@pytest.mark.parametrize(("asked", "status"), [
    ({}, 400), ({"size": 0}, 400), ({"size": "#"}, 400), ({"size": ""}, 400), ({"size": 1, "more": 1}, 400),
    ({"size": 1, "volume_type": "none"}, 404), ({"size": 1, "snapshot_id": new_id()}, 404),
    ({"size": 1, "metadata": {"a": {}}}, 400), ({"size": 100000}, 403), ({"size": 1, "display_name": "x" * 256}, 400),
    ({"size": 1, "display_description": "x" * 256}, 400), ({"size": 1, "availability_zone": "moon"}, 400),
])  # fmt: skip
def test_wrong_volumes(cinder: Cinder, asked: dict[str, Any], status: int) -> None:
    answer = ask(cinder, "POST", "/os-volumes", {"volume": asked})
    assert answer.status_code == status, answer.text
    assert ask(cinder, "GET", "/os-volumes").json() == {"volumes": []}


def test_snapshots(cinder: Cinder) -> None:
    volume = cinder.volume()["id"]
    made = ask(cinder, "POST", "/os-snapshots", {"snapshot": {"volume_id": volume, "display_name": "s"}})
    assert made.status_code == 200, made.text
    id = made.json()["snapshot"]["id"]
    cinder.run()
    shown = ask(cinder, "GET", f"/os-snapshots/{id}").json()["snapshot"]
    assert shown | {"createdAt": ""} == {
        "id": id, "volumeId": volume, "status": "available", "size": 1, "createdAt": "", "displayName": "s",
        "displayDescription": None,
    }  # fmt: skip
    for path in ("/os-snapshots", "/os-snapshots/detail"):
        assert [one["id"] for one in ask(cinder, "GET", path).json()["snapshots"]] == [id]
        assert ask(cinder, "GET", path, token=OTHER).json() == {"snapshots": []}
    assert ask(cinder, "POST", "/os-snapshots", {"snapshot": {"volume_id": new_id()}}).status_code == 404
    for wrong in ({}, *({"volume_id": volume, f"display_{word}": "x" * 256} for word in ("name", "description"))):
        assert ask(cinder, "POST", "/os-snapshots", {"snapshot": wrong}).status_code == 400
    assert ask(cinder, "DELETE", f"/os-snapshots/{id}", token=OTHER).status_code == 404
    assert ask(cinder, "DELETE", f"/os-snapshots/{id}").status_code == 202
    cinder.run()
    assert ask(cinder, "GET", f"/os-snapshots/{id}").status_code == 404


def test_assisted_snapshots(database: Database) -> None:
    """Accepted for a volume that a server has; what becomes of it is told by the server's actions."""
    nova, volume = Nova(database), new_id()
    server = nova.active()
    made = Device("volume", "volume", volume, size_gb=1, name="/dev/vdb")
    database.write(lambda tx: block_devices.add(tx, server, made, volume_id=volume))
    info = {"snapshot_id": new_id(), "type": "qcow2", "new_file": "new"}

    def create(volume: str, token: str = ADMIN, **more: Any) -> httpx.Response:
        body = {"snapshot": {"volume_id": volume, "create_info": {**info, **more}}}
        return nova.post("/os-assisted-volume-snapshots", body, token)

    assert create(volume).json() == {"snapshot": {"id": None, "volumeId": volume}}
    mine = new_id()
    assert create(volume, id=mine).json()["snapshot"]["id"] == mine
    assert create(volume, DEMO).status_code == 403
    assert create(volume, type="raw").status_code == 400
    assert create(new_id()).status_code == 400
    path = f"/os-assisted-volume-snapshots/{mine}"
    found = nova.delete(f"{path}?delete_info={json.dumps({'volume_id': volume})}", ADMIN)
    assert found.status_code == 204, found.text
    deep = "[" * 5000
    for wrong in ("", "?delete_info={", f"?delete_info={deep}", "?delete_info=[]", "?delete_info=%7B%22volume_id%22%3A7%7D"):
        assert nova.delete(path + wrong, ADMIN).status_code == 400
    strange = nova.delete(f"{path}?delete_info={json.dumps({'volume_id': volume})}&more=1", ADMIN)
    assert (strange.status_code, "'more'" in messages(strange)) == (400, True)
    assert [(action, id) for action, id, _ in nova.shared.flows.noted] == [
        ("volume_snapshot_create", server), ("volume_snapshot_create", server), ("volume_snapshot_delete", server),
    ]  # fmt: skip
    other = nova.active()
    database.write(lambda tx: block_devices.add(tx, other, made, volume_id=volume))
    assert "multi-attach" in messages(create(volume))
