"""Routers on a cloud's real data plane: floating IPs answer in the root namespace, guests reach what the host lets them."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import netlab
import pytest
from msgspec.structs import replace
from netlab import EGRESS, PING
from planelab import PlaneLab
from routerlab import desired, floating, leg, router, seen_source

from kilonova.host.calls import run
from kilonova.host.dataplane.plane import DataPlane
from kilonova.host.net.backend import HostNet
from kilonova.model.errors import HostError
from kilonova.model.specs import HostNetwork, NetworkSpec, SubnetSpec

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces"),
    pytest.mark.xdist_group("root-forwarding"),
]
WORLD, HERE = "198.18.8.2", "198.18.8.1"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[PlaneLab]:
    lab = PlaneLab(tmp_path)
    yield lab
    lab.close()


class Site:
    """A guest behind a router on the plane's public subnet, with a floating IP."""

    def __init__(self, plane: DataPlane) -> None:
        base = str(plane.public_cidr).removesuffix("0/24")
        subnet = SubnetSpec(
            id=str(uuid.uuid4()), cidr=f"{base}0/24", ip_version=4, gateway_ip=plane.gateway, enable_dhcp=False
        )
        external = NetworkSpec(
            id=str(uuid.uuid4()),
            name="public",
            project_id="p",
            mtu=1500,
            subnets=(subnet,),
            physical_bridge=plane.external_bridge,
        )
        self.plane, self.floating = plane, f"{base}20"
        net = netlab.network(enable_dhcp=False)
        self.networks = net, external
        self.port = netlab.port(net, "10.0.0.11", rules=(*EGRESS, PING))
        legs = leg(net, "10.0.0.1"), leg(external, f"{base}10", external=True)
        self.router = router(*legs, floating_ips=(floating(self.floating, self.port),))
        self.guest = f"kng-{self.port.id[:11]}"
        self.net = HostNet(plane.netns, plane.config.cloud_id, plane.config.state)

    def desired(self, *rules: netlab.RuleSpec) -> HostNetwork:
        return desired(self.networks, (replace(self.port, rules=(*EGRESS, *rules)),), self.router)


@contextmanager
def site_on(plane: DataPlane) -> Iterator[Site]:
    site = Site(plane)
    run(["ip", "netns", "add", site.guest])
    try:
        peer = ["peer", "name", "eth0", "address", site.port.mac_address, "netns", site.guest]
        run(["ip", "-n", str(plane.netns), "link", "add", site.port.tap, "type", "veth", *peer])
        run(["ip", "-n", site.guest, "link", "set", "eth0", "up"])
        run(["ip", "-n", site.guest, "addr", "add", "10.0.0.11/24", "dev", "eth0"])
        run(["ip", "-n", site.guest, "route", "add", "default", "via", "10.0.0.1"])
        assert set(site.net.apply(site.desired(PING)).values()) == {"ACTIVE"}
        yield site
        site.net.purge()
    finally:
        site.net.close()
        run(["ip", "netns", "delete", site.guest])


@pytest.fixture
def world() -> Iterator[str]:
    """A namespace that the host has a link to."""
    name = f"knw-{uuid.uuid4().hex[:8]}"
    run(["ip", "netns", "add", name])
    try:
        run(["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name])
        run(["ip", "addr", "add", f"{HERE}/30", "dev", name])
        run(["ip", "link", "set", name, "up"])
        run(["ip", "-n", name, "addr", "add", f"{WORLD}/30", "dev", "eth0"])
        run(["ip", "-n", name, "link", "set", "eth0", "up"])
        yield name
        run(["ip", "link", "del", name])
    finally:
        run(["ip", "netns", "delete", name])


def test_a_floating_ip_answers_from_the_root_namespace(lab: PlaneLab) -> None:
    plane = lab.network()
    with site_on(plane) as site:
        run(["ping", "-c1", "-W5", site.floating])
        run(["ping", "-c1", "-W5", plane.gateway], netns=site.guest)
        site.net.apply(site.desired())
        with pytest.raises(HostError, match="100% packet loss"):
            run(["ping", "-c1", "-W1", site.floating])
    run(["ping", "-c1", "-W5", plane.address])  # the wire is the data plane's, and stays


def test_a_guest_reaches_the_world_with_an_uplink(lab: PlaneLab, world: str) -> None:
    with site_on(lab.network(uplink="nat")) as site:
        run(["ping", "-c1", "-W5", site.floating])  # its router is there, and known
        assert seen_source(world, site.guest, WORLD, 8099) == HERE
    with site_on(lab.network()) as site:
        run(["ping", "-c1", "-W5", site.floating])
        assert seen_source(world, site.guest, WORLD, 8099) is None
