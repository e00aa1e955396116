"""Glance v2 (https://docs.openstack.org/api-ref/image/v2/)."""

from typing import Any

from kilonova.image import (
    images,
    listing,
    locations,
    members,
    metadef_handlers,
    patch,
    quotas,
    schemas,
    store_handlers,
    tasks,
    views,
)
from kilonova.image.imports import create_task, import_image
from kilonova.image.paging import collection
from kilonova.image.store_handlers import stores_of
from kilonova.image.transfer import download, stage, upload
from kilonova.model.errors import BadRequest, Forbidden, NotFound
from kilonova.web import faults
from kilonova.web.call import Call, Reply, Route
from kilonova.web.policy import admin, admin_or_service, anyone, project_member, project_reader, rule
from kilonova.web.service import Service
from kilonova.web.validate import check

VERSIONS = (  # of a Glance without its cache (2.14, 2.16, 2.18)
    "2.17",
    "2.15",
    "2.13",
    "2.12",
    "2.11",
    "2.10",
    "2.9",
    "2.8",
    "2.7",
    "2.6",
    "2.5",
    "2.4",
    "2.3",
    "2.2",
    "2.1",
    "2.0",
)


def versions(call: Call, status: int = 300) -> Reply:
    """GET / answers 300, as Glance does; GET /versions the same with 200."""
    links = [{"rel": "self", "href": f"{call.base_url}/v2/"}]
    found = [
        {"id": f"v{number}", "status": "SUPPORTED" if place else "CURRENT", "links": links}
        for place, number in enumerate(VERSIONS)
    ]
    return Reply({"versions": found}, status)


def versions_ok(call: Call) -> Reply:
    return versions(call, 200)


# Images


def list_images(call: Call) -> dict[str, Any]:
    rows, more = listing.page(call)
    held = locations.held_by(call.tx, [row["id"] for row in rows])
    return collection(call, "images", [views.image(row, held[row["id"]]) for row in rows], more)


def _view(call: Call, row: Any) -> dict[str, Any]:
    return views.image(row, locations.held(call.tx, row["id"]))


def create_image(call: Call) -> Reply:
    body = call.body
    if not isinstance(body, dict):
        raise BadRequest("Body expected in request.")
    for name in ("direct_url", "self", "file", "schema", "stores"):
        if name in body:
            raise Forbidden(f"Attribute '{name}' is read-only.")
    check(body, schemas.CHECKED)
    for name in ("created_at", "updated_at", "status", "checksum", "size", "virtual_size", "os_hash_algo",
                 "os_hash_value"):  # fmt: skip
        if name in body:
            raise Forbidden(f"Attribute '{name}' is read-only.")
    if "locations" in body:
        raise Forbidden("It's not allowed to add locations if locations are invisible.")
    properties = {name: value for name, value in body.items() if name not in schemas.IMAGE_PROPERTIES}
    for name in properties:
        if len(name) > 255:
            raise BadRequest("Custom property should not be greater than 255 characters.")
        if name in patch.RESERVED or name.startswith(patch.RESERVED_PREFIX):
            raise Forbidden(f"Attribute '{name}' is reserved.")
    quotas.check_counts(properties, body.get("tags", ()))
    quotas.enforce_for(call, call.tx, image_count_total=1)
    row = images.create(call.tx, call.context, body, properties)
    headers = {
        "Location": f"{call.base_url}/v2/images/{row['id']}",
        "OpenStack-image-import-methods": ",".join(call.services.imports.methods),
        "OpenStack-image-store-ids": ",".join(stores_of(call).names),
    }
    return Reply(_view(call, row), headers=headers)


def show_image(call: Call) -> dict[str, Any]:
    return _view(call, images.get(call.tx, call.context, call.params["image_id"]))


def update_image(call: Call) -> dict[str, Any]:
    changes = patch.parse(call.body, call.headers.get("content-type", ""))
    return _view(call, patch.apply(call.tx, call.context, call.params["image_id"], changes))


def delete_image(call: Call) -> None:
    images.delete(call.tx, call.context, stores_of(call), call.params["image_id"])


def deactivate(call: Call) -> None:
    _switch(call, "active", "deactivated")


def reactivate(call: Call) -> None:
    _switch(call, "deactivated", "active")


def _switch(call: Call, source: str, target: str) -> None:
    row = images.get_own(call.tx, call.context, call.params["image_id"], target[:-1])
    if row["status"] == target:
        return
    if not images.move(call.tx, row["id"], source, target):
        raise Forbidden(f"Not allowed to {target[:-1]} image in status '{row['status']}'")


def image_tasks(call: Call) -> dict[str, Any]:
    row = images.get(call.tx, call.context, call.params["image_id"])
    return {"tasks": [tasks.view(task) for task in tasks.of_image(call.tx, call.context, row["id"])]}


# Tags and members


def put_tag(call: Call) -> None:
    row = images.get_own(call.tx, call.context, call.params["image_id"], "tag")
    tag = call.params["tag_value"]
    if len(tag) > 255:
        raise BadRequest(f"Could not update image: the tag {tag[:40]!r}… is longer than 255 characters.")
    if tag not in row["tags"]:
        quotas.check_count("tags", len(row["tags"]) + 1)
        images.save(call.tx, row["id"], {"tags": sorted([*row["tags"], tag])})


def delete_tag(call: Call) -> None:
    row = images.get_own(call.tx, call.context, call.params["image_id"], "untag")
    tag = call.params["tag_value"]
    if tag not in row["tags"]:
        raise NotFound(f"The image {row['id']} has no tag {tag}.")
    images.save(call.tx, row["id"], {"tags": [one for one in row["tags"] if one != tag]})


def list_members(call: Call) -> dict[str, Any]:
    rows = members.list_all(call.tx, call.context, call.params["image_id"])
    return {"members": [views.member(row) for row in rows], "schema": "/v2/schemas/members"}


def show_member(call: Call) -> dict[str, Any]:
    return views.member(members.get(call.tx, call.context, call.params["image_id"], call.params["member_id"]))


def _field(call: Call, name: str) -> str:
    value = call.body.get(name) if isinstance(call.body, dict) else None
    if not isinstance(value, str) or not value or len(value) > 255:
        raise BadRequest(f"Member {'status not specified' if name == 'status' else 'to be added not specified'}")
    return value


def add_member(call: Call) -> dict[str, Any]:
    return views.member(members.add(call.tx, call.context, call.params["image_id"], _field(call, "member")))


def update_member(call: Call) -> dict[str, Any]:
    status = _field(call, "status")
    if status not in ("pending", "accepted", "rejected"):
        raise BadRequest('Incorrect request: Status must be "pending", "accepted" or "rejected".')
    row = members.set_status(call.tx, call.context, call.params["image_id"], call.params["member_id"], status)
    return views.member(row)


def delete_member(call: Call) -> None:
    members.remove(call.tx, call.context, call.params["image_id"], call.params["member_id"])


# What the service says of itself


def schema(call: Call) -> dict[str, Any]:
    name = call.params["name"]
    if name not in schemas.SCHEMAS:
        raise NotFound("The resource could not be found.")
    return schemas.SCHEMAS[name]


def info_import(call: Call) -> dict[str, Any]:
    methods = call.services.imports.methods
    return {"import-methods": {"description": "Import methods available.", "type": "array", "value": methods}}


member_or_service = rule("rule:project_member_or_admin or rule:service_api")

# Where a rule depends on the image, images.py asks it of the row: another's private image is not there at all (404).
POLICY = {
    "get_images": project_reader,
    "get_image": project_reader,
    "add_image": project_member,
    "modify_image": project_member,
    "publicize_image": admin,
    "communitize_image": project_member,
    "delete_image": project_member,
    "upload_image": project_member,
    "download_image": project_member,
    "deactivate": project_member,
    "reactivate": project_member,
    "get_members": project_reader,
    "add_member": project_member,
    "modify_member": project_member,
    "delete_member": project_member,
    "delete_image_location": admin,
    "add_image_location": member_or_service,
    "fetch_image_location": admin_or_service,
    "stores_info_detail": admin,
    "tasks_api_access": admin,
    "get_schema": anyone,
    "get_info": anyone,
    **metadef_handlers.POLICY,
}

I = "/v2/images/{image_id}"  # noqa: E741
ROUTES = {
    "GET /": Route(versions, "", tx="none"),
    "GET /versions": Route(versions_ok, "", tx="none"),
    "GET /v2": Route(versions, "", tx="none"),
    "GET /v2/versions": Route(versions_ok, "", tx="none"),
    "GET /v2/images": Route(list_images, "get_images"),
    "POST /v2/images": Route(create_image, "add_image", 201),
    f"GET {I}": Route(show_image, "get_image", hidden=True),
    f"PATCH {I}": Route(update_image, "modify_image"),
    f"DELETE {I}": Route(delete_image, "delete_image", 204),
    f"PUT {I}/file": Route(upload, "upload_image", 204, tx="none", body="stream"),
    f"GET {I}/file": Route(download, "download_image", tx="none"),
    f"PUT {I}/stage": Route(stage, "upload_image", 204, tx="none", body="stream"),
    f"POST {I}/import": Route(import_image, "upload_image", 202),
    f"GET {I}/tasks": Route(image_tasks, "get_image", hidden=True),
    f"GET {I}/locations": Route(store_handlers.list_locations, "fetch_image_location"),
    f"POST {I}/locations": Route(store_handlers.add_location, "add_image_location", 202),
    f"POST {I}/actions/deactivate": Route(deactivate, "deactivate", 204),
    f"POST {I}/actions/reactivate": Route(reactivate, "reactivate", 204),
    f"PUT {I}/tags/{{tag_value}}": Route(put_tag, "modify_image", 204),
    f"DELETE {I}/tags/{{tag_value}}": Route(delete_tag, "modify_image", 204),
    f"GET {I}/members": Route(list_members, "get_members"),
    f"POST {I}/members": Route(add_member, "add_member"),
    f"GET {I}/members/{{member_id}}": Route(show_member, "get_members"),
    f"PUT {I}/members/{{member_id}}": Route(update_member, "modify_member"),
    f"DELETE {I}/members/{{member_id}}": Route(delete_member, "delete_member", 204),
    "GET /v2/schemas/{name}": Route(schema, "get_schema", tx="none"),
    "GET /v2/schemas/metadefs/{name}": Route(metadef_handlers.show_schema, "get_schema", tx="none"),
    "GET /v2/tasks": Route(tasks.index, "tasks_api_access"),
    "POST /v2/tasks": Route(create_task, "tasks_api_access", 201),
    "GET /v2/tasks/{task_id}": Route(tasks.show, "tasks_api_access"),
    "GET /v2/info/import": Route(info_import, "get_info", tx="none"),
    "GET /v2/info/usage": Route(quotas.show, "get_info"),
    "GET /v2/info/stores": Route(store_handlers.info_stores, "get_info", tx="none"),
    "GET /v2/info/stores/detail": Route(store_handlers.info_stores_detail, "stores_info_detail", tx="none"),
    "DELETE /v2/stores/{store_id}/{image_id}": Route(store_handlers.delete_from_store, "delete_image_location", 204),
    **metadef_handlers.ROUTES,
}

SERVICE = Service(
    prefix="image", routes=ROUTES, policy=POLICY, fault=faults.glance, exact_paths=True,
    parts=dict.fromkeys(("publicize_image", "communitize_image"), "POST /v2/images"),
)  # fmt: skip
