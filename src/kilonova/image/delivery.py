"""Images that hosts deliver: a row that waits for its bytes (a server's snapshot, a backup, a volume's upload).

Nova: `create_image` in `nova/compute/utils.py`, `_rotate_backups` in `nova/compute/manager.py`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Database, Tx
from kilonova.image import images, locations
from kilonova.image.intake import Intake
from kilonova.image.store import Stores
from kilonova.image.stores.file import pieces, write_sparse
from kilonova.image.tables import IMAGES, MEMBERS
from kilonova.model.errors import APIError, HostError
from kilonova.model.ids import now
from kilonova.web.call import Context


def reserve(
    tx: Tx, context: Context, values: Mapping[str, Any], properties: Mapping[str, str], reader: str = ""
) -> str:
    """A queued image that a host will fill; its id. `reader`: a project that may see it besides its owner's."""
    image_id: str = images.create(tx, context, values, properties)["id"]
    if reader:
        when = now()
        member = {"image_id": image_id, "member_id": reader, "status": "accepted"}
        tx.execute(MEMBERS.insert().values(**member, created_at=when, updated_at=when))
    return image_id


def accept(database: Database, stores: Stores, image_id: str, source: Path, disk_format: str) -> None:
    """The file's bytes become the image's, and it is active: queued → saving → active. Done once, again is nothing.

    HostError when the image is gone (its user has deleted it), or its bytes are refused.
    """

    def begin(tx: Tx) -> bool:
        row = tx.first(sa.select(IMAGES).where(IMAGES.c.id == image_id))
        if row is None or row["status"] not in ("queued", "saving", "active"):
            raise HostError(f"Image {image_id} was deleted while its data was on the way.")
        images.move(tx, image_id, "queued", "saving", disk_format=disk_format, container_format="bare")
        return bool(row["status"] != "active")

    if not database.write(begin):
        return
    try:
        data = stores.write(image_id, Intake(pieces(source), disk_format))
        database.write(lambda tx: images.end_data(tx, image_id, "saving", data, [stores.default.name]))
    except images.Gone as error:
        stores.delete(image_id, [stores.default.name])
        raise HostError(error.message) from error
    except APIError as error:
        raise HostError(f"Image {image_id}: {error.message}") from error
    except OSError as error:
        raise HostError(f"Image {image_id} cannot be kept: {error.strerror}.") from error


def fetch(database: Database, stores: Stores, image_id: str, target: Path) -> Path | None:
    """The image's bytes in a new file; or nothing of this, and the file of this machine that has them. APIError when they
    cannot be had."""
    held = database.read(lambda tx: locations.held(tx, image_id))
    if here := stores.path(image_id, held):
        return here
    write_sparse(stores.read(image_id, held), target)
    return None


def accept_empty(tx: Tx, image_id: str) -> None:
    """It is active without any bytes: what it says is all there is of it. HostError when it is gone."""
    if not images.move(tx, image_id, "queued", "active", size=0, disk_format="raw", container_format="bare"):
        raise HostError(f"Image {image_id} was deleted before it was whole.")


def withdraw(database: Database, stores: Stores, image_id: str) -> None:
    """The image goes, whether its bytes came or not. Nothing when there is none."""
    database.write(lambda tx: images.remove(tx, stores, image_id))


def forget(tx: Tx, image_id: str) -> None:
    """The row alone, of an image whose bytes have not come: whoever still brings them finds it gone, and removes them."""
    tx.execute(MEMBERS.delete().where(MEMBERS.c.image_id == image_id))
    tx.execute(IMAGES.delete().where(IMAGES.c.id == image_id))


def rotate(database: Database, stores: Stores, image_id: str, keep: int) -> list[str]:
    """Of the backups of the same server, type and owner as this one, remove all but the `keep` newest; their ids.

    A protected one stays. Nothing when this one is gone.
    """
    newest = database.read(lambda tx: tx.first(sa.select(IMAGES).where(IMAGES.c.id == image_id)))
    if newest is None:
        return []
    same = {name: newest["properties"][name] for name in ("image_type", "backup_type", "instance_uuid")}
    about = sa.type_coerce(IMAGES.c.properties, sa.Text).contains(same["instance_uuid"], autoescape=True)
    mine = (IMAGES.c.owner == newest["owner"]) & (IMAGES.c.status == "active") & about
    query = sa.select(IMAGES).where(mine).order_by(IMAGES.c.created_at.desc(), IMAGES.c.id)
    backups = [row for row in database.read(lambda tx: tx.all(query)) if same.items() <= row["properties"].items()]
    excess = [row["id"] for row in backups[keep:] if not row["protected"]]
    for each in excess:
        withdraw(database, stores, each)
    return excess
