"""Volumes of living guests: attached, detached, grown, swapped, and copied as of one moment.

Nova: `attach_volume`, `detach_volume`, `extend_volume` and `swap_volume` of nova/virt/libvirt/driver.py, and guest.py.
"""

from __future__ import annotations

import copy
import re
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import libvirt

from kilonova.host.libvirt.connection import calling, unless
from kilonova.host.libvirt.guest import cloud_of
from kilonova.host.libvirt.xmltree import add
from kilonova.host.storage.backend import CopyLive
from kilonova.model.errors import Cancelled, HostError, Later

LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
GONE = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)  # the guest ended meanwhile
UNPLUGGING = "in the process of unplug"  # QEMU's words for a device whose removal the guest was asked for before
ASK_AGAIN = 2.0  # seconds until a guest that keeps a disk is asked once more
POLL = 0.1


@dataclass(frozen=True)
class Guest:
    """One domain of this cloud, and its disks as they are now (live) and will be (config)."""

    domain: libvirt.virDomain

    @property
    def active(self) -> bool:
        with calling("libvirt isActive"), unless(libvirt.VIR_ERR_NO_DOMAIN):
            return bool(self.domain.isActive())
        return False

    @property
    def cloud(self) -> str | None:
        """Whose it is; None when it is gone, or no cloud's."""
        with calling("libvirt XMLDesc"), unless(libvirt.VIR_ERR_NO_DOMAIN):
            return cloud_of(self.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        return None

    def disks(self, scope: int) -> list[ET.Element]:
        flags = libvirt.VIR_DOMAIN_XML_SECURE | (libvirt.VIR_DOMAIN_XML_INACTIVE if scope == CONFIG else 0)
        with calling("libvirt XMLDesc"), unless(libvirt.VIR_ERR_NO_DOMAIN):
            return ET.fromstring(self.domain.XMLDesc(flags)).findall("./devices/disk")
        return []

    def disk(self, name: str, scope: int) -> ET.Element | None:
        """A volume's disk, by its name among its backend's: after a swap, the serial is the old volume's."""
        volumes = (disk for disk in self.disks(scope) if disk.find("serial") is not None)  # a server's own have none
        return next((disk for disk in volumes if name_of(disk) == name), None)

    def scopes(self) -> list[int]:
        return [LIVE, CONFIG] if self.active else [CONFIG]


def name_of(disk: ET.Element) -> str:
    """The name of the volume that a disk is, from its source: a file, a device, an iSCSI target, an RBD image."""
    source = disk.find("source")
    found = {} if source is None else source.attrib
    where = found.get("file") or found.get("dev") or found.get("name") or ""
    if by_path := re.search(r"-iscsi-[^:]+:(.+)-lun-\d+$", where):
        return by_path.group(1)
    if found.get("protocol") == "iscsi":
        return where.partition(":")[2].rpartition("/")[0]
    return where.rpartition("/")[2]


def device_of(disk: ET.Element) -> str:
    """libvirt's name of it, such as vdb."""
    target = disk.find("target")
    return (target.get("dev") if target is not None else None) or ""


def attach_volume(guest: Guest, disk: ET.Element, name: str) -> None:
    """Attached afterwards, to the guest that runs and to its definition; one that has it already is left as it is."""
    for scope in guest.scopes():
        if guest.disk(name, scope) is None:
            with calling("libvirt attachDevice"):
                guest.domain.attachDeviceFlags(ET.tostring(disk, encoding="unicode"), scope)


def detach_volume(guest: Guest, name: str, patience: float) -> None:
    """Detached from the guest that runs, then from its definition: a guest that keeps it has it in both.

    A disk is gone when the guest has acknowledged it. Raises Later until then, for `patience` more seconds; HostError
    after that, and at once when the disk cannot go now (a copy of it runs).
    """
    if guest.active and (disk := guest.disk(name, LIVE)) is not None:
        _ask_to_detach(guest, disk)
        if guest.active and guest.disk(name, LIVE) is not None:
            if patience <= 0:
                raise HostError(f"the guest has not let go of {name}: it may use it, or have no system that listens")
            raise Later(min(ASK_AGAIN, patience))
    if (disk := guest.disk(name, CONFIG)) is not None:
        with calling("libvirt detachDevice"), unless(libvirt.VIR_ERR_DEVICE_MISSING, libvirt.VIR_ERR_NO_DOMAIN):
            guest.domain.detachDeviceFlags(ET.tostring(disk, encoding="unicode"), CONFIG)


def _ask_to_detach(guest: Guest, disk: ET.Element) -> None:
    """device_del; libvirt waits up to five seconds for the guest's answer."""
    with calling("libvirt detachDevice"), unless(libvirt.VIR_ERR_DEVICE_MISSING, *GONE):
        try:
            guest.domain.detachDeviceFlags(ET.tostring(disk, encoding="unicode"), LIVE)
        except libvirt.libvirtError as error:
            if UNPLUGGING not in str(error):
                raise


def resize_volume(guest: Guest, name: str, size: int) -> None:
    """The guest sees `size` bytes; a larger disk stays as it is."""
    if guest.active and (disk := guest.disk(name, LIVE)) is not None:
        if disk.find("source/slices") is not None:
            return  # swapped for a larger one: the guest sees all of it when it is started anew
        with calling("libvirt blockResize"), unless(*GONE):
            if guest.domain.blockInfo(device_of(disk))[0] < size:
                guest.domain.blockResize(device_of(disk), size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)


def swap_volume(guest: Guest, dev: str, new: ET.Element, size: int, cancelled: Callable[[], bool]) -> None:
    """A disk of a guest that runs gets another source, with the same bytes: QEMU mirrors them while the guest goes on.

    `new`: the <disk> as it shall be; its source is there already, of `size` bytes, at least as large. The guest sees the
    old serial, and the old size, until it is started anew: QEMU mirrors between disks of one size alone.
    """
    wanted = source_of(new)
    if source_of(_disk_at(guest, dev, LIVE)) != wanted:
        with calling("libvirt blockInfo"):
            now = guest.domain.blockInfo(dev)[0]
        _mirror(guest, dev, new, now if now < size else None, cancelled)
    if source_of(_disk_at(guest, dev, CONFIG)) != wanted:
        with calling("libvirt updateDevice"):
            guest.domain.updateDeviceFlags(ET.tostring(new, encoding="unicode"), CONFIG)


def _disk_at(guest: Guest, dev: str, scope: int) -> ET.Element:
    for disk in guest.disks(scope):
        if device_of(disk) == dev:
            return disk
    raise HostError(f"the guest has no disk {dev}")


def _mirror(guest: Guest, dev: str, new: ET.Element, most: int | None, cancelled: Callable[[], bool]) -> None:
    """blockCopy, until both are alike; then the guest's disk is the new one, or the first `most` bytes of it."""
    source = ET.Element("disk", {"type": new.get("type", ""), "device": "disk"})
    source.extend([copy.deepcopy(part) for part in new if part.tag in ("driver", "source", "auth")])
    if most is not None:
        slices = ET.SubElement(source.find("source"), "slices")  # type: ignore[arg-type]
        add(slices, "slice", type="storage", offset="0", size=str(most))
    with calling("libvirt blockJobInfo"):
        running = bool(guest.domain.blockJobInfo(dev, 0))
    if not running:
        flags = libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
        with calling("libvirt blockCopy"):
            guest.domain.blockCopy(dev, ET.tostring(source, encoding="unicode"), {}, flags)
    try:
        while not _ready(guest, dev):
            if cancelled():
                raise Cancelled("another action wants the server")
            time.sleep(POLL)
    except BaseException as error:
        if isinstance(error, Exception):  # a crash leaves the job to who comes next
            with suppress(libvirt.libvirtError):
                guest.domain.blockJobAbort(dev, 0)
        raise
    with calling("libvirt blockJobAbort pivot"):
        guest.domain.blockJobAbort(dev, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)


def _ready(guest: Guest, dev: str) -> bool:
    """Source and copy are alike from now on. HostError when the job ended before: libvirt tells no more than that."""
    mirror = _disk_at(guest, dev, LIVE).find("mirror")
    if mirror is None:
        raise HostError(
            f"the copy of the disk {dev} ended before it was whole: is the new volume writable and large enough?"
        )
    return mirror.get("ready") == "yes"


def copy_live(guest: Guest, name: str, target: Path, cancelled: Callable[[], bool]) -> bool:
    """The volume's bytes as of now, in the file `target`, while the guest writes on. False: the guest has it not open.

    QEMU copies each block before the guest changes it (libvirt: backupBegin, push mode). A guest makes one such copy
    at a time: raises Later while another runs.
    """
    disk = guest.disk(name, LIVE) if guest.active else None
    if disk is None:
        return False
    dev = device_of(disk)
    with calling("libvirt blockInfo"):
        size = guest.domain.blockInfo(dev)[0]
    with target.open("wb") as file:
        file.truncate(size)
    _wait_for_others(guest, target)
    try:
        with calling("libvirt backupBegin"):
            guest.domain.backupBegin(_backup(guest, dev, target), None, libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL)
    except HostError:
        _wait_for_others(guest, target)  # one that began since we looked
        raise
    try:
        while (stats := _job(guest, 0)).get("type", 0) != libvirt.VIR_DOMAIN_JOB_NONE:
            if cancelled():
                raise Cancelled(f"another action wants {name}")
            time.sleep(POLL)
        stats = _job(guest, libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    except Exception:
        with suppress(libvirt.libvirtError):
            guest.domain.abortJob()
        raise
    if stats.get("type") != libvirt.VIR_DOMAIN_JOB_COMPLETED or not stats.get("success", True):
        raise HostError(f"the copy of {name} was not finished: {stats.get('errmsg', 'the guest ended')}")
    return True


def _wait_for_others(guest: Guest, target: Path) -> None:
    """A copy to this very file is what a predecessor of ours began: it ends. Another's is waited for."""
    try:
        with calling("libvirt backupGetXMLDesc"):
            running = guest.domain.backupGetXMLDesc()
    except HostError:
        return  # there is none
    if str(target) not in running:
        raise Later(ASK_AGAIN)
    with calling("libvirt abortJob"), unless(*GONE):
        guest.domain.abortJob()
    while _job(guest, 0).get("type", 0) != libvirt.VIR_DOMAIN_JOB_NONE:
        time.sleep(POLL)


def _job(guest: Guest, flags: int) -> dict[str, object]:
    with calling("libvirt jobStats"):
        return dict(guest.domain.jobStats(flags))


def _backup(guest: Guest, dev: str, target: Path) -> str:
    backup = ET.Element("domainbackup", mode="push")
    disks = add(backup, "disks")
    for name in map(device_of, guest.disks(LIVE)):
        if name == dev:
            element = add(disks, "disk", name=name, backup="yes", type="file")
            add(element, "driver", type="raw")
            add(element, "target", file=str(target))
        else:
            add(disks, "disk", name=name, backup="no")
    return ET.tostring(backup, encoding="unicode")


def guests_with(conn: libvirt.virConnect, name: str, cloud_id: str) -> Iterator[Guest]:
    """The running guests of this cloud that have the volume open."""
    with calling("libvirt listAllDomains"):
        running = conn.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    for each in running:
        guest = Guest(each)
        if guest.disk(name, LIVE) is not None and guest.cloud == cloud_id:
            yield guest


def holders(conn: libvirt.virConnect, name: str, cloud_id: str) -> Iterator[Guest]:
    """The guests of this cloud that have the volume, running or not."""
    with calling("libvirt listAllDomains"):
        every = conn.listAllDomains()
    for each in every:
        guest = Guest(each)
        if any(guest.disk(name, scope) is not None for scope in guest.scopes()) and guest.cloud == cloud_id:
            yield guest


def copier(conn: Callable[[], libvirt.virConnect], cloud_id: str) -> CopyLive:
    """What volume backends ask of the guests of this host."""

    def copy_now(name: str, target: Path) -> bool:
        guest = next(guests_with(conn(), name, cloud_id), None)
        return guest is not None and copy_live(guest, name, target, lambda: False)

    return copy_now


def free_device(guest: Guest, names: list[str]) -> str:
    """The first of `names` that no disk of the guest has, now or in its definition."""
    taken = {device_of(disk) for scope in guest.scopes() for disk in guest.disks(scope)}
    for name in names:
        if name not in taken:
            return name
    raise HostError("no device name is left on that bus of this server")


def source_of(disk: ET.Element) -> dict[str, str]:
    """What a disk's source is, without what libvirt adds to it while the guest runs."""
    source = disk.find("source")
    found = {} if source is None else dict(source.attrib)
    found.pop("index", None)
    return {"type": disk.get("type", ""), **found}
