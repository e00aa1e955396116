"""Volumes as the API sees them: found, made, changed, asked to grow and to go away."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict
from kilonova.model.ids import new_id, now
from kilonova.volume import parts, quotas, services, states, types
from kilonova.volume.flows import Flows
from kilonova.volume.requests import bad_input, invalid, missing
from kilonova.volume.tables import ATTACHMENTS, BACKUPS, GROUPS, SNAPSHOTS, TRANSFERS, VOLUMES
from kilonova.web.call import Context
from kilonova.web.policy import check_row

GIB = 1 << 30
MIGRATED = (None, "none", "deleting", "error", "success")  # Cinder: AVAILABLE_MIGRATION_STATUS
DELETABLE = ("available", "error", "error_restoring", "error_extending", "error_managing")


@dataclass(frozen=True)
class Wanted:
    """A new volume. `size` None: that of what it is made from; at most one of the sources is given."""

    size: int | None = None
    name: str | None = None
    description: str | None = None
    volume_type: str | None = None  # its name or id
    availability_zone: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    scheduler_hints: Mapping[str, Any] = field(default_factory=dict)
    snapshot_id: str | None = None
    source_volid: str | None = None
    backup_id: str | None = None
    image: str | None = None  # its id or name
    group_id: str | None = None


def get(tx: Tx, context: Context, id: str) -> sa.RowMapping:
    """NotFound when it is not there, or another project's."""
    row = states.find(tx, "volume", id)
    if row is None or (row["project_id"] != context.project_id and not context.is_admin):
        raise missing("Volume", id)
    check_row(context, "volume", row)
    return row


def check_stays(volume: sa.RowMapping, verb: str) -> None:
    """A migration that does not lock its volume leaves the status as it is, and moves the bytes: what is written meanwhile
    would be lost, what is read half of one place."""
    if volume["migration_status"] not in MIGRATED:
        raise invalid("volume", f"Unable to {verb} volume {volume['id']} while it is being migrated.")


def create(tx: Tx, context: Context, wanted: Wanted, flows: Flows) -> sa.RowMapping:
    source = _source(tx, context, wanted)
    volume_type = _type(tx, context, wanted, source)
    if types.is_multiattach(volume_type):
        parts.check(context, parts.MULTIATTACH)
    if wanted.image:
        parts.check(context, parts.FROM_IMAGE)
    size = _size(wanted, source)
    types.check_size(volume_type, size)
    zone = _zone(tx, wanted, source)
    image = find_image(tx, context, wanted.image, flows) if wanted.image else None
    if image is not None:
        check_image(image, size)
    _group(tx, context, wanted.group_id, volume_type)
    quotas.check_size(tx, context.project_id, size)
    quotas.reserve(tx, context.project_id, volume_type["name"], volumes=1, gigabytes=size)
    id = new_id()
    made = {
        "id": id, "stored_as": f"volume-{id}",
        "project_id": context.project_id, "user_id": context.user_id, "name": wanted.name,
        "description": wanted.description, "status": "creating", "size": size, "type_id": volume_type["id"],
        "availability_zone": zone, "metadata": dict(wanted.metadata), "scheduler_hints": dict(wanted.scheduler_hints),
        "multiattach": types.is_multiattach(volume_type), "snapshot_id": wanted.snapshot_id,
        "source_volid": wanted.source_volid, "backup_id": wanted.backup_id, "group_id": wanted.group_id,
        "image_id": image["id"] if image is not None else None, "created_at": now(),
        "image_metadata": image_metadata(image) if image is not None else _inherited(source),
        "bootable": image is not None or bool(source is not None and source["bootable"]),
    }  # fmt: skip
    tx.execute(VOLUMES.insert().values(**made))
    flows.begin(tx, "create_volume", id, context, {})
    return states.get_row(tx, "volume", id)


def _source(tx: Tx, context: Context, wanted: Wanted) -> dict[str, Any] | None:
    """What the new volume takes over from what it is made from."""
    if wanted.snapshot_id:
        snapshot = states.find(tx, "snapshot", wanted.snapshot_id)
        if snapshot is None or (snapshot["project_id"] != context.project_id and not context.is_admin):
            raise missing("Snapshot", wanted.snapshot_id)
        if snapshot["status"] not in ("available", "backing-up"):
            raise invalid("snapshot", "Originating snapshot status must be one of 'available' values")
        tx.hold(SNAPSHOTS.c.id, snapshot["id"])
        return {**states.get_row(tx, "volume", snapshot["volume_id"]), "size": snapshot["size"], "what": "snapshot"}
    if wanted.source_volid:
        volume = get(tx, context, wanted.source_volid)
        if volume["status"] not in ("available", "in-use"):
            raise invalid("volume", "Originating source volume status must be one of 'available, in-use' values")
        check_stays(volume, "clone")
        tx.hold(VOLUMES.c.id, volume["id"])
        return {**volume, "what": "volume"}
    if wanted.backup_id:
        backup = states.find(tx, "backup", wanted.backup_id)
        if backup is None or (backup["project_id"] != context.project_id and not context.is_admin):
            raise missing("Backup", wanted.backup_id)
        if backup["status"] not in ("available", "restoring"):
            raise invalid("backup", "Originating backup status must be one of 'available' values")
        tx.hold(BACKUPS.c.id, backup["id"])
        return {**{name: backup[name] for name in ("size", "bootable", "image_metadata")}, "what": "backup"}
    return None


def _inherited(source: dict[str, Any] | None) -> dict[str, Any]:
    return dict(source["image_metadata"]) if source else {}


def _type(tx: Tx, context: Context, wanted: Wanted, source: dict[str, Any] | None) -> sa.RowMapping:
    own = source.get("type_id") if source else None
    if wanted.volume_type:
        asked = types.by_name_or_id(tx, context, wanted.volume_type)
        if own and asked["id"] != own and not same_backend(types.by_id(tx, own), asked):
            hint = "either match source volume, or omit type argument" if wanted.source_volid else (
                "recommend omitting the type argument"
            )  # fmt: skip
            raise bad_input(f"Invalid volume_type provided: {asked['id']} (requested type is not compatible; {hint}).")
        return asked
    return types.by_id(tx, own) if own else types.default(tx, context.project_id)


def same_backend(one: sa.RowMapping, other: sa.RowMapping) -> bool:
    """Whether volumes of either type lie in the same backend (Cinder: matching_backend_name)."""
    names = [row["extra_specs"].get("volume_backend_name") for row in (one, other)]
    return names[0] == names[1]


def _size(wanted: Wanted, source: dict[str, Any] | None) -> int:
    size = wanted.size
    if size is None and source is not None:
        size = source["size"]
    if size is None or size <= 0:
        raise bad_input(f"Volume size '{size}' must be an integer and greater than 0")
    if source is not None and size < source["size"]:
        if source["what"] == "volume":
            words = f"original volume size  {source['size']}GB. They must be >= original volume size."
        elif source["what"] == "snapshot":
            words = f"the snapshot size {source['size']}GB. They must be >= original snapshot size."
        else:
            words = f"the backup size {source['size']}GB. It must be >= backup size."
        raise bad_input(f"Volume size '{size}'GB cannot be smaller than {words}")
    return size


def _zone(tx: Tx, wanted: Wanted, source: dict[str, Any] | None) -> str:
    own = source.get("availability_zone") if source else None
    zone = wanted.availability_zone or own or services.ZONE
    if zone not in services.zones(tx):
        raise bad_input(f"Availability zone '{zone}' is invalid.")
    if own and zone != own:
        raise bad_input(
            f"Volume must be in the same availability zone as the {'snapshot' if wanted.snapshot_id else 'source volume'}"
        )
    return zone


def find_image(tx: Tx, context: Context, word: str, flows: Flows) -> Mapping[str, Any]:
    """By its id, an address that ends with it, or its name."""
    found = flows.find_images(tx, context, word.rpartition("/")[2], word)
    if len(found) > 1:
        raise Conflict(f"Multiple matches found for '{word}', use an ID to be more specific.")
    if not found:
        raise BadRequest("Invalid image identifier or unable to access requested image.")
    return found[0]


def check_image(image: Mapping[str, Any], size: int) -> None:
    """Whether a volume of `size` GiB can hold it (Cinder: check_image_metadata)."""
    if image["status"] != "active":
        raise bad_input(f"Image {image['id']} is not active.")
    if "cinder_encryption_key_id" in image["properties"]:
        raise bad_input(f"Image {image['id']} is encrypted, and this cloud offers no encrypted volumes.")
    most = -(-max(image["size"] or 0, image["virtual_size"] or 0) // GIB)
    if most > size:
        raise bad_input(f"Size of specified image {most}GB is larger than volume size {size}GB.")
    if image["min_disk"] > size:
        raise bad_input(f"Volume size {size}GB cannot be smaller than the image minDisk size {image['min_disk']}GB.")


def image_metadata(image: Mapping[str, Any]) -> dict[str, str]:
    """What a volume remembers of its image (Cinder: volume_glance_metadata)."""
    own = {"image_id": image["id"], "image_name": image["name"] or ""}
    names = ("checksum", "container_format", "disk_format", "min_disk", "min_ram", "size")
    own |= {name: str(image[name]) for name in names if image[name] is not None}
    return {**{key: str(value) for key, value in image["properties"].items()}, **own}


def _group(tx: Tx, context: Context, group_id: str | None, volume_type: sa.RowMapping) -> None:
    if group_id is None:
        return
    group = states.find(tx, "group", group_id)
    if group is None or (group["project_id"] != context.project_id and not context.is_admin):
        raise missing("Group", group_id)
    if group["status"] not in ("available", "creating"):
        raise invalid("Group", "Originating group status must be one of 'available, creating' values")
    tx.hold(GROUPS.c.id, group["id"])
    if volume_type["id"] not in group["volume_type_ids"]:
        raise bad_input(
            f"Invalid volume_type provided: {volume_type['id']} (requested type must be supported by this group)."
        )


def update(tx: Tx, context: Context, id: str, values: dict[str, Any]) -> sa.RowMapping:
    """`values` are columns."""
    volume = get(tx, context, id)
    if volume["status"] == "maintenance":
        raise invalid("volume", "The volume cannot be updated during maintenance.")
    if values:
        states.update(tx, "volume", volume["id"], **values)
    return states.get_row(tx, "volume", volume["id"])


def snapshots_of(tx: Tx, volume_id: str) -> list[sa.RowMapping]:
    """Oldest first."""
    order = (SNAPSHOTS.c.created_at, SNAPSHOTS.c.id)
    return tx.all(sa.select(SNAPSHOTS).where(SNAPSHOTS.c.volume_id == volume_id).order_by(*order))


def attachments_of(tx: Tx, volume_id: str) -> list[sa.RowMapping]:
    query = sa.select(ATTACHMENTS).where(ATTACHMENTS.c.volume_id == volume_id)
    return tx.all(query.order_by(ATTACHMENTS.c.created_at, ATTACHMENTS.c.id))


def delete(tx: Tx, context: Context, id: str, flows: Flows, *, cascade: bool = False, force: bool = False) -> None:
    """Starts the delete. `cascade`: its snapshots too; `force`: whatever its status."""
    volume = get(tx, context, id)
    if force and volume["status"] == "deleting":
        return
    snapshots = snapshots_of(tx, volume["id"])
    bad = not force and volume["status"] not in DELETABLE
    bad |= states.has_attachments(tx, volume["id"]) or volume["migration_status"] not in MIGRATED
    bad |= volume["group_id"] is not None or (bool(snapshots) and not cascade)
    if cascade:
        settled = ("available", "error", "deleting")
        bad |= any(snapshot["group_snapshot_id"] for snapshot in snapshots)
        bad |= not force and any(snapshot["status"] not in settled for snapshot in snapshots)
        bad |= not context.is_admin and any(one["project_id"] != volume["project_id"] for one in snapshots)
    if bad:
        status = "" if force else f"status must be {' or '.join(DELETABLE)} and "
        raise invalid(
            "volume",
            f"Volume {status}must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, "
            "or be disassociated from snapshots after volume transfer.",
        )
    start_delete(tx, context, volume, flows)


def start_delete(tx: Tx, context: Context, volume: sa.RowMapping, flows: Flows) -> None:
    """The volume's and its snapshots' deletes; the volume's waits for theirs."""
    for snapshot in snapshots_of(tx, volume["id"]):
        states.update(tx, "snapshot", snapshot["id"], status="deleting")
        flows.start(tx, "delete_snapshot", snapshot["id"], context, {})
    tx.execute(TRANSFERS.delete().where(TRANSFERS.c.volume_id == volume["id"]))
    states.update(tx, "volume", volume["id"], status="deleting")
    flows.start(tx, "delete_volume", volume["id"], context, {})


def extend(tx: Tx, context: Context, id: str, size: int, flows: Flows, *, attached: bool) -> None:
    volume = get(tx, context, id)
    if size <= volume["size"]:
        raise bad_input(
            f"New size for extend must be greater than current size. (current: {volume['size']}, extended: {size})."
        )
    volume_type = types.by_id(tx, volume["type_id"])
    types.check_size(volume_type, size)
    if attached:
        parts.check(context, parts.EXTEND_ATTACHED)
    expected = "in-use" if attached else "available"
    if volume["status"] != expected:
        raise invalid("volume", f"Volume {id} status must be '{expected}' to extend, currently {volume['status']}.")
    quotas.check_size(tx, volume["project_id"], size)
    quotas.reserve(tx, volume["project_id"], volume_type["name"], gigabytes=size - volume["size"])
    states.update(tx, "volume", volume["id"], status="extending", previous_status=volume["status"], new_size=size)
    flows.begin(tx, "extend_volume", volume["id"], context, {"size_gb": size})
