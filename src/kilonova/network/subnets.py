"""Subnets of networks (Neutron: IpamBackendMixin and _validate_subnet)."""

import ipaddress
import re
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import APIError, BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import attributes as a
from kilonova.network import dhcp, ipam, networks, query, quotas, rows, segments, sharing, subnet_pools, tables
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE = tables.SUBNETS
MODES = a.or_none(a.one_of("dhcpv6-stateful", "dhcpv6-stateless", "slaac"))
MAX_NAMESERVERS, MAX_ROUTES = 5, 20


def service_types(value: Any) -> list[str]:
    """Device owners whose ports get addresses here (neutron_lib: validate_subnet_service_types)."""
    found: list[str] = a.list_of(a.text(255), unique=True)(value)
    if bad := [each for each in found if not re.match(r"(network|compute|baremetal):|(neutron:|trunk:subport)", each)]:
        raise ValueError(f"{bad[0]} is not a valid device owner")
    return found


ATTRIBUTES = {
    "network_id": a.Attribute(a.identifier, default=a.REQUIRED, put=False),
    "ip_version": a.Attribute(lambda value: a.one_of(4, 6)(a.integer()(value)), default=a.REQUIRED, put=False),
    "cidr": a.Attribute(a.or_none(a.cidr), default=None, put=False),
    "name": a.Attribute(a.text(), default=""),
    "description": a.Attribute(a.text(), default=""),
    "gateway_ip": a.Attribute(a.or_none(a.ip_address)),
    "enable_dhcp": a.Attribute(a.boolean, default=True),
    "allocation_pools": a.Attribute(a.list_of(a.mapping({"start": a.ip_address, "end": a.ip_address}))),
    "dns_nameservers": a.Attribute(a.list_of(a.ip_address, unique=True), default=()),
    "host_routes": a.Attribute(
        a.list_of(a.mapping({"destination": a.cidr, "nexthop": a.ip_address}), unique=True), default=()
    ),
    "ipv6_ra_mode": a.Attribute(MODES, default=None, put=False),
    "ipv6_address_mode": a.Attribute(MODES, default=None, put=False),
    "subnetpool_id": a.Attribute(a.or_none(a.text()), default=None, put=False),
    "use_default_subnetpool": a.Attribute(a.boolean, default=False, put=False),
    "prefixlen": a.Attribute(a.or_none(subnet_pools.non_negative), default=None, put=False),
    "segment_id": a.Attribute(a.or_none(a.identifier), default=None, admin=True),
    "service_types": a.Attribute(service_types, default=(), admin=True),
    **{
        name: a.Attribute(a.documents, post=False, put=False)
        for name in ("id", "router:external", "revision_number", "created_at", "updated_at", "tags")
    },
}
LISTING = query.Listing(
    "subnets",
    TABLE,
    query.standard_columns(
        TABLE, "name", "network_id", "ip_version", "cidr", "gateway_ip", "enable_dhcp", "ipv6_ra_mode",
        "ipv6_address_mode", "subnetpool_id", "segment_id",
    ),
)  # fmt: skip


def not_found(subnet_id: str) -> NotFound:
    return NotFound(f"Subnet {subnet_id} could not be found.", type="SubnetNotFound")


def visible(context: Context) -> sa.ColumnElement[bool]:
    """Own ones, and those of all networks that are seen: own, shared, external ones."""
    seen = sa.select(tables.NETWORKS.c.id).where(networks.visible(context))
    return sa.or_(rows.owned(context, TABLE), TABLE.c.network_id.in_(seen))


def get(tx: Tx, context: Context, subnet_id: str) -> Row:
    return rows.find(tx, TABLE, subnet_id, visible(context), not_found)


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    shared = TABLE.c.network_id.in_(sharing.granted(call.context, sharing.NETWORK))
    nets = tables.NETWORKS
    external = TABLE.c.network_id.in_(sa.select(nets.c.id).where(nets.c.external))
    listing = replace(LISTING, columns={**LISTING.columns, "shared": shared, "router:external": external})
    return query.page(call, listing, visible(call.context))


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("subnet", body, ATTRIBUTES, context, create=True)
    prefixlen = values.pop("prefixlen")
    if values["cidr"] is not None and prefixlen is not None:
        raise subnet_pools.bad_subnets("cidr and prefixlen must not be supplied together")
    pool = subnet_pools.chosen(tx, context, values)
    if values["cidr"] is None and pool is None:
        raise subnet_pools.bad_subnets("a subnetpool must be specified in the absence of a cidr")
    network = networks.get(tx, context, values["network_id"])
    if not rows.owns(context, network):
        raise a.disallowed("create_subnet")
    networks.check_carries(network, network["mtu"], values["ip_version"])
    if values["segment_id"]:
        segments.check_subnet(tx, network["id"], values["segment_id"])
    segments.check_all_or_none(tx, network["id"], values["segment_id"])
    quotas.check(tx, values["project_id"], "subnet")
    if pool is not None:
        values |= {"cidr": subnet_pools.allocate(tx, pool, values, prefixlen), "subnetpool_id": pool["id"]}
    check_cidr(values)
    subnet_pools.check_network(tx, network["id"], values["ip_version"], pool)
    check_overlap(tx, network["id"], values["cidr"])
    check_ipv6_modes(values)
    if "gateway_ip" not in values:
        values["gateway_ip"] = default_gateway(values)
    check_addresses(values, values)
    pools = values.get("allocation_pools")
    if pools is None:
        pools = ipam.default_pools(values["cidr"], values["gateway_ip"])
    values["allocation_pools"] = ipam.check_pools(pools, values["cidr"], values["gateway_ip"])
    row = {"id": new_id(), **values, **rows.stamps()}
    row |= {key: list(row[key]) for key in ("dns_nameservers", "host_routes", "service_types")}
    # The network's revision grows, so two subnets made at the same time cannot both miss that they overlap.
    rows.touch(tx, tables.NETWORKS, network["id"])
    with rows.conflict(networks.not_found(network["id"])):
        tx.execute(TABLE.insert().values(**row))
    if ipam.is_auto(row) and ipam.of_first_segment(tx, [row]):
        add_auto_addresses(tx, row)
    dhcp.sync(tx, network["id"])
    return get(tx, context, row["id"])


def check_cidr(values: dict[str, Any]) -> None:
    cidr, version = values["cidr"], values["ip_version"]
    network = ipaddress.ip_network(cidr)
    if network.version != version:
        raise a.invalid_input(f"cidr '{cidr}' does not match the ip_version '{version}'")
    if network.prefixlen == 0:
        raise a.invalid_input("0 is not allowed as CIDR prefix length")
    if not values["enable_dhcp"]:
        return
    if network.is_multicast:
        raise a.invalid_input("Multicast IP subnet is not supported if enable_dhcp is True")
    if network.is_loopback:
        raise a.invalid_input("Loopback IP subnet is not supported if enable_dhcp is True")
    if isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped:
        raise a.invalid_input("IPv4-mapped IP subnet is not supported if enable_dhcp is True: no host has such addresses")
    if network.prefixlen > (30 if version == 4 else 126):
        raise a.invalid_input("Subnet has a prefix length that is incompatible with DHCP service enabled")


def check_overlap(tx: Tx, network_id: str, cidr: str) -> None:
    wanted = ipaddress.ip_network(cidr)
    for subnet in ipam.subnets_of(tx, network_id, every=True):
        other = ipaddress.ip_network(subnet["cidr"])
        if other.version == wanted.version and other.overlaps(wanted):
            raise a.invalid_input(
                f"Requested subnet with cidr: {cidr} for network: {network_id} overlaps with another subnet"
            )


def check_ipv6_modes(values: dict[str, Any]) -> None:
    ra_mode, address_mode = values["ipv6_ra_mode"], values["ipv6_address_mode"]
    if not (ra_mode or address_mode):
        return
    if values["ip_version"] == 4:
        raise a.invalid_input("ipv6_ra_mode or ipv6_address_mode cannot be set when ip_version is 4")
    if not values["enable_dhcp"]:
        raise a.invalid_input("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False")
    if ra_mode and address_mode and ra_mode != address_mode:
        raise a.invalid_input(
            f"ipv6_ra_mode set to '{ra_mode}' with ipv6_address_mode set to '{address_mode}' is not valid. "
            "If both attributes are set, they must be the same value"
        )
    if ipam.is_auto(values) and ipaddress.ip_network(values["cidr"]).prefixlen != 64:
        raise a.invalid_input(
            f"Invalid CIDR {values['cidr']} for IPv6 address mode. OpenStack uses the EUI-64 address format, "
            "which requires the prefix to be /64"
        )


def default_gateway(values: dict[str, Any]) -> str:
    network = ipaddress.ip_network(values["cidr"])
    return str(network[0] if network.num_addresses == 1 else network[1])


def check_addresses(values: dict[str, Any], subnet: Row) -> None:
    """Gateway, name servers and routes of `values`, against the subnet's cidr and version."""
    version, network = subnet["ip_version"], ipaddress.ip_network(subnet["cidr"])
    gateway = values.get("gateway_ip")
    if gateway is not None:
        check_version(version, "gateway_ip", gateway)
        if ipaddress.ip_address(gateway) in network and not ipam.is_usable(gateway, subnet["cidr"]):
            raise a.invalid_input("Gateway is not valid on subnet")
    subnet_id = subnet.get("id", "new subnet")
    if len(values.get("dns_nameservers", ())) > MAX_NAMESERVERS:
        raise BadRequest(
            f"Unable to complete operation for {subnet_id}. The number of DNS nameservers exceeds the limit "
            f"{MAX_NAMESERVERS}.",
            type="DNSNameServersExhausted",
        )
    if len(values.get("host_routes", ())) > MAX_ROUTES:
        raise BadRequest(
            f"Unable to complete operation for {subnet_id}. The number of host routes exceeds the limit {MAX_ROUTES}.",
            type="HostRoutesExhausted",
        )
    for server in values.get("dns_nameservers", ()):
        check_version(version, "dns_nameserver", server)
    for route in values.get("host_routes", ()):
        check_version(version, "destination", route["destination"])
        check_version(version, "nexthop", route["nexthop"])


def check_version(version: int, name: str, address: str) -> None:
    if ipaddress.ip_interface(address).version != version:
        raise a.invalid_input(f"{name} '{address}' does not match the ip_version '{version}'")


def add_auto_addresses(tx: Tx, subnet: Row) -> None:
    """Ports that are there already get their SLAAC address (Neutron: add_auto_addrs_on_network_ports)."""
    ports = tables.PORTS
    for port in tx.all(sa.select(ports).where(ports.c.network_id == subnet["network_id"])):
        if not port["device_owner"].startswith(("network:router", "network:dhcp")):
            ipam.allocate(tx, port, subnet, ipam.eui64(subnet["cidr"], port["mac_address"]))
            rows.touch(tx, ports, port["id"])


def own(tx: Tx, context: Context, subnet_id: str) -> Row:
    """The subnet, if it or its network is the caller's."""
    subnet = get(tx, context, subnet_id)
    if not rows.owns(context, subnet) and not rows.owns(context, networks.get_any(tx, subnet["network_id"])):
        raise a.foreign()
    return subnet


def update(tx: Tx, context: Context, subnet_id: str, body: Any) -> Row:
    subnet = get(tx, context, subnet_id)
    values = a.prepare("subnet", body, ATTRIBUTES, context, create=False)
    own(tx, context, subnet_id)
    check_addresses(values, subnet)
    if "segment_id" in values:
        segments.check_change(tx, subnet, values["segment_id"])
        rows.touch(tx, tables.NETWORKS, subnet["network_id"])  # its segments stay as they were looked at
    gateway = values.get("gateway_ip", subnet["gateway_ip"])
    if gateway != subnet["gateway_ip"] and subnet["gateway_ip"]:
        check_gateway_free(tx, subnet)
    if "allocation_pools" in values:
        values["allocation_pools"] = ipam.check_pools(values["allocation_pools"], subnet["cidr"], gateway)
    elif gateway != subnet["gateway_ip"]:
        ipam.check_gateway_outside(subnet["allocation_pools"], gateway)
    if values.get("enable_dhcp") and not subnet["enable_dhcp"]:
        check_cidr({**subnet, "enable_dhcp": True})
    if values.get("enable_dhcp") is False:
        check_ipv6_modes({**subnet, "enable_dhcp": False})
    rows.touch(tx, TABLE, subnet["id"], **values)
    if "enable_dhcp" in values:
        dhcp.sync(tx, subnet["network_id"])
    return get(tx, context, subnet["id"])


def check_gateway_free(tx: Tx, subnet: Row) -> None:
    held = tables.IP_ALLOCATIONS
    holder = tx.scalar(
        sa.select(held.c.port_id).where(
            held.c.network_id == subnet["network_id"], held.c.ip_address == subnet["gateway_ip"]
        )
    )
    if holder:
        raise Conflict(
            f"Current gateway ip {subnet['gateway_ip']} already in use by port {holder}. Unable to update.",
            type="GatewayIpInUse",
        )


def in_use(subnet_id: str) -> APIError:
    return Conflict(
        f"Unable to complete operation on subnet {subnet_id}: One or more ports have an IP allocation from this "
        "subnet.",
        type="SubnetInUse",
    )


def delete(tx: Tx, context: Context, subnet_id: str) -> None:
    """DHCP's addresses and those made by SLAAC go along; any other is a Conflict."""
    subnet = own(tx, context, subnet_id)
    held, ports = tables.IP_ALLOCATIONS, tables.PORTS
    dhcp_ports = sa.select(ports.c.id).where(
        ports.c.network_id == subnet["network_id"], ports.c.device_owner == "network:dhcp"
    )
    mine = held.c.subnet_id == subnet["id"]
    legs = sa.select(tables.ROUTER_PORTS.c.port_id)
    if tx.scalar(sa.select(held.c.id).where(mine, held.c.port_id.in_(legs)).limit(1)):
        raise in_use(subnet["id"])
    if not ipam.is_auto(subnet) and tx.scalar(
        sa.select(held.c.id).where(mine, held.c.port_id.not_in(dhcp_ports)).limit(1)
    ):
        raise in_use(subnet["id"])
    with rows.conflict(in_use(subnet["id"])):
        if ipam.is_auto(subnet):
            for port_id in tx.execute(sa.select(held.c.port_id).where(mine)).scalars().all():
                rows.touch(tx, ports, port_id)
            tx.execute(held.delete().where(mine))
        else:
            tx.execute(held.delete().where(mine, held.c.port_id.in_(dhcp_ports)))
        tx.execute(TABLE.delete().where(TABLE.c.id == subnet["id"]))
    rows.touch(tx, tables.NETWORKS, subnet["network_id"])
    dhcp.sync(tx, subnet["network_id"])
