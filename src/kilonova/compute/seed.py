"""What a new cloud has: five flavors."""

import sqlalchemy as sa

from kilonova.compute import flavors
from kilonova.compute.tables import FLAVORS
from kilonova.db.engine import Tx

FLAVOR_SEED = (  # id, name, vcpus, MiB, GiB
    ("1", "m1.nano", 1, 128, 1),
    ("2", "m1.tiny", 1, 256, 1),
    ("3", "m1.small", 1, 512, 2),
    ("4", "m1.medium", 2, 1024, 4),
    ("5", "m1.large", 4, 2048, 8),
)


def seed(tx: Tx) -> dict[str, str]:
    """Flavor name → id. Leaves what is there as it is."""
    if not tx.scalar(sa.select(sa.func.count()).select_from(FLAVORS)):
        for id, name, vcpus, ram, disk in FLAVOR_SEED:
            flavors.create(tx, {"id": id, "name": name, "vcpus": vcpus, "ram": ram, "disk": disk})
    return {row["name"]: row["id"] for row in tx.all(sa.select(FLAVORS.c.name, FLAVORS.c.id))}
