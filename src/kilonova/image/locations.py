"""In which stores an image lies: a row for each."""

from collections.abc import Iterable

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.image.tables import LOCATIONS


def held(tx: Tx, image_id: str) -> list[str]:
    """The names of the stores that have all its bytes; the oldest first."""
    return held_by(tx, [image_id])[image_id]


def held_by(tx: Tx, image_ids: list[str]) -> dict[str, list[str]]:
    """The same of many images."""
    found: dict[str, list[str]] = {image_id: [] for image_id in image_ids}
    query = sa.select(LOCATIONS).where(LOCATIONS.c.image_id.in_(image_ids)).order_by(LOCATIONS.c.place, LOCATIONS.c.store)
    for row in tx.all(query):
        found[row["image_id"]].append(row["store"])
    return found


def held_in(tx: Tx) -> dict[str, set[str]]:
    """Store → the images in it."""
    found: dict[str, set[str]] = {}
    for row in tx.all(sa.select(LOCATIONS.c.image_id, LOCATIONS.c.store)):
        found.setdefault(row["store"], set()).add(row["image_id"])
    return found


def add(tx: Tx, image_id: str, stores: Iterable[str]) -> None:
    """The image's row is locked by who calls: one that is being deleted gets none."""
    last = tx.scalar(sa.select(sa.func.max(LOCATIONS.c.place)).where(LOCATIONS.c.image_id == image_id))
    for place, store in enumerate(stores, (last or 0) + 1):
        insert_new(tx.connection, LOCATIONS, {"image_id": image_id, "store": store, "place": place})


def remove(tx: Tx, image_id: str, store: str) -> bool:
    """Whether it was there."""
    gone = tx.execute(LOCATIONS.delete().where(LOCATIONS.c.image_id == image_id, LOCATIONS.c.store == store))
    return gone.rowcount == 1
