"""Users and their passwords. Hashing takes long, so it is done before the transaction begins."""

import dataclasses
import operator
import time
from collections.abc import Callable

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.identity import access, application_credentials, projects, security, times, trusts, views
from kilonova.identity.methods import log_in
from kilonova.identity.passwords import hash_password
from kilonova.identity.records import ASKED_WRONG, Row, forbidden, insert, select, split, touch, update
from kilonova.identity.tables import (
    ACCESS_RULES,
    APPLICATION_CREDENTIALS,
    ASSIGNMENTS,
    CREDENTIALS,
    GROUPS,
    MEMBERSHIPS,
    PROJECTS,
    TRUSTS,
    USERS,
)  # fmt: skip
from kilonova.model.errors import BadRequest
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call

HIDDEN = (
    "id", "password", "password_hash", "tokens_valid_since", "password_expires_at", "password_created_at",
    "password_self_service", "password_history", "last_active_at",
)  # fmt: skip
COMPARED: dict[str, Callable[[float, float], bool]] = {
    "lt": operator.lt, "lte": operator.le, "gt": operator.gt, "gte": operator.ge, "eq": operator.eq, "neq": operator.ne,
}  # fmt: skip


def within(call: Call, tx: Tx) -> Call:
    return dataclasses.replace(call, _tx=tx)


def index(call: Call) -> Row:
    paged = not call.args("password_expires_at")
    rows = select(call, USERS, ("domain_id", "enabled", "name"), *access.own_domain(call, USERS), paged=paged)
    rows = [row for row in rows if _expires_as_asked(call, row)]
    return views.collection(call, "users", rows, views.user)


def _expires_as_asked(call: Call, row: Row) -> bool:
    """`password_expires_at=lt:2026-01-02T03:04:05Z`, given once or more."""
    for asked in call.args("password_expires_at"):
        word, colon, text = asked.partition(":")
        if word not in COMPARED or not colon:
            word, text = "eq", asked
        when = times.parse(text)
        if when is None:
            raise BadRequest(f"Timestamp not in expected format. {ASKED_WRONG}")
        if row["password_expires_at"] is None or not COMPARED[word](row["password_expires_at"], when):
            return False
    return True


def show(call: Call) -> Row:
    row = access.fetch(call, USERS, "user", "identity:get_user", projects.is_self)
    return {"user": views.user(call, row)}


def _hashed(call: Call, asked: Row) -> str | None:
    security.check_form(call.services.identity.compliance, asked.get("password"))
    return hash_password(asked["password"]) if asked.get("password") is not None else None


def _check_default_project(tx: Tx, project_id: str | None) -> None:
    row = tx.first(sa.select(PROJECTS.c.is_domain).where(PROJECTS.c.id == project_id)) if project_id else None
    if row and row["is_domain"]:
        raise BadRequest("Invalid default_project_id: a domain cannot be a user's default project.")


def _check_federated(asked: Row) -> None:
    """Keystone: _validate_idp_protocol. There are no identity providers here."""
    if asked.get("federated"):
        raise BadRequest(f"Could not find Identity Provider: {asked['federated'][0]['idp_id']}.")


def create(call: Call) -> Row:
    asked = call.body["user"]
    _check_federated(asked)
    hashed = _hashed(call, asked)

    def store(tx: Tx) -> Row:
        known, extra = split(USERS, asked, HIDDEN)
        domain_id = known.get("domain_id") or access.default_domain(call)
        if not access.manages_domain(call.context, domain_id):
            raise forbidden("identity:create_user")
        projects.require_domain(tx, domain_id)
        _check_default_project(tx, known.get("default_project_id"))
        row = {
            "enabled": True,
            "default_project_id": None,
            "options": {},
            **known,
            "id": new_hex_id(),
            "domain_id": domain_id,
            "extra": extra,
            "last_active_at": time.time(),
        }
        row |= security.password_columns(call.services.identity.compliance, row, hashed)
        insert(tx, USERS, "user", row)
        return {"user": views.user(call, row)}

    return call.database.write(store)


def change(call: Call) -> Row:
    """A new password, or the end of `enabled`, ends the user's tokens."""
    asked = call.body["user"]
    _check_federated(asked)
    hashed = _hashed(call, asked)

    def store(tx: Tx) -> Row:
        row = access.fetch_managed(within(call, tx), USERS, "user", "identity:update_user")
        known, extra = split(USERS, asked, HIDDEN)
        if known.pop("domain_id", row["domain_id"]) != row["domain_id"]:
            raise BadRequest("Cannot change Domain ID.")
        _check_default_project(tx, known.get("default_project_id"))
        if "options" in known:
            merged = {**row["options"], **known["options"]}
            known["options"] = {key: value for key, value in merged.items() if value is not None}
        if "password" in asked:
            known |= security.password_columns(call.services.identity.compliance, {**row, **known}, hashed)
        if known.get("enabled"):
            security.forget_failures(tx, *(security.failures_key(row, {}, method) for method in ("password", "totp")))
            known["last_active_at"] = time.time()
        if "password" in asked or (known.get("enabled") is False and row["enabled"]):
            known["tokens_valid_since"] = time.time()
        touch(tx)
        return {"user": views.user(call, update(tx, USERS, "user", row["id"], {**known, "extra": extra}))}

    return call.database.write(store)


def change_password(call: Call) -> None:
    """POST /v3/users/{id}/password: the original password is proof enough, also an expired one; no token is needed."""
    asked, key = call.body["user"], call.params["id"]
    rules = call.services.identity.compliance
    user = log_in(call, {"id": key}, asked["original_password"])
    security.check_form(rules, asked["password"])
    security.check_change(rules, user, asked["password"])
    hashed = hash_password(asked["password"])

    def store(tx: Tx) -> None:
        values = {**security.password_columns(rules, user, hashed, own=True), "tokens_valid_since": time.time()}
        tx.execute(sa.update(USERS).where(USERS.c.id == key).values(**values))
        touch(tx)

    call.database.write(store)


def delete(call: Call) -> None:
    remove(call.tx, access.fetch_managed(call, USERS, "user", "identity:delete_user")["id"])


def remove(tx: Tx, user_id: str) -> None:
    """The user and what hangs on it."""
    a = ASSIGNMENTS.c
    tx.execute(sa.delete(ASSIGNMENTS).where(a.actor_type == "user", a.actor_id == user_id))
    tx.execute(sa.delete(MEMBERSHIPS).where(MEMBERSHIPS.c.user_id == user_id))
    tx.execute(sa.delete(CREDENTIALS).where(CREDENTIALS.c.user_id == user_id))
    application_credentials.remove(tx, APPLICATION_CREDENTIALS.c.user_id == user_id)
    tx.execute(sa.delete(ACCESS_RULES).where(ACCESS_RULES.c.user_id == user_id))
    trusts.remove(tx, sa.or_(TRUSTS.c.trustor_user_id == user_id, TRUSTS.c.trustee_user_id == user_id))
    tx.execute(sa.delete(USERS).where(USERS.c.id == user_id))
    touch(tx)


def list_groups(call: Call) -> Row:
    """GET /v3/users/{id}/groups."""
    user = access.fetch(call, USERS, "user", "identity:list_groups_for_user", projects.is_self)
    member = sa.select(MEMBERSHIPS.c.group_id).where(MEMBERSHIPS.c.user_id == user["id"])
    return views.collection(call, "groups", select(call, GROUPS, ("name",), GROUPS.c.id.in_(member)), views.group)


def members(call: Call) -> Row:
    """GET /v3/groups/{id}/users."""
    group = access.fetch(call, GROUPS, "group", "identity:list_users_in_group", access.in_own_domain)
    member = sa.select(MEMBERSHIPS.c.user_id).where(MEMBERSHIPS.c.group_id == group["id"])
    rows = select(call, USERS, ("name", "enabled"), USERS.c.id.in_(member))
    rows = [row for row in rows if _expires_as_asked(call, row)]
    return views.collection(call, "users", rows, views.user)
