"""What a server's flow does with ports, and the values its host is given, on both databases."""

from collections.abc import Callable
from typing import Any

import pytest
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, Neutron

from kilonova.db.engine import Database, Tx
from kilonova.model.errors import APIError, BadRequest, Conflict, Forbidden, NotFound
from kilonova.model.specs import GroupSpec, RuleSpec
from kilonova.network import agents, desired, ports, security_groups, specs
from statements import statements

SERVER = "0f4f0b8e-6d3b-4f8e-9d4c-2f4f5b1a9c11"
PROJECT = CONTEXTS[DEMO].project_id


@pytest.fixture
def neutron(database: Database) -> Neutron:
    return Neutron(database)


def make_network(neutron: Neutron, cidr: str = "10.0.0.0/24", token: str = DEMO, **values: Any) -> str:
    network = neutron.make("network", token, **values)
    neutron.make("subnet", token, network_id=network["id"], cidr=cidr, ip_version=4)
    return str(network["id"])


def allocate(tx: Tx, *requested: dict[str, Any], groups: tuple[str, ...] = ()) -> list[str]:
    return ports.allocate_ports(
        tx, server_id=SERVER, project_id=PROJECT, availability_zone="nova", hostname="vm",
        requested=list(requested), security_group_ids=list(groups),
    )  # fmt: skip


def test_allocate_claims_and_makes_in_order_and_once(neutron: Neutron) -> None:
    network_id = make_network(neutron)
    mine = neutron.make("port", network_id=network_id, name="mine")
    requested = (
        {"port_id": mine["id"]},
        {"network_id": network_id, "fixed_ip": "10.0.0.42"},
        {"network_id": network_id},
    )
    ids = neutron.database.write(lambda tx: allocate(tx, *requested))
    assert neutron.database.write(lambda tx: allocate(tx, *requested)) == ids
    found = neutron.database.read(lambda tx: ports.server_ports(tx, SERVER, PROJECT))
    assert [row["id"] for row in found] == ids
    assert [row["made_by_server"] for row in found] == [False, True, True]
    assert ids[0] == mine["id"]
    shown = neutron.get(f"/v2.0/ports/{ids[1]}").json()["port"]
    assert (shown["device_id"], shown["device_owner"]) == (SERVER, "compute:nova")
    assert shown["fixed_ips"][0]["ip_address"] == "10.0.0.42"
    assert len(shown["security_groups"]) == 1


def test_deallocate_leaves_what_is_the_users(neutron: Neutron) -> None:
    network_id = make_network(neutron)
    mine = neutron.make("port", network_id=network_id, name="mine")

    def live_and_die(tx: Tx) -> None:
        allocate(tx, {"port_id": mine["id"]}, {"network_id": network_id})
        ports.bind_ports(tx, SERVER, PROJECT, "host-1", "bridge")
        ports.unbind_ports(tx, SERVER, PROJECT)
        for _ in range(2):
            ports.deallocate_ports(tx, SERVER, PROJECT)

    neutron.database.write(live_and_die)
    (left,) = [port for port in neutron.list("ports", token=ADMIN) if port["device_owner"] != "network:dhcp"]
    same = ("id", "name", "fixed_ips", "mac_address", "security_groups", "device_id", "device_owner")
    assert {key: left[key] for key in same} == {key: mine[key] for key in same}
    assert (left["binding:vif_type"], left["binding:host_id"], left["status"]) == ("unbound", "", "DOWN")


def test_a_port_of_another_server_is_not_claimed(neutron: Neutron) -> None:
    port = neutron.make("port", network_id=make_network(neutron), device_id="other-server")
    with pytest.raises(Conflict, match="is still in use"):
        neutron.database.write(lambda tx: allocate(tx, {"port_id": port["id"]}))
    neutron.delete(f"/v2.0/ports/{port['id']}")
    with pytest.raises(NotFound):
        neutron.database.write(lambda tx: allocate(tx, {"port_id": port["id"]}))


def test_bind_and_statuses(neutron: Neutron) -> None:
    network_id = make_network(neutron)
    (port_id,) = neutron.database.write(lambda tx: allocate(tx, {"network_id": network_id}))
    neutron.database.write(lambda tx: ports.bind_ports(tx, SERVER, PROJECT, "host-1", "tap"))
    shown = neutron.get(f"/v2.0/ports/{port_id}", ADMIN).json()["port"]
    assert (shown["binding:host_id"], shown["binding:vif_type"], shown["status"]) == ("host-1", "tap", "DOWN")
    assert shown["binding:vif_details"]["bridge_name"] == f"brq{network_id[:11]}"
    report = {port_id: "ACTIVE", "gone": "ACTIVE"}
    assert neutron.database.write(lambda tx: ports.set_statuses(tx, report)) == [port_id]
    assert neutron.database.write(lambda tx: ports.set_statuses(tx, report)) == []
    neutron.database.write(lambda tx: ports.bind_ports(tx, SERVER, PROJECT, "host-1", "tap"))
    assert neutron.get(f"/v2.0/ports/{port_id}").json()["port"]["status"] == "ACTIVE"


def test_host_network(neutron: Neutron) -> None:
    network_id = make_network(neutron)
    group = neutron.make("security_group", name="web")
    neutron.make(
        "security_group_rule", security_group_id=group["id"], direction="ingress", protocol="tcp",
        port_range_min=22, port_range_max=22, remote_ip_prefix="10.0.0.9/24",
    )  # fmt: skip
    neutron.make("security_group_rule", security_group_id=group["id"], direction="ingress", remote_group_id=group["id"])
    requested = [{"network_id": network_id}] * 2
    first, second = neutron.database.write(lambda tx: allocate(tx, *requested, groups=(group["id"],)))
    options = [{"opt_name": "mtu", "opt_value": "1400"}]
    pairs = [{"ip_address": "10.7.0.1/24"}]
    change = {"port": {"extra_dhcp_opts": options, "allowed_address_pairs": pairs}}
    neutron.put(f"/v2.0/ports/{second}", change)
    assert neutron.database.read(lambda tx: desired.host_network(tx, "host-1")).ports == ()
    neutron.database.write(lambda tx: ports.bind_ports(tx, SERVER, PROJECT, "host-1", "bridge"))
    found = neutron.database.read(lambda tx: desired.host_network(tx, "host-1"))
    (network,) = found.networks
    (subnet,) = network.subnets
    (dhcp,) = neutron.list("ports", "?device_owner=network:dhcp")
    assert (network.dhcp_port_id, network.dhcp_mac) == (dhcp["id"], dhcp["mac_address"])
    assert (subnet.dhcp_ip, subnet.gateway_ip) == (dhcp["fixed_ips"][0]["ip_address"], "10.0.0.1")
    by_id = {port.id: port for port in found.ports}
    assert set(by_id) == {first, second}
    port = by_id[second]
    assert (port.bridge, port.hostname, port.dhcp_options) == (network.bridge, "vm", (("mtu", "1400"),))
    assert port.allowed_address_pairs == ((port.mac_address, "10.7.0.0/24"),)
    members = tuple(sorted(["10.7.0.1/24", *(ip.ip_address for p in found.ports for ip in p.fixed_ips)]))
    assert set(port.rules) == {
        RuleSpec(direction="egress", ethertype="IPv4"),
        RuleSpec(direction="egress", ethertype="IPv6"),
        RuleSpec(direction="ingress", ethertype="IPv4", remote_group_id=group["id"]),
        RuleSpec(direction="ingress", ethertype="IPv4", protocol="tcp", port_range_min=22, port_range_max=22,
                 remote_ips=("10.0.0.0/24",)),
    }  # fmt: skip
    assert found.groups == (GroupSpec(id=group["id"], addresses=members),)
    assert [spec.id for spec in neutron.database.read(lambda tx: specs.port_specs(tx, [second, "gone", first]))] == [
        second,
        first,
    ]


def test_specs_take_few_queries_however_many_ports(neutron: Neutron) -> None:
    network_id = make_network(neutron)

    def count(tx: Tx) -> int:
        with statements(neutron.database) as asked:
            desired.host_network(tx, "host-1")
        return len(asked)

    def add(tx: Tx) -> None:
        allocate(tx, *[{"network_id": network_id}] * 3)
        ports.bind_ports(tx, SERVER, PROJECT, "host-1", "bridge")

    def add_more(tx: Tx) -> None:
        allocate(tx, *[{"network_id": network_id}] * 12)
        ports.bind_ports(tx, SERVER, PROJECT, "host-1", "bridge")

    neutron.database.write(add)
    few = neutron.database.read(count)
    neutron.database.write(add_more)
    assert len(neutron.database.read(lambda tx: desired.host_network(tx, "host-1")).ports) == 12
    assert neutron.database.read(count) == few <= 20


def refusal(neutron: Neutron, requested: list[dict[str, Any]] | None, token: str = DEMO) -> APIError:
    check: Callable[[Tx], Any] = lambda tx: ports.validate_requested(tx, CONTEXTS[token], requested)  # noqa: E731
    with pytest.raises(APIError) as caught:
        neutron.database.read(check)
    return caught.value


def test_the_networks_of_a_server_to_be(neutron: Neutron) -> None:
    check = lambda requested, count=1: neutron.database.read(  # noqa: E731
        lambda tx: ports.validate_requested(tx, CONTEXTS[DEMO], requested, count)
    )
    assert check(None) == []
    first = make_network(neutron)
    neutron.make("network", ADMIN, **{"router:external": True})
    assert check(None) == check([]) == [{"network_id": first}]
    second = make_network(neutron, token=ADMIN, shared=True)
    assert isinstance(error := refusal(neutron, None), Conflict)
    assert error.message == "Multiple possible networks found, use a Network ID to be more specific."
    assert check([{"network_id": second}, {"network_id": first, "fixed_ip": "10.0.0.209", "tag": "x"}]) == [
        {"network_id": second},
        {"network_id": first, "fixed_ip": "10.0.0.209", "tag": "x"},
    ]
    port = neutron.make("port", network_id=first)
    assert check([{"port_id": port["id"]}]) == [{"port_id": port["id"], "network_id": first}]
    neutron.put(f"/v2.0/quotas/{PROJECT}", {"quota": {"port": 5}}, ADMIN)
    assert check([{"network_id": first}], 2)
    with pytest.raises(Forbidden, match="Maximum number of ports exceeded"):
        check([{"network_id": first}], 9)


def test_what_post_servers_refuses(neutron: Neutron) -> None:
    network_id = make_network(neutron)
    bare = neutron.make("network")["id"]
    external = neutron.make("network", ADMIN, **{"router:external": True})["id"]
    foreign = make_network(neutron, token=OTHER)
    used = neutron.make("port", network_id=network_id, device_id="server", fixed_ips=[{"ip_address": "10.0.0.209"}])
    naked = neutron.make("port", network_id=bare)
    free = neutron.make("port", network_id=network_id)
    cases: list[tuple[dict[str, Any], type[APIError], str]] = [
        ({"network_id": "none"}, BadRequest, "NetworkNotFound"),
        ({"network_id": foreign}, BadRequest, "NetworkNotFound"),
        ({"network_id": bare}, BadRequest, "NetworkRequiresSubnet"),
        ({"network_id": external}, Forbidden, "ExternalNetworkAttachForbidden"),
        ({"network_id": network_id, "fixed_ip": "10.0.0.209"}, BadRequest, "FixedIpAlreadyInUse"),
        ({"network_id": network_id, "fixed_ip": "10.9.0.9"}, BadRequest, "InvalidFixedIp"),
        ({"network_id": network_id, "fixed_ip": "x"}, BadRequest, "InvalidFixedIp"),
        ({"port_id": "none"}, BadRequest, "PortNotFound"),
        ({"port_id": used["id"]}, Conflict, "PortInUse"),
        ({"port_id": naked["id"]}, BadRequest, "PortRequiresFixedIP"),
    ]
    for entry, kind, name in cases:
        error = refusal(neutron, [entry])
        assert (type(error), error.type) == (kind, name)
    assert refusal(neutron, [{"port_id": free["id"]}] * 2).type == "PortInUse"
    assert refusal(neutron, [{"port_id": free["id"]}], ADMIN).type == "PortNotUsable"


def test_security_groups_by_name(neutron: Neutron) -> None:
    group = neutron.make("security_group", name="web")
    find = lambda name: neutron.database.write(lambda tx: security_groups.find(tx, PROJECT, name))  # noqa: E731
    assert [row["id"] for row in find("web")] == [row["id"] for row in find(group["id"])] == [group["id"]]
    assert [row["name"] for row in find("default")] == ["default"]
    assert find("none") == []


def test_a_server_is_not_bound_where_its_network_is_not_carried(neutron: Neutron) -> None:
    flat = {"provider:network_type": "flat", "provider:physical_network": "lan"}
    network_id = make_network(neutron, token=ADMIN, shared=True, **flat)

    def bind(tx: Tx) -> None:
        allocate(tx, {"network_id": network_id})
        ports.bind_ports(tx, SERVER, PROJECT, "host-1", "bridge")

    with pytest.raises(Conflict, match="is not carried by host host-1") as refusal:
        neutron.database.write(bind)
    assert refusal.value.type == "PortBindingFailed"
    neutron.database.write(lambda tx: agents.report(tx, "host-1", {"lan": "br-lan"}))
    neutron.database.write(bind)
    told = neutron.database.read(lambda tx: desired.host_network(tx, "host-1"))
    (port,) = [port for port in told.ports if port.device_id == SERVER]
    assert port.bridge == "br-lan"
