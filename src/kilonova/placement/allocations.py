"""Allocations: what a consumer (a server) holds of which providers. Never more than the inventory allows.

`replace` is the one way in. It compares and swaps the generation of every provider it takes from, in the same
transaction as its arithmetic; see `providers.swap_generation` for why that also holds on PostgreSQL.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx, parts
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import now
from kilonova.placement import names, providers
from kilonova.placement.snapshot import constraint
from kilonova.placement.tables import ALLOCATIONS, CONSUMERS, INVENTORIES, PROVIDERS

Row = sa.RowMapping
Resources = Mapping[str, int]  # resource class → amount

INCOMPLETE = "00000000-0000-0000-0000-000000000000"  # project and user of requests before microversion 1.8


class OverCapacity(Conflict):
    """The provider cannot give what was asked; the message says which rule refused it."""


@dataclass(frozen=True)
class Claim:
    """What one consumer shall hold from now on: `resources` by provider, and whose it is.

    `generation`: the consumer's, as the requester saw it (None: "there is no such consumer"); only looked at when
    `check_generation` (microversion 1.28).
    """

    consumer: str
    resources: Mapping[str, Resources]
    project_id: str
    user_id: str
    type: str | None = None
    generation: int | None = None
    check_generation: bool = False


def for_consumer(tx: Tx, consumer: str) -> list[Row]:
    return tx.all(
        sa.select(
            ALLOCATIONS, PROVIDERS.c.generation, CONSUMERS.c.project_id, CONSUMERS.c.user_id, CONSUMERS.c.type,
            CONSUMERS.c.generation.label("consumer_generation"),
        )
        .join(PROVIDERS, PROVIDERS.c.uuid == ALLOCATIONS.c.provider)
        .join(CONSUMERS, CONSUMERS.c.uuid == ALLOCATIONS.c.consumer)
        .where(ALLOCATIONS.c.consumer == consumer)
        .order_by(ALLOCATIONS.c.provider, ALLOCATIONS.c.resource_class)
    )  # fmt: skip


def for_provider(tx: Tx, provider: str) -> list[Row]:
    return tx.all(
        sa.select(ALLOCATIONS, CONSUMERS.c.generation.label("consumer_generation"))
        .join(CONSUMERS, CONSUMERS.c.uuid == ALLOCATIONS.c.consumer)
        .where(ALLOCATIONS.c.provider == provider)
        .order_by(ALLOCATIONS.c.consumer, ALLOCATIONS.c.resource_class)
    )


def usages(tx: Tx, provider: str) -> dict[str, int]:
    """Used, by resource class, of every class the provider has an inventory of."""
    used = _sums(tx, ALLOCATIONS.c.provider, [provider])
    found = {row["resource_class"]: 0 for row in providers.inventories(tx, provider)}
    return found | {name: amount for (_, name), amount in used.items()}


def _sums(tx: Tx, of: "sa.Column[str]", values: Collection[str]) -> Counter[tuple[str, str]]:
    """Used, by provider and resource class, in the allocations that have one of the values."""
    sums: Counter[tuple[str, str]] = Counter()
    place = (ALLOCATIONS.c.provider, ALLOCATIONS.c.resource_class)
    for part in parts(values):
        query = sa.select(*place, sa.func.sum(ALLOCATIONS.c.used)).where(of.in_(part)).group_by(*place)
        for provider, name, used in tx.execute(query):
            sums[provider, name] += int(used)
    return sums


def total_usages(tx: Tx, project_id: str, user_id: str | None = None) -> dict[str, int]:
    """Used by a project (and one user of it), by resource class."""
    query = (
        sa.select(ALLOCATIONS.c.resource_class, sa.func.sum(ALLOCATIONS.c.used).label("used"))
        .join(CONSUMERS, CONSUMERS.c.uuid == ALLOCATIONS.c.consumer)
        .where(CONSUMERS.c.project_id == project_id)
        .group_by(ALLOCATIONS.c.resource_class)
    )
    if user_id is not None:
        query = query.where(CONSUMERS.c.user_id == user_id)
    return {row["resource_class"]: int(row["used"]) for row in tx.all(query)}


def usages_by_type(
    tx: Tx, project_id: str, user_id: str | None = None, consumer_type: str | None = None
) -> dict[str, dict[str, int]]:
    """As `total_usages`, by consumer type, each with its `consumer_count` (microversion 1.38).

    `consumer_type`: "all" puts all types under "all"; "unknown" are those made before types were.
    """
    query = (
        sa.select(ALLOCATIONS, CONSUMERS.c.type)
        .join(CONSUMERS, CONSUMERS.c.uuid == ALLOCATIONS.c.consumer)
        .where(CONSUMERS.c.project_id == project_id)
    )
    if user_id is not None:
        query = query.where(CONSUMERS.c.user_id == user_id)
    if consumer_type == "unknown":
        query = query.where(CONSUMERS.c.type.is_(None))
    elif consumer_type not in (None, "all"):
        query = query.where(CONSUMERS.c.type == consumer_type)
    found: dict[str, dict[str, int]] = {}
    consumers: dict[str, set[str]] = {}
    for row in tx.all(query):
        kind = "all" if consumer_type == "all" else row["type"] or "unknown"
        sums = found.setdefault(kind, {})
        sums[row["resource_class"]] = sums.get(row["resource_class"], 0) + row["used"]
        consumers.setdefault(kind, set()).add(row["consumer"])
    return {kind: {**sums, "consumer_count": len(consumers[kind])} for kind, sums in found.items()}


def replace(tx: Tx, claims: list[Claim]) -> None:
    """Each consumer holds what its claim says and nothing else; an empty claim frees all.

    What raises has changed no allocation, so that a caller may go on to its next candidate in the same transaction.
    Raises BadRequest (no such provider, class), OverCapacity (does not fit), Conflict (a generation has moved on).
    """
    generations = _check(tx, claims)
    consumers = [claim.consumer for claim in claims]
    wanted = _by_provider(claims)
    for provider in sorted(wanted):
        providers.swap_generation(tx, provider, generations[provider])
    _fit(tx, wanted, consumers)
    for part in parts(consumers):
        tx.execute(ALLOCATIONS.delete().where(ALLOCATIONS.c.consumer.in_(part)))
    _write(tx, claims)


def _check(tx: Tx, claims: list[Claim]) -> dict[str, int]:
    """The generation of each provider. What the claims name is looked up at once: one may have thousands of providers."""
    known = _generations(tx, PROVIDERS, {provider for claim in claims for provider in claim.resources})
    classes = {name for claim in claims for resources in claim.resources.values() for name in resources}
    unknown = names.unknown_classes(tx, classes)
    consumers = _generations(tx, CONSUMERS, [claim.consumer for claim in claims])
    for claim in claims:
        for provider, resources in claim.resources.items():
            if provider not in known:
                raise BadRequest(f"Allocation for resource provider '{provider}' that does not exist.")
            if bad := [name for name in unknown if name in resources]:
                raise BadRequest(
                    f"Unable to allocate inventory for consumer {claim.consumer}: No such resource class {bad[0]}."
                )
        present = consumers.get(claim.consumer)
        if claim.check_generation and present != claim.generation:
            expected = "null" if present is None else present
            raise Conflict(
                f"consumer generation conflict - expected {expected} but got {claim.generation}",
                code=providers.CONCURRENT_UPDATE,
            )
    return known


def _generations(tx: Tx, table: sa.Table, uuids: Collection[str]) -> dict[str, int]:
    """Of those that there are."""
    queries = [sa.select(table.c.uuid, table.c.generation).where(table.c.uuid.in_(part)) for part in parts(uuids)]
    return {uuid: generation for query in queries for uuid, generation in tx.execute(query)}


def _by_provider(claims: list[Claim]) -> dict[str, dict[str, list[int]]]:
    wanted: dict[str, dict[str, list[int]]] = {}
    for claim in claims:
        for provider, resources in claim.resources.items():
            for resource_class, amount in resources.items():
                wanted.setdefault(provider, {}).setdefault(resource_class, []).append(amount)
    return wanted


def _fit(tx: Tx, wanted: Mapping[str, Mapping[str, list[int]]], consumers: list[str]) -> None:
    """Placement: `_check_capacity_exceeded`. What the consumers hold now is theirs to give back."""
    stock = {
        (row["provider"], row["resource_class"]): row
        for part in parts(wanted)
        for row in tx.all(sa.select(INVENTORIES).where(INVENTORIES.c.provider.in_(part)))
    }
    used = _sums(tx, ALLOCATIONS.c.provider, wanted)
    used.subtract(_sums(tx, ALLOCATIONS.c.consumer, consumers))
    for provider, by_class in sorted(wanted.items()):
        for resource_class, amounts in by_class.items():
            place = f"for '{resource_class}' on resource provider '{provider}'"
            item = stock.get((provider, resource_class))
            if item is None:
                raise OverCapacity(f"Unable to allocate inventory: Inventory {place} invalid.")
            for amount in amounts:
                if broken := constraint(item, amount):
                    raise OverCapacity(
                        f"Unable to allocate inventory: Unable to create allocation {place}. The requested amount would "
                        f"violate inventory constraints: {broken}."
                    )
            taken, size = used[provider, resource_class], providers.capacity(item)
            if taken + sum(amounts) > size:
                raise OverCapacity(
                    f"Unable to allocate inventory: Unable to create allocation {place}. The requested amount would "
                    f"exceed the capacity: asked {sum(amounts)}, free {max(size - taken, 0)} of {size}."
                )


def _write(tx: Tx, claims: list[Claim]) -> None:
    when, rows = now(), []
    for claim in claims:
        mine = CONSUMERS.c.uuid == claim.consumer
        if not claim.resources:
            tx.execute(CONSUMERS.delete().where(mine))
            continue
        values: dict[str, Any] = {"project_id": claim.project_id, "user_id": claim.user_id}
        if claim.type is not None:
            values["type"] = claim.type
        if not insert_new(tx.connection, CONSUMERS, {"uuid": claim.consumer, "generation": 1, **values}):
            tx.execute(CONSUMERS.update().where(mine).values(generation=CONSUMERS.c.generation + 1, **values))
        rows += [
            {"consumer": claim.consumer, "provider": provider, "resource_class": name, "used": amount, "created_at": when}
            for provider, resources in claim.resources.items()
            for name, amount in resources.items()
        ]
    if rows:
        tx.execute(ALLOCATIONS.insert(), rows)


def claim(tx: Tx, consumer: str, provider: str, resources: Resources, project_id: str, user_id: str) -> None:
    """A server takes its resources of one host (Nova: `claim_resources`); once claimed, again is the same.

    Raises OverCapacity when the host cannot give them: the scheduler then tries its next candidate.
    """
    held = {(row["provider"], row["resource_class"]): row["used"] for row in for_consumer(tx, consumer)}
    if held == {(provider, name): amount for name, amount in resources.items() if amount}:
        return
    wanted = {provider: {name: amount for name, amount in resources.items() if amount}}
    replace(tx, [Claim(consumer, wanted, project_id, user_id, type="INSTANCE")])


def release(tx: Tx, consumer: str) -> bool:
    """Free all that the consumer holds; whether it held anything. Safe to repeat."""
    held = tx.execute(ALLOCATIONS.delete().where(ALLOCATIONS.c.consumer == consumer)).rowcount
    tx.execute(CONSUMERS.delete().where(CONSUMERS.c.uuid == consumer))
    return held > 0


def delete(tx: Tx, consumer: str) -> None:
    """As `release`; NotFound when there is nothing to free."""
    if not release(tx, consumer):
        raise NotFound(f"No allocations for consumer '{consumer}'")


def reshape(tx: Tx, inventories: Mapping[str, tuple[int, Mapping[str, Any]]], claims: list[Claim]) -> None:
    """Move inventories and the allocations on them in one step. `inventories`: provider → (generation, by class).

    The allocations named are lifted first and set again last, so that an inventory in use may move with its users.
    """
    consumers = [claim.consumer for claim in claims]
    _check(tx, claims)
    tx.execute(ALLOCATIONS.delete().where(ALLOCATIONS.c.consumer.in_(consumers)))
    for provider, (generation, wanted) in inventories.items():
        row = tx.first(sa.select(PROVIDERS).where(PROVIDERS.c.uuid == provider))
        if row is None:
            raise BadRequest(
                f"Resource provider {provider} in inventories not found: No resource provider with uuid {provider} "
                "found",
                code="placement.resource_provider.not_found",
            )
        if row["generation"] != generation:
            raise Conflict(
                f"resource provider generation conflict for provider {provider}: actual: {row['generation']}, given: "
                f"{generation}",
                code=providers.CONCURRENT_UPDATE,
            )
        providers.set_inventories(tx, row, wanted)
    replace(tx, claims)
