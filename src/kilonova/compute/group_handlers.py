"""What the routes below /os-server-groups and /os-aggregates do."""

import logging
from typing import Any

import sqlalchemy as sa

from kilonova.compute import aggregates, images, server_groups
from kilonova.compute import schemas as s
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Unavailable
from kilonova.model.specs import ImageSpec
from kilonova.web import paging
from kilonova.web.call import Call, Version
from kilonova.web.validate import whole

LOG = logging.getLogger(__name__)
HARD = ["anti-affinity", "affinity"]
SOFT = ["soft-anti-affinity", "soft-affinity"]


def create_group_schema(version: Version) -> dict[str, Any]:
    policy = {"type": "string", "enum": HARD + (SOFT if version >= (2, 15) else [])}
    if version < (2, 64):
        policies = {"type": "array", "items": policy, "minItems": 1, "maxItems": 1}
        return s.closed({"server_group": s.closed({"name": s.NAME, "policies": policies}, ("name", "policies"))},
                        ("server_group",))  # fmt: skip
    rules = s.closed({"max_server_per_host": s.POSITIVE})
    group = s.closed({"name": s.NAME, "policy": policy, "rules": rules}, ("name", "policy"))
    return s.closed({"server_group": group}, ("server_group",))


def groups(call: Call) -> dict[str, Any]:
    """`all_projects`, whatever its value, is for administrators; others get their own all the same."""
    everyone = call.context.is_admin and call.arg("all_projects") is not None
    rows = server_groups.list_groups(call.tx, None if everyone else call.context.project_id)
    offset = whole(call.arg("offset", "0") or "")
    if offset is None:
        raise BadRequest("Invalid input for query parameters offset. It is not a non-negative integer.")
    rows = rows[offset:][: paging.limit(call)]
    inside = server_groups.members(call.tx, [row["id"] for row in rows])
    return {"server_groups": [server_groups.view(row, inside[row["id"]], call.version[1]) for row in rows]}


def group(call: Call) -> dict[str, Any]:
    return _group(call, server_groups.get(call.tx, call.context, call.params["id"]))


def _group(call: Call, row: sa.RowMapping) -> dict[str, Any]:
    inside = server_groups.members(call.tx, [row["id"]])[row["id"]]
    return {"server_group": server_groups.view(row, inside, call.version[1])}


def create_group(call: Call) -> dict[str, Any]:
    asked = call.body["server_group"]
    policy = asked["policy"] if call.since(64) else asked["policies"][0]
    rules = {name: int(value) for name, value in asked.get("rules", {}).items()}
    if rules and policy != "anti-affinity":
        raise BadRequest("Only anti-affinity policy supports rules.")
    return _group(call, server_groups.create(call.tx, call.context, asked["name"], policy, rules))


def delete_group(call: Call) -> None:
    server_groups.delete(call.tx, call.context, call.params["id"])


# --- aggregates --------------------------------------------------------------------------------------------------------

ZONE_NAME = {"type": ["string", "null"], "minLength": 1, "maxLength": 255, "pattern": r"^(?!\s)[^:]*(?<!\s)\Z"}
CREATE_AGGREGATE = s.closed(
    {"aggregate": s.closed({"name": s.NAME, "availability_zone": ZONE_NAME}, ("name",))}, ("aggregate",)
)
UPDATE_AGGREGATE = s.closed(
    {
        "aggregate": s.closed({"name": s.LOOSE_NAME, "availability_zone": ZONE_NAME})
        | {"anyOf": [{"required": ["name"]}, {"required": ["availability_zone"]}]}
    },
    ("aggregate",),
)
HOST = s.closed({"host": s.FQDN}, ("host",))
METADATA = s.METADATA | {"additionalProperties": {"type": ["string", "null"], "maxLength": 255}}
SET_METADATA = s.closed({"metadata": METADATA}, ("metadata",))
AGGREGATE_ACTION = {
    "oneOf": [
        s.closed({name: schema}, (name,))
        for name, schema in (("add_host", HOST), ("remove_host", HOST), ("set_metadata", SET_METADATA))
    ]
}
UUID = {"type": "string", "format": "uuid"}
CACHE_IMAGES = s.closed(
    {"cache": {"type": "array", "minItems": 1, "items": s.closed({"id": UUID}, ("id",))}}, ("cache",)
)


def _aggregate(call: Call, row: sa.RowMapping, hosts: list[str]) -> dict[str, Any]:
    body = {
        "id": row["id"],
        "name": row["name"],
        "availability_zone": row["metadata"].get(aggregates.ZONE),
        "hosts": hosts,
        "metadata": row["metadata"],
        "created_at": row["created_at"].isoformat(),
        "updated_at": row["updated_at"].isoformat() if row["updated_at"] else None,
        "deleted": False,
        "deleted_at": None,
    }
    return body | {"uuid": row["uuid"]} if call.since(41) else body


def _shown(call: Call, id: str) -> dict[str, Any]:
    row = aggregates.get(call.tx, id)
    return {"aggregate": _aggregate(call, row, aggregates.members(call.tx, [row["id"]])[row["id"]])}


def list_aggregates(call: Call) -> dict[str, Any]:
    rows = aggregates.list_aggregates(call.tx)
    inside = aggregates.members(call.tx, [row["id"] for row in rows])
    return {"aggregates": [_aggregate(call, row, inside[row["id"]]) for row in rows]}


def aggregate(call: Call) -> dict[str, Any]:
    return _shown(call, call.params["id"])


def create_aggregate(call: Call) -> dict[str, Any]:
    asked = call.body["aggregate"]
    row = aggregates.create(call.tx, asked["name"].strip(), asked.get("availability_zone"))
    body = _aggregate(call, row, [])
    del body["hosts"], body["metadata"]
    return {"aggregate": body}


def update_aggregate(call: Call) -> dict[str, Any]:
    asked, row = call.body["aggregate"], aggregates.get(call.tx, call.params["id"])
    if "name" in asked:
        aggregates.rename(call.tx, row, asked["name"].strip())
    if "availability_zone" in asked:
        aggregates.set_metadata(call.tx, row, {aggregates.ZONE: asked["availability_zone"]}, "aggregate")
    return _shown(call, call.params["id"])


def delete_aggregate(call: Call) -> None:
    aggregates.delete(call.tx, aggregates.get(call.tx, call.params["id"]))


def act_on_aggregate(call: Call) -> dict[str, Any]:
    name, argument = next(iter(call.body.items()))
    row = aggregates.get(call.tx, call.params["id"])
    if name == "add_host":
        aggregates.add_host(call.tx, row, argument["host"])
    elif name == "remove_host":
        aggregates.remove_host(call.tx, row, argument["host"])
    else:
        aggregates.set_metadata(call.tx, row, argument["metadata"])
    return _shown(call, call.params["id"])


def cache_images(call: Call) -> None:
    """Each host of the aggregate that listens begins to fetch the images; opens its own transaction.

    What comes to nothing is logged, as in Nova (`ComputeTaskManager.cache_images`): the request is only to be accepted.
    """
    ids = [each["id"] for each in call.body["cache"]]
    if len(set(ids)) != len(ids):
        raise BadRequest("Duplicate images in request")

    def look(tx: Tx) -> tuple[list[str], list[ImageSpec]]:
        row = aggregates.get(tx, call.params["id"])
        return aggregates.members(tx, [row["id"]])[row["id"]], images.to_cache(tx, call.context, ids)

    hosts, wanted = call.database.read(look)
    for host in hosts:
        for image in wanted:
            try:
                call.services.flows.cache_image(host, image)
            except Unavailable as error:
                LOG.warning("image %s is not fetched beforehand: %s", image.id, error)
