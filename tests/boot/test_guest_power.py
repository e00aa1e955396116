"""A real guest's power: by every verb, by itself, by others; and after its host was down. What it had in memory tells."""

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import libvirt
import pytest
from clouds import BIN, BUILT, RunningCloud, wait_for

from kilonova.host.dataplane import load
from kilonova.host.dataplane.guests import guest_pids
from kilonova.host.dataplane.namespaces import delete_namespace, listed_namespaces

pytestmark = [pytest.mark.guest, pytest.mark.skipif(os.getuid() != 0, reason="a real host needs root")]
SYSTEM_ID = "/proc/sys/kernel/random/boot_id"


class Guest:
    """One server with sshd, and what its tests ask of it."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        demo = self.demo
        group = demo.network.create_security_group(name="ssh")
        demo.network.create_security_group_rule(
            security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22
        )
        self.id = demo.compute.create_server(
            name="power", flavor_id="1", image_id=cloud.json["images"]["kilonova-guest"]["id"],
            networks=[{"uuid": cloud.json["networks"]["demo"]}], security_groups=[{"name": "ssh"}],
        ).id  # fmt: skip
        self.comes_to("ACTIVE")

    @property
    def demo(self) -> Any:
        return self.cloud.connect()

    def act(self, action: str, argument: Any = None) -> None:
        body = {action: argument}
        answer = self.demo.compute.post(f"/servers/{self.id}/action", json=body, microversion="2.17")
        assert answer.status_code == 202, answer.text

    def comes_to(self, status: str) -> Any:
        """Without any work under way."""

        def look() -> Any:
            server = self.demo.compute.get_server(self.id)
            assert server.status != "ERROR", server.fault
            return server.status == status and server.task_state is None and server

        return wait_for(look, 120)

    def ssh(self, command: str) -> str:
        """What it prints; retried until sshd answers."""

        def attempt() -> str:
            argv = [BIN / "kilonova", "ssh", "--state", self.cloud.state, self.id, command]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            return done.stdout if done.returncode == 0 else ""

        out: str = wait_for(attempt, 180)
        return out

    def actions(self) -> list[str]:
        found = self.demo.compute.server_actions(self.id)
        return [f"{action.action} {'by the user' if action.user_id else 'by nobody'}" for action in found]

    @property
    def domain(self) -> Any:
        plane = load(self.cloud.state)
        assert plane is not None
        return libvirt.open(plane.libvirt_uri).lookupByUUIDString(self.id)


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    state = tmp_path_factory.mktemp("power") / "cloud"
    cloud = RunningCloud(state, "auto", "--guest-image", str(BUILT / "guest.qcow2")).up()
    yield Guest(cloud)
    cloud.purge()


@pytest.mark.timeout(900)
def test_a_guests_power(guest: Guest) -> None:
    first = guest.ssh(f"cat {SYSTEM_ID}")
    guest.ssh("echo kept > on-disk && sync && echo done")

    guest.act("pause")
    guest.comes_to("PAUSED")
    guest.act("unpause")
    guest.comes_to("ACTIVE")
    assert guest.ssh(f"cat {SYSTEM_ID}") == first

    guest.act("suspend")
    guest.comes_to("SUSPENDED")
    guest.cloud.kilonova("down")  # as a reboot of the host: every guest ends
    guest.cloud.up()
    guest.comes_to("SUSPENDED")
    guest.act("resume")
    guest.comes_to("ACTIVE")
    assert guest.ssh(f"cat {SYSTEM_ID}") == first  # the same system, with the memory it had

    guest.act("reboot", {"type": "SOFT"})
    guest.comes_to("ACTIVE")
    second = guest.ssh(f"cat {SYSTEM_ID}")
    assert second != first
    assert guest.ssh("cat on-disk") == "kept\n"

    guest.act("os-stop")
    assert guest.comes_to("SHUTOFF").power_state == 4
    guest.cloud.kilonova("down")
    guest.cloud.up()
    guest.comes_to("SHUTOFF")  # it was stopped, and stays so
    guest.act("os-start")
    guest.comes_to("ACTIVE")
    third = guest.ssh(f"cat {SYSTEM_ID}")
    guest.cloud.kilonova("down")
    guest.cloud.up()
    guest.comes_to("ACTIVE")  # it ran, and runs again: resume_guests_state_on_host_boot
    assert guest.ssh(f"cat {SYSTEM_ID}") not in (second, third)
    assert guest.ssh("cat on-disk") == "kept\n"

    assert guest.ssh("(sleep 1; sudo poweroff -f) >/dev/null 2>&1 & echo soon") == "soon\n"
    guest.comes_to("SHUTOFF")
    assert guest.actions()[0] == "stop by nobody"
    guest.act("reboot", {"type": "HARD"})
    guest.comes_to("ACTIVE")
    assert guest.ssh("cat on-disk") == "kept\n"
    assert guest.actions()[0] == "reboot by the user"


def test_a_guest_that_others_change(guest: Guest) -> None:
    guest.domain.suspend()
    wait_for(lambda: guest.demo.compute.get_server(guest.id).power_state == 3)
    guest.domain.resume()
    wait_for(lambda: guest.demo.compute.get_server(guest.id).power_state == 1)
    guest.act("trigger_crash_dump")
    plane = load(guest.cloud.state)
    assert plane is not None
    (pid,) = guest_pids(plane.config)
    os.kill(pid, signal.SIGKILL)
    guest.comes_to("SHUTOFF")
    guest.domain.create()
    wait_for(lambda: len(guest.actions()) > 0 and guest.actions()[0] == "stop by nobody")
    guest.comes_to("SHUTOFF")


def test_what_ran_runs_again_when_all_went_but_the_machine(guest: Guest) -> None:
    """As when a container is restarted: no process and no namespace is left, and the machine's boot_id is the same."""
    if guest.demo.compute.get_server(guest.id).status == "SHUTOFF":
        guest.act("os-start")
    guest.comes_to("ACTIVE")
    before = guest.ssh(f"echo kept > on-disk && sync && cat {SYSTEM_ID}")
    plane = load(guest.cloud.state)
    assert plane is not None
    guest.cloud.stop(signal.SIGKILL)
    plane.end_guests(grace=0)
    plane.stop_daemons()
    for name in listed_namespaces(guest.cloud.state):
        delete_namespace(guest.cloud.state, name)
    guest.cloud.up()
    guest.comes_to("ACTIVE")
    assert guest.actions()[0].startswith("resume_state_on_host_boot")
    assert guest.ssh(f"cat {SYSTEM_ID}") != before
    assert guest.ssh("cat on-disk") == "kept\n"


def test_a_rescued_guest_has_its_disk_beside_it(guest: Guest) -> None:
    """Last, since it takes the guest from wherever the tests before have left it."""
    if guest.demo.compute.get_server(guest.id).status == "SHUTOFF":
        guest.act("os-start")
    guest.comes_to("ACTIVE")
    guest.ssh("echo mine > in-trouble && sync && echo done")
    body = {"rescue": {"adminPass": "rescue-me"}}
    answer = guest.demo.compute.post(f"/servers/{guest.id}/action", json=body)
    assert (answer.status_code, answer.json()) == (200, {"adminPass": "rescue-me"})
    guest.comes_to("RESCUE")
    beside = "mkdir /tmp/beside; sudo mount /dev/vdb2 /tmp/beside && cat /tmp/beside/home/*/in-trouble"
    assert guest.ssh(f"ls in-trouble 2>/dev/null; {beside}") == "mine\n"
    guest.act("unrescue")
    guest.comes_to("ACTIVE")
    assert guest.ssh("cat in-trouble") == "mine\n"
    assert not list((guest.cloud.state / "instances" / guest.id).glob("*rescue*"))
