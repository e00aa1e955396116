"""Metering labels on real packets: what a router counts, and that no change of rules loses it."""

import os
from collections.abc import Iterator
from pathlib import Path

import netlab
import pytest
from netlab import EGRESS, PING
from routerlab import FLOATING, GATEWAY, LAN, RouterLab, desired, floating, leg, router

from kilonova.host.calls import run
from kilonova.host.net.router_meters import Count
from kilonova.model.specs import HostNetwork, MeterRuleSpec, MeterSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
OUT, IN, INNER = "1f0e5a52-8c5b-4c7c-9a70-7c1f0b9d3f01", "2f0e5a52-8c5b-4c7c-9a70-7c1f0b9d3f02", "3f0e5a52"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RouterLab]:
    lab = RouterLab(tmp_path)
    yield lab
    lab.close()


def test_what_a_router_counts(lab: RouterLab) -> None:
    net = netlab.network(enable_dhcp=False)
    port = netlab.port(net, "10.0.0.11", rules=(*EGRESS, PING))
    other = netlab.port(net, "10.0.0.12", rules=(*EGRESS, PING))
    legs = leg(net, "10.0.0.1"), leg(lab.external, GATEWAY, external=True)
    guest, second = lab.routed(port, "10.0.0.1"), lab.routed(other, "10.0.0.1")
    out = MeterSpec(
        id=OUT,
        rules=(
            MeterRuleSpec(direction="egress", source="10.0.0.0/24"),
            MeterRuleSpec(direction="egress", source="10.0.0.12/32", excluded=True),
        ),
    )
    into = MeterSpec(id=IN, rules=(MeterRuleSpec(direction="ingress", destination="10.0.0.11/32"),))
    everything = MeterSpec(
        id=INNER, rules=tuple(MeterRuleSpec(direction=way, source="0.0.0.0/0") for way in ("ingress", "egress"))
    )
    one = router(*legs, meters=(out, into))

    def want(**changes: object) -> HostNetwork:
        nonlocal one
        one = type(one)(**{name: getattr(one, name) for name in one.__struct_fields__} | changes)
        return desired((net, lab.external), (port, other), one)

    def counted() -> dict[str, int]:
        return {label: count.packets for label, count in lab.net.meters()[one.id].items()}

    lab.apply(want())
    assert lab.net.meters() == {one.id: {OUT: Count(0, 0), IN: Count(0, 0)}}
    run(["ping", "-c4", "-i0.02", "-W1", "-s100", LAN], netns=guest)
    assert lab.net.meters()[one.id] == {OUT: Count(4, 4 * 128), IN: Count(4, 4 * 128)}
    run(["ping", "-c3", "-i0.02", "-W1", LAN], netns=second)  # excluded on its way out, not named on its way in
    assert counted() == {OUT: 4, IN: 4}
    # Other rules and other labels leave the counts alone, and so does another process.
    lab.apply(want(floating_ips=(floating(FLOATING[0], port),), meters=(out, into, everything)))
    run(["ping", "-c2", "-i0.02", "-W1", FLOATING[0]], netns=lab.lan)
    assert counted() == {OUT: 6, IN: 6, INNER: 4}
    lab.restart()
    assert set(lab.writes(want())) == {"metadata listen"}
    # A label that is gone takes its counter along; the others count on.
    lab.apply(want(meters=(into,)))
    assert counted() == {IN: 6}
    lab.apply(want(meters=()))
    assert counted() == {}
    assert "meters" not in run(["nft", "list", "tables"], netns=one.namespace)
