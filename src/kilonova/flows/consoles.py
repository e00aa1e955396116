"""A guest's console on whichever host has it: questions to the host, one exchange after another, until it ends."""

import base64
from contextlib import suppress
from dataclasses import dataclass

from kilonova.compute.flows import Exchanged
from kilonova.flows.asks import Asks
from kilonova.model.errors import Unavailable


@dataclass(frozen=True)
class HostConsole:
    """Opened on `host` under `id`. One exchange at a time: they are answered in turn, and none is asked twice."""

    asks: Asks
    host: str
    id: str

    def exchange(self, data: bytes) -> Exchanged:
        given = base64.b64encode(data).decode()
        answer = self.asks.ask(self.host, "exchange_console", console_id=self.id, data=given)
        return Exchanged(answer["taken"], base64.b64decode(answer["data"]), answer["ended"])

    def close(self) -> None:
        with suppress(Unavailable):  # a host that hears nothing of it forgets it by itself
            self.asks.ask(self.host, "close_console", console_id=self.id)


def open_console(asks: Asks, host: str, server_id: str, console_type: str) -> HostConsole:
    """Unavailable when the host cannot."""
    opened = asks.ask(host, "open_console", server_id=server_id, console_type=console_type)
    return HostConsole(asks, host, opened["id"])
