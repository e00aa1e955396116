"""Floating IPs and their port forwardings, over HTTP, on both databases; and what a host is told of them."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, READER, Neutron, refused

from kilonova.db.engine import Database
from kilonova.model.specs import FloatingIPSpec, HostNetwork, PortForwardingSpec
from kilonova.network import agents, associations, floating_ips, ports
from kilonova.network.desired import Desired

HOST = "host1"
MISSING = "0f4f0b8e-6d3b-4f8e-9d4c-2f4f5b1a9c11"


class Lan:
    """An external network, and a router between it and a subnet of the demo project's."""

    def __init__(self, database: Database) -> None:
        database.write(lambda tx: agents.report(tx, HOST, {"public": "br-ex"}))
        self.neutron = Neutron(database)
        provider = {"provider:network_type": "flat", "provider:physical_network": "public"}
        self.public = self.neutron.make("network", ADMIN, **{"router:external": True}, **provider)
        self.outside = self.subnet(self.public["id"], "172.24.4.0/24", ADMIN, enable_dhcp=False)
        self.network = self.neutron.make("network")
        self.inside = self.subnet(self.network["id"], "10.0.0.0/24")
        self.router = self.make_router(self.inside)

    def subnet(self, network_id: str, cidr: str, token: str = DEMO, **values: Any) -> dict[str, Any]:
        return self.neutron.make("subnet", token, network_id=network_id, cidr=cidr, ip_version=4, **values)

    def make_router(self, *subnets: dict[str, Any]) -> dict[str, Any]:
        router = self.neutron.make("router", external_gateway_info={"network_id": self.public["id"]})
        for subnet in subnets:
            path = f"/v2.0/routers/{router['id']}/add_router_interface"
            assert self.neutron.put(path, {"subnet_id": subnet["id"]}).status_code == 200
        return router

    def port(self, **values: Any) -> dict[str, Any]:
        return self.neutron.make("port", network_id=self.network["id"], **values)

    def floating(self, token: str = DEMO, **values: Any) -> dict[str, Any]:
        return self.neutron.make("floatingip", token, floating_network_id=self.public["id"], **values)

    def ask(self, token: str = DEMO, **values: Any) -> Any:
        return self.neutron.post(
            "/v2.0/floatingips", {"floatingip": {"floating_network_id": self.public["id"], **values}}, token
        )

    def change(self, floating: dict[str, Any], **values: Any) -> Any:
        return self.neutron.put(f"/v2.0/floatingips/{floating['id']}", {"floatingip": values})

    def show(self, floating: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.neutron.get(f"/v2.0/floatingips/{floating['id']}").json()["floatingip"]
        return found

    def forward(self, floating: dict[str, Any], **values: Any) -> Any:
        return self.neutron.post(f"/v2.0/floatingips/{floating['id']}/port_forwardings", {"port_forwarding": values})


@pytest.fixture
def lan(database: Database) -> Lan:
    return Lan(database)


def address(port: dict[str, Any]) -> str:
    return str(port["fixed_ips"][0]["ip_address"])


def test_create_show_list_update_delete(lan: Lan) -> None:
    floating = lan.floating(description="d")
    same = {
        "floating_network_id": lan.public["id"], "port_id": None, "fixed_ip_address": None, "router_id": None,
        "status": "DOWN", "port_details": None, "port_forwardings": [], "description": "d", "tags": [],
    }  # fmt: skip
    assert {key: floating[key] for key in same} == same
    assert floating["floating_ip_address"].startswith("172.24.4.")
    neutron = lan.neutron
    assert neutron.list("floatingips") == [floating]
    assert neutron.list("floatingips", token=OTHER) == []
    assert [f["id"] for f in neutron.list("floatingips", token=ADMIN)] == [floating["id"]]
    assert neutron.list("ports", f"?device_id={floating['id']}") == []
    (holder,) = neutron.list("ports", f"?device_id={floating['id']}", ADMIN)
    assert (holder["device_owner"], holder["status"], holder["project_id"]) == ("network:floatingip", "N/A", "")
    refused(neutron.delete(f"/v2.0/ports/{holder['id']}", ADMIN), 409, "ServicePortInUse")
    taken = {"network_id": lan.public["id"], "fixed_ips": [{"ip_address": floating["floating_ip_address"]}]}
    refused(neutron.post("/v2.0/ports", {"port": taken}, ADMIN), 409, "IpAddressAlreadyAllocated")
    port = lan.port()
    changed = lan.change(floating, port_id=port["id"]).json()["floatingip"]
    assert (changed["port_id"], changed["router_id"]) == (port["id"], lan.router["id"])
    assert (changed["fixed_ip_address"], changed["status"]) == (address(port), "DOWN")
    assert changed["port_details"]["mac_address"] == port["mac_address"]
    assert neutron.list("floatingips", f"?port_id={port['id']}") == [changed]
    kept = lan.change(floating, description="e").json()["floatingip"]
    assert (kept["port_id"], kept["description"]) == (port["id"], "e")
    assert lan.change(floating, port_id=None).json()["floatingip"]["router_id"] is None
    lan.change(floating, port_id=port["id"])
    assert lan.change(floating).json()["floatingip"]["port_id"] is None
    path = f"/v2.0/floatingips/{floating['id']}"
    refused(neutron.delete(path, READER), 403, "PolicyNotAuthorized")
    refused(neutron.delete(path, OTHER), 404, "FloatingIPNotFound")
    assert neutron.put(f"{path}/tags/blue", None).status_code == 201
    assert neutron.delete(path).status_code == 204
    refused(neutron.get(path), 404, "FloatingIPNotFound")
    assert neutron.list("ports", f"?device_id={floating['id']}", ADMIN) == []


def test_refusals(lan: Lan) -> None:
    neutron, port = lan.neutron, lan.port()
    refused(lan.ask(floating_network_id=lan.network["id"]), 400, "BadRequest")
    refused(lan.ask(floating_network_id=MISSING), 404, "NetworkNotFound")
    refused(lan.ask(floating_ip_address="172.24.4.50"), 403, "PolicyNotAuthorized")
    refused(lan.ask(ADMIN, floating_ip_address="10.9.9.9"), 400, "InvalidIpForNetwork")
    refused(lan.ask(subnet_id=lan.inside["id"]), 400, "InvalidInput")
    refused(lan.ask(fixed_ip_address="10.0.0.5"), 400, "BadRequest")
    refused(lan.ask(port_id=MISSING), 404, "PortNotFound")
    refused(lan.ask(port_id="x"), 400, "HTTPBadRequest")
    refused(lan.ask(colour="red"), 400, "HTTPBadRequest")
    refused(lan.ask(port_id=port["id"], fixed_ip_address="10.0.0.250"), 400, "BadRequest")
    refused(lan.ask(port_id=port["id"], fixed_ip_address="::1"), 400, "BadRequest")
    elsewhere = neutron.make("network")
    lan.subnet(elsewhere["id"], "10.7.0.0/24")
    lonely = neutron.make("port", network_id=elsewhere["id"])
    refused(lan.ask(port_id=lonely["id"]), 404, "ExternalGatewayForFloatingIPNotFound")
    floating = lan.floating()
    refused(lan.change(floating, port_id=lonely["id"]), 404, "ExternalGatewayForFloatingIPNotFound")
    refused(lan.change(floating, fixed_ip_address=address(port)), 400, "BadRequest")
    refused(lan.change(floating, floating_ip_address="172.24.4.9"), 400, "HTTPBadRequest")
    bare = neutron.make("port", network_id=neutron.make("network")["id"])
    refused(lan.ask(port_id=bare["id"]), 400, "BadRequest")
    assert len(neutron.list("floatingips")) == 1  # what was refused left nothing behind
    assert len(neutron.list("ports", "?device_owner=network:floatingip", ADMIN)) == 1


def test_a_router_s_own_address_may_have_one(lan: Lan) -> None:
    """Neutron: is_fip_serviced: every port but a DHCP server's."""
    [port] = lan.neutron.list("ports", "?device_owner=network:router_interface")
    made = lan.floating(port_id=port["id"])
    assert (made["port_id"], made["fixed_ip_address"]) == (port["id"], address(port))


def test_a_given_address(lan: Lan) -> None:
    floating = lan.floating(ADMIN, floating_ip_address="172.24.4.150", project_id=CONTEXTS[DEMO].project_id)
    assert (floating["floating_ip_address"], floating["project_id"]) == ("172.24.4.150", CONTEXTS[DEMO].project_id)
    refused(lan.ask(ADMIN, floating_ip_address="172.24.4.150"), 409, "IpAddressAlreadyAllocated")
    assert lan.floating(subnet_id=lan.outside["id"])["floating_ip_address"]


def test_of_several_fixed_addresses_one_is_named(lan: Lan) -> None:
    two = lan.port(fixed_ips=[{"ip_address": "10.0.0.101"}, {"ip_address": "10.0.0.102"}])
    floating = lan.floating()
    refused(lan.change(floating, port_id=two["id"]), 400, "BadRequest")
    done = lan.change(floating, port_id=two["id"], fixed_ip_address="10.0.0.102").json()["floatingip"]
    assert done["fixed_ip_address"] == "10.0.0.102"
    other = lan.floating(port_id=two["id"], fixed_ip_address="10.0.0.101")
    refused(lan.change(other, port_id=two["id"], fixed_ip_address="10.0.0.102"), 409, "FloatingIPPortAlreadyAssociated")
    refused(lan.ask(port_id=two["id"], fixed_ip_address="10.0.0.101"), 409, "FloatingIPPortAlreadyAssociated")
    path = f"/v2.0/ports/{two['id']}"
    without = {"port": {"fixed_ips": [{"ip_address": "10.0.0.101"}]}}
    refused(lan.neutron.put(path, without), 400, "BadRequest")
    lan.change(floating, port_id=None)
    assert lan.neutron.put(path, without).status_code == 200


def test_what_goes_with_a_port_and_what_stays(lan: Lan) -> None:
    port = lan.port()
    floating = lan.floating(port_id=port["id"])
    assert lan.neutron.delete(f"/v2.0/ports/{port['id']}").status_code == 204
    left = lan.show(floating)
    assert (left["port_id"], left["router_id"], left["fixed_ip_address"], left["status"]) == (None, None, None, "DOWN")


def test_a_servers_floating_ip_outlives_the_server(lan: Lan) -> None:
    def make(tx: Any) -> list[str]:
        return ports.allocate_ports(
            tx, server_id=MISSING, project_id=CONTEXTS[DEMO].project_id, availability_zone="nova", hostname="vm",
            requested=[{"network_id": lan.network["id"]}], security_group_ids=[],
        )  # fmt: skip

    (port_id,) = lan.neutron.database.write(make)
    floating = lan.floating(port_id=port_id)
    lan.neutron.database.write(lambda tx: ports.deallocate_ports(tx, MISSING, CONTEXTS[DEMO].project_id))
    assert lan.show(floating)["port_id"] is None


def test_what_needs_the_router_keeps_it(lan: Lan) -> None:
    floating = lan.floating(port_id=lan.port()["id"])
    path = f"/v2.0/routers/{lan.router['id']}"
    refused(
        lan.neutron.put(f"{path}/remove_router_interface", {"subnet_id": lan.inside["id"]}), 409,
        "RouterInterfaceInUseByFloatingIP",
    )  # fmt: skip
    refused(
        lan.neutron.put(path, {"router": {"external_gateway_info": None}}), 409,
        "RouterExternalGatewayInUseByFloatingIp",
    )  # fmt: skip
    refused(lan.neutron.delete(f"/v2.0/networks/{lan.public['id']}", ADMIN), 409, "NetworkInUse")
    lan.change(floating, port_id=None)
    assert lan.neutron.put(path, {"router": {"external_gateway_info": None}}).status_code == 200
    assert lan.neutron.delete(f"/v2.0/networks/{lan.public['id']}", ADMIN).status_code == 204  # with free floating IPs
    refused(lan.neutron.get(f"/v2.0/floatingips/{floating['id']}"), 404, "FloatingIPNotFound")


def test_the_router_is_the_one_that_leads_there(lan: Lan) -> None:
    other = lan.neutron.make("network")
    subnet = lan.subnet(other["id"], "10.8.0.0/24")
    router = lan.make_router(subnet)
    port = lan.neutron.make("port", network_id=other["id"])
    floating = lan.floating(port_id=lan.port()["id"])
    assert floating["router_id"] == lan.router["id"]
    assert lan.change(floating, port_id=port["id"]).json()["floatingip"]["router_id"] == router["id"]


def test_quota_and_pool(lan: Lan) -> None:
    project = CONTEXTS[DEMO].project_id
    lan.neutron.put(f"/v2.0/quotas/{project}", {"quota": {"floatingip": 1}}, ADMIN)
    lan.floating()
    refused(lan.ask(), 409, "OverQuota")
    tiny = lan.neutron.make("network", ADMIN, **{"router:external": True})
    lan.subnet(tiny["id"], "172.30.0.0/30", ADMIN, enable_dhcp=False)
    assert lan.ask(ADMIN, floating_network_id=tiny["id"]).status_code == 201
    refused(lan.ask(ADMIN, floating_network_id=tiny["id"]), 409, "IpAddressGenerationFailure")
    found = lan.neutron.list("floatingip-pools")
    assert {pool["cidr"] for pool in found} == {"172.24.4.0/24", "172.30.0.0/30"}


def test_port_forwarding(lan: Lan) -> None:
    floating, port, other = lan.floating(), lan.port(), lan.port()
    wanted = {"internal_port_id": port["id"], "protocol": "tcp", "external_port": 2222, "internal_port": 22}
    made = lan.forward(floating, **wanted)
    assert made.status_code == 201, made.text
    one = made.json()["port_forwarding"]
    assert (one["internal_ip_address"], one["external_port_range"]) == (address(port), "2222:2222")
    shown = lan.show(floating)
    assert (shown["router_id"], shown["port_id"]) == (lan.router["id"], None)
    assert [each["external_port"] for each in shown["port_forwardings"]] == [2222]
    path = f"/v2.0/floatingips/{floating['id']}/port_forwardings"
    assert lan.neutron.get(path).json() == {"port_forwardings": [one]}
    assert lan.neutron.get(f"{path}?external_port=1").json() == {"port_forwardings": []}
    assert lan.neutron.get(f"{path}/{one['id']}").json() == {"port_forwarding": one}
    changed = lan.neutron.put(f"{path}/{one['id']}", {"port_forwarding": {"external_port": 2223, "description": "x"}})
    assert (changed.json()["port_forwarding"]["external_port"], changed.json()["port_forwarding"]["description"]) == (
        2223,
        "x",
    )
    ranges = {"external_port_range": "8000:8009", "internal_port_range": "80:89", "protocol": "udp"}
    spread = lan.forward(floating, internal_port_id=other["id"], **ranges).json()["port_forwarding"]
    assert (spread["external_port"], spread["internal_port_range"]) == (None, "80:89")
    refused(lan.forward(floating, **{**wanted, "external_port": 2223, "internal_port": 23}), 400, "BadRequest")
    refused(lan.forward(floating, **{**wanted, "external_port": 3333}), 400, "BadRequest")
    refused(lan.forward(floating, internal_port_id=other["id"], **{**ranges, "external_port_range": "8005:8014"}),
            400, "BadRequest")  # fmt: skip
    for bad in (
        {"internal_port": 0}, {"external_port": 70000}, {"protocol": "tulip"}, {"internal_port_id": "x"},
        {"colour": "red"}, {"external_port_range": "5:3"}, {"external_port_range": "a"},
    ):  # fmt: skip
        refused(lan.forward(floating, **{**wanted, **bad}), 400, "HTTPBadRequest")
    refused(lan.forward(floating, internal_port_id=port["id"], protocol="tcp", internal_port=5), 400, "HTTPBadRequest")
    many_to_few = {"external_port_range": "100:109", "internal_port_range": "100:104", "protocol": "tcp"}
    refused(lan.forward(floating, internal_port_id=other["id"], **many_to_few), 400, "BadRequest")
    refused(lan.forward({"id": MISSING}, **wanted), 404, "FloatingIPNotFound")
    refused(lan.neutron.get(f"{path}/{MISSING}"), 404, "PortForwardingNotFound")
    refused(lan.neutron.get(path, OTHER), 404, "FloatingIPNotFound")
    refused(lan.change(floating, port_id=port["id"]), 409, "FipInUseByPortForwarding")
    refused(lan.neutron.delete(f"/v2.0/floatingips/{floating['id']}"), 409, "FipInUseByPortForwarding")
    assert lan.change(floating, description="kept").json()["floatingip"]["router_id"] == lan.router["id"]
    remove = f"/v2.0/routers/{lan.router['id']}/remove_router_interface"
    refused(lan.neutron.put(remove, {"subnet_id": lan.inside["id"]}), 409, "RouterInterfaceInUseByFloatingIP")
    assert lan.neutron.delete(f"{path}/{one['id']}").status_code == 204
    assert lan.show(floating)["router_id"] == lan.router["id"]
    assert lan.neutron.delete(f"/v2.0/ports/{other['id']}").status_code == 204  # its forwarding goes along
    assert lan.show(floating)["router_id"] is None
    assert lan.neutron.delete(f"/v2.0/floatingips/{floating['id']}").status_code == 204


def test_a_port_is_forwarded_to_or_has_a_floating_ip(lan: Lan) -> None:
    port = lan.port()
    holder = lan.floating(port_id=port["id"])
    wanted = {"internal_port_id": port["id"], "protocol": "tcp", "external_port": 22, "internal_port": 22}
    refused(lan.forward(lan.floating(), **wanted), 409, "PortHasBindingFloatingIP")
    refused(
        lan.forward(holder, **{**wanted, "internal_port_id": lan.port()["id"]}), 409, "FloatingIPPortAlreadyAssociated"
    )


def read(lan: Lan, desired: Desired) -> HostNetwork:
    return lan.neutron.database.read(desired.read)


def report(lan: Lan, desired: Desired, statuses: dict[str, str]) -> None:
    news = desired.news(statuses)
    lan.neutron.database.write(lambda tx: (ports.set_statuses(tx, news), associations.set_statuses(tx, news)))


def test_floating_ips_are_down_while_no_agent_has_their_router(lan: Lan) -> None:
    desired, floating = Desired(HOST), lan.floating(port_id=lan.port()["id"])

    def carry() -> None:
        (router,) = read(lan, desired).routers
        report(lan, desired, {leg.id: "ACTIVE" for leg in router.ports})

    carry()
    assert lan.show(floating)["status"] == "ACTIVE"
    (agent,) = lan.neutron.list("agents", "?agent_type=L3%20agent", ADMIN)
    routers = f"/v2.0/agents/{agent['id']}/l3-routers"
    lan.neutron.delete(f"{routers}/{lan.router['id']}", ADMIN)
    assert lan.show(floating)["status"] == "DOWN"
    lan.neutron.post(routers, {"router_id": lan.router["id"]}, ADMIN)
    assert lan.show(floating)["status"] == "DOWN"
    carry()
    assert lan.show(floating)["status"] == "ACTIVE"


def test_one_that_moves_is_answered_when_its_router_knows(lan: Lan, monkeypatch: pytest.MonkeyPatch) -> None:
    desired, floating = Desired(HOST), lan.floating(port_id=lan.port()["id"])
    second, third = lan.port()["id"], lan.port()["id"]

    def carry() -> None:
        (router,) = read(lan, desired).routers
        report(lan, desired, {leg.id: "ACTIVE" for leg in router.ports})

    def status_after_move(port_id: str) -> str:
        body = {"floatingip": {"port_id": port_id}}
        assert lan.neutron.put(f"/v2.0/floatingips/{floating['id']}", body).json()["floatingip"]["port_id"] == port_id
        return str(lan.show(floating)["status"])

    carry()
    host = threading.Timer(0.3, carry)
    with monkeypatch.context() as looking:
        looking.setattr(lan.neutron.http.app, "written", lambda prefix: host.start())
        assert status_after_move(second) == "ACTIVE"
    host.join()
    monkeypatch.setattr(floating_ips, "PATIENCE", 0.05)
    assert status_after_move(third) == "DOWN"  # no host listens: it is answered all the same


def test_what_a_host_is_told_and_reports(lan: Lan) -> None:
    desired, port, forwarded = Desired(HOST), lan.port(), lan.port()
    floating, shared = lan.floating(port_id=port["id"]), lan.floating()
    lan.forward(shared, internal_port_id=forwarded["id"], protocol="tcp", external_port=2222, internal_port=22)
    route = {"destination": "192.0.2.0/24", "nexthop": "10.0.0.200"}
    lan.neutron.put(f"/v2.0/routers/{lan.router['id']}", {"router": {"routes": [route]}})
    told = read(lan, desired)
    (router,) = told.routers
    assert (router.id, router.namespace, router.enable_snat) == (lan.router["id"], f"qrouter-{lan.router['id']}", True)
    assert router.gateway is not None
    assert [leg.device[:3] for leg in router.ports] == ["qg-", "qr-"]
    assert router.routes == (("192.0.2.0/24", "10.0.0.200"),)
    assert router.floating_ips == (
        FloatingIPSpec(
            id=floating["id"], floating_ip_address=floating["floating_ip_address"], fixed_ip_address=address(port),
            port_id=port["id"],
        ),
    )  # fmt: skip
    assert router.port_forwardings == (
        PortForwardingSpec(
            floating_ip_address=shared["floating_ip_address"], protocol="tcp", external_ports=(2222, 2222),
            internal_ip_address=address(forwarded), internal_ports=(22, 22),
        ),
    )  # fmt: skip
    networks = {network.id: network for network in told.networks}
    assert networks[lan.public["id"]].bridge == "br-ex"
    assert networks[lan.network["id"]].bridge.startswith("brq")
    legs = {leg.id: leg for leg in told.ports if leg.device_id == router.id}
    assert {leg.id for leg in router.ports} == set(legs)
    assert legs[router.gateway.id].bridge == "br-ex"
    assert not any(leg.port_security_enabled for leg in legs.values())
    assert read(lan, desired) is told
    report(lan, desired, dict.fromkeys(legs, "ACTIVE"))
    assert (lan.show(floating)["status"], lan.show(shared)["status"]) == ("ACTIVE", "ACTIVE")
    read(lan, desired)
    report(lan, desired, dict.fromkeys(legs, "DOWN"))
    assert lan.show(floating)["status"] == "DOWN"
    lan.neutron.database.write(lambda tx: agents.report(tx, HOST, {}))
    told = read(lan, desired)
    assert told.routers[0].gateway is None
    assert lan.public["id"] not in {network.id for network in told.networks}
    lan.neutron.database.write(lambda tx: agents.report(tx, HOST, {"public": "br-lan"}))
    gateway = read(lan, desired).routers[0].gateway
    assert gateway is not None
    assert {n.id: n.bridge for n in read(lan, desired).networks}[gateway.network_id] == "br-lan"


def together(count: int, act: Callable[[int], Any]) -> list[Any]:
    """`act(0)` … `act(count - 1)`, all at once; their answers, or what they raised."""
    answers, gate = [None] * count, threading.Barrier(count)

    def run(index: int) -> None:
        gate.wait()
        answers[index] = act(index)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_two_associate_one_floating_ip(lan: Lan) -> None:
    floating, targets = lan.floating(), [lan.port() for _ in range(4)]
    answers = together(4, lambda index: lan.change(floating, port_id=targets[index]["id"]))
    assert [answer.status_code for answer in answers] == [200] * 4  # one after the other
    after = lan.show(floating)
    (holder,) = [port for port in targets if port["id"] == after["port_id"]]
    assert after["fixed_ip_address"] == address(holder)


def test_two_floating_ips_for_one_address(lan: Lan) -> None:
    port, floating = lan.port(), [lan.floating() for _ in range(4)]
    answers = together(4, lambda index: lan.change(floating[index], port_id=port["id"]))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert len(lan.neutron.list("floatingips", f"?port_id={port['id']}")) == 1


def test_a_port_goes_while_it_is_associated(lan: Lan) -> None:
    for _ in range(5):
        port, floating = lan.port(), lan.floating()

        def act(index: int, port: Any = port, floating: Any = floating) -> Any:
            if index:
                return lan.neutron.delete(f"/v2.0/ports/{port['id']}")
            return lan.change(floating, port_id=port["id"])

        associated, deleted = together(2, act)
        assert deleted.status_code == 204
        assert associated.status_code in (200, 404)
        after = lan.show(floating)
        assert (after["port_id"], after["fixed_ip_address"], after["router_id"]) == (None, None, None)


def test_two_gateways_and_two_interfaces_at_once(lan: Lan) -> None:
    router = lan.neutron.make("router")
    info = {"router": {"external_gateway_info": {"network_id": lan.public["id"]}}}
    answers = together(4, lambda _: lan.neutron.put(f"/v2.0/routers/{router['id']}", info))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len(lan.neutron.list("ports", f"?device_id={router['id']}", ADMIN)) == 1
    same = [lan.subnet(lan.neutron.make("network")["id"], "10.20.0.0/24") for _ in range(4)]
    path = f"/v2.0/routers/{router['id']}/add_router_interface"
    answers = together(4, lambda index: lan.neutron.put(path, {"subnet_id": same[index]["id"]}))
    assert sorted(answer.status_code for answer in answers) == [200, 400, 400, 400]


def test_dhcp_is_served_from_a_networks_first_port_on(lan: Lan) -> None:
    desired, other = Desired(HOST), lan.neutron.make("network")
    subnet = lan.subnet(other["id"], "10.30.0.0/24")
    assert other["id"] not in {network.id for network in read(lan, desired).networks}
    port = lan.neutron.make("port", network_id=other["id"])  # bound nowhere: its server may be anywhere
    told = read(lan, desired)
    (server,) = [port for port in told.ports if port.network_id == other["id"]]
    (network,) = [network for network in told.networks if network.id == other["id"]]
    assert (server.id, server.device_owner) == (network.dhcp_port_id, "network:dhcp")
    report(lan, desired, {server.id: "ACTIVE"})
    path = f"/v2.0/ports/{server.id}"
    assert lan.neutron.get(path).json()["port"]["status"] == "ACTIVE"
    lan.neutron.delete(f"/v2.0/ports/{port['id']}")
    assert lan.neutron.get(path).json()["port"]["status"] == "ACTIVE"  # for the next port
    assert other["id"] in {network.id for network in read(lan, desired).networks}
    assert lan.neutron.delete(f"/v2.0/subnets/{subnet['id']}").status_code == 204
