"""Groups and who is in them."""

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.identity import access, projects, views
from kilonova.identity.records import Row, forbidden, get, insert, not_found, select, split, touch, update
from kilonova.identity.tables import ASSIGNMENTS, GROUPS, MEMBERSHIPS, USERS
from kilonova.model.errors import BadRequest
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call


def index(call: Call) -> Row:
    rows = select(call, GROUPS, ("domain_id", "name"), *access.own_domain(call, GROUPS))
    return views.collection(call, "groups", rows, views.group)


def show(call: Call) -> Row:
    return {"group": views.group(call, access.fetch(call, GROUPS, "group", "identity:get_group", access.in_own_domain))}


def create(call: Call) -> Row:
    known, extra = split(GROUPS, call.body["group"], ("id",))
    domain_id = known.get("domain_id") or access.default_domain(call)
    if not access.manages_domain(call.context, domain_id):
        raise forbidden("identity:create_group")
    projects.require_domain(call.tx, domain_id)
    description = known.get("description") or ""
    row = {**known, "id": new_hex_id(), "domain_id": domain_id, "description": description, "extra": extra}
    insert(call.tx, GROUPS, "group", row)
    return {"group": views.group(call, row)}


def change(call: Call) -> Row:
    row = access.fetch_managed(call, GROUPS, "group", "identity:update_group")
    known, extra = split(GROUPS, call.body["group"], ("id",))
    if known.pop("domain_id", row["domain_id"]) != row["domain_id"]:
        raise BadRequest("Cannot change Domain ID.")
    if "description" in known:
        known["description"] = known["description"] or ""
    return {"group": views.group(call, update(call.tx, GROUPS, "group", row["id"], {**known, "extra": extra}))}


def delete(call: Call) -> None:
    key = access.fetch_managed(call, GROUPS, "group", "identity:delete_group")["id"]
    call.tx.execute(sa.delete(MEMBERSHIPS).where(MEMBERSHIPS.c.group_id == key))
    a = ASSIGNMENTS.c
    call.tx.execute(sa.delete(ASSIGNMENTS).where(a.actor_type == "group", a.actor_id == key))
    call.tx.execute(sa.delete(GROUPS).where(GROUPS.c.id == key))
    touch(call.tx)


def _pair(call: Call, action: str) -> tuple[str, str, bool]:
    """The path's group and user, and whether the one holds the other."""
    group = access.fetch_managed(call, GROUPS, "group", action)
    user = get(call.tx, USERS, "user", call.params["user_id"])
    if not access.manages_domain(call.context, user["domain_id"]):
        raise forbidden(action)
    m = MEMBERSHIPS.c
    found = call.tx.first(sa.select(MEMBERSHIPS).where(m.group_id == group["id"], m.user_id == user["id"]))
    return group["id"], user["id"], found is not None


def check_member(call: Call) -> None:
    group = access.fetch(call, GROUPS, "group", "identity:check_user_in_group", access.in_own_domain)
    user = get(call.tx, USERS, "user", call.params["user_id"])
    m = MEMBERSHIPS.c
    if not call.tx.first(sa.select(MEMBERSHIPS).where(m.group_id == group["id"], m.user_id == user["id"])):
        raise not_found("user", user["id"])


def add_member(call: Call) -> None:
    group_id, user_id, there = _pair(call, "identity:add_user_to_group")
    if not there:
        insert_new(call.tx.connection, MEMBERSHIPS, {"group_id": group_id, "user_id": user_id})
        touch(call.tx)


def remove_member(call: Call) -> None:
    group_id, user_id, there = _pair(call, "identity:remove_user_from_group")
    if not there:
        raise not_found("user", user_id)
    m = MEMBERSHIPS.c
    call.tx.execute(sa.delete(MEMBERSHIPS).where(m.group_id == group_id, m.user_id == user_id))
    touch(call.tx)
