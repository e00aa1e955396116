"""The action changePassword: the guest's administrator gets a new password, from the agent inside the guest.

Nova: `set_admin_password` of `nova/compute/api.py` and of the libvirt driver. The password is told and forgotten: it stands
in no row, so there is no flow either, and nothing to undo.
"""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import schemas as s
from kilonova.compute import servers
from kilonova.db.engine import Tx
from kilonova.model.errors import Conflict
from kilonova.web.call import Call, Reply
from kilonova.web.validate import TRUE

SCHEMA = s.closed({"adminPass": {"type": "string"}}, ("adminPass",))
ACTION = "changePassword"


def change(call: Call, argument: Any) -> Reply:
    """Conflict where the image does not promise an agent (`hw_qemu_guest_agent`), or it does not do it. Does I/O."""
    server = call.database.read(lambda tx: _look(tx, call))
    properties = server["image_meta"].get("properties") or {}
    if str(properties.get("hw_qemu_guest_agent", False)).lower() not in TRUE:
        raise Conflict("QEMU guest agent is not enabled")
    windows = str(properties.get("os_type", "")).lower() == "windows"
    user = str(properties.get("os_admin_user") or ("Administrator" if windows else "root"))
    flows = call.services.flows
    refused = flows.set_admin_password(server["id"], server["host"], user, argument["adminPass"])
    call.database.write(lambda tx: flows.note(tx, ACTION, server["id"], call.context, refused))
    if refused:
        raise Conflict(f"Failed to set admin password on {server['id']} because {refused}")
    return Reply(None, 202)


def _look(tx: Tx, call: Call) -> sa.RowMapping:
    server = servers.get(tx, call.context, call.params["id"])
    if not server["host"]:
        raise Conflict(f"Instance {server['id']} is not ready")
    if server["vm_state"] != "active":
        raise servers.cannot(server, ACTION)
    if server["task_state"] is not None:
        raise servers.cannot(server, ACTION, "task_state")
    return server
