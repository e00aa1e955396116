"""A small real Ceph: one monitor and one OSD that keeps its objects in memory, with a pool and a user for volumes."""

import json
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path

from kilonova.host.calls import run

PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "rbd", "monmaptool", "ceph-authtool")
POOL, USER = "volumes", "cinder"
CONF = """\
[global]
fsid = {fsid}
mon host = [v2:{address}:{v2},v1:{address}:{v1}]
public addr = {address}
cluster addr = {address}
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 4294967296
mon allow pool size one = true
mon data = {home}/mon
osd data = {home}/osd
run dir = {home}
admin socket = {home}/$name.asok
log file = {home}/$name.log
[client]
admin socket =
log file =
"""


def why_not() -> str:
    """Empty where this machine has what it takes."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"Ceph is not installed: {' '.join(missing)}" if missing else ""


class Ceph:
    """Up after some ten seconds on two cores. `home` is short: a unix socket's path ends at 107 bytes."""

    def __init__(self, home: Path, address: str = "127.0.0.1") -> None:
        self.home, self.conf, self.keyring = home, home / "ceph.conf", home / "user.keyring"
        self.admin = home / "admin.keyring"
        self.running: list[subprocess.Popen[bytes]] = []
        home.mkdir(parents=True)
        (home / "mon").mkdir()
        (home / "osd").mkdir()
        try:
            self._start(address)
        except BaseException:
            self.close()
            raise

    def _start(self, address: str) -> None:
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        v2, v1 = free_port(address), free_port(address)
        self.conf.write_text(CONF.format(fsid=fsid, address=address, v2=v2, v1=v1, home=self.home))
        make_key = ("ceph-authtool", "--gen-key")
        run([*make_key, "-C", str(self.admin), "-n", "mon.", "--cap", "mon", "allow *"])
        run([*make_key, str(self.admin), "-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd", "allow *"])
        map_file, spread = str(self.home / "monmap"), f"[v2:{address}:{v2},v1:{address}:{v1}]"
        run(["monmaptool", "--create", "--fsid", fsid, "--addv", "a", spread, map_file])
        conf = ("-c", str(self.conf))
        run(["ceph-mon", *conf, "--mkfs", "-i", "a", "--monmap", map_file, "--keyring", str(self.admin)])
        self._daemon("ceph-mon", *conf, "-i", "a", "-f", "--keyring", str(self.admin))
        osd_keyring = str(self.home / "osd" / "keyring")
        run([*make_key, "-C", osd_keyring, "-n", "osd.0"])
        key = run(["ceph-authtool", osd_keyring, "-n", "osd.0", "-p"]).strip()
        self.ceph("osd", "new", osd, "-i", "-", input=json.dumps({"cephx_secret": key}))
        run(["ceph-osd", *conf, "-i", "0", "--mkfs", "--osd-uuid", osd, "--keyring", osd_keyring])
        self._daemon("ceph-osd", *conf, "-i", "0", "-f", "--keyring", osd_keyring)
        deadline = time.monotonic() + 90
        while json.loads(self.ceph("osd", "stat", "--format", "json"))["num_up_osds"] < 1:
            assert time.monotonic() < deadline, (self.home / "ceph-osd.out").read_text()
            time.sleep(0.2)
        self.ceph("osd", "pool", "create", POOL, "8")
        self.ceph("osd", "pool", "application", "enable", POOL, "rbd")
        caps = ("mon", "profile rbd", "osd", f"profile rbd pool={POOL}")
        self.keyring.write_text(self.ceph("auth", "get-or-create", f"client.{USER}", *caps))

    def ceph(self, *arguments: str, input: str | None = None) -> str:
        access = ("-c", str(self.conf), "--keyring", str(self.admin), "--connect-timeout", "60")
        return run(["ceph", *access, *arguments], input=input, timeout=90)

    def _daemon(self, *argv: str) -> None:
        with (self.home / f"{argv[0]}.out").open("wb") as out:
            self.running.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out))

    @property
    def options(self) -> dict[str, str]:
        return {
            "rbd_pool": POOL, "rbd_user": USER, "rbd_ceph_conf": str(self.conf), "rbd_keyring_conf": str(self.keyring),
        }  # fmt: skip

    def rbd(self, *arguments: str) -> str:
        return run(["rbd", "-c", str(self.conf), "--keyring", str(self.admin), *arguments])

    def close(self) -> None:
        for daemon in reversed(self.running):
            daemon.kill()  # it keeps nothing that could be saved
            daemon.wait()
        shutil.rmtree(self.home)


def free_port(address: str) -> int:
    with socket.socket() as one:
        one.bind((address, 0))
        port: int = one.getsockname()[1]
    return port
