"""The <devices> of a guest, in libvirt's order: disks, controllers, interfaces, serials, console, channel, inputs, screen."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from kilonova.host.libvirt.hardware import Hardware
from kilonova.host.libvirt.layout import Disk, Layout
from kilonova.host.libvirt.volume_xml import volume_disk
from kilonova.host.libvirt.xmltree import add
from kilonova.host.vif import get_vif_type
from kilonova.model.specs import ServerSpec

if TYPE_CHECKING:
    from kilonova.host.libvirt.guest import HostFacts

DEFAULT_VIDEO_RAM_KIB = {"cirrus": 16384, "vga": 16384}
GUEST_AGENT = "org.qemu.guest_agent.0"


def add_devices(
    domain: ET.Element,
    server: ServerSpec,
    facts: HostFacts,
    hardware: Hardware,
    layout: Layout,
    disks: tuple[Disk, ...],
) -> None:
    element = add(domain, "devices")
    if facts.emulator:
        add(element, "emulator", facts.emulator)
    for disk in disks:
        _disk(element, server, facts, layout, disk)
    _controllers(element, facts, hardware, disks)
    for port in server.ports:
        get_vif_type(port.vif_type).get_config(element, port, server.network(port.network_id), hardware.vif_model)
    _serials(element, str(layout.console_log(server.id)), hardware.serial_ports)
    if hardware.guest_agent:
        channel = add(element, "channel", type="unix")
        add(channel, "source", mode="bind")
        add(channel, "target", type="virtio", name=GUEST_AGENT)
    _inputs(element, hardware)
    _screen(element, facts, hardware)
    if hardware.watchdog:
        add(element, "watchdog", model="i6300esb", action=hardware.watchdog)
    balloon = add(element, "memballoon", model="virtio")
    if facts.virt_type == "qemu":
        balloon.set("freePageReporting", "on")  # an emulated guest soon touches all its memory, and needs half of it
    if facts.balloon_stats_period:
        add(balloon, "stats", period=str(facts.balloon_stats_period))
    if hardware.rng:
        rng = add(element, "rng", model="virtio")
        add(rng, "backend", "/dev/urandom", model="random")


def _disk(devices: ET.Element, server: ServerSpec, facts: HostFacts, layout: Layout, disk: Disk) -> None:
    if disk.volume is not None:
        volume_disk(devices, disk.volume, disk.dev, disk.bus, facts)
        return
    assert disk.name is not None
    element = add(devices, "disk", type="file", device=disk.device)
    add(element, "driver", name="qemu", type=disk.format, cache=facts.disk_cache)
    add(element, "source", file=str(layout.disk(server.id, disk.name)))
    if disk.backing is not None:
        # Written out, so that libvirt need not believe what a disk that a guest can write says of itself.
        backing = add(element, "backingStore", type="file")
        add(backing, "format", type="raw")
        add(backing, "source", file=str(disk.backing))
        add(backing, "backingStore")
    add(element, "target", dev=disk.dev, bus=disk.bus)
    if disk.device == "cdrom":
        add(element, "readonly")
    if disk.boot_first:
        add(element, "boot", order="1")


def _controllers(devices: ET.Element, facts: HostFacts, hardware: Hardware, disks: tuple[Disk, ...]) -> None:
    if hardware.is_q35:
        add(devices, "controller", type="usb", index="0", model="qemu-xhci")
        add(devices, "controller", type="pci", index="0", model="pcie-root")
        for _ in range(facts.pcie_ports):
            add(devices, "controller", type="pci", model="pcie-root-port")
    else:
        add(devices, "controller", type="usb", index="0")
        add(devices, "controller", type="pci", index="0", model="pci-root")
    if any(disk.bus == "scsi" for disk in disks):
        add(devices, "controller", type="scsi", index="0", model=hardware.scsi_model or "virtio-scsi")


def _serials(devices: ET.Element, log: str, count: int) -> None:
    """The first port is the console and is written down; the others are for a person to open. A single one is both."""
    single = count == 1
    for kind, port in (*(("serial", port) for port in range(count)), ("console", 0)):
        element = add(devices, kind, type="pty" if port or single else "file")
        if single:
            add(element, "log", file=log)
        elif not port:
            add(element, "source", path=log)
        add(element, "target", **({"type": "serial"} if kind == "console" else {}), port=str(port))


def _inputs(devices: ET.Element, hardware: Hardware) -> None:
    if hardware.pointer == "usbtablet":
        add(devices, "input", type="tablet", bus=hardware.input_bus or "usb")
    add(devices, "input", type="mouse", bus="ps2")
    add(devices, "input", type="keyboard", bus="ps2")
    if hardware.input_bus:
        add(devices, "input", type="keyboard", bus=hardware.input_bus)


def _screen(devices: ET.Element, facts: HostFacts, hardware: Hardware) -> None:
    if hardware.video_model != "none":
        graphics = add(devices, "graphics", type="vnc", port="-1", autoport="yes", listen=facts.vnc_listen)
        if facts.vnc_keymap:
            graphics.set("keymap", facts.vnc_keymap)
        add(graphics, "listen", type="address", address=facts.vnc_listen)
    video = add(devices, "video")
    model = add(video, "model", type=hardware.video_model)
    if hardware.video_model == "none":
        return
    ram = hardware.video_ram_mb * 1024 if hardware.video_ram_mb else DEFAULT_VIDEO_RAM_KIB.get(hardware.video_model)
    if ram and hardware.video_model != "virtio":
        model.set("vram", str(ram))
    model.set("heads", "1")
