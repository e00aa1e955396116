"""The network of a port on the real kernel: wired, served, filtered, repaired, removed."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import netlab
import pytest
from netlab import EGRESS, PING, Lab

from kilonova.host.calls import run
from kilonova.host.dataplane import processes
from kilonova.host.net.backend import HostNet
from kilonova.host.net.link import attach, delete_link, ensure_bridge, ensure_tap, list_links
from kilonova.host.netns import netns_path
from kilonova.model.errors import HostError
from kilonova.model.specs import FixedIP, HostNetwork, PortSpec, RuleSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()
    assert netlab.pids_with(str(tmp_path)) == []


def test_a_port_is_active_only_when_its_tap_is_in_its_bridge(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11")
    desired = HostNetwork(networks=(net,), ports=(one,))
    assert lab.apply(desired) == {one.id: "DOWN"}
    ensure_tap(lab.netns, one.tap, net.mtu, lab.cloud_id)
    assert lab.apply(desired) == {one.id: "ACTIVE"}
    links = list_links(lab.netns)
    assert links[one.tap].master == links[net.bridge].index
    assert {links[name].alias for name in (one.tap, net.bridge)} == {f"kilonova:{lab.cloud_id}"}
    assert links[one.tap].mtu == links[net.bridge].mtu == net.mtu
    assert links[one.tap].up
    closed = msgspec.structs.replace(one, admin_state_up=False)
    assert lab.apply(HostNetwork(networks=(net,), ports=(closed,))) == {one.id: "DOWN"}


def test_an_unchanged_host_is_untouched(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11")
    desired = HostNetwork(networks=(net,), ports=(one,))
    ensure_tap(lab.netns, one.tap, net.mtu, lab.cloud_id)
    assert lab.writes(desired)
    assert lab.writes(desired) == []
    lab.restart()
    again = lab.writes(desired)
    assert [name for name in again if name not in ("metadata listen", "netns lo", "ioctl lo up")] == []


def test_one_more_port_costs_little(lab: Lab) -> None:
    net = netlab.network()
    ports = [netlab.port(net, f"10.0.0.{number}") for number in range(10, 31)]
    lab.apply(HostNetwork(networks=(net,), ports=tuple(ports[:1])))
    changes = []
    for count in range(2, 21):
        ensure_tap(lab.netns, ports[count - 1].tap, net.mtu, lab.cloud_id)
        desired = HostNetwork(networks=(net,), ports=tuple(ports[:count]))
        changes.append(lab.writes(desired))
        assert lab.net.apply(desired)[ports[count - 1].id] == "ACTIVE"
    # One transaction of rules, the tap into its bridge, word to dnsmasq: the twentieth port takes what the second did.
    assert changes[-1] == changes[0] and len(changes[0]) < 10, changes


def test_dhcp_hands_out_the_fixed_address_and_the_routes(lab: Lab) -> None:
    net = netlab.network(host_routes=(("192.168.5.0/24", "10.0.0.9"),), dns_nameservers=("9.9.9.9",))
    one = netlab.port(net, "10.0.0.11", hostname="web")
    guest = lab.guest(one)
    stranger = netlab.port(net, "10.0.0.12", port_security_enabled=False)
    other = lab.guest(stranger)
    lab.apply(HostNetwork(networks=(net,), ports=(one, msgspec.structs.replace(stranger, fixed_ips=()))))
    ack = netlab.dhcp(guest, one.mac_address)
    assert socket.inet_ntoa(ack["ip"]) == "10.0.0.11"
    assert ack[3] == socket.inet_aton("10.0.0.1")
    assert ack[6] == socket.inet_aton("9.9.9.9")
    assert ack[26] == (1450).to_bytes(2, "big")
    assert ack[12] == b"web"
    routes = (
        bytes([32, 169, 254, 169, 254, 10, 0, 0, 2]) + bytes([24, 192, 168, 5, 10, 0, 0, 9]) + bytes([0, 10, 0, 0, 1])
    )
    assert ack[121] == routes
    assert netlab.dhcp(other, stranger.mac_address, timeout=1) == {}


def test_a_subnet_without_gateway_gets_no_router_but_metadata(lab: Lab) -> None:
    net = netlab.network(gateway_ip=None)
    one = netlab.port(net, "10.0.0.11")
    guest = lab.guest(one)
    lab.apply(HostNetwork(networks=(net,), ports=(one,)))
    ack = netlab.dhcp(guest, one.mac_address)
    assert 3 not in ack
    assert ack[121] == bytes([32, 169, 254, 169, 254, 10, 0, 0, 2])


def test_an_address_moves_to_another_port(lab: Lab) -> None:
    net = netlab.network()
    one, two = netlab.port(net, "10.0.0.11"), netlab.port(net, "10.0.0.11")
    first, second = lab.guest(one), lab.guest(two)
    lab.apply(HostNetwork(networks=(net,), ports=(one,)))
    assert socket.inet_ntoa(netlab.dhcp(first, one.mac_address)["ip"]) == "10.0.0.11"
    lab.apply(HostNetwork(networks=(net,), ports=(two,)))
    assert socket.inet_ntoa(netlab.dhcp(second, two.mac_address)["ip"]) == "10.0.0.11"


def test_security_groups_drop_and_let_replies_through(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11", rules=(*EGRESS, netlab.tcp(8022)))
    two = netlab.port(net, "10.0.0.12", rules=EGRESS)
    a, b = lab.guest(one, "10.0.0.11/24"), lab.guest(two, "10.0.0.12/24")
    lab.apply(HostNetwork(networks=(net,), ports=(one, two)))
    with netlab.listener(a, 8022), netlab.listener(a, 8080), netlab.listener(b, 8022):
        assert netlab.connects(b, "10.0.0.11", 8022)
        assert not netlab.connects(b, "10.0.0.11", 8080)
        assert not netlab.connects(a, "10.0.0.12", 8022)
        assert not netlab.pings(b, "10.0.0.11")
        from_two = RuleSpec(direction="ingress", ethertype="IPv4", remote_ips=("10.0.0.12",))
        nobody = RuleSpec(direction="ingress", ethertype="IPv4", remote_ips=())
        opened = msgspec.structs.replace(one, rules=(*EGRESS, from_two))
        lab.apply(HostNetwork(networks=(net,), ports=(opened, msgspec.structs.replace(two, rules=(*EGRESS, nobody)))))
        assert netlab.pings(b, "10.0.0.11")
        assert netlab.connects(b, "10.0.0.11", 8080)
        assert not netlab.pings(a, "10.0.0.12")
        silent = msgspec.structs.replace(two, rules=(PING,))
        lab.apply(HostNetwork(networks=(net,), ports=(opened, silent)))
        assert not netlab.connects(b, "10.0.0.11", 8080)  # no egress rule
        assert netlab.pings(a, "10.0.0.12")  # whose replies need none


def test_a_rule_that_goes_cuts_connections_that_live(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11", rules=(netlab.tcp(8022),))
    two = netlab.port(net, "10.0.0.12")
    a, b = lab.guest(one, "10.0.0.11/24"), lab.guest(two, "10.0.0.12/24")
    lab.apply(HostNetwork(networks=(net,), ports=(one, two)))
    with netlab.listener(a, 8022) as server:
        client = netlab.in_netns(b, socket.create_connection, ("10.0.0.11", 8022), 1)
        served, _ = server.accept()
        with client, served:
            served.settimeout(0.7)
            client.sendall(b"before")
            assert served.recv(10) == b"before"
            lab.apply(HostNetwork(networks=(net,), ports=(msgspec.structs.replace(one, rules=()), two)))
            client.sendall(b"after")
            with pytest.raises(TimeoutError):
                served.recv(10)


def test_networks_with_the_same_addresses_do_not_meet(lab: Lab) -> None:
    nets = [netlab.network(), netlab.network()]
    ports, guests = [], []
    for net in nets:
        pair = [netlab.port(net, "10.0.0.11", rules=(*EGRESS, netlab.tcp(8022))), netlab.port(net, "10.0.0.12")]
        ports += pair
        guests.append([lab.guest(one, f"{one.fixed_ips[0].ip_address}/24") for one in pair])
    lab.apply(HostNetwork(networks=tuple(nets), ports=tuple(ports)))

    def from_one_port(guest: str) -> socket.socket:
        return netlab.in_netns(guest, socket.create_connection, ("10.0.0.11", 8022), 1, ("10.0.0.12", 40000))

    with netlab.listener(guests[0][0], 8022), netlab.listener(guests[1][0], 8022):
        with from_one_port(guests[0][1]), from_one_port(guests[1][1]):
            entries = run(["conntrack", "-L", "-p", "tcp", "--dport", "8022"], netns=lab.netns).splitlines()
            zones = {word for line in entries for word in line.split() if word.startswith("zone=")}
            assert len(entries) == len(zones) == 2
        lab.apply(HostNetwork(networks=tuple(nets), ports=tuple(ports[1:])))
        left = run(["conntrack", "-L", "-p", "tcp", "--dport", "8022"], netns=lab.netns).splitlines()
        assert len(left) == 1  # the other network's


def test_wrong_things_are_put_right(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11", rules=(*EGRESS, PING))
    two = netlab.port(net, "10.0.0.12")
    desired = HostNetwork(networks=(net,), ports=(one, two))
    a, b = lab.guest(one, "10.0.0.11/24"), lab.guest(two, "10.0.0.12/24")
    lab.apply(desired)
    space = lab.net.dhcp_namespace(net.id)
    table = lab.net.table
    breaks = (
        lambda: run(["ip", "-n", lab.netns, "link", "set", one.tap, "nomaster"]),
        lambda: run(["ip", "-n", lab.netns, "link", "set", one.tap, "down"]),
        lambda: run(["ip", "-n", lab.netns, "link", "del", net.bridge]),
        lambda: run(["nft", "delete", "table", "ip", table], netns=lab.netns),
        lambda: run(["nft", "flush", "table", "bridge", table], netns=lab.netns),
        lambda: run(["ip", "netns", "del", space]),
        lambda: run(["ip", "-n", space, "addr", "flush", "dev", f"ns-{net.dhcp_port_id[:11]}"]),
        lambda: processes.end(netlab.pids_with(str(lab.state)), lambda pid: True),
    )
    for number, break_it in enumerate(breaks):
        break_it()
        lab.apply(desired)
        assert netlab.pings(b, "10.0.0.11"), number
        assert not netlab.pings(a, "10.0.0.12"), number
        assert netlab.dhcp(a, one.mac_address), number
        assert lab.writes(desired) == [], number


def test_what_is_no_longer_desired_goes_and_what_is_not_ours_stays(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11")
    ensure_bridge(lab.netns, net.bridge, net.mtu, lab.cloud_id)
    ensure_tap(lab.netns, one.tap, net.mtu, lab.cloud_id)
    attach(lab.netns, net.bridge, one.tap, lab.cloud_id)
    run(["ip", "-n", lab.netns, "link", "add", "brqforeign", "type", "bridge"])
    run(["ip", "-n", lab.netns, "link", "add", "taptheirs", "type", "veth", "peer", "name", "theirs"])
    assert lab.apply(HostNetwork(networks=(net,), ports=(one,))) == {one.id: "ACTIVE"}
    assert netns_path(lab.net.dhcp_namespace(net.id)).exists()
    with pytest.raises(HostError, match="not ours"):
        delete_link(lab.netns, "brqforeign")
    lab.apply(HostNetwork())
    assert one.tap in list_links(lab.netns)  # a port may have been bound since: a second look decides
    assert lab.net.pending
    lab.apply(HostNetwork())
    assert {"brqforeign", "taptheirs"} <= set(list_links(lab.netns))
    assert not {one.tap, net.bridge} & set(list_links(lab.netns))
    assert not netns_path(lab.net.dhcp_namespace(net.id)).exists()
    assert netlab.pids_with(str(lab.state)) == []
    assert not lab.net.pending
    for name in ("brqforeign", "taptheirs"):
        run(["ip", "-n", lab.netns, "link", "del", name])


def test_a_purge_takes_a_mount_point_for_what_it_is(lab: Lab) -> None:
    """Where /run outlives a boot, as in some containers, it is all that is left of a namespace."""
    left = netns_path(f"{lab.netns}l")
    left.touch()
    net = HostNet(left.name, lab.cloud_id, lab.state, **lab.options)  # type: ignore[arg-type]
    try:
        net.purge()
    finally:
        net.close()
        left.unlink()


def test_libvirt_plugs_its_own_taps(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11", vif_type="bridge")
    desired = HostNetwork(networks=(net,), ports=(one,))
    lab.guest(one)
    assert lab.apply(desired) == {one.id: "DOWN"}
    assert list_links(lab.netns)[one.tap].master == 0
    assert lab.net.pending
    run(["ip", "-n", lab.netns, "link", "set", one.tap, "master", net.bridge])
    assert lab.apply(desired) == {one.id: "ACTIVE"}
    assert list_links(lab.netns)[one.tap].alias == f"kilonova:{lab.cloud_id}"


def test_somebody_elses_tables_neither_suffer_nor_make_us_work(lab: Lab) -> None:
    net = netlab.network()
    desired = HostNetwork(networks=(net,), ports=(netlab.port(net, "10.0.0.11"),))
    other = f"kilonova_{lab.cloud_id[:8]}"
    lab.apply(desired)
    run(["nft", "add", "table", "ip", other], netns=lab.netns)
    lab.apply(desired)  # learns what ours look like
    for number in range(2):
        run(["nft", "add", "chain", "ip", other, f"chain{number}"], netns=lab.netns)
        assert "nft -f" not in lab.writes(desired)
        assert lab.writes(desired) == []
    lab.net.purge()
    assert run(["nft", "list", "tables"], netns=lab.netns) == f"table ip {other}\n"


def test_one_network_in_trouble_leaves_the_others_alone(lab: Lab) -> None:
    good, bad = netlab.network(), netlab.network()
    ports = [netlab.port(good, "10.0.0.11"), netlab.port(bad, "10.0.0.11")]
    run(["ip", "-n", lab.netns, "link", "add", bad.bridge, "type", "veth", "peer", "name", "other"])
    for one in ports:
        ensure_tap(lab.netns, one.tap, 1450, lab.cloud_id)
    desired = HostNetwork(networks=(bad, good), ports=tuple(ports))
    assert lab.apply(desired) == {ports[0].id: "ACTIVE", ports[1].id: "DOWN"}
    run(["ip", "-n", lab.netns, "link", "del", bad.bridge])
    assert set(lab.apply(desired).values()) == {"ACTIVE"}


def test_a_watch_sees_a_tap_come(lab: Lab) -> None:
    watch = lab.net.watch()
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11")
    ensure_tap(lab.netns, one.tap, net.mtu, lab.cloud_id)
    assert one.tap in watch.names()
    watch.stop()
    assert watch.names() == set()
    watch.close()


def test_changes_of_a_network_reach_its_guests(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11")
    guest = lab.guest(one)
    lab.apply(HostNetwork(networks=(net,), ports=(one,)))
    assert netlab.dhcp(guest, one.mac_address)[6] == socket.inet_aton("10.0.0.2")
    subnet = msgspec.structs.replace(net.subnets[0], dns_nameservers=("9.9.9.9",), dhcp_ip="10.0.0.3")
    changed = msgspec.structs.replace(net, subnets=(subnet,), mtu=1400)
    lab.apply(HostNetwork(networks=(changed,), ports=(one,)))
    ack = netlab.dhcp(guest, one.mac_address)
    assert (ack[6], ack[54], ack[26]) == (socket.inet_aton("9.9.9.9"), socket.inet_aton("10.0.0.3"), b"\x05\x78")
    assert list_links(lab.netns)[net.bridge].mtu == 1400
    silent = msgspec.structs.replace(net, subnets=(msgspec.structs.replace(subnet, enable_dhcp=False),))
    assert lab.apply(HostNetwork(networks=(silent,), ports=(one,))) == {one.id: "ACTIVE"}
    assert not netns_path(lab.net.dhcp_namespace(net.id)).exists()
    assert netlab.dhcp(guest, one.mac_address, timeout=0.5) == {}


def test_ipv6_is_filtered_too(lab: Lab) -> None:
    net = netlab.network()
    v6 = msgspec.structs.replace(net.subnets[0], id="v6", cidr="fd00::/64", ip_version=6, dhcp_ip=None, gateway_ip=None)
    net = msgspec.structs.replace(net, subnets=(*net.subnets, v6))
    opened = RuleSpec(direction="ingress", ethertype="IPv6", protocol="tcp", port_range_min=8022, port_range_max=8022)

    def port_with(ip: str, ip6: str, *rules: RuleSpec) -> PortSpec:
        one = netlab.port(net, ip, rules=(*EGRESS, *rules))
        return msgspec.structs.replace(one, fixed_ips=(*one.fixed_ips, FixedIP(subnet_id="v6", ip_address=ip6)))

    one, two = port_with("10.0.0.11", "fd00::11", opened), port_with("10.0.0.12", "fd00::12")
    guests = [lab.guest(one), lab.guest(two)]
    for guest, address in zip(guests, ("fd00::11/64", "fd00::12/64"), strict=True):
        run(["ip", "-n", guest, "addr", "add", address, "dev", "eth0", "nodad"])
    lab.apply(HostNetwork(networks=(net,), ports=(one, two)))
    servers = [
        netlab.in_netns(guests[0], socket.create_server, ("::", number), family=socket.AF_INET6)
        for number in (8022, 8080)
    ]
    try:
        deadline = time.monotonic() + 5  # carrier, then neighbour discovery
        while not netlab.connects(guests[1], "fd00::11", 8022):
            assert time.monotonic() < deadline
        assert not netlab.connects(guests[1], "fd00::11", 8080)
        assert not netlab.pings(guests[1], "fd00::11")
        run(["ip", "-n", guests[1], "addr", "add", "fd00::99/64", "dev", "eth0", "nodad"])
        run(["ip", "-n", guests[1], "addr", "del", "fd00::12/64", "dev", "eth0"])
        assert not netlab.connects(guests[1], "fd00::11", 8022)  # an address that is not its own
    finally:
        for server in servers:
            server.close()
