"""Request bodies, by microversion (Nova: api/openstack/compute/schemas)."""

from typing import Any

from kilonova.web.call import Version

NAME = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": r"^(?!\s)[^\x00-\x1f\x7f-\x9f\u2028\u2029]+(?<!\s)\Z",
}
LOOSE_NAME = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"\S"}
TEXT = {"type": ["string", "null"], "maxLength": 255}
BOOLEAN = {
    "type": ["boolean", "string"],
    "enum": [True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t",
             False, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f"],
}  # fmt: skip
# Numbers may come as text, of nine digits at most: no bound of JSON schema holds for text.
POSITIVE = {"type": ["integer", "string"], "pattern": r"^(?=.*[1-9])[0-9]{1,9}\Z", "minimum": 1, "maximum": 2147483647}
NON_NEGATIVE = {"type": ["integer", "string"], "pattern": r"^[0-9]{1,9}\Z", "minimum": 0, "maximum": 2147483647}
IP = {"oneOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}]}
METADATA = {
    "type": "object",
    "propertyNames": {"pattern": r"^[a-zA-Z0-9-_:. ]{1,255}\Z"},
    "additionalProperties": {"type": "string", "maxLength": 255},
}
TAG = {"type": "string", "minLength": 1, "maxLength": 60, "pattern": r"^[^,/]*\Z"}
HOSTNAME = {"type": "string", "minLength": 1, "maxLength": 63, "pattern": r"^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+\Z"}
FQDN = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[a-zA-Z0-9\-._]*\Z"}
DISK_CONFIG = {"type": "string", "enum": ["AUTO", "MANUAL"]}
ACCESS_IPV4 = {"type": "string", "anyOf": [{"format": "ipv4"}, {"const": ""}]}
ACCESS_IPV6 = {"type": "string", "anyOf": [{"format": "ipv6"}, {"const": ""}]}


def closed(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


PERSONALITY = {"type": "array", "items": closed({"path": {"type": "string"}, "contents": {"type": "string"}})}
TRUSTED_CERTIFICATES = {
    "type": ["array", "null"], "minItems": 1, "maxItems": 50, "uniqueItems": True,
    "items": {"type": "string", "minLength": 1},
}  # fmt: skip


def _devices(minor: int) -> dict[str, Any]:
    word = {"type": "string", "maxLength": 255}
    properties: dict[str, Any] = {
        "virtual_name": word,
        "volume_id": {"type": "string", "format": "uuid"},
        "snapshot_id": {"type": "string", "format": "uuid"},
        "image_id": {"type": "string", "format": "uuid"},
        "volume_size": {
            "type": ["integer", "string"],
            "pattern": r"^[0-9]{1,9}\Z",
            "minimum": 0,
            "maximum": 2147483647,
        },
        "device_name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[a-zA-Z0-9._/-]*\Z"},
        "delete_on_termination": BOOLEAN,
        "no_device": {},
        "connection_info": {"type": "string", "maxLength": 16777215},
        "source_type": {"type": "string", "enum": ["volume", "image", "snapshot", "blank"]},
        "uuid": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[a-zA-Z0-9._-]*\Z"},
        "destination_type": {"type": "string", "enum": ["local", "volume"]},
        "guest_format": word,
        "device_type": word,
        "disk_bus": word,
        "boot_index": {"type": ["integer", "string", "null"], "pattern": r"^-?[0-9]{1,9}\Z"},
    }
    if minor == 32 or minor >= 42:
        properties["tag"] = TAG
    if minor >= 67:
        properties["volume_type"] = {"type": ["string", "null"], "minLength": 0, "maxLength": 255}
    return {"type": "array", "items": closed(properties)}


def _networks(minor: int) -> dict[str, Any]:
    uuid: dict[str, Any] = {"type": "string", "format": "uuid"} if minor >= 37 else {"type": "string"}
    item: dict[str, Any] = {"fixed_ip": IP, "port": {"type": ["string", "null"], "format": "uuid"}, "uuid": uuid}
    if 32 <= minor < 37 or minor >= 42:
        item["tag"] = TAG
    listed = {"type": "array", "items": closed(item)}
    return {"oneOf": [listed, {"type": "string", "enum": ["none", "auto"]}]} if minor >= 37 else listed


def _one_or_more(item: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [{"type": "array", "items": item}, item]}


HINTS = {
    "type": "object",
    "properties": {
        "group": _one_or_more({"type": "string", "format": "uuid"}),
        "different_host": _one_or_more({"type": "string", "format": "uuid"}),
        "same_host": {"type": ["string", "array"], "items": {"type": "string", "format": "uuid"}},
        "query": {"type": ["string", "object"]},
        "target_cell": NAME,
        "different_cell": {"type": ["string", "array"], "items": {"type": "string"}},
        "build_near_host_ip": IP,
        "cidr": {"type": "string", "pattern": r"^/[0-9a-f.:]+\Z"},
    },
    "additionalProperties": True,  # other hints are for filters that an administrator may have added
}


def create_server(version: Version) -> dict[str, Any]:
    minor = version[1]
    properties: dict[str, Any] = {
        "name": NAME,
        "imageRef": {"oneOf": [{"type": "string", "format": "uuid"}, {"const": ""}]},
        "flavorRef": {"type": ["string", "integer"], "minLength": 1},
        "adminPass": {"type": "string", "maxLength": 255},
        "metadata": METADATA,
        "networks": _networks(minor),
        "OS-DCF:diskConfig": DISK_CONFIG,
        "accessIPv4": ACCESS_IPV4,
        "accessIPv6": ACCESS_IPV6,
        "availability_zone": NAME,
        "block_device_mapping": {"type": "array", "items": {"type": "object"}},
        "block_device_mapping_v2": _devices(minor),
        "config_drive": BOOLEAN,
        "key_name": NAME,
        "min_count": POSITIVE,
        "max_count": POSITIVE,
        "return_reservation_id": BOOLEAN,
        "security_groups": {"type": "array", "items": closed({"name": NAME})},
        "user_data": {"type": "string", "maxLength": 65535},
    }
    if minor < 57:
        properties["personality"] = PERSONALITY
    if minor >= 19:
        properties["description"] = TEXT
    if minor >= 52:
        properties["tags"] = {"type": "array", "items": TAG, "maxItems": 50}
    if minor >= 63:
        properties["trusted_image_certificates"] = TRUSTED_CERTIFICATES
    if minor >= 74:
        properties |= {"host": FQDN, "hypervisor_hostname": FQDN}
    if minor >= 90:
        properties["hostname"] = FQDN if minor >= 94 else HOSTNAME
    required = ("name", "flavorRef", "networks") if minor >= 37 else ("name", "flavorRef")
    return closed(
        {"server": closed(properties, required), "os:scheduler_hints": HINTS, "OS-SCH-HNT:scheduler_hints": HINTS},
        ("server",),
    )


def update_server(version: Version) -> dict[str, Any]:
    minor = version[1]
    properties: dict[str, Any] = {
        "name": NAME, "OS-DCF:diskConfig": DISK_CONFIG, "accessIPv4": ACCESS_IPV4, "accessIPv6": ACCESS_IPV6,
    }  # fmt: skip
    if minor >= 19:
        properties["description"] = TEXT
    if minor >= 90:
        properties["hostname"] = FQDN if minor >= 94 else HOSTNAME
    if minor >= 104:
        properties["pinned_availability_zone"] = TEXT | {"minLength": 1}
    return closed({"server": closed(properties)}, ("server",))


SET_METADATA = closed({"metadata": METADATA}, ("metadata",))
SET_METADATUM = closed({"meta": METADATA | {"minProperties": 1, "maxProperties": 1}}, ("meta",))
SET_TAGS = closed({"tags": {"type": "array", "items": TAG, "maxItems": 50}}, ("tags",))


def create_flavor(version: Version) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "name": LOOSE_NAME,
        "id": {"type": ["string", "number", "null"], "minLength": 1, "maxLength": 255,
               "pattern": r"^(?! )[a-zA-Z0-9. _-]+(?<! )\Z"},
        "ram": POSITIVE,
        "vcpus": POSITIVE,
        "disk": NON_NEGATIVE,
        "OS-FLV-EXT-DATA:ephemeral": NON_NEGATIVE,
        "swap": NON_NEGATIVE,
        "os-flavor-access:is_public": BOOLEAN,
    }  # fmt: skip
    if version < (2, 102):
        properties["rxtx_factor"] = {
            "type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]+)?\Z", "exclusiveMinimum": 0,
            "maximum": 3.40282e+38,
        }  # fmt: skip
    if version >= (2, 55):
        properties["description"] = {"type": ["string", "null"], "maxLength": 65535}
    return closed({"flavor": closed(properties, ("name", "ram", "vcpus", "disk"))}, ("flavor",))


UPDATE_FLAVOR = closed(
    {"flavor": closed({"description": {"type": ["string", "null"], "maxLength": 65535}}, ("description",))}, ("flavor",)
)
_SPECS = {
    "type": "object",
    "propertyNames": {"pattern": r"^[a-zA-Z0-9-_:. ]{1,255}\Z"},
    "additionalProperties": {"type": ["string", "number"], "maxLength": 255},
}
SET_EXTRA_SPECS = closed({"extra_specs": _SPECS}, ("extra_specs",))
SET_EXTRA_SPEC = _SPECS | {"minProperties": 1, "maxProperties": 1}
_PROJECT = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[a-zA-Z0-9-]*\Z"}
_TENANT = closed({"tenant": _PROJECT}, ("tenant",))
FLAVOR_ACTION = {
    "oneOf": [
        closed({"addTenantAccess": _TENANT}, ("addTenantAccess",)),
        closed({"removeTenantAccess": _TENANT}, ("removeTenantAccess",)),
    ]
}


def create_keypair(version: Version) -> dict[str, Any]:
    properties: dict[str, Any] = {"name": NAME, "public_key": {"type": "string"}}
    if version >= (2, 2):
        properties["type"] = {"type": "string", "enum": ["ssh", "x509"]}
    if version >= (2, 10):
        properties["user_id"] = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[a-zA-Z0-9-]*\Z"}
    required = ("name", "public_key") if version >= (2, 92) else ("name",)
    return closed({"keypair": closed(properties, required)}, ("keypair",))


LIMIT = {"type": ["integer", "string"], "pattern": r"^(-1|[0-9]{1,9})\Z", "minimum": -1, "maximum": 2147483647}


def update_service(version: Version) -> dict[str, Any]:
    return closed(
        {
            "status": {"type": "string", "enum": ["enabled", "disabled"]},
            "disabled_reason": {"type": "string", "minLength": 1, "maxLength": 255},
            "forced_down": BOOLEAN,
        }
    )


def service_action(version: Version) -> dict[str, Any]:
    """PUT /os-services/enable and its siblings, before 2.53."""
    properties: dict[str, Any] = {
        "host": FQDN,
        "binary": {"type": "string", "minLength": 1, "maxLength": 255},
        "disabled_reason": {"type": "string", "minLength": 1, "maxLength": 255},
    }
    if version >= (2, 11):
        properties["forced_down"] = BOOLEAN
    return closed(properties, ("host", "binary"))


# --- the network in Nova's old words -----------------------------------------------------------------------------------


def _open(properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


SHORT = {"type": "string", "maxLength": 255}
SECURITY_GROUP = _open(
    {"security_group": _open({"name": SHORT, "description": SHORT}, ("name", "description"))}, ("security_group",)
)
SECURITY_GROUP_RULE = _open(
    {
        "security_group_rule": _open(
            {
                "group_id": {"type": ["string", "null"], "format": "uuid"},
                "parent_group_id": {"type": "string", "format": "uuid"},
            },
            ("parent_group_id",),
        )
    },
    ("security_group_rule",),
)
FLOATING_IP = {"type": ["object", "null"], "properties": {"pool": {"type": ["string", "null"]}}}
GROUP_OF_SERVER = closed({"name": {"type": "string", "minLength": 1, "pattern": r"\S"}}, ("name",))
NETWORK_OF_SERVER = closed(
    {"networkId": {"type": ["string", "number"], "minLength": 1, "maxLength": 36}}, ("networkId",)
)
ADDRESS_OF_SERVER = closed({"address": IP}, ("address",))
FLOATING_OF_SERVER = closed({"address": IP, "fixed_address": IP}, ("address",))


# --- volumes -----------------------------------------------------------------------------------------------------------

UUID = {"type": "string", "format": "uuid"}


def attach_volume(version: Version) -> dict[str, Any]:
    device = {"type": ["string", "null"], "pattern": r"(^/dev/x{0,1}[a-z]{0,1}d{0,1})([a-z]+)[0-9]*\Z"}
    properties: dict[str, Any] = {"volumeId": UUID, "device": device}
    if version[1] >= 49:
        properties["tag"] = TAG
    if version[1] >= 79:
        properties["delete_on_termination"] = BOOLEAN
    return closed({"volumeAttachment": closed(properties, ("volumeId",))}, ("volumeAttachment",))


def update_attachment(version: Version) -> dict[str, Any]:
    properties: dict[str, Any] = {"volumeId": UUID}
    if version[1] >= 85:
        device = {"type": ["string", "null"]}
        properties |= {"device": device, "tag": TAG, "delete_on_termination": BOOLEAN, "serverId": UUID, "id": UUID}
    return closed({"volumeAttachment": closed(properties, ("volumeId",))}, ("volumeAttachment",))
