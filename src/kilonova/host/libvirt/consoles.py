"""Where a running guest's VNC and its serial port for a person are, and the way there.

Nova: LibvirtDriver.get_vnc_console, get_serial_console. Serial ports are terminals (pty), as in the reference guest:
libvirt's openConsole would give the same one, by way of its daemon.
"""

import os
import socket
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import libvirt

from kilonova.host.calls import outside
from kilonova.host.consoles import Descriptor
from kilonova.host.libvirt import domain
from kilonova.host.libvirt.connection import calling, unless
from kilonova.host.netns import in_netns
from kilonova.model.errors import HostError

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Place:
    """`port`: of TCP, or the number of the serial port; None where there is no such device. `path`: of a terminal."""

    address: str | None = None
    port: int | None = None
    path: str | None = None


def find(conn: libvirt.virConnect, server_id: str, cloud_id: str, console_type: str) -> Place | None:
    """None when the guest does not run."""
    found = domain.find(conn, server_id, cloud_id)
    if found is None:
        return None
    with calling("libvirt XMLDesc"), unless(libvirt.VIR_ERR_NO_DOMAIN):
        if found.isActive():
            return place(found.XMLDesc(), console_type)
    return None


def place(xml: str, console_type: str) -> Place:
    """Of the XML of a guest that runs."""
    root = ET.fromstring(xml)
    if console_type == "novnc":
        graphics = root.find("./devices/graphics[@type='vnc']")
        if graphics is None or int(graphics.get("port", "-1")) < 0:
            return Place()
        listen = graphics.get("listen") or "127.0.0.1"
        return Place(EVERYWHERE.get(listen, listen), int(graphics.get("port", "-1")))
    for serial in root.findall("./devices/serial[@type='pty']"):
        source, target = serial.find("source"), serial.find("target")
        if source is not None and source.get("path"):
            number = target.get("port", "0") if target is not None else "0"
            return Place(port=int(number), path=source.get("path"))
    return Place()


def connect(
    conn: libvirt.virConnect, server_id: str, cloud_id: str, console_type: str, netns: str | None
) -> Descriptor:
    """HostError when the guest does not run, has no such console, or does not let us in."""
    there = find(conn, server_id, cloud_id, console_type)
    if there is None:
        raise HostError(f"the guest of server {server_id} does not run")
    if there.port is None:
        raise HostError(f"the guest of server {server_id} has no {console_type} console")
    with outside("console open"):
        try:
            if there.path is None:
                where = (there.address or "127.0.0.1", there.port)
                made = in_netns(netns, socket.create_connection, where, CONNECT_SECONDS)
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return Descriptor(made.detach())
            wire = Descriptor(os.open(there.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError as error:
            raise HostError(f"the console of server {server_id} cannot be opened: {error.strerror}") from error
    # The terminal's name may have become another's meanwhile, if the guest ended right then.
    if find(conn, server_id, cloud_id, console_type) != there:
        wire.close()
        raise HostError(f"the guest of server {server_id} does not run")
    return wire
