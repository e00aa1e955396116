"""Quotas: what a project may have, and what it has."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from kilonova.compute.tables import KEYPAIRS, QUOTA_LOCKS, QUOTAS, SERVER_GROUPS, SERVERS
from kilonova.db.dialect import lock_quota
from kilonova.db.engine import Tx
from kilonova.identity.tables import PROJECTS
from kilonova.model.errors import BadRequest, OverQuota
from kilonova.web.call import Context

DEFAULTS = {
    "instances": 10,
    "cores": 20,
    "ram": 50 * 1024,  # MiB
    "metadata_items": 128,
    "injected_files": 5,
    "injected_file_content_bytes": 10 * 1024,
    "injected_file_path_bytes": 255,
    "key_pairs": 100,
    "server_groups": 10,
    "server_group_members": 10,
    "fixed_ips": -1,  # these four are the network's
    "floating_ips": -1,
    "security_groups": -1,
    "security_group_rules": -1,
}
UNTIL_235 = {"fixed_ips", "floating_ips", "security_groups", "security_group_rules"}
UNTIL_256 = {"injected_files", "injected_file_content_bytes", "injected_file_path_bytes"}


def check_project(tx: Tx, project_id: str) -> None:
    """BadRequest when there is no such project (Nova: verify_project_id)."""
    if tx.scalar(sa.select(PROJECTS.c.id).where(PROJECTS.c.id == project_id)) is None:
        raise BadRequest(f"Project ID {project_id} is not a valid project.")


def shown(minor: int) -> list[str]:
    """The resources that a microversion speaks of."""
    hidden = (UNTIL_235 if minor >= 36 else set()) | (UNTIL_256 if minor >= 57 else set())
    return [name for name in DEFAULTS if name not in hidden]


def _stored(tx: Tx, scope: str) -> dict[str, int]:
    query = sa.select(QUOTAS.c.resource, QUOTAS.c.hard_limit).where(QUOTAS.c.scope == scope)
    return {row["resource"]: row["hard_limit"] for row in tx.all(query)}


def defaults(tx: Tx) -> dict[str, int]:
    """A new project's limits: the class `default` over what is built in. -1: none."""
    return DEFAULTS | _stored(tx, "class:default")


def limits(tx: Tx, project_id: str, user_id: str | None = None) -> dict[str, int]:
    """The project's, or those of one user within it, which are the project's where none are the user's own."""
    own = _stored(tx, _user_scope(project_id, user_id)) if user_id else {}
    return defaults(tx) | _stored(tx, f"project:{project_id}") | own


def _user_scope(project_id: str, user_id: str) -> str:
    return f"user:{project_id}:{user_id}"


def class_limits(tx: Tx, name: str) -> dict[str, int]:
    return DEFAULTS | _stored(tx, f"class:{name}")


def usages(tx: Tx, project_id: str, user_id: str | None = None) -> dict[str, int]:
    """What counts towards the limits now, of all the project's users or of one. Key pairs are counted elsewhere."""
    mine = [SERVERS.c.user_id == user_id] if user_id else []
    total = sa.func.coalesce
    row = tx.first(
        sa.select(
            sa.func.count().label("instances"),
            total(sa.func.sum(SERVERS.c.vcpus), 0).label("cores"),
            total(sa.func.sum(SERVERS.c.memory_mb), 0).label("ram"),
        ).where(SERVERS.c.project_id == project_id, SERVERS.c.deleted_at.is_(None), *mine)
    )
    assert row is not None
    whose = [SERVER_GROUPS.c.user_id == user_id] if user_id else []
    owned = sa.select(sa.func.count()).where(SERVER_GROUPS.c.project_id == project_id, *whose)
    counted = {key: int(value) for key, value in row.items()} | {"server_groups": int(tx.scalar(owned))}
    return dict.fromkeys(DEFAULTS, 0) | counted


def keypairs_used(tx: Tx, user_id: str) -> int:
    return int(tx.scalar(sa.select(sa.func.count()).select_from(KEYPAIRS).where(KEYPAIRS.c.user_id == user_id)))


def lock(tx: Tx, project_id: str) -> None:
    lock_quota(tx.connection, QUOTA_LOCKS, project_id)


def room(tx: Tx, context: Context, flavor: sa.RowMapping, at_least: int, at_most: int) -> int:
    """How many servers of this flavor may be made, `at_least`…`at_most`. OverQuota, in Nova's words, if too few."""
    project_id, user_id = context.project_id, context.user_id
    lock(tx, project_id)
    fits = _fits(limits(tx, project_id), usages(tx, project_id), flavor, at_least, at_most)
    if _stored(tx, _user_scope(project_id, user_id)):
        fits = _fits(limits(tx, project_id, user_id), usages(tx, project_id, user_id), flavor, at_least, fits)
    return fits


def _fits(allowed: dict[str, int], used: dict[str, int], flavor: sa.RowMapping, at_least: int, at_most: int) -> int:
    size = {"instances": 1, "cores": flavor["vcpus"], "ram": flavor["memory_mb"]}
    fits = at_most
    for name, each in size.items():
        if allowed[name] >= 0 and each:
            fits = min(fits, max(0, allowed[name] - used[name]) // each)
    if fits >= at_least:
        return fits
    _check(allowed, used, {name: at_least * each for name, each in size.items()})
    return fits


def check_upsize(tx: Tx, server: sa.RowMapping, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """OverQuota when there is no room for what the new flavor has more (Nova: _check_quota_for_upsize)."""
    project_id, user_id = server["project_id"], server["user_id"]
    more = {"cores": new["vcpus"] - old["vcpus"], "ram": new["memory_mb"] - old["memory_mb"]}
    more = {name: amount for name, amount in more.items() if amount > 0}
    lock(tx, project_id)
    _check(limits(tx, project_id), usages(tx, project_id), more)
    if _stored(tx, _user_scope(project_id, user_id)):
        _check(limits(tx, project_id, user_id), usages(tx, project_id, user_id), more)


def _check(allowed: dict[str, int], used: dict[str, int], asked: dict[str, int]) -> None:
    """OverQuota, in Nova's words, when what is asked for is more than is left."""
    over = sorted(name for name, amount in asked.items() if 0 <= allowed[name] < used[name] + amount)
    if not over:
        return
    names = ", ".join(over)
    requested, taken, most = (", ".join(str(values[name]) for name in over) for values in (asked, used, allowed))
    raise OverQuota(
        f"Quota exceeded for {names}: Requested {requested}, but already used {taken} of {most} {names}",
    )


def update(tx: Tx, project_id: str, user_id: str | None, wanted: dict[str, Any], force: bool) -> None:
    """BadRequest when a limit lies below what is used already, or a user's above the project's, unless forced."""
    used, project = usages(tx, project_id, user_id), limits(tx, project_id)
    values = {key: int(value) for key, value in wanted.items() if value is not None and value != ""}
    for name, value in values.items():
        if force:
            continue
        if value != -1 and value < used[name]:
            raise BadRequest(
                f"Quota limit {value} for {name} must be greater than or equal to already used and "
                f"reserved {used[name]}."
            )
        if user_id and project[name] != -1 and not 0 <= value <= project[name]:
            raise BadRequest(f"Quota limit {value} for {name} must be less than or equal to {project[name]}.")
    if user_id:  # the network's quotas are the project's alone (Nova: per_project_quotas)
        store(tx, f"project:{project_id}", {key: value for key, value in values.items() if key in UNTIL_235})
        values = {key: value for key, value in values.items() if key not in UNTIL_235}
    store(tx, _user_scope(project_id, user_id) if user_id else f"project:{project_id}", values)


def store(tx: Tx, scope: str, values: dict[str, int]) -> None:
    """`scope`: `project:<id>` or `class:<name>`."""
    tx.execute(QUOTAS.delete().where(QUOTAS.c.scope == scope, QUOTAS.c.resource.in_(values)))
    for name, value in values.items():
        tx.execute(QUOTAS.insert().values(scope=scope, resource=name, hard_limit=value))


def reset(tx: Tx, project_id: str, user_id: str | None) -> None:
    """A user's limits are the project's again; a project's, and all its users', the defaults."""
    scope = QUOTAS.c.scope
    if user_id:
        tx.execute(QUOTAS.delete().where(scope == _user_scope(project_id, user_id)))
    else:
        users = scope.startswith(_user_scope(project_id, ""), autoescape=True)
        tx.execute(QUOTAS.delete().where((scope == f"project:{project_id}") | users))
