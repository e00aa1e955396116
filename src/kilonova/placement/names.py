"""Resource classes and traits: the standard names, and the custom ones that an operator adds."""

import functools
import re
from collections.abc import Iterable

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.model.ids import now
from kilonova.placement.tables import ALLOCATIONS, INVENTORIES, PROVIDER_TRAITS, RESOURCE_CLASSES, TRAITS

# os-resource-classes
STANDARD_CLASSES = (
    "VCPU", "MEMORY_MB", "DISK_GB", "PCI_DEVICE", "SRIOV_NET_VF", "NUMA_SOCKET", "NUMA_CORE", "NUMA_THREAD",
    "NUMA_MEMORY_MB", "IPV4_ADDRESS", "VGPU", "VGPU_DISPLAY_HEAD", "NET_BW_EGR_KILOBIT_PER_SEC",
    "NET_BW_IGR_KILOBIT_PER_SEC", "PCPU", "MEM_ENCRYPTION_CONTEXT", "FPGA", "PGPU",
    "NET_PACKET_RATE_KILOPACKET_PER_SEC", "NET_PACKET_RATE_EGR_KILOPACKET_PER_SEC",
    "NET_PACKET_RATE_IGR_KILOPACKET_PER_SEC",
)  # fmt: skip

CUSTOM = re.compile(r"CUSTOM_[A-Z0-9_]+", re.ASCII)


@functools.cache
def standard_traits() -> frozenset[str]:
    import os_traits

    return frozenset(os_traits.get_traits())


def list_resource_classes(tx: Tx) -> list[str]:
    custom = tx.execute(sa.select(RESOURCE_CLASSES.c.name).order_by(RESOURCE_CLASSES.c.created_at)).scalars()
    return [*STANDARD_CLASSES, *custom]


def unknown_classes(tx: Tx, wanted: Iterable[str]) -> list[str]:
    """Those of `wanted` that are no resource class."""
    doubtful = sorted(set(wanted) - set(STANDARD_CLASSES))
    if not doubtful:
        return []
    known = tx.present(RESOURCE_CLASSES.c.name, doubtful)
    return [name for name in doubtful if name not in known]


def get_resource_class(tx: Tx, name: str) -> str:
    if unknown_classes(tx, [name]):
        raise NotFound(f"No such resource class {name}.")
    return name


def create_resource_class(tx: Tx, name: str) -> bool:
    """Whether it is new."""
    return insert_new(tx.connection, RESOURCE_CLASSES, {"name": name, "created_at": now()})


def rename_resource_class(tx: Tx, name: str, new: str) -> None:
    """Microversions 1.2 to 1.6; the inventories and allocations keep to the class, under its new name."""
    get_resource_class(tx, name)
    if name in STANDARD_CLASSES:
        raise BadRequest(f"Cannot update standard resource class {name}")
    if new == name:
        return
    if not create_resource_class(tx, new):
        raise Conflict(f"Resource class already exists: {new}")
    for table in (INVENTORIES, ALLOCATIONS):
        tx.execute(table.update().where(table.c.resource_class == name).values(resource_class=new))
    tx.execute(RESOURCE_CLASSES.delete().where(RESOURCE_CLASSES.c.name == name))


def delete_resource_class(tx: Tx, name: str) -> None:
    get_resource_class(tx, name)
    if name in STANDARD_CLASSES:
        raise BadRequest(f"Error in delete resource class: Cannot delete standard resource class {name}.")
    if tx.first(sa.select(INVENTORIES.c.provider).where(INVENTORIES.c.resource_class == name).limit(1)):
        raise Conflict(
            f"Error in delete resource class: Cannot delete resource class {name}. Class is in use in inventory."
        )
    tx.execute(RESOURCE_CLASSES.delete().where(RESOURCE_CLASSES.c.name == name))


def list_traits(
    tx: Tx, names: Iterable[str] | None = None, prefix: str | None = None, associated: bool | None = None
) -> list[str]:
    found = set(standard_traits()) | set(tx.execute(sa.select(TRAITS.c.name)).scalars())
    if names is not None:
        found &= set(names)
    if prefix is not None:
        found = {name for name in found if name.startswith(prefix)}
    if associated is not None:
        used = set(tx.execute(sa.select(PROVIDER_TRAITS.c.trait).distinct()).scalars())
        found = found & used if associated else found - used
    return sorted(found)


def unknown_traits(tx: Tx, wanted: Iterable[str]) -> list[str]:
    doubtful = sorted(set(wanted) - standard_traits())
    if not doubtful:
        return []
    known = tx.present(TRAITS.c.name, doubtful)
    return [name for name in doubtful if name not in known]


def get_trait(tx: Tx, name: str) -> str:
    if unknown_traits(tx, [name]):
        raise NotFound(f"No such trait(s): {name}.")
    return name


def create_trait(tx: Tx, name: str) -> bool:
    """Whether it is new. BadRequest when the name is not a custom trait's."""
    if not CUSTOM.fullmatch(name) or len(name) > 255:
        raise BadRequest(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix "
            '"CUSTOM_" and use following characters: "A"-"Z", "0"-"9" and "_"'
        )
    return insert_new(tx.connection, TRAITS, {"name": name, "created_at": now()})


def delete_trait(tx: Tx, name: str) -> None:
    get_trait(tx, name)
    if name in standard_traits():
        raise BadRequest(f"Cannot delete standard trait {name}.")
    if tx.first(sa.select(PROVIDER_TRAITS.c.provider).where(PROVIDER_TRAITS.c.trait == name).limit(1)):
        raise Conflict(f"The trait {name} is in use by a resource provider.")
    tx.execute(TRAITS.delete().where(TRAITS.c.name == name))
