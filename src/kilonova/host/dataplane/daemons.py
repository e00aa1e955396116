"""A cloud's own libvirtd, virtlogd and tgtd under their reaper: configured, started or adopted, stopped.

They run in a session of their own and outlive Kilonova. The mount namespace they see holds nothing that cannot be
made again: bind mounts of directories that persist elsewhere. So a killed libvirtd starts again in a new one, finds
the status files of its guests and takes them back, while QEMU lives on in the old one.
"""

from __future__ import annotations

import glob
import grp
import json
import os
import pwd
import shutil
import signal
import socket
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kilonova.host.calls import outside, run
from kilonova.host.dataplane import config as places
from kilonova.host.dataplane import processes
from kilonova.host.dataplane.config import DataPlaneConfig
from kilonova.host.dataplane.machine import Machine, read_json, write_json
from kilonova.host.libvirt.connection import Connection
from kilonova.host.netns import netns_path
from kilonova.model.errors import HostError

REAPER = Path(__file__).with_name("reaper.py")
TGTD = Path(__file__).parents[1] / "storage" / "tgtd.py"
DRIVERS = ("qemu", "secret")  # all a compute host needs; the rest costs memory and looks at the host's own devices
DRIVER_PLACES = ("/usr/lib/*/libvirt", "/usr/lib64/libvirt", "/usr/lib/libvirt")
QEMU_USER = "libvirt-qemu"  # Debian's default, which libvirt resolves before it reads that we set another

QEMU_CONF = """\
security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
# Two libvirtds on one machine would name their guests' cgroups alike: see docs/adr/0002-a-namespace-of-its-own.md
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "logd"
max_processes = 0
"""

LIBVIRTD_CONF = """\
listen_tls = 0
listen_tcp = 0
auth_unix_rw = "none"
unix_sock_dir = "/run/libvirt"
unix_sock_rw_perms = "0700"
host_uuid = "{host_uuid}"
log_level = 3
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
min_workers = 2
max_workers = 20
prio_workers = 2
admin_min_workers = 1
"""


@dataclass(frozen=True)
class Daemons:
    """The processes of one cloud; holds nothing but its config, so a new one sees what the last one left."""

    config: DataPlaneConfig

    @property
    def names(self) -> list[str]:
        """Which this cloud is to have, in the order of their start."""
        return ["tgtd"] * self.config.iscsi + ["virtlogd", "libvirtd"] * (not self.config.libvirt_uri)

    @property
    def socket(self) -> Path:
        return self.config.run / "libvirt" / "libvirt-sock"

    @property
    def uri(self) -> str:
        return f"qemu+unix:///system?socket={self.socket}"

    @property
    def tgt_socket(self) -> Path:
        """tgtd adds `.0`."""
        return self.config.run / "tgt"

    @property
    def spec_file(self) -> Path:
        return self.config.run / "reaper.json"

    def pid_file(self, daemon: str) -> Path:
        """daemon: reaper, libvirtd, virtlogd or tgtd."""
        return self.config.run / f"{daemon}.pid"

    def pid(self, daemon: str) -> int | None:
        """The live process, known as ours by its argv; None when it is not running."""
        return processes.pid_from(self.pid_file(daemon), self._argument(daemon))

    def _argument(self, daemon: str) -> str:
        return str(self.spec_file) if daemon == "reaper" else f"--pid-file={self.pid_file(daemon)}"

    # Bring-up

    def ensure(self, machine: Machine) -> None:
        """Started or adopted; returns without waiting for libvirtd to answer (see `wait`)."""
        self._directories(machine)
        spec = self._spec()
        reaper = self.pid("reaper")
        if reaper and self._same_place(reaper) and _without_pids(read_json(self.spec_file)) == _without_pids(spec):
            return
        if reaper or self._wrong_place("virtlogd") or self._wrong_place("tgtd"):
            self.stop()  # of an older version, or in a network namespace that is no more
            spec = self._spec()
        else:
            self._stop(["libvirtd"], grace=5.0)  # an orphan whose guests nobody would reap; virtlogd keeps their logs
            if not self.config.iscsi:
                self._stop(["tgtd"], grace=0.0)
        write_json(self.spec_file, spec)
        run([sys.executable, "-I", "-S", str(REAPER), str(self.spec_file)])

    def wait(self, timeout: float = 20.0) -> None:
        """Until they answer. libvirtd's socket listens before its drivers have started, so it is asked;
        virtlogd may be the later one, and no guest starts without it. HostError has the end of their logs.
        """
        connection = Connection(self.uri, timeout)
        try:
            if "libvirtd" in self.names:
                connection.get()
                _wait_for_socket(self.socket.with_name("virtlogd-sock"), timeout)
            if "tgtd" in self.names:
                _wait_for_socket(self.tgt_socket.with_name("tgt.0"), timeout)
        except HostError as error:
            raise HostError(f"{error}; {self.log_tail()}") from error
        finally:
            connection.close()

    def log_tail(self) -> str:
        for name in ("libvirtd.log", "reaper.log"):
            path = self.config.libvirt_dir / "log" / name
            if path.exists() and (lines := path.read_text(errors="replace").splitlines()):
                return f"the end of {path}: " + " | ".join(lines[-5:])
        return f"its logs in {self.config.libvirt_dir / 'log'} are empty"

    def stop(self, *, at_once: bool = False) -> None:
        """End reaper, libvirtd, virtlogd and tgtd, known by their argv; at_once: with SIGKILL. Guests live on."""
        self._stop(["reaper"], grace=0.0 if at_once else 12.0)  # SIGTERM makes it end the others first
        self._stop(["tgtd"], grace=0.0)
        self._stop(["libvirtd", "virtlogd"], grace=0.0 if at_once else 5.0)

    def _stop(self, names: list[str], grace: float) -> None:
        arguments = {self._argument(name) for name in names}
        pids = [pid for argument in arguments for pid in processes.with_argument(argument)]
        processes.end(pids, lambda pid: bool(arguments & set(processes.command_line(pid))), grace=grace)
        for name in names:
            self.pid_file(name).unlink(missing_ok=True)

    def _wrong_place(self, name: str) -> bool:
        pid = self.pid(name)
        return pid is not None and not self._same_place(pid)

    def _same_place(self, pid: int) -> bool:
        """In the network namespace that this cloud has now."""
        try:
            return os.path.samefile(f"/proc/{pid}/ns/net", self.config.netns_file or "/proc/self/ns/net")
        except OSError:
            return False

    # What they are started with

    def _directories(self, machine: Machine) -> None:
        home = self.config.libvirt_dir
        for path in (home / "lib", home / "etc", home / "log", self.config.run / "libvirt", places.CACHE / "libvirt"):
            path.mkdir(parents=True, exist_ok=True)
        for _, target in self.mounts():
            machine.make_directory(Path(target))
        host_uuid = home / "host_uuid"
        if not host_uuid.exists():
            _write(host_uuid, f"{uuid.uuid4()}\n")
        _write(home / "etc" / "qemu.conf", QEMU_CONF)
        _write(home / "etc" / "libvirtd.conf", LIBVIRTD_CONF.format(host_uuid=host_uuid.read_text().strip()))
        self._link_drivers()

    def mounts(self) -> list[list[str]]:
        """[source, target]. /etc/libvirt starts empty: a copy of the host's would bring its guests and networks."""
        home = self.config.libvirt_dir
        return [
            [str(home / "lib"), "/var/lib/libvirt"],
            [str(home / "etc"), "/etc/libvirt"],
            [str(home / "log"), "/var/log/libvirt"],
            [str(places.CACHE / "libvirt"), "/var/cache/libvirt"],
            [str(self.config.run / "libvirt"), "/run/libvirt"],
        ]

    def _user_mounts(self) -> list[list[str]]:
        """libvirt refuses to start where its default QEMU user is unknown (Debian's daemon without its system package).

        The cloud's mount namespace then sees a passwd and a group file that have it; the host's stay as they are.
        """
        binds = []
        for database, lookup, entry in (
            ("passwd", pwd.getpwnam, f"{QEMU_USER}:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin"),
            ("group", grp.getgrnam, f"{QEMU_USER}:x:64055:"),
        ):
            try:
                lookup(QEMU_USER)
            except KeyError:
                source = self.config.libvirt_dir / database
                _write(source, Path("/etc", database).read_text().rstrip("\n") + f"\n{entry}\n")
                binds.append([str(source), f"/etc/{database}"])
        return binds

    def _link_drivers(self) -> None:
        """LIBVIRT_DRIVER_DIR: only the drivers we need, so that libvirtd loads no others."""
        directory = self.config.run / "drivers"
        directory.mkdir(exist_ok=True)
        for name in DRIVERS:
            link = directory / f"libvirt_driver_{name}.so"
            found = [path for place in DRIVER_PLACES for path in glob.glob(f"{place}/connection-driver/{link.name}")]
            if not found:
                raise HostError(f"libvirt's {name} driver is not installed: apt-get install libvirt-daemon-driver-qemu")
            if not link.is_symlink() or os.readlink(link) != found[0]:
                link.unlink(missing_ok=True)
                link.symlink_to(found[0])

    def _spec(self) -> dict[str, Any]:
        home = self.config.libvirt_dir
        return {
            "netns": str(netns_path(self.config.netns)) if self.config.netns else None,
            "sysfs": not self.config.host_net,
            "binds": self.mounts() + self._user_mounts(),
            "pid_file": str(self.pid_file("reaper")),
            "log": str(home / "log" / "reaper.log"),
            "daemons": [self._daemon(name) for name in self.names],
        }

    def _daemon(self, name: str) -> dict[str, Any]:
        """What the reaper must know of one. A libvirtd that lives is ended first, the others are kept."""
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "1"}
        end = signal.SIGTERM
        if name == "libvirtd":
            argv = [_program(name), "--config=/etc/libvirt/libvirtd.conf", self._argument(name)]
            env["LIBVIRT_DRIVER_DIR"] = str(self.config.run / "drivers")
        elif name == "tgtd":
            script = [sys.executable, "-I", "-S", str(TGTD), self._argument(name), _program(name, "tgt")]
            argv = [*script, str(self.tgt_socket), self.config.iscsi_portal, str(self.config.volumes_dir / ".targets")]
            end = signal.SIGKILL  # it does not listen to others while it has targets
        else:
            argv = [_program(name), self._argument(name)]
        return {"argv": argv, "env": env, "adopt": None if name == "libvirtd" else self.pid(name), "end": int(end)}


def _wait_for_socket(path: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    with outside(f"wait for {path.name}"):
        while True:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                try:
                    return client.connect(str(path))
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise HostError(f"{path} did not answer in {timeout:g} s: {error}") from error
            time.sleep(0.01)


def _without_pids(spec: dict[str, Any]) -> dict[str, Any]:
    """The part of a reaper's spec that says how things are to be, not how they were found."""
    daemons = [{**daemon, "adopt": None} for daemon in spec.get("daemons", [])]
    return json.loads(json.dumps({**spec, "daemons": daemons}))


def _program(name: str, package: str = "libvirt-daemon") -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
    if found is None:
        raise HostError(f"{name} is not installed on this host: apt-get install {package}")
    return found


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
