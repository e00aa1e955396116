"""sd_notify(3), as far as a unit of Type=notify needs it; nothing happens where no service manager asked."""

import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """`state`: READY=1, STOPPING=1. A manager that is gone is no error; an address with @ is an abstract socket."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.sendto(state.encode(), "\0" + address[1:] if address[0] == "@" else address)
