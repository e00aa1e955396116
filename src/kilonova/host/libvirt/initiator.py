"""The kernel's iSCSI initiator, where there is one: volumes are then block devices below /dev/disk/by-path.

os-brick: `os_brick/initiator/connectors/iscsi.py`. A kernel initiator belongs to the root network namespace; in a
namespace of the cloud's own, and where the kernel has none, QEMU is the initiator and this file is not used.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from kilonova.host.calls import outside, run
from kilonova.host.libvirt.volume_xml import by_path, connection_data
from kilonova.model.errors import HostError
from kilonova.model.specs import VolumeSpec

TRANSPORT = Path("/sys/class/iscsi_transport/tcp")
PATIENCE = 30.0  # seconds for udev to name the disk
NO_RECORDS, NO_SESSION = "No records found", "No matching sessions"


def kernel_initiator() -> bool:
    return TRANSPORT.exists() and shutil.which("iscsiadm") is not None


def login(volume: VolumeSpec) -> Path:
    """A session afterwards; returns its disk's path. Raises HostError when the target refuses, or no disk appears."""
    data = connection_data(volume)
    path = Path(by_path(data))
    if not path.exists():
        _node(data, "--op", "new")
        for name in ("auth_method", "auth_username", "auth_password"):
            if data.get(name):
                setting = {"auth_method": "authmethod", "auth_username": "username", "auth_password": "password"}[name]
                _node(data, "--op", "update", "-n", f"node.session.auth.{setting}", "-v", data[name])
        _node(data, "--login", unless="already present")
    deadline = time.monotonic() + PATIENCE
    with outside(f"wait for {path.name}"):
        while not path.exists():
            if time.monotonic() > deadline:
                raise HostError(f"the iSCSI disk {path} did not appear in {PATIENCE:g} s")
            time.sleep(0.1)
    return path


def logout(volume: VolumeSpec) -> None:
    data = connection_data(volume)
    _node(data, "--logout", unless=NO_SESSION)
    _node(data, "--op", "delete", unless=NO_RECORDS)


def _node(data: dict[str, str], *arguments: str, unless: str = "\0") -> None:
    try:
        run(["iscsiadm", "-m", "node", "-T", data["target_iqn"], "-p", data["target_portal"], *arguments])
    except HostError as error:
        if unless not in str(error) and NO_RECORDS not in str(error):
            raise
