"""The seam between the control side and a host, whole: all that either can ask of the other.

    control → host                                   host → control
    ────────────────────────────────────────────    ──────────────────────────────────────────────────────────────
    flow steps     HostWork → Outcome (flow/step)    claim, record, beat, holds, wait     HostSeam, flow/worker.py
    questions      Ask → Answer, below               next_ask, answer                     ControlSide, below
    "look again"   Ask(LOOK)                         desired_network, report_*, …         ControlSide, below

The host dials in for all of it, so nobody need be able to reach a host. Every value is made of msgspec's types and can cross
a wire as JSON; an image's bytes are the one stream. `Host` is what a machine can do: real (`libvirt/host.py`) or fake
(`fake.py`). It is called by the machine's own runner (`flows/hostside.py`) and by nobody else.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from kilonova.model.errors import HostError, Later
from kilonova.model.specs import HostInventory, HostNetwork, ServerSpec, StoredBackup, StoredSnapshot, StoredVolume

LOOK = "look"  # an Ask that wants no answer: what the loops keep true may have changed
# methods of Host that an Ask may name: they change nothing that guests have, apart from what a person types into one, or has
# its agent do
QUESTIONS = frozenset(
    {
        "console_output",
        "start_capture",
        "read_capture",
        "stop_capture",
        "console_address",
        "open_console",
        "exchange_console",
        "close_console",
        "try_packets",
        "diagnostics",
        "connect_volume",
        "stored_volumes",
        "has_snapshot",
        "cache_image",
        "set_admin_password",
    }
)


@dataclass(frozen=True)
class Work:
    """One HOST step: the server as it is now, what earlier steps of the flow returned, and ways to stay in touch."""

    server: ServerSpec
    results: dict[str, Any] = field(default_factory=dict)
    cancelled: Callable[[], bool] = lambda: False  # polled by long verbs; beats the lease too
    data: dict[str, Any] = field(default_factory=dict)  # the request's own words, as the flow keeps them
    waited: float = 0.0  # seconds since the step began for the first time: it grows while the step raises Later
    control: "ControlSide | None" = None

    @property
    def images(self) -> "ControlSide":
        """Where bytes become an image's, and images go."""
        if self.control is None:
            raise HostError("this host is not connected to an image service")
        return self.control

    def wait_for_moves(self) -> None:
        """Raises Later while a volume that is to be connected is on its way to another backend."""
        for volume in self.server.volumes:
            if volume.moving and self.data.get("volume_id") in (None, volume.id):
                raise Later(1.0)


@dataclass(frozen=True)
class VolumeWork:
    """One HOST step on a volume, or on its snapshot or backup; the rest as in Work."""

    volume: StoredVolume
    snapshot: StoredSnapshot | None = None
    backup: StoredBackup | None = None
    results: dict[str, Any] = field(default_factory=dict)
    cancelled: Callable[[], bool] = lambda: False
    data: dict[str, Any] = field(default_factory=dict)
    control: "ControlSide | None" = None

    @property
    def images(self) -> "ControlSide":
        """Where bytes become an image's, and images go."""
        if self.control is None:
            raise HostError("this host is not connected to an image service")
        return self.control


@dataclass(frozen=True)
class Ask:
    """`verb`: one of QUESTIONS with its arguments by name, or LOOK."""

    id: str
    verb: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """To the Ask of that id: `value`, or `error`, a sentence."""

    id: str
    value: Any = None
    error: str | None = None


class FirstFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A new connection's first frame over one bridge, from one of its devices to another; "" is the wire. With `router`,
    a namespace, through that: in by one of its legs, and out by another."""

    bridge: str
    ingress: str
    egress: str
    source_mac: str
    destination_mac: str
    source: str
    destination: str
    protocol: str  # tcp | udp | icmp, which with IPv6 means ICMPv6
    port: int = 0
    router: str = ""


class FrameTrace(msgspec.Struct, frozen=True, kw_only=True):
    """`rules`: what nft says the frame met, in order; `wiring`: what is wrong with the devices as they are. Of a router:
    by which leg it left, and how it is addressed then."""

    delivered: bool
    rules: list[str] = []
    wiring: list[str] = []
    left_by: str = ""
    source: str = ""
    destination: str = ""
    port: int = 0


class Watch(Protocol):
    """Tells what has changed: devices of a host's namespace, or guests."""

    def names(self) -> set[str]:
        """Blocks for the next change; the devices or server ids it is about, `*` for any. Empty: stopped."""

    def stop(self) -> None: ...
    def close(self) -> None: ...


class Host(Protocol):
    """One machine's hands. Each flow verb runs at least once, from any half-done state, so it measures and then acts:
    doing it twice ends the same. It raises HostError (the step failed), Later (wait), Cancelled (another flow wants the
    server).
    """

    name: str

    # create_server's HOST steps and their undos
    def prepare_disks(self, work: Work) -> Any:
        """Nova: _create_image. Base image into `_base`, overlay, config drive."""

    def delete_disks(self, work: Work) -> Any: ...

    def get_guest_xml(self, work: Work) -> Any:
        """Returns {"xml": the guest XML}. Changes nothing."""

    def plug_vifs(self, work: Work) -> Any: ...
    def unplug_vifs(self, work: Work) -> Any: ...

    def create_guest(self, work: Work) -> Any:
        """Defines the domain from `results["get_guest_xml"]["xml"]` and starts it paused."""

    def destroy_guest(self, work: Work) -> Any: ...
    def resume_guest(self, work: Work) -> Any: ...

    # those of the verbs on its power
    def power_off_guest(self, work: Work) -> Any:
        """At once, whatever the guest is doing; it stays defined."""

    def shut_down_guest(self, work: Work) -> Any:
        """Asks the guest to power off, and raises Later until it has; takes its power when it takes too long.

        Nova: `_clean_shutdown`. `guest:<id>` is what it waits for.
        """

    def pause_guest(self, work: Work) -> Any: ...

    def suspend_guest(self, work: Work) -> Any:
        """Off, its memory on the disk, where it outlives the host's own reboot."""

    def restore_guest(self, work: Work) -> Any:
        """After `suspend_guest`: paused, with the memory it had."""

    def inject_nmi(self, work: Work) -> Any:
        """What makes a guest's kernel write its crash dump, if it was set up so."""

    def define_guest(self, work: Work) -> Any:
        """As create_guest, but left off."""

    def power_on_guest(self, work: Work) -> Any:
        """All of connect_volumes, get_guest_xml, plug_vifs, create_guest and resume_guest: for undos."""

    def prepare_rescue_disks(self, work: Work) -> Any:
        """A disk from the image `server.rescue`, and a config drive of its own; the server's disks are not touched."""

    def drop_rescue_disks(self, work: Work) -> Any: ...

    # those of the verbs on its disks
    def discard_disks(self, work: Work) -> Any:
        """What prepare_disks will make anew goes; ephemeral disks stay if `data["preserve_ephemeral"]`."""

    def set_disks_aside(self, work: Work) -> Any:
        """Nova: migrate_disk_and_power_off. The disks are kept as they are, and copies take their place."""

    def put_disks_back(self, work: Work) -> Any:
        """Those that were put aside take the place of the copies. Nothing when none were."""

    def drop_old_disks(self, work: Work) -> Any:
        """Those that were put aside go."""

    def grow_disks(self, work: Work) -> Any:
        """To the flavor's sizes, where they are less."""

    def copy_root_disk(self, work: Work) -> Any:
        """A copy of the root disk as of one moment, beside it. `data["quiesce"]`: host/libvirt/snapshot.py."""

    def drop_root_copy(self, work: Work) -> Any: ...

    def upload_root_copy(self, work: Work) -> Any:
        """The copy's bytes become those of the image `data["image_id"]`, and the copy goes."""

    def withdraw_image(self, work: Work) -> Any:
        """The image `data["image_id"]` goes, with its bytes."""

    def rotate_backups(self, work: Work) -> Any:
        """The server's backups of the type of `data["image_id"]` go, but for the `data["rotation"]` newest."""

    # a server's volumes
    def connect_volumes(self, work: Work) -> Any:
        """Lets the server open all its volumes. Returns {"connections": {volume id: Cinder's connection_info}}.

        Raises Later while one of them moves to another backend; with `data["volume_id"]`, while that one does.
        """

    def disconnect_volumes(self, work: Work) -> Any:
        """All, or the one of `data["volume_id"]`; one that another server has stays."""

    def attach_volume(self, work: Work) -> Any:
        """`data["volume_id"]` into the guest as it is: running, or only defined."""

    def detach_volume(self, work: Work) -> Any:
        """`data["volume_id"]` out of it: raises Later until the guest has let go, HostError when it does not."""

    def swap_volume(self, work: Work) -> Any:
        """The disk `data["volume_id"]` of a guest that runs gets another source with the same bytes: the volume
        `data["new_volume_id"]`, which is `data["new_stored_as"]` in `data["new_backend"]`, of `data["new_size_gb"]`.
        Returns {"connection": its connection_info}. Nova: `swap_volume`."""

    def swap_volume_back(self, work: Work) -> Any: ...

    def attach_interface(self, work: Work) -> Any:
        """The port `data["port_id"]` plugged, and into the guest as it is: running, or only defined."""

    def detach_interface(self, work: Work) -> Any:
        """It out of the guest, as detach_volume; then unplugged."""

    # volumes: each is in one of this host's backends (Cinder: a volume driver)
    def create_volume(self, work: VolumeWork) -> Any:
        """Empty, or from what `work.volume` says it is made from."""

    def delete_volume(self, work: VolumeWork) -> Any: ...

    def extend_volume(self, work: VolumeWork) -> Any:
        """To `data["size_gb"]`."""

    def reimage_volume(self, work: VolumeWork) -> Any:
        """The bytes of `work.volume.image` over those of the volume."""

    def upload_volume(self, work: VolumeWork) -> Any:
        """The volume's bytes become those of the image `data["image_id"]`, in its `data["disk_format"]`."""

    def withdraw_upload(self, work: VolumeWork) -> Any:
        """The image `data["image_id"]` goes, with its bytes."""

    def copy_volume(self, work: VolumeWork) -> Any:
        """A copy of the volume in the backend `results["select_target"]["backend"]`, under the same name. Nothing when
        it is there. A guest that has it open goes over to the copy, and then {"connection": its connection_info} is
        returned; one that is off would not: HostError."""

    def delete_copy(self, work: VolumeWork) -> Any: ...

    def delete_original(self, work: VolumeWork) -> Any:
        """The volume in `results["select_target"]["old_backend"]` goes, if it is in the other by now. Tried until done."""

    def create_snapshot(self, work: VolumeWork) -> Any: ...
    def delete_snapshot(self, work: VolumeWork) -> Any: ...

    def revert_to_snapshot(self, work: VolumeWork) -> Any:
        """The volume gets the bytes of the snapshot named `data["snapshot"]` back."""

    def backup_volume(self, work: VolumeWork) -> Any:
        """Returns {"object_count": files}."""

    def delete_backup(self, work: VolumeWork) -> Any: ...

    def restore_backup(self, work: VolumeWork) -> Any:
        """The bytes of the backup `data["location"]` over those of the volume."""

    # questions
    def connect_volume(self, name: str, backend: str) -> dict[str, Any]:
        """Lets guests open it. Cinder's connection_info: {"driver_volume_type", "data"}, the same each time."""

    def stored_volumes(self, backend: str) -> dict[str, int]:
        """Name → bytes of every volume in a backend, those included that Cinder does not know."""

    def has_snapshot(self, name: str, backend: str) -> bool: ...

    def console_output(self, server_id: str, length: int | None) -> str:
        """The last `length` lines (None: all there are) of a guest's console log."""

    def cache_image(self, image: dict[str, Any]) -> None:
        """Begins to fetch an image (an ImageSpec) for the servers to come, unless it is there; what fails is logged."""

    def set_admin_password(self, server_id: str, user: str, password: str) -> dict[str, Any]:
        """Lets the agent inside the guest set a user's password: {"refused": why it did not, None if it did}."""

    def diagnostics(self, server_id: str) -> dict[str, Any]:
        """What the guest and its devices have used: a Diagnostics (host/diagnostics.py)."""

    def start_capture(self, device: str, seconds: float, packets: int) -> dict[str, Any]:
        """Frames of a tap from now on, as pcap: {"id", "data": base64}. It ends by itself, or when nobody reads it."""

    def read_capture(self, capture_id: str) -> dict[str, Any]:
        """{"data": base64 of what came since, "ended": whether that was all}."""

    def stop_capture(self, capture_id: str) -> dict[str, Any]: ...

    def console_address(self, server_id: str, console_type: str) -> dict[str, Any]:
        """Where a guest's console is on this host: {"running", "address", "port"}; `console_type`: novnc | serial.

        Nobody but the host itself goes there. `port` is None where the guest has no such console.
        """

    def open_console(self, server_id: str, console_type: str) -> dict[str, Any]:
        """{"id"}, for the two below. It ends with the guest, or when nobody exchanges any more."""

    def exchange_console(self, console_id: str, data: str) -> dict[str, Any]:
        """Takes bytes for the guest, gives what it has said since: {"taken": how many, "data", "ended": why, or None}.

        Both are base64. Waits for nothing.
        """

    def close_console(self, console_id: str) -> dict[str, Any]: ...

    def try_packets(self, frames: list[Any]) -> list[dict[str, Any]]:
        """What the rules that are loaded now do with each FirstFrame: a FrameTrace each. Guests see none of them."""

    # the loops'
    def inventory(self) -> HostInventory: ...

    def power_states(self) -> dict[str, int]:
        """server id → Nova's power_state (1 running, 3 paused, 4 shutdown)."""

    def apply_network(self, desired: HostNetwork) -> dict[str, str]:
        """One pass of the port and DHCP loops. Returns port id → ACTIVE | DOWN for each port of `desired`."""

    def evict_images(self) -> list[str]:
        """Images kept for the next server that none is made over, when they are old or room is short; their names."""

    def network_pending(self) -> bool:
        """The last pass saw what needs a second look: apply again soon."""

    def watch_network(self) -> Watch | None:
        """Opens a watch, so that a change is seen at once; None where there is nothing to watch."""

    def watch_guests(self) -> Watch | None:
        """Opens a watch, so that a guest that ends, or is changed by others, is seen at once; None: the loop alone sees."""

    # its runner's
    def failure_details(self, server_id: str) -> str:
        """The tail of the console and QEMU logs, for the server's fault. Never raises."""

    def close(self) -> None:
        """Let go of connections and threads; guests live on."""


class ControlSide(Protocol):
    """What one host's loops and its metadata service ask of, and report to, the control side."""

    def desired_network(self) -> HostNetwork:
        """All networks and ports that this host should carry."""

    def report_ports(self, statuses: dict[str, str]) -> None:
        """Port id → ACTIVE | DOWN; the flows that wait for a port go on in the same commit."""

    def report_inventory(self, inventory: HostInventory) -> None:
        """What the host offers; its sign of life, too."""

    def report_power_states(self, power_states: dict[str, int], age: float) -> bool:
        """What all guests did `age` seconds ago, when it began to look; True when it should look again soon."""

    def report_boot(self, power_states: dict[str, int]) -> None:
        """This host was down; servers that ran and are not in `power_states` are started again."""

    def server(self, server_id: str) -> ServerSpec | None:
        """For the metadata service: the server behind a port's device id."""

    def set_guest_password(self, server_id: str, password: str) -> bool:
        """For the metadata service: keep what the guest posted; False when there is one already."""

    def fetch_image(self, image_id: str, target: Path) -> None:
        """Write an image's bytes, as they were uploaded, to the new file `target`."""

    def store_image(self, image_id: str, source: Path, disk_format: str) -> None:
        """The file's bytes become those of a queued image, which is active then. Again is nothing; HostError."""

    def drop_image(self, image_id: str) -> None:
        """The image goes, with its bytes. Nothing when there is none."""

    def rotate_backups(self, image_id: str, keep: int) -> None:
        """Of the backups that are of the same server, type and owner as this one, all but the newest go."""

    def next_ask(self, timeout: float) -> Ask | None:
        """The next thing that the control side wants of this host; None when there was none for `timeout` seconds."""

    def answer(self, answer: Answer) -> None: ...
