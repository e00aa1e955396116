"""Trunks and their sub-ports, over HTTP, on both databases."""

from typing import Any

import pytest
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, READER, Neutron, refused
from test_network_routers import HOST

from kilonova.db.engine import Database
from kilonova.network import agents

MISSING = "0f4f0b8e-6d3b-4f8e-9d4c-2f4f5b1a9c11"


@pytest.fixture
def neutron(database: Database) -> Neutron:
    database.write(lambda tx: agents.report(tx, HOST, {"public": "br-ex"}))
    return Neutron(database)


def make_ports(neutron: Neutron, count: int, token: str = DEMO, **network: Any) -> list[dict[str, Any]]:
    made = neutron.make("network", token, **network)
    return [neutron.make("port", token, network_id=made["id"]) for _ in range(count)]


def sub(port: dict[str, Any], number: int | None = None, **values: Any) -> dict[str, Any]:
    tag = {} if number is None else {"segmentation_type": "vlan", "segmentation_id": number}
    return {"port_id": port["id"], **tag, **values}


def test_create_show_list_update_delete(neutron: Neutron) -> None:
    parent, child, other = make_ports(neutron, 3)
    trunk = neutron.make("trunk", name="t", port_id=parent["id"], sub_ports=[sub(child, 5)])
    same = {
        "name": "t", "description": "", "admin_state_up": True, "status": "DOWN", "port_id": parent["id"],
        "sub_ports": [sub(child, 5)], "tags": [], "tenant_id": CONTEXTS[DEMO].project_id,
    }  # fmt: skip
    assert {key: trunk[key] for key in same} == same
    path = f"/v2.0/trunks/{trunk['id']}"
    assert neutron.get(path).json()["trunk"] == trunk
    assert neutron.list("trunks", f"?port_id={parent['id']}&status=DOWN") == [trunk]
    assert neutron.list("trunks", token=OTHER) == []
    shown = neutron.get(f"/v2.0/ports/{parent['id']}").json()["port"]["trunk_details"]
    assert shown == {"trunk_id": trunk["id"], "sub_ports": [{**sub(child, 5), "mac_address": child["mac_address"]}]}
    refused(neutron.delete(f"/v2.0/ports/{parent['id']}"), 409, "PortInUseAsTrunkParent")
    refused(neutron.delete(f"/v2.0/ports/{child['id']}"), 409, "PortInUseAsSubPort")
    added = neutron.put(f"{path}/add_subports", {"sub_ports": [sub(other, 6)]}).json()
    assert added["sub_ports"] == [sub(child, 5), sub(other, 6)]
    assert added["revision_number"] > trunk["revision_number"]
    assert neutron.get(f"{path}/get_subports").json() == {"sub_ports": [sub(child, 5), sub(other, 6)]}
    removed = neutron.put(f"{path}/remove_subports", {"sub_ports": [{"port_id": child["id"]}]}).json()
    assert removed["sub_ports"] == [sub(other, 6)]
    refused(neutron.put(f"{path}/remove_subports", {"sub_ports": [sub(child, 5)]}), 404, "SubPortNotFound")
    refused(neutron.get(path, OTHER), 404, "TrunkNotFound")
    refused(neutron.delete(path, READER), 403, "PolicyNotAuthorized")
    assert neutron.put(f"{path}/tags/blue", None).status_code == 201
    down = neutron.put(path, {"trunk": {"name": "u", "admin_state_up": False}}).json()["trunk"]
    assert (down["name"], down["admin_state_up"]) == ("u", False)
    refused(neutron.delete(path), 409, "TrunkDisabled")
    refused(neutron.put(f"{path}/add_subports", {"sub_ports": [sub(child, 5)]}), 409, "TrunkDisabled")
    neutron.put(path, {"trunk": {"admin_state_up": True}})
    assert neutron.delete(path).status_code == 204
    assert neutron.delete(f"/v2.0/ports/{parent['id']}").status_code == 204
    assert neutron.delete(f"/v2.0/ports/{other['id']}").status_code == 204


def test_refusals(neutron: Neutron) -> None:
    parent, child, free, used = make_ports(neutron, 4)
    (foreign,) = make_ports(neutron, 1, OTHER)
    (wide,) = make_ports(neutron, 1, ADMIN, mtu=1400)
    trunk = neutron.make("trunk", port_id=parent["id"], sub_ports=[sub(child, 5)])
    neutron.put(f"/v2.0/ports/{used['id']}", {"port": {"device_id": "somebody"}})
    for body, status, kind in [
        ({}, 400, "HTTPBadRequest"),
        ({"port_id": "x"}, 400, "HTTPBadRequest"),
        ({"port_id": MISSING}, 404, "PortNotFound"),
        ({"port_id": foreign["id"]}, 404, "PortNotFound"),
        ({"port_id": parent["id"]}, 409, "ParentPortInUse"),
        ({"port_id": child["id"]}, 409, "TrunkPortInUse"),
        ({"port_id": free["id"], "status": "ACTIVE"}, 400, "HTTPBadRequest"),
        ({"port_id": free["id"], "sub_ports": [sub(free, 7)]}, 409, "ParentPortInUse"),
    ]:
        refused(neutron.post("/v2.0/trunks", {"trunk": body}), status, kind)
    path = f"/v2.0/trunks/{trunk['id']}/add_subports"
    for port, status, kind in [
        (sub(free), 400, "InvalidInput"),
        (sub(free, 0), 400, "InvalidInput"),
        (sub(free, 4095), 400, "InvalidInput"),
        (sub(free, 7, segmentation_type="gre"), 400, "InvalidInput"),
        (sub(free, segmentation_type="inherit"), 400, "InvalidInput"),
        (sub(free, 5), 409, "DuplicateSubPort"),
        (sub(child, 7), 409, "TrunkPortInUse"),
        (sub(parent, 7), 409, "ParentPortInUse"),
        (sub(used, 7), 409, "PortInUse"),
        (sub(foreign, 7), 404, "PortNotFound"),
        ({"port_id": MISSING, "segmentation_type": "vlan", "segmentation_id": 7}, 404, "PortNotFound"),
        ({"port_id": MISSING, "segmentation_type": "vlan"}, 400, "InvalidInput"),
        ({"port_id": MISSING, "segmentation_id": 7}, 400, "InvalidInput"),
    ]:
        refused(neutron.put(path, {"sub_ports": [port]}), status, kind)
    refused(neutron.put(path, {"sub_ports": [sub(free, 7), sub(free, 8)]}), 400, "InvalidInput")
    refused(neutron.put(path, {"ports": []}), 400, "InvalidInput")
    refused(neutron.put(path, [1]), 400, "InvalidInput")
    narrow = neutron.make("trunk", ADMIN, port_id=wide["id"])
    refused(
        neutron.put(f"/v2.0/trunks/{narrow['id']}/add_subports", {"sub_ports": [sub(free, 7)]}, ADMIN),
        409,
        "SubPortMtuGreaterThanTrunkPortMtu",
    )
    assert neutron.put(path, {"sub_ports": [sub(free, 7)]}).status_code == 200


def test_quota(neutron: Neutron) -> None:
    one, two = make_ports(neutron, 2)
    quota = f"/v2.0/quotas/{CONTEXTS[DEMO].project_id}"
    assert neutron.get(quota).json()["quota"]["trunk"] == -1
    neutron.put(quota, {"quota": {"trunk": 1}}, ADMIN)
    neutron.make("trunk", port_id=one["id"])
    refused(neutron.post("/v2.0/trunks", {"trunk": {"port_id": two["id"]}}), 409, "OverQuota")
    assert neutron.get(f"{quota}/details.json").json()["quota"]["trunk"] == {"limit": 1, "used": 1, "reserved": 0}


def test_service_providers(neutron: Neutron) -> None:
    (one,) = neutron.list("service-providers")
    assert one == {"service_type": "L3_ROUTER_NAT", "name": "single_node", "default": True}
    assert neutron.list("service-providers", "?service_type=VPN") == []
    assert neutron.list("service-providers", "?service_type=L3_ROUTER_NAT") == [one]
