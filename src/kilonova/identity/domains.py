"""Domains: projects that own users, groups and projects."""

import sqlalchemy as sa

from kilonova.identity import access, projects, users, views
from kilonova.identity.records import Row, conflict, insert, not_found, refuse_immutable, select, split
from kilonova.identity.tables import ASSIGNMENTS, GROUPS, IMPLIED_ROLES, MEMBERSHIPS, PROJECTS, ROLES, USERS
from kilonova.model.errors import BadRequest, Forbidden
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call, Context


def own(context: Context, row: Row) -> bool:
    return row["id"] in (context.domain_id, context.project_domain_id)


def _domain(row: Row, call: Call) -> Row:
    if not row["is_domain"]:
        raise not_found("domain", call.params["id"])
    return row


def index(call: Call) -> Row:
    conditions: list[sa.ColumnElement[bool]] = [PROJECTS.c.is_domain]
    if call.context.domain_id and not access.reads_all(call.context):
        conditions.append(PROJECTS.c.id == call.context.domain_id)
    return views.collection(call, "domains", select(call, PROJECTS, ("name", "enabled"), *conditions), views.domain)


def show(call: Call) -> Row:
    row = access.fetch(call, PROJECTS, "domain", "identity:get_domain", own)
    return {"domain": views.domain(call, _domain(row, call))}


def create(call: Call) -> Row:
    asked = dict(call.body["domain"])
    key = asked.pop("explicit_domain_id", None) or new_hex_id()
    known, extra = split(PROJECTS, asked, (*projects.HIDDEN, "domain_id", "parent_id", "is_domain"))
    if call.tx.first(sa.select(PROJECTS.c.id).where(PROJECTS.c.id == key)):
        raise conflict("domain", f"Duplicate ID, {key}")
    row = {
        "enabled": True,
        "tags": [],
        "options": {},
        **known,
        "id": key,
        "domain_id": "",
        "parent_id": "",
        "is_domain": True,
        "description": known.get("description") or "",
        "extra": extra,
    }
    insert(call.tx, PROJECTS, "domain", row)
    return {"domain": views.domain(call, row)}


def change(call: Call) -> Row:
    row = _domain(access.fetch_managed(call, PROJECTS, "domain", "identity:update_domain"), call)
    known, extra = split(PROJECTS, call.body["domain"], (*projects.HIDDEN, "domain_id", "parent_id", "is_domain"))
    if "id" in call.body["domain"] and call.body["domain"]["id"] != row["id"]:
        raise BadRequest("Cannot change domain ID")
    return {"domain": views.domain(call, projects.store(call.tx, row, "domain", known, extra))}


def delete(call: Call) -> None:
    """Only a disabled one; its users, groups, projects and roles go with it."""
    row = _domain(access.fetch_managed(call, PROJECTS, "domain", "identity:delete_domain"), call)
    refuse_immutable(row, "domain", "delete")
    if row["enabled"]:
        raise Forbidden("Cannot delete a domain that is enabled, please disable it first.")
    tx, key = call.tx, row["id"]
    for user_id in tx.execute(sa.select(USERS.c.id).where(USERS.c.domain_id == key)).scalars().all():
        users.remove(tx, user_id)
    groups = tx.execute(sa.select(GROUPS.c.id).where(GROUPS.c.domain_id == key)).scalars().all()
    tx.execute(sa.delete(MEMBERSHIPS).where(MEMBERSHIPS.c.group_id.in_(groups)))
    tx.execute(sa.delete(ASSIGNMENTS).where(ASSIGNMENTS.c.actor_type == "group", ASSIGNMENTS.c.actor_id.in_(groups)))
    tx.execute(sa.delete(GROUPS).where(GROUPS.c.id.in_(groups)))
    roles = tx.execute(sa.select(ROLES.c.id).where(ROLES.c.domain_id == key)).scalars().all()
    tx.execute(sa.delete(ASSIGNMENTS).where(ASSIGNMENTS.c.role_id.in_(roles)))
    implied = IMPLIED_ROLES.c
    tx.execute(
        sa.delete(IMPLIED_ROLES).where(sa.or_(implied.prior_role_id.in_(roles), implied.implied_role_id.in_(roles)))
    )
    tx.execute(sa.delete(ROLES).where(ROLES.c.id.in_(roles)))
    projects.remove(tx, [key, *(child["id"] for child in projects.below(tx, key))])
