"""What an operator meets: wrong options, a port in use, a directory that is no cloud's, a service manager."""

import os
import re
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
from clouds import BIN, RunningCloud

from kilonova.db import migrate, ownership
from kilonova.db.engine import Database, Tx
from kilonova.identity.tables import REVISION, USERS
from kilonova.model.ids import new_id


def run(*words: object) -> tuple[int, str]:
    """Exit code and all that was printed, boxes and line ends taken out; no traceback, ever."""
    argv = [str(BIN / "kilonova"), *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    text = done.stdout + done.stderr
    assert "Traceback" not in text, text
    return done.returncode, re.sub(r"[\s│╭╰─╮╯]+", " ", text)


@pytest.mark.parametrize("command", ["", "up", "down", "doctor", "trace", "ssh", "demo"])
def test_each_command_explains_itself_and_all_its_options(command: str) -> None:
    code, text = run(*command.split(), "--help")
    assert code == 0
    assert "Usage: kilonova" in text


@pytest.mark.parametrize(
    ("words", "helps"),
    [
        ("--nonsense", "No such option"),
        ("uup", "No such command 'uup'"),
        ("up --ports 1", "--port"),
        ("up --port 99999", "65535"),
        ("up --virt xen", "'auto', 'qemu', 'kvm', 'fake'"),
        ("up --vif-type vxlan", "'bridge', 'tap'"),
        ("up --uplink yes", "'none', 'nat'"),
        ("up --image cirros", "give NAME=FILE"),
        ("up --guest-image /nowhere", "does not exist"),
        ("up --public-url cloud.example.org", "write it as https://"),
        ("up --public-cidr 172.24", "write it as 172.24.4.0/24"),
        ("up --public-cidr 10.250.0.0/30", "give at least a /29"),
        ("up --security lockout=1", "not NAME=VALUE with a NAME of"),
        ("up --security minimum_password_age=soon", "is a whole number"),
        ("up --tls-cert /etc/passwd", "belong together"),
        ("up --libvirt-uri qemu:///system", "add --host-net"),
        ("up --virt fake --physnet a=eth1", "cannot go with --virt fake"),
        ("up --physnet eth1", "write it as public=eth1"),
        ("up --physnet a=eth1 --physnet b=eth1", "each link one network"),
        ("up --volume-backend fast", "write it as fast=iscsi; the kinds are"),
        ("up --volume-backend fast=floppy", "the kinds are"),
        ("up --volume-backend a=file --volume-backend a=iscsi", "there is another of that name"),
        ("up --volume-backend a=file,rbd_pool", "write its options as ceph=rbd,rbd_pool=volumes"),
        ("up --image-store fast=floppy", "the kinds are file, rbd, s3"),
        ("up --image-store a=file,filesystem_store_datadir", "write its options as ceph=rbd,rbd_store_pool=images"),
        ("trace", "Missing argument"),
    ],
)
def test_a_wrong_word_is_refused_with_2_and_a_sentence(words: str, helps: str) -> None:
    code, text = run(*words.split())
    assert code == 2
    assert helps in text


def test_a_port_in_use_and_an_address_of_nobody(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, text = run("up", "--virt", "fake", "--state", tmp_path / "cloud", "--port", port)
    assert code == 1
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use; choose another" in text
    code, text = run("up", "--virt", "fake", "--state", tmp_path / "cloud", "--port", 0, "--listen", "192.0.2.1")
    assert code == 1
    assert "cannot listen on 192.0.2.1" in text


@pytest.mark.parametrize("url", ["kilonova.db", "postgresql+psycopg://nobody@127.0.0.1:1/none"])
def test_a_database_that_cannot_be_used(tmp_path: Path, url: str) -> None:
    code, text = run("up", "--virt", "fake", "--state", tmp_path / "cloud", "--port", 0, "--database", url)
    assert code == 1
    assert f"cannot use the database {url}" in text


def test_another_clouds_database(tmp_path: Path, database: Database) -> None:
    """Here one that has only just been claimed: nothing else of it is touched. Its cloud may be of an older version."""
    owner = new_id()
    ownership.claim(database, owner)
    ownership.claim(database, owner)
    older = migrate.VERSION.update().values(version_num="0028")
    database.write(lambda tx: tx.execute(older))
    url = database.engine.url.render_as_string(hide_password=False)
    code, text = run("up", "--virt", "fake", "--state", tmp_path / "cloud", "--port", 0, "--database", url)
    assert code == 1
    assert f"the database is that of the cloud {owner}" in text
    assert "--database that is empty" in text
    assert not database.read(lambda tx: tx.all(sa.select(REVISION)))
    assert database.read(lambda tx: tx.scalar(sa.select(migrate.VERSION))) == "0028"


def test_an_older_clouds_database(tmp_path: Path, database: Database) -> None:
    """One from before a database knew whose it was: it is not a new cloud's, which would shut out its own."""
    user = USERS.insert().values(id="a", domain_id="default", name="admin")

    def make_older(tx: Tx) -> None:
        tx.execute(user)
        tx.execute(sa.schema.DropTable(ownership.OWNER))
        tx.execute(migrate.VERSION.update().values(version_num="0027"))

    database.write(make_older)
    url = database.engine.url.render_as_string(hide_password=False)
    code, text = run("up", "--virt", "fake", "--state", tmp_path / "cloud", "--port", 0, "--database", url)
    assert code == 1
    assert "the database is that of the cloud of an older version that made it" in text
    assert database.read(lambda tx: tx.scalar(sa.select(migrate.VERSION))) == "0027"


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, text = run("up", "--virt", "fake", "--port", 0, "--state", tmp_path / "file" / "cloud")
    assert code == 1
    assert "Not a directory; name a directory that is yours with --state" in text


def test_without_a_cloud(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    for words in (("trace", "s"), ("ssh", "s")):
        code, text = run(words[0], "--state", nowhere, *words[1:])
        assert code == 1
        assert f"`kilonova up --state {nowhere}` makes one" in text
    for words in (("down",), ("down", "--purge")):
        code, text = run(*words, "--state", nowhere)
        assert code == 0
        assert f"there is no cloud in {nowhere}" in text
    assert not nowhere.exists()


def test_a_purge_leaves_what_was_there_before_the_cloud(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one").write_text("mine")
    log = tmp_path / "log"
    log.touch()  # as a shell does for `kilonova up … 2>DIR/log`
    RunningCloud(tmp_path, "fake").up().purge()
    assert (tmp_path / "precious").read_text() == (tmp_path / "photos" / "one").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"precious", "photos"}


def test_a_purge_removes_no_directory_that_is_not_a_clouds(tmp_path: Path) -> None:
    (tmp_path / "thesis").write_text("years of work")
    code, text = run("down", "--purge", "--state", tmp_path)
    assert code == 1
    assert "not a cloud's state directory" in text
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


@pytest.mark.parametrize(
    ("name", "says"), [("cloud.json", "cloud.json is damaged"), ("kilonova.db", "file is not a database")]
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(b"nonsense" * 1000)
    code, text = run("up", "--virt", "fake", "--state", tmp_path, "--port", 0)
    assert code == 1
    assert says in text


@pytest.mark.parametrize(("fake", "virt"), [("false", "fake"), ("true", "qemu")])
def test_what_a_cloud_has_for_guests_does_not_change(tmp_path: Path, fake: str, virt: str) -> None:
    (tmp_path / "lock").write_text("")
    (tmp_path / "cloud.json").write_text(f'{{"id": "c", "fake": {fake}}}')
    code, text = run("up", "--state", tmp_path, "--port", 0, "--virt", virt)
    assert code == 1
    assert f"was made with{'' if fake == 'true' else 'out'} --virt fake: start it with" in text


def test_a_service_manager_is_told_and_the_files_are_private(tmp_path: Path) -> None:
    cloud = RunningCloud(tmp_path / "cloud", "fake")
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(60)
        cloud.env = {"NOTIFY_SOCKET": str(address)}
        cloud.up()
        assert manager.recv(100) == b"READY=1"
        for name in ("cloud.json", "clouds.yaml", "kilonova.db"):
            assert stat.S_IMODE(os.stat(cloud.state / name).st_mode) == 0o600
        assert cloud.stop(signal.SIGTERM) == 0
        assert manager.recv(100) == b"STOPPING=1"
    cloud.purge()
