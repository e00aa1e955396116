"""Where a server's files are on its host, and which device each disk is to the guest: pure, nothing is touched.

Nova: `nova/virt/libvirt/blockinfo.py` (get_disk_info) and `imagecache` (`_base`).
"""

import hashlib
import string
from dataclasses import dataclass
from pathlib import Path

from kilonova.host.libvirt.hardware import Hardware
from kilonova.model.errors import HostError
from kilonova.model.hardware import DISK_PREFIXES
from kilonova.model.specs import ImageSpec, ServerSpec, VolumeSpec

RESCUE, RESCUE_CONFIG = "disk.rescue", "disk.config.rescue"
ROOM = {"ide": 4, "fdc": 2}


@dataclass(frozen=True)
class Layout:
    """The paths below an instances directory. All text, so that a frozen value can carry them anywhere."""

    instances: Path

    def server(self, server_id: str) -> Path:
        return self.instances / server_id

    def disk(self, server_id: str, name: str = "disk") -> Path:
        """Nova's names: `disk`, `disk.config`, `disk.eph0`, `disk.swap`, `kernel`, `ramdisk`, `console.log`."""
        return self.instances / server_id / name

    def old(self, server_id: str) -> Path:
        """The server's directory from before a resize that is not confirmed yet, in Nova's name for it."""
        return self.instances / f"{server_id}_resize"

    def root_copy(self, server_id: str) -> Path:
        """Of the root disk, on its way to be an image."""
        return self.instances / server_id / "disk.copy"

    def console_log(self, server_id: str) -> Path:
        return self.instances / server_id / "console.log"

    def empty_overlay(self, base: Path, size: int | None) -> Path:
        """The overlay over `base` that nobody has written to, of `size` bytes (None: the base's own)."""
        return self.base_dir / "overlays" / f"{base.name}_{size or 'own'}"

    @property
    def base_dir(self) -> Path:
        return self.instances / "_base"

    def base(self, image_id: str) -> Path:
        """The raw copy of an image that overlays are backed by: Nova names it by the SHA-1 of the image's id."""
        return self.base_dir / hashlib.sha1(image_id.encode()).hexdigest()

    def blank(self, kind: str, size: int) -> Path:
        """The formatted empty disk that ephemeral (size in GiB) and swap (size in MiB) disks are backed by."""
        return self.base_dir / f"{kind}_{size}"


@dataclass(frozen=True)
class Disk:
    """One disk as the guest sees it. `name` is its file's name below the server's directory, or None for a volume."""

    dev: str
    bus: str
    device: str  # disk | cdrom
    name: str | None = None
    backing: Path | None = None
    format: str = "qcow2"
    volume: VolumeSpec | None = None
    boot_first: bool = False  # before all others, wherever it stands


class _Names:
    """Hands out device names, those that volumes were promised first."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken

    def next(self, bus: str) -> str:
        for dev in device_names(bus):
            if dev not in self.taken:
                self.taken.add(dev)
                return dev
        raise HostError(f"no device name is left on the {bus} bus of this server")


def get_disk_info(server: ServerSpec, hardware: Hardware, layout: Layout) -> tuple[Disk, ...]:
    """The server's disks, the root disk first, config drive last (Nova: get_disk_info, get_disk_mapping).

    Of one that is rescued: the rescue disk, its root disk and a config drive; or, in a stable rescue, all that it has, and
    the rescue disk behind them, which it boots from.
    """
    if server.rescue is None:
        return _disks(server, hardware, layout)
    backing = layout.base(server.rescue.id)
    if not is_stable(server.rescue):
        names, bus, cdrom = _Names(set()), hardware.disk_bus, hardware.cdrom_bus
        kind, rescue_bus = ("cdrom", cdrom) if hardware.root_is_cdrom else ("disk", bus)
        disks = [Disk(names.next(rescue_bus), rescue_bus, kind, RESCUE, backing)]
        if server.image is not None:
            disks.append(Disk(names.next(bus), bus, "disk", "disk", layout.base(server.image.id)))
        if server.config_drive:
            disks.append(Disk(names.next(cdrom), cdrom, "cdrom", RESCUE_CONFIG, format="raw"))
        return tuple(disks)
    own = _disks(server, hardware, layout)
    names = _Names({disk.dev for disk in own})
    kind, bus = hardware.rescue_device, hardware.rescue_bus
    return (*own, Disk(names.next(bus), bus, kind, RESCUE, backing, boot_first=True))


def is_stable(rescue: ImageSpec) -> bool:
    """Nova: check_hw_rescue_props."""
    return bool({"hw_rescue_device", "hw_rescue_bus"} & set(rescue.properties))


def _disks(server: ServerSpec, hardware: Hardware, layout: Layout) -> tuple[Disk, ...]:
    root_volume = next((v for v in server.volumes if v.boot_index == 0), None) if server.image is None else None
    others = [volume for volume in server.volumes if volume is not root_volume]
    names = _Names({_short(volume.device) for volume in others if volume.device})
    disks: list[Disk] = []
    bus = hardware.disk_bus
    if server.image is not None:
        root_bus = hardware.cdrom_bus if hardware.root_is_cdrom else bus
        kind = "cdrom" if hardware.root_is_cdrom else "disk"
        disks.append(Disk(names.next(root_bus), root_bus, kind, "disk", layout.base(server.image.id)))
    elif root_volume is not None:
        dev = _short(root_volume.device) if root_volume.device else names.next(bus)
        names.taken.add(dev)
        disks.append(_of_volume(root_volume, dev, bus))
    flavor = server.flavor
    if flavor.ephemeral_gb:
        disks.append(Disk(names.next(bus), bus, "disk", "disk.eph0", layout.blank("ephemeral", flavor.ephemeral_gb)))
    if flavor.swap_mb:
        disks.append(Disk(names.next(bus), bus, "disk", "disk.swap", layout.blank("swap", flavor.swap_mb)))
    for volume in others:
        dev = _short(volume.device) if volume.device else names.next(bus)
        disks.append(_of_volume(volume, dev, bus))
    if server.config_drive:
        cdrom = hardware.cdrom_bus
        disks.append(Disk(names.next(cdrom), cdrom, "cdrom", "disk.config", format="raw"))
    return tuple(disks)


def _of_volume(volume: VolumeSpec, dev: str, bus: str) -> Disk:
    kind = "cdrom" if volume.device_type == "cdrom" else "disk"  # what a lun is, is in how it is connected
    return Disk(dev, bus_of(dev, volume.bus or bus), kind, volume=volume, format="raw")


def device_names(bus: str) -> list[str]:
    """All that a bus has, in order."""
    return [DISK_PREFIXES[bus] + letter for letter in string.ascii_lowercase[: ROOM.get(bus, 26)]]


def root_device_name(disks: tuple[Disk, ...]) -> str | None:
    """`/dev/vda`: what Nova shows as OS-EXT-SRV-ATTR:root_device_name."""
    return f"/dev/{disks[0].dev}" if disks and disks[0].name != "disk.config" else None


def _short(device: str) -> str:
    return device.removeprefix("/dev/")


def bus_of(dev: str, preferred: str) -> str:
    """The image's bus where the name fits it; else the bus that such a name is of."""
    if dev.startswith(DISK_PREFIXES[preferred]):
        return preferred
    for bus, prefix in DISK_PREFIXES.items():
        if dev.startswith(prefix):
            return bus
    raise HostError(f"the device name {dev!r} is of no bus that this host knows")
