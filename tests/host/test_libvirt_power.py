"""The verbs on a guest's power, on a real libvirt: each twice, crashed at each of its calls, from where it makes no sense."""

import dataclasses
import os
import signal
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Any

import libvirt
import msgspec
import pytest
from guestlab import PORT
from test_libvirt_steps import CREATE, Lab, crash_at, pytestmark  # noqa: F401

from kilonova.host.contract import Work
from kilonova.host.dataplane.guests import end_guests, guest_pids
from kilonova.loops.power import PowerLoop
from kilonova.model.errors import HostError, Later
from kilonova.model.specs import ServerSpec

PAUSED, RUNNING, SHUTDOWN = 3, 1, 4
# verb → what the guest did before it, and its power afterwards
VERBS: dict[str, tuple[tuple[str, ...], int]] = {
    "pause_guest": ((), PAUSED),
    "resume_guest": (("pause_guest",), RUNNING),
    "suspend_guest": ((), SHUTDOWN),
    "restore_guest": (("suspend_guest",), PAUSED),
    "power_off_guest": ((), SHUTDOWN),
    "create_guest": (("power_off_guest",), PAUSED),
    "inject_nmi": ((), RUNNING),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("power"))
    yield lab
    lab.close()


@pytest.fixture(scope="module", params=["bridge", "tap"])
def made(lab: Lab, request: pytest.FixtureRequest) -> Iterator[ServerSpec]:
    """A guest that its tests share; a BIOS that finds no system never answers a power button."""
    made = lab.with_vif(request.param)
    results: dict[str, Any] = {}
    for step in CREATE:
        lab.do(step, made, results)
    yield made
    lab.undo(made)
    assert lab.left() == {}


def put(lab: Lab, made: ServerSpec, before: tuple[str, ...]) -> None:
    """The guest running, whatever it did; then what is asked for."""
    results: dict[str, Any] = {}
    for step in ("power_off_guest", "get_guest_xml", "plug_vifs", "create_guest", "resume_guest", *before):
        lab.do(step, made, results)


def do(lab: Lab, made: ServerSpec, verb: str) -> None:
    results = {"get_guest_xml": lab.host.get_guest_xml(Work(server=made))}
    lab.do(verb, made, results)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_twice_ends_as_once_and_so_it_does_when_it_dies_anywhere(lab: Lab, made: ServerSpec, verb: str) -> None:
    before, power = VERBS[verb]
    edge, where = 1, "not yet"
    while where:
        put(lab, made, before)
        where = crash_at(edge, lambda: do(lab, made, verb))
        do(lab, made, verb)
        assert lab.host.power_states() == {made.id: power}, where
        once = lab.picture(made)
        do(lab, made, verb)
        assert lab.picture(made) == once
        edge += 1
    assert edge > 3


@pytest.mark.parametrize("before", [("pause_guest",), ("suspend_guest",), ("power_off_guest",)])
def test_a_start_from_anywhere_is_from_off(lab: Lab, made: ServerSpec, before: tuple[str, ...]) -> None:
    """A hard reboot: memory that was saved is not what the guest wakes up with."""
    put(lab, made, before)
    put(lab, made, ())
    assert lab.host.power_states() == {made.id: RUNNING}
    found = lab.host.connection.get().lookupByUUIDString(made.id)
    assert not found.hasManagedSaveImage()
    assert PORT.tap in {name for name, _ in lab.picture(made)["links"]}


def test_a_guest_that_does_not_listen_loses_its_power_in_the_end(lab: Lab, made: ServerSpec) -> None:
    put(lab, made, ())
    with pytest.raises(Later) as later:
        lab.host.shut_down_guest(Work(server=made, waited=1.0))
    assert (later.value.seconds, later.value.waits_for) == (10.0, f"guest:{made.id}")
    assert lab.host.power_states() == {made.id: RUNNING}
    lab.host.shut_down_guest(Work(server=made, waited=61.0))
    assert lab.host.power_states() == {made.id: SHUTDOWN}
    lab.host.shut_down_guest(Work(server=made))  # it is off: nothing to wait for


def test_the_image_says_how_long_a_guest_may_take(lab: Lab, made: ServerSpec) -> None:
    assert made.image is not None
    image = msgspec.structs.replace(made.image, properties={"os_shutdown_timeout": "0"})
    put(lab, made, ())
    lab.host.shut_down_guest(Work(server=msgspec.structs.replace(made, image=image)))
    assert lab.host.power_states() == {made.id: SHUTDOWN}


def test_who_is_paused_is_not_asked(lab: Lab, made: ServerSpec) -> None:
    put(lab, made, ("pause_guest",))
    lab.host.shut_down_guest(Work(server=made))
    assert lab.host.power_states() == {made.id: SHUTDOWN}


@pytest.mark.parametrize("verb", ["pause_guest", "suspend_guest", "resume_guest", "inject_nmi"])
def test_what_needs_a_running_guest_says_so(lab: Lab, made: ServerSpec, verb: str) -> None:
    put(lab, made, ("power_off_guest",))
    with pytest.raises(HostError):
        do(lab, made, verb)
    assert lab.host.power_states() == {made.id: SHUTDOWN}


def test_a_guest_without_saved_memory_is_started_anew(lab: Lab, made: ServerSpec) -> None:
    put(lab, made, ("suspend_guest",))
    lab.host.connection.get().lookupByUUIDString(made.id).managedSaveRemove()
    do(lab, made, "restore_guest")
    assert lab.host.power_states() == {made.id: PAUSED}


def test_diagnostics_of_a_guest_that_runs_and_of_one_that_is_off(lab: Lab, made: ServerSpec) -> None:
    put(lab, made, ())
    for _ in range(300):
        found = lab.host.diagnostics(made.id)
        if found["disks"][0]["read_bytes"]:
            break  # the BIOS has looked for a system
        time.sleep(0.1)
    assert found["power_state"] == RUNNING
    assert found["max_memory_kib"] == 64 * 1024
    assert len(found["cpu_times"]) == 1
    assert [disk["dev"] for disk in found["disks"]] == ["vda", "hda"]
    assert found["disks"][0]["read_bytes"] > 0
    assert [(nic["mac_address"], nic["dev"]) for nic in found["nics"]] == [(PORT.mac_address, PORT.tap)]
    assert found["nics"][0]["rx_octets"] is not None
    put(lab, made, ("power_off_guest",))
    off = lab.host.diagnostics(made.id)
    assert (off["power_state"], off["max_memory_kib"]) == (SHUTDOWN, 64 * 1024)
    assert not off["disks"]


def test_guests_in_a_libvirt_of_the_hosts_keep_the_memory_they_saved(lab: Lab, made: ServerSpec) -> None:
    config = dataclasses.replace(lab.plane.config, libvirt_uri=lab.plane.libvirt_uri)
    put(lab, made, ())
    end_guests(config, grace=5.0)
    assert lab.host.power_states() == {made.id: SHUTDOWN}
    put(lab, made, ("suspend_guest",))
    end_guests(config, grace=5.0)
    do(lab, made, "restore_guest")
    assert lab.host.power_states() == {made.id: PAUSED}
    end_guests(config, grace=0)
    assert lab.host.power_states() == {}


RESCUE = {"legacy": {}, "stable": {"hw_rescue_device": "cdrom", "hw_rescue_bus": "ide"}}
WHERE = {  # device → its file, in a rescue of each kind
    "legacy": [("vda", "disk.rescue"), ("vdb", "disk"), ("hda", "disk.config.rescue")],
    "stable": [("vda", "disk"), ("hda", "disk.config"), ("hdb", "disk.rescue")],
}


@pytest.mark.parametrize("kind", RESCUE)
def test_a_rescued_guest_has_its_own_disks_beside_another(lab: Lab, made: ServerSpec, kind: str) -> None:
    """Each step dies at each of its calls first."""
    assert made.image is not None
    other = msgspec.structs.replace(made.image, id="5e5c0e00-0000-4000-8000-000000000001", properties=RESCUE[kind])
    rescued = msgspec.structs.replace(made, rescue=other)
    put(lab, made, ())
    files = lab.picture(made)["files"]
    edge, where = 1, "not yet"
    while where:
        where = crash_at(edge, lambda: lab.do("prepare_rescue_disks", rescued, {}))
        lab.do("prepare_rescue_disks", rescued, {})
        edge += 1 if where else 0
    put(lab, rescued, ())
    found = ET.fromstring(lab.host.connection.get().lookupByUUIDString(made.id).XMLDesc())
    disks = [
        (disk.find("target").get("dev"), disk.find("source").get("file").rpartition("/")[2])  # type: ignore[union-attr]
        for disk in found.iterfind("./devices/disk")
    ]
    assert disks == WHERE[kind]
    assert lab.host.power_states() == {made.id: RUNNING}
    do(lab, rescued, "power_off_guest")
    edge, where = 1, "not yet"
    while where:
        lab.do("prepare_rescue_disks", rescued, {})
        where = crash_at(edge, lambda: lab.do("drop_rescue_disks", made, {}))
        lab.do("drop_rescue_disks", made, {})
        assert lab.picture(made)["files"] == files
        edge += 1
    put(lab, made, ())


class Seen:
    """What a power loop reports that never looks by itself."""

    def __init__(self, lab: Lab) -> None:
        self.states: list[dict[str, int]] = []
        self.loop = PowerLoop(lab.host.power_states, self.report, watch=lab.host.watch_guests, interval=3600.0)

    def report(self, seen: dict[str, int], age: float) -> bool:
        self.states.append(seen)
        return False

    def comes_to(self, made: ServerSpec, power: int) -> None:
        deadline = time.monotonic() + 60
        while not self.states or self.states[-1] != {made.id: power}:
            assert time.monotonic() < deadline, self.states
            time.sleep(0.01)


@pytest.fixture
def seen(lab: Lab, made: ServerSpec) -> Iterator[Seen]:
    put(lab, made, ())
    seen = Seen(lab)
    seen.loop.start()
    seen.comes_to(made, RUNNING)
    yield seen
    seen.loop.stop()


def test_a_guest_that_others_change_is_seen_by_libvirts_events(lab: Lab, made: ServerSpec, seen: Seen) -> None:
    """As by virsh: another connection's doing."""
    others = libvirt.open(lab.plane.libvirt_uri).lookupByUUIDString(made.id)
    others.suspend()
    seen.comes_to(made, PAUSED)
    others.resume()
    seen.comes_to(made, RUNNING)
    others.destroy()
    seen.comes_to(made, SHUTDOWN)
    others.create()
    seen.comes_to(made, RUNNING)


def test_a_guest_that_is_killed_is_seen_by_libvirts_events(lab: Lab, made: ServerSpec, seen: Seen) -> None:
    (pid,) = guest_pids(lab.plane.config)
    os.kill(pid, signal.SIGKILL)
    seen.comes_to(made, SHUTDOWN)


def test_a_libvirtd_that_went_away_is_watched_again(lab: Lab, made: ServerSpec, seen: Seen) -> None:
    looks = len(seen.states)
    libvirtd = lab.plane.status().libvirtd
    assert libvirtd is not None
    os.kill(libvirtd, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while len(seen.states) == looks:  # any guest may have changed meanwhile
        assert time.monotonic() < deadline
        time.sleep(0.01)
    lab.do("pause_guest", made, {})
    seen.comes_to(made, PAUSED)
