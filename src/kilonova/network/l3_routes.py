"""The routes of routers, floating IPs, and the agents that carry them."""

from collections.abc import Callable
from typing import Any

from kilonova.network import (
    agent_schedulers,
    floating_ips,
    l3_views,
    port_forwardings,
    query,
    router_interfaces,
    routers,
    views,
)
from kilonova.network import attributes as a
from kilonova.network.handlers import body_of, creator, deleter, lister, shower, updater
from kilonova.web.call import Call, Reply, Route
from kilonova.web.policy import admin, project_member, project_reader

NULL = Reply(b"null", headers={"Content-Type": "application/json"})


def add_interface(call: Call) -> Any:
    return router_interfaces.add(call.tx, call.context, call.params["id"], call.body).body()


def remove_interface(call: Call) -> Any:
    return router_interfaces.remove(call.tx, call.context, call.params["id"], call.body).body()


def route_changer(*, add: bool) -> Callable[[Call], Any]:
    def handler(call: Call) -> Any:
        body = body_of(call, "router")
        row = routers.change_routes(call.tx, call.context, call.params["id"], body, add=add)
        return {"router": l3_views.routers(call.tx, call.context, [row])[0]}

    return handler


def list_forwardings(call: Call) -> Any:
    rows, links = port_forwardings.list_page(call)
    return {"port_forwardings": [query.fields(call, l3_views.forwarding(row)) for row in rows], **links}


def create_forwarding(call: Call) -> Any:
    floating_id, many = call.params["floating_id"], "port_forwardings"
    if isinstance(call.body, dict) and many in call.body:
        if not isinstance(call.body[many], list) or not call.body[many]:
            raise a.bad_request("Resources required")
        made = [port_forwardings.create(call.tx, call.context, floating_id, each) for each in call.body[many]]
        return {many: [l3_views.forwarding(row) for row in made]}
    row = port_forwardings.create(call.tx, call.context, floating_id, body_of(call, "port_forwarding"))
    return {"port_forwarding": l3_views.forwarding(row)}


def show_forwarding(call: Call) -> Any:
    row = port_forwardings.get(call.tx, call.context, call.params["floating_id"], call.params["id"])
    return {"port_forwarding": query.fields(call, l3_views.forwarding(row))}


def update_forwarding(call: Call) -> Any:
    body = body_of(call, "port_forwarding")
    row = port_forwardings.update(call.tx, call.context, call.params["floating_id"], call.params["id"], body)
    return {"port_forwarding": l3_views.forwarding(row)}


def delete_forwarding(call: Call) -> None:
    port_forwardings.delete(call.tx, call.context, call.params["floating_id"], call.params["id"])


def routers_of_agent(call: Call) -> Any:
    found = agent_schedulers.routers_of(call.tx, call.params["agent_id"])
    return {"routers": l3_views.routers(call.tx, call.context, found)}


def agents_of_router(call: Call) -> Any:
    found = agent_schedulers.agents_of_router(call.tx, call.params["id"])
    return {"agents": [views.agent(row) for row in found]}


def add_router(call: Call) -> Reply:
    agent_schedulers.add_router(call.tx, call.params["agent_id"], call.body)
    return NULL


def remove_router(call: Call) -> None:
    agent_schedulers.remove_router(call.tx, call.params["agent_id"], call.params["id"])


def networks_of_agent(call: Call) -> Any:
    found = agent_schedulers.networks_of(call.tx, call.params["agent_id"])
    return {"networks": views.networks(call.tx, call.context, found)}


def agents_of_network(call: Call) -> Any:
    found = agent_schedulers.agents_of_network(call.tx, call.params["id"])
    return {"agents": [views.agent(row) for row in found]}


def add_network(call: Call) -> Reply:
    agent_schedulers.add_network(call.tx, call.params["agent_id"], call.body)
    return NULL


def remove_network(call: Call) -> None:
    agent_schedulers.remove_network(call.tx, call.params["agent_id"], call.params["id"])


def update_floating_ip(call: Call) -> Any:
    """One that leads elsewhere now is answered once its router knows: who goes there next must not meet whom it led to.

    Neutron answers at once, and its agents follow a second later.
    """
    floating_id = call.params["id"]
    led = floating_ips.is_carried(call.tx, floating_id)
    answer = updater("floatingip", floating_ips.update, FLOATING)(call)
    if led and answer["floatingip"]["port_id"] and not floating_ips.is_carried(call.tx, floating_id):
        call.tx.after_commit(lambda: floating_ips.await_carried(call.database, floating_id))
    return answer


def list_pools(call: Call) -> Any:
    found = l3_views.pools(call.tx, call.context)
    wanted = [(key, value) for key, value in call.query if key in ("subnet_id", "subnet_name", "network_id", "cidr")]
    bodies = [body for body in found if all(body[key] == value for key, value in wanted)]
    return {"floatingip_pools": [query.fields(call, body) for body in bodies]}


def list_zones(call: Call) -> Any:
    wanted = [(key, call.args(key)) for key in ("name", "resource", "state") if call.args(key)]
    found = [zone for zone in l3_views.zones() if all(zone[key] in values for key, values in wanted)]
    return {"availability_zones": [query.fields(call, zone) for zone in found]}


ROUTER, FLOATING = l3_views.routers, l3_views.floating_ips
FORWARDINGS = "/v2.0/floatingips/{floating_id}/port_forwardings"

ROUTES: dict[str, Route] = {
    "GET /v2.0/routers": Route(lister("routers", routers.list_page, ROUTER), "get_router"),
    "POST /v2.0/routers": Route(creator("router", "routers", routers.create, ROUTER), "create_router", status=201),
    "GET /v2.0/routers/{id}": Route(shower("router", routers.get, ROUTER), "get_router"),
    "PUT /v2.0/routers/{id}": Route(updater("router", routers.update, ROUTER), "update_router"),
    "DELETE /v2.0/routers/{id}": Route(deleter(routers.delete), "delete_router", status=204),
    "PUT /v2.0/routers/{id}/add_router_interface": Route(add_interface, "add_router_interface"),
    "PUT /v2.0/routers/{id}/remove_router_interface": Route(remove_interface, "remove_router_interface"),
    "PUT /v2.0/routers/{id}/add_extraroutes": Route(route_changer(add=True), "add_extraroutes"),
    "PUT /v2.0/routers/{id}/remove_extraroutes": Route(route_changer(add=False), "remove_extraroutes"),
    "GET /v2.0/routers/{id}/l3-agents": Route(agents_of_router, "get_l3-agents"),
    "GET /v2.0/agents/{agent_id}/l3-routers": Route(routers_of_agent, "get_l3-routers"),
    "POST /v2.0/agents/{agent_id}/l3-routers": Route(add_router, "create_l3-router", status=201),
    "DELETE /v2.0/agents/{agent_id}/l3-routers/{id}": Route(remove_router, "delete_l3-router", status=204),
    "GET /v2.0/networks/{id}/dhcp-agents": Route(agents_of_network, "get_dhcp-agents"),
    "GET /v2.0/agents/{agent_id}/dhcp-networks": Route(networks_of_agent, "get_dhcp-networks"),
    "POST /v2.0/agents/{agent_id}/dhcp-networks": Route(add_network, "create_dhcp-network", status=201),
    "DELETE /v2.0/agents/{agent_id}/dhcp-networks/{id}": Route(remove_network, "delete_dhcp-network", status=204),
    "GET /v2.0/floatingips": Route(lister("floatingips", floating_ips.list_page, FLOATING), "get_floatingip"),
    "POST /v2.0/floatingips": Route(
        creator("floatingip", "floatingips", floating_ips.create, FLOATING), "create_floatingip", status=201
    ),
    "GET /v2.0/floatingips/{id}": Route(shower("floatingip", floating_ips.get, FLOATING), "get_floatingip"),
    "PUT /v2.0/floatingips/{id}": Route(update_floating_ip, "update_floatingip"),
    "DELETE /v2.0/floatingips/{id}": Route(deleter(floating_ips.delete), "delete_floatingip", status=204),
    "GET /v2.0/floatingip-pools": Route(list_pools, "get_floatingip_pool"),
    f"GET {FORWARDINGS}": Route(list_forwardings, "get_floatingip_port_forwarding"),
    f"POST {FORWARDINGS}": Route(create_forwarding, "create_floatingip_port_forwarding", status=201),
    f"GET {FORWARDINGS}/{{id}}": Route(show_forwarding, "get_floatingip_port_forwarding"),
    f"PUT {FORWARDINGS}/{{id}}": Route(update_forwarding, "update_floatingip_port_forwarding"),
    f"DELETE {FORWARDINGS}/{{id}}": Route(delete_forwarding, "delete_floatingip_port_forwarding", status=204),
    "GET /v2.0/availability_zones": Route(list_zones, "get_availability_zone", tx="none"),
}

MEMBERS = (
    "create_router", "update_router", "delete_router", "add_router_interface", "remove_router_interface",
    "add_extraroutes", "remove_extraroutes", "create_floatingip", "update_floatingip", "delete_floatingip",
    "create_floatingip_port_forwarding", "update_floatingip_port_forwarding", "delete_floatingip_port_forwarding",
)  # fmt: skip
READERS = (
    "get_router", "get_floatingip", "get_floatingip_pool", "get_floatingip_port_forwarding", "get_availability_zone",
)  # fmt: skip
ADMINS = (
    "get_l3-agents", "get_l3-routers", "create_l3-router", "delete_l3-router", "get_dhcp-agents", "get_dhcp-networks",
    "create_dhcp-network", "delete_dhcp-network",
)  # fmt: skip
POLICY = {
    **dict.fromkeys(MEMBERS, project_member),
    **dict.fromkeys(READERS, project_reader),
    **dict.fromkeys(ADMINS, admin),
}
