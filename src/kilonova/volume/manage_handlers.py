"""Volumes and snapshots that are in a backend already: listed, and taken over (os-volume-manage, manageable_volumes 3.8)."""

from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest
from kilonova.volume import moves, quotas, services, snapshots, states, types, views, volumes
from kilonova.volume.listing import limit
from kilonova.volume.requests import bad_input, invalid, missing
from kilonova.volume.tables import SNAPSHOTS, VOLUMES
from kilonova.web.call import Call

GIB = 1 << 30
Place = dict[str, Any]


def _place(call: Call, host: str | None) -> Place:
    if not host:
        raise bad_input("Either a host (machine@backend#pool) must be given, or nothing can be listed or managed.")
    return dict(call.database.read(lambda tx: services.get_backend(tx, host)))


def _wanted_name(ref: Any) -> str:
    name = ref.get("source-name") if isinstance(ref, dict) else ref
    if not isinstance(name, str) or not name:
        raise bad_input("Failed to manage existing volume: the reference is like {'source-name': NAME}.")
    return name


def _stored(call: Call, place: Place) -> dict[str, int]:
    found: dict[str, int] = call.services.storage.stored_volumes(place["machine"], place["backend"])
    return found


def volume_index(call: Call) -> dict[str, Any]:
    return _volumes(call, detail=False)


def volume_detail(call: Call) -> dict[str, Any]:
    return _volumes(call, detail=True)


def _volumes(call: Call, *, detail: bool) -> dict[str, Any]:
    place = _place(call, call.arg("host"))
    here = (VOLUMES.c.host == place["machine"]) & (VOLUMES.c.backend == place["backend"])
    query = sa.select(VOLUMES.c.stored_as, VOLUMES.c.id).where(here)
    known = {row["stored_as"]: row["id"] for row in call.database.read(lambda tx: tx.all(query))}
    found = [_manageable(name, size, known.get(name), detail) for name, size in sorted(_stored(call, place).items())]
    return {"manageable-volumes": found[: limit(call)]}


def _manageable(name: str, size: int, id: str | None, detail: bool) -> dict[str, Any]:
    body = {"reference": {"source-name": name}, "size": -(-size // GIB), "safe_to_manage": id is None}
    if detail:
        body |= {"reason_not_safe": "already managed" if id else None, "cinder_id": id, "extra_info": None}
    return body


def manage_volume(call: Call) -> dict[str, Any]:
    asked = call.body["volume"]
    if not call.since(16) and asked.get("cluster"):
        raise bad_input("This cloud has no clusters: name a host.")
    place, name = _place(call, asked.get("host")), _wanted_name(asked["ref"])
    stored = _stored(call, place)
    if name not in stored:
        raise BadRequest(
            f"Failed to manage existing volume due to invalid backend reference: there is no {name} in {place['host']}."
        )
    found = {"name": name, "size_gb": max(1, -(-stored[name] // GIB))}

    def write(tx: Tx) -> dict[str, Any]:
        call._tx = tx
        service = services.get_backend(tx, place["host"])
        id = moves.manage(tx, call.context, service, found, asked)
        return views.volume(call, states.get_row(tx, "volume", id))

    return call.database.write(write)


def snapshot_index(call: Call) -> dict[str, Any]:
    return _snapshots(call, detail=False)


def snapshot_detail(call: Call) -> dict[str, Any]:
    return _snapshots(call, detail=True)


def _snapshots(call: Call, *, detail: bool) -> dict[str, Any]:
    """Those that are managed: a backend does not tell of others, which are managed by name."""
    place = _place(call, call.arg("host"))
    here = (VOLUMES.c.host == place["machine"]) & (VOLUMES.c.backend == place["backend"])
    joined = SNAPSHOTS.join(VOLUMES, SNAPSHOTS.c.volume_id == VOLUMES.c.id)
    query = sa.select(SNAPSHOTS, VOLUMES.c.stored_as.label("volume_name")).select_from(joined).where(here)
    rows = call.database.read(lambda tx: tx.all(query.order_by(SNAPSHOTS.c.created_at)))
    found = []
    for row in rows[: limit(call)]:
        body = {
            "reference": {"source-name": row["stored_as"]}, "size": row["size"], "safe_to_manage": False,
            "source_reference": {"source-name": row["volume_name"]},
        }  # fmt: skip
        if detail:
            body |= {"reason_not_safe": "already managed", "cinder_id": row["id"], "extra_info": None}
        found.append(body)
    return {"manageable-snapshots": found}


def manage_snapshot(call: Call) -> dict[str, Any]:
    asked = call.body["snapshot"]
    name = _wanted_name(asked["ref"]).removeprefix("_")  # LVM's names, which clients know, begin with one
    volume = call.database.read(lambda tx: volumes.get(tx, call.context, asked["volume_id"]))
    if not volume["host"]:
        raise missing("Volume", asked["volume_id"])
    if not call.services.storage.has_snapshot(volume["host"], name, volume["backend"]):
        raise BadRequest(f"Failed to manage existing snapshot due to invalid backend reference: there is no {name}.")

    def write(tx: Tx) -> dict[str, Any]:
        call._tx = tx
        row = volumes.get(tx, call.context, volume["id"])
        if tx.scalar(sa.select(SNAPSHOTS.c.id).where(SNAPSHOTS.c.stored_as == name)):
            raise invalid("snapshot", f"Unable to manage existing snapshot. {name} is managed already.")
        type_name = types.by_id(tx, row["type_id"])["name"]
        quotas.reserve(tx, call.context.project_id, type_name, snapshots=1, gigabytes=row["size"])
        texts = {key: asked.get(key) for key in ("name", "description")}
        id = snapshots.insert(tx, call.context, row, {**texts, "metadata": asked.get("metadata") or {}})
        states.update(tx, "snapshot", id, stored_as=name, status="available", progress="100%")
        return {"snapshot": views.snapshot(call, states.get_row(tx, "snapshot", id))}

    return call.database.write(write)
