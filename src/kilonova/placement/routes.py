"""Placement, 1.0 to 1.39 (https://docs.openstack.org/api-ref/placement/)."""

import uuid as uuids
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from kilonova.model.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.placement import allocations, candidates, names, providers, requests, schemas, snapshot, views
from kilonova.placement.allocations import Claim
from kilonova.placement.tables import PROVIDERS
from kilonova.web import faults
from kilonova.web.call import Call, Reply, Route
from kilonova.web.policy import admin_or_service, rule
from kilonova.web.service import Microversions, Service
from kilonova.web.validate import check

MINIMUM, MAXIMUM = (1, 0), (1, 39)


def dashed(text: str) -> str:
    return str(uuids.UUID(text))


def by_uuid(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """By the uuids with their dashes. BadRequest when two are the same: one would take the other's place."""
    found: dict[str, Any] = {}
    for key, value in items:
        if found.setdefault(dashed(key), value) is not value:
            raise BadRequest(f"Invalid input: {dashed(key)} is named twice.")
    return found


def root(call: Call) -> Reply:
    version = {
        "id": "v1.0", "max_version": f"{MAXIMUM[0]}.{MAXIMUM[1]}", "min_version": f"{MINIMUM[0]}.{MINIMUM[1]}",
        "status": "CURRENT", "links": [{"rel": "self", "href": ""}],
    }  # fmt: skip
    return views.fresh(call, {"versions": [version]})


# Resource providers


def list_providers(call: Call) -> Reply:
    known = {"name", "uuid"}
    known |= {name for minor, name in ((3, "member_of"), (4, "resources"), (14, "in_tree"), (18, "required"))
              if call.since(minor)}  # fmt: skip
    requests.refuse_unknown(call, known)
    for key in ("uuid", "in_tree"):
        value = call.arg(key)
        if value is not None and not requests.is_uuid(value):
            raise BadRequest(f"Invalid query string parameters: {value!r} is not a 'uuid'")
    query = sa.select(*views.PROVIDER).order_by(PROVIDERS.c.created_at, PROVIDERS.c.name)
    if (name := call.arg("name")) is not None:
        query = query.where(PROVIDERS.c.name == name)
    if (wanted := call.arg("uuid")) is not None:
        query = query.where(PROVIDERS.c.uuid == dashed(wanted))
    if (tree := call.arg("in_tree")) is not None:
        root = sa.select(PROVIDERS.c.root_uuid).where(PROVIDERS.c.uuid == dashed(tree)).scalar_subquery()
        query = query.where(PROVIDERS.c.root_uuid == root)
    rows = call.tx.all(query)
    if (group := _filters(call)) != requests.Group():
        found = snapshot.read(call.tx)
        rows = [row for row in rows if candidates.serves(group, found[row["uuid"]])]
    when = max((row["updated_at"] for row in rows), default=None)
    return views.fresh(call, {"resource_providers": views.providers(call, rows)}, when)


def _filters(call: Call) -> requests.Group:
    """The filters on resources, traits and aggregates."""
    group = requests.Group()
    if (text := call.arg("resources")) is not None:
        group.resources = requests.parse_resources(text)
        if unknown := names.unknown_classes(call.tx, group.resources):
            raise BadRequest(f"Invalid resource class in resources parameter: No such resource class {unknown[0]}.")
    group.required, group.forbidden = requests.parse_traits(call, "required")
    if unknown := names.unknown_traits(call.tx, group.forbidden.union(*group.required)):
        raise BadRequest(f'Invalid trait(s) in "required" parameter: No such trait(s): {", ".join(unknown)}.')
    group.member_of, group.forbidden_aggregates = requests.parse_member_of(call, "member_of")
    return group


def create_provider(call: Call) -> Reply:
    body = call.body
    parent = body.get("parent_provider_uuid")
    row = providers.create(
        call.tx, body["name"], dashed(body["uuid"]) if "uuid" in body else None, dashed(parent) if parent else None
    )
    location = {"Location": f"{call.base_url}/resource_providers/{row['uuid']}"}
    if not call.since(20):
        return Reply(status=201, headers=location)
    return views.fresh(call, views.provider(call, row), row["updated_at"], status=200, headers=location)


def show_provider(call: Call) -> Reply:
    row = providers.get(call.tx, call.params["uuid"])
    return views.fresh(call, views.provider(call, row), row["updated_at"])


def update_provider(call: Call) -> Reply:
    parent = call.body.get("parent_provider_uuid")
    row = providers.update(
        call.tx, call.params["uuid"], call.body["name"], dashed(parent) if parent else None,
        set_parent="parent_provider_uuid" in call.body, reparent=call.since(37),
    )  # fmt: skip
    return views.fresh(call, views.provider(call, row), row["updated_at"])


def delete_provider(call: Call) -> None:
    providers.delete(call.tx, call.params["uuid"])


# Inventories


def _current(call: Call, body: dict[str, Any]) -> Any:
    """The path's provider. Conflict when the body's generation is not the provider's."""
    row = providers.get(call.tx, call.params["uuid"])
    given = body.get("resource_provider_generation", row["generation"])
    if given != row["generation"]:
        raise Conflict("resource provider generation conflict", code=providers.CONCURRENT_UPDATE)
    return row


def list_inventories(call: Call) -> Reply:
    row = providers.get(call.tx, call.params["uuid"])
    rows = providers.inventories(call.tx, row["uuid"])
    when = max((item["updated_at"] for item in rows), default=None)
    return views.fresh(call, views.inventories(rows, row["generation"]), when)


def show_inventory(call: Call) -> Reply:
    row = providers.get(call.tx, call.params["uuid"])
    wanted = call.params["resource_class"]
    for item in providers.inventories(call.tx, row["uuid"]):
        if item["resource_class"] == wanted:
            return views.fresh(call, views.inventory(item, row["generation"]), item["updated_at"])
    raise NotFound(f"No inventory of class {wanted} for {row['uuid']}")


def _whole(call: Call, resource_class: str, values: dict[str, Any], doing: str) -> dict[str, Any]:
    values = {**providers.INVENTORY_DEFAULTS, **values}
    values.pop("resource_provider_generation", None)
    values.pop("resource_class", None)
    providers.check_capacity(call.params["uuid"], resource_class, values, call.since(26), doing)
    return values


def create_inventory(call: Call) -> Reply:
    name = call.body["resource_class"]
    row = _current(call, call.body)
    values = _whole(call, name, call.body, "create")
    generation = providers.add_inventory(call.tx, row, name, values)
    location = f"{call.base_url}/resource_providers/{row['uuid']}/inventories/{name}"
    return views.fresh(call, views.inventory(values, generation), headers={"Location": location})


def set_inventories(call: Call) -> Reply:
    row = _current(call, call.body)
    wanted = {name: _whole(call, name, values, "update") for name, values in call.body["inventories"].items()}
    providers.set_inventories(call.tx, row, wanted)
    return list_inventories(call)


def update_inventory(call: Call) -> Reply:
    name = call.params["resource_class"]
    row = _current(call, call.body)
    values = _whole(call, name, call.body, "update")
    generation = providers.update_inventory(call.tx, row, name, values)
    return views.fresh(call, views.inventory(values, generation))


def delete_inventories(call: Call) -> None:
    providers.set_inventories(call.tx, providers.get(call.tx, call.params["uuid"]), {})


def delete_inventory(call: Call) -> None:
    providers.delete_inventory(
        call.tx, providers.get(call.tx, call.params["uuid"]), call.params["resource_class"]
    )  # fmt: skip


# Usages, aggregates, traits of a provider


def provider_usages(call: Call) -> Reply:
    row = providers.get(call.tx, call.params["uuid"])
    used = allocations.usages(call.tx, row["uuid"])
    return views.fresh(call, {"resource_provider_generation": row["generation"], "usages": used})


def total_usages(call: Call) -> Reply:
    requests.refuse_unknown(call, {"project_id", "user_id"} | ({"consumer_type"} if call.since(38) else set()))
    check(dict(call.query), schemas.USAGES)
    project = call.arg("project_id") or ""
    if not call.rules["placement:usages"](call.context, {"project_id": project}):
        raise Forbidden("Policy does not allow placement:usages to be performed.")
    user = call.arg("user_id")
    used: Any = (
        allocations.usages_by_type(call.tx, project, user, call.arg("consumer_type"))
        if call.since(38)
        else allocations.total_usages(call.tx, project, user)
    )
    return views.fresh(call, {"usages": used})


def list_aggregates(call: Call) -> Reply:
    row = providers.get(call.tx, call.params["uuid"])
    return _aggregates(call, row["generation"])


def set_aggregates(call: Call) -> Reply:
    row = providers.get(call.tx, call.params["uuid"])
    wanted = call.body["aggregates"] if call.since(19) else call.body
    if call.since(19) and call.body["resource_provider_generation"] != row["generation"]:
        raise _moved()
    generation = providers.set_aggregates(call.tx, row, wanted, call.since(19))
    return _aggregates(call, generation)


def _aggregates(call: Call, generation: int) -> Reply:
    body: dict[str, Any] = {"aggregates": providers.aggregates(call.tx, call.params["uuid"])}
    if call.since(19):
        body["resource_provider_generation"] = generation
    return views.fresh(call, body)


def _moved() -> Conflict:
    return Conflict(
        "Resource provider's generation already changed. Please update the generation and try again.",
        code=providers.CONCURRENT_UPDATE,
    )


def list_provider_traits(call: Call) -> Reply:
    row = providers.get(call.tx, call.params["uuid"])
    body = {"traits": providers.traits(call.tx, row["uuid"]), "resource_provider_generation": row["generation"]}
    return views.fresh(call, body)


def set_provider_traits(call: Call) -> Reply:
    row = providers.get(call.tx, call.params["uuid"])
    if call.body["resource_provider_generation"] != row["generation"]:
        raise _moved()
    providers.set_traits(call.tx, row, call.body["traits"])
    return list_provider_traits(call)


def delete_provider_traits(call: Call) -> None:
    providers.set_traits(call.tx, providers.get(call.tx, call.params["uuid"]), [])


# Traits and resource classes


def list_traits(call: Call) -> Reply:
    requests.refuse_unknown(call, {"name", "associated"})
    wanted: dict[str, Any] = {}
    if (name := call.arg("name")) is not None:
        kind, colon, value = name.partition(":")
        if not colon or kind not in ("in", "startswith"):
            raise BadRequest(
                "Badly formatted name parameter. Expected name query string parameter in form: ?name=[in|startswith]:"
                f'[name1,name2|prefix]. Got: "{name}"'
            )
        wanted = {"names": value.split(",")} if kind == "in" else {"prefix": value}
    if (associated := call.arg("associated")) is not None:
        if associated.lower() not in ("true", "false"):
            raise BadRequest('The query parameter "associated" only accepts "true" or "false"')
        wanted["associated"] = associated.lower() == "true"
    return views.fresh(call, {"traits": names.list_traits(call.tx, **wanted)})


def show_trait(call: Call) -> Reply:
    names.get_trait(call.tx, call.params["name"])
    return views.fresh(call, None)


def put_trait(call: Call) -> Reply:
    name = call.params["name"]
    new = names.create_trait(call.tx, name)
    headers = {"Location": f"{call.base_url}/traits/{name}"}
    return views.fresh(call, None, status=201 if new else 204, headers=headers)


def delete_trait(call: Call) -> None:
    names.delete_trait(call.tx, call.params["name"])


def list_classes(call: Call) -> Reply:
    found = names.list_resource_classes(call.tx)
    return views.fresh(call, {"resource_classes": [views.resource_class(call, name) for name in found]})


def create_class(call: Call) -> Reply:
    name = call.body["name"]
    if not names.create_resource_class(call.tx, name):
        raise Conflict(f"Conflicting resource class already exists: {name}")
    return Reply(headers={"Location": f"{call.base_url}/resource_classes/{name}"})


def show_class(call: Call) -> Reply:
    return views.fresh(call, views.resource_class(call, names.get_resource_class(call.tx, call.params["name"])))


def put_class(call: Call) -> Reply:
    """Rename before microversion 1.7; from then on create, or see that it is there."""
    name = call.params["name"]
    if not call.since(7):
        check(call.body, schemas.CUSTOM_CLASS)
        names.rename_resource_class(call.tx, name, call.body["name"])
        return Reply(views.resource_class(call, call.body["name"]), status=200)
    check({"name": name}, schemas.CUSTOM_CLASS)
    new = names.create_resource_class(call.tx, name)
    return Reply(status=201 if new else 204, headers={"Location": f"{call.base_url}/resource_classes/{name}"})


def delete_class(call: Call) -> None:
    names.delete_resource_class(call.tx, call.params["name"])


# Allocations


def list_provider_allocations(call: Call) -> Reply:
    row = providers.get(call.tx, call.params["uuid"])
    rows = allocations.for_provider(call.tx, row["uuid"])
    when = max((item["created_at"] for item in rows), default=None)
    return views.fresh(call, views.provider_allocations(call, rows, row["generation"]), when)


def show_allocations(call: Call) -> Reply:
    rows = allocations.for_consumer(call.tx, call.params["consumer_uuid"])
    when = max((item["created_at"] for item in rows), default=None)
    return views.fresh(call, views.consumer_allocations(call, rows), when)


def _claim(call: Call, consumer: str, body: dict[str, Any]) -> Claim:
    held = body["allocations"]
    if isinstance(held, list):
        held = by_uuid((item["resource_provider"]["uuid"], item) for item in held)
    return Claim(
        consumer=consumer,
        resources={provider: item["resources"] for provider, item in by_uuid(held.items()).items()},
        project_id=body.get("project_id", allocations.INCOMPLETE),
        user_id=body.get("user_id", allocations.INCOMPLETE),
        type=body.get("consumer_type"),
        generation=body.get("consumer_generation"),
        check_generation=call.since(28),
    )


def _claims(call: Call, bodies: dict[str, Any]) -> list[Claim]:
    return [_claim(call, consumer, body) for consumer, body in by_uuid(bodies.items()).items()]


def put_allocations(call: Call) -> None:
    consumer = call.params["consumer_uuid"]
    if not requests.is_uuid(consumer):
        raise BadRequest(f"Malformed consumer_uuid: {consumer}")
    allocations.replace(call.tx, [_claim(call, dashed(consumer), call.body)])


def post_allocations(call: Call) -> None:
    allocations.replace(call.tx, _claims(call, call.body))


def delete_allocations(call: Call) -> None:
    allocations.delete(call.tx, call.params["consumer_uuid"])


def reshape(call: Call) -> None:
    wanted = {}
    for provider, item in by_uuid(call.body["inventories"].items()).items():
        by_class = {}
        for name, values in item["inventories"].items():
            by_class[name] = {**providers.INVENTORY_DEFAULTS, **values}
            providers.check_capacity(provider, name, by_class[name], True, "update")
        wanted[provider] = (item["resource_provider_generation"], by_class)
    allocations.reshape(call.tx, wanted, _claims(call, call.body["allocations"]))


def allocation_candidates(call: Call) -> Reply:
    wanted = requests.parse(call)
    found, concerned = candidates.find(call.tx, wanted)
    return views.fresh(call, views.candidates(call, wanted, found, concerned))


RP = "placement:resource_providers"
VERBS = ("list", "create", "show", "update", "delete")
OF_PROVIDERS = {
    "inventories": VERBS, "aggregates": ("list", "update"), "traits": ("list", "update", "delete"),
    "allocations": ("list",),
}  # fmt: skip
POLICY = {
    "placement:usages": rule("rule:service_or_admin or rule:project_reader_api"),  # asked of the query's project
    **{f"{RP}:{verb}": admin_or_service for verb in (*VERBS, "usages")},
    **{f"{RP}:{what}:{verb}": admin_or_service for what, verbs in OF_PROVIDERS.items() for verb in verbs},
    **{f"placement:traits:{verb}": admin_or_service for verb in ("list", "show", "update", "delete")},
    **{f"placement:resource_classes:{verb}": admin_or_service for verb in VERBS},
    **{f"placement:allocations:{verb}": admin_or_service for verb in ("list", "manage", "update", "delete")},
    "placement:allocation_candidates:list": admin_or_service,
    "placement:reshaper:reshape": rule("rule:service_api"),
}

P = "/resource_providers/{uuid}"
ROUTES = {
    "GET /": Route(root, ""),
    "GET /resource_providers": Route(list_providers, "placement:resource_providers:list"),
    "POST /resource_providers": Route(
        create_provider, "placement:resource_providers:create", 201, schema=schemas.create_provider
    ),
    f"GET {P}": Route(show_provider, "placement:resource_providers:show"),
    f"PUT {P}": Route(update_provider, "placement:resource_providers:update", schema=schemas.update_provider),
    f"DELETE {P}": Route(delete_provider, "placement:resource_providers:delete", 204),
    f"GET {P}/inventories": Route(list_inventories, f"{RP}:inventories:list"),
    f"POST {P}/inventories": Route(create_inventory, f"{RP}:inventories:create", 201, schema=schemas.NEW_INVENTORY),
    f"PUT {P}/inventories": Route(set_inventories, f"{RP}:inventories:update", schema=schemas.INVENTORIES),
    f"DELETE {P}/inventories": Route(delete_inventories, f"{RP}:inventories:delete", 204, since=(1, 5)),
    f"GET {P}/inventories/{{resource_class}}": Route(show_inventory, f"{RP}:inventories:show"),
    f"PUT {P}/inventories/{{resource_class}}": Route(
        update_inventory, f"{RP}:inventories:update", schema=schemas.INVENTORY
    ),
    f"DELETE {P}/inventories/{{resource_class}}": Route(delete_inventory, f"{RP}:inventories:delete", 204),
    f"GET {P}/usages": Route(provider_usages, "placement:resource_providers:usages"),
    f"GET {P}/aggregates": Route(list_aggregates, f"{RP}:aggregates:list", since=(1, 1)),
    f"PUT {P}/aggregates": Route(set_aggregates, f"{RP}:aggregates:update", since=(1, 1), schema=schemas.aggregates),
    f"GET {P}/traits": Route(list_provider_traits, f"{RP}:traits:list", since=(1, 6)),
    f"PUT {P}/traits": Route(set_provider_traits, f"{RP}:traits:update", since=(1, 6), schema=schemas.TRAITS),
    f"DELETE {P}/traits": Route(delete_provider_traits, f"{RP}:traits:delete", 204, since=(1, 6)),
    f"GET {P}/allocations": Route(list_provider_allocations, f"{RP}:allocations:list"),
    "GET /traits": Route(list_traits, "placement:traits:list", since=(1, 6)),
    "GET /traits/{name}": Route(show_trait, "placement:traits:show", 204, since=(1, 6)),
    "PUT /traits/{name}": Route(put_trait, "placement:traits:update", since=(1, 6)),
    "DELETE /traits/{name}": Route(delete_trait, "placement:traits:delete", 204, since=(1, 6)),
    "GET /resource_classes": Route(list_classes, "placement:resource_classes:list", since=(1, 2)),
    "POST /resource_classes": Route(
        create_class, "placement:resource_classes:create", 201, since=(1, 2), schema=schemas.CUSTOM_CLASS
    ),
    "GET /resource_classes/{name}": Route(show_class, "placement:resource_classes:show", since=(1, 2)),
    "PUT /resource_classes/{name}": Route(put_class, "placement:resource_classes:update", since=(1, 2)),
    "DELETE /resource_classes/{name}": Route(delete_class, "placement:resource_classes:delete", 204, since=(1, 2)),
    "GET /usages": Route(total_usages, "placement:usages", since=(1, 9)),
    "GET /allocations/{consumer_uuid}": Route(show_allocations, "placement:allocations:list"),
    "PUT /allocations/{consumer_uuid}": Route(
        put_allocations, "placement:allocations:update", 204, schema=schemas.allocation
    ),
    "DELETE /allocations/{consumer_uuid}": Route(delete_allocations, "placement:allocations:delete", 204),
    "POST /allocations": Route(
        post_allocations, "placement:allocations:manage", 204, since=(1, 13), schema=schemas.allocations
    ),
    "POST /reshaper": Route(reshape, "placement:reshaper:reshape", 204, since=(1, 30), schema=schemas.reshape),
    "GET /allocation_candidates": Route(
        allocation_candidates, "placement:allocation_candidates:list", since=(1, 10)
    ),
}  # fmt: skip

SERVICE = Service(
    prefix="placement",
    routes=ROUTES,
    policy=POLICY,
    fault=faults.placement,
    microversions=Microversions("placement", MINIMUM, MAXIMUM, default=MINIMUM),
)
