"""Servers that boot from a volume: their images are snapshots of volumes, and a rebuild writes over the root volume.

Nova: `snapshot_volume_backed` and `rebuild` in `nova/compute/api.py`, `snapshot_from_bdm` in `nova/block_device.py`.
"""

import json
from dataclasses import dataclass, replace

import sqlalchemy as sa

from kilonova.compute import block_devices
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict
from kilonova.volume import snapshots, volumes
from kilonova.volume import states as volume_states
from kilonova.web.call import Call, Context

KEPT = ("boot_index", "disk_bus", "device_type", "delete_on_termination", "tag")  # of a device, by the image
REIMAGE_SINCE = 93
REIMAGEABLE = ("in-use", "reserved", "error", "available")


@dataclass(frozen=True)
class Snapshots:
    """`properties`: of the image that names them."""

    snapshots: list[str]
    properties: dict[str, str]


def owner(context: Context, server: sa.RowMapping) -> Context:
    """Its volumes are the server's owner's, whoever asks."""
    return replace(context, project_id=server["project_id"], user_id=server["user_id"])


def snapshot(tx: Tx, call: Call, server: sa.RowMapping, name: str) -> Snapshots:
    """A snapshot of each of the server's volumes is begun; BadRequest, or OverQuota, when one cannot be."""
    made, mapping = [], []
    for row in block_devices.of_server(tx, server["id"]):
        values = {"name": f"snapshot for {name}", "description": "", "metadata": {}}
        storage = call.services.storage
        taken = snapshots.create(tx, owner(call.context, server), row["volume_id"], values, storage, in_use=True)
        made.append(taken["id"])
        mapping.append(
            {
                **{key: row[key] for key in KEPT},
                "source_type": "snapshot", "destination_type": "volume", "snapshot_id": taken["id"], "volume_id": None,
                "volume_size": taken["size"], "device_name": row["device"], "image_id": None, "no_device": None,
                "guest_format": None, "volume_type": None,
            }
        )  # fmt: skip
    root = next(each["device_name"] for each in mapping if each["boot_index"] == 0)
    said = {"block_device_mapping": json.dumps(mapping), "bdm_v2": "True", "root_device_name": root}
    return Snapshots(made, said)


def check_rebuild(tx: Tx, call: Call, root: sa.RowMapping, image_id: str) -> bool:
    """Whether the image is to be written over the root volume; until 2.92 a rebuild keeps that, and its image."""
    volume = volume_states.get_row(tx, "volume", root["volume_id"])
    if not call.since(REIMAGE_SINCE):
        if volume["image_metadata"].get("image_id") != image_id:
            raise BadRequest("Unable to rebuild with a different image for a volume-backed server.")
        return False
    if len(volumes.attachments_of(tx, volume["id"])) > 1:
        raise Conflict(f"Volume {volume['id']} is attached to another server, too: no image is written over it.")
    if volume["status"] not in REIMAGEABLE:
        raise Conflict(f"Volume {volume['id']} cannot be written over while it is {volume['status']}.")
    image = volumes.find_image(tx, call.context, image_id, call.services.storage)
    volumes.check_image(image, volume["size"])
    return True
