"""Rows as placement's bodies."""

import email.utils
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
import sqlalchemy as sa

from kilonova.model.ids import now
from kilonova.placement.candidates import AllocationRequest
from kilonova.placement.requests import Wanted
from kilonova.placement.snapshot import Provider
from kilonova.placement.tables import PROVIDERS
from kilonova.web.call import Call, Reply

Row = Mapping[str, Any] | sa.RowMapping
UUID = "00000000-0000-0000-0000-000000000000"  # stands for a row's own, in what is written once for all
# What a provider's body shows, and the time of its last change.
PROVIDER = tuple(PROVIDERS.c[name] for name in ("uuid", "name", "generation", "parent_uuid", "root_uuid", "updated_at"))
FIELDS = ("total", "reserved", "min_unit", "max_unit", "step_size", "allocation_ratio")


def fresh(call: Call, body: Any, when: datetime | None = None, **more: Any) -> Reply:
    """A body that is never cached, with the time of its last change (microversion 1.15). `when` in UTC, None: now."""
    headers = more.pop("headers", {})
    if call.since(15):
        stamp = (when or now()).replace(tzinfo=UTC, microsecond=0)
        headers = headers | {
            "Last-Modified": email.utils.format_datetime(stamp, usegmt=True),
            "Cache-Control": "no-cache",
        }
    return Reply(body, headers=headers, **more)


def href(call: Call, path: str) -> str:
    """Links are paths below the service's mount, as placement's are."""
    return urlsplit(call.base_url).path + path


def provider(call: Call, row: Row) -> dict[str, Any]:
    return providers(call, [row])[0]


def providers(call: Call, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """All there are, perhaps: what is the same for each is written once."""
    root, kinds = href(call, "/resource_providers/"), ["inventories", "usages"]
    kinds += [name for minor, name in ((1, "aggregates"), (6, "traits"), (11, "allocations")) if call.since(minor)]
    ends = [("self", ""), *((kind, f"/{kind}") for kind in kinds)]
    links = msgspec.json.encode([{"rel": rel, "href": f"{root}{UUID}{end}"} for rel, end in ends]).decode().split(UUID)
    trees, found = call.since(14), []
    for row in rows:
        uuid = row["uuid"]
        body = {
            "uuid": uuid,
            "name": row["name"],
            "generation": row["generation"],
            "links": msgspec.Raw(uuid.join(links)),
        }
        if trees:
            body["parent_provider_uuid"], body["root_provider_uuid"] = row["parent_uuid"], row["root_uuid"]
        found.append(body)
    return found


def resource_class(call: Call, name: str) -> dict[str, Any]:
    return {"name": name, "links": [{"rel": "self", "href": href(call, f"/resource_classes/{name}")}]}


def inventory(row: Row, generation: int | None = None) -> dict[str, Any]:
    body = {field: row[field] for field in FIELDS}
    return body if generation is None else body | {"resource_provider_generation": generation}


def inventories(rows: Iterable[Row], generation: int) -> dict[str, Any]:
    return {
        "resource_provider_generation": generation,
        "inventories": {row["resource_class"]: inventory(row) for row in rows},
    }


def consumer_allocations(call: Call, rows: list[Any]) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for row in rows:
        one = held.setdefault(row["provider"], {"generation": row["generation"], "resources": {}})
        one["resources"][row["resource_class"]] = row["used"]
    body: dict[str, Any] = {"allocations": held}
    if rows and call.since(12):
        body |= {"project_id": rows[0]["project_id"], "user_id": rows[0]["user_id"]}
        if call.since(28):
            body["consumer_generation"] = rows[0]["consumer_generation"]
        if call.since(38):
            body["consumer_type"] = rows[0]["type"] or "unknown"
    return body


def provider_allocations(call: Call, rows: list[Any], generation: int) -> dict[str, Any]:
    held: dict[str, Any] = {}
    for row in rows:
        one = held.setdefault(row["consumer"], {"resources": {}})
        one["resources"][row["resource_class"]] = row["used"]
        if call.since(28):
            one["consumer_generation"] = row["consumer_generation"]
    return {"allocations": held, "resource_provider_generation": generation}


def candidates(
    call: Call, wanted: Wanted, requests: list[AllocationRequest], concerned: list[Provider]
) -> dict[str, Any]:
    return {
        "allocation_requests": [_request(call, request) for request in requests],
        "provider_summaries": {item.uuid: _summary(call, wanted, item) for item in concerned},
    }


def _request(call: Call, request: AllocationRequest) -> dict[str, Any]:
    if not call.since(12):
        return {
            "allocations": [
                {"resource_provider": {"uuid": uuid}, "resources": dict(resources)}
                for uuid, resources in request.allocations.items()
            ]
        }
    body: dict[str, Any] = {
        "allocations": {uuid: {"resources": dict(resources)} for uuid, resources in request.allocations.items()}
    }
    if call.since(34):
        body["mappings"] = dict(request.mappings)
    return body


def _summary(call: Call, wanted: Wanted, item: Provider) -> dict[str, Any]:
    asked = {name for group in wanted.groups.values() for name in group.resources}
    body: dict[str, Any] = {
        "resources": {
            name: {"capacity": stock.capacity, "used": stock.used}
            for name, stock in item.stocks.items()
            if call.since(27) or name in asked
        }
    }
    if call.since(17):
        body["traits"] = sorted(item.traits)
    if call.since(29):
        body |= {"parent_provider_uuid": item.parent, "root_provider_uuid": item.root}
    return body
