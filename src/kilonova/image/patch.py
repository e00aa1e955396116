"""PATCH /v2/images/{id}: the limited JSON patch that Glance takes, in both its drafts."""

import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from kilonova.db.engine import Tx
from kilonova.image import images, quotas, schemas
from kilonova.image.tables import IMAGES
from kilonova.model.errors import BadRequest, Conflict, Forbidden, UnsupportedMediaType
from kilonova.web.call import Context
from kilonova.web.validate import check

Row = sa.RowMapping

DRAFTS = {"application/openstack-images-v2.0-json-patch": 4, "application/openstack-images-v2.1-json-patch": 10}
OPERATIONS = ("add", "remove", "replace")
MOST = 1000  # of one request: each is checked for itself, and meanwhile nobody else writes
READ_ONLY = {
    "created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url", "self", "file", "schema",
    "id", "os_hash_algo", "os_hash_value", "stores",
}  # fmt: skip
RESERVED = {"location", "deleted", "deleted_at"}
RESERVED_PREFIX = "os_glance"
OWN = {
    "name", "visibility", "protected", "os_hidden", "owner", "container_format", "disk_format", "min_disk", "min_ram",
    "tags",
}  # fmt: skip


@dataclass(frozen=True)
class Change:
    operation: str
    name: str
    value: Any
    draft: int


def parse(body: Any, content_type: str) -> list[Change]:
    """The changes asked for, each checked for itself."""
    draft = DRAFTS.get(content_type.partition(";")[0].strip().lower())
    if draft is None:
        raise UnsupportedMediaType(f"Image PATCH expects Content-Type one of: {', '.join(sorted(DRAFTS))}")
    if not isinstance(body, list):
        raise BadRequest("Request body must be a JSON array of operation objects.")
    if len(body) > MOST:
        raise BadRequest(f"The request has {len(body)} operations, of at most {MOST}.")
    return [_change(raw, draft) for raw in body]


def _change(raw: Any, draft: int) -> Change:
    if not isinstance(raw, dict):
        raise BadRequest("Operations must be JSON objects.")
    operation, pointer = _operation_10(raw) if draft == 10 else _operation_4(raw)
    path = _path(pointer)
    name = path[0]
    if name in READ_ONLY:
        raise Forbidden(f"Attribute '{name}' is read-only.")
    if name in RESERVED or name.startswith(RESERVED_PREFIX):
        raise Forbidden(f"Attribute '{name}' is reserved.")
    if name == "locations":
        raise Forbidden("It's not allowed to update locations if locations are invisible.")
    if len(path) != 1:
        raise BadRequest(f"Invalid JSON pointer for this resource: '/{'/'.join(path)}'")
    if operation == "remove":
        return Change(operation, name, None, draft)
    if "value" not in raw:
        raise BadRequest(f'Operation "{operation}" requires a member named "value".')
    check({name: raw["value"]}, schemas.CHECKED)
    return Change(operation, name, raw["value"], draft)


def _operation_10(raw: dict[str, Any]) -> tuple[str, Any]:
    known = ", ".join(OPERATIONS)
    if raw.get("op") is None:
        raise BadRequest(f"Unable to find `op` in JSON Schema change. It must be one of the following: {known}.")
    if raw["op"] not in OPERATIONS:
        raise BadRequest(f"Invalid operation: `{raw['op']}`. It must be one of the following: {known}.")
    if "path" not in raw:
        raise BadRequest("Unable to find 'path' in JSON Schema change")
    return raw["op"], raw["path"]


def _operation_4(raw: dict[str, Any]) -> tuple[str, Any]:
    present = [name for name in OPERATIONS if name in raw]
    if len(present) != 1:
        count = "exactly" if not present else "only"
        raise BadRequest(f'Operation objects must contain {count} one member named "add", "remove", or "replace".')
    return present[0], raw[present[0]]


def _path(pointer: Any) -> list[str]:
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        raise BadRequest(f'Pointer `{pointer}` does not start with "/".')
    if re.search(r"/\s*?/", pointer[1:]):
        raise BadRequest(f'Pointer `{pointer}` contains adjacent "/".')
    if len(pointer) > 1 and pointer.endswith("/"):
        raise BadRequest(f'Pointer `{pointer}` end with "/".')
    if not pointer[1:].strip() or pointer[1:].strip() == "/":
        raise BadRequest(f"Pointer `{pointer}` does not contains valid token.")
    if re.search("~[^01]", pointer) or pointer.endswith("~"):
        raise BadRequest(f'Pointer `{pointer}` contains "~" not part of a recognized escape sequence.')
    return [part.replace("~1", "/").replace("~0", "~").strip() for part in pointer.lstrip("/").split("/")]


def apply(tx: Tx, context: Context, image_id: str, changes: list[Change]) -> Row:
    """All changes or none; the image afterwards."""
    row = images.get_own(tx, context, image_id, "modify")
    own = {name: row[name] for name in OWN}
    properties = dict(row["properties"])
    for change in changes:
        if change.operation == "remove":
            _remove(change, own, properties)
        else:
            _set(change, own, properties, context, row)
    images.check_formats(own["disk_format"], own["container_format"])
    own["tags"] = sorted(set(own["tags"] or ()))
    new = properties.keys() - row["properties"].keys()
    quotas.check_counts(properties if new else (), own["tags"] if own["tags"] != row["tags"] else ())
    if changes:
        images.save(tx, row["id"], {**own, "properties": properties})
    changed = tx.first(sa.select(IMAGES).where(IMAGES.c.id == row["id"]))
    assert changed is not None
    return changed


def _remove(change: Change, own: dict[str, Any], properties: dict[str, str]) -> None:
    if change.name in own:
        raise Forbidden(f"Property {change.name} may not be removed.")
    if change.name not in properties:
        raise Conflict(f"Property {change.name} does not exist.")
    del properties[change.name]


def _set(change: Change, own: dict[str, Any], properties: dict[str, str], context: Context, row: Row) -> None:
    name, value = change.name, change.value
    if name == "owner" and not context.is_admin:
        raise Forbidden("Owner can't be updated by non admin.")
    if name == "visibility":
        images.check_visibility(context, value)
    # Glance lets them change while data are imported, too; but these are looked at for what they were said to be at first.
    if name in ("disk_format", "container_format") and value != row[name] and row["status"] != "queued":
        raise Forbidden(f"Attribute {name} can be only replaced for a queued image.")
    present = name in own or name in properties
    if change.operation == "add" and present and change.draft == 4:
        raise Conflict(f"Property {name} already present.")
    if change.operation == "replace" and not present:
        raise Conflict(f"Property {name} does not exist.")
    if name in own:
        own[name] = value
    else:
        if len(name) > 255:
            raise BadRequest("Custom property should not be greater than 255 characters.")
        properties[name] = value
