"""Answers against OpenStack's own OpenAPI descriptions.

The descriptions are made from the services' source: their schemas are exact, their status codes often a guess (200 where
the service answers 201 or 202), so an answer with any 2xx is held against the operation's 2xx schema.
"""

import functools
import ipaddress
import json
import os
import re
from pathlib import Path
from typing import Any

import jsonschema

HOME = Path(os.environ.get("KILONOVA_OPENAPI", Path(__file__).resolve().parents[3] / "shared" / "openapi"))

# Where a description is wrong about its own service, as the service's source shows: (service, path, place in the body);
# before the path perhaps the one method whose answer it is.
WRONG = (
    # null when the password never expires
    ("identity", r"/v3/auth/tokens", r"token/user/password_expires_at"),
    # objects, as everywhere, not lists
    ("identity", r"/v3/(auth|users/[^/]+)/(projects|domains|system)", r"(.*/)?links"),
    # null where there is none; whatever a role was made with
    ("identity", r"/v3/.*/roles(/inherited_to_projects)?", r"roles/\d+(/description)?"),
    # null where there is none
    ("identity", r"/v3/(endpoints(/[^/]+)?|auth/(tokens|catalog))", r"(.*/)?region(_id)?"),
    # null at the root of a tree
    ("placement", r"/resource_providers(/[^/]+)?", r"(.*/)?parent_provider_uuid"),
    # one inventory, where one was posted
    ("placement", r"/resource_providers/[^/]+/inventories", r""),
    # has the provider's generation besides
    ("placement", r"/resource_providers/[^/]+/traits", r""),
    # has the provider's generation only since microversion 1.19
    ("placement", r"/resource_providers/[^/]+/aggregates", r""),
    # says the consumers' generations since microversion 1.28
    ("placement", r"/resource_providers/[^/]+/allocations", r"allocations/.*"),
    # numbers, by consumers' types only since microversion 1.38
    ("placement", r"/usages", r"usages/.*"),
    # a list before microversion 1.12
    ("placement", r"/allocation_candidates", r"allocation_requests/\d+/allocations"),
    # not a string but the schema itself
    ("image", r"/v2/schemas/(metadefs/)?[a-z_]+", r""),
    # an object, as its own items say
    ("image", r"/v2/info/usage", r"usage"),
    # the list of what was made
    ("image", r"/v2/metadefs/namespaces/[^/]+/tags", r""),
    # null, as the schedulers' handlers return nothing
    ("network", r"/v2.0/agents/[^/]+/(l3-routers|dhcp-networks)", r""),
    # the list of what came on board
    ("network", r"/v2.0/subnetpools/[^/]+/onboard_network_subnets", r""),
    # numbers, and a list of subnets
    ("network", r"/v2.0/network-ip-availabilities.*", r"network_ip_availabilit(y|ies/\d+)/.*"),
    # a boolean
    ("network", r"/v2.0/service-providers", r"service_providers/\d+/default"),
    # a number, as in the rule itself
    ("network", r"/v2.0/qos/policies(/[^/]+)?", r".*rules/\d+/dscp_mark"),
    # a list of objects
    ("network", r"/v2.0/qos/rule-types/[^/]+", r"rule_type/drivers"),
    # a soft policy is shown at every version; only making one needs 2.15
    ("compute", r"/v2.1/os-server-groups(/[^/]+)?", r"server_groups?(/\d+)?/policies/\d+"),
    # a property that came with its namespace may require nothing
    ("image", r"GET /v2/metadefs/namespaces/[^/]+/properties.*", r"(.*/)?required"),
    # whatever Cinder's volume has, whose labels have any names
    ("compute", r"/v2.1/os-(volumes|snapshots).*", r"(.*/)?metadata"),
    # whatever Glance's image has, whose properties have any names
    ("compute", r"/v2.1/images/.*", r"(.*/)?metadata"),
    # in another order: self, bookmark, alternate
    ("compute", r"/v2.1/images(/[^/]+)?", r"(images/\d+|image)(/server)?/links/\d+(/rel)?"),
    # a summary: the id and name alone (backups with their links)
    ("block-storage", r"/v3/(backups|backups/import_record|group_snapshots)", r"(backup|group_snapshot)"),
    ("block-storage", r"PUT /v3/backups/[^/]+", r"backup"),
    # an attachment has no name
    ("block-storage", r"/v3/attachments(/[^/]+)?", r"attachment|attachments/\d+"),
    # the list has its count beside it since microversion 3.45, not in each of its snapshots
    ("block-storage", r"/v3/snapshots(/detail)?", r""),
    # made and changed with keys that have slashes and spaces, too
    ("block-storage", r"/v3/types(/[^/]+)?", r"volume_types?(/\d+)?/extra_specs"),
    # made with any key; only a change is held to these letters
    ("block-storage", r"/v3/qos-specs(/[^/]+)?", r"qos_specs(/\d+)?/specs"),
    # {"volume": {…}}, as for any volume
    ("block-storage", r"/v3/(manageable_volumes|os-volume-manage)", r""),
    # the text "80:90", not a number
    ("network", r"/v2.0/floatingips/[^/]+/port_forwardings.*", r"(.*/)?(internal|external)_port_range"),
)


def known_wrong(service: str, method: str, path: str, error: Any) -> bool:
    place = "/".join(map(str, error.absolute_path))
    path = re.sub(r"^/v3/([0-9a-f]{32}|\{project_id\})/", "/v3/", path)  # Cinder's, with the project in it or without
    if service == "block-storage" and error.instance is None and error.validator == "type":
        return True  # Cinder's views say null of whatever there is not; its descriptions know no nulls
    path = path.partition("?")[0]
    return any(
        service == about
        and (re.fullmatch(where, path) or re.fullmatch(where, f"{method} {path}"))
        and re.fullmatch(what, place)
        for about, where, what in WRONG
    )


@functools.cache
def document(service: str) -> dict[str, Any]:
    return json.loads((HOME / f"{service}.json").read_text())


def available() -> bool:
    return HOME.is_dir()


@functools.cache
def find_path(service: str, path: str) -> str | None:
    """The template that a concrete path (or a template) belongs to; literal segments win over names."""
    paths = document(service)["paths"]
    if path in paths:
        return path
    wanted = path.partition("?")[0].strip("/").split("/")
    best: tuple[int, str] | None = None
    for template in paths:
        parts = template.strip("/").split("/")
        if len(parts) == len(wanted) and all(p.startswith("{") or p == w for p, w in zip(parts, wanted, strict=True)):
            literal = sum(not p.startswith("{") for p in parts)
            best = max(best or (-1, ""), (literal, template))
    return best[1] if best else None


def _number(version: Any) -> tuple[int, ...]:
    return tuple(int(part) for part in str(version).split("."))


def _resolve(service: str, schema: Any) -> Any:
    while isinstance(schema, dict) and "$ref" in schema:
        node: Any = document(service)
        for part in schema["$ref"].removeprefix("#/").split("/"):
            node = node[part.replace("~1", "/").replace("~0", "~")]
        schema = node
    return schema


def _choose(service: str, schema: Any, version: tuple[int, ...] | None, action: str | None) -> Any:
    """Of a `oneOf` whose members say which microversions or action they are for, those that apply."""
    schema = _resolve(service, schema)
    members = schema.get("oneOf") if isinstance(schema, dict) else None
    if not members:
        return schema
    fitting = []
    for member in members:
        target = _resolve(service, member)
        about = target.get("x-openstack", {}) if isinstance(target, dict) else {}
        if version and "min-ver" in about and version < _number(about["min-ver"]):
            continue
        if version and "max-ver" in about and version > _number(about["max-ver"]):
            continue
        if action and about.get("action-name") not in (None, action):
            continue
        fitting.append(_choose(service, target, version, action))
    return fitting[0] if len(fitting) == 1 else {"anyOf": fitting or members}


@functools.cache
def _schema(
    service: str, method: str, path: str, status: int, version: tuple[int, ...] | None, action: str | None
) -> Any:
    template = find_path(service, path)
    assert template is not None, f"{service}: no path like {path} in the description"
    operation = document(service)["paths"][template].get(method.lower())
    assert operation is not None, f"{service}: no {method} {template} in the description"
    answers = operation["responses"]
    answer = answers.get(str(status)) or next((a for s, a in answers.items() if s.startswith("2")), {})
    content = _resolve(service, answer).get("content", {})
    media = content.get("application/json") or next(iter(content.values()), {})
    return _choose(service, media["schema"], version, action) if "schema" in media else None


def check_response(
    service: str, method: str, path: str, status: int, body: Any, version: str | None = None, action: str | None = None
) -> None:
    """Fail unless `body` has the shape that `service` (a file in shared/openapi) says this operation answers.

    `path` is concrete or a template (`/v3/users/{user_id}`), below the service's mount; `version` a microversion
    (`"2.90"`); `action` the key of an action's body. Answers of 300 and more have no schema and pass.
    """
    if status >= 300:
        return
    schema = _schema(service, method, path, status, _number(version) if version else None, action)
    if schema is None:
        return
    # Nova's `oneOf: [ipv4, ""]` and `[cidr, "None"]` only tell their members apart by their formats.
    formats = jsonschema.FormatChecker(formats=("ipv4", "ipv6"))
    formats.checks("cidr", ValueError)(
        lambda value: bool(ipaddress.ip_network(value, strict=False)) if isinstance(value, str) else True
    )
    whole = {**schema, "components": document(service)["components"]}
    validator = jsonschema.Draft202012Validator(whole, format_checker=formats)
    errors = sorted(validator.iter_errors(body), key=lambda error: list(map(str, error.absolute_path)))
    errors = [error for error in errors if not known_wrong(service, method, path, error)]
    lines = [f"{'/'.join(map(str, e.absolute_path)) or '(body)'}: {e.message[:300]}" for e in errors[:10]]
    assert not errors, f"{service} {method} {path} {status} does not fit its description:\n" + "\n".join(lines)


def actions(service: str, path: str) -> list[str]:
    """The names of the actions that a POST of this path takes."""
    schema = document(service)["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return [_resolve(service, each)["x-openstack"]["action-name"] for each in _resolve(service, schema)["oneOf"]]


def resolve(service: str, schema: Any) -> Any:
    """What a `$ref` of this description names; what is none as it is."""
    return _resolve(service, schema)


def parameters(service: str, method: str, path: str) -> list[dict[str, Any]]:
    """Of an operation: `{"in": "path" | "query" | "header", "name", "schema"}`."""
    item = document(service)["paths"][path]
    return [_resolve(service, each) for each in item.get("parameters", []) + item[method.lower()].get("parameters", [])]


def body_schema(service: str, method: str, path: str, version: str | None = None) -> tuple[str, Any] | None:
    """The media type and the schema of a request's body at a microversion; None where there is none."""
    body = _resolve(service, document(service)["paths"][path][method.lower()].get("requestBody", {}))
    for media, content in body.get("content", {}).items():
        return media, _choose(service, content.get("schema", {}), _number(version) if version else None, None)
    return None
