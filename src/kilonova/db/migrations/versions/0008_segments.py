"""Segments of networks, names of ports, networks that a DHCP agent was given; RBAC policies of QoS policies."""

import sqlalchemy as sa
from alembic import op

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing
from kilonova.db.tables import METADATA
from kilonova.model.ids import new_id

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    missing.add_tables("network_segments")
    missing.add_columns("networks", "dns_domain")
    missing.add_columns("subnets", "segment_id")
    missing.add_columns("dhcp_agent_bindings", "explicit")
    if "hostname" in columns_of("ports"):
        op.execute("ALTER TABLE ports RENAME COLUMN hostname TO dns_name")
    missing.add_columns("ports", "dns_domain")
    keep_carriers()
    if "shared" in columns_of("qos_policies"):
        keep_sharing()
        op.drop_column("qos_policies", "shared")


def columns_of(table: str) -> set[str]:
    return {column["name"] for column in sa.inspect(op.get_bind()).get_columns(table)}


def keep_carriers() -> None:
    """What a network was carried by is its first segment."""
    same = ("network_type", "physical_network", "segmentation_id", "created_at", "updated_at")
    segments, bind = METADATA.tables["network_segments"], op.get_bind()
    networks = sa.table("networks", sa.column("id"), *(sa.column(name, segments.c[name].type) for name in same))
    bare = sa.select(networks).where(networks.c.id.not_in(sa.select(segments.c.network_id)))
    for row in bind.execute(bare).mappings().all():
        kept = {name: row[name] for name in same}
        bind.execute(segments.insert().values(id=new_id(), network_id=row["id"], revision_number=1, **kept))


def keep_sharing() -> None:
    policies = sa.table("qos_policies", *map(sa.column, ("id", "project_id")), sa.column("shared", sa.Boolean))
    rbac, bind = METADATA.tables["rbac_policies"], op.get_bind()
    for row in bind.execute(sa.select(policies).where(policies.c.shared)).mappings().all():
        bind.execute(
            rbac.insert().values(
                id=new_id(), project_id=row["project_id"], object_type="qos_policy", object_id=row["id"],
                action="access_as_shared", target_project="*",
            )
        )  # fmt: skip
