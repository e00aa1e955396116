"""Groups of volumes, their snapshots and their types (3.11–3.14). Each member has flows of its own; the group waits."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict, NotFound
from kilonova.model.ids import new_id, now
from kilonova.volume import quotas, services, snapshots, states, types, volumes
from kilonova.volume.flows import Flows
from kilonova.volume.requests import bad_input, invalid, missing
from kilonova.volume.tables import GROUP_SNAPSHOTS, GROUP_TYPES, GROUPS, SNAPSHOTS, TYPES, VOLUMES
from kilonova.web.call import Context

DEFAULT_CG = "default_cgsnapshot_type"  # of Cinder's old consistency groups, which are not offered here


def get(tx: Tx, context: Context, id: str, kind: str = "group") -> sa.RowMapping:
    row = states.find(tx, kind, id)
    if row is None or (row["project_id"] != context.project_id and not context.is_admin):
        raise missing("Group" if kind == "group" else "GroupSnapshot", id)
    return row


def get_type(tx: Tx, context: Context, word: str) -> sa.RowMapping:
    """By id or name. NotFound for a private one, unless an administrator asks."""
    row = tx.first(sa.select(GROUP_TYPES).where((GROUP_TYPES.c.id == word) | (GROUP_TYPES.c.name == word)))
    if row is None or not (row["is_public"] or context.is_admin):
        raise missing("Group type", word)
    return row


def create_type(tx: Tx, name: str, description: str | None, is_public: bool, specs: dict[str, Any]) -> str:
    row = {"id": new_id(), "name": name, "description": description, "is_public": is_public, "group_specs": specs,
           "created_at": now()}  # fmt: skip
    if not insert_new(tx.connection, GROUP_TYPES, row):
        raise Conflict(f"Group Type {name} already exists.")
    return str(row["id"])


def update_type(tx: Tx, id: str, values: dict[str, Any]) -> None:
    taken = (GROUP_TYPES.c.name == values.get("name")) & (GROUP_TYPES.c.id != id)
    if tx.scalar(sa.select(GROUP_TYPES.c.id).where(taken)):
        raise Conflict(f"Group Type {values['name']} already exists.")
    tx.execute(GROUP_TYPES.update().where(GROUP_TYPES.c.id == id).values(**values))


def delete_type(tx: Tx, row: sa.RowMapping) -> None:
    used = (GROUPS, GROUP_SNAPSHOTS)
    if any(tx.scalar(sa.select(table.c.id).where(table.c.group_type_id == row["id"]).limit(1)) for table in used):
        raise invalid("group type", "Target group type is still in use.")
    tx.execute(GROUP_TYPES.delete().where(GROUP_TYPES.c.id == row["id"]))


def create(tx: Tx, context: Context, asked: dict[str, Any]) -> sa.RowMapping:
    """An empty group, which is there at once. `asked`: name, description, group_type, volume_types, availability_zone."""
    group_type = get_type(tx, context, asked["group_type"])
    wanted = [types.by_name_or_id(tx, context, word)["id"] for word in dict.fromkeys(asked["volume_types"])]
    for type_id in sorted(wanted):
        tx.hold(TYPES.c.id, type_id)  # a type of a group is not deleted, and here no foreign key says so
    zone = asked.get("availability_zone") or services.ZONE
    if zone not in services.zones(tx):
        raise bad_input(f"Availability zone '{zone}' is invalid.")
    values = {"volume_type_ids": list(dict.fromkeys(wanted)), "availability_zone": zone}
    return _insert(tx, context, asked, group_type["id"], {**values, "status": "available"})


def _insert(
    tx: Tx, context: Context, asked: dict[str, Any], group_type_id: str, values: dict[str, Any]
) -> sa.RowMapping:
    quotas.reserve(tx, context.project_id, groups=1)
    id = new_id()
    tx.execute(
        GROUPS.insert().values(
            id=id, project_id=context.project_id, user_id=context.user_id, name=asked.get("name"),
            description=asked.get("description"), group_type_id=group_type_id, created_at=now(), **values,
        )
    )  # fmt: skip
    return states.get_row(tx, "group", id)


def create_from(tx: Tx, context: Context, asked: dict[str, Any], flows: Flows) -> sa.RowMapping:
    """A group with a copy of each volume of `source_group_id`, or of each snapshot of `group_snapshot_id`."""
    snapshot_id, source_id = asked.get("group_snapshot_id"), asked.get("source_group_id")
    if bool(snapshot_id) == bool(source_id):
        raise bad_input("Either 'group_snapshot_id' or 'source_group_id' must be provided, and not both.")
    if snapshot_id:
        source = get(tx, context, snapshot_id, "group_snapshot")
        group = states.get_row(tx, "group", source["group_id"])
        sources = [
            {"snapshot_id": row["id"], "name": row["name"]} for row in members(tx, "group_snapshot", snapshot_id)
        ]
    else:
        assert source_id is not None
        source = group = get(tx, context, source_id)
        sources = [{"source_volid": row["id"], "name": row["name"]} for row in members(tx, "group", source_id)]
    if source["status"] != "available":
        raise invalid("Group", f"The source {source['id']} must be available, it is {source['status']}.")
    if not sources:
        raise invalid("Group", f"The source {source['id']} is empty. No group will be created.")
    values = {"volume_type_ids": group["volume_type_ids"], "availability_zone": group["availability_zone"]}
    origin = {"group_snapshot_id": snapshot_id, "source_group_id": source_id, "status": "creating"}
    made = _insert(tx, context, asked, group["group_type_id"], {**values, **origin})
    for each in sources:
        volumes.create(tx, context, volumes.Wanted(**each, group_id=made["id"]), flows)
    flows.begin(tx, "create_group", made["id"], context, {})
    return made


def members(tx: Tx, kind: str, id: str) -> list[sa.RowMapping]:
    """A group's volumes, or a group snapshot's snapshots."""
    table, column = (VOLUMES, VOLUMES.c.group_id) if kind == "group" else (SNAPSHOTS, SNAPSHOTS.c.group_snapshot_id)
    return tx.all(sa.select(table).where(column == id).order_by(table.c.created_at, table.c.id))


def update(tx: Tx, context: Context, id: str, asked: dict[str, Any]) -> None:
    """`asked`: name, description, add_volumes, remove_volumes (ids with commas between them)."""
    group = get(tx, context, id)
    if group["status"] != "available":
        raise invalid("Group", f"Group status must be available, but current status is: {group['status']}")
    add, remove = (_ids(asked.get(name)) for name in ("add_volumes", "remove_volumes"))
    values = {name: asked[name] for name in ("name", "description") if asked.get(name) is not None}
    if not (add or remove or values):
        raise bad_input("Name, description, add_volumes and remove_volumes can not be all empty in the request body.")
    if set(add) & set(remove):
        raise invalid("volume", "Volume cannot be both added to and removed from a group.")
    for volume_id in add:
        _add(tx, context, group, volume_id)
    for volume_id in remove:
        row = states.find(tx, "volume", volume_id)
        if row is None or row["group_id"] != id:
            raise invalid("volume", f"Cannot remove volume {volume_id} from group {id} because it is not in the group.")
        states.update(tx, "volume", volume_id, group_id=None)
    states.update(tx, "group", id, **values)


def _ids(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _add(tx: Tx, context: Context, group: sa.RowMapping, volume_id: str) -> None:
    try:
        volume = volumes.get(tx, context, volume_id)
    except NotFound as error:
        raise invalid("volume", f"Cannot add volume {volume_id} to group {group['id']}: it is not found.") from error
    why = (
        "it is already in a group" if volume["group_id"]
        else "its type is not supported by the group" if volume["type_id"] not in group["volume_type_ids"]
        else f"it is in an invalid state: {volume['status']}" if volume["status"] not in ("available", "in-use")
        else None
    )  # fmt: skip
    if why:
        raise invalid("volume", f"Cannot add volume {volume_id} to group {group['id']} because {why}.")
    states.update(tx, "volume", volume_id, group_id=group["id"])


def delete(tx: Tx, context: Context, id: str, flows: Flows, *, with_volumes: bool) -> None:
    group = get(tx, context, id)
    found = members(tx, "group", id)
    if group["status"] not in ("available", "error"):
        raise invalid("Group", f"Group status must be available or error, but current status is: {group['status']}")
    if found and not with_volumes:
        raise invalid("Group", f"Group {id} still contains volumes. The delete-volumes flag is required to delete it.")
    if tx.scalar(sa.select(GROUP_SNAPSHOTS.c.id).where(GROUP_SNAPSHOTS.c.group_id == id).limit(1)):
        raise invalid("Group", f"Group {id} still has dependent group snapshots.")
    for volume in found:
        busy = volume["status"] not in volumes.DELETABLE or states.has_attachments(tx, volume["id"])
        if busy or states.has_snapshots(tx, volume["id"]):
            raise invalid("volume", f"Volume {volume['id']} in group {id} is attached, busy or has snapshots.")
    for volume in found:
        volumes.start_delete(tx, context, volume, flows)
    states.update(tx, "group", id, status="deleting")
    flows.start(tx, "delete_group", id, context, {})


def create_snapshot(tx: Tx, context: Context, asked: dict[str, Any], flows: Flows) -> sa.RowMapping:
    """A snapshot of each volume of the group."""
    group = get(tx, context, asked["group_id"])
    found = members(tx, "group", group["id"])
    if not found:
        raise invalid("Group", "Group is empty. No group snapshot will be created.")
    if group["status"] != "available":
        raise invalid("Group", f"Group status must be available, but current status is: {group['status']}")
    tx.hold(GROUPS.c.id, group["id"])
    for volume in found:
        snapshots.check(volume, True)
    for volume in found:
        name = types.by_id(tx, volume["type_id"])["name"]
        quotas.reserve(tx, context.project_id, name, snapshots=1, gigabytes=volume["size"])
    id = new_id()
    names = {"name": asked.get("name"), "description": asked.get("description")}
    tx.execute(
        GROUP_SNAPSHOTS.insert().values(
            id=id, project_id=context.project_id, user_id=context.user_id, status="creating", group_id=group["id"],
            group_type_id=group["group_type_id"], created_at=now(), **names,
        )
    )  # fmt: skip
    for volume in found:
        made = snapshots.insert(tx, context, volume, {**names, "group_snapshot_id": id})
        flows.begin(tx, "create_snapshot", made, context, {})
    flows.begin(tx, "create_group_snapshot", id, context, {})
    return states.get_row(tx, "group_snapshot", id)


def delete_snapshot(tx: Tx, context: Context, id: str, flows: Flows) -> None:
    row = get(tx, context, id, "group_snapshot")
    if row["status"] not in ("available", "error"):
        raise invalid("GroupSnapshot", "GroupSnapshot status must be available or error")
    using = (GROUPS.c.group_snapshot_id == id) & (GROUPS.c.status == "creating")
    if tx.scalar(sa.select(GROUPS.c.id).where(using).limit(1)):
        raise invalid("GroupSnapshot", "no group may be creating from it")
    for snapshot in members(tx, "group_snapshot", id):
        states.update(tx, "snapshot", snapshot["id"], status="deleting")
        flows.start(tx, "delete_snapshot", snapshot["id"], context, {})
    states.update(tx, "group_snapshot", id, status="deleting")
    flows.start(tx, "delete_group_snapshot", id, context, {})
