"""The whole, for real: a cloud in its namespaces, a guest, a login, a restart round it, and nothing left behind."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clouds import BIN, BUILT, RunningCloud, wait_for

pytestmark = [pytest.mark.guest, pytest.mark.skipif(os.getuid() != 0, reason="a real host needs root")]


def machine() -> dict[str, set[str]]:
    """What of the machine a cloud could change."""
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    spaces = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    return {
        "links": {line.split()[0].partition("@")[0] for line in links.splitlines()},
        "namespaces": {line.split()[0] for line in spaces.splitlines() if line},
    }


@pytest.fixture(scope="module", params=["bridge", "tap"])
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    state = tmp_path_factory.mktemp("real") / "cloud"
    options = ("--vif-type", request.param, "--guest-image", str(BUILT / "guest.qcow2"))
    made = RunningCloud(state, "auto", *options).up()
    netns, cloud_id = made.json["netns"], made.json["id"]
    networks = [network.id for network in made.connect("kilonova-admin").network.networks()]
    yield made
    made.purge()
    left = machine()
    assert netns not in left["namespaces"] and netns not in left["links"]
    assert not {f"qdhcp-{network}" for network in networks} & left["namespaces"]
    assert not Path("/run/kilonova", cloud_id[:8]).exists()
    assert not state.exists()


def ssh(cloud: RunningCloud, server: Any, command: str) -> str:
    """What `command` prints in the guest; retried until sshd answers."""

    def attempt() -> str:
        argv = [BIN / "kilonova", "ssh", "--state", cloud.state, server.id, command]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else ""

    out: str = wait_for(attempt, 180)
    return out


def test_a_guest_boots_is_reached_and_outlives_the_process(cloud: RunningCloud) -> None:
    demo = cloud.connect()
    group = demo.network.create_security_group(name="ssh")
    demo.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22
    )
    key = demo.compute.create_keypair(name="real")
    server = demo.compute.create_server(
        name="real", flavor_id="1", key_name=key.name, image_id=cloud.json["images"]["kilonova-guest"]["id"],
        networks=[{"uuid": cloud.json["networks"]["demo"]}], security_groups=[{"name": "ssh"}],
    )  # fmt: skip
    active = wait_for(lambda: (s := demo.compute.get_server(server.id)).status in ("ACTIVE", "ERROR") and s)
    assert active.status == "ACTIVE", active.fault
    assert "Linux real" in ssh(cloud, server, "uname -a")
    assert server.id in ssh(cloud, server, "wget -q -O - http://169.254.169.254/openstack/latest/meta_data.json")
    for home in ("/home/cirros", "/root"):
        assert key.public_key.strip() in ssh(cloud, server, f"sudo cat {home}/.ssh/authorized_keys")
    assert "login:" in demo.compute.get_server_console_output(server.id)["output"]
    boot_id = ssh(cloud, server, "cat /proc/sys/kernel/random/boot_id")
    assert cloud.stop() == 0
    cloud.up()
    assert ssh(cloud, server, "cat /proc/sys/kernel/random/boot_id") == boot_id
    demo = cloud.connect()
    assert demo.compute.get_server(server.id).status == "ACTIVE"
    cloud.kilonova("down")  # ends the guest; the next `up` brings it back, its disk as it was
    cloud.up()
    demo = cloud.connect()
    wait_for(lambda: demo.compute.get_server(server.id).status == "ACTIVE")
    assert ssh(cloud, server, "cat /proc/sys/kernel/random/boot_id") != boot_id
    demo.compute.delete_server(server.id)
    demo.compute.wait_for_delete(server, interval=0.2, wait=60)
    assert list((cloud.state / "instances").glob("????????-*")) == []
