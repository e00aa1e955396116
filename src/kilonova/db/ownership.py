"""Whose a database is. Passwords, token keys and image files lie in a cloud's state directory: with another's, a cloud would
come up that nobody can log in to, and take the work of whom the database belongs to."""

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Database, Tx
from kilonova.db.tables import METADATA
from kilonova.model.errors import KilonovaError

OWNER = sa.Table(
    "cloud",
    METADATA,
    sa.Column("row", sa.Integer, primary_key=True, autoincrement=False),  # 1: there is one
    sa.Column("cloud_id", sa.String(36), nullable=False),
)


def claim(database: Database, cloud_id: str) -> None:
    """Make it that cloud's, if it is nobody's: a new one, or one from before this was written down. KilonovaError when it is
    another's."""

    def take(tx: Tx) -> str:
        insert_new(tx.connection, OWNER, {"row": 1, "cloud_id": cloud_id})
        return str(tx.scalar(sa.select(OWNER.c.cloud_id)))

    owner = database.write(take)
    if owner != cloud_id:
        raise KilonovaError(
            f"the database is that of the cloud {owner}, and this state directory's is {cloud_id}: its passwords and keys "
            "open nothing there. Name the --state of that cloud, or a --database that is empty"
        )
