"""A server's volumes: asked for by its create, attached and detached later (Nova: the BlockDeviceMapping objects).

A row is a volume that the server has or is getting; its local disks follow from its flavor and image and have no rows.
The attachment, with how the volume is connected, is the volume service's (Cinder: attachments).
"""

import string
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from kilonova.compute.devices import INVALID, Device
from kilonova.compute.tables import BLOCK_DEVICES, SERVERS
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict
from kilonova.model.hardware import DISK_PREFIXES
from kilonova.model.ids import new_id, now


def of_servers(tx: Tx, server_ids: Iterable[str]) -> dict[str, list[sa.RowMapping]]:
    """server id → its rows, in the order in which they were asked for."""
    found: dict[str, list[sa.RowMapping]] = {}
    ids = list(server_ids)
    where = BLOCK_DEVICES.c.server_id.in_(ids)
    for row in tx.all(sa.select(BLOCK_DEVICES).where(where).order_by(BLOCK_DEVICES.c.number)) if ids else ():
        found.setdefault(row["server_id"], []).append(row)
    return found


def of_server(tx: Tx, server_id: str) -> list[sa.RowMapping]:
    return of_servers(tx, [server_id]).get(server_id, [])


def has_any(tx: Tx, server_id: str) -> bool:
    return tx.scalar(_ANY, {"of_server": server_id}) is not None


_ANY = sa.select(BLOCK_DEVICES.c.id).where(BLOCK_DEVICES.c.server_id == sa.bindparam("of_server")).limit(1)


def find(tx: Tx, server_id: str, volume_id: str) -> sa.RowMapping | None:
    where = (BLOCK_DEVICES.c.server_id == server_id) & (BLOCK_DEVICES.c.volume_id == volume_id)
    return tx.first(sa.select(BLOCK_DEVICES).where(where))


def of_volume(tx: Tx, volume_id: str) -> list[sa.RowMapping]:
    """The rows of the servers that have it: more than one when it is multi-attached."""
    return tx.all(sa.select(BLOCK_DEVICES).where(BLOCK_DEVICES.c.volume_id == volume_id))


def root(tx: Tx, server_id: str) -> sa.RowMapping | None:
    """The volume that the server boots from; None when its root disk is a local one (Nova: is_volume_backed_instance)."""
    return next((row for row in of_server(tx, server_id) if row["boot_index"] == 0), None)


def add(tx: Tx, server_id: str, device: Device, /, **values: Any) -> sa.RowMapping:
    """One row; `values` are columns that the device does not tell."""
    id = new_id()
    own = {
        "id": id, "server_id": server_id, "source_type": device.source, "source_id": device.source_id,
        "size_gb": device.size_gb, "volume_type": device.volume_type, "boot_index": device.boot_index,
        "device": device.name, "tag": device.tag, "disk_bus": device.disk_bus, "device_type": device.device_type,
        "delete_on_termination": device.delete_on_termination, "created_at": now(),
    }  # fmt: skip
    tx.execute(BLOCK_DEVICES.insert().values({**own, **values}))
    row = tx.first(sa.select(BLOCK_DEVICES).where(BLOCK_DEVICES.c.id == id))
    assert row is not None
    return row


def change(tx: Tx, id: str, **values: Any) -> None:
    tx.execute(BLOCK_DEVICES.update().where(BLOCK_DEVICES.c.id == id).values(updated_at=now(), **values))


def remove(tx: Tx, id: str) -> None:
    tx.execute(BLOCK_DEVICES.delete().where(BLOCK_DEVICES.c.id == id))


def name_all(devices: list[Device], flavor: dict[str, Any], properties: dict[str, Any]) -> dict[int, str]:
    """Place in `devices` → `/dev/vdb`, for those that are volumes (Nova: default_device_names_for_instance).

    The root disk comes first, then the flavor's ephemeral and swap disks, then the volumes; names that were asked for
    are kept where they fit the disk's bus.
    """
    local = prefix_of(properties)
    taken = {device.name for device in devices if device.name and device.target == "volume" and not device.is_root}
    names = {}
    for place in sorted(range(len(devices)), key=lambda place: (not devices[place].is_root, place)):
        device = devices[place]
        prefix = _prefix(device, properties) if device.target == "volume" else local
        if device.is_root:
            first = next_name(taken, prefix)
            taken.add(first)
            for _ in range(bool(flavor["ephemeral_gb"]) + bool(flavor["swap_mb"])):
                taken.add(next_name(taken, local))
            if device.target == "volume":
                names[place] = first
        elif device.target == "volume":
            fits = device.name and device.name.startswith(f"/dev/{prefix}")
            name = device.name if fits and device.name else next_name(taken, prefix)
            taken.add(name)
            names[place] = name
    if len(set(names.values())) != len(names):
        raise BadRequest(f"{INVALID}two devices have one name.")
    return names


def name_one(tx: Tx, server: sa.RowMapping, asked: str | None) -> str:
    """The name that a volume attached now gets. Conflict when the one asked for is taken (Nova: DevicePathInUse)."""
    prefix = prefix_of(server["image_meta"].get("properties", {}))
    taken = {row["device"] for row in of_server(tx, server["id"]) if row["device"]}
    local = (
        (root(tx, server["id"]) is None) + bool(server["flavor"]["ephemeral_gb"]) + bool(server["flavor"]["swap_mb"])
    )
    if server["config_drive"] and _cdrom_prefix(server["image_meta"].get("properties", {})) == prefix:
        local += 1  # behind the others; the name is free for it, since volumes keep theirs
    for _ in range(local):
        taken.add(next_name(taken, prefix))
    if asked and asked in taken:
        raise Conflict(f"The supplied device path ({asked}) is in use.")
    if asked and asked.startswith(f"/dev/{prefix}") and asked.removeprefix(f"/dev/{prefix}").isalpha():
        return asked
    return next_name(taken, prefix)


def prefix_of(properties: dict[str, Any]) -> str:
    """How the names of disks begin on the bus that an image asks for: vd, sd or hd."""
    return DISK_PREFIXES.get(str(properties.get("hw_disk_bus", "virtio")), "vd")


def _prefix(device: Device, properties: dict[str, Any]) -> str:
    """The same of one device: it may ask for a bus of its own, and no CD-ROM is on virtio."""
    if device.disk_bus:
        return DISK_PREFIXES[device.disk_bus]
    return "sd" if device.device_type == "cdrom" and prefix_of(properties) == "vd" else prefix_of(properties)


def _cdrom_prefix(properties: dict[str, Any]) -> str:
    """How the name of the config drive begins."""
    default = "sata" if "q35" in str(properties.get("hw_machine_type", "")) else "ide"
    return DISK_PREFIXES.get(str(properties.get("hw_cdrom_bus") or default), "hd")


def next_name(taken: set[str | None] | set[str], prefix: str) -> str:
    for letter in string.ascii_lowercase:
        name = f"/dev/{prefix}{letter}"
        if name not in taken:
            return name
    raise BadRequest(f"No free disk device names for prefix '{prefix}'")


def lock(tx: Tx, server_id: str) -> None:
    """Two requests of one server meet here, so that both cannot get one device name."""
    tx.execute(SERVERS.update().where(SERVERS.c.id == server_id).values(updated_at=SERVERS.c.updated_at))
