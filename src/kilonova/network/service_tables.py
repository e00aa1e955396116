"""Tables of what Neutron calls service plugins: metering, QoS, trunks. A label has no revision and no times, as Neutron's."""

import sqlalchemy as sa

from kilonova.db.tables import METADATA, unique_where
from kilonova.network.tables import standard

METERING_LABELS = sa.Table(
    "metering_labels",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("description", sa.String(1024), nullable=False, default=""),
    sa.Column("shared", sa.Boolean, nullable=False, default=False),  # counts at every project's routers
)

METERING_LABEL_RULES = sa.Table(
    "metering_label_rules",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column(
        "metering_label_id",
        sa.String(36),
        sa.ForeignKey("metering_labels.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("direction", sa.String(8), nullable=False),
    sa.Column("excluded", sa.Boolean, nullable=False, default=False),
    sa.Column("remote_ip_prefix", sa.String(64)),
    sa.Column("source_ip_prefix", sa.String(64)),
    sa.Column("destination_ip_prefix", sa.String(64)),
)

QOS_POLICIES = sa.Table(
    "qos_policies",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("is_default", sa.Boolean, nullable=False, default=False),
    *standard(),
)

# One default policy a project, even when two requests make it at once.
DEFAULT_POLICY_INDEX = unique_where(
    "uq_qos_policies_default",
    QOS_POLICIES.c.project_id,
    where=QOS_POLICIES.c.is_default,
)

# Of every type; what a type does not have is null. No policy has two rules of a type in one direction.
QOS_RULES = sa.Table(
    "qos_rules",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column(
        "qos_policy_id", sa.String(36), sa.ForeignKey("qos_policies.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("type", sa.String(32), nullable=False),
    sa.Column("direction", sa.String(8), nullable=False, default=""),
    sa.Column("max_kbps", sa.Integer),
    sa.Column("max_burst_kbps", sa.Integer),
    sa.Column("min_kbps", sa.Integer),
    sa.Column("max_kpps", sa.Integer),
    sa.Column("max_burst_kpps", sa.Integer),
    sa.Column("dscp_mark", sa.Integer),
    sa.UniqueConstraint("qos_policy_id", "type", "direction"),
)

QOS_PORT_BINDINGS = sa.Table(
    "qos_port_bindings",
    METADATA,
    sa.Column("port_id", sa.String(36), sa.ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("policy_id", sa.String(36), sa.ForeignKey("qos_policies.id"), nullable=False, index=True),
)

QOS_NETWORK_BINDINGS = sa.Table(
    "qos_network_bindings",
    METADATA,
    sa.Column("network_id", sa.String(36), sa.ForeignKey("networks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("policy_id", sa.String(36), sa.ForeignKey("qos_policies.id"), nullable=False, index=True),
)

# The port that carries the trunk is no sub-port, and no port is of two trunks.
TRUNKS = sa.Table(
    "trunks",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("admin_state_up", sa.Boolean, nullable=False, default=True),
    sa.Column("port_id", sa.String(36), sa.ForeignKey("ports.id"), nullable=False, unique=True),
    sa.Column("status", sa.String(16), nullable=False, default="DOWN"),
    *standard(),
)

SUB_PORTS = sa.Table(
    "trunk_subports",
    METADATA,
    sa.Column("port_id", sa.String(36), sa.ForeignKey("ports.id"), primary_key=True),
    sa.Column("trunk_id", sa.String(36), sa.ForeignKey("trunks.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("segmentation_type", sa.String(32), nullable=False),
    sa.Column("segmentation_id", sa.Integer, nullable=False),
    sa.UniqueConstraint("trunk_id", "segmentation_type", "segmentation_id"),
)
