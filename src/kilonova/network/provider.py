"""What carries a segment of a network: type, physical network and segmentation id (Neutron: ML2's type drivers)."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, Unavailable
from kilonova.network import attributes as a
from kilonova.network import scheduling, tables
from kilonova.network.rows import Row

TABLE = tables.SEGMENTS
LOCAL, FLAT, VLAN, VXLAN = "local", "flat", "vlan", "vxlan"
PROJECT_TYPE = VXLAN
MAX_VLAN, MAX_VNI = 4094, 2**24 - 1
PHYSICAL_MTU = 1500
OVERHEAD = {VXLAN: 50}  # bytes of outer headers over IPv4

KINDS = {
    "provider:network_type": a.or_none(a.text(32)),
    "provider:physical_network": a.or_none(a.text(64)),
    "provider:segmentation_id": a.or_none(a.integer()),
}
COLUMNS = {name: name.partition(":")[2] for name in KINDS}
ATTRIBUTES = {
    **{name: a.Attribute(convert, default=None, put=False, admin=True) for name, convert in KINDS.items()},
    "segments": a.Attribute(a.list_of(a.mapping({}, KINDS), limit=64), default=(), put=False, admin=True),
}
Asked = tuple[str | None, str | None, int | None]  # network_type, physical_network, segmentation_id


def max_mtu(network_type: str) -> int:
    return PHYSICAL_MTU - OVERHEAD.get(network_type, 0)


def asked(values: dict[str, Any]) -> list[Asked]:
    """What each segment of a new network is to be, one or more; takes the attributes out of `values`."""
    one, several = {name: values.pop(name) for name in KINDS}, values.pop("segments")
    if several and any(value is not None for value in one.values()):
        raise BadRequest(
            "Segments and provider values cannot both be set.", type="SegmentsSetInConjunctionWithProviders"
        )
    kind, physical, number = KINDS
    found = [(each.get(kind), each.get(physical), each.get(number)) for each in several or [one]]
    whole = [each for each in found if each[2] is not None or each[0] == FLAT]
    if len(set(whole)) < len(whole):
        raise BadRequest("Duplicate segment entry in request.", type="SegmentsContainDuplicateEntry")
    return found


def columns(tx: Tx, asked: Asked) -> dict[str, Any]:
    """network_type, physical_network and segmentation_id of a new segment.

    BadRequest for what does not fit the type, Conflict for what another network has, Unavailable when nothing is left.
    """
    kind, physical, number = asked
    if kind is None:
        if physical is not None or number is not None:
            raise a.invalid_input("network_type required")
        kind = PROJECT_TYPE
    if kind not in CHECKS:
        raise a.invalid_input(f"network_type value '{kind}' not supported")
    if kind == VLAN and physical and physical not in scheduling.physical_networks(tx):
        raise a.invalid_input(f"physical_network '{physical}' unknown for VLAN provider network")
    CHECKS[kind](physical, number)
    if kind in (VLAN, VXLAN) and number is None:
        number = free_number(tx, kind, physical)
    row = {"network_type": kind, "physical_network": physical or "", "segmentation_id": number or 0}
    if kind != LOCAL and is_taken(tx, row):
        raise in_use(row)
    return row


def check_local(physical: str | None, number: int | None) -> None:
    for name, value in (("physical_network", physical), ("segmentation_id", number)):
        if value is not None:
            raise a.invalid_input(f"{name} prohibited for local provider network")


def check_flat(physical: str | None, number: int | None) -> None:
    if not physical:
        raise a.invalid_input("physical_network required for flat provider network")
    if number is not None:
        raise a.invalid_input("segmentation_id prohibited for flat provider network")


def check_vlan(physical: str | None, number: int | None) -> None:
    if not physical:
        if number is not None:
            raise a.invalid_input("segmentation_id requires physical_network for VLAN provider network")
        raise no_network()  # no range of VLANs is set aside for projects
    if number is not None and not 1 <= number <= MAX_VLAN:
        raise a.invalid_input(f"segmentation_id out of range (1 through {MAX_VLAN})")


def check_vxlan(physical: str | None, number: int | None) -> None:
    if physical:
        raise a.invalid_input("provider:physical_network specified for vxlan network")
    if number is not None and not 1 <= number <= MAX_VNI:
        raise BadRequest(
            f"Invalid network tunnel range: '{number}' - is not a valid vxlan identifier.",
            type="NetworkTunnelRangeError",
        )


CHECKS = {LOCAL: check_local, FLAT: check_flat, VLAN: check_vlan, VXLAN: check_vxlan}


def is_taken(tx: Tx, row: Row) -> bool:
    same = sa.and_(*(TABLE.c[name] == row[name] for name in COLUMNS.values()))
    return tx.scalar(sa.select(TABLE.c.id).where(same)) is not None


def in_use(row: Row) -> Conflict:
    physical, number = row["physical_network"], row["segmentation_id"]
    reason, kind = {
        FLAT: (f"Physical network {physical} is in use.", "FlatNetworkInUse"),
        VLAN: (f"The VLAN {number} on physical network {physical} is in use.", "VlanIdInUse"),
    }.get(row["network_type"], (f"The tunnel ID {number} is in use.", "TunnelIdInUse"))
    noun = "flat network" if row["network_type"] == FLAT else "network"
    return Conflict(f"Unable to create the {noun}. {reason}", type=kind)


def no_network() -> Unavailable:
    return Unavailable(
        "Unable to create the network. No project network is available for allocation.", type="NoNetworkAvailable"
    )


def free_number(tx: Tx, kind: str, physical: str | None) -> int:
    """A VLAN or VNI that no segment has. VNIs are drawn at random, so that two writers do not draw the same one."""
    if kind == VLAN:
        of_physical = sa.and_(TABLE.c.network_type == kind, TABLE.c.physical_network == physical)
        taken = set(tx.execute(sa.select(TABLE.c.segmentation_id).where(of_physical)).scalars())
        free = [number for number in range(1, MAX_VLAN + 1) if number not in taken]
        if not free:
            raise no_network()
        return secrets.choice(free)
    while True:
        number = 1 + secrets.randbelow(MAX_VNI)
        if not is_taken(tx, {"network_type": kind, "physical_network": "", "segmentation_id": number}):
            return number


def bridge(row: Row, mappings: Mapping[str, str]) -> str | None:
    """The bridge that carries the network on a host with these bridge mappings; None where it cannot be carried.

    A VLAN would need a kernel with 802.1q, and an L2 agent that says so: none does.
    """
    if row["network_type"] == VLAN:
        return None
    return mappings.get(row["physical_network"]) if row["network_type"] == FLAT else f"brq{row['id'][:11]}"


def why_not_carried(row: Row, host: str) -> str:
    """What to say and do where `bridge` has none."""
    if row["network_type"] == VLAN:
        remedy = "give the VLAN a link of its own and its network type flat: kilonova up --physnet NAME=LINK.TAG"
        return f"network {row['id']} is of type vlan, which no host carries: {remedy}"
    physical = row["physical_network"]
    return f"host {host} does not carry the physical network {physical}: kilonova up --physnet {physical}=LINK"


def body(segments: Sequence[Row]) -> dict[str, Any]:
    """As attributes of the network whose segments they are (Neutron: extend_network_with_provider_segments)."""
    bodies = [{name: row[column] or None for name, column in COLUMNS.items()} for row in segments]
    return {"segments": bodies} if len(bodies) > 1 else bodies[0]
