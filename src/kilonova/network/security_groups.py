"""Security groups (Neutron: SecurityGroupDbMixin). Each project has a group `default`, made when first needed."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict, NotFound
from kilonova.model.ids import new_id
from kilonova.network import attributes as a
from kilonova.network import default_rules, query, quotas, rows, sharing, tables
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

TABLE = tables.SECURITY_GROUPS
RULES = tables.SECURITY_GROUP_RULES
DEFAULT = "default"


def free_name(value: Any) -> str:
    name = a.text()(value)
    if name.lower() == DEFAULT:
        raise Conflict("Default security group already exists.", type="SecurityGroupDefaultAlreadyExists")
    return name


ATTRIBUTES = {
    "name": a.Attribute(a.text(), default=""),
    "description": a.Attribute(a.text(), default=""),
    "stateful": a.Attribute(a.boolean, default=True),
    **{
        name: a.Attribute(a.documents, post=False, put=False)
        for name in ("id", "security_group_rules", "revision_number", "created_at", "updated_at", "tags", "shared")
    },
}
LISTING = query.Listing("security_groups", TABLE, query.standard_columns(TABLE, "name", "stateful"))


def not_found(group_id: str) -> NotFound:
    return NotFound(f"Security group {group_id} does not exist", type="SecurityGroupNotFound")


def get(tx: Tx, context: Context, group_id: str) -> Row:
    return rows.find(tx, TABLE, group_id, visible(context), not_found)


def visible(context: Context) -> sa.ColumnElement[bool]:
    """Own ones, and those shared with the project."""
    return sharing.seen(context, sharing.SECURITY_GROUP, TABLE)


def own(tx: Tx, context: Context, group_id: str) -> Row:
    """The group, if it is the caller's to change."""
    group = get(tx, context, group_id)
    if not rows.owns(context, group):
        raise a.foreign()
    return group


def find(tx: Tx, project_id: str, name_or_id: str) -> list[Row]:
    """The project's groups with this id or name, as Nova resolves the names in POST /servers."""
    if name_or_id == DEFAULT:
        ensure_default(tx, project_id)
    matches = sa.or_(TABLE.c.id == name_or_id, TABLE.c.name == name_or_id)
    return list(tx.all(sa.select(TABLE).where(TABLE.c.project_id == project_id, matches)))


def default_id(tx: Tx, project_id: str) -> str | None:
    table = tables.DEFAULT_SECURITY_GROUPS
    found = tx.scalar(sa.select(table.c.security_group_id).where(table.c.project_id == project_id))
    return None if found is None else str(found)


def ensure_default(tx: Tx, project_id: str) -> str:
    """The id of the project's default group, made now if it has none (Neutron: _ensure_default_security_group)."""
    group_id = default_id(tx, project_id)
    if group_id is None:
        group_id = insert(tx, project_id, DEFAULT, "Default security group")
        mark = {"project_id": project_id, "security_group_id": group_id}
        rows.insert_ignore(tx, tables.DEFAULT_SECURITY_GROUPS, mark)
    return group_id


def insert(tx: Tx, project_id: str, name: str, description: str, stateful: bool = True) -> str:
    """A group with the rules that every new one has."""
    group_id = new_id()
    values = {"project_id": project_id, "name": name, "description": description, "stateful": stateful}
    tx.execute(TABLE.insert().values(id=group_id, **values, **rows.stamps()))
    for rule in default_rules.of_new_group(tx, group_id, default=name == DEFAULT):
        tx.execute(RULES.insert().values(id=new_id(), project_id=project_id, **rule, **rows.stamps()))
    return group_id


def rules_of(tx: Tx, group_ids: Iterable[str]) -> dict[str, list[Row]]:
    """group id → its rules."""
    found: dict[str, list[Row]] = {group_id: [] for group_id in group_ids}
    statement = sa.select(RULES).where(RULES.c.security_group_id.in_(list(found)))
    for rule in tx.all(statement.order_by(RULES.c.created_at, RULES.c.id)):
        found[rule["security_group_id"]].append(rule)
    return found


def list_page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    return query.page(call, sharing.listing(LISTING, call.context, sharing.SECURITY_GROUP), visible(call.context))


def create(tx: Tx, context: Context, body: Any) -> Row:
    values = a.prepare("security_group", body, ATTRIBUTES, context, create=True)
    free_name(values["name"])
    ensure_default(tx, values["project_id"])
    quotas.check(tx, values["project_id"], "security_group")
    first = default_rules.of_new_group(tx, "", default=False)
    quotas.check(tx, values["project_id"], "security_group_rule", len(first))
    group_id = insert(tx, values["project_id"], values["name"], values["description"], values["stateful"])
    return rows.find(tx, TABLE, group_id, sa.true(), not_found)


def update(tx: Tx, context: Context, group_id: str, body: Any) -> Row:
    group = get(tx, context, group_id)
    values = a.prepare("security_group", body, ATTRIBUTES, context, create=False)
    own(tx, context, group_id)
    if values.get("stateful", group["stateful"]) != group["stateful"] and is_used(tx, group["id"]):
        raise in_use(group["id"])
    if values.get("name", group["name"]) != group["name"]:
        if group["name"] == DEFAULT:
            raise Conflict("Updating default security group not allowed.", type="SecurityGroupCannotUpdateDefault")
        free_name(values["name"])
    rows.touch(tx, TABLE, group["id"], **values)
    return get(tx, context, group_id)


def is_used(tx: Tx, group_id: str) -> bool:
    bound = tables.PORT_SECURITY_GROUPS
    return tx.scalar(sa.select(bound.c.port_id).where(bound.c.security_group_id == group_id).limit(1)) is not None


def in_use(group_id: str) -> Conflict:
    return Conflict(f"Security Group {group_id} in use.", type="SecurityGroupInUse")


def delete(tx: Tx, context: Context, group_id: str) -> None:
    """With its rules, and the rules that name it as their remote group."""
    group = own(tx, context, group_id)
    if is_used(tx, group["id"]):
        raise in_use(group["id"])
    if group["name"] == DEFAULT and not context.is_admin:
        raise Conflict(
            "Insufficient rights for removing default security group.", type="SecurityGroupCannotRemoveDefault"
        )
    naming = sa.select(RULES.c.security_group_id).where(RULES.c.remote_group_id == group["id"]).distinct()
    for other in tx.execute(naming).scalars().all():
        rows.touch(tx, TABLE, other)
    sharing.forget(tx, group["id"])
    with rows.conflict(in_use(group["id"])):
        tx.execute(TABLE.delete().where(TABLE.c.id == group["id"]))


def check_together(tx: Tx, group_ids: Iterable[str]) -> None:
    """Conflict when some of a port's groups are stateful and some are not (Neutron: _validate_sgs_for_port)."""
    kinds = sa.select(TABLE.c.stateful).where(TABLE.c.id.in_(list(group_ids))).distinct()
    if len(tx.execute(kinds).all()) > 1:
        raise Conflict(
            "Error Cannot apply both stateful and stateless security groups on the same port at the same time while "
            "attempting the operation.",
            type="SecurityGroupConflict",
        )
