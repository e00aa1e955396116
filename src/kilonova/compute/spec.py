"""A server as its host sees it: the frozen value that HOST steps are given."""

from typing import Any

import msgspec
import sqlalchemy as sa

from kilonova.compute import addresses, block_devices, shelve, states, views
from kilonova.db.engine import Tx
from kilonova.identity.tables import PROJECTS, USERS
from kilonova.image import images
from kilonova.model.errors import NotFound
from kilonova.model.ids import iso
from kilonova.model.specs import FlavorSpec, ImageSpec, InjectedFileSpec, KeypairSpec, ServerSpec, VolumeSpec
from kilonova.network import ports, scheduling
from kilonova.network.specs import network_specs, specs_of
from kilonova.volume import states as volume_states
from kilonova.volume.specs import front_end_qos
from kilonova.volume.volumes import attachments_of as volume_attachments


def server_spec(tx: Tx, server_id: str) -> ServerSpec:
    """Today's rows: a port plugged since is in it. Deleted servers have one too, for what is left to undo."""
    row = states.get_row(tx, server_id)
    volumes = _volumes(tx, server_id)
    on_volume = any(volume.boot_index == 0 for volume in volumes)
    image = None if on_volume else _root_image(tx, row)
    port_rows = ports.server_ports(tx, server_id, row["project_id"])
    network_ids = dict.fromkeys(port["network_id"] for port in port_rows)
    tags = addresses.tags_of_ports(row, [port["id"] for port in port_rows])
    keypair = row["keypair"]
    return ServerSpec(
        id=row["id"],
        instance_name=views.instance_name(row),
        name=row["name"],
        hostname=row["hostname"],
        project_id=row["project_id"],
        project_name=_name(tx, PROJECTS, row["project_id"]),
        user_id=row["user_id"],
        user_name=_name(tx, USERS, row["user_id"]),
        created_at=iso(row["created_at"]),
        flavor=FlavorSpec(**row["flavor"]),
        image=image,
        image_properties=_texts(row["image_meta"].get("properties")),
        volumes=volumes,
        rescue=_rescue_image(tx, row),
        kernel=_part(tx, image.kernel_id) if image else None,
        ramdisk=_part(tx, image.ramdisk_id) if image else None,
        networks=network_specs(tx, network_ids, scheduling.bridge_mappings(tx, row["host"] or "")),
        ports=specs_of(tx, port_rows),
        port_tags={id: tag for id, tag in tags.items() if tag},
        floating_ips=addresses.floating_ips(tx, server_id),
        keypair=KeypairSpec(**keypair) if keypair else None,
        metadata=row["metadata"],
        user_data=row["user_data"],
        files=tuple(InjectedFileSpec(**file) for file in row["personality"]),
        admin_password=row["admin_password"],
        guest_password=row["guest_password"],
        config_drive=row["config_drive"],
        availability_zone=row["availability_zone"] or "nova",
        reservation_id=row["reservation_id"],
        launch_index=row["launch_index"],
        security_groups=tuple(row["security_groups"] or ("default",)),
    )


def _volumes(tx: Tx, server_id: str) -> tuple[VolumeSpec, ...]:
    """Those that there are by now: one that is yet to be made has no id."""
    found = []
    for row in block_devices.of_server(tx, server_id):
        volume = volume_states.find(tx, "volume", row["volume_id"]) if row["volume_id"] else None
        if volume is None:
            continue
        held = {one["id"]: one for one in volume_attachments(tx, volume["id"])}
        own = held.pop(row["attachment_id"], None)
        info = dict((own["connection_info"] if own is not None else None) or {})
        mode = (own["mode"] if own is not None else None) or "rw"
        more = {"multiattach": volume["multiattach"], "access_mode": mode, "qos_specs": front_end_qos(tx, volume)}
        found.append(
            VolumeSpec(
                id=volume["id"],
                stored_as=volume["stored_as"],
                driver_volume_type=info.get("driver_volume_type", ""),
                connection={**info, **more},
                backend=volume["backend"] or "",
                device=row["device"],
                boot_index=row["boot_index"],
                delete_on_termination=row["delete_on_termination"],
                moving=volume["target_backend"] not in (None, volume["backend"]),
                shared=any(one["connection_info"] for one in held.values()),
                tag=row["tag"] or "",
                bus=row["disk_bus"] or "",
                device_type=row["device_type"] or "disk",
            )
        )
    return tuple(found)


def _texts(properties: dict[str, Any] | None) -> dict[str, str]:
    return {name: str(value) for name, value in (properties or {}).items()}


def _root_image(tx: Tx, row: sa.RowMapping) -> ImageSpec | None:
    """What the root disk is made from: of a server that is put away, the image that its disk has become.

    What it says of the hardware is as it was when the server was made (Nova: system_metadata's `image_…`), and is there
    when Glance has the image no more.
    """
    id = row["image_id"]
    if row["vm_state"] == "shelved_offloaded":
        id = row["system_metadata"].get(shelve.IMAGE) or id
    if not id:
        return None
    kept, found = _spec_of(id, row["image_meta"]), _image(tx, id)
    own = {"properties": kept.properties, "kernel_id": kept.kernel_id, "ramdisk_id": kept.ramdisk_id}
    return msgspec.structs.replace(found, **own) if found else kept


def _part(tx: Tx, id: str | None) -> ImageSpec | None:
    return (_image(tx, id) or _spec_of(id, {})) if id else None


def _rescue_image(tx: Tx, row: sa.RowMapping) -> ImageSpec | None:
    id = row["image_meta"].get("rescue_image_id")
    if id is None or (row["vm_state"] != "rescued" and row["task_state"] != "rescuing"):
        return None
    return _image(tx, id) or _spec_of(id, row["image_meta"] if id == row["image_id"] else {})


def _spec_of(id: str, meta: dict[str, Any]) -> ImageSpec:
    return ImageSpec(
        id=id,
        name="",
        disk_format=meta.get("disk_format") or "raw",
        size=0,
        kernel_id=meta.get("kernel_id"),
        ramdisk_id=meta.get("ramdisk_id"),
        properties=_texts(meta.get("properties")),
    )


def _image(tx: Tx, id: str | None) -> ImageSpec | None:
    """None when the image is gone: a running server does not need it any more."""
    if not id:
        return None
    try:
        return images.image_spec(tx, id)
    except NotFound:
        return None


def _name(tx: Tx, table: sa.Table, id: str) -> str:
    """The id itself when the project or user is gone."""
    return str(tx.scalar(sa.select(table.c.name).where(table.c.id == id)) or id)
