"""A network, subnets and a router to the outside, made for a project that asks (Neutron: AutoAllocatedTopologyMixin)."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import APIError, BadRequest, Conflict, Forbidden
from kilonova.network import networks, router_interfaces, routers, rows, subnet_pools, subnets, tables
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE = tables.AUTO_TOPOLOGIES
DRY_RUN = "dry-run"


def project_of(call: Call) -> str:
    """The path's project; clients that have none in mind say None. Another's is the admin's to ask for."""
    asked, context = call.params["id"], call.context
    project_id = context.project_id if asked == "None" else asked
    if (project_id != context.project_id and not context.is_admin) or "\x00" in project_id or len(project_id) > 255:
        raise Forbidden("Not authorized.", type="NotAuthorized")
    return project_id


def show(call: Call) -> dict[str, Any]:
    """The topology, made now if there is none; with ?fields=dry-run only whether it could be."""
    project_id, fields = project_of(call), call.args("fields")
    if DRY_RUN in fields:
        default_network(call.tx, call.context)
        default_pools(call.tx)
        return body("dry-run=pass", project_id)
    if fields:
        raise BadRequest("Bad auto_allocate request: Unrecognized field.", type="BadRequest")
    return body(ensure(call.tx, call.context, project_id), project_id)


def ensure(tx: Tx, context: Context, project_id: str) -> str:
    """The id of the project's network, made now if there is none. Conflict where it cannot be."""
    found = of_project(tx, project_id)
    return str(found["network_id"]) if found else make(tx, context, project_id)


def body(network_id: str, project_id: str) -> dict[str, Any]:
    return {"auto_allocated_topology": {"id": network_id, "project_id": project_id, "tenant_id": project_id}}


def of_project(tx: Tx, project_id: str) -> Row | None:
    return tx.first(sa.select(TABLE).where(TABLE.c.project_id == project_id))


def failure(why: str) -> Conflict:
    return Conflict(f"Deployment error: {why}.", type="AutoAllocationFailure")


def default_network(tx: Tx, context: Context) -> str:
    found = networks.default_external(tx, networks.visible(context))
    if found is None:
        raise failure("No default router:external network")
    return found


def default_pools(tx: Tx) -> list[Row]:
    found = [pool for version in (4, 6) if (pool := subnet_pools.default_of(tx, version)) is not None]
    if not found:
        raise failure("No default subnetpools defined")
    return found


def make(tx: Tx, context: Context, project_id: str) -> str:
    """All of it, or nothing: the id of the network."""
    outside = default_network(tx, context)
    owner = {"project_id": project_id}
    try:
        network_id = str(networks.create(tx, context, {"name": "auto_allocated_network", **owner})["id"])
        made = [
            subnets.create(
                tx,
                context,
                {
                    "name": f"auto_allocated_subnet_v{pool['ip_version']}", "network_id": network_id,
                    "ip_version": pool["ip_version"], "subnetpool_id": pool["id"], **owner,
                },
            )
            for pool in default_pools(tx)
        ]  # fmt: skip
    except APIError as error:
        if error.type in ("OverQuota", "AutoAllocationFailure"):
            raise
        raise failure("Unable to provide project private network") from error
    gateway = {"network_id": outside}
    router = routers.create(tx, context, {"name": "auto_allocated_router", "external_gateway_info": gateway, **owner})
    for subnet in made:
        router_interfaces.add(tx, context, router["id"], {"subnet_id": subnet["id"]})
    topology = {"project_id": project_id, "network_id": network_id, "router_id": router["id"]}
    # PostgreSQL replays the later of two, which then finds the earlier one's.
    if not rows.insert_ignore(tx, TABLE, topology):
        raise failure("Another topology of the project was made at the same time")
    return network_id


def delete(call: Call) -> None:
    """With its router and network, where they are still there; nothing to do is no error."""
    tx, context, found = call.tx, call.context, of_project(call.tx, project_of(call))
    if found is None:
        return
    router = tx.scalar(sa.select(tables.ROUTERS.c.id).where(tables.ROUTERS.c.id == found["router_id"]))
    if router is not None:
        for subnet_id in attached(tx, router, found["network_id"]):
            router_interfaces.remove(tx, context, router, {"subnet_id": subnet_id})
        routers.delete(tx, context, router)
    tx.execute(TABLE.delete().where(TABLE.c.project_id == found["project_id"]))
    networks.delete(tx, context, found["network_id"])


def attached(tx: Tx, router_id: str, network_id: str) -> list[str]:
    """The network's subnets that the router has a leg in."""
    legs, held = tables.ROUTER_PORTS, tables.IP_ALLOCATIONS
    joined = sa.select(held.c.subnet_id).join(legs, legs.c.port_id == held.c.port_id)
    found = joined.where(legs.c.router_id == router_id, held.c.network_id == network_id).distinct()
    return list(tx.execute(found).scalars())
