"""Servers, flavors, keypairs, quotas and hosts."""

import sqlalchemy as sa

from kilonova.db.tables import METADATA, Json

SERVERS = sa.Table(
    "compute_servers",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),  # instance-%08x
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("description", sa.String(255)),
    sa.Column("hostname", sa.String(255), nullable=False),
    sa.Column("vm_state", sa.String(32), nullable=False),
    sa.Column("task_state", sa.String(64)),
    sa.Column("power_state", sa.Integer, nullable=False, default=0),
    sa.Column("host", sa.String(255), index=True),
    sa.Column("availability_zone", sa.String(255)),  # as asked for: the pinned zone
    sa.Column("requested_host", sa.String(255)),
    sa.Column("flavor", Json, nullable=False),  # as it was at creation (Nova: instance.flavor)
    sa.Column("flavor_id", sa.String(255), nullable=False),
    sa.Column("vcpus", sa.Integer, nullable=False),  # of the flavor, for quotas
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("image_id", sa.String(36), nullable=False, default=""),
    sa.Column("image_meta", Json, nullable=False, default=dict),  # compute/images.py: Image.meta
    sa.Column("keypair", Json),  # {"name", "public_key", "type"} as it was at creation
    sa.Column("key_name", sa.String(255)),
    sa.Column("metadata", Json, nullable=False, default=dict),
    sa.Column("system_metadata", Json, nullable=False, default=dict),  # Nova's own notes: shelved_at, shelved_image_id
    sa.Column("requested_networks", Json, nullable=False, default=list),
    sa.Column("security_groups", Json, nullable=False, default=list),  # names; empty: the project's default
    sa.Column("security_group_ids", Json, nullable=False, default=list),
    sa.Column("scheduler_hints", Json, nullable=False, default=dict),
    sa.Column("admin_password", sa.String(255)),  # until the guest has it
    sa.Column("guest_password", sa.Text, nullable=False, default=""),  # as the guest posted it
    sa.Column("user_data", sa.Text),  # base64
    sa.Column("personality", Json, nullable=False, default=list),  # [{"path", "contents": base64}, …]
    sa.Column("config_drive", sa.Boolean, nullable=False, default=False),
    sa.Column("disk_config", sa.String(6), nullable=False, default="MANUAL"),  # AUTO | MANUAL
    sa.Column("access_ip_v4", sa.String(39)),
    sa.Column("access_ip_v6", sa.String(39)),
    sa.Column("locked_by", sa.String(16)),  # owner | admin
    sa.Column("locked_reason", sa.String(255)),
    sa.Column("progress", sa.Integer, nullable=False, default=0),
    sa.Column("reservation_id", sa.String(32), nullable=False),
    sa.Column("launch_index", sa.Integer, nullable=False, default=0),
    sa.Column("fault", Json),  # {"code", "message", "details", "created"}
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime, nullable=False),
    sa.Column("launched_at", sa.DateTime),
    sa.Column("terminated_at", sa.DateTime),
    sa.Column("deleted_at", sa.DateTime),
    sa.Index("ix_compute_servers_list", "project_id", "deleted_at", "created_at"),
    sa.Index("ix_compute_servers_created", "deleted_at", "created_at"),
)

MIGRATIONS = sa.Table(  # a server's moves: today, resizes on its host
    "compute_migrations",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),  # holds the old flavor's allocation meanwhile
    sa.Column("server_id", sa.String(36), nullable=False, index=True),
    sa.Column("migration_type", sa.String(16), nullable=False),  # resize
    sa.Column("status", sa.String(32), nullable=False, index=True),  # Nova's: migrating, finished, confirmed …
    sa.Column("source_host", sa.String(255), nullable=False),
    sa.Column("dest_host", sa.String(255), nullable=False),
    sa.Column("old_flavor", Json, nullable=False),  # as servers keep theirs
    sa.Column("new_flavor", Json, nullable=False),
    sa.Column("old_vm_state", sa.String(32), nullable=False),  # active | stopped: what it will be again
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("project_id", sa.String(64), nullable=False),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime, nullable=False),
)

SERVER_TAGS = sa.Table(
    "compute_server_tags",
    METADATA,
    sa.Column("server_id", sa.String(36), sa.ForeignKey("compute_servers.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag", sa.String(60), primary_key=True),
)

BLOCK_DEVICES = sa.Table(  # the volumes of servers: compute/block_devices.py
    "compute_block_devices",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),  # in the order they were asked for
    sa.Column("id", sa.String(36), nullable=False, unique=True),  # Nova: bdm_uuid
    sa.Column("server_id", sa.String(36), nullable=False, index=True),
    sa.Column("volume_id", sa.String(36), index=True),  # None until it is made
    sa.Column("attachment_id", sa.String(36)),  # the volume service's
    sa.Column("source_type", sa.String(16), nullable=False),  # volume | snapshot | image | blank
    sa.Column("source_id", sa.String(36)),
    sa.Column("size_gb", sa.Integer),
    sa.Column("volume_type", sa.String(255)),
    sa.Column("boot_index", sa.Integer),
    sa.Column("device", sa.String(255)),  # /dev/vdb
    sa.Column("disk_bus", sa.String(255)),
    sa.Column("device_type", sa.String(255)),  # disk | cdrom | lun
    sa.Column("delete_on_termination", sa.Boolean, nullable=False, default=False),
    sa.Column("tag", sa.String(60)),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime),
    sa.UniqueConstraint("server_id", "volume_id"),
)

CONSOLE_TOKENS = sa.Table(  # who may look at which server's console for a while: compute/consoles.py
    "compute_console_tokens",
    METADATA,
    sa.Column("token_hash", sa.String(64), primary_key=True),  # SHA-256: a copy of the database opens nothing
    sa.Column("server_id", sa.String(36), nullable=False, index=True),
    sa.Column("console_type", sa.String(16), nullable=False),  # novnc | serial
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("address", sa.String(45)),  # on that host, None for what has none
    sa.Column("port", sa.Integer, nullable=False),
    sa.Column("expires_at", sa.DateTime, nullable=False, index=True),
)

FLAVORS = sa.Table(
    "compute_flavors",
    METADATA,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("description", sa.Text),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
    sa.Column("ephemeral_gb", sa.Integer, nullable=False, default=0),
    sa.Column("swap_mb", sa.Integer, nullable=False, default=0),
    sa.Column("rxtx_factor", sa.Float, nullable=False, default=1.0),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("is_public", sa.Boolean, nullable=False, default=True),
    sa.Column("extra_specs", Json, nullable=False, default=dict),
    sa.Column("created_at", sa.DateTime, nullable=False),
)

FLAVOR_ACCESS = sa.Table(
    "compute_flavor_access",
    METADATA,
    sa.Column("flavor_id", sa.String(255), sa.ForeignKey("compute_flavors.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("project_id", sa.String(64), primary_key=True),
)

KEYPAIRS = sa.Table(
    "compute_keypairs",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("type", sa.String(8), nullable=False),
    sa.Column("public_key", sa.Text, nullable=False),
    sa.Column("fingerprint", sa.String(255), nullable=False),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.UniqueConstraint("user_id", "name"),
)

QUOTAS = sa.Table(
    "compute_quotas",
    METADATA,
    sa.Column("scope", sa.String(80), primary_key=True),  # project:<id> | class:<name>
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("hard_limit", sa.Integer, nullable=False),
)

QUOTA_LOCKS = sa.Table(  # two creates of one project meet here, so that both cannot fit into the last place
    "compute_quota_locks",
    METADATA,
    sa.Column("project_id", sa.String(64), primary_key=True),
    sa.Column("serial", sa.Integer, nullable=False),
)

HOSTS = sa.Table(
    "compute_hosts",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),  # the compute node and its resource provider
    sa.Column("service_uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("hostname", sa.String(255), nullable=False, unique=True),
    sa.Column("vcpus", sa.Integer, nullable=False),
    sa.Column("memory_mb", sa.Integer, nullable=False),
    sa.Column("disk_gb", sa.Integer, nullable=False),
    sa.Column("hypervisor_type", sa.String(32), nullable=False),
    sa.Column("hypervisor_version", sa.Integer, nullable=False),
    sa.Column("virt_type", sa.String(32), nullable=False),
    sa.Column("cpu_info", Json, nullable=False),
    sa.Column("host_ip", sa.String(45), nullable=False),
    sa.Column("uptime", sa.String(255), nullable=False, default=""),
    sa.Column("availability_zone", sa.String(255), nullable=False, default="nova"),
    sa.Column("disabled", sa.Boolean, nullable=False, default=False),
    sa.Column("disabled_reason", sa.String(255)),
    sa.Column("forced_down", sa.Boolean, nullable=False, default=False),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("last_seen_at", sa.DateTime, nullable=False),
)

SERVER_GROUPS = sa.Table(
    "compute_server_groups",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(36), nullable=False, unique=True),
    sa.Column("project_id", sa.String(64), nullable=False, index=True),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("policy", sa.String(32), nullable=False),  # affinity | anti-affinity | soft-affinity | soft-anti-affinity
    sa.Column("rules", Json, nullable=False, default=dict),  # {"max_server_per_host": n}, of anti-affinity alone
)

SERVER_GROUP_MEMBERS = sa.Table(  # a server is in one group at most, from its creation on
    "compute_server_group_members",
    METADATA,
    sa.Column("server_id", sa.String(36), sa.ForeignKey("compute_servers.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("group_id", sa.String(36), sa.ForeignKey("compute_server_groups.id", ondelete="CASCADE"), nullable=False),
    sa.Index("ix_compute_server_group_members_group", "group_id"),
)

AGGREGATES = sa.Table(
    "compute_aggregates",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("uuid", sa.String(36), nullable=False, unique=True),
    sa.Column("name", sa.String(255), nullable=False, unique=True),
    sa.Column("metadata", Json, nullable=False, default=dict),  # `availability_zone` among it
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime),
)

AGGREGATE_HOSTS = sa.Table(
    "compute_aggregate_hosts",
    METADATA,
    sa.Column("aggregate_id", sa.Integer, sa.ForeignKey("compute_aggregates.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("hostname", sa.String(255), primary_key=True),
)
