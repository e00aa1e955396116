"""A host without a hypervisor: the same verbs and the same states, kept in a folder instead of in libvirt and the kernel.

For people who test their tools against the API. Needs neither root nor libvirt; what it holds survives a restart, as
real guests do. Each change is one file made, replaced or removed, so a crash leaves a state a real host could be in.
"""

import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from kilonova.host.calls import outside
from kilonova.host.consoles import Consoles
from kilonova.host.contract import Work
from kilonova.host.diagnostics import Diagnostics
from kilonova.host.fake_consoles import WIRES
from kilonova.host.fake_disks import KINDS as DISK_KINDS
from kilonova.host.fake_disks import FakeDisks
from kilonova.host.fake_volumes import KINDS as VOLUME_KINDS
from kilonova.host.fake_volumes import FakeVolumes
from kilonova.host.uptime import uptime
from kilonova.model.errors import HostError
from kilonova.model.specs import HostInventory, HostNetwork, PortSpec

RUNNING, PAUSED, SHUTDOWN = 1, 3, 4  # Nova's power_state
KINDS = ("domains", *DISK_KINDS, "taps", "bridges", "connections")


class FakeHost(FakeVolumes, FakeDisks):
    """`folder` holds `domains/`, `disks/`, `taps/` and `bridges/`, one entry a thing; a bridge is a folder of its taps; and
    those of its volumes."""

    def __init__(
        self, name: str, folder: Path, vcpus: int = 1024, memory_mb: int = 4 << 20, disk_gb: int = 1 << 20
    ) -> None:
        self.name = name
        self.folder = folder
        self._inventory = HostInventory(
            hostname=name, vcpus=vcpus, memory_mb=memory_mb, disk_gb=disk_gb, hypervisor_type="fake", virt_type="fake",
            hypervisor_version=1000, cpu_info={"arch": "x86_64", "vendor": "fake", "model": "fake", "features": []},
            bridge_mappings={"public": "br-ex"},
        )  # fmt: skip
        self._plugging = threading.Lock()  # a bridge goes with its last tap
        self.consoles = Consoles()
        for kind in (*KINDS, *VOLUME_KINDS):
            (folder / kind).mkdir(parents=True, exist_ok=True)

    def inventory(self) -> HostInventory:
        return msgspec.structs.replace(self._inventory, uptime=uptime(), pools=self.pools())

    def get_guest_xml(self, work: Work) -> Any:
        server = work.server
        return {"xml": f"<domain type='fake'><name>{server.instance_name}</name><uuid>{server.id}</uuid></domain>"}

    def plug_vifs(self, work: Work) -> Any:
        for port in work.server.ports:
            self._plug(port)
        return {"taps": [port.tap for port in work.server.ports]}

    def _plug(self, port: PortSpec) -> None:
        with self._plugging, outside("fake put bridges"):
            (self.folder / "bridges" / port.bridge / port.tap).mkdir(parents=True, exist_ok=True)
        self._put("taps", port.tap, {"port": port.id, "bridge": port.bridge})

    def unplug_vifs(self, work: Work) -> Any:
        for port in work.server.ports:
            self._unplug(port)

    def _unplug(self, port: PortSpec) -> None:
        self._drop("taps", port.tap)
        bridge = self.folder / "bridges" / port.bridge
        with self._plugging, outside("fake drop bridges"), suppress(OSError):  # gone, or not the last tap
            with suppress(FileNotFoundError):
                (bridge / port.tap).rmdir()
            bridge.rmdir()

    def attach_interface(self, work: Work) -> Any:
        port = work.server.port(work.data["port_id"])
        if port is None:
            raise HostError(f"server {work.server.id} has no such port")
        self._plug(port)

    def detach_interface(self, work: Work) -> Any:
        port = work.server.port(work.data["port_id"])
        if port is not None:
            self._unplug(port)

    def connect_volumes(self, work: Work) -> Any:
        work.wait_for_moves()
        found = {volume.id: self.connect_volume(volume.name, volume.backend) for volume in work.server.volumes}
        for volume_id in found:
            self._put("connections", volume_id, {})
        return {"connections": found}

    def disconnect_volumes(self, work: Work) -> Any:
        for volume in work.server.volumes:
            if not volume.shared and work.data.get("volume_id") in (None, volume.id):
                self._drop("connections", volume.id)

    def attach_volume(self, work: Work) -> Any:
        self._set_volumes(work.server.id, add=work.data["volume_id"])

    def detach_volume(self, work: Work) -> Any:
        self._set_volumes(work.server.id, drop=work.data["volume_id"])

    def swap_volume(self, work: Work) -> Any:
        old, new = (next(each for each in work.server.volumes if each.id == work.data["volume_id"]), work.data)
        self._need_running(work.server.id, PAUSED)
        self._put("connections", new["new_volume_id"], {})
        self.copy_content(f"{old.name}@{old.backend}", f"{new['new_stored_as']}@{new['new_backend']}")
        self._set_volumes(work.server.id, add=new["new_volume_id"], drop=old.id)
        self._drop("connections", old.id)
        return {"connection": self.connect_volume(new["new_stored_as"], new["new_backend"])}

    def swap_volume_back(self, work: Work) -> Any:
        self._put("connections", work.data["volume_id"], {})
        self._set_volumes(work.server.id, add=work.data["volume_id"], drop=work.data["new_volume_id"])
        self._drop("connections", work.data["new_volume_id"])

    def create_guest(self, work: Work) -> Any:
        if "get_guest_xml" not in work.results:
            raise HostError("there is no guest XML to define")
        domain = self._get("domains", work.server.id)
        if domain is None or domain["power_state"] == SHUTDOWN:
            xml = work.results["get_guest_xml"]["xml"]
            self._put("domains", work.server.id, {"xml": xml, "power_state": PAUSED})

    def define_guest(self, work: Work) -> Any:
        if self._get("domains", work.server.id) is None:
            self._put("domains", work.server.id, {**work.results["get_guest_xml"], "power_state": SHUTDOWN})

    def power_on_guest(self, work: Work) -> Any:
        self.plug_vifs(work)
        self._put("domains", work.server.id, {**self.get_guest_xml(work), "power_state": RUNNING})

    def destroy_guest(self, work: Work) -> Any:
        self._drop("domains", work.server.id)

    def resume_guest(self, work: Work) -> Any:
        if self._get("domains", work.server.id) is None:
            raise HostError(f"the domain of server {work.server.id} is gone")
        self._set_power(work.server.id, RUNNING)

    def power_off_guest(self, work: Work) -> Any:
        self._set_power(work.server.id, SHUTDOWN)

    def shut_down_guest(self, work: Work) -> Any:
        self._set_power(work.server.id, SHUTDOWN)

    def pause_guest(self, work: Work) -> Any:
        self._need_running(work.server.id, PAUSED)
        self._set_power(work.server.id, PAUSED)

    def suspend_guest(self, work: Work) -> Any:
        domain = self._get("domains", work.server.id)
        if domain and domain.get("saved"):
            return
        self._need_running(work.server.id, PAUSED)
        self._put("domains", work.server.id, {**(domain or {}), "power_state": SHUTDOWN, "saved": True})

    def restore_guest(self, work: Work) -> Any:
        domain = self._get("domains", work.server.id)
        if domain is None:
            raise HostError(f"the domain of server {work.server.id} is gone")
        if domain["power_state"] == SHUTDOWN:
            self._put("domains", work.server.id, {"xml": domain["xml"], "power_state": PAUSED})

    def inject_nmi(self, work: Work) -> Any:
        self._need_running(work.server.id, PAUSED)

    def cache_image(self, image: dict[str, Any]) -> None:
        """It keeps no images: its disks only say what they are made from."""

    def set_admin_password(self, server_id: str, user: str, password: str) -> dict[str, Any]:
        return {"refused": None if self._runs(server_id) else "its guest does not run"}

    def diagnostics(self, server_id: str) -> dict[str, Any]:
        domain = self._get("domains", server_id)
        return msgspec.to_builtins(Diagnostics(power_state=domain["power_state"] if domain else SHUTDOWN))

    def console_output(self, server_id: str, length: int | None) -> str:
        text = "FAKE CONSOLE OUTPUT\nANOTHER\nLAST LINE\n" if self._get("domains", server_id) else ""
        lines = text.splitlines(keepends=True)
        return "".join(lines if length is None else lines[-length:] if length else [])

    def console_address(self, server_id: str, console_type: str) -> dict[str, Any]:
        return {"running": self._runs(server_id), "address": None, "port": {"novnc": 5900}.get(console_type, 1)}

    def open_console(self, server_id: str, console_type: str) -> dict[str, Any]:
        """What it shows and echoes is this process's own: no guest is behind it, and nothing of it is kept."""
        self._need_running(server_id, PAUSED)
        return self.consoles.open(lambda: WIRES[console_type](lambda: self._runs(server_id)))

    def exchange_console(self, console_id: str, data: str) -> dict[str, Any]:
        return self.consoles.exchange(console_id, data)

    def close_console(self, console_id: str) -> dict[str, Any]:
        return self.consoles.close(console_id)

    def start_capture(self, device: str, seconds: float, packets: int) -> dict[str, Any]:
        raise HostError("this host is fake: there are no packets to capture")

    def read_capture(self, capture_id: str) -> dict[str, Any]:
        return {"data": "", "ended": True}

    def stop_capture(self, capture_id: str) -> dict[str, Any]:
        return {"dropped": 0}

    def try_packets(self, frames: list[Any]) -> list[dict[str, Any]]:
        raise HostError("this host is fake: there are no rules to try a packet on")

    def power_states(self) -> dict[str, int]:
        domains = {server_id: self._get("domains", server_id) for server_id in self._names("domains")}
        return {server_id: domain["power_state"] for server_id, domain in domains.items() if domain}

    def failure_details(self, server_id: str) -> str:
        return self.console_output(server_id, 20)

    def apply_network(self, desired: HostNetwork) -> dict[str, str]:
        taps = set(self._names("taps"))
        wired = {port.id for port in desired.ports if port.tap in taps or port.device_owner.startswith("network:")}
        return {port.id: "ACTIVE" if port.id in wired and port.admin_state_up else "DOWN" for port in desired.ports}

    def network_pending(self) -> bool:
        return False

    def watch_network(self) -> None:
        return None

    def watch_guests(self) -> None:
        return None

    def close(self) -> None:
        """Nothing is open between calls."""

    def purge(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def leftovers(self) -> dict[str, list[str]]:
        """Every thing there is, by kind; empty lists on a clean host."""
        return {kind: sorted(self._names(kind)) for kind in (*KINDS, *VOLUME_KINDS)}

    def _runs(self, server_id: str) -> bool:
        domain = self._get("domains", server_id)
        return domain is not None and domain["power_state"] in (RUNNING, PAUSED)

    def _need_running(self, server_id: str, *others: int) -> None:
        domain = self._get("domains", server_id)
        if domain is None or domain["power_state"] not in (RUNNING, *others):
            raise HostError(f"the guest of server {server_id} does not run")

    def _set_volumes(self, server_id: str, add: str = "", drop: str = "") -> None:
        domain = self._get("domains", server_id)
        if domain is not None:
            volumes = [name for name in domain.get("volumes", []) if name not in (add, drop)] + [add] * bool(add)
            self._put("domains", server_id, {**domain, "volumes": volumes})

    def _set_power(self, server_id: str, power_state: int) -> None:
        """A domain that is gone stays gone."""
        domain = self._get("domains", server_id)
        if domain is not None:
            self._put("domains", server_id, {**domain, "power_state": power_state})
