"""What Nova has words for and this cloud has no such thing of: shares, bare metal, live migrations, a server's NUMA nodes.

Each answers what Nova does where there is none.
"""

from typing import Any

from kilonova.compute import schemas as s
from kilonova.compute import servers
from kilonova.compute.old_handlers import NotSupported
from kilonova.db.engine import Tx
from kilonova.model.errors import APIError, BadRequest, Forbidden, NotFound
from kilonova.web.call import Call

SHARE_TAG = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[a-zA-Z0-9-]*\Z"}
CREATE_SHARE = s.closed({"share": s.closed({"share_id": s.UUID, "tag": SHARE_TAG}, ("share_id",))}, ("share",))


def _server(call: Call) -> Any:
    return servers.get(call.tx, call.context, call.params["server_id"])


# --- shares (2.97) -----------------------------------------------------------------------------------------------------


def list_shares(call: Call) -> dict[str, Any]:
    _server(call)
    return {"shares": []}


def show_share(call: Call) -> None:
    _server(call)
    raise NotFound(f"Share {call.params['id']} could not be found.")


def create_share(call: Call) -> None:
    _server(call)
    raise Forbidden("Feature not supported: this cloud has no service of shared file systems.")


def delete_share(call: Call) -> None:
    show_share(call)


# --- NUMA (2.78) -------------------------------------------------------------------------------------------------------


def topology(call: Call) -> dict[str, Any]:
    """Guests have no NUMA nodes here: what Nova says of one whose flavor asks for none."""
    _server(call)
    return {"nodes": [], "pagesize_kb": None}


# --- live migrations (2.22, 2.24) --------------------------------------------------------------------------------------

FORCE_COMPLETE = s.closed({"force_complete": {"type": "null"}}, ("force_complete",))


def force_complete(call: Call) -> None:
    server = _server(call)
    servers.check_unlocked(call.context, server)
    if server["vm_state"] != "active":
        raise servers.cannot(server, "force_complete")
    raise servers.cannot(server, "force_complete", "task_state")


def abort_migration(call: Call) -> None:
    raise servers.cannot(_server(call), "abort live migration", "task_state")


# --- servers that are deleted softly -----------------------------------------------------------------------------------


def restore(tx: Tx, call: Call, argument: Any) -> None:
    """A deleted server is gone at once, as in a Nova whose reclaim_instance_interval is 0, its default."""
    server = servers.get(tx, call.context, call.params["id"])
    servers.check_unlocked(call.context, server)
    raise servers.cannot(server, "restore")


# --- bare metal (until 2.35) -------------------------------------------------------------------------------------------

IRONIC = {"add_interface": "port-create", "remove_interface": "port-delete"}
NODE = {"type": "object"}


def nodes(call: Call) -> None:
    raise NotSupported("Ironic client unavailable, cannot access Ironic.")


def create_node(call: Call) -> None:
    raise _not_by_proxy("node-create")


def delete_node(call: Call) -> None:
    raise _not_by_proxy("node-delete")


def act_on_node(call: Call) -> None:
    name = next(iter(call.body), "")
    raise _not_by_proxy(IRONIC[name]) if name in IRONIC else BadRequest(f"There is no such action: {name[:80]}")


def _not_by_proxy(command: str) -> APIError:
    return BadRequest(f"Command not supported. Please use Ironic command {command} to perform this action.")
