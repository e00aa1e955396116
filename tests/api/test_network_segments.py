"""Segments of networks, over HTTP, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from network_client import ADMIN, CONTEXTS, DEMO, READER, Neutron, refused

from kilonova.db.engine import Database
from kilonova.model.ids import new_id
from kilonova.network import agents, specs

CARRIER = ("network_type", "physical_network", "segmentation_id")


@pytest.fixture
def neutron(database: Database) -> Neutron:
    database.write(lambda tx: agents.report(tx, "host1", {"public": "br-ex", "fast": "br-fast"}))
    return Neutron(database)


def of(neutron: Neutron, network: dict[str, Any]) -> list[dict[str, Any]]:
    return neutron.list("segments", f"?network_id={network['id']}&sort_key=created_at", ADMIN)


def provider(neutron: Neutron, network: dict[str, Any]) -> list[Any]:
    shown = neutron.get(f"/v2.0/networks/{network['id']}", ADMIN).json()["network"]
    return [shown[f"provider:{name}"] for name in CARRIER]


def make(neutron: Neutron, network: dict[str, Any], **values: Any) -> dict[str, Any]:
    return neutron.make("segment", ADMIN, network_id=network["id"], **values)


def vlan(number: int, physical: str = "fast") -> dict[str, Any]:
    return {"network_type": "vlan", "physical_network": physical, "segmentation_id": number}


def test_each_network_has_one_that_is_as_its_provider_attributes(neutron: Neutron) -> None:
    network = neutron.make("network")
    (segment,) = of(neutron, network)
    assert [segment[name] for name in CARRIER] == provider(neutron, network)
    assert (segment["network_type"], segment["name"], segment["network_id"]) == ("vxlan", None, network["id"])
    path = f"/v2.0/segments/{segment['id']}"
    changed = neutron.put(path, {"segment": {"name": "s", "description": "d"}}, ADMIN).json()["segment"]
    assert (changed["name"], changed["description"]) == ("s", "d")
    assert changed["revision_number"] > segment["revision_number"]
    assert neutron.get(path, ADMIN).json()["segment"] == changed
    assert neutron.list("segments", "?name=s&network_type=vxlan", ADMIN) == [changed]
    assert neutron.list("segments", "?name=t", ADMIN) == []
    refused(neutron.put(path, {"segment": {"segmentation_id": 7}}, ADMIN), 400, "HTTPBadRequest")
    assert neutron.delete(f"/v2.0/networks/{network['id']}").status_code == 204
    refused(neutron.get(path, ADMIN), 404, "SegmentNotFound")


def test_only_administrators_have_to_do_with_them(neutron: Neutron) -> None:
    network = neutron.make("network")
    (segment,) = of(neutron, network)
    path, body = f"/v2.0/segments/{segment['id']}", {"segment": {"network_id": network["id"], **vlan(7)}}
    for token in (DEMO, READER):
        assert neutron.list("segments", token=token) == []
        for answer in (neutron.get(path, token), neutron.put(path, {"segment": {}}, token), neutron.delete(path, token)):
            refused(answer, 404, "HTTPNotFound")
        refused(neutron.post("/v2.0/segments", body, token), 403, "PolicyNotAuthorized")
    subnet = {"network_id": network["id"], "cidr": "10.0.0.0/24", "ip_version": 4, "segment_id": segment["id"]}
    refused(neutron.post("/v2.0/subnets", {"subnet": subnet}), 403, "PolicyNotAuthorized")
    two = {"segments": [{"provider:network_type": "vxlan"}, {"provider:network_type": "vxlan"}]}
    refused(neutron.post("/v2.0/networks", {"network": two}), 403, "PolicyNotAuthorized")


def test_more_segments_are_made_and_taken_away(neutron: Neutron) -> None:
    network = neutron.make("network", ADMIN)
    first = of(neutron, network)[0]
    second = make(neutron, network, **vlan(7), name="v")
    assert {key: second[key] for key in ("name", *CARRIER)} == {"name": "v", **vlan(7)}
    shown = neutron.get(f"/v2.0/networks/{network['id']}", ADMIN).json()["network"]
    assert "provider:network_type" not in shown
    assert [each["provider:network_type"] for each in shown["segments"]] == ["vxlan", "vlan"]
    assert "segments" not in neutron.make("network")
    third = make(neutron, network, network_type="vxlan")
    assert third["segmentation_id"] not in (None, first["segmentation_id"])
    for gone in (second, third):
        assert neutron.delete(f"/v2.0/segments/{gone['id']}", ADMIN).status_code == 204
    assert of(neutron, network) == [first]
    assert neutron.make("network", ADMIN, **{f"provider:{name}": value for name, value in vlan(7).items()})
    message = refused(neutron.delete(f"/v2.0/segments/{first['id']}", ADMIN), 409, "SegmentInUse")
    assert message == f"Segment '{first['id']}' cannot be deleted: It is the only one of network {network['id']}."


def test_what_makes_no_sense_is_refused(neutron: Neutron) -> None:
    network = neutron.make("network", ADMIN)
    make(neutron, network, **vlan(7))
    (first, _), large = of(neutron, network), neutron.make("network", ADMIN, **{"provider:network_type": "local"})
    for values, status, kind in (
        ({}, 400, "HTTPBadRequest"),
        ({"network_type": "carrier pigeon"}, 400, "InvalidInput"),
        ({"network_type": "vlan", "segmentation_id": 3}, 400, "InvalidInput"),
        (vlan(4095), 400, "InvalidInput"),
        (vlan(7), 409, "VlanIdInUse"),
        ({"network_type": "vxlan", "segmentation_id": first["segmentation_id"]}, 409, "TunnelIdInUse"),
        ({"network_type": "flat"}, 400, "InvalidInput"),
        ({"network_type": "vxlan", "physical_network": 3}, 400, "HTTPBadRequest"),
        ({"network_type": "vxlan", "network_id": new_id()}, 404, "NetworkNotFound"),
        ({"network_type": "vxlan", "network_id": large["id"]}, 400, "InvalidInput"),  # its MTU is 1500
        ({**vlan(8), "name": 3}, 400, "HTTPBadRequest"),
        ({**vlan(8), "colour": "red"}, 400, "HTTPBadRequest"),
    ):
        refused(
            neutron.post("/v2.0/segments", {"segment": {"network_id": network["id"], **values}}, ADMIN), status, kind
        )
    assert len(of(neutron, network)) == 2
    assert [each["network_type"] for each in of(neutron, large)] == ["local"]


def test_a_network_is_made_with_several(neutron: Neutron) -> None:
    several = [{f"provider:{name}": value for name, value in vlan(number).items()} for number in (7, 8)]
    network = neutron.make("network", ADMIN, segments=[*several, {"provider:network_type": "vxlan"}])
    assert network["mtu"] == 1450
    assert network["segments"][:2] == several
    assert [each["provider:network_type"] for each in network["segments"]] == ["vlan", "vlan", "vxlan"]
    assert len(of(neutron, network)) == 3
    one = neutron.make("network", ADMIN, segments=[{"provider:network_type": "vxlan"}])
    assert one["provider:network_type"] == "vxlan" and "segments" not in one
    for values, status, kind in (
        ({"segments": several, "provider:network_type": "vxlan"}, 400, "SegmentsSetInConjunctionWithProviders"),
        ({"segments": [several[0], several[0]]}, 400, "SegmentsContainDuplicateEntry"),
        ({"segments": several}, 409, "VlanIdInUse"),
        ({"segments": [{"provider:network_type": "vxlan"}, several[0]]}, 409, "VlanIdInUse"),
        ({"segments": [{"colour": "red"}]}, 400, "HTTPBadRequest"),
        ({"segments": "x"}, 400, "HTTPBadRequest"),
        ({"segments": [{"provider:network_type": "vxlan"}], "mtu": 1500}, 400, "InvalidInput"),
    ):
        refused(neutron.post("/v2.0/networks", {"network": values}, ADMIN), status, kind)
    assert len(neutron.list("networks", token=ADMIN)) == 2
    path = f"/v2.0/networks/{network['id']}"
    refused(neutron.put(path, {"network": {"mtu": 1500}}, ADMIN), 400, "InvalidInput")


def test_many_are_added_at_once(neutron: Neutron) -> None:
    """Each in a place of its own, and no VLAN twice."""
    network = neutron.make("network", ADMIN)

    def add(number: int) -> int:
        body = {"segment": {"network_id": network["id"], **vlan(100 + number % 6)}}
        return neutron.post("/v2.0/segments", body, ADMIN).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(add, range(12)))
    assert statuses == [201] * 6 + [409] * 6
    shown = neutron.get(f"/v2.0/networks/{network['id']}", ADMIN).json()["network"]["segments"]
    assert sorted(each["provider:segmentation_id"] for each in shown[1:]) == list(range(100, 106))


def test_subnets_of_segments(neutron: Neutron) -> None:
    network, other = neutron.make("network", ADMIN), neutron.make("network", ADMIN)
    first, second = of(neutron, network)[0], make(neutron, network, **vlan(7))
    on_it = {"network_id": network["id"], "ip_version": 4}
    subnet = neutron.make("subnet", ADMIN, cidr="10.0.0.0/24", segment_id=first["id"], **on_it)
    assert subnet["segment_id"] == first["id"]
    assert neutron.get(f"/v2.0/networks/{network['id']}", ADMIN).json()["network"]["l2_adjacency"] is False
    assert other["l2_adjacency"] is True
    remote = neutron.make("subnet", ADMIN, cidr="10.0.1.0/24", segment_id=second["id"], **on_it)
    for segment_id, status, kind in (
        (None, 400, "SubnetsNotAllAssociatedWithSegments"),
        (new_id(), 404, "SegmentNotFound"),
        (of(neutron, other)[0]["id"], 400, "NetworkIdsDontMatch"),
        ("x", 400, "HTTPBadRequest"),
    ):
        body = {"subnet": {"cidr": "10.0.2.0/24", "segment_id": segment_id, **on_it}}
        refused(neutron.post("/v2.0/subnets", body, ADMIN), status, kind)
    for segment in (first, second):
        message = refused(neutron.delete(f"/v2.0/segments/{segment['id']}", ADMIN), 409, "SegmentInUse")
        assert "The segment is still associated with subnet(s)" in message
    assert neutron.list("subnets", f"?segment_id={second['id']}", ADMIN) == [remote]
    # No host carries the second segment, so no port gets an address of it.
    port = neutron.make("port", ADMIN, network_id=network["id"])
    assert [ip["subnet_id"] for ip in port["fixed_ips"]] == [subnet["id"]]
    (told,) = neutron.database.read(lambda tx: specs.network_specs(tx, [network["id"]], {}))
    assert [each.id for each in told.subnets] == [subnet["id"]]
    (dhcp,) = neutron.list("ports", f"?device_owner=network:dhcp&network_id={network['id']}", ADMIN)
    assert [ip["subnet_id"] for ip in dhcp["fixed_ips"]] == [subnet["id"]]
    slaac = {"ipv6_address_mode": "slaac", "ipv6_ra_mode": "slaac", "segment_id": second["id"], "ip_version": 6}
    six = neutron.make("subnet", ADMIN, network_id=network["id"], cidr="fd00:9::/64", **slaac)
    assert neutron.get(f"/v2.0/ports/{port['id']}", ADMIN).json()["port"]["fixed_ips"] == port["fixed_ips"]
    assert neutron.delete(f"/v2.0/subnets/{six['id']}", ADMIN).status_code == 204
    fixed = {"network_id": network["id"], "fixed_ips": [{"subnet_id": remote["id"]}]}
    refused(neutron.post("/v2.0/ports", {"port": fixed}, ADMIN), 400, "InvalidInput")
    change = {"port": {"fixed_ips": fixed["fixed_ips"]}}
    refused(neutron.put(f"/v2.0/ports/{port['id']}", change, ADMIN), 400, "InvalidInput")
    over = {"cidr": "10.0.1.128/25", "segment_id": first["id"], **on_it}
    assert "overlaps" in refused(neutron.post("/v2.0/subnets", {"subnet": over}, ADMIN), 400, "InvalidInput")
    neutron.delete(f"/v2.0/ports/{port['id']}", ADMIN)
    assert neutron.delete(f"/v2.0/subnets/{remote['id']}", ADMIN).status_code == 204
    assert neutron.delete(f"/v2.0/segments/{second['id']}", ADMIN).status_code == 204
    assert neutron.delete(f"/v2.0/networks/{network['id']}", ADMIN).status_code == 204


def test_a_subnet_becomes_a_segments_once(neutron: Neutron) -> None:
    network = neutron.make("network")
    (segment,) = of(neutron, network)
    path = "/v2.0/subnets/" + neutron.make("subnet", network_id=network["id"], cidr="10.0.0.0/24", ip_version=4)["id"]
    assert "segment_id" not in neutron.get(path).json()["subnet"]
    assert neutron.get(path, ADMIN).json()["subnet"]["segment_id"] is None

    def change(segment_id: str | None) -> Any:
        return neutron.put(path, {"subnet": {"segment_id": segment_id}}, ADMIN)

    refused(neutron.put(path, {"subnet": {"segment_id": segment["id"]}}), 403, "PolicyNotAuthorized")
    refused(change(new_id()), 404, "SegmentNotFound")
    refused(change(of(neutron, neutron.make("network"))[0]["id"]), 400, "NetworkIdsDontMatch")
    second = make(neutron, network, **vlan(7))
    refused(change(segment["id"]), 400, "NoUpdateSubnetWhenMultipleSegmentsOnNetwork")
    neutron.delete(f"/v2.0/segments/{second['id']}", ADMIN)
    assert change(segment["id"]).json()["subnet"]["segment_id"] == segment["id"]
    assert change(segment["id"]).status_code == 200
    refused(change(None), 400, "SubnetSegmentAssociationChangeNotAllowed")


def test_the_first_one_carries_ports_and_then_the_next(neutron: Neutron) -> None:
    network = neutron.make("network", ADMIN)
    neutron.make("subnet", ADMIN, network_id=network["id"], cidr="10.0.0.0/24", ip_version=4)
    first = of(neutron, network)[0]
    flat = make(neutron, network, network_type="flat", physical_network="public")
    (dhcp,) = neutron.list("ports", "?device_owner=network:dhcp", ADMIN)
    assert dhcp["binding:vif_details"]["bridge_name"] == f"brq{network['id'][:11]}"
    port = neutron.make("port", ADMIN, network_id=network["id"], **{"binding:host_id": "host1"})
    path = f"/v2.0/segments/{first['id']}"
    assert "The segment is still bound with 1 port(s)" in refused(neutron.delete(path, ADMIN), 409, "SegmentInUse")
    neutron.delete(f"/v2.0/ports/{port['id']}", ADMIN)
    assert neutron.delete(path, ADMIN).status_code == 204
    assert provider(neutron, network) == ["flat", "public", None]
    assert [each["id"] for each in of(neutron, network)] == [flat["id"]]
    (dhcp,) = neutron.list("ports", "?device_owner=network:dhcp", ADMIN)
    assert dhcp["binding:vif_details"]["bridge_name"] == "br-ex"
    assert neutron.list("networks", "?provider:network_type=flat", ADMIN)[0]["id"] == network["id"]


def test_a_project_of_a_segment_is_its_networks(neutron: Neutron) -> None:
    network = neutron.make("network")
    segment = make(neutron, network, tenant_id=CONTEXTS[DEMO].project_id, **vlan(9))
    assert not {"project_id", "tenant_id"} & segment.keys()
