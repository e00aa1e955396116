"""A hand-run cloud at rest, kept so that later tests begin there: they need not bring it about once more.

Its processes are not kept: whoever comes back to it boots, as after a crash. Sequences go on counting.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from kilonova.db.engine import Database

EMPTY = 21  # bytes of COPY's binary format that are no row: its header and its end
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"


@dataclass(frozen=True)
class Rows:
    """What a PostgreSQL database holds: its rows, so that coming back is one transaction, and no database to make."""

    database: Database
    of_table: dict[str, bytes]

    @classmethod
    def of(cls, database: Database) -> "Rows":
        found = {}
        with database.engine.connect() as connection, connection.connection.cursor() as cursor:
            for (name,) in cursor.execute(TABLES).fetchall():
                with cursor.copy(sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(sql.Identifier(name))) as copy:
                    found[name] = b"".join(bytes(piece) for piece in copy)
        return cls(database, found)

    def put_back(self) -> None:
        with self.database.engine.connect() as connection, connection.connection.cursor() as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")  # whatever refers to what
            deletes = [sql.SQL("DELETE FROM {}").format(sql.Identifier(name)) for name in self.of_table]
            cursor.execute(sql.SQL("; ").join(deletes))
            for name, rows in self.of_table.items():
                if len(rows) > EMPTY:
                    with cursor.copy(sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(sql.Identifier(name))) as copy:
                        copy.write(rows)
            connection.connection.commit()


@dataclass(frozen=True)
class File:
    """What a SQLite database holds: nobody may be at work on it."""

    database: Database
    copy: Path

    @classmethod
    def of(cls, database: Database, copy: Path) -> "File":
        database.close()  # the last to close it writes its log into it
        shutil.copy(_file(database), copy)
        return cls(database, copy)

    def put_back(self) -> None:
        self.database.close()
        assert not list(_file(self.database).parent.glob(f"{_file(self.database).name}-*"))
        shutil.copy(self.copy, _file(self.database))


def _file(database: Database) -> Path:
    return Path(database.url.removeprefix("sqlite:///"))


@dataclass(frozen=True)
class Kept:
    """The database, and the folder with the host's things, the images and the locks."""

    rows: Rows | File
    folder: Path
    copy: Path

    @classmethod
    def of(cls, database: Database, folder: Path, copy: Path) -> "Kept":
        """`copy`: a new folder's path."""
        shutil.copytree(folder, copy)
        sqlite = database.url.startswith("sqlite")
        return cls(File.of(database, copy.with_suffix(".db")) if sqlite else Rows.of(database), folder, copy)

    def put_back(self) -> None:
        self.rows.put_back()
        shutil.rmtree(self.folder)
        shutil.copytree(self.copy, self.folder)

    def drop(self) -> None:
        shutil.rmtree(self.copy)
        self.copy.with_suffix(".db").unlink(missing_ok=True)
