"""Address groups: CIDRs that security group rules name together (Neutron: AddressGroupDbMixin)."""

import ipaddress
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import attributes as a
from kilonova.network import query, quotas, rows, sharing, tables
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE = tables.ADDRESS_GROUPS


CIDRS = a.list_of(lambda value: a.cidr(value if "/" in str(value) else str(ipaddress.ip_network(a.ip_address(value)))))
ATTRIBUTES = {
    "name": a.Attribute(a.text(), default=""),
    "description": a.Attribute(a.text(), default=""),
    "addresses": a.Attribute(a.list_of(a.cidr, unique=True), default=(), put=False),
    **{
        name: a.Attribute(a.documents, post=False, put=False)
        for name in ("id", "revision_number", "created_at", "updated_at", "shared")
    },
}
LISTING = query.Listing("address_groups", TABLE, query.standard_columns(TABLE, "name"))


def not_found(group_id: str) -> NotFound:
    return NotFound(f"Address group {group_id} could not be found.", type="AddressGroupNotFound")


def get(tx: Tx, context: Context, group_id: str) -> Row:
    return rows.find(tx, TABLE, group_id, sharing.seen(context, sharing.ADDRESS_GROUP, TABLE), not_found)


def own(tx: Tx, context: Context, group_id: str) -> Row:
    group = get(tx, context, group_id)
    if not rows.owns(context, group):
        raise a.foreign()
    return group


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    context = call.context
    listing = sharing.listing(LISTING, context, sharing.ADDRESS_GROUP)
    return query.page(call, listing, sharing.seen(context, sharing.ADDRESS_GROUP, TABLE))


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("address_group", body, ATTRIBUTES, context, create=True)
    quotas.check(tx, values["project_id"], "address_group")
    row = {"id": new_id(), **values, "addresses": list(dict.fromkeys(values["addresses"])), **rows.stamps()}
    tx.execute(TABLE.insert().values(**row))
    return get(tx, context, row["id"])


def update(tx: Tx, context: Context, group_id: str, body: Any) -> Row:
    group = get(tx, context, group_id)
    values = a.prepare("address_group", body, ATTRIBUTES, context, create=False)
    own(tx, context, group_id)
    rows.touch(tx, TABLE, group["id"], **values)
    return get(tx, context, group_id)


def addresses_of(body: Any) -> list[str]:
    """Of the body of add_addresses and remove_addresses, which the field's clients write in two ways."""
    inner = body.get("address_group", body) if isinstance(body, dict) else None
    if not isinstance(inner, dict) or not isinstance(inner.get("addresses"), list):
        raise a.bad_request("Invalid input for addresses. Reason: the body is {'addresses': [CIDRs]}.")
    return list(dict.fromkeys(a.checked("addresses", CIDRS, inner["addresses"])))


def add_addresses(tx: Tx, context: Context, group_id: str, body: Any) -> Row:
    group, wanted = own(tx, context, group_id), addresses_of(body)
    held = set(group["addresses"])
    if there := [address for address in wanted if address in held]:
        raise BadRequest(
            f"Addresses {there} already exist in the address group {group['id']}.", type="AddressesAlreadyExist"
        )
    rows.touch(tx, TABLE, group["id"], addresses=[*group["addresses"], *wanted])
    return get(tx, context, group_id)


def remove_addresses(tx: Tx, context: Context, group_id: str, body: Any) -> Row:
    group, gone = own(tx, context, group_id), addresses_of(body)
    left = dict.fromkeys(group["addresses"])
    if missing := [address for address in gone if address not in left]:
        raise NotFound(f"Addresses {missing} not found in the address group {group['id']}.", type="AddressesNotFound")
    for address in gone:
        del left[address]
    rows.touch(tx, TABLE, group["id"], addresses=list(left))
    return get(tx, context, group_id)


def delete(tx: Tx, context: Context, group_id: str) -> None:
    group, rules = own(tx, context, group_id), tables.SECURITY_GROUP_RULES
    if tx.scalar(sa.select(rules.c.id).where(rules.c.remote_address_group_id == group["id"]).limit(1)):
        raise Conflict(
            f"Address group {group['id']} is in use on one or more security group rules.", type="AddressGroupInUse"
        )
    sharing.forget(tx, group["id"])
    tx.execute(TABLE.delete().where(TABLE.c.id == group["id"]))
