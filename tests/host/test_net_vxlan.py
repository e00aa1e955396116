"""Networks that span two hosts: two clouds' namespaces, each with an underlay of its own, and a wire between them."""

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import netlab
import pytest
from msgspec.structs import replace
from netlab import EGRESS, PING, Lab

from kilonova.host.calls import run
from kilonova.host.net.link import list_links
from kilonova.host.net.netlink import Netlink
from kilonova.host.net.vxlan import FLOOD, entries
from kilonova.model.errors import HostError
from kilonova.model.specs import HostNetwork, NetworkSpec, OverlaySpec, PeerSpec, PortSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
ADDRESSES = ("198.18.50.1", "198.18.50.2")
GONE = "198.18.50.9"


class Hosts:
    """Two hosts with one guest each on every network."""

    def __init__(self, folder: Path) -> None:
        ident = uuid.uuid4().hex[:8]
        self.underlays = (f"knu-{ident}a", f"knu-{ident}b")
        for name in self.underlays:
            run(["ip", "netns", "add", name])
        peer = ["peer", "name", "eth0", "netns", self.underlays[1]]
        run(["ip", "-n", self.underlays[0], "link", "add", "eth0", "type", "veth", *peer])
        for name, address in zip(self.underlays, ADDRESSES, strict=True):
            run(["ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0"])
            run(["ip", "-n", name, "link", "set", "eth0", "up"])
        self.labs = [Lab(folder / name, underlay=name) for name in self.underlays]

    def close(self) -> None:
        for lab in self.labs:
            lab.close()
        for name in self.underlays:
            with suppress(HostError):
                run(["ip", "netns", "delete", name])

    def apply(self, *desired: HostNetwork) -> list[dict[str, str]]:
        return [lab.apply(each) for lab, each in zip(self.labs, desired, strict=True)]


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path)
    yield made
    made.close()


def plain(**changes: object) -> NetworkSpec:
    """Without DHCP: it is on one host only."""
    return netlab.network(enable_dhcp=False, dhcp_ip=None, **changes)


def on(host: int, net: NetworkSpec, vni: int, *there: PortSpec) -> NetworkSpec:
    """The network as `host` is told it, `there` being the ports on the other one."""
    macs = tuple(port.mac_address for port in there)
    peers = (PeerSpec(address=ADDRESSES[1 - host], macs=macs),) if there else ()
    return replace(net, overlay=OverlaySpec(vni=vni, local=ADDRESSES[host], peers=peers))


def told(net: NetworkSpec, here: PortSpec, there: PortSpec, vni: int = 100) -> tuple[HostNetwork, HostNetwork]:
    return (
        HostNetwork(networks=(on(0, net, vni, there),), ports=(here,)),
        HostNetwork(networks=(on(1, net, vni, here),), ports=(there,)),
    )


def pair(hosts: Hosts, net: NetworkSpec) -> tuple[list[PortSpec], list[str]]:
    ports = [netlab.port(net, f"10.0.0.1{n}", rules=(*EGRESS, PING)) for n in (1, 2)]
    return ports, [
        lab.guest(port, f"{port.fixed_ips[0].ip_address}/24") for lab, port in zip(hosts.labs, ports, strict=True)
    ]


def known(lab: Lab, device: str = "vxlan-100") -> set[tuple[str, str]]:
    connection = Netlink(lab.netns)
    try:
        link = connection.link(device)
        assert link is not None
        return entries(connection, link)
    finally:
        connection.close()


def seen_on_the_wire(underlay: str, act: Callable[[], object]) -> list[bytes]:
    """The UDP payloads to VXLAN's port that leave or reach the underlay while `act` runs."""
    found: list[bytes] = []
    wire = netlab.packet_socket(underlay)
    try:
        act()
        wire.settimeout(0.2)
        with suppress(TimeoutError):
            while True:
                frame = wire.recv(65535)
                if frame[12:14] == b"\x08\x00" and frame[23] == 17 and frame[36:38] == (4789).to_bytes(2, "big"):
                    found.append(frame[42:])
    finally:
        wire.close()
    return found


def test_guests_of_two_hosts_are_on_one_network(hosts: Hosts) -> None:
    net = plain()
    ports, guests = pair(hosts, net)
    want = told(net, *ports)
    assert [set(each.values()) for each in hosts.apply(*want)] == [{"ACTIVE"}, {"ACTIVE"}]
    frames = seen_on_the_wire(hosts.underlays[0], lambda: netlab.pings(guests[0], "10.0.0.12"))
    assert netlab.pings(guests[0], "10.0.0.12") and netlab.pings(guests[1], "10.0.0.11")
    assert {int.from_bytes(frame[4:7], "big") for frame in frames} == {100}  # the VNI
    assert any(bytes.fromhex(ports[1].mac_address.replace(":", "")) == frame[8:14] for frame in frames)
    # As large as its MTU says, and not a byte more: the outer packet fits the wire's 1500 in one piece.
    run(["ip", "-n", guests[0], "link", "set", "eth0", "mtu", "1450"])
    run(["ping", "-c1", "-W2", "-M", "do", "-s", "1422", "10.0.0.12"], netns=guests[0])
    with pytest.raises(HostError):
        run(["ping", "-c1", "-W1", "-M", "do", "-s", "1423", "10.0.0.12"], netns=guests[0])
    links = list_links(hosts.labs[0].netns)
    device, bridge = links["vxlan-100"], links[net.bridge]
    assert (device.master, device.mtu, device.alias) == (bridge.index, 1450, f"kilonova:{hosts.labs[0].cloud_id}")
    assert known(hosts.labs[0]) == {(FLOOD, ADDRESSES[1]), (ports[1].mac_address, ADDRESSES[1])}
    # Its security group is what it was: nobody from the other host comes in by it.
    closed = replace(ports[0], rules=EGRESS)
    hosts.apply(replace(want[0], ports=(closed,)), want[1])
    assert not netlab.pings(guests[1], "10.0.0.11")
    assert netlab.pings(guests[0], "10.0.0.12")


def test_a_guest_cannot_reach_the_host_by_its_overlay(hosts: Hosts) -> None:
    net = plain()
    ports, guests = pair(hosts, net)
    hosts.apply(*told(net, *ports))
    run(["ip", "-n", hosts.labs[1].netns, "addr", "add", "10.0.0.99/24", "dev", net.bridge])
    assert not netlab.pings(guests[0], "10.0.0.99")


def test_networks_of_other_vnis_are_apart(hosts: Hosts) -> None:
    """With the very same addresses."""
    nets = [plain(), plain()]
    here = netlab.port(nets[0], "10.0.0.11", rules=(*EGRESS, PING))
    there = netlab.port(nets[1], "10.0.0.12", rules=(*EGRESS, PING))
    hosts.labs[1].guest(there, "10.0.0.12/24")
    guest = hosts.labs[0].guest(here, "10.0.0.11/24")
    hosts.apply(
        HostNetwork(networks=(on(0, nets[0], 100, there),), ports=(here,)),
        HostNetwork(networks=(on(1, nets[1], 200, here),), ports=(there,)),
    )
    assert not netlab.pings(guest, "10.0.0.12")


def test_what_is_put_out_of_order_is_put_right_in_one_pass(hosts: Hosts) -> None:
    net = plain()
    ports, guests = pair(hosts, net)
    want = told(net, *ports)
    hosts.apply(*want)
    lab, mac = hosts.labs[0], ports[1].mac_address
    ip, bridge = ["ip", "-n", lab.netns], ["bridge", "-n", lab.netns]
    right = known(lab)
    assert lab.writes(want[0]) == []
    for wrong in (
        [*ip, "link", "delete", "vxlan-100"],
        [*ip, "link", "set", "vxlan-100", "nomaster"],
        [*ip, "link", "set", "vxlan-100", "down"],
        [*ip, "link", "set", "vxlan-100", "mtu", "1400"],
        [*ip, "link", "set", "vxlan-100", "alias", ""],
        [*ip, "link", "set", "vxlan-100", "type", "vxlan", "id", "100", "learning"],
        [*bridge, "fdb", "del", mac, "dev", "vxlan-100", "dst", ADDRESSES[1], "self"],
        [*bridge, "fdb", "del", FLOOD, "dev", "vxlan-100", "dst", ADDRESSES[1], "self"],
        [*bridge, "fdb", "append", FLOOD, "dev", "vxlan-100", "dst", GONE, "self"],
        [*bridge, "fdb", "add", "fa:16:3e:00:00:01", "dev", "vxlan-100", "dst", GONE, "self"],
        [*bridge, "fdb", "replace", mac, "dev", "vxlan-100", "dst", GONE, "self"],
        [*ip, "link", "delete", net.bridge],
    ):
        run(wrong)
        assert lab.apply(want[0]) == {ports[0].id: "ACTIVE"}, wrong
        assert known(lab) == right, wrong
        assert lab.writes(want[0]) == [], wrong
    assert netlab.pings(guests[0], "10.0.0.12")
    lab.restart()
    assert lab.writes(want[0]) == []


def test_hosts_come_and_go_and_guests_move_between_them(hosts: Hosts) -> None:
    net = plain()
    ports, guests = pair(hosts, net)
    alone = HostNetwork(networks=(on(0, net, 100),), ports=(ports[0],))
    lab = hosts.labs[0]
    lab.apply(alone)
    assert known(lab) == set()
    want = told(net, *ports)
    hosts.apply(*want)
    assert netlab.pings(guests[0], "10.0.0.12")
    # The guest is on a third host now: its entry is never missing, and the second host hears nothing more.
    moved = OverlaySpec(vni=100, local=ADDRESSES[0], peers=(PeerSpec(address=GONE, macs=(ports[1].mac_address,)),))
    lab.apply(replace(alone, networks=(replace(net, overlay=moved),)))
    assert known(lab) == {(FLOOD, GONE), (ports[1].mac_address, GONE)}
    lab.apply(alone)
    assert known(lab) == set()
    # Another overlay address: the device is born anew.
    lab.apply(replace(alone, networks=(replace(net, overlay=replace(moved, local="198.18.50.3", peers=())),)))
    assert "198.18.50.3" in run(["ip", "-n", lab.netns, "-d", "link", "show", "vxlan-100"])
    # The network goes, by a second look, and its device with it; or stays within the host.
    lab.apply(replace(alone, networks=(net,)))
    lab.apply(replace(alone, networks=(net,)))
    assert "vxlan-100" not in list_links(lab.netns) and net.bridge in list_links(lab.netns)
    hosts.apply(*want)
    for _ in range(2):
        lab.apply(HostNetwork())
    assert not {"vxlan-100", net.bridge} & set(list_links(lab.netns))


def test_a_vni_that_is_another_s_on_this_host_leaves_the_port_down(
    hosts: Hosts, caplog: pytest.LogCaptureFixture
) -> None:
    """The device stays another's; the network's ports say that they do not reach it."""
    net, lab = plain(), hosts.labs[0]
    port = netlab.port(net, "10.0.0.11")
    lab.guest(port, "10.0.0.11/24")
    run(["ip", "-n", hosts.underlays[0], "link", "add", "theirs", "type", "vxlan", "id", "100", "dstport", "4789"])
    want = HostNetwork(networks=(on(0, net, 100),), ports=(port,))
    assert lab.apply(want) == {port.id: "DOWN"}
    assert "VNI 100 is in use" in caplog.text
    run(["ip", "-n", hosts.underlays[0], "link", "delete", "theirs"])
    assert lab.apply(want) == {port.id: "ACTIVE"}


def test_a_crash_between_birth_and_alias_leaves_nothing_that_is_not_ours(hosts: Hosts) -> None:
    net, lab = plain(), hosts.labs[0]
    port = netlab.port(net, "10.0.0.11")
    lab.guest(port, "10.0.0.11/24")
    want = HostNetwork(networks=(on(0, net, 100),), ports=(port,))
    lab.apply(want)
    run(["ip", "-n", lab.netns, "link", "set", "vxlan-100", "nomaster"])
    run(["ip", "-n", lab.netns, "link", "set", "vxlan-100", "alias", ""])
    lab.restart()
    for _ in range(2):
        lab.apply(HostNetwork())
    assert "vxlan-100" not in list_links(lab.netns)


def test_no_frame_is_lost_while_nothing_changes(hosts: Hosts) -> None:
    """Passes, restarts, other networks' coming and going, while a guest pings the other host's at 50 a second."""
    net, other = plain(), plain()
    ports, guests = pair(hosts, net)
    want = told(net, *ports)
    hosts.apply(*want)
    assert netlab.pings(guests[0], "10.0.0.12")
    lost: list[str] = []
    pinging = threading.Thread(
        target=lambda: lost.append(run(["ping", "-q", "-i", "0.02", "-c", "100", "10.0.0.12"], netns=guests[0]))
    )
    pinging.start()
    for n in range(3):
        more = netlab.port(other, f"10.0.0.2{n}")
        both = HostNetwork(networks=(*want[0].networks, on(0, other, 200 + n)), ports=(ports[0], more))
        hosts.labs[0].apply(both)
        hosts.labs[0].restart()
        hosts.labs[0].apply(want[0])
    pinging.join()
    assert " 0% packet loss" in lost[0], lost
