"""Which roles a user has where: assignments, through groups, inheritance and implied roles."""

from collections.abc import Iterable

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.identity.records import Row, row_of
from kilonova.identity.tables import ASSIGNMENTS, IMPLIED_ROLES, MEMBERSHIPS, PROJECTS, ROLES

Condition = sa.ColumnElement[bool]


def acting_as(user_id: str) -> Condition:
    """Assignments made to the user or to a group the user is in."""
    groups = sa.select(MEMBERSHIPS.c.group_id).where(MEMBERSHIPS.c.user_id == user_id)
    kind, actor = ASSIGNMENTS.c.actor_type, ASSIGNMENTS.c.actor_id
    return sa.or_(sa.and_(kind == "user", actor == user_id), sa.and_(kind == "group", actor.in_(groups)))


def ancestors(tx: Tx, project: Row) -> list[Row]:
    """The projects above, nearest first, up to and with the domain."""
    found: list[Row] = []
    parent_id = project["parent_id"]
    while parent_id:
        row = tx.first(sa.select(PROJECTS).where(PROJECTS.c.id == parent_id))
        if row is None:
            break
        found.append(row_of(row))
        parent_id = row["parent_id"]
    return found


def on(kind: str, key: str) -> Condition:
    """Assignments that hold on the target itself."""
    a = ASSIGNMENTS.c
    return sa.and_(a.target_type == kind, a.target_id == key, a.inherited.is_(False))


def on_project(tx: Tx, project: Row) -> Condition:
    """Assignments that hold on the project: its own, and what it inherits from projects above and its domain."""
    a = ASSIGNMENTS.c
    own = on("project", project["id"])
    if project["is_domain"]:
        return own
    above = [row["id"] for row in ancestors(tx, project)]
    return sa.or_(own, sa.and_(a.target_type.in_(("project", "domain")), a.target_id.in_(above), a.inherited.is_(True)))


def implications(tx: Tx) -> dict[str, list[str]]:
    """prior role id → the role ids it implies directly."""
    found: dict[str, list[str]] = {}
    for row in tx.all(sa.select(IMPLIED_ROLES)):
        found.setdefault(row["prior_role_id"], []).append(row["implied_role_id"])
    return found


def with_implied(tx: Tx, role_ids: Iterable[str]) -> list[str]:
    """The role ids and all they imply, each once."""
    graph, found, todo = implications(tx), [], list(role_ids)
    while todo:
        role = todo.pop(0)
        if role not in found:
            found.append(role)
            todo += graph.get(role, [])
    return found


def role_ids_of(tx: Tx, user_id: str, where: Condition) -> list[str]:
    """Of the user's roles there, implied ones and a domain's own included."""
    direct = tx.execute(sa.select(ASSIGNMENTS.c.role_id).where(acting_as(user_id), where).distinct()).scalars()
    return with_implied(tx, sorted(direct))


def roles_of(tx: Tx, user_id: str, where: Condition) -> list[Row]:
    """The user's roles there, implied ones included; a domain's own roles only stand for what they imply."""
    every = role_ids_of(tx, user_id, where)
    rows = tx.all(sa.select(ROLES).where(ROLES.c.id.in_(every), ROLES.c.domain_id == ""))
    return [row_of(row) for row in sorted(rows, key=lambda row: every.index(row["id"]))]


def projects_of(tx: Tx, user_id: str) -> list[Row]:
    """The enabled projects (of enabled domains) on which the user has a role."""
    a = ASSIGNMENTS.c
    rows = tx.all(sa.select(a.target_type, a.target_id, a.inherited).where(acting_as(user_id)))
    direct = {row["target_id"] for row in rows if row["target_type"] == "project" and not row["inherited"]}
    above = {row["target_id"] for row in rows if row["inherited"]}
    domains = sa.select(PROJECTS.c.id).where(PROJECTS.c.is_domain, PROJECTS.c.enabled)
    projects = tx.all(
        sa.select(PROJECTS)
        .where(PROJECTS.c.is_domain.is_(False), PROJECTS.c.enabled, PROJECTS.c.domain_id.in_(domains))
        .order_by(PROJECTS.c.id)
    )
    parents = {row["id"]: row["parent_id"] for row in projects}

    def inherits(key: str) -> bool:
        parent = parents.get(key, "")
        return bool(parent) and (parent in above or inherits(parent))

    return [row_of(row) for row in projects if row["id"] in direct or inherits(row["id"])]


def domains_of(tx: Tx, user_id: str) -> list[Row]:
    """The enabled domains on which the user has a role."""
    a = ASSIGNMENTS.c
    having = sa.select(a.target_id).where(acting_as(user_id), a.target_type == "domain", a.inherited.is_(False))
    wanted = sa.select(PROJECTS).where(PROJECTS.c.is_domain, PROJECTS.c.enabled, PROJECTS.c.id.in_(having))
    return [row_of(row) for row in tx.all(wanted.order_by(PROJECTS.c.id))]
