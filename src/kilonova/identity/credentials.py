"""Secrets that users keep here (`/v3/credentials`), EC2 keys among them; the blob is encrypted with keys of its own.

What gives less than its user must not get at what gives more: a passcode's secret, or a key made in person, is the whole
user. So a trust's token and a restricted application credential's change nothing here, an unrestricted one's only the EC2
keys that it made itself, and each sees only these. Keystone (api/credentials.py, _check_credential_project_scope) shows
and opens all of the project's.
"""

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
    hold,
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
from kilonova.web import nesting
from kilonova.web.call import Call

BOUND = ("trust_id", "app_cred_id", "access_token_id")  # in an EC2 key's blob: what it was delegated by


def _seal(call: Call, blob: str) -> str:
    return call.services.identity.sealer.encrypt(blob.encode()).decode()


def opened(call: Call, row: Row) -> Row:
    """The row with its blob readable."""
    return {**row, "blob": call.services.identity.sealer.decrypt(row["blob"].encode()).decode()}


def _may_read(call: Call, user_id: str) -> bool:
    return access.reads_all(call.context) or call.context.user_id == user_id


def _delegation(call: Call) -> Row:
    """What a token was delegated by, as the blob of an EC2 key made with it names it: {} for one got in person."""
    who = call.context
    found = {"trust_id": who.trust_id, "app_cred_id": who.application_credential_id}
    return {key: value for key, value in found.items() if value}


def _is_reached(call: Call, row: Row) -> bool:
    """Whether a delegated token may get at an (opened) credential: an EC2 key of its project that gives as little."""
    by = _delegation(call)
    if not by:
        return True
    if row["type"] != "ec2" or row["project_id"] != call.context.project_id:
        return False
    blob = ec2_blob(row["blob"])
    return all(blob.get(key) == by.get(key) for key in BOUND)


def _require_reached(call: Call, row: Row) -> Row:
    if not _is_reached(call, row):
        raise forbidden("A delegated token reaches only EC2 credentials of its project that were made with it")
    return row


def _require_manager(call: Call) -> None:
    """Forbidden to delegated tokens, but for those of unrestricted application credentials."""
    access.refuse_trust(call, "credentials")
    access.require_unrestricted(call, "additional credentials")


def index(call: Call) -> Row:
    rows = [row for row in select(call, CREDENTIALS, ("user_id", "type")) if _may_read(call, row["user_id"])]
    reached = [row for row in (opened(call, row) for row in rows) if _is_reached(call, row)]
    return views.collection(call, "credentials", reached, views.credential)


def _fetch(call: Call, action: str, writing: bool = False) -> Row:
    key = call.params["id"]
    found = call.tx.first(sa.select(CREDENTIALS).where(CREDENTIALS.c.id == key))
    if found is None and access.reads_all(call.context):
        raise not_found("credential", key)
    if found is None or not _may_read(call, found["user_id"]):
        raise forbidden(action)
    if writing and not (call.context.is_admin or call.context.user_id == found["user_id"]):
        raise forbidden(action)
    return _require_reached(call, opened(call, row_of(found)))


def show(call: Call) -> Row:
    return {"credential": views.credential(call, _fetch(call, "identity:get_credential"))}


def ec2_blob(blob: str) -> Row:
    """The keys in an EC2 credential's blob."""
    try:
        parsed = nesting.loads(blob)
    except ValueError as error:
        raise BadRequest("Invalid blob in credential") from error
    if not isinstance(parsed, dict) or not isinstance(parsed.get("access"), str):
        raise expecting("access", "credential")
    return parsed


def ec2_id(access_key: str) -> str:
    """An EC2 credential's id follows from its access key."""
    return hashlib.sha256(access_key.encode("utf-8", "surrogatepass")).hexdigest()


def _require_type(kind: str, old: str | None = None) -> None:
    """An EC2 key is found by its type and by an id that follows from its access key, given when it is made."""
    if kind != "ec2" and kind.lower() == "ec2":
        raise BadRequest(f"The type of an EC2 credential is 'ec2', in small letters, not {kind!r}.")
    if kind == "ec2" and old not in (None, "ec2"):
        raise BadRequest(f"A credential of type {old!r} cannot become one of type 'ec2': create that.")


def create(call: Call) -> Row:
    _require_manager(call)
    known, extra = split(CREDENTIALS, call.body["credential"], ("id",))
    known.setdefault("user_id", call.context.user_id)
    if not (call.context.is_admin or known["user_id"] == call.context.user_id):
        raise forbidden("identity:create_credential")
    _require_type(known["type"])
    key = new_hex_id()
    if known["type"] == "ec2":
        if not known.get("project_id"):
            raise expecting("project_id", "credential")
        blob, by = ec2_blob(known["blob"]), _delegation(call)
        for bound in BOUND:
            if blob.get(bound):
                raise BadRequest(f"{bound} can not be set in a credential: it is that of the token it is created with.")
        key = ec2_id(blob["access"])
        if by:
            known["blob"] = json.dumps({**blob, **by})
    row = _require_reached(call, {"project_id": None, **known, "id": key, "extra": extra})
    insert(call.tx, CREDENTIALS, "credential", {**row, "blob": _seal(call, row["blob"])})
    return {"credential": views.credential(call, row)}


def change(call: Call) -> Row:
    _require_manager(call)
    old = _fetch(call, "identity:update_credential", writing=True)
    known, extra = split(CREDENTIALS, call.body["credential"], ("id",))
    if not call.context.is_admin and known.get("user_id", old["user_id"]) != old["user_id"]:
        raise forbidden("identity:update_credential")
    if "type" in known:
        _require_type(known["type"], old["type"])
    new = {**old, **known}
    if new["type"] == "ec2":
        if not new["project_id"]:
            raise expecting("project_id", "credential")
        blob, before = ec2_blob(new["blob"]), ec2_blob(old["blob"])
        for bound in BOUND:
            if blob.get(bound) != before.get(bound):
                raise BadRequest(f"{bound} can not be updated for credential")
    _require_reached(call, new)
    if "blob" in known:
        known["blob"] = _seal(call, known["blob"])
    row = update(call.tx, CREDENTIALS, "credential", old["id"], {**known, "extra": extra})
    return {"credential": views.credential(call, opened(call, row))}


def delete(call: Call) -> None:
    _require_manager(call)
    row = _fetch(call, "identity:delete_credential", writing=True)
    call.tx.execute(sa.delete(CREDENTIALS).where(CREDENTIALS.c.id == row["id"]))


# --- EC2 keys of a user (OS-EC2) ------------------------------------------------------------------------------------


def _ec2_view(call: Call, row: Row) -> Row:
    blob = ec2_blob(row["blob"])
    return {
        "user_id": row["user_id"],
        "tenant_id": row["project_id"],
        "access": blob["access"],
        "secret": blob.get("secret"),
        "trust_id": blob.get("trust_id"),
        "links": {"self": views.url(call, f"users/{row['user_id']}/credentials/OS-EC2/{blob['access']}")},
    }


def _owner(call: Call, action: str, writing: bool = False) -> Row:
    user = access.fetch(call, USERS, "user", action, projects.is_self)
    if writing:
        access.refuse_others(call, user, action)
        _require_manager(call)
    return user


def list_ec2(call: Call) -> Row:
    user = _owner(call, "identity:ec2_list_credentials")
    chosen = (CREDENTIALS.c.user_id == user["id"], CREDENTIALS.c.type == "ec2")
    rows = [opened(call, row) for row in select(call, CREDENTIALS, (), *chosen)]
    reached = [row for row in rows if _is_reached(call, row)]
    return views.collection(call, "credentials", reached, _ec2_view, paged=False)


def create_ec2(call: Call) -> Row:
    user = _owner(call, "identity:ec2_create_credential", writing=True)
    project = get(call.tx, PROJECTS, "project", call.body["tenant_id"])
    blob = {"access": secrets.token_hex(16), "secret": secrets.token_hex(16), "trust_id": None, **_delegation(call)}
    row = {
        "id": ec2_id(str(blob["access"])),
        "user_id": user["id"],
        "project_id": project["id"],
        "type": "ec2",
        "blob": json.dumps(blob),
        "extra": {},
    }
    _require_reached(call, row)
    hold(call.tx, USERS, "user", user["id"])
    hold(call.tx, PROJECTS, "project", project["id"])
    insert(call.tx, CREDENTIALS, "credential", {**row, "blob": _seal(call, row["blob"])})
    return {"credential": _ec2_view(call, row)}


def _ec2(call: Call, user: Row) -> Row:
    c = CREDENTIALS.c
    chosen = (c.id == ec2_id(call.params["access"]), c.user_id == user["id"], c.type == "ec2")
    found = call.tx.first(sa.select(CREDENTIALS).where(*chosen))
    if found is None:
        raise not_found("credential", call.params["access"])
    return _require_reached(call, opened(call, row_of(found)))


def show_ec2(call: Call) -> Row:
    return {"credential": _ec2_view(call, _ec2(call, _owner(call, "identity:ec2_get_credential")))}


def delete_ec2(call: Call) -> None:
    row = _ec2(call, _owner(call, "identity:ec2_delete_credential", writing=True))
    call.tx.execute(sa.delete(CREDENTIALS).where(CREDENTIALS.c.id == row["id"]))
