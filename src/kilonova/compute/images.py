"""What compute must know of an image before it makes a server from it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.image import images
from kilonova.model import hardware
from kilonova.model.errors import BadRequest, Forbidden, NotFound
from kilonova.model.specs import ImageSpec
from kilonova.web.call import Context

GIB = 1 << 30
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Image:
    """`size`: bytes that the root disk must have at least."""

    id: str
    size: int
    min_disk_gb: int
    min_ram_mb: int
    kernel_id: str | None
    ramdisk_id: str | None
    properties: dict[str, Any] = field(default_factory=dict)
    disk_format: str = "raw"

    @property
    def meta(self) -> dict[str, Any]:
        """What a server keeps of it, should it go (Nova: system_metadata's `image_…`)."""
        return {
            "kernel_id": self.kernel_id, "ramdisk_id": self.ramdisk_id, "properties": self.properties,
            "disk_format": self.disk_format, "min_disk": self.min_disk_gb, "min_ram": self.min_ram_mb,
        }  # fmt: skip


def check_hardware(properties: Mapping[str, str]) -> None:
    """BadRequest where an image's properties, or those that a volume has of its image, ask for hardware that there is not."""
    try:
        hardware.check(properties)
    except ValueError as error:
        raise BadRequest(f"Invalid image metadata. Error: {error}") from error


def get_image(tx: Tx, context: Context, id: str) -> Image:
    """BadRequest when it cannot be seen, has no data yet, or asks for hardware that there is not."""
    try:
        row = images.get(tx, context, id)
    except NotFound as error:
        raise BadRequest("Can not find requested image") from error
    if row["status"] != "active":
        raise BadRequest(f"Image {id} is not active.")
    properties = row["properties"]
    check_hardware(properties)
    for name in ("kernel_id", "ramdisk_id"):
        if properties.get(name):
            _part(tx, context, properties[name], name)
    return Image(
        id=id,
        size=max(row["size"] or 0, row["virtual_size"] or 0),
        min_disk_gb=row["min_disk"],
        min_ram_mb=row["min_ram"],
        kernel_id=properties.get("kernel_id") or None,
        ramdisk_id=properties.get("ramdisk_id") or None,
        properties=properties,
        disk_format=row["disk_format"] or "raw",
    )


def _part(tx: Tx, context: Context, id: str, name: str) -> None:
    try:
        row = images.get(tx, context, id)
    except NotFound as error:
        raise BadRequest(f"The image's {name} {id} could not be found.") from error
    if row["status"] != "active":
        raise BadRequest(f"Image {id} is not active.")


def check_fit(image: Image, flavor: sa.RowMapping, context: Context, *, of_volume: bool = False) -> None:
    """Nova: _validate_flavor_image_nostatus. A flavor without disk takes the image's size; that is for administrators.

    `of_volume`: the root disk is a volume, of `disk_gb`.
    """
    if flavor["memory_mb"] < image.min_ram_mb:
        raise BadRequest("Flavor's memory is too small for requested image.")
    if of_volume:
        return
    if flavor["disk_gb"] == 0:
        if not context.is_admin:
            raise Forbidden("Only volume-backed servers are allowed for flavors with zero disk.")
        return
    size = flavor["disk_gb"] * GIB
    if image.size > size:
        raise BadRequest(
            f"Flavor's disk is too small for requested image. Flavor disk is {size} bytes, image is {image.size} bytes."
        )
    if image.min_disk_gb * GIB > size:
        raise BadRequest(
            "Flavor's disk is smaller than the minimum size specified in image metadata. "
            f"Flavor disk is {size} bytes, minimum size is {image.min_disk_gb * GIB} bytes."
        )


def to_cache(tx: Tx, context: Context, ids: list[str]) -> list[ImageSpec]:
    """Those that are to be had, each with its kernel and ramdisk; of the others the log tells."""
    found: dict[str, ImageSpec] = {}
    for id in ids:
        try:
            if images.get(tx, context, id)["status"] != "active":
                raise NotFound(f"Image {id} is not active.")
            image = images.image_spec(tx, id)
            parts = [images.image_spec(tx, part) for part in (image.kernel_id, image.ramdisk_id) if part]
        except NotFound as error:
            LOG.warning("image %s is not fetched beforehand: %s", id, error)
            continue
        found |= {each.id: each for each in (image, *parts)}
    return list(found.values())
