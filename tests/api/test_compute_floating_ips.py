"""A server's floating addresses beside its fixed ones, in Nova's words, on both databases."""

from typing import Any

import pytest
from compute_client import ADMIN, Nova

from kilonova.compute import spec
from kilonova.db.engine import Database, Tx
from kilonova.network import floating_ips, router_interfaces, routers
from kilonova.web.call import Context


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def give_floating_ip(nova: Nova, server_id: str) -> str:
    """Its address: on a new external network, by a new router."""
    external = nova.neutron("networks", {"network": {"name": "ext", "router:external": True}}, ADMIN)
    outside = {"network_id": external["id"], "cidr": "172.24.4.0/24", "ip_version": 4, "enable_dhcp": False}
    nova.neutron("subnets", {"subnet": outside}, ADMIN)
    (port,) = nova.get(f"/servers/{server_id}/os-interface").json()["interfaceAttachments"]
    context = Context(project_id="p", roles=frozenset({"admin"}))

    def write(tx: Tx) -> str:
        info = {"network_id": external["id"]}
        router = routers.create(tx, context, {"external_gateway_info": info})
        router_interfaces.add(tx, context, router["id"], {"subnet_id": port["fixed_ips"][0]["subnet_id"]})
        body = {"floating_network_id": external["id"], "port_id": port["port_id"]}
        return str(floating_ips.create(tx, context, body)["floating_ip_address"])

    return nova.database.write(write)


def test_both_addresses_are_shown(nova: Nova) -> None:
    id = nova.active(networks=[{"uuid": nova.network()}])
    (fixed,) = nova.get(f"/servers/{id}").json()["server"]["addresses"]["net"]
    address = give_floating_ip(nova, id)
    expected: list[Any] = [fixed, {**fixed, "addr": address, "OS-EXT-IPS:type": "floating"}]
    assert nova.get(f"/servers/{id}").json()["server"]["addresses"] == {"net": expected}
    (listed,) = nova.get("/servers/detail").json()["servers"]
    assert listed["addresses"] == {"net": expected}
    ips = nova.get(f"/servers/{id}/ips/net").json()["net"]
    assert ips == [{"version": 4, "addr": fixed["addr"]}, {"version": 4, "addr": address}]
    assert nova.database.read(lambda tx: spec.server_spec(tx, id)).floating_ips == (address,)
