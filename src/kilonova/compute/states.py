"""A server's states: the writes that flows make to its row. All are no-ops on a server that is gone."""

from typing import Any

import sqlalchemy as sa

from kilonova.compute.tables import CONSOLE_TOKENS, SERVER_TAGS, SERVERS
from kilonova.db.engine import Tx
from kilonova.model.errors import NotFound
from kilonova.model.ids import iso, now

NO_STATE, RUNNING, PAUSED, SHUTDOWN, CRASHED, SUSPENDED = 0, 1, 3, 4, 6, 7  # Nova: power_state


BY_ID = sa.select(SERVERS).where(SERVERS.c.id == sa.bindparam("of_server"))
CONSOLES = CONSOLE_TOKENS.delete().where(CONSOLE_TOKENS.c.server_id == sa.bindparam("of_server"))
LIVING = SERVERS.update().where(SERVERS.c.id == sa.bindparam("of_server"), SERVERS.c.deleted_at.is_(None))


def get_row(tx: Tx, server_id: str) -> sa.RowMapping:
    """The server, deleted ones too. NotFound."""
    row = tx.first(BY_ID, {"of_server": server_id})
    if row is None:
        raise NotFound(f"Instance {server_id} could not be found.", type="InstanceNotFound")
    return row


def _update(tx: Tx, server_id: str, **values: Any) -> None:
    """Who moves or is off loses the consoles that were opened to it, too."""
    tx.execute(LIVING, {"of_server": server_id, "updated_at": now(), **values})
    if "host" in values or values.get("power_state", RUNNING) not in (RUNNING, PAUSED):
        tx.execute(CONSOLES, {"of_server": server_id})


def set_task_state(tx: Tx, server_id: str, task_state: str | None) -> None:
    _update(tx, server_id, task_state=task_state)


def set_task_state_from(tx: Tx, server_id: str, task_state: str | None, before: str | None) -> bool:
    """False, and nothing written, when it is not `before` any more: another request was quicker."""
    row = (SERVERS.c.id == server_id) & SERVERS.c.task_state.is_not_distinct_from(before)
    update = SERVERS.update().where(row, SERVERS.c.deleted_at.is_(None))
    return bool(tx.execute(update.values(task_state=task_state, updated_at=now())).rowcount)


def set_host(tx: Tx, server_id: str, host: str | None) -> None:
    _update(tx, server_id, host=host)


def set_active(tx: Tx, server_id: str) -> None:
    launched_at = get_row(tx, server_id)["launched_at"] or now()
    _update(
        tx, server_id,
        vm_state="active", task_state=None, power_state=RUNNING, progress=100, fault=None,
        admin_password=None, launched_at=launched_at,
    )  # fmt: skip


def set_rescue_image(tx: Tx, server_id: str, image_id: str | None) -> None:
    """Kept beside what the server keeps of its own image."""
    kept = {name: value for name, value in get_row(tx, server_id)["image_meta"].items() if name != "rescue_image_id"}
    _update(tx, server_id, image_meta=kept | ({"rescue_image_id": image_id} if image_id else {}))


def set_rescued(tx: Tx, server_id: str) -> None:
    _update(
        tx, server_id,
        vm_state="rescued", task_state=None, power_state=RUNNING, launched_at=now(), admin_password=None, fault=None,
    )  # fmt: skip


def set_running_again(tx: Tx, server_id: str) -> None:
    """In the vm_state that it was in, such as active or rescued."""
    _update(tx, server_id, task_state=None, power_state=RUNNING)


AT_REST = {"stopped": SHUTDOWN, "paused": PAUSED, "suspended": SHUTDOWN}  # vm_state → power_state; memory saved is off


def set_resting(tx: Tx, server_id: str, vm_state: str) -> None:
    """`vm_state`: one of AT_REST."""
    _update(tx, server_id, vm_state=vm_state, task_state=None, power_state=AT_REST[vm_state])


def note(tx: Tx, server_id: str, system_metadata: dict[str, Any], **values: Any) -> None:
    """Columns, and with them what the server is to remember of its states."""
    _update(tx, server_id, system_metadata=system_metadata, **values)


def set_resized(tx: Tx, server_id: str, *, running: bool) -> None:
    power_state = RUNNING if running else SHUTDOWN
    _update(tx, server_id, vm_state="resized", task_state=None, power_state=power_state, fault=None, launched_at=now())


def set_back(tx: Tx, server_id: str, *, running: bool) -> None:
    """Active or stopped, as it was before something was done to it."""
    if running:
        set_active(tx, server_id)
    else:
        set_resting(tx, server_id, "stopped")


def set_error(tx: Tx, server_id: str, message: str, details: str | None) -> None:
    set_fault(tx, server_id, message, details, vm_state="error")


def set_fault(tx: Tx, server_id: str, message: str, details: str | None, **values: Any) -> None:
    """`message` is what users see, `details` what administrators see (Nova: add_instance_fault_from_exc).

    An action that failed and left the server as it was keeps its fault, too; it is shown in state ERROR only.
    """
    fault = {"code": 500, "message": message[:4000], "details": details or "", "created": iso(now())}
    _update(tx, server_id, task_state=None, fault=fault, **values)


def mark_deleting(tx: Tx, server_id: str) -> None:
    _update(tx, server_id, task_state="deleting", progress=0)


def set_deleted(tx: Tx, server_id: str) -> None:
    """Gone from the API; the row stays, for its actions and for `changes-since`."""
    when = now()
    _update(
        tx, server_id,
        vm_state="deleted", task_state=None, power_state=NO_STATE, terminated_at=when, deleted_at=when,
        user_data=None, personality=[], admin_password=None,
    )  # fmt: skip
    tx.execute(SERVER_TAGS.delete().where(SERVER_TAGS.c.server_id == server_id))


def set_power_state(tx: Tx, server_id: str, power_state: int) -> None:
    _update(tx, server_id, power_state=power_state)
