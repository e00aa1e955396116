"""The image tables. A deleted image is gone; its bytes go after the commit (store.py)."""

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
)

MEMBERS = sa.Table(
    "image_members",
    METADATA,
    sa.Column("image_id", sa.String(36), sa.ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("member_id", sa.String(255), primary_key=True),
    sa.Column("status", sa.String(20), nullable=False),  # pending | accepted | rejected
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime, nullable=False),
)
