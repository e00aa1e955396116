"""Networks that no host carries: their ports say so, a log line says why, and nothing of them is wired by half."""

import pytest
from network_client import ADMIN, Neutron

from kilonova.db.engine import Database
from kilonova.network import agents, seed, tables
from kilonova.network.desired import host_network


@pytest.fixture
def neutron(database: Database) -> Neutron:
    made = Neutron(database)
    made.database.write(lambda tx: agents.report(tx, "host-1", {"public": "br-ex"}))
    return made


@pytest.mark.parametrize(("kind", "physical"), [("vlan", "public"), ("flat", "lan7")])
def test_nothing_of_it_is_wired(neutron: Neutron, caplog: pytest.LogCaptureFixture, kind: str, physical: str) -> None:
    given = {"provider:network_type": kind, "provider:physical_network": physical, "router:external": True}
    network = neutron.make("network", ADMIN, **given)
    neutron.make("subnet", ADMIN, network_id=network["id"], cidr="10.9.0.0/24", ip_version=4)
    port = neutron.make("port", ADMIN, network_id=network["id"], **{"binding:host_id": "host-1"})
    router = neutron.make("router", ADMIN, external_gateway_info={"network_id": network["id"]})
    assert router["external_gateway_info"]["network_id"] == network["id"]
    ports = neutron.list("ports", f"?network_id={network['id']}", ADMIN)
    assert {(each["binding:vif_type"], each["status"]) for each in ports} <= {
        ("binding_failed", "DOWN"),
        ("unbound", "DOWN"),
    }
    assert port["binding:vif_type"] == "binding_failed"
    assert f"port {port['id']}: binding failed: " in caplog.text
    assert {"vlan": "no host carries", "flat": "--physnet lan7=LINK"}[kind] in caplog.text
    found = neutron.database.read(lambda tx: host_network(tx, "host-1"))
    assert (found.networks, found.ports) == ((), ())


def test_a_link_named_later_carries_what_waited(neutron: Neutron) -> None:
    given = {"provider:network_type": "flat", "provider:physical_network": "lan7"}
    network = neutron.make("network", ADMIN, **given)
    port = neutron.make("port", ADMIN, network_id=network["id"], **{"binding:host_id": "host-1"})
    neutron.database.write(lambda tx: agents.report(tx, "host-1", {"public": "br-ex", "lan7": "brp-lan7"}))
    now = neutron.get(f"/v2.0/ports/{port['id']}", ADMIN).json()["port"]
    assert (now["binding:vif_type"], now["binding:vif_details"]["bridge_name"]) == ("bridge", "brp-lan7")


@pytest.mark.parametrize(("cidr", "subnets"), [("172.24.9.0/24", 1), (None, 0)])
def test_a_lan_hands_out_its_own_addresses(neutron: Neutron, cidr: str | None, subnets: int) -> None:
    projects = {"demo_project_id": "d" * 32, "admin_project_id": "a" * 32}
    made = neutron.database.write(lambda tx: seed.seed(tx, **projects, public_cidr=cidr))
    table = tables.SUBNETS
    found = neutron.database.read(lambda tx: tx.all(table.select().where(table.c.network_id == made["public"])))
    assert len(found) == subnets
