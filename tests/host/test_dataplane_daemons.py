"""A libvirt of its own: started, adopted round living guests after any death, ended without a trace. All real."""

import os
import stat
import threading
import time
from pathlib import Path

import pytest
from planelab import PlaneLab, kill9, start_guest, traces

from kilonova.host.dataplane import DataPlane, load
from kilonova.host.dataplane.daemons import Daemons
from kilonova.host.dataplane.processes import command_line
from kilonova.host.libvirt.connection import Connection
from kilonova.model.errors import HostError

pytestmark = pytest.mark.xdist_group("libvirtd")


@pytest.fixture
def lab(tmp_path):
    made = PlaneLab(tmp_path)
    yield made
    made.close()


@pytest.fixture
def plane(lab):
    return DataPlane.ensure(lab.config())


@pytest.fixture
def conn(plane):
    made = Connection(plane.libvirt_uri)
    yield made
    made.close()


def lives(pid: int) -> bool:
    return any("qemu" in argument for argument in command_line(pid))


def same_netns(pid: int, plane: DataPlane) -> bool:
    return Path(f"/proc/{pid}/ns/net").samefile(plane.netns_path)


def test_two_clouds_side_by_side(lab, plane, conn):
    other = DataPlane.ensure(lab.config())
    second = Connection(other.libvirt_uri)
    mine, theirs = start_guest(plane, conn), start_guest(other, second)
    assert same_netns(mine, plane)
    assert same_netns(theirs, other)
    assert [len(each.get().listAllDomains()) for each in (conn, second)] == [1, 1]
    uuids = {_host_uuid(each) for each in (conn, second)}
    assert len(uuids) == 2
    second.close()
    other.purge()
    assert traces(other.config) == {}
    assert lives(mine)
    assert _host_uuid(conn) in uuids


def _host_uuid(conn: Connection) -> str:
    return conn.get().getCapabilities().split("<uuid>")[1].split("<")[0]


def test_what_runs_is_in_the_clouds_own_namespaces_and_session(plane):
    status = plane.status()
    assert status.namespace
    assert status.guests == 0
    for pid in (status.reaper, status.libvirtd, status.virtlogd):
        assert same_netns(pid, plane)
        assert os.getsid(pid) == status.reaper != os.getsid(0)
        mounts = Path(f"/proc/{pid}/mountinfo").read_text()
        assert not Path(f"/proc/{pid}/ns/mnt").samefile("/proc/self/ns/mnt")
        for target in ("/var/lib/libvirt", "/etc/libvirt", "/var/log/libvirt", "/var/cache/libvirt", "/run/libvirt"):
            assert f" {target} " in mounts
    assert str(plane.config.state) not in Path("/proc/self/mountinfo").read_text()  # nothing comes out to the host
    assert sorted(os.listdir(f"/proc/{status.libvirtd}/root/sys/class/net")) == ["br-ex", "lo", "uplink"]
    assert len(plane.libvirt_uri.split("=")[1]) < 60
    socket_mode = stat.S_IMODE(os.stat(Daemons(plane.config).socket).st_mode)
    assert socket_mode == 0o700


def test_a_second_time_adopts(plane):
    before = plane.status()
    assert DataPlane.ensure(plane.config).status() == before
    assert load(plane.config.state).status() == before


def test_a_killed_libvirtd_is_back_and_takes_its_guest_with_it(plane, conn):
    guest = start_guest(plane, conn)
    before = plane.status()
    kill9(plane, "libvirtd")
    names = [domain.isActive() for domain in conn.get().listAllDomains()]
    after = plane.status()
    assert names == [1]
    assert lives(guest)
    assert after.libvirtd != before.libvirtd
    assert (after.reaper, after.virtlogd, after.guests) == (before.reaper, before.virtlogd, 1)


@pytest.mark.parametrize("dead", [("reaper",), ("reaper", "libvirtd"), ("reaper", "libvirtd", "virtlogd")])
def test_after_kill_9_all_is_rebuilt_round_a_living_guest(plane, conn, dead):
    guest = start_guest(plane, conn)
    before = plane.status()
    kill9(plane, *dead)
    plane.ensure_daemons()
    after = plane.status()
    assert lives(guest)
    assert after.guests == 1
    assert after.reaper not in (None, before.reaper)
    assert after.libvirtd not in (None, before.libvirtd)
    # The guest's console goes through virtlogd: one that lives is kept.
    assert (after.virtlogd == before.virtlogd) == ("virtlogd" not in dead)
    assert not Path(f"/proc/{after.libvirtd}/ns/mnt").samefile(f"/proc/{guest}/ns/mnt")
    (domain,) = conn.get().listAllDomains()
    assert domain.isActive()
    domain.resume()
    assert domain.state()[0] == 1  # running


def test_stopped_daemons_leave_guests_and_the_next_start_adopts_them(plane, conn):
    guest = start_guest(plane, conn)
    plane.stop_daemons()
    status = plane.status()
    assert (status.reaper, status.libvirtd, status.virtlogd, status.guests) == (None, None, None, 1)
    assert lives(guest)
    plane.ensure_daemons()
    assert [domain.isActive() for domain in conn.get().listAllDomains()] == [1]


def test_a_destroyed_guest_is_collected_at_once(plane, conn):
    """Without a reaper of our own, libvirt waits for a slow init: two seconds where this takes tenths."""
    guest = start_guest(plane, conn)
    assert Path(f"/proc/{guest}/status").read_text().split("PPid:\t")[1].startswith(f"{plane.status().reaper}\n")
    (domain,) = conn.get().listAllDomains()
    domain.destroy()
    assert not Path(f"/proc/{guest}").exists()


def test_daemons_of_a_namespace_that_is_no_more_are_replaced(plane):
    before = plane.status()
    from kilonova.host.calls import run

    run(["ip", "netns", "delete", plane.netns])
    after = DataPlane.ensure(plane.config).status()
    assert after.libvirtd != before.libvirtd
    assert same_netns(after.libvirtd, plane)
    assert not Path(f"/proc/{before.libvirtd}/exe").exists()


@pytest.mark.parametrize("dead", [(), ("reaper", "libvirtd", "virtlogd")])
def test_purge_with_a_guest_leaves_nothing(plane, conn, dead):
    guest = start_guest(plane, conn)
    kill9(plane, *dead)
    conn.close()
    plane.purge()
    assert not lives(guest)
    assert traces(plane.config) == {}


def test_guests_end_with_a_chance_to_write_out_their_disks(plane, conn):
    guest = start_guest(plane, conn)
    plane.end_guests()
    assert not lives(guest)
    log = next((plane.config.libvirt_dir / "log" / "qemu").glob("*.log"))
    deadline = time.monotonic() + 30
    while "terminating on signal 15" not in log.read_text():  # virtlogd writes it a moment later
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_host_net_has_a_libvirtd_of_its_own_too(lab):
    plane = DataPlane.ensure(lab.config(host_net=True))
    conn = Connection(plane.libvirt_uri)
    guest = start_guest(plane, conn)
    conn.close()
    assert Path(f"/proc/{guest}/ns/net").samefile("/proc/self/ns/net")
    assert plane.status().guests == 1
    kill9(plane, "reaper", "libvirtd")
    plane.purge()
    assert not lives(guest)
    assert traces(plane.config) == {}


def test_in_an_existing_libvirt_only_ones_own_guests_end(lab):
    owner = DataPlane.ensure(lab.config(host_net=True))
    tenant = DataPlane.ensure(lab.config(host_net=True, libvirt_uri=owner.libvirt_uri))
    conn = Connection(owner.libvirt_uri)
    theirs = start_guest(owner, conn)
    ours = start_guest(owner, conn, cloud_id=tenant.config.cloud_id)
    tenant.purge()
    assert lives(theirs)
    assert not lives(ours)
    assert len(conn.get().listAllDomains()) == 1
    assert owner.status().libvirtd
    conn.close()


def test_daemons_that_do_not_come_up_say_why(lab, monkeypatch):
    plane = lab.network()
    from kilonova.host.dataplane import daemons

    monkeypatch.setattr(daemons, "QEMU_CONF", 'stdio_handler = "nonsense"\n')
    plane.ensure_daemons(wait=False)
    with pytest.raises(HostError, match="Unknown stdio handler nonsense"):
        plane.wait_for_daemons(1.0)


def test_idle_daemons_are_small(plane):
    """Their part of the 150 MiB of an idle cloud, in KiB of resident memory."""
    status = plane.status()
    resident = {pid: _rss(pid) for pid in (status.reaper, status.libvirtd, status.virtlogd)}
    assert sum(resident.values()) < 60 * 1024
    assert resident[status.reaper] < 16 * 1024


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0])


# The connection


def test_one_connection_serves_all_threads_and_comes_back(plane, conn):
    first = conn.get()
    assert conn.get() is first
    kill9(plane, "libvirtd")
    found, errors = [], []

    def use():
        try:
            found.append(conn.get().getHostname())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(found) == 8
    assert conn.get() is not first
    conn.close()
    assert conn.get().isAlive()


def test_a_libvirt_that_is_not_there_is_told_after_some_patience(tmp_path):
    with pytest.raises(HostError, match="cannot be reached"):
        Connection(f"qemu+unix:///system?socket={tmp_path}/none", patience=0.2).get()
