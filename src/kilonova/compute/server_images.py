"""Images that are made of servers: what createImage, createBackup and shelve ask of the image service.

Nova: `create_image` and `initialize_instance_snapshot_metadata` in `nova/compute/utils.py`.
"""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import block_devices, quotas, volume_backed
from kilonova.compute import schemas as s
from kilonova.compute.verbs import Asked
from kilonova.db.engine import Tx
from kilonova.identity import limits
from kilonova.image import delivery
from kilonova.image import quotas as image_quotas
from kilonova.model.errors import BadRequest, Forbidden
from kilonova.web.call import Call, Context, Reply
from kilonova.web.validate import TRUE

NOT_INHERITED = {
    "cache_in_nova",
    "bittorrent",
    "cinder_encryption_key_id",
    "cinder_encryption_key_deletion_policy",
    "img_signature",
    "img_signature_hash_method",
    "img_signature_key_type",
    "img_signature_certificate_uuid",
}  # fmt: skip  (Nova: NON_INHERITABLE_IMAGE_PROPERTIES and the option non_inheritable_image_properties)
NOT_INHERITED_PREFIX = "os_glance"

CREATE_IMAGE = s.closed({"name": s.NAME, "metadata": s.METADATA}, ("name",))
CREATE_BACKUP = s.closed(
    {"name": s.NAME, "backup_type": {"type": "string"}, "rotation": s.NON_NEGATIVE, "metadata": s.METADATA},
    ("name", "backup_type", "rotation"),
)


def create_image(tx: Tx, call: Call, server: sa.RowMapping, argument: dict[str, Any]) -> Asked:
    """Of a server that boots from a volume: snapshots of its volumes, and an image that names them."""
    metadata, name = argument.get("metadata", {}), argument["name"]
    _check_quota(tx, call, metadata)
    more = volume_backed.snapshot(tx, call, server, name) if block_devices.root(tx, server["id"]) is not None else None
    image_id = reserve(tx, call.context, server, name, "snapshot", metadata | (more.properties if more else {}))
    reply = _reply(call, image_id, f"{_images_url(call)}/{image_id}")
    if more is not None:
        return Asked({"image_id": image_id, "snapshots": more.snapshots}, reply, "snapshot_volume_backed")
    return Asked(data(server, image_id), reply)


def create_backup(tx: Tx, call: Call, server: sa.RowMapping, argument: dict[str, Any]) -> Asked:
    if block_devices.root(tx, server["id"]) is not None:
        raise BadRequest("Backup is not supported for volume-backed instances.")
    metadata, rotation = argument.get("metadata", {}), int(argument["rotation"])
    _check_quota(tx, call, metadata)
    properties = {**metadata, "backup_type": argument["backup_type"]}
    image_id = reserve(tx, call.context, server, argument["name"], "backup", properties)
    more = {"rotation": rotation}
    where = f"{call.base_url}/images/{image_id}" if rotation else None
    return Asked(data(server, image_id) | more, _reply(call, image_id, where))


def reserve(
    tx: Tx, context: Context, server: sa.RowMapping, name: str, kind: str, extra: dict[str, str] | None = None
) -> str:
    """A queued image of the server's root disk; its id. kind: Nova's `image_type`, snapshot or backup.

    It inherits what the server's own image says of the hardware; `extra` is the user's. Made by somebody of another
    project, it is shared with the server's.
    """
    meta, owner = server["image_meta"], server["project_id"]
    inherited = {
        key: str(value) for key, value in (meta.get("properties") or {}).items()
        if key not in NOT_INHERITED and not key.startswith(NOT_INHERITED_PREFIX)
    }  # fmt: skip
    inherited |= {"instance_uuid": server["id"], "user_id": context.user_id, "image_type": kind}
    own = {"image_state": "available", "image_location": "snapshot", "owner_id": owner, "base_image_ref": server["image_id"]}
    foreign = context.project_id != owner
    if foreign:
        own["instance_owner"] = owner
    values = {
        "name": name, "visibility": "shared" if foreign else "private", "owner": context.project_id,
        # Nova: get_system_metadata_from_image; a smaller disk than the server's does not hold what is on it.
        "min_disk": max(meta.get("min_disk") or 0, server["flavor"]["disk_gb"]), "min_ram": meta.get("min_ram", 0),
    }  # fmt: skip
    image_quotas.enforce(tx, limits.in_force, context.project_id, image_count_total=1)
    return delivery.reserve(tx, context, values, inherited | (extra or {}) | own, owner if foreign else "")


def data(server: sa.RowMapping, image_id: str) -> dict[str, Any]:
    """For the flow's steps: the image to fill, and how still the guest must be while its disk is copied."""
    properties = server["image_meta"].get("properties") or {}
    agent, must = (
        str(properties.get(name, "")).lower() in TRUE for name in ("hw_qemu_guest_agent", "os_require_quiesce")
    )
    quiesce = True if must else None if agent else False
    return {"image_id": image_id, "quiesce": quiesce}


def _check_quota(tx: Tx, call: Call, metadata: dict[str, str]) -> None:
    """Until 2.38 (Nova: check_img_metadata_properties_quota)."""
    allowed = quotas.limits(tx, call.context.project_id)["metadata_items"]
    if not call.since(39) and 0 <= allowed < len(metadata):
        raise Forbidden("Image metadata limit exceeded")


def _images_url(call: Call) -> str:
    """Where Glance is: beside this service."""
    return f"{call.base_url.rpartition('/')[0]}/image/images"


def _reply(call: Call, image_id: str, location: str | None) -> Reply:
    if call.since(45):
        return Reply({"image_id": image_id})
    return Reply(headers={"Location": location} if location else {})
