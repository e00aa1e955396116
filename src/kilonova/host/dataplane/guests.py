"""The guests that a cloud has running, and their end: without a database, so that a purge works after anything."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from kilonova.host.calls import outside
from kilonova.host.dataplane import processes
from kilonova.host.dataplane.config import DataPlaneConfig
from kilonova.host.libvirt import domain
from kilonova.host.libvirt.connection import Connection
from kilonova.host.libvirt.secrets import delete_secrets
from kilonova.model.errors import HostError


def guest_pids(config: DataPlaneConfig) -> list[int]:
    """QEMU processes: those in the cloud's namespace; with --host-net those that its libvirtd keeps pid files of."""
    if config.netns_file is not None:
        return [pid for pid in processes.in_netns_file(config.netns_file) if _guest_name(pid)]
    found = []
    for file in (config.run / "libvirt" / "qemu").glob("*.pid"):
        with suppress(OSError, ValueError):
            pid = int(file.read_text())
            if _guest_name(pid) == file.stem:
                found.append(pid)
    return found


def end_guests(config: DataPlaneConfig, grace: float) -> None:
    """SIGTERM, on which QEMU writes out its disks and ends; SIGKILL to what is left after `grace` seconds (0: at once).

    In an existing libvirt of the host's: powered off, those with this cloud's metadata only; and at once means for good,
    undefined with all that libvirt keeps of them, their volumes' passwords included.
    """
    if config.libvirt_uri:
        _end_in_libvirt(config, config.libvirt_uri, for_good=not grace)
    else:
        with outside("end guests"):
            processes.end(guest_pids(config), lambda pid: bool(_guest_name(pid)), grace=grace)


def _end_in_libvirt(config: DataPlaneConfig, uri: str, *, for_good: bool) -> None:
    connection = Connection(uri, patience=2.0)
    try:
        conn = connection.get()
    except HostError:
        return  # no libvirt, no guests: they ended with it, or are not ours to find
    try:
        for server_id in domain.power_states(conn, config.cloud_id):
            if for_good:
                domain.destroy_guest(conn, server_id, config.cloud_id)
            else:
                domain.shut_down_guest(conn, server_id, config.cloud_id, patience=0)
        if for_good:
            delete_secrets(conn, config.cloud_id)
    finally:
        connection.close()


def _guest_name(pid: int) -> str:
    """The libvirt name of the guest that this QEMU runs; empty for any other process."""
    arguments = processes.command_line(pid)
    if not arguments or "qemu" not in Path(arguments[0]).name:
        return ""
    found = re.search(r"(?:^|\0)-name\0guest=([^,\0]+)", "\0".join(arguments))
    return found.group(1) if found else ""
