"""Secrets that users keep here (`/v3/credentials`), EC2 keys among them; the blob is encrypted with the token keys."""

import hashlib
import json
import secrets

import sqlalchemy as sa

from kilonova.identity import access, projects, views
from kilonova.identity.records import (
    Row,
    expecting,
    forbidden,
    get,
    insert,
    not_found,
    row_of,
    select,
    split,
    update,
)
from kilonova.identity.tables import CREDENTIALS, PROJECTS, USERS
from kilonova.model.errors import BadRequest
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call


def _seal(call: Call, blob: str) -> str:
    return call.services.fernet.encrypt(blob.encode()).decode()


def _open(call: Call, row: Row) -> Row:
    return {**row, "blob": call.services.fernet.decrypt(row["blob"].encode()).decode()}


def _may_read(call: Call, user_id: str) -> bool:
    return access.reads_all(call.context) or call.context.user_id == user_id


def index(call: Call) -> Row:
    rows = [row for row in select(call, CREDENTIALS, ("user_id", "type")) if _may_read(call, row["user_id"])]
    return views.collection(call, "credentials", [_open(call, row) for row in rows], views.credential)


def _fetch(call: Call, action: str, writing: bool = False) -> Row:
    key = call.params["id"]
    found = call.tx.first(sa.select(CREDENTIALS).where(CREDENTIALS.c.id == key))
    if found is None and access.reads_all(call.context):
        raise not_found("credential", key)
    if found is None or not _may_read(call, found["user_id"]):
        raise forbidden(action)
    if writing and not (call.context.is_admin or call.context.user_id == found["user_id"]):
        raise forbidden(action)
    return _open(call, row_of(found))


def show(call: Call) -> Row:
    return {"credential": views.credential(call, _fetch(call, "identity:get_credential"))}


def ec2_access(blob: str) -> str:
    """The access key in an EC2 credential's blob."""
    try:
        parsed = json.loads(blob)
    except ValueError as error:
        raise BadRequest("Invalid blob in credential") from error
    if not isinstance(parsed, dict) or not isinstance(parsed.get("access"), str):
        raise expecting("access", "credential")
    return parsed["access"]


def create(call: Call) -> Row:
    known, extra = split(CREDENTIALS, call.body["credential"], ("id",))
    known.setdefault("user_id", call.context.user_id)
    if not (call.context.is_admin or known["user_id"] == call.context.user_id):
        raise forbidden("identity:create_credential")
    key = new_hex_id()
    if known["type"].lower() == "ec2":
        if not known.get("project_id"):
            raise expecting("project_id", "credential")
        key = hashlib.sha256(ec2_access(known["blob"]).encode()).hexdigest()
    row = {"project_id": None, **known, "id": key, "extra": extra}
    insert(call.tx, CREDENTIALS, "credential", {**row, "blob": _seal(call, row["blob"])})
    return {"credential": views.credential(call, row)}


def change(call: Call) -> Row:
    old = _fetch(call, "identity:update_credential", writing=True)
    known, extra = split(CREDENTIALS, call.body["credential"], ("id",))
    if not call.context.is_admin and known.get("user_id", old["user_id"]) != old["user_id"]:
        raise forbidden("identity:update_credential")
    if {**old, **known}["type"].lower() == "ec2":
        if not {**old, **known}["project_id"]:
            raise expecting("project_id", "credential")
        ec2_access({**old, **known}["blob"])
    if "blob" in known:
        known["blob"] = _seal(call, known["blob"])
    row = update(call.tx, CREDENTIALS, "credential", old["id"], {**known, "extra": extra})
    return {"credential": views.credential(call, _open(call, row))}


def delete(call: Call) -> None:
    row = _fetch(call, "identity:delete_credential", writing=True)
    call.tx.execute(sa.delete(CREDENTIALS).where(CREDENTIALS.c.id == row["id"]))


# --- EC2 keys of a user (OS-EC2) ------------------------------------------------------------------------------------


def _ec2_view(call: Call, row: Row) -> Row:
    blob = json.loads(row["blob"])
    return {
        "user_id": row["user_id"],
        "tenant_id": row["project_id"],
        "access": blob["access"],
        "secret": blob["secret"],
        "trust_id": None,
        "links": {"self": views.url(call, f"users/{row['user_id']}/credentials/OS-EC2/{blob['access']}")},
    }


def _owner(call: Call, action: str, writing: bool = False) -> Row:
    user = access.fetch(call, USERS, "user", action, projects.is_self)
    if writing and not (call.context.is_admin or call.context.user_id == user["id"]):
        raise forbidden(action)
    return user


def list_ec2(call: Call) -> Row:
    user = _owner(call, "identity:ec2_list_credentials")
    chosen = (CREDENTIALS.c.user_id == user["id"], CREDENTIALS.c.type == "ec2")
    rows = [_open(call, row) for row in select(call, CREDENTIALS, (), *chosen)]
    return views.collection(call, "credentials", rows, _ec2_view, paged=False)


def create_ec2(call: Call) -> Row:
    user = _owner(call, "identity:ec2_create_credential", writing=True)
    project = get(call.tx, PROJECTS, "project", call.body["tenant_id"])
    blob = {"access": secrets.token_hex(16), "secret": secrets.token_hex(16), "trust_id": None}
    row = {
        "id": hashlib.sha256(str(blob["access"]).encode()).hexdigest(),
        "user_id": user["id"],
        "project_id": project["id"],
        "type": "ec2",
        "blob": json.dumps(blob),
        "extra": {},
    }
    insert(call.tx, CREDENTIALS, "credential", {**row, "blob": _seal(call, row["blob"])})
    return {"credential": _ec2_view(call, row)}


def _ec2(call: Call, user: Row) -> Row:
    key = hashlib.sha256(call.params["access"].encode()).hexdigest()
    found = call.tx.first(sa.select(CREDENTIALS).where(CREDENTIALS.c.id == key, CREDENTIALS.c.user_id == user["id"]))
    if found is None:
        raise not_found("credential", call.params["access"])
    return _open(call, row_of(found))


def show_ec2(call: Call) -> Row:
    return {"credential": _ec2_view(call, _ec2(call, _owner(call, "identity:ec2_get_credential")))}


def delete_ec2(call: Call) -> None:
    row = _ec2(call, _owner(call, "identity:ec2_delete_credential", writing=True))
    call.tx.execute(sa.delete(CREDENTIALS).where(CREDENTIALS.c.id == row["id"]))
