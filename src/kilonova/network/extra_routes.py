"""Static routes of a router (Neutron: extraroute_db)."""

import ipaddress
from collections.abc import Sequence
from typing import Any

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest
from kilonova.network import attributes as a
from kilonova.network import quotas
from kilonova.network.router_ports import Leg, legs, subnets
from kilonova.network.rows import Row

Route = dict[str, str]


def destination(value: Any) -> str:
    """A network whose host bits are all zero (Neutron: validate_subnet)."""
    network = a.cidr(value)
    if network.partition("/")[0] != str(ipaddress.ip_address(value.partition("/")[0])):
        raise ValueError(f"'{value}' isn't a recognized IP subnet cidr, '{network}' is recommended")
    return network


ROUTES = a.list_of(a.mapping({"destination": destination, "nexthop": a.ip_address}), unique=True)


def invalid(routes: Sequence[Route], reason: str) -> BadRequest:
    return BadRequest(f"Invalid format for routes: {list(routes)}, {reason}", type="InvalidRoutes")


def check(tx: Tx, router: Row, routes: Sequence[Route]) -> list[Route]:
    """The routes as they are kept: those there are first. BadRequest when a next hop is out of reach, or the router's."""
    check_reachable(tx, legs(tx, [router["id"]])[router["id"]], routes)
    quotas.check(tx, router["project_id"], "router_route", len(routes))
    return added(without(router["routes"], without(router["routes"], routes)), routes)


def check_reachable(tx: Tx, found: Sequence[Leg], routes: Sequence[Route], cidrs: Sequence[str] = ()) -> None:
    """`cidrs`: networks that count as connected beside the legs'."""
    attached = subnets(tx, [subnet_id for leg in found for subnet_id in leg.subnet_ids])
    reach = [ipaddress.ip_network(cidr) for cidr in (*cidrs, *(subnet["cidr"] for subnet in attached))]
    own = {address for leg in found for address in leg.addresses}
    for route in routes:
        nexthop = ipaddress.ip_address(route["nexthop"])
        if not any(nexthop in network for network in reach):
            raise invalid(routes, "the nexthop is not connected with router")
        if route["nexthop"] in own:
            raise invalid(routes, "the nexthop is used by router")
        if ipaddress.ip_network(route["destination"]).version != nexthop.version:
            raise invalid(routes, "the nexthop and the destination are not of one IP version")


def key(route: Route) -> tuple[str, str]:
    return route["destination"], route["nexthop"]


def added(old: Sequence[Route], more: Sequence[Route]) -> list[Route]:
    there = set(map(key, old))
    return [*old, *(route for route in more if key(route) not in there)]


def without(old: Sequence[Route], less: Sequence[Route]) -> list[Route]:
    """What is missing already is no error."""
    gone = set(map(key, less))
    return [route for route in old if key(route) not in gone]
