"""A cloud's state directory: its lock, its identity, and the files that tell clients how to reach it."""

import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from kilonova.config import Config
from kilonova.model.errors import KilonovaError
from kilonova.model.ids import new_id

if TYPE_CHECKING:  # what only `up` needs is loaded by it: other commands answer sooner
    from kilonova.db.engine import Database
    from kilonova.identity.keys import KeyRing


class InUse(KilonovaError):
    """Another process runs this cloud."""


def lock(config: Config) -> IO[str]:
    """Hold the state directory until the returned file is closed. InUse names the pid that holds it."""
    try:
        config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = config.lock_file.open("a+")
    except OSError as error:
        raise KilonovaError(
            f"cannot use {config.state}: {error.strerror}; name a directory that is yours with --state, or run as root"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        pid = file.read().strip() or "unknown"
        file.close()
        raise InUse(f"{config.state} is in use by process {pid}; end it first, or choose another --state") from error
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return file


def holder(config: Config) -> int | None:
    """The pid of the process that runs this cloud now, or None."""
    try:
        lock(config).close()
    except InUse:
        return int(config.lock_file.read_text())
    return None


def read_cloud(config: Config) -> dict[str, Any]:
    """cloud.json; {} for a new cloud."""
    try:
        cloud: dict[str, Any] = json.loads(config.cloud_json.read_text())
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise KilonovaError(f"{config.cloud_json} belongs to another user: run this as who runs the cloud") from error
    except ValueError as error:
        raise KilonovaError(f"{config.cloud_json} is damaged ({error}): put back a copy of it, or mend it") from error
    return cloud


def load_cloud(config: Config) -> dict[str, Any]:
    """What is known of the cloud; a new one gets its id and random passwords, which it keeps from then on.

    Real guests stay real: a cloud that is fake for a while would forget what it has on the host, and never purge it.
    """
    cloud = read_cloud(config)
    if cloud and cloud.get("fake", config.fake) != config.fake:
        made = "" if cloud["fake"] else "out"
        raise KilonovaError(
            f"the cloud in {config.state} was made with{made} --virt fake: start it with{made}, or choose another --state"
        )
    if not cloud:
        cloud = {
            "id": new_id(),
            "fake": config.fake,
            "found": found_before(config),
            "region": "RegionOne",
            "admin_password": secrets.token_urlsafe(16),
            "demo_password": secrets.token_urlsafe(16),
            "guest": {"user": "cirros", "password": "gocubsgo"},
        }
        write_private(config.cloud_json, json.dumps(cloud, indent=2))
    return cloud


def found_before(config: Config) -> list[str]:
    """The names of what a new cloud's directory holds already: a purge leaves them. Empty files are taken for logs."""
    entries = [entry for entry in os.scandir(config.state) if entry.name != config.lock_file.name]
    return sorted(entry.name for entry in entries if entry.is_dir() or entry.stat(follow_symlinks=False).st_size)


def remove(config: Config, known: Mapping[str, Any]) -> None:
    """All of a cloud's directory but what was there before it; without cloud.json there is only the lock."""
    found = known.get("found", []) if known else os.listdir(config.state)
    for entry in list(os.scandir(config.state)):
        if entry.name in found and entry.name != config.lock_file.name:
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)
    with suppress(OSError):  # not empty
        config.state.rmdir()


def write_cloud(config: Config, cloud: dict[str, Any], cacert: str | None) -> None:
    """cloud.json for scripts, clouds.yaml for OpenStack's clients; both readable by their owner only.

    `cacert`: the file of the certificates that clients trust; None: those that the system trusts.
    """
    write_private(config.cloud_json, json.dumps(cloud, indent=2) + "\n")
    entries = {
        "kilonova": _entry(cloud, "demo", cloud["demo_password"]),
        "kilonova-admin": _entry(cloud, "admin", cloud["admin_password"]),
    }
    if cacert:
        entries = {name: {**entry, "cacert": cacert} for name, entry in entries.items()}
    write_private(config.clouds_yaml, json.dumps({"clouds": entries}, indent=2) + "\n")  # JSON is YAML


def _entry(cloud: dict[str, Any], user: str, password: str) -> dict[str, Any]:
    auth = {
        "auth_url": f"{cloud['url']}/identity/v3",
        "username": user,
        "password": password,
        "project_name": user,
        "user_domain_id": "default",
        "project_domain_id": "default",
    }
    return {"auth": auth, "region_name": cloud["region"], "interface": "public", "identity_api_version": 3}


def open_database(config: Config, cloud: Mapping[str, Any]) -> "Database":
    """At this version's schema, and the cloud's. A new SQLite file is its owner's alone, and so are those beside it."""
    from sqlalchemy.exc import ArgumentError, DatabaseError

    from kilonova.db import ownership
    from kilonova.db.engine import Database

    if not config.database_url:
        os.close(os.open(config.sqlite_file, os.O_RDWR | os.O_CREAT, 0o600))
    try:
        database = Database(config.url_of_database)
        ownership.check(database, cloud["id"], new=bool(config.database_url) and "url" not in cloud)
        database.migrate()
        ownership.claim(database, cloud["id"])
    except (ArgumentError, DatabaseError) as error:
        why = str(getattr(error, "orig", None) or error).strip()
        raise KilonovaError(
            f"cannot use the database {config.url_of_database}: {why}\n"
            "  What to do: give --database postgresql+psycopg://USER@HOST/NAME of a server that runs, or leave it out"
        ) from error
    return database


def boot_id() -> str:
    """Of the machine's present boot. cloud.json has that of the boot under which the cloud's guests were last running."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def forget_boot(config: Config, cloud: dict[str, Any]) -> None:
    """The guests were ended: the next `up` brings them back, as after a reboot."""
    write_private(config.cloud_json, json.dumps({**cloud, "boot_id": None}, indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Replace `path` at once with a file of mode 0600."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def load_fernet(config: Config) -> "KeyRing":
    """The token keys, as the folder has them at each use: see `kilonova keys rotate`. A new cloud gets its first."""
    from kilonova.identity import keys

    keys.ensure(config.fernet_keys)
    return keys.KeyRing(config.fernet_keys)


def load_sealer(config: Config) -> "KeyRing":
    """The keys of users' credentials, which are never rotated away. In an older version's cloud the token keys did that."""
    from kilonova.identity import keys

    if not config.credential_keys.exists() and config.fernet_keys.exists():
        shutil.copytree(config.fernet_keys, config.credential_keys)
        (config.credential_keys / "0").unlink(missing_ok=True)
    keys.ensure(config.credential_keys, staged=False)
    return keys.KeyRing(config.credential_keys)
