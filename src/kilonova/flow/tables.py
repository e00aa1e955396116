"""Flows and their events. An event row is at once the journal, the trace and Nova's instance action event."""

import sqlalchemy as sa

from kilonova.db.tables import METADATA, Json, unique_where

FLOWS = sa.Table(
    "flows",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("kind", sa.String(64), nullable=False),  # the flow's name: create, delete …
    sa.Column("subject_id", sa.String(36), nullable=False, index=True),  # the server, volume …
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("request_id", sa.String(64), nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False),  # queued | running | unwinding | done | failed | superseded
    sa.Column("step", sa.String(64), nullable=False),  # the cursor: a step's name
    sa.Column("queue", sa.String(255), nullable=False),  # control, or the host that runs the next step
    sa.Column("wake_at", sa.Float, nullable=False),  # seconds since the epoch
    sa.Column("waits_for", sa.String(64)),
    sa.Column("step_since", sa.Float),  # when this step began for the first time: its deadline counts from here
    sa.Column("lease_until", sa.Float),
    sa.Column("leased_by", sa.String(64)),
    sa.Column("token", sa.String(36)),
    sa.Column("turn_into", sa.String(64)),  # the flow that should replace this one
    sa.Column("rewind_to", sa.String(64)),  # unwinding stops here and goes forward again
    sa.Column("attempts", sa.Integer, nullable=False, default=0),  # hosts tried
    sa.Column("failures", sa.Integer, nullable=False, default=0),  # of the present step, for growing pauses
    sa.Column("error", sa.Text),  # the first real error
    sa.Column("data", Json, nullable=False, default=dict),  # the request's own words and what steps need
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime, nullable=False),
    sa.Index("ix_flows_claim", "queue", "wake_at"),
    sa.Index("ix_flows_waits_for", "waits_for"),
    unique_where(
        "uq_flows_one_running",
        "subject_id",
        where=sa.text("state IN ('running', 'unwinding')"),
    ),
)

EVENTS = sa.Table(
    "flow_events",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("flow_id", sa.String(36), sa.ForeignKey("flows.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("step", sa.String(64), nullable=False),  # the do's name, or the undo's
    sa.Column("undo", sa.Boolean, nullable=False, default=False),
    sa.Column("started_at", sa.DateTime, nullable=False),
    sa.Column("finished_at", sa.DateTime),
    sa.Column("result", sa.String(16)),  # Success | Error | Waiting | Skipped | Superseded
    sa.Column("host", sa.String(255)),
    sa.Column("details", Json),  # what the step returned, and its outside calls
    sa.Column("traceback", sa.Text),
)
