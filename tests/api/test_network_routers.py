"""Routers, their interfaces, gateways and routes, over HTTP, on both databases."""

import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, READER, Neutron, refused

from kilonova.db.engine import Database
from kilonova.model.ids import now
from kilonova.network import agents, ports, tables

HOST = "host1"


@pytest.fixture
def neutron(database: Database) -> Neutron:
    database.write(lambda tx: agents.report(tx, HOST, {"public": "br-ex"}))
    return Neutron(database)


def make_subnet(neutron: Neutron, cidr: str, token: str = DEMO, **values: Any) -> dict[str, Any]:
    network_id = values.pop("network_id", None) or neutron.make("network", token)["id"]
    version = 6 if ":" in cidr else 4
    return neutron.make("subnet", token, network_id=network_id, cidr=cidr, ip_version=version, **values)


def make_public(neutron: Neutron, cidr: str = "172.24.4.0/24", physical: str = "public") -> dict[str, Any]:
    network = neutron.make(
        "network", ADMIN,
        **{"router:external": True, "provider:network_type": "flat", "provider:physical_network": physical},
    )  # fmt: skip
    make_subnet(neutron, cidr, ADMIN, network_id=network["id"], enable_dhcp=False)
    return network


def act(neutron: Neutron, router: dict[str, Any], action: str, token: str = DEMO, /, **body: Any) -> Any:
    return neutron.put(f"/v2.0/routers/{router['id']}/{action}", body, token)


def join(neutron: Neutron, router: dict[str, Any], **body: Any) -> dict[str, Any]:
    response = act(neutron, router, "add_router_interface", **body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def change(neutron: Neutron, router: dict[str, Any], token: str = DEMO, **values: Any) -> Any:
    return neutron.put(f"/v2.0/routers/{router['id']}", {"router": values}, token)


def test_create_show_list_update_delete(neutron: Neutron) -> None:
    router = neutron.make("router", name="r", description="d", external_gateway_info={})
    same = {
        "name": "r", "description": "d", "admin_state_up": True, "status": "ACTIVE", "external_gateway_info": None,
        "routes": [], "availability_zone_hints": [], "availability_zones": [], "tags": [], "revision_number": 1,
    }  # fmt: skip
    assert {key: router[key] for key in same} == same
    assert router["project_id"] == router["tenant_id"] == CONTEXTS[DEMO].project_id
    assert "distributed" not in router
    path = f"/v2.0/routers/{router['id']}"
    assert neutron.get(path, ADMIN).json()["router"]["distributed"] is False
    assert neutron.list("routers", "?name=r&admin_state_up=true") == [router]
    assert neutron.list("routers", token=OTHER) == []
    changed = change(neutron, router, name="q", admin_state_up=False).json()["router"]
    assert (changed["name"], changed["admin_state_up"]) == ("q", False)
    assert changed["revision_number"] > 1
    refused(neutron.get(path, OTHER), 404, "RouterNotFound")
    refused(change(neutron, router, OTHER, name="x"), 404, "RouterNotFound")
    refused(neutron.delete(path, READER), 403, "PolicyNotAuthorized")
    assert neutron.put(f"{path}/tags/blue", None).status_code == 201
    assert [r["id"] for r in neutron.list("routers", "?tags=blue")] == [router["id"]]
    assert neutron.delete(path).status_code == 204
    assert refused(neutron.get(path), 404, "RouterNotFound") == f"Router {router['id']} could not be found"


MISSING = "0f4f0b8e-6d3b-4f8e-9d4c-2f4f5b1a9c11"
BAD_ROUTERS: list[tuple[dict[str, Any], int, str]] = [
    ({"colour": "red"}, 400, "HTTPBadRequest"),
    ({"name": "x" * 256}, 400, "HTTPBadRequest"),
    ({"admin_state_up": "perhaps"}, 400, "HTTPBadRequest"),
    ({"routes": []}, 400, "HTTPBadRequest"),
    ({"external_gateway_info": "x"}, 400, "HTTPBadRequest"),
    ({"external_gateway_info": {"network_id": "x"}}, 400, "HTTPBadRequest"),
    ({"external_gateway_info": {"enable_snat": True}}, 400, "HTTPBadRequest"),
    ({"external_gateway_info": {"network_id": MISSING}}, 404, "NetworkNotFound"),
    ({"distributed": True}, 403, "PolicyNotAuthorized"),
    ({"ha": True}, 403, "PolicyNotAuthorized"),
    ({"flavor_id": MISSING}, 404, "FlavorNotFound"),
    ({"availability_zone_hints": ["moon"]}, 404, "AvailabilityZoneNotFound"),
]


def test_bad_routers(neutron: Neutron) -> None:
    for body, status, kind in BAD_ROUTERS:
        refused(neutron.post("/v2.0/routers", {"router": body}), status, kind)
    for name in ("distributed", "ha"):
        assert neutron.make("router", ADMIN, **{name: False})[name] is False
        refused(neutron.post("/v2.0/routers", {"router": {name: True}}, ADMIN), 400, "InvalidInput")
    assert neutron.make("router", availability_zone_hints=["nova"])["availability_zone_hints"] == ["nova"]


def test_quota(neutron: Neutron) -> None:
    project = CONTEXTS[DEMO].project_id
    neutron.put(f"/v2.0/quotas/{project}", {"quota": {"router": 1}}, ADMIN)
    neutron.make("router")
    refused(neutron.post("/v2.0/routers", {"router": {}}), 409, "OverQuota")
    details = neutron.get(f"/v2.0/quotas/{project}/details").json()["quota"]
    assert details["router"] == {"limit": 1, "used": 1, "reserved": 0}


def test_interface_by_subnet(neutron: Neutron) -> None:
    router, subnet = neutron.make("router"), make_subnet(neutron, "10.1.0.0/24")
    answer = join(neutron, router, subnet_id=subnet["id"])
    assert (answer["id"], answer["subnet_id"], answer["subnet_ids"]) == (router["id"], subnet["id"], [subnet["id"]])
    port = neutron.get(f"/v2.0/ports/{answer['port_id']}", ADMIN).json()["port"]
    assert port["fixed_ips"] == [{"subnet_id": subnet["id"], "ip_address": "10.1.0.1"}]
    assert (port["device_owner"], port["device_id"]) == ("network:router_interface", router["id"])
    assert (port["security_groups"], port["port_security_enabled"]) == ([], False)
    assert (port["binding:host_id"], port["binding:vif_type"], port["status"]) == (HOST, "bridge", "DOWN")
    assert neutron.get(f"/v2.0/routers/{router['id']}").json()["router"]["availability_zones"] == ["nova"]
    message = refused(neutron.delete(f"/v2.0/ports/{port['id']}"), 409, "ServicePortInUse")
    assert message.endswith("cannot be deleted directly via the port API: has device owner network:router_interface.")
    refused(neutron.delete(f"/v2.0/subnets/{subnet['id']}"), 409, "SubnetInUse")
    refused(neutron.delete(f"/v2.0/networks/{subnet['network_id']}"), 409, "NetworkInUse")
    message = refused(neutron.delete(f"/v2.0/routers/{router['id']}"), 409, "RouterInUse")
    assert message == f"Router {router['id']} has ports still attached: {port['id']}"
    gone = act(neutron, router, "remove_router_interface", subnet_id=subnet["id"])
    assert gone.json()["port_id"] == port["id"]
    refused(neutron.get(f"/v2.0/ports/{port['id']}"), 404, "PortNotFound")
    refused(
        act(neutron, router, "remove_router_interface", subnet_id=subnet["id"]), 404, "RouterInterfaceNotFoundForSubnet"
    )
    assert neutron.delete(f"/v2.0/routers/{router['id']}").status_code == 204


def test_interface_by_port(neutron: Neutron) -> None:
    router, subnet = neutron.make("router"), make_subnet(neutron, "10.1.0.0/24")
    port = neutron.make("port", network_id=subnet["network_id"], fixed_ips=[{"ip_address": "10.1.0.109"}])
    assert join(neutron, router, port_id=port["id"])["subnet_id"] == subnet["id"]
    refused(act(neutron, router, "add_router_interface", port_id=port["id"]), 409, "PortInUse")
    moved = neutron.put(f"/v2.0/ports/{port['id']}", {"port": {"fixed_ips": [{"ip_address": "10.1.0.110"}]}})
    assert moved.json()["port"]["fixed_ips"][0]["ip_address"] == "10.1.0.110"
    remove = "remove_router_interface"
    other = make_subnet(neutron, "10.2.0.0/24")
    refused(act(neutron, router, remove, port_id=MISSING), 404, "RouterInterfaceNotFound")
    refused(act(neutron, router, remove, port_id=port["id"], subnet_id=other["id"]), 400, "SubnetMismatchForPort")
    assert act(neutron, router, remove, port_id=port["id"], subnet_id=subnet["id"]).status_code == 200
    refused(neutron.get(f"/v2.0/ports/{port['id']}"), 404, "PortNotFound")


def test_bad_interfaces(neutron: Neutron) -> None:
    router, first = neutron.make("router"), make_subnet(neutron, "10.1.0.0/24")
    add = "add_router_interface"
    refused(act(neutron, router, add), 400, "BadRequest")
    refused(neutron.put(f"/v2.0/routers/{router['id']}/{add}", None), 400, "BadRequest")
    refused(act(neutron, router, add, subnet_id="x"), 400, "BadRequest")
    refused(act(neutron, router, add, subnet_id=MISSING), 404, "SubnetNotFound")
    refused(act(neutron, router, add, port_id=MISSING), 404, "PortNotFound")
    refused(act(neutron, router, add, port_id=MISSING, subnet_id=first["id"]), 400, "BadRequest")
    refused(act(neutron, router, add, OTHER, subnet_id=first["id"]), 404, "RouterNotFound")
    without = make_subnet(neutron, "10.3.0.0/24", gateway_ip=None)
    message = refused(act(neutron, router, add, subnet_id=without["id"]), 400, "BadRequest")
    assert message == "Bad router request: Subnet for router interface must have a gateway IP."
    join(neutron, router, subnet_id=first["id"])
    message = refused(act(neutron, router, add, subnet_id=first["id"]), 400, "BadRequest")
    assert message == f"Bad router request: Router already has a port on subnet {first['id']}."
    overlapping = make_subnet(neutron, "10.1.0.128/25")
    refused(act(neutron, router, add, subnet_id=overlapping["id"]), 400, "BadRequest")
    taken = make_subnet(neutron, "10.4.0.0/24")
    neutron.make("port", network_id=taken["network_id"], fixed_ips=[{"ip_address": "10.4.0.1"}])
    refused(act(neutron, router, add, subnet_id=taken["id"]), 409, "IpAddressAlreadyAllocated")
    bare = neutron.make("port", network_id=neutron.make("network")["id"])
    refused(act(neutron, router, add, port_id=bare["id"]), 400, "BadRequest")
    double = make_subnet(neutron, "10.5.0.0/24")
    make_subnet(neutron, "10.6.0.0/24", network_id=double["network_id"])
    two = neutron.make(
        "port", network_id=double["network_id"], fixed_ips=[{"ip_address": "10.5.0.105"}, {"ip_address": "10.6.0.105"}]
    )
    assert "multiple IPv4 subnets" in refused(act(neutron, router, add, port_id=two["id"]), 400, "BadRequest")
    assert neutron.get(f"/v2.0/ports/{two['id']}").json()["port"]["device_id"] == ""


def test_nobody_routes_anothers_subnet(neutron: Neutron) -> None:
    shared = neutron.make("network", ADMIN, shared=True)
    subnet = make_subnet(neutron, "10.1.0.0/24", ADMIN, network_id=shared["id"])
    router = neutron.make("router")
    refused(act(neutron, router, "add_router_interface", subnet_id=subnet["id"]), 400, "BadRequest")
    inside = neutron.make("port", network_id=shared["id"])
    join(neutron, router, port_id=inside["id"])
    victim = neutron.make("router", OTHER)
    mine = make_subnet(neutron, "10.2.0.0/24")
    forged = {"network_id": mine["network_id"], "device_owner": "network:router_interface", "device_id": victim["id"]}
    refused(neutron.post("/v2.0/ports", {"port": forged}), 409, "DeviceIDNotOwnedByTenant")
    port = neutron.make("port", network_id=mine["network_id"], device_owner="network:router_interface")
    refused(
        neutron.put(f"/v2.0/ports/{port['id']}", {"port": {"device_id": victim["id"]}}), 409, "DeviceIDNotOwnedByTenant"
    )


def test_ipv6_subnets_of_one_network_share_a_port(neutron: Neutron) -> None:
    router, first = neutron.make("router"), make_subnet(neutron, "2001:db8:1::/64")
    second = make_subnet(
        neutron, "2001:db8:2::/64", network_id=first["network_id"], ipv6_ra_mode="slaac", ipv6_address_mode="slaac"
    )
    port_id = join(neutron, router, subnet_id=first["id"])["port_id"]
    assert join(neutron, router, subnet_id=second["id"])["port_id"] == port_id
    port = neutron.get(f"/v2.0/ports/{port_id}").json()["port"]
    assert [ip["ip_address"] for ip in port["fixed_ips"]] == ["2001:db8:1::1", "2001:db8:2::1"]
    refused(neutron.delete(f"/v2.0/subnets/{second['id']}"), 409, "SubnetInUse")
    act(neutron, router, "remove_router_interface", subnet_id=second["id"])
    port = neutron.get(f"/v2.0/ports/{port_id}").json()["port"]
    assert [ip["ip_address"] for ip in port["fixed_ips"]] == ["2001:db8:1::1"]
    another = neutron.make("port", network_id=first["network_id"])
    refused(act(neutron, router, "add_router_interface", port_id=another["id"]), 400, "BadRequest")
    elsewhere = make_subnet(neutron, "2001:db8:3::/64", ipv6_address_mode="slaac")
    message = refused(act(neutron, router, "add_router_interface", subnet_id=elsewhere["id"]), 400, "BadRequest")
    assert "configured to receive RAs from an external router" in message


def test_gateway(neutron: Neutron) -> None:
    public = make_public(neutron)
    router = neutron.make("router", external_gateway_info={"network_id": public["id"]})
    info = router["external_gateway_info"]
    assert (info["network_id"], info["enable_snat"], len(info["external_fixed_ips"])) == (public["id"], True, 1)
    assert neutron.list("ports", f"?device_id={router['id']}") == []  # the user's eyes do not see it
    port = neutron.list("ports", f"?device_id={router['id']}", ADMIN)[0]
    assert (port["device_owner"], port["project_id"]) == ("network:router_gateway", "")
    assert port["fixed_ips"] == info["external_fixed_ips"]
    assert (port["binding:vif_type"], port["binding:vif_details"]["bridge_name"]) == ("bridge", "br-ex")
    refused(neutron.delete(f"/v2.0/ports/{port['id']}", ADMIN), 409, "ServicePortInUse")
    refused(neutron.delete(f"/v2.0/networks/{public['id']}", ADMIN), 409, "NetworkInUse")
    not_external = {"network": {"router:external": False}}
    refused(neutron.put(f"/v2.0/networks/{public['id']}", not_external, ADMIN), 409, "ExternalNetworkInUse")
    again = change(neutron, router, external_gateway_info={"network_id": public["id"]}).json()["router"]
    assert again["external_gateway_info"] == info
    cleared = change(neutron, router, external_gateway_info=None).json()["router"]
    assert cleared["external_gateway_info"] is None
    assert neutron.list("ports", f"?device_id={router['id']}", ADMIN) == []
    change(neutron, router, external_gateway_info={"network_id": public["id"]})
    assert neutron.delete(f"/v2.0/routers/{router['id']}").status_code == 204
    assert neutron.delete(f"/v2.0/networks/{public['id']}", ADMIN).status_code == 204


def test_gateway_refusals(neutron: Neutron) -> None:
    public, private = make_public(neutron), make_subnet(neutron, "10.1.0.0/24")
    router = neutron.make("router")
    inside = {"network_id": private["network_id"]}
    message = refused(change(neutron, router, external_gateway_info=inside), 400, "BadRequest")
    assert message.endswith("is not an external network.")
    subnet_id = neutron.list("subnets", f"?network_id={public['id']}", ADMIN)[0]["id"]
    for extra in ({"enable_snat": False}, {"external_fixed_ips": [{"subnet_id": subnet_id}]}):
        info = {"network_id": public["id"], **extra}
        refused(change(neutron, router, external_gateway_info=info), 403, "PolicyNotAuthorized")
    on_gateway = {"network_id": public["id"], "external_fixed_ips": [{"ip_address": "172.24.4.1"}]}
    refused(change(neutron, router, ADMIN, external_gateway_info=on_gateway), 400, "BadRequest")
    fixed = {"network_id": public["id"], "external_fixed_ips": [{"ip_address": "172.24.4.77"}]}
    first = change(neutron, router, ADMIN, external_gateway_info=fixed).json()["router"]
    assert first["external_gateway_info"]["external_fixed_ips"][0]["ip_address"] == "172.24.4.77"
    other = neutron.make("router")
    refused(change(neutron, other, ADMIN, external_gateway_info=fixed), 409, "IpAddressAlreadyAllocated")
    fixed["external_fixed_ips"] = [{"ip_address": "172.24.4.78"}]
    fixed["enable_snat"] = False
    second = change(neutron, router, ADMIN, external_gateway_info=fixed).json()["router"]["external_gateway_info"]
    assert (second["external_fixed_ips"][0]["ip_address"], second["enable_snat"]) == ("172.24.4.78", False)
    same = make_subnet(neutron, "172.24.4.0/25")
    refused(act(neutron, router, "add_router_interface", subnet_id=same["id"]), 400, "BadRequest")


def test_extra_routes(neutron: Neutron) -> None:
    router, subnet = neutron.make("router"), make_subnet(neutron, "10.1.0.0/24")
    join(neutron, router, subnet_id=subnet["id"])
    one = {"destination": "192.0.2.0/24", "nexthop": "10.1.0.5"}
    two = {"destination": "198.51.100.0/24", "nexthop": "10.1.0.6"}
    assert change(neutron, router, routes=[one]).json()["router"]["routes"] == [one]
    added = act(neutron, router, "add_extraroutes", router={"routes": [one, two]}).json()["router"]
    assert added["routes"] == [one, two]
    gone = act(neutron, router, "remove_extraroutes", router={"routes": [one]}).json()["router"]
    assert gone["routes"] == [two]
    remove = act(neutron, router, "remove_router_interface", subnet_id=subnet["id"])
    refused(remove, 409, "RouterInterfaceInUseByRoute")
    bad = [
        ([{"destination": "192.0.2.0/24", "nexthop": "10.9.0.5"}], "InvalidRoutes"),
        ([{"destination": "192.0.2.0/24", "nexthop": "10.1.0.1"}], "InvalidRoutes"),
        ([{"destination": "2001:db8::/64", "nexthop": "10.1.0.5"}], "InvalidRoutes"),
        ([{"destination": "192.0.2.1/24", "nexthop": "10.1.0.5"}], "HTTPBadRequest"),
        ([{"destination": "192.0.2.0/24"}], "HTTPBadRequest"),
        ([one, one], "HTTPBadRequest"),
        ("x", "HTTPBadRequest"),
    ]
    for routes, kind in bad:
        refused(change(neutron, router, routes=routes), 400, kind)
    many = [{"destination": f"192.0.2.{n}/32", "nexthop": "10.1.0.5"} for n in range(31)]
    refused(change(neutron, router, routes=many), 409, "OverQuota")
    refused(act(neutron, router, "add_extraroutes", router={"routes": "x"}), 400, "HTTPBadRequest")
    assert change(neutron, router, routes=None).json()["router"]["routes"] == []


def test_a_route_keeps_its_gateway(neutron: Neutron) -> None:
    public = make_public(neutron)
    router = neutron.make("router", external_gateway_info={"network_id": public["id"]})
    change(neutron, router, routes=[{"destination": "192.0.2.0/24", "nexthop": "172.24.4.209"}])
    refused(change(neutron, router, external_gateway_info=None), 400, "InvalidRoutes")


def test_legs_go_where_an_agent_is_alive(database: Database) -> None:
    neutron = Neutron(database)
    public = make_public(neutron)
    router = neutron.make("router", external_gateway_info={"network_id": public["id"]})
    subnet = make_subnet(neutron, "10.1.0.0/24")
    join(neutron, router, subnet_id=subnet["id"])
    legs = neutron.list("ports", f"?device_id={router['id']}", ADMIN)
    assert {leg["binding:vif_type"] for leg in legs} == {"unbound"}
    database.write(lambda tx: agents.report(tx, HOST, {"public": "br-ex"}))
    legs = neutron.list("ports", f"?device_id={router['id']}", ADMIN)
    assert {(leg["binding:vif_type"], leg["binding:host_id"]) for leg in legs} == {("bridge", HOST)}
    found = neutron.get(f"/v2.0/routers/{router['id']}/l3-agents", ADMIN).json()["agents"]
    assert [(agent["host"], agent["agent_type"]) for agent in found] == [(HOST, "L3 agent")]


def test_what_an_agent_was_relieved_of_waits_until_one_comes_back(neutron: Neutron) -> None:
    (agent,) = neutron.list("agents", f"?host={HOST}&agent_type=L3%20agent", ADMIN)
    path = f"/v2.0/agents/{agent['id']}"
    router = neutron.make("router")
    join(neutron, router, subnet_id=make_subnet(neutron, "10.1.0.0/24")["id"])
    hosting = f"/v2.0/routers/{router['id']}/l3-agents"

    def hosts() -> list[str]:
        return [found["host"] for found in neutron.get(hosting, ADMIN).json()["agents"]]

    def beat() -> None:
        neutron.database.write(lambda tx: agents.report(tx, HOST, {"public": "br-ex"}))

    def relieve() -> None:
        assert hosts() == [HOST]
        assert neutron.delete(f"{path}/l3-routers/{router['id']}", ADMIN).status_code == 204

    relieve()
    beat()
    assert hosts() == []
    for up in (False, True):
        neutron.put(path, {"agent": {"admin_state_up": up}}, ADMIN)
    relieve()
    silent = {"heartbeat_timestamp": now() - datetime.timedelta(hours=1)}
    neutron.database.write(lambda tx: tx.execute(tables.AGENTS.update().values(**silent)))
    beat()
    assert hosts() == [HOST]


def test_an_unmapped_physical_network_cannot_be_bound(neutron: Neutron) -> None:
    network = make_public(neutron, physical="elsewhere")
    router = neutron.make("router", external_gateway_info={"network_id": network["id"]})
    leg = neutron.list("ports", f"?device_id={router['id']}", ADMIN)[0]
    assert (leg["binding:vif_type"], leg["status"]) == ("binding_failed", "DOWN")


def test_l3_agent_scheduler(neutron: Neutron) -> None:
    by_type = {agent["agent_type"]: agent for agent in neutron.list("agents", token=ADMIN)}
    agent, l2 = by_type["L3 agent"], by_type["Linux bridge agent"]
    assert l2["configurations"]["bridge_mappings"] == {"public": "br-ex"}
    router, subnet = neutron.make("router"), make_subnet(neutron, "10.1.0.0/24")
    path = f"/v2.0/agents/{agent['id']}/l3-routers"
    refused(neutron.get(path), 403, "PolicyNotAuthorized")
    assert neutron.get(path, ADMIN).json() == {"routers": []}
    added = neutron.post(path, {"router_id": router["id"]}, ADMIN)
    assert (added.status_code, added.json()) == (201, None)
    assert neutron.post(path, {"router_id": router["id"]}, ADMIN).status_code == 201
    assert [r["id"] for r in neutron.get(path, ADMIN).json()["routers"]] == [router["id"]]
    port_id = join(neutron, router, subnet_id=subnet["id"])["port_id"]
    neutron.database.write(lambda tx: agents.report(tx, "host2"))
    second = next(a for a in neutron.list("agents", "?host=host2", ADMIN) if a["agent_type"] == "L3 agent")
    other = f"/v2.0/agents/{second['id']}/l3-routers"
    refused(neutron.post(other, {"router_id": router["id"]}, ADMIN), 409, "RouterHostedByL3Agent")
    refused(neutron.delete(f"{other}/{router['id']}", ADMIN), 409, "RouterNotHostedByL3Agent")
    assert neutron.delete(f"{path}/{router['id']}", ADMIN).status_code == 204
    port = neutron.get(f"/v2.0/ports/{port_id}", ADMIN).json()["port"]
    assert (port["binding:host_id"], port["binding:vif_type"]) == ("", "unbound")
    neutron.post(other, {"router_id": router["id"]}, ADMIN)
    assert neutron.get(f"/v2.0/ports/{port_id}", ADMIN).json()["port"]["binding:host_id"] == "host2"
    refused(
        neutron.post(f"/v2.0/agents/{l2['id']}/l3-routers", {"router_id": router["id"]}, ADMIN), 404, "InvalidL3Agent"
    )
    refused(neutron.post(path, {"router_id": MISSING}, ADMIN), 404, "RouterNotFound")
    refused(neutron.post(path, {}, ADMIN), 400, "HTTPBadRequest")
    refused(neutron.get(f"/v2.0/agents/{MISSING}/l3-routers", ADMIN), 404, "AgentNotFound")


def test_dhcp_agent_scheduler(neutron: Neutron) -> None:
    (agent,) = neutron.list("agents", "?agent_type=dhcp AGENT", ADMIN)
    path = f"/v2.0/agents/{agent['id']}/dhcp-networks"
    subnet = make_subnet(neutron, "10.1.0.0/24")
    network_id = subnet["network_id"]
    assert [n["id"] for n in neutron.get(path, ADMIN).json()["networks"]] == [network_id]
    found = neutron.get(f"/v2.0/networks/{network_id}/dhcp-agents", ADMIN).json()["agents"]
    assert [a["id"] for a in found] == [agent["id"]]
    (port,) = neutron.list("ports", f"?network_id={network_id}", ADMIN)
    assert (port["device_owner"], port["binding:host_id"], port["status"]) == ("network:dhcp", HOST, "DOWN")
    refused(neutron.post(path, {"network_id": network_id}, ADMIN), 409, "NetworkHostedByDHCPAgent")
    assert neutron.delete(f"{path}/{network_id}", ADMIN).status_code == 204
    assert neutron.list("ports", f"?network_id={network_id}&device_owner=network:dhcp") == []
    refused(neutron.delete(f"{path}/{network_id}", ADMIN), 409, "NetworkNotHostedByDhcpAgent")
    added = neutron.post(path, {"network_id": network_id}, ADMIN)
    assert (added.status_code, added.json()) == (201, None)
    assert len(neutron.list("ports", f"?network_id={network_id}&device_owner=network:dhcp")) == 1
    empty = neutron.make("network")["id"]
    assert neutron.post(path, {"network_id": empty}, ADMIN).status_code == 201
    assert neutron.delete(f"{path}/{empty}", ADMIN).status_code == 204
    refused(neutron.post(path, {"network_id": MISSING}, ADMIN), 404, "NetworkNotFound")
    l3 = neutron.list("agents", "?agent_type=L3 agent", ADMIN)[0]
    refused(
        neutron.post(f"/v2.0/agents/{l3['id']}/dhcp-networks", {"network_id": empty}, ADMIN), 404, "InvalidDHCPAgent"
    )
    assert neutron.delete(f"/v2.0/agents/{agent['id']}", ADMIN).status_code == 204
    assert neutron.get(f"/v2.0/networks/{network_id}/dhcp-agents", ADMIN).json() == {"agents": []}


def test_provider_networks(neutron: Neutron) -> None:
    def provider(body: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(body[f"provider:{key}"] for key in ("network_type", "physical_network", "segmentation_id"))

    neutron.database.write(lambda tx: agents.report(tx, "host-1", {"lan": "brp-lan"}))

    def ask(**values: Any) -> Any:
        return neutron.post("/v2.0/networks", {"network": {f"provider:{k}": v for k, v in values.items()}}, ADMIN)

    mine = neutron.make("network")
    assert not any(key.startswith("provider:") for key in mine)
    seen = neutron.get(f"/v2.0/networks/{mine['id']}", ADMIN).json()["network"]
    kind, physical, vni = provider(seen)
    assert (kind, physical) == ("vxlan", None)
    assert 0 < vni < 2**24
    assert [n["id"] for n in neutron.list("networks", f"?provider:segmentation_id={vni}", ADMIN)] == [mine["id"]]
    refused(neutron.get("/v2.0/networks?provider:network_type=flat"), 403, "PolicyNotAuthorized")
    refused(neutron.post("/v2.0/networks", {"network": {"provider:network_type": "flat"}}), 403, "PolicyNotAuthorized")
    flat = ask(network_type="flat", physical_network="lan").json()["network"]
    assert (provider(flat), flat["mtu"]) == (("flat", "lan", None), 1500)
    refused(ask(network_type="flat", physical_network="lan"), 409, "FlatNetworkInUse")
    vlan = ask(network_type="vlan", physical_network="lan", segmentation_id=7).json()["network"]
    assert provider(vlan) == ("vlan", "lan", 7)
    refused(ask(network_type="vlan", physical_network="lan", segmentation_id=7), 409, "VlanIdInUse")
    drawn = provider(ask(network_type="vlan", physical_network="lan").json()["network"])
    assert 1 <= drawn[2] <= 4094
    refused(ask(network_type="vxlan", segmentation_id=vni), 409, "TunnelIdInUse")
    refused(ask(network_type="vxlan", segmentation_id=2**24), 400, "NetworkTunnelRangeError")
    assert provider(ask(network_type="local").json()["network"]) == ("local", None, None)
    assert provider(ask(network_type="local").json()["network"]) == ("local", None, None)
    for bad in (
        {"network_type": "gre"}, {"network_type": "flat"}, {"physical_network": "lan"}, {"segmentation_id": 3},
        {"network_type": "flat", "physical_network": "x", "segmentation_id": 3},
        {"network_type": "vlan", "segmentation_id": 3}, {"network_type": "local", "segmentation_id": 3},
        {"network_type": "vlan", "physical_network": "lan", "segmentation_id": 4095},
        {"network_type": "vlan", "physical_network": "carried by no host", "segmentation_id": 7},
        {"network_type": "vxlan", "physical_network": "lan"},
    ):  # fmt: skip
        refused(ask(**bad), 400, "InvalidInput")
    body = {"network": {"provider:network_type": "vlan"}}
    none_left = neutron.http.post("/network/v2.0/networks", json=body, headers={"X-Auth-Token": ADMIN})
    refused(none_left, 503, "NoNetworkAvailable")
    assert neutron.delete(f"/v2.0/networks/{flat['id']}", ADMIN).status_code == 204
    assert ask(network_type="flat", physical_network="lan").status_code == 201


def test_a_port_is_bound_with_its_networks_bridge(neutron: Neutron) -> None:
    public = make_public(neutron)
    port = neutron.make("port", ADMIN, network_id=public["id"])

    def bind(tx: Any) -> Any:
        ports.bind(tx, ports.get_any(tx, port["id"]), HOST, "bridge")
        return tx.first(sa.select(tables.PORTS.c.vif_details).where(tables.PORTS.c.id == port["id"]))

    assert neutron.database.write(bind)["vif_details"]["bridge_name"] == "br-ex"


def test_routers_say_at_the_top_whether_they_translate(neutron: Neutron) -> None:
    router = neutron.make("router", ADMIN)
    assert router["enable_snat"] is True
    refused(change(neutron, router, ADMIN, enable_snat=False), 400, "HTTPBadRequest")
    assert [found["id"] for found in neutron.list("routers", "?enable_snat=True", ADMIN)] == [router["id"]]
    assert neutron.list("routers", "?enable_snat=False", ADMIN) == []


def test_availability_zones_are_filtered(neutron: Neutron) -> None:
    (zone,) = neutron.list("availability_zones")
    assert zone == {"name": "nova", "resource": "router", "state": "available"}
    assert neutron.list("availability_zones", "?name=nova&resource=router&state=available") == [zone]
    assert neutron.list("availability_zones", "?resource=network") == []
