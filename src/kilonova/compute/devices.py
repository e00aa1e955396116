"""block_device_mapping: what a create may ask of its disks (Nova: `_check_and_transform_bdm`, `_validate_bdm`, both in
`nova/compute/api.py`, and `nova/block_device.py`). Pure: what volumes there are is looked at in block_devices.py."""

from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from kilonova.model.errors import BadRequest
from kilonova.model.hardware import DISK_PREFIXES
from kilonova.web import nesting
from kilonova.web.validate import TRUE

MOST = 26 * len(set(DISK_PREFIXES.values()))  # each disk's name has one letter
DEVICE_TYPES = ("disk", "cdrom", "lun")
INVALID = "Block Device Mapping is Invalid: "
BOOT_SEQUENCE = f"{INVALID}Boot sequence for the instance and image/block device mapping combination is not valid."
TWO_SYNTAXES = "Using different block_device_mapping syntaxes is not allowed in the same request."
EPHEMERAL_SIZE = (
    "Ephemeral disks requested are larger than the instance type allows. If no size is given in one block device "
    "mapping, flavor ephemeral size will be used."
)


@dataclass(frozen=True)
class Device:
    """One block device that was asked for. `source_id`: of the image, the volume or the snapshot it is made from."""

    source: str  # image | volume | snapshot | blank
    target: str  # local | volume
    source_id: str | None = None
    size_gb: int | None = None
    boot_index: int | None = None
    name: str | None = None  # /dev/vdb
    delete_on_termination: bool = False
    volume_type: str | None = None
    tag: str | None = None
    disk_bus: str | None = None
    device_type: str | None = None
    guest_format: str | None = None

    @property
    def is_root(self) -> bool:
        return self.boot_index == 0


def asked(body: dict[str, Any]) -> list[Device]:
    """The devices of the request's body in either syntax; BadRequest for what no device can be."""
    old, new = body.get("block_device_mapping", []), body.get("block_device_mapping_v2", [])
    if old and new:
        raise BadRequest(TWO_SYNTAXES)
    listed = [_of_old(entry) for entry in old] if old else [_of_new(entry) for entry in new]
    found = [device for device in listed if device is not None]
    tags = [device.tag for device in found if device.tag]
    if len(tags) != len(set(tags)):
        raise BadRequest(f"{INVALID}Device tags must be unique.")
    return found


def of_image(properties: dict[str, Any]) -> list[Device]:
    """What an image of a volume-backed server says of its disks: `block_device_mapping` with `bdm_v2`, as JSON."""
    listed = properties.get("block_device_mapping") or []
    try:
        entries = nesting.loads(listed) if isinstance(listed, str) else listed
        found = [_of_new({**entry, "uuid": entry.get("snapshot_id") or entry.get("volume_id") or entry.get("image_id")})
                 for entry in entries if not entry.get("no_device")]  # fmt: skip
    except (ValueError, AttributeError, TypeError) as error:
        raise BadRequest(f"{INVALID}the image's block_device_mapping cannot be read: {error}") from error
    return [device for device in found if device is not None]


def image_of(body: dict[str, Any], devices: list[Device]) -> str:
    """The image that the root disk is made from: imageRef, or that of the device with boot_index 0. "": a volume's."""
    reference = body.get("imageRef")
    if reference:
        return str(reference).rpartition("/")[2]
    for device in devices:
        if device.source == "image" and device.is_root:
            return device.source_id or ""
    if not devices:
        raise BadRequest("Missing imageRef attribute")
    return ""


def merged(devices: list[Device], image_id: str, image_devices: list[Device]) -> list[Device]:
    """What the request says and what its image says, the request winning; with an image alone, its local root disk.

    Nova: `_check_and_transform_bdm`.
    """
    names = {device.name for device in devices if device.name}
    rooted = any(device.is_root for device in devices)
    inherited = [
        device for device in image_devices if device.name not in names and not (rooted and device.is_root)
    ]  # fmt: skip
    found = [*devices, *inherited]
    if image_id and not any(device.is_root for device in found):
        found.insert(0, Device("image", "local", image_id, boot_index=0, delete_on_termination=True))
    return found


def check(devices: list[Device], flavor: sa.RowMapping, image_id: str) -> None:
    """BadRequest for what cannot be: a boot order with holes, local disks beyond the flavor's, volumes without a size."""
    if len(devices) > MOST:
        raise BadRequest(f"{INVALID}{len(devices)} devices are more than a server can have: {MOST}.")
    order = sorted(device.boot_index for device in devices if device.boot_index is not None and device.boot_index >= 0)
    if order != list(range(len(order))) or not order:
        raise BadRequest(BOOT_SEQUENCE)
    existing = [device.source_id for device in devices if device.source == "volume"]
    twice = next((id for id in existing if existing.count(id) > 1), None)
    if twice is not None:
        raise BadRequest(f"{INVALID}volume {twice} is named more than once.")
    for device in devices:
        if device.target == "volume":
            _check_volume(device)
        elif device.source == "image":
            if not device.is_root:
                raise BadRequest(f"{INVALID}Mapping image to local is not supported.")
            if device.source_id != image_id:
                raise BadRequest(BOOT_SEQUENCE)
    _check_local(devices, flavor)


def _check_volume(device: Device) -> None:
    if device.size_gb:
        return
    if device.source == "image":
        raise BadRequest(
            f"{INVALID}Images with destination_type 'volume' need to have a non-zero size specified"
        )  # fmt: skip
    if device.source == "blank":
        raise BadRequest(f"{INVALID}Blank volumes (source: 'blank', dest: 'volume') need to have non-zero size")


def _check_local(devices: list[Device], flavor: sa.RowMapping) -> None:
    blank = [device for device in devices if device.source == "blank" and device.target == "local"]
    swap = [device for device in blank if device.guest_format == "swap"]
    if len(swap) > 1:
        raise BadRequest(f"{INVALID}More than one swap drive requested.")
    if any((device.size_gb or 0) > flavor["swap_mb"] for device in swap):
        raise BadRequest("Swap drive requested is larger than instance type allows.")
    ephemeral = [device for device in blank if device.guest_format != "swap"]
    sizes = [device.size_gb or flavor["ephemeral_gb"] for device in ephemeral]
    if ephemeral and (sum(sizes) > flavor["ephemeral_gb"] or not flavor["ephemeral_gb"]):
        raise BadRequest(EPHEMERAL_SIZE)


def _of_new(entry: dict[str, Any]) -> Device | None:
    """Nova: BlockDeviceDict.from_api; None for a `no_device`."""
    if entry.get("no_device"):
        return None
    by_name = next((kind for kind in ("volume", "snapshot", "image") if entry.get(f"{kind}_id")), None)
    source = entry.get("source_type") or by_name or "blank"
    target = entry.get("destination_type") or ("volume" if source in ("volume", "snapshot") else "local")
    source_id = entry.get("uuid") or entry.get(f"{source}_id")
    if source != "blank" and not source_id:
        raise BadRequest(f"{INVALID}Missing device UUID.")
    if source == "blank" and source_id:
        raise BadRequest(f"{INVALID}Invalid device UUID.")
    if target == "local" and source in ("volume", "snapshot"):
        raise BadRequest(f"{INVALID}Mapping {source} to local is not supported.")
    bus, kind = entry.get("disk_bus") or None, entry.get("device_type") or None
    if bus not in (None, *DISK_PREFIXES):
        raise BadRequest(f"{INVALID}The provided disk bus {bus} is not valid.")
    if kind not in (None, *DEVICE_TYPES):
        raise BadRequest(f"{INVALID}The provided device type {kind} is not valid.")
    if kind == "cdrom" and bus == "virtio":
        raise BadRequest(f"{INVALID}A cdrom cannot be on the disk bus {bus}.")
    return Device(
        source, target, source_id,
        size_gb=_size(entry),
        boot_index=_boot_index(entry),
        name=_name(entry),
        delete_on_termination=_is_true(entry.get("delete_on_termination")) or target == "local",
        volume_type=entry.get("volume_type") or None,
        tag=entry.get("tag"),
        disk_bus=bus,
        device_type=kind,
        guest_format=entry.get("guest_format"),
    )  # fmt: skip


def _of_old(entry: dict[str, Any]) -> Device | None:
    """Nova: BlockDeviceDict.from_legacy. The device that is called vda is the root."""
    if not isinstance(entry, dict):
        raise BadRequest("block_device_mapping needs a list of objects.")
    if entry.get("no_device"):
        return None
    kind = "snapshot" if entry.get("snapshot_id") else "volume"
    if not entry.get(f"{kind}_id"):
        if entry.get("virtual_name"):
            raise BadRequest(f"{INVALID}virtual_name is of no use here; block_device_mapping_v2 says what is wanted.")
        raise BadRequest(f"{INVALID}Missing device UUID.")
    made = _of_new({
        **{key: value for key, value in entry.items() if key in ("volume_size", "device_name", "delete_on_termination")},
        "source_type": kind, "uuid": str(entry[f"{kind}_id"]),
    })  # fmt: skip
    assert made is not None
    root = str(entry.get("device_name") or "").removeprefix("/dev/") in ("vda", "sda", "hda")
    return replace(made, boot_index=0) if root else made


def _size(entry: dict[str, Any]) -> int | None:
    text = entry.get("volume_size")
    try:
        return int(text) if text not in (None, "") else None
    except (TypeError, ValueError) as error:
        raise BadRequest(f"{INVALID}Invalid volume_size.") from error


def _boot_index(entry: dict[str, Any]) -> int | None:
    try:
        return int(entry["boot_index"]) if entry.get("boot_index") is not None else None
    except (TypeError, ValueError) as error:
        raise BadRequest(f"{INVALID}Boot index is invalid.") from error


def _name(entry: dict[str, Any]) -> str | None:
    name = str(entry.get("device_name") or "")
    if not name:
        return None
    if " " in name or len(name) > 255:
        raise BadRequest(f"{INVALID}Device name empty or too long.")
    return name if name.startswith("/dev/") else f"/dev/{name}"


def _is_true(value: Any) -> bool:
    return str(value).lower() in TRUE
