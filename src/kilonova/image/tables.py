"""The image tables. A deleted image is gone; its bytes go after the commit (stores/)."""

import sqlalchemy as sa

from kilonova.db.tables import METADATA, Json

IMAGES = sa.Table(
    "images",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(255)),
    sa.Column(
        "status", sa.String(30), nullable=False
    ),  # queued | saving | uploading | importing | active | deactivated
    sa.Column("visibility", sa.String(16), nullable=False),  # public | private | shared | community
    sa.Column("owner", sa.String(255), index=True),
    sa.Column("protected", sa.Boolean, nullable=False),
    sa.Column("os_hidden", sa.Boolean, nullable=False),
    sa.Column("container_format", sa.String(20)),
    sa.Column("disk_format", sa.String(20)),
    sa.Column("min_disk", sa.BigInteger, nullable=False),  # GB
    sa.Column("min_ram", sa.BigInteger, nullable=False),  # MB
    sa.Column("size", sa.BigInteger),  # bytes
    sa.Column("virtual_size", sa.BigInteger),  # bytes
    sa.Column("checksum", sa.String(32)),
    sa.Column("os_hash_algo", sa.String(64)),
    sa.Column("os_hash_value", sa.String(128)),
    sa.Column("properties", Json, nullable=False),
    sa.Column("tags", Json, nullable=False),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime, nullable=False),
    sa.Index("ix_images_list", "created_at", "id"),
)

# Each id that an image has or had: none is given twice, since what others keep by it (a host's `_base`, a script)
# outlives the image. Glance never forgets a deleted image's row.
IDS = sa.Table("image_ids", METADATA, sa.Column("id", sa.String(36), primary_key=True))

MEMBERS = sa.Table(
    "image_members",
    METADATA,
    sa.Column("image_id", sa.String(36), sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("member_id", sa.String(255), primary_key=True),
    sa.Column("status", sa.String(20), nullable=False),  # pending | accepted | rejected
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime, nullable=False),
)

# Which stores have an image's bytes.
LOCATIONS = sa.Table(
    "image_locations",
    METADATA,
    sa.Column("image_id", sa.String(36), sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("store", sa.String(64), primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),  # among the image's
)

# What imports of image data have come to. Not bound to the image: a task outlives it.
TASKS = sa.Table(
    "image_tasks",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("type", sa.String(30), nullable=False),  # import | api_image_import
    sa.Column("status", sa.String(30), nullable=False),  # pending | processing | success | failure
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("input", Json, nullable=False),
    sa.Column("result", Json),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("image_id", sa.String(36), nullable=False, index=True),
    sa.Column("request_id", sa.String(64)),
    sa.Column("user_id", sa.String(64)),
    sa.Column("expires_at", sa.DateTime),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime, nullable=False),
)

QUOTA_LOCKS = sa.Table(  # two requests of one project meet here, so that both cannot fit into the last place
    "image_quota_locks",
    METADATA,
    sa.Column("project_id", sa.String(255), primary_key=True),
    sa.Column("serial", sa.Integer, nullable=False),
)

# Metadata definitions: what keys mean that users give to images, flavors, volumes.
NAMESPACES = sa.Table(
    "image_metadef_namespaces",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("namespace", sa.String(80), nullable=False, unique=True),
    sa.Column("display_name", sa.String(80)),
    sa.Column("description", sa.Text),
    sa.Column("visibility", sa.String(16), nullable=False),  # public | private
    sa.Column("protected", sa.Boolean, nullable=False),
    sa.Column("owner", sa.String(255)),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime, nullable=False),
)

DEFINITIONS = sa.Table(
    "image_metadef_definitions",
    METADATA,
    sa.Column(
        "namespace_id", sa.String(36), sa.ForeignKey("image_metadef_namespaces.id", ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("kind", sa.String(16), primary_key=True),  # object | property | tag | resource_type
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("body", Json, nullable=False),  # all of it but its name
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime, nullable=False),
)

# Types that associations have named, beside those that every cloud has; they stay when the association goes.
RESOURCE_TYPES = sa.Table(
    "image_metadef_resource_types",
    METADATA,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("created_at", sa.DateTime, nullable=False),
)
