"""What a host is told of the others that carry its networks too: addresses, and the hardware addresses behind them."""

from io import StringIO
from typing import Any

import pytest
from network_client import ADMIN, Neutron
from rich.console import Console

from kilonova import lookers
from kilonova.db.engine import Database
from kilonova.model.specs import HostNetwork, OverlaySpec
from kilonova.network import agents, ports
from kilonova.network.desired import Desired

ADDRESSES = {"host-1": "198.18.50.1", "host-2": "198.18.50.2", "host-3": "198.18.50.3"}


@pytest.fixture
def neutron(database: Database) -> Neutron:
    made = Neutron(database)
    for host, address in ADDRESSES.items():
        report(made, host, address)
    return made


def report(neutron: Neutron, host: str, address: str = "") -> None:
    neutron.database.write(lambda tx: agents.report(tx, host, {"public": "br-ex"}, address))


def make_network(neutron: Neutron, **values: Any) -> dict[str, Any]:
    network = neutron.make("network", ADMIN, **values)
    neutron.make("subnet", ADMIN, network_id=network["id"], cidr="10.0.0.0/24", ip_version=4, enable_dhcp=False)
    return network


def port_on(neutron: Neutron, network: dict[str, Any], host: str) -> dict[str, Any]:
    return neutron.make("port", ADMIN, network_id=network["id"], **{"binding:host_id": host})


def told(neutron: Neutron, desired: Desired) -> OverlaySpec | None:
    (network,) = neutron.database.read(desired.read).networks
    return network.overlay


def test_each_host_is_told_of_the_others(neutron: Neutron) -> None:
    network = make_network(neutron)
    one, two, more = (port_on(neutron, network, host) for host in ("host-1", "host-2", "host-2"))
    elsewhere = make_network(neutron)
    port_on(neutron, elsewhere, "host-3")
    vni = neutron.get(f"/v2.0/networks/{network['id']}", ADMIN).json()["network"]["provider:segmentation_id"]
    first, second = Desired("host-1"), Desired("host-2")
    found = told(neutron, first)
    assert found is not None and (found.vni, found.local, found.device) == (vni, ADDRESSES["host-1"], f"vxlan-{vni}")
    assert {peer.address: set(peer.macs) for peer in found.peers} == {
        ADDRESSES["host-2"]: {two["mac_address"], more["mac_address"]}
    }
    other = told(neutron, second)
    assert other is not None
    assert {peer.address: peer.macs for peer in other.peers} == {ADDRESSES["host-1"]: (one["mac_address"],)}
    # What has not changed is the very same object; what has is told at once.
    assert told(neutron, first) is found
    neutron.database.write(lambda tx: ports.bind(tx, ports.get_any(tx, two["id"]), "host-3", "bridge"))
    moved = told(neutron, first)
    assert moved is not None
    assert {peer.address: peer.macs for peer in moved.peers} == {
        ADDRESSES["host-2"]: (more["mac_address"],), ADDRESSES["host-3"]: (two["mac_address"],)
    }  # fmt: skip
    neutron.database.write(lambda tx: agents.report(tx, "host-3", {"public": "br-ex"}, "198.18.50.33"))
    again = told(neutron, first)
    assert again is not None and {peer.address for peer in again.peers} == {ADDRESSES["host-2"], "198.18.50.33"}
    for port in (two, more):
        assert neutron.delete(f"/v2.0/ports/{port['id']}", ADMIN).status_code == 204
    alone = told(neutron, first)
    assert alone is not None and alone.peers == ()


def test_without_an_overlay_address_a_network_stays_within_its_host(neutron: Neutron) -> None:
    network = make_network(neutron)
    for host in ("host-1", "host-2"):
        port_on(neutron, network, host)
    first, second = Desired("host-1"), Desired("host-2")
    assert told(neutron, first) is not None
    report(neutron, "host-1")
    assert told(neutron, first) is None
    found = told(neutron, second)
    assert found is not None and found.peers == ()  # nobody to send to


def test_only_vxlan_spans_hosts(neutron: Neutron) -> None:
    flat = {"provider:network_type": "flat", "provider:physical_network": "public"}
    for values in (flat, {"provider:network_type": "local"}):
        port_on(neutron, make_network(neutron, **values), "host-1")
    found: HostNetwork = neutron.database.read(Desired("host-1").read)
    assert [network.overlay for network in found.networks] == [None, None]


def test_the_l2_agent_says_where_its_end_is(neutron: Neutron) -> None:
    (agent,) = neutron.list("agents", "?host=host-1&agent_type=Linux%20bridge%20agent", ADMIN)
    assert agent["configurations"] == {
        "bridge_mappings": {"public": "br-ex"}, "tunneling_ip": ADDRESSES["host-1"], "tunnel_types": ["vxlan"],
        "l2_population": True,
    }  # fmt: skip
    report(neutron, "host-1")
    (agent,) = neutron.list("agents", "?host=host-1&agent_type=Linux%20bridge%20agent", ADMIN)
    assert agent["configurations"] == {"bridge_mappings": {"public": "br-ex"}}


class Client:
    """As lookers have it, with no compute service behind."""

    def __init__(self, neutron: Neutron) -> None:
        self.neutron = neutron

    def get(self, path: str, **query: Any) -> Any:
        if path.startswith("/compute"):
            return {"servers": []}
        return self.neutron.get(path.removeprefix("/network"), ADMIN).json()


def test_the_topology_names_the_devices_of_hosts_that_have_them(neutron: Neutron) -> None:
    report(neutron, "host-3")  # has no overlay any more
    network = make_network(neutron)
    for host in ADDRESSES:
        port_on(neutron, network, host)
    vni = neutron.get(f"/v2.0/networks/{network['id']}", ADMIN).json()["network"]["provider:segmentation_id"]
    (found,) = lookers.topology(Client(neutron))["networks"]
    devices = [f"vxlan-{vni} at {ADDRESSES[host]} on {host}" for host in ("host-1", "host-2")]
    assert found["overlays"] == devices
    tree = StringIO()
    Console(file=tree, width=200).print(lookers.network_tree(found))
    assert all(device in tree.getvalue() for device in devices)
