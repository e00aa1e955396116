"""Volumes over HTTP."""

from typing import Any

from kilonova.model.errors import BadRequest, NotFound
from kilonova.volume import parts, views, volumes
from kilonova.volume.listing import Listed, page
from kilonova.volume.requests import boolean, flag, text
from kilonova.volume.tables import VOLUMES
from kilonova.web.call import Call

HINTS = "OS-SCH-HNT:scheduler_hints"
COLUMNS = {
    "display_name": "name", "display_description": "description", "glance_metadata": "image_metadata",
    "volume_type_id": "type_id", "tenant_id": "project_id", "source_volume_id": "source_volid",
}  # fmt: skip
SINCE = {"glance_metadata": 4, "group_id": 10, "created_at": 60, "updated_at": 60, "consumes_quota": 65}
LISTED = Listed("volume", VOLUMES, "volumes", COLUMNS, SINCE)
DETAILED = Listed("volume", VOLUMES, "volumes/detail", COLUMNS, SINCE)


def index(call: Call) -> dict[str, Any]:
    found = page(call, LISTED)
    return _paged({"volumes": [views.volume_summary(call, row) for row in found.rows]}, found)


def detail(call: Call) -> dict[str, Any]:
    found = page(call, DETAILED)
    return _paged({"volumes": views.volume_details(call, found.rows)}, found)


def _paged(body: dict[str, Any], found: Any) -> dict[str, Any]:
    if found.links:
        body["volumes_links"] = found.links
    if found.count is not None:
        body["count"] = found.count
    return body


def summary(call: Call) -> dict[str, Any]:
    """Numbers and sizes (3.12), all distinct metadata (3.36)."""
    rows = page(call, LISTED).rows
    found: dict[str, Any] = {"total_count": len(rows), "total_size": sum(row["size"] for row in rows)}
    if call.since(36):
        distinct: dict[str, list[str]] = {}
        for row in rows:
            for key, value in row["metadata"].items():
                if value not in distinct.setdefault(key, []):
                    distinct[key].append(value)
        found["metadata"] = distinct
    return {"volume-summary": found}


def create(call: Call) -> dict[str, Any]:
    asked = call.body["volume"]
    if asked.get("multiattach") is not None and boolean(asked["multiattach"], "multiattach"):
        raise BadRequest(
            "multiattach parameter has been removed. The default behavior is to use multiattach enabled volume types. "
            "Contact your administrator to create a multiattach enabled volume type and use it to create multiattach "
            "volumes."
        )
    names = ("snapshot_id", "source_volid", "backup_id", "imageRef", "image_id")
    given = [name for name in names if asked.get(name) and (name != "backup_id" or call.since(47))]
    if len(set(given) - {"image_id"}) > 1:
        raise BadRequest(
            "Invalid input received: A volume is made from one thing at most, not from " + ", ".join(given)
        )
    size = asked.get("size")
    wanted = volumes.Wanted(
        size=None if size is None else int(size),
        name=text(asked.get("name") or asked.get("display_name")),
        description=text(asked.get("description") or asked.get("display_description")),
        volume_type=asked.get("volume_type") or None,
        availability_zone=asked.get("availability_zone") or None,
        metadata=asked.get("metadata") or {},
        scheduler_hints=call.body.get(HINTS) or asked.get(HINTS) or {},
        snapshot_id=asked.get("snapshot_id") or None,
        source_volid=asked.get("source_volid") or None,
        backup_id=asked.get("backup_id") if call.since(47) else None,
        image=asked.get("imageRef") or asked.get("image_id") or None,
        group_id=asked.get("group_id") if call.since(13) else None,
    )
    return views.volume_made(call, volumes.create(call.tx, call.context, wanted, call.services.storage))


def show(call: Call) -> dict[str, Any]:
    return views.volume(call, volumes.get(call.tx, call.context, call.params["id"]))


def update(call: Call) -> dict[str, Any]:
    asked = call.body["volume"]
    values: dict[str, Any] = {}
    for name, old in (("name", "display_name"), ("description", "display_description")):
        for key in (old, name):
            if key in asked:
                values[name] = text(asked[key])
    if "metadata" in asked:
        values["metadata"] = asked["metadata"] or {}
    if not values:
        raise BadRequest("Invalid input received: Must specify 'name', 'description' or 'metadata' for update.")
    return views.volume_made(call, volumes.update(call.tx, call.context, call.params["id"], values))


def delete(call: Call) -> None:
    cascade, force = flag(call, "cascade"), call.since(23) and flag(call, "force")
    if force:
        parts.check(call.context, parts.FORCE_DELETE)
    flows = call.services.storage
    volumes.delete(call.tx, call.context, call.params["id"], flows, cascade=cascade, force=force)


def encryption(call: Call) -> dict[str, Any]:
    """No volume is encrypted here."""
    volumes.get(call.tx, call.context, call.params["volume_id"])
    return {"encryption_key_id": None}


def encryption_item(call: Call) -> dict[str, Any]:
    found, key = encryption(call), call.params["id"]
    if key not in found:
        raise NotFound(f"Volume {call.params['volume_id']} has no encryption metadata {key}.")
    return {key: found[key]}
