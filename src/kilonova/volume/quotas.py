"""Quotas: what a project may have, and what it has. Nothing is booked: what there is, is counted (Cinder: cinder/quota.py).

A volume that is being extended counts with the size it is to have, so that what fails gives back what it took.
"""

from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import lock_quota
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest
from kilonova.volume.requests import OverLimit
from kilonova.volume.tables import BACKUPS, GROUPS, QUOTA_LOCKS, QUOTAS, SNAPSHOTS, TYPES, VOLUMES

DEFAULTS = {
    "volumes": 10,
    "gigabytes": 1000,
    "snapshots": 10,
    "backups": 10,
    "backup_gigabytes": 1000,
    "groups": 10,
    "per_volume_gigabytes": -1,
}
OF_TYPES = ("volumes", "gigabytes", "snapshots")  # each also `<name>_<volume type>`


def _stored(tx: Tx, scope: str) -> dict[str, int]:
    query = sa.select(QUOTAS.c.resource, QUOTAS.c.hard_limit).where(QUOTAS.c.scope == scope)
    return {row["resource"]: row["hard_limit"] for row in tx.all(query)}


def class_limits(tx: Tx, name: str) -> dict[str, int]:
    types = tx.execute(sa.select(TYPES.c.name).order_by(TYPES.c.name)).scalars()
    of_types = {f"{resource}_{type_name}": -1 for type_name in types for resource in OF_TYPES}
    known = DEFAULTS | of_types
    return known | {key: value for key, value in _stored(tx, f"class:{name}").items() if key in known}


def defaults(tx: Tx) -> dict[str, int]:
    return class_limits(tx, "default")


def limits(tx: Tx, project_id: str) -> dict[str, int]:
    known = defaults(tx)
    own = _stored(tx, f"project:{project_id}")
    return known | {key: value for key, value in own.items() if key in known}


def usages(tx: Tx, project_id: str) -> dict[str, dict[str, int]]:
    """resource → {"in_use", "reserved"}"""
    used = {name: {"in_use": 0, "reserved": 0} for name in limits(tx, project_id)}

    def add(name: str, type_name: str | None, in_use: int, reserved: int = 0) -> None:
        for resource in (name, f"{name}_{type_name}" if type_name else None):
            if resource in used:
                used[resource]["in_use"] += in_use
                used[resource]["reserved"] += reserved

    names = {row["id"]: row["name"] for row in tx.all(sa.select(TYPES.c.id, TYPES.c.name))}
    volumes = sa.select(VOLUMES.c.type_id, VOLUMES.c.size, VOLUMES.c.new_size).where(VOLUMES.c.project_id == project_id)
    for row in tx.all(volumes):
        add("volumes", names.get(row["type_id"]), 1)
        more = max(0, (row["new_size"] or row["size"]) - row["size"])
        add("gigabytes", names.get(row["type_id"]), row["size"], more)
    snapshots = sa.select(SNAPSHOTS.c.type_id, SNAPSHOTS.c.size).where(SNAPSHOTS.c.project_id == project_id)
    for row in tx.all(snapshots):
        add("snapshots", names.get(row["type_id"]), 1)
        add("gigabytes", names.get(row["type_id"]), row["size"])
    for row in tx.all(sa.select(BACKUPS.c.size).where(BACKUPS.c.project_id == project_id)):
        add("backups", None, 1)
        add("backup_gigabytes", None, row["size"])
    groups = sa.select(sa.func.count()).select_from(GROUPS).where(GROUPS.c.project_id == project_id)
    add("groups", None, int(tx.scalar(groups)))
    return used


def lock(tx: Tx, project_id: str) -> None:
    lock_quota(tx.connection, QUOTA_LOCKS, project_id)


def reserve(tx: Tx, project_id: str, type_name: str | None = None, **wanted: int) -> None:
    """OverLimit, in Cinder's words, unless all of `wanted` (resource → how many more) fits."""
    lock(tx, project_id)
    allowed, used = limits(tx, project_id), usages(tx, project_id)
    asked = dict(wanted)
    if type_name:
        asked |= {f"{name}_{type_name}": more for name, more in wanted.items() if name in OF_TYPES}
    for name, more in asked.items():
        taken = used[name]["in_use"] + used[name]["reserved"]
        if more > 0 and 0 <= allowed[name] < taken + more:
            raise OverLimit(_words(name, more, allowed[name], taken))


def _words(name: str, more: int, allowed: int, taken: int) -> str:
    if name.startswith("backup_gigabytes"):
        return (
            f"Requested backup exceeds allowed Backup gigabytes quota. Requested {more}G, quota is {allowed}G and "
            f"{taken}G has been consumed."
        )
    if name.startswith("gigabytes"):
        return (
            f"Requested volume or snapshot exceeds allowed {name} quota. Requested {more}G, quota is {allowed}G and "
            f"{taken}G has been consumed."
        )
    if name.startswith("volumes"):
        return f"Maximum number of volumes allowed ({allowed}) exceeded for quota '{name}'."
    kind = name.partition("_")[0]
    return f"Maximum number of {kind} allowed ({allowed}) exceeded"


def check_size(tx: Tx, project_id: str, size: int) -> None:
    """OverLimit when one volume may not be that large."""
    most = limits(tx, project_id)["per_volume_gigabytes"]
    if 0 <= most < size:
        raise OverLimit(f"Requested volume size {size}G is larger than maximum allowed limit {most}G.")


def update(tx: Tx, project_id: str, wanted: dict[str, Any]) -> None:
    """BadRequest for a resource that there is not, or a limit below what is used already."""
    lock(tx, project_id)
    used, values = usages(tx, project_id), {}
    for name, value in wanted.items():
        if name in ("tenant_id", "project_id", "id"):
            continue
        if name not in used:
            raise BadRequest(f"Bad key in quota set: {name}")
        taken = used[name]["in_use"] + used[name]["reserved"]
        if name != "per_volume_gigabytes" and -1 < int(value) < taken:
            raise BadRequest(
                f"Quota {name} limit must be equal or greater than existing resources. Current usage is {taken} and "
                f"the requested limit is {value}."
            )
        values[name] = int(value)
    store(tx, f"project:{project_id}", values)


def store(tx: Tx, scope: str, values: dict[str, int]) -> None:
    """`scope`: `project:<id>` or `class:<name>`."""
    tx.execute(QUOTAS.delete().where(QUOTAS.c.scope == scope, QUOTAS.c.resource.in_(values)))
    for name, value in values.items():
        tx.execute(QUOTAS.insert().values(scope=scope, resource=name, hard_limit=value))


def reset(tx: Tx, project_id: str) -> None:
    tx.execute(QUOTAS.delete().where(QUOTAS.c.scope == f"project:{project_id}"))
