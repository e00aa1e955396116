"""What a create's disks are made from: looked up among images, volumes and snapshots, and held against the flavor.

Nova: `_validate_bdm`, `_validate_flavor_image` and `get_image_metadata_from_volume` in nova/compute/api.py, nova/utils.py.
"""

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from kilonova.compute import block_devices, devices
from kilonova.compute.devices import INVALID, Device
from kilonova.compute.images import GIB, Image, check_fit, check_hardware, get_image
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, NotFound
from kilonova.volume import attachments, types, volumes
from kilonova.volume import states as volume_states
from kilonova.web.call import Context

# of a volume's image, what is no property of it
OF_IMAGE = ("image_id", "image_name", "checksum", "container_format", "disk_format", "min_disk", "min_ram", "size")


@dataclass(frozen=True)
class Disks:
    """`image`: what the server boots from; its id is "" when that is a volume and no image was named."""

    image: Image
    devices: list[Device]

    @property
    def on_volume(self) -> bool:
        return any(device.is_root and device.target == "volume" for device in self.devices)


def plan(tx: Tx, context: Context, body: dict[str, Any], flavor: sa.RowMapping) -> Disks:
    """BadRequest for what cannot be."""
    asked = devices.asked(body)
    image_id = devices.image_of(body, asked)
    image = get_image(tx, context, image_id) if image_id else None
    found = devices.merged(asked, image_id, devices.of_image(image.properties) if image else [])
    devices.check(found, flavor, image_id)
    found = [_looked_up(tx, context, device) for device in found]
    root = next(device for device in found if device.is_root)
    if root.target == "local":
        assert image is not None
        check_fit(image, flavor, context)
        return Disks(image, found)
    boot = image or _boot_image(tx, context, root)
    check_fit(boot, flavor, context, of_volume=True)
    return Disks(boot, found)


def keep(tx: Tx, context: Context, server: sa.RowMapping, disks: Disks) -> None:
    """The rows of the server's volumes. Those that exist are reserved for it at once; BadRequest when one is taken."""
    names = block_devices.name_all(disks.devices, server["flavor"], disks.image.properties)
    for place, device in enumerate(disks.devices):
        if device.target != "volume":
            continue
        values: dict[str, Any] = {"device": names[place]}
        if device.source == "volume":
            assert device.source_id is not None
            reserved = attachments.reserve(tx, context, device.source_id, server["id"])
            values |= {"volume_id": device.source_id, "attachment_id": reserved["id"]}
        block_devices.add(tx, server["id"], device, **values)


def _looked_up(tx: Tx, context: Context, device: Device) -> Device:
    """The device with its size, when what it is made from is there and can be seen."""
    if device.target != "volume":
        return device
    if device.volume_type:
        _check_type(tx, context, device.volume_type)
    if device.source == "image":
        image = get_image(tx, context, device.source_id or "")
        needed = max(image.size, image.min_disk_gb * GIB)
        if device.size_gb and device.size_gb * GIB < needed:
            raise BadRequest(
                f"Volume is smaller than the minimum size specified in image metadata. Volume size is "
                f"{device.size_gb * GIB} bytes, minimum size is {needed} bytes."
            )
    elif device.source in ("volume", "snapshot"):
        return _existing(tx, context, device)
    return device


def _existing(tx: Tx, context: Context, device: Device) -> Device:
    try:
        if device.source == "volume":
            size = volumes.get(tx, context, device.source_id or "")["size"]
        else:
            snapshot = volume_states.find(tx, "snapshot", device.source_id or "")
            if snapshot is None or (snapshot["project_id"] != context.project_id and not context.is_admin):
                raise NotFound("no such snapshot")
            size = snapshot["size"]
    except NotFound as error:
        raise BadRequest(f"{INVALID}failed to get {device.source} {device.source_id}.") from error
    if device.source == "snapshot" and device.size_gb and device.size_gb < size:
        raise BadRequest(f"{INVALID}a volume of {device.size_gb} GiB cannot hold a snapshot of {size}.")
    return replace(device, size_gb=device.size_gb or size)


def _check_type(tx: Tx, context: Context, word: str) -> None:
    try:
        types.by_name_or_id(tx, context, word)
    except NotFound as error:
        raise BadRequest(f"Volume type {word} could not be found.") from error


def _boot_image(tx: Tx, context: Context, root: Device) -> Image:
    """What the root volume, or what it is made from, remembers of its image. Where the request names an image, Nova asks
    neither of them, nor whether it boots."""
    if root.source == "image":
        return replace(get_image(tx, context, root.source_id or ""), id="")
    if root.source == "blank":
        return Image("", 0, 0, 0, None, None)
    volume_id = root.source_id or ""
    if root.source == "snapshot":
        volume_id = volume_states.get_row(tx, "snapshot", volume_id)["volume_id"]
    volume = volume_states.get_row(tx, "volume", volume_id)
    if not volume["bootable"]:
        raise BadRequest(f"Block Device {root.source_id} is not bootable.")
    known = volume["image_metadata"]
    check_hardware(known)
    return Image(
        id="", size=0,
        min_disk_gb=int(known.get("min_disk") or 0),
        min_ram_mb=int(known.get("min_ram") or 0),
        kernel_id=None, ramdisk_id=None,
        properties={key: value for key, value in known.items() if key not in OF_IMAGE},
    )  # fmt: skip
