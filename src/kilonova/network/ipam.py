"""The address plan: allocation pools, fixed IPs, and who holds what.

A unique constraint on (network, address) is what keeps two ports from one address; what runs at the same time
collides there, and PostgreSQL then replays the later transaction whole.
"""

import functools
import ipaddress
import itertools
import secrets
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict
from kilonova.network import tables
from kilonova.network.attributes import invalid_input
from kilonova.network.rows import Row, insert_ignore

AUTO_MODES = ("slaac", "dhcpv6-stateless")
WINDOW = 16  # PostgreSQL's writers run side by side: each takes one of the first free addresses, not all the same one


def is_auto(subnet: Row) -> bool:
    """Whether guests make their own addresses in it (Neutron: is_auto_address_subnet)."""
    return subnet["ipv6_address_mode"] in AUTO_MODES or subnet["ipv6_ra_mode"] in AUTO_MODES


def eui64(cidr: str, mac: str) -> str:
    """The address a guest gives itself by SLAAC."""
    digits = bytearray.fromhex(mac.replace(":", ""))
    digits[0] ^= 2
    interface = int.from_bytes(bytes(digits[:3]) + b"\xff\xfe" + bytes(digits[3:]), "big")
    return str(ipaddress.ip_network(cidr)[interface])


def is_usable(address: str, cidr: str) -> bool:
    """In the subnet, and neither its network nor its broadcast address (Neutron: check_subnet_ip)."""
    network, ip = ipaddress.ip_network(cidr), ipaddress.ip_address(address)
    if ip.version != network.version or ip not in network:
        return False
    if network.num_addresses <= 2:
        return True
    return ip != network.network_address and (ip.version == 6 or ip != network.broadcast_address)


def subnets_of(tx: Tx, network_id: str, *, every: bool = False) -> Sequence[Row]:
    """The network's subnets that hosts reach; or `every` one, those of its other segments too."""
    table = tables.SUBNETS
    found = tx.all(sa.select(table).where(table.c.network_id == network_id).order_by(table.c.created_at, table.c.id))
    return found if every else of_first_segment(tx, found)


def fixed_ips(tx: Tx, port_ids: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """port id → its fixed IPs, in the order they were given."""
    table, ids = tables.IP_ALLOCATIONS, list(port_ids)
    found: dict[str, list[dict[str, str]]] = {port_id: [] for port_id in ids}
    for row in tx.all(sa.select(table).where(table.c.port_id.in_(ids)).order_by(table.c.id)):
        found[row["port_id"]].append({"subnet_id": row["subnet_id"], "ip_address": row["ip_address"]})
    return found


def _free(subnet: Row, taken: set[int]) -> Iterator[str]:
    kind = ipaddress.IPv4Address if subnet["ip_version"] == 4 else ipaddress.IPv6Address
    for pool in subnet["allocation_pools"]:
        number, last = int(kind(pool["start"])), int(kind(pool["end"]))
        while number <= last:
            if number not in taken:
                yield str(kind(number))
            number += 1


@functools.lru_cache(maxsize=1 << 16)
def _number(address: str) -> int:
    return int(ipaddress.ip_address(address))


class Free:
    """A subnet's free addresses as one transaction sees them: read once, however many it takes."""

    def __init__(self, tx: Tx, subnet: Row) -> None:
        table = tables.IP_ALLOCATIONS
        used = tx.execute(sa.select(table.c.ip_address).where(table.c.subnet_id == subnet["id"])).scalars()
        self.taken = {_number(address) for address in used}
        self._ahead = _free(subnet, self.taken)
        self._window: list[str] = []
        self._size = WINDOW if tx.is_postgresql else 1

    def take(self) -> str | None:
        """One of the pools' first; None when there is none."""
        self._window = [address for address in self._window if _number(address) not in self.taken]
        self._window += itertools.islice(self._ahead, self._size - len(self._window))
        return secrets.choice(self._window) if self._window else None


# Of transactions under way, by subnet's id.
_FREE: weakref.WeakKeyDictionary[Tx, dict[str, Free]] = weakref.WeakKeyDictionary()


def free_address(tx: Tx, subnet: Row) -> str | None:
    """One of the pools' first free addresses; None when there is none."""
    known = _FREE.setdefault(tx, {})
    found = known[subnet["id"]].take() if subnet["id"] in known else None
    if found is None:  # perhaps this very transaction has given some back
        known[subnet["id"]] = Free(tx, subnet)
        found = known[subnet["id"]].take()
    return found


def allocate(tx: Tx, port: Row, subnet: Row, address: str) -> None:
    """Conflict IpAddressAlreadyAllocated when another port holds it."""
    row = {
        "port_id": port["id"], "network_id": port["network_id"], "subnet_id": subnet["id"], "ip_address": address,
    }  # fmt: skip
    if not insert_ignore(tx, tables.IP_ALLOCATIONS, row):
        raise Conflict(
            f"IP address {address} already allocated in subnet {subnet['id']}", type="IpAddressAlreadyAllocated"
        )
    if known := _FREE.get(tx, {}).get(subnet["id"]):
        known.taken.add(_number(address))


def exhausted(network_id: str) -> Conflict:
    return Conflict(f"No more IP addresses available on network {network_id}.", type="IpAddressGenerationFailure")


def allocate_from(tx: Tx, port: Row, subnets: Sequence[Row]) -> None:
    """An address of the first of these subnets that has one (Neutron: one a family)."""
    for subnet in subnets:
        address = free_address(tx, subnet)
        if address is not None:
            return allocate(tx, port, subnet, address)
    raise exhausted(port["network_id"])


def allocate_for_port(tx: Tx, port: Row, requested: Sequence[dict[str, str]] | None) -> None:
    """Neutron: allocate_ips_for_port_and_store. `requested` None: one IPv4 and one IPv6 address, as subnets allow.

    Addresses that guests make themselves (SLAAC) come on top of both.
    """
    subnets = of_service(subnets_of(tx, port["network_id"]), port["device_owner"], requested)
    held: set[str] = set()
    if requested is None:
        for version in (4, 6):
            family = [s for s in subnets if s["ip_version"] == version and not is_auto(s)]
            if family:
                allocate_from(tx, port, family)
    else:
        for entry in requested:
            held.add(allocate_requested(tx, port, subnets, entry))
    if not port["device_owner"].startswith("network:router"):
        for subnet in subnets:
            if is_auto(subnet) and subnet["id"] not in held:
                allocate(tx, port, subnet, eui64(subnet["cidr"], port["mac_address"]))


def of_first_segment(tx: Tx, subnets: Sequence[Row]) -> Sequence[Row]:
    """Without those of a network's other segments, by which no host carries it."""
    if not any(subnet["segment_id"] for subnet in subnets):
        return subnets
    table = tables.SEGMENTS
    first = sa.select(table.c.id).where(table.c.network_id == subnets[0]["network_id"])
    reached = tx.scalar(first.order_by(table.c.segment_index).limit(1))
    return [subnet for subnet in subnets if subnet["segment_id"] in (None, reached)]


def of_service(subnets: Sequence[Row], device_owner: str, requested: Sequence[dict[str, str]] | None) -> Sequence[Row]:
    """Without those that are for other kinds of ports, unless asked for by name; those of the port's own kind first
    (Neutron: Subnet.find_candidate_subnets)."""
    named = {entry.get("subnet_id") for entry in requested or ()}
    fitting = [s for s in subnets if device_owner in s["service_types"]]
    free = [s for s in subnets if not s["service_types"]]
    return [*fitting, *free, *(s for s in subnets if s["id"] in named and s not in fitting and s not in free)]


def allocate_requested(tx: Tx, port: Row, subnets: Sequence[Row], entry: dict[str, str]) -> str:
    """One entry of `fixed_ips`; returns its subnet's id."""
    subnet = subnet_for(port["network_id"], subnets, entry)
    address = entry.get("ip_address")
    automatic = is_auto(subnet) and not port["device_owner"].startswith("network:router")
    if address and automatic and address != eui64(subnet["cidr"], port["mac_address"]):
        raise BadRequest(
            f"IPv6 address {address} can not be directly assigned to a port on subnet {subnet['id']} since the "
            "subnet is configured for automatic addresses",
            type="AllocationOnAutoAddressSubnet",
        )
    if automatic:
        address = eui64(subnet["cidr"], port["mac_address"])
    if address:
        allocate(tx, port, subnet, address)
    else:
        allocate_from(tx, port, [subnet])
    return str(subnet["id"])


def subnet_for(network_id: str, subnets: Sequence[Row], entry: dict[str, str]) -> Row:
    """The subnet that an entry of `fixed_ips` means (Neutron: _get_subnet_for_fixed_ip)."""
    address, subnet_id = entry.get("ip_address"), entry.get("subnet_id")
    if not address and not subnet_id:
        raise invalid_input("IP allocation requires subnet_id or ip_address")
    if subnet_id:
        chosen = next((subnet for subnet in subnets if subnet["id"] == subnet_id), None)
        if chosen is None:
            raise invalid_input(
                f"Failed to create port on network {network_id}, because fixed_ips included invalid subnet {subnet_id}"
            )
        if address and not is_usable(address, chosen["cidr"]):
            raise BadRequest(
                f"IP address {address} is not a valid IP for the specified subnet.", type="InvalidIpForSubnet"
            )
        return chosen
    chosen = next((subnet for subnet in subnets if is_usable(str(address), subnet["cidr"])), None)
    if chosen is None:
        raise BadRequest(
            f"IP address {address} is not a valid IP for any of the subnets on the specified network.",
            type="InvalidIpForNetwork",
        )
    return chosen


def release(tx: Tx, port_id: str, keep: Iterable[str] = ()) -> None:
    table = tables.IP_ALLOCATIONS
    tx.execute(table.delete().where(table.c.port_id == port_id, table.c.ip_address.not_in(list(keep))))


def change(tx: Tx, port: Row, requested: Sequence[dict[str, str]]) -> None:
    """Make the port's addresses those requested, keeping what it already has of them."""
    subnets = subnets_of(tx, port["network_id"])
    held = fixed_ips(tx, [port["id"]])[port["id"]]
    keep: list[str] = []
    fresh: list[dict[str, str]] = []
    for entry in requested:
        subnet = subnet_for(port["network_id"], subnets, entry)
        wanted = entry.get("ip_address")
        match = next(
            (
                ip["ip_address"] for ip in held
                if ip["subnet_id"] == subnet["id"] and ip["ip_address"] not in keep
                and (ip["ip_address"] == wanted or not wanted)
            ),
            None,
        )  # fmt: skip
        if match:
            keep.append(match)
        else:
            fresh.append(entry)
    of_router = port["device_owner"].startswith("network:router")
    automatic = {subnet["id"] for subnet in subnets if is_auto(subnet) and not of_router}
    keep += [ip["ip_address"] for ip in held if ip["subnet_id"] in automatic]
    release(tx, port["id"], keep)
    for entry in fresh:
        allocate_requested(tx, port, subnets, entry)


def default_pools(cidr: str, gateway_ip: str | None) -> list[dict[str, str]]:
    """All of the subnet but its network, broadcast and gateway addresses (Neutron: generate_pools)."""
    network = ipaddress.ip_network(cidr)
    first, last = int(network.network_address), int(network.broadcast_address)
    if network.version == 4 and network.prefixlen < 31:
        first, last = first + 1, last - 1
    elif network.version == 6 and network.prefixlen < 127:
        first += 1
    kind: Any = ipaddress.IPv4Address if network.version == 4 else ipaddress.IPv6Address
    gateway = int(kind(gateway_ip)) if gateway_ip and ipaddress.ip_address(gateway_ip) in network else None
    spans = [(first, last)]
    if gateway is not None and first <= gateway <= last:
        spans = [(first, gateway - 1), (gateway + 1, last)]
    return [{"start": str(kind(low)), "end": str(kind(high))} for low, high in spans if low <= high]


def check_pools(pools: Sequence[dict[str, str]], cidr: str, gateway_ip: str | None) -> list[dict[str, str]]:
    """The pools in order. Neutron: validate_allocation_pools, and that the gateway lies outside them."""
    network, spans = ipaddress.ip_network(cidr), []
    for pool in pools:
        start, end = ipaddress.ip_address(pool["start"]), ipaddress.ip_address(pool["end"])
        name = f"{start}-{end}"
        if start.version != network.version or end.version != network.version or int(end) < int(start):
            raise BadRequest(f"The allocation pool {name} is not valid.", type="InvalidAllocationPool")
        if not (is_usable(str(start), cidr) and is_usable(str(end), cidr)):
            raise BadRequest(
                f"The allocation pool {name} spans beyond the subnet cidr {cidr}.", type="OutOfBoundsAllocationPool"
            )
        spans.append((int(start), int(end), name, {"start": str(start), "end": str(end)}))
    spans.sort(key=lambda span: span[:2])
    for (_, end_before, before, _), (start_after, _, after, _) in itertools.pairwise(spans):
        if start_after <= end_before:
            raise Conflict(
                f"Found overlapping allocation pools: {before} {after} for subnet {cidr}.",
                type="OverlappingAllocationPools",
            )
    check_gateway_outside([span[3] for span in spans], gateway_ip)
    return [span[3] for span in spans]


def check_gateway_outside(pools: Sequence[dict[str, str]], gateway_ip: str | None) -> None:
    if gateway_ip is None:
        return
    gateway = ipaddress.ip_address(gateway_ip)
    for pool in pools:
        start, end = ipaddress.ip_address(pool["start"]), ipaddress.ip_address(pool["end"])
        if start.version == gateway.version and int(start) <= int(gateway) <= int(end):
            raise Conflict(
                f"Gateway ip {gateway_ip} conflicts with allocation pool {start}-{end}.",
                type="GatewayConflictWithAllocationPools",
            )
