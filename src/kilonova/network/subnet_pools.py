"""Subnet pools: prefixes from which subnets are cut, none of them twice (Neutron: SubnetPool and subnet_alloc)."""

import ipaddress
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import address_scopes, prefixes, query, quotas, rows, sharing, tables
from kilonova.network import attributes as a
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE, SUBNETS = tables.SUBNET_POOLS, tables.SUBNETS
BITS = {4: 32, 6: 128}
SMALLEST = {4: 8, 6: 64}  # the default min_prefixlen
QUOTA_UNIT = {4: 32, 6: 64}  # a project's quota counts /32s and /64s


def name(value: Any) -> str:
    if not a.text()(value).strip():
        raise ValueError(f"'{value}' Blank strings are not permitted")
    return str(value)


def non_negative(value: Any) -> int:
    number: int = a.integer()(value)
    if number < 0:
        raise ValueError(f"'{value}' should be non-negative")
    return number


MOST_PREFIXES = 1000  # each subnet is looked for in all of them
PREFIXES = a.list_of(a.cidr, MOST_PREFIXES, unique=True)
ATTRIBUTES = {
    "name": a.Attribute(name, default=a.REQUIRED),
    "description": a.Attribute(a.text(), default=""),
    "prefixes": a.Attribute(PREFIXES, default=a.REQUIRED),
    "default_quota": a.Attribute(a.or_none(non_negative), default=None),
    "default_prefixlen": a.Attribute(non_negative),
    "min_prefixlen": a.Attribute(non_negative),
    "max_prefixlen": a.Attribute(non_negative),
    "is_default": a.Attribute(a.boolean, default=False, admin=True),
    "shared": a.Attribute(a.boolean, default=False, put=False, admin=True),
    "address_scope_id": a.Attribute(a.or_none(a.identifier), default=None),
    **{
        name: a.Attribute(a.documents, post=False, put=False)
        for name in ("id", "ip_version", "revision_number", "created_at", "updated_at", "tags")
    },
}
LISTING = query.Listing(
    "subnetpools",
    TABLE,
    query.standard_columns(
        TABLE, "name", "ip_version", "default_quota", "default_prefixlen", "min_prefixlen", "max_prefixlen",
        "is_default", "address_scope_id",
    ),
)  # fmt: skip


def not_found(pool_id: str) -> NotFound:
    return NotFound(f"Subnet pool {pool_id} could not be found.", type="SubnetPoolNotFound")


def get(tx: Tx, context: Context, pool_id: str) -> Row:
    return rows.find(tx, TABLE, pool_id, sharing.seen(context, sharing.SUBNET_POOL, TABLE), not_found)


def own(tx: Tx, context: Context, pool_id: str) -> Row:
    pool = get(tx, context, pool_id)
    if not rows.owns(context, pool):
        raise a.foreign()
    return pool


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    context = call.context
    listing = sharing.listing(LISTING, context, sharing.SUBNET_POOL)
    return query.page(call, listing, sharing.seen(context, sharing.SUBNET_POOL, TABLE))


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("subnetpool", body, ATTRIBUTES, context, create=True)
    quotas.check(tx, values["project_id"], "subnetpool")
    shared = values.pop("shared")
    version = one_version(values["prefixes"])
    row = {
        "min_prefixlen": SMALLEST[version],
        "max_prefixlen": BITS[version],
        "id": new_id(),
        **values,
        "ip_version": version,
        "prefixes": prefixes.compact(values["prefixes"]),
        **rows.stamps(),
    }
    row.setdefault("default_prefixlen", row["min_prefixlen"])
    check_bounds(row)
    check_scope(tx, context, row)
    insert(tx, row)
    if shared:
        sharing.grant(tx, row["project_id"], sharing.SUBNET_POOL, row["id"])
    return get(tx, context, row["id"])


def insert(tx: Tx, row: dict[str, Any]) -> None:
    if row["is_default"]:
        check_no_default(tx, row["ip_version"])
    with rows.conflict(Conflict("The subnet pool's address scope, or the default pool, has just changed.")):
        tx.execute(TABLE.insert().values(**row))


def one_version(wanted: list[str]) -> int:
    if not wanted:
        raise BadRequest("Empty subnet pool prefix list.", type="EmptySubnetPoolPrefixList")
    versions = {ipaddress.ip_network(cidr).version for cidr in wanted}
    if len(versions) > 1:
        raise BadRequest("Cannot mix IPv4 and IPv6 prefixes in a subnet pool.", type="PrefixVersionMismatch")
    return versions.pop()


def check_bounds(pool: dict[str, Any]) -> None:
    """Neutron: SubnetPoolReader._read_prefix_bounds."""
    low, high, usual = pool["min_prefixlen"], pool["max_prefixlen"], pool["default_prefixlen"]
    for wrong, kind, length, base, limit in (
        (low > high, "min_prefixlen", low, "max_prefixlen", high),
        (high > BITS[pool["ip_version"]], "max_prefixlen", high, "ip_version_max", BITS[pool["ip_version"]]),
        (usual < low, "default_prefixlen", usual, "min_prefixlen", low),
        (usual > high, "default_prefixlen", usual, "max_prefixlen", high),
    ):
        if wrong:
            raise BadRequest(
                f"Illegal prefix bounds: {kind}={length}, {base}={limit}.", type="IllegalSubnetPoolPrefixBounds"
            )


def check_no_default(tx: Tx, version: int) -> None:
    if default_of(tx, version) is not None:
        raise a.invalid_input(
            "A default subnetpool for this IP family has already been set. Only one default may exist per IP family"
        )


def default_of(tx: Tx, version: int) -> Row | None:
    return tx.first(sa.select(TABLE).where(TABLE.c.is_default, TABLE.c.ip_version == version))


def check_scope(tx: Tx, context: Context, pool: dict[str, Any]) -> None:
    """Neutron: _validate_address_scope_id."""
    scope_id, pool_id = pool["address_scope_id"], pool["id"]
    if scope_id is None:
        return
    scope = address_scopes.get(tx, context, scope_id)
    if scope["ip_version"] != pool["ip_version"]:
        raise BadRequest(
            f"Illegal subnetpool association: subnetpool {pool_id} cannot associate with address scope {scope_id} "
            f"because subnetpool ip_version is not {scope['ip_version']}.",
            type="IllegalSubnetPoolIpVersionAssociationToAddressScope",
        )
    address_scopes.lock(tx, scope_id)
    check_affinity(tx, pool)
    others = tx.execute(sa.select(TABLE.c.prefixes).where(TABLE.c.address_scope_id == scope_id, TABLE.c.id != pool_id))
    if prefixes.overlap(pool["prefixes"], [cidr for (held,) in others for cidr in held]):
        raise Conflict(
            "Failed to associate address scope: subnetpools within an address scope must have unique prefixes.",
            type="AddressScopePrefixConflict",
        )


def check_affinity(tx: Tx, pool: dict[str, Any]) -> None:
    """Networks on which the pool is must have no other subnets of its family: they would be in two scopes."""
    mine = sa.select(SUBNETS.c.network_id).where(SUBNETS.c.subnetpool_id == pool["id"])
    others = sa.or_(SUBNETS.c.subnetpool_id.is_(None), SUBNETS.c.subnetpool_id != pool["id"])
    same = SUBNETS.c.network_id.in_(mine), SUBNETS.c.ip_version == pool["ip_version"], others
    if tx.scalar(sa.select(SUBNETS.c.id).where(*same).limit(1)):
        raise scope_affinity()


def scope_affinity() -> BadRequest:
    return BadRequest(
        "Subnets of the same address family hosted on the same network must all participate in the same address scope.",
        type="NetworkAddressScopeAffinityError",
    )


def update(tx: Tx, context: Context, pool_id: str, body: Any) -> Row:
    pool = get(tx, context, pool_id)
    values = a.prepare("subnetpool", body, ATTRIBUTES, context, create=False)
    own(tx, context, pool_id)
    if "prefixes" in values:
        values["prefixes"] = enlarged(pool, values["prefixes"])
    change(tx, context, pool, values)
    return get(tx, context, pool_id)


def enlarged(pool: Row, wanted: list[str]) -> list[str]:
    """The new prefixes; BadRequest when one that is there is missing."""
    if not prefixes.within(pool["prefixes"], of_family(pool, wanted)):
        raise prefix_update("Existing prefixes must be a subset of the new prefixes")
    one_version(wanted)
    return prefixes.compact(wanted)


def of_family(pool: Row, cidrs: list[str]) -> list[str]:
    return [cidr for cidr in cidrs if ipaddress.ip_network(cidr).version == pool["ip_version"]]


def prefix_update(why: str) -> BadRequest:
    return BadRequest(f"Illegal update to prefixes: {why}.", type="IllegalSubnetPoolPrefixUpdate")


def change(tx: Tx, context: Context, pool: Row, values: dict[str, Any]) -> None:
    lock(tx, pool["id"])
    after = {**pool, **values}
    check_bounds(after)
    check_number(after["prefixes"])
    if values.get("is_default") and not pool["is_default"]:
        check_no_default(tx, pool["ip_version"])
    if pool["address_scope_id"]:
        scope = address_scopes.get(tx, context, pool["address_scope_id"])
        if not rows.owns(context, scope):
            raise BadRequest(
                f"Illegal subnetpool update : subnetpool {pool['id']} cannot be updated when associated with shared "
                f"address scope {scope['id']}.",
                type="IllegalSubnetPoolUpdate",
            )
    if {"address_scope_id", "prefixes"} & set(values):
        check_scope(tx, context, after)
    with rows.conflict(Conflict("The default subnet pool has just changed.")):
        rows.touch(tx, TABLE, pool["id"], **values)


def check_number(held: list[str]) -> None:
    if len(held) > MOST_PREFIXES:
        raise prefix_update(f"It would have {len(held)} prefixes, of at most {MOST_PREFIXES}")


def lock(tx: Tx, pool_id: str) -> None:
    """Of two that take from a pool at once, the later one sees what the earlier one took."""
    locked = tx.execute(TABLE.update().where(TABLE.c.id == pool_id).values(changes=TABLE.c.changes + 1))
    if not locked.rowcount:
        raise not_found(pool_id)


def delete(tx: Tx, context: Context, pool_id: str) -> None:
    pool = own(tx, context, pool_id)
    lock(tx, pool["id"])
    if tx.scalar(sa.select(SUBNETS.c.id).where(SUBNETS.c.subnetpool_id == pool["id"]).limit(1)):
        raise BadRequest(
            "Unable to delete subnet pool: Subnet pool has existing allocations.", type="SubnetPoolDeleteError"
        )
    sharing.forget(tx, pool["id"])
    tx.execute(TABLE.delete().where(TABLE.c.id == pool["id"]))


def prefixes_of(body: Any) -> list[str]:
    """Of the body of add_prefixes and remove_prefixes."""
    if not isinstance(body, dict) or not body.get("prefixes") or not isinstance(body["prefixes"], list):
        raise a.bad_request("Request body contains invalid data")
    return list(a.checked("prefixes", PREFIXES, body["prefixes"]))


def add_prefixes(tx: Tx, context: Context, pool_id: str, body: Any) -> list[str]:
    pool, wanted = own(tx, context, pool_id), prefixes_of(body)
    one_version([*pool["prefixes"], *wanted])
    change(tx, context, pool, {"prefixes": prefixes.compact([*pool["prefixes"], *wanted])})
    return list(get(tx, context, pool_id)["prefixes"])


def remove_prefixes(tx: Tx, context: Context, pool_id: str, body: Any) -> list[str]:
    """BadRequest when a subnet is of one of them; what the pool does not have is no error."""
    pool = own(tx, context, pool_id)
    gone = of_family(pool, prefixes_of(body))
    if prefixes.overlap(pool["prefixes"], gone):
        lock(tx, pool["id"])
        if prefixes.overlap(allocated(tx, pool["id"]), gone):
            raise prefix_update("One or more the prefixes to be removed is in use by a subnet")
        left = [str(net) for net in prefixes.without(pool["prefixes"], gone)]
        check_number(left)
        rows.touch(tx, TABLE, pool["id"], prefixes=left)
    return list(get(tx, context, pool_id)["prefixes"])


def onboard(tx: Tx, context: Context, pool_id: str, body: Any) -> list[dict[str, str]]:
    """A network's subnets of the pool's family become the pool's (Neutron: onboard_network_subnets)."""
    pool, nets = own(tx, context, pool_id), tables.NETWORKS
    network_id = body.get("network_id") if isinstance(body, dict) else None
    if not isinstance(network_id, str):
        raise a.invalid_input("network_id must be specified")
    nothing = NotFound(f"Network {network_id} could not be found.", type="NetworkNotFound")
    rows.find(tx, nets, network_id, rows.owned(context, nets), lambda _: nothing)
    lock(tx, pool["id"])
    mine = SUBNETS.c.network_id == network_id, SUBNETS.c.ip_version == pool["ip_version"]
    found = tx.all(sa.select(SUBNETS).where(*mine).order_by(SUBNETS.c.created_at, SUBNETS.c.id))
    held = allocated(tx, pool["id"])
    for subnet in found:
        if prefixes.overlap([subnet["cidr"]], held):
            raise BadRequest(
                f"Illegal subnetpool update : Onboarding subnet {subnet['id']}: {subnet['cidr']} conflicts with "
                f"allocated prefixes in subnet pool {pool['id']}.",
                type="IllegalSubnetPoolUpdate",
            )
    wider = prefixes.compact([*pool["prefixes"], *(subnet["cidr"] for subnet in found)])
    change(tx, context, pool, {"prefixes": wider})
    for subnet in found:
        rows.touch(tx, SUBNETS, subnet["id"], subnetpool_id=pool["id"])
    return [{"id": subnet["id"], "cidr": subnet["cidr"]} for subnet in found]


def allocated(tx: Tx, pool_id: str) -> list[str]:
    return list(tx.execute(sa.select(SUBNETS.c.cidr).where(SUBNETS.c.subnetpool_id == pool_id)).scalars())


# What a new subnet asks of a pool


def chosen(tx: Tx, context: Context, values: dict[str, Any]) -> Row | None:
    """The pool that a subnet's body means; None for none (Neutron: _get_subnetpool_id). Takes its keys out."""
    pool_id, use_default = values.pop("subnetpool_id"), values.pop("use_default_subnetpool")
    if use_default and pool_id:
        raise bad_subnets("subnetpool_id and use_default_subnetpool cannot both be specified")
    if pool_id:
        return get(tx, context, pool_id)
    if not use_default:
        return None
    version = ipaddress.ip_network(values["cidr"]).version if values["cidr"] else values["ip_version"]
    pool = default_of(tx, version)
    if pool is None:
        raise bad_subnets(f"No default subnetpool found for IPv{version}")
    return get(tx, context, pool["id"])


def bad_subnets(why: str) -> BadRequest:
    return BadRequest(f"Bad subnets request: {why}.", type="BadRequest")


def check_network(tx: Tx, network_id: str, version: int, pool: Row | None) -> None:
    """All subnets of a family on a network are of one pool, or of one scope (Neutron: _validate_network_subnetpools)."""
    scope_id = address_scopes.of_network(tx, network_id, version)
    if scope_id and pool and pool["address_scope_id"] != scope_id:
        raise scope_affinity()
    same = sa.select(SUBNETS.c.subnetpool_id).where(SUBNETS.c.network_id == network_id, SUBNETS.c.ip_version == version)
    others = set(tx.execute(same).scalars())
    if (pool and not scope_id and others - {pool["id"]}) or (not pool and others - {None}):
        raise BadRequest(
            "Subnets hosted on the same network must be allocated from the same subnet pool.",
            type="NetworkSubnetPoolAffinityError",
        )


def allocate(tx: Tx, pool: Row, values: dict[str, Any], prefixlen: int | None) -> str:
    """The CIDR of a subnet with these values: its own `cidr`, or one that is free."""
    if values["ip_version"] != pool["ip_version"]:
        raise bad_subnets(f"Cannot allocate IPv{values['ip_version']} subnet from IPv{pool['ip_version']} subnet pool")
    wanted = values["cidr"]
    if wanted is None and values.get("allocation_pools"):
        raise bad_subnets("allocation_pools allowed only for specific subnet requests")
    length = ipaddress.ip_network(wanted).prefixlen if wanted else prefixlen
    length = pool["default_prefixlen"] if length is None else length
    check_length(pool, length)
    lock(tx, pool["id"])
    check_quota(tx, pool, values["project_id"], length)
    free = prefixes.without(pool["prefixes"], allocated(tx, pool["id"]))
    if wanted:
        asked: Any = ipaddress.ip_network(wanted)
        if not any(asked.version == net.version and asked.subnet_of(net) for net in free):
            raise allocation("Cannot allocate requested subnet from the available set of prefixes")
        return str(wanted)
    for net in sorted(free, key=lambda net: -net.prefixlen):  # the smallest that will do
        if net.prefixlen <= length:
            return f"{net.network_address}/{length}"
    raise allocation(f"Insufficient prefix space to allocate subnet size /{length}")


def allocation(why: str) -> Conflict:
    return Conflict(f"Failed to allocate subnet: {why}.", type="SubnetAllocationError")


def check_length(pool: Row, length: int) -> None:
    for wrong, word, limit, kind in (
        (length > pool["max_prefixlen"], "maximum", pool["max_prefixlen"], "Max"),
        (length < pool["min_prefixlen"], "minimum", pool["min_prefixlen"], "Min"),
    ):
        if wrong:
            raise BadRequest(
                f"Unable to allocate subnet with prefix length {length}, {word} allowed prefix is {limit}.",
                type=f"{kind}PrefixSubnetAllocationError",
            )


def check_quota(tx: Tx, pool: Row, project_id: str, length: int) -> None:
    if not pool["default_quota"]:
        return
    unit = QUOTA_UNIT[pool["ip_version"]]
    mine = SUBNETS.c.subnetpool_id == pool["id"], SUBNETS.c.project_id == project_id
    held = [int(cidr.partition("/")[2]) for (cidr,) in tx.execute(sa.select(SUBNETS.c.cidr).where(*mine))]
    if sum(2.0 ** (unit - each) for each in [*held, length]) > pool["default_quota"]:
        raise Conflict("Per-project subnet pool prefix quota exceeded.", type="SubnetPoolQuotaExceeded")
