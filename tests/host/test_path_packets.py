"""The computed path says what real packets do, and the trial on the live rules agrees with both."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import netlab
import pytest
from network_client import ADMIN, Neutron
from routerlab import LAN, RouterLab, seen_source
from sitelab import HOST, Site

from kilonova.db.engine import Database
from kilonova.host.calls import run
from kilonova.host.net import packet_trace
from kilonova.host.net.link import list_links
from kilonova.network.desired import host_network
from kilonova.network.path import Passage
from kilonova.network.path import Path as Way
from kilonova.network.path_rules import Kind
from kilonova.network.path_views import agrees, frame

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")


class RealSite(Site):
    """The rows of `Site` made true on this machine, its ports' guests being namespaces."""

    def __init__(self, neutron: Neutron, lab: RouterLab) -> None:
        self.lab: RouterLab | None = None
        super().__init__(neutron)
        self.lab, self.guests = lab, dict[str, str]()

    def guest(self, network: str, group: str, **values: Any) -> str:
        port = self.port(network, group, **values)
        spec = next(each for each in self.desired().ports if each.id == port)
        gateway = f"{spec.fixed_ips[0].ip_address.rpartition('.')[0]}.1"
        assert self.lab is not None
        self.guests[port] = self.lab.routed(spec, gateway)
        self.wired()
        return port

    def desired(self) -> Any:
        return self.neutron.database.read(lambda tx: host_network(tx, HOST))

    def wired(self) -> None:
        if self.lab is None:
            return super().wired()
        self.statuses(self.lab.apply(self.desired()))
        return None

    def real(self, start: str, end: str, port: int | None) -> bool:
        """`end`: a port or an address."""
        guest = self.lab.lan if start == "outside" else self.guests[start]  # type: ignore[union-attr]
        address = self.address(end) if end in self.guests else end
        if port is None:
            return netlab.pings(guest, address)
        server = next(each for each in self.guests.values() if each == self.guests.get(self.holder(address)))
        return seen_source(server, guest, address, port) is not None

    def address(self, port: str) -> str:
        found: str = self.neutron.get(f"/v2.0/ports/{port}", ADMIN).json()["port"]["fixed_ips"][0]["ip_address"]
        return found

    def snat(self, router: str) -> str:
        found = self.neutron.get(f"/v2.0/routers/{router}", ADMIN).json()["router"]["external_gateway_info"]
        return str(found["external_fixed_ips"][0]["ip_address"])

    def holder(self, address: str) -> str:
        floating = self.neutron.list("floatingips", f"?floating_ip_address={address}", ADMIN)
        if floating:
            return str(floating[0]["port_id"])
        return next(port for port in self.guests if self.address(port) == address)

    def agree(self, start: str, end: str, port: int | None = None) -> bool:
        """What packets do, after the computed path and the trial on the live rules have said the same."""
        query = {} if port is None else {"port": str(port)}
        target = self.address(end) if end in self.guests else end
        source = {"start": LAN} if start == "outside" else {"start": start}
        computed = self.path(source["start"], target, **query)
        passed = self.real(start, end, port)
        assert computed["reachable"] is passed, (start, end, port, computed)
        tried = self.trial(source["start"], target, query)
        assert all(agrees(each, trace) for each, trace in tried), (computed, tried)
        return passed

    def trial(self, start: str, target: str, query: dict[str, str]) -> list[tuple[Any, dict[str, Any]]]:
        assert self.lab is not None
        way, _ = self.computed(start, target, query)
        frames = [frame(each) for each in way.trials]
        return list(zip(way.trials, packet_trace.try_packets(self.lab.netns, self.lab.net.table, frames), strict=True))

    def computed(self, start: str, target: str, query: dict[str, str]) -> tuple[Way, Kind]:
        from types import SimpleNamespace

        from network_client import CONTEXTS

        from kilonova.network.path_views import find

        asked = {"from": start, "to": target, **query}
        call: Any = SimpleNamespace(arg=lambda name, default=None: asked.get(name, default), context=CONTEXTS[ADMIN])
        return self.neutron.database.read(lambda tx: find(tx, call))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RealSite]:
    database = Database(f"sqlite:///{tmp_path}/kilonova.db")
    database.migrate()
    lab = RouterLab(tmp_path / "state")
    yield RealSite(Neutron(database), lab)
    lab.close()
    database.close()


def test_one_network(site: RealSite) -> None:
    a, b, c = site.guest("net", "a"), site.guest("net", "b"), site.guest("net", "c")
    assert not site.agree(a, b)
    site.rule("b", protocol="icmp")
    site.rule("b", protocol="tcp", port_range_min=8022, port_range_max=8022)
    site.rule("c", remote_group_id=site.group("a"))
    site.wired()
    assert site.agree(a, b)
    assert site.agree(a, b, 8022)
    assert not site.agree(a, b, 8023)
    assert not site.agree(b, a)  # the wrong direction
    assert site.agree(a, c)  # a member of the remote group
    assert not site.agree(b, c)  # and one that is none
    egress = [r["id"] for r in site.neutron.list("security-group-rules") if r["security_group_id"] == site.group("a")]
    for rule in egress:
        assert site.neutron.delete(f"/v2.0/security-group-rules/{rule}").status_code == 204
    site.wired()
    assert not site.agree(a, b)
    site.put("port", a, port_security_enabled=False, security_groups=[])
    assert site.agree(a, b)
    site.put("port", b, admin_state_up=False)
    assert not site.agree(a, b)


def test_routers_and_floating_ips(site: RealSite) -> None:
    a, b = site.guest("net", "a"), site.guest("two", "b")
    site.rule("b", protocol="icmp")
    site.rule("b", protocol="tcp", port_range_min=8022, port_range_max=8022)
    site.wired()
    assert not site.agree(a, b)  # no router
    router = site.router("net")
    assert not site.agree(a, b)  # which does not know the other network
    site.attach(router, "two")
    assert site.agree(a, b)
    assert site.agree(a, b, 8022)
    assert not site.agree(b, a)
    assert site.agree(a, "10.1.0.1")
    assert not site.agree(a, LAN)
    site.gateway(router)
    assert site.agree(a, LAN)  # by SNAT
    site.gateway(router, enable_snat=False)
    assert not site.agree(a, LAN)
    floating = site.floating(b)
    site.wired()
    assert site.agree("outside", floating)
    assert site.agree("outside", floating, 8022)
    assert not site.agree("outside", floating, 8023)
    assert site.agree(b, LAN)  # by its floating IP, without SNAT
    assert site.agree(a, floating)  # hairpin
    site.put("router", router, admin_state_up=False)
    assert not site.agree(a, b)
    assert not site.agree("outside", floating)


def test_what_is_wrong_with_a_router_is_seen(site: RealSite) -> None:
    """Each damage by itself; the loop's next pass puts it right."""
    a, b = site.guest("net", "a"), site.guest("net", "b")
    site.rule("b", protocol="icmp")
    router = site.router("net")
    site.gateway(router)
    floating = site.floating(b)
    site.wired()
    space = f"qrouter-{router}"
    outward, inward = (a, LAN), (LAN, floating)

    def passage(start: str, target: str) -> tuple[Any, dict[str, Any]]:
        [found] = [each for each in site.trial(start, target, {}) if isinstance(each[0], Passage)]
        return found

    def right() -> bool:
        return all(agrees(*passage(*ends)) for ends in (outward, inward))

    _, trace = passage(a, LAN)
    assert (trace["left_by"][:3], trace["source"], trace["destination"]) == ("qg-", site.snat(router), LAN)
    assert any("snat to" in rule for rule in trace["rules"]), trace
    assert right()
    inside = next(name for name in list_links(space) if name.startswith("qr-"))
    for words, ends, wrong in (
        (["nft", "flush", "ruleset"], outward, ""),
        (["nft", "flush", "ruleset"], inward, ""),
        (["ip", "route", "delete", "10.0.0.0/24"], inward, ""),
        (["ip", "link", "set", inside, "down"], outward, f"{inside} is down"),
        (["sysctl", "-q", "-w", "net.ipv4.ip_forward=0"], outward, ""),
    ):
        run(words, netns=space)
        trial, trace = passage(*ends)
        assert not agrees(trial, trace), words
        assert trace["wiring"] == ([wrong] if wrong else [])
        site.wired()
        assert right(), words
    run(["ip", "netns", "delete", space])
    assert passage(a, LAN)[1]["wiring"] == [f"the namespace {space} is not there"]
    site.wired()
    assert right()


def test_routers_and_ipv6(site: RealSite) -> None:
    six = {}
    for number, name in enumerate(("net", "two")):
        subnet = {"cidr": f"fd00:{number}::/64", "ip_version": 6}
        site.neutron.make("subnet", network_id=site.nets[name], **subnet, enable_dhcp=False)
        port = site.guest(name, name)
        fixed = site.neutron.get(f"/v2.0/ports/{port}").json()["port"]["fixed_ips"]
        six[port] = next(ip["ip_address"] for ip in fixed if ":" in ip["ip_address"])
        run(["ip", "-n", site.guests[port], "addr", "replace", f"{six[port]}/64", "dev", "eth0", "nodad"])
        run(["ip", "-n", site.guests[port], "-6", "route", "add", "default", "via", f"fd00:{number}::1"])
    a, b = six
    site.rule("two", ethertype="IPv6", protocol="icmp")
    router = site.neutron.make("router", name="six")["id"]
    for subnet in site.neutron.list("subnets"):
        if subnet["ip_version"] == 6:
            path = f"/v2.0/routers/{router}/add_router_interface"
            assert site.neutron.put(path, {"subnet_id": subnet["id"]}).status_code == 200
    site.wired()
    assert netlab.pings(site.guests[a], six[b]) or netlab.pings(site.guests[a], six[b])
    assert site.path(a, six[b])["reachable"] is True
    tried = site.trial(a, six[b], {})
    assert [type(each).__name__ for each, _ in tried] == ["Crossing", "Passage", "Crossing"]
    assert all(agrees(each, trace) for each, trace in tried), tried


def test_a_port_forwarding_and_an_address_pair(site: RealSite) -> None:
    a, b = site.guest("net", "a"), site.guest("net", "b")
    site.rule("b", protocol="tcp", port_range_min=8022, port_range_max=8022)
    site.rule("a", remote_ip_prefix="10.0.0.200/32", protocol="icmp")
    site.gateway(site.router("net"))
    floating = site.neutron.make("floatingip", floating_network_id=site.public)
    forwarding = {"protocol": "tcp", "external_port": 2222, "internal_port": 8022, "internal_port_id": b}
    path = f"/v2.0/floatingips/{floating['id']}/port_forwardings"
    made = site.neutron.post(path, {"port_forwarding": {**forwarding, "internal_ip_address": site.address(b)}})
    assert made.status_code == 201, made.text
    site.wired()
    address = floating["floating_ip_address"]
    for port, reached in ((2222, True), (2223, None)):
        assert site.lab is not None
        real = seen_source(site.guests[b], site.lab.lan, address, port, at=8022)
        computed = site.path(LAN, address, port=str(port))
        assert (real is not None) is bool(reached), real
        tried = site.trial(LAN, address, {"port": str(port)})
        assert all(agrees(each, trace) for each, trace in tried), tried
        if reached:
            assert tried[1][1]["port"] == 8022 and "@forwarded" in "".join(tried[1][1]["rules"]), tried
            assert computed["reachable"] is True and computed["hops"][-1]["kind"] == "tap", computed
        else:  # nothing listens at the router itself
            assert "itself answers" in computed["explanation"], computed
    assert not site.agree(b, a)
    run(["ip", "-n", site.guests[b], "addr", "add", "10.0.0.200/24", "dev", "eth0"])
    for pairs, reached, reason in (([], False, "spoofed"), ([{"ip_address": "10.0.0.200"}], True, "reachable")):
        site.put("port", b, allowed_address_pairs=pairs)
        assert netlab.pings(site.guests[b], site.address(a), source="10.0.0.200") is reached
        assert site.path(b, a, source="10.0.0.200")["reason"] == reason


def test_ipv6(site: RealSite) -> None:
    subnet = {"cidr": "fd00:9::/64", "ip_version": 6, "ipv6_address_mode": "slaac", "ipv6_ra_mode": "slaac"}
    site.neutron.make("subnet", network_id=site.nets["net"], **subnet)
    a, b = site.guest("net", "a"), site.guest("net", "b")
    six = {}
    for port in (a, b):
        fixed = site.neutron.get(f"/v2.0/ports/{port}").json()["port"]["fixed_ips"]
        six[port] = next(ip["ip_address"] for ip in fixed if ":" in ip["ip_address"])
        run(["ip", "-n", site.guests[port], "addr", "replace", f"{six[port]}/64", "dev", "eth0"])
    assert not netlab.pings(site.guests[a], six[b])
    assert site.path(a, six[b])["reason"] == "ingress-denied"
    site.rule("b", ethertype="IPv6", protocol="icmp")
    site.wired()
    assert netlab.pings(site.guests[a], six[b])
    assert site.path(a, six[b])["reachable"] is True
    [(crossing, trace)] = site.trial(a, six[b], {})
    assert trace["delivered"] and agrees(crossing, trace)
    assert not site.agree(a, b)  # by IPv4


def test_the_trace_names_the_rule_and_what_is_not_wired(site: RealSite) -> None:
    a, b = site.guest("net", "a"), site.guest("net", "b")
    site.rule("b", protocol="tcp", port_range_min=22, port_range_max=22)
    site.wired()
    assert site.lab is not None
    way, _ = site.computed(a, site.address(b), {"port": "22"})
    crossing = frame(way.trials[0])
    trace = packet_trace.try_packets(site.lab.netns, site.lab.net.table, [crossing])[0]
    assert trace["delivered"] and any("tcp dport 22 return" in rule for rule in trace["rules"]), trace
    spoofed = {**crossing, "source": "10.0.0.99"}
    trace = packet_trace.try_packets(site.lab.netns, site.lab.net.table, [spoofed])[0]
    assert not trace["delivered"] and "guard-ip: drop" in trace["rules"][-1], trace
    run(["ip", "-n", site.lab.netns, "link", "set", f"tap{b[:11]}", "nomaster"])
    trace = packet_trace.try_packets(site.lab.netns, site.lab.net.table, [crossing])[0]
    assert trace["wiring"] == [f"tap{b[:11]} is not in {crossing['bridge']}"]
