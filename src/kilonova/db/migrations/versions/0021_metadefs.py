"""Metadata definitions."""

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    missing.add_tables("image_metadef_namespaces", "image_metadef_definitions", "image_metadef_resource_types")
