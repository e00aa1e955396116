"""`kilonova topology`, `path` and `capture` on a real cloud, and the capture's stream given up by its client."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from clouds import BIN, BUILT, RunningCloud, wait_for

pytestmark = [
    pytest.mark.guest,
    pytest.mark.skipif(os.getuid() != 0, reason="a real host needs root"),
    pytest.mark.xdist_group("seeing"),  # one cloud, one server
]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    state = tmp_path_factory.mktemp("seeing") / "cloud"
    made = RunningCloud(state, "auto", "--guest-image", str(BUILT / "guest.qcow2")).up()
    yield made
    made.purge()


@pytest.fixture(scope="module")
def port(cloud: RunningCloud) -> Any:
    """The port of a running server, `seen`."""
    demo = cloud.connect()
    server = demo.compute.create_server(
        name="seen", flavor_id="1", image_id=cloud.json["images"]["kilonova-guest"]["id"],
        networks=[{"uuid": cloud.json["networks"]["demo"]}],
    )  # fmt: skip
    wait_for(lambda: demo.compute.get_server(server.id).status == "ACTIVE")
    return next(iter(demo.network.ports(device_id=server.id)))


def descriptors(cloud: RunningCloud) -> int:
    """Packet sockets that the cloud's process has open in its namespace."""
    lines = subprocess.run(
        ["nsenter", f"--net=/run/netns/{cloud.json['netns']}", "cat", "/proc/net/packet"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return len([line for line in lines[1:] if line.split()[3] == "0003"])


def threads(cloud: RunningCloud) -> int:
    return len(os.listdir(f"/proc/{cloud.json['pid']}/task"))


def test_what_is_there_why_not_and_what_passes(cloud: RunningCloud, port: Any, tmp_path: Path) -> None:
    demo = cloud.connect()
    tree = cloud.kilonova("topology")
    for word in ("network demo", "server seen", f"tap{port.id[:11]}", f"brq{port.network_id[:11]}", "qdhcp-"):
        assert word in tree, tree
    found = json.loads(cloud.kilonova("topology", "--json"))
    assert {"demo", "public"} <= {network["name"] for network in found["networks"]}

    dump = tmp_path / "seen.pcap"
    assert "bytes" in cloud.kilonova("capture", "seen", "-w", str(dump), "--seconds", "60", "--packets", "3")
    read = ["tcpdump", "-nn", "-r", str(dump)]
    assert len(subprocess.run(read, capture_output=True, text=True, check=True).stdout.splitlines()) == 3

    nowhere = tmp_path / "nowhere" / "seen.pcap"
    said = cloud.kilonova("capture", "seen", "-w", str(nowhere), code=1)
    assert said == f"kilonova: cannot write {nowhere}: No such file or directory\n"
    unbound = demo.network.create_port(network_id=port.network_id)
    said = cloud.kilonova("capture", unbound.id, "-w", str(dump), code=1)
    assert "it has no tap to capture" in said and "capturing" not in said

    dhcp = next(iter(p for p in cloud.connect("kilonova-admin").network.ports() if p.device_owner == "network:dhcp"))
    said = cloud.kilonova("path", dhcp.id, "seen", "--port", "22", code=2)
    assert "No rule of the security groups" in said and "say the same" in said, said
    assert "(verdict drop)" in said
    group = demo.network.find_security_group("default")
    demo.network.create_security_group_rule(
        security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22
    )

    def agreed() -> Any:
        told = json.loads(cloud.kilonova("path", dhcp.id, "seen", "--port", "22", "--json"))
        return told if told["live"]["agrees"] else None

    assert wait_for(agreed)["reachable"] is True
    given_up(cloud, port.id)


def given_up(cloud: RunningCloud, port: str) -> None:
    """A client that goes away leaves neither a socket nor a thread; a dozen of them neither."""
    token = cloud.connect().auth_token
    url = f"{cloud.json['url']}/network/v2.0/kilonova/ports/{port}/capture"
    headers = {"X-Auth-Token": token}
    refused = httpx.get(f"{url}?seconds=0", headers=headers)
    assert (refused.status_code, refused.json()["NeutronError"]["type"]) == (400, "InvalidInput")
    sockets = descriptors(cloud)
    before = 0
    for turn in range(4):
        for _ in range(3):
            with httpx.stream("GET", f"{url}?seconds=600", headers=headers) as answer:
                assert answer.headers["content-type"] == "application/vnd.tcpdump.pcap"
                pieces = answer.iter_raw()  # closes the answer when it goes
                assert next(pieces)[:4] == b"\x4d\x3c\xb2\xa1"
                assert descriptors(cloud) > sockets
            wait_for(lambda: descriptors(cloud) == sockets, 10)
        if turn == 0:
            before = threads(cloud)
    assert threads(cloud) <= before + 1


def test_a_stop_ends_a_running_capture(cloud: RunningCloud, port: Any) -> None:
    argv = [BIN / "kilonova", "capture", "--state", cloud.state, port.id, "-w", "/dev/null"]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None and "capturing" in running.stderr.readline()
        time.sleep(1)
        watch = threading.Timer(60, running.kill)
        watch.start()
        assert cloud.stop() == 0
        running.wait(30)
        watch.cancel()
    cloud.up()
