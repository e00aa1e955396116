"""Application credentials: a user's own names and secrets for programs, each for one project and some of the user's roles.

Keystone: keystone/api/users.py, UserAppCred*; its access rules are in access_rules.py.
"""

import dataclasses
import secrets
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.identity import access, access_rules, delegation, scopes, times, views
from kilonova.identity.passwords import hash_password
from kilonova.identity.records import Row, forbidden, get, hold, insert, not_found, row_of, select, touch
from kilonova.identity.tables import APPLICATION_CREDENTIALS, PROJECTS, ROLES, USERS
from kilonova.model.errors import BadRequest, Forbidden
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call

C = APPLICATION_CREDENTIALS.c
KIND = "application credentials"
USER_LIMIT = 1000  # of one user; Keystone has [application_credential] user_limit, too


def index(call: Call) -> Row:
    access.refuse_trust(call, KIND)
    user = access.owner(call, "identity:list_application_credentials")
    rows = select(call, APPLICATION_CREDENTIALS, ("name",), C.user_id == user["id"])
    return views.collection(call, "application_credentials", rows, view)


def fetch(call: Call, action: str) -> Row:
    access.refuse_trust(call, KIND)
    user = access.owner(call, action)
    key = call.params["credential_id"]
    row = call.tx.first(sa.select(APPLICATION_CREDENTIALS).where(C.id == key, C.user_id == user["id"]))
    if row is None:
        raise not_found("Application Credential", key)
    return row_of(row)


def show(call: Call) -> Row:
    return {"application_credential": view(call, fetch(call, "identity:get_application_credential"))}


def view(call: Call, row: Row, secret: str | None = None) -> Row:
    roles = {role["id"]: role for role in call.tx.all(sa.select(ROLES).where(ROLES.c.id.in_(row["role_ids"])))}
    body: Row = {
        "id": row["id"],
        "name": row["name"],
        "description": row["description"],
        "project_id": row["project_id"],
        "user_id": row["user_id"],
        "system": None,
        "unrestricted": row["unrestricted"],
        "expires_at": times.brief(row["expires_at"]),
        "roles": [
            {"id": key, "name": roles[key]["name"], "domain_id": roles[key]["domain_id"] or None}
            for key in row["role_ids"]
            if key in roles
        ],
    }
    if row["access_rule_ids"] is not None:
        body["access_rules"] = [access_rules.brief(rule) for rule in delegation.rules_of(call.tx, row)]
    if secret is not None:
        body["secret"] = secret
    body["links"] = {"self": views.url(call, f"users/{row['user_id']}/application_credentials/{row['id']}")}
    return body


def create(call: Call) -> Row:
    """POST: for the project of the token, with its roles or some of them. Only now is the secret told.

    Hashing takes long, so this runs before the transaction.
    """
    asked = call.body["application_credential"]
    access.refuse_trust(call, KIND)
    if call.params["id"] != call.context.user_id:
        raise forbidden("Cannot create an application credential for another user")
    access.require_unrestricted(call, f"additional {KIND}")
    if not call.context.project_id:
        raise _wrong("Application credentials are for a project: use a token whose scope is one")
    secret = asked.get("secret") or secrets.token_urlsafe(64)
    hashed = hash_password(secret)
    expires_at = times.expiry(asked.get("expires_at"))

    def store(tx: Tx) -> Row:
        inside = within(call, tx)
        hold(tx, USERS, "user", call.context.user_id)
        hold(tx, PROJECTS, "project", call.context.project_id)
        if len(tx.all(sa.select(C.id).where(C.user_id == call.context.user_id))) >= USER_LIMIT:
            raise Forbidden(
                f"Unable to create additional application credentials, maximum of {USER_LIMIT} already exceeded for user."
            )
        rules = asked.get("access_rules")
        row = {
            "id": new_hex_id(),
            "user_id": call.context.user_id,
            "project_id": call.context.project_id,
            "name": asked["name"],
            "description": asked.get("description"),
            "secret_hash": hashed,
            "unrestricted": bool(asked.get("unrestricted")),
            "expires_at": expires_at,
            "role_ids": _roles(inside, asked.get("roles") or []),
            "access_rule_ids": None if rules is None else access_rules.ensure(tx, call.context.user_id, rules),
        }
        insert(tx, APPLICATION_CREDENTIALS, "application_credential", row)
        return {"application_credential": view(inside, row, secret)}

    return call.database.write(store)


def within(call: Call, tx: Tx) -> Call:
    return dataclasses.replace(call, _tx=tx)


def _wrong(detail: str) -> BadRequest:
    return BadRequest(f"Invalid application credential: {detail}")


def _roles(call: Call, asked: list[Row]) -> list[str]:
    """The ids of the roles asked for, all of which the token must have; else all that it has."""
    project = get(call.tx, PROJECTS, "project", call.context.project_id)
    where = scopes.on_project(call.tx, project)
    had = {row["name"]: row["id"] for row in scopes.roles_of(call.tx, call.context.user_id, where)}
    had = {name: key for name, key in had.items() if name in call.context.roles}
    if not asked:
        return sorted(had.values())
    found = []
    for role in asked:
        key = role.get("id") or find_role(call.tx, role["name"])
        if key not in had.values():
            raise _wrong("Cannot create an application credential with unassigned role")
        found.append(key)
    return list(dict.fromkeys(found))


def find_role(tx: Tx, name: str) -> str:
    """The id of the global role of that name. NotFound."""
    found = tx.scalar(sa.select(ROLES.c.id).where(ROLES.c.name == name, ROLES.c.domain_id == ""))
    if found is None:
        raise not_found("role", name)
    return str(found)


def delete(call: Call) -> None:
    row = fetch(call, "identity:delete_application_credential")
    access.refuse_others(call, {"id": row["user_id"]}, "identity:delete_application_credential")
    access.require_unrestricted(call, f"additional {KIND}")
    remove(call.tx, C.id == row["id"])


def remove(tx: Tx, *conditions: Any) -> None:
    """Their tokens are over at once."""
    tx.execute(sa.delete(APPLICATION_CREDENTIALS).where(*conditions))
    touch(tx)


def remove_with_role(tx: Tx, role_id: str) -> None:
    """A role that is deleted takes the credentials with it that were made with it."""
    rows = tx.all(sa.select(C.id, C.role_ids))
    gone = [row["id"] for row in rows if role_id in row["role_ids"]]
    remove(tx, C.id.in_(gone))
