"""What is made of a thing of Neutron's at the moment when that is deleted, on both databases: it goes too, or is refused, or
the delete is; never an orphan, never a 5xx."""

from typing import Any

import pytest
import sqlalchemy as sa
from network_client import ADMIN, CONTEXTS, OTHER, Neutron
from test_placement_races import CLIENTS, at_once

from kilonova.db.engine import Database
from kilonova.network import tables
from kilonova.network.service_tables import QOS_POLICIES

THEM = CONTEXTS[OTHER].project_id
# Kind → path, table, body.
KINDS: dict[str, tuple[str, sa.Table, dict[str, Any]]] = {
    "network": ("networks", tables.NETWORKS, {}),
    "subnet": ("subnets", tables.SUBNETS, {"network_id": "NETWORK", "ip_version": 4, "cidr": "10.NUMBER.0.0/24"}),
    "port": ("ports", tables.PORTS, {"network_id": "NETWORK"}),
    "router": ("routers", tables.ROUTERS, {}),
    "security_group": ("security-groups", tables.SECURITY_GROUPS, {"name": "a"}),
    "subnetpool": ("subnetpools", tables.SUBNET_POOLS, {"name": "a", "prefixes": ["10.NUMBER.0.0/16"]}),
    "address_scope": ("address-scopes", tables.ADDRESS_SCOPES, {"name": "a", "ip_version": 4}),
    "address_group": ("address-groups", tables.ADDRESS_GROUPS, {"name": "a", "addresses": []}),
    "policy": ("qos/policies", QOS_POLICIES, {"name": "a"}),
}
RULE = {"security_group_id": "GROUP", "direction": "ingress"}
OPENED = {"action": "access_as_shared", "target_tenant": THEM, "object_id": "KEY"}
OF_RBAC = tables.RBAC_POLICIES.c.object_id
# The kind that is deleted; what is made meanwhile: method, path, body, and the column that names it.
RACES = (
    ("network", "POST", "ports", {"port": {"network_id": "KEY"}}, tables.PORTS.c.network_id),
    ("network", "POST", "subnets", {"subnet": {"network_id": "KEY", "ip_version": 4, "cidr": "10.0.0.0/24"}},
     tables.SUBNETS.c.network_id),
    ("subnet", "POST", "ports", {"port": {"network_id": "NETWORK", "fixed_ips": [{"subnet_id": "KEY"}]}},
     tables.IP_ALLOCATIONS.c.subnet_id),
    ("subnet", "PUT", "routers/ROUTER/add_router_interface", {"subnet_id": "KEY"}, tables.IP_ALLOCATIONS.c.subnet_id),
    ("port", "PUT", "routers/ROUTER/add_router_interface", {"port_id": "KEY"}, tables.ROUTER_PORTS.c.port_id),
    ("port", "POST", "trunks", {"trunk": {"port_id": "KEY"}}, tables.IP_ALLOCATIONS.c.port_id),
    ("router", "PUT", "routers/KEY/add_router_interface", {"subnet_id": "SUBNET"}, tables.PORTS.c.device_id),
    ("security_group", "POST", "security-group-rules", {"security_group_rule": {**RULE, "security_group_id": "KEY"}},
     tables.SECURITY_GROUP_RULES.c.security_group_id),
    ("security_group", "POST", "security-group-rules", {"security_group_rule": {**RULE, "remote_group_id": "KEY"}},
     tables.SECURITY_GROUP_RULES.c.remote_group_id),
    ("security_group", "POST", "ports", {"port": {"network_id": "NETWORK", "security_groups": ["KEY"]}},
     tables.PORT_SECURITY_GROUPS.c.security_group_id),
    ("subnetpool", "POST", "subnets", {"subnet": {"network_id": "EMPTY", "ip_version": 4, "subnetpool_id": "KEY"}},
     tables.SUBNETS.c.subnetpool_id),
    ("address_scope", "POST", "subnetpools", {"subnetpool": {
        "name": "a", "prefixes": ["10.NUMBER.0.0/16"], "address_scope_id": "KEY"}}, tables.SUBNET_POOLS.c.address_scope_id),
    ("address_group", "POST", "security-group-rules", {"security_group_rule": {**RULE, "remote_address_group_id": "KEY"}},
     tables.SECURITY_GROUP_RULES.c.remote_address_group_id),
    ("policy", "PUT", "ports/PORT", {"port": {"qos_policy_id": "KEY"}}, OF_RBAC),
    *((kind, "POST", "rbac-policies", {"rbac_policy": {**OPENED, "object_type": named}}, OF_RBAC)
      for kind, named in [*((each, each) for each in KINDS if each not in ("subnet", "port", "router", "policy")),
                          ("policy", "qos_policy")]),
)  # fmt: skip


def filled(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled(each, words) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, words) for each in value]
    for word, there in words.items():
        value = value.replace(word, there) if isinstance(value, str) else value
    return value


@pytest.mark.parametrize(
    ("kind", "method", "path", "body", "column"), RACES, ids=[f"{race[0]}-{race[2]}-{race[4]}" for race in RACES]
)
def test_what_is_deleted_leaves_no_orphan(
    database: Database, kind: str, method: str, path: str, body: Any, column: Any
) -> None:
    neutron, (collection, table, _) = Neutron(database), KINDS[kind]
    limits = dict.fromkeys(("network", "router", "security_group", "rbac_policy"), -1)
    neutron.put(f"/v2.0/quotas/{CONTEXTS[ADMIN].project_id}", {"quota": limits}, ADMIN)

    def made(of: str, words: dict[str, str]) -> str:
        found = neutron.post(f"/v2.0/{KINDS[of][0]}", {of: filled(KINDS[of][2], words)}, ADMIN)
        assert found.status_code == 201, found.text
        return str(found.json()[of]["id"])

    def surroundings(number: int) -> dict[str, str]:
        words = {"NUMBER": str(number + 1), "NETWORK": made("network", {}), "EMPTY": made("network", {})}
        words["SUBNET"] = made("subnet", {**words, "NUMBER": str(number + 101)})
        words |= {"ROUTER": made("router", {}), "GROUP": made("security_group", {}), "PORT": made("port", words)}
        return words | {"KEY": made(kind, words)}

    around = [surroundings(number) for number in range(CLIENTS // 2)]

    def work(client: int) -> int:
        words = around[client // 2]
        if client % 2:
            return neutron.delete(f"/v2.0/{collection}/{words['KEY']}", ADMIN).status_code
        return neutron.call(method, f"/v2.0/{filled(path, words)}", filled(body, words), ADMIN).status_code

    assert set(at_once(work)) <= {200, 201, 204, 400, 404, 409}
    keys = [words["KEY"] for words in around]
    there = sa.select(table.c.id).where(table.c.id.in_(keys))
    orphans = sa.select(sa.func.count()).select_from(column.table).where(column.in_(keys), column.not_in(there))
    assert database.read(lambda tx: tx.scalar(orphans)) == 0
