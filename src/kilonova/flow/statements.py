"""The journal's statements, built once: building one costs SQLAlchemy several times what running it does.

Parameters that are named like a column are the values to write; the others are what is looked for.
"""

import functools

import sqlalchemy as sa
from sqlalchemy.sql import Executable

from kilonova.db import dialect
from kilonova.db.engine import Tx
from kilonova.flow.step import QUEUED, RUNNING_STATES
from kilonova.flow.tables import EVENTS, FLOWS

_flow: sa.BindParameter[str] = sa.bindparam("of_flow")
_held: sa.BindParameter[str] = sa.bindparam("held")
_moment: sa.BindParameter[float] = sa.bindparam("moment")
_is_running = FLOWS.c.state.in_(RUNNING_STATES)

# The flow of a queue that has been due the longest: of_queue, moment (seconds since the epoch)
DUE = (
    sa.select(FLOWS.c.id)
    .where(FLOWS.c.queue == sa.bindparam("of_queue"), _is_running, FLOWS.c.wake_at <= _moment)
    .where(FLOWS.c.lease_until.is_(None) | (FLOWS.c.lease_until < _moment))
    .order_by(FLOWS.c.wake_at, FLOWS.c.created_at)
    .limit(1)
)
RUNNING_OF = sa.select(FLOWS).where(FLOWS.c.subject_id == sa.bindparam("of_subject"), _is_running)
QUEUED_OF = (
    sa.select(FLOWS)
    .where(FLOWS.c.subject_id == sa.bindparam("of_subject"), FLOWS.c.state == QUEUED)
    .order_by(FLOWS.c.created_at, FLOWS.c.id)
    .limit(1)
)
TURN_OF = sa.select(FLOWS.c.turn_into).where(FLOWS.c.token == _held)
INSERT_FLOW = FLOWS.insert()
UPDATE_FLOW = FLOWS.update().where(FLOWS.c.id == _flow).returning(FLOWS)
GUARD_FLOW = FLOWS.update().where(FLOWS.c.id == _flow, FLOWS.c.token == _held).returning(FLOWS)
PROLONG = FLOWS.update().where(FLOWS.c.token == _held)
WAKE = FLOWS.update().where(FLOWS.c.waits_for == sa.bindparam("row_key"), _is_running)

INSERT_EVENT = EVENTS.insert()
BEGIN_EVENT = EVENTS.insert().returning(EVENTS.c.id)
END_EVENT = EVENTS.update().where(EVENTS.c.id == sa.bindparam("of_event"))
END_UNFINISHED = EVENTS.update().where(EVENTS.c.flow_id == _flow, EVENTS.c.finished_at.is_(None))
SUCCESSES = (
    sa.select(EVENTS.c.step, EVENTS.c.details)
    .where(EVENTS.c.flow_id == _flow, EVENTS.c.result == "Success", EVENTS.c.undo.is_(False))
    .order_by(EVENTS.c.id)
)


def take_due(tx: Tx) -> Executable:
    """Writes a lease (the parameters' columns) on the flow that DUE finds."""
    return _take_due(tx.is_postgresql)


@functools.cache
def _take_due(postgresql: bool) -> Executable:
    chosen = dialect.skip_locked(DUE, postgresql=postgresql)
    return FLOWS.update().where(FLOWS.c.id == chosen.scalar_subquery()).returning(FLOWS)
