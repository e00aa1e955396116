"""A guest's counters, read from libvirt (Nova: `get_diagnostics`, `get_instance_diagnostics` of the libvirt driver)."""

import xml.etree.ElementTree as ET

import libvirt

from kilonova.host.diagnostics import Diagnostics, Disk, Nic
from kilonova.host.libvirt import domain
from kilonova.host.libvirt.connection import calling

BLOCK = ("read_requests", "read_bytes", "write_requests", "write_bytes", "errors")  # in the order of blockStats
INTERFACE = (
    "rx_octets", "rx_packets", "rx_errors", "rx_drop", "tx_octets", "tx_packets", "tx_errors", "tx_drop"
)  # and of interfaceStats  # fmt: skip


def read(conn: libvirt.virConnect, server_id: str, cloud_id: str) -> Diagnostics:
    """A guest that is off has no counts."""
    found = domain.find(conn, server_id, cloud_id)
    if found is None:
        return Diagnostics(power_state=domain.SHUTDOWN)
    with calling("libvirt info"):
        state, maximum, memory, _, _ = found.info()
        power_state = domain.POWER_STATES.get(state, domain.NOSTATE)
        devices = ET.fromstring(found.XMLDesc())
        if not found.isActive():
            return Diagnostics(power_state=power_state, max_memory_kib=maximum)
        return Diagnostics(
            power_state=power_state,
            memory_kib=memory,
            max_memory_kib=maximum,
            cpu_times=tuple(vcpu[2] for vcpu in found.vcpus()[0]),
            memory_stats=found.memoryStats(),
            disks=tuple(_disk(found, target.get("dev", "")) for target in devices.iterfind("./devices/disk/target")),
            nics=tuple(_nic(found, element) for element in devices.iterfind("./devices/interface")),
        )


def _disk(found: libvirt.virDomain, dev: str) -> Disk:
    return Disk(dev=dev, **dict(zip(BLOCK, found.blockStats(dev), strict=True)))


def _nic(found: libvirt.virDomain, element: ET.Element) -> Nic:
    mac, target = element.find("mac"), element.find("target")
    address = mac.get("address", "") if mac is not None else ""
    dev = target.get("dev") if target is not None else None
    if not dev:
        return Nic(mac_address=address)
    return Nic(mac_address=address, dev=dev, **dict(zip(INTERFACE, found.interfaceStats(dev), strict=True)))
