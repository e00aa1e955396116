"""Remote consoles: POST /servers/{id}/remote-consoles, the actions before 2.6, and what a token opens.

Nova: api/openstack/compute/remote_consoles.py, console_auth_tokens.py.
"""

from typing import Any
from urllib.parse import quote, urlsplit

import sqlalchemy as sa

from kilonova.compute import consoles, servers, states
from kilonova.compute import schemas as s
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Conflict, NotFound
from kilonova.web.call import Call, Reply, Version

OFFERED = {"vnc": "novnc", "serial": "serial"}  # protocol → its one type here
ON = (states.RUNNING, states.PAUSED)
# until 2.5: action → (protocol, types that Nova's schema knows)
ACTIONS = {"os-getVNCConsole": ("vnc", ["novnc", "xvpvnc"]), "os-getSerialConsole": ("serial", ["serial"])}
REFUSED = {"os-getSPICEConsole": ("spice", ["spice-html5"]), "os-getRDPConsole": ("rdp", ["rdp-html5"])}


def create_schema(version: Version) -> dict[str, Any]:
    minor = version[1]
    protocols = ["vnc", "spice", "rdp", "serial", *(["mks"] if minor >= 8 else [])]
    types = ["novnc", "xvpvnc", "rdp-html5", "spice-html5", "serial"]
    types += (["webmks"] if minor >= 8 else []) + (["spice-direct"] if minor >= 99 else [])
    asked = {"protocol": {"type": "string", "enum": protocols}, "type": {"type": "string", "enum": types}}
    return s.closed({"remote_console": s.closed(asked, ("protocol", "type"))}, ("remote_console",))


def create(call: Call) -> dict[str, Any]:
    """Asks the server's host: opens its own transactions."""
    asked = call.body["remote_console"]
    url = _console(call, call.params["server_id"], asked["protocol"], asked["type"])
    return {"remote_console": {"protocol": asked["protocol"], "type": asked["type"], "url": url}}


def act(name: str, call: Call, argument: Any) -> Reply:
    """One of ACTIONS or REFUSED; opens its own transactions."""
    if call.since(6):
        raise NotFound("The resource could not be found.")
    protocol, types = (ACTIONS | REFUSED)[name]
    call.check(argument, s.closed({"type": {"type": "string", "enum": types}}, ("type",)))
    url = _console(call, call.params["id"], protocol, argument["type"])
    return Reply({"console": {"type": argument["type"], "url": url}}, 200)


def _console(call: Call, server_id: str, protocol: str, console_type: str) -> str:
    """The URL of a page with a new token in it."""
    server = call.database.read(lambda tx: _reachable(tx, call, server_id))
    if protocol not in OFFERED:
        raise BadRequest(f"Unavailable console type {console_type}.", type="ConsoleTypeUnavailable")
    if console_type != OFFERED[protocol]:
        raise BadRequest(f"Invalid console type {console_type}", type="ConsoleTypeInvalid")
    if server["power_state"] not in ON:
        raise servers.cannot(server, f"get_{protocol}_console")
    place = call.services.flows.console_address(server["id"], server["host"], console_type)
    if not place["running"]:
        raise _not_ready(server)
    if place["port"] is None:
        raise BadRequest(f"Unavailable console type {console_type}.", type="ConsoleTypeUnavailable")

    def authorize(tx: Tx) -> str:
        now = _reachable(tx, call, server_id)
        if now["host"] != server["host"] or now["power_state"] not in ON:  # stopped or moved meanwhile
            raise _not_ready(server)
        return consoles.authorize(tx, now, console_type, place)

    return url(call.base_url.rpartition("/")[0], console_type, call.database.write(authorize))


def _reachable(tx: Tx, call: Call, server_id: str) -> sa.RowMapping:
    server = servers.get(tx, call.context, server_id)
    if not server["host"]:
        raise _not_ready(server)
    return server


def _not_ready(server: sa.RowMapping) -> Conflict:
    return Conflict(f"Instance {server['id']} is not ready", type="InstanceNotReady")


def url(root: str, console_type: str, token: str) -> str:
    """Of the page; its websocket has the same path. noVNC's names that websocket, as Nova's does: tools look for it there."""
    if console_type == "novnc":
        socket = f"{urlsplit(root).path}/console/novnc?token={token}"
        return f"{root}/console/novnc?path={quote(socket, safe='')}"
    return f"{root}/console/{console_type}?token={token}"


def show_token(call: Call) -> dict[str, Any]:
    """GET /os-console-auth-tokens/{id}; until 2.30 of RDP alone, which no guest has."""
    if not call.since(31):
        raise BadRequest("The requested console type details are not accessible")
    found = consoles.find(call.tx, call.params["id"])
    if found is None:
        raise NotFound("Token not found")
    console = {"instance_uuid": found["server_id"], "host": found["address"], "port": found["port"]}
    console["internal_access_path"] = None
    return {"console": console | ({"tls_port": None} if call.since(99) else {})}
