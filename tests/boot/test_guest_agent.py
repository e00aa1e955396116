"""What needs the agent inside the guest: a new password, and an image of file systems that hold still."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clouds import BUILT, RunningCloud, wait_for
from test_data_kept import Walk
from test_real_cloud import ssh

pytestmark = [pytest.mark.guest, pytest.mark.skipif(os.getuid() != 0, reason="a real host needs root")]

PASSWORD = "longer than eight"
ROOT_AT = (1 + 36) << 20  # of the guest image: guest/build.sh


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    made = RunningCloud(tmp_path_factory.mktemp("agent") / "cloud", "auto", "--guest-image", str(BUILT / "guest.qcow2"))
    yield made.up()
    made.purge()


@pytest.fixture(scope="module")
def server(cloud: RunningCloud) -> Any:
    demo = cloud.connect()
    promised = {"hw_qemu_guest_agent": "yes", "os_require_quiesce": "yes"}
    image = demo.image.create_image(
        "with-agent", filename=str(BUILT / "guest.qcow2"), disk_format="qcow2", container_format="bare", wait=True,
        **promised,
    )  # fmt: skip
    return Walk(cloud).server("asked", image.id)


def changed(cloud: RunningCloud, server: Any) -> bool:
    """Whether the agent did it: 409 until the guest has started one."""
    wish = {"changePassword": {"adminPass": PASSWORD}}
    answer = cloud.connect().compute.post(f"/servers/{server.id}/action", json=wish)
    assert answer.status_code == 202 or "QEMU guest agent" in answer.text, answer.text
    return bool(answer.status_code == 202)


@pytest.mark.timeout(300)
def test_the_administrator_logs_in_with_the_password_that_the_agent_set(cloud: RunningCloud, server: Any) -> None:
    wait_for(lambda: changed(cloud, server), 180)
    login = "DROPBEAR_PASSWORD='{}' dbclient -y root@localhost id -un 2>&1 || true"
    assert ssh(cloud, server, login.format(PASSWORD)).splitlines()[-1] == "root"
    assert "root" not in ssh(cloud, server, login.format(PASSWORD[:8])).splitlines()


@pytest.mark.timeout(300)
def test_an_image_is_of_file_systems_that_hold_still(cloud: RunningCloud, server: Any, tmp_path: Path) -> None:
    wait_for(lambda: changed(cloud, server), 180)
    demo = cloud.connect()
    ssh(cloud, server, "echo kept > kept; echo ok")  # nobody says `sync`
    image = demo.image.get_image(demo.compute.create_server_image(server, name="still", wait=True, timeout=120))
    assert image.status == "active"
    said = demo.compute.get_server_console_output(server)["output"]
    assert said.index("file systems: freeze") < said.rindex("file systems: thaw")

    stored, root = tmp_path / "still.qcow2", tmp_path / "root.ext4"
    demo.image.download_image(image, output=str(stored))
    skip = ["-f", "qcow2", "-O", "raw", f"if={stored}", f"of={root}", "bs=1M", f"skip={ROOT_AT >> 20}"]
    subprocess.run(["qemu-img", "dd", *skip], check=True)
    assert debugfs(root, "cat /home/cirros/kept") == "kept\n"
    assert "needs_recovery" not in debugfs(root, "features")  # its journal is empty, as behind an unmount


def debugfs(disk: Path, request: str) -> str:
    done = subprocess.run(["/sbin/debugfs", "-R", request, disk], capture_output=True, text=True, check=True)
    return done.stdout
