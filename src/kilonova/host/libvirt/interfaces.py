"""Interfaces of guests that are there: plugged in while they run, and out when the guest has let go.

Nova: `attach_interface` and `detach_interface` of nova/virt/libvirt/driver.py.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

import libvirt

from kilonova.host.libvirt.connection import calling, unless
from kilonova.host.libvirt.volumes import ASK_AGAIN, CONFIG, GONE, LIVE, UNPLUGGING, Guest
from kilonova.model.errors import HostError, Later

DETACH_SECONDS = 60.0  # that a guest has to let go of a card


def find(guest: Guest, mac: str, scope: int) -> ET.Element | None:
    """The guest's <interface> with that address, as it is now (live) or will be (config)."""
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE if scope == CONFIG else 0
    with calling("libvirt XMLDesc"), unless(libvirt.VIR_ERR_NO_DOMAIN):
        for interface in ET.fromstring(guest.domain.XMLDesc(flags)).findall("./devices/interface"):
            address = interface.find("mac")
            if address is not None and address.get("address") == mac:
                return interface
    return None


def attach(guest: Guest, interface: ET.Element, mac: str) -> None:
    """Attached afterwards, to the guest that runs and to its definition; one that has it already is left as it is."""
    for scope in guest.scopes():
        if find(guest, mac, scope) is None:
            with calling("libvirt attachDevice"):
                guest.domain.attachDeviceFlags(ET.tostring(interface, encoding="unicode"), scope)


def detach(guest: Guest, mac: str, patience: float) -> None:
    """Detached from the guest that runs, then from its definition. Raises Later until the guest has acknowledged it, for
    `patience` more seconds; HostError after that."""
    if guest.active and (interface := find(guest, mac, LIVE)) is not None:
        _ask(guest, interface)
        if guest.active and find(guest, mac, LIVE) is not None:
            if patience <= 0:
                raise HostError(f"the guest has not let go of its card {mac}: it may have no system that listens")
            raise Later(min(ASK_AGAIN, patience))
    if (interface := find(guest, mac, CONFIG)) is not None:
        with calling("libvirt detachDevice"), unless(libvirt.VIR_ERR_DEVICE_MISSING, libvirt.VIR_ERR_NO_DOMAIN):
            guest.domain.detachDeviceFlags(ET.tostring(interface, encoding="unicode"), CONFIG)


def _ask(guest: Guest, interface: ET.Element) -> None:
    """device_del; libvirt waits up to five seconds for the guest's answer."""
    with calling("libvirt detachDevice"), unless(libvirt.VIR_ERR_DEVICE_MISSING, *GONE):
        try:
            guest.domain.detachDeviceFlags(ET.tostring(interface, encoding="unicode"), LIVE)
        except libvirt.libvirtError as error:
            if UNPLUGGING not in str(error):
                raise
