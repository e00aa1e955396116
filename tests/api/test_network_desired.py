"""What a host should carry, read again after every kind of change: as if it were read for the first time."""

from collections.abc import Callable
from typing import Any

import pytest
from network_client import ADMIN, Neutron

from kilonova.db.engine import Database, Tx
from kilonova.model.specs import HostNetwork, PortSpec
from kilonova.network import agents, desired, ports
from kilonova.network.desired import Desired, host_network

HOST = "host-1"


@pytest.fixture
def neutron(database: Database) -> Neutron:
    return Neutron(database)


class Site:
    """Two networks, two groups that name each other, three ports: two on the host, one on another."""

    def __init__(self, neutron: Neutron) -> None:
        self.neutron, self.reader = neutron, Desired(HOST)
        for host in (HOST, "host-2"):
            neutron.database.write(lambda tx, host=host: agents.report(tx, host))  # type: ignore[misc]
        self.nets = [neutron.make("network", name=name)["id"] for name in ("one", "two")]
        self.subnets = [
            neutron.make("subnet", network_id=net, cidr=f"10.{number}.0.0/24", ip_version=4)["id"]
            for number, net in enumerate(self.nets)
        ]
        self.groups = [neutron.make("security_group", name=name)["id"] for name in ("a", "b", "c")]
        for group, remote in zip(self.groups, (1, 0, 0), strict=True):
            self.rule(group, remote_group_id=self.groups[remote])
        self.ports = [
            self.port(self.nets[0], HOST, self.groups[0]),
            self.port(self.nets[1], HOST, self.groups[1]),
            self.port(self.nets[0], "host-2", self.groups[1]),
        ]

    def rule(self, group: str, **values: Any) -> str:
        made = self.neutron.make("security_group_rule", security_group_id=group, direction="ingress", **values)
        return str(made["id"])

    def port(self, network: str, host: str, *groups: str) -> str:
        made = self.neutron.make("port", network_id=network, security_groups=list(groups))["id"]
        self.put("port", made, token=ADMIN, **{"binding:host_id": host})
        return str(made)

    def put(self, kind: str, ident: str, token: str = ADMIN, **values: Any) -> None:
        response = self.neutron.put(f"/v2.0/{kind.replace('_', '-')}s/{ident}", {kind: values}, token)
        assert response.status_code == 200, response.text

    def delete(self, kind: str, ident: str) -> None:
        assert self.neutron.delete(f"/v2.0/{kind.replace('_', '-')}s/{ident}").status_code == 204

    def read(self) -> HostNetwork:
        again = self.neutron.database.read(self.reader.read)
        assert again == self.neutron.database.read(lambda tx: host_network(tx, HOST))
        return again

    def write(self, act: Callable[[Tx], Any]) -> None:
        self.neutron.database.write(act)


def test_every_change_is_seen(neutron: Neutron) -> None:
    site = Site(neutron)
    one, two, far = site.ports
    made: dict[str, str] = {}

    def make(name: str, ident: str) -> None:
        made[name] = ident

    v6 = {"network_id": site.nets[0], "ip_version": 6, "cidr": "fd00::/64", "ipv6_address_mode": "slaac"}
    changes: list[Callable[[], object]] = [
        lambda: site.put("port", one, admin_state_up=False),
        lambda: site.put("port", one, fixed_ips=[{"ip_address": "10.0.0.77"}]),
        lambda: site.put("port", one, extra_dhcp_opts=[{"opt_name": "mtu", "opt_value": "1400"}]),
        lambda: site.put("port", one, security_groups=[site.groups[0], site.groups[2]]),
        lambda: site.put("port", two, allowed_address_pairs=[{"ip_address": "10.9.0.0/24"}]),
        lambda: site.put("port", far, allowed_address_pairs=[{"ip_address": "10.8.0.0/24"}]),
        lambda: site.put("port", far, fixed_ips=[{"ip_address": "10.0.0.88"}]),
        lambda: site.put("port", far, security_groups=[site.groups[0]]),
        lambda: make("member", site.port(site.nets[0], "host-2", site.groups[1])),
        lambda: site.delete("port", made["member"]),
        lambda: make("rule", site.rule(site.groups[0], protocol="tcp", port_range_min=22, port_range_max=22)),
        lambda: site.delete("security_group_rule", made["rule"]),
        lambda: make("group", str(neutron.make("security_group", name="d")["id"])),
        lambda: make("naming", site.rule(site.groups[0], remote_group_id=made["group"])),
        lambda: site.delete("security_group", made["group"]),  # its naming rule goes along
        lambda: site.put("port", one, security_groups=[], port_security_enabled=False),
        lambda: site.put("port", one, security_groups=[site.groups[0]], port_security_enabled=True),
        lambda: site.put("network", site.nets[0], mtu=1400),
        lambda: site.put("network", site.nets[0], name="renamed"),
        lambda: site.put("subnet", site.subnets[0], dns_nameservers=["9.9.9.9"]),
        lambda: site.put("subnet", site.subnets[0], host_routes=[{"destination": "1.0.0.0/8", "nexthop": "10.0.0.5"}]),
        lambda: site.put("subnet", site.subnets[0], gateway_ip=None),
        lambda: site.put("subnet", site.subnets[0], enable_dhcp=False),
        lambda: site.put("subnet", site.subnets[0], enable_dhcp=True),
        lambda: make("v6", str(neutron.make("subnet", **v6, ipv6_ra_mode="slaac")["id"])),  # ports get its addresses
        lambda: site.delete("subnet", made["v6"]),
        lambda: site.put("port", two, **{"binding:host_id": ""}),
        lambda: site.put("port", two, **{"binding:host_id": HOST}),
        lambda: site.delete("port", two),
        lambda: make("new", site.port(site.nets[1], HOST, site.groups[1])),
        lambda: site.put("port", made["new"], **{"binding:host_id": "host-2"}),
        lambda: site.put("port", far, **{"binding:host_id": HOST}),
    ]
    before = site.read()
    assert len(guests(before)) == 2 and len(before.groups) == 2
    for number, change in enumerate(changes):
        change()
        after = site.read()
        if number not in (12,):  # a group that nothing names is no host's business
            assert after != before, number
        assert site.read() is after, number
        before = after


def guests(desired: HostNetwork) -> list[PortSpec]:
    return [port for port in desired.ports if port.device_owner != "network:dhcp"]


def test_what_has_not_changed_is_the_very_same(neutron: Neutron) -> None:
    site = Site(neutron)
    before = site.read()
    site.put("port", site.ports[0], name="renamed", admin_state_up=False)
    after = site.read()
    assert [new is old for new, old in zip(guests(after), guests(before), strict=True)] == [False, True]
    assert [new is old for new, old in zip(after.networks, before.networks, strict=True)] == [True, True]


def test_only_what_changed_is_fetched(neutron: Neutron, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(neutron)
    site.read()
    fetched: list[str] = []
    real = desired.specs.port_specs
    monkeypatch.setattr(desired.specs, "port_specs", lambda tx, ids: fetched.extend(ids) or real(tx, ids))
    neutron.database.read(site.reader.read)
    assert fetched == []
    site.put("port", site.ports[1], admin_state_up=False)
    neutron.database.read(site.reader.read)
    assert fetched == [site.ports[1]]


def test_a_revision_that_did_not_grow_is_found_out_in_the_end(
    neutron: Neutron, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(neutron)
    before = site.read()
    table = ports.TABLE
    change = table.update().where(table.c.id == site.ports[0]).values(dns_name="behind-its-back")
    site.write(lambda tx: tx.execute(change) and None)
    assert neutron.database.read(site.reader.read) is before
    monkeypatch.setattr(desired, "ANEW", 0.0)
    assert "behind-its-back" in {port.hostname for port in neutron.database.read(site.reader.read).ports}


def test_only_news_of_a_status_is_written(neutron: Neutron) -> None:
    site = Site(neutron)
    site.read()
    here = site.ports[:2]
    report = {here[0]: "ACTIVE", here[1]: "DOWN"}
    assert site.reader.news(report) == {here[0]: "ACTIVE"}
    site.write(lambda tx: ports.set_statuses(tx, report))
    site.read()
    assert site.reader.news(report) == {}
    site.write(lambda tx: ports.set_statuses(tx, {here[0]: "DOWN"}))
    site.read()
    assert site.reader.news(report) == {here[0]: "ACTIVE"}
