"""The schema brought to this version, by plain SQL where that is enough and by Alembic where revisions must run.

A new database is made from the tables as they stand, and one that is up to date is only looked at: both are at each
start's door, and Alembic takes longer to load than they do. There is no alembic.ini to find.
"""

from pathlib import Path
from typing import Any

import sqlalchemy as sa

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def newest() -> str:
    """The revision that this version ends at: files are named after theirs, NNNN_what.py, in their order."""
    return max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*_*.py")).partition("_")[0]


def upgrade(engine: sa.Engine) -> None:
    """Make a new database whole, or run what migrations are missing; each in one transaction."""
    with engine.begin() as connection:
        tables = sa.inspect(connection).get_table_names()
        if VERSION.name in tables:
            done = connection.execute(sa.select(VERSION.c.version_num)).scalars().all() == [newest()]
        else:
            done = _make(connection, tables)
    if not done:
        _run_revisions(engine)


def _make(connection: sa.Connection, there: list[str]) -> bool:
    """False, and nothing done, when some of our tables are there already."""
    from kilonova.db.schema import METADATA

    if not METADATA.tables.keys().isdisjoint(there):
        return False
    METADATA.create_all(connection, checkfirst=False)
    VERSION.create(connection)
    connection.execute(VERSION.insert().values(version_num=newest()))
    return True


def _run_revisions(engine: sa.Engine) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    from kilonova.db.schema import METADATA

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)

    def revisions(current: Any, _context: object) -> list[Any]:
        return list(script._upgrade_revs("head", current))

    with engine.begin() as connection, EnvironmentContext(config, script, fn=revisions) as environment:
        environment.configure(connection=connection, target_metadata=METADATA)
        environment.run_migrations()
