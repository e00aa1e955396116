"""Transfers: a volume offered to another project, for the key that its owner passes on."""

import hashlib
import hmac
import secrets
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest
from kilonova.model.ids import new_id, now
from kilonova.volume import quotas, states, types, volumes
from kilonova.volume.requests import invalid, missing
from kilonova.volume.tables import SNAPSHOTS, TRANSFERS
from kilonova.web.call import Context


def get(tx: Tx, context: Context, id: str, *, accepting: bool = False) -> sa.RowMapping:
    """Who accepts a transfer need not own it: the key says that they may."""
    row = tx.first(sa.select(TRANSFERS).where(TRANSFERS.c.id == id))
    mine = row is not None and (accepting or context.is_admin or row["source_project_id"] == context.project_id)
    if row is None or not mine:
        raise missing("Transfer", id)
    return row


def create(
    tx: Tx, context: Context, volume_id: str, name: str | None, *, no_snapshots: bool
) -> tuple[sa.RowMapping, str]:
    """The transfer, and the key that accepts it, which is kept nowhere."""
    volume = volumes.get(tx, context, volume_id)
    if volume["status"] != "available":
        raise invalid("volume", "status must be available")
    volumes.check_stays(volume, "transfer")
    for snapshot in volumes.snapshots_of(tx, volume["id"]) if not no_snapshots else ():
        if snapshot["status"] != "available":
            raise invalid("snapshot", f"Snapshot {snapshot['id']} status must be available to be transferred")
    key, salt = secrets.token_hex(8), secrets.token_hex(8)
    made = {
        "id": new_id(), "volume_id": volume["id"], "name": name, "salt": salt, "key_hash": _hash(salt, key),
        "no_snapshots": no_snapshots, "source_project_id": volume["project_id"], "created_at": now(),
    }  # fmt: skip
    tx.execute(TRANSFERS.insert().values(**made))
    states.update(tx, "volume", volume["id"], status="awaiting-transfer")
    return get(tx, context, made["id"], accepting=True), key


def _hash(salt: str, key: str) -> str:
    return hashlib.sha256(f"{salt}{key}".encode()).hexdigest()


def delete(tx: Tx, context: Context, id: str) -> None:
    transfer = get(tx, context, id)
    states.move(tx, "volume", transfer["volume_id"], ("awaiting-transfer",), status="available")
    tx.execute(TRANSFERS.delete().where(TRANSFERS.c.id == id))


def accept(tx: Tx, context: Context, id: str, key: str) -> sa.RowMapping:
    """The volume is the accepting project's from here on."""
    transfer = get(tx, context, id, accepting=True)
    if not hmac.compare_digest(_hash(transfer["salt"], key), transfer["key_hash"]):
        raise BadRequest(f"Invalid auth key: Attempt to transfer {id} with invalid auth key.")
    volume = states.get_row(tx, "volume", transfer["volume_id"])
    if volume["status"] != "awaiting-transfer":
        raise invalid("volume", f"Volume {volume['id']} must not be {volume['status']} to be transferred.")
    volume_type = types.by_id(tx, volume["type_id"])
    types.get(tx, context, volume_type["id"])  # one that the new owner may use
    found = [] if transfer["no_snapshots"] else volumes.snapshots_of(tx, volume["id"])
    wanted: dict[str, Any] = {"volumes": 1, "gigabytes": volume["size"] + sum(one["size"] for one in found)}
    if found:
        wanted["snapshots"] = len(found)
    quotas.lock(tx, volume["project_id"])
    quotas.reserve(tx, context.project_id, volume_type["name"], **wanted)
    owner = {"project_id": context.project_id, "user_id": context.user_id}
    states.update(tx, "volume", volume["id"], status="available", **owner)
    if found:
        ids = [one["id"] for one in found]
        tx.execute(SNAPSHOTS.update().where(SNAPSHOTS.c.id.in_(ids)).values(**owner))
    tx.execute(TRANSFERS.delete().where(TRANSFERS.c.id == id))
    return transfer
