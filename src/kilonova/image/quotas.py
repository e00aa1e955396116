"""What a project's images take, and may take by Keystone's unified limits (Glance: glance/quota/keystone.py).

Nothing is booked: what there is, is counted. A resource that no limit is registered for is not limited.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import lock_quota
from kilonova.db.engine import Tx
from kilonova.image.tables import IMAGES, LOCATIONS, QUOTA_LOCKS, TASKS
from kilonova.image.tasks import UNDER_WAY
from kilonova.model.errors import TooLarge
from kilonova.web.call import Call

Limits = Callable[[Tx, str, str], Mapping[str, int]]  # (transaction, type of service, project id): resource → how many
RESOURCES = ("image_size_total", "image_stage_total", "image_count_total", "image_count_uploading")
COMING_IN = ("saving", "uploading", "importing")
STAGED = ("uploading", "importing")
UNLIMITED = -1
MOST = 128  # Glance's image_property_quota, image_tag_quota and image_member_quota


def check_count(of: str, attempted: int) -> None:
    """TooLarge, in Glance's words, when one image would have that many properties, tags or members (`of`)."""
    if attempted > MOST:
        where = "members for this image" if of == "members" else of
        raise TooLarge(
            f"The limit has been exceeded on the number of allowed image {where}. "
            f"Attempted: {attempted}, Maximum: {MOST}"
        )


def check_counts(properties: Iterable[str], tags: Iterable[str]) -> None:
    """The same of an image's properties, but for those that the service itself writes, and of its tags."""
    check_count("properties", sum(not name.startswith("os_glance") for name in properties))
    check_count("tags", len(set(tags)))


def usages(tx: Tx, project_id: str) -> dict[str, int]:
    """Resource → how much: sizes in MiB, and counts. An image takes room in each of its stores; a copy is staged."""
    copied = IMAGES.c.id.in_(sa.select(TASKS.c.image_id).where(TASKS.c.status.in_(UNDER_WAY)))
    staged, coming = IMAGES.c.status.in_(STAGED), IMAGES.c.status.in_(COMING_IN)
    size = sa.func.coalesce(IMAGES.c.size, 0)
    each = sa.select(sa.func.count()).where(LOCATIONS.c.image_id == IMAGES.c.id)
    stores = each.correlate(IMAGES).scalar_subquery()
    counted = (
        sa.func.sum(size * stores),
        sa.func.sum(sa.case((staged | copied, size), else_=0)),
        sa.func.count(),
        sa.func.sum(sa.case((coming | copied, 1), else_=0)),
    )
    row = tx.execute(sa.select(*counted).where(IMAGES.c.owner == project_id)).one()
    used = dict(zip(RESOURCES, (int(value or 0) for value in row), strict=True))
    return {name: value >> 20 if "count" not in name else value for name, value in used.items()}


def enforce(tx: Tx, limits: Limits, project_id: str, **more: int) -> None:
    """TooLarge, in Glance's words, unless the project has room for `more` of each resource (0: for what it has)."""
    allowed = {name: most for name, most in limits(tx, "image", project_id).items() if name in more and most >= 0}
    if not allowed:
        return
    lock_quota(tx.connection, QUOTA_LOCKS, project_id)
    used = usages(tx, project_id)
    for name, most in allowed.items():
        if used[name] + more[name] > most:
            raise TooLarge(
                "The request returned a 413 Request Entity Too Large. This generally means that rate limiting or a quota "
                f"threshold was breached.\n\nThe response body:\nProject {project_id} is over a limit for [Resource {name} "
                f"is over limit of {most} due to current usage {used[name]} and delta {more[name]}]"
            )


def enforce_for(call: Call, tx: Tx, **more: int) -> None:
    """As `enforce`, of the project that asks: whoever's the image is."""
    enforce(tx, call.services.limits, call.context.project_id, **more)


def show(call: Call) -> dict[str, Any]:
    """GET /v2/info/usage."""
    project_id = call.context.project_id
    allowed = call.services.limits(call.tx, "image", project_id)
    used = usages(call.tx, project_id)
    return {"usage": {name: {"usage": used[name], "limit": allowed.get(name, UNLIMITED)} for name in RESOURCES}}
