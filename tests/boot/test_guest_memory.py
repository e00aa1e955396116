"""What an emulated guest of 128 MB takes of its host, with its kernel given: QEMU then holds a copy of that, too."""

import os
from pathlib import Path
from typing import Any

import pytest
from clouds import BUILT, RunningCloud, wait_for

from kilonova.host.dataplane import load
from kilonova.host.dataplane.guests import guest_pids

pytestmark = [pytest.mark.guest, pytest.mark.skipif(os.getuid() != 0, reason="a real host needs root")]
MIB = 1 << 20
MOST, SETTLED = 200 * MIB, 176 * MIB


@pytest.mark.timeout(300)
def test_a_guest_gives_back_the_memory_that_it_does_not_need(tmp_path: Path) -> None:
    cloud = RunningCloud(tmp_path / "cloud", "auto")
    cloud.up()
    try:
        demo = cloud.connect()
        kernel, ramdisk = upload(demo, "vmlinuz", "aki"), upload(demo, "initrd.img", "ari")
        image = upload(demo, "guest.qcow2", "qcow2", kernel_id=kernel, ramdisk_id=ramdisk)
        networks = [{"uuid": cloud.json["networks"]["demo"]}]
        server = demo.compute.create_server(name="given", flavor_id="1", image_id=image, networks=networks)
        demo.compute.wait_for_server(server)
        seen = [resident(cloud)]

        def settled() -> bool:
            seen.append(resident(cloud))
            return "sshd up" in demo.compute.get_server_console_output(server)["output"] and seen[-1] < SETTLED

        wait_for(settled, 180)
        assert max(seen) < MOST, f"it had {max(seen) // MIB} MiB"
    finally:
        cloud.purge()


def upload(demo: Any, file: str, form: str, **properties: str) -> str:
    container = form if form.startswith("a") else "bare"
    made = demo.image.create_image(
        file, filename=str(BUILT / file), disk_format=form, container_format=container, wait=True, **properties
    )
    return str(made.id)


def resident(cloud: RunningCloud) -> int:
    """Bytes."""
    plane = load(cloud.state)
    assert plane is not None
    [pid] = guest_pids(plane.config)
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
