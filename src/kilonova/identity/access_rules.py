"""Access rules: which requests of which service the tokens of an application credential may make.

Kept for each user and shared by that user's credentials; `web/access_rules.py` holds requests against them.
"""

import datetime

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.identity import access, views
from kilonova.identity.records import Row, insert, not_found, row_of, select
from kilonova.identity.tables import ACCESS_RULES, APPLICATION_CREDENTIALS
from kilonova.model.errors import Forbidden
from kilonova.model.ids import new_hex_id, now
from kilonova.web.call import Call

R = ACCESS_RULES.c
PARTS = ("service", "method", "path")


def brief(row: Row) -> Row:
    return {key: row[key] for key in ("id", "path", "method", "service")}


def view(call: Call, row: Row) -> Row:
    return {**brief(row), "links": {"self": views.url(call, f"users/{row['user_id']}/access_rules/{row['id']}")}}


def ensure(tx: Tx, user_id: str, asked: list[Row]) -> list[str]:
    """The ids of rules, named by id or made where there is none alike."""
    found = []
    for rule in asked:
        if "id" in rule:
            chosen = [R.id == rule["id"]]
        else:
            chosen = [R[part] == rule[part] for part in PARTS]
        row = tx.first(sa.select(R.id).where(R.user_id == user_id, *chosen))
        if row is None and "id" in rule:
            raise not_found("Access Rule", rule["id"])
        key = row["id"] if row else new_hex_id()
        if row is None:
            new = {part: rule[part] for part in PARTS}
            insert(tx, ACCESS_RULES, "access_rule", {"id": key, "user_id": user_id, "created_at": now(), **new})
        found.append(key)
    return list(dict.fromkeys(found))


def index(call: Call) -> Row:
    access.refuse_trust(call, "access rules")
    user = access.owner(call, "identity:list_access_rules")
    rows = select(call, ACCESS_RULES, PARTS, R.user_id == user["id"])
    rows.sort(key=lambda row: row["created_at"] or datetime.datetime.min)  # as they were made
    return views.collection(call, "access_rules", rows, view)


def fetch(call: Call, action: str) -> Row:
    access.refuse_trust(call, "access rules")
    user = access.owner(call, action)
    key = call.params["rule_id"]
    row = call.tx.first(sa.select(ACCESS_RULES).where(R.id == key, R.user_id == user["id"]))
    if row is None:
        raise not_found("Access Rule", key)
    return row_of(row)


def show(call: Call) -> Row:
    return {"access_rule": view(call, fetch(call, "identity:get_access_rule"))}


def delete(call: Call) -> None:
    """Only of a rule that no credential uses."""
    row = fetch(call, "identity:delete_access_rule")
    access.refuse_others(call, {"id": row["user_id"]}, "identity:delete_access_rule")
    access.require_unrestricted(call, "additional application credentials")
    c = APPLICATION_CREDENTIALS.c
    for each in call.tx.all(sa.select(c.access_rule_ids).where(c.user_id == row["user_id"])):
        if row["id"] in (each["access_rule_ids"] or []):
            raise Forbidden(
                "You are not authorized to perform the requested action: "
                f"Access rule {row['id']} is in use by an application credential and cannot be deleted."
            )
    call.tx.execute(sa.delete(ACCESS_RULES).where(R.id == row["id"]))
