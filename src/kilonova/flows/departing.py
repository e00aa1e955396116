"""What a server that is deleted leaves with others: the images and records of work that its deletion broke off."""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import migrations
from kilonova.db.engine import Tx
from kilonova.flow.step import Running
from kilonova.flow.tables import FLOWS
from kilonova.image import delivery
from kilonova.image.tables import IMAGES
from kilonova.volume import states as volume_states


def forget_unfinished_images(tx: Tx, flow: Running) -> Any:
    """Images that the server was giving when it was deleted; its user's that is whole stays (Nova: _snapshot_instance).

    The bytes of a shelve's go at the cloud's next start. Safe to repeat.
    """
    broken_off = (FLOWS.c.subject_id == flow.subject_id) & (FLOWS.c.state == "superseded")
    for row in tx.all(sa.select(FLOWS.c.kind, FLOWS.c.data).where(broken_off)):
        image_id = row["data"].get("image_id")
        whole = sa.select(IMAGES.c.id).where(IMAGES.c.id == image_id, IMAGES.c.status.not_in(("queued", "saving")))
        if image_id and (row["kind"] == "shelve" or tx.first(whole) is None):
            delivery.forget(tx, image_id)
            drop_snapshots(tx, flow, row["data"].get("snapshots", []))


def drop_snapshots(tx: Tx, flow: Running, ids: list[str]) -> None:
    """Of the server's volumes, that no image names any more. Safe to repeat."""
    for id in ids:
        snapshot = volume_states.find(tx, "snapshot", id)
        if snapshot is not None and snapshot["status"] != "deleting":
            volume_states.update(tx, "snapshot", id, status="deleting")
            flow.start(tx, "delete_snapshot", id, {})


def end_migration(tx: Tx, flow: Running) -> Any:
    """A resize that was not confirmed is so by the server's end (Nova: _confirm_resize_on_deleting)."""
    migrations.release(tx, flow.subject_id, "confirmed")
