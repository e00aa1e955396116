"""Rendering without a kernel: what a rule means, who may send as whom, what counts as less than before."""

from pathlib import Path

import netlab
import pytest

from kilonova.host.net import nft
from kilonova.host.net.dnsmasq import render_hosts, render_opts
from kilonova.host.net.live_flows import Judged
from kilonova.host.net.numbers import Numbers, lost_rules
from kilonova.host.net.ruleset import whole
from kilonova.model.specs import GroupSpec, HostNetwork, RuleSpec


def rule(**values: object) -> RuleSpec:
    return RuleSpec(**({"direction": "ingress", "ethertype": "IPv4"} | values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "family", "match"),
    [
        (rule(), "ip", ""),
        (rule(), "ip6", None),
        (rule(ethertype="IPv6"), "ip6", ""),
        (rule(protocol="tcp", port_range_min=80, port_range_max=90), "ip", "tcp dport 80-90"),
        (rule(protocol="6", port_range_min=80, port_range_max=80), "ip", "tcp dport 80"),
        (rule(protocol="udp"), "ip", "meta l4proto 17"),
        (rule(protocol="icmp", port_range_min=8, port_range_max=0), "ip", "meta l4proto 1 icmp type 8 icmp code 0"),
        (rule(protocol="icmp", ethertype="IPv6", port_range_min=128), "ip6", "meta l4proto 58 icmpv6 type 128"),
        (rule(protocol="vrrp"), "ip", "meta l4proto 112"),
        (rule(protocol="47"), "ip", "meta l4proto 47"),
        (rule(remote_ips=()), "ip", None),
        (rule(protocol="no-such"), "ip", None),
        (rule(remote_ips=("nowhere",)), "ip", None),
        (rule(remote_ips=("0.0.0.0/0",)), "ip", ""),
        (rule(remote_ips=("10.0.0.5/24", "10.0.0.7", "fd00::1")), "ip", "ip saddr { 10.0.0.0/24 }"),
        (rule(direction="egress", remote_ips=("10.0.0.7",)), "ip", "ip daddr { 10.0.0.7/32 }"),
        (rule(protocol="udp", remote_group_id="g1"), "ip", "ip saddr @members-g1 meta l4proto 17"),
        (rule(ethertype="IPv6", remote_group_id="g1"), "ip6", "ip6 saddr @members-g1"),
    ],
)
def test_a_rule_in_nft(spec: RuleSpec, family: str, match: str | None) -> None:
    assert nft.rule_matches(spec, family) == match


def test_a_port_may_send_from_its_addresses_and_pairs() -> None:
    net = netlab.network()
    pairs = (("", "10.0.0.0/28"), ("FA:16:3E:00:00:99", "10.9.0.1"))
    port = netlab.port(net, "10.0.0.5", mac_address="fa:16:3e:00:00:01", allowed_address_pairs=pairs)
    assert nft.addresses_of(port, 4) == (
        ("fa:16:3e:00:00:01", "10.0.0.0/28"),
        ("fa:16:3e:00:00:99", "10.9.0.1/32"),
    )
    assert nft.addresses_of(port, 6)[0] == ("fa:16:3e:00:00:01", "fe80::f816:3eff:fe00:1/128")


def test_ports_with_equal_rules_share_their_chains(tmp_path: Path) -> None:
    net = netlab.network()
    ports = tuple(netlab.port(net, f"10.0.0.{number}") for number in range(10, 20))
    numbers = Numbers(tmp_path)
    numbers.number(HostNetwork(networks=(net,), ports=ports))
    marks = {ident: number.mark for ident, number in numbers.ports.items()}
    assert sorted(marks.values()) == list(range(1, 11))
    text = whole("t", {port.id: nft.port_part(port, marks[port.id]) for port in ports})
    assert text.count(" chain egress-") == text.count(" chain ingress-") == 2  # one each in ip and ip6


def test_numbers_outlive_the_process_and_go_with_their_ports(tmp_path: Path) -> None:
    net = netlab.network()
    ports = tuple(netlab.port(net, f"10.0.0.{number}") for number in range(10, 20))
    numbers = Numbers(tmp_path)
    desired = HostNetwork(networks=(net,), ports=ports)
    numbers.number(desired)
    numbers.applied(desired)
    again, fewer = Numbers(tmp_path), HostNetwork(networks=(net,), ports=ports[5:])
    assert (again.ports, again.zones) == (numbers.ports, numbers.zones)
    again.number(fewer)
    zone = again.zones[net.id].zone
    assert again.stale(fewer) == {zone: Judged(gone=frozenset(f"10.0.0.{number}" for number in range(10, 15)))}
    again.applied(fewer)
    assert again.ports == Numbers(tmp_path).ports == {port.id: numbers.ports[port.id] for port in ports[5:]}
    again.clear()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_ports_whose_rules_name_a_group_are_judged_anew_when_a_member_leaves_it(tmp_path: Path) -> None:
    net, other = netlab.network(), netlab.network()
    ports = (netlab.port(net, "10.0.0.11", rules=(rule(remote_group_id="g"),)), netlab.port(other, "10.0.0.11"))
    group = GroupSpec(id="g", addresses=("10.0.0.1", "10.0.0.2"))
    numbers = Numbers(tmp_path)
    desired = HostNetwork(networks=(net, other), ports=ports, groups=(group,))
    numbers.number(desired)
    numbers.applied(desired)
    fewer = HostNetwork(networks=(net, other), ports=ports, groups=(GroupSpec(id="g", addresses=("10.0.0.2",)),))
    assert numbers.stale(fewer) == {numbers.zones[net.id].zone: Judged(ports=ports[:1])}


def test_only_what_is_taken_away_makes_connections_stale() -> None:
    net = netlab.network()
    port = netlab.port(net, "10.0.0.11", rules=(rule(remote_ips=("10.0.0.1",)), rule(protocol="tcp")))

    def lost(*rules: RuleSpec) -> bool:
        return lost_rules(port, netlab.port(net, "10.0.0.11", rules=rules))

    assert not lost(*port.rules, rule(protocol="udp"))
    assert not lost(rule(remote_ips=("10.0.0.2", "10.0.0.1")), rule(protocol="tcp"))
    assert not lost(rule(), rule(protocol="tcp"))
    assert lost(rule(remote_ips=("10.0.0.2",)), rule(protocol="tcp"))
    assert lost(rule(remote_ips=("10.0.0.1",)), rule(protocol="tcp", remote_ips=("10.0.0.1",)))
    assert lost(rule(protocol="tcp"))
    assert lost(rule(remote_group_id="g"), rule(protocol="tcp"))
    assert not lost(rule(), rule(remote_group_id="g"), rule(protocol="tcp"))


def test_no_value_can_break_out_of_dnsmasqs_files() -> None:
    net = netlab.network()
    bad = (("tftp-server", "x\ndhcp-script=/bin/sh"), ("evil\noption", "x"), ("bootfile-name", "pxe"))
    port = netlab.port(net, "10.0.0.11", hostname="a b\n,10.0.0.1", dhcp_options=bad)
    hosts, opts = render_hosts(net, [port]), render_opts(net, [port])
    assert hosts == f"{port.mac_address},id:*,set:port-{port.id},a-b-10.novalocal,10.0.0.11\n"
    assert [line for line in opts.splitlines() if "port-" in line] == [f"tag:port-{port.id},option:bootfile-name,pxe"]
