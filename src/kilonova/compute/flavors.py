"""Flavors, their extra specs, and who may use the private ones."""

import re
from dataclasses import dataclass
from itertools import compress
from typing import Any

import sqlalchemy as sa

from kilonova.compute.patterns import Pattern
from kilonova.compute.schemas import NAME
from kilonova.compute.tables import FLAVOR_ACCESS, FLAVORS
from kilonova.db.engine import Tx
from kilonova.model import hardware
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id, now
from kilonova.web.call import Context

SORT_KEYS = {
    "flavorid": "id", "name": "name", "memory_mb": "memory_mb", "vcpus": "vcpus", "root_gb": "disk_gb",
    "ephemeral_gb": "ephemeral_gb", "swap": "swap_mb", "rxtx_factor": "rxtx_factor", "disabled": "disabled",
    "is_public": "is_public", "created_at": "created_at", "description": "description", "id": "id",
    "vcpu_weight": "id", "updated_at": "created_at",
}  # fmt: skip
MAX_INT = 2147483647


def _visible(context: Context) -> sa.ColumnElement[bool]:
    granted = sa.select(FLAVOR_ACCESS.c.flavor_id).where(FLAVOR_ACCESS.c.project_id == context.project_id)
    return sa.or_(FLAVORS.c.is_public.is_(True), FLAVORS.c.id.in_(granted))


def get(tx: Tx, context: Context, id: str) -> sa.RowMapping:
    """NotFound for private flavors of others too."""
    query = sa.select(FLAVORS).where(FLAVORS.c.id == id)
    if not context.is_admin:
        query = query.where(_visible(context))
    row = tx.first(query)
    if row is None:
        raise NotFound(f"Flavor {id} could not be found.", type="FlavorNotFound")
    return row


@dataclass(frozen=True)
class Wanted:
    """A list's filters and order. `is_public` None: all, for administrators; `min_ram` in MiB, `min_disk` in GiB."""

    is_public: bool | None
    min_ram: int
    min_disk: int
    name: Pattern | None
    sort: tuple[str, str]  # one of SORT_KEYS, and asc or desc


def list_flavors(
    tx: Tx, context: Context, wanted: Wanted, limit: int, marker: str | None = None
) -> list[sa.RowMapping]:
    """BadRequest when the marker is none of the flavors."""
    query = sa.select(FLAVORS).where(FLAVORS.c.memory_mb >= wanted.min_ram, FLAVORS.c.disk_gb >= wanted.min_disk)
    if not context.is_admin:
        query = query.where(_visible(context), FLAVORS.c.disabled.is_(False))
    elif wanted.is_public is not None:
        query = query.where(FLAVORS.c.is_public.is_(wanted.is_public))
    for key, direction in (wanted.sort, ("flavorid", "asc")):
        column = FLAVORS.c[SORT_KEYS[key]]
        query = query.order_by(column.desc() if direction == "desc" else column.asc())
    rows = list(tx.all(query))
    if wanted.name is not None:
        rows = list(compress(rows, wanted.name.found_in([row["name"] for row in rows])))
    if marker is not None:
        place = next((place for place, row in enumerate(rows) if row["id"] == marker), None)
        if place is None:
            raise BadRequest(f"marker [{marker}] not found")
        rows = rows[place + 1 :]
    return rows[:limit]


def create(tx: Tx, body: dict[str, Any], flavor_id: str | None = None) -> sa.RowMapping:
    """`body` is the request's `flavor`. Conflict when the id or the name is taken."""
    id = flavor_id or body.get("id") or "auto"
    id = new_id() if id == "auto" else str(id)
    name = body["name"].strip()
    if not re.match(str(NAME["pattern"]), name):
        raise BadRequest("Flavor names must have printable characters, and none but spaces between them.")
    if tx.first(sa.select(FLAVORS.c.id).where(FLAVORS.c.name == name)):
        raise Conflict(f"Flavor with name {name} already exists.")
    if tx.first(sa.select(FLAVORS.c.id).where(FLAVORS.c.id == id)):
        raise Conflict(f"Flavor with ID {id} already exists.")
    values = {
        "id": id,
        "name": name,
        "description": body.get("description"),
        "vcpus": int(body["vcpus"]),
        "memory_mb": int(body["ram"]),
        "disk_gb": int(body["disk"]),
        "ephemeral_gb": int(body.get("OS-FLV-EXT-DATA:ephemeral", 0)),
        "swap_mb": int(body.get("swap") or 0),
        "rxtx_factor": float(body.get("rxtx_factor", 1.0)),
        "is_public": _boolean(body.get("os-flavor-access:is_public", True)),
        "extra_specs": {},
        "created_at": now(),
    }
    tx.execute(FLAVORS.insert().values(**values))
    row = tx.first(sa.select(FLAVORS).where(FLAVORS.c.id == id))
    assert row is not None
    return row


def _boolean(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).strip().lower() in ("1", "t", "true", "on", "y", "yes")


def update(tx: Tx, context: Context, id: str, **fields: Any) -> sa.RowMapping:
    get(tx, context, id)
    tx.execute(FLAVORS.update().where(FLAVORS.c.id == id).values(**fields))
    return get(tx, context, id)


def for_server(tx: Tx, context: Context, reference: str | int) -> sa.RowMapping:
    """The flavor that a `flavorRef` names. BadRequest when it cannot be seen, or asks for a protection that there is not."""
    try:
        flavor = get(tx, context, str(reference).rpartition("/")[2])
        hardware.check_flavor(flavor["extra_specs"])
    except NotFound as error:
        raise BadRequest(error.message) from error
    except ValueError as error:
        raise BadRequest(f"Invalid flavor. Error: {error}") from error
    return flavor


def delete(tx: Tx, context: Context, id: str) -> None:
    get(tx, context, id)
    tx.execute(FLAVORS.delete().where(FLAVORS.c.id == id))


def set_extra_specs(tx: Tx, context: Context, id: str, specs: dict[str, Any]) -> dict[str, str]:
    """Adds to those there are; values become strings."""
    new = {key: str(value) for key, value in specs.items()}
    update(tx, context, id, extra_specs=get(tx, context, id)["extra_specs"] | new)
    return new


def extra_spec(tx: Tx, context: Context, id: str, key: str) -> str:
    specs: dict[str, str] = get(tx, context, id)["extra_specs"]
    if key not in specs:
        raise NotFound(f"Flavor {id} has no extra specs with key {key}.")
    return specs[key]


def delete_extra_spec(tx: Tx, context: Context, id: str, key: str) -> None:
    extra_spec(tx, context, id, key)
    specs = get(tx, context, id)["extra_specs"]
    update(tx, context, id, extra_specs={name: value for name, value in specs.items() if name != key})


def access(tx: Tx, id: str) -> list[str]:
    """The projects that may use a private flavor."""
    return list(
        tx.execute(
            sa.select(FLAVOR_ACCESS.c.project_id)
            .where(FLAVOR_ACCESS.c.flavor_id == id)
            .order_by(FLAVOR_ACCESS.c.project_id)
        ).scalars()
    )


def add_access(tx: Tx, context: Context, id: str, project_id: str) -> None:
    if get(tx, context, id)["is_public"]:
        raise Conflict("Can not add access to a public flavor.")
    if project_id in access(tx, id):
        raise Conflict(f"Flavor access already exists for flavor {id} and project {project_id} combination.")
    tx.execute(FLAVOR_ACCESS.insert().values(flavor_id=id, project_id=project_id))


def remove_access(tx: Tx, context: Context, id: str, project_id: str) -> None:
    get(tx, context, id)
    where = (FLAVOR_ACCESS.c.flavor_id == id, FLAVOR_ACCESS.c.project_id == project_id)
    if not tx.execute(FLAVOR_ACCESS.delete().where(*where)).rowcount:
        raise NotFound(f"Flavor access not found for {id} / {project_id} combination.")
