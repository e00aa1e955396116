"""JSON schemas of request bodies (Keystone's keystone/*/schema.py). Unknown attributes are kept, as Keystone keeps them."""

from typing import Any

Schema = dict[str, Any]

ID: Schema = {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9-]+$"}
TEXT: Schema = {"type": ["string", "null"]}
FLAG: Schema = {"type": "boolean"}
TAG: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[^,/]*$"}
TAGS: Schema = {"type": "array", "items": TAG, "maxItems": 80, "uniqueItems": True}
_SWITCH: Schema = {"type": ["boolean", "null"]}
OPTIONS: Schema = {"type": "object", "properties": {"immutable": _SWITCH}, "additionalProperties": False}
_MFA_RULE: Schema = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
USER_OPTIONS: Schema = {
    "type": "object",
    "properties": {
        "ignore_change_password_upon_first_use": _SWITCH,
        "ignore_password_expiry": _SWITCH,
        "ignore_lockout_failure_attempts": _SWITCH,
        "lock_password": _SWITCH,
        "ignore_user_inactivity": _SWITCH,
        "multi_factor_auth_enabled": _SWITCH,
        "multi_factor_auth_rules": {"type": ["array", "null"], "items": _MFA_RULE, "uniqueItems": True},
    },
    "additionalProperties": False,
}


def name(length: int) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": length, "pattern": r"\S"}


def optional(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def wrapped(key: str, properties: Schema, required: tuple[str, ...] = (), least: int = 0) -> Schema:
    inner = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "minProperties": least,
        "additionalProperties": True,
    }
    return {"type": "object", "properties": {key: inner}, "required": [key]}


def pair(key: str, properties: Schema, required: tuple[str, ...]) -> tuple[Schema, Schema]:
    """The schemas to create and to update one kind of resource."""
    return wrapped(key, properties, required), wrapped(key, properties, least=1)


_PROJECT: Schema = {
    "name": name(64),
    "domain_id": optional(ID),
    "parent_id": optional(ID),
    "description": TEXT,
    "enabled": FLAG,
    "is_domain": FLAG,
    "tags": TAGS,
    "options": OPTIONS,
}
PROJECT_CREATE, PROJECT_UPDATE = pair("project", _PROJECT, ("name",))
DOMAIN_CREATE, DOMAIN_UPDATE = pair(
    "domain",
    {
        "name": name(64),
        "description": TEXT,
        "enabled": FLAG,
        "tags": TAGS,
        "options": OPTIONS,
        "explicit_domain_id": ID,
    },
    ("name",),
)
TAGS_UPDATE: Schema = {
    "type": "object",
    "properties": {"tags": TAGS},
    "required": ["tags"],
    "additionalProperties": False,
}
_FEDERATED: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"idp_id": {"type": "string"}, "protocols": {"type": "array", "minItems": 1}},
        "required": ["idp_id", "protocols"],
    },
}
USER_CREATE, USER_UPDATE = pair(
    "user",
    {
        "name": name(255),
        "domain_id": ID,
        "default_project_id": optional(ID),
        "password": TEXT,
        "description": TEXT,
        "enabled": FLAG,
        "options": USER_OPTIONS,
        "federated": _FEDERATED,
    },
    ("name",),
)
PASSWORD = wrapped(
    "user", {"original_password": {"type": "string"}, "password": {"type": "string"}}, ("original_password", "password")
)
GROUP_CREATE, GROUP_UPDATE = pair("group", {"name": name(64), "domain_id": ID, "description": TEXT}, ("name",))
ROLE_CREATE, ROLE_UPDATE = pair(
    "role", {"name": name(255), "domain_id": optional(ID), "description": TEXT, "options": OPTIONS}, ("name",)
)
_REGION_ID: Schema = {"type": "string", "maxLength": 255}
REGION_CREATE, REGION_UPDATE = pair(
    "region", {"id": optional(_REGION_ID), "description": TEXT, "parent_region_id": optional(_REGION_ID)}, ()
)
REGION_UPDATE = wrapped("region", REGION_UPDATE["properties"]["region"]["properties"])
SERVICE_CREATE, SERVICE_UPDATE = pair(
    "service", {"type": name(255), "name": TEXT, "description": TEXT, "enabled": FLAG}, ("type",)
)
ENDPOINT_CREATE, ENDPOINT_UPDATE = pair(
    "endpoint",
    {
        "service_id": ID,
        "interface": {"enum": ["admin", "internal", "public"]},
        "url": {"type": "string", "minLength": 1, "maxLength": 2000, "pattern": "^[a-zA-Z0-9+.-]+:.+"},
        "region_id": optional(_REGION_ID),
        "region": optional(_REGION_ID),
        "enabled": FLAG,
        "name": TEXT,
        "description": TEXT,
    },
    ("service_id", "interface", "url"),
)
CREDENTIAL_CREATE, CREDENTIAL_UPDATE = pair(
    "credential",
    {"blob": {"type": "string"}, "type": name(255), "user_id": ID, "project_id": optional(ID)},
    ("blob", "type"),
)
EC2_CREATE: Schema = {"type": "object", "properties": {"tenant_id": ID}, "required": ["tenant_id"]}
POLICY_CREATE, POLICY_UPDATE = pair(
    "policy", {"blob": {"type": ["string", "object"]}, "type": name(255)}, ("blob", "type")
)

# Of roles and rules that one request names: each is looked up, and meanwhile nobody else writes.
MOST_NAMED = 100
_ROLE_REFERENCES: Schema = {
    "type": "array",
    "maxItems": MOST_NAMED,
    "items": {
        "type": "object",
        "properties": {"id": ID, "name": name(255)},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    },
}
_RULE_PARTS: Schema = {
    "service": {"type": "string", "minLength": 1, "maxLength": 64},
    "method": {"enum": ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"]},
    "path": {"type": "string", "maxLength": 225, "pattern": "^/"},
}
_ACCESS_RULE: Schema = {
    "oneOf": [
        {
            "type": "object",
            "properties": _RULE_PARTS,
            "required": list(_RULE_PARTS),
            "additionalProperties": False,
        },
        {"type": "object", "properties": {"id": ID}, "required": ["id"], "additionalProperties": False},
    ]
}
APPLICATION_CREDENTIAL_CREATE: Schema = {
    "type": "object",
    "properties": {
        "application_credential": {
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "project_id": {"type": "string"},
                "system": TEXT,
                "name": name(255),
                "description": TEXT,
                "secret": TEXT,
                "expires_at": TEXT,
                "roles": _ROLE_REFERENCES,
                "unrestricted": _SWITCH,
                "access_rules": {"type": "array", "maxItems": MOST_NAMED, "items": _ACCESS_RULE},
            },
            "required": ["name"],
            "additionalProperties": False,
        }
    },
    "required": ["application_credential"],
}
TRUST_CREATE = wrapped(
    "trust",
    {
        "trustee_user_id": ID,
        "trustor_user_id": ID,
        "impersonation": FLAG,
        "project_id": optional(ID),
        "remaining_uses": {"type": ["integer", "null"], "minimum": 1, "maximum": 2**31 - 1},
        "expires_at": TEXT,
        "allow_redelegation": _SWITCH,
        "redelegation_count": {"type": ["integer", "null"], "minimum": 0, "maximum": 2**31 - 1},
        "roles": _ROLE_REFERENCES,
    },
    ("trustee_user_id", "trustor_user_id", "impersonation"),
)

CONSUMER_CREATE = wrapped("consumer", {"description": TEXT})
CONSUMER_UPDATE = CONSUMER_CREATE
_FILTERS: Schema = {
    "type": "object",
    "properties": {
        "service_id": {"type": "string"},
        "region_id": {"type": "string"},
        "interface": {"enum": ["admin", "internal", "public"]},
    },
}
ENDPOINT_GROUP_CREATE, ENDPOINT_GROUP_UPDATE = pair(
    "endpoint_group", {"name": name(255), "description": TEXT, "filters": _FILTERS}, ("name", "filters")
)
_AMOUNT: Schema = {"type": "integer", "minimum": -1, "maximum": 2**31 - 1}
_RESOURCE: Schema = {
    "service_id": ID,
    "region_id": optional({"type": "string", "minLength": 1, "maxLength": 255}),
    "resource_name": name(255),
    "description": TEXT,
}


def several(key: str, properties: Schema, required: tuple[str, ...], **more: Any) -> Schema:
    """The body that makes several of a kind at once."""
    item = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        **more,
    }
    listed = {"type": "array", "maxItems": 500, "items": item, "minItems": 1}  # nobody else writes meanwhile
    return {"type": "object", "properties": {key: listed}, "required": [key], "additionalProperties": False}


def only(key: str, properties: Schema) -> Schema:
    """The body that changes one of a kind, and knows no attributes but these."""
    inner = {"type": "object", "properties": properties, "additionalProperties": False}
    return {"type": "object", "properties": {key: inner}, "required": [key]}


REGISTERED_LIMITS_CREATE = several(
    "registered_limits", {**_RESOURCE, "default_limit": _AMOUNT}, ("service_id", "resource_name", "default_limit")
)
REGISTERED_LIMIT_UPDATE = only("registered_limit", {**_RESOURCE, "default_limit": _AMOUNT})
LIMITS_CREATE = several(
    "limits",
    {**_RESOURCE, "project_id": optional(ID), "domain_id": optional(ID), "resource_limit": _AMOUNT},
    ("service_id", "resource_name", "resource_limit"),
    oneOf=[{"properties": {key: ID}, "required": [key]} for key in ("project_id", "domain_id")],
)
LIMIT_UPDATE = only("limit", {"resource_limit": _AMOUNT, "description": TEXT})

_DOMAIN: Schema = {"type": "object", "properties": {"id": {"type": "string"}, "name": {"type": "string"}}}
_SCOPE_OBJECT: Schema = {
    "type": "object",
    "properties": {
        "project": {
            "type": "object",
            "properties": {"id": {"type": "string"}, "name": {"type": "string"}, "domain": _DOMAIN},
        },
        "domain": _DOMAIN,
        "system": {"type": "object", "properties": {"all": {"type": "boolean"}}},
        "OS-TRUST:trust": {"type": "object", "properties": {"id": {"type": "string"}}},
        "unscoped": {"type": "object"},
    },
}
AUTH: Schema = {
    "type": "object",
    "required": ["auth"],
    "properties": {
        "auth": {
            "type": "object",
            "required": ["identity"],
            "properties": {
                "identity": {
                    "type": "object",
                    "required": ["methods"],
                    "properties": {
                        "methods": {"type": "array", "items": {"type": "string"}},
                        "password": {
                            "type": "object",
                            "properties": {
                                "user": {
                                    "type": "object",
                                    "properties": {
                                        "id": {"type": "string"},
                                        "name": {"type": "string"},
                                        "password": {"type": "string"},
                                        "domain": _DOMAIN,
                                    },
                                }
                            },
                        },
                        "application_credential": {
                            "type": "object",
                            "properties": {
                                "id": {"type": "string"},
                                "name": {"type": "string"},
                                "secret": {"type": "string"},
                                "user": {
                                    "type": "object",
                                    "properties": {
                                        "id": {"type": "string"},
                                        "name": {"type": "string"},
                                        "domain": _DOMAIN,
                                    },
                                },
                            },
                            "required": ["secret"],
                        },
                        "totp": {
                            "type": "object",
                            "properties": {
                                "user": {
                                    "type": "object",
                                    "properties": {
                                        "id": {"type": "string"},
                                        "name": {"type": "string"},
                                        "domain": _DOMAIN,
                                        "passcode": {"type": "string"},
                                    },
                                    "required": ["passcode"],
                                }
                            },
                            "required": ["user"],
                        },
                        "token": {
                            "type": "object",
                            "properties": {"id": {"type": "string"}},
                            "required": ["id"],
                        },
                    },
                },
                "scope": {"anyOf": [_SCOPE_OBJECT, {"const": "unscoped"}]},
            },
        }
    },
}
