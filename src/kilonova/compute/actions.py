"""What happened to a server: flows as Nova's instance actions, their steps as events (2.21, 2.51, 2.58, 2.62, 2.84)."""

import datetime
import hashlib
from typing import Any

from kilonova.compute import servers
from kilonova.compute.flows import Action, Event
from kilonova.compute.listing import changed_between
from kilonova.model.errors import BadRequest, NotFound
from kilonova.web import paging
from kilonova.web.call import Call


def index(call: Call) -> dict[str, Any]:
    """GET /servers/{id}/os-instance-actions: newest first. Deleted servers keep theirs (2.21)."""
    id = call.params["server_id"]
    server = servers.get(call.tx, call.context, id, deleted=call.since(21))
    found = call.services.flows.actions(call.tx, server["id"])
    if not call.since(58):
        return {"instanceActions": [_action(call, id, action) for action in found]}
    size = paging.limit(call)
    asked = call.arg("changes-before") if call.since(66) else None
    since, before = changed_between(call.arg("changes-since"), asked)
    found = [
        action for action in found
        if (since is None or _updated(action) >= since) and (before is None or _updated(action) <= before)
    ]  # fmt: skip
    marker = call.arg("marker")
    if marker is not None:
        place = next((place for place, action in enumerate(found) if action.request_id == marker), None)
        if place is None:
            raise BadRequest(f"Marker {marker} could not be found.")
        found = found[place + 1 :]
    page = found[:size]
    body: dict[str, Any] = {"instanceActions": [_action(call, id, action) for action in page]}
    url = f"{call.api_url}/servers/{id}/os-instance-actions"
    if page and (links := paging.next_link(call, page, size, url, page[-1].request_id)):
        body["links"] = links
    return body


def show(call: Call) -> dict[str, Any]:
    """GET /servers/{id}/os-instance-actions/{request id}: the action with its events."""
    id, request_id = call.params["server_id"], call.params["id"]
    server = servers.get(call.tx, call.context, id, deleted=call.since(21))
    action = call.services.flows.action(call.tx, server["id"], request_id)
    if action is None:
        raise NotFound(f"Action {request_id} not found")
    body = _action(call, id, action)
    if call.context.is_admin or call.since(51):
        body["events"] = [_event(call, event, action.project_id) for event in action.events]
    return {"instanceAction": body}


def _updated(action: Action) -> datetime.datetime:
    return action.updated_at or action.start_time


def _stamp(when: datetime.datetime | None) -> str | None:
    return when.strftime("%Y-%m-%dT%H:%M:%S.%f") if when else None


def _action(call: Call, server_id: str, action: Action) -> dict[str, Any]:
    body = {
        "action": action.action,
        "instance_uuid": server_id,
        "request_id": action.request_id,
        "user_id": action.user_id or None,  # nobody's: the cloud's own
        "project_id": action.project_id or None,
        "start_time": _stamp(action.start_time),
        "message": action.message,
    }
    return body | {"updated_at": _stamp(action.updated_at)} if call.since(58) else body


def host_id(host: str | None, project_id: str) -> str:
    """A host's name as a project may know it (Nova: generate_hostid)."""
    return hashlib.sha224((project_id + host).encode()).hexdigest() if host else ""


def _event(call: Call, event: Event, project_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "event": event.event,
        "start_time": _stamp(event.start_time),
        "finish_time": _stamp(event.finish_time),
        "result": event.result,
    }
    if call.context.is_admin:
        body["traceback"] = event.traceback
    if call.since(62):
        body["hostId"] = host_id(event.host, project_id)
        if call.context.is_admin:
            body["host"] = event.host or ""
    if call.since(84) and call.context.is_admin:
        body["details"] = event.details
    return body
