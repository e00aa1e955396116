"""A real guest with a shell on its second serial port, no network, and volumes that come and go while it runs."""

import hashlib
import os
import select
import tempfile
import time
import tty
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import cephlab
import libvirt
import msgspec
import pytest
from cephlab import Ceph
from guestlab import SERVER

from kilonova.host.contract import Work
from kilonova.host.dataplane import DataPlane, DataPlaneConfig
from kilonova.host.libvirt.attachments import DETACH_SECONDS
from kilonova.host.libvirt.connection import Connection
from kilonova.host.libvirt.host import LibvirtHost, LibvirtHostConfig
from kilonova.host.libvirt.volumes import Guest, copier
from kilonova.host.net.backend import HostNet
from kilonova.host.storage import Backend, BackendConfig, make_backend
from kilonova.model.errors import Later
from kilonova.model.ids import new_id
from kilonova.model.specs import FlavorSpec, ImageSpec, ServerSpec, VolumeSpec

IMAGE = Path(__file__).parents[2] / "build" / "guest.qcow2"
BOOT_SECONDS, COMMAND_SECONDS = 300.0, 120.0


class VolumeLab:
    """One cloud's libvirt; `guest()` boots a server on it."""

    def __init__(self, state: Path) -> None:
        assert IMAGE.exists(), "there is no guest image: `make image` builds it"
        self.state = state
        self.cloud_id = new_id()
        self.plane = DataPlane.ensure(DataPlaneConfig(state=state, cloud_id=self.cloud_id, iscsi=True))
        connection = Connection(self.plane.libvirt_uri)
        self.ceph: Ceph | None = None
        self.copy_live = copier(connection.get, self.cloud_id)
        self.backends = {kind: self.backend(kind) for kind in ("file", "iscsi")}
        config = LibvirtHostConfig(
            instances=state / "instances", cloud_id=self.cloud_id, netns=self.plane.netns, tb_cache_mib=16,
            backends=self.backends, fetch_image=lambda image_id, path: path.write_bytes(IMAGE.read_bytes()) and None,
        )  # fmt: skip
        self.net = HostNet(self.plane.netns, self.cloud_id, state)
        self.host = LibvirtHost("here", config, connection, self.net)
        self.servers: list[ServerSpec] = []

    def backend(self, kind: str, **options: str) -> Backend:
        its = self.plane.config
        return make_backend(
            kind,
            BackendConfig(
                kind, its.volumes_dir / kind, its.run, its.cloud_id, options=options, copy_live=self.copy_live
            ),
        )

    def need(self, kind: str) -> Backend:
        """Ceph takes its time, so it is made when it is first asked for; where guests and this process reach it."""
        if kind == "rbd" and self.ceph is None:
            if why_not := cephlab.why_not():
                pytest.skip(why_not)
            self.home = Path(tempfile.mkdtemp(prefix="kn-ceph-", dir="/tmp"))
            self.ceph = Ceph(self.home / "c", self.plane.gateway)
            self.backends["rbd"] = self.backend("rbd", **self.ceph.options)
        return self.backends[kind]

    @property
    def conn(self) -> libvirt.virConnect:
        return self.host.connection.get()

    def close(self) -> None:
        if self.ceph:
            self.ceph.close()
            self.home.rmdir()
        self.net.purge()
        self.host.close()
        self.plane.purge()

    def server(self, number: int = 1) -> ServerSpec:
        data = IMAGE.read_bytes()
        digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
        return msgspec.structs.replace(
            SERVER,
            id=new_id(),
            instance_name=f"instance-{number:08x}",
            hostname=f"volumes{number}",
            flavor=FlavorSpec(id="1", name="m1.nano", vcpus=1, memory_mb=128, disk_gb=1),
            image=ImageSpec(id="guest", name="guest", disk_format="qcow2", size=len(data), checksum=digest),
            networks=(),
            ports=(),
            config_drive=True,
        )

    def start(self, server: ServerSpec) -> Guest:
        """Defined, and paused."""
        results: dict[str, object] = {}
        for step in ("prepare_disks", "get_guest_xml", "create_guest"):
            results[step] = getattr(self.host, step)(Work(server=server, results=results))
        return Guest(self.conn.lookupByUUIDString(server.id))

    def boot(self, server: ServerSpec) -> "Shell":
        guest = self.start(server)
        self.host.resume_guest(Work(server=server))
        return Shell(server, guest, lambda: self.host.console_output(server.id, None))

    def with_volume(self, server: ServerSpec, kind: str, volume_id: str, **more: object) -> ServerSpec:
        """The server as its host is told of it, with a volume of a backend; `more` goes into its connection_info."""
        info = self.backends[kind].connect(f"volume-{volume_id}") | more
        volume = VolumeSpec(id=volume_id, driver_volume_type=info["driver_volume_type"], connection=info, backend=kind)
        return msgspec.structs.replace(server, volumes=(volume,))

    def server_alone(self, server: ServerSpec) -> ServerSpec:
        return msgspec.structs.replace(server, volumes=())

    def attach(self, server: ServerSpec, kind: str, volume_id: str) -> str:
        """The device that it became, for libvirt."""
        work = Work(self.with_volume(server, kind, volume_id), data={"volume_id": volume_id})
        return self.host.attach_volume(work)["device"]

    def detach(self, server: ServerSpec, kind: str, volume_id: str, patience: float = DETACH_SECONDS) -> None:
        """As the flow does it: again when the guest has not answered yet."""
        given = self.with_volume(server, kind, volume_id)
        start = time.monotonic() - DETACH_SECONDS + patience
        while True:
            try:
                waited = time.monotonic() - start
                return self.host.detach_volume(Work(given, data={"volume_id": volume_id}, waited=waited))
            except Later as later:
                time.sleep(later.seconds)

    def end(self, server: ServerSpec) -> None:
        for step in ("destroy_guest", "delete_disks"):
            getattr(self.host, step)(Work(server=server))


class Shell:
    """Runs commands in the guest."""

    def __init__(self, server: ServerSpec, guest: Guest, console: Callable[[], str]) -> None:
        self.server, self.guest, self.console = server, guest, console
        source = ET.fromstring(guest.domain.XMLDesc()).find("./devices/serial[@type='pty']/source")
        self.fd = os.open(source.get("path"), os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.fd)
        self.count = 0
        self._until("login:", typing=b"\n")  # what comes before it listens is lost
        for answer, then in ((b"cirros\n", "assword:"), (b"gocubsgo\n", "$ "), (b"exec sudo sh\n", "# ")):
            os.write(self.fd, answer)
            self._until(then)
        self.run("mkdir -p /mnt")

    def _until(self, word: str, *, typing: bytes = b"") -> None:
        deadline, text = time.monotonic() + BOOT_SECONDS, ""
        while word not in text:
            assert time.monotonic() < deadline, f"{text}\n{self.console()[-3000:]}"
            os.write(self.fd, typing)
            if select.select([self.fd], [], [], 1.0)[0]:
                text += os.read(self.fd, 65536).decode(errors="replace")

    def run(self, command: str, *, timeout: float = COMMAND_SECONDS, ok: bool = True) -> str:
        """What the command wrote. Fails when it does not end with 0 (ok)."""
        self.count += 1
        begin, end = f"<<{self.count}", f">>{self.count}:"
        line = f"echo '<<''{self.count}'; {{ {command}\n}}; echo '>>''{self.count}':$?.\n"
        os.write(self.fd, line.encode())
        text, deadline = "", time.monotonic() + timeout
        while not (end in text and text.partition(end)[2].partition(".")[1]):
            assert time.monotonic() < deadline, f"{command}: {text}\n{self.console()[-1000:]}"
            if select.select([self.fd], [], [], 0.5)[0]:
                text += os.read(self.fd, 65536).decode(errors="replace")
        output, _, status = text.partition(begin)[2].partition(end)
        assert not ok or status.partition(".")[0] == "0", f"{command}: {text!r}"
        return output.replace("\r", "").strip()

    def device(self, volume_id: str) -> str:
        """The guest's name of a volume's disk, by its serial; empty when it has none."""
        found = self.run(f"grep -l {volume_id[:20]} /sys/block/*/serial || true")
        dev = f"/dev/{found.split('/')[3]}" if found else ""
        return dev if dev and self.run(f"[ -b {dev} ] && echo yes || true") else ""

    def wait_for_device(self, volume_id: str) -> str:
        deadline = time.monotonic() + 20
        while not (found := self.device(volume_id)):
            assert time.monotonic() < deadline, "the guest does not see the disk"
            time.sleep(0.1)
        return found

    def close(self) -> None:
        os.close(self.fd)
