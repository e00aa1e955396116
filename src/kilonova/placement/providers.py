"""Resource providers, and what hangs on them: inventories, traits, aggregates.

Every change of what a provider offers compares and swaps its `generation`, as every claim does (allocations.py), so
that no claim is ever granted against an inventory that has just changed.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id, now
from kilonova.placement import names
from kilonova.placement.tables import ALLOCATIONS, INVENTORIES, PROVIDER_AGGREGATES, PROVIDER_TRAITS, PROVIDERS

Row = sa.RowMapping

CONCURRENT_UPDATE = "placement.concurrent_update"
DUPLICATE_NAME = "placement.duplicate_name"
INVENTORY_INUSE = "placement.inventory.inuse"
PROVIDER_IN_USE = "placement.resource_provider.inuse"
CANNOT_DELETE_PARENT = "placement.resource_provider.cannot_delete_parent"

MAX_INT = 0x7FFFFFFF
INVENTORY_DEFAULTS: dict[str, Any] = {
    "reserved": 0, "min_unit": 1, "max_unit": MAX_INT, "step_size": 1, "allocation_ratio": 1.0,
}  # fmt: skip
OPERATORS = ("allocation_ratio", "reserved")
RETRY = "Another thread concurrently updated the resource provider data. Please retry your update"


def get(tx: Tx, uuid: str) -> Row:
    row = tx.first(sa.select(PROVIDERS).where(PROVIDERS.c.uuid == uuid))
    if row is None:
        raise NotFound(f"No resource provider with uuid {uuid} found")
    return row


def create(tx: Tx, name: str, uuid: str | None = None, parent_uuid: str | None = None) -> Row:
    """Conflict when the uuid or the name is taken; BadRequest when the parent is not there."""
    uuid = uuid or new_id()
    prefix = f'Unable to create resource provider "{name}", {uuid}: Object action create failed because: '
    if not name:
        raise BadRequest(prefix + "name is required")
    root = uuid
    if parent_uuid == uuid:
        raise BadRequest(
            f"{prefix}parent provider UUID cannot be same as UUID. Please set parent provider UUID to None if there is "
            "no parent."
        )
    if parent_uuid:
        parent = tx.first(sa.select(PROVIDERS.c.root_uuid).where(PROVIDERS.c.uuid == parent_uuid))
        if parent is None:
            raise BadRequest(prefix + "parent provider UUID does not exist.")
        root = parent["root_uuid"]
    when = now()
    values = {
        "uuid": uuid, "name": name, "generation": 0, "parent_uuid": parent_uuid, "root_uuid": root,
        "created_at": when, "updated_at": when,
    }  # fmt: skip
    if not insert_new(tx.connection, PROVIDERS, values):
        taken = tx.all(sa.select(PROVIDERS).where((PROVIDERS.c.uuid == uuid) | (PROVIDERS.c.name == name)))
        words = [f"uuid: {uuid}"] * any(row["uuid"] == uuid for row in taken)
        words += [f"name: {name}"] * any(row["name"] == name for row in taken)
        raise Conflict(f"Conflicting resource provider {', '.join(words)} already exists.", code=DUPLICATE_NAME)
    return get(tx, uuid)


def update(tx: Tx, uuid: str, name: str, parent_uuid: str | None, set_parent: bool, reparent: bool) -> Row:
    """Rename, and move in the tree. `set_parent`: the request named a parent. `reparent`: microversion 1.37 or later."""
    row = get(tx, uuid)
    if set_parent and parent_uuid != row["parent_uuid"]:
        _move(tx, row, parent_uuid, reparent)
    if tx.first(sa.select(PROVIDERS.c.uuid).where(PROVIDERS.c.name == name, PROVIDERS.c.uuid != uuid)):
        raise Conflict(f"Conflicting resource provider {name} already exists.", code=DUPLICATE_NAME)
    tx.execute(PROVIDERS.update().where(PROVIDERS.c.uuid == uuid).values(name=name, updated_at=now()))
    return get(tx, uuid)


def _move(tx: Tx, row: Row, parent_uuid: str | None, reparent: bool) -> None:
    prefix = f"Unable to save resource provider {row['uuid']}: Object action "
    if parent_uuid is None and not reparent:
        raise BadRequest(prefix + "update failed because: un-parenting a provider is not currently allowed.")
    if row["parent_uuid"] is not None and not reparent:
        raise BadRequest(prefix + "update failed because: re-parenting a provider is not currently allowed.")
    below = subtree(tx, row)
    root = row["uuid"]
    if parent_uuid is not None:
        parent = tx.first(sa.select(PROVIDERS.c.root_uuid).where(PROVIDERS.c.uuid == parent_uuid))
        if parent is None:
            raise BadRequest(prefix + "create failed because: parent provider UUID does not exist.")
        if parent_uuid in below:
            raise BadRequest(prefix + "update failed because: creating loop in the provider tree is not allowed.")
        root = parent["root_uuid"]
    tx.execute(PROVIDERS.update().where(PROVIDERS.c.uuid == row["uuid"]).values(parent_uuid=parent_uuid))
    tx.execute(PROVIDERS.update().where(PROVIDERS.c.uuid.in_(below)).values(root_uuid=root))


def subtree(tx: Tx, row: Row) -> set[str]:
    """The provider and all below it."""
    parents = tx.all(
        sa.select(PROVIDERS.c.uuid, PROVIDERS.c.parent_uuid).where(PROVIDERS.c.root_uuid == row["root_uuid"])
    )
    found, grown = {row["uuid"]}, True
    while grown:
        more = {item["uuid"] for item in parents if item["parent_uuid"] in found} - found
        found, grown = found | more, bool(more)
    return found


def delete(tx: Tx, uuid: str) -> None:
    if tx.first(sa.select(PROVIDERS.c.uuid).where(PROVIDERS.c.uuid == uuid)) is None:
        raise NotFound(f"No resource provider with uuid {uuid} found for delete")
    if tx.first(sa.select(PROVIDERS.c.uuid).where(PROVIDERS.c.parent_uuid == uuid).limit(1)):
        raise Conflict(
            f"Unable to delete parent resource provider {uuid}: It has child resource providers.",
            code=CANNOT_DELETE_PARENT,
        )
    if tx.first(sa.select(ALLOCATIONS.c.consumer).where(ALLOCATIONS.c.provider == uuid).limit(1)):
        raise Conflict(
            f"Unable to delete resource provider {uuid}: Resource provider has allocations.", code=PROVIDER_IN_USE
        )
    for table in (INVENTORIES, PROVIDER_TRAITS, PROVIDER_AGGREGATES):
        tx.execute(table.delete().where(table.c.provider == uuid))
    tx.execute(PROVIDERS.delete().where(PROVIDERS.c.uuid == uuid))


def swap_generation(tx: Tx, uuid: str, generation: int) -> int:
    """The next generation, when it still was `generation`; Conflict when another writer came first.

    On PostgreSQL (repeatable read) the UPDATE fails to serialize if anyone changed the row since this transaction's
    snapshot, and the whole block is replayed: so a claim's arithmetic always holds at its commit.
    """
    changed = tx.execute(
        PROVIDERS.update()
        .where(PROVIDERS.c.uuid == uuid, PROVIDERS.c.generation == generation)
        .values(generation=generation + 1, updated_at=now())
    )
    if changed.rowcount != 1:
        raise Conflict(RETRY, code=CONCURRENT_UPDATE)
    return generation + 1


# Inventories


def inventories(tx: Tx, uuid: str) -> list[Row]:
    return tx.all(sa.select(INVENTORIES).where(INVENTORIES.c.provider == uuid).order_by(INVENTORIES.c.resource_class))


def capacity(row: Mapping[str, Any] | Row) -> int:
    """What may be allocated in all: (total - reserved) * allocation_ratio."""
    return int((row["total"] - row["reserved"]) * row["allocation_ratio"])


def check_capacity(uuid: str, resource_class: str, values: Mapping[str, Any], may_be_all: bool, doing: str) -> None:
    """BadRequest when more is reserved than there is; `may_be_all`: microversion 1.26, reserved may equal total."""
    size = capacity(values)
    if size < 0 or (size == 0 and not may_be_all):
        than = "greater than total" if may_be_all else "greater than or equal to total"
        raise BadRequest(
            f"Unable to {doing} inventory for resource provider {uuid}: Invalid inventory for '{resource_class}' on "
            f"resource provider '{uuid}'. The reserved value is {than}."
        )


def set_inventories(tx: Tx, row: Row, wanted: Mapping[str, Mapping[str, Any]]) -> int:
    """Make the provider's inventories exactly `wanted` (by resource class); the provider's new generation."""
    uuid = row["uuid"]
    unknown = names.unknown_classes(tx, wanted)
    if unknown:
        raise BadRequest(
            f"Unknown resource class in inventory for resource provider {uuid}: No such resource class {unknown[0]}."
        )
    generation = swap_generation(tx, uuid, row["generation"])
    present = {item["resource_class"] for item in inventories(tx, uuid)}
    if gone := present - set(wanted):
        _refuse_in_use(tx, uuid, gone, "update conflict: ", INVENTORY_INUSE)
    tx.execute(INVENTORIES.delete().where(INVENTORIES.c.provider == uuid))
    _insert(tx, uuid, wanted)
    return generation


def add_inventory(tx: Tx, row: Row, resource_class: str, values: Mapping[str, Any]) -> int:
    uuid = row["uuid"]
    if names.unknown_classes(tx, [resource_class]):
        raise BadRequest(
            f"Unable to create inventory for resource provider {uuid}: No such resource class {resource_class}."
        )
    if any(item["resource_class"] == resource_class for item in inventories(tx, uuid)):
        raise Conflict(
            f"Update conflict: resource provider {uuid} already has an inventory of class {resource_class}.",
            code=CONCURRENT_UPDATE,
        )
    generation = swap_generation(tx, uuid, row["generation"])
    _insert(tx, uuid, {resource_class: values})
    return generation


def update_inventory(tx: Tx, row: Row, resource_class: str, values: Mapping[str, Any]) -> int:
    uuid = row["uuid"]
    if not any(item["resource_class"] == resource_class for item in inventories(tx, uuid)):
        raise BadRequest(
            f"No inventory record with resource class for resource provider {uuid}: "
            f"No inventory of class {resource_class} found."
        )
    generation = swap_generation(tx, uuid, row["generation"])
    _delete(tx, uuid, resource_class)
    _insert(tx, uuid, {resource_class: values})
    return generation


def delete_inventory(tx: Tx, row: Row, resource_class: str) -> None:
    uuid = row["uuid"]
    if not any(item["resource_class"] == resource_class for item in inventories(tx, uuid)):
        raise NotFound(
            f"No inventory of class {resource_class} found for delete: No inventory of class {resource_class} found."
        )
    doing = f"Unable to delete inventory of class {resource_class}: "
    _refuse_in_use(tx, uuid, {resource_class}, doing, CONCURRENT_UPDATE)
    swap_generation(tx, uuid, row["generation"])
    _delete(tx, uuid, resource_class)


def _refuse_in_use(tx: Tx, uuid: str, classes: Iterable[str], doing: str, code: str) -> None:
    used = tx.execute(
        sa.select(ALLOCATIONS.c.resource_class)
        .where(ALLOCATIONS.c.provider == uuid, ALLOCATIONS.c.resource_class.in_(list(classes)))
        .distinct()
    )
    in_use = sorted(used.scalars())
    if in_use:
        raise Conflict(f"{doing}Inventory for '{', '.join(in_use)}' on resource provider '{uuid}' in use.", code=code)


def _insert(tx: Tx, uuid: str, wanted: Mapping[str, Mapping[str, Any]]) -> None:
    whose = {"provider": uuid, "updated_at": now()}
    rows = [{**INVENTORY_DEFAULTS, **values, **whose, "resource_class": name} for name, values in wanted.items()]
    for row in rows:
        row.pop("resource_provider_generation", None)
    if rows:
        tx.execute(INVENTORIES.insert(), rows)


def _delete(tx: Tx, uuid: str, resource_class: str) -> None:
    tx.execute(
        INVENTORIES.delete().where(INVENTORIES.c.provider == uuid, INVENTORIES.c.resource_class == resource_class)
    )


def ensure_provider(tx: Tx, uuid: str, name: str, inventories_: Mapping[str, Mapping[str, Any]]) -> Row:
    """A host reports itself (Nova: `update_provider_tree`): the provider exists, and has exactly these inventories.

    A ratio and what is reserved are the host's to say once: from then on they are the operator's, who sets them here
    (Nova: initial_cpu_allocation_ratio). Writes only what differs. A class that is still allocated keeps its inventory,
    whatever was reported, so that a report never fails for what runs. When the name belonged to an older uuid without
    allocations, that one goes.
    """
    row = tx.first(sa.select(PROVIDERS).where(PROVIDERS.c.uuid == uuid))
    if row is None:
        older = tx.first(sa.select(PROVIDERS.c.uuid).where(PROVIDERS.c.name == name))
        if older is not None:
            delete(tx, older["uuid"])
        row = create(tx, name, uuid)
    elif row["name"] != name:
        row = update(tx, uuid, name, None, False, False)
    present = {item["resource_class"]: item for item in inventories(tx, uuid)}
    wanted = {key: {**INVENTORY_DEFAULTS, **values} for key, values in inventories_.items()}
    for resource_class in set(present) & set(wanted):
        wanted[resource_class] |= {field: present[resource_class][field] for field in OPERATORS}
    for resource_class in set(present) - set(wanted):
        used = sa.select(ALLOCATIONS.c.consumer).where(
            ALLOCATIONS.c.provider == uuid, ALLOCATIONS.c.resource_class == resource_class
        )
        if tx.first(used.limit(1)):
            wanted[resource_class] = {key: present[resource_class][key] for key in ("total", *INVENTORY_DEFAULTS)}
    same = set(present) == set(wanted) and all(
        present[key][field] == value for key, values in wanted.items() for field, value in values.items()
    )
    if not same:
        set_inventories(tx, row, wanted)
    return get(tx, uuid)


# Traits and aggregates


def traits(tx: Tx, uuid: str) -> list[str]:
    found = tx.execute(sa.select(PROVIDER_TRAITS.c.trait).where(PROVIDER_TRAITS.c.provider == uuid))
    return sorted(found.scalars())


def set_traits(tx: Tx, row: Row, wanted: Iterable[str]) -> int:
    """The provider's new generation. BadRequest for a trait that does not exist."""
    wanted = sorted(set(wanted))
    unknown = names.unknown_traits(tx, wanted)
    if unknown:
        raise BadRequest(f"No such trait {', '.join(unknown)}")
    generation = swap_generation(tx, row["uuid"], row["generation"])
    tx.execute(PROVIDER_TRAITS.delete().where(PROVIDER_TRAITS.c.provider == row["uuid"]))
    if wanted:
        tx.execute(PROVIDER_TRAITS.insert(), [{"provider": row["uuid"], "trait": trait} for trait in wanted])
    return generation


def aggregates(tx: Tx, uuid: str) -> list[str]:
    found = tx.execute(sa.select(PROVIDER_AGGREGATES.c.aggregate).where(PROVIDER_AGGREGATES.c.provider == uuid))
    return sorted(found.scalars())


def set_aggregates(tx: Tx, row: Row, wanted: Iterable[str], increment: bool) -> int:
    """The provider's generation, incremented when the request carried one (microversion 1.19)."""
    generation = swap_generation(tx, row["uuid"], row["generation"]) if increment else int(row["generation"])
    tx.execute(PROVIDER_AGGREGATES.delete().where(PROVIDER_AGGREGATES.c.provider == row["uuid"]))
    for aggregate in sorted(set(wanted)):
        insert_new(tx.connection, PROVIDER_AGGREGATES, {"provider": row["uuid"], "aggregate": aggregate})
    return generation
