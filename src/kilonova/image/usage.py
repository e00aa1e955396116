"""GET /v2/info/usage: what a project's images take (Glance: glance/quota/keystone.py). Nothing limits it: -1."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.image.tables import IMAGES
from kilonova.web.call import Call

COMING_IN = ("saving", "uploading", "importing")
STAGED = ("uploading", "importing")
UNLIMITED = -1


def measure(tx: Tx, project_id: str) -> dict[str, int]:
    """Sizes in MiB, and counts."""
    rows = tx.all(sa.select(IMAGES.c.status, IMAGES.c.size).where(IMAGES.c.owner == project_id))
    return {
        "image_size_total": sum(row["size"] or 0 for row in rows if row["status"] not in STAGED) >> 20,
        "image_stage_total": sum(row["size"] or 0 for row in rows if row["status"] in STAGED) >> 20,
        "image_count_total": len(rows),
        "image_count_uploading": sum(row["status"] in COMING_IN for row in rows),
    }


def show(call: Call) -> dict[str, Any]:
    found = measure(call.tx, call.context.project_id)
    return {"usage": {name: {"usage": used, "limit": UNLIMITED} for name, used in found.items()}}
