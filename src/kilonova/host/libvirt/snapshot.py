"""A copy of a server's root disk as of one moment, whole by itself: what a snapshot's image is made of.

Nova: `snapshot`, `_live_snapshot` and `_set_quiesced` in `nova/virt/libvirt/driver.py`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt

from kilonova.host.calls import outside, run
from kilonova.host.libvirt.connection import calling
from kilonova.host.libvirt.volumes import LIVE, Guest, device_of
from kilonova.model.errors import Cancelled, HostError

LOG = logging.getLogger(__name__)
FORMAT = "qcow2"
CONVERT_SECONDS = 3600.0
LOOK_EVERY = 0.05  # seconds between looks at a copy that is under way
AGENT_SECONDS = 10  # that the guest's agent has to answer


def copy(guest: Guest | None, disk: Path, target: Path, quiesce: bool | None, cancelled: Callable[[], bool]) -> None:
    """Make `target`, unless it is there. The disk of a guest that is off, or gone, is only read.

    quiesce: True: file systems frozen by the guest's agent, HostError when it cannot; None: if it can; False: not at all.
    """
    if target.exists():
        return
    if guest is not None and guest.active:
        _copy_live(guest, disk, _part(target), quiesce, cancelled)
    else:
        _part(target).unlink(missing_ok=True)
        convert = ["qemu-img", "convert", "-f", "qcow2", "-O", FORMAT, str(disk), str(_part(target))]
        run(convert, timeout=CONVERT_SECONDS)
    with _part(target).open("rb") as file:
        os.fsync(file.fileno())
    with outside("snapshot rename"):
        os.replace(_part(target), target)


def drop(guest: Guest | None, disk: Path, target: Path, quiesce: bool | None) -> None:
    """Nothing of a copy is left, begun or whole; a guest that was left frozen goes on."""
    if guest is not None and guest.active:
        _end_copy(guest, _device(guest, disk), quiesce is not False)
    with outside("snapshot unlink"):
        _part(target).unlink(missing_ok=True)
        target.unlink(missing_ok=True)


def _copy_live(guest: Guest, disk: Path, target: Path, quiesce: bool | None, cancelled: Callable[[], bool]) -> None:
    """The guest runs on, or stays paused; the copy is of the moment at which it ends."""
    device = _device(guest, disk)
    _end_copy(guest, device, quiesce is not False)
    target.unlink(missing_ok=True)
    wanted = ET.Element("disk", type="file")
    ET.SubElement(wanted, "source", file=str(target))
    ET.SubElement(wanted, "driver", type=FORMAT)
    with calling("libvirt blockCopy"):
        xml = ET.tostring(wanted, encoding="unicode")
        guest.domain.blockCopy(device, xml, {}, libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB)
    try:
        while not _caught_up(guest, device):
            if cancelled():
                raise Cancelled(f"another action wants the guest {guest.domain.name()}")
            time.sleep(LOOK_EVERY)
        with _quiesced(guest, quiesce), calling("libvirt blockJobAbort"):
            guest.domain.blockJobAbort(device)  # a copy that has caught up is whole when it is left
    except Exception:
        with contextlib.suppress(HostError):
            _end_copy(guest, device, False)
        raise


def _end_copy(guest: Guest, device: str, frozen: bool) -> None:
    """A copy that somebody began and did not end is given up. `frozen`: the guest may have been left so."""
    with calling("libvirt blockJobInfo"):
        running = guest.domain.blockJobInfo(device)
    if running:
        with calling("libvirt blockJobAbort"):
            guest.domain.blockJobAbort(device)
    if frozen:
        _thaw(guest)


def _device(guest: Guest, disk: Path) -> str:
    """The guest's name of the disk that is this file: `vda`."""
    for element in guest.disks(LIVE):
        source = element.find("source")
        if source is not None and source.get("file") == str(disk):
            return device_of(element)
    raise HostError(f"the guest {guest.domain.name()} has no disk {disk}")


def _caught_up(guest: Guest, device: str) -> bool:
    """Whether the copy has all that the disk has: from then on each write goes to both.

    libvirt says so in the domain's XML alone; the job's numbers can be equal before it is true.
    """
    disk = next((disk for disk in guest.disks(LIVE) if device_of(disk) == device), None)
    mirror = disk.find("mirror") if disk is not None else None
    if mirror is None:
        raise HostError(f"the copy of the disk {device} of the guest {guest.domain.name()} ended before it was whole")
    return mirror.get("ready") == "yes"


@contextlib.contextmanager
def _quiesced(guest: Guest, quiesce: bool | None) -> Iterator[None]:
    """The guest's file systems are frozen inside, as far as that was asked for and can be had."""
    frozen = quiesce is not False and _freeze(guest, must=quiesce is True)
    try:
        yield
    finally:
        if frozen:
            _thaw(guest)


def _freeze(guest: Guest, *, must: bool) -> bool:
    try:
        with outside("libvirt fsFreeze"):
            guest.domain.agentSetResponseTimeout(AGENT_SECONDS)
            guest.domain.fsFreeze()
    except libvirt.libvirtError as error:
        _thaw(guest)  # some of them may be frozen
        if must:
            raise HostError(f"the guest's file systems could not be frozen (os_require_quiesce): {error}") from error
        LOG.info("%s: its disk is copied without freezing its file systems: %s", guest.domain.name(), error)
        return False
    return True


def _thaw(guest: Guest) -> None:
    try:
        with outside("libvirt fsThaw"):
            guest.domain.fsThaw()
    except libvirt.libvirtError as error:  # no agent, or nothing to thaw
        LOG.info("%s: %s", guest.domain.name(), error)


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")
