"""GET /v3/role_assignments: who has which role where, as given or as it works out (`effective`)."""

from collections.abc import Iterator, Mapping
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


@dataclass(frozen=True)
class Asked:
    """What the query and the caller's scope take in; None: all.

    `actor`: ("user" or "group", id); `targets`: (type, id) of each; `own`: the ids of a domain and of the projects in it.
    """

    actor: tuple[str, str] | None
    role: str | None
    targets: frozenset[tuple[str, str]] | None
    inherited: bool | None
    own: frozenset[str] | None

    def is_of(self, kind: str, key: str) -> bool:
        return self.actor in (None, (kind, key))

    def is_on(self, kind: str, key: str) -> bool:
        return (self.targets is None or (kind, key) in self.targets) and (self.own is None or key in self.own)

    def takes(self, each: Assignment) -> bool:
        return (
            self.is_of(each.actor_type, each.actor_id)
            and self.is_on(each.target_type, each.target_id)
            and self.role in (None, each.role_id)
            and self.inherited in (None, each.inherited)
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
    asked = what_is_asked(call, subtree)
    found = [Assignment(**row) for row in map(row_of, call.tx.all(sa.select(ASSIGNMENTS)))]
    if effective:
        found = list(dict.fromkeys(expand(call, found, asked)))
    names = Names(call) if boolean(call.arg("include_names")) else None
    rows = [view(call, each, names) for each in found if asked.takes(each)]
    return views.collection(call, "role_assignments", rows, lambda _, row: row, paged=False)


def what_is_asked(call: Call, subtree: bool) -> Asked:
    user, group = call.arg("user.id"), call.arg("group.id")
    actor = ("user", user) if user is not None else ("group", group) if group is not None else None
    domain, project = call.arg("scope.domain.id"), call.arg("scope.project.id")
    targets: set[tuple[str, str]] | None = None
    if domain is not None:
        targets = {("domain", domain)}
    elif project is not None:
        below = projects.below(call.tx, project) if subtree else []
        targets = {("project", key) for key in (project, *(row["id"] for row in below))}
    elif call.arg("scope.system") is not None:
        targets = {("system", "all")}
    inherited, own = call.arg("scope.OS-INHERIT:inherited_to"), None
    scope = call.context.domain_id
    if scope and not access.reads_all(call.context):
        inside = call.tx.execute(sa.select(PROJECTS.c.id).where(PROJECTS.c.domain_id == scope)).scalars()
        own = frozenset((scope, *inside))
    return Asked(
        actor, call.arg("role.id"), None if targets is None else frozenset(targets),
        None if inherited is None else inherited == "projects", own,
    )  # fmt: skip


def expand(call: Call, given: list[Assignment], asked: Asked) -> Iterator[Assignment]:
    """Groups become their users, inherited roles the projects below, roles also what they imply (Keystone's effective).

    Of users and projects only those that are asked for: a domain's role of a group is one for each user in each project.
    """
    users: dict[str, list[str]] = {}
    for row in call.tx.all(sa.select(MEMBERSHIPS)):
        users.setdefault(row["group_id"], []).append(row["user_id"])
    own_roles = set(call.tx.execute(sa.select(ROLES.c.id).where(ROLES.c.domain_id != "")).scalars())
    graph = scopes.implications(call.tx)
    places: dict[str, list[str]] = {}
    for each in given:
        people = [each]
        if each.actor_type == "group":
            people = [
                replace(each, actor_type="user", actor_id=user, via_group=each.actor_id)
                for user in users.get(each.actor_id, [])
                if asked.is_of("user", user)
            ]
        elif not asked.is_of("user", each.actor_id):
            people = []
        if people and each.inherited and each.target_id not in places:
            below = (row["id"] for row in projects.below(call.tx, each.target_id))
            places[each.target_id] = [key for key in below if asked.is_on("project", key)]
        for person in people:
            for place in _in_places(person, places):
                yield from _with_implied(place, graph, own_roles)


def _in_places(given: Assignment, places: Mapping[str, list[str]]) -> Iterator[Assignment]:
    if not given.inherited:
        yield given
        return
    via = (given.target_type, given.target_id)
    for key in places[given.target_id]:
        yield replace(given, target_type="project", target_id=key, via_target=via)


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
