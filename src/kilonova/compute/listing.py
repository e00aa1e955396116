"""GET /servers: which servers, in which order, from where on."""

import datetime
from itertools import compress
from typing import Any

import sqlalchemy as sa

from kilonova.compute import addresses
from kilonova.compute.patterns import Pattern
from kilonova.compute.tables import SERVER_TAGS, SERVERS
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest, Forbidden
from kilonova.model.ids import read_time
from kilonova.web import paging
from kilonova.web.call import Call

SORT_COLUMNS = {
    "access_ip_v4": "access_ip_v4", "access_ip_v6": "access_ip_v6", "auto_disk_config": "disk_config",
    "availability_zone": "availability_zone", "config_drive": "config_drive", "created_at": "created_at",
    "display_description": "description", "display_name": "name", "host": "host", "hostname": "hostname",
    "image_ref": "image_id", "instance_type_id": "flavor_id", "key_name": "key_name", "launch_index": "launch_index",
    "launched_at": "launched_at", "locked_by": "locked_by", "node": "host", "power_state": "power_state",
    "progress": "progress", "project_id": "project_id", "task_state": "task_state", "terminated_at": "terminated_at",
    "updated_at": "updated_at", "user_id": "user_id", "uuid": "id", "vm_state": "vm_state", "kernel_id": "number",
    "ramdisk_id": "number", "root_device_name": "number", "locked": "locked_by",
}  # fmt: skip
IGNORED_SORT_KEYS = {
    "architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device", "deleted", "deleted_at",
    "disable_terminate", "ephemeral_gb", "ephemeral_key_uuid", "id", "key_data", "launched_on", "memory_mb", "os_type",
    "reservation_id", "root_gb", "shutdown_terminate", "user_data", "vcpus", "vm_mode",
}  # fmt: skip
EXACT = {
    "user_id": "user_id", "image": "image_id", "image_ref": "image_id", "host": "host", "node": "host",
    "flavor": "flavor_id", "uuid": "id",
}  # fmt: skip
PATTERN = {
    "name": "name", "display_name": "name", "description": "description", "display_description": "description",
    "hostname": "hostname", "key_name": "key_name", "reservation_id": "reservation_id", "locked_by": "locked_by",
    "availability_zone": "availability_zone", "launched_at": "launched_at", "terminated_at": "terminated_at",
    "created_at": "created_at", "power_state": "power_state", "progress": "progress", "launch_index": "launch_index",
    "access_ip_v4": "access_ip_v4", "access_ip_v6": "access_ip_v6", "auto_disk_config": "disk_config",
}  # fmt: skip
OTHERS = {
    "all_tenants", "project_id", "tenant_id", "vm_state", "task_state", "status", "deleted", "soft_deleted", "ip", "ip6",
    "changes-since", "sort_key", "sort_dir", "limit", "marker", "kernel_id", "ramdisk_id", "root_device_name",
    "config_drive", "block_device_mapping", "services", "metadata", "system_metadata", "info_cache", "security_groups",
    "pci_devices",
}  # fmt: skip
JOINED = {
    "block_device_mapping", "services", "metadata", "system_metadata", "info_cache", "security_groups", "pci_devices",
}  # fmt: skip
USER_FILTERS = {"reservation_id", "name", "status", "image", "flavor", "ip", "changes-since", "all_tenants"}
USER_FILTERS_283 = {
    "availability_zone", "config_drive", "key_name", "created_at", "launched_at", "terminated_at", "power_state",
    "task_state", "vm_state", "progress", "user_id",
}  # fmt: skip
TAG_FILTERS = ("tags", "tags-any", "not-tags", "not-tags-any")
NAMES = frozenset(set(EXACT) | set(PATTERN) | OTHERS | {"changes-before", "locked", *TAG_FILTERS})
STATUS_STATES: dict[str, tuple[str, tuple[str, ...]]] = {  # Nova: common._STATE_MAP, read backwards
    "ACTIVE": ("active", ()),
    "BUILD": ("building", ()),
    "SHUTOFF": ("stopped", ()),
    "ERROR": ("error", ()),
    "DELETED": ("deleted", ()),
    "PAUSED": ("paused", ()),
    "SUSPENDED": ("suspended", ()),
    "RESCUE": ("rescued", ()),
    "SHELVED": ("shelved", ()),
    "SHELVED_OFFLOADED": ("shelved_offloaded", ()),
    "SOFT_DELETED": ("soft-delete", ()),
    "VERIFY_RESIZE": ("resized", ()),
    "REBOOT": ("active", ("rebooting", "reboot_pending", "reboot_started")),
    "HARD_REBOOT": ("active", ("rebooting_hard", "reboot_pending_hard", "reboot_started_hard")),
    "PASSWORD": ("active", ("updating_password",)),
    "REBUILD": ("active", ("rebuilding", "rebuild_block_device_mapping", "rebuild_spawning")),
    "MIGRATING": ("active", ("migrating",)),
    "RESIZE": ("active", ("resize_prep", "resize_migrating", "resize_migrated", "resize_finish")),
    "REVERT_RESIZE": ("resized", ("resize_reverting",)),
}


class Nothing(Exception):
    """No server can fit the filters."""


def list_servers(tx: Tx, call: Call, *, detail: bool) -> list[sa.RowMapping]:
    """The page that the query asks for, newest first unless it says otherwise. BadRequest, Forbidden."""
    limit, marker, order = paging.limit(call), call.arg("marker"), _order(call)
    try:
        where, patterns = _filters(tx, call, detail)
    except Nothing:
        return []
    if marker is None and not patterns:
        return tx.all(sa.select(SERVERS).where(*where).order_by(*order).limit(limit))
    names = sorted({"id", "number", *(name for name, _ in patterns if name != "ip")})
    rows = tx.all(sa.select(*(SERVERS.c[name] for name in names)).where(*where).order_by(*order))
    for name, pattern in patterns:
        if name == "ip":
            found = addresses.matching(tx, [row["id"] for row in rows], pattern)
            rows = [row for row in rows if row["id"] in found]
        else:
            rows = [row for row in rows if row[name] is not None]
            rows = list(compress(rows, pattern.found_in([str(row[name]) for row in rows])))
    if marker is not None:
        place = next((place for place, row in enumerate(rows) if row["id"] == marker), None)
        if place is None:
            raise BadRequest(f"marker [{marker}] not found")
        rows = rows[place + 1 :]
    numbers = [row["number"] for row in rows[:limit]]
    return tx.all(sa.select(SERVERS).where(SERVERS.c.number.in_(numbers)).order_by(*order)) if numbers else []


def _order(call: Call) -> list[Any]:
    order: list[Any] = []
    directions = call.args("sort_dir")
    for place, key in enumerate(call.args("sort_key")):
        if key in IGNORED_SORT_KEYS and not call.since(75):
            continue
        if key == "locked" and not call.since(73):
            continue
        if key not in SORT_COLUMNS:
            raise BadRequest(f"Invalid input for query parameters sort_key. Value: {key}. It is not one to sort by.")
        if key in ("host", "node") and not call.context.is_admin:
            raise Forbidden(f"Only administrators can sort servers by {key}")
        direction = directions[place] if place < len(directions) else (directions[-1] if directions else "desc")
        if direction not in ("asc", "desc"):
            raise BadRequest("Unknown sort direction, must be one of: asc, desc")
        column = SERVERS.c[SORT_COLUMNS[key]]
        ordered = column.desc() if direction == "desc" else column.asc()
        order.append(ordered.nulls_last() if direction == "desc" else ordered.nulls_first())
    return [*order, SERVERS.c.created_at.desc(), SERVERS.c.number.desc()]


def _allowed(call: Call) -> set[str]:
    """The filters that this caller may use; others are ignored."""
    if call.context.may("os_compute_api:servers:allow_all_filters"):
        names = set(NAMES)
    else:
        names = set(USER_FILTERS)
        names |= {"ip6"} if call.since(5) else set()
        names |= {"changes-before"} if call.since(66) else set()
        names |= {"locked"} if call.since(73) else set()
        names |= USER_FILTERS_283 if call.since(83) else set()
        names |= {"hostname"} if call.since(90) else set()
    tag_filters = set(TAG_FILTERS)
    return names | tag_filters if call.since(26) else names - tag_filters


def _check_names(call: Call) -> None:
    for name, _value in call.query:
        if name.startswith("_"):
            raise BadRequest(f"Invalid filter field: {name}.")


def _filters(tx: Tx, call: Call, detail: bool) -> tuple[list[Any], list[tuple[str, Pattern]]]:
    """Conditions for the database, and patterns (column, regular expression) to try on what it returns."""
    _check_names(call)
    allowed = _allowed(call)
    options = {name: value for name, value in call.query if name in allowed}
    for name in JOINED & set(options):
        raise BadRequest(f"Invalid filter field: {name}.")
    where: list[Any] = []
    patterns: list[tuple[str, Pattern]] = []
    deleted = _deleted(call, options, where)
    if deleted is not None:
        where.append(SERVERS.c.deleted_at.is_not(None) if deleted else SERVERS.c.deleted_at.is_(None))
    _scope(call, options, where, detail)
    for name, value in options.items():
        if name in EXACT:
            values = [value.rpartition("/")[2] for key, value in call.query if key == name]
            where.append(SERVERS.c[EXACT[name]].in_(values))
        elif name in PATTERN:
            patterns.append((PATTERN[name], Pattern(name, value)))
        elif name in ("ip", "ip6"):
            patterns.append(("ip", Pattern(name, value)))
        elif name in ("vm_state", "task_state"):
            where.append(SERVERS.c[name].in_([value for key, value in call.query if key == name]))
        elif name in ("locked", "config_drive"):
            truth = _boolean(name, value)
            column = SERVERS.c.config_drive if name == "config_drive" else SERVERS.c.locked_by.is_not(None)
            where.append(column if truth else sa.not_(column))
    where += _tag_conditions(options)
    return where, patterns


def _deleted(call: Call, options: dict[str, str], where: list[Any]) -> bool | None:
    """Whether deleted servers, living ones, or (None) both; status and times go into `where`."""
    since, before = changed_between(options.get("changes-since"), options.get("changes-before"))
    if since:
        where.append(SERVERS.c.updated_at >= since)
    if before:
        where.append(SERVERS.c.updated_at <= before)
    deleted: bool | None = None if since or before else False
    if "deleted" in options:
        deleted = options["deleted"].lower() in ("1", "t", "true", "on", "y", "yes")
    statuses = [value.upper() for value in call.args("status")]
    if statuses:
        known = [STATUS_STATES[status] for status in statuses if status in STATUS_STATES]
        if not known:
            if call.since(38):
                raise BadRequest("Invalid status value")
            raise Nothing
        if [state for state, _ in known] == ["deleted"]:
            if not call.context.is_admin:
                raise Forbidden("Only administrators may list deleted instances")
            deleted = True
        where.append(
            sa.or_(
                *(
                    sa.and_(SERVERS.c.vm_state == vm_state, *([SERVERS.c.task_state.in_(tasks)] if tasks else []))
                    for vm_state, tasks in known
                )
            )
        )
    return deleted


def _scope(call: Call, options: dict[str, str], where: list[Any], detail: bool) -> None:
    context = call.context
    everyone = False
    if "all_tenants" in options:
        value = options["all_tenants"]
        everyone = True if value == "" else _boolean("all_tenants", value)
    if everyone:
        rule = f"os_compute_api:servers:{'detail' if detail else 'index'}:get_all_tenants"
        if not context.may(rule):
            raise Forbidden(f"Policy doesn't allow {rule} to be performed.")
        for name in ("tenant_id", "project_id"):
            if name in options:
                where.append(SERVERS.c.project_id == options[name])
    elif context.project_id:
        where.append(SERVERS.c.project_id == context.project_id)
    else:
        where.append(SERVERS.c.user_id == context.user_id)


def _tag_conditions(options: dict[str, str]) -> list[Any]:
    out: list[Any] = []
    for name in TAG_FILTERS:
        if name not in options:
            continue
        wanted = set(options[name].split(","))
        query = sa.select(SERVER_TAGS.c.server_id).where(SERVER_TAGS.c.tag.in_(wanted))
        if not name.endswith("any"):
            query = query.group_by(SERVER_TAGS.c.server_id).having(sa.func.count() == len(wanted))
        condition = SERVERS.c.id.in_(query)
        out.append(sa.not_(condition) if name.startswith("not") else condition)
    return out


def _boolean(name: str, value: str) -> bool:
    if value.lower() in ("1", "t", "true", "on", "y", "yes"):
        return True
    if value.lower() in ("0", "f", "false", "off", "n", "no"):
        return False
    raise BadRequest(
        f"Unrecognized value '{value}' for query parameter {name}, acceptable values are: 'true', 'false', '1', '0'"
    )


Moment = datetime.datetime | None


def changed_between(since: str | None, before: str | None) -> tuple[Moment, Moment]:
    """A query's `changes-since` and `changes-before`, in UTC without a zone; None for what is not given."""
    first, last = _moment("changes-since", since), _moment("changes-before", before)
    if first and last and last < first:
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    return first, last


def _moment(name: str, text: str | None) -> Moment:
    if text is None:
        return None
    try:
        return read_time(text)
    except ValueError as error:
        raise BadRequest(
            f"Invalid input for query parameters {name}. Value: {text}. It is not a 'date-time'"
        ) from error
