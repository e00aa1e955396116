"""Fixtures of all tests: both databases, the real PostgreSQL from Debian's packages started once a run."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from anyio.from_thread import start_blocking_portal
from starlette.testclient import TestClient

from kilonova.db.engine import Database


def _pg_bin() -> Path:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert versions, "PostgreSQL is not installed: `make setup` installs it"
    return versions[-1]


MEMORY = Path("/dev/shm")  # no test here loses power, so none needs its commits on the disk
IN_MEMORY = str(MEMORY) if os.access(MEMORY, os.W_OK) else None


@pytest.fixture(scope="session")
def postgresql_dir() -> Iterator[Path]:
    """A PostgreSQL server of this run's own, on a unix socket only; ended and removed afterwards."""
    home = Path(tempfile.mkdtemp(prefix="kn-pg-", dir=IN_MEMORY))
    user = pwd.getpwnam("postgres")
    os.chown(home, user.pw_uid, user.pw_gid)
    as_user = (
        ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"] if os.getuid() == 0 else []
    )
    bindir, data = _pg_bin(), home / "data"
    subprocess.run(
        [*as_user, bindir / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"],
        check=True, capture_output=True, cwd="/",
    )  # fmt: skip
    server = subprocess.Popen(
        [*as_user, bindir / "postgres", "-D", data, "-k", home, "-c", "listen_addresses=", "-c", "fsync=off",
         "-c", "max_connections=200"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    for _ in range(200):
        try:
            psycopg.connect(host=str(home), user="postgres", dbname="postgres").close()
            break
        except psycopg.OperationalError:
            time.sleep(0.05)
    yield home
    server.terminate()
    server.wait(30)
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def memory_dir() -> Iterator[Path]:
    """For SQLite's databases, and for what fake hosts keep in files."""
    home = Path(tempfile.mkdtemp(prefix="kn-tests-", dir=IN_MEMORY))
    yield home
    shutil.rmtree(home)


class Databases:
    """Makes and drops databases of both kinds, sqlite and postgresql, by URL."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._fixture = request.getfixturevalue
        self._templates: dict[str, str] = {}

    def empty(self, kind: str) -> str:
        name = f"kn_{uuid.uuid4().hex[:12]}"
        if kind == "sqlite":
            return f"sqlite:///{self._fixture('memory_dir')}/{name}.db"
        self._postgresql(f'CREATE DATABASE "{name}"')
        return self._postgresql_url(name)

    def migrated(self, kind: str) -> str:
        """A copy of one that was migrated once."""
        if kind not in self._templates:
            self._templates[kind] = self.empty(kind)
            template = Database(self._templates[kind])
            template.migrate()
            template.close()
        url, name = self._templates[kind], f"kn_{uuid.uuid4().hex[:12]}"
        if kind == "sqlite":
            file = _file(url)
            shutil.copy(file, file.with_name(f"{name}.db"))
            return f"sqlite:///{file.with_name(f'{name}.db')}"
        self._postgresql(f'CREATE DATABASE "{name}" TEMPLATE "{_name(url)}"')
        return self._postgresql_url(name)

    def drop(self, url: str) -> None:
        if url.startswith("sqlite"):
            for file in _file(url).parent.glob(f"{_file(url).name}*"):
                file.unlink()
        else:
            self._postgresql(f'DROP DATABASE "{_name(url)}" WITH (FORCE)')

    def _postgresql(self, statement: str) -> None:
        home = self._fixture("postgresql_dir")
        with psycopg.connect(host=str(home), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def _postgresql_url(self, name: str) -> str:
        return f"postgresql+psycopg://postgres@/{name}?host={self._fixture('postgresql_dir')}"


def _file(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def _name(url: str) -> str:
    return url.partition("@/")[2].partition("?")[0]


@pytest.fixture(scope="session")
def event_loop_of_test_clients() -> Iterator[None]:
    """One for all requests of this run, as a served cloud has it: else each request starts a loop and two threads."""
    with start_blocking_portal() as portal:
        TestClient.portal = portal
        yield
        TestClient.portal = None


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest, event_loop_of_test_clients: None) -> Databases:
    return Databases(request)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, databases: Databases) -> Iterator[Database]:
    """A migrated database of each kind, one a test."""
    url = databases.migrated(request.param)
    made = Database(url)
    yield made
    made.close()
    databases.drop(url)
