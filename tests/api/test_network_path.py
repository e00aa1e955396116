"""Why A reaches B, or not: the computed path, at the door. That real packets agree is tests/host/test_path_packets.py's."""

from typing import Any

import pytest
from network_client import ADMIN, DEMO, OTHER, READER, Neutron, refused
from sitelab import Site

from kilonova.db.engine import Database


@pytest.fixture
def site(database: Database) -> Site:
    return Site(Neutron(database))


def test_one_network_and_the_rule_that_decides(site: Site) -> None:
    a, b = site.port("net", "a"), site.port("net", "b")
    path = site.path(a, b)
    assert (path["reachable"], path["reason"]) == (False, "ingress-denied")
    rule = site.rule("b", protocol="icmp")
    path = site.path(a, b)
    assert path["reachable"] is True, path
    decided = [hop["rule"]["id"] for hop in path["hops"] if hop.get("rule")]
    assert decided[-1] == rule and [hop["kind"] for hop in path["hops"]] == ["tap", "group", "bridge", "group", "tap"]
    assert "host" not in path["hops"][0]
    told = site.path(a, b, token=ADMIN)["hops"][0]
    assert (told["device"], told["host"]) == (f"tap{a[:11]}", "host-1")
    path = site.path(a, b, port="22")
    assert path["reason"] == "ingress-denied" and f"rule {rule}: it is for icmp" in path["hops"][-1]["detail"]


@pytest.mark.parametrize(
    ("rule", "asked", "reachable"),
    [
        ({"protocol": "tcp", "port_range_min": 20, "port_range_max": 30}, {"port": "22"}, True),
        ({"protocol": "tcp", "port_range_min": 20, "port_range_max": 30}, {"port": "31"}, False),
        ({"protocol": "udp", "port_range_min": 53, "port_range_max": 53}, {"port": "53"}, False),
        ({"protocol": "udp", "port_range_min": 53, "port_range_max": 53}, {"port": "53", "protocol": "udp"}, True),
        ({"protocol": "6"}, {"port": "1"}, True),
        ({"protocol": "icmp", "port_range_min": 0}, {}, False),
        ({"protocol": "icmp", "port_range_min": 8, "port_range_max": 0}, {}, True),
        ({}, {"port": "9"}, True),
        ({"ethertype": "IPv6"}, {}, False),
        ({"remote_ip_prefix": "10.0.0.0/24"}, {}, True),
        ({"remote_ip_prefix": "10.1.0.0/24"}, {}, False),
    ],
)
def test_rules_match_as_nft_does(site: Site, rule: dict[str, Any], asked: dict[str, str], reachable: bool) -> None:
    a, b = site.port("net", "a"), site.port("net", "b")
    site.rule("b", **rule)
    assert site.path(a, b, **asked)["reachable"] is reachable


def test_a_remote_group_has_members(site: Site) -> None:
    a, b, c = site.port("net", "a"), site.port("net", "b"), site.port("net", "c")
    site.rule("b", remote_group_id=site.group("a"))
    assert site.path(a, b)["reachable"] is True
    assert site.path(c, b)["reason"] == "ingress-denied"
    site.put("port", c, allowed_address_pairs=[{"ip_address": "10.0.0.200"}])
    assert site.path(c, b, source="10.0.0.200")["reason"] == "ingress-denied"
    assert site.path(c, b, source="10.0.0.201")["reason"] == "spoofed"


def test_an_address_group_and_a_stateless_group(site: Site) -> None:
    a, b = site.port("net", "a", fixed_ips=[{"ip_address": "10.0.0.209"}]), site.port("net", "b")
    plain = site.neutron.make("address_group", name="plain", addresses=["10.0.0.209/32"])["id"]
    site.rule("b", remote_address_group_id=plain)
    assert site.path(a, b)["reachable"] is True
    assert site.path(site.port("net", "c"), b)["reason"] == "ingress-denied"
    site.groups["d"] = site.neutron.make("security_group", name="d", stateful=False)["id"]
    d = site.port("net", "d")
    site.rule("d", protocol="tcp", port_range_min=22, port_range_max=22)
    assert site.path(a, d, port="22")["reachable"] is True  # its egress rules let all replies out
    assert site.path(d, a)["reason"] == "ingress-denied"
    site.rule("a")
    assert site.path(d, a)["reason"] == "reply-denied"
    site.rule("d", protocol="icmp")
    assert site.path(d, a)["reachable"] is True


def test_what_is_down_or_not_there(site: Site) -> None:
    a, b = site.port("net", "a"), site.port("net", "b")
    site.rule("b")
    site.put("port", b, admin_state_up=False)
    assert site.path(a, b)["reason"] == "port-admin-down"
    assert site.path(b, a)["reason"] == "port-admin-down"
    site.put("port", b, admin_state_up=True, port_security_enabled=False, security_groups=[])
    assert site.path(a, b)["reachable"] is True
    assert site.path(a, "10.0.0.250")["reason"] == "no-such-address"
    assert site.path(a, "10.7.0.1")["reason"] == "no-router"
    assert site.path(a, "outside")["reason"] == "no-router"
    lone = site.neutron.make("port", network_id=site.nets["net"])["id"]
    assert site.path(lone, a)["reason"] == "port-unbound"
    site.statuses({b: "DOWN"})
    assert site.path(a, b)["reason"] == "port-down"


def test_networks_without_and_with_a_router(site: Site) -> None:
    a, b = site.port("net", "a"), site.port("two", "b")
    site.rule("b")
    assert site.path(a, b)["reason"] == "no-router"
    router = site.router("net")
    path = site.path(a, b)
    assert path["reason"] == "no-route" and "router" in [hop["kind"] for hop in path["hops"]]
    site.attach(router, "two")
    path = site.path(a, b)
    assert path["reachable"] is True, path
    assert site.path(b, a)["reason"] == "ingress-denied"
    assert "itself answers" in site.path(a, "10.1.0.1")["explanation"]
    site.put("router", router, admin_state_up=False)
    assert site.path(a, b)["reason"] == "router-admin-down"


def test_two_networks_with_the_same_addresses(site: Site) -> None:
    a = site.port("net", "a", fixed_ips=[{"ip_address": "10.0.0.209"}])
    b = site.port("same", "b", fixed_ips=[{"ip_address": "10.0.0.210"}])
    site.rule("b")
    assert site.path(a, b)["reason"] == "no-such-address"
    site.port("net", "b", fixed_ips=[{"ip_address": "10.0.0.210"}])
    assert site.path(a, b)["reason"] == "overlap"
    site.port("same", "c", fixed_ips=[{"ip_address": "10.0.0.209"}])
    assert "several ports" in refused(site.ask("10.0.0.209", b), 400, "InvalidInput")


def test_out_by_snat_in_by_a_floating_ip(site: Site) -> None:
    a, b = site.port("net", "a"), site.port("net", "b")
    router = site.router("net")
    assert site.path(a, "outside")["reason"] == "no-route"
    site.gateway(router)
    path = site.path(a, "outside")
    assert path["reachable"] is True and "(source)" in str(path["hops"]), path
    assert site.path(a, "8.8.8.8")["reachable"] is True
    site.gateway(router, enable_snat=False)
    assert site.path(a, "outside")["reason"] == "no-snat"
    assert site.path("outside", b)["reason"] == "no-floating-ip"
    floating = site.floating(b)
    assert site.path("outside", b)["reason"] == "ingress-denied"
    site.rule("b", remote_ip_prefix="198.51.100.0/24")
    assert site.path("outside", b)["reason"] == "ingress-denied"
    assert site.path("198.51.100.7", b)["reachable"] is True
    site.rule("b")
    path = site.path("outside", b)
    assert path["reachable"] is True and path["destination_address"] == floating
    assert site.path("outside", floating)["reachable"] is True
    assert site.path(b, "outside")["reachable"] is True  # by its floating IP
    hairpin = site.path(a, floating)
    assert hairpin["reachable"] is True and [hop["kind"] for hop in hairpin["hops"]].count("nat") == 2
    assert site.path(floating, a)["reason"] == "ingress-denied"  # an address stands for its port


def test_a_neighbour_without_a_way_back(site: Site) -> None:
    a, b = site.port("net", "a"), site.port("two", "b")
    site.rule("b")
    subnet = site.neutron.list("subnets", f"?network_id={site.nets['two']}")[0]["id"]
    site.put("subnet", subnet, gateway_ip=None)
    leg = site.neutron.make("port", network_id=site.nets["two"])["id"]
    site.neutron.put(f"/v2.0/routers/{site.router('net')}/add_router_interface", {"port_id": leg})
    site.wired()
    assert site.path(a, b)["reason"] == "no-way-back"
    assert site.path(b, a)["reason"] == "no-gateway"


def test_what_is_anothers_is_not_told(site: Site) -> None:
    a, b = site.port("net", "a"), site.port("net", "b")
    site.rule("b")
    refused(site.ask(a, b, token=OTHER), 404, "PortNotFound")
    assert site.path(a, b, token=READER)["reachable"] is True
    refused(site.ask(a, b, token=DEMO, verify="true"), 403, "PolicyNotAuthorized")
    router = site.router("net")
    site.gateway(router)
    mine = site.floating(b)
    other = site.others_port()
    refused(site.ask(a, other), 404, "PortNotFound")
    asked = site.path("outside", mine, token=OTHER)
    assert (asked["reachable"], asked["reason"]) == (None, "not-yours")
    assert a not in str(asked) and router not in str(asked) and b not in str(asked)
    assert site.path(other, "10.0.0.210", token=OTHER)["reachable"] is not True


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("", "InvalidInput"), ("?from=outside&to=outside", "InvalidInput"), ("?from=outside&to=x&port=0", "PortNotFound"),
        ("?from=outside&to=10.0.0.1&port=70000", "InvalidInput"), ("?from=outside&to=10.0.0.1&protocol=gre", "InvalidInput"),
        ("?from=outside&to=10.0.0.1&protocol=tcp", "InvalidInput"), ("?from=10.0.0.1&to=fd00::1&source=q", "InvalidInput"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(site: Site, query: str, kind: str) -> None:
    assert site.neutron.get(f"/v2.0/kilonova/path{query}").json()["NeutronError"]["type"] == kind


def test_the_extensions_are_named(site: Site) -> None:
    aliases = {each["alias"] for each in site.neutron.get("/v2.0/extensions").json()["extensions"]}
    assert {"kilonova-path", "kilonova-capture"} <= aliases
