"""Rescue: the server boots from another image, with its own disks beside it (Nova: `rescue` of `nova/compute/api.py`)."""

import secrets
import string
from typing import Any

import sqlalchemy as sa

from kilonova.compute import block_devices, images, servers
from kilonova.compute import schemas as s
from kilonova.compute.verbs import RESCUING, UNRESCUING, Asked, Verb, in_states
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest
from kilonova.web.call import Call, Reply

PASSWORD_LENGTH = 12
PROPERTIES = ("hw_rescue_device", "hw_rescue_bus")  # either asks for a stable rescue: all disks stay where they are
PASSWORD = {"type": "string", "maxLength": 255}
IMAGE = {"type": "string", "format": "uuid"}
SCHEMA = {"oneOf": [{"type": "null"}, s.closed({"adminPass": PASSWORD, "rescue_image_ref": IMAGE})]}


def look(tx: Tx, call: Call, server: sa.RowMapping, argument: dict[str, Any] | None) -> Asked:
    """The image is the one asked for, or else the server's own. Its password is in the rescue system's config drive."""
    argument = argument or {}
    image_id = argument.get("rescue_image_ref") or server["image_id"]
    properties = server["image_meta"].get("properties") or {}
    if "rescue_image_ref" in argument:
        try:
            properties = images.get_image(tx, call.context, image_id).properties
        except BadRequest as error:
            raise BadRequest(f"Requested rescue image '{image_id}' is not supported") from error
    on_volume = block_devices.root(tx, server["id"]) is not None
    if on_volume and not (call.since(87) and image_id and set(PROPERTIES) <= set(properties)):
        raise BadRequest(f"Instance {server['id']} cannot be rescued: Cannot rescue a volume-backed instance")
    password = argument.get("adminPass") or new_password()
    servers.update(tx, call.context, server["id"], {"admin_password": password})
    return Asked({"rescue_image_id": image_id}, Reply({"adminPass": password}, 200))


def new_password() -> str:
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(PASSWORD_LENGTH))


VERBS: dict[str, Verb] = {
    "rescue": Verb("rescue", in_states("active", "stopped", "error"), RESCUING, "os-rescue", schema=SCHEMA, look=look),
    "unrescue": Verb("unrescue", in_states("rescued"), UNRESCUING, "os-unrescue"),
}
