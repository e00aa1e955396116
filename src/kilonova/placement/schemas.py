"""The bodies placement takes, by microversion."""

import copy
from typing import Any

from kilonova.placement.providers import MAX_INT
from kilonova.web.call import Version

UUID_KEY = "^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$"
CLASS = "^[A-Z0-9_]+$"
UUID = {"type": "string", "format": "uuid"}
OWNER = {"type": "string", "minLength": 1, "maxLength": 255}


# Of one request, which takes its time for each, while nobody else writes: consumers, their providers and classes, traits,
# aggregates.
MOST = 1000


def record(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def mapping(pattern: str, value: dict[str, Any], least: int = 0) -> dict[str, Any]:
    """An object whose keys match `pattern`, `MOST` of them."""
    return {"type": "object", "maxProperties": MOST, "patternProperties": {pattern: value}, "minProperties": least,
            "additionalProperties": False}  # fmt: skip


def create_provider(version: Version) -> Any:
    properties: dict[str, Any] = {"name": {"type": "string", "maxLength": 200}, "uuid": UUID}
    if version >= (1, 14):
        properties["parent_provider_uuid"] = {"anyOf": [UUID, {"type": "null"}]}
    return record(properties, "name")


def update_provider(version: Version) -> Any:
    schema = create_provider(version)
    del schema["properties"]["uuid"]
    return schema


UNIT = {"type": "integer", "maximum": MAX_INT, "minimum": 1}
INVENTORY_FIELDS = {
    "total": UNIT, "reserved": {"type": "integer", "maximum": MAX_INT, "minimum": 0}, "min_unit": UNIT,
    "max_unit": UNIT, "step_size": UNIT, "allocation_ratio": {"type": "number", "minimum": 0, "maximum": 3.40282e38},
    "resource_provider_generation": {"type": "integer"},
}  # fmt: skip
CLASS_NAME = {"type": "string", "pattern": CLASS, "maxLength": 255}
INVENTORY = record(INVENTORY_FIELDS, "total", "resource_provider_generation")
NEW_INVENTORY = record({**INVENTORY_FIELDS, "resource_class": CLASS_NAME}, "resource_class", "total")
INVENTORIES = record(
    {
        "resource_provider_generation": {"type": "integer"},
        "inventories": mapping(
            CLASS, record({k: v for k, v in INVENTORY_FIELDS.items() if "generation" not in k}, "total")
        ),
    },
    "resource_provider_generation",
    "inventories",
)

USAGES = record(
    {"project_id": OWNER, "user_id": OWNER, "consumer_type": {**OWNER, "pattern": "^[A-Z0-9_]+$|^all|^unknown$"}},
    "project_id",
)  # of the query

CUSTOM_CLASS = record(
    {"name": {"type": "string", "pattern": "^CUSTOM_[A-Z0-9_]+$", "maxLength": 255}}, "name"
)  # fmt: skip
TRAITS = record(
    {
        "traits": {"type": "array", "maxItems": MOST, "items": {**CLASS_NAME, "minLength": 1}, "uniqueItems": True},
        "resource_provider_generation": {"type": "integer"},
    },
    "traits",
    "resource_provider_generation",
)
UUIDS = {"type": "array", "maxItems": MOST, "items": UUID, "uniqueItems": True}


def aggregates(version: Version) -> Any:
    if version < (1, 19):
        return UUIDS
    return record(
        {"aggregates": UUIDS, "resource_provider_generation": {"type": "integer"}},
        "aggregates", "resource_provider_generation",
    )  # fmt: skip


RESOURCES = mapping(CLASS, {"type": "integer", "minimum": 1, "maximum": MAX_INT}, least=1)


def allocation(version: Version, may_be_empty: bool | None = None) -> Any:
    """What one consumer shall hold. `may_be_empty` None: as PUT has it, from microversion 1.28 on."""
    if version < (1, 12):
        one = record({"resource_provider": record({"uuid": UUID}, "uuid"), "resources": RESOURCES},
                     "resource_provider", "resources")  # fmt: skip
        schema = record({"allocations": {"type": "array", "maxItems": MOST, "minItems": 1, "items": one}}, "allocations")
        if version >= (1, 8):
            schema["properties"] |= {"project_id": OWNER, "user_id": OWNER}
            schema["required"] += ["project_id", "user_id"]
        return schema
    if may_be_empty is None:
        may_be_empty = version >= (1, 28)
    one = record({"generation": {"type": "integer"}, "resources": RESOURCES}, "resources")
    schema = record(
        {"allocations": mapping(UUID_KEY, one, least=0 if may_be_empty else 1), "project_id": OWNER, "user_id": OWNER},
        "allocations", "project_id", "user_id",
    )  # fmt: skip
    if version >= (1, 28):
        schema["properties"]["consumer_generation"] = {"type": ["integer", "null"]}
        schema["required"].append("consumer_generation")
    if version >= (1, 34):
        group = {"type": "array", "minItems": 1, "items": UUID}
        schema["properties"]["mappings"] = {
            "type": "object", "minProperties": 1, "patternProperties": {"^[a-zA-Z0-9_-]{1,64}$": group},
        }  # fmt: skip
    if version >= (1, 38):
        schema["properties"]["consumer_type"] = {**CLASS_NAME, "minLength": 1}
        schema["required"].append("consumer_type")
    return schema


def allocations(version: Version) -> Any:
    return mapping(UUID_KEY, allocation(version, may_be_empty=True), least=1)


def reshape(version: Version) -> Any:
    consumers = copy.deepcopy(allocations(version))
    consumers["minProperties"] = 0
    return record(
        {"inventories": mapping(UUID_KEY, INVENTORIES, least=1), "allocations": consumers}, "inventories", "allocations"
    )
