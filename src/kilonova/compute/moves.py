"""migrate, os-migrateLive and evacuate: what Nova says of them where there is no second host to go to.

A refusal that Nova finds while it looks for a host is no answer to the request: it is the end of the action, and the
server's fault. Nova: `nova/api/openstack/compute/{migrate_server,evacuate}.py`, conductor's `live_migrate` and `migrate`.
"""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import hosts, servers, states
from kilonova.compute import schemas as s
from kilonova.compute.rescue import new_password
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Forbidden, NotFound, NoValidHost
from kilonova.web.call import Call, Reply
from kilonova.web.validate import TRUE

HOST = {"oneOf": [{"type": "null"}, s.FQDN]}
AUTO = {"oneOf": [s.BOOLEAN, {"const": "auto"}]}
PASSWORD = {"type": "string", "maxLength": 255}
MIGRATE, LIVE = "os-migrate-server:migrate", "os-migrate-server:migrate_live"  # Nova's rules


def migrate_schema(call: Call) -> dict[str, Any]:
    """The host since 2.56; before, whatever came was not looked at."""
    return {"oneOf": [{"type": "null"}, s.closed({"host": HOST})]} if call.since(56) else {}


def live_schema(call: Call) -> dict[str, Any]:
    if not call.since(25):
        wanted = {"block_migration": s.BOOLEAN, "disk_over_commit": s.BOOLEAN, "host": HOST}
        return s.closed(wanted, tuple(wanted))
    wanted = {"block_migration": AUTO, "host": HOST}
    more = {"force": s.BOOLEAN} if call.since(30) and not call.since(68) else {}
    return s.closed(wanted | more, tuple(wanted))


def evacuate_schema(call: Call) -> dict[str, Any]:
    wanted = {"host": s.FQDN, "adminPass": PASSWORD}
    if not call.since(14):
        return s.closed(wanted | {"onSharedStorage": s.BOOLEAN}, ("onSharedStorage",))
    more = {"force": s.BOOLEAN} if call.since(29) and not call.since(68) else {}
    return s.closed(wanted | more)


def migrate(tx: Tx, call: Call, argument: dict[str, Any] | None) -> None:
    server = _server(tx, call, "migrate", "active", "stopped")
    host = (argument or {}).get("host") if call.since(56) else None
    if host:
        _check_host(tx, call, server, host, MIGRATE)
    _ends_with(tx, call, server, "migrate", "No valid host found for cold migrate")


def migrate_live(tx: Tx, call: Call, argument: dict[str, Any]) -> None:
    server, host = _server(tx, call, "os-migrateLive", "active", "paused"), argument["host"]
    if host:
        _check_host(tx, call, server, host, LIVE)
    elif _is_true(argument.get("force")):
        raise BadRequest("Can't force to a non-provided destination")
    reason = str(NoValidHost({server["host"]: "the server is there already"}))
    if not call.since(34):  # the client waited then
        raise BadRequest(reason)
    _ends_with(tx, call, server, "live-migration", reason)


def evacuate(tx: Tx, call: Call, argument: dict[str, Any]) -> Reply:
    """Only a server whose host is down is rebuilt on another one."""
    server, host = servers.get(tx, call.context, call.params["id"]), argument.get("host")
    if _is_true(argument.get("force")) and not host:
        raise BadRequest("Can't force to a non-provided destination")
    if host and hosts.find(tx, host) is None:
        raise NotFound(f"Compute host {host} not found.")
    if host and host == server["host"]:
        raise BadRequest("The target host can't be the same one.")
    if server["vm_state"] not in ("active", "stopped", "error"):
        raise servers.cannot(server, "evacuate")
    its = hosts.find(tx, server["host"]) if server["host"] else None
    if its is None or hosts.is_up(its):
        raise BadRequest(f"Compute service of {server['host']} is still in use.")
    reason = str(NoValidHost({server["host"]: "it is down"}))
    _ends_with(tx, call, server, "evacuate", reason, vm_state="error")
    return Reply(None if call.since(14) else {"adminPass": argument.get("adminPass") or new_password()}, 200)


def _server(tx: Tx, call: Call, word: str, *vm_states: str) -> sa.RowMapping:
    server = servers.get(tx, call.context, call.params["id"])
    servers.check_unlocked(call.context, server)
    if server["vm_state"] not in vm_states:
        raise servers.cannot(server, word)
    if server["task_state"] is not None:
        raise servers.cannot(server, word, "task_state")
    return server


def _check_host(tx: Tx, call: Call, server: sa.RowMapping, host: str, policy: str) -> None:
    """Only administrators name a host."""
    if not call.context.is_admin:
        raise Forbidden(f"Policy doesn't allow os_compute_api:{policy}:host to be performed.")
    if host == server["host"]:
        alike = f"Unable to migrate instance ({server['id']}) to current host ({host})."
        raise BadRequest("Cannot migrate to the host where the server exists." if policy == MIGRATE else alike)
    if hosts.find(tx, host) is None:
        raise BadRequest(f"Compute host {host} could not be found.")


def _ends_with(tx: Tx, call: Call, server: sa.RowMapping, action: str, reason: str, **values: Any) -> None:
    states.set_fault(tx, server["id"], reason, None, **values)
    call.services.flows.note(tx, action, server["id"], call.context, reason)


def _is_true(value: Any) -> bool:
    return str(value).lower() in TRUE
