"""Roles, and which roles imply which."""

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.identity import access, application_credentials, projects, scopes, views
from kilonova.identity.records import (
    Row,
    conflict,
    forbidden,
    get,
    insert,
    not_found,
    refuse_immutable,
    row_of,
    select,
    split,
    touch,
    update,
)
from kilonova.identity.tables import ASSIGNMENTS, IMPLIED_ROLES, ROLES
from kilonova.model.errors import BadRequest, Forbidden, NotFound
from kilonova.model.ids import new_hex_id
from kilonova.web.call import Call, Reply


def _may(call: Call, domain_id: str, line: str) -> bool:
    """A domain's own roles have lines of policy of their own: whoever may see or change roles, may not therefore those."""
    readers = line in ("get_domain_role", "list_domain_roles")
    return not domain_id or call.context.may(f"identity:{line}", usual=access.reads_all(call.context) if readers else None)


def _fetch(call: Call, doing: str) -> Row:
    """The path's role. A domain's own is not there for those whose it is not to see."""
    row = get(call.tx, ROLES, "role", call.params["id"])
    if not _may(call, row["domain_id"], "get_domain_role"):
        raise not_found("role", row["id"])
    if not _may(call, row["domain_id"], f"{doing}_domain_role"):
        raise forbidden(f"identity:{doing}_domain_role")
    return row


def index(call: Call) -> Row:
    """Global roles, or with `domain_id` those of a domain."""
    domain_id = call.arg("domain_id") or ""
    if not _may(call, domain_id, "list_domain_roles"):
        raise forbidden("identity:list_domain_roles")
    conditions = [] if domain_id else [ROLES.c.domain_id == ""]
    return views.collection(call, "roles", select(call, ROLES, ("name", "domain_id"), *conditions), views.role)


def show(call: Call) -> Row:
    return {"role": views.role(call, _fetch(call, "get"))}


def create(call: Call) -> Row:
    known, extra = split(ROLES, call.body["role"], ("id",))
    if not _may(call, known.get("domain_id") or "", "create_domain_role"):
        raise forbidden("identity:create_domain_role")
    if known.get("domain_id"):
        projects.require_domain(call.tx, known["domain_id"])
    defaults: Row = {"description": None, "options": {}}
    row = {**defaults, **known, "id": new_hex_id(), "domain_id": known.get("domain_id") or "", "extra": extra}
    insert(call.tx, ROLES, "role", row)
    return {"role": views.role(call, row)}


def change(call: Call) -> Row:
    row = _fetch(call, "update")
    known, extra = split(ROLES, call.body["role"], ("id",))
    if (known.pop("domain_id", row["domain_id"]) or "") != row["domain_id"]:
        raise BadRequest("Cannot change Domain ID.")
    options = known.get("options") or {}
    if options.get("immutable", True) is not False:
        refuse_immutable(row, "role", "update")
    known["options"] = {key: value for key, value in {**row["options"], **options}.items() if value is not None}
    touch(call.tx)
    return {"role": views.role(call, update(call.tx, ROLES, "role", row["id"], {**known, "extra": extra}))}


def delete(call: Call) -> None:
    row = _fetch(call, "delete")
    refuse_immutable(row, "role", "delete")
    key, implied = row["id"], IMPLIED_ROLES.c
    call.tx.execute(sa.delete(ASSIGNMENTS).where(ASSIGNMENTS.c.role_id == key))
    application_credentials.remove_with_role(call.tx, key)
    call.tx.execute(
        sa.delete(IMPLIED_ROLES).where(sa.or_(implied.prior_role_id == key, implied.implied_role_id == key))
    )
    call.tx.execute(sa.delete(ROLES).where(ROLES.c.id == key))
    touch(call.tx)


# --- implied roles ------------------------------------------------------------------------------------------------


def _brief(call: Call, row: Row) -> Row:
    return {"id": row["id"], "name": row["name"], "links": {"self": views.url(call, f"roles/{row['id']}")}}


def list_implied(call: Call) -> Row:
    prior = get(call.tx, ROLES, "role", call.params["id"])
    ids = scopes.implications(call.tx).get(prior["id"], [])
    rows = call.tx.all(sa.select(ROLES).where(ROLES.c.id.in_(ids)).order_by(ROLES.c.name))
    return {
        "role_inference": {
            "prior_role": _brief(call, prior),
            "implies": [_brief(call, row_of(row)) for row in rows],
        },
        "links": {"self": views.url(call, f"roles/{prior['id']}/implies")},
    }


def _inference(call: Call) -> tuple[Row, Row]:
    prior = get(call.tx, ROLES, "role", call.params["id"])
    return prior, get(call.tx, ROLES, "role", call.params["implied_id"])


def _implies(call: Call, prior: Row, implied: Row) -> bool:
    return implied["id"] in scopes.implications(call.tx).get(prior["id"], [])


def _inference_body(call: Call, prior: Row, implied: Row) -> Row:
    return {
        "role_inference": {"prior_role": _brief(call, prior), "implies": _brief(call, implied)},
        "links": {"self": views.url(call, f"roles/{prior['id']}/implies/{implied['id']}")},
    }


def show_implied(call: Call) -> Row | Reply:
    prior, implied = _inference(call)
    if not _implies(call, prior, implied):
        raise NotFound(f"{prior['id']} does not imply {implied['id']}.")
    if call.method == "HEAD":
        return Reply(None, 204)
    return _inference_body(call, prior, implied)


def imply(call: Call) -> Row:
    prior, implied = _inference(call)
    if implied["name"] == "admin":  # Keystone's [assignment] prohibited_implied_role
        raise Forbidden(f"{implied['id']} cannot be an implied roles.")
    if implied["domain_id"] not in ("", prior["domain_id"]):
        raise Forbidden(f"{implied['id']} cannot be an implied roles.")
    rule = {"prior_role_id": prior["id"], "implied_role_id": implied["id"]}
    if not insert_new(call.tx.connection, IMPLIED_ROLES, rule):
        raise conflict("implied_role", f"Duplicate entry: {prior['id']} implies {implied['id']}")
    touch(call.tx)
    return _inference_body(call, prior, implied)


def stop_implying(call: Call) -> None:
    prior, implied = _inference(call)
    if not _implies(call, prior, implied):
        raise NotFound(f"{prior['id']} does not imply {implied['id']}.")
    i = IMPLIED_ROLES.c
    call.tx.execute(sa.delete(IMPLIED_ROLES).where(i.prior_role_id == prior["id"], i.implied_role_id == implied["id"]))
    touch(call.tx)


def list_inferences(call: Call) -> Row:
    """GET /v3/role_inferences: every rule."""
    rows = {row["id"]: row_of(row) for row in call.tx.all(sa.select(ROLES))}
    return {
        "role_inferences": [
            {"prior_role": _brief(call, rows[prior]), "implies": [_brief(call, rows[each]) for each in implied]}
            for prior, implied in scopes.implications(call.tx).items()
        ],
        "links": {"self": views.url(call, "role_inferences"), "next": None, "previous": None},
    }
