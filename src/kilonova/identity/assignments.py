"""GET /v3/role_assignments: who has which role where, as given or as it works out (`effective`)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import sqlalchemy as sa

from kilonova.identity import access, projects, scopes, views
from kilonova.identity.records import Row, boolean, row_of
from kilonova.identity.tables import ASSIGNMENTS, GROUPS, MEMBERSHIPS, PROJECTS, ROLES, USERS
from kilonova.model.errors import BadRequest
from kilonova.web.call import Call


@dataclass(frozen=True)
class Assignment:
    """One line of the answer. `via_*` tell how an effective one came about."""

    actor_type: str
    actor_id: str
    target_type: str
    target_id: str
    role_id: str
    inherited: bool
    via_group: str = ""
    via_target: tuple[str, str] | None = None
    via_role: str = ""


BOTH = (
    ("scope.domain.id", "scope.project.id", "Specify a domain or project, not both"),
    ("scope.domain.id", "scope.system", "Specify system or domain, not both"),
    ("scope.project.id", "scope.system", "Specify system or project, not both"),
    ("user.id", "group.id", "Specify a user or group, not both"),
)


def index(call: Call) -> Row:
    for one, other, message in BOTH:
        if call.arg(one) and call.arg(other):
            raise BadRequest(message)
    effective = boolean(call.arg("effective"))
    if effective and call.arg("group.id"):
        raise BadRequest("Combining effective and group filter will always result in an empty list.")
    subtree = boolean(call.arg("include_subtree"))
    if subtree and not call.arg("scope.project.id"):
        raise BadRequest("scope.project.id must be specified if include_subtree is also specified")
    found = [Assignment(**row) for row in map(row_of, call.tx.all(sa.select(ASSIGNMENTS)))]
    if effective:
        found = list(dict.fromkeys(expand(call, found)))
    names = Names(call) if boolean(call.arg("include_names")) else None
    chosen = [each for each in found if wanted(call, each, effective, subtree)]
    path = views.url(call, "role_assignments")
    return {
        "role_assignments": [view(call, each, names) for each in chosen],
        "links": {"next": None, "self": path, "previous": None},
    }


def expand(call: Call, given: list[Assignment]) -> Iterator[Assignment]:
    """Groups become their users, inherited roles the projects below, roles also what they imply (Keystone's effective)."""
    users: dict[str, list[str]] = {}
    for row in call.tx.all(sa.select(MEMBERSHIPS)):
        users.setdefault(row["group_id"], []).append(row["user_id"])
    own_roles = set(call.tx.execute(sa.select(ROLES.c.id).where(ROLES.c.domain_id != "")).scalars())
    graph = scopes.implications(call.tx)
    for each in given:
        people = [each]
        if each.actor_type == "group":
            people = [
                replace(each, actor_type="user", actor_id=user, via_group=each.actor_id)
                for user in users.get(each.actor_id, [])
            ]
        for person in people:
            places = [person]
            if person.inherited:
                via = (person.target_type, person.target_id)
                places = [
                    replace(person, target_type="project", target_id=row["id"], via_target=via)
                    for row in projects.below(call.tx, person.target_id)
                ]
            for place in places:
                yield from _with_implied(place, graph, own_roles)


def _with_implied(given: Assignment, graph: dict[str, list[str]], own_roles: set[str]) -> Iterator[Assignment]:
    todo, seen = [(given.role_id, "")], set()
    while todo:
        role, via = todo.pop(0)
        if role in seen:
            continue
        seen.add(role)
        if role not in own_roles:
            yield replace(given, role_id=role, via_role=via)
        todo += [(implied, role) for implied in graph.get(role, [])]


def wanted(call: Call, each: Assignment, effective: bool, subtree: bool) -> bool:
    """Whether the query, and the caller's scope, take this one in."""
    for key, value in (("user.id", "user"), ("group.id", "group")):
        asked = call.arg(key)
        if asked is not None and (each.actor_type, each.actor_id) != (value, asked):
            return False
    role, domain, project = call.arg("role.id"), call.arg("scope.domain.id"), call.arg("scope.project.id")
    if role is not None and each.role_id != role:
        return False
    if domain is not None and (each.target_type, each.target_id) != ("domain", domain):
        return False
    if project is not None:
        places = {project}
        if subtree:
            places |= {row["id"] for row in projects.below(call.tx, project)}
        if each.target_type != "project" or each.target_id not in places:
            return False
    if call.arg("scope.system") is not None and each.target_type != "system":
        return False
    inherited = call.arg("scope.OS-INHERIT:inherited_to")
    if inherited is not None and each.inherited != (inherited == "projects"):
        return False
    scope = call.context.domain_id
    return access.reads_all(call.context) or not scope or _domain_of(call, each) == scope


def _domain_of(call: Call, each: Assignment) -> str:
    if each.target_type != "project":
        return each.target_id
    return str(call.tx.scalar(sa.select(PROJECTS.c.domain_id).where(PROJECTS.c.id == each.target_id)))


class Names:
    """Rows by id, for `include_names`."""

    def __init__(self, call: Call) -> None:
        self.rows: dict[str, dict[str, Row]] = {}
        for kind, table in (("project", PROJECTS), ("user", USERS), ("group", GROUPS), ("role", ROLES)):
            self.rows[kind] = {row["id"]: row_of(row) for row in call.tx.all(sa.select(table))}
        self.rows["domain"] = self.rows["project"]

    def of(self, kind: str, key: str) -> Row:
        row = self.rows[kind].get(key)
        if row is None:
            return {"id": key, "name": ""}
        body: Row = {"id": key, "name": row["name"]}
        if row["domain_id"] and kind != "domain":
            body["domain"] = {"id": row["domain_id"], "name": self.rows["project"][row["domain_id"]]["name"]}
        return body


def view(call: Call, each: Assignment, names: Names | None) -> Row:
    def entity(kind: str, key: str) -> Row:
        return names.of(kind, key) if names else {"id": key}

    target = {"all": True} if each.target_type == "system" else entity(each.target_type, each.target_id)
    scope: Row = {each.target_type: target}
    if each.inherited:
        scope["OS-INHERIT:inherited_to"] = "projects"
    kind, key = each.via_target or (each.target_type, each.target_id)
    actor = f"groups/{each.via_group}" if each.via_group else f"{each.actor_type}s/{each.actor_id}"
    place = "system" if kind == "system" else f"{kind}s/{key}"
    link = f"{place}/{actor}/roles/{each.via_role or each.role_id}"
    if each.inherited:
        link = f"OS-INHERIT/{link}/inherited_to_projects"
    links = {"assignment": views.url(call, link)}
    if each.via_group:
        links["membership"] = views.url(call, f"groups/{each.via_group}/users/{each.actor_id}")
    if each.via_role:
        links["prior_role"] = views.url(call, f"roles/{each.via_role}/implies/{each.role_id}")
    return {
        "role": entity("role", each.role_id),
        "scope": scope,
        each.actor_type: entity(each.actor_type, each.actor_id),
        "links": links,
    }
