"""Groups, group types and group snapshots over HTTP."""

from typing import Any

import sqlalchemy as sa

from kilonova.model.errors import BadRequest, NotFound
from kilonova.volume import groups, states, views
from kilonova.volume.listing import Listed, page, sort
from kilonova.volume.requests import bad_input, boolean, missing, text
from kilonova.volume.tables import GROUP_SNAPSHOTS, GROUP_TYPES, GROUPS
from kilonova.web.call import Call, Reply

GROUPS_LISTED = Listed("group", GROUPS, "groups", {"list_volume": "id"}, {"list_volume": 1000})
GROUPS_DETAILED = Listed("group", GROUPS, "groups/detail", {}, {"list_volume": 1000})
SNAPSHOTS_LISTED = Listed("group_snapshot", GROUP_SNAPSHOTS, "group_snapshots", {}, {})
SNAPSHOTS_DETAILED = Listed("group_snapshot", GROUP_SNAPSHOTS, "group_snapshots/detail", {}, {})
GROUP_STATUSES = ("available", "error", "creating", "deleting", "error_deleting", "in-use", "updating")
SNAPSHOT_STATUSES = ("available", "error", "creating", "deleting", "error_deleting")


def _summary(row: sa.RowMapping) -> dict[str, Any]:
    return {"id": row["id"], "name": row["name"]}


def _named(asked: dict[str, Any]) -> dict[str, Any]:
    return {**asked, "name": text(asked.get("name")), "description": text(asked.get("description"))}


def index(call: Call) -> dict[str, Any]:
    found = page(call, GROUPS_LISTED)
    return _linked({"groups": [_summary(row) for row in found.rows]}, "group_links", found.links)


def detail(call: Call) -> dict[str, Any]:
    found = page(call, GROUPS_DETAILED)
    return _linked({"groups": [views.group(call, row) for row in found.rows]}, "group_links", found.links)


def _linked(body: dict[str, Any], name: str, links: list[dict[str, str]]) -> dict[str, Any]:
    return body | ({name: links} if links else {})


def show(call: Call) -> dict[str, Any]:
    return {"group": views.group(call, groups.get(call.tx, call.context, call.params["id"]))}


def create(call: Call) -> dict[str, Any]:
    return {"group": _summary(groups.create(call.tx, call.context, _named(call.body["group"])))}


def update(call: Call) -> None:
    groups.update(call.tx, call.context, call.params["id"], call.body["group"])


def delete(call: Call) -> None:
    groups.delete(call.tx, call.context, call.params["id"], call.services.storage, with_volumes=False)


def action(call: Call) -> Reply:
    """Of a group; `create-from-src` is sent to `action` as if it were a group's id."""
    name, argument = next(iter(call.body.items()))
    id = call.params.get("id", "action")
    if name == "create-from-src":
        if not call.since(14):
            raise NotFound("The resource could not be found.")
        made = groups.create_from(call.tx, call.context, _named(argument), call.services.storage)
        return Reply({"group": _summary(made)}, 202)
    groups.get(call.tx, call.context, id)
    if name == "delete":
        every = boolean(argument.get("delete-volumes", False), "delete-volumes")
        groups.delete(call.tx, call.context, id, call.services.storage, with_volumes=every)
        return Reply(status=202)
    if name == "reset_status":
        if not call.since(20):
            raise NotFound("The resource could not be found.")
        _reset(call, "group", argument["status"], GROUP_STATUSES)
        return Reply(status=202)
    if not call.since(38):
        raise NotFound("The resource could not be found.")
    raise BadRequest(f"Invalid group: Group {id} is not replicated: this cloud has no replication.")


def _reset(call: Call, kind: str, status: str, known: tuple[str, ...]) -> None:
    if status.lower() not in known:
        raise bad_input(f"Group status: {status} is none of {', '.join(known)}.")
    states.update(call.tx, kind, call.params["id"], status=status.lower())


# Group snapshots


def snapshot_index(call: Call) -> dict[str, Any]:
    found = page(call, SNAPSHOTS_LISTED)
    rows = [views.group_snapshot_summary(row) for row in found.rows]
    return _linked({"group_snapshots": rows}, "group_snapshot_links", found.links)


def snapshot_detail(call: Call) -> dict[str, Any]:
    found = page(call, SNAPSHOTS_DETAILED)
    rows = [views.group_snapshot(call, row) for row in found.rows]
    return _linked({"group_snapshots": rows}, "group_snapshot_links", found.links)


def snapshot_show(call: Call) -> dict[str, Any]:
    row = groups.get(call.tx, call.context, call.params["id"], "group_snapshot")
    return {"group_snapshot": views.group_snapshot(call, row)}


def snapshot_create(call: Call) -> dict[str, Any]:
    asked = _named(call.body["group_snapshot"])
    row = groups.create_snapshot(call.tx, call.context, asked, call.services.storage)
    return {"group_snapshot": views.group_snapshot_summary(row)}


def snapshot_delete(call: Call) -> None:
    groups.delete_snapshot(call.tx, call.context, call.params["id"], call.services.storage)


def snapshot_action(call: Call) -> None:
    groups.get(call.tx, call.context, call.params["id"], "group_snapshot")
    _reset(call, "group_snapshot", call.body["reset_status"]["status"], SNAPSHOT_STATUSES)


# Group types (3.11)


def type_index(call: Call) -> dict[str, Any]:
    query = sa.select(GROUP_TYPES)
    asked = (call.arg("is_public") or "true").lower() if call.context.is_admin else "true"
    if asked != "none":
        query = query.where(GROUP_TYPES.c.is_public.is_(boolean(asked, "is_public")))
    rows = call.tx.all(query)
    sort(rows, call, GROUP_TYPES, {})
    return {"group_types": [views.group_type(call, row) for row in rows]}


def _type(call: Call, name: str = "id") -> sa.RowMapping:
    row = groups.get_type(call.tx, call.context, call.params[name])
    if row["id"] != call.params[name]:
        raise missing("Group type", call.params[name])
    return row


def type_show(call: Call) -> dict[str, Any]:
    if call.params["id"] == "default":
        raise NotFound("Default group type can not be found.")
    return {"group_type": views.group_type(call, _type(call))}


def type_create(call: Call) -> dict[str, Any]:
    asked = call.body["group_type"]
    is_public = boolean(asked.get("is_public", True), "is_public")
    specs, name = asked.get("group_specs") or {}, asked["name"].strip()
    made = groups.create_type(call.tx, name, text(asked.get("description")), is_public, specs)
    return {"group_type": views.group_type(call, groups.get_type(call.tx, call.context, made))}


def type_update(call: Call) -> dict[str, Any]:
    row, asked = _type(call), call.body["group_type"]
    values = {name: text(asked[name]) for name in ("name", "description") if asked.get(name) is not None}
    if "is_public" in asked:
        values["is_public"] = boolean(asked["is_public"], "is_public")  # type: ignore[assignment]
    if not values or values.get("name") == "":
        raise bad_input("Specify group type name, description or a combination thereof.")
    groups.update_type(call.tx, row["id"], values)
    return {"group_type": views.group_type(call, _type(call))}


def type_delete(call: Call) -> None:
    groups.delete_type(call.tx, _type(call))


def _set_specs(call: Call, row: sa.RowMapping, specs: dict[str, Any]) -> None:
    call.tx.execute(GROUP_TYPES.update().where(GROUP_TYPES.c.id == row["id"]).values(group_specs=specs))


def specs(call: Call) -> dict[str, Any]:
    return {"group_specs": _type(call, "group_type_id")["group_specs"]}


def add_specs(call: Call) -> dict[str, Any]:
    row, new = _type(call, "group_type_id"), call.body["group_specs"]
    _set_specs(call, row, {**row["group_specs"], **new})
    return {"group_specs": new}


def spec(call: Call) -> dict[str, Any]:
    found, key = _type(call, "group_type_id")["group_specs"], call.params["id"]
    if key not in found:
        raise NotFound(f"Group Type {call.params['group_type_id']} has no specs with key {key}.")
    return {key: found[key]}


def set_spec(call: Call) -> dict[str, Any]:
    row, key = _type(call, "group_type_id"), call.params["id"]
    if key not in call.body:
        raise BadRequest("Request body and URI mismatch.")
    _set_specs(call, row, {**row["group_specs"], **call.body})
    return dict(call.body)


def delete_spec(call: Call) -> None:
    spec(call)
    row, key = _type(call, "group_type_id"), call.params["id"]
    _set_specs(call, row, {name: value for name, value in row["group_specs"].items() if name != key})
