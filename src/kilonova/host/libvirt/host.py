"""The real host: what the contract asks, done by libvirt, qemu-img and the kernel's links."""

import dataclasses
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import libvirt
from msgspec import convert, to_builtins
from msgspec.structs import replace

from kilonova.host.consoles import Consoles
from kilonova.host.contract import VolumeWork, Watch, Work
from kilonova.host.libvirt import consoles, diagnostics, disk, domain, facts, initiator, interfaces, passwords
from kilonova.host.libvirt.attachments import Attachments, connected, volume_of, with_connections
from kilonova.host.libvirt.cache import Precache
from kilonova.host.libvirt.events import GuestWatch
from kilonova.host.libvirt.guest import HostFacts, get_guest_config
from kilonova.host.libvirt.hardware import get_hardware
from kilonova.host.libvirt.layout import Disk, Layout, get_disk_info, root_device_name
from kilonova.host.libvirt.server_disks import ServerDisks
from kilonova.host.libvirt.volumes import Guest
from kilonova.host.net import packet_trace, port_rules
from kilonova.host.net.capture import Captures
from kilonova.host.storage import GIB, Backend
from kilonova.host.vif import Links, get_vif_type
from kilonova.host.volumes import Volumes
from kilonova.model.errors import HostError, KilonovaError
from kilonova.model.specs import HostInventory, HostNetwork, ImageSpec, ServerSpec, VolumeSpec

FAULT_BYTES = 4096  # of each log, in a server's fault


class Connection(Protocol):
    """`get()` gives a live connection, opened again when libvirtd went away. Raises HostError when it cannot."""

    uri: str

    def get(self) -> libvirt.virConnect: ...
    def close(self) -> None: ...


class NetworkBackend(Protocol):
    """The ports, bridges, rules and DHCP of this host."""

    @property
    def pending(self) -> bool: ...
    def apply(self, desired: HostNetwork) -> dict[str, str]: ...
    def watch(self) -> Watch: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class LibvirtHostConfig:
    """netns: where bridges and taps live, a name below /run/netns or None for the root namespace.

    fetch_image(image id, path) writes an image's bytes to a new file. instances: STATE/instances. qemu_logs: where
    libvirt keeps <domain>.log, as this process sees it. cpu_mode: Nova's [libvirt]cpu_mode; None is QEMU's default.
    """

    instances: Path
    cloud_id: str
    fetch_image: Callable[[str, Path], None]
    netns: str | None = None
    virt_type: str = "qemu"
    cpu_mode: str | None = "host-model"
    vnc_listen: str = "127.0.0.1"
    vnc_keymap: str | None = "en-us"
    tb_cache_mib: int = 24
    version: str = "1"
    qemu_logs: Path | None = None
    bridge_mappings: Mapping[str, str] = field(default_factory=dict)  # physical network → the bridge that carries it
    overlay_ip: str = ""
    backends: Mapping[str, Backend] = field(default_factory=dict)  # of volumes, by name


class LibvirtHost(Volumes, ServerDisks):
    """One machine's hands. Holds no state of its own: every verb looks at what is there and does the rest."""

    def __init__(self, name: str, config: LibvirtHostConfig, connection: Connection, network: NetworkBackend) -> None:
        self.name = name
        self.config = config
        self.connection = connection
        self.network = network
        self.netns = config.netns
        self.layout = Layout(config.instances)
        self.links = Links(config.netns, config.cloud_id)
        self.captures = Captures(config.netns)
        self.consoles = Consoles()
        self.precache = Precache(self._image_base)
        self.attachments = Attachments(self._conn, config.cloud_id, lambda: self.facts)
        super().__init__(config.backends, config.instances.parent / "backups", self._image_base)

    def _image_base(self, image: ImageSpec) -> Path:
        return disk.ensure_base(image, self.layout, self.config.fetch_image)

    @cached_property
    def facts(self) -> HostFacts:
        """Read from this machine when first asked: a probe of O_DIRECT, the firmware, the emulator."""
        loader, variables = facts.find_firmware()
        config = self.config
        return HostFacts(
            instances=str(config.instances),
            cloud_id=config.cloud_id,
            version=config.version,
            virt_type=config.virt_type,
            emulator=facts.find_emulator(),
            cpu_mode=config.cpu_mode,
            disk_cache=facts.disk_cache(config.instances),
            tb_cache_mib=config.tb_cache_mib,
            vnc_listen=config.vnc_listen,
            vnc_keymap=config.vnc_keymap,
            iscsi_initiator="kernel" if config.netns is None and initiator.kernel_initiator() else "qemu",
            uefi_loader=loader,
            uefi_vars=variables,
        )

    def inventory(self) -> HostInventory:
        try:
            found = facts.get_inventory(self._conn(), self.name, self.config.instances, self.config.virt_type)
        except libvirt.libvirtError as error:
            raise HostError(f"libvirt: {error}") from error
        own = {"bridge_mappings": dict(self.config.bridge_mappings), "overlay_ip": self.config.overlay_ip}
        return replace(found, **own, pools=self.pools())

    def prepare_disks(self, work: Work) -> Any:
        """Returns {"disks": the files made, "root_device_name": "/dev/vda"}."""
        disks = self._disks(work.server)
        made = disk.prepare_disks(work.server, disks, self.layout, self.config.fetch_image, work.cancelled)
        return {"disks": made, "root_device_name": root_device_name(disks)}

    def prepare_rescue_disks(self, work: Work) -> Any:
        return self.prepare_disks(work)

    def delete_disks(self, work: Work) -> Any:
        disk.delete_disks(work.server.id, self.layout)

    def get_guest_xml(self, work: Work) -> Any:
        server = connected(work)
        found = disk.as_found(self._disks(server), server.id, self.layout)
        return {"xml": get_guest_config(server, self.facts, found)}

    def plug_vifs(self, work: Work) -> Any:
        """Returns {"vifs": [{port_id, vif_type, device, bridge}]}."""
        for port in work.server.ports:
            get_vif_type(port.vif_type).plug(self.links, port, work.server.network(port.network_id))
        return {
            "vifs": [
                {"port_id": port.id, "vif_type": port.vif_type, "device": port.tap, "bridge": port.bridge}
                for port in work.server.ports
            ]
        }

    def unplug_vifs(self, work: Work) -> Any:
        for port in work.server.ports:
            get_vif_type(port.vif_type).unplug(self.links, port)

    def create_guest(self, work: Work) -> Any:
        if "get_guest_xml" not in work.results:
            raise HostError("there is no guest XML to define")
        xml = work.results["get_guest_xml"]["xml"]
        domain.create_guest(self._conn(), work.server.id, xml, self.config.cloud_id)

    def define_guest(self, work: Work) -> Any:
        xml = work.results["get_guest_xml"]["xml"]
        domain.define_guest(self._conn(), work.server.id, xml, self.config.cloud_id)

    def power_on_guest(self, work: Work) -> Any:
        work = dataclasses.replace(work, results={"connect_volumes": self.connect_volumes(work)})
        xml = self.get_guest_xml(work)
        self.plug_vifs(work)
        self.create_guest(dataclasses.replace(work, results={"get_guest_xml": xml}))
        self.resume_guest(work)

    def destroy_guest(self, work: Work) -> Any:
        domain.destroy_guest(self._conn(), work.server.id, self.config.cloud_id)

    def resume_guest(self, work: Work) -> Any:
        domain.resume_guest(self._conn(), work.server.id, self.config.cloud_id)

    def power_off_guest(self, work: Work) -> Any:
        domain.shut_down_guest(self._conn(), work.server.id, self.config.cloud_id, patience=0)

    def shut_down_guest(self, work: Work) -> Any:
        patience = get_hardware(work.server).shutdown_timeout - work.waited
        domain.shut_down_guest(self._conn(), work.server.id, self.config.cloud_id, patience)

    def pause_guest(self, work: Work) -> Any:
        domain.pause_guest(self._conn(), work.server.id, self.config.cloud_id)

    def suspend_guest(self, work: Work) -> Any:
        domain.suspend_guest(self._conn(), work.server.id, self.config.cloud_id)

    def restore_guest(self, work: Work) -> Any:
        domain.restore_guest(self._conn(), work.server.id, self.config.cloud_id)

    def inject_nmi(self, work: Work) -> Any:
        domain.inject_nmi(self._conn(), work.server.id, self.config.cloud_id)

    def cache_image(self, image: dict[str, Any]) -> None:
        self.precache.add(convert(image, ImageSpec))

    def set_admin_password(self, server_id: str, user: str, password: str) -> dict[str, Any]:
        found = domain.find(self._conn(), server_id, self.config.cloud_id)
        return {"refused": passwords.set_password(found, user, password)}

    def diagnostics(self, server_id: str) -> dict[str, Any]:
        found: dict[str, Any] = to_builtins(diagnostics.read(self._conn(), server_id, self.config.cloud_id))
        return found

    def connect_volumes(self, work: Work) -> Any:
        work.wait_for_moves()
        resting = [each for each in work.server.volumes if not each.moving]
        found = {each.id: self.connect_volume(each.name, each.backend) for each in resting}
        for volume in with_connections(work.server, found).volumes:
            self.attachments.connect(volume)
        return {"connections": found}

    def disconnect_volumes(self, work: Work) -> Any:
        wanted = [each for each in work.server.volumes if work.data.get("volume_id") in (None, each.id)]
        found = {}
        for volume in wanted:
            with suppress(HostError):  # its bytes are gone, or its backend: so is what was connected
                found[volume.id] = self.connect_volume(volume.name, volume.backend)  # the same as before
        for volume in with_connections(replace(work.server, volumes=tuple(wanted)), found).volumes:
            self.attachments.disconnect(volume)
            if not volume.shared:
                self._backend(volume.backend).disconnect(volume.name)

    def attach_volume(self, work: Work) -> Any:
        """Returns {"device": "/dev/vdb"}."""
        return self.attachments.attach(dataclasses.replace(work, server=connected(work)))

    def detach_volume(self, work: Work) -> Any:
        self.attachments.detach(dataclasses.replace(work, server=connected(work)))

    def attach_interface(self, work: Work) -> Any:
        """Returns {"device": "tap…"}."""
        server, port, guest = work.server, work.server.port(work.data["port_id"]), self.guest(work.server.id)
        if port is None or guest is None:
            raise HostError(f"server {server.id} has no {'guest' if guest is None else 'such port'} on this host")
        vif, network = get_vif_type(port.vif_type), server.network(port.network_id)
        vif.plug(self.links, port, network)
        element = vif.get_config(ET.Element("devices"), port, network, get_hardware(server).vif_model)
        interfaces.attach(guest, element, port.mac_address)
        return {"device": port.tap}

    def detach_interface(self, work: Work) -> Any:
        port, guest = work.server.port(work.data["port_id"]), self.guest(work.server.id)
        if port is None:
            return
        if guest is not None:
            interfaces.detach(guest, port.mac_address, interfaces.DETACH_SECONDS - work.waited)
        get_vif_type(port.vif_type).unplug(self.links, port)

    def swap_volume(self, work: Work) -> Any:
        old, new, guest = *self._swapped(work), self.guest(work.server.id)
        if guest is None:
            raise HostError(f"the domain of server {work.server.id} is gone")
        self.attachments.swap(guest, old, new, work.data["new_size_gb"] * GIB, work.cancelled)
        self._backend(old.backend).disconnect(old.name)
        return {"connection": new.connection}

    def swap_volume_back(self, work: Work) -> Any:
        old, new = self._swapped(work)
        self.attachments.swap_back(self.guest(work.server.id), old, new, work.cancelled)
        self._backend(new.backend).disconnect(new.name)

    def _swapped(self, work: Work) -> tuple[VolumeSpec, VolumeSpec]:
        old, data = volume_of(work.server, work.data["volume_id"]), work.data
        new = self._connected(data["new_volume_id"], data["new_stored_as"], data["new_backend"])
        return self._connected(old.id, old.name, old.backend), new

    def _connected(self, volume_id: str, name: str, backend: str) -> VolumeSpec:
        """A volume as it is there, whatever a server's rows say by now."""
        info = self.connect_volume(name, backend)
        kind = info["driver_volume_type"]
        return VolumeSpec(id=volume_id, driver_volume_type=kind, connection=info, backend=backend, stored_as=name)

    def copy_volume(self, work: VolumeWork) -> Any:
        volume, target = work.volume, work.results["select_target"]["backend"]
        guest = self.attachments.holder(volume.name) if target != volume.backend else None
        if guest is None:
            return super().copy_volume(work)
        self._backend(target).create(volume.name, volume.size_gb)
        old, new = (self._connected(volume.id, volume.name, backend) for backend in (volume.backend, target))
        self.attachments.swap(guest, old, new, volume.size_gb * GIB, work.cancelled)
        return {"connection": new.connection}

    def delete_copy(self, work: VolumeWork) -> Any:
        volume = work.volume
        target = work.results.get("select_target", {}).get("backend", volume.backend)
        if target != volume.backend and volume.name in self.stored_volumes(target):
            guest = self.attachments.holder(volume.name)
            old, new = (self._connected(volume.id, volume.name, backend) for backend in (volume.backend, target))
            self.attachments.swap_back(guest, old, new, work.cancelled)
        super().delete_copy(work)

    def extend_volume(self, work: VolumeWork) -> Any:
        super().extend_volume(work)
        self.attachments.resize(work.volume.name, work.data["size_gb"] * GIB)

    def console_output(self, server_id: str, length: int | None) -> str:
        return domain.tail(self.layout.console_log(server_id), length)

    def console_address(self, server_id: str, console_type: str) -> dict[str, Any]:
        found = consoles.find(self._conn(), server_id, self.config.cloud_id, console_type)
        return {"running": found is not None, "address": found and found.address, "port": found and found.port}

    def open_console(self, server_id: str, console_type: str) -> dict[str, Any]:
        alone = "" if console_type == "novnc" else f"{server_id}/{console_type}"  # several may look at one screen
        return self.consoles.open(
            lambda: consoles.connect(self._conn(), server_id, self.config.cloud_id, console_type, self.netns), alone
        )

    def exchange_console(self, console_id: str, data: str) -> dict[str, Any]:
        return self.consoles.exchange(console_id, data)

    def close_console(self, console_id: str) -> dict[str, Any]:
        return self.consoles.close(console_id)

    def start_capture(self, device: str, seconds: float, packets: int) -> dict[str, Any]:
        return self.captures.start(device, seconds, packets)

    def read_capture(self, capture_id: str) -> dict[str, Any]:
        return self.captures.read(capture_id)

    def stop_capture(self, capture_id: str) -> dict[str, Any]:
        return self.captures.stop(capture_id)

    def try_packets(self, frames: list[Any]) -> list[dict[str, Any]]:
        return packet_trace.try_packets(self.netns, port_rules.table_name(self.config.cloud_id), frames)

    def power_states(self) -> dict[str, int]:
        return domain.power_states(self._conn(), self.config.cloud_id)

    def failure_details(self, server_id: str) -> str:
        """Never raises: it is asked when something else already failed."""
        parts = {"console": domain.tail(self.layout.console_log(server_id), most=FAULT_BYTES)}
        if self.config.qemu_logs is not None:
            try:
                found = domain.find(self._conn(), server_id, self.config.cloud_id)
                if found is not None:
                    parts["qemu"] = domain.tail(self.config.qemu_logs / f"{found.name()}.log", most=FAULT_BYTES)
            except (KilonovaError, libvirt.libvirtError) as error:
                parts["libvirt"] = str(error)
        return "\n".join(f"--- {name} ---\n{text}" for name, text in parts.items() if text)

    def apply_network(self, desired: HostNetwork) -> dict[str, str]:
        self.captures.sweep()
        self.consoles.sweep()
        return self.network.apply(desired)

    def network_pending(self) -> bool:
        return self.network.pending

    def watch_network(self) -> Watch:
        return self.network.watch()

    def watch_guests(self) -> Watch:
        return GuestWatch(self.connection.uri)

    def close(self) -> None:
        self.precache.close()
        self.captures.close()
        self.consoles.end()
        self.network.close()
        self.connection.close()

    def _conn(self) -> libvirt.virConnect:
        return self.connection.get()

    def guest(self, server_id: str) -> Guest | None:
        found = domain.find(self._conn(), server_id, self.config.cloud_id)
        return Guest(found) if found is not None else None

    def _disks(self, server: ServerSpec) -> tuple[Disk, ...]:
        return get_disk_info(server, get_hardware(server), self.layout)
