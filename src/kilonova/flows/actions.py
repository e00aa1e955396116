"""The compute API's hands: starts flows, and reads a flow's journal as Nova's instance actions."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from msgspec import to_builtins

from kilonova.compute.flows import Action, Event
from kilonova.db.engine import Tx
from kilonova.flow.log import Journal
from kilonova.flow.tables import EVENTS, FLOWS
from kilonova.flows.asks import Asks
from kilonova.flows.captures import capture
from kilonova.flows.consoles import HostConsole, open_console
from kilonova.model.specs import ImageSpec
from kilonova.web.call import Context

REPLACING = ("delete", "hard_reboot")  # these need not wait for what is under way
RESULTS = {
    "Skipped": "Success",
    "Interrupted": "Error",
    "Superseded": "Error",
    "Waiting": None,
}  # Nova knows these only


class FlowActions:
    """`vif_type`: of the ports of new servers."""

    def __init__(self, journal: Journal, asks: Asks, vif_type: str) -> None:
        self.journal, self.asks, self.vif_type = journal, asks, vif_type

    def start(self, tx: Tx, kind: str, server_id: str, context: Context, data: dict[str, Any]) -> None:
        who = {"project_id": context.project_id, "user_id": context.user_id, "request_id": context.request_id}
        data = {"vif_type": self.vif_type, **data}
        running = self.journal.running(tx, server_id)
        to_its_end = running is not None and self.journal.flows[running["kind"]].queues  # on a device, half attached
        if kind == "delete" or (kind in REPLACING and not to_its_end):
            self.journal.start_or_turn(tx, kind, server_id, who, data)
        else:
            self.journal.start(tx, kind, server_id, who, data)

    def note(self, tx: Tx, action: str, server_id: str, context: Context, error: str | None = None) -> None:
        who = {"project_id": context.project_id, "user_id": context.user_id, "request_id": context.request_id}
        self.journal.note(tx, action, server_id, who, error)

    def look(self, tx: Tx) -> None:
        tx.after_commit(self.asks.look)

    def actions(self, tx: Tx, server_id: str) -> list[Action]:
        where = FLOWS.c.subject_id == server_id
        rows = tx.all(sa.select(FLOWS).where(where).order_by(FLOWS.c.created_at.desc(), FLOWS.c.id))
        return [self._action(row) for row in rows]

    def action(self, tx: Tx, server_id: str, request_id: str) -> Action | None:
        where = (FLOWS.c.subject_id == server_id) & (FLOWS.c.request_id == request_id)
        row = tx.first(sa.select(FLOWS).where(where))
        if row is None:
            return None
        events = tx.all(sa.select(EVENTS).where(EVENTS.c.flow_id == row["id"]).order_by(EVENTS.c.id))
        return self._action(row, tuple(_event(event) for event in events))

    def _action(self, row: sa.RowMapping, events: tuple[Event, ...] = ()) -> Action:
        names = ("request_id", "user_id", "project_id", "updated_at")
        values = {name: row[name] for name in names}
        flow = self.journal.flows.get(row["kind"])
        name = flow.action if flow and flow.action else row["kind"]
        return Action(action=name, start_time=row["created_at"], message=row["error"], events=events, **values)

    def console_output(self, server_id: str, host: str, length: int | None) -> str:
        text: str = self.asks.ask(host, "console_output", server_id=server_id, length=length)
        return text

    def diagnostics(self, server_id: str, host: str) -> dict[str, Any]:
        found: dict[str, Any] = self.asks.ask(host, "diagnostics", server_id=server_id)
        return found

    def cache_image(self, host: str, image: ImageSpec) -> None:
        self.asks.ask(host, "cache_image", image=to_builtins(image))

    def set_admin_password(self, server_id: str, host: str, user: str, password: str) -> str | None:
        answer = self.asks.ask(host, "set_admin_password", server_id=server_id, user=user, password=password)
        refused: str | None = answer["refused"]
        return refused

    def console_address(self, server_id: str, host: str, console_type: str) -> dict[str, Any]:
        found: dict[str, Any] = self.asks.ask(host, "console_address", server_id=server_id, console_type=console_type)
        return found

    def open_console(self, server_id: str, host: str, console_type: str) -> HostConsole:
        return open_console(self.asks, host, server_id, console_type)

    def capture(self, host: str, device: str, seconds: float, packets: int) -> Iterator[bytes]:
        """A pcap file of one of the host's devices, as it grows."""
        return capture(self.asks, host, device, seconds, packets)

    def try_packets(self, host: str, frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What the host's live rules do with each (`host/contract.py`: FirstFrame → FrameTrace)."""
        found: list[dict[str, Any]] = self.asks.ask(host, "try_packets", frames=frames)
        return found


def _event(row: sa.RowMapping) -> Event:
    details = row["details"] or {}
    return Event(
        event=row["step"],
        start_time=row["started_at"],
        finish_time=row["finished_at"],
        result=RESULTS.get(row["result"], row["result"]),
        traceback=row["traceback"],
        host=row["host"],
        details=details.get("message"),
    )
