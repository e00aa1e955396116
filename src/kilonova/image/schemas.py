"""Glance's own schemas: what it takes, and what GET /v2/schemas/… answers."""

import copy
from typing import Any

CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
DISK_FORMATS = ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop")
STATUSES = ("queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete",
            "deactivated")  # fmt: skip
UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"
MAX_INT = 0x7FFFFFFF


def _text(about: str, nullable: bool = True, **more: Any) -> dict[str, Any]:
    return {"type": ["null", "string"] if nullable else "string", "description": about, **more}


def _read_only(about: str, kind: Any = "string", **more: Any) -> dict[str, Any]:
    return {"type": kind, "readOnly": True, "description": about, **more}


LOCATION = {
    "type": "object",
    "required": ["url", "metadata"],
    "properties": {
        "url": {"type": "string", "maxLength": 255},
        "metadata": {"type": "object"},
        "validation_data": {
            "description": "Values to be used to populate the corresponding image properties.",
            "type": "object",
            "writeOnly": True,
            "additionalProperties": False,
            "required": ["os_hash_algo", "os_hash_value"],
            "properties": {
                "checksum": {"type": "string", "minLength": 32, "maxLength": 32},
                "os_hash_algo": {"type": "string", "maxLength": 64},
                "os_hash_value": {"type": "string", "maxLength": 128},
            },
        },
    },
}

IMAGE_PROPERTIES: dict[str, Any] = {
    "id": {"type": "string", "description": "An identifier for the image", "pattern": UUID},
    "name": _text("Descriptive name for the image", maxLength=255),
    "status": _read_only("Status of the image", enum=list(STATUSES)),
    "visibility": {"type": "string", "description": "Scope of image accessibility",
                   "enum": ["community", "public", "private", "shared"]},
    "protected": {"type": "boolean", "description": "If true, image will not be deletable."},
    "os_hidden": {"type": "boolean", "description": "If true, image will not appear in default image list response."},
    "checksum": _read_only("md5 hash of image contents.", ["null", "string"], maxLength=32),
    "os_hash_algo": _read_only("Algorithm to calculate the os_hash_value", ["null", "string"], maxLength=64),
    "os_hash_value": _read_only("Hexdigest of the image contents using the algorithm specified by the os_hash_algo",
                                ["null", "string"], maxLength=128),
    "owner": _text("Owner of the image", maxLength=255),
    "size": _read_only("Size of image file in bytes", ["null", "integer"]),
    "virtual_size": _read_only("Virtual size of image in bytes", ["null", "integer"]),
    "container_format": _text("Format of the container", enum=[None, *CONTAINER_FORMATS]),
    "disk_format": _text("Format of the disk", enum=[None, *DISK_FORMATS]),
    "created_at": _read_only("Date and time of image registration"),
    "updated_at": _read_only("Date and time of the last image modification"),
    "tags": {"type": "array", "description": "List of strings related to the image",
             "items": {"type": "string", "maxLength": 255}},
    "direct_url": _read_only("URL to access the image file kept in external store"),
    "min_ram": {"type": "integer", "description": "Amount of ram (in MB) required to boot image."},
    "min_disk": {"type": "integer", "description": "Amount of disk space (in GB) required to boot image."},
    "self": _read_only("An image self url"),
    "file": _read_only("An image file url"),
    "stores": _read_only("Store in which image data resides.  Only present when the operator has enabled multiple "
                         "stores.  May be a comma-separated list of store identifiers."),
    "schema": _read_only("An image schema url"),
    "locations": {"type": "array", "items": LOCATION,
                  "description": "A set of URLs to access the image file kept in external store"},
}  # fmt: skip

IMAGE: dict[str, Any] = {
    "name": "image",
    "properties": IMAGE_PROPERTIES,
    "additionalProperties": {"type": "string"},
    "links": [
        {"rel": "self", "href": "{self}"},
        {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ],
}

MEMBER: dict[str, Any] = {
    "name": "member",
    "properties": {
        "member_id": {"type": "string", "description": "An identifier for the image member (tenantId)"},
        "image_id": {"type": "string", "description": "An identifier for the image", "pattern": UUID},
        "created_at": {"type": "string", "description": "Date and time of image member creation"},
        "updated_at": {"type": "string", "description": "Date and time of last modification of image member"},
        "status": {"type": "string", "description": "The status of this image member",
                   "enum": ["pending", "accepted", "rejected"]},
        "schema": {"readOnly": True, "type": "string"},
    },
}  # fmt: skip


TASK: dict[str, Any] = {
    "name": "task",
    "properties": {
        "id": {"type": "string", "description": "An identifier for the task", "pattern": UUID},
        "type": {"type": "string", "description": "The type of task represented by this content",
                 "enum": ["import", "api_image_import", "location_import"]},
        "status": {"type": "string", "description": "The current status of this task",
                   "enum": ["pending", "processing", "success", "failure"]},
        "input": {"type": ["null", "object"], "description": "The parameters required by task, JSON blob"},
        "result": {"type": ["null", "object"], "description": "The result of current task, JSON blob"},
        "owner": {"type": "string", "description": "An identifier for the owner of this task"},
        "message": {"type": "string",
                    "description": "Human-readable informative message only included when appropriate (usually on "
                                   "failure)"},
        "image_id": {"type": "string", "description": "Image associated with the task"},
        "request_id": {"type": "string", "description": "Human-readable informative request-id"},
        "user_id": {"type": "string", "description": "User associated with the task"},
        "expires_at": {"type": ["null", "string"],
                       "description": "Datetime when this resource would be subject to removal"},
        "created_at": {"type": "string", "description": "Datetime when this resource was created"},
        "updated_at": {"type": "string", "description": "Datetime when this resource was updated"},
        "self": {"readOnly": True, "type": "string"},
        "schema": {"readOnly": True, "type": "string"},
    },
    "additionalProperties": False,
}  # fmt: skip
BRIEF_TASK = {
    **TASK, "properties": {key: TASK["properties"][key] for key in TASK["properties"]
                           if key not in ("input", "result", "message")},
}  # fmt: skip


def _collection(name: str, item: dict[str, Any], paged: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {name: {"type": "array", "items": item}}
    links = []
    for key in ("first", "next") if paged else ():
        properties[key] = {"type": "string"}
        links.append({"rel": key, "href": f"{{{key}}}"})
    properties["schema"] = {"type": "string"}
    return {"name": name, "properties": properties, "links": [*links, {"rel": "describedby", "href": "{schema}"}]}


SCHEMAS = {
    "image": IMAGE,
    "images": _collection("images", IMAGE, paged=True),
    "member": MEMBER,
    "members": _collection("members", MEMBER, paged=False),
    "task": TASK,
    "tasks": _collection("tasks", BRIEF_TASK, paged=True),
}

# What is checked of a request: the same, with the bounds that Glance checks in code.
CHECKED = copy.deepcopy({key: IMAGE[key] for key in ("properties", "additionalProperties")}) | {"type": "object"}
for _name in ("min_ram", "min_disk"):
    CHECKED["properties"][_name] |= {"minimum": 0, "maximum": MAX_INT}
TASK_REQUEST = {
    "type": "object",
    "properties": {
        "type": {"enum": ["import"]},
        "input": {
            "type": "object",
            "properties": {
                "import_from": {"type": "string"},
                "import_from_format": {"type": "string"},
                "image_properties": {"type": "object"},
            },
        },
    },
    "additionalProperties": False,
}
ADD_LOCATION = {
    "type": "object",
    "required": ["url"],
    "properties": {
        "url": {"type": "string"},
        "validation_data": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "os_hash_algo": {"type": "string", "maxLength": 64, "enum": ["sha1", "sha256", "sha512", "md5"]},
                "os_hash_value": {"type": "string", "maxLength": 128},
            },
            "dependentRequired": {"os_hash_value": ["os_hash_algo"], "os_hash_algo": ["os_hash_value"]},
        },
    },
}
