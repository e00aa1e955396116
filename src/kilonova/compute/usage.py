"""What servers used in a time, by project; the log of audits, which nobody runs (Nova: os-simple-tenant-usage)."""

import datetime
from typing import Any

import sqlalchemy as sa

from kilonova.compute import hosts
from kilonova.compute.tables import SERVERS
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Forbidden
from kilonova.model.ids import now
from kilonova.web import paging
from kilonova.web.call import Call

FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %H:%M:%S.%f")
TOTALS = {"total_local_gb_usage": "local_gb", "total_vcpus_usage": "vcpus", "total_memory_mb_usage": "memory_mb"}

Time = datetime.datetime


def index(call: Call) -> dict[str, Any]:
    """GET /os-simple-tenant-usage: each project's sums; its servers, too, when asked for in detail."""
    start, stop = _period(call)
    found = _servers(call, start, stop, None)
    projects = dict.fromkeys(row["project_id"] for row in found)
    detailed = (call.arg("detailed") or "0") == "1"
    usages = [
        _sums(project, [row for row in found if row["project_id"] == project], start, stop, detailed=detailed)
        for project in projects
    ]
    return {"tenant_usages": usages} | _links(call, found, "", "tenant_usages_links")


def show(call: Call) -> dict[str, Any]:
    """GET /os-simple-tenant-usage/{id}: {} for a project that had no servers then."""
    project = call.params["id"]
    if project != call.context.project_id and not call.context.is_admin:
        raise Forbidden("Policy doesn't allow os_compute_api:os-simple-tenant-usage:show to be performed.")
    start, stop = _period(call)
    found = _servers(call, start, stop, project)
    usage = _sums(project, found, start, stop, detailed=True) if found else {}
    return {"tenant_usage": usage} | _links(call, found, f"/{project}", "tenant_usage_links")


def _period(call: Call) -> tuple[Time, Time]:
    """`start` and `end`, neither said: now; the end is now at the latest."""
    start, stop = _time(call.arg("start")), _time(call.arg("end"))
    if not start < stop:
        raise BadRequest("Invalid start time. The start time cannot occur after the end time.")
    return start, min(stop, now())


def _time(text: str | None) -> Time:
    if not text:
        return now()
    for form in FORMATS:
        try:
            return Time.strptime(text, form)
        except ValueError:
            continue
    raise BadRequest("Invalid datetime string: Datetime is in invalid format")


def _servers(call: Call, start: Time, stop: Time, project: str | None) -> list[sa.RowMapping]:
    """Those that ran in that time, deleted ones too, oldest first; a page of them."""
    ran = [
        SERVERS.c.launched_at.is_not(None),
        SERVERS.c.launched_at < stop,
        SERVERS.c.terminated_at.is_(None) | (SERVERS.c.terminated_at > start),
    ]
    if project is not None:
        ran.append(SERVERS.c.project_id == project)
    query = sa.select(SERVERS).where(*ran).order_by(SERVERS.c.number)
    if not call.since(40):
        return call.tx.all(query)
    marker = call.arg("marker")
    if marker is not None:
        number = call.tx.scalar(sa.select(SERVERS.c.number).where(SERVERS.c.id == marker, *ran))
        if number is None:
            raise BadRequest(f"Marker {marker} could not be found.")
        query = query.where(SERVERS.c.number > number)
    return call.tx.all(query.limit(paging.limit(call)))


def _links(call: Call, found: list[sa.RowMapping], path: str, name: str) -> dict[str, Any]:
    if not call.since(40) or not found:
        return {}
    url = f"{call.api_url}/os-simple-tenant-usage{path}"
    links = paging.next_link(call, found, paging.limit(call), url, found[-1]["id"])
    return {name: links} if links else {}


def _sums(project: str, rows: list[sa.RowMapping], start: Time, stop: Time, *, detailed: bool) -> dict[str, Any]:
    servers = [_server(row, start, stop) for row in rows]
    body: dict[str, Any] = {"tenant_id": project, "start": start.isoformat(), "stop": stop.isoformat()}
    body["total_hours"] = sum((server["hours"] for server in servers), 0.0)
    for total, each in TOTALS.items():
        body[total] = sum((server[each] * server["hours"] for server in servers), 0.0)
    return body | {"server_usages": servers} if detailed else body


def _server(row: sa.RowMapping, start: Time, stop: Time) -> dict[str, Any]:
    flavor, began, ended = row["flavor"], row["launched_at"], row["terminated_at"]
    ran = min(ended or stop, stop) - max(began, start)
    return {
        "instance_id": row["id"],
        "name": row["name"],
        "tenant_id": row["project_id"],
        "flavor": flavor["name"],
        "hours": max(ran.total_seconds(), 0.0) / 3600,
        "memory_mb": flavor["memory_mb"],
        "local_gb": flavor["disk_gb"] + flavor["ephemeral_gb"],
        "vcpus": flavor["vcpus"],
        "started_at": began.isoformat(),
        "ended_at": ended.isoformat() if ended else None,
        "state": "terminated" if ended else row["vm_state"],
        "uptime": int(((ended or now()) - began).total_seconds()),
    }


# --- audits ------------------------------------------------------------------------------------------------------------


def audit_log(call: Call) -> dict[str, Any]:
    return {"instance_usage_audit_logs": _audits(call.tx, now())}


def audit_log_before(call: Call) -> dict[str, Any]:
    text = call.params["id"]
    try:
        before = Time.strptime(text, "%Y-%m-%d %H:%M:%S.%f" if "." in text else "%Y-%m-%d %H:%M:%S")
    except ValueError as error:
        raise BadRequest(f"Invalid timestamp for date {text}") from error
    return {"instance_usage_audit_log": _audits(call.tx, before)}


def _audits(tx: Tx, before: Time) -> dict[str, Any]:
    """Of the month before: no host audits here, as in a Nova without `instance_usage_audit`, its default."""
    end = before.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last = end - datetime.timedelta(days=1) if end > Time.min else end
    names = [host["hostname"] for host in hosts.list_hosts(tx)]
    return {
        "period_beginning": str(last.replace(day=1)),
        "period_ending": str(end),
        "num_hosts": len(names),
        "num_hosts_done": 0,
        "num_hosts_running": 0,
        "num_hosts_not_run": len(names),
        "hosts_not_run": names,
        "total_instances": 0,
        "total_errors": 0,
        "overall_status": f"0 of {len(names)} hosts done. 0 errors." if names else "ALL hosts done. 0 errors.",
        "log": {},
    }
