"""Handlers made of a noun's functions: what all of Neutron's resources share at the door."""

from collections.abc import Callable, Sequence
from typing import Any

from kilonova.db.engine import Tx
from kilonova.network import attributes as a
from kilonova.network import query
from kilonova.network.rows import Row
from kilonova.web.call import Call, Context

# That one request makes, and the parts that these list (addresses, groups): each takes its time, while nobody else may write.
MOST, MOST_PARTS = 500, 5000

View = Callable[[Tx, Context, Sequence[Row]], list[dict[str, Any]]]
Create = Callable[[Tx, Context, Any], Row]
Update = Callable[[Tx, Context, str, Any], Row]
Get = Callable[[Tx, Context, str], Row]
Delete = Callable[[Tx, Context, str], None]
Page = Callable[[Call], tuple[list[Row], dict[str, Any]]]


def body_of(call: Call, name: str) -> Any:
    if not isinstance(call.body, dict):
        raise a.bad_request("Resource body required")
    if name not in call.body:
        raise a.bad_request(f"Unable to find '{name}' in request body")
    return call.body[name]


def lister(collection: str, page: Page, view: View) -> Callable[[Call], Any]:
    def handler(call: Call) -> Any:
        rows, links = page(call)
        bodies = view(call.tx, call.context, rows)
        return {collection: [query.fields(call, body) for body in bodies], **links}

    return handler


def creator(name: str, collection: str, create: Create, view: View) -> Callable[[Call], Any]:
    """One `{name: …}`, or many at once `{collection: […]}`, `MOST` of them: all or none."""

    def handler(call: Call) -> Any:
        if isinstance(call.body, dict) and collection in call.body and name not in call.body:
            many = call.body[collection]
            if not isinstance(many, list) or not many:
                raise a.bad_request("Resources required")
            many = [bare(each, name) for each in many]
            check_number(collection, many)
            made = [create(call.tx, call.context, each) for each in many]
            return {collection: view(call.tx, call.context, made)}
        row = create(call.tx, call.context, body_of(call, name))
        return {name: view(call.tx, call.context, [row])[0]}

    return handler


def check_number(collection: str, many: list[Any]) -> None:
    if len(many) > MOST:
        raise a.bad_request(f"The request makes {len(many)} {collection}, of at most {MOST}")
    lists = [value for each in many if isinstance(each, dict) for value in each.values() if isinstance(value, list)]
    if (number := sum(map(len, lists))) > MOST_PARTS:
        raise a.bad_request(f"The request's {collection} list {number} things, of at most {MOST_PARTS}")


def bare(each: Any, name: str) -> Any:
    """One of many may be written `{name: …}` too."""
    return each[name] if isinstance(each, dict) and set(each) == {name} else each


def shower(name: str, get: Get, view: View) -> Callable[[Call], Any]:
    def handler(call: Call) -> Any:
        row = get(call.tx, call.context, call.params["id"])
        return {name: query.fields(call, view(call.tx, call.context, [row])[0])}

    return handler


def updater(name: str, update: Update, view: View) -> Callable[[Call], Any]:
    def handler(call: Call) -> Any:
        row = update(call.tx, call.context, call.params["id"], body_of(call, name))
        return {name: view(call.tx, call.context, [row])[0]}

    return handler


def deleter(delete: Delete) -> Callable[[Call], Any]:
    return lambda call: delete(call.tx, call.context, call.params["id"])
