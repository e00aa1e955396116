"""What a new cloud has: one volume type."""

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.volume import types
from kilonova.volume.tables import TYPES


def seed(tx: Tx) -> None:
    if tx.scalar(sa.select(TYPES.c.id).where(TYPES.c.name == types.DEFAULT)) is None:
        types.create(tx, types.DEFAULT, "Default Volume Type", True, {})
