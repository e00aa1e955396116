"""A namespace of its own, and the wire to it: made, repaired, claimed, removed. On the real kernel."""

import ipaddress
import json
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from planelab import PlaneLab, addresses, in_processes, link, links, sysctl, traces

from kilonova.host.calls import observed, run
from kilonova.host.dataplane import DataPlane, load
from kilonova.host.dataplane.bridge_nf import SWITCHES, ensure_bridge_nf
from kilonova.host.dataplane.machine import Machine, locked, read_json
from kilonova.host.dataplane.nat import IP_FORWARD
from kilonova.host.dataplane.uplink import first_free
from kilonova.host.netns import in_netns
from kilonova.model.errors import HostError

pytestmark = pytest.mark.xdist_group("root-forwarding")  # what they look at is the whole machine's


@pytest.fixture
def lab(tmp_path):
    made = PlaneLab(tmp_path)
    yield made
    made.close()


def test_a_new_cloud_has_a_namespace_and_a_wire(lab):
    plane = lab.network()
    config, network = plane.config, ipaddress.IPv4Network(plane.public_cidr)
    assert network.subnet_of(ipaddress.IPv4Network("172.24.0.0/16"))
    assert network.prefixlen == 24
    assert plane.netns == config.name == f"kn-{config.cloud_id[:8]}"
    assert (config.state / "namespaces").read_text().split() == [plane.netns]
    host_end = link(config.name)
    assert host_end["ifalias"] == f"kilonova:{config.cloud_id}"
    assert len(config.name) <= 15
    assert addresses(config.name) == [f"{plane.gateway}/24"] == [f"{network[1]}/24"]
    assert addresses("br-ex", plane.netns) == [f"{plane.address}/24"]
    assert link("uplink", plane.netns)["master"] == "br-ex"
    assert json.loads(run(["ip", "-n", plane.netns, "-json", "route", "show", "default"]))[0]["gateway"] == plane.gateway
    assert "UP" in link("lo", plane.netns)["flags"]
    for switch in ("iptables", "ip6tables"):
        assert sysctl(f"net/bridge/bridge-nf-call-{switch}", plane.netns) == "1"
    run(["ping", "-c", "1", "-W", "2", plane.gateway], netns=plane.netns)
    run(["ping", "-c", "1", "-W", "2", plane.address])


def test_a_second_time_changes_nothing(lab):
    plane = lab.network()

    def seen():
        there = [link(plane.config.name), *links(plane.netns)]
        lasting = [(each["ifname"], each["ifindex"], each["address"], each.get("master")) for each in there]
        return lasting, (plane.config.state / "dataplane.json").stat().st_mtime_ns

    before = seen()
    assert DataPlane.ensure_network(plane.config) == plane
    assert seen() == before


def half_done(plane: DataPlane) -> dict[str, list[list[str]]]:
    name, netns = plane.config.name, plane.netns
    return {
        "no veth": [["ip", "link", "del", name]],
        "no bridge": [["ip", "-n", netns, "link", "del", "br-ex"]],
        "not a port": [["ip", "-n", netns, "link", "set", "uplink", "nomaster"]],
        "no alias": [["ip", "link", "set", name, "alias", ""]],
        "down": [["ip", "link", "set", name, "down"], ["ip", "-n", netns, "link", "set", "lo", "down"]],
        "no namespace": [["ip", "netns", "delete", netns]],
        "an empty namespace file": [["ip", "netns", "delete", netns], ["touch", f"/run/netns/{netns}"]],
        "a new namespace": [["ip", "netns", "delete", netns], ["ip", "netns", "add", netns]],
        "other addresses": [
            ["ip", "addr", "flush", "dev", name],
            ["ip", "addr", "add", "198.51.100.1/24", "dev", name],
            ["ip", "-n", netns, "addr", "flush", "dev", "br-ex"],
        ],
        "no route": [["ip", "-n", netns, "route", "del", "default"]],
        "no run directory": [["rm", "-r", str(plane.config.run)]],
        "the far end elsewhere": [
            ["ip", "link", "del", name],
            ["ip", "link", "add", name, "type", "veth", "peer", "name", f"x{name[3:]}"],
        ],
    }


def test_any_half_done_state_becomes_right(lab):
    plane = lab.network()
    for what, commands in half_done(plane).items():
        for command in commands:
            run(command)
        assert DataPlane.ensure_network(plane.config).public_cidr == plane.public_cidr, what
        assert addresses(plane.config.name) == [f"{plane.gateway}/24"], what
        assert link(plane.config.name)["ifalias"] == plane.config.alias, what
        assert "UP" in link("lo", plane.netns)["flags"], what
        run(["ping", "-c", "1", "-W", "2", plane.gateway], netns=plane.netns)


class Crash(BaseException):
    """As kill -9: nothing catches it."""


def crash_points(verb) -> int:
    with observed(lambda when, name: points.append(name)):
        points: list[str] = []
        verb()
    return len(points)


def crash(verb, point: int) -> None:
    """Run verb, and die before or after one of the calls by which it leaves the process."""
    seen = []

    def observer(when, name):
        seen.append(name)
        if len(seen) == point + 1:
            raise Crash

    with observed(observer), pytest.raises(Crash):
        verb()


def test_a_crash_at_any_call_of_the_bring_up_is_mended_or_purged(lab):
    example = lab.config(uplink="nat")
    points = crash_points(lambda: DataPlane.ensure_network(example))
    assert points > 12
    for point in range(points):
        config = lab.config(uplink="nat")
        crash(lambda config=config: DataPlane.ensure_network(config), point)
        if point % 2:
            plane = DataPlane.ensure_network(config)
            run(["ping", "-c", "1", "-W", "2", plane.gateway], netns=plane.netns)
        DataPlane(config).purge()
        assert traces(config) == {}, point


def test_a_crash_at_any_call_of_a_purge_leaves_what_the_next_purge_ends(lab):
    example = lab.network(uplink="nat")
    points = crash_points(example.purge)
    assert points > 6
    for point in range(points):
        plane = lab.network(uplink="nat")
        crash(plane.purge, point)
        plane.purge()
        assert traces(plane.config) == {}, point


def test_purge_leaves_nothing_and_does_so_twice(lab):
    plane = lab.network(uplink="nat")
    assert {"namespaces", "links", "tables", "run", "claims", "state"} <= set(traces(plane.config))
    plane.purge()
    assert traces(plane.config) == {}
    plane.purge()
    assert load(plane.config.state) is None


def test_purge_removes_listed_namespaces_and_who_lives_there(lab):
    plane = lab.network()
    name = f"knt-{plane.config.id8}"
    from kilonova.host.dataplane import ensure_namespace

    ensure_namespace(plane.config.state, name)
    sleeper = subprocess.Popen(["nsenter", f"--net=/run/netns/{name}", "sleep", "100"])
    bystander = subprocess.Popen(["sleep", "100"])
    try:
        while not in_the_same_netns(sleeper.pid, name):
            pass
        plane.purge()
        assert sleeper.wait(5) == -9
        assert bystander.poll() is None
        assert traces(plane.config) == {}
    finally:
        for process in (sleeper, bystander):
            process.kill()
            process.wait()


def in_the_same_netns(pid: int, name: str) -> bool:
    return Path(f"/proc/{pid}/ns/net").samefile(Path("/run/netns", name))


@pytest.mark.parametrize("gone", ["veth", "namespace", "run", "file"])
def test_purge_of_what_is_partly_gone(lab, gone):
    plane = lab.network()
    command = {
        "veth": ["ip", "link", "del", plane.config.name],
        "namespace": ["ip", "netns", "delete", plane.config.name],
        "run": ["rm", "-r", str(plane.config.run)],
        "file": ["rm", str(plane.config.state / "dataplane.json")],
    }[gone]
    run(command)
    plane.purge()
    assert traces(plane.config) == {}


# Claims

RACER = """
import sys
from pathlib import Path
from kilonova.host.dataplane import DataPlane, DataPlaneConfig
config = DataPlaneConfig(Path(sys.argv[1]), sys.argv[2])
sys.stdin.read()
print(DataPlane.ensure_network(config).public_cidr)
"""


def test_clouds_that_start_together_take_different_subnets(lab):
    configs = [lab.config() for _ in range(4)]
    answers = in_processes([[sys.executable, "-c", RACER, str(c.state), c.cloud_id] for c in configs])
    cidrs = [answer.strip() for answer in answers]
    assert len(set(cidrs)) == 4
    assert [load(config.state).public_cidr for config in configs] == cidrs
    for config in configs:
        run(["ping", "-c", "1", "-W", "2", load(config.state).gateway], netns=config.netns)


def test_the_first_free_subnet():
    net = ipaddress.IPv4Network
    assert first_free([]) == net("172.24.0.0/24")
    assert first_free([net("172.24.0.128/25"), net("172.24.1.0/24"), net("10.0.0.0/8")]) == net("172.24.2.0/24")
    with pytest.raises(HostError, match="--public-cidr"):
        first_free([net("172.16.0.0/12")])


def test_addresses_and_routes_of_the_machine_are_not_taken(lab):
    """Given to a link of the test's own in the root namespace."""
    name = "knt-used"
    run(["ip", "link", "add", name, "type", "bridge"])
    try:
        run(["ip", "addr", "add", "172.24.249.1/24", "dev", name])
        run(["ip", "link", "set", name, "up"])
        run(["ip", "route", "add", "172.24.250.0/25", "dev", name])
        for cidr in ("172.24.249.0/24", "172.24.250.64/26"):
            with pytest.raises(HostError, match="in use by this machine"):
                lab.network(public_cidr=cidr)
    finally:
        run(["ip", "link", "del", name])


def test_a_subnet_of_ones_own_choice(lab):
    plane = lab.network(public_cidr="172.24.248.0/28")
    assert addresses(plane.config.name) == ["172.24.248.1/28"]
    with pytest.raises(HostError, match="claimed by another cloud"):
        lab.network(public_cidr="172.24.248.0/24")
    moved = DataPlane.ensure_network(replace(plane.config, public_cidr="172.24.247.0/24"))
    assert (moved.gateway, addresses(plane.config.name)) == ("172.24.247.1", ["172.24.247.1/24"])
    assert lab.network(public_cidr="172.24.248.0/28").gateway == "172.24.248.1"  # let go by the move


def test_a_stopped_cloud_keeps_its_subnet(lab):
    plane = lab.network()
    run(["ip", "link", "del", plane.config.name])
    run(["rm", "-r", str(plane.config.run)])  # as after a reboot
    run(["ip", "netns", "delete", plane.config.name])
    other = lab.network()
    assert other.public_cidr != plane.public_cidr
    assert DataPlane.ensure_network(plane.config).public_cidr == plane.public_cidr


def test_a_claim_ends_with_the_cloud_that_made_it(tmp_path):
    """On shared files of the test's own."""
    (tmp_path / "run").mkdir()
    machine = Machine(tmp_path / "run", tmp_path / "shared")
    config = PlaneLab(tmp_path).config()
    config.state.mkdir()
    (config.state / "dataplane.json").write_text(json.dumps({"cloud_id": config.cloud_id}))
    machine.claim("172.24.9.0/24", config)
    assert list(machine.claims()) == ["172.24.9.0/24"]
    (config.state / "dataplane.json").unlink()
    assert machine.claims() == {}


@pytest.mark.parametrize(
    ("cidr", "words"), [("172.24.1", "as 172.24.4.0/24"), ("172.24.1.5/24", "host bits"), ("172.24.1.0/30", "too small")]
)
def test_a_bad_subnet_is_refused_before_anything_is_made(lab, cidr, words):
    with pytest.raises(HostError, match=words):
        lab.network(public_cidr=cidr)
    assert traces(lab.configs[0]) == {}


def test_what_is_not_ours_is_refused_and_left_alone(lab):
    config = lab.config()
    run(["ip", "link", "add", config.name, "type", "bridge"])
    run(["ip", "link", "set", config.name, "alias", "somebody else's"])
    try:
        with pytest.raises(HostError, match="not this cloud's"):
            DataPlane.ensure_network(config)
        DataPlane(config).purge()
        assert link(config.name)["ifalias"] == "somebody else's"
    finally:
        run(["ip", "link", "del", config.name])


def test_a_cloud_whose_id_begins_alike_is_refused(lab):
    plane = lab.network()
    twin = replace(plane.config, cloud_id=plane.config.id8 + "-0000-4000-8000-000000000000", state=lab.directory / "t")
    for verb in (DataPlane.ensure_network, lambda config: DataPlane(config).purge()):
        with pytest.raises(HostError, match="begins alike"):
            verb(twin)
    assert link(plane.config.name)


# What of the host changes


def test_the_hosts_own_switches_stay(lab):
    before = [sysctl(str(s.relative_to("/proc/sys"))) for s in SWITCHES], sysctl("net/ipv4/ip_forward")
    plane = lab.network()
    assert ([sysctl(str(s.relative_to("/proc/sys"))) for s in SWITCHES], sysctl("net/ipv4/ip_forward")) == before
    assert sysctl(f"net/ipv4/conf/{plane.config.name}/forwarding") == "0"


def test_a_module_that_we_load_filters_no_bridge_of_the_hosts(lab, tmp_path, monkeypatch):
    """A crash just after the load included: the mark of the load is what turns the switches off."""
    from kilonova.host.dataplane import bridge_nf

    root = tmp_path / "bridge"
    switches = tuple(root / each.name for each in SWITCHES)

    def modprobe(argv):
        root.mkdir()
        for switch in switches:
            switch.write_text("1")
        raise KeyboardInterrupt

    monkeypatch.setattr(bridge_nf, "DIRECTORY", root)
    monkeypatch.setattr(bridge_nf, "SWITCHES", switches)
    monkeypatch.setattr(bridge_nf, "run", modprobe)
    monkeypatch.setattr(bridge_nf, "in_netns", lambda *arguments: True)
    machine = Machine(tmp_path, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        ensure_bridge_nf(lab.config(), machine)
    ensure_bridge_nf(lab.config(), machine)
    assert [switch.read_text() for switch in switches] == ["0", "0", "0"]
    switches[0].write_text("1")  # the administrator's wish, from then on
    ensure_bridge_nf(lab.config(), machine)
    assert switches[0].read_text() == "1"


def test_a_sysctl_is_put_back_by_the_last_who_needs_it(tmp_path):
    knob = tmp_path / "knob"
    knob.write_text("0\n")
    machine = Machine(tmp_path, tmp_path)
    machine.set_sysctl(str(knob), "1", "a")
    machine.set_sysctl(str(knob), "1", "b")
    machine.release_sysctls("a")
    assert knob.read_text() == "1"
    machine.release_sysctls("b")
    assert knob.read_text() == "0"
    knob.write_text("1\n")  # somebody's own: never ours to put back
    machine.set_sysctl(str(knob), "1", "c")
    machine.release_sysctls("c")
    assert knob.read_text() == "1\n"


def test_the_lock_is_exclusive_and_survives_its_removal():
    order = []

    def second():
        with locked():
            order.append("second")

    with locked() as machine:
        thread = threading.Thread(target=second)
        thread.start()
        (machine.run / "lock").unlink()  # as the last purge does
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


# The way out


@pytest.fixture
def outside():
    """A machine beyond the host: a namespace behind a veth, which answers with the address it is asked from."""
    run(["ip", "netns", "add", "knt-out"])
    run(["ip", "link", "add", "knt-out", "type", "veth", "peer", "name", "eth0", "netns", "knt-out"])
    run(["ip", "addr", "add", "198.18.7.1/30", "dev", "knt-out"])
    run(["ip", "link", "set", "knt-out", "up"])
    run(["ip", "-n", "knt-out", "addr", "add", "198.18.7.2/30", "dev", "eth0"])
    run(["ip", "-n", "knt-out", "link", "set", "eth0", "up"])
    server = in_netns("knt-out", socket.create_server, ("198.18.7.2", 8077))

    def serve():
        while True:
            try:
                peer, address = server.accept()
            except OSError:
                return
            with peer:
                peer.sendall(address[0].encode())

    threading.Thread(target=serve, daemon=True).start()
    yield "198.18.7.2", 8077
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    run(["ip", "link", "del", "knt-out"])
    run(["ip", "netns", "delete", "knt-out"])


def ask(netns: str, address: tuple[str, int]) -> str:
    with in_netns(netns, socket.create_connection, address, 0.3) as client:
        return client.recv(100).decode()


def test_guests_get_out_only_with_an_uplink(lab, outside):
    closed, open_ = lab.network(), lab.network(uplink="nat")
    assert sysctl("net/ipv4/ip_forward") == "1"
    assert ask(open_.netns, outside) == "198.18.7.1"  # as the host
    with pytest.raises(OSError):
        ask(closed.netns, outside)  # also where the host forwards for another cloud
    with locked() as machine:
        # another cloud may have turned it on by then
        before = read_json(machine.changes_file).get(IP_FORWARD, {}).get("was", "1")
    run(["ip", "-n", "knt-out", "route", "add", open_.public_cidr, "via", "198.18.7.1"])
    listener = in_netns(open_.netns, socket.create_server, (open_.address, 8078))
    with listener, pytest.raises(OSError):
        ask("knt-out", listener.getsockname())  # nothing comes in that was not asked for
    shut = DataPlane.ensure_network(replace(open_.config, uplink="none"))
    with pytest.raises(OSError):
        ask(shut.netns, outside)
    assert traces(shut.config).get("tables") is None
    with locked() as machine:
        if IP_FORWARD not in read_json(machine.changes_file):  # no other cloud of this machine needs it on
            assert sysctl("net/ipv4/ip_forward") == before


# --host-net


def test_host_net_makes_no_namespace(lab):
    plane = lab.network(host_net=True)
    assert (plane.netns, plane.netns_path) == (None, None)
    assert addresses(plane.external_bridge) == [f"{plane.gateway}/24"]
    assert len(plane.external_bridge) <= 15
    assert set(traces(plane.config)) == {"links", "run", "claims", "state"}
    assert sysctl("net/bridge/bridge-nf-call-iptables") == "1"
    with pytest.raises(HostError, match="--host-net"):
        DataPlane.ensure_network(replace(plane.config, host_net=False))
    plane.purge()
    assert traces(plane.config) == {}


def test_an_existing_libvirt_needs_host_net(lab):
    with pytest.raises(HostError, match="--host-net"):
        lab.network(libvirt_uri="qemu:///system")
    plane = lab.network(libvirt_uri="qemu:///system", host_net=True)
    plane.ensure_daemons()
    assert plane.libvirt_uri == "qemu:///system"
    assert plane.status().libvirtd is None


def test_the_last_cloud_takes_the_shared_directories_away(tmp_path):
    """A directory that is a mount point in another cloud's namespace must stay: to remove it unmounts it there."""
    machine = Machine(tmp_path / "run", tmp_path / "shared")
    own, found = tmp_path / "made", tmp_path / "found"
    found.mkdir()
    (machine.run / "other").mkdir(parents=True)
    for directory in (own, found):
        machine.make_directory(directory)
    machine.tidy()
    assert own.is_dir()
    (machine.run / "other").rmdir()
    machine.tidy()
    assert sorted(tmp_path.iterdir()) == [found]
