"""Fixtures of all tests: both databases, the real PostgreSQL from Debian's packages started once a run."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from kilonova.db.engine import Database


def _pg_bin() -> Path:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert versions, "PostgreSQL is not installed: `make setup` installs it"
    return versions[-1]


@pytest.fixture(scope="session")
def postgresql_dir() -> Iterator[Path]:
    """A PostgreSQL server of this run's own, on a unix socket only; ended and removed afterwards."""
    home = Path(tempfile.mkdtemp(prefix="kn-pg-", dir="/tmp"))
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
def new_database_url(request: pytest.FixtureRequest) -> Callable[[str, Path], str]:
    """Makes an empty database: (sqlite | postgresql, folder) → its URL."""

    def make(kind: str, folder: Path) -> str:
        if kind == "sqlite":
            return f"sqlite:///{folder}/kilonova.db"
        home = request.getfixturevalue("postgresql_dir")
        name = f"kn_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(host=str(home), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return f"postgresql+psycopg://postgres@/{name}?host={home}"

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path, new_database_url: Callable[[str, Path], str]) -> str:
    """An empty database of each kind, one a test."""
    return new_database_url(request.param, tmp_path)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A migrated database of each kind."""
    made = Database(database_url)
    made.migrate()
    yield made
    made.close()
