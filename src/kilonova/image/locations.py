"""/v2/images/{id}/locations: where an image's data lie, for services; and why none is added.

The one store is this machine's disk. A location that is added would be a file of this machine, which whoever boots
the image would read, or a web server that is asked at each boot; Glance allows a file in none of its stores.
"""

from typing import Any

from kilonova.image import images, schemas
from kilonova.model.errors import BadRequest, Conflict, Forbidden
from kilonova.web.call import Call
from kilonova.web.validate import check


def index(call: Call) -> list[dict[str, Any]]:
    """One, once there are data."""
    row = images.get(call.tx, call.context, call.params["image_id"])
    store = call.services.images
    return [{"url": f"file://{store.path(row['id'])}", "metadata": {"store": store.id}}] if row["checksum"] else []


def add(call: Call) -> None:
    """Always refused, in Glance's order and words: 400, 404, 409, then 403, and 400 for a service."""
    if not isinstance(call.body, dict):
        raise BadRequest("Body expected in request.")
    check(call.body, schemas.ADD_LOCATION)
    row = images.get(call.tx, call.context, call.params["image_id"])
    if row["status"] != "queued":
        raise Conflict(f"It's not allowed to add locations if image status is {row['status']}.")
    if not (call.context.is_admin or "service" in call.context.roles):
        raise Forbidden("http store must be enabled to use location API by normal user.")
    raise BadRequest(f"Invalid location: {call.body['url']}: the data of images lie in the store 'file' alone.")
