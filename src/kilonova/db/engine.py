"""The database: SQLite or PostgreSQL by URL, one way to read and one way to write.

`Database.write(fn)` runs `fn(tx)` in one transaction and replays it whole on a serialization failure or deadlock, so
`fn` must do nothing that a replay would do twice: no I/O. What must happen after the commit is given to `tx.after_commit`.
"""

import time
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import Executable

from kilonova.db import dialect
from kilonova.db.migrate import upgrade

T = TypeVar("T")
REPLAYS = 20
PART = 500  # values in one IN (…): PostgreSQL takes 65,535, but plans worse


def parts(values: Collection[T]) -> list[list[T]]:
    """For one statement after another, of values of which there may be many."""
    every = list(values)
    return [every[start : start + PART] for start in range(0, len(every), PART)]


class Tx:
    """One transaction: `execute` and what to do once it is committed."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self._after: list[Callable[[], None]] = []

    @property
    def is_postgresql(self) -> bool:
        return self.connection.dialect.name == "postgresql"

    def execute(self, statement: Executable, parameters: Any = None) -> "CursorResult[*tuple[Any, ...]]":
        result: CursorResult[*tuple[Any, ...]] = self.connection.execute(statement, parameters)
        return result

    def first(self, statement: Executable, parameters: Any = None) -> sa.RowMapping | None:
        """The first row as a mapping, or None."""
        return self.execute(statement, parameters).mappings().first()

    def all(self, statement: Executable, parameters: Any = None) -> list[sa.RowMapping]:
        return list(self.execute(statement, parameters).mappings().all())

    def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        return self.execute(statement, parameters).scalar()

    def present(self, column: "sa.Column[str]", values: Collection[str]) -> set[str]:
        """Those of the values that a row has."""
        queries = [sa.select(column).where(column.in_(part)) for part in parts(values)]
        return {found for query in queries for found in self.execute(query).scalars()}

    def hold(self, key: "sa.Column[str]", value: str) -> bool:
        """Whether there is the row of this key. Whoever makes something of it and whoever takes it away, or moves it, meet in
        it: of two at once, PostgreSQL has one begin anew, who then sees what the other did. SQLite has one writer."""
        return bool(self.execute(sa.update(key.table).where(key == value).values({key: key})).rowcount)

    def after_commit(self, act: Callable[[], None]) -> None:
        """Call `act` once this transaction is committed; not at all if it is not."""
        self._after.append(act)

    def committed(self) -> None:
        for act in self._after:
            act()


class Database:
    """`url`: `sqlite:////path/kilonova.db` or `postgresql+psycopg://user@/name?host=/socket/dir`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.engine = dialect.create_engine(url)
        self._writers_turn = dialect.writers_turn(url)

    def migrate(self) -> None:
        """Bring the schema to this version; a new database is made whole."""
        upgrade(self.engine)

    def write(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` in one write transaction; replay it when the database asks for that."""
        for attempt in range(REPLAYS):
            try:
                with self._writers_turn, self.engine.connect() as connection:
                    dialect.begin_write(connection)
                    tx = Tx(connection)
                    result = fn(tx)
                    connection.commit()
                tx.committed()
                return result
            except DBAPIError as error:
                if attempt == REPLAYS - 1 or not dialect.should_replay(error, attempt):
                    raise
                time.sleep(0.005 * (attempt + 1))
        raise AssertionError("unreachable")

    def read(self, fn: Callable[[Tx], T]) -> T:
        """Run `fn` over one consistent snapshot; it must not write."""
        with self.engine.connect() as connection:
            return fn(Tx(connection))

    def forget_statements(self) -> None:
        """Those compiled so far, which a start needs once; those that come again are compiled again."""
        self.engine.clear_compiled_cache()

    def close(self) -> None:
        self.engine.dispose()
