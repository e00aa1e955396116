"""What the compute API needs of the flow engine, and the shape in which it reads a flow's journal."""

import datetime
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from kilonova.db.engine import Tx
from kilonova.model.specs import ImageSpec
from kilonova.web.call import Context

# of flows that a request starts
Kind = Literal[
    "create", "delete", "stop", "start", "reboot", "hard_reboot", "pause", "unpause", "suspend", "resume",
    "rescue", "unrescue", "trigger_crash_dump", "createImage", "createBackup", "rebuild", "resize", "confirmResize",
    "revertResize", "shelve", "shelveOffload", "unshelve", "attach_volume", "detach_volume",
    "attach_interface", "detach_interface", "swap_volume",
    "snapshot_volume_backed", "shelve_volume_backed", "rebuild_volume_backed",
]  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One step of an action. `result`: Success | Error | None while it runs. Times are UTC without a zone."""

    event: str
    start_time: datetime.datetime
    finish_time: datetime.datetime | None
    result: str | None
    traceback: str | None
    host: str | None
    details: str | None


@dataclass(frozen=True)
class Action:
    """One request's work on a server (Nova: instance action). `message` is set when it failed."""

    action: str
    request_id: str
    user_id: str
    project_id: str
    start_time: datetime.datetime
    updated_at: datetime.datetime | None
    message: str | None
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Exchanged:
    """Of what was sent the first `taken` bytes were; `data` came meanwhile; `ended`: why there is no more, a sentence."""

    taken: int
    data: bytes
    ended: str | None = None


class Console(Protocol):
    """A guest's console that somebody has open. Does I/O; one call at a time."""

    def exchange(self, data: bytes) -> Exchanged:
        """Give `data` to the guest and take what it has said, without waiting for either. Unavailable."""

    def close(self) -> None: ...


class Flows(Protocol):
    """The API's hands: it asks for work and reads what became of it. `vif_type`: of ports that are bound."""

    vif_type: str

    def start(self, tx: Tx, kind: Kind, server_id: str, context: Context, data: dict[str, Any]) -> None:
        """Begin a flow in this transaction. A flow that runs is turned into a delete or a hard reboot.

        To others it is a Conflict.
        """

    def note(self, tx: Tx, action: str, server_id: str, context: Context, error: str | None = None) -> None:
        """An action that was done, or came to nothing, in this very transaction."""

    def look(self, tx: Tx) -> None:
        """Hosts look at what they carry once this is committed: for what changes networks by Nova's door."""

    def actions(self, tx: Tx, server_id: str) -> list[Action]:
        """The server's actions, newest first."""

    def action(self, tx: Tx, server_id: str, request_id: str) -> Action | None: ...

    def console_output(self, server_id: str, host: str, length: int | None) -> str:
        """The last `length` lines of the console log (all: None). Does I/O: never inside a transaction."""

    def diagnostics(self, server_id: str, host: str) -> dict[str, Any]:
        """What the guest's devices have done (`host/contract.py`). Does I/O, too."""

    def cache_image(self, host: str, image: ImageSpec) -> None:
        """The host begins to fetch it. Unavailable. Does I/O, too."""

    def set_admin_password(self, server_id: str, host: str, user: str, password: str) -> str | None:
        """Why the agent inside the guest did not set it; None when it did. Unavailable. Does I/O, too."""

    def console_address(self, server_id: str, host: str, console_type: str) -> dict[str, Any]:
        """{"running": whether the guest is, "address", "port"}; port None where it has no such console. Does I/O, too."""

    def open_console(self, server_id: str, host: str, console_type: str) -> Console:
        """Unavailable when the host cannot. Does I/O, too."""
