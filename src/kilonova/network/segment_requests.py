"""What the API does with segments, for administrators (Neutron: SegmentDbMixin, Ml2Plugin._handle_segment_change)."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict
from kilonova.network import attributes as a
from kilonova.network import dhcp, networks, provider, query, rows, segments, tables
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE = tables.SEGMENTS
CARRIER = ("network_type", "physical_network", "segmentation_id")

ATTRIBUTES = {
    "network_id": a.Attribute(a.identifier, default=a.REQUIRED, put=False),
    "network_type": a.Attribute(a.text(32), default=a.REQUIRED, put=False),
    "physical_network": a.Attribute(a.text(64), default=None, put=False),
    "segmentation_id": a.Attribute(a.integer(), default=None, put=False),
    "name": a.Attribute(a.or_none(a.text()), default=None),
    "description": a.Attribute(a.text(), default=""),
    **{
        name: a.Attribute(a.documents, post=False, put=False)
        for name in ("id", "revision_number", "created_at", "updated_at")
    },
}
LISTING = query.Listing(
    "segments",
    TABLE,
    {
        name: TABLE.c[name]
        for name in ("id", "network_id", "name", "description", *CARRIER, "revision_number", "created_at", "updated_at")
    },
)


def get(tx: Tx, context: Context, segment_id: str) -> Row:
    return segments.get(tx, segment_id)


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return query.page(call, LISTING, sa.true() if call.context.is_admin else sa.false())


def create(tx: Tx, context: Context, body: Any) -> Row:
    """BadRequest when the network's MTU is more than the segment can carry."""
    values = a.prepare("segment", body, ATTRIBUTES, context, create=True)
    network = networks.get_any(tx, values["network_id"])
    kind, physical, number = (values[name] for name in CARRIER)
    rows.touch(tx, tables.NETWORKS, network["id"])  # of two made at once, one starts again
    carrier = provider.columns(tx, (kind, physical, number))
    networks.checked_mtu([kind], network["mtu"])
    named = {name: values[name] for name in ("name", "description")}
    return segments.get(tx, segments.insert(tx, network["id"], carrier, **named))


def update(tx: Tx, context: Context, segment_id: str, body: Any) -> Row:
    segment = segments.get(tx, segment_id)
    values = a.prepare("segment", body, ATTRIBUTES, context, create=False)
    rows.touch(tx, TABLE, segment["id"], **values)
    return segments.get(tx, segment_id)


def in_use(segment: Row, reason: str) -> Conflict:
    return Conflict(f"Segment '{segment['id']}' cannot be deleted: {reason}.", type="SegmentInUse")


def delete(tx: Tx, context: Context, segment_id: str) -> None:
    """Conflict while it has subnets or carries ports; a network keeps one, unlike Neutron's. The next one carries it."""
    segment = segments.get(tx, segment_id)
    network_id, subnets = segment["network_id"], tables.SUBNETS
    of_it = sa.select(subnets.c.id).where(subnets.c.segment_id == segment["id"]).order_by(subnets.c.id)
    if ids := tx.execute(of_it).scalars().all():
        raise in_use(segment, f"The segment is still associated with subnet(s) {', '.join(ids)}")
    first, *others = segments.of_network(tx, network_id)
    carries = first["id"] == segment["id"]
    if carries:
        check_carries_none(tx, segment)
    if not others:
        raise in_use(segment, f"It is the only one of network {network_id}")
    rows.touch(tx, tables.NETWORKS, network_id)  # a subnet made at the same time makes one of the two start again
    tx.execute(TABLE.delete().where(TABLE.c.id == segment["id"]))
    if carries:
        next_one = {name: others[0][name] for name in CARRIER}
        tx.execute(tables.NETWORKS.update().where(tables.NETWORKS.c.id == network_id).values(**next_one))
        dhcp.remove(tx, network_id)
        dhcp.sync(tx, network_id)


def check_carries_none(tx: Tx, segment: Row) -> None:
    ports = tables.PORTS
    bound = sa.select(sa.func.count()).where(
        ports.c.network_id == segment["network_id"], ports.c.host != "", ports.c.device_owner != dhcp.OWNER
    )
    if number := tx.scalar(bound):
        raise in_use(segment, f"The segment is still bound with {number} port(s)")
