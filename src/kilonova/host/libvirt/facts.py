"""What the guest XML must know of this machine, read once when the host is made."""

import json
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt

from kilonova.host.libvirt.disk import direct_io_works
from kilonova.host.uptime import uptime
from kilonova.model.specs import HostInventory

FIRMWARE_DIRS = (Path("/etc/qemu/firmware"), Path("/usr/share/qemu/firmware"))
GIB = 1 << 30


def find_firmware(arch: str = "x86_64") -> tuple[str | None, str | None]:
    """(code, template of the variables) of the first plain UEFI firmware: one without Secure Boot.

    From QEMU's firmware descriptions (docs/interop/firmware.json); (None, None) where none is installed.
    """
    for folder in FIRMWARE_DIRS:
        for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
            try:
                description: dict[str, Any] = json.loads(path.read_text())
                mapping = description["mapping"]
                fits = any(target["architecture"] == arch for target in description["targets"])
                plain = "uefi" in description["interface-types"] and "requires-smm" not in description["features"]
                if fits and plain and mapping["device"] == "flash":
                    code, variables = mapping["executable"]["filename"], mapping["nvram-template"]["filename"]
                    if Path(code).exists() and Path(variables).exists():
                        return code, variables
            except (ValueError, KeyError, TypeError):
                continue
    return None, None


def disk_cache(instances: Path, probe: Callable[[Path], bool] = direct_io_works) -> str:
    """Nova: disk_cachemode. `none` is safest and migrates; it needs O_DIRECT, which some filesystems refuse."""
    return "none" if probe(instances) else "writeback"


def find_emulator(arch: str = "x86_64") -> str | None:
    return shutil.which(f"qemu-system-{arch}")


def get_inventory(conn: libvirt.virConnect, name: str, instances: Path, virt_type: str) -> HostInventory:
    """Nova: `get_available_resource`. Disk is the size of the filesystem that the instances lie on."""
    info = conn.getInfo()
    # /proc/meminfo's total: virNodeGetInfo adds up the NUMA nodes' own, which miss memory that was plugged in later.
    memory = conn.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)["total"]
    instances.mkdir(parents=True, exist_ok=True)
    return HostInventory(
        hostname=name,
        vcpus=info[2],
        memory_mb=memory // 1024,
        disk_gb=shutil.disk_usage(instances).total // GIB,
        hypervisor_type=conn.getType(),
        hypervisor_version=conn.getVersion(),
        virt_type=virt_type,
        cpu_info=cpu_info(conn.getCapabilities()),
        uptime=uptime(),
    )


def cpu_info(capabilities: str) -> dict[str, Any]:
    """Nova: `_get_cpu_info`: arch, model, vendor, features and topology of the host's CPU."""
    cpu = ET.fromstring(capabilities).find("./host/cpu")
    if cpu is None:
        return {}
    topology = cpu.find("topology")
    return {
        "arch": cpu.findtext("arch", ""),
        "model": cpu.findtext("model", ""),
        "vendor": cpu.findtext("vendor", ""),
        "topology": {} if topology is None else {name: int(value) for name, value in topology.attrib.items()},
        "features": [feature.get("name", "") for feature in cpu.findall("feature")],
    }
