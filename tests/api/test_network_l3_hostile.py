"""Bodies and ids that make no sense, at every route of routers and floating IPs: OpenStack's own errors, never a 500."""

from typing import Any

import pytest
from network_client import ADMIN, DEMO, Neutron

from kilonova.db.engine import Database
from kilonova.network import agents
from kilonova.network.l3_routes import ROUTES

JUNK: list[Any] = [
    None, [], "x", 7, True, {}, {"a": {}}, [{}], "x" * 70000, "a\x00b", "é\ud7ff😀", -1, 2**70, 1.5, [None], [[]],
    "00000000-0000-0000-0000-000000000000", "10.0.0.1%eth0", "fe80::1", "10.0.0.0/33", {"network_id": None},
    {"network_id": "x" * 300}, [{"destination": "::/0", "nexthop": "10.0.0.1"}], [{"ip_address": "::"}], "1:99999", "0:0",
]  # fmt: skip
IDS = ["x", "00000000-0000-0000-0000-000000000000", "x" * 300, "%F0%9F%98%80", "..;", "0"]
ATTRIBUTES = {
    "router": (
        "name", "admin_state_up", "external_gateway_info", "routes", "distributed", "flavor_id", "project_id",
        "availability_zone_hints", "status",
    ),
    "floatingip": (
        "floating_network_id", "floating_ip_address", "subnet_id", "port_id", "fixed_ip_address", "description", "status",
    ),
    "port_forwarding": (
        "internal_port_id", "internal_ip_address", "protocol", "external_port", "internal_port", "external_port_range",
        "internal_port_range",
    ),
}  # fmt: skip


@pytest.fixture
def neutron(database: Database) -> Neutron:
    database.write(lambda tx: agents.report(tx, "host1", {"public": "br-ex"}))
    return Neutron(database)


def refused(status: int) -> bool:
    return 400 <= status < 500


def test_ids_and_bodies_that_are_none(neutron: Neutron) -> None:
    for route in ROUTES:
        method, template = route.split()
        for ident in IDS:
            path = template
            for name in ("id", "agent_id", "floating_id"):
                path = path.replace(f"{{{name}}}", ident)
            for body in JUNK if ident == "x" and method in ("POST", "PUT") else [None, {}]:
                answer = neutron.call(method, path, body, ADMIN)
                made = template == "/v2.0/routers" and body == {} and method == "POST"
                assert refused(answer.status_code) or method == "GET" or made, (
                    route,
                    ident,
                    str(body)[:80],
                    answer.text,
                )


def test_attributes_of_a_wrong_kind(neutron: Neutron) -> None:
    network = neutron.make("network")
    neutron.make("subnet", network_id=network["id"], cidr="10.0.0.0/24", ip_version=4)
    public = neutron.make("network", ADMIN, **{"router:external": True})
    neutron.make("subnet", ADMIN, network_id=public["id"], cidr="172.24.4.0/24", ip_version=4)
    port, router = neutron.make("port", network_id=network["id"]), neutron.make("router")
    floating = neutron.make("floatingip", floating_network_id=public["id"])
    forwardings = f"/v2.0/floatingips/{floating['id']}/port_forwardings"
    full = {
        "router": {},
        "floatingip": {"floating_network_id": public["id"]},
        "port_forwarding": {"internal_port_id": port["id"], "protocol": "tcp", "external_port": 1, "internal_port": 2},
    }
    for name, attributes in ATTRIBUTES.items():
        for attribute in attributes:
            for value in JUNK:
                body = {name: {**full[name], attribute: value}}
                if name == "router":
                    neutron.post("/v2.0/routers", body)
                    neutron.put(f"/v2.0/routers/{router['id']}", {name: {attribute: value}}, ADMIN)
                elif name == "floatingip":
                    neutron.post("/v2.0/floatingips", body, ADMIN)
                    neutron.put(f"/v2.0/floatingips/{floating['id']}", {name: {attribute: value}})
                else:
                    neutron.post(forwardings, body)
    for action in ("add_router_interface", "remove_router_interface"):
        for key in ("port_id", "subnet_id"):
            for value in JUNK:
                answer = neutron.put(f"/v2.0/routers/{router['id']}/{action}", {key: value}, DEMO)
                assert refused(answer.status_code), (action, key, value)
    assert neutron.get(f"/v2.0/routers/{router['id']}").json()["router"]["routes"] == []
