"""`kilonova up --virt fake` with the stock clients: no root, no libvirt, the same flows and events."""

import ctypes
import platform
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openstack
import pytest
from clouds import RunningCloud, wait_for

SECURITY = ("--security", "password_regex=.{9,}", "--security", "password_regex_description=nine characters")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    made = RunningCloud(
        tmp_path_factory.mktemp("fake") / "cloud", "fake", "--public-cidr", "10.250.0.0/29", *SECURITY
    ).up()
    yield made
    made.purge()
    assert not made.state.exists()


def test_what_a_new_cloud_has(cloud: RunningCloud) -> None:
    admin = cloud.connect("kilonova-admin")
    assert {"kilonova-guest", "kilonova-guest-alt"} <= {i.name for i in admin.image.images() if i.status == "active"}
    flavors = [flavor.name for flavor in sorted(admin.compute.flavors(), key=lambda flavor: flavor.ram)]
    assert flavors == ["m1.nano", "m1.tiny", "m1.small", "m1.medium", "m1.large"]
    assert {"demo", "public"} <= {network.name for network in admin.network.networks()}
    assert {"admin", "demo"} <= {user.name for user in admin.identity.users()}
    assert {"admin", "manager", "member", "reader", "service"} <= {role.name for role in admin.identity.roles()}
    for file in ("cloud.json", "clouds.yaml"):
        assert stat.S_IMODE((cloud.state / file).stat().st_mode) == 0o600


def test_a_small_public_network_and_rules_for_passwords(cloud: RunningCloud) -> None:
    admin = cloud.connect("kilonova-admin")
    (subnet,) = admin.network.subnets(name="public-subnet")
    assert subnet.allocation_pools == [{"start": "10.250.0.4", "end": "10.250.0.6"}]
    with pytest.raises(openstack.exceptions.BadRequestException, match="nine characters"):
        admin.identity.create_user(name="short", password="eight.88")


def test_the_openstack_client_creates_and_deletes_a_server(cloud: RunningCloud) -> None:
    words = ("server", "create", "--wait", "--flavor", "m1.nano", "--image", "kilonova-guest", "--network", "demo")
    server = cloud.openstack(*words, "by-client", "-f", "json")
    assert server["status"] == "ACTIVE"
    assert server["addresses"]["demo"]
    events = cloud.openstack("server", "event", "list", server["id"], "-f", "json")
    assert [event["Action"] for event in events] == ["create"]
    shown = cloud.openstack("server", "event", "show", server["id"], events[0]["Request ID"], "-f", "json")
    assert "wait_for_vif_plugged" in str(shown)
    assert "set_active" in cloud.kilonova("trace", "by-client")
    cloud.openstack("server", "delete", "--wait", server["id"])
    assert "by-client" not in cloud.openstack("server", "list", "-f", "value")


def test_why_not(cloud: RunningCloud) -> None:
    admin = cloud.connect("kilonova-admin")
    flavor = admin.compute.create_flavor(name="absurd", ram=1 << 30, vcpus=1, disk=1, is_public=True)
    limitless = {"ram": -1, "cores": -1, "instances": -1}
    project = admin.identity.find_project("demo").id
    admin.compute.update_quota_set(project, **limitless)
    demo = cloud.connect()
    image, network = cloud.json["images"]["kilonova-guest"]["id"], cloud.json["networks"]["demo"]
    server = demo.compute.create_server(name="huge", flavor_id=flavor.id, image_id=image, networks=[{"uuid": network}])
    failed = wait_for(lambda: (s := demo.compute.get_server(server.id)).status == "ERROR" and s)
    assert "No valid host was found" in failed.fault["message"]
    assert "MEMORY_MB" in failed.fault["message"] and str(1 << 30) in failed.fault["message"]
    assert demo.list_ports(filters={"device_id": server.id}) == []
    demo.compute.delete_server(server.id)
    admin.compute.delete_flavor(flavor.id)


def test_up_on_a_directory_in_use_names_the_pid(cloud: RunningCloud) -> None:
    assert f"in use by process {cloud.json['pid']}" in cloud.kilonova("up", "--virt", "fake", "--port", "0", code=1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_restart_keeps_passwords_ids_and_servers(tmp_path: Path, number: signal.Signals) -> None:
    cloud = RunningCloud(tmp_path / "cloud", "fake").up()
    demo = cloud.connect()
    image, network = cloud.json["images"]["kilonova-guest"]["id"], cloud.json["networks"]["demo"]
    made = [
        demo.compute.create_server(name=f"s{n}", flavor_id="1", image_id=image, networks=[{"uuid": network}])
        for n in range(3)
    ]
    before = cloud.json
    code = cloud.stop(number)
    assert code == (0 if number != signal.SIGKILL else -9)
    cloud.up()
    kept = ("id", "admin_password", "demo_password", "images", "networks", "flavors")
    assert {key: cloud.json[key] for key in kept} == {key: before[key] for key in kept}
    demo = cloud.connect()
    for server in made:
        wait_for(lambda server=server: demo.compute.get_server(server.id).status == "ACTIVE")
    cloud.purge()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the system call's number is x86_64's")
def test_a_signal_that_another_thread_gets_ends_it_too(tmp_path: Path) -> None:
    cloud = RunningCloud(tmp_path / "cloud", "fake").up()
    assert cloud.process is not None
    pid = cloud.process.pid
    thread = max(int(each.name) for each in Path(f"/proc/{pid}/task").iterdir())
    tgkill = 234
    assert thread != pid and ctypes.CDLL(None).syscall(tgkill, pid, thread, signal.SIGTERM) == 0
    assert cloud.process.wait(60) == 0
    cloud.purge()


def test_what_never_ends_holds_no_stop_up() -> None:
    """As one of a request does that waits for good with the database's writers behind it."""
    stop = "import threading\nfrom kilonova.ending import end_in_time\nend_in_time(threading.Event().wait, seconds=0.2)\n"
    done = subprocess.run([sys.executable, "-c", stop], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "is cut off" in done.stderr) == (0, True)
    wellended = stop.replace("threading.Event().wait", "lambda: None") + "print('to the end')"
    assert subprocess.run([sys.executable, "-c", wellended], capture_output=True, text=True, check=True).stdout
