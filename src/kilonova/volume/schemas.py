"""Request bodies (Cinder: cinder/api/schemas)."""

from typing import Any

from kilonova.web.call import Version

Schema = dict[str, Any]
MAX_INT = 0x7FFFFFFF
MOST_QUOTAS = 10_000  # three a volume type
MOST_METADATA = 256  # Cinder has no such limit; each list in detail has all of all volumes. Images may have 128

NAME: Schema = {"type": ["string", "null"], "maxLength": 255}
REQUIRED_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"\S"}
UUID: Schema = {"type": "string", "format": "uuid"}
UUID_OR_NULL: Schema = {"type": ["string", "null"], "format": "uuid"}
BOOLEAN: Schema = {"enum": [True, False, "True", "False", "true", "false", "TRUE", "FALSE", "1", "0", "t", "f", "T",
                            "F", "on", "off", "ON", "OFF", "On", "Off", "yes", "no", "YES", "NO", "Yes", "No", "y", "n"]}  # fmt: skip  # noqa: E501
SIZE: Schema = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_INT},
                          {"type": "string", "pattern": "^0*[1-9][0-9]{0,8}$"}]}  # fmt: skip
METADATA: Schema = {
    "type": ["object", "null"],
    "maxProperties": MOST_METADATA,
    "patternProperties": {"^[^\n]{1,255}$": {"type": "string", "maxLength": 255}},
    "additionalProperties": False,
}
EXTRA_SPECS: Schema = {
    "type": "object",
    "patternProperties": {r"^[a-zA-Z0-9-_:. /]{1,255}$": {"type": ["string", "null"], "maxLength": 255}},
    "additionalProperties": False,
}
STATUS: Schema = {"type": ["string", "null"]}


def closed(properties: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def wrapped(name: str, inner: Schema, **more: Schema) -> Schema:
    return {"type": "object", "properties": {name: inner, **more}, "required": [name], "additionalProperties": False}


def opened(properties: dict[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": True}


def create_volume(version: Version) -> Schema:
    minor = version[1]
    properties: dict[str, Schema] = {
        "name": NAME, "description": NAME, "display_name": NAME, "display_description": NAME,
        "size": {"anyOf": [*SIZE["anyOf"], {"type": "null"}]}, "volume_type": NAME, "metadata": METADATA,
        "snapshot_id": UUID_OR_NULL, "source_volid": UUID_OR_NULL, "consistencygroup_id": UUID_OR_NULL,
        "availability_zone": NAME, "imageRef": {"type": ["string", "null"]}, "image_id": {"type": ["string", "null"]},
        "multiattach": {"enum": [*BOOLEAN["enum"], None]}, "OS-SCH-HNT:scheduler_hints": {"type": ["object", "null"]},
    }  # fmt: skip
    if minor >= 13:
        properties["group_id"] = UUID_OR_NULL
    if minor >= 47:
        properties["backup_id"] = UUID_OR_NULL
    inner = closed(properties) if minor >= 53 else opened(properties)
    return wrapped("volume", inner, **{"OS-SCH-HNT:scheduler_hints": {"type": ["object", "null"]}})


def update_volume(version: Version) -> Schema:
    properties = {"name": NAME, "description": NAME, "display_name": NAME, "display_description": NAME,
                  "metadata": METADATA}  # fmt: skip
    inner = closed(properties) if version[1] >= 53 else opened(properties)
    return wrapped("volume", inner | {"minProperties": 1} if version[1] >= 53 else inner)


METADATA_BODY = wrapped("metadata", {**METADATA, "type": "object"})
META_BODY = wrapped("meta", {**METADATA, "type": "object", "minProperties": 1, "maxProperties": 1})

CREATE_SNAPSHOT = wrapped(
    "snapshot",
    opened({"name": NAME, "description": NAME, "display_name": NAME, "display_description": NAME, "volume_id": UUID_OR_NULL,
            "force": {"enum": [*BOOLEAN["enum"], None]}, "metadata": METADATA}),
)  # fmt: skip
UPDATE_SNAPSHOT = wrapped(
    "snapshot", opened({"name": NAME, "description": NAME, "display_name": NAME, "display_description": NAME})
)

CREATE_TYPE = wrapped(
    "volume_type",
    opened({"name": REQUIRED_NAME, "description": NAME, "extra_specs": {**EXTRA_SPECS, "type": ["object", "null"]},
            "os-volume-type-access:is_public": BOOLEAN}, ("name",)),
)  # fmt: skip
UPDATE_TYPE = wrapped("volume_type", opened({"name": NAME, "description": NAME, "is_public": BOOLEAN}))
EXTRA_SPECS_BODY = wrapped("extra_specs", {**EXTRA_SPECS})
ONE_EXTRA_SPEC = {**EXTRA_SPECS, "minProperties": 1, "maxProperties": 1}
DEFAULT_TYPE = wrapped("default_type", closed({"volume_type": REQUIRED_NAME}, ("volume_type",)))

CREATE_QOS = wrapped("qos_specs", {"type": "object", "properties": {"name": REQUIRED_NAME}, "required": ["name"]})
UPDATE_QOS = wrapped("qos_specs", {**EXTRA_SPECS, "minProperties": 1})  # create takes any key, as in Cinder
QOS_KEYS = wrapped("keys", {"type": "array", "items": {"type": "string", "maxLength": 255}})

QUOTA_SET = wrapped(
    "quota_set",
    {"type": "object", "minProperties": 1, "maxProperties": MOST_QUOTAS,
     "additionalProperties": {"anyOf": [{"type": "integer", "minimum": -1, "maximum": MAX_INT},
                                        {"type": "string", "pattern": "^-1$|^[0-9]{1,9}$"}]},
     "properties": {"tenant_id": {}, "project_id": {}, "id": {}}},
)  # fmt: skip
QUOTA_CLASS = wrapped(
    "quota_class_set",
    {"type": "object", "maxProperties": MOST_QUOTAS,
     "additionalProperties": {"anyOf": [{"type": "integer", "minimum": -1, "maximum": MAX_INT},
                                        {"type": "string", "pattern": "^-1$|^[0-9]{1,9}$"}]},
     "properties": {"class_name": {}, "id": {}}},
)  # fmt: skip

CREATE_BACKUP = wrapped(
    "backup",
    opened({"volume_id": UUID, "name": NAME, "description": NAME, "container": NAME, "snapshot_id": UUID_OR_NULL,
            "incremental": {"enum": [*BOOLEAN["enum"], None]}, "force": {"enum": [*BOOLEAN["enum"], None]},
            "metadata": METADATA, "availability_zone": NAME}, ("volume_id",)),
)  # fmt: skip
UPDATE_BACKUP = wrapped("backup", {**opened({"name": NAME, "description": NAME, "metadata": METADATA}),
                                   "minProperties": 1})  # fmt: skip
RESTORE_BACKUP = wrapped("restore", opened({"name": NAME, "volume_id": UUID_OR_NULL}))
IMPORT_BACKUP = wrapped(
    "backup-record",
    opened({"backup_service": REQUIRED_NAME, "backup_url": {"type": "string", "minLength": 1}},
           ("backup_service", "backup_url")),
)  # fmt: skip

CREATE_TRANSFER = wrapped(
    "transfer", opened({"volume_id": UUID, "name": NAME, "no_snapshots": BOOLEAN}, ("volume_id",))
)
ACCEPT_TRANSFER = wrapped("accept", opened({"auth_key": {"type": "string", "minLength": 1}}, ("auth_key",)))

CONNECTOR: Schema = {"type": ["object", "null"]}
CREATE_ATTACHMENT = wrapped(
    "attachment",
    opened({"instance_uuid": UUID_OR_NULL, "volume_uuid": UUID, "connector": CONNECTOR,
            "mode": {"type": ["string", "null"], "enum": ["rw", "ro", None]}}, ("volume_uuid",)),
)  # fmt: skip
UPDATE_ATTACHMENT = wrapped("attachment", opened({"connector": {"type": "object", "minProperties": 1}}, ("connector",)))

CREATE_GROUP_TYPE = wrapped(
    "group_type",
    opened({"name": REQUIRED_NAME, "description": NAME, "is_public": BOOLEAN,
            "group_specs": {**EXTRA_SPECS, "type": ["object", "null"]}}, ("name",)),
)  # fmt: skip
UPDATE_GROUP_TYPE = wrapped("group_type", opened({"name": NAME, "description": NAME, "is_public": BOOLEAN}))
GROUP_SPECS = wrapped("group_specs", EXTRA_SPECS)
CREATE_GROUP = wrapped(
    "group",
    opened({"name": NAME, "description": NAME, "group_type": REQUIRED_NAME, "availability_zone": NAME,
            "volume_types": {"type": "array", "minItems": 1, "items": REQUIRED_NAME}}, ("group_type", "volume_types")),
)  # fmt: skip
UPDATE_GROUP = wrapped(
    "group", {**opened({"name": NAME, "description": NAME, "add_volumes": {"type": ["string", "null"]},
                        "remove_volumes": {"type": ["string", "null"]}}), "minProperties": 1},
)  # fmt: skip
GROUP_ACTION = {
    "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False,
    "properties": {
        "delete": closed({"delete-volumes": BOOLEAN}),
        "reset_status": closed({"status": REQUIRED_NAME}, ("status",)),
        "create-from-src": opened({"name": NAME, "description": NAME,  # openstacksdk sends null for the other source
                                   "group_snapshot_id": UUID_OR_NULL, "source_group_id": UUID_OR_NULL}),
        "enable_replication": {}, "disable_replication": {}, "failover_replication": {},
        "list_replication_targets": {},
    },
}  # fmt: skip
CREATE_GROUP_SNAPSHOT = wrapped(
    "group_snapshot", opened({"group_id": UUID, "name": NAME, "description": NAME}, ("group_id",))
)
GROUP_SNAPSHOT_ACTION = closed({"reset_status": closed({"status": REQUIRED_NAME}, ("status",))}, ("reset_status",))

SERVICE = opened({"binary": {"type": "string", "minLength": 1, "maxLength": 255},
                  "service": {"type": "string", "minLength": 1, "maxLength": 255},
                  "host": {"type": "string", "minLength": 1, "maxLength": 255}}, ("host",))  # fmt: skip
SERVICE_REASON = {**SERVICE, "properties": {**SERVICE["properties"], "disabled_reason": {
    "type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^\S.*$"}},
    "required": ["host", "disabled_reason"]}  # fmt: skip
MANAGE_VOLUME = wrapped(
    "volume",
    opened({"host": {"type": ["string", "null"]}, "cluster": {}, "ref": {"type": "object"}, "name": NAME,
            "description": NAME, "volume_type": NAME, "metadata": METADATA, "availability_zone": NAME,
            "bootable": {"enum": [*BOOLEAN["enum"], None]}}, ("ref", "host")),
)  # fmt: skip
MANAGE_SNAPSHOT = wrapped(
    "snapshot",
    opened({"volume_id": UUID, "ref": {"type": ["object", "string"]}, "name": NAME, "description": NAME,
            "metadata": METADATA}, ("volume_id", "ref")),
)  # fmt: skip
