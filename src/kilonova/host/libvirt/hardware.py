"""What a guest's virtual hardware is to be: image properties and flavor extra specs read into checked values.

Names and meanings: Glance's "Useful image properties" and Nova's `nova/objects/image_meta.py`, `nova/objects/fields.py`.
"""

from dataclasses import dataclass

from kilonova.model import hardware
from kilonova.model.errors import HostError
from kilonova.model.specs import ServerSpec

MAX_SERIAL_PORTS = 4  # what an ISA bus has room for
CLOCKS = {"windows": "localtime"}


@dataclass(frozen=True)
class Hardware:
    """Checked values; None where the image does not say and QEMU's own default stands."""

    machine: str
    firmware: str
    disk_bus: str
    cdrom_bus: str
    scsi_model: str | None
    vif_model: str | None
    video_model: str
    video_ram_mb: int | None
    rng: bool
    input_bus: str | None
    pointer: str
    watchdog: str | None
    serial_ports: int
    boot_menu: bool
    guest_agent: bool
    kernel_args: str | None
    clock: str
    root_is_cdrom: bool
    rescue_device: str  # disk | cdrom
    rescue_bus: str
    shutdown_timeout: int  # seconds that the guest has to power off when it is asked to
    topology: tuple[int, int, int]  # sockets, cores, threads

    @property
    def is_q35(self) -> bool:
        return "q35" in self.machine


def get_hardware(server: ServerSpec) -> Hardware:
    """Image properties win where both may speak, save where Nova lets the flavor win (watchdog, topology, boot menu).

    Raises HostError naming the property and the values it takes.
    """
    rescue = server.rescue.properties if server.rescue else {}
    stable = bool({"hw_rescue_device", "hw_rescue_bus"} & set(rescue))
    image = server.rescue if server.rescue and not stable else server.image  # whose hardware it is
    properties = image.properties if image else server.image_properties
    extra = server.flavor.extra_specs
    machine = _machine(properties)
    watchdog = extra.get("hw:watchdog_action") or properties.get("hw_watchdog_action")
    serial_ports = extra.get("hw:serial_port_count") or properties.get("hw_serial_port_count")
    cdrom_bus = _choice(properties, "hw_cdrom_bus") or ("sata" if "q35" in machine else "ide")
    disk_bus = _choice(properties, "hw_disk_bus") or "virtio"
    rescue_device = _choice(rescue, "hw_rescue_device") or "disk"
    return Hardware(
        machine=machine,
        firmware=_choice(properties, "hw_firmware_type") or "bios",
        disk_bus=disk_bus,
        cdrom_bus=cdrom_bus,
        scsi_model=_choice(properties, "hw_scsi_model"),
        vif_model=_choice(properties, "hw_vif_model"),
        video_model=_choice(properties, "hw_video_model") or "cirrus",
        video_ram_mb=_video_ram(properties, extra),
        rng=_choice(properties, "hw_rng_model") is not None and _true(extra.get("hw_rng:allowed", "true")),
        input_bus=_choice(properties, "hw_input_bus"),
        pointer=_choice(properties, "hw_pointer_model") or "usbtablet",
        watchdog=_watchdog(watchdog),
        serial_ports=_serial_ports(serial_ports),
        boot_menu=_true(extra.get("hw:boot_menu", properties.get("hw_boot_menu", "false"))),
        guest_agent=_true(properties.get("hw_qemu_guest_agent", "false")),
        kernel_args=properties.get("os_command_line"),
        clock=CLOCKS.get(properties.get("os_type", ""), "utc"),
        root_is_cdrom=image is not None and image.disk_format == "iso",
        rescue_device=rescue_device,
        rescue_bus=_choice(rescue, "hw_rescue_bus") or (disk_bus if rescue_device == "disk" else cdrom_bus),
        shutdown_timeout=_number("os_shutdown_timeout", properties.get("os_shutdown_timeout") or "60", 0, 3600),
        topology=_topology(server, properties, extra),
    )


def _choice(properties: dict[str, str], name: str) -> str | None:
    try:
        return hardware.choice(properties, name)
    except ValueError as error:
        raise HostError(str(error)) from error


def _machine(properties: dict[str, str]) -> str:
    try:
        return hardware.machine(properties)
    except ValueError as error:
        raise HostError(str(error)) from error


def _true(value: str) -> bool:
    return value.strip().lower() in ("true", "yes", "on", "1", "t", "y")


def _number(name: str, value: str, low: int, high: int) -> int:
    if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
        raise HostError(f"{name} is {value!r}; it must be a whole number from {low} to {high}")
    return int(value)


def _video_ram(properties: dict[str, str], extra: dict[str, str]) -> int | None:
    """Nova lets an image ask only for what its flavor allows (`hw_video:ram_max_mb`, default 0)."""
    asked = properties.get("hw_video_ram")
    if not asked:
        return None
    wanted = _number("the image property hw_video_ram", asked, 1, 4096)
    allowed = _number("the flavor's hw_video:ram_max_mb", extra.get("hw_video:ram_max_mb", "0"), 0, 4096)
    if wanted > allowed:
        raise HostError(
            f"the image asks for {wanted} MB of video RAM, its flavor allows {allowed} (hw_video:ram_max_mb)"
        )
    return wanted


def _watchdog(action: str | None) -> str | None:
    found = _choice({"hw_watchdog_action": action or ""}, "hw_watchdog_action")
    return None if found == "disabled" else found


def _serial_ports(count: str | None) -> int:
    """Two unless asked otherwise: one written to console.log, one for a person; a single one is both."""
    return _number("hw_serial_port_count", count, 1, MAX_SERIAL_PORTS) if count else 2


def _topology(server: ServerSpec, properties: dict[str, str], extra: dict[str, str]) -> tuple[int, int, int]:
    """Sockets, cores, threads; what is not asked for goes to sockets first, as in Nova (`get_best_cpu_topology`)."""
    vcpus = server.flavor.vcpus
    asked: dict[str, int | None] = {}
    for part in ("sockets", "cores", "threads"):
        value = extra.get(f"hw:cpu_{part}") or properties.get(f"hw_cpu_{part}")
        asked[part] = _number(f"hw_cpu_{part}", value, 1, 65536) if value else None
    sockets, cores, threads = asked["sockets"], asked["cores"], asked["threads"] or 1
    if sockets is None:
        sockets = max(vcpus // ((cores or 1) * threads), 1)
    if cores is None:
        cores = max(vcpus // (sockets * threads), 1)
    if sockets * cores * threads != vcpus:
        raise HostError(
            f"no CPU topology: {sockets} sockets x {cores} cores x {threads} threads are not the flavor's {vcpus} vCPUs"
        )
    return sockets, cores, threads
