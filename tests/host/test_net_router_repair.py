"""Routers changed by hand, and passes that die before or after any of their outside calls: the next one makes it right."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import netlab
import pytest
from msgspec.structs import replace
from netlab import EGRESS, PING
from routerlab import (
    FLOATING,
    GATEWAY,
    LAN,
    RouterLab,
    crashes,
    desired,
    floating,
    leg,
    network6,
    outside_calls,
    router,
)

from kilonova.host.calls import run
from kilonova.host.dataplane import processes
from kilonova.host.dataplane.namespaces import listed_namespaces
from kilonova.host.net import radvd
from kilonova.host.net.link import list_links
from kilonova.host.netns import netns_path
from kilonova.model.specs import HostNetwork

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RouterLab]:
    lab = RouterLab(tmp_path)
    yield lab
    lab.close()
    assert netlab.pids_with(str(tmp_path)) == []


def test_wrong_things_are_put_right(lab: RouterLab) -> None:
    four, six = netlab.network(enable_dhcp=False), network6("fd00:1::", radvd.SLAAC)
    net = replace(four, subnets=four.subnets + six.subnets)
    port = netlab.port(net, "10.0.0.11", rules=(*EGRESS, PING))
    guest = lab.routed(port, "10.0.0.1")
    inside, out = leg(net, "10.0.0.1", "fd00:1::1"), leg(lab.external, GATEWAY, external=True)
    one = router(inside, out, routes=(("192.168.9.0/24", "10.0.0.11"),), floating_ips=(floating(FLOATING[0], port),))
    want = desired((net, lab.external), (port,), one)
    lab.apply(want)
    space, table = one.namespace, f"kilonova_{lab.cloud_id[:8]}"
    routes = run(["ip", "-n", space, "route"]), run(["ip", "-n", space, "-6", "route"])

    def ip(*words: str) -> Callable[[], object]:
        return lambda: run(["ip", "-n", space, *words])

    breaks: tuple[Callable[[], object], ...] = (
        ip("link", "del", inside.device),
        ip("link", "del", out.device),
        ip("link", "set", out.device, "down"),
        ip("link", "set", inside.device, "mtu", "1300"),
        ip("link", "set", inside.device, "address", netlab.mac()),
        ip("addr", "flush", "dev", out.device),
        ip("-6", "addr", "flush", "dev", inside.device, "scope", "global"),
        ip("addr", "add", "10.0.0.9/24", "dev", inside.device),
        ip("route", "flush", "table", "main"),
        ip("route", "del", "10.0.0.0/24"),
        ip("route", "replace", "default", "via", "10.0.0.11"),
        ip("route", "add", "192.168.10.0/24", "via", "10.0.0.11", "proto", "boot"),
        ip("link", "add", "qr-stray", "type", "veth", "peer", "name", "astray"),
        lambda: run(["sysctl", "-qw", "net.ipv4.ip_forward=0"], netns=space),
        lambda: run(["sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"], netns=space),
        lambda: run(["nft", "flush", "table", "ip", table], netns=space),
        lambda: run(["nft", "delete", "table", "ip", table], netns=space),
        lambda: run(["nft", "flush", "ruleset"], netns=space),
        lambda: run(["ip", "netns", "del", space]),
        lambda: run(["ip", "-n", lab.netns, "link", "set", inside.tap, "nomaster"]),
        lambda: run(["ip", "-n", lab.netns, "link", "set", out.tap, "down"]),
        lambda: processes.end(netlab.pids_with(f"{one.id}/radvd.pid"), lambda pid: True),
    )
    for number, break_it in enumerate(breaks):
        break_it()
        lab.apply(want)
        assert lab.writes(want) == [], number
        assert netlab.pings(guest, LAN), number
        assert netlab.pings(lab.lan, FLOATING[0]), number
        assert len(netlab.pids_with(f"{one.id}/radvd.pid")) == 2, number  # it has a privileged child
        now = run(["ip", "-n", space, "route"]), run(["ip", "-n", space, "-6", "route"])
        assert [sorted(text.splitlines()) for text in now] == [sorted(text.splitlines()) for text in routes], number


def test_all_that_is_done_by_hand_at_once_is_put_right_in_one_pass(lab: RouterLab) -> None:
    """While no process looks. A device that nobody wants is cut off in that pass, and goes by a second look."""
    net = netlab.network()
    port, other = (netlab.port(net, f"10.0.0.1{n}", rules=(*EGRESS, PING)) for n in (1, 2))
    guest = lab.routed(port, "10.0.0.1")
    lab.guest(other, "10.0.0.12/24")
    inside, out = leg(net, "10.0.0.1"), leg(lab.external, GATEWAY, external=True)
    one = router(inside, out, floating_ips=(floating(FLOATING[0], port),))
    want = desired((net, lab.external), (port, other), one)
    lab.apply(want)
    assert lab.writes(want) == []
    stray, ip = "tapstray-ours", ["ip", "-n", lab.netns]
    for damage in range(2):
        run([*ip, "link", "delete", net.bridge])
        run(["nft", "flush", "ruleset"], netns=lab.netns)
        processes.end(netlab.pids_with(str(lab.state)), lambda pid: True)
        run(["ip", "netns", "delete", one.namespace])
        run(["ip", "netns", "delete", lab.net.dhcp_namespace(net.id)])
        run([*ip, "tuntap", "add", stray, "mode", "tap"])
        run([*ip, "link", "set", stray, "alias", f"kilonova:{lab.cloud_id}"])
        lab.restart()
        assert set(lab.net.apply(want).values()) == {"ACTIVE"}, damage
        assert stray in run(["nft", "list", "set", "bridge", lab.net.table, "blocked"], netns=lab.netns)
        # The second look; and what kept it cut off goes after it.
        assert [lab.writes(want) for _ in range(3)] == [["netlink link delete"], ["nft -f"], []], damage
        assert stray not in list_links(lab.netns)
        assert netlab.pings(guest, "10.0.0.12")
        assert netlab.pings(guest, LAN)
        assert netlab.pings(lab.lan, FLOATING[0])
        assert netlab.dhcp(guest, port.mac_address)["ip"] == bytes([10, 0, 0, 11])
        assert not netlab.connects(lab.lan, FLOATING[0], 22)


def test_somebody_elses_rules_in_the_namespace_stay(lab: RouterLab) -> None:
    net = netlab.network(enable_dhcp=False)
    one = router(leg(net, "10.0.0.1"))
    want = desired((net,), (), one)
    lab.apply(want)
    run(["nft", "add", "table", "ip", "mine"], netns=one.namespace)
    lab.apply(want)
    assert lab.writes(want) == []
    assert "mine" in run(["nft", "list", "tables"], netns=one.namespace)


def test_crashes_while_building_and_removing(lab: RouterLab) -> None:
    four, six = netlab.network(enable_dhcp=False), network6("fd00:1::", radvd.SLAAC)
    net = replace(four, subnets=four.subnets + six.subnets)
    port = netlab.port(net, "10.0.0.11", rules=(*EGRESS, PING))
    legs = leg(net, "10.0.0.1", "fd00:1::1"), leg(lab.external, GATEWAY, external=True)
    one = router(*legs, floating_ips=(floating(FLOATING[0], port),))
    want = desired((net, lab.external), (), one)
    taps = {each.tap for each in legs}

    def build() -> None:
        statuses = lab.net.apply(want)
        assert set(statuses.values()) == {"ACTIVE"}

    def tear_down() -> None:
        lab.net.apply(HostNetwork())
        lab.net.apply(HostNetwork())

    def clean() -> bool:
        return (
            not taps & set(list_links(lab.netns))
            and not netns_path(one.namespace).exists()
            and listed_namespaces(lab.state) == []
            and not (lab.state / "net" / "routers" / one.id).exists()
            and netlab.pids_with(str(lab.state)) == []
        )

    builds = outside_calls(build)
    removes = outside_calls(tear_down)
    assert {"nft -f", "ip netns", "sysctl router", "metadata listen"} <= set(builds)
    places = Counter[str]()
    crashed = 0
    for number, name in enumerate(builds):
        places[name] += 1
        if places[name] > 2:
            continue
        crashed += crashes(build, name, places[name])
        lab.restart()
        if number % 3 == 0:
            tear_down()
            assert clean(), name
        build()
        lab.apply(want)  # what had to wait for a carrier
        assert lab.writes(want) == [], name
        crashes(tear_down, removes[number % len(removes)], 1)
        lab.restart()
        if number % 2:
            tear_down()
        else:
            lab.net.purge()
        assert clean(), name
    assert crashed > 20  # a new process asks some questions that an old one does not
