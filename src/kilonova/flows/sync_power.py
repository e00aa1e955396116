"""What guests really do, against what the cloud believes (Nova: `_sync_instance_power_state`)."""

import datetime

import sqlalchemy as sa

from kilonova.compute import states
from kilonova.compute.states import CRASHED, NO_STATE, SHUTDOWN, SUSPENDED
from kilonova.compute.tables import SERVERS
from kilonova.db.engine import Tx
from kilonova.flow.log import Journal
from kilonova.flows.power_server import STOP_SERVER
from kilonova.model.ids import new_request_id, now

OFF = (SHUTDOWN, CRASHED)
NOBODY = {"project_id": "", "user_id": ""}  # who asks for what no user asked for


def sync_power_states(tx: Tx, journal: Journal, host: str, seen: dict[str, int], age: float) -> bool:
    """`seen`: server id → power_state of all guests of `host`, measured `age` seconds ago.

    A guest that ended by itself is stopped, and so is one that somebody else has started; a flow that waits for its guest
    to end is woken. A row that was written since then may know better: True, look again.
    """
    measured, unsettled = now() - datetime.timedelta(seconds=age), False
    columns = (SERVERS.c[name] for name in ("id", "vm_state", "task_state", "power_state", "updated_at"))
    for row in tx.all(sa.select(*columns).where(SERVERS.c.host == host, SERVERS.c.deleted_at.is_(None))):
        power_state = seen.get(row["id"], NO_STATE)
        if row["task_state"] is not None:
            if power_state in OFF:
                journal.wake(tx, f"guest:{row['id']}")
        elif power_state == row["power_state"] and not should_stop(row["vm_state"], power_state):
            pass
        elif row["updated_at"] >= measured or journal.running(tx, row["id"]) is not None:
            unsettled = True
        else:
            states.set_power_state(tx, row["id"], power_state)
            if should_stop(row["vm_state"], power_state):
                journal.start(tx, STOP_SERVER.name, row["id"], {**NOBODY, "request_id": new_request_id()}, {})
    return unsettled


def should_stop(vm_state: str, power_state: int) -> bool:
    """Nova calls its own stop then, so that the server's actions tell of it."""
    if vm_state == "active":
        return power_state in (*OFF, SUSPENDED)
    if vm_state == "paused":
        return power_state in OFF
    return vm_state == "stopped" and power_state not in (NO_STATE, *OFF)
