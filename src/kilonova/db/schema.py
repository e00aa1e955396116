"""The whole schema: importing this loads every room's tables into METADATA."""

import importlib

from kilonova.db.tables import METADATA

TABLES = (
    "db.ownership", "flow.tables", "identity.tables", "placement.tables", "image.tables", "network.tables",
    "network.service_tables", "volume.tables", "compute.tables",
)  # fmt: skip

for name in TABLES:
    importlib.import_module(f"kilonova.{name}")

__all__ = ["METADATA"]
