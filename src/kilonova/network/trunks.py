"""Trunks: a port whose guest reaches other ports' networks by VLAN tags (Neutron: TrunkPlugin).

They are kept, and checked, and carry no packets: a tag that a guest sends is dropped. So a trunk's status stays DOWN, and a
sub-port's, which nothing plugs, too.
"""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import APIError, Conflict, NotFound
from kilonova.model.ids import iso, new_id
from kilonova.network import attributes as a
from kilonova.network import networks, ports, query, quotas, rows, tables
from kilonova.network.rows import Row
from kilonova.network.service_tables import SUB_PORTS
from kilonova.network.service_tables import TRUNKS as TABLE
from kilonova.web.call import Call, Context

VLANS = a.integer(1, 4094)
SUB_PORT = a.mapping(
    {"port_id": a.identifier}, {"segmentation_type": a.one_of("vlan", "inherit"), "segmentation_id": a.or_none(VLANS)}
)


def sub_ports(value: Any) -> list[dict[str, Any]]:
    """Neutron: validate_subports."""
    found = a.list_of(SUB_PORT)(value)
    ids = [each["port_id"] for each in found]
    tags = [each["segmentation_id"] for each in found if each.get("segmentation_id") is not None]
    if len(set(ids)) < len(ids):
        raise ValueError("Duplicate items in the list: a port is there twice")
    if len(set(tags)) < len(tags):
        raise ValueError("a segmentation_id is there twice")
    return found


ATTRIBUTES = {
    "name": a.Attribute(a.text(), default=""),
    "description": a.Attribute(a.text(), default=""),
    "admin_state_up": a.Attribute(a.boolean, default=True),
    "port_id": a.Attribute(a.identifier, default=a.REQUIRED, put=False),
    "sub_ports": a.Attribute(sub_ports, default=(), put=False),
    **{
        name: a.Attribute(a.documents, post=False, put=False)
        for name in ("id", "status", "revision_number", "created_at", "updated_at", "tags")
    },
}
LISTING = query.Listing("trunks", TABLE, query.standard_columns(TABLE, "name", "admin_state_up", "port_id", "status"))


def not_found(trunk_id: str) -> NotFound:
    return NotFound(f"Trunk {trunk_id} could not be found.", type="TrunkNotFound")


def parent_in_use(port_id: str) -> Conflict:
    return Conflict(
        f"Port {port_id} is currently in use and is not eligible for use as a parent port.", type="ParentPortInUse"
    )


def in_other_trunk(port_id: str) -> Conflict:
    return Conflict(f"Port {port_id} is in use by another trunk.", type="TrunkPortInUse")


def get(tx: Tx, context: Context, trunk_id: str) -> Row:
    return rows.find(tx, TABLE, trunk_id, rows.owned(context, TABLE), not_found)


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return query.page(call, LISTING, rows.owned(call.context, TABLE))


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("trunk", body, ATTRIBUTES, context, create=True)
    given = values.pop("sub_ports")
    quotas.check(tx, values["project_id"], "trunk")
    parent = own_port(tx, context, values["port_id"])
    if is_sub_port(tx, parent["id"]):
        raise in_other_trunk(parent["id"])
    taken = parent["host"] or parent["made_by_server"] or parent["device_owner"].startswith("network:")
    if taken or is_parent(tx, parent["id"]):
        raise parent_in_use(parent["id"])
    row = {"id": new_id(), **values, "status": "DOWN", **rows.stamps()}
    with rows.conflict(parent_in_use(parent["id"])):
        tx.execute(TABLE.insert().values(**row))
    attach(tx, context, row, given)
    return get(tx, context, row["id"])


def own_port(tx: Tx, context: Context, port_id: str) -> Row:
    port = ports.get(tx, context, port_id)
    if not rows.owns(context, port):
        raise ports.not_found(port_id)
    return port


def is_parent(tx: Tx, port_id: str) -> str | None:
    """The trunk's id."""
    return tx.scalar(sa.select(TABLE.c.id).where(TABLE.c.port_id == port_id))


def is_sub_port(tx: Tx, port_id: str) -> str | None:
    return tx.scalar(sa.select(SUB_PORTS.c.trunk_id).where(SUB_PORTS.c.port_id == port_id))


def update(tx: Tx, context: Context, trunk_id: str, body: Any) -> Row:
    trunk = get(tx, context, trunk_id)
    values = a.prepare("trunk", body, ATTRIBUTES, context, create=False)
    rows.touch(tx, TABLE, trunk["id"], **values)
    return get(tx, context, trunk_id)


def delete(tx: Tx, context: Context, trunk_id: str) -> None:
    """Conflict while it is disabled, or a server has its port."""
    trunk = enabled(tx, context, trunk_id)
    if ports.get_any(tx, trunk["port_id"])["host"]:
        raise Conflict(f"Trunk {trunk_id} is currently in use.", type="TrunkInUse")
    tx.execute(TABLE.delete().where(TABLE.c.id == trunk["id"]))


def enabled(tx: Tx, context: Context, trunk_id: str) -> Row:
    trunk = get(tx, context, trunk_id)
    if not trunk["admin_state_up"]:
        raise Conflict(f"Trunk {trunk_id} is currently disabled.", type="TrunkDisabled")
    return trunk


def sub_ports_of(body: Any) -> list[dict[str, Any]]:
    if not isinstance(body, dict) or not isinstance(body.get("sub_ports"), list):
        raise a.invalid_input("a list of sub_ports is required")
    try:
        return sub_ports(body["sub_ports"])
    except ValueError as error:
        raise a.invalid_input(str(error).rstrip(".")[:400]) from None


def add(tx: Tx, context: Context, trunk_id: str, body: Any) -> Row:
    trunk = get(tx, context, trunk_id)
    given = sub_ports_of(body)
    enabled(tx, context, trunk_id)
    rows.touch(tx, TABLE, trunk["id"])
    attach(tx, context, trunk, given)
    return get(tx, context, trunk_id)


def remove(tx: Tx, context: Context, trunk_id: str, body: Any) -> Row:
    trunk = enabled(tx, context, trunk_id)
    for each in sub_ports_of(body):
        of_trunk = SUB_PORTS.c.trunk_id == trunk["id"], SUB_PORTS.c.port_id == each["port_id"]
        if not tx.execute(SUB_PORTS.delete().where(*of_trunk)).rowcount:
            raise NotFound(f"SubPort {each['port_id']} on trunk {trunk_id} could not be found.", type="SubPortNotFound")
    rows.touch(tx, TABLE, trunk["id"])
    return get(tx, context, trunk_id)


def attach(tx: Tx, context: Context, trunk: Any, given: Sequence[dict[str, Any]]) -> None:
    """Neutron: SubPortsValidator."""
    largest = networks.get_any(tx, ports.get_any(tx, trunk["port_id"])["network_id"])["mtu"]
    check_segments(given)
    for each in given:
        port = own_port(tx, context, each["port_id"])
        check_sub_port(tx, trunk, port)
        network = networks.get_any(tx, port["network_id"])
        if network["mtu"] > largest:
            raise Conflict(
                f"MTU {network['mtu']} of subport {port['id']} cannot be greater than MTU {largest} of trunk "
                f"{trunk['port_id']}.",
                type="SubPortMtuGreaterThanTrunkPortMtu",
            )
        kind, number = segment(each, network)
        row = {"port_id": port["id"], "trunk_id": trunk["id"], "segmentation_type": kind, "segmentation_id": number}
        same = SUB_PORTS.c.trunk_id == trunk["id"], SUB_PORTS.c.segmentation_id == number
        if tx.scalar(sa.select(SUB_PORTS.c.port_id).where(*same)):
            raise duplicate(row)
        with rows.conflict(in_other_trunk(port["id"])):
            tx.execute(SUB_PORTS.insert().values(**row))


def check_sub_port(tx: Tx, trunk: Any, port: Row) -> None:
    if port["id"] == trunk["port_id"] or is_parent(tx, port["id"]):
        raise parent_in_use(port["id"])
    if is_sub_port(tx, port["id"]):
        raise in_other_trunk(port["id"])
    if port["device_id"] or port["device_owner"].startswith("network:"):
        raise Conflict(
            f"Unable to complete operation on port {port['id']} for network {port['network_id']}. Port already has an "
            f"attached device {port['device_id']}.",
            type="PortInUse",
        )


def check_segments(given: Sequence[dict[str, Any]]) -> None:
    """Each has a type and a number, or inherits them."""
    for each in given:
        kind, number = each.get("segmentation_type"), each.get("segmentation_id")
        if kind != "inherit" and (kind is None or number is None):
            raise a.invalid_input(
                f"Invalid subport details '{each}': missing segmentation information. Must specify both "
                "segmentation_id and segmentation_type"
            )


def segment(given: dict[str, Any], network: Row) -> tuple[str, int]:
    """The type and number of a sub-port's tag; `inherit`: its network's own."""
    if given["segmentation_type"] == "inherit":
        if network["network_type"] != "vlan":
            raise a.invalid_input(f"Unknown segmentation_type '{network['network_type']}'")
        return "vlan", network["segmentation_id"]
    return given["segmentation_type"], given["segmentation_id"]


def duplicate(row: dict[str, Any]) -> Conflict:
    return Conflict(
        f"segmentation_type {row['segmentation_type']} and segmentation_id {row['segmentation_id']} already in use on "
        f"trunk {row['trunk_id']}.",
        type="DuplicateSubPort",
    )


def check_port_deletable(tx: Tx, port_id: str) -> None:
    """Conflict for a trunk's port or sub-port (Neutron: enforce_port_deletion_rules)."""
    error: APIError | None = None
    if trunk_id := is_sub_port(tx, port_id):
        error = Conflict(f"Port {port_id} is currently a subport for trunk {trunk_id}.", type="PortInUseAsSubPort")
    elif trunk_id := is_parent(tx, port_id):
        error = Conflict(
            f"Port {port_id} is currently a parent port for trunk {trunk_id}.", type="PortInUseAsTrunkParent"
        )
    if error is not None:
        raise error


def members(tx: Tx, trunk_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {trunk_id: [] for trunk_id in trunk_ids}
    wanted = sa.select(SUB_PORTS).where(SUB_PORTS.c.trunk_id.in_(list(found)))
    for row in tx.all(wanted.order_by(SUB_PORTS.c.segmentation_id)) if found else ():
        shown = {key: row[key] for key in ("port_id", "segmentation_type", "segmentation_id")}
        found[row["trunk_id"]].append(shown)
    return found


def details(tx: Tx, port_ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """port id → its `trunk_details`, for those that carry a trunk (extension trunk-details)."""
    of_port = {row["port_id"]: row["id"] for row in tx.all(sa.select(TABLE).where(TABLE.c.port_id.in_(list(port_ids))))}
    found = members(tx, of_port.values())
    table, ids = tables.PORTS, [each["port_id"] for each_of in found.values() for each in each_of]
    addresses = sa.select(table.c.id, table.c.mac_address).where(table.c.id.in_(ids))
    macs = {row[0]: row[1] for row in tx.execute(addresses).all()} if ids else {}
    return {
        port_id: {
            "trunk_id": trunk_id,
            "sub_ports": [{**each, "mac_address": macs[each["port_id"]]} for each in found[trunk_id]],
        }
        for port_id, trunk_id in of_port.items()
    }


def bodies(tx: Tx, context: Context, found: Sequence[Row]) -> list[dict[str, Any]]:
    of_trunk = members(tx, [row["id"] for row in found])
    same = ("id", "name", "description", "admin_state_up", "port_id", "status", "project_id", "revision_number", "tags")
    return [
        {
            **{key: row[key] for key in same},
            "tenant_id": row["project_id"],
            "sub_ports": of_trunk[row["id"]],
            "created_at": iso(row["created_at"]),
            "updated_at": iso(row["updated_at"]),
        }
        for row in found
    ]
