"""The kernel's iSCSI initiator, where there is one: a volume is a disk below /dev/disk/by-path, and goes again."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kilonova.host.dataplane.daemons import TGTD
from kilonova.host.libvirt import initiator
from kilonova.host.storage import BackendConfig, IscsiBackend
from kilonova.model.errors import HostError
from kilonova.model.ids import new_id
from kilonova.model.specs import VolumeSpec

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not initiator.kernel_initiator(),
    reason="this kernel has no iSCSI initiator, or open-iscsi is not installed",
)


def test_a_volume_is_a_disk_of_the_kernels(tmp_path: Path) -> None:
    portal, targets = "127.0.0.1:13260", tmp_path / "volumes" / ".targets"
    program = shutil.which("tgtd") or ""
    tgtd = subprocess.Popen(
        [sys.executable, "-I", "-S", TGTD, f"--pid-file={tmp_path}/pid", program, tmp_path / "tgt", portal, targets]
    )
    config = BackendConfig("iscsi", tmp_path / "volumes" / "iscsi", tmp_path, new_id(), portal=portal)
    backend = IscsiBackend(config)
    try:
        backend.create("volume-1", 1)
        info = wait_for(lambda: backend.connect("volume-1"))
        volume = VolumeSpec(id="1", driver_volume_type="iscsi", connection=info)
        for _ in range(2):
            disk = initiator.login(volume)
        assert disk.name == f"ip-{portal}-iscsi-iqn.2010-10.org.openstack:volume-1-lun-1"
        with disk.open("r+b") as file:
            file.write(b"a guest.")
            file.flush()
            os.fsync(file.fileno())
        for _ in range(2):
            initiator.logout(volume)
        assert not disk.exists()
        with backend.local_path("volume-1") as path, path.open("rb") as file:
            assert file.read(8) == b"a guest."
        wrong = {**info, "data": {**info["data"], "auth_password": "0123456789abcdef"}}
        with pytest.raises(HostError, match="authorization failure"):
            initiator.login(VolumeSpec(id="1", driver_volume_type="iscsi", connection=wrong))
        initiator.logout(volume)
    finally:
        tgtd.kill()
        tgtd.wait()


def wait_for(act):
    """tgtd listens a moment later."""
    for _ in range(200):
        try:
            return act()
        except HostError as error:
            last = error
            subprocess.run(["sleep", "0.05"], check=False)
    raise last
