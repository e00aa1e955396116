"""Ports and their addresses, over HTTP, on both databases."""

import threading
from typing import Any

import pytest
import sqlalchemy as sa
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, Neutron, refused

from kilonova.db.engine import Database
from kilonova.network import agents, ipam, tables

NOBODY = "8e0d4ee1-7a5b-4ff5-96bd-8bc0a2f0d2a7"


@pytest.fixture
def neutron(database: Database) -> Neutron:
    return Neutron(database)


@pytest.fixture
def network(neutron: Neutron) -> dict[str, Any]:
    """With 10.0.0.0/24, DHCP off: only what a test makes holds addresses."""
    made = neutron.make("network", name="n")
    neutron.make("subnet", network_id=made["id"], cidr="10.0.0.0/24", ip_version=4, enable_dhcp=False)
    return made


def addresses(port: dict[str, Any]) -> list[str]:
    return [ip["ip_address"] for ip in port["fixed_ips"]]


def test_port_create_show_update_delete(neutron: Neutron, network: dict[str, Any]) -> None:
    port = neutron.make("port", network_id=network["id"], name="p")
    assert (port["status"], port["device_id"], port["device_owner"]) == ("DOWN", "", "")
    assert port["mac_address"].startswith("fa:16:3e:")
    assert len(addresses(port)) == 1
    assert not any(key.startswith("binding:") for key in port if key != "binding:vnic_type")
    (group,) = neutron.list("security-groups", "?name=default")
    assert port["security_groups"] == [group["id"]]
    path = f"/v2.0/ports/{port['id']}"
    change = {"name": "q", "admin_state_up": False, "device_id": "d", "device_owner": "me", "security_groups": []}
    changed = neutron.put(path, {"port": change}).json()["port"]
    assert {key: changed[key] for key in change} == change
    seen = neutron.get(path, ADMIN).json()["port"]
    assert (seen["binding:vif_type"], seen["binding:host_id"], seen["binding:profile"]) == ("unbound", "", {})
    refused(neutron.get(path, OTHER), 404, "PortNotFound")
    assert neutron.delete(path).status_code == 204
    assert refused(neutron.get(path), 404, "PortNotFound") == f"Port {port['id']} could not be found."


def test_what_no_extension_here_has_is_refused(neutron: Neutron, network: dict[str, Any]) -> None:
    port = neutron.make("port", network_id=network["id"])
    asked = {"network_id": network["id"], "trusted": True}
    told = refused(neutron.post("/v2.0/ports", {"port": asked}, ADMIN), 400, "HTTPBadRequest")
    assert told == "Unrecognized attribute(s) 'trusted'"
    refused(neutron.put(f"/v2.0/ports/{port['id']}", {"port": {"trusted": True}}, ADMIN), 400, "HTTPBadRequest")


def test_fixed_ips(neutron: Neutron, network: dict[str, Any]) -> None:
    (subnet,) = neutron.list("subnets")
    port = neutron.make("port", network_id=network["id"], fixed_ips=[{"ip_address": "10.0.0.50"}])
    assert port["fixed_ips"] == [{"subnet_id": subnet["id"], "ip_address": "10.0.0.50"}]
    taken = {"network_id": network["id"], "fixed_ips": [{"ip_address": "10.0.0.50"}]}
    message = refused(neutron.post("/v2.0/ports", {"port": taken}), 409, "IpAddressAlreadyAllocated")
    assert message == f"IP address 10.0.0.50 already allocated in subnet {subnet['id']}"
    path = f"/v2.0/ports/{port['id']}"
    wanted = [{"subnet_id": subnet["id"]}, {"ip_address": "10.0.0.60"}]
    changed = neutron.put(path, {"port": {"fixed_ips": wanted}}).json()["port"]
    assert addresses(changed) == ["10.0.0.50", "10.0.0.60"]
    assert neutron.put(path, {"port": {"fixed_ips": []}}).json()["port"]["fixed_ips"] == []
    assert neutron.make("port", **taken)["fixed_ips"][0]["ip_address"] == "10.0.0.50"
    found = neutron.list("ports", "?fixed_ips=ip_address=10.0.0.50")
    assert [addresses(row) for row in found] == [["10.0.0.50"]]
    assert len(neutron.list("ports", f"?fixed_ips=subnet_id={subnet['id']}")) == 1
    assert len(neutron.list("ports", "?fixed_ips=ip_address_substr=0.50")) == 1
    assert neutron.list("ports", "?fixed_ips=ip_address_substr=%25") == []


BAD_PORTS: list[tuple[dict[str, Any], int, str]] = [
    ({"network_id": NOBODY}, 404, "NetworkNotFound"),
    ({"network_id": 5}, 400, "HTTPBadRequest"),
    ({"fixed_ips": [{"ip_address": "10.9.9.9"}]}, 400, "InvalidIpForNetwork"),
    ({"fixed_ips": [{"ip_address": "10.0.0.255"}]}, 400, "InvalidIpForNetwork"),
    ({"fixed_ips": [{"subnet_id": NOBODY}]}, 400, "InvalidInput"),
    ({"fixed_ips": [{}]}, 400, "InvalidInput"),
    ({"fixed_ips": [{"ip_address": "x"}]}, 400, "HTTPBadRequest"),
    ({"fixed_ips": {"ip_address": "10.0.0.9"}}, 400, "HTTPBadRequest"),
    ({"fixed_ips": [{"colour": "red"}]}, 400, "HTTPBadRequest"),
    ({"mac_address": "01:00:5e:00:00:01"}, 400, "HTTPBadRequest"),
    ({"mac_address": "zz"}, 400, "HTTPBadRequest"),
    ({"security_groups": [NOBODY]}, 404, "SecurityGroupNotFound"),
    ({"security_groups": ["default"]}, 400, "HTTPBadRequest"),
    ({"security_groups": [NOBODY, NOBODY]}, 400, "HTTPBadRequest"),
    ({"port_security_enabled": False, "security_groups": [NOBODY]}, 400, "PortSecurityAndIPRequiredForSecurityGroups"),
    (
        {"port_security_enabled": False, "allowed_address_pairs": [{"ip_address": "10.0.0.9"}]},
        409, "AddressPairAndPortSecurityRequired",
    ),
    ({"allowed_address_pairs": [{"ip_address": "10.0.0.9"}] * 2}, 400, "DuplicateAddressPairInRequest"),
    ({"allowed_address_pairs": [{"mac_address": "fa:16:3e:00:00:01"}]}, 400, "HTTPBadRequest"),
    (
        {"fixed_ips": [{"ip_address": "10.0.0.209"}], "allowed_address_pairs": [{"ip_address": "10.0.0.209"}]},
        400, "AddressPairMatchesPortFixedIPAndMac",
    ),
    ({"extra_dhcp_opts": [{"opt_name": "x"}]}, 400, "HTTPBadRequest"),
    ({"binding:vnic_type": "direct"}, 400, "HTTPBadRequest"),
    ({"binding:host_id": "host-1"}, 403, "PolicyNotAuthorized"),
    ({"binding:profile": {}}, 403, "PolicyNotAuthorized"),
    ({"status": "ACTIVE"}, 400, "HTTPBadRequest"),
    ({"name": None}, 400, "HTTPBadRequest"),
]  # fmt: skip


def test_bad_ports(neutron: Neutron, network: dict[str, Any]) -> None:
    for values, status, kind in BAD_PORTS:
        body = {"network_id": network["id"], **values}
        assert len(refused(neutron.post("/v2.0/ports", {"port": body}), status, kind)) > 15
    assert neutron.list("ports") == []


def test_mac_addresses_are_one_of_a_kind(neutron: Neutron, network: dict[str, Any]) -> None:
    mac = "fa:16:3e:12:34:56"
    port = neutron.make("port", network_id=network["id"], mac_address="FA-16-3E-12-34-56")
    assert port["mac_address"] == mac
    again = {"port": {"network_id": network["id"], "mac_address": mac}}
    refused(neutron.post("/v2.0/ports", again), 409, "MacAddressInUse")
    other = neutron.make("network")
    assert neutron.make("port", network_id=other["id"], mac_address=mac)["fixed_ips"] == []
    path, change = f"/v2.0/ports/{port['id']}", {"port": {"mac_address": "fa:16:3e:65:43:21"}}
    refused(neutron.put(path, change), 403, "PolicyNotAuthorized")
    assert neutron.put(path, change, ADMIN).json()["port"]["mac_address"] == "fa:16:3e:65:43:21"


def test_a_full_network_says_so(neutron: Neutron) -> None:
    network = neutron.make("network")
    pool = [{"start": "10.0.0.5", "end": "10.0.0.6"}]
    neutron.make(
        "subnet", network_id=network["id"], cidr="10.0.0.0/24", ip_version=4, allocation_pools=pool, enable_dhcp=False
    )
    body = {"port": {"network_id": network["id"]}}
    held = {addresses(neutron.post("/v2.0/ports", body).json()["port"])[0] for _ in range(2)}
    assert held == {"10.0.0.5", "10.0.0.6"}
    message = refused(neutron.post("/v2.0/ports", body), 409, "IpAddressGenerationFailure")
    assert message == f"No more IP addresses available on network {network['id']}."


def test_ports_made_at_once_have_each_their_address(neutron: Neutron, network: dict[str, Any]) -> None:
    errors: list[str] = []

    def make(count: int) -> None:
        for _ in range(count):
            response = neutron.post("/v2.0/ports", {"port": {"network_id": network["id"]}})
            if response.status_code != 201:
                errors.append(response.text)

    threads = [threading.Thread(target=make, args=(5,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    held = [address for port in neutron.list("ports") for address in addresses(port)]
    assert len(held) == len(set(held)) == 40
    assert len(neutron.list("security-groups", "?name=default")) == 1


def test_the_database_itself_refuses_a_second_holder(neutron: Neutron, network: dict[str, Any]) -> None:
    port = neutron.make("port", network_id=network["id"])
    held = tables.IP_ALLOCATIONS
    row = {"port_id": port["id"], "network_id": network["id"], "ip_address": addresses(port)[0]}
    row["subnet_id"] = port["fixed_ips"][0]["subnet_id"]
    with pytest.raises(sa.exc.IntegrityError):
        neutron.database.write(lambda tx: tx.execute(held.insert().values(**row)))


def test_slaac_addresses_come_of_the_mac(neutron: Neutron, network: dict[str, Any]) -> None:
    early = neutron.make("port", network_id=network["id"])
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    subnet = neutron.make("subnet", network_id=network["id"], cidr="fd00:1::/64", ip_version=6, **modes)
    late = neutron.make("port", network_id=network["id"], mac_address="fa:16:3e:12:34:56")
    assert addresses(late)[1:] == ["fd00:1::f816:3eff:fe12:3456"]
    early = neutron.get(f"/v2.0/ports/{early['id']}").json()["port"]
    assert addresses(early)[1:] == [ipam.eui64("fd00:1::/64", early["mac_address"])]
    chosen = {"network_id": network["id"], "fixed_ips": [{"subnet_id": subnet["id"], "ip_address": "fd00:1::9"}]}
    refused(neutron.post("/v2.0/ports", {"port": chosen}), 400, "AllocationOnAutoAddressSubnet")
    assert neutron.delete(f"/v2.0/subnets/{subnet['id']}").status_code == 204
    assert len(addresses(neutron.get(f"/v2.0/ports/{late['id']}").json()["port"])) == 1


def test_address_pairs_and_dhcp_options(neutron: Neutron, network: dict[str, Any]) -> None:
    options = [{"opt_name": "mtu", "opt_value": "1400"}]
    port = neutron.make(
        "port", network_id=network["id"], allowed_address_pairs=[{"ip_address": "10.5.0.0/16"}], extra_dhcp_opts=options
    )
    assert port["allowed_address_pairs"] == [{"mac_address": port["mac_address"], "ip_address": "10.5.0.0/16"}]
    assert port["extra_dhcp_opts"] == [{"opt_name": "mtu", "opt_value": "1400", "ip_version": 4}]
    path = f"/v2.0/ports/{port['id']}"
    gone = {"extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": None}], "allowed_address_pairs": []}
    changed = neutron.put(path, {"port": gone}).json()["port"]
    assert changed["extra_dhcp_opts"] == changed["allowed_address_pairs"] == []
    refused(neutron.put(path, {"port": {"port_security_enabled": False}}), 409, "PortSecurityPortHasSecurityGroup")
    open_port = {"port_security_enabled": False, "security_groups": []}
    assert neutron.put(path, {"port": open_port}).json()["port"]["port_security_enabled"] is False


def test_an_admin_binds_a_port(neutron: Neutron, network: dict[str, Any]) -> None:
    neutron.database.write(lambda tx: agents.report(tx, "host-1"))
    bound = neutron.make("port", ADMIN, network_id=network["id"], **{"binding:host_id": "host-1"})
    assert (bound["binding:vif_type"], bound["binding:vif_details"]["port_filter"]) == ("bridge", True)
    lost = neutron.make("port", ADMIN, network_id=network["id"], **{"binding:host_id": "nowhere"})
    assert lost["binding:vif_type"] == "binding_failed"
    assert [port["id"] for port in neutron.list("ports", "?binding:host_id=host-1", ADMIN)] == [bound["id"]]
    refused(neutron.get("/v2.0/ports?binding:host_id=host-1"), 403, "PolicyNotAuthorized")
    free = neutron.put(f"/v2.0/ports/{bound['id']}", {"port": {"binding:host_id": None}}, ADMIN).json()["port"]
    assert (free["binding:vif_type"], free["binding:host_id"]) == ("unbound", "")


def test_port_quota_and_bulk(neutron: Neutron, network: dict[str, Any]) -> None:
    path = f"/v2.0/quotas/{CONTEXTS[DEMO].project_id}"
    neutron.put(path, {"quota": {"port": 2}}, ADMIN)
    body = {"network_id": network["id"]}
    refused(neutron.post("/v2.0/ports", {"ports": [body] * 3}), 409, "OverQuota")
    assert neutron.list("ports") == []
    made = neutron.post("/v2.0/ports", {"ports": [body] * 2})
    assert made.status_code == 201
    assert len({address for port in made.json()["ports"] for address in addresses(port)}) == 2


def test_address_pairs_are_added_and_removed_one_by_one(neutron: Neutron) -> None:
    network = neutron.make("network")
    port = neutron.make("port", network_id=network["id"], allowed_address_pairs=[{"ip_address": "192.0.2.1"}])
    path, mac = f"/v2.0/ports/{port['id']}", "fa:16:3e:00:00:09"

    def change(what: str, *pairs: dict[str, str], token: str = DEMO) -> Any:
        body = {"port": {"allowed_address_pairs": list(pairs)}}
        return neutron.put(f"{path}/{what}_allowed_address_pairs", body, token)

    added = change("add", {"ip_address": "192.0.2.2", "mac_address": mac}, {"ip_address": "192.0.2.1"}).json()["port"]
    assert [(pair["ip_address"], pair["mac_address"]) for pair in added["allowed_address_pairs"]] == [
        ("192.0.2.2", mac), ("192.0.2.1", port["mac_address"]),
    ]  # fmt: skip
    left = change("remove", {"ip_address": "192.0.2.1"}, {"ip_address": "192.0.2.77"}).json()["port"]
    assert [pair["ip_address"] for pair in left["allowed_address_pairs"]] == ["192.0.2.2"]
    assert left["revision_number"] > added["revision_number"]
    refused(change("add", *({"ip_address": f"198.51.100.{n}"} for n in range(10))), 400, "HTTPBadRequest")
    refused(change("add", {"ip_address": "x"}), 400, "HTTPBadRequest")
    refused(
        change("add", {"ip_address": "192.0.2.9"}, {"ip_address": "192.0.2.9"}), 400, "DuplicateAddressPairInRequest"
    )
    refused(change("add", token=OTHER), 404, "PortNotFound")
    for body in ({"port": {}}, {"port": []}, {"port": {"allowed_address_pairs": [], "name": "n"}}, {}):
        refused(neutron.put(f"{path}/add_allowed_address_pairs", body), 400, "HTTPBadRequest")
    assert neutron.get(path).json()["port"]["allowed_address_pairs"] == left["allowed_address_pairs"]


def test_ports_are_made_with_tags(neutron: Neutron) -> None:
    network = neutron.make("network")
    body = {"ports": [{"network_id": network["id"], "tags": ["b", "a", "b"]}, {"network_id": network["id"]}]}
    made = neutron.post("/v2.0/ports", body).json()["ports"]
    assert [port["tags"] for port in made] == [["a", "b"], []]
    assert [port["id"] for port in neutron.list("ports", "?tags=a,b")] == [made[0]["id"]]
    for tags in (["a,b"], [""], "a", [3], [str(n) for n in range(51)]):
        refused(
            neutron.post("/v2.0/ports", {"port": {"network_id": network["id"], "tags": tags}}), 400, "HTTPBadRequest"
        )
    refused(neutron.put(f"/v2.0/ports/{made[0]['id']}", {"port": {"tags": []}}), 400, "HTTPBadRequest")


def test_a_mac_address_is_drawn_anew(neutron: Neutron) -> None:
    network = neutron.make("network")
    port = neutron.make("port", network_id=network["id"], mac_address=None)
    path, body = f"/v2.0/ports/{port['id']}", {"port": {"mac_address": None}}
    changed = neutron.put(path, body, ADMIN).json()["port"]["mac_address"]
    assert changed != port["mac_address"] and changed.startswith("fa:16:3e:")
    refused(neutron.put(path, body), 403, "PolicyNotAuthorized")
    assert neutron.get(path).json()["port"]["mac_address"] == changed
