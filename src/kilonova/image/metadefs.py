"""Metadata definitions: namespaces, and the objects, properties, tags and resource types in them.

A private namespace is its project's; to others it is not there. Errors are Glance's (glance/common/exception.py).
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from kilonova.db.dialect import insert_new
from kilonova.db.engine import Tx
from kilonova.image.tables import DEFINITIONS, NAMESPACES, RESOURCE_TYPES
from kilonova.model.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.model.ids import iso, new_id, now
from kilonova.web.call import Context

Row = sa.RowMapping
MOST = 1000  # of a kind in one request: each takes its time, while nobody else writes
OWN = ("namespace", "display_name", "description", "visibility", "protected", "owner")
# Those that Glance's own definitions are about, in every cloud.
KNOWN_TYPES = ("OS::Cinder::Volume", "OS::Glance::Image", "OS::Nova::Aggregate", "OS::Nova::Flavor", "OS::Nova::Server",
               "OS::Trove::Instance")  # fmt: skip
NOT_FOUND = {
    "object": "The metadata definition object with name={} was not found in namespace={}.",
    "property": "The metadata definition property with name={} was not found in namespace={}.",
    "tag": "The metadata definition tag with name={} was not found in namespace={}.",
    "resource_type": "The metadata definition resource-type association of resource-type={} to namespace={}, "
                     "was not found.",
}  # fmt: skip
DUPLICATE = {
    "object": "A metadata definition object with name={} already exists in namespace={}.",
    "property": "A metadata definition property with name={} already exists in namespace={}.",
    "tag": "A metadata tag with name={} already exists in namespace={}.",
    "resource_type": "The metadata definition resource-type association of resource-type={} to namespace={} "
                     "already exists.",
}  # fmt: skip
PROTECTED = {
    "object": "Metadata definition object {} is protected and cannot be deleted.",
    "property": "Metadata definition property {} is protected and cannot be deleted.",
    "tag": "Metadata definition tag {} is protected and cannot be deleted.",
    "resource_type": "Metadata definition resource-type-association {} is protected and cannot be deleted.",
}


def visible(context: Context) -> sa.ColumnElement[bool]:
    if context.is_admin:
        return sa.true()
    n = NAMESPACES.c
    return (n.visibility == "public") | (n.owner == context.project_id) | n.owner.is_(None)


def list_namespaces(tx: Tx, context: Context) -> list[Row]:
    return tx.all(sa.select(NAMESPACES).where(visible(context)).order_by(NAMESPACES.c.namespace))


def get_namespace(tx: Tx, context: Context, name: str) -> Row:
    row = tx.first(sa.select(NAMESPACES).where(NAMESPACES.c.namespace == name, visible(context)))
    if row is None:
        raise NotFound(f"Metadata definition namespace={name} was not found.")
    return row


def create_namespace(tx: Tx, context: Context, body: Mapping[str, Any]) -> Row:
    """The namespace and all that is in the body, checked for shape already. Conflict where something is there twice."""
    when = now()
    values = {"owner": context.project_id, **_own(body)}
    row = {"display_name": None, "description": None, **values, "id": new_id(), "created_at": when, "updated_at": when}
    if not insert_new(tx.connection, NAMESPACES, row):
        raise Conflict(f"The metadata definition namespace={row['namespace']} already exists.")
    made = get_namespace(tx, context, row["namespace"])
    for kind, key in (("resource_type", "resource_type_associations"), ("object", "objects"), ("tag", "tags")):
        check_number(kind, len(body.get(key, ())))
        for each in body.get(key, ()):
            add(tx, made, kind, each["name"], each)
    check_number("property", len(body.get("properties", {})))
    for name, each in body.get("properties", {}).items():
        add(tx, made, "property", name, each)
    return made


def check_number(kind: str, number: int) -> None:
    if number > MOST:
        raise BadRequest(f"The request has {number} of kind {kind}, of at most {MOST}.")


def _own(body: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: body[name] for name in OWN if name in body}
    return {"visibility": "private", "protected": False, **given}


def update_namespace(tx: Tx, context: Context, name: str, body: Mapping[str, Any]) -> Row:
    """What the body does not say is as in a new one; what is in the namespace stays."""
    row = get_namespace(tx, context, name)
    wanted = body["namespace"]
    taken = tx.first(sa.select(NAMESPACES.c.id).where(NAMESPACES.c.namespace == wanted, NAMESPACES.c.id != row["id"]))
    if taken is not None:
        raise Conflict(f"The metadata definition namespace={wanted} already exists.")
    values = {"display_name": None, "description": None, "owner": context.project_id, **_own(body), "updated_at": now()}
    tx.execute(NAMESPACES.update().where(NAMESPACES.c.id == row["id"]).values(**values))
    return get_namespace(tx, context, wanted)


def delete_namespace(tx: Tx, context: Context, name: str) -> None:
    row = get_namespace(tx, context, name)
    clear(tx, row)
    tx.execute(NAMESPACES.delete().where(NAMESPACES.c.id == row["id"]))


def clear(tx: Tx, namespace: Row, kind: str | None = None) -> None:
    """Remove all of that kind, or all there is. Forbidden when the namespace is protected."""
    if namespace["protected"]:
        raise Forbidden(
            f"Metadata definition namespace {namespace['namespace']} is protected and cannot be deleted."
        )  # fmt: skip
    drop(tx, namespace, kind)


def drop(tx: Tx, namespace: Row, kind: str | None = None) -> None:
    """As `clear`, of a protected namespace, too: for what is put in the place of that."""
    query = DEFINITIONS.delete().where(DEFINITIONS.c.namespace_id == namespace["id"])
    tx.execute(query if kind is None else query.where(DEFINITIONS.c.kind == kind))


# What is in a namespace


def _one(namespace: Row, kind: str, name: str) -> sa.ColumnElement[bool]:
    d = DEFINITIONS.c
    return (d.namespace_id == namespace["id"]) & (d.kind == kind) & (d.name == name)


def entries(tx: Tx, namespace: Row, kind: str) -> list[Row]:
    """In the order in which they were made."""
    d = DEFINITIONS.c
    query = sa.select(DEFINITIONS).where(d.namespace_id == namespace["id"], d.kind == kind)
    return tx.all(query.order_by(d.created_at, d.name))


def get(tx: Tx, namespace: Row, kind: str, name: str) -> Row:
    row = tx.first(sa.select(DEFINITIONS).where(_one(namespace, kind, name)))
    if row is None:
        raise NotFound(NOT_FOUND[kind].format(name, namespace["namespace"]))
    return row


def add(tx: Tx, namespace: Row, kind: str, name: str, body: Mapping[str, Any]) -> Row:
    when = now()
    values = {"namespace_id": namespace["id"], "kind": kind, "name": name, "created_at": when, "updated_at": when}
    rest = {key: value for key, value in body.items() if key != "name"}
    if not insert_new(tx.connection, DEFINITIONS, {**values, "body": rest}):
        raise Conflict(DUPLICATE[kind].format(name, namespace["namespace"]))
    if kind == "resource_type" and name not in KNOWN_TYPES:
        insert_new(tx.connection, RESOURCE_TYPES, {"name": name, "created_at": when})
    return get(tx, namespace, kind, name)


def update(tx: Tx, namespace: Row, kind: str, name: str, body: Mapping[str, Any]) -> Row:
    """The body in the place of what was there, under its own name."""
    get(tx, namespace, kind, name)
    wanted = body["name"]
    if wanted != name and tx.first(sa.select(DEFINITIONS.c.name).where(_one(namespace, kind, wanted))) is not None:
        raise Conflict(DUPLICATE[kind].format(wanted, namespace["namespace"]))
    rest = {key: value for key, value in body.items() if key != "name"}
    tx.execute(
        DEFINITIONS.update().where(_one(namespace, kind, name)).values(name=wanted, body=rest, updated_at=now())
    )
    return get(tx, namespace, kind, wanted)


def remove(tx: Tx, namespace: Row, kind: str, name: str) -> None:
    get(tx, namespace, kind, name)
    if namespace["protected"]:
        raise Forbidden(PROTECTED[kind].format(name))
    tx.execute(DEFINITIONS.delete().where(_one(namespace, kind, name)))


def resource_types(tx: Tx) -> list[dict[str, Any]]:
    named = tx.all(sa.select(RESOURCE_TYPES).order_by(RESOURCE_TYPES.c.name))
    more = [{"name": row["name"], "created_at": iso(row["created_at"])} for row in named]
    return [{"name": name} for name in KNOWN_TYPES] + more
