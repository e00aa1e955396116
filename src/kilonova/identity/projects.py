"""Projects, their tags and their place in the tree."""

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.identity import access, application_credentials, endpoint_groups, limits, scopes, trusts, views
from kilonova.identity.records import (
    Row,
    boolean,
    forbidden,
    get,
    hold,
    insert,
    not_found,
    refuse_immutable,
    row_of,
    select,
    split,
    touch,
    update,
)
from kilonova.identity.tables import APPLICATION_CREDENTIALS, ASSIGNMENTS, CREDENTIALS, PROJECTS, TRUSTS, USERS
from kilonova.model.errors import BadRequest, Forbidden
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call, Context

HIDDEN = ("id", "tokens_valid_since")
MAX_DEPTH = 5  # levels of projects below a domain: Keystone's max_project_tree_depth
FILTERS = ("domain_id", "enabled", "is_domain", "name", "parent_id")


def own_project(context: Context, row: Row) -> bool:
    return context.project_id == row["id"] or access.in_own_domain(context, row)


TAG_FILTERS: dict[str, Callable[[set[str], set[str]], bool]] = {  # (asked, there)
    "tags": lambda asked, have: asked <= have,
    "tags-any": lambda asked, have: bool(asked & have),
    "not-tags": lambda asked, have: not asked <= have,
    "not-tags-any": lambda asked, have: not asked & have,
}


def has_tags(call: Call, row: Row) -> bool:
    """Keystone's four tag filters: all of, any of, not all of, none of."""
    have = set(row["tags"])
    asked = ((fits, call.arg(key)) for key, fits in TAG_FILTERS.items())
    return all(fits(set(text.split(",")), have) for fits, text in asked if text is not None)


def index(call: Call) -> Row:
    conditions: list[Any] = list(access.own_domain(call, PROJECTS))
    if call.arg("is_domain") is None:
        conditions.append(PROJECTS.c.is_domain.is_(False))
    paged = all(call.arg(key) is None for key in TAG_FILTERS)
    rows = select(call, PROJECTS, FILTERS, *conditions, paged=paged)
    return views.collection(call, "projects", [row for row in rows if has_tags(call, row)], views.project)


def show(call: Call) -> Row:
    row = access.fetch(call, PROJECTS, "project", "identity:get_project", own_project)
    body = views.project(call, row)
    if call.arg("parents_as_ids") is not None:
        body["parents"] = _above_as_ids(call.tx, row)
    elif call.arg("parents_as_list") is not None:
        body["parents"] = [{"project": views.project(call, each)} for each in _reachable(call, _above(call.tx, row))]
    if call.arg("subtree_as_ids") is not None:
        body["subtree"] = _below_as_ids(call.tx, row["id"]) or None
    elif call.arg("subtree_as_list") is not None:
        body["subtree"] = [
            {"project": views.project(call, each)} for each in _reachable(call, below(call.tx, row["id"]))
        ]
    return {"project": body}


def _above(tx: Tx, row: Row) -> list[Row]:
    return scopes.ancestors(tx, row)


def _above_as_ids(tx: Tx, row: Row) -> Row | None:
    nested: Row | None = None
    for each in reversed(_above(tx, row)):
        nested = {each["id"]: nested}
    return nested


def below(tx: Tx, key: str) -> list[Row]:
    """All projects under this one, parents before children."""
    found: list[Row] = []
    todo = [key]
    while todo:
        rows = [row_of(row) for row in tx.all(sa.select(PROJECTS).where(PROJECTS.c.parent_id.in_(todo)))]
        found += rows
        todo = [row["id"] for row in rows]
    return found


def _below_as_ids(tx: Tx, key: str) -> Row:
    children = tx.execute(sa.select(PROJECTS.c.id).where(PROJECTS.c.parent_id == key)).scalars().all()
    return {child: _below_as_ids(tx, child) or None for child in children}


def _reachable(call: Call, rows: list[Row]) -> list[Row]:
    mine = {row["id"] for row in scopes.projects_of(call.tx, call.context.user_id)}
    return [row for row in rows if row["id"] in mine]


def create(call: Call) -> Row:
    known, extra = split(PROJECTS, call.body["project"], HIDDEN)
    if known.get("is_domain"):
        domain_id = parent_id = ""
        _require_manager(call, domain_id)
    else:
        domain_id, parent_id = _place(call, known)
    row = {
        "enabled": True,
        "is_domain": False,
        "tags": [],
        "options": {},
        **known,
        "id": new_hex_id(),
        "domain_id": domain_id,
        "parent_id": parent_id,
        "description": known.get("description") or "",
        "extra": extra,
    }
    insert(call.tx, PROJECTS, "project", row)
    return {"project": views.project(call, row)}


def _require_manager(call: Call, domain_id: str) -> None:
    if not access.manages_domain(call.context, domain_id):
        raise forbidden("identity:create_project")


def _place(call: Call, known: Row) -> tuple[str, str]:
    """(domain, parent) of a new project; what the body leaves out follows from what it says.

    Forbidden before all else to who may not make it there: of another's domain nobody learns what is in it.
    """
    domain_id, parent_id = known.get("domain_id"), known.get("parent_id")
    if parent_id:
        found = call.tx.first(sa.select(PROJECTS).where(PROJECTS.c.id == parent_id))
        of_parent = (found["id"] if found["is_domain"] else found["domain_id"]) if found else ""
        _require_manager(call, of_parent)
        parent = get(call.tx, PROJECTS, "project", parent_id)
        if domain_id and domain_id != of_parent:
            raise BadRequest(
                "Cannot create project, since it specifies its domain_id "
                f"{domain_id}, but specifies a parent in a different domain ({of_parent})."
            )
        above = [parent, *scopes.ancestors(call.tx, parent)]
        if not all(each["enabled"] for each in above):
            raise Forbidden(f"Cannot create project in a branch containing a disabled project: {parent_id}.")
        if len(above) > MAX_DEPTH:
            raise Forbidden(
                f"Max hierarchy depth reached for {parent_id} branch. The maximum allowed depth is {MAX_DEPTH}."
            )
        hold(call.tx, PROJECTS, "project", parent_id)
        return of_parent, parent_id
    domain_id = domain_id or access.default_domain(call)
    _require_manager(call, domain_id)
    require_domain(call.tx, domain_id)
    return domain_id, domain_id


def change(call: Call) -> Row:
    row = access.fetch_managed(call, PROJECTS, "project", "identity:update_project")
    known, extra = split(PROJECTS, call.body["project"], HIDDEN)
    _refuse_moves(row, known)
    return {"project": views.project(call, store(call.tx, row, "project", known, extra))}


def _refuse_moves(row: Row, known: Row) -> None:
    if "domain_id" in known and (known["domain_id"] or "") != row["domain_id"]:
        raise BadRequest("Cannot change Domain ID.")
    if "parent_id" in known and (known["parent_id"] or "") != row["parent_id"]:
        raise Forbidden("Update of `parent_id` is not allowed.")
    if "is_domain" in known and known["is_domain"] != row["is_domain"]:
        raise BadRequest("Update of `is_domain` is not allowed.")


def store(tx: Tx, row: Row, kind: str, known: Row, extra: Row) -> Row:
    """Change a project or domain; disabling it ends the tokens that have it as their scope."""
    options = known.pop("options", None) or {}
    if row["options"].get("immutable") and options.get("immutable", True) is not False:
        refuse_immutable(row, kind, "update")
    values = {key: value for key, value in known.items() if key not in ("domain_id", "parent_id", "is_domain")}
    if "description" in values:
        values["description"] = values["description"] or ""
    merged = {**row["options"], **options}
    values["options"] = {key: value for key, value in merged.items() if value is not None}
    if values.get("enabled") is False and row["enabled"]:
        if not row["is_domain"] and any(child["enabled"] for child in below(tx, row["id"])):
            raise Forbidden(f"Cannot disable project {row['id']} since its subtree contains enabled projects.")
        values["tokens_valid_since"] = time.time()
    if values.get("enabled") and any(not above["enabled"] for above in scopes.ancestors(tx, row)):
        raise Forbidden(f"Cannot enable project {row['id']} since it has disabled parents")
    touch(tx)
    return update(tx, PROJECTS, kind, row["id"], {**values, "extra": extra})


def delete(call: Call) -> None:
    row = access.fetch_managed(call, PROJECTS, "project", "identity:delete_project")
    refuse_immutable(row, "project", "delete")
    if row["is_domain"] and row["enabled"]:
        raise Forbidden("Cannot delete a domain that is enabled, please disable it first.")
    children = below(call.tx, row["id"])
    if children and not boolean(call.arg("cascade")):
        raise Forbidden(
            f"Cannot delete the project {row['id']} since it is not a leaf in the hierarchy. "
            "Use the cascade option if you want to delete a whole subtree."
        )
    remove(call.tx, [row["id"], *(child["id"] for child in children)])


def remove(tx: Tx, keys: list[str]) -> None:
    """Delete projects and what hangs on them."""
    a = ASSIGNMENTS.c
    tx.execute(sa.delete(ASSIGNMENTS).where(a.target_type.in_(("project", "domain")), a.target_id.in_(keys)))
    tx.execute(sa.delete(CREDENTIALS).where(CREDENTIALS.c.project_id.in_(keys)))
    application_credentials.remove(tx, APPLICATION_CREDENTIALS.c.project_id.in_(keys))
    trusts.remove(tx, TRUSTS.c.project_id.in_(keys))
    limits.forget(tx, keys)
    endpoint_groups.forget(tx, project_id=keys)
    tx.execute(sa.update(USERS).where(USERS.c.default_project_id.in_(keys)).values(default_project_id=None))
    tx.execute(sa.delete(PROJECTS).where(PROJECTS.c.id.in_(keys)))
    touch(tx)


# --- tags ---------------------------------------------------------------------------------------------------------


def _tagged(call: Call) -> Row:
    return access.fetch(call, PROJECTS, "project", "identity:get_project_tag", own_project)


def _set_tags(call: Call, action: str, change: Any) -> Row:
    row = access.fetch_managed(call, PROJECTS, "project", action)
    refuse_immutable(row, "project", "update")
    tags = change(row["tags"])
    if len(tags) > 80:
        raise BadRequest(f"Invalid input for field 'tags': {tags!r:.100} is too long: at most 80 tags.")
    call.tx.execute(sa.update(PROJECTS).where(PROJECTS.c.id == row["id"]).values(tags=tags))
    return {**row, "tags": tags}


def _links(call: Call, row: Row) -> Row:
    return {"self": views.url(call, f"projects/{row['id']}/tags")}


def list_tags(call: Call) -> Row:
    row = _tagged(call)
    return {"tags": row["tags"], "links": _links(call, row)}


def replace_tags(call: Call) -> Row:
    row = _set_tags(call, "identity:update_project_tags", lambda _: call.body["tags"])
    return {"tags": row["tags"], "links": _links(call, row)}


def delete_tags(call: Call) -> None:
    _set_tags(call, "identity:delete_project_tags", lambda _: [])


def check_tag(call: Call) -> None:
    if call.params["tag"] not in _tagged(call)["tags"]:
        raise not_found("project tag", call.params["tag"])


def add_tag(call: Call) -> None:
    tag = call.params["tag"]
    if "," in tag or len(tag) > 255:
        raise BadRequest(f"Invalid input for field 'value': {tag!r} is no tag: 1 to 255 characters without , and /.")
    _set_tags(call, "identity:create_project_tag", lambda tags: [*tags, *({tag} - set(tags))])


def delete_tag(call: Call) -> None:
    tag = call.params["tag"]

    def without(tags: list[str]) -> list[str]:
        if tag not in tags:
            raise not_found("project tag", tag)
        return [each for each in tags if each != tag]

    _set_tags(call, "identity:delete_project_tag", without)


def list_of_user(call: Call) -> Row:
    """GET /v3/users/{id}/projects: for the user's own self, readers of its domain or of the system."""
    user = access.fetch(call, USERS, "user", "identity:list_user_projects", is_self)
    rows = [row for row in scopes.projects_of(call.tx, user["id"]) if matches(call, row)]
    return views.collection(call, "projects", rows, views.project)


def matches(call: Call, row: Row) -> bool:
    wanted = {key: value for key, value in call.query if key in ("name", "domain_id", "parent_id")}
    enabled = call.arg("enabled")
    return all(row[key] == value for key, value in wanted.items()) and (
        enabled is None or row["enabled"] == boolean(enabled)
    )


def is_self(context: Context, row: Row) -> bool:
    return context.user_id == row["id"] or access.in_own_domain(context, row)


def require_domain(tx: Tx, domain_id: str) -> None:
    """NotFound when it is none. It stays one while something is made in it."""
    if not tx.first(sa.select(PROJECTS.c.id).where(PROJECTS.c.id == domain_id, PROJECTS.c.is_domain)):
        raise not_found("domain", domain_id)
    hold(tx, PROJECTS, "domain", domain_id)
