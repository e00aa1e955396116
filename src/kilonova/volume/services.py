"""Cinder's services as administrators know them, and the pools that cinder-volume reports: one a backend.

A host's inventory is what makes and renews their rows. The scheduler and the backup service are parts of the same host.
"""

import datetime
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, NotFound
from kilonova.model.ids import new_id, now
from kilonova.model.specs import HostInventory, PoolSpec
from kilonova.volume.tables import SERVICES, SNAPSHOTS, VOLUMES

VOLUME, BACKUP, SCHEDULER = "cinder-volume", "cinder-backup", "cinder-scheduler"
BINARIES = (SCHEDULER, VOLUME, BACKUP)
DOWN_AFTER = datetime.timedelta(seconds=60)  # Cinder: service_down_time
ZONE = "nova"
OVERSUBSCRIPTION = 20.0  # Cinder: max_over_subscription_ratio


def report_inventory(tx: Tx, inventory: HostInventory) -> None:
    """A host's backends, each a cinder-volume, beside its scheduler and backup services; counts as a heartbeat."""
    for binary in (SCHEDULER, BACKUP):
        _report(tx, binary, inventory.hostname, inventory.hostname, {})
    for pool in inventory.pools:
        _report(tx, VOLUME, f"{inventory.hostname}@{pool.name}", inventory.hostname, _pool_columns(pool))


def _pool_columns(pool: PoolSpec) -> dict[str, Any]:
    return {"backend": pool.name, "protocol": pool.protocol, "total_gb": pool.total_gb, "free_gb": pool.free_gb}


def _report(tx: Tx, binary: str, host: str, machine: str, values: dict[str, Any]) -> None:
    mine = (SERVICES.c.binary == binary) & (SERVICES.c.host == host)
    if not tx.execute(SERVICES.update().where(mine).values(last_seen_at=now(), **values)).rowcount:
        made = {"id": new_id(), "availability_zone": ZONE, "created_at": now(), "last_seen_at": now()}
        tx.execute(SERVICES.insert().values(binary=binary, host=host, machine=machine, **made, **values))


def is_up(service: sa.RowMapping) -> bool:
    return bool(now() - service["last_seen_at"] < DOWN_AFTER)


def listed(tx: Tx, **wanted: Any) -> list[sa.RowMapping]:
    query = sa.select(SERVICES).order_by(SERVICES.c.binary, SERVICES.c.host)
    return tx.all(query.where(*(SERVICES.c[name] == value for name, value in wanted.items())))


def get(tx: Tx, host: str, binary: str) -> sa.RowMapping:
    found = listed(tx, host=host, binary=binary)
    if not found:
        raise NotFound(f"Service {binary} could not be found on host {host}.")
    return found[0]


def get_backend(tx: Tx, host: str) -> sa.RowMapping:
    """The cinder-volume of `machine@backend` or `machine@backend#pool`. BadRequest, as for Cinder's InvalidInput."""
    found = listed(tx, host=host.partition("#")[0], binary=VOLUME)
    if not found:
        raise BadRequest(f"Invalid input received: Host {host} could not be found.")
    return found[0]


def update(tx: Tx, service: sa.RowMapping, **values: Any) -> None:
    tx.execute(SERVICES.update().where(SERVICES.c.id == service["id"]).values(**values))


def zones(tx: Tx) -> dict[str, bool]:
    """Availability zone → whether one of its cinder-volumes is enabled."""
    out = {ZONE: True}
    for service in listed(tx, binary=VOLUME):
        out[service["availability_zone"]] = out.get(service["availability_zone"], False) or not service["disabled"]
    return out


def pool_name(service: sa.RowMapping) -> str:
    return f"{service['host']}#{service['backend']}"


def host_of(row: sa.RowMapping) -> str | None:
    """Where a volume is, as administrators see it: machine@backend#pool."""
    return f"{row['host']}@{row['backend']}#{row['backend']}" if row["host"] else None


def provisioned(tx: Tx, service: sa.RowMapping) -> int:
    """GiB promised to the volumes and snapshots of a backend."""
    here = (VOLUMES.c.host == service["machine"]) & (VOLUMES.c.backend == service["backend"])
    volumes = tx.scalar(sa.select(sa.func.sum(VOLUMES.c.size)).where(here)) or 0
    joined = SNAPSHOTS.join(VOLUMES, SNAPSHOTS.c.volume_id == VOLUMES.c.id)
    snapshots = tx.scalar(sa.select(sa.func.sum(SNAPSHOTS.c.size)).select_from(joined).where(here)) or 0
    return int(volumes) + int(snapshots)


def capabilities(tx: Tx, service: sa.RowMapping) -> dict[str, Any]:
    """What a backend says of itself to the scheduler (Cinder: get_volume_stats)."""
    return {
        "pool_name": service["backend"],
        "volume_backend_name": service["backend"],
        "storage_protocol": service["protocol"],
        "vendor_name": "Open Source",
        "driver_version": "1.0.0",
        "total_capacity_gb": round(service["total_gb"] or 0.0, 2),
        "free_capacity_gb": round(service["free_gb"] or 0.0, 2),
        "allocated_capacity_gb": provisioned(tx, service),
        "provisioned_capacity_gb": provisioned(tx, service),
        "max_over_subscription_ratio": str(OVERSUBSCRIPTION),
        "reserved_percentage": 0,
        "thin_provisioning_support": True,
        "thick_provisioning_support": False,
        "multiattach": True,
        "QoS_support": False,
        "online_extend_support": True,
        "consistent_group_snapshot_enabled": False,
        "location_info": f"{service['protocol']}:{service['host']}",
        "filter_function": None,
        "goodness_function": None,
        "backend_state": "up" if is_up(service) else "down",
        "timestamp": service["last_seen_at"].isoformat(),
    }
