"""Rows as Keystone's bodies."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from kilonova.identity.records import Row, page
from kilonova.identity.times import brief
from kilonova.web.call import Call

Body = dict[str, Any]


def url(call: Call, path: str) -> str:
    return f"{call.base_url}/v3/{path}"


def collection(call: Call, name: str, rows: list[Row], view: Callable[[Call, Row], Body], paged: bool = True) -> Body:
    """A list with its links; `truncated` tells that `limit` cut it."""
    path = call.path.removeprefix("v3/").strip("/")
    query = f"?{urlencode(call.query)}" if call.query else ""
    rows, marker = page(call, rows) if paged else (rows, None)
    following = None
    if marker:
        rest = [(key, value) for key, value in call.query if key != "marker"]
        following = f"{url(call, path)}?{urlencode([*rest, ('marker', marker)])}"
    body: Body = {
        name: [view(call, row) for row in rows],
        "links": {"next": following, "self": url(call, path) + query, "previous": None},
    }
    if marker:
        body["truncated"] = True
    return body


def _linked(call: Call, kind: str, row: Row, body: Body) -> Body:
    return {**row.get("extra", {}), **body, "links": {"self": url(call, f"{kind}/{row['id']}")}}


def project(call: Call, row: Row) -> Body:
    body = {
        "id": row["id"],
        "name": row["name"],
        "domain_id": row["domain_id"] or None,
        "description": row["description"],
        "enabled": row["enabled"],
        "parent_id": row["parent_id"] or None,
        "is_domain": row["is_domain"],
        "tags": row["tags"],
        "options": row["options"],
    }
    return _linked(call, "projects", row, body)


def domain(call: Call, row: Row) -> Body:
    body = {
        "id": row["id"],
        "name": row["name"],
        "description": row["description"],
        "enabled": row["enabled"],
        "tags": row["tags"],
        "options": row["options"],
    }
    return _linked(call, "domains", row, body)


def user(call: Call, row: Row) -> Body:
    body = {
        "id": row["id"],
        "name": row["name"],
        "domain_id": row["domain_id"],
        "enabled": row["enabled"],
        "options": row["options"],
        "password_expires_at": brief(row["password_expires_at"]),
    }
    if row["default_project_id"]:
        body["default_project_id"] = row["default_project_id"]
    return _linked(call, "users", row, body)


def group(call: Call, row: Row) -> Body:
    body = {"id": row["id"], "name": row["name"], "domain_id": row["domain_id"], "description": row["description"]}
    return _linked(call, "groups", row, body)


def role(call: Call, row: Row) -> Body:
    body = {
        "id": row["id"],
        "name": row["name"],
        "domain_id": row["domain_id"] or None,
        "description": row["description"],
        "options": row["options"],
    }
    return _linked(call, "roles", row, body)


def region(call: Call, row: Row) -> Body:
    body = {"id": row["id"], "description": row["description"], "parent_region_id": row["parent_region_id"]}
    return _linked(call, "regions", row, body)


def service(call: Call, row: Row) -> Body:
    return _linked(call, "services", row, {"id": row["id"], "type": row["type"], "enabled": row["enabled"]})


def own_url(call: Call, address: str) -> str:
    """An endpoint's address; that of a service of this cloud's own lies below the public root."""
    return call.base_url.removesuffix("/identity") + address if address.startswith("/") else address


def endpoint(call: Call, row: Row) -> Body:
    body = {
        "id": row["id"],
        "service_id": row["service_id"],
        "region": row["region_id"],
        "region_id": row["region_id"],
        "interface": row["interface"],
        "url": own_url(call, row["url"]),
        "enabled": row["enabled"],
    }
    return _linked(call, "endpoints", row, body)


def credential(call: Call, row: Row) -> Body:
    body = {key: row[key] for key in ("id", "user_id", "project_id", "type", "blob")}
    return _linked(call, "credentials", row, body)


def policy(call: Call, row: Row) -> Body:
    return _linked(call, "policies", row, {key: row[key] for key in ("id", "type", "blob")})
