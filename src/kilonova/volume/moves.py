"""Volumes that move: to another type or backend, into an image, out of one; and those that Cinder takes over or lets go."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict, NotFound, NoValidHost
from kilonova.model.ids import new_id, now
from kilonova.volume import attachments, parts, quotas, scheduler, services, states, types, volumes
from kilonova.volume.flows import Flows
from kilonova.volume.requests import bad_input, boolean, invalid
from kilonova.volume.tables import SNAPSHOTS, VOLUMES
from kilonova.web.call import Context


def retype(tx: Tx, context: Context, id: str, new_type: str, policy: str, flows: Flows) -> None:
    """`policy`: never | on-demand, whether the volume may go to another backend for it."""
    volume = volumes.get(tx, context, id)
    try:
        wanted = types.by_name_or_id(tx, context, new_type)
    except NotFound as error:
        raise bad_input(f"Invalid volume_type passed: {new_type}.") from error
    types.check_size(wanted, volume["size"])
    if types.is_multiattach(wanted) != volume["multiattach"] and volume["status"] != "available":
        raise bad_input(
            "Invalid volume_type passed, retypes affecting multiattach are only allowed on available volumes, the "
            f"specified volume however currently has a status of: {volume['status']}."
        )
    if types.is_multiattach(wanted) and not volume["multiattach"]:
        parts.check(context, parts.MULTIATTACH)
    bad = volume["status"] not in ("available", "in-use") or volume["migration_status"] not in volumes.MIGRATED
    bad |= volume["group_id"] is not None or volume["type_id"] == wanted["id"]
    qos = {types.by_id(tx, volume["type_id"])["qos_specs_id"], wanted["qos_specs_id"]}
    bad |= volume["status"] == "in-use" and len(qos) > 1
    if bad:
        raise invalid(
            "volume",
            "Retype needs volume to be in available or in-use state, not be part of an active migration or a "
            "consistency group, requested type has to be different that the one from the volume, and for in-use "
            "volumes front-end qos specs cannot change.",
        )
    quotas.reserve(tx, volume["project_id"], None, **{
        f"volumes_{wanted['name']}": 1, f"gigabytes_{wanted['name']}": volume["size"],
    })  # fmt: skip
    values = {"status": "retyping", "previous_status": volume["status"], "new_type_id": wanted["id"]}
    states.update(tx, "volume", volume["id"], **values)
    flows.begin(tx, "retype_volume", volume["id"], context, {"policy": policy})


def migrate(tx: Tx, context: Context, id: str, host: str, lock: bool, flows: Flows) -> None:
    """To the backend of `host`, machine@backend#pool."""
    volume = volumes.get(tx, context, id)
    service = services.get_backend(tx, host)
    if service["disabled"] or not services.is_up(service):
        raise bad_input(f"No available service named '{host}'")
    bad = volume["status"] not in ("available", "in-use") or volume["migration_status"] not in volumes.MIGRATED
    bad |= volume["group_id"] is not None or bool(volumes.snapshots_of(tx, volume["id"]))
    bad |= (service["machine"], service["backend"]) == (volume["host"], volume["backend"])
    if bad:
        raise invalid(
            "volume",
            f"Volume {id} status must be available or in-use, must not be migrating, have snapshots, be replicated, be "
            "part of a group and destination host/cluster must be different than the current one",
        )
    if service["machine"] != volume["host"]:
        raise bad_input(f"Volumes are not copied between machines: {id} is on {volume['host']}.")
    volume_type = types.by_id(tx, volume["type_id"])
    why = scheduler.refusal(tx, service, volume_type, volume["size"], volume["availability_zone"])
    if why:  # Cinder's scheduler looks after the answer: 202, then a migration_status of error
        raise bad_input(f"{host} does not take volumes of type {volume_type['name']}: {why}")
    values: dict[str, Any] = {"migration_status": "starting", "previous_status": volume["status"]}
    states.update(tx, "volume", volume["id"], **values, **({"status": "maintenance"} if lock else {}))
    flows.begin(tx, "migrate_volume", volume["id"], context, {"backend": service["backend"]})


def complete_migration(tx: Tx, context: Context, id: str, new_id: str, flows: Flows, *, failed: bool) -> str:
    """The new volume's id, which has taken the other's place by somebody else's hands (Cinder:
    migrate_volume_completion); what a server has open is the server's affair. Migrations of this cloud end by themselves.
    """
    old, new = volumes.get(tx, context, id), volumes.get(tx, context, new_id)
    for volume, which in ((old, "Source"), (new, "Destination")):
        if volume["migration_status"] not in volumes.MIGRATED:
            raise invalid("volume", f"{which} volume {volume['id']} is being migrated: that completes by itself.")
    held = volumes.attachments_of(tx, old["id"])
    attachments.check_not_a_servers(tx, [each["id"] for each in held], flows)
    if not failed:
        for each in held:
            where = {
                "instance_uuid": each["server_id"],
                "host_name": each["attached_host"],
                "mode": each["mode"] or "rw",
            }
            attachments.detach(tx, context, old["id"], each["id"])
            attachments.attach(tx, context, new["id"], {**where, "mountpoint": each["mountpoint"] or "/dev/na"})
    return str(new["id"])


def select_target(tx: Tx, volume_id: str, policy: str) -> dict[str, str]:
    """Where a volume of its new type may be: where it is, or (`on-demand`) another backend of its machine.

    NoValidHost's own words when neither is possible.
    """
    volume = states.get_row(tx, "volume", volume_id)
    wanted = types.by_id(tx, volume["new_type_id"])
    old, reasons = {"old_backend": volume["backend"]}, {}
    near = services.listed(tx, binary=services.VOLUME, machine=volume["host"])
    for service in sorted(near, key=lambda one: one["backend"] != volume["backend"]):
        why = scheduler.refusal(tx, service, wanted, volume["size"], volume["availability_zone"])
        if service["backend"] != volume["backend"] and not why:
            why = _immovable(tx, volume, policy)
        if not why:
            return old | {"backend": service["backend"]}
        reasons[service["host"]] = why
    raise NoValidHost(reasons)


def switch(tx: Tx, volume_id: str, connection: dict[str, Any] | None) -> None:
    """The volume is of its new type, in its new backend; its snapshots go with it in the books.

    `connection`: how it is connected there, for those who have it open.
    """
    volume = states.get_row(tx, "volume", volume_id)
    type_id = volume["new_type_id"] or volume["type_id"]
    values = {"type_id": type_id, "backend": volume["target_backend"], "new_type_id": None, "target_backend": None}
    multiattach = types.is_multiattach(types.by_id(tx, type_id))
    states.update(tx, "volume", volume_id, multiattach=multiattach, **values)
    tx.execute(SNAPSHOTS.update().where(SNAPSHOTS.c.volume_id == volume_id).values(type_id=type_id))
    if connection is not None:
        attachments.reconnect(tx, volume_id, connection)


def _immovable(tx: Tx, volume: sa.RowMapping, policy: str) -> str | None:
    if policy != "on-demand":
        return "the volume would have to be migrated, and the migration policy is never"
    if volumes.snapshots_of(tx, volume["id"]):
        return "the volume would have to be migrated, and it has snapshots"
    return None


def upload(tx: Tx, context: Context, id: str, asked: dict[str, Any], flows: Flows) -> dict[str, Any]:
    """The volume's bytes become an image. `asked`: image_name, force, disk_format, container_format, visibility …"""
    volume = volumes.get(tx, context, id)
    force = boolean(asked.get("force") or False, "force")
    expected = ("available", "in-use") if force else ("available",)
    if volume["status"] not in expected:
        raise invalid("volume", f"Volume {id} status must be {' or '.join(expected)}")
    disk_format = asked.get("disk_format") or "raw"
    values = {
        "name": asked["image_name"], "disk_format": disk_format,
        "container_format": asked.get("container_format") or "bare",
        "visibility": asked.get("visibility") or "private",
        "protected": boolean(asked.get("protected") or False, "protected"),
    }  # fmt: skip
    if values["container_format"] != "bare":
        raise bad_input(f"A volume becomes an image of the container format bare, not {values['container_format']}.")
    own = {"image_id", "image_name", "checksum", "container_format", "disk_format", "min_disk", "min_ram", "size"}
    properties = {key: value for key, value in volume["image_metadata"].items() if key not in own}
    image_id = flows.reserve_image(tx, context, values, properties)
    states.update(tx, "volume", volume["id"], status="uploading", previous_status=volume["status"])
    flows.begin(tx, "upload_volume", volume["id"], context, {"image_id": image_id, "disk_format": disk_format})
    volume_type = types.by_id(tx, volume["type_id"])
    return {
        "id": volume["id"], "updated_at": volume["updated_at"] and volume["updated_at"].isoformat(),
        "status": "uploading", "display_description": volume["description"], "size": volume["size"],
        "volume_type": {
            **{name: volume_type[name] for name in ("id", "name", "description", "is_public", "qos_specs_id")},
            "created_at": volume_type["created_at"].isoformat(), "deleted": False, "deleted_at": None,
            "extra_specs": volume_type["extra_specs"],
            "updated_at": volume_type["updated_at"] and volume_type["updated_at"].isoformat(),
        },
        "image_id": image_id, "container_format": "bare", "disk_format": disk_format,
        "image_name": asked["image_name"], "visibility": values["visibility"], "protected": values["protected"],
    }  # fmt: skip


def reimage(tx: Tx, context: Context, id: str, image_id: str, flows: Flows, *, reserved: bool) -> None:
    """The image's bytes over the volume's (3.68)."""
    volume = volumes.get(tx, context, id)
    if volume["status"] == "reserved":
        parts.check(context, parts.REIMAGE_RESERVED)
    if len(volumes.attachments_of(tx, volume["id"])) > 1:
        raise Conflict("Cannot re-image a volume which is attached to more than one server.")
    expected = ("available", "error", "reserved") if reserved else ("available", "error")
    if volume["status"] not in expected:
        raise invalid(
            "volume",
            f"Volume {id} status must be {' or '.join(expected)}, but current status is {volume['status']}.",
        )
    image = volumes.find_image(tx, context, image_id, flows)
    volumes.check_image(image, volume["size"])
    values = {
        "status": "downloading", "previous_status": volume["status"] if volume["status"] != "error" else "available",
        "image_id": image["id"], "image_metadata": volumes.image_metadata(image), "bootable": True,
    }  # fmt: skip
    states.update(tx, "volume", volume["id"], **values)
    flows.begin(tx, "reimage_volume", volume["id"], context, {})


def unmanage(tx: Tx, context: Context, id: str) -> None:
    """Cinder forgets the volume; its bytes stay in the backend."""
    volume = volumes.get(tx, context, id)
    bad = volume["status"] not in volumes.DELETABLE or states.has_attachments(tx, volume["id"])
    bad |= volume["group_id"] is not None or bool(volumes.snapshots_of(tx, volume["id"]))
    if bad or volume["migration_status"] not in volumes.MIGRATED:
        raise invalid(
            "volume",
            f"Volume status must be {' or '.join(volumes.DELETABLE)} and must not be migrating, attached, belong to a "
            "group or have snapshots.",
        )
    states.remove(tx, "volume", volume["id"])


def manage(tx: Tx, context: Context, place: sa.RowMapping, found: dict[str, Any], asked: dict[str, Any]) -> str:
    """Take over what is in a backend already. `found`: {"name", "size_gb"} there; the volume's id."""
    taken = (VOLUMES.c.stored_as == found["name"]) & (VOLUMES.c.backend == place["backend"])
    if tx.scalar(sa.select(VOLUMES.c.id).where(taken, VOLUMES.c.host == place["machine"])):
        raise invalid("volume", "Unable to manage existing volume. The volume is already managed")
    word = asked.get("volume_type")
    volume_type = types.by_name_or_id(tx, context, word) if word else types.default(tx, context.project_id)
    why = scheduler.refusal(tx, place, volume_type, 0, None)
    if why:
        raise bad_input(f"{place['host']} does not take volumes of type {volume_type['name']}: {why}")
    quotas.reserve(tx, context.project_id, volume_type["name"], volumes=1, gigabytes=found["size_gb"])
    id = new_id()
    tx.execute(
        VOLUMES.insert().values(
            id=id, project_id=context.project_id, user_id=context.user_id, status="available", created_at=now(),
            name=asked.get("name"), description=asked.get("description"), size=found["size_gb"],
            type_id=volume_type["id"], host=place["machine"], backend=place["backend"], stored_as=found["name"],
            availability_zone=asked.get("availability_zone") or place["availability_zone"],
            metadata=asked.get("metadata") or {}, multiattach=types.is_multiattach(volume_type),
            bootable=boolean(asked.get("bootable") or False, "bootable"),
        )
    )  # fmt: skip
    return id
