"""Compute hosts: what they offer, whether they live (Nova: compute nodes and nova-compute services)."""

import datetime
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa

from kilonova.compute.tables import AGGREGATE_HOSTS, HOSTS
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, NotFound
from kilonova.model.ids import new_id, now
from kilonova.model.specs import HostInventory
from kilonova.placement import providers
from kilonova.web.validate import is_uuid, whole

DOWN_AFTER = datetime.timedelta(seconds=60)  # Nova: service_down_time
MAX_UNIT = 2147483647
INTERNAL_SERVICES = ("nova-conductor", "nova-scheduler")
INTERNAL = "internal"  # Nova: internal_service_availability_zone


def report_inventory(tx: Tx, inventory: HostInventory) -> None:
    """What a host offers, into its row and its resource provider; counts as a heartbeat."""
    fields = {
        "vcpus": inventory.vcpus,
        "memory_mb": inventory.memory_mb,
        "disk_gb": inventory.disk_gb,
        "hypervisor_type": inventory.hypervisor_type,
        "hypervisor_version": inventory.hypervisor_version,
        "virt_type": inventory.virt_type,
        "cpu_info": inventory.cpu_info,
        "host_ip": inventory.host_ip,
        "uptime": inventory.uptime,
        "last_seen_at": now(),
    }
    host = find(tx, inventory.hostname)
    if host is None:
        uuid = new_id()
        identity = {"uuid": uuid, "service_uuid": new_id(), "hostname": inventory.hostname, "created_at": now()}
        tx.execute(HOSTS.insert().values(**identity, **fields))
    else:
        uuid = host["uuid"]
        tx.execute(HOSTS.update().where(HOSTS.c.uuid == uuid).values(**fields))
    providers.ensure_provider(tx, uuid, inventory.hostname, inventories(inventory))


def inventories(inventory: HostInventory) -> dict[str, dict[str, Any]]:
    """Placement's inventories, with Nova's initial allocation ratios (16, 1 and 1)."""
    return {
        "VCPU": _inventory(inventory.vcpus, 16.0),
        "MEMORY_MB": _inventory(inventory.memory_mb, 1.0),
        "DISK_GB": _inventory(inventory.disk_gb, 1.0),
    }


def _inventory(total: int, ratio: float) -> dict[str, Any]:
    return {
        "total": total, "reserved": 0, "min_unit": 1, "max_unit": total, "step_size": 1, "allocation_ratio": ratio,
    }  # fmt: skip


def heartbeat(tx: Tx, hostname: str) -> None:
    tx.execute(HOSTS.update().where(HOSTS.c.hostname == hostname).values(last_seen_at=now()))


def find(tx: Tx, hostname: str) -> sa.RowMapping | None:
    return tx.first(sa.select(HOSTS).where(HOSTS.c.hostname == hostname))


def list_hosts(tx: Tx) -> list[sa.RowMapping]:
    return tx.all(sa.select(HOSTS).order_by(HOSTS.c.number))


def is_up(host: sa.RowMapping) -> bool:
    return not host["forced_down"] and now() - host["last_seen_at"] < DOWN_AFTER


def zones(tx: Tx) -> dict[str, list[sa.RowMapping]]:
    """Availability zone → its hosts."""
    out: dict[str, list[sa.RowMapping]] = {}
    for host in list_hosts(tx):
        out.setdefault(host["availability_zone"], []).append(host)
    return out


def get_hypervisor(tx: Tx, id: str, uuids: bool) -> sa.RowMapping:
    """By UUID (since 2.53) or number. BadRequest when it is no UUID, NotFound."""
    if uuids and not is_uuid(id):
        raise BadRequest(f"Invalid uuid {id}")
    column, value = (HOSTS.c.uuid, id) if uuids else (HOSTS.c.number, min(whole(id) or 0, MAX_UNIT))
    row = tx.first(sa.select(HOSTS).where(column == value))
    if row is None:
        raise NotFound(f"Hypervisor with ID '{id}' could not be found.")
    return row


def get_service(tx: Tx, id: str) -> sa.RowMapping:
    row = tx.first(sa.select(HOSTS).where(HOSTS.c.service_uuid == id))
    if row is None:
        raise NotFound(f"Service {id} could not be found.")
    return row


def internal_services(tx: Tx) -> dict[str, tuple[str, str]]:
    """nova-scheduler and nova-conductor: their uuids and host. They are parts of the process that answers, so they are up."""
    first = next(iter(list_hosts(tx)), None)
    if first is None:
        return {}
    return {binary: (str(uuid5(UUID(first["service_uuid"]), binary)), first["hostname"]) for binary in INTERNAL_SERVICES}


def update_service(tx: Tx, host: sa.RowMapping, **fields: Any) -> sa.RowMapping:
    tx.execute(HOSTS.update().where(HOSTS.c.number == host["number"]).values(**fields))
    row = find(tx, host["hostname"])
    assert row is not None
    return row


def delete(tx: Tx, host: sa.RowMapping) -> None:
    """The host and its resource provider; it comes back with its next report. Conflict while it has allocations."""
    providers.delete(tx, host["uuid"])
    tx.execute(AGGREGATE_HOSTS.delete().where(AGGREGATE_HOSTS.c.hostname == host["hostname"]))
    tx.execute(HOSTS.delete().where(HOSTS.c.number == host["number"]))
