"""Policy documents that services may fetch (`/v3/policies`): stored and handed out, never read here."""

import json
from typing import Any

import sqlalchemy as sa

from kilonova.identity import views
from kilonova.identity.records import Row, get, insert, select, split, update
from kilonova.identity.tables import POLICIES, POLICY_ASSOCIATIONS
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call


def _stored(blob: Any) -> str:
    return json.dumps(blob)


def told(row: Row) -> Row:
    return {**row, "blob": json.loads(row["blob"])}


def index(call: Call) -> Row:
    rows = [told(row) for row in select(call, POLICIES, ("type",))]
    return views.collection(call, "policies", rows, views.policy)


def show(call: Call) -> Row:
    return {"policy": views.policy(call, told(get(call.tx, POLICIES, "policy", call.params["id"])))}


def create(call: Call) -> Row:
    known, extra = split(POLICIES, call.body["policy"], ("id",))
    row = {**known, "id": new_hex_id(), "blob": _stored(known["blob"]), "extra": extra}
    insert(call.tx, POLICIES, "policy", row)
    return {"policy": views.policy(call, told(row))}


def change(call: Call) -> Row:
    known, extra = split(POLICIES, call.body["policy"], ("id",))
    if "blob" in known:
        known["blob"] = _stored(known["blob"])
    row = update(call.tx, POLICIES, "policy", call.params["id"], {**known, "extra": extra})
    return {"policy": views.policy(call, told(row))}


def delete(call: Call) -> None:
    row = get(call.tx, POLICIES, "policy", call.params["id"])
    call.tx.execute(sa.delete(POLICY_ASSOCIATIONS).where(POLICY_ASSOCIATIONS.c.policy_id == row["id"]))
    call.tx.execute(sa.delete(POLICIES).where(POLICIES.c.id == row["id"]))
