"""Values, bodies and ids that make no sense, for all of the network: Neutron's own errors, and nothing half done."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from network_client import ADMIN, CONTEXTS, DEMO, OTHER, Neutron

from kilonova.db.engine import Database
from kilonova.network import (
    address_groups,
    address_scopes,
    agents,
    default_rule_requests,
    floating_ips,
    metering,
    networks,
    port_forwardings,
    port_requests,
    qos_policies,
    rbac,
    routers,
    security_group_rules,
    security_groups,
    segment_requests,
    service_tables,
    subnet_pools,
    subnets,
    tables,
    trunks,
)
from kilonova.network.attributes import Attribute
from kilonova.network.routes import SERVICE

NOBODY = "00000000-0000-0000-0000-000000000000"
JUNK: tuple[Any, ...] = (None, [], {}, "x" * 70_000, "a\0b", 2**70, 1.5, True, [{}], "10.0.0.0/33")
IDS = ("x", NOBODY, "x" * 300, "%F0%9F%98%80", "%00", "0")
ANY = Attribute(lambda value: value)
RULE = dict.fromkeys(("max_kbps", "max_burst_kbps", "direction", "dscp_mark", "min_kbps", "id", "type"), ANY)

TABLES = [each for module in (tables, service_tables) for each in vars(module).values() if isinstance(each, sa.Table)]
CONTENT = sa.select(
    *(sa.select(sa.func.count()).select_from(table).scalar_subquery() for table in TABLES),
    *(sa.select(sa.func.sum(t.c.revision_number)).scalar_subquery() for t in TABLES if "revision_number" in t.c),
)


class World:
    """One of each thing of DEMO's, and OTHER's network, port, router, group, pool and policy beside it."""

    def __init__(self, neutron: Neutron) -> None:
        self.neutron = neutron
        neutron.database.write(lambda tx: agents.report(tx, "host1", {"public": "br-ex"}))
        public = {"router:external": True, "provider:network_type": "flat", "provider:physical_network": "public"}
        self.public = neutron.make("network", ADMIN, **public)["id"]
        neutron.make("subnet", ADMIN, network_id=self.public, cidr="172.24.4.0/24", ip_version=4)
        self.own, self.others = self.things(DEMO, "10.0.0.0/24"), self.things(OTHER, "10.9.0.0/24")
        self.kept = self.content()

    def things(self, token: str, cidr: str) -> dict[str, str]:
        found: dict[str, str] = {}

        def make(name: str, path: str, who: str = token, /, **values: Any) -> str:
            answer = self.neutron.post(f"/v2.0/{path}", {name: values}, who)
            assert answer.status_code == 201, answer.text
            found[name] = answer.json()[name]["id"]
            return found[name]

        project = {"project_id": CONTEXTS[token].project_id}
        net = make("network", "networks")
        make("subnet", "subnets", network_id=net, cidr=cidr, ip_version=4)
        make("trunk", "trunks", port_id=make("port", "ports", network_id=net))
        port = make("port", "ports", network_id=net)
        router = make("router", "routers", external_gateway_info={"network_id": self.public})
        self.neutron.put(f"/v2.0/routers/{router}/add_router_interface", {"subnet_id": found["subnet"]}, token)
        floating = make("floatingip", "floatingips", floating_network_id=self.public)
        make("port_forwarding", f"floatingips/{floating}/port_forwardings", internal_port_id=port, protocol="tcp",
             internal_port=22, external_port=22)  # fmt: skip
        make("floatingip", "floatingips", floating_network_id=self.public)
        found["forwarded"] = floating
        group = make("security_group", "security-groups")
        make(
            "security_group_rule", "security-group-rules", security_group_id=group, direction="ingress", protocol="tcp"
        )
        make("address_group", "address-groups", addresses=["10.7.0.0/24"])
        make("address_scope", "address-scopes", name="s", ip_version=4)
        make("subnetpool", "subnetpools", name="p", prefixes=["10.8.0.0/16"])
        make("rbac_policy", "rbac-policies", object_type="network", object_id=net, action="access_as_shared",
             target_tenant="8" * 32)  # fmt: skip
        label = make("metering_label", "metering/metering-labels", ADMIN, name="m", **project)
        make("metering_label_rule", "metering/metering-label-rules", ADMIN, metering_label_id=label,
             remote_ip_prefix="10.0.0.0/24", direction="ingress")  # fmt: skip
        policy = make("policy", "qos/policies", ADMIN, name="q", **project)
        make("bandwidth_limit_rule", f"qos/policies/{policy}/bandwidth_limit_rules", ADMIN, max_kbps=1000)
        make("dscp_marking_rule", f"qos/policies/{policy}/dscp_marking_rules", ADMIN, dscp_mark=8)
        make("minimum_bandwidth_rule", f"qos/policies/{policy}/minimum_bandwidth_rules", ADMIN, min_kbps=10)
        return found

    def content(self) -> Any:
        """How many rows each of the network's tables has, and the sum of their revisions."""
        return self.neutron.database.read(lambda tx: tuple(tx.execute(CONTENT).one()))

    def refuses(self, method: str, path: str, body: Any, token: str = ADMIN, taken: tuple[int, ...] = ()) -> Any:
        """The answer: a refusal with Neutron's own error, after which all is as it was, or one of the statuses `taken`."""
        answer = self.neutron.call(method, path, body, token)
        if answer.status_code in taken:
            self.kept = None
            return answer
        assert 400 <= answer.status_code < 500, (method, path, str(body)[:200], answer.text)
        error = answer.json()["NeutronError"]
        assert error["type"] and error["message"]
        before, self.kept = self.kept, self.content()
        assert before in (None, self.kept), (method, path, str(body)[:200])
        return answer


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    neutron = Neutron(database)
    with neutron.http:  # one loop for all requests
        yield World(neutron)


# name → where it is made, what is made of it, what it may have
RESOURCES: dict[str, tuple[str, dict[str, Any], dict[str, Attribute]]] = {
    "network": ("networks", {}, networks.ATTRIBUTES),
    "subnet": ("subnets", {"network_id": "@network", "cidr": "10.1.0.0/24", "ip_version": 4}, subnets.ATTRIBUTES),
    "port": ("ports", {"network_id": "@network"}, port_requests.ATTRIBUTES),
    "router": ("routers", {}, routers.ATTRIBUTES),
    "floatingip": ("floatingips", {"floating_network_id": "@public"}, floating_ips.ATTRIBUTES),
    "port_forwarding": (
        "floatingips/@forwarded/port_forwardings",
        {"internal_port_id": "@port", "protocol": "tcp", "internal_port": 1, "external_port": 1}, port_forwardings.ATTRIBUTES,
    ),
    "security_group": ("security-groups", {}, security_groups.ATTRIBUTES),
    "security_group_rule": (
        "security-group-rules", {"security_group_id": "@security_group", "direction": "egress", "protocol": "udp"},
        security_group_rules.ATTRIBUTES,
    ),
    "default_security_group_rule": (
        "default-security-group-rules", {"direction": "ingress", "protocol": "udp"}, default_rule_requests.ATTRIBUTES
    ),
    "address_group": ("address-groups", {}, address_groups.ATTRIBUTES),
    "address_scope": ("address-scopes", {"name": "t", "ip_version": 4}, address_scopes.ATTRIBUTES),
    "subnetpool": ("subnetpools", {"name": "q", "prefixes": ["10.6.0.0/16"]}, subnet_pools.ATTRIBUTES),
    "rbac_policy": (
        "rbac-policies",
        {"object_type": "network", "object_id": "@network", "action": "access_as_shared", "target_tenant": "9" * 32},
        rbac.ATTRIBUTES,
    ),
    "metering_label": ("metering/metering-labels", {"name": "n"}, metering.LABEL_ATTRIBUTES),
    "metering_label_rule": (
        "metering/metering-label-rules",
        {"metering_label_id": "@metering_label", "remote_ip_prefix": "10.2.0.0/24", "direction": "egress"},
        metering.RULE_ATTRIBUTES,
    ),
    "policy": ("qos/policies", {"name": "r"}, qos_policies.ATTRIBUTES),
    "bandwidth_limit_rule": ("qos/policies/@policy/bandwidth_limit_rules", {"max_kbps": 9, "direction": "ingress"}, RULE),
    "dscp_marking_rule": ("qos/policies/@policy/dscp_marking_rules", {"dscp_mark": 16}, RULE),
    "minimum_bandwidth_rule": (
        "qos/policies/@policy/minimum_bandwidth_rules", {"min_kbps": 9, "direction": "ingress"}, RULE
    ),
    "trunk": ("trunks", {"port_id": "@port"}, trunks.ATTRIBUTES),
    "segment": (
        "segments", {"network_id": "@network", "network_type": "vxlan", "segmentation_id": 77}, segment_requests.ATTRIBUTES
    ),
}  # fmt: skip


def filled(world: World, value: Any) -> Any:
    """`value` with the ids of DEMO's things for `@name`."""
    if isinstance(value, dict):
        return {key: filled(world, each) for key, each in value.items()}
    for name, ident in {**world.own, "public": world.public}.items():
        if isinstance(value, str) and (value == f"@{name}" or f"/@{name}/" in value):
            return value.replace(f"@{name}", ident)
    return value


@pytest.mark.parametrize("name", RESOURCES)
def test_values_of_a_wrong_kind(world: World, name: str) -> None:
    """Each attribute with each value: refused whole, or taken whole."""
    path, body, attributes = RESOURCES[name]
    path, body = "/v2.0/" + filled(world, path), filled(world, body)
    for attribute, about in {**attributes, "project_id": ANY, "no_such_attribute": ANY}.items():
        for value in JUNK:
            made = world.refuses("POST", path, {name: {**body, attribute: value}}, taken=(201,))
            if made.status_code == 201:
                gone = world.neutron.delete(f"{path}/{made.json()[name]['id']}", ADMIN)
                assert gone.status_code == 204, gone.text
            if about.put:
                world.refuses("PUT", f"{path}/{world.own.get(name, NOBODY)}", {name: {attribute: value}}, taken=(200,))
    for junk in JUNK:
        for nonsense in (junk, {name: junk}, {name: body, "more": 1}, {"x": body}, {f"{name}s": junk}):
            world.refuses("POST", path, nonsense, taken=(201,))


def test_ids_of_nothing(world: World) -> None:
    """Whatever stands for an id, at every route that has one."""
    project_names = ("/v2.0/quotas/", "/v2.0/auto-allocated-topology/")  # any word may be a project's id
    for key in SERVICE.routes:
        method, template = key.split()
        if "{" not in template or template.startswith(project_names):
            continue
        for ident in IDS:
            path = "/".join(ident if word.startswith("{") else word for word in template.split("/"))
            world.refuses(method, path, {} if method in ("POST", "PUT") else None)


def test_ids_of_anothers_things(world: World) -> None:
    """DEMO asks for its own with what is OTHER's: as if it were not there, or forbidden."""
    own, other = world.own, world.others
    rule = {"security_group_id": own["security_group"], "direction": "ingress", "protocol": "icmp"}
    address_group = other["address_group"]
    asked = [
        ("POST", "subnets", {"subnet": {"network_id": other["network"], "cidr": "10.3.0.0/24", "ip_version": 4}}),
        ("POST", "subnets",
         {"subnet": {"network_id": own["network"], "subnetpool_id": other["subnetpool"], "ip_version": 4}}),
        ("POST", "ports", {"port": {"network_id": other["network"]}}),
        ("POST", "ports", {"port": {"network_id": own["network"], "fixed_ips": [{"subnet_id": other["subnet"]}]}}),
        ("POST", "ports", {"port": {"network_id": own["network"], "security_groups": [other["security_group"]]}}),
        ("POST", "ports", {"port": {"network_id": own["network"], "qos_policy_id": other["policy"]}}),
        ("POST", "networks", {"network": {"qos_policy_id": other["policy"]}}),
        ("PUT", f"ports/{own['port']}", {"port": {"security_groups": [other["security_group"]], "name": "half"}}),
        ("POST", "routers", {"router": {"external_gateway_info": {"network_id": other["network"]}}}),
        ("PUT", f"routers/{own['router']}/add_router_interface", {"subnet_id": other["subnet"]}),
        ("PUT", f"routers/{own['router']}/add_router_interface", {"port_id": other["port"]}),
        ("PUT", f"routers/{own['router']}/remove_router_interface", {"subnet_id": other["subnet"]}),
        ("POST", "floatingips", {"floatingip": {"floating_network_id": world.public, "port_id": other["port"]}}),
        ("PUT", f"floatingips/{own['floatingip']}", {"floatingip": {"port_id": other["port"]}}),
        ("POST", f"floatingips/{own['forwarded']}/port_forwardings",
         {"port_forwarding": {"internal_port_id": other["port"], "protocol": "tcp", "internal_port": 2, "external_port": 2}}),
        ("POST", "security-group-rules", {"security_group_rule": {**rule, "security_group_id": other["security_group"]}}),
        ("POST", "security-group-rules", {"security_group_rule": {**rule, "remote_group_id": other["security_group"]}}),
        ("POST", "security-group-rules", {"security_group_rule": {**rule, "remote_address_group_id": address_group}}),
        ("POST", "subnetpools",
         {"subnetpool": {"name": "p", "prefixes": ["10.4.0.0/16"], "address_scope_id": other["address_scope"]}}),
        ("PUT", f"subnetpools/{own['subnetpool']}/onboard_network_subnets", {"network_id": other["network"]}),
        ("POST", "rbac-policies", {"rbac_policy": {"object_type": "network", "object_id": other["network"],
                                                   "action": "access_as_shared", "target_tenant": "7" * 32}}),
        ("POST", "trunks", {"trunk": {"port_id": other["port"]}}),
        ("PUT", f"trunks/{own['trunk']}/add_subports",
         {"sub_ports": [{"port_id": other["port"], "segmentation_id": 9, "segmentation_type": "vlan"}]}),
        ("GET", f"kilonova/path?from={own['port']}&to={other['port']}", None),
        ("GET", f"kilonova/ports/{other['port']}/capture", None),
    ]  # fmt: skip
    for method, path, body in asked:
        world.refuses(method, f"/v2.0/{path}", body, DEMO)


CIDRS = (
    "10.0.0/24", "10.0.0.0/-1", "10.0.0.0/33", "10.0.0.0/24/24", "256.0.0.0/8", "0x0a.0.0.0/8", " 10.0.0.0/24",
    "10.0.0.0/24\n", "10.0.0.0/255.0.255.0", "10.0.0.0/+8", "１０.0.0.0/8", "fe80::1%eth0/64", "fd00::/129", "fd00:::/64",
    "x" * 300,
)  # fmt: skip


def test_cidrs_that_are_none(world: World) -> None:
    """Wherever a prefix is given."""
    own = world.own
    rule = {"security_group_id": own["security_group"], "direction": "ingress"}
    label = {"metering_label_id": own["metering_label"], "direction": "ingress"}
    for cidr in CIDRS:
        route = {"destination": cidr, "nexthop": "10.0.0.209"}
        pair = {"ip_address": cidr}
        for method, path, body in (
            ("POST", "subnets", {"subnet": {"network_id": own["network"], "cidr": cidr, "ip_version": 4}}),
            ("PUT", f"subnets/{own['subnet']}", {"subnet": {"name": "half", "host_routes": [route]}}),
            ("POST", "subnetpools", {"subnetpool": {"name": "p", "prefixes": ["10.4.0.0/16", cidr]}}),
            ("PUT", f"subnetpools/{own['subnetpool']}/add_prefixes", {"prefixes": ["10.4.0.0/16", cidr]}),
            ("POST", "address-groups", {"address_group": {"addresses": ["10.4.0.0/16", cidr]}}),
            ("PUT", f"address-groups/{own['address_group']}/add_addresses",
             {"address_group": {"addresses": ["10.4.0.0/16", cidr]}}),
            ("POST", "security-group-rules", {"security_group_rule": {**rule, "remote_ip_prefix": cidr}}),
            ("POST", "default-security-group-rules",
             {"default_security_group_rule": {"direction": "ingress", "remote_ip_prefix": cidr}}),
            ("POST", "metering/metering-label-rules", {"metering_label_rule": {**label, "remote_ip_prefix": cidr}}),
            ("PUT", f"routers/{own['router']}", {"router": {"name": "half", "routes": [route]}}),
            ("PUT", f"routers/{own['router']}/add_extraroutes", {"router": {"routes": [route]}}),
            ("PUT", f"ports/{own['port']}", {"port": {"name": "half", "allowed_address_pairs": [pair]}}),
        ):  # fmt: skip
            world.refuses(method, f"/v2.0/{path}", body)
