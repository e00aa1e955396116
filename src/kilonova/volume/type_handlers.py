"""Volume types, their extra specs, access and defaults, over HTTP."""

from typing import Any

import sqlalchemy as sa

from kilonova.model.errors import BadRequest, Forbidden, NotFound
from kilonova.volume import types, views
from kilonova.volume.listing import cut, sort
from kilonova.volume.requests import bad_input, boolean, text
from kilonova.volume.tables import DEFAULT_TYPES, TYPES
from kilonova.web.call import Call, Reply

IS_PUBLIC = "os-volume-type-access:is_public"


def index(call: Call) -> dict[str, Any]:
    is_public: bool | None = True
    if call.context.is_admin:
        asked = (call.arg("is_public") or "true").lower()
        is_public = None if asked == "none" else boolean(asked, "is_public")
    elif (call.arg("is_public") or "").lower() in ("none", "false"):
        is_public = None
    rows = types.listed(call.tx, call.context, is_public)
    sort(rows, call, TYPES, {})
    wanted = call.arg("name")
    rows = [row for row in rows if wanted is None or row["name"] == wanted]
    rows, links = cut(call, rows, "Volume type", "types")
    return {"volume_types": [views.volume_type(call, row) for row in rows]} | ({"volume_type_links": links} if links else {})


def show(call: Call) -> dict[str, Any]:
    if call.params["id"] == "default":
        return {"volume_type": views.volume_type(call, types.default(call.tx, call.context.project_id))}
    return {"volume_type": views.volume_type(call, types.get(call.tx, call.context, call.params["id"]))}


def create(call: Call) -> dict[str, Any]:
    asked = call.body["volume_type"]
    name, description = asked["name"].strip(), text(asked.get("description"))
    is_public = boolean(asked.get(IS_PUBLIC, True), IS_PUBLIC)
    specs = _checked(asked.get("extra_specs") or {})
    return {"volume_type": views.volume_type_made(call, types.create(call.tx, name, description, is_public, specs))}


def update(call: Call) -> dict[str, Any]:
    asked = call.body["volume_type"]
    name, description = asked.get("name"), text(asked.get("description"))
    if name is not None and not name.strip():
        raise bad_input("Volume type name can not be empty.")
    if name is None and description is None and "is_public" not in asked:
        raise bad_input("Specify volume type name, description, is_public or a combination thereof.")
    values: dict[str, Any] = {"name": name.strip()} if name else {}
    if description is not None:
        values["description"] = description
    if "is_public" in asked:
        values["is_public"] = boolean(asked["is_public"], "is_public")
    body = views.volume_type_made(call, types.update(call.tx, call.params["id"], values))
    return {"volume_type": {key: value for key, value in body.items() if key != IS_PUBLIC}}


def delete(call: Call) -> None:
    types.delete(call.tx, call.params["id"])


def _checked(specs: dict[str, Any]) -> dict[str, Any]:
    if specs.get("multiattach") not in (None, "<is> True", "<is> False"):
        raise bad_input("The extra spec multiattach is '<is> True' or '<is> False'.")
    return specs


# Extra specs


def _type(call: Call) -> sa.RowMapping:
    return types.get(call.tx, call.context, call.params["type_id"])


def extra_specs(call: Call) -> dict[str, Any]:
    return {"extra_specs": views.extra_specs(call, _type(call))}


def add_extra_specs(call: Call) -> dict[str, Any]:
    row, new = _type(call), _checked(call.body["extra_specs"])
    _fixed_while_used(call, row, new)
    types.set_extra_specs(call.tx, row["id"], {**row["extra_specs"], **new})
    return {"extra_specs": new}


def _fixed_while_used(call: Call, row: sa.RowMapping, new: dict[str, Any]) -> None:
    fixed = {"multiattach", "RESKEY:availability_zones"} & set(new)
    if fixed and types.in_use(call.tx, row["id"]):
        raise BadRequest(f"Volume Type is currently in use: {', '.join(sorted(fixed))} can not be changed.")


def extra_spec(call: Call) -> dict[str, Any]:
    specs, key = views.extra_specs(call, _type(call)), call.params["id"]
    if key not in specs:
        raise _no_spec(call)
    return {key: specs[key]}


def _no_spec(call: Call) -> NotFound:
    return NotFound(f"Volume Type {call.params['type_id']} has no extra specs with key {call.params['id']}.")


def set_extra_spec(call: Call) -> dict[str, Any]:
    row, key = _type(call), call.params["id"]
    if key not in call.body:
        raise BadRequest("Request body and URI mismatch.")
    _fixed_while_used(call, row, call.body)
    types.set_extra_specs(call.tx, row["id"], {**row["extra_specs"], **_checked(call.body)})
    return dict(call.body)


def delete_extra_spec(call: Call) -> None:
    row, key = _type(call), call.params["id"]
    if key not in row["extra_specs"]:
        raise _no_spec(call)
    _fixed_while_used(call, row, {key: None})
    rest = {name: value for name, value in row["extra_specs"].items() if name != key}
    types.set_extra_specs(call.tx, row["id"], rest)


# Access


def access(call: Call) -> dict[str, Any]:
    id = _type(call)["id"]
    found = [{"volume_type_id": id, "project_id": project} for project in types.access(call.tx, id)]
    return {"volume_type_access": found}


def action(call: Call) -> Reply:
    acts = {"addProjectAccess": types.add_access, "removeProjectAccess": types.remove_access}
    name, argument = next(iter(call.body.items())) if isinstance(call.body, dict) and call.body else ("", None)
    if name not in acts:
        raise BadRequest(f"There is no such action: {name}")
    project = argument.get("project") if isinstance(argument, dict) else None
    if not isinstance(project, str) or not 0 < len(project) <= 64:
        raise BadRequest("Invalid input for field/attribute project: name the id of a project.")
    if name == "addProjectAccess" and not call.services.storage.project_exists(call.tx, project):
        raise BadRequest(f"Project {project} could not be found.")
    acts[name](call.tx, types.get(call.tx, call.context, call.params["id"])["id"], project)
    return Reply(status=202)


# Encryption: volumes are not encrypted here


def encryption(call: Call) -> dict[str, Any]:
    _type(call)
    return {}


def no_encryption(call: Call) -> Any:
    types.get(call.tx, call.context, call.params["type_id"])
    raise Forbidden("Encrypted volumes are not offered by this cloud: a volume type has no encryption.")


def encryption_item(call: Call) -> dict[str, Any]:
    _type(call)
    raise NotFound(f"Volume type encryption for type {call.params['type_id']} does not exist.")


# A project's default (3.62)


def default_types(call: Call) -> dict[str, Any]:
    rows = call.tx.all(sa.select(DEFAULT_TYPES).order_by(DEFAULT_TYPES.c.project_id))
    return {"default_types": [_default(row) for row in rows]}


def _default(row: Any) -> dict[str, Any]:
    return {"project_id": row["project_id"], "volume_type_id": row["type_id"]}


def _own_default(call: Call) -> sa.RowMapping:
    project = call.params["id"]
    row = call.tx.first(sa.select(DEFAULT_TYPES).where(DEFAULT_TYPES.c.project_id == project))
    if row is None:
        raise NotFound(f"Default type for project {project} not found.")
    return row


def default_type(call: Call) -> dict[str, Any]:
    return {"default_type": _default(_own_default(call))}


def set_default_type(call: Call) -> dict[str, Any]:
    project = call.params["id"]
    if not call.services.storage.project_exists(call.tx, project):
        raise NotFound(f"Project {project} could not be found.")
    row = types.by_name_or_id(call.tx, call.context, call.body["default_type"]["volume_type"])
    call.tx.execute(DEFAULT_TYPES.delete().where(DEFAULT_TYPES.c.project_id == project))
    call.tx.execute(DEFAULT_TYPES.insert().values(project_id=project, type_id=row["id"]))
    return default_type(call)


def unset_default_type(call: Call) -> None:
    project = _own_default(call)["project_id"]
    call.tx.execute(DEFAULT_TYPES.delete().where(DEFAULT_TYPES.c.project_id == project))
