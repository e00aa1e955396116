"""The verbs that join servers and volumes on this host: what a guest's disks need before they can be opened, and hot-plug.

Nova: `_connect_volume` and `_disconnect_volume` of nova/virt/libvirt/driver.py; os-brick's connectors.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from typing import Any

import libvirt
from msgspec.structs import replace

from kilonova.host.contract import Work
from kilonova.host.libvirt import domain, initiator, volumes
from kilonova.host.libvirt.guest import HostFacts
from kilonova.host.libvirt.hardware import get_hardware
from kilonova.host.libvirt.layout import bus_of, device_names
from kilonova.host.libvirt.secrets import delete_secret, ensure_secret
from kilonova.host.libvirt.volume_xml import volume_disk
from kilonova.host.libvirt.volumes import Guest
from kilonova.model.errors import HostError
from kilonova.model.specs import ServerSpec, VolumeSpec

DETACH_SECONDS = 60.0  # that a guest has to let go of a disk


class Attachments:
    """`conn` gives libvirt's connection, `facts` what the XML must know of this host."""

    def __init__(self, conn: Callable[[], libvirt.virConnect], cloud_id: str, facts: Callable[[], HostFacts]) -> None:
        self.conn, self.cloud_id, self.facts = conn, cloud_id, facts

    def connect(self, volume: VolumeSpec) -> None:
        """What this host needs to open the volume: its password, and a session where the kernel is the initiator."""
        ensure_secret(self.conn(), volume, self.cloud_id)
        if volume.driver_volume_type == "iscsi" and self.facts().iscsi_initiator == "kernel":
            initiator.login(volume)

    def disconnect(self, volume: VolumeSpec) -> None:
        """Nothing while a guest of this host has it open there."""
        there = volumes.source_of(self._disk(volume, "vda", "virtio"))
        for guest in volumes.guests_with(self.conn(), volume.name, self.cloud_id):
            if there in (volumes.source_of(disk) for disk in guest.disks(volumes.LIVE)):
                return
        if volume.driver_volume_type == "iscsi" and self.facts().iscsi_initiator == "kernel":
            initiator.logout(volume)
        delete_secret(self.conn(), volume)

    def attach(self, work: Work) -> dict[str, Any]:
        volume = volume_of(work.server, work.data["volume_id"])
        self.connect(volume)
        guest = self._guest(work.server.id)
        present = next((disk for scope in guest.scopes() if (disk := guest.disk(volume.name, scope)) is not None), None)
        dev = volumes.device_of(present) if present is not None else self._device(guest, work.server, volume)
        disk = self._disk(volume, dev, bus_of(dev, volume.bus or get_hardware(work.server).disk_bus))
        volumes.attach_volume(guest, disk, volume.name)
        return {"device": f"/dev/{dev}"}

    def detach(self, work: Work) -> None:
        volume_id = work.data["volume_id"]
        volume = next((each for each in work.server.volumes if each.id == volume_id), VolumeSpec(id=volume_id))
        found = domain.find(self.conn(), work.server.id, self.cloud_id)
        if found is not None:
            volumes.detach_volume(Guest(found), volume.name, DETACH_SECONDS - work.waited)
        if volume.driver_volume_type:
            self.disconnect(volume)

    def holder(self, name: str) -> Guest | None:
        """The guest, running or not, that has the volume; HostError when several have it."""
        found = list(volumes.holders(self.conn(), name, self.cloud_id))
        if len(found) > 1:
            raise HostError(f"{name} is attached to {len(found)} servers: none of them could go over alone")
        return found[0] if found else None

    def swap(
        self, guest: Guest, old: VolumeSpec, new: VolumeSpec, size: int, cancelled: Callable[[], bool]
    ) -> None:
        """The guest's disk `old` becomes `new`, of `size` bytes, another volume or the same in another place, while the
        guest runs."""
        self.connect(new)
        here = next((disk for each in (new, old) if (disk := guest.disk(each.name, volumes.LIVE)) is not None), None)
        if here is not None and guest.active:
            volumes.swap_volume(guest, volumes.device_of(here), self._disk_like(here, new), size, cancelled)
        elif not self._has(guest, new, volumes.CONFIG):  # it ended when it had gone over, else
            raise HostError(f"volume {old.id} is in use, but its server does not run: start it, or detach the volume")
        self.disconnect(old)

    def swap_back(self, guest: Guest | None, old: VolumeSpec, new: VolumeSpec, cancelled: Callable[[], bool]) -> None:
        """After a swap that failed, wherever it did: the guest has the disk `old`, and `new` is free."""
        if guest is not None and guest.active and self._has(guest, new, volumes.LIVE):
            self.swap(guest, new, old, 0, cancelled)
        self.disconnect(new)

    def _has(self, guest: Guest, volume: VolumeSpec, scope: int) -> bool:
        disk = guest.disk(volume.name, scope)
        return disk is not None and volumes.source_of(disk) == volumes.source_of(self._disk_like(disk, volume))

    def _disk_like(self, disk: ET.Element, volume: VolumeSpec) -> ET.Element:
        """The volume as a disk in that one's place."""
        target = disk.find("target")
        bus = (target.get("bus") if target is not None else None) or "virtio"
        return self._disk(volume, volumes.device_of(disk), bus)

    def resize(self, name: str, size: int) -> None:
        for guest in volumes.guests_with(self.conn(), name, self.cloud_id):
            volumes.resize_volume(guest, name, size)

    def _disk(self, volume: VolumeSpec, dev: str, bus: str) -> ET.Element:
        return volume_disk(ET.Element("devices"), volume, dev, bus, self.facts())

    def _guest(self, server_id: str) -> Guest:
        found = domain.find(self.conn(), server_id, self.cloud_id)
        if found is None:
            raise HostError(f"the domain of server {server_id} is gone")
        return Guest(found)

    def _device(self, guest: Guest, server: ServerSpec, volume: VolumeSpec) -> str:
        """The name that the volume was promised, or the first that is free: a config drive may have come to be in its
        place, when what stood there before was detached."""
        promised = [volume.device.removeprefix("/dev/")] if volume.device else []
        bus = volume.bus or get_hardware(server).disk_bus
        return volumes.free_device(guest, [*promised, *device_names(bus)])


def connected(work: Work) -> ServerSpec:
    """The server with those of its volumes that are connected, by this flow or before; one that waits to be is none."""
    return with_connections(work.server, (work.results.get("connect_volumes") or {}).get("connections", {}))


def with_connections(server: ServerSpec, found: Mapping[str, Mapping[str, Any]]) -> ServerSpec:
    """`found`: volume id → its backend's connection_info, of those that were connected by now."""
    known = [_with_connection(volume, found.get(volume.id)) for volume in server.volumes]
    return replace(server, volumes=tuple(volume for volume in known if volume.driver_volume_type))


def _with_connection(volume: VolumeSpec, info: Mapping[str, Any] | None) -> VolumeSpec:
    if info is None:
        return volume
    return replace(
        volume, driver_volume_type=info["driver_volume_type"], connection={**volume.connection, **info["data"]}
    )


def volume_of(server: ServerSpec, volume_id: str) -> VolumeSpec:
    for volume in server.volumes:
        if volume.id == volume_id:
            return volume
    raise HostError(f"volume {volume_id} is not attached to server {server.id}")
