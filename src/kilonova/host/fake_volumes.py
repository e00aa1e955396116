"""The fake host's volumes: each says its size, and in words what bytes a real one would hold."""

import struct
from typing import Any

from kilonova.host.calls import outside
from kilonova.host.contract import VolumeWork
from kilonova.host.fake_things import Things
from kilonova.model.errors import HostError
from kilonova.model.specs import PoolSpec, StoredVolume

KINDS = ("volumes", "snapshots", "backups")
CAPACITY_GB = 1 << 20
EMPTY = "zeros"
# What an image of that format begins with; qcow2: the header of an empty one of 1 GiB
QCOW2 = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 0, 0, 16, 1 << 30, 0, 2, 0x30000, 0x10000, 1, 0, 0)
HEADERS = {"raw": b"", "qcow2": QCOW2.ljust(1 << 16, b"\0")}


class FakeVolumes(Things):
    """The volume verbs of `host/contract.py`. A volume's file is `volume-<id>@<backend>`, so that two can have copies."""

    backends: tuple[str, ...] = ("file",)

    def held(self, kind: str, name: str) -> dict[str, Any]:
        """For tests: what it holds under that name."""
        found = self._get(kind, name)
        assert found is not None
        return found

    def pools(self) -> tuple[PoolSpec, ...]:
        found = []
        for backend in self.backends:
            held = [self._get("volumes", name) for name in self._names("volumes") if name.endswith(f"@{backend}")]
            used = sum(volume["size_gb"] for volume in held if volume)
            found.append(PoolSpec(name=backend, protocol="file", total_gb=CAPACITY_GB, free_gb=CAPACITY_GB - used))
        return tuple(found)

    def create_volume(self, work: VolumeWork) -> Any:
        volume = work.volume
        if self._get("volumes", _file(volume)) is None:
            self._put("volumes", _file(volume), {"size_gb": volume.size_gb, "content": self._origin(volume)})

    def _origin(self, volume: StoredVolume) -> str:
        if volume.from_snapshot:
            return self._content("snapshots", volume.from_snapshot)
        if volume.from_volume:
            return self._content("volumes", f"{volume.from_volume}@{volume.backend}")
        if volume.from_backup:
            return self._content("backups", volume.from_backup)
        return f"image {volume.image.id}" if volume.image else EMPTY

    def delete_volume(self, work: VolumeWork) -> Any:
        self._drop("volumes", _file(work.volume))

    def extend_volume(self, work: VolumeWork) -> Any:
        self._change(work.volume, size_gb=work.data["size_gb"])

    def reimage_volume(self, work: VolumeWork) -> Any:
        self._change(work.volume, content=self._origin(work.volume))

    def upload_volume(self, work: VolumeWork) -> Any:
        disk_format = work.data["disk_format"]
        if disk_format not in HEADERS:
            raise HostError(f"this host is fake: it writes images of {' and '.join(HEADERS)}, not of {disk_format}")
        target = self.folder / "volumes" / f".{work.data['image_id']}"
        target.write_bytes(HEADERS[disk_format] + self._content("volumes", _file(work.volume)).encode())
        try:
            with outside("image store"):
                work.images.store_image(work.data["image_id"], target, disk_format)
        finally:
            target.unlink(missing_ok=True)

    def withdraw_upload(self, work: VolumeWork) -> Any:
        with outside("image drop"):
            work.images.drop_image(work.data["image_id"])

    def copy_volume(self, work: VolumeWork) -> Any:
        found = self._get("volumes", _file(work.volume))
        if found is None:
            raise HostError(f"there is no {work.volume.name}")
        self._put("volumes", f"{work.volume.name}@{work.results['select_target']['backend']}", found)
        return {"connection": self.connect_volume(work.volume.name, work.results["select_target"]["backend"])}

    def copy_content(self, source: str, target: str) -> None:
        """What one volume holds, in another that is there."""
        held = self._get("volumes", target)
        if held is None:
            raise HostError(f"there is no {target} among the volumes")
        self._put("volumes", target, {**held, "content": self._content("volumes", source)})

    def delete_copy(self, work: VolumeWork) -> Any:
        self._drop_other(work, "backend")

    def delete_original(self, work: VolumeWork) -> Any:
        self._drop_other(work, "old_backend")

    def _drop_other(self, work: VolumeWork, which: str) -> None:
        backend = work.results.get("select_target", {}).get(which, work.volume.backend)
        if backend != work.volume.backend:
            self._drop("volumes", f"{work.volume.name}@{backend}")

    def create_snapshot(self, work: VolumeWork) -> Any:
        assert work.snapshot is not None
        if self._get("snapshots", work.snapshot.name) is None:
            self._put("snapshots", work.snapshot.name, {"content": self._content("volumes", _file(work.volume))})

    def delete_snapshot(self, work: VolumeWork) -> Any:
        assert work.snapshot is not None
        self._drop("snapshots", work.snapshot.name)

    def revert_to_snapshot(self, work: VolumeWork) -> Any:
        self._change(work.volume, content=self._content("snapshots", work.data["snapshot"]))

    def backup_volume(self, work: VolumeWork) -> Any:
        assert work.backup is not None
        source = ("volumes", _file(work.volume))
        if work.backup.from_snapshot:
            source = ("snapshots", work.backup.from_snapshot)
        self._put("backups", work.backup.id, {"content": self._content(*source)})
        return {"object_count": 1}

    def delete_backup(self, work: VolumeWork) -> Any:
        assert work.backup is not None
        self._drop("backups", work.backup.id)

    def restore_backup(self, work: VolumeWork) -> Any:
        self._change(work.volume, content=self._content("backups", work.data["location"]))

    def connect_volume(self, name: str, backend: str) -> dict[str, Any]:
        path = self.folder / "volumes" / f"{name}@{backend}"
        return {"driver_volume_type": "file", "data": {"device_path": str(path), "format": "raw"}}

    def stored_volumes(self, backend: str) -> dict[str, int]:
        found = {}
        for name in self._names("volumes"):
            volume = self._get("volumes", name)
            if volume is not None and name.endswith(f"@{backend}"):
                found[name.removesuffix(f"@{backend}")] = volume["size_gb"] << 30
        return found

    def has_snapshot(self, name: str, backend: str) -> bool:
        return self._get("snapshots", name) is not None

    def _content(self, kind: str, name: str) -> str:
        found = self._get(kind, name)
        if found is None:
            raise HostError(f"there is no {name} among the {kind}")
        return str(found["content"])

    def _change(self, volume: StoredVolume, **values: Any) -> None:
        found = self._get("volumes", _file(volume))
        if found is None:
            raise HostError(f"there is no {volume.name}")
        self._put("volumes", _file(volume), {**found, **values})


def _file(volume: StoredVolume) -> str:
    return f"{volume.name}@{volume.backend}"
