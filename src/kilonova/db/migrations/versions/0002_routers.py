"""Routers, floating IPs, DHCP agent bindings, and what carries each network."""

import secrets

import sqlalchemy as sa
from alembic import op

import kilonova.db.schema  # noqa: F401  every room's tables
from kilonova.db import missing

revision = "0002"
down_revision = "0001"

TABLES = ("dhcp_agent_bindings", "routers", "router_ports", "floatingips", "port_forwardings")


def upgrade() -> None:
    if missing.add_columns("networks", "network_type", "physical_network", "segmentation_id"):
        carry_networks()
    missing.add_index("networks", "uq_networks_segment")
    missing.add_tables(*TABLES)


def carry_networks() -> None:
    """The external network is the flat one on `public`; each other gets a VNI of its own, as new ones do."""
    names = ("id", "name", "external", "network_type", "physical_network", "segmentation_id", "created_at")
    networks, bind = sa.table("networks", *(sa.column(name) for name in names)), op.get_bind()
    public = bind.scalar(
        sa.select(networks.c.id).where(networks.c.external, networks.c.name == "public").order_by(networks.c.created_at)
    )
    taken: set[int] = set()
    for network_id in bind.scalars(sa.select(networks.c.id)).all():
        values: dict[str, object] = {"network_type": "flat", "physical_network": "public"}
        if network_id != public:
            while (vni := 1 + secrets.randbelow(2**24 - 1)) in taken:
                pass
            taken.add(vni)
            values = {"network_type": "vxlan", "segmentation_id": vni}
        bind.execute(networks.update().where(networks.c.id == network_id).values(**values))
