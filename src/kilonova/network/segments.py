"""Segments: the layer-2 pieces that a network is carried by (Neutron: services.segments, and ML2's TypeManager).

A host carries a network by its first segment alone: that one's type and number are the network's own columns.
"""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, NotFound
from kilonova.model.ids import new_id
from kilonova.network import provider, rows, tables
from kilonova.network.rows import Row

TABLE = tables.SEGMENTS


def not_found(segment_id: str) -> NotFound:
    return NotFound(f"Segment {segment_id} could not be found.", type="SegmentNotFound")


def get(tx: Tx, segment_id: str) -> Row:
    return rows.find(tx, TABLE, segment_id, sa.true(), not_found)


def of_networks(tx: Tx, network_ids: Collection[str]) -> dict[str, list[Row]]:
    """network id → its segments in their order."""
    found: dict[str, list[Row]] = {network_id: [] for network_id in network_ids}
    wanted = sa.select(TABLE).where(TABLE.c.network_id.in_(list(found))).order_by(TABLE.c.segment_index)
    for row in tx.all(wanted) if found else ():
        found[row["network_id"]].append(row)
    return found


def of_network(tx: Tx, network_id: str) -> list[Row]:
    return of_networks(tx, [network_id])[network_id]


def insert(tx: Tx, network_id: str, carrier: dict[str, Any], **values: Any) -> str:
    """The network's last segment; its id. `carrier`: of `provider.columns`. Conflict when it is another's."""
    last = tx.scalar(sa.select(sa.func.max(TABLE.c.segment_index)).where(TABLE.c.network_id == network_id))
    index = 0 if last is None else last + 1
    row = {"id": new_id(), "network_id": network_id, "segment_index": index, **carrier, **values, **rows.stamps()}
    with rows.conflict(provider.in_use(row)):
        tx.execute(TABLE.insert().values(**row))
    return str(row["id"])


# Of subnets (Neutron: _validate_segment)


def of_subnets(tx: Tx, network_id: str) -> list[str | None]:
    """The segment of each of the network's subnets."""
    subnets = tables.SUBNETS
    return list(tx.execute(sa.select(subnets.c.segment_id).where(subnets.c.network_id == network_id)).scalars())


def check_subnet(tx: Tx, network_id: str, segment_id: str) -> None:
    """NotFound when there is no such segment, BadRequest when it is another network's."""
    if get(tx, segment_id)["network_id"] != network_id:
        raise BadRequest(
            f"The subnet's network id, '{network_id}', doesn't match the network_id of segment '{segment_id}'",
            type="NetworkIdsDontMatch",
        )


def mixed(network_id: str) -> BadRequest:
    return BadRequest(
        f"All of the subnets on network '{network_id}' must either all be associated with segments or all not "
        "associated with any segment.",
        type="SubnetsNotAllAssociatedWithSegments",
    )


def check_all_or_none(tx: Tx, network_id: str, segment_id: str | None) -> None:
    """BadRequest when the network's other subnets are of segments and a new one is not, or the reverse."""
    if any((other is None) != (segment_id is None) for other in of_subnets(tx, network_id)):
        raise mixed(network_id)


def check_change(tx: Tx, subnet: Row, segment_id: str | None) -> None:
    """Only the one subnet of a network with one segment may become that segment's, and it stays so."""
    network_id = subnet["network_id"]
    if segment_id == subnet["segment_id"]:
        return
    if len(of_subnets(tx, network_id)) > 1:
        raise mixed(network_id)
    if subnet["segment_id"] is not None:
        raise BadRequest(
            "A subnet that is already associated with a segment cannot have its segment association changed.",
            type="SubnetSegmentAssociationChangeNotAllowed",
        )
    if len(of_network(tx, network_id)) > 1:
        raise BadRequest(
            f"The network '{network_id}' has multiple segments, it is only possible to associate an existing subnet "
            "with a segment on networks with a single segment.",
            type="NoUpdateSubnetWhenMultipleSegmentsOnNetwork",
        )
    if segment_id:
        check_subnet(tx, network_id, segment_id)
