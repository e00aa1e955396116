"""What the API's words about DHCP come to in the values that a host is given, on both databases."""

from typing import Any

import pytest
from network_client import ADMIN, Neutron

from kilonova.db.engine import Database
from kilonova.model.specs import NetworkSpec
from kilonova.network import agents, desired, ipam, specs


@pytest.fixture
def neutron(database: Database) -> Neutron:
    return Neutron(database)


def spec(neutron: Neutron, network: dict[str, Any]) -> NetworkSpec:
    (found,) = neutron.database.read(lambda tx: specs.network_specs(tx, [network["id"]], {}))
    return found


def test_a_network_that_is_down_has_no_dhcp(neutron: Neutron) -> None:
    network = neutron.make("network")
    neutron.make("subnet", network_id=network["id"], cidr="10.0.0.0/24", ip_version=4)
    (port,) = neutron.list("ports", "?device_owner=network:dhcp")
    for up, expected in ((False, (None, None)), (True, (port["id"], port["mac_address"]))):
        neutron.put(f"/v2.0/networks/{network['id']}", {"network": {"admin_state_up": up}})
        found = spec(neutron, network)
        assert (found.dhcp_port_id, found.dhcp_mac) == expected


@pytest.mark.parametrize("mode", [None, "slaac", "dhcpv6-stateful", "dhcpv6-stateless"])
def test_the_modes_of_a_subnet_reach_the_host(neutron: Neutron, mode: str | None) -> None:
    network = neutron.make("network")
    modes = {"ipv6_ra_mode": mode, "ipv6_address_mode": mode} if mode else {}
    neutron.make("subnet", network_id=network["id"], cidr="fd00:5::/64", ip_version=6, **modes)
    options = [
        {"opt_name": "mtu", "opt_value": "1400"},
        {"opt_name": "bootfile-url", "opt_value": "http://boot/", "ip_version": 6},
    ]
    port = neutron.make("port", network_id=network["id"], extra_dhcp_opts=options)
    found = spec(neutron, network)
    (subnet,) = found.subnets
    assert (subnet.ipv6_ra_mode, subnet.ipv6_address_mode) == (mode, mode)
    automatic = mode in ("slaac", "dhcpv6-stateless")
    (dhcp,) = neutron.list("ports", "?device_owner=network:dhcp")
    for mac, address in (
        (dhcp["mac_address"], subnet.dhcp_ip),
        (port["mac_address"], port["fixed_ips"][0]["ip_address"]),
    ):
        assert (address == ipam.eui64("fd00:5::/64", mac)) == automatic
    (told,) = neutron.database.read(lambda tx: specs.port_specs(tx, [port["id"]]))
    assert (told.dhcp_options, told.dhcp6_options) == ((("mtu", "1400"),), (("bootfile-url", "http://boot/"),))


def test_a_name_server_is_of_the_subnets_family(neutron: Neutron) -> None:
    network = neutron.make("network")
    body = {"network_id": network["id"], "cidr": "10.0.0.0/24", "ip_version": 4, "dns_nameservers": ["2001:db8::53"]}
    refused = neutron.post("/v2.0/subnets", {"subnet": body})
    assert refused.status_code == 400
    assert "does not match the ip_version" in refused.json()["NeutronError"]["message"]
    subnet = neutron.make("subnet", **{**body, "dns_nameservers": ["192.0.2.53"]})
    change = {"subnet": {"dns_nameservers": ["2001:db8::53"]}}
    assert neutron.put(f"/v2.0/subnets/{subnet['id']}", change).status_code == 400


def test_a_network_that_an_agent_was_given_is_served_without_a_port(neutron: Neutron) -> None:
    """One that the agent got by itself is not, until somebody is there to serve."""
    neutron.database.write(lambda tx: agents.report(tx, "host1"))
    network = neutron.make("network")
    neutron.make("subnet", network_id=network["id"], cidr="10.0.0.0/24", ip_version=4)
    (agent,) = neutron.list("agents", "?agent_type=DHCP%20agent", ADMIN)
    path, body = f"/v2.0/agents/{agent['id']}/dhcp-networks", {"network_id": network["id"]}

    def served() -> list[str]:
        carried = neutron.database.read(lambda tx: desired.host_network(tx, "host1"))
        return [port.device_owner for port in carried.ports if port.network_id == network["id"]]

    assert served() == []
    assert neutron.post(path, body, ADMIN).status_code == 409  # it has it already
    assert served() == []
    assert neutron.delete(f"{path}/{network['id']}", ADMIN).status_code == 204
    assert neutron.post(path, body, ADMIN).status_code == 201
    assert served() == ["network:dhcp"]
    assert neutron.delete(f"{path}/{network['id']}", ADMIN).status_code == 204
    assert served() == []
    neutron.make("port", network_id=network["id"])
    neutron.put(f"/v2.0/networks/{network['id']}", {"network": {"name": "n"}})
    assert served() == []  # nobody has its DHCP now
