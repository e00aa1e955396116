"""The guest's XML: a server and its host's facts in, text out. Nothing is read, nothing is touched.

Nova: `get_guest_xml` → `get_guest_config` in `nova/virt/libvirt/driver.py`, `nova/virt/libvirt/config.py`.
"""

import xml.etree.ElementTree as ET
from pathlib import Path

from kilonova.host.libvirt import devices
from kilonova.host.libvirt.hardware import Hardware, get_hardware
from kilonova.host.libvirt.layout import Disk, Layout, get_disk_info, root_device_name
from kilonova.host.libvirt.xmltree import add, clean
from kilonova.model.errors import HostError
from kilonova.model.specs import ServerSpec, Spec

NOVA_NS = "http://openstack.org/xmlns/libvirt/nova/1.1"
KILONOVA_NS = "urn:kilonova:libvirt:1.0"
PRODUCT = "OpenStack Nova"  # cloud images look for exactly this in SMBIOS
MAX_SHARES = 10000  # of a cgroup v2 weight
CONSOLES = "console=tty0 console=ttyS0"  # the last is /dev/console; Nova adds hvc0, which none of our guests has


class HostFacts(Spec, frozen=True):
    """What the XML must know of its host. `virt_type` qemu | kvm; `disk_cache` none | writeback; tb_cache_mib for TCG.

    cpu_mode: Nova's [libvirt]cpu_mode: host-model, host-passthrough, maximum, or None for QEMU's default model.
    iscsi_initiator: kernel, whose disks have a name below /dev/disk/by-path, or qemu, which needs none.
    uefi_loader and uefi_vars: the firmware and the template of its variables, None where it is not installed.
    """

    instances: str
    cloud_id: str
    version: str = "1"
    manufacturer: str = "OpenStack Foundation"
    virt_type: str = "qemu"
    arch: str = "x86_64"
    emulator: str | None = None
    cpu_mode: str | None = "host-model"
    disk_cache: str = "none"
    tb_cache_mib: int = 24
    vnc_listen: str = "127.0.0.1"
    vnc_keymap: str | None = "en-us"
    balloon_stats_period: int = 10
    partition: str = "/machine"
    iscsi_initiator: str = "kernel"
    uefi_loader: str | None = None
    uefi_vars: str | None = None
    pcie_ports: int = 16  # free root ports are what PCIe hot-plug needs


def get_guest_config(server: ServerSpec, facts: HostFacts, found: tuple[Disk, ...] = ()) -> str:
    """The domain's XML, as text. `found`: its disks as they are; without them, as they will be made.

    Raises HostError when the server asks for hardware that is not to be had.
    """
    hardware = get_hardware(server)
    layout = Layout(Path(facts.instances))
    disks = found or get_disk_info(server, hardware, layout)
    domain = ET.Element("domain", type=facts.virt_type)
    add(domain, "name", server.instance_name)
    add(domain, "uuid", server.id)
    _metadata(domain, server, facts)
    memory = str(server.flavor.memory_mb * 1024)
    add(domain, "memory", memory, unit="KiB")
    add(domain, "currentMemory", memory, unit="KiB")
    add(domain, "vcpu", str(server.flavor.vcpus), placement="static")
    _cputune(domain, server)
    add(add(domain, "resource"), "partition", facts.partition)
    _sysinfo(domain, server, facts)
    _os(domain, server, facts, hardware, layout, disks)
    _features(domain, facts)
    _cpu(domain, facts, hardware)
    _clock(domain, facts, hardware)
    add(domain, "on_poweroff", "destroy")
    add(domain, "on_reboot", "restart")
    add(domain, "on_crash", "destroy")
    devices.add_devices(domain, server, facts, hardware, layout, disks)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def cloud_of(xml: str) -> str | None:
    """The cloud whose domain this is; None when it is not Kilonova's. Purge and loops touch only their own."""
    element = ET.fromstring(xml).find(f"./metadata/{{{KILONOVA_NS}}}cloud")
    return element.get("id") if element is not None else None


def _metadata(domain: ET.Element, server: ServerSpec, facts: HostFacts) -> None:
    """Nova's `nova:instance` (LibvirtConfigGuestMetaNovaInstance), and whose cloud this is."""
    # Prefixes are written out: ElementTree's table of prefixes is the whole process's.
    metadata = add(domain, "metadata")
    instance = add(metadata, "nova:instance", **{"xmlns:nova": NOVA_NS})
    add(instance, "nova:package", version=facts.version)
    add(instance, "nova:name", server.name)
    add(instance, "nova:creationTime", server.created_at.replace("T", " ").removesuffix("Z"))
    flavor = add(instance, "nova:flavor", name=server.flavor.name)
    add(flavor, "nova:memory", str(server.flavor.memory_mb))
    add(flavor, "nova:disk", str(server.flavor.disk_gb))
    add(flavor, "nova:swap", str(server.flavor.swap_mb))
    add(flavor, "nova:ephemeral", str(server.flavor.ephemeral_gb))
    add(flavor, "nova:vcpus", str(server.flavor.vcpus))
    owner = add(instance, "nova:owner")
    add(owner, "nova:user", server.user_name, uuid=server.user_id)
    add(owner, "nova:project", server.project_name, uuid=server.project_id)
    if server.image is not None:
        add(instance, "nova:root", type="image", uuid=server.image.id)
    ports = add(instance, "nova:ports")
    for port in server.ports:
        element = add(ports, "nova:port", uuid=port.id)
        for fixed in port.fixed_ips:
            version = "6" if ":" in fixed.ip_address else "4"
            add(element, "nova:ip", type="fixed", address=fixed.ip_address, ipVersion=version)
    add(metadata, "kilonova:cloud", **{"xmlns:kilonova": KILONOVA_NS, "id": facts.cloud_id})


def _cputune(domain: ET.Element, server: ServerSpec) -> None:
    """Nova's `quota:cpu_*` extra specs; without them a share for each vCPU."""
    extra = server.flavor.extra_specs
    cputune = add(domain, "cputune")
    shares = str(min(1024 * server.flavor.vcpus, MAX_SHARES))
    for name, default in (("shares", shares), ("period", None), ("quota", None)):
        value = extra.get(f"quota:cpu_{name}", default)
        if value is None:
            continue
        if not value.lstrip("-").isdigit():
            raise HostError(f"the flavor's quota:cpu_{name} is {value!r}; it must be a whole number")
        add(cputune, name, value)


def _sysinfo(domain: ET.Element, server: ServerSpec, facts: HostFacts) -> None:
    system = add(add(domain, "sysinfo", type="smbios"), "system")
    entries = {
        "manufacturer": facts.manufacturer,
        "product": PRODUCT,
        "version": facts.version,
        "serial": server.id,
        "uuid": server.id,
        "family": "Virtual Machine",
    }
    for name, value in entries.items():
        add(system, "entry", value, name=name)


def _os(
    domain: ET.Element, server: ServerSpec, facts: HostFacts, hardware: Hardware, layout: Layout, disks: tuple[Disk, ...]
) -> None:
    element, by_disk = add(domain, "os"), any(disk.boot_first for disk in disks)
    add(element, "type", "hvm", arch=facts.arch, machine=hardware.machine)
    if hardware.firmware == "uefi":
        if not (facts.uefi_loader and facts.uefi_vars):
            raise HostError("the image asks for UEFI (hw_firmware_type), but this host has no OVMF: install package ovmf")
        add(element, "loader", facts.uefi_loader, readonly="yes", type="pflash")
        add(element, "nvram", str(layout.disk(server.id, "nvram.fd")), template=facts.uefi_vars)
    if server.kernel is not None and not by_disk:
        add(element, "kernel", str(layout.disk(server.id, "kernel")))
        if server.ramdisk is not None:
            add(element, "initrd", str(layout.disk(server.id, "ramdisk")))
        # An emulated guest that unpacks its kernel where it lies, not elsewhere at random, touches 20 MiB less of its memory.
        tcg = " no_timer_check nokaslr" if facts.virt_type == "qemu" else ""
        add(element, "cmdline", hardware.kernel_args or f"root={root_device_name(disks)} {CONSOLES}{tcg}")
    elif not by_disk:
        add(element, "boot", dev="cdrom" if hardware.root_is_cdrom else "hd")
    if hardware.boot_menu:
        add(element, "bootmenu", enable="yes")
    add(element, "smbios", mode="sysinfo")


def _features(domain: ET.Element, facts: HostFacts) -> None:
    features = add(domain, "features")
    add(features, "acpi")
    add(features, "apic")
    if facts.virt_type == "qemu":
        # The default buffer of translated code grows a guest's memory by some 200 MiB and boots it no faster.
        add(add(features, "tcg"), "tb-cache", str(facts.tb_cache_mib), unit="MiB")


def _cpu(domain: ET.Element, facts: HostFacts, hardware: Hardware) -> None:
    cpu = add(domain, "cpu")
    if facts.cpu_mode:
        cpu.set("mode", facts.cpu_mode)
    if facts.cpu_mode == "host-model":
        add(cpu, "model", fallback="allow")
    sockets, cores, threads = hardware.topology
    add(cpu, "topology", sockets=str(sockets), cores=str(cores), threads=str(threads))


def _clock(domain: ET.Element, facts: HostFacts, hardware: Hardware) -> None:
    """Nova: _set_clock. Missed ticks of the RTC are caught up, those of the PIT delayed; no HPET."""
    clock = add(domain, "clock", offset=hardware.clock)
    add(clock, "timer", name="pit", tickpolicy="delay")
    add(clock, "timer", name="rtc", tickpolicy="catchup")
    add(clock, "timer", name="hpet", present="no")


__all__ = ["HostFacts", "clean", "cloud_of", "get_guest_config"]
