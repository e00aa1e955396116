"""/v2/metadefs: https://docs.openstack.org/api-ref/image/v2/metadefs-index.html. Writing is for administrators."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from kilonova.image import metadef_schemas as schemas
from kilonova.image import metadefs
from kilonova.image.paging import collection, one_key, page_size
from kilonova.model.errors import BadRequest, Forbidden, NotFound
from kilonova.model.ids import iso
from kilonova.web.call import Call, Reply, Route
from kilonova.web.policy import admin, project_reader
from kilonova.web.validate import TRUE, check

Row = sa.RowMapping
BODIES = {
    "object": schemas.OBJECT, "property": schemas.PROPERTY, "tag": schemas.TAG, "resource_type": schemas.RESOURCE_TYPE,
}  # fmt: skip
SORT_KEYS = ("namespace", "name", "created_at", "updated_at", "display_name", "visibility", "owner", "id")


def _body(call: Call, schema: Any, *read_only: str) -> dict[str, Any]:
    if not isinstance(call.body, dict):
        raise BadRequest("Body expected in request.")
    for name in (*read_only, "created_at", "updated_at"):
        if name in call.body:
            raise Forbidden(f"Attribute '{name}' is read-only.")
    check(call.body, schema)
    return call.body


def _namespace(call: Call) -> Row:
    return metadefs.get_namespace(call.tx, call.context, call.params["namespace"])


def _times(row: Row) -> dict[str, str]:
    return {"created_at": iso(row["created_at"]), "updated_at": iso(row["updated_at"])}


# Namespaces


def _brief(row: Row) -> dict[str, Any]:
    own = {name: row[name] for name in metadefs.OWN if row[name] is not None}
    link = f"/v2/metadefs/namespaces/{row['namespace']}"
    return {**own, **_times(row), "self": link, "schema": "/v2/schemas/metadefs/namespace"}


def _associations(call: Call, row: Row) -> dict[str, Any]:
    found = [_view("resource_type", row, each) for each in metadefs.entries(call.tx, row, "resource_type")]
    return {"resource_type_associations": found} if found else {}


def _whole(call: Call, row: Row) -> dict[str, Any]:
    """With all that is in it; a kind of which there is none is not named."""
    kinds = {
        "objects": [_view("object", row, each) for each in metadefs.entries(call.tx, row, "object")],
        "tags": [{"name": each["name"]} for each in metadefs.entries(call.tx, row, "tag")],
        "properties": {each["name"]: each["body"] for each in metadefs.entries(call.tx, row, "property")},
    }
    return {**_brief(row), **_associations(call, row), **{key: found for key, found in kinds.items() if found}}


def list_namespaces(call: Call) -> dict[str, Any]:
    wanted, types = call.arg("visibility"), (call.arg("resource_types") or "").split(",")
    if wanted not in (None, "", "public", "private"):
        raise BadRequest(f"Invalid visibility value: {wanted}")
    rows = metadefs.list_namespaces(call.tx, call.context)
    if wanted:
        rows = [row for row in rows if row["visibility"] == wanted]
    bodies = [{**_brief(row), **_associations(call, row)} for row in rows]
    if any(types):
        bodies = [body for body in bodies if set(types) & {
            each["name"] for each in body.get("resource_type_associations", ())
        }]  # fmt: skip
    limit = page_size(call)
    bodies = _sorted(call, bodies, "namespace")[:limit]
    return collection(call, "metadefs/namespaces", bodies, 0 < limit <= len(bodies), "namespace")


def _sorted(call: Call, bodies: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """From behind the marker. `name`: what a marker names."""
    key, descending = one_key(call, SORT_KEYS)
    bodies = sorted(bodies, key=lambda body: (body.get(key) or "", body[name]), reverse=descending)
    if marker := call.arg("marker"):
        places = [place for place, body in enumerate(bodies) if body[name] == marker]
        if not places:
            raise NotFound(f"Metadata definition {name}={marker} was not found.")
        bodies = bodies[places[0] + 1 :]
    return bodies


def create_namespace(call: Call) -> Reply:
    row = metadefs.create_namespace(call.tx, call.context, _body(call, schemas.NAMESPACE, "self", "schema"))
    return Reply(_whole(call, row), headers={"Location": f"/v2/metadefs/namespaces/{row['namespace']}"})


def show_namespace(call: Call) -> dict[str, Any]:
    """With `resource_type`, the names of properties begin with that type's prefix."""
    row = _namespace(call)
    body, wanted = _whole(call, row), call.arg("resource_type")
    prefixes = {each["name"]: each.get("prefix") for each in body.get("resource_type_associations", ())}
    if wanted and (prefix := prefixes.get(wanted)):
        for holder in (body, *body.get("objects", ())):
            if "properties" in holder:
                holder["properties"] = {prefix + name: each for name, each in holder["properties"].items()}
        for each in body.get("objects", ()):
            if each.get("required"):
                each["required"] = [prefix + name for name in each["required"]]
    return body


def update_namespace(call: Call) -> dict[str, Any]:
    body = _body(call, schemas.NAMESPACE, "self", "schema")
    return _brief(metadefs.update_namespace(call.tx, call.context, call.params["namespace"], body))


def delete_namespace(call: Call) -> None:
    metadefs.delete_namespace(call.tx, call.context, call.params["namespace"])


# What is in them: the same five handlers for each kind


def _view(kind: str, namespace: Row, row: Row) -> dict[str, Any]:
    body = {"name": row["name"], **row["body"]}
    if kind == "property":
        return body
    if kind == "object":
        link = f"/v2/metadefs/namespaces/{namespace['namespace']}/objects/{row['name']}"
        body |= {"self": link, "schema": "/v2/schemas/metadefs/object"}
    return {**body, **_times(row)}


def _shower(kind: str) -> Callable[[Call], Any]:
    def show(call: Call) -> dict[str, Any]:
        namespace, name = _namespace(call), call.params["name"]
        if kind == "property" and (resource_type := call.arg("resource_type")):
            name = _without_prefix(call, namespace, name, resource_type)
        return _view(kind, namespace, metadefs.get(call.tx, namespace, kind, name))

    return show


def _without_prefix(call: Call, namespace: Row, name: str, resource_type: str) -> str:
    association = metadefs.get(call.tx, namespace, "resource_type", resource_type)
    prefix = association["body"].get("prefix")
    if not prefix or not name.startswith(prefix):
        raise NotFound(
            f"Property {name} does not start with the expected resource type association prefix of '{prefix}'."
        )  # fmt: skip
    return name[len(prefix) :]


def _creator(kind: str) -> Callable[[Call], Any]:
    def create(call: Call) -> dict[str, Any]:
        namespace = _namespace(call)
        body = _body(call, BODIES[kind], *(("self", "schema") if kind == "object" else ()))
        return _view(kind, namespace, metadefs.add(call.tx, namespace, kind, body["name"], body))

    return create


def _updater(kind: str) -> Callable[[Call], Any]:
    def update(call: Call) -> dict[str, Any]:
        namespace = _namespace(call)
        body = _body(call, BODIES[kind], *(("self", "schema") if kind == "object" else ()))
        return _view(kind, namespace, metadefs.update(call.tx, namespace, kind, call.params["name"], body))

    return update


def _deleter(kind: str) -> Callable[[Call], None]:
    def delete(call: Call) -> None:
        metadefs.remove(call.tx, _namespace(call), kind, call.params["name"])

    return delete


def _clearer(kind: str) -> Callable[[Call], None]:
    def clear(call: Call) -> None:
        metadefs.clear(call.tx, _namespace(call), kind)

    return clear


def _listed(call: Call, kind: str) -> list[dict[str, Any]]:
    namespace = _namespace(call)
    bodies = [_view(kind, namespace, row) for row in metadefs.entries(call.tx, namespace, kind)]
    return _sorted(call, bodies, "name")[: page_size(call, len(bodies))]


def list_objects(call: Call) -> dict[str, Any]:
    return {"objects": _listed(call, "object"), "schema": "v2/schemas/metadefs/objects"}


def list_tags(call: Call) -> dict[str, Any]:
    return {"tags": [{"name": each["name"]} for each in _listed(call, "tag")]}


def list_properties(call: Call) -> dict[str, Any]:
    rows = metadefs.entries(call.tx, _namespace(call), "property")
    return {"properties": {row["name"]: row["body"] for row in rows}}


def list_associations(call: Call) -> dict[str, Any]:
    namespace = _namespace(call)
    rows = metadefs.entries(call.tx, namespace, "resource_type")
    return {"resource_type_associations": [_view("resource_type", namespace, row) for row in rows]}


def delete_association(call: Call) -> None:
    namespace, name = _namespace(call), call.params["name"]
    if name not in [row["name"] for row in metadefs.entries(call.tx, namespace, "resource_type")]:
        raise NotFound(f"Failed to find resource type {name} to delete")
    metadefs.remove(call.tx, namespace, "resource_type", name)


def create_tag(call: Call) -> dict[str, Any]:
    """The address names it; there is no body."""
    namespace, name = _namespace(call), call.params["name"]
    check({"name": name}, schemas.TAG)
    return _view("tag", namespace, metadefs.add(call.tx, namespace, "tag", name, {}))


def create_tags(call: Call) -> dict[str, Any]:
    """All that the namespace then has; with `X-Openstack-Append`, beside those that it had."""
    namespace = _namespace(call)
    names = [each["name"] for each in _body(call, schemas.TAGS)["tags"]]
    metadefs.check_number("tag", len(names))
    append = call.headers.get("x-openstack-append", "").strip().lower() in TRUE
    if names and not append:
        metadefs.drop(call.tx, namespace, "tag")
    for name in names:
        metadefs.add(call.tx, namespace, "tag", name, {})
    return {"tags": [{"name": name} for name in names]}


def list_resource_types(call: Call) -> dict[str, Any]:
    return {"resource_types": metadefs.resource_types(call.tx)}


def show_schema(call: Call) -> dict[str, Any]:
    name = call.params["name"]
    if name not in schemas.SCHEMAS:
        raise NotFound("The resource could not be found.")
    return schemas.SCHEMAS[name]


POLICY = {"metadef_reader": project_reader, "metadef_admin": admin}

READ, WRITE = "metadef_reader", "metadef_admin"
N = "/v2/metadefs/namespaces/{namespace}"
ROUTES = {
    "GET /v2/metadefs/resource_types": Route(list_resource_types, READ),
    "GET /v2/metadefs/namespaces": Route(list_namespaces, READ),
    "POST /v2/metadefs/namespaces": Route(create_namespace, WRITE, 201),
    f"GET {N}": Route(show_namespace, READ),
    f"PUT {N}": Route(update_namespace, WRITE),
    f"DELETE {N}": Route(delete_namespace, WRITE, 204),
    f"GET {N}/objects": Route(list_objects, READ),
    f"POST {N}/objects": Route(_creator("object"), WRITE, 201),
    f"DELETE {N}/objects": Route(_clearer("object"), WRITE, 204),
    f"GET {N}/objects/{{name}}": Route(_shower("object"), READ),
    f"PUT {N}/objects/{{name}}": Route(_updater("object"), WRITE),
    f"DELETE {N}/objects/{{name}}": Route(_deleter("object"), WRITE, 204),
    f"GET {N}/properties": Route(list_properties, READ),
    f"POST {N}/properties": Route(_creator("property"), WRITE, 201),
    f"DELETE {N}/properties": Route(_clearer("property"), WRITE, 204),
    f"GET {N}/properties/{{name}}": Route(_shower("property"), READ),
    f"PUT {N}/properties/{{name}}": Route(_updater("property"), WRITE),
    f"DELETE {N}/properties/{{name}}": Route(_deleter("property"), WRITE, 204),
    f"GET {N}/resource_types": Route(list_associations, READ),
    f"POST {N}/resource_types": Route(_creator("resource_type"), WRITE, 201),
    f"DELETE {N}/resource_types/{{name}}": Route(delete_association, WRITE, 204),
    f"GET {N}/tags": Route(list_tags, READ),
    f"POST {N}/tags": Route(create_tags, WRITE, 201),
    f"DELETE {N}/tags": Route(_clearer("tag"), WRITE, 204),
    f"GET {N}/tags/{{name}}": Route(_shower("tag"), READ),
    f"POST {N}/tags/{{name}}": Route(create_tag, WRITE, 201),
    f"PUT {N}/tags/{{name}}": Route(_updater("tag"), WRITE),
    f"DELETE {N}/tags/{{name}}": Route(_deleter("tag"), WRITE, 204),
}
