"""What a database is asked, counted: what is to be quick however much there is, asks as often however much there is."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from kilonova.db.engine import Database


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The SQL that the database is asked to execute meanwhile, whoever asks; transactions' ends are not among it."""
    seen: list[str] = []
    listen = lambda *args: seen.append(args[2])  # noqa: E731
    sa.event.listen(database.engine, "before_cursor_execute", listen)
    try:
        yield seen
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", listen)
