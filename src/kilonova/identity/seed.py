"""What a new cloud has (keystone-manage bootstrap, and DevStack's demo user)."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.identity.passwords import hash_password
from kilonova.identity.records import Row, insert
from kilonova.identity.tables import (
    ASSIGNMENTS,
    ENDPOINTS,
    IMPLIED_ROLES,
    PROJECTS,
    REGIONS,
    REVISION,
    ROLES,
    SERVICES,
    USERS,
)
from kilonova.model.ids import new_hex_id

REGION = "RegionOne"
CATALOG = (  # type, name, path below the public root
    ("identity", "keystone", "/identity/v3"),
    ("compute", "nova", "/compute/v2.1"),
    ("network", "neutron", "/network"),
    ("image", "glance", "/image"),
    ("block-storage", "cinder", "/volume/v3"),
    ("volumev3", "cinderv3", "/volume/v3/$(project_id)s"),
    ("placement", "placement", "/placement"),
)
ROLE_NAMES = ("admin", "manager", "member", "reader", "service")
IMPLICATIONS = (("admin", "manager"), ("manager", "member"), ("member", "reader"))
DOMAIN = "default"


def _ensure(tx: Tx, table: sa.Table, kind: str, wanted: Row, row: Row) -> str:
    """The id of the row with the attributes `wanted`; made with those of `row` too when there is none."""
    found = tx.first(sa.select(table.c.id).where(*(table.c[name] == value for name, value in wanted.items())))
    if found:
        return str(found["id"])
    made = {"id": new_hex_id(), "extra": {}, **wanted, **row}
    insert(tx, table, kind, made)
    return str(made["id"])


def _ensure_link(tx: Tx, table: sa.Table, row: Row) -> None:
    if not tx.first(sa.select(table).where(*(table.c[name] == value for name, value in row.items()))):
        tx.execute(sa.insert(table).values(**row))


def _ensure_role(tx: Tx, user_id: str, role_id: str, target_type: str, target_id: str) -> None:
    who = {"actor_type": "user", "actor_id": user_id}
    where = {"target_type": target_type, "target_id": target_id}
    _ensure_link(tx, ASSIGNMENTS, {**who, **where, "role_id": role_id, "inherited": False})


def seed(tx: Tx, *, admin_password: str, demo_password: str) -> dict[str, Any]:
    """Fill a new cloud; of one that has been filled only the catalogue is completed, so what was deleted stays away.

    Returns `{"domain": id, "region": id, "projects": {name: id}, "users": {name: id}, "roles": {name: id}}`.
    """
    if not tx.first(sa.select(REVISION.c.id)):
        tx.execute(sa.insert(REVISION).values(id=1, number=1))
        first_fill(tx, {"admin": admin_password, "demo": demo_password})
    seed_catalog(tx)
    ids: dict[str, Any] = {"domain": DOMAIN, "region": REGION}
    for key, table, domain_id in (
        ("projects", PROJECTS, DOMAIN), ("users", USERS, DOMAIN), ("roles", ROLES, "")
    ):  # fmt: skip
        rows = tx.all(sa.select(table.c.name, table.c.id).where(table.c.domain_id == domain_id))
        ids[key] = {row["name"]: row["id"] for row in rows}
    return ids


def first_fill(tx: Tx, passwords: dict[str, str]) -> None:
    domain = {"id": DOMAIN, "name": "Default", "domain_id": "", "parent_id": "", "is_domain": True, "extra": {}}
    insert(tx, PROJECTS, "domain", {**domain, "description": "The default domain"})
    projects = {}
    for name in ("admin", "demo", "service"):
        place = {"domain_id": DOMAIN, "name": name, "is_domain": False}
        projects[name] = _ensure(tx, PROJECTS, "project", place, {"parent_id": DOMAIN})
    users = {}
    for name, password in passwords.items():
        user = {"password_hash": hash_password(password)}
        users[name] = _ensure(tx, USERS, "user", {"domain_id": DOMAIN, "name": name}, user)
    fixed = {"options": {"immutable": True}}  # as keystone-manage bootstrap: without its admin a cloud is nobody's
    roles = {name: _ensure(tx, ROLES, "role", {"domain_id": "", "name": name}, fixed) for name in ROLE_NAMES}
    for prior, implied in IMPLICATIONS:
        _ensure_link(tx, IMPLIED_ROLES, {"prior_role_id": roles[prior], "implied_role_id": roles[implied]})
    for project in ("admin", "demo"):
        _ensure_role(tx, users["admin"], roles["admin"], "project", projects[project])
    _ensure_role(tx, users["admin"], roles["admin"], "system", "all")
    _ensure_role(tx, users["demo"], roles["member"], "project", projects["demo"])


def seed_catalog(tx: Tx) -> None:
    if not tx.first(sa.select(REGIONS.c.id).where(REGIONS.c.id == REGION)):
        insert(tx, REGIONS, "region", {"id": REGION, "description": "", "extra": {}})
    for kind, name, path in CATALOG:
        service = _ensure(tx, SERVICES, "service", {"type": kind}, {"extra": {"name": name, "description": ""}})
        for interface in ("public", "internal", "admin"):
            place = {"service_id": service, "interface": interface, "region_id": REGION}
            _ensure(tx, ENDPOINTS, "endpoint", place, {"url": path})
