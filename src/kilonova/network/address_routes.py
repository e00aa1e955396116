"""The routes of subnet pools, address scopes and groups, RBAC policies, and of what Neutron counts and makes itself."""

from collections.abc import Callable
from typing import Any

from kilonova.network import (
    address_groups,
    address_scopes,
    address_views,
    auto_topology,
    default_rule_requests,
    ip_availability,
    networks,
    query,
    rbac,
    subnet_pools,
)
from kilonova.network.handlers import Create, Delete, Get, Page, Update, View, creator, deleter, lister, shower, updater
from kilonova.web.call import Call, Route
from kilonova.web.policy import admin, project_member, project_reader


def resource(
    name: str,
    collection: str,
    view: View,
    page: Page,
    get: Get,
    create: Create,
    delete: Delete,
    update: Update | None = None,
) -> dict[str, Route]:
    """The five operations of a noun."""
    path = f"/v2.0/{collection.replace('_', '-')}"
    routes = {
        f"GET {path}": Route(lister(collection, page, view), f"get_{name}"),
        f"POST {path}": Route(creator(name, collection, create, view), f"create_{name}", status=201),
        f"GET {path}/{{id}}": Route(shower(name, get, view), f"get_{name}"),
        f"DELETE {path}/{{id}}": Route(deleter(delete), f"delete_{name}", status=204),
    }
    if update:
        routes[f"PUT {path}/{{id}}"] = Route(updater(name, update, view), f"update_{name}")
    return routes


def prefixes(change: Callable[..., list[str]]) -> Callable[[Call], Any]:
    return lambda call: {"prefixes": change(call.tx, call.context, call.params["id"], call.body)}


def addresses(change: Update) -> Callable[[Call], Any]:
    def handler(call: Call) -> Any:
        row = change(call.tx, call.context, call.params["id"], call.body)
        return {"address_group": address_views.address_groups(call.tx, call.context, [row])[0]}

    return handler


def onboard(call: Call) -> Any:
    return subnet_pools.onboard(call.tx, call.context, call.params["id"], call.body)


def show_availability(call: Call) -> Any:
    row = networks.get(call.tx, call.context, call.params["id"])
    body = ip_availability.bodies(call.tx, call.context, [row])[0]
    return {"network_ip_availability": query.fields(call, body)}


P, S, G, R, D = subnet_pools, address_scopes, address_groups, rbac, default_rule_requests
ROUTES: dict[str, Route] = {
    **resource(
        "subnetpool", "subnetpools", address_views.subnet_pools, P.list_page, P.get, P.create, P.delete, P.update
    ),
    **resource(
        "address_scope",
        "address_scopes",
        address_views.address_scopes,
        S.list_page,
        S.get,
        S.create,
        S.delete,
        S.update,
    ),
    **resource(
        "address_group",
        "address_groups",
        address_views.address_groups,
        G.list_page,
        G.get,
        G.create,
        G.delete,
        G.update,
    ),
    **resource(
        "rbac_policy", "rbac_policies", address_views.rbac_policies, R.list_page, R.get, R.create, R.delete, R.update
    ),
    **resource(
        "default_security_group_rule", "default_security_group_rules", D.bodies, D.list_page, D.get, D.create, D.delete
    ),
    "PUT /v2.0/subnetpools/{id}/add_prefixes": Route(prefixes(subnet_pools.add_prefixes), "add_prefixes"),
    "PUT /v2.0/subnetpools/{id}/remove_prefixes": Route(prefixes(subnet_pools.remove_prefixes), "remove_prefixes"),
    "PUT /v2.0/subnetpools/{id}/onboard_network_subnets": Route(onboard, "onboard_network_subnets"),
    "PUT /v2.0/address-groups/{id}/add_addresses": Route(addresses(address_groups.add_addresses), "add_addresses"),
    "PUT /v2.0/address-groups/{id}/remove_addresses": Route(
        addresses(address_groups.remove_addresses), "remove_addresses"
    ),
    "GET /v2.0/network-ip-availabilities": Route(ip_availability.handle_list, "list_network_ip_availabilities"),
    "GET /v2.0/network-ip-availabilities/{id}": Route(
        show_availability, "get_network_ip_availability", hidden=True
    ),
    "GET /v2.0/auto-allocated-topology/{id}": Route(auto_topology.show, "get_auto_allocated_topology", tx="write"),
    "DELETE /v2.0/auto-allocated-topology/{id}": Route(
        auto_topology.delete, "delete_auto_allocated_topology", status=204
    ),
}

MEMBERS = (
    *(
        f"{verb}_{name}"
        for name in ("subnetpool", "address_scope", "address_group", "rbac_policy")
        for verb in ("create", "update", "delete")
    ),
    "add_prefixes", "remove_prefixes", "onboard_network_subnets", "add_addresses", "remove_addresses",
    "delete_auto_allocated_topology",
)  # fmt: skip
READERS = (
    "get_subnetpool", "get_address_scope", "get_address_group", "get_rbac_policy", "get_default_security_group_rule",
    "get_auto_allocated_topology", "list_network_ip_availabilities",  # empty but for administrators
)  # fmt: skip
ADMINS = (
    "create_default_security_group_rule", "delete_default_security_group_rule", "get_network_ip_availability",
)  # fmt: skip
POLICY = {
    **dict.fromkeys(MEMBERS, project_member),
    **dict.fromkeys(READERS, project_reader),
    **dict.fromkeys(ADMINS, admin),
}
