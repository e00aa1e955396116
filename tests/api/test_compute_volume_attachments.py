"""The volumes of a server at Nova's door: reserved, shown, changed and let go; flows are only written down."""

from typing import Any

import pytest
from compute_client import ADMIN, CONTEXTS, DEMO, OTHER, READER, Nova, messages

from kilonova.db.engine import Database, Tx
from kilonova.model.ids import new_id
from kilonova.volume import attachments, seed, states, volumes


class NoFlows:
    def begin(self, *about: Any) -> None:
        """A volume is made by hand here."""


@pytest.fixture
def nova(database: Database) -> Nova:
    database.write(lambda tx: seed.seed(tx))
    return Nova(database)


def volume(nova: Nova) -> str:
    def run(tx: Tx) -> str:
        made = volumes.create(tx, CONTEXTS[DEMO], volumes.Wanted(size=1), NoFlows())  # type: ignore[arg-type]
        states.update(tx, "volume", made["id"], status="available", host="host-1", backend="file")
        return str(made["id"])

    return nova.database.write(run)


def status(nova: Nova, id: str) -> str:
    return str(nova.database.read(lambda tx: states.get_row(tx, "volume", id))["status"])


def play_attach(nova: Nova, shown: dict[str, Any]) -> None:
    """What the flow writes once the guest has it."""
    who, connection = CONTEXTS[DEMO], {"driver_volume_type": "file", "data": {}}
    id = shown["attachment_id"]
    nova.database.write(lambda tx: attachments.connect(tx, who, id, {"host": "host-1"}, connection, done=True))


def test_a_volume_is_attached_shown_and_detached(nova: Nova) -> None:
    server, id = nova.active(), volume(nova)
    path = f"/servers/{server}/os-volume_attachments"
    wish = {"volumeAttachment": {"volumeId": id, "tag": "data"}}
    assert nova.post(path, wish, READER).status_code == 403
    assert nova.post(path, wish, OTHER).status_code == 404
    made = nova.post(path, wish, version="2.100").json()["volumeAttachment"]
    assert (made.pop("id"), made["serverId"], made["tag"], made["device"]) == (id, server, "data", "/dev/vdb")
    assert status(nova, id) == "reserved" and nova.shared.flows.started[-1] == ("attach_volume", server)
    shown = nova.get(f"{path}/{id}").json()["volumeAttachment"]
    assert shown.items() > made.items() and shown["attachment_id"]
    assert nova.get(path).json()["volumeAttachments"] == [shown]
    assert nova.get(f"{path}/{id}", OTHER).status_code == 404
    again = nova.post(path, wish)
    assert again.status_code == 400 and "already attached" in messages(again)
    early = nova.delete(f"{path}/{id}")
    assert early.status_code == 400 and "'in-use'" in messages(early)
    play_attach(nova, shown)
    assert nova.delete(f"{path}/{id}").status_code == 202
    assert status(nova, id) == "detaching" and nova.shared.flows.started[-1] == ("detach_volume", server)
    none = nova.get(f"{path}/{new_id()}")
    assert none.status_code == 404 and "is not attached to volume" in messages(none)
    assert nova.post(path, {"volumeAttachment": {"volumeId": volume(nova)}}).content == b""  # since 2.101


def test_an_attachment_is_changed_or_its_volume_swapped(nova: Nova) -> None:
    server, id, other = nova.active(), volume(nova), volume(nova)
    path = f"/servers/{server}/os-volume_attachments/{id}"
    nova.post(f"/servers/{server}/os-volume_attachments", {"volumeAttachment": {"volumeId": id}})
    play_attach(nova, nova.get(path).json()["volumeAttachment"])
    kept = {"volumeId": id, "delete_on_termination": True}
    assert nova.put(path, {"volumeAttachment": kept}).status_code == 202
    assert nova.get(path).json()["volumeAttachment"]["delete_on_termination"] is True
    assert nova.put(path, {"volumeAttachment": {**kept, "device": "/dev/vdz"}}).status_code == 400
    swap = {"volumeAttachment": {"volumeId": other}}
    assert nova.put(path, swap).status_code == 403
    assert nova.put(path, swap, ADMIN).status_code == 202
    assert nova.shared.flows.started[-1] == ("swap_volume", server)
    assert (status(nova, id), status(nova, other)) == ("detaching", "reserved")
