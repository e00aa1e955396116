"""What else is asked of a volume while its bytes are on their way: by a move that does not lock it, or into a backup."""

import time

import sqlalchemy as sa
from attach_stories import own_volume, with_an_attached_volume
from backed_stories import attachments
from handcloud import HandCloud
from volume_stories import ask, content, made, migrate, rows, the, volume

from kilonova.flow.tables import FLOWS
from kilonova.volume.tables import ATTACHMENTS


def test_a_volume_that_moves_is_neither_attached_nor_read_nor_given_away(cloud: HandCloud) -> None:
    """A guest would write into the original, which goes when the copy is there."""
    id, server_id = volume(cloud), "11111111-2222-4333-8444-555555555555"
    backup = made(cloud, "backup", {"volume_id": id})
    cloud.run()
    migrate(cloud, id)
    assert (the(cloud, "volume", id)["status"], the(cloud, "volume", id)["migration_status"]) == ("available", "starting")
    asked = (
        ("/attachments", {"attachment": {"volume_uuid": id, "instance_uuid": server_id}}),
        (f"/volumes/{id}/action", {"os-reserve": {}}),
        (f"/volumes/{id}/action", {"os-attach": {"instance_uuid": server_id, "mountpoint": "/dev/vdb"}}),
        ("/volume-transfers", {"transfer": {"volume_id": id}}),
        ("/backups", {"backup": {"volume_id": id}}),
        (f"/backups/{backup}/restore", {"restore": {"volume_id": id}}),
        ("/volumes", {"volume": {"source_volid": id}}),
    )
    for path, body in asked:
        answer = ask(cloud, "POST", path, body)
        assert answer.status_code == 400 and "while it is being migrated" in answer.text, (path, answer.text)
    cloud.run()
    assert the(cloud, "volume", id)["status"] == "available" and content(cloud, id)[0] == "other"
    assert cloud.database.read(lambda tx: tx.all(sa.select(ATTACHMENTS))) == []


def test_a_volume_whose_server_goes_while_it_moves_is_free_afterwards(cloud: HandCloud) -> None:
    """It was in use when the move began: it said so for ever."""
    server_id = with_an_attached_volume(cloud)
    id = own_volume(cloud, server_id)
    migrate(cloud, id)
    later = FLOWS.update().where(FLOWS.c.subject_id == id, FLOWS.c.state == "running").values(wake_at=time.time() + 1e6)
    cloud.database.write(lambda tx: tx.execute(later) and None)
    cloud.delete(server_id)
    while cloud.turn():
        pass
    assert attachments(cloud, server_id) == [] and cloud.unfinished()
    cloud.run()
    row = the(cloud, "volume", id)
    assert (row["status"], row["attach_status"], row["previous_status"]) == ("available", "detached", None)
    assert content(cloud, id)[0] == "other"


def test_a_volume_that_goes_with_its_server_is_backed_up_first(cloud: HandCloud) -> None:
    """The backup was of half of it, or an error."""
    server_id = cloud.create()
    cloud.run()
    (id,) = cloud.volumes_of(server_id)
    backup = made(cloud, "backup", {"volume_id": id, "force": True})
    later = FLOWS.update().where(FLOWS.c.subject_id == backup).values(wake_at=time.time() + 1e6)
    cloud.database.write(lambda tx: tx.execute(later) and None)
    cloud.delete(server_id)
    while cloud.turn():
        pass
    assert the(cloud, "volume", id)["status"] == "deleting"
    cloud.run()
    assert rows(cloud, "volume") == [] and the(cloud, "backup", backup)["status"] == "available"
    assert cloud.host.held("backups", backup) == {"content": "zeros"}
