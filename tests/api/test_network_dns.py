"""Names of ports, over HTTP and as a host is told them, on both databases."""

from typing import Any

import pytest
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, Neutron, refused

from kilonova.db.engine import Database, Tx
from kilonova.model.errors import BadRequest, Conflict
from kilonova.model.specs import PortSpec
from kilonova.network import ports, specs

SERVER = "0f4f0b8e-6d3b-4f8e-9d4c-2f4f5b1a9c11"


@pytest.fixture
def neutron(database: Database) -> Neutron:
    return Neutron(database)


def make_network(neutron: Neutron, token: str = DEMO, **values: Any) -> dict[str, Any]:
    network = neutron.make("network", token, **values)
    neutron.make("subnet", token, network_id=network["id"], cidr="10.0.0.0/24", ip_version=4)
    return network


def told(neutron: Neutron, port: dict[str, Any]) -> tuple[str, str]:
    (found,) = neutron.database.read(lambda tx: specs.port_specs(tx, [port["id"]]))
    assert isinstance(found, PortSpec)
    return found.hostname, found.dns_domain


def told_of_network(neutron: Neutron, network: dict[str, Any]) -> str:
    (found,) = neutron.database.read(lambda tx: specs.network_specs(tx, [network["id"]], {}))
    return str(found.dns_domain)


def names(port: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["hostname"], each["fqdn"]) for each in port["dns_assignment"]]


def test_a_port_without_a_name_is_known_by_its_address(neutron: Neutron) -> None:
    network = make_network(neutron)
    neutron.make("subnet", network_id=network["id"], cidr="fd00:7::/64", ip_version=6)
    fixed = [{"ip_address": "10.0.0.209"}, {"ip_address": "fd00:7::209"}]
    port = neutron.make("port", network_id=network["id"], fixed_ips=fixed)
    assert (port["dns_name"], port["dns_domain"]) == ("", "")
    assert port["dns_assignment"] == [
        {"ip_address": "10.0.0.209", "hostname": "host-10-0-0-209", "fqdn": "host-10-0-0-209.novalocal."},
        {"ip_address": "fd00:7::209", "hostname": "host-fd00-7--209", "fqdn": "host-fd00-7--209.novalocal."},
    ]
    assert (told(neutron, port), told_of_network(neutron, network)) == (("", ""), "novalocal")
    assert neutron.make("port", network_id=network["id"], fixed_ips=[])["dns_assignment"] == []


def test_whose_domain_a_name_is_in(neutron: Neutron) -> None:
    plain, named = make_network(neutron), make_network(neutron, dns_domain="Example.ORG.")
    assert (plain["dns_domain"], named["dns_domain"]) == ("", "example.org.")
    for network, values, known, host in (
        (plain, {"dns_name": "Web"}, ("web", "web.novalocal."), ("web", "")),
        (plain, {"dns_name": "a.web"}, ("a.web", "a.web.novalocal."), ("a.web", "")),
        (plain, {"dns_name": "web.novalocal."}, ("web.novalocal.", "web.novalocal."), ("web", "novalocal")),
        (named, {"dns_name": "web"}, ("web", "web.example.org."), ("web", "")),
        (named, {"dns_name": "web", "dns_domain": "a.test."}, ("web", "web.a.test."), ("web", "a.test")),
        (named, {"dns_name": "x.novalocal."}, ("x.novalocal.", "x.novalocal."), ("x", "novalocal")),
    ):
        port = neutron.make("port", network_id=network["id"], **values)
        assert names(port) == [known]
        assert told(neutron, port) == host
    nameless = neutron.make("port", network_id=named["id"], dns_domain="a.test.")
    assert told(neutron, nameless) == ("", "")
    assert names(nameless)[0][1].endswith(".example.org.")
    assert told_of_network(neutron, named) == "example.org"


def test_names_are_changed_and_taken_away(neutron: Neutron) -> None:
    network = make_network(neutron)
    port = neutron.make("port", network_id=network["id"], dns_name="a")
    path = f"/v2.0/ports/{port['id']}"
    for name, expected in (("b", "b.novalocal."), ("", None)):
        changed = neutron.put(path, {"port": {"dns_name": name}}).json()["port"]
        assert (changed["dns_name"], changed["revision_number"] > port["revision_number"]) == (name, True)
        assert expected is None or names(changed)[0][1] == expected
        port = changed
    assert names(port)[0][0].startswith("host-10-0-0-")
    network_path = f"/v2.0/networks/{network['id']}"
    neutron.put(path, {"port": {"dns_name": "b"}})
    for domain, expected in (("c.test.", "b.c.test."), ("", "b.novalocal.")):
        changed = neutron.put(network_path, {"network": {"dns_domain": domain}}).json()["network"]
        assert changed["dns_domain"] == domain
        assert names(neutron.get(path).json()["port"])[0][1] == expected


BAD_NAMES = (
    ("a_b", "Name 'a_b' must be 1-63 characters long"), ("-a", "must not start or end with a hyphen"),
    ("a-", "must not start or end with a hyphen"), ("a..b", "Encountered an empty component"),
    ("x" * 64, "must be 1-63 characters long"), ("a.1", "TLD '1' must not be all numeric"),
    (".".join(["x" * 60] * 5), "exceeds"), ("a\n", "must be 1-63"), ("é", "must be 1-63"), (3, "not a valid string"),
    ("a b", "must be 1-63"), (None, "not a valid string"), (".", "Encountered an empty component"),
)  # fmt: skip


def test_what_is_no_name_is_refused(neutron: Neutron) -> None:
    network = make_network(neutron)
    port = neutron.make("port", network_id=network["id"])
    more = (("a.example.org.", "Its higher level labels must be equal"), ("novalocal.", "higher level labels"),
            (".".join(["x" * 61] * 4), "and the domain 'novalocal.'"))  # fmt: skip
    for name, words in (*BAD_NAMES, *more):
        body = {"port": {"dns_name": name}}
        for answer in (
            neutron.post("/v2.0/ports", {"port": {"network_id": network["id"], "dns_name": name}}),
            neutron.put(f"/v2.0/ports/{port['id']}", body),
        ):
            assert words in refused(answer, 400, "HTTPBadRequest"), name
    domains = (
        ("a.test", "is not a FQDN"),
        ("a_b.test.", "must be 1-63"),
        (3, "not a valid string"),
        ("x" * 300, "maximum"),
    )
    for domain, words in domains:
        for path, resource in ((f"/v2.0/networks/{network['id']}", "network"), (f"/v2.0/ports/{port['id']}", "port")):
            answer = neutron.put(path, {resource: {"dns_domain": domain}})
            assert words in refused(answer, 400, "HTTPBadRequest"), domain
    read_only = {"port": {"dns_assignment": []}}
    refused(neutron.put(f"/v2.0/ports/{port['id']}", read_only), 400, "HTTPBadRequest")


def test_on_anothers_network_a_port_has_no_domain_of_its_own(neutron: Neutron) -> None:
    """Else it could be any name of the world to the others there."""
    network = make_network(neutron, ADMIN, shared=True)
    body = {"port": {"network_id": network["id"], "dns_name": "www", "dns_domain": "example.org."}}
    refused(neutron.post("/v2.0/ports", body, OTHER), 403, "PolicyNotAuthorized")
    port = neutron.make("port", OTHER, network_id=network["id"], dns_name="www", dns_domain="")
    change = {"port": {"dns_domain": "example.org."}}
    refused(neutron.put(f"/v2.0/ports/{port['id']}", change, OTHER), 403, "PolicyNotAuthorized")
    assert names(port) == [("www", "www.novalocal.")]
    assert neutron.post("/v2.0/ports", body, ADMIN).status_code == 201


def test_names_of_floating_ips_are_checked_and_published_nowhere(neutron: Neutron) -> None:
    outside = neutron.make("network", ADMIN, **{"router:external": True})
    neutron.make("subnet", ADMIN, network_id=outside["id"], cidr="172.24.4.0/24", ip_version=4, enable_dhcp=False)
    body = {"floating_network_id": outside["id"]}
    floating = neutron.make("floatingip", **body, dns_name="web", dns_domain="example.org.")
    assert (floating["dns_name"], floating["dns_domain"]) == ("", "")
    for values in ({"dns_name": "web."}, {"dns_name": "a_b"}, {"dns_domain": "example.org"}):
        refused(neutron.post("/v2.0/floatingips", {"floatingip": {**body, **values}}), 400, "HTTPBadRequest")
    path = f"/v2.0/floatingips/{floating['id']}"
    refused(neutron.put(path, {"floatingip": {"dns_name": "db"}}), 400, "HTTPBadRequest")


def allocate(tx: Tx, *requested: dict[str, Any], server_id: str = SERVER) -> list[str]:
    return ports.allocate_ports(
        tx, server_id=server_id, project_id=CONTEXTS[DEMO].project_id, availability_zone="nova", hostname="vm",
        requested=list(requested), security_group_ids=[],
    )  # fmt: skip


def test_a_servers_ports_have_its_name(neutron: Neutron) -> None:
    network = make_network(neutron)
    mine = neutron.make("port", network_id=network["id"])
    same = neutron.make("port", network_id=network["id"], dns_name="vm")
    requested = ({"port_id": mine["id"]}, {"port_id": same["id"]}, {"network_id": network["id"]})
    ids = neutron.database.write(lambda tx: allocate(tx, *requested))
    for port_id in ids:
        port = neutron.get(f"/v2.0/ports/{port_id}").json()["port"]
        assert (port["dns_name"], names(port)) == ("vm", [("vm", "vm.novalocal.")])
    with pytest.raises(Conflict):
        neutron.database.write(lambda tx: allocate(tx, {"port_id": mine["id"]}, server_id=SERVER.replace("0", "1")))
    neutron.database.write(lambda tx: ports.deallocate_ports(tx, SERVER, CONTEXTS[DEMO].project_id))
    assert neutron.get(f"/v2.0/ports/{mine['id']}").json()["port"]["dns_name"] == ""


def test_a_port_of_another_name_is_no_servers(neutron: Neutron) -> None:
    network = make_network(neutron)
    mine = neutron.make("port", network_id=network["id"], dns_name="db")
    with pytest.raises(BadRequest) as refusal:
        neutron.database.write(lambda tx: allocate(tx, {"port_id": mine["id"]}))
    assert refusal.value.message == (
        f"Port {mine['id']} not usable for instance {SERVER}. Value db assigned to dns_name attribute does not match "
        "instance's hostname vm"
    )
    assert neutron.get(f"/v2.0/ports/{mine['id']}").json()["port"]["device_id"] == ""
