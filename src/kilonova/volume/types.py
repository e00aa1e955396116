"""Volume types, who may use them, and the type that a volume gets unasked."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import new_id, now
from kilonova.volume.requests import missing
from kilonova.volume.tables import DEFAULT_TYPES, GROUPS, TYPE_ACCESS, TYPES, VOLUMES
from kilonova.web.call import Context

DEFAULT = "__DEFAULT__"  # every cloud has it


def visible(context: Context) -> sa.ColumnElement[bool]:
    if context.is_admin:
        return sa.true()
    mine = sa.select(TYPE_ACCESS.c.type_id).where(TYPE_ACCESS.c.project_id == context.project_id)
    return TYPES.c.is_public | TYPES.c.id.in_(mine)


def get(tx: Tx, context: Context, id: str) -> sa.RowMapping:
    row = tx.first(sa.select(TYPES).where(TYPES.c.id == id, visible(context)))
    if row is None:
        raise missing("Volume type", id)
    return row


def by_id(tx: Tx, id: str) -> sa.RowMapping:
    """Whoever asks: a volume may have a type that its owner does not see any more."""
    row = tx.first(sa.select(TYPES).where(TYPES.c.id == id))
    if row is None:
        raise missing("Volume type", id)
    return row


def by_name_or_id(tx: Tx, context: Context, word: str) -> sa.RowMapping:
    row = tx.first(sa.select(TYPES).where((TYPES.c.id == word) | (TYPES.c.name == word), visible(context)))
    if row is None:
        raise NotFound(f"Volume type with name {word} could not be found.")
    return row


def default(tx: Tx, project_id: str) -> sa.RowMapping:
    """The project's own default, else the cloud's."""
    own = tx.scalar(sa.select(DEFAULT_TYPES.c.type_id).where(DEFAULT_TYPES.c.project_id == project_id))
    row = tx.first(sa.select(TYPES).where(TYPES.c.id == own if own else TYPES.c.name == DEFAULT))
    if row is None:
        raise NotFound(f"Default volume type can not be found: there is no type {DEFAULT}.")
    return row


def listed(tx: Tx, context: Context, is_public: bool | None) -> list[sa.RowMapping]:
    """Newest first. `is_public` None: both."""
    query = sa.select(TYPES).where(visible(context)).order_by(TYPES.c.created_at.desc(), TYPES.c.id.desc())
    return tx.all(query if is_public is None else query.where(TYPES.c.is_public.is_(is_public)))


def create(tx: Tx, name: str, description: str | None, is_public: bool, extra_specs: dict[str, Any]) -> sa.RowMapping:
    row = {
        "id": new_id(), "name": name, "description": description, "is_public": is_public, "extra_specs": extra_specs,
        "created_at": now(),
    }  # fmt: skip
    if not insert_new(tx.connection, TYPES, row):
        raise Conflict(f"Volume Type {name} already exists.")
    return by_id(tx, str(row["id"]))


def update(tx: Tx, id: str, values: dict[str, Any]) -> sa.RowMapping:
    by_id(tx, id)
    name = values.get("name")
    if name and tx.scalar(sa.select(TYPES.c.id).where(TYPES.c.name == name, TYPES.c.id != id)):
        raise Conflict(f"Volume Type {name} already exists.")
    tx.execute(TYPES.update().where(TYPES.c.id == id).values(updated_at=now(), **values))
    return by_id(tx, id)


def in_use(tx: Tx, id: str) -> bool:
    if tx.scalar(sa.select(VOLUMES.c.id).where((VOLUMES.c.type_id == id) | (VOLUMES.c.new_type_id == id)).limit(1)):
        return True
    return any(id in row["volume_type_ids"] for row in tx.all(sa.select(GROUPS.c.volume_type_ids)))


def delete(tx: Tx, id: str) -> None:
    """BadRequest while volumes or groups have it, or when it is what projects get unasked."""
    row = by_id(tx, id)
    if row["name"] == DEFAULT:
        raise BadRequest(f"Volume type {id} is the default volume type and can not be deleted.")
    if tx.scalar(sa.select(DEFAULT_TYPES.c.project_id).where(DEFAULT_TYPES.c.type_id == id)):
        raise BadRequest(f"The volume type {id} is a default volume type of a project and can not be deleted.")
    if in_use(tx, id):
        raise BadRequest("Target volume type is still in use.")
    tx.execute(TYPE_ACCESS.delete().where(TYPE_ACCESS.c.type_id == id))
    tx.execute(TYPES.delete().where(TYPES.c.id == id))


def set_extra_specs(tx: Tx, id: str, specs: dict[str, Any]) -> None:
    tx.execute(TYPES.update().where(TYPES.c.id == id).values(extra_specs=specs, updated_at=now()))


def access(tx: Tx, id: str) -> list[str]:
    """The projects that may use a private type. NotFound for a public one."""
    if by_id(tx, id)["is_public"]:
        raise NotFound("Access list not available for public volume types.")
    return list(tx.execute(sa.select(TYPE_ACCESS.c.project_id).where(TYPE_ACCESS.c.type_id == id)).scalars())


def add_access(tx: Tx, id: str, project_id: str) -> None:
    if by_id(tx, id)["is_public"]:
        raise Conflict("Type access modification is not applicable to public volume type.")
    if not insert_new(tx.connection, TYPE_ACCESS, {"type_id": id, "project_id": project_id}):
        raise Conflict(f"Volume type access for {id} / {project_id} combination already exists.")


def remove_access(tx: Tx, id: str, project_id: str) -> None:
    if by_id(tx, id)["is_public"]:
        raise Conflict("Type access modification is not applicable to public volume type.")
    gone = TYPE_ACCESS.delete().where(TYPE_ACCESS.c.type_id == id, TYPE_ACCESS.c.project_id == project_id)
    if not tx.execute(gone).rowcount:
        raise NotFound(f"Volume type access not found for {id} / {project_id} combination.")


def is_multiattach(row: sa.RowMapping) -> bool:
    return row["extra_specs"].get("multiattach") == "<is> True"


def check_size(row: sa.RowMapping, size: int) -> None:
    """A type may bound the size of its volumes (Cinder: provision_filter_on_size)."""
    for word, outside in (("min", size.__lt__), ("max", size.__gt__)):
        bound = str(row["extra_specs"].get(f"provisioning:{word}_vol_size", ""))
        if bound.isascii() and bound.isdigit() and outside(int(bound)):
            how = "less than the minimum" if word == "min" else "greater than the maximum"
            raise BadRequest(
                f"Invalid input received: Specified volume size of '{size} GB' is {how} required size of '{bound} GB' "
                f"for volume type '{row['name']}'."
            )
