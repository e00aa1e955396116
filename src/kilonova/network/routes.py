"""Neutron v2.0: the routes, who may call them, and the service as one value."""

from collections.abc import Callable
from typing import Any

from kilonova.db.engine import Tx
from kilonova.model.errors import NotFound
from kilonova.network import (
    address_routes,
    address_scopes,
    agents,
    extensions,
    if_match,
    l3_routes,
    networks,
    port_requests,
    ports,
    query,
    quotas,
    router_gateways,
    routers,
    security_group_rules,
    security_groups,
    segment_routes,
    service_routes,
    subnet_pools,
    subnets,
    tags,
    view_routes,
    views,
)
from kilonova.network import attributes as a
from kilonova.network.handlers import body_of, creator, deleter, lister, shower, updater
from kilonova.network.rows import Row
from kilonova.web import faults
from kilonova.web.call import Call, Route
from kilonova.web.policy import admin, anyone, project_manager, project_member, project_reader, rule
from kilonova.web.service import Service
from kilonova.web.validate import is_uuid


def with_default_group(handler: Callable[[Call], Any]) -> Callable[[Call], Any]:
    """Reads of security groups show the default one of the project, or of that which an administrator asks for: it is
    made first, if it is not there yet (Neutron: get_security_groups)."""

    def run(call: Call) -> Any:
        asked = [*call.args("project_id"), *call.args("tenant_id")] if call.context.is_admin else []
        project_id = next((project for project in asked if is_uuid(project)), call.context.project_id)

        def read(tx: Tx) -> Any:
            call._tx = tx
            return handler(call)

        if project_id and call.database.read(lambda tx: security_groups.default_id(tx, project_id)) is None:
            call.database.write(lambda tx: security_groups.ensure_default(tx, project_id))
        return call.database.read(read)

    return run


def quota_project(call: Call) -> str:
    """The path's project; another than one's own is the admin's to see."""
    project_id = call.params["id"]
    if project_id != call.context.project_id and not call.context.is_admin:
        raise a.disallowed("get_quota")
    if "\x00" in project_id or len(project_id) > 255:
        raise NotFound(f"Project {project_id[:64]!r} could not be found.", type="TenantIdProjectIdNotFound")
    return project_id


def show_quota(call: Call) -> Any:
    return {"quota": quotas.limits(call.tx, quota_project(call))}


def show_quota_details(call: Call) -> Any:
    return {"quota": quotas.details(call.tx, quota_project(call))}


def show_default_quota(call: Call) -> Any:
    quota_project(call)
    return {"quota": dict(quotas.DEFAULTS)}


def own_project(call: Call) -> Any:
    return {"tenant": {"tenant_id": call.context.project_id, "project_id": call.context.project_id}}


def list_quotas(call: Call) -> Any:
    own = quotas.all_own(call.tx)
    return {"quotas": [{"project_id": key, "tenant_id": key, **limits} for key, limits in own.items()]}


def update_quota(call: Call) -> Any:
    return {"quota": quotas.update(call.tx, quota_project(call), body_of(call, "quota"))}


def delete_quota(call: Call) -> None:
    quotas.delete(call.tx, quota_project(call))


def agents_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return agents.list_page(call) if call.context.is_admin else ([], {})


def show_agent(call: Call) -> Any:
    return {"agent": query.fields(call, views.agent(agents.get(call.tx, call.params["id"])))}


def update_agent(call: Call) -> Any:
    return {"agent": views.agent(agents.update(call.tx, call, call.params["id"], body_of(call, "agent")))}


def delete_agent(call: Call) -> None:
    agents.delete(call.tx, call.params["id"])


def versions(call: Call) -> Any:
    return {"versions": [views.version(call.base_url)]}


def version(call: Call) -> Any:
    return views.resources(call.base_url, COLLECTIONS)


def show_extension(call: Call) -> Any:
    return {"extension": extensions.show(call.params["alias"])}


def pair_changer(*, add: bool) -> Callable[[Call], Any]:
    def handler(call: Call) -> Any:
        row = port_requests.change_pairs(call.tx, call.context, call.params["id"], body_of(call, "port"), add=add)
        return {"port": PORT(call.tx, call.context, [row])[0]}

    return handler


def tag_routes(collection: str) -> dict[str, Route]:
    name = tags.RESOURCES[collection][0]
    path, read, write = f"/v2.0/{collection}/{{id}}/tags", f"get_{name}:tags", f"update_{name}:tags"

    def many(call: Call) -> Any:
        return {"tags": tags.get(call.tx, call.context, collection, call.params["id"])}

    def replace(call: Call) -> Any:
        return {"tags": tags.replace(call.tx, call.context, collection, call.params["id"], call.body)}

    def extend(call: Call) -> Any:
        return {"tags": tags.extend(call.tx, call.context, collection, call.params["id"], call.body)}

    def clear(call: Call) -> None:
        tags.put(call.tx, call.context, collection, call.params["id"], [])

    def one(call: Call) -> None:
        tags.find(call.tx, call.context, collection, call.params["id"], call.params["tag"])

    def add(call: Call) -> None:
        tags.add(call.tx, call.context, collection, call.params["id"], call.params["tag"])

    def remove(call: Call) -> None:
        tags.remove(call.tx, call.context, collection, call.params["id"], call.params["tag"])

    return {
        f"GET {path}": Route(many, read),
        f"PUT {path}": Route(replace, write),
        f"POST {path}": Route(extend, write),
        f"DELETE {path}": Route(clear, write, status=204),
        f"GET {path}/{{tag}}": Route(one, read, status=204),
        f"PUT {path}/{{tag}}": Route(add, write, status=201),
        f"DELETE {path}/{{tag}}": Route(remove, write, status=204),
    }


NETWORK, SUBNET, PORT = views.networks, views.subnets, views.port_bodies
GROUP, RULE = views.security_group_bodies, views.rules
GROUPS_PAGE = with_default_group(lister("security_groups", security_groups.list_page, GROUP))
RULES_PAGE = with_default_group(lister("security_group_rules", security_group_rules.list_page, RULE))

ROUTES: dict[str, Route] = {
    "GET /": Route(versions, "", tx="none"),
    "GET /v2.0": Route(version, "", tx="none"),
    "GET /v2.0/extensions": Route(lambda call: {"extensions": extensions.all_of()}, "get_extension", tx="none"),
    "GET /v2.0/extensions/{alias}": Route(show_extension, "get_extension", tx="none"),
    "GET /v2.0/networks": Route(lister("networks", networks.list_page, NETWORK), "get_network"),
    "POST /v2.0/networks": Route(
        creator("network", "networks", networks.create, NETWORK), "create_network", status=201
    ),
    "GET /v2.0/networks/{id}": Route(shower("network", networks.get, NETWORK), "get_network"),
    "PUT /v2.0/networks/{id}": Route(updater("network", networks.update, NETWORK), "update_network"),
    "DELETE /v2.0/networks/{id}": Route(deleter(networks.delete), "delete_network", status=204),
    "GET /v2.0/subnets": Route(lister("subnets", subnets.list_page, SUBNET), "get_subnet"),
    "POST /v2.0/subnets": Route(creator("subnet", "subnets", subnets.create, SUBNET), "create_subnet", status=201),
    "GET /v2.0/subnets/{id}": Route(shower("subnet", subnets.get, SUBNET), "get_subnet"),
    "PUT /v2.0/subnets/{id}": Route(updater("subnet", subnets.update, SUBNET), "update_subnet"),
    "DELETE /v2.0/subnets/{id}": Route(deleter(subnets.delete), "delete_subnet", status=204),
    "GET /v2.0/ports": Route(lister("ports", port_requests.list_page, PORT), "get_port"),
    "POST /v2.0/ports": Route(creator("port", "ports", port_requests.create, PORT), "create_port", status=201),
    "GET /v2.0/ports/{id}": Route(shower("port", ports.get, PORT), "get_port"),
    "PUT /v2.0/ports/{id}": Route(updater("port", port_requests.update, PORT), "update_port"),
    "PUT /v2.0/ports/{id}/add_allowed_address_pairs": Route(pair_changer(add=True), "update_port"),
    "PUT /v2.0/ports/{id}/remove_allowed_address_pairs": Route(pair_changer(add=False), "update_port"),
    "DELETE /v2.0/ports/{id}": Route(deleter(port_requests.delete), "delete_port", status=204),
    "GET /v2.0/security-groups": Route(GROUPS_PAGE, "get_security_group", tx="none"),
    "POST /v2.0/security-groups": Route(
        creator("security_group", "security_groups", security_groups.create, GROUP),
        "create_security_group",
        status=201,
    ),
    "GET /v2.0/security-groups/{id}": Route(shower("security_group", security_groups.get, GROUP), "get_security_group"),
    "PUT /v2.0/security-groups/{id}": Route(
        updater("security_group", security_groups.update, GROUP), "update_security_group"
    ),
    "DELETE /v2.0/security-groups/{id}": Route(deleter(security_groups.delete), "delete_security_group", status=204),
    "GET /v2.0/security-group-rules": Route(RULES_PAGE, "get_security_group_rule", tx="none"),
    "POST /v2.0/security-group-rules": Route(
        creator("security_group_rule", "security_group_rules", security_group_rules.create, RULE),
        "create_security_group_rule",
        status=201,
    ),
    "GET /v2.0/security-group-rules/{id}": Route(
        shower("security_group_rule", security_group_rules.get, RULE), "get_security_group_rule"
    ),
    "DELETE /v2.0/security-group-rules/{id}": Route(
        deleter(security_group_rules.delete), "delete_security_group_rule", status=204
    ),
    "GET /v2.0/quotas": Route(list_quotas, "update_quota"),
    "GET /v2.0/quotas/tenant": Route(own_project, "get_quota", tx="none"),
    "GET /v2.0/quotas/project": Route(own_project, "get_quota", tx="none"),
    "GET /v2.0/quotas/{id}": Route(show_quota, "get_quota"),
    "GET /v2.0/quotas/{id}/default": Route(show_default_quota, "get_quota"),
    "GET /v2.0/quotas/{id}/details": Route(show_quota_details, "get_quota"),
    "GET /v2.0/quotas/{id}/details.json": Route(show_quota_details, "get_quota"),
    "PUT /v2.0/quotas/{id}": Route(update_quota, "update_quota"),
    "DELETE /v2.0/quotas/{id}": Route(delete_quota, "delete_quota", status=204),
    "GET /v2.0/agents": Route(lister("agents", agents_page, views.agent_bodies), "list_agents"),
    "GET /v2.0/agents/{id}": Route(show_agent, "get_agent", hidden=True),
    "PUT /v2.0/agents/{id}": Route(update_agent, "update_agent", hidden=True),
    "DELETE /v2.0/agents/{id}": Route(delete_agent, "delete_agent", status=204, hidden=True),
    **tag_routes("networks"),
    **tag_routes("subnets"),
    **tag_routes("ports"),
    **tag_routes("security-groups"),
    **tag_routes("subnetpools"),
    **tag_routes("routers"),
    **tag_routes("floatingips"),
    **tag_routes("policies"),
    **tag_routes("trunks"),
    **l3_routes.ROUTES,
    **address_routes.ROUTES,
    **service_routes.ROUTES,
    **segment_routes.ROUTES,
    **view_routes.ROUTES,
}

COLLECTIONS = {
    "extension": "extensions",
    "network": "networks",
    "subnet": "subnets",
    "port": "ports",
    "security_group": "security-groups",
    "security_group_rule": "security-group-rules",
    "quota": "quotas",
    "agent": "agents",
    "router": "routers",
    "floatingip": "floatingips",
    "subnetpool": "subnetpools",
    "address_scope": "address-scopes",
    "address_group": "address-groups",
    "rbac_policy": "rbac-policies",
    "default_security_group_rule": "default-security-group-rules",
    "network_ip_availability": "network-ip-availabilities",
    "auto_allocated_topology": "auto-allocated-topology",
    "trunk": "trunks",
    "segment": "segments",
}

# Who may call; what a row's owner or an admin alone may do with it is checked beside the row.
POLICY = {
    "get_extension": anyone,
    "get_network": anyone,  # but which ones, networks.visible says
    "create_network": project_member,
    "update_network": project_member,
    "delete_network": project_member,
    "get_subnet": project_reader,
    "create_subnet": project_member,
    "update_subnet": project_member,
    "delete_subnet": project_member,
    "get_port": project_reader,
    "create_port": project_member,
    "update_port": project_member,
    "delete_port": project_member,
    "get_security_group": project_reader,
    "create_security_group": project_member,
    "update_security_group": project_member,
    "delete_security_group": project_member,
    "get_security_group_rule": project_reader,
    "create_security_group_rule": project_member,
    "delete_security_group_rule": project_member,
    "get_quota": project_reader,
    "update_quota": admin,
    "delete_quota": admin,
    "list_agents": project_reader,  # empty but for administrators
    "get_agent": admin,
    "update_agent": admin,
    "delete_agent": admin,
    **l3_routes.POLICY,
    **address_routes.POLICY,
    **service_routes.POLICY,
    **segment_routes.POLICY,
    **view_routes.POLICY,
    **{f"get_{name}:tags": project_reader for name, _, _ in tags.RESOURCES.values()},
    **{f"update_{name}:tags": project_member for name, _, _ in tags.RESOURCES.values()},
}

OF_ATTRIBUTES = {
    "network": networks.ATTRIBUTES, "subnet": subnets.ATTRIBUTES, "port": port_requests.ATTRIBUTES,
    "router": routers.ATTRIBUTES, "subnetpool": subnet_pools.ATTRIBUTES, "address_scope": address_scopes.ATTRIBUTES,
}  # fmt: skip
PARTS = dict.fromkeys((
    *(part for resource, attributes in OF_ATTRIBUTES.items() for part in a.parts(resource, attributes)),
    *(f"{verb}_router:external_gateway_info:{key}" for verb in ("create", "update") for key in router_gateways.ADMINS),
    "create_rbac_policy:target_tenant", "update_rbac_policy:target_tenant", "update_port:mac_address",
), admin)  # fmt: skip
PARTS |= {
    "create_floatingip:floating_ip_address": project_manager,
    **{f"create_port:{each}": rule("rule:admin_or_network_owner") for each in port_requests.OF_OWNERS},
    **{f"update_port:{each}": rule("rule:admin_or_network_owner") for each in port_requests.OF_OWNERS[1:]},
}
AT = {route.policy: operation for operation, route in reversed(ROUTES.items())}

SERVICE = Service(
    prefix="network",
    routes=if_match.obeyed(ROUTES),
    policy=POLICY | PARTS,
    fault=faults.neutron,
    parts={part: AT[part.partition(":")[0]] for part in (*PARTS, "get_network")},
)
