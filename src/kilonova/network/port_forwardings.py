"""Floating IP port forwarding: ports of a floating IP that lead to ports of fixed addresses (Neutron: pf_plugin)."""

import re
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import associations, floating_ips, ipam, ports, query, rows, tables
from kilonova.network import attributes as a
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE = tables.PORT_FORWARDINGS
PROTOCOLS = ("tcp", "udp", "icmp", "ipv6-icmp", "sctp", "dccp")
MAX_PORT = 65535
PORT = a.or_none(a.integer(1, MAX_PORT))


def port_range(value: Any) -> tuple[int, int]:
    """`80` or `80:90`."""
    found = re.fullmatch(r"(\d{1,5})(?::(\d{1,5}))?", str(value), re.A)
    if isinstance(value, bool) or found is None:
        raise ValueError(f"'{value}' is not a valid port range, which is 'port:port'")
    first, last = int(found[1]), int(found[2] or found[1])
    if not 1 <= first <= last <= MAX_PORT:
        raise ValueError(f"Invalid port range '{value}': ports are from 1 to {MAX_PORT}, the lower one first")
    return first, last


def protocol(value: Any) -> str:
    return str(a.one_of(*PROTOCOLS)(value.lower() if isinstance(value, str) else value))


ATTRIBUTES = {
    "internal_port_id": a.Attribute(a.identifier, default=a.REQUIRED),
    "internal_ip_address": a.Attribute(a.ip_address),
    "protocol": a.Attribute(protocol, default=a.REQUIRED),
    "external_port": a.Attribute(PORT),
    "internal_port": a.Attribute(PORT),
    "external_port_range": a.Attribute(port_range),
    "internal_port_range": a.Attribute(port_range),
    "description": a.Attribute(a.text(), default=""),
    "id": a.Attribute(a.identifier, post=False, put=False),
}
ENDS = ("external_port_start", "external_port_end", "internal_port_start", "internal_port_end")
LISTING = query.Listing(
    "port_forwardings",
    TABLE,
    {name: TABLE.c[name] for name in ("id", "protocol", "internal_port_id", "description")}
    | {"external_port": TABLE.c.external_port_start},
)


def bad_request(message: str) -> BadRequest:
    return BadRequest(f"Bad port_forwarding request: {message}.", type="BadRequest")


def not_found(forwarding_id: str) -> NotFound:
    return NotFound(f"Port Forwarding {forwarding_id} could not be found.", type="PortForwardingNotFound")


def get(tx: Tx, context: Context, floating_id: str, forwarding_id: str) -> Row:
    floating_ips.get(tx, context, floating_id)
    return rows.find(tx, TABLE, forwarding_id, TABLE.c.floatingip_id == floating_id, not_found)


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    floating = floating_ips.get(call.tx, call.context, call.params["floating_id"])
    return query.page(call, LISTING, TABLE.c.floatingip_id == floating["id"])


def of_floating_ips(tx: Tx, floating_ids: Sequence[str]) -> dict[str, list[Row]]:
    found = {floating_id: list[Row]() for floating_id in floating_ids}
    order = TABLE.c.protocol, TABLE.c.external_port_start
    for row in tx.all(sa.select(TABLE).where(TABLE.c.floatingip_id.in_(list(found))).order_by(*order)):
        found[row["floatingip_id"]].append(row)
    return found


def ends(values: dict[str, Any]) -> dict[str, int]:
    """Takes ports and ranges out of `values`; the columns they become."""
    columns = {}
    for side in ("external", "internal"):
        single, span = values.pop(f"{side}_port", None), values.pop(f"{side}_port_range", None)
        if single is not None and span is not None and span != (single, single):
            raise bad_request(f"{side}_port and {side}_port_range are given, and differ")
        if single is not None or span is not None:
            columns[f"{side}_port_start"], columns[f"{side}_port_end"] = span or (single, single)
    return columns


def create(tx: Tx, context: Context, floating_id: str, body: Any) -> Row:
    floating_ips.get(tx, context, floating_id)
    values = a.prepare("floatingip_port_forwarding", body, ATTRIBUTES, context, create=True)
    values |= ends(values)
    if missing := [name[:13] for name in ENDS[::2] if name not in values]:
        raise a.bad_request(f"Failed to parse request. Required attribute '{missing[0]}' not specified")
    floating = floating_ips.locked(tx, context, floating_id)
    if floating["fixed_port_id"]:
        raise floating_ips.already_associated(floating)
    port = ports.get(tx, context, values["internal_port_id"])
    ip = internal_ip(tx, port, values.get("internal_ip_address"))
    check_port_free(tx, port, ip["ip_address"])
    row = {
        "id": new_id(), **values, "floatingip_id": floating_id, "internal_ip_address": ip["ip_address"],
        "project_id": floating["project_id"], **rows.stamps(),
    }  # fmt: skip
    check_ports(tx, row)
    router_id = find_router(tx, floating, port, ip["subnet_id"])
    tx.execute(TABLE.insert().values(**row))
    if floating["router_id"] is None:
        table = tables.FLOATING_IPS
        tx.execute(table.update().where(table.c.id == floating_id).values(router_id=router_id, status="DOWN"))
    return get(tx, context, floating_id, row["id"])


def internal_ip(tx: Tx, port: Row, address: str | None) -> dict[str, str]:
    held = [ip for ip in ipam.fixed_ips(tx, [port["id"]])[port["id"]] if ":" not in ip["ip_address"]]
    if not held:
        raise bad_request(f"Requested internal port {port['id']} must allocate an IPv4 address at least")
    chosen = next((ip for ip in held if address in (None, ip["ip_address"])), None)
    if chosen is None:
        raise bad_request(
            f"Requested internal IP address {address} is not suitable for internal neutron port {port['id']}, as its "
            f"fixed_ips are {held}"
        )
    return chosen


def check_port_free(tx: Tx, port: Row, address: str) -> None:
    found = associations.floating_ips_of(tx, [port["id"]])
    if found:
        raise Conflict(
            f"Cannot create port forwarding to floating IP {found[0]['floating_ip_address']} ({found[0]['id']}) with "
            f"port {port['id']} using fixed IP {address}, as that port already has a binding floating IP.",
            type="PortHasBindingFloatingIP",
        )


def find_router(tx: Tx, floating: Row, port: Row, subnet_id: str) -> str:
    """All forwardings of a floating IP go by one router."""
    try:
        router_id = floating_ips.find_router(tx, port, subnet_id, floating["floating_network_id"])
    except NotFound:
        raise bad_request(
            f"External network {floating['floating_network_id']} is not reachable from subnet {subnet_id}. Cannot set "
            f"Port forwarding for port {port['id']} with Floating IP {floating['id']}"
        ) from None
    if floating["router_id"] not in (None, router_id):
        raise bad_request(
            f"The Floating IP {floating['id']} had been set on router {floating['router_id']}, the internal Neutron "
            f"port {port['id']} can not reach it"
        )
    return router_id


def check_ports(tx: Tx, row: Row) -> None:
    """N ports to N, or N to one; and none that another forwarding has, outside or inside."""
    inside = row["internal_port_end"] - row["internal_port_start"]
    if inside and inside != row["external_port_end"] - row["external_port_start"]:
        raise bad_request(
            "Invalid ranges of internal and/or external ports. The relation between internal and external ports must "
            "be N-N or 1-N"
        )
    same = {
        "external": TABLE.c.floatingip_id == row["floatingip_id"],
        "internal": sa.and_(
            TABLE.c.internal_port_id == row["internal_port_id"],
            TABLE.c.internal_ip_address == row["internal_ip_address"],
        ),
    }
    others = TABLE.c.protocol == row["protocol"], TABLE.c.id != row["id"]
    for side, condition in same.items():
        first, last = TABLE.c[f"{side}_port_start"], TABLE.c[f"{side}_port_end"]
        start, end = row[f"{side}_port_start"], row[f"{side}_port_end"]
        hit = tx.first(sa.select(TABLE).where(condition, *others, first <= end, last >= start))
        if hit:
            raise bad_request(
                f"There is a port collision with the {side}_port_range. The following ranges collide: "
                f"{hit[f'{side}_port_start']}:{hit[f'{side}_port_end']} and {start}:{end}"
            )


def update(tx: Tx, context: Context, floating_id: str, forwarding_id: str, body: Any) -> Row:
    get(tx, context, floating_id, forwarding_id)
    values = a.prepare("floatingip_port_forwarding", body, ATTRIBUTES, context, create=False)
    values |= ends(values)
    floating = floating_ips.locked(tx, context, floating_id)
    before = get(tx, context, floating_id, forwarding_id)
    row = {**before, **values}
    port = ports.get(tx, context, row["internal_port_id"])
    if port["id"] != before["internal_port_id"]:
        check_port_free(tx, port, row["internal_ip_address"])
    moved = port["id"] != before["internal_port_id"] and "internal_ip_address" not in values
    ip = internal_ip(tx, port, None if moved else row["internal_ip_address"])
    row["internal_ip_address"] = values["internal_ip_address"] = ip["ip_address"]
    find_router(tx, floating, port, ip["subnet_id"])
    check_ports(tx, row)
    rows.touch(tx, TABLE, forwarding_id, **values)
    return get(tx, context, floating_id, forwarding_id)


def delete(tx: Tx, context: Context, floating_id: str, forwarding_id: str) -> None:
    floating_ips.locked(tx, context, floating_id)
    associations.delete_forwardings(tx, [get(tx, context, floating_id, forwarding_id)])
