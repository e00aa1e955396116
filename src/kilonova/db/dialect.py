"""The few places where SQLite and PostgreSQL differ."""

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import QueuePool


def create_engine(url: str) -> sa.Engine:
    if not url.startswith("sqlite"):
        return sa.create_engine(url, pool_size=10, max_overflow=20, isolation_level="REPEATABLE READ")
    engine = sa.create_engine(url, poolclass=QueuePool, pool_size=10, max_overflow=20)

    @sa.event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver in autocommit: BEGIN is ours alone
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=30000")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        write = connection.info.pop("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def begin_write(connection: sa.Connection) -> None:
    """Open a write transaction; on SQLite it takes the write lock now, so that it never fails half-way."""
    connection.info["write"] = True
    connection.begin()


def should_replay(error: DBAPIError, attempt: int = 0) -> bool:
    """Serialization failure and deadlock on PostgreSQL, a busy SQLite: the block is run again, whole.

    So it is where PostgreSQL finds a key taken, or what a row names gone: the block saw neither, since it sees what there
    was when it began; run again, it says so in words of its own. Thrice: more would be no race.
    """
    code = getattr(error.orig, "sqlstate", None)
    if isinstance(error, IntegrityError):
        return code in ("23503", "23505") and attempt < 3
    return code in ("40001", "40P01") or "database is locked" in str(error.orig)


def writers_turn(url: str) -> AbstractContextManager[Any]:
    """SQLite has one writer at a time. Those of this process queue here: its own way is to sleep and try again."""
    return threading.Lock() if url.startswith("sqlite") else nullcontext()


def skip_locked(statement: sa.Select[Any], *, postgresql: bool) -> sa.Select[Any]:
    """`FOR UPDATE SKIP LOCKED` where rows are locked; SQLite has one writer and needs none."""
    return statement.with_for_update(skip_locked=True) if postgresql else statement


def insert_new(connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> bool:
    """Insert one row unless its key is taken; whether it was inserted. Two writers at once never raise IntegrityError."""
    kind: Any = sqlite
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql as kind  # 3 MiB that only its users pay for
    insert = kind.insert(table).values(**values).on_conflict_do_nothing().returning(sa.literal(1))
    return connection.execute(insert).first() is not None


def lock_quota(connection: sa.Connection, locks: sa.Table, project_id: str) -> None:
    """Until this transaction ends nobody else counts what this project (or user) has to add to it."""
    statement = sa.text(
        f"INSERT INTO {locks.name} (project_id, serial) VALUES (:project_id, 1) "
        f"ON CONFLICT (project_id) DO UPDATE SET serial = ({locks.name}.serial + 1) % 1000000"
    )
    connection.execute(statement, {"project_id": project_id})
