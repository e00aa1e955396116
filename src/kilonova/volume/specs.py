"""Rows as the frozen values that hosts are given."""

from collections.abc import Callable

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.specs import ImageSpec, StorageSpec, StoredBackup, StoredSnapshot, StoredVolume
from kilonova.volume import states
from kilonova.volume.tables import QOS_SPECS, TYPES

PER_GB = "_per_gb"
BEING_FILLED = ("creating", "downloading")


def volume_spec(tx: Tx, volume_id: str, image_spec: Callable[[Tx, str], ImageSpec]) -> StorageSpec:
    row = states.get_row(tx, "volume", volume_id)
    image = row["image_id"] if row["status"] in BEING_FILLED else None
    return StorageSpec(volume=_volume(tx, row, image_spec(tx, image) if image else None))


def _volume(tx: Tx, row: sa.RowMapping, image: ImageSpec | None = None) -> StoredVolume:
    return StoredVolume(
        id=row["id"],
        name=row["stored_as"],
        size_gb=row["size"],
        backend=row["backend"] or "",
        image=image,
        from_snapshot=_name(tx, "snapshot", row["snapshot_id"]),
        from_volume=_name(tx, "volume", row["source_volid"]),
        from_backup=_name(tx, "backup", row["backup_id"]),
    )


def front_end_qos(tx: Tx, volume: sa.RowMapping) -> dict[str, str]:
    """What the hypervisor is to hold a volume to, by its type's QoS specs; those per GiB multiplied (Cinder:
    _parse_connection_options)."""
    about = sa.select(QOS_SPECS).join(TYPES, TYPES.c.qos_specs_id == QOS_SPECS.c.id)
    row = tx.first(about.where(TYPES.c.id == volume["type_id"]))
    if row is None or row["consumer"] == "back-end":
        return {}
    specs = {key: value for key, value in row["specs"].items() if value is not None}
    for key in [key for key in specs if key.endswith(PER_GB) and specs[key].isdigit()]:
        specs[key.removesuffix(PER_GB)] = str(int(specs.pop(key)) * volume["size"])
    return specs


def _name(tx: Tx, kind: str, id: str | None) -> str | None:
    """What it is called where it is kept; what is gone keeps the name it was made under."""
    if id is None:
        return None
    row = states.find(tx, kind, id)
    if row is None:
        return id if kind == "backup" else f"{kind}-{id}"
    return str(row["location" if kind == "backup" else "stored_as"])


def snapshot_spec(tx: Tx, snapshot_id: str) -> StorageSpec:
    row = states.get_row(tx, "snapshot", snapshot_id)
    volume = states.get_row(tx, "volume", row["volume_id"])
    return StorageSpec(volume=_volume(tx, volume), snapshot=StoredSnapshot(id=row["id"], name=row["stored_as"]))


def backup_spec(tx: Tx, backup_id: str) -> StorageSpec:
    """The volume may be gone by now: a backup outlives it."""
    row = states.get_row(tx, "backup", backup_id)
    volume = states.find(tx, "volume", row["volume_id"])
    name = volume["stored_as"] if volume is not None else f"volume-{row['volume_id']}"
    return StorageSpec(
        volume=StoredVolume(id=row["volume_id"], name=name, size_gb=row["size"], backend=row["backend"] or ""),
        backup=StoredBackup(
            id=row["location"],
            from_snapshot=_name(tx, "snapshot", row["snapshot_id"]),
            parent_id=_name(tx, "backup", row["parent_id"]),
        ),
    )
