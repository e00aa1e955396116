"""Glance's schemas of metadata definitions: what requests are held against, and what GET /v2/schemas/metadefs/… answers."""

from typing import Any

NAME = {"type": "string", "minLength": 1, "maxLength": 80}
TYPES = ["array", "boolean", "integer", "number", "object", "string", None]
PROPERTY_FIELDS: dict[str, Any] = {
    "name": NAME,
    "title": {"type": "string"},
    "description": {"type": "string"},
    "operators": {"type": "array", "items": {"type": "string"}},
    "type": {"type": "string", "enum": TYPES},
    "required": {"$ref": "#/definitions/stringArray"},
    "minimum": {"type": "number"},
    "maximum": {"type": "number"},
    "maxLength": {"$ref": "#/definitions/positiveInteger"},
    "minLength": {"$ref": "#/definitions/positiveIntegerDefault0"},
    "pattern": {"type": "string", "format": "regex"},
    "enum": {"type": "array"},
    "readonly": {"type": "boolean"},
    "default": {},
    "items": {
        "type": "object",
        "properties": {"type": {"type": "string", "enum": TYPES}, "enum": {"type": "array"}},
    },
    "maxItems": {"$ref": "#/definitions/positiveInteger"},
    "minItems": {"$ref": "#/definitions/positiveIntegerDefault0"},
    "uniqueItems": {"type": "boolean", "default": False},
    "additionalItems": {"type": "boolean"},
}
DEFINITIONS: dict[str, Any] = {
    "positiveInteger": {"type": "integer", "minimum": 0},
    "positiveIntegerDefault0": {"allOf": [{"$ref": "#/definitions/positiveInteger"}, {"default": 0}]},
    "stringArray": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    "property": {
        "type": "object",
        "propertyNames": NAME,
        "additionalProperties": {
            "type": "object",
            "required": ["title", "type"],
            "properties": PROPERTY_FIELDS,
            "additionalProperties": False,
        },
    },
}


def _time(about: str) -> dict[str, Any]:
    return {"type": "string", "readOnly": True, "description": about, "format": "date-time"}


READ_ONLY: dict[str, Any] = {
    "created_at": _time("Date and time of creation"),
    "updated_at": _time("Date and time of the last modification"),
}
LINKS: dict[str, Any] = {
    "self": {"type": "string", "readOnly": True},
    "schema": {"type": "string", "readOnly": True},
}


def _schema(name: str, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        "definitions": DEFINITIONS,
    }


OBJECT_FIELDS: dict[str, Any] = {
    "name": NAME,
    "description": {"type": "string"},
    "required": {"$ref": "#/definitions/stringArray"},
    "properties": {"$ref": "#/definitions/property"},
}
RESOURCE_TYPE_FIELDS: dict[str, Any] = {
    "name": {**NAME, "description": "Resource type names should be aligned with Heat resource types whenever possible"},
    "prefix": {"type": "string", "maxLength": 80,
               "description": "The prefix of the namespace's properties when applied to this resource type, separator "
                              "included."},
    "properties_target": {"type": "string", "maxLength": 80,
                          "description": "Which of a resource's several groups of keys and values is meant: Cinder's "
                                         "volumes have metadata of the user and of the image."},
}  # fmt: skip
NAMESPACE_FIELDS: dict[str, Any] = {
    "namespace": {**NAME, "description": "The unique namespace text."},
    "display_name": {"type": "string", "maxLength": 80, "description": "The user friendly name for the namespace."},
    "description": {"type": "string", "maxLength": 500,
                    "description": "Provides a user friendly description of the namespace."},
    "visibility": {"type": "string", "enum": ["public", "private"], "description": "Scope of namespace accessibility."},
    "protected": {"type": "boolean", "description": "If true, namespace will not be deletable."},
    "owner": {"type": "string", "maxLength": 255, "description": "Owner of the namespace."},
    "resource_type_associations": {
        "type": "array",
        "items": {"type": "object", "properties": RESOURCE_TYPE_FIELDS, "required": ["name"],
                  "additionalProperties": False},
    },
    "properties": {"$ref": "#/definitions/property"},
    "objects": {
        "type": "array",
        "items": {"type": "object", "properties": OBJECT_FIELDS, "required": ["name"], "additionalProperties": False},
    },
    "tags": {
        "type": "array",
        "items": {"type": "object", "properties": {"name": NAME}, "required": ["name"], "additionalProperties": False},
    },
}  # fmt: skip

NAMESPACE = _schema("namespace", {**NAMESPACE_FIELDS, **READ_ONLY, **LINKS}, ["namespace"])
OBJECT = _schema("object", {**OBJECT_FIELDS, **READ_ONLY, **LINKS}, ["name"])
# By itself, a property that requires others names one (glance/api/v2/metadef_properties.py); within a namespace it need not.
SOME = {**DEFINITIONS, "stringArray": {**DEFINITIONS["stringArray"], "minItems": 1}}
PROPERTY = _schema("property", PROPERTY_FIELDS, ["type", "title", "name"]) | {"definitions": SOME}
RESOURCE_TYPE = _schema("resource_type_association", {**RESOURCE_TYPE_FIELDS, **READ_ONLY}, ["name"])
TAG = _schema("tag", {"name": NAME, **READ_ONLY}, ["name"])
TAGS = {
    "type": "object",
    "properties": {"tags": NAMESPACE_FIELDS["tags"]},
    "required": ["tags"],
    "additionalProperties": False,
}


def _collection(name: str, item: dict[str, Any], kind: str = "array", key: str = "items") -> dict[str, Any]:
    bare = {each: value for each, value in item.items() if each != "definitions"}
    text = {"type": "string"}
    return {
        "name": name,
        "properties": {name: {"type": kind, key: bare}, "first": text, "next": text, "schema": text},
        "links": [
            {"rel": "first", "href": "{first}"},
            {"rel": "next", "href": "{next}"},
            {"rel": "describedby", "href": "{schema}"},
        ],
        "definitions": DEFINITIONS,
    }


SCHEMAS = {
    "namespace": NAMESPACE,
    "namespaces": _collection("namespaces", NAMESPACE),
    "object": OBJECT,
    "objects": _collection("objects", OBJECT),
    "property": PROPERTY,
    "properties": _collection(
        "properties", {**PROPERTY, "required": ["type", "title"]}, "object", "additionalProperties"
    ),
    "resource_type": RESOURCE_TYPE,
    "resource_types": _collection("resource_type_associations", RESOURCE_TYPE),
    "tag": TAG,
    "tags": _collection("tags", TAG),
}
