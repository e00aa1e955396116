"""Where an image's data lie: /v2/images/{id}/locations for services, /v2/info/stores, and DELETE /v2/stores/{store}/{id}.

No location is added: it would be a web server that is asked at each boot, or a file of this machine that whoever boots
the image would read. Glance has a store for the first, which this cloud has not, and allows the second in none.
"""

from typing import Any

from kilonova.image import images, locations, schemas
from kilonova.image.store import Stores
from kilonova.model.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.web.call import Call
from kilonova.web.validate import check


def stores_of(call: Call) -> Stores:
    stores: Stores = call.services.images
    return stores


def list_locations(call: Call) -> list[dict[str, Any]]:
    """One for each store of this cloud that has the data."""
    row, stores = images.get(call.tx, call.context, call.params["image_id"]), stores_of(call)
    held = [name for name in locations.held(call.tx, row["id"]) if name in stores.names]
    return [{"url": stores[name].url(row["id"]), "metadata": {"store": name}} for name in held]


def add_location(call: Call) -> None:
    """Always refused, in Glance's order and words: 400, 404, 409, then 403, and 400 for a service."""
    if not isinstance(call.body, dict):
        raise BadRequest("Body expected in request.")
    check(call.body, schemas.ADD_LOCATION)
    row = images.get(call.tx, call.context, call.params["image_id"])
    if row["status"] != "queued":
        raise Conflict(f"It's not allowed to add locations if image status is {row['status']}.")
    if not (call.context.is_admin or "service" in call.context.roles):
        raise Forbidden("http store must be enabled to use location API by normal user.")
    raise BadRequest(
        f"Invalid location: {call.body['url']}: the data of images lie in this cloud's stores alone: "
        f"{', '.join(stores_of(call).names)}."
    )


def info_stores(call: Call) -> dict[str, Any]:
    return {"stores": [_info(call, name) for name in stores_of(call).names]}


def _info(call: Call, name: str) -> dict[str, Any]:
    stores = stores_of(call)
    told = {"id": name, "description": stores[name].description}
    return {**told, "default": True} if name == stores.default.name else told


def info_stores_detail(call: Call) -> dict[str, Any]:
    details = [
        {**_info(call, store.name), "type": store.kind, "weight": 0, "properties": store.properties()}
        for store in stores_of(call)
    ]
    return {"stores": details}


def delete_from_store(call: Call) -> None:
    """The data stay in the image's other stores (Glance: delete_from_store in glance/api/v2/images.py)."""
    stores, name = stores_of(call), call.params["store_id"]
    if name not in stores.names:
        raise Conflict(f"The selected store {name} is not available on this node.")
    row = images.get(call.tx, call.context, call.params["image_id"])
    if row["status"] != "active":
        raise Conflict("It's not allowed to remove image data from store if image status is not 'active'")
    if len(locations.held(call.tx, row["id"])) == 1:
        raise Forbidden(
            "Cannot delete image data from the only store containing it. Consider deleting the image instead."
        )
    images.save(call.tx, row["id"], {})  # of two who take the last two away, one comes after the other
    if not locations.remove(call.tx, row["id"], name):
        raise NotFound(f"Image {row['id']} is not stored in store {name}.")
    call.tx.after_commit(lambda: stores.delete(row["id"], [name]))
