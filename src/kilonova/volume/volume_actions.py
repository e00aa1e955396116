"""POST /volumes/{id}/action: what may be asked of a volume, and by whom."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.volume import attachments, moves, parts, schemas, snapshots, states, volumes
from kilonova.volume.requests import bad_input, boolean, check_metadata, invalid
from kilonova.volume.tables import ATTACHMENTS
from kilonova.web.call import Call, Reply
from kilonova.web.checks import Rule
from kilonova.web.policy import admin, project_member, project_reader

STATUSES = (
    "creating", "available", "deleting", "error", "error_deleting", "error_managing", "managing", "attaching",
    "detaching", "in-use", "maintenance", "reserved", "error_extending", "error_restoring", "awaiting-transfer",
)  # fmt: skip
ATTACH_STATUSES = ("attached", "detached", "attaching", "detaching", "reserved", "error_attaching", "error_detaching")
MIGRATION_STATUSES = ("migrating", "error", "success", "completing", "none", "starting")
NOTHING: dict[str, Any] = {"type": ["object", "null", "string"]}


@dataclass(frozen=True)
class Action:
    """`act(call, volume id, argument)` inside a transaction; `None` of a Reply is the empty answer with `status`."""

    act: Callable[[Call, str, Any], dict[str, Any] | None]
    schema: dict[str, Any]
    rule: Rule = project_member
    status: int = 202
    since: int = 0


def action(call: Call) -> Reply:
    if not isinstance(call.body, dict) or len(call.body) != 1:
        raise BadRequest("There is one action to a request.")
    name, argument = next(iter(call.body.items()))
    found = ACTIONS.get(name)
    if found is None or not call.since(found.since):
        raise BadRequest(f"There is no such action: {name}")
    call.check(argument, found.schema)
    id = call.params["id"]
    volume = call.database.read(lambda tx: volumes.get(tx, call.context, id))
    if name == "os-initialize_connection":
        return Reply(_initialize_connection(call, volume, argument), 200)

    def run(tx: Any) -> dict[str, Any] | None:
        call._tx = tx
        return found.act(call, id, argument)

    return Reply(call.database.write(run), found.status)


def _initialize_connection(call: Call, volume: Any, argument: Any) -> dict[str, Any]:
    """What the backend says is asked outside any transaction."""
    if volume["status"] == "maintenance":
        raise invalid("volume", "The volume connection cannot be initialized in maintenance mode.")
    if not volume["host"]:
        raise invalid("volume", "The volume has not been scheduled to any host.")
    found = call.services.storage.connect_volume(volume["host"], volume["stored_as"], volume["backend"])
    mode = "ro" if volume["readonly"] else "rw"
    more = {"access_mode": mode, "encrypted": False, "qos_specs": None, "cacheable": False}
    multipath = argument["connector"].get("enforce_multipath", False)
    return {"connection_info": {**found, "data": {**found["data"], **more}, "enforce_multipath": multipath}}


def _check_free(call: Call, id: str) -> None:
    """No server has it by Nova's word."""
    found = [row["id"] for row in volumes.attachments_of(call.tx, id)]
    attachments.check_not_a_servers(call.tx, found, call.services.storage)


def _terminate_connection(call: Call, id: str, argument: Any) -> None:
    _check_free(call, id)
    attachments.unreserve_volume(call.tx, call.context, id)


def _reserve(call: Call, id: str, argument: Any) -> None:
    attachments.reserve_volume(call.tx, call.context, id)


def _unreserve(call: Call, id: str, argument: Any) -> None:
    attachments.unreserve_volume(call.tx, call.context, id)


def _begin_detaching(call: Call, id: str, argument: Any) -> None:
    attachments.begin_detaching(call.tx, call.context, id)


def _roll_detaching(call: Call, id: str, argument: Any) -> None:
    attachments.roll_detaching(call.tx, call.context, id)


def _attach(call: Call, id: str, argument: Any) -> None:
    attachments.attach(call.tx, call.context, id, argument)


def _detach(call: Call, id: str, argument: Any) -> None:
    _check_free(call, id)
    attachments.detach(call.tx, call.context, id, (argument or {}).get("attachment_id"))


def _force_detach(call: Call, id: str, argument: Any) -> None:
    _check_free(call, id)
    attachments.detach(call.tx, call.context, id, argument.get("attachment_id"))


def _extend(call: Call, id: str, argument: Any) -> None:
    size = int(argument["new_size"])
    volume = volumes.get(call.tx, call.context, id)
    attached = call.since(42) and volume["status"] == "in-use"
    volumes.extend(call.tx, call.context, id, size, call.services.storage, attached=attached)


def _reset_status(call: Call, id: str, argument: Any) -> None:
    """Rows alone: what is going on with the volume goes on."""
    wanted = {name: argument[name] for name in ("status", "attach_status", "migration_status") if name in argument}
    if not wanted:
        raise bad_input("Must specify 'status', 'attach_status' or 'migration_status' in request body.")
    values: dict[str, Any] = {}
    known = {"status": STATUSES, "attach_status": ATTACH_STATUSES, "migration_status": MIGRATION_STATUSES}
    for name, value in wanted.items():
        word = value.lower() if isinstance(value, str) else value
        if word is None and name != "migration_status":
            continue
        if word is not None and word not in known[name]:
            raise bad_input(f"Invalid {name}: {value}. It is one of {', '.join(known[name])}.")
        values[name] = word
    volume = volumes.get(call.tx, call.context, id)
    if values.get("attach_status") == "detached":
        _check_free(call, id)
        call.tx.execute(ATTACHMENTS.delete().where(ATTACHMENTS.c.volume_id == volume["id"]))
    states.update(call.tx, "volume", volume["id"], **values)


def _force_delete(call: Call, id: str, argument: Any) -> None:
    volumes.delete(call.tx, call.context, id, call.services.storage, force=True)


def _set_bootable(call: Call, id: str, argument: Any) -> None:
    volumes.update(call.tx, call.context, id, {"bootable": boolean(argument["bootable"], "bootable")})


def _readonly(call: Call, id: str, argument: Any) -> None:
    volume = volumes.get(call.tx, call.context, id)
    if volume["status"] != "available":
        raise invalid("volume", f"Volume {id} status must be available to update readonly flag.")
    states.update(call.tx, "volume", id, readonly=boolean(argument["readonly"], "readonly"))


def _set_image_metadata(call: Call, id: str, argument: Any) -> dict[str, Any]:
    volume = volumes.get(call.tx, call.context, id)
    if volume["status"] in ("maintenance", "uploading"):
        raise invalid("volume", f"Updating volume metadata is not allowed for volumes in {volume['status']} status.")
    merged = {**volume["image_metadata"], **(argument["metadata"] or {})}
    check_metadata(merged, volume["image_metadata"])
    states.update(call.tx, "volume", id, image_metadata=merged)
    return {"metadata": merged}


def _show_image_metadata(call: Call, id: str, argument: Any) -> dict[str, Any]:
    return {"metadata": volumes.get(call.tx, call.context, id)["image_metadata"]}


def _unset_image_metadata(call: Call, id: str, argument: Any) -> None:
    found, key = volumes.get(call.tx, call.context, id)["image_metadata"], argument["key"]
    if key not in found:
        raise NotFound(f"Metadata for volume {id} has no key {key}.")
    states.update(call.tx, "volume", id, image_metadata={name: value for name, value in found.items() if name != key})


def _upload_image(call: Call, id: str, argument: Any) -> dict[str, Any]:
    if argument.get("visibility") == "public":
        parts.check(call.context, parts.UPLOAD_PUBLIC)
    asked = dict(argument)
    if not call.since(1):
        asked = {name: value for name, value in asked.items() if name not in ("visibility", "protected")}
    found = moves.upload(call.tx, call.context, id, asked, call.services.storage)
    if not call.since(1):
        found.pop("visibility", None)
        found.pop("protected", None)
    return {"os-volume_upload_image": found}


def _retype(call: Call, id: str, argument: Any) -> None:
    policy = argument.get("migration_policy") or "never"
    moves.retype(call.tx, call.context, id, argument["new_type"], policy, call.services.storage)


def _migrate(call: Call, id: str, argument: Any) -> None:
    if argument.get("cluster"):
        raise bad_input("This cloud has no clusters: name a host.")
    lock = boolean(argument.get("lock_volume") or False, "lock_volume")
    moves.migrate(call.tx, call.context, id, argument.get("host") or "", lock, call.services.storage)


def _migrate_completion(call: Call, id: str, argument: Any) -> dict[str, Any]:
    failed = boolean(argument.get("error") or False, "error")
    new = moves.complete_migration(
        call.tx, call.context, id, argument["new_volume"], call.services.storage, failed=failed
    )
    return {"save_volume_id": new}


def _extend_completion(call: Call, id: str, argument: Any) -> None:
    raise Conflict("An extend completes by itself here: no compute service need report it.")


def _revert(call: Call, id: str, argument: Any) -> None:
    snapshots.revert(call.tx, call.context, id, argument["snapshot_id"], call.services.storage)


def _reimage(call: Call, id: str, argument: Any) -> None:
    reserved = boolean(argument.get("reimage_reserved") or False, "reimage_reserved")
    moves.reimage(call.tx, call.context, id, argument["image_id"], call.services.storage, reserved=reserved)


def _unmanage(call: Call, id: str, argument: Any) -> None:
    moves.unmanage(call.tx, call.context, id)


s = schemas
KEY = s.closed({"key": {"type": "string", "minLength": 1, "maxLength": 255}}, ("key",))
CONNECTOR = s.closed({"connector": {"type": "object"}}, ("connector",))
TEXT: dict[str, Any] = {"type": ["string", "null"]}
ACTIONS = {
    "os-attach": Action(_attach, s.opened(
        {"instance_uuid": s.UUID, "host_name": {"type": "string", "maxLength": 255},
         "mountpoint": {"type": "string", "minLength": 1, "maxLength": 255}, "mode": {"enum": ["rw", "ro"]}},
        ("mountpoint",))),
    "os-detach": Action(_detach, {**s.opened({"attachment_id": s.UUID_OR_NULL}), "type": ["object", "null"]}),
    "os-force_detach": Action(_force_detach, s.opened({"attachment_id": s.UUID_OR_NULL, "connector": {}}), admin),
    "os-reserve": Action(_reserve, NOTHING),
    "os-unreserve": Action(_unreserve, NOTHING),
    "os-begin_detaching": Action(_begin_detaching, NOTHING),
    "os-roll_detaching": Action(_roll_detaching, NOTHING),
    "os-initialize_connection": Action(lambda call, id, argument: None, CONNECTOR, status=200),
    "os-terminate_connection": Action(_terminate_connection, CONNECTOR),
    "os-extend": Action(_extend, s.closed({"new_size": s.SIZE}, ("new_size",))),
    "os-extend_volume_completion": Action(_extend_completion, {"type": "object"}, admin, since=71),
    "os-reset_status": Action(_reset_status, {"type": "object"}, admin),
    "os-force_delete": Action(_force_delete, NOTHING, admin),
    "os-set_bootable": Action(_set_bootable, s.closed({"bootable": s.BOOLEAN}, ("bootable",)), status=200),
    "os-update_readonly_flag": Action(_readonly, s.closed({"readonly": s.BOOLEAN}, ("readonly",))),
    "os-set_image_metadata": Action(_set_image_metadata, s.wrapped("metadata", s.METADATA), status=200),
    "os-show_image_metadata": Action(_show_image_metadata, NOTHING, project_reader, 200),
    "os-unset_image_metadata": Action(_unset_image_metadata, KEY, status=200),
    "os-volume_upload_image": Action(_upload_image, s.opened(
        {"image_name": {"type": "string", "minLength": 1, "maxLength": 255}, "force": {"enum": [*s.BOOLEAN["enum"], None]},
         "disk_format": {"enum": ["raw", "vmdk", "vdi", "qcow2", "vhd", "vhdx", "ploop"]},
         "container_format": {"type": "string"}, "visibility": {"enum": ["community", "public", "private", "shared"]},
         "protected": s.BOOLEAN}, ("image_name",))),
    "os-retype": Action(_retype, s.closed(
        {"new_type": s.REQUIRED_NAME, "migration_policy": {"enum": ["on-demand", "never", None]}}, ("new_type",))),
    "os-migrate_volume": Action(_migrate, s.opened(
        {"host": TEXT, "cluster": TEXT, "force_host_copy": {"enum": [*s.BOOLEAN["enum"], None]},
         "lock_volume": {"enum": [*s.BOOLEAN["enum"], None]}}), admin),
    "os-migrate_volume_completion": Action(_migrate_completion, s.opened(
        {"new_volume": s.UUID, "error": {"enum": [*s.BOOLEAN["enum"], None]}}, ("new_volume",)), admin, 200),
    "revert": Action(_revert, s.closed({"snapshot_id": s.UUID}, ("snapshot_id",)), since=40),
    "os-reimage": Action(_reimage, s.opened({"image_id": s.UUID, "reimage_reserved": s.BOOLEAN}, ("image_id",)), since=68),
    "os-unmanage": Action(_unmanage, NOTHING, admin),
}  # fmt: skip
# Cinder's names of their lines of policy.
POLICIES = {
    **{f"os-{verb}": f"volume_extension:volume_actions:{verb}" for verb in (
        "attach", "detach", "reserve", "unreserve", "begin_detaching", "roll_detaching", "initialize_connection",
        "terminate_connection")},
    **{f"os-{verb}": f"volume_extension:volume_admin_actions:{verb}" for verb in (
        "force_detach", "extend_volume_completion", "reset_status", "force_delete", "migrate_volume",
        "migrate_volume_completion")},
    **{f"os-{verb}": f"volume:{verb}" for verb in ("extend", "update_readonly_flag", "retype", "reimage")},
    "os-set_bootable": "volume:update",
    "os-set_image_metadata": "volume_extension:volume_image_metadata:set",
    "os-show_image_metadata": "volume_extension:volume_image_metadata:show",
    "os-unset_image_metadata": "volume_extension:volume_image_metadata:remove",
    "os-volume_upload_image": "volume_extension:volume_actions:upload_image",
    "revert": "volume:revert_to_snapshot",
    "os-unmanage": "volume_extension:volume_unmanage",
}  # fmt: skip
POLICY = {POLICIES[name]: found.rule for name, found in ACTIONS.items()}
