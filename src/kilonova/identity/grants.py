"""Roles given to a user or group on a project, a domain or the system; with OS-INHERIT, on all projects below.

The paths differ only in these parts: `[OS-INHERIT/]{projects|domains}/{id}/{users|groups}/{id}/roles[/{id}]`, and
`system/{users|groups}/{id}/roles[/{id}]`.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.identity import access, application_credentials, views
from kilonova.identity.records import Row, forbidden, get, not_found, row_of, touch
from kilonova.identity.tables import APPLICATION_CREDENTIALS, ASSIGNMENTS, GROUPS, PROJECTS, ROLES, USERS
from kilonova.model.errors import NotFound
from kilonova.web.call import Call

DELEGABLE = ("manager", "member", "reader")  # what a domain's manager may give


@dataclass(frozen=True)
class Grant:
    """Who, and where. `domain_id` is the target's domain, "" for the system."""

    actor_type: str
    actor_id: str
    target_type: str
    target_id: str
    inherited: bool
    domain_id: str
    actor_domain_id: str

    @property
    def values(self) -> Row:
        return {
            "actor_type": self.actor_type,
            "actor_id": self.actor_id,
            "target_type": self.target_type,
            "target_id": self.target_id,
            "inherited": self.inherited,
        }

    @property
    def condition(self) -> sa.ColumnElement[bool]:
        return sa.and_(*(ASSIGNMENTS.c[name] == value for name, value in self.values.items()))


def read_grant(call: Call, writing: bool, action: str) -> Grant:
    """What the path says. NotFound when a part of it does not exist; 403 to who may not know."""
    parts = [part for part in call.path.strip("/").split("/")[1:] if part != "OS-INHERIT"]
    inherited = parts[-1] == "inherited_to_projects"
    target_type = parts[0].removesuffix("s") if parts[0] != "system" else "system"
    actor_type = "user" if "users" in parts[1:4] else "group"
    try:
        actor = get(call.tx, USERS if actor_type == "user" else GROUPS, actor_type, call.params["actor_id"])
        if target_type == "system":
            target_id, domain_id = "all", ""
        else:
            target = get(call.tx, PROJECTS, target_type, call.params["target_id"])
            if target_type == "domain" and not target["is_domain"]:
                raise not_found("domain", target["id"])
            target_id, domain_id = target["id"], target["id"] if target["is_domain"] else target["domain_id"]
    except NotFound:
        if not access.reads_all(call.context):
            raise forbidden(action) from None
        raise
    grant = Grant(actor_type, actor["id"], target_type, target_id, inherited, domain_id, actor["domain_id"])
    for domain in (grant.domain_id, grant.actor_domain_id):
        if writing and not access.manages_domain(call.context, domain):
            raise forbidden(action)
        if not writing and not (access.reads_all(call.context) or access.reads_domain(call.context, domain)):
            raise forbidden(action)
    return grant


def index(call: Call) -> Row:
    grant = read_grant(call, False, "identity:list_grants")
    given = sa.select(ASSIGNMENTS.c.role_id).where(grant.condition)
    rows = [row_of(row) for row in call.tx.all(sa.select(ROLES).where(ROLES.c.id.in_(given)).order_by(ROLES.c.id))]
    return views.collection(call, "roles", rows, views.role)


def _role(call: Call, grant: Grant, action: str) -> tuple[Row, bool]:
    """The path's role, and whether it is given."""
    role = get(call.tx, ROLES, "role", call.params["role_id"])
    if action != "identity:check_grant" and not call.context.is_admin and role["name"] not in DELEGABLE:
        raise forbidden(action)
    found = call.tx.first(sa.select(ASSIGNMENTS).where(grant.condition, ASSIGNMENTS.c.role_id == role["id"]))
    return role, found is not None


def _missing(grant: Grant, role: Row) -> NotFound:
    return NotFound(
        f"Could not find role assignment with role: {role['id']}, user or group: {grant.actor_id}, "
        f"project, domain, or system: {grant.target_id}."
    )


def check(call: Call) -> None:
    grant = read_grant(call, False, "identity:check_grant")
    role, given = _role(call, grant, "identity:check_grant")
    if not given:
        raise _missing(grant, role)


def give(call: Call) -> None:
    grant = read_grant(call, True, "identity:create_grant")
    role, given = _role(call, grant, "identity:create_grant")
    if grant.target_type == "project" and role["domain_id"] not in ("", grant.domain_id):
        raise forbidden(f"Project {grant.target_id} must be in the same domain as the role {role['id']} being assigned")
    if not given:
        insert_new(call.tx.connection, ASSIGNMENTS, {**grant.values, "role_id": role["id"]})
        touch(call.tx)


def take(call: Call) -> None:
    grant = read_grant(call, True, "identity:revoke_grant")
    role, given = _role(call, grant, "identity:revoke_grant")
    if not given:
        raise _missing(grant, role)
    call.tx.execute(sa.delete(ASSIGNMENTS).where(grant.condition, ASSIGNMENTS.c.role_id == role["id"]))
    if (grant.actor_type, grant.target_type, grant.inherited) == ("user", "project", False):
        c = APPLICATION_CREDENTIALS.c  # Keystone's _delete_app_creds_on_assignment_removal
        application_credentials.remove(call.tx, c.user_id == grant.actor_id, c.project_id == grant.target_id)
    touch(call.tx)
