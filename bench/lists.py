"""First pages and single rows beside few rows and beside many: what a list costs is to depend on what it shows."""

import json
import tempfile
import uuid
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from cloud import Cloud

from kilonova.db.engine import Database, Tx
from kilonova.identity.tables import PROJECTS, USERS
from kilonova.image.tables import IMAGES
from kilonova.placement.tables import PROVIDERS

FEW, TIMES = 100, 60
# noun → its table, its id, how many are many, its list's first page
LISTS: dict[str, tuple[sa.Table, str, int, str]] = {
    "projects": (PROJECTS, "id", 1000, "/identity/v3/projects?limit=50"),
    "users": (USERS, "id", 5000, "/identity/v3/users?limit=50"),
    "images": (IMAGES, "id", 5000, "/image/v2/images"),
    "providers": (PROVIDERS, "uuid", 1000, "/placement/resource_providers"),  # Placement has no pages
}
SHOWN = {"providers": "/placement/resource_providers/"}


def fill(database: Database, table: sa.Table, key: str, count: int) -> str:
    """Copies of a row that is there, until there are `count`; one's id."""

    def write(tx: Tx) -> str:
        row = dict(tx.all(sa.select(table).order_by(table.c.created_at if "created_at" in table.c else table.c[key]))[-1])
        missing = count - tx.scalar(sa.select(sa.func.count()).select_from(table))
        new = [{**row, key: str(uuid.uuid4()), "name": f"many-{uuid.uuid4()}"} for _ in range(missing)]
        for each in new:
            each.update({name: each[key] for name in ("root_provider", "root") if name in each})
        tx.execute(table.insert(), new)
        return str(new[-1][key])

    return database.write(write)


def measure(cloud: Cloud) -> dict[str, Any]:
    """Milliseconds, and how many times as long it is beside many."""
    database, found = Database(f"sqlite:///{cloud.state / 'kilonova.db'}"), {}
    for noun, (table, key, many, path) in LISTS.items():
        taken: dict[str, list[float]] = {"list": [], "show": []}
        for count in (FEW, many):
            shown = (SHOWN.get(noun) or path.partition("?")[0] + "/") + fill(database, table, key, count)
            taken["list"].append(cloud.latency("GET", path, TIMES)["p50_ms"])
            taken["show"].append(cloud.latency("GET", shown, TIMES)["p50_ms"])
        found[noun] = {
            what: {f"beside_{FEW}_ms": few, f"beside_{many}_ms": more, "times": round(more / few, 2)}
            for what, (few, more) in taken.items()
        }
    database.close()
    return found


if __name__ == "__main__":  # this part alone
    with tempfile.TemporaryDirectory(prefix="kn-lists-") as name, Cloud("fake", Path(name)) as cloud:
        print(json.dumps(measure(cloud), indent=2))
