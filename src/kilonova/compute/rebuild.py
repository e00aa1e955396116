"""rebuild: what Nova's API refuses at once, and the server's row as it then is (nova/compute/api.py, servers.py)."""

import dataclasses
import secrets
import string
from typing import Any

import sqlalchemy as sa

from kilonova.compute import block_devices, create, personality, servers, states, views, volume_backed
from kilonova.compute import schemas as s
from kilonova.compute.images import check_fit, get_image
from kilonova.compute.verbs import Asked
from kilonova.db.engine import Tx
from kilonova.web.call import Call, Reply
from kilonova.web.validate import TRUE

REBUILDING = "rebuilding"
COLUMNS = {
    "accessIPv4": "access_ip_v4", "accessIPv6": "access_ip_v6", "OS-DCF:diskConfig": "disk_config",
    "description": "description", "metadata": "metadata", "user_data": "user_data", "hostname": "hostname",
}  # fmt: skip


def schema(call: Call) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "name": s.NAME, "imageRef": {"type": "string", "format": "uuid"}, "adminPass": {"type": "string", "maxLength": 255},
        "metadata": s.METADATA, "preserve_ephemeral": s.BOOLEAN, "OS-DCF:diskConfig": s.DISK_CONFIG,
        "accessIPv4": s.ACCESS_IPV4, "accessIPv6": s.ACCESS_IPV6,
    }  # fmt: skip
    if not call.since(57):
        properties["personality"] = s.PERSONALITY
    if call.since(19):
        properties["description"] = s.TEXT
    if call.since(54):
        properties["key_name"] = {"oneOf": [s.NAME, {"type": "null"}]}
    if call.since(57):
        properties["user_data"] = {"type": ["string", "null"], "maxLength": 65535}
    if call.since(63):
        properties["trusted_image_certificates"] = s.TRUSTED_CERTIFICATES
    if call.since(90):
        properties["hostname"] = s.FQDN if call.since(94) else s.HOSTNAME
    return s.closed(properties, ("imageRef",))


def rebuild(tx: Tx, call: Call, server: sa.RowMapping, argument: dict[str, Any]) -> Asked:
    root = block_devices.root(tx, server["id"])
    create.check_not_offered(argument)
    create.check_user_data(argument)
    password = argument.get("adminPass") or "".join(
        secrets.choice(string.ascii_letters + string.digits) for _ in range(create.PASSWORD_LENGTH)
    )
    reimage = root is not None and volume_backed.check_rebuild(tx, call, root, argument["imageRef"])
    values = _values(tx, call, server, argument, root) | {"admin_password": password, "progress": 0, "fault": None}
    states.note(tx, server["id"], server["system_metadata"], **values)
    data = {
        "preserve_ephemeral": str(argument.get("preserve_ephemeral", False)).lower() in TRUE,
        "running": server["vm_state"] != "stopped",
    }
    reply = _reply(tx, call, server["id"], password)
    if reimage:
        assert root is not None
        return Asked(
            data | {"root_volume": root["volume_id"], "image": argument["imageRef"]}, reply, "rebuild_volume_backed"
        )
    return Asked(data, reply)


def _values(
    tx: Tx, call: Call, server: sa.RowMapping, argument: dict[str, Any], root: sa.RowMapping | None
) -> dict[str, Any]:
    """The columns that change at once. A volume's image is the volume's affair; what it says of the hardware is not."""
    image = get_image(tx, call.context, argument["imageRef"])
    check_fit(image, server["flavor"], call.context, of_volume=root is not None)
    values = {COLUMNS[name]: value for name, value in argument.items() if name in COLUMNS}
    values["personality"] = personality.check(tx, server["project_id"], argument.get("personality", []))
    values |= {"image_meta": image.meta} | ({"image_id": image.id} if root is None else {})
    for name in ("access_ip_v4", "access_ip_v6"):
        if name in values:
            values[name] = create.canonical_ip(values[name])
    if "name" in argument:
        values["name"] = argument["name"].strip()
    if "metadata" in argument:
        servers.check_metadata_quota(tx, server["project_id"], argument["metadata"])
    if "key_name" in argument:
        values |= {
            "key_name": argument["key_name"],
            "keypair": create.find_keypair(tx, call.context, argument["key_name"]),
        }
    return values


def _reply(tx: Tx, call: Call, id: str, password: str) -> Reply:
    """The server as it is then, with its password."""
    row: Any = {**states.get_row(tx, id), "task_state": REBUILDING}
    inside = dataclasses.replace(call, _tx=tx)
    hidden = set(views.SINCE_275) - ({"key_name"} if call.since(54) else set())
    body = views.server_list(inside, [row], show=True)[0]
    body = body if call.since(75) else views.as_put(body, hidden)
    body.pop("OS-EXT-SRV-ATTR:user_data", None)
    if call.since(57):
        body["user_data"] = row["user_data"]
    location = views.links(call, "servers", id)[0]["href"]
    return Reply({"server": {**body, "adminPass": password}}, headers={"Location": location})
