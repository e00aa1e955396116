"""RBAC policies in the place of networks' `shared`; subnet pools, address scopes and groups."""

import sqlalchemy as sa
from alembic import op

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing
from kilonova.db.tables import METADATA
from kilonova.model.ids import new_id

revision = "0007"
down_revision = "0006"

TABLES = ("rbac_policies", "address_scopes", "subnetpools", "address_groups", "default_security_group_rules",
          "auto_allocated_topologies")  # fmt: skip


def upgrade() -> None:
    missing.add_tables(*TABLES)
    missing.add_columns("networks", "is_default")
    missing.add_columns("subnets", "subnetpool_id", "service_types")
    missing.add_columns("security_groups", "stateful")
    missing.add_columns("security_group_rules", "remote_address_group_id")
    missing.add_index("subnets", "ix_subnets_subnetpool_id")
    missing.add_index("security_group_rules", "ix_security_group_rules_remote_address")
    if "shared" in {column["name"] for column in sa.inspect(op.get_bind()).get_columns("networks")}:
        keep_sharing()
        op.drop_column("networks", "shared")


def keep_sharing() -> None:
    networks = sa.table("networks", *(sa.column(name) for name in ("id", "project_id", "shared", "external")))
    policies, bind = METADATA.tables["rbac_policies"], op.get_bind()
    for row in bind.execute(sa.select(networks)).mappings().all():
        for wanted, action in ((row["shared"], "access_as_shared"), (row["external"], "access_as_external")):
            if wanted:
                bind.execute(
                    policies.insert().values(
                        id=new_id(), project_id=row["project_id"], object_type="network", object_id=row["id"],
                        action=action, target_project="*",
                    )
                )  # fmt: skip
