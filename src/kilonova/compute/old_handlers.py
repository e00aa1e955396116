"""What Nova keeps for old clients: images in its own words (until 2.35), hosts (until 2.42), and what is gone (410)."""

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from kilonova.compute import hosts, quotas, views
from kilonova.compute import schemas as s
from kilonova.compute.tables import SERVERS
from kilonova.image import images
from kilonova.image import listing as image_listing
from kilonova.model.errors import APIError, BadRequest, Forbidden, NotFound
from kilonova.model.ids import iso
from kilonova.web import paging
from kilonova.web.call import Call, Reply, Version


class Gone(APIError):
    status = 410


class NotSupported(APIError):
    """Nova: raise_feature_not_supported."""

    status = 501


def gone(call: Call) -> None:
    raise Gone("This resource is no longer available. No forwarding address is given.")


# --- images ------------------------------------------------------------------------------------------------------------

STATUS = {"active": "ACTIVE", "queued": "SAVING", "saving": "SAVING", "deleted": "DELETED", "pending_delete": "DELETED",
          "killed": "ERROR"}  # fmt: skip
PROGRESS = {"queued": 25, "saving": 50, "active": 100}
FILTERS = {  # Nova's filter → Glance's
    "name": "name", "status": "status", "server": "instance_uuid", "type": "image_type", "minRam": "min_ram",
    "minDisk": "min_disk", "changes-since": "updated_at",
}  # fmt: skip
SET_METADATA = s.closed({"metadata": s.METADATA}, ("metadata",))
SET_METADATUM = s.closed({"meta": s.METADATA | {"minProperties": 1, "maxProperties": 1}}, ("meta",))


def list_images(call: Call) -> dict[str, Any]:
    rows, more = _page(call)
    return _images(call, rows, [_basic(call, row) for row in rows], "images", more)


def list_images_detail(call: Call) -> dict[str, Any]:
    rows, more = _page(call)
    return _images(call, rows, [_image(call, row) for row in rows], "images/detail", more)


def _page(call: Call) -> tuple[list[sa.RowMapping], bool]:
    """Asked of Glance in its own words (Nova: ImagesController._get_filters, glance.API.get_all)."""
    query = [("limit", str(paging.limit(call)))]
    for name, value in call.query:
        if name == "marker":
            query.append((name, value))
        elif name.startswith("property-"):
            query.append((name.removeprefix("property-"), value))
        elif name in FILTERS:
            query.append((FILTERS[name], _filter(name, value)))
    return image_listing.page(replace(call, query=query))


def _filter(name: str, value: str) -> str:
    if name == "server":
        return value.rpartition("/")[2]
    if name == "changes-since":
        return f"gte:{value}"
    return value.lower() if name == "status" else value


def _images(call: Call, rows: list[Any], bodies: list[Any], path: str, more: bool) -> dict[str, Any]:
    out: dict[str, Any] = {"images": bodies}
    if more and call.arg("limit") is not None:
        out["images_links"] = paging.next_link(call, rows, len(rows), f"{call.api_url}/{path}", rows[-1]["id"])
    return out


def _basic(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    alternate = {"rel": "alternate", "type": "application/vnd.openstack.image"}
    alternate["href"] = f"{call.base_url.rpartition('/')[0]}/image/images/{row['id']}"
    links = [*views.links(call, "images", row["id"]), alternate]
    return {"id": row["id"], "name": row["name"], "links": links}


def _image(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    properties = row["properties"]
    body = _basic(call, row) | {
        "minRam": row["min_ram"],
        "minDisk": row["min_disk"],
        "metadata": properties,
        "created": iso(row["created_at"]),
        "updated": iso(row["updated_at"]),
        "status": STATUS.get(row["status"], "UNKNOWN"),
        "progress": PROGRESS.get(row["status"], 0),
        "OS-EXT-IMG-SIZE:size": row["size"] or 0,
    }
    if "instance_uuid" in properties:
        id = properties["instance_uuid"]
        body["server"] = {"id": id, "links": views.links(call, "servers", id)}
    if "auto_disk_config" in properties:
        wanted = str(properties["auto_disk_config"]).lower() in ("1", "t", "true", "on", "y", "yes")
        body["OS-DCF:diskConfig"] = "AUTO" if wanted else "MANUAL"
    return body


def _get(call: Call, name: str = "id") -> sa.RowMapping:
    try:
        return images.get(call.tx, call.context, call.params[name])
    except NotFound:
        raise NotFound("Image not found.") from None


def show_image(call: Call) -> dict[str, Any]:
    return {"image": _image(call, _get(call))}


def delete_image(call: Call) -> None:
    id = _get(call)["id"]
    try:
        images.delete(call.tx, call.context, call.services.images, id)
    except Forbidden as error:
        raise Forbidden("You are not allowed to delete the image.") from error


def image_metadata(call: Call) -> dict[str, Any]:
    return {"metadata": _get(call, "image_id")["properties"]}


def image_metadatum(call: Call) -> dict[str, Any]:
    key, found = call.params["id"], _get(call, "image_id")["properties"]
    if key not in found:
        raise NotFound("The resource could not be found.")
    return {"meta": {key: found[key]}}


def add_image_metadata(call: Call) -> dict[str, Any]:
    old = _get(call, "image_id")["properties"]
    return {"metadata": _set_image_metadata(call, old | call.body["metadata"])}


def replace_image_metadata(call: Call) -> dict[str, Any]:
    return {"metadata": _set_image_metadata(call, call.body["metadata"])}


def set_image_metadatum(call: Call) -> dict[str, Any]:
    meta = call.body["meta"]
    if call.params["id"] not in meta:
        raise BadRequest("Request body and URI mismatch")
    _set_image_metadata(call, _get(call, "image_id")["properties"] | meta)
    return {"meta": meta}


def delete_image_metadatum(call: Call) -> None:
    key, old = call.params["id"], _get(call, "image_id")["properties"]
    if key not in old:
        raise NotFound("Invalid metadata key")
    _set_image_metadata(call, {name: value for name, value in old.items() if name != key})


def _set_image_metadata(call: Call, properties: dict[str, str]) -> dict[str, str]:
    row = _get(call, "image_id")
    if not images.is_owner(call.context, row):
        raise Forbidden(f"Not authorized for image {row['id']}.")
    allowed = quotas.limits(call.tx, call.context.project_id)["metadata_items"]
    if 0 <= allowed < len(properties):
        raise Forbidden("Image metadata limit exceeded")
    images.save(call.tx, row["id"], {"properties": properties})
    return properties


# --- hosts -------------------------------------------------------------------------------------------------------------

SWITCH = {"type": "string", "pattern": r"(?i)^\s*(enable|disable)\s*\Z"}


def update_host_schema(version: Version) -> dict[str, Any]:
    either = {"anyOf": [{"required": ["status"]}, {"required": ["maintenance_mode"]}]}
    return s.closed({"status": SWITCH, "maintenance_mode": SWITCH}) | either


def list_hosts(call: Call) -> dict[str, Any]:
    zone = call.arg("zone")
    found = [row for row in hosts.list_hosts(call.tx) if not row["disabled"]]
    return {
        "hosts": [
            {"host_name": row["hostname"], "service": "compute", "zone": row["availability_zone"]}
            for row in found
            if not zone or zone == row["availability_zone"]
        ]
    }


def _host(call: Call) -> sa.RowMapping:
    row = hosts.find(call.tx, call.params["id"])
    if row is None:
        raise NotFound(f"Compute host {call.params['id']} could not be found.", type="ComputeHostNotFound")
    return row


def show_host(call: Call) -> dict[str, Any]:
    """What the host has, what is used of it, and by whom."""
    host = _host(call)
    total = {"vcpus": host["vcpus"], "memory_mb": host["memory_mb"], "disk_gb": host["disk_gb"]}
    by_project: dict[str, dict[str, int]] = {}
    columns = (SERVERS.c.project_id, SERVERS.c.flavor)
    here = (SERVERS.c.host == host["hostname"], SERVERS.c.deleted_at.is_(None))
    for row in call.tx.all(sa.select(*columns).where(*here).order_by(SERVERS.c.number)):
        sums, flavor = by_project.setdefault(row["project_id"], dict.fromkeys(total, 0)), row["flavor"]
        sums["vcpus"] += flavor["vcpus"]
        sums["memory_mb"] += flavor["memory_mb"]
        sums["disk_gb"] += flavor["disk_gb"] + flavor["ephemeral_gb"]
    used = {name: sum(sums[name] for sums in by_project.values()) for name in total}
    lines = {"(total)": total, "(used_now)": used, "(used_max)": used, **by_project}
    return {
        "host": [
            {
                "resource": {
                    "host": host["hostname"], "project": project, "cpu": sums["vcpus"], "memory_mb": sums["memory_mb"],
                    "disk_gb": sums["disk_gb"],
                }
            }
            for project, sums in lines.items()
        ]
    }  # fmt: skip


def update_host(call: Call) -> dict[str, Any]:
    host = _host(call)
    if "maintenance_mode" in call.body:
        raise _not_supported()
    enabled = call.body["status"].strip().lower() == "enable"
    hosts.update_service(call.tx, host, disabled=not enabled, disabled_reason=None)
    return {"host": host["hostname"], "status": "enabled" if enabled else "disabled"}


def power_host(call: Call) -> None:
    """No host turns itself off at a client's word (Nova with libvirt: 501, too)."""
    _host(call)
    raise _not_supported()


def _not_supported() -> NotSupported:
    return NotSupported("The requested functionality is not supported.")


# --- Neutron's and Cinder's calls --------------------------------------------------------------------------------------

EVENTS = {  # name → since which minor version
    "network-changed": 1, "network-vif-plugged": 1, "network-vif-unplugged": 1, "network-vif-deleted": 1,
    "volume-extended": 51, "power-update": 76, "accelerator-request-bound": 82, "volume-reimaged": 93,
}  # fmt: skip
WITH_TAG = ("volume-extended", "power-update", "accelerator-request-bound", "volume-reimaged")


def events_schema(version: Version) -> dict[str, Any]:
    event = s.closed(
        {
            "name": {"type": "string", "enum": [name for name, since in EVENTS.items() if version >= (2, since)]},
            "server_uuid": {"type": "string", "format": "uuid"},
            "status": {"type": "string", "enum": ["failed", "completed", "in-progress"]},
            "tag": {"type": "string", "maxLength": 255},
        },
        ("name", "server_uuid"),
    )
    return s.closed({"events": {"type": "array", "minItems": 1, "items": event}}, ("events",))


def server_events(call: Call) -> Reply:
    """Each is answered as Nova answers it, and nothing is done: ports and volumes tell the flows themselves."""
    wanted = {event["server_uuid"] for event in call.body["events"]}
    found = call.tx.all(sa.select(SERVERS.c.id, SERVERS.c.host).where(
        SERVERS.c.id.in_(wanted), SERVERS.c.deleted_at.is_(None)))  # fmt: skip
    there = {row["id"]: row["host"] for row in found}
    answers = [event | _verdict(event, there) for event in call.body["events"]]
    return Reply({"events": answers}, 200 if all(event["code"] == 200 for event in answers) else 207)


def _verdict(event: dict[str, Any], there: dict[str, str | None]) -> dict[str, Any]:
    id = event["server_uuid"]
    code = 200
    if id not in there:
        code = 404
    elif event["name"] in WITH_TAG and event.get("tag") is None:
        code = 400
    elif not there[id]:
        code = 422
    return {"status": "completed" if code == 200 else "failed", "code": code}
