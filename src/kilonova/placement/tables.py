"""The placement tables. Resource classes and traits are kept by name; the tables of names hold only the custom ones."""

import sqlalchemy as sa

from kilonova.db.tables import METADATA

PROVIDERS = sa.Table(
    "resource_providers",
    METADATA,
    sa.Column("uuid", sa.String(36), primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("generation", sa.BigInteger, nullable=False, default=0),  # every claim compares and swaps it
    sa.Column("parent_uuid", sa.String(36), sa.ForeignKey("resource_providers.uuid"), index=True),
    sa.Column("root_uuid", sa.String(36), nullable=False, index=True),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("updated_at", sa.DateTime, nullable=False),
)

INVENTORIES = sa.Table(
    "inventories",
    METADATA,
    sa.Column("provider", sa.String(36), sa.ForeignKey("resource_providers.uuid"), primary_key=True),
    sa.Column("resource_class", sa.String(255), primary_key=True),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("reserved", sa.BigInteger, nullable=False),
    sa.Column("min_unit", sa.BigInteger, nullable=False),
    sa.Column("max_unit", sa.BigInteger, nullable=False),
    sa.Column("step_size", sa.BigInteger, nullable=False),
    sa.Column("allocation_ratio", sa.Float, nullable=False),
    sa.Column("updated_at", sa.DateTime, nullable=False),
)

CONSUMERS = sa.Table(
    "consumers",
    METADATA,
    sa.Column("uuid", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("user_id", sa.String(255), nullable=False),
    sa.Column("type", sa.String(255)),  # None: made before microversion 1.38, shown as "unknown"
    sa.Column("generation", sa.BigInteger, nullable=False, default=0),
)

ALLOCATIONS = sa.Table(
    "allocations",
    METADATA,
    sa.Column("consumer", sa.String(36), sa.ForeignKey("consumers.uuid"), primary_key=True),
    sa.Column("provider", sa.String(36), sa.ForeignKey("resource_providers.uuid"), primary_key=True, index=True),
    sa.Column("resource_class", sa.String(255), primary_key=True),
    sa.Column("used", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.DateTime, nullable=False),
)

RESOURCE_CLASSES = sa.Table(
    "custom_resource_classes",
    METADATA,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("created_at", sa.DateTime, nullable=False),
)

TRAITS = sa.Table(
    "custom_traits",
    METADATA,
    sa.Column("name", sa.String(255), primary_key=True),
    sa.Column("created_at", sa.DateTime, nullable=False),
)

PROVIDER_TRAITS = sa.Table(
    "resource_provider_traits",
    METADATA,
    sa.Column("provider", sa.String(36), sa.ForeignKey("resource_providers.uuid"), primary_key=True),
    sa.Column("trait", sa.String(255), primary_key=True),
)

PROVIDER_AGGREGATES = sa.Table(
    "resource_provider_aggregates",
    METADATA,
    sa.Column("provider", sa.String(36), sa.ForeignKey("resource_providers.uuid"), primary_key=True),
    sa.Column("aggregate", sa.String(36), primary_key=True),
)
