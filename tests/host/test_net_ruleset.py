"""The ruleset on the real kernel: only what differs is loaded, any drift is put right, what is right is left alone."""

import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import netlab
import pytest
from msgspec.structs import replace
from netlab import EGRESS, PING, Lab

from kilonova.host.calls import run
from kilonova.host.net.ruleset import canonical
from kilonova.model.specs import GroupSpec, HostNetwork, PortSpec, RuleSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
MEMBERS = RuleSpec(direction="ingress", ethertype="IPv4", remote_group_id="g")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def group(*ports: PortSpec, ident: str = "g") -> GroupSpec:
    return GroupSpec(id=ident, addresses=tuple(sorted(ip.ip_address for port in ports for ip in port.fixed_ips)))


def listing(lab: Lab, *options: str) -> str:
    return run(["nft", *options, "-s", "list", "ruleset"], netns=lab.netns)


def loads(lab: Lab, desired: HostNetwork) -> int:
    return lab.writes(desired).count("nft -f")


BREAKS = (
    "delete table ip {table}",
    "delete table bridge {table}",
    "flush ruleset",
    "flush chain bridge {table} guard",
    "flush set bridge {table} addresses",
    "flush map ip {table} senders",
    'add element bridge {table} guarded {{ "tapstray" }}',
    "add element ip {table} members-g {{ 10.0.0.99 }}",
    'delete element ip {table} zones {{ "{bridge}" }}',
    'delete element bridge {table} sources {{ "{tap}" }}; add element bridge {table} sources {{ "{tap}" : 0x7770000 }}',
    "insert rule bridge {table} prerouting accept",
    "add rule ip {table} forward accept",
    "add chain ip6 {table} stray",
    "add set ip {table} stray {{ type ipv4_addr; }}",
)


def test_any_drift_is_put_right_in_one_pass(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11", rules=(*EGRESS, PING, MEMBERS))
    two = netlab.port(net, "10.0.0.12", rules=(*EGRESS, netlab.tcp(22)))
    desired = HostNetwork(networks=(net,), ports=(one, two), groups=(group(one, two),))
    lab.net.apply(desired)
    table = lab.net.table
    right = canonical(listing(lab), table)
    assert any("tcp dport 22" in block for block in right)
    for command in BREAKS:
        script = command.format(table=table, tap=one.tap, bridge=net.bridge)
        run(["nft", script], netns=lab.netns)
        assert canonical(listing(lab), table) != right, script
        assert loads(lab, desired) == 1, script
        assert canonical(listing(lab), table) == right, script
        assert lab.writes(desired) == [], script


def test_one_ports_change_leaves_the_chains_of_the_others_as_they_are(lab: Lab) -> None:
    net = netlab.network()
    ports = [netlab.port(net, f"10.0.0.{number}", rules=(*EGRESS, netlab.tcp(number))) for number in range(11, 31)]
    lab.net.apply(HostNetwork(networks=(net,), ports=tuple(ports)))

    def handles() -> set[str]:
        """Chains and rules, each with its table and the number that the kernel gave it when it was made."""
        found, table = set(), ""
        for line in listing(lab, "-a").splitlines():
            table = line if line.startswith("table") else table
            found |= {f"{table} {line.strip()}"} if "# handle" in line and line.startswith("\t") else set()
        return found

    before = handles()
    changed = replace(ports[3], rules=(*EGRESS, netlab.tcp(8022)))
    desired = HostNetwork(networks=(net,), ports=(*ports[:3], changed, *ports[4:]))
    assert loads(lab, desired) == 1
    gone, come = before - handles(), handles() - before
    assert any("tcp dport 8022" in line for line in come) and any("tcp dport 14" in line for line in gone)
    # An ingress chain in `ip` is all that differs: its head, its rules, and nothing of another port's.
    assert len(gone) == len(come) == sum("ingress" in line for line in come) + len(rules_of(lab, "tcp dport 8022"))
    before = handles()
    assert loads(lab, HostNetwork(networks=(net,), ports=desired.ports[:-1])) == 1
    assert handles() < before
    assert not any("tcp dport 30 " in line for line in handles())


def rules_of(lab: Lab, rule: str) -> list[str]:
    """The rules of the chain that has this one."""
    (block,) = [block for block in canonical(listing(lab), lab.net.table) if rule in block]
    return block.splitlines()[1:]


def test_after_any_changes_a_new_process_finds_what_it_would_have_made(lab: Lab) -> None:
    chance = random.Random(7)
    nets = [netlab.network(), netlab.network("10.1.0.0/24")]
    ports: dict[str, PortSpec] = {}

    def changed(port: PortSpec) -> PortSpec:
        values: list[dict[str, object]] = [
            {"admin_state_up": not port.admin_state_up},
            {"port_security_enabled": not port.port_security_enabled},
            {"rules": (*EGRESS, netlab.tcp(chance.randrange(1, 5)))},
            {"rules": (*EGRESS, replace(MEMBERS, remote_group_id=chance.choice("gh")))},
            {"rules": ()},
            {"allowed_address_pairs": (("", f"10.0.{chance.randrange(4)}.0/24"),)},
            {"mac_address": netlab.mac()},
        ]
        return replace(port, **chance.choice(values))

    for number in range(40):
        for _ in range(chance.randrange(1, 4)):
            what = chance.random()
            if what < 0.4 or not ports:
                net = chance.choice(nets)
                made = netlab.port(net, net.subnets[0].cidr.replace("0/24", str(10 + number)))
                ports[made.id] = made
            elif what < 0.55:
                del ports[chance.choice(list(ports))]
            else:
                port = chance.choice(list(ports.values()))
                ports[port.id] = changed(port)
        used = {port.network_id for port in ports.values()}
        groups = tuple(group(*chance.sample(list(ports.values()), len(ports) // 2), ident=ident) for ident in "gh")
        desired = HostNetwork(
            networks=tuple(net for net in nets if net.id in used), ports=tuple(ports.values()), groups=groups
        )
        rules = lab.net._rules
        rules.connect(lab.netns) if number == 0 else None
        rules.apply(desired, {"tapstray"} if number % 3 == 0 else ())
        rules.connect(lab.netns)  # as a new process does
        before = listing(lab, "-a")
        rules.apply(desired, {"tapstray"} if number % 3 == 0 else ())
        assert listing(lab, "-a") == before, number


def test_rules_follow_the_members_of_a_remote_group(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11", rules=(*EGRESS, MEMBERS))
    two = netlab.port(net, "10.0.0.12")
    a, b = lab.guest(one, "10.0.0.11/24"), lab.guest(two, "10.0.0.12/24")

    def desired(*members: PortSpec) -> HostNetwork:
        return HostNetwork(networks=(net,), ports=(one, two), groups=(group(*members),))

    lab.apply(desired(one))
    with netlab.listener(a, 8022) as server:
        assert not netlab.connects(b, "10.0.0.11", 8022)
        lab.apply(desired(one, two))
        client = netlab.in_netns(b, socket.create_connection, ("10.0.0.11", 8022), 1)
        served, _ = server.accept()
        with client, served:
            served.settimeout(0.7)
            client.sendall(b"before")
            assert served.recv(10) == b"before"
            lab.apply(desired(one))
            client.sendall(b"after")
            with pytest.raises(TimeoutError):
                served.recv(10)
        lab.apply(desired())
        assert not netlab.connects(b, "10.0.0.11", 8022)


def test_a_rule_that_names_an_unknown_group_lets_nobody_in_and_spoils_nothing(lab: Lab) -> None:
    net = netlab.network()
    one = netlab.port(net, "10.0.0.11", rules=(*EGRESS, MEMBERS, netlab.tcp(8022)))
    two = netlab.port(net, "10.0.0.12")
    a, b = lab.guest(one, "10.0.0.11/24"), lab.guest(two, "10.0.0.12/24")
    lab.apply(HostNetwork(networks=(net,), ports=(one, two)))
    with netlab.listener(a, 8022), netlab.listener(a, 8080):
        assert netlab.connects(b, "10.0.0.11", 8022)
        assert not netlab.connects(b, "10.0.0.11", 8080)
