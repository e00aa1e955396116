"""A physical network on a real LAN: a veth whose other end is in a namespace of its own is the link, packets are real."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import netlab
import pytest
from netlab import EGRESS, PING
from planelab import PlaneLab, link, sysctl, traces
from routerlab import desired, floating, leg, router, seen_source

from kilonova.host.calls import observed, run
from kilonova.host.dataplane import DataPlane, DataPlaneConfig, load
from kilonova.host.dataplane.physnet import bridge_mappings
from kilonova.host.dataplane.plane import DataPlane as Plane
from kilonova.host.net.backend import HostNet
from kilonova.model.errors import HostError
from kilonova.model.specs import NetworkSpec, SubnetSpec

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces"),
    pytest.mark.xdist_group("root-forwarding"),
]
LAN = "198.18.40.1"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[PlaneLab]:
    lab = PlaneLab(tmp_path)
    yield lab
    lab.close()


@pytest.fixture
def lan() -> Iterator[str]:
    """The name of a link, and of the namespace where its cable ends, in a host with an address."""
    name = f"knl{uuid.uuid4().hex[:8]}"
    run(["ip", "netns", "add", name])
    try:
        run(["ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name])
        run(["ip", "-n", name, "addr", "add", f"{LAN}/24", "dev", "eth0"])
        run(["ip", "-n", name, "link", "set", "eth0", "up"])
        yield name
    finally:
        with suppress(HostError):
            run(["ip", "link", "delete", name])
        run(["ip", "netns", "delete", name])


class Site:
    """On the LAN: a guest with an address by DHCP, and a router with a guest behind it that has a floating IP."""

    floating = "198.18.40.20"

    def __init__(self, plane: Plane, physnet: str) -> None:
        self.plane = plane
        subnet = SubnetSpec(
            id=str(uuid.uuid4()), cidr="198.18.40.0/24", ip_version=4, gateway_ip=LAN, enable_dhcp=True,
            dhcp_ip="198.18.40.9",
        )  # fmt: skip
        external = NetworkSpec(
            id=str(uuid.uuid4()), name="lan", project_id="p", mtu=1500, subnets=(subnet,),
            physical_bridge=plane.bridge_mappings[physnet], dhcp_port_id=str(uuid.uuid4()), dhcp_mac=netlab.mac(),
        )  # fmt: skip
        net = netlab.network(enable_dhcp=False)
        self.inside = netlab.port(net, "10.0.0.11", rules=(*EGRESS, PING))
        self.outside = netlab.port(external, "198.18.40.30", rules=(*EGRESS, PING))
        legs = leg(net, "10.0.0.1"), leg(external, "198.18.40.10", external=True)
        routers = router(*legs, floating_ips=(floating(self.floating, self.inside),))
        self.networks, self.router = (net, external), routers
        self.net = self.host_net()
        for port in (self.inside, self.outside):
            guest = self.guest(port)
            run(["ip", "netns", "add", guest])
            peer = ["peer", "name", "eth0", "address", port.mac_address, "netns", guest]
            where = ["-n", plane.netns] if plane.netns else []
            run(["ip", *where, "link", "add", port.tap, "type", "veth", *peer])
            run(["ip", "-n", guest, "link", "set", "eth0", "up"])
        run(["ip", "-n", self.guest(self.inside), "addr", "add", "10.0.0.11/24", "dev", "eth0"])
        run(["ip", "-n", self.guest(self.inside), "route", "add", "default", "via", "10.0.0.1"])
        self.apply()

    def host_net(self) -> HostNet:
        return HostNet(self.plane.netns, self.plane.config.cloud_id, self.plane.config.state)

    def guest(self, port: netlab.PortSpec) -> str:
        return f"kng-{port.id[:11]}"

    def apply(self) -> None:
        found = self.net.apply(desired(self.networks, (self.inside, self.outside), self.router))
        assert set(found.values()) == {"ACTIVE"}

    def close(self) -> None:
        self.net.purge()
        self.net.close()
        for port in (self.inside, self.outside):
            run(["ip", "netns", "delete", self.guest(port)])


def works(site: Site, lan: str) -> None:
    run(["ping", "-c1", "-W5", site.floating], netns=lan)
    assert seen_source(lan, site.guest(site.inside), LAN, 8099) == site.floating


@pytest.mark.parametrize("host_net", [False, True])
def test_a_lan_carries_guests_floating_ips_and_the_way_out(lab: PlaneLab, lan: str, host_net: bool) -> None:
    before = _state(lan)
    plane = lab.network(physnets=(("lan", lan),), host_net=host_net)
    site = Site(plane, "lan")
    try:
        works(site, lan)
        guest = site.guest(site.outside)
        lease = netlab.dhcp(guest, site.outside.mac_address)
        assert lease["ip"] == bytes([198, 18, 40, 30])
        run(["ip", "-n", guest, "addr", "add", "198.18.40.30/24", "dev", "eth0"])
        run(["ping", "-c1", "-W5", "198.18.40.30"], netns=lan)
        run(["ping", "-c1", "-W5", LAN], netns=guest)
        run(["ip", "netns", "exec", lan, "ping", "-c1", "-W5", "-s", "1472", "-M", "do", "198.18.40.30"])
        assert _writes(plane.config) == []  # a restart
        works(site, lan)
    finally:
        site.close()
    plane.purge()
    assert _state(lan) == before
    assert not set(traces(plane.config)) - {"state"}


def test_repair(lab: PlaneLab, lan: str) -> None:
    plane = lab.network(physnets=(("lan", lan),))
    config, netns = plane.config, str(plane.netns)
    for damage in (
        ["ip", "-n", netns, "link", "delete", "brp-lan"],
        ["ip", "-n", netns, "link", "delete", "phy-lan"],
        ["ip", "-n", netns, "link", "set", "phy-lan", "nomaster"],
        ["ip", "-n", netns, "link", "set", "phy-lan", "down"],
        ["ip", "link", "set", lan, "down"],
        ["ip", "netns", "delete", netns],
    ):
        run(damage)
        DataPlane.ensure_network(config)
        found = link("phy-lan", netns)
        assert found and found["master"] == "brp-lan" and "UP" in found["flags"], damage
        assert "UP" in (link(lan) or {})["flags"]
        assert _writes(config) == []


def test_a_link_is_given_back_when_it_is_no_longer_named(lab: PlaneLab, lan: str) -> None:
    before = _state(lan)
    plane = lab.network(physnets=(("lan", lan),))
    renamed = replace(plane.config, physnets=(("other", lan),))
    assert DataPlane.ensure_network(renamed).bridge_mappings == {"public": "br-ex", "other": "brp-other"}
    assert link("phy-lan", plane.netns) is None
    DataPlane.ensure_network(replace(plane.config, physnets=()))
    assert _state(lan) == before
    assert link("brp-other", plane.netns) is None


def test_a_purge_knows_what_was_lent(lab: PlaneLab, lan: str) -> None:
    """`down` is not told what `up` was."""
    run(["ip", "link", "set", lan, "up"])
    before = _state(lan)
    config = lab.network(physnets=(("lan", lan),)).config
    assert load(config.state).config == config
    DataPlane(replace(config, physnets=())).purge()
    assert _state(lan) == before


def test_a_bring_up_that_dies_anywhere_is_finished_or_undone(lab: PlaneLab, lan: str) -> None:
    before = _state(lan)
    base = lab.network()
    config = replace(base.config, physnets=(("lan", lan),))
    for number in range(1000):
        if not _dies_at(number, config):
            break
        if number % 2:
            DataPlane.ensure_network(config)
            assert (link("phy-lan", base.netns) or {})["master"] == "brp-lan"
        DataPlane.ensure_network(base.config)
        assert _state(lan) == before
    assert number > 10


def test_what_the_host_uses_is_refused(lab: PlaneLab, lan: str) -> None:
    def refused(**options: object) -> str:
        with pytest.raises(HostError) as caught:
            lab.network(**options)
        return str(caught.value)

    asked = {"physnets": (("lan", lan),)}
    run(["ip", "addr", "add", "198.18.41.2/24", "dev", lan])
    before = _state(lan)
    assert f"{lan} has addresses (198.18.41.2/24)" in refused(**asked)
    assert _state(lan) == before
    run(["ip", "addr", "flush", "dev", lan])
    run(["ip", "addr", "add", "2001:db8:41::2/64", "dev", lan, "nodad"])
    why = refused(**asked)
    assert f"{lan} has addresses (2001:db8:41::2/64)" in why
    assert f"`sysctl -w net.ipv6.conf.{lan}.disable_ipv6=1` keeps those of IPv6 away" in why
    run(["sysctl", "-q", "-w", f"net.ipv6.conf.{lan}.disable_ipv6=1"])
    assert not _state(lan)["addresses"]
    run(["sysctl", "-q", "-w", f"net.ipv6.conf.{lan}.disable_ipv6=0"])
    assert "this machine has no link nosuch0" in refused(physnets=(("lan", "nosuch0"),))
    assert "lo is no way out" in refused(physnets=(("lan", "lo"),))
    lab.network(**asked)
    assert "in use by another cloud" in refused(**asked)
    assert "in use by another cloud" in refused(**asked, host_net=True)


def test_a_lan_takes_the_name_of_the_default_network() -> None:
    def mappings(*physnets: tuple[str, str], host_net: bool = False) -> dict[str, str]:
        return bridge_mappings(DataPlaneConfig(Path("/x"), "0" * 36, physnets=physnets, host_net=host_net))

    assert mappings() == {"public": "br-ex"}
    assert mappings(("public", "eth1")) == {"host": "br-ex", "public": "brp-public"}
    named = mappings(("a-very-long-name", "eth1"), ("b", "eth2"), host_net=True)
    assert len(set(named.values())) == 3
    assert all(len(bridge) <= 15 for bridge in named.values())


def _state(name: str) -> dict[str, object]:
    """All that somebody could miss: link, addresses, master, promiscuity, and the sysctl."""
    found = json.loads(run(["ip", "-json", "-details", "addr", "show", name]))[0]
    kept = {key: found.get(key) for key in ("ifindex", "mtu", "address", "master", "promiscuity", "ifalias")}
    addresses = [each["local"] for each in found["addr_info"] if each["scope"] == "global"]
    return kept | {
        "up": "UP" in found["flags"],
        "addresses": addresses,
        "ipv6": sysctl(f"net/ipv6/conf/{name}/disable_ipv6"),
    }


def _writes(config: DataPlaneConfig) -> list[str]:
    """Netlink requests about the physical network that may change something, of one more bring-up."""
    calls: list[str] = []
    run(["ip", "link", "show"])
    with observed(lambda when, name: calls.append(name) if when == "before" else None):
        DataPlane.ensure_network(config)
    return [
        name for name in calls if any(word in name for word in ("macvlan", "set master", "link delete", "bridge add"))
    ]


class Died(BaseException):
    pass


def _dies_at(number: int, config: DataPlaneConfig) -> bool:
    """A bring-up that ends at its `number`th outside call; False when it has not so many."""
    left = [number]

    def observer(when: str, name: str) -> None:
        left[0] -= 1
        if left[0] == -1:
            raise Died

    try:
        with observed(observer):
            DataPlane.ensure_network(config)
    except Died:
        return True
    return False
