"""A volume as a <disk>, from Cinder's connection_info: pure, nothing is touched.

Nova: `nova/virt/libvirt/volume/*.py` (get_config). In `data`, as Cinder has them: access_mode rw | ro, discard, and
qos_specs (those of the front end, by libvirt's names); beside it multiattach.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

from kilonova.host.libvirt.xmltree import add
from kilonova.model.errors import HostError
from kilonova.model.specs import VolumeSpec

if TYPE_CHECKING:
    from kilonova.host.libvirt.guest import HostFacts

TUNE = tuple(  # in libvirt's order
    f"{what}_{unit}_sec{most}"
    for most in ("", "_max", "_max_length")
    for unit in ("bytes", "iops")
    for what in ("total", "read", "write")
)
PASSED_THROUGH = ("iscsi",)  # driver_volume_types that are SCSI themselves
SIZE_OF_AN_OPERATION = "size_iops_sec"


def volume_disk(devices: ET.Element, volume: VolumeSpec, dev: str, bus: str, facts: HostFacts) -> ET.Element:
    """A new last child of `devices`. iscsi: a block device by path, or over the network by QEMU's own initiator (facts).

    Raises HostError for a driver_volume_type that this host cannot connect, or an access_mode that there is not.
    """
    data, kind = connection_data(volume), volume.driver_volume_type
    if kind not in SOURCES:
        raise HostError(f"volume {volume.id} is of the type {kind!r}; this host connects {', '.join(sorted(SOURCES))}")
    element = add(devices, "disk", type="", device=_device(volume, bus))
    driver = add(element, "driver", name="qemu", type="raw", cache="none")
    SOURCES[kind](element, data, facts)
    if data.get("discard"):
        driver.set("discard", "unmap")
    add(element, "target", dev=dev, bus=bus)
    _iotune(element, data.get("qos_specs") or {})
    if element.get("device") != "lun":  # it answers for itself
        add(element, "serial", volume.id)
    mode = data.get("access_mode") or "rw"
    if mode not in ("rw", "ro"):
        raise HostError(f"volume {volume.id} has the access_mode {mode!r}; it must be rw or ro")
    if mode == "ro" or volume.device_type == "cdrom":
        add(element, "readonly")
    if volume.connection.get("multiattach"):
        add(element, "shareable")
    return element


def _device(volume: VolumeSpec, bus: str) -> str:
    """A lun is one that the guest's own SCSI commands reach; behind a file there is none, so it is a disk on that bus."""
    if volume.device_type != "lun":
        return volume.device_type
    return "lun" if bus == "scsi" and volume.driver_volume_type in PASSED_THROUGH else "disk"


def connection_data(volume: VolumeSpec) -> dict[str, Any]:
    return volume.connection.get("data", volume.connection)


def by_path(data: dict[str, Any]) -> str:
    """The name udev gives an iSCSI disk: /dev/disk/by-path/ip-PORTAL-iscsi-IQN-lun-N."""
    return f"/dev/disk/by-path/ip-{data['target_portal']}-iscsi-{data['target_iqn']}-lun-{data.get('target_lun', 0)}"


def _file(element: ET.Element, data: dict[str, Any], facts: HostFacts) -> None:
    element.set("type", "file")
    _driver(element).set("cache", facts.disk_cache)
    if facts.disk_cache == "none":
        _driver(element).set("io", "native")
    add(element, "source", file=data["device_path"])


def _block(element: ET.Element, data: dict[str, Any], facts: HostFacts) -> None:
    element.set("type", "block")
    _driver(element).set("io", "native")
    add(element, "source", dev=data["device_path"])


def _iscsi(element: ET.Element, data: dict[str, Any], facts: HostFacts) -> None:
    if facts.iscsi_initiator == "kernel":
        return _block(element, {"device_path": data.get("device_path") or by_path(data)}, facts)
    element.set("type", "network")
    _driver(element).set("io", "native")  # says nothing to QEMU here; the disk is as the kernel's would be
    source = add(element, "source", protocol="iscsi", name=f"{data['target_iqn']}/{data.get('target_lun', 0)}")
    host, _, port = data["target_portal"].rpartition(":")
    add(source, "host", name=host.strip("[]"), port=port)
    if data.get("auth_username"):
        auth = add(element, "auth", username=data["auth_username"])
        add(auth, "secret", type="iscsi", usage=data["target_iqn"])


def _rbd(element: ET.Element, data: dict[str, Any], facts: HostFacts) -> None:
    element.set("type", "network")
    source = add(element, "source", protocol="rbd", name=data["name"])
    for host, port in zip(data.get("hosts", ()), data.get("ports", ()), strict=True):
        add(source, "host", name=host, port=str(port))
    if data.get("auth_enabled"):
        auth = add(element, "auth", username=data["auth_username"])
        add(auth, "secret", type="ceph", uuid=data["secret_uuid"])


SOURCES = {"file": _file, "local": _block, "iscsi": _iscsi, "rbd": _rbd}


def _driver(element: ET.Element) -> ET.Element:
    return element[0]


def _iotune(element: ET.Element, specs: dict[str, Any]) -> None:
    """Cinder's QoS specs of the consumer front-end or both. What libvirt does not limit is left to the back end."""
    known = [name for name in (*TUNE, SIZE_OF_AN_OPERATION) if name in specs]
    if known:
        iotune = add(element, "iotune")
        for name in known:
            if not str(specs[name]).isdigit():
                raise HostError(f"the QoS spec {name} is {specs[name]!r}; it must be a whole number")
            add(iotune, name, str(specs[name]))
