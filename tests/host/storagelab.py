"""Each kind of volume backend on the real thing, for its contract test; a kind that this machine cannot have says why."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import cephlab

from kilonova.host.calls import run
from kilonova.host.dataplane import DataPlane, DataPlaneConfig
from kilonova.host.storage import GIB, Backend, BackendConfig, Capacity, make_backend
from kilonova.model.ids import new_id


class StorageLab:
    """A backend in a folder of the test's own, and what a guest would see of its volumes."""

    kind = "file"
    reads: frozenset[str] = frozenset()  # outside calls that change nothing: no need to crash there

    @staticmethod
    def why_not() -> str:
        """Why this machine cannot have one; empty where it can."""
        return ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = self.make_config(folder)
        self.backend: Backend = make_backend(self.kind, self.config)

    def make_config(self, folder: Path) -> BackendConfig:
        return BackendConfig(name=self.kind, folder=folder / "backend", run=folder, cloud_id=new_id())

    def __enter__(self) -> "StorageLab":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """What the lab made is gone."""

    def check_capacity(self, capacity: Capacity) -> None:
        assert 1 < capacity.free_gb <= capacity.total_gb

    def read_as_guest(self, info: dict[str, Any], place: int, length: int) -> bytes:
        """By the connection that `connect` gave out."""
        with Path(info["data"]["device_path"]).open("rb") as file:
            file.seek(place)
            return file.read(length)

    def write_as_guest(self, info: dict[str, Any], place: int, word: bytes) -> None:
        with Path(info["data"]["device_path"]).open("r+b") as file:
            file.seek(place)
            file.write(word)

    def picture(self) -> dict[str, Any]:
        """What a verb's end looks like; two equal pictures are the same end."""
        return {"files": sorted(str(path.relative_to(self.config.folder)) for path in self.config.folder.rglob("*"))}

    def left(self) -> dict[str, Any]:
        """What is there beside volumes when there is no volume: nothing."""
        found = {"files": [str(path) for path in self.config.folder.rglob("*") if not path.is_dir()]}
        return {name: value for name, value in found.items() if value}


class BtrfsLab(StorageLab):
    """Files on a file system that shares blocks, in a loop device."""

    def __init__(self, folder: Path) -> None:
        self.disk = folder / "btrfs.img"
        with self.disk.open("wb") as file:
            file.truncate(1 << 30)
        subprocess.run(["mkfs.btrfs", "-q", self.disk], check=True)
        self.mount = folder / "backend"
        self.mount.mkdir()
        subprocess.run(["mount", "-o", "loop", self.disk, self.mount], check=True)
        super().__init__(folder)

    def used(self) -> int:
        subprocess.run(["btrfs", "filesystem", "sync", self.mount], check=True, stdout=subprocess.DEVNULL)
        found = os.statvfs(self.mount)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def close(self) -> None:
        subprocess.run(["umount", self.mount], check=True)


class IscsiLab(StorageLab):
    """A cloud's own tgtd, in the cloud's namespace; a guest is QEMU's own initiator there."""

    kind = "iscsi"

    def make_config(self, folder: Path) -> BackendConfig:
        self.plane = DataPlane.ensure(DataPlaneConfig(state=folder, cloud_id=new_id(), iscsi=True))
        config = self.plane.config
        return BackendConfig(self.kind, config.volumes_dir / self.kind, config.run, config.cloud_id)

    def close(self) -> None:
        self.plane.purge()

    def read_as_guest(self, info: dict[str, Any], place: int, length: int) -> bytes:
        return hexdump(self.qemu_io(info, f"read -v {place} {length}"))

    def write_as_guest(self, info: dict[str, Any], place: int, word: bytes) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(word)
            file.flush()
            self.qemu_io(info, f"write -s {file.name} {place} {len(word)}", "flush")

    def qemu_io(self, info: dict[str, Any], *commands: str, **changes: str) -> str:
        asked = [part for command in commands for part in ("-c", command)]
        return run(["qemu-io", *asked, "--image-opts", self.options(info, **changes)], netns=self.plane.netns)

    def options(self, info: dict[str, Any], **changes: str) -> str:
        """The connection, in the words of QEMU's tools."""
        data = {**info["data"], **changes}
        return (
            f"driver=iscsi,transport=tcp,portal={data['target_portal']},target={data['target_iqn']},lun={data['target_lun']},"
            f"user={data['auth_username']},password={data['auth_password']}"
        )

    def written(self) -> int:
        """Bytes that the volumes take on the disk."""
        return sum(path.stat().st_blocks * 512 for path in (self.config.folder / "volumes").iterdir())

    def shown(self) -> str:
        text = run(["tgtadm", "--mode", "target", "--op", "show"], env={"TGT_IPC_SOCKET": str(self.config.run / "tgt")})
        return "\n".join(line for line in text.splitlines() if "Target" in line or "path: /" in line or "LUN" in line)

    def picture(self) -> dict[str, Any]:
        return {**super().picture(), "targets": self.shown()}

    def left(self) -> dict[str, Any]:
        found = {
            "targets": self.shown(),
            "remembered": [str(path) for path in self.config.folder.parent.glob(".targets/*.*")],
        }
        return super().left() | {name: value for name, value in found.items() if value}


class LvmLab(StorageLab):
    """A volume group of the lab's own, on a loop device."""

    kind = "lvm"
    reads = frozenset({"lvs --reportformat"})

    @staticmethod
    def why_not() -> str:
        if shutil.which("lvcreate") is None:
            return "LVM is not installed"
        if not Path("/dev/mapper/control").exists():
            subprocess.run(["modprobe", "-q", "dm_mod"], check=False)
        there = Path("/dev/mapper/control").exists()
        return "" if there else "this kernel has no device-mapper, which LVM is made of"

    def make_config(self, folder: Path) -> BackendConfig:
        cloud_id = new_id()
        self.group = f"kn-{cloud_id[:8]}"
        disk = folder / "lvm.img"
        with disk.open("wb") as file:
            file.truncate(32 * GIB)
        self.loop = run(["losetup", "--find", "--show", str(disk)]).strip()
        run(["vgcreate", self.group, self.loop])
        options = {"volume_group": self.group}
        return BackendConfig(self.kind, folder / "backend", folder, cloud_id, options=options)

    def close(self) -> None:
        run(["vgremove", "--force", "--yes", self.group])
        run(["losetup", "--detach", self.loop])

    def picture(self) -> dict[str, Any]:
        found = run(["lvs", "--noheadings", "--units", "b", "-o", "lv_name,lv_size", self.group]).split("\n")
        return {"volumes": sorted(line.strip() for line in found if line and "-pool" not in line)}

    def left(self) -> dict[str, Any]:
        return {name: value for name, value in self.picture().items() if value}


class RbdLab(StorageLab):
    """A small Ceph of the lab's own; a guest is QEMU's own client of it."""

    kind = "rbd"
    reads = frozenset({"rbd info", "rbd ls", "ceph mon"})

    @staticmethod
    def why_not() -> str:
        return cephlab.why_not()

    def make_config(self, folder: Path) -> BackendConfig:
        self.home = Path(tempfile.mkdtemp(prefix="kn-ceph-", dir="/tmp"))
        self.ceph = cephlab.Ceph(self.home / "c")
        return BackendConfig(self.kind, folder / "backend", folder, new_id(), options=self.ceph.options)

    def close(self) -> None:
        self.ceph.close()
        self.home.rmdir()

    def check_capacity(self, capacity: Capacity) -> None:
        assert capacity == Capacity(0, 0), "this Ceph has no manager, so nobody counts"

    def read_as_guest(self, info: dict[str, Any], place: int, length: int) -> bytes:
        return hexdump(self.qemu_io(info, f"read -v {place} {length}"))

    def write_as_guest(self, info: dict[str, Any], place: int, word: bytes) -> None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(word)
            file.flush()
            self.qemu_io(info, f"write -s {file.name} {place} {len(word)}", "flush")

    def qemu_io(self, info: dict[str, Any], *commands: str) -> str:
        """By nothing but what the connection says."""
        data = info["data"]
        pool, image = data["name"].split("/")
        key = data["keyring"].split("key = ")[1].strip()
        (host,), (port,) = data["hosts"], data["ports"]
        options = {
            "driver": "rbd", "pool": pool, "image": image, "user": data["auth_username"], "key-secret": "key",
            "server.0.host": host, "server.0.port": port,
        }  # fmt: skip
        asked = [part for command in commands for part in ("-c", command)]
        text = ",".join(f"{name}={value}" for name, value in options.items())
        return run(["qemu-io", "--object", f"secret,id=key,format=base64,data={key}", *asked, "--image-opts", text])

    def picture(self) -> dict[str, Any]:
        found = json.loads(self.ceph.rbd("ls", "-l", cephlab.POOL, "--format", "json"))
        return {"images": sorted((each["image"], each.get("snapshot", ""), each["size"]) for each in found)}

    def left(self) -> dict[str, Any]:
        found = self.picture() | {"trash": self.ceph.rbd("trash", "ls", "--all", cephlab.POOL).split()}
        found |= {"exports": [str(path) for path in self.config.run.glob("export-*")]}
        return {name: value for name, value in found.items() if value}


def hexdump(text: str) -> bytes:
    """The bytes that qemu-io shows: lines of an offset, a colon, hexadecimal bytes, two spaces, characters."""
    lines = [line for line in text.splitlines() if re.match(r"[0-9a-f]{8,}:  ", line)]
    return bytes.fromhex("".join(line.split(":", 1)[1].split("  ")[1] for line in lines))


LABS: dict[str, type[StorageLab]] = {
    "file": StorageLab,
    "iscsi": IscsiLab,
    "lvm": LvmLab,
    "rbd": RbdLab,
    "btrfs": BtrfsLab,
}
