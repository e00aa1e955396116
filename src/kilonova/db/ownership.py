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

SEEDED = sa.table("identity_users")  # each cloud's database has some


def check(database: Database, cloud_id: str, *, new: bool) -> None:
    """KilonovaError when it is another cloud's; for a `new` one, also when it is that of one from before this was written
    down. Asked before the schema is brought to this version: what runs on it may be of an older one."""
    with database.engine.connect() as connection:
        tables, owner = sa.inspect(connection), None
        if tables.has_table(OWNER.name):
            owner = connection.execute(sa.select(OWNER.c.cloud_id)).scalar()
        if owner is None and new and tables.has_table(SEEDED.name):
            used = connection.execute(sa.select(sa.literal(True)).select_from(SEEDED).limit(1)).scalar()
            owner = "of an older version that made it" if used else None
    _refuse(owner, cloud_id)


def claim(database: Database, cloud_id: str) -> None:
    """Make it that cloud's, if it is nobody's: a new one, or one from before this was written down. KilonovaError when it is
    another's."""

    def take(tx: Tx) -> str:
        insert_new(tx.connection, OWNER, {"row": 1, "cloud_id": cloud_id})
        return str(tx.scalar(sa.select(OWNER.c.cloud_id)))

    _refuse(database.write(take), cloud_id)


def _refuse(owner: str | None, cloud_id: str) -> None:
    if owner not in (None, cloud_id):
        raise KilonovaError(
            f"the database is that of the cloud {owner}, and this state directory's is {cloud_id}: its passwords and keys "
            "open nothing there. Name the --state of that cloud, or a --database that is empty"
        )
