"""All providers with what they offer and what is used, read once: what scheduling computes on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.placement.tables import ALLOCATIONS, INVENTORIES, PROVIDER_AGGREGATES, PROVIDER_TRAITS, PROVIDERS

SHARING = "MISC_SHARES_VIA_AGGREGATE"  # a provider with this trait serves all trees in its aggregates


@dataclass(frozen=True)
class Stock:
    """One inventory and its use. `capacity` = (total - reserved) * ratio; `free` never below 0."""

    total: int
    reserved: int
    ratio: float
    used: int
    min_unit: int
    max_unit: int
    step_size: int

    @property
    def capacity(self) -> int:
        return int((self.total - self.reserved) * self.ratio)

    @property
    def free(self) -> int:
        return max(self.capacity - self.used, 0)

    def refuses(self, amount: int) -> str | None:
        """Why `amount` more cannot be given, with the arithmetic; None when it can."""
        units = {"min_unit": self.min_unit, "max_unit": self.max_unit, "step_size": self.step_size}
        ratio = f" times {self.ratio:g}" if self.ratio != 1.0 else ""
        reserved = f", {self.reserved} of it reserved" if self.reserved else ""
        sums = f"free {self.free}, used {self.used} of {self.total}{ratio}{reserved}"
        if broken := constraint(units, amount):
            return f"{broken}; {sums}"
        return f"asked {amount}, {sums}" if amount > self.capacity - self.used else None


def constraint(inventory: Mapping[str, int] | sa.RowMapping, amount: int) -> str | None:
    """Which of min_unit, max_unit and step_size the amount breaks, in words; None when none."""
    if amount < inventory["min_unit"]:
        return f"asked {amount}, the smallest unit is {inventory['min_unit']}"
    if amount > inventory["max_unit"]:
        return f"asked {amount}, the largest unit is {inventory['max_unit']}"
    if amount % inventory["step_size"]:
        return f"asked {amount}, which is no multiple of {inventory['step_size']}"
    return None


@dataclass
class Provider:
    uuid: str
    name: str
    parent: str | None
    root: str
    stocks: dict[str, Stock] = field(default_factory=dict)
    traits: set[str] = field(default_factory=set)
    aggregates: set[str] = field(default_factory=set)


def read(tx: Tx, with_names: bool = True) -> dict[str, Provider]:
    """By uuid, oldest first. Without `with_names`, traits and aggregates are left empty."""
    found = {
        row["uuid"]: Provider(row["uuid"], row["name"], row["parent_uuid"], row["root_uuid"])
        for row in tx.all(sa.select(PROVIDERS).order_by(PROVIDERS.c.created_at, PROVIDERS.c.name))
    }
    sums = (
        sa.select(ALLOCATIONS.c.provider, ALLOCATIONS.c.resource_class, sa.func.sum(ALLOCATIONS.c.used).label("used"))
        .group_by(ALLOCATIONS.c.provider, ALLOCATIONS.c.resource_class)
    )  # fmt: skip
    used = {(row["provider"], row["resource_class"]): int(row["used"]) for row in tx.all(sums)}
    for row in tx.all(sa.select(INVENTORIES).order_by(INVENTORIES.c.resource_class)):
        found[row["provider"]].stocks[row["resource_class"]] = Stock(
            row["total"], row["reserved"], row["allocation_ratio"],
            used.get((row["provider"], row["resource_class"]), 0),
            row["min_unit"], row["max_unit"], row["step_size"],
        )  # fmt: skip
    if with_names:
        for row in tx.all(sa.select(PROVIDER_TRAITS)):
            found[row["provider"]].traits.add(row["trait"])
        for row in tx.all(sa.select(PROVIDER_AGGREGATES)):
            found[row["provider"]].aggregates.add(row["aggregate"])
    return found
