"""A pass that dies before or after any of its outside calls: the next one, in a new process, ends the same."""

import os
from collections.abc import Iterator
from pathlib import Path

import netlab
import pytest
from msgspec.structs import replace
from netlab import Lab

from kilonova.host.calls import observed, run
from kilonova.host.dataplane.namespaces import listed_namespaces
from kilonova.host.net.link import attach, ensure_bridge, ensure_tap, list_links
from kilonova.model.specs import GroupSpec, HostNetwork, PortSpec, RuleSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")


class Crash(BaseException):
    """No handler catches it: the rest of the pass does not happen."""


class Point:
    """Crashes at the n-th edge (before or after an outside call), and counts them."""

    def __init__(self, at: int) -> None:
        self.at, self.count, self.where = at, 0, ""

    def __call__(self, when: str, name: str) -> None:
        self.count += 1
        if self.count == self.at:
            self.where = f"{when} {name}"
            raise Crash(self.where)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()
    assert netlab.pids_with(str(tmp_path)) == []


def crashes(lab: Lab, at: int, act: object) -> str:
    """Where it crashed; empty when there was no such edge."""
    point = Point(at)
    try:
        with observed(point):
            act()  # type: ignore[operator]
    except Crash:
        pass
    return point.where


def test_building_up_and_tearing_down(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11")
    desired = HostNetwork(networks=(net,), ports=(one,))
    tap = one.tap

    def build() -> None:
        ensure_bridge(lab.netns, net.bridge, net.mtu, lab.cloud_id)
        ensure_tap(lab.netns, tap, net.mtu, lab.cloud_id)
        attach(lab.netns, net.bridge, tap, lab.cloud_id)
        assert lab.net.apply(desired) == {one.id: "ACTIVE"}

    def tear_down() -> None:
        lab.net.apply(HostNetwork())
        lab.net.apply(HostNetwork())

    def clean() -> bool:
        return (
            not {tap, net.bridge} & set(list_links(lab.netns))
            and listed_namespaces(lab.state) == []
            and netlab.pids_with(str(lab.state)) == []
        )

    seen, at = [], 1
    while where := crashes(lab, at, build):
        seen.append(where)
        lab.restart()
        # An undo right after the crash leaves nothing …
        if at % 2:
            tear_down()
            assert clean(), where
        # … and a repetition has all.
        build()
        assert lab.writes(desired) == [], where
        if at % 3:
            assert crashes(lab, at, tear_down) or True
            lab.restart()
            tear_down()
        else:
            lab.net.purge()
        assert clean(), where
        at += 1
    assert {"before nft -f", "after tap add", "after netlink bridge add", "after dnsmasq --conf-file=/dev/null"} <= set(
        seen
    )
    assert run(["nft", "list", "tables"], netns=lab.netns).count("kilonova") in (0, 3)


def test_a_change_that_dies_half_done_is_finished_by_the_next_process(lab: Lab) -> None:
    net = netlab.network()
    members = RuleSpec(direction="ingress", ethertype="IPv4", remote_group_id="g")
    one = netlab.port(net, "10.0.0.11", rules=(*netlab.EGRESS, netlab.tcp(22), members))
    two = netlab.port(net, "10.0.0.12")
    for port in (one, two):
        ensure_tap(lab.netns, port.tap, net.mtu, lab.cloud_id)
    less = replace(one, rules=(*netlab.EGRESS, members))

    def desired(group: tuple[str, ...], *ports: PortSpec) -> HostNetwork:
        return HostNetwork(networks=(net,), ports=ports, groups=(GroupSpec(id="g", addresses=group),))

    before, after = desired(("10.0.0.11", "10.0.0.12"), one, two), desired(("10.0.0.11",), less, two)
    lab.net.apply(before)
    calls: list[str] = []
    at, seen = 1, list[str]()

    def change() -> None:
        calls.clear()
        with observed(lambda when, name: calls.append(f"{when} {name}")):
            assert lab.net.apply(after) == {one.id: "ACTIVE", two.id: "ACTIVE"}

    while where := crashes(lab, at, change):
        seen.append(where)
        done = calls.count("before netlink conntrack list")
        lab.restart()
        change()
        # One network's connections of both families are looked at: none is left out, whoever dies on the way.
        again = calls.count("before netlink conntrack list")
        assert again == 2 or (done == 2 and again == 0 and "conntrack" not in where), where
        assert lab.writes(after) == [], where
        lab.net.apply(before)
        at += 1
    assert {"before nft -f", "after nft -f", "before netlink conntrack list"} <= set(seen)
