"""The metadata service over IPv6 by way of a router, in networks that no DHCP server answers in."""

import os
import types
from collections.abc import Iterator
from pathlib import Path

import netlab
import pytest
from msgspec.structs import replace
from netlab import link_local
from routerlab import RouterLab, desired, leg, network6, router

from kilonova.host.calls import run
from kilonova.host.net.netlink import Netlink
from kilonova.model.specs import FixedIP, NetworkSpec, PortSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
THERE, PATH = "fe80::a9fe:a9fe%eth0", "/latest/meta-data/instance-id"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RouterLab]:
    lab = RouterLab(
        tmp_path,
        server=lambda device_id: types.SimpleNamespace(id=device_id, project_id="p"),
        ec2_tree=lambda server: {"meta-data": {"instance-id": server.id}},
    )
    yield lab
    lab.close()


def port6(net: NetworkSpec, address: str, mac: str) -> PortSpec:
    fixed = FixedIP(subnet_id=net.subnets[0].id, ip_address=address)
    return replace(netlab.port(net, "0.0.0.0", mac_address=mac), fixed_ips=(fixed,))


def guest6(lab: RouterLab, port: PortSpec) -> str:
    guest = lab.guest(port)
    run(["ip", "-n", guest, "addr", "replace", f"{port.fixed_ips[0].ip_address}/64", "dev", "eth0", "nodad"])
    return guest


def test_each_guest_gets_its_own_though_link_local_addresses_are_alike(lab: RouterLab) -> None:
    """Two networks of one router, and a guest in each with one and the same MAC address."""
    mac = netlab.mac()
    nets = network6("fd00:1::", None), network6("fd00:2::", None)
    ports = port6(nets[0], "fd00:1::11", mac), port6(nets[1], "fd00:2::11", mac)
    guests = [guest6(lab, port) for port in ports]
    one = router(leg(nets[0], "fd00:1::1"), leg(nets[1], "fd00:2::1"))
    want = desired(nets, ports, one)
    lab.apply(want)
    assert all(f"{link_local(mac)}/64" in run(["ip", "-n", each, "addr"]) for each in guests)
    for _ in range(2):
        answers = [netlab.http_get(guest, PATH, THERE) for guest in guests]
        assert answers == [(200, port.device_id.encode()) for port in ports]
        assert lab.writes(want) == []
        lab.restart()
        lab.apply(want)
    for guest, port in zip(guests, ports, strict=True):
        assert not netlab.connects(guest, f"{port.fixed_ips[0].ip_address.removesuffix('1')}", 80)  # the leg's own
    run(["ip", "-n", one.namespace, "addr", "del", "fe80::a9fe:a9fe/64", "dev", one.ports[0].device])
    lab.apply(want)
    assert netlab.http_get(guests[0], PATH, THERE)[0] == 200
    lab.apply(desired(nets, ports, replace(one, ports=one.ports[1:])))
    assert netlab.http_get(guests[1], PATH, THERE)[0] == 200
    assert not netlab.connects(guests[0], THERE, 80)


def test_one_answers_where_a_dhcp_server_comes_and_goes(lab: RouterLab) -> None:
    """Its address is on one device at a time: on the router's, or on the DHCP server's."""
    net = network6("fd00:1::", None)
    subnet = replace(net.subnets[0], dhcp_ip="fd00:1::2")
    served = replace(net, subnets=(subnet,), dhcp_port_id=netlab.port(net, "0.0.0.0").id, dhcp_mac=netlab.mac())
    port = port6(net, "fd00:1::11", netlab.mac())
    guest = guest6(lab, port)
    one = router(leg(net, "fd00:1::1"))

    def has(netns: str) -> bool:
        connection = Netlink(netns)
        try:
            return "fe80::a9fe:a9fe/64" in set().union(*connection.all_addresses().values())
        finally:
            connection.close()

    for spec in (net, served, net):
        for _ in range(2):  # what is left over goes with the second look
            lab.apply(desired((spec,), (port,), one))
        assert has(one.namespace) is (spec is net)
        run(["ip", "-n", guest, "neigh", "flush", "dev", "eth0"])  # as it does by itself, after a while
        assert netlab.http_get(guest, PATH, THERE) == (200, port.device_id.encode())
        if spec is served:
            assert has(lab.net.dhcp_namespace(net.id))
