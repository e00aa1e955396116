"""The tables of volumes and all that goes with them. What is deleted has no row. Sizes in GiB."""

import sqlalchemy as sa

from kilonova.db.tables import METADATA, Json


def _named() -> tuple[sa.Column[object], ...]:
    return (
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("name", sa.String(255)),
        sa.Column("description", sa.String(255)),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime),
    )


def _owned() -> tuple[sa.Column[object], ...]:
    return (
        *_named(),
        sa.Column("project_id", sa.String(64), nullable=False, index=True),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
    )


QOS_SPECS = sa.Table(
    "volume_qos_specs",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("consumer", sa.String(16), nullable=False),  # front-end | back-end | both
    sa.Column("specs", Json, nullable=False),
    sa.Column("created_at", sa.DateTime, nullable=False),
)

TYPES = sa.Table(
    "volume_types",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("description", sa.String(255)),
    sa.Column("is_public", sa.Boolean, nullable=False),
    sa.Column("extra_specs", Json, nullable=False),
    sa.Column("qos_specs_id", sa.String(36), sa.ForeignKey("volume_qos_specs.id")),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime),
)

TYPE_ACCESS = sa.Table(
    "volume_type_access",
    METADATA,
    sa.Column("type_id", sa.String(36), sa.ForeignKey("volume_types.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("project_id", sa.String(64), primary_key=True),
)

DEFAULT_TYPES = sa.Table(
    "volume_default_types",
    METADATA,
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("type_id", sa.String(36), sa.ForeignKey("volume_types.id", ondelete="CASCADE"), nullable=False),
)

GROUP_TYPES = sa.Table(
    "volume_group_types",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("description", sa.String(255)),
    sa.Column("is_public", sa.Boolean, nullable=False),
    sa.Column("group_specs", Json, nullable=False),
    sa.Column("created_at", sa.DateTime, nullable=False),
)

GROUPS = sa.Table(
    "volume_groups",
    METADATA,
    *_owned(),
    sa.Column("group_type_id", sa.String(36), sa.ForeignKey("volume_group_types.id"), nullable=False),
    sa.Column("volume_type_ids", Json, nullable=False),
    sa.Column("availability_zone", sa.String(255), nullable=False),
    sa.Column("group_snapshot_id", sa.String(36)),  # what it was made from
    sa.Column("source_group_id", sa.String(36)),
)

VOLUMES = sa.Table(
    "volumes",
    METADATA,
    *_owned(),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("new_size", sa.Integer),  # what it is being extended to: counted by quotas already
    sa.Column("type_id", sa.String(36), sa.ForeignKey("volume_types.id"), nullable=False, index=True),
    sa.Column("new_type_id", sa.String(36)),  # what it is being retyped to
    sa.Column("availability_zone", sa.String(255), nullable=False),
    sa.Column("host", sa.String(255)),  # the machine and its backend: None until the scheduler chose
    sa.Column("backend", sa.String(255)),
    sa.Column("stored_as", sa.String(255), nullable=False),  # its name there
    sa.Column("target_backend", sa.String(255)),  # where it is being copied to
    sa.Column("bootable", sa.Boolean, nullable=False, default=False),
    sa.Column("multiattach", sa.Boolean, nullable=False, default=False),
    sa.Column("readonly", sa.Boolean),  # None: nobody ever said
    sa.Column(
        "attach_status", sa.String(16), nullable=False, default="detached"
    ),  # detached | attached, reset by admins
    sa.Column("previous_status", sa.String(32)),
    sa.Column("migration_status", sa.String(32)),
    sa.Column("snapshot_id", sa.String(36)),  # what it was made from
    sa.Column("source_volid", sa.String(36)),
    sa.Column("backup_id", sa.String(36)),
    sa.Column("image_id", sa.String(36)),
    sa.Column("image_metadata", Json, nullable=False, default=dict),
    sa.Column("metadata", Json, nullable=False, default=dict),
    sa.Column("scheduler_hints", Json, nullable=False, default=dict),
    sa.Column("group_id", sa.String(36), index=True),
    sa.Index("ix_volumes_list", "project_id", "created_at"),
)

SNAPSHOTS = sa.Table(
    "volume_snapshots",
    METADATA,
    *_owned(),
    sa.Column("volume_id", sa.String(36), sa.ForeignKey("volumes.id"), nullable=False, index=True),
    sa.Column("type_id", sa.String(36), nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("stored_as", sa.String(255), nullable=False),  # its name in the volume's backend
    sa.Column("progress", sa.String(8), nullable=False, default="0%"),
    sa.Column("metadata", Json, nullable=False, default=dict),
    sa.Column("group_snapshot_id", sa.String(36), index=True),
)

GROUP_SNAPSHOTS = sa.Table(
    "volume_group_snapshots",
    METADATA,
    *_owned(),
    sa.Column("group_id", sa.String(36), sa.ForeignKey("volume_groups.id"), nullable=False),
    sa.Column("group_type_id", sa.String(36), nullable=False),
)

ATTACHMENTS = sa.Table(
    "volume_attachments",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("volume_id", sa.String(36), sa.ForeignKey("volumes.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("server_id", sa.String(36), index=True),
    sa.Column("attached_host", sa.String(255)),
    sa.Column("mountpoint", sa.String(255)),
    sa.Column("status", sa.String(16), nullable=False),  # reserved | attaching | attached | detaching | error_*
    sa.Column("mode", sa.String(8)),  # rw | ro
    sa.Column("attached_at", sa.DateTime),
    sa.Column("connector", Json),
    sa.Column("connection_info", Json),
    sa.Column("created_at", sa.DateTime, nullable=False),
)

BACKUPS = sa.Table(
    "volume_backups",
    METADATA,
    *_owned(),
    sa.Column("volume_id", sa.String(36), nullable=False, index=True),
    sa.Column("snapshot_id", sa.String(36)),
    sa.Column("parent_id", sa.String(36), index=True),  # of an incremental backup
    sa.Column("size", sa.Integer, nullable=False),  # of the volume
    sa.Column("object_count", sa.Integer, nullable=False, default=0),
    sa.Column("fail_reason", sa.String(255)),
    sa.Column("host", sa.String(255)),  # that keeps it
    sa.Column("location", sa.String(36), nullable=False),  # the id it was made under, which its files have
    sa.Column("backend", sa.String(255)),  # the volume's
    sa.Column("availability_zone", sa.String(255), nullable=False),
    sa.Column("data_timestamp", sa.DateTime, nullable=False),
    sa.Column("restore_volume_id", sa.String(36)),
    sa.Column("metadata", Json, nullable=False, default=dict),
    sa.Column("bootable", sa.Boolean, nullable=False, default=False),  # the volume's, as this and the next were then
    sa.Column("image_metadata", Json, nullable=False, default=dict),
    sa.Column("container", sa.String(255)),  # a word of its user's: all backups lie in one place
)

TRANSFERS = sa.Table(
    "volume_transfers",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("volume_id", sa.String(36), sa.ForeignKey("volumes.id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", sa.String(255)),
    sa.Column("salt", sa.String(32), nullable=False),
    sa.Column("key_hash", sa.String(64), nullable=False),
    sa.Column("no_snapshots", sa.Boolean, nullable=False),
    sa.Column("source_project_id", sa.String(64), nullable=False, index=True),
    sa.Column("created_at", sa.DateTime, nullable=False),
)

MESSAGES = sa.Table(
    "volume_messages",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(64), nullable=False, index=True),
    sa.Column("request_id", sa.String(64), nullable=False),
    sa.Column("resource_type", sa.String(32), nullable=False),
    sa.Column("resource_uuid", sa.String(36)),
    sa.Column("action_id", sa.String(3), nullable=False),
    sa.Column("detail_id", sa.String(3), nullable=False),
    sa.Column("message_level", sa.String(16), nullable=False),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("expires_at", sa.DateTime, nullable=False),
)

SERVICES = sa.Table(
    "volume_services",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("binary", sa.String(32), nullable=False),  # cinder-scheduler | cinder-volume | cinder-backup
    sa.Column("host", sa.String(255), nullable=False),  # `machine`, or `machine@backend` of a cinder-volume
    sa.Column("machine", sa.String(255), nullable=False),
    sa.Column("backend", sa.String(255)),
    sa.Column("protocol", sa.String(16)),
    sa.Column("total_gb", sa.Float),
    sa.Column("free_gb", sa.Float),
    sa.Column("availability_zone", sa.String(255), nullable=False),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("disabled_reason", sa.String(255)),
    sa.Column("frozen", sa.Boolean, nullable=False, default=False),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("last_seen_at", sa.DateTime, nullable=False),
    sa.UniqueConstraint("binary", "host"),
)

QUOTAS = sa.Table(
    "volume_quotas",
    METADATA,
    sa.Column("scope", sa.String(300), primary_key=True),  # project:<id> | class:<name>
    sa.Column("resource", sa.String(300), primary_key=True),
    sa.Column("hard_limit", sa.Integer, nullable=False),
)

QUOTA_LOCKS = sa.Table(  # two requests of one project meet here, so that both cannot fit into the last place
    "volume_quota_locks",
    METADATA,
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("serial", sa.Integer, nullable=False),
)
