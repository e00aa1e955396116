"""Neutron's tables. A row's `tags` are JSON; times are UTC; `revision_number` grows with each change."""

import sqlalchemy as sa

from kilonova.db.tables import METADATA, Json, unique_where
from kilonova.model.ids import new_id, now


def standard() -> tuple[sa.Column[object], ...]:
    """Neutron's standardattributes, in the row itself."""
    return (
        sa.Column("description", sa.String(255), nullable=False, default=""),
        sa.Column("revision_number", sa.Integer, nullable=False, default=0),
        sa.Column("created_at", sa.DateTime, nullable=False),
        sa.Column("updated_at", sa.DateTime, nullable=False),
        sa.Column("tags", Json, nullable=False, default=list),
    )


def carrier() -> tuple[sa.Column[object], ...]:
    """What carries packets; "" and 0 where there is none, since a unique index takes no two nulls for one."""
    return (
        sa.Column("network_type", sa.String(32), nullable=False, default="local"),
        sa.Column("physical_network", sa.String(64), nullable=False, default=""),
        sa.Column("segmentation_id", sa.Integer, nullable=False, default=0),
    )


NETWORKS = sa.Table(
    "networks",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("admin_state_up", sa.Boolean, nullable=False, default=True),
    sa.Column("status", sa.String(16), nullable=False, default="ACTIVE"),
    sa.Column("external", sa.Boolean, nullable=False, default=False),
    sa.Column("is_default", sa.Boolean, nullable=False, default=False),  # the external network of new topologies
    sa.Column("mtu", sa.Integer, nullable=False, default=1500),
    sa.Column("port_security_enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("dns_domain", sa.String(255), nullable=False, default=""),  # ends with a dot; "": the cloud's
    # provider:*, as the first segment's, by which hosts carry it
    *carrier(),
    *standard(),
)

# One flat network a physical network, one network a VLAN or VNI.
SEGMENT_INDEX = unique_where(
    "uq_networks_segment",
    NETWORKS.c.network_type,
    NETWORKS.c.physical_network,
    NETWORKS.c.segmentation_id,
    where=NETWORKS.c.network_type != "local",
)

# Every network has one or more, in the order of their indexes.
SEGMENTS = sa.Table(
    "network_segments",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("network_id", sa.String(36), sa.ForeignKey("networks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("segment_index", sa.Integer, nullable=False, default=0),
    sa.Column("name", sa.String(255)),
    *carrier(),
    *standard(),
    sa.UniqueConstraint("network_id", "segment_index"),
)
unique_where(
    "uq_network_segments_carrier",
    SEGMENTS.c.network_type,
    SEGMENTS.c.physical_network,
    SEGMENTS.c.segmentation_id,
    where=SEGMENTS.c.network_type != "local",
)

SUBNETS = sa.Table(
    "subnets",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("network_id", sa.String(36), sa.ForeignKey("networks.id"), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("ip_version", sa.Integer, nullable=False),
    sa.Column("cidr", sa.String(64), nullable=False),
    sa.Column("gateway_ip", sa.String(64)),
    sa.Column("enable_dhcp", sa.Boolean, nullable=False, default=True),
    sa.Column("allocation_pools", Json, nullable=False),  # [{"start", "end"}], in order
    sa.Column("dns_nameservers", Json, nullable=False, default=list),
    sa.Column("host_routes", Json, nullable=False, default=list),  # [{"destination", "nexthop"}]
    sa.Column("ipv6_ra_mode", sa.String(16)),
    sa.Column("ipv6_address_mode", sa.String(16)),
    sa.Column("subnetpool_id", sa.String(36)),
    sa.Column("segment_id", sa.String(36)),
    sa.Column("service_types", Json, nullable=False, default=list),  # device owners; none: of any
    *standard(),
    sa.UniqueConstraint("network_id", "cidr"),
)
SUBNETPOOL_INDEX = sa.Index("ix_subnets_subnetpool_id", SUBNETS.c.subnetpool_id)

PORTS = sa.Table(
    "ports",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("network_id", sa.String(36), sa.ForeignKey("networks.id"), nullable=False),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("mac_address", sa.String(17), nullable=False),
    sa.Column("admin_state_up", sa.Boolean, nullable=False, default=True),
    sa.Column("status", sa.String(16), nullable=False, default="DOWN"),
    sa.Column("device_id", sa.String(255), nullable=False, default="", index=True),
    sa.Column("device_owner", sa.String(255), nullable=False, default=""),
    sa.Column("port_security_enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("made_by_server", sa.Boolean, nullable=False, default=False),  # deleted with its server
    sa.Column("position", sa.Integer, nullable=False, default=0),  # among the ports of its server
    sa.Column("dns_name", sa.String(255), nullable=False, default=""),  # also what DHCP tells the guest
    sa.Column("dns_domain", sa.String(255), nullable=False, default=""),  # ends with a dot; "": its network's
    sa.Column("host", sa.String(255), nullable=False, default="", index=True),  # binding:host_id
    sa.Column("vif_type", sa.String(64), nullable=False, default="unbound"),
    sa.Column("vif_details", Json, nullable=False, default=dict),
    sa.Column("vnic_type", sa.String(64), nullable=False, default="normal"),
    sa.Column("profile", Json, nullable=False, default=dict),
    sa.Column("allowed_address_pairs", Json, nullable=False, default=list),
    sa.Column("extra_dhcp_opts", Json, nullable=False, default=list),
    *standard(),
    sa.UniqueConstraint("network_id", "mac_address"),
)

# The address plan: two ports can never hold one address of a network, whatever runs at the same time.
IP_ALLOCATIONS = sa.Table(
    "ip_allocations",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("port_id", sa.String(36), sa.ForeignKey("ports.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("network_id", sa.String(36), nullable=False),
    sa.Column("subnet_id", sa.String(36), sa.ForeignKey("subnets.id"), nullable=False, index=True),
    sa.Column("ip_address", sa.String(64), nullable=False),
    sa.UniqueConstraint("network_id", "ip_address"),
)

SECURITY_GROUPS = sa.Table(
    "security_groups",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("stateful", sa.Boolean, nullable=False, default=True),
    *standard(),
)

# One default group a project, even when two requests make it at once.
DEFAULT_SECURITY_GROUPS = sa.Table(
    "default_security_groups",
    METADATA,
    sa.Column("project_id", sa.String(255), primary_key=True),
    sa.Column(
        "security_group_id", sa.String(36), sa.ForeignKey("security_groups.id", ondelete="CASCADE"), nullable=False
    ),
)

SECURITY_GROUP_RULES = sa.Table(
    "security_group_rules",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column(
        "security_group_id",
        sa.String(36),
        sa.ForeignKey("security_groups.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    sa.Column("direction", sa.String(8), nullable=False),
    sa.Column("ethertype", sa.String(8), nullable=False),
    sa.Column("protocol", sa.String(40)),
    sa.Column("port_range_min", sa.Integer),
    sa.Column("port_range_max", sa.Integer),
    sa.Column("remote_ip_prefix", sa.String(64)),
    sa.Column("remote_group_id", sa.String(36), sa.ForeignKey("security_groups.id", ondelete="CASCADE"), index=True),
    sa.Column("remote_address_group_id", sa.String(36)),
    *standard(),
)
REMOTE_ADDRESS_INDEX = sa.Index(
    "ix_security_group_rules_remote_address", SECURITY_GROUP_RULES.c.remote_address_group_id
)

PORT_SECURITY_GROUPS = sa.Table(
    "port_security_groups",
    METADATA,
    sa.Column("port_id", sa.String(36), sa.ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("security_group_id", sa.String(36), sa.ForeignKey("security_groups.id"), primary_key=True, index=True),
)

QUOTAS = sa.Table(
    "network_quotas",
    METADATA,
    sa.Column("project_id", sa.String(255), primary_key=True),
    sa.Column("resource", sa.String(64), primary_key=True),
    sa.Column("limit", sa.Integer, nullable=False),
)

AGENTS = sa.Table(
    "network_agents",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("agent_type", sa.String(64), nullable=False),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("admin_state_up", sa.Boolean, nullable=False, default=True),
    sa.Column("description", sa.String(255)),
    sa.Column("configurations", Json, nullable=False, default=dict),
    sa.Column("created_at", sa.DateTime, nullable=False),
    sa.Column("started_at", sa.DateTime, nullable=False),
    sa.Column("heartbeat_timestamp", sa.DateTime, nullable=False),
    sa.UniqueConstraint("agent_type", "host"),
)

# Which DHCP agents serve a network (Neutron: networkdhcpagentbindings). An agent's bindings end with it.
DHCP_AGENT_BINDINGS = sa.Table(
    "dhcp_agent_bindings",
    METADATA,
    sa.Column("network_id", sa.String(36), sa.ForeignKey("networks.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("agent_id", sa.String(36), primary_key=True, index=True),
    sa.Column("explicit", sa.Boolean, nullable=False, default=False),  # an administrator or a port asked for it
)

ROUTERS = sa.Table(
    "routers",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("admin_state_up", sa.Boolean, nullable=False, default=True),
    sa.Column("status", sa.String(16), nullable=False, default="ACTIVE"),
    sa.Column("enable_snat", sa.Boolean, nullable=False, default=True),
    sa.Column("availability_zone_hints", Json, nullable=False, default=list),
    sa.Column("routes", Json, nullable=False, default=list),  # [{"destination", "nexthop"}]
    sa.Column("host", sa.String(255), nullable=False, default="", index=True),  # of its L3 agent
    *standard(),
)

# A router's legs. Only what its API attached is one, whatever a port's device_id and device_owner say.
ROUTER_PORTS = sa.Table(
    "router_ports",
    METADATA,
    sa.Column("port_id", sa.String(36), sa.ForeignKey("ports.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("router_id", sa.String(36), sa.ForeignKey("routers.id"), nullable=False, index=True),
    sa.Column("port_type", sa.String(255), nullable=False),  # network:router_interface | network:router_gateway
)

FLOATING_IPS = sa.Table(
    "floatingips",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("floating_network_id", sa.String(36), sa.ForeignKey("networks.id"), nullable=False, index=True),
    sa.Column("floating_ip_address", sa.String(64), nullable=False),
    sa.Column("floating_port_id", sa.String(36), sa.ForeignKey("ports.id"), nullable=False, unique=True),
    sa.Column("fixed_port_id", sa.String(36), sa.ForeignKey("ports.id", ondelete="SET NULL"), index=True),
    sa.Column("fixed_ip_address", sa.String(64)),
    sa.Column("router_id", sa.String(36), sa.ForeignKey("routers.id"), index=True),
    sa.Column("status", sa.String(16), nullable=False, default="DOWN"),
    *standard(),
    sa.UniqueConstraint("floating_network_id", "fixed_port_id", "fixed_ip_address"),
)

PORT_FORWARDINGS = sa.Table(
    "port_forwardings",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False),
    sa.Column("floatingip_id", sa.String(36), sa.ForeignKey("floatingips.id"), nullable=False, index=True),
    sa.Column(
        "internal_port_id", sa.String(36), sa.ForeignKey("ports.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    sa.Column("internal_ip_address", sa.String(64), nullable=False),
    sa.Column("protocol", sa.String(40), nullable=False),
    sa.Column("external_port_start", sa.Integer, nullable=False),
    sa.Column("external_port_end", sa.Integer, nullable=False),
    sa.Column("internal_port_start", sa.Integer, nullable=False),
    sa.Column("internal_port_end", sa.Integer, nullable=False),
    *standard(),
)

# Who besides its project an object is for, and as what (Neutron: networkrbacs, subnetpoolrbacs … in one table).
RBAC_POLICIES = sa.Table(
    "rbac_policies",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("object_type", sa.String(32), nullable=False),
    sa.Column("object_id", sa.String(36), nullable=False),
    sa.Column("action", sa.String(32), nullable=False),  # access_as_shared | access_as_external
    sa.Column("target_project", sa.String(255), nullable=False),  # * for all
    sa.UniqueConstraint("object_id", "action", "target_project"),
    sa.Index("ix_rbac_policies_target", "object_type", "action", "target_project"),
)

# `changes` grows with each write that another at the same time must not miss (Neutron: subnetpools.hash).
ADDRESS_SCOPES = sa.Table(
    "address_scopes",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("ip_version", sa.Integer, nullable=False),
    sa.Column("changes", sa.Integer, nullable=False, default=0),
)

SUBNET_POOLS = sa.Table(
    "subnetpools",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("ip_version", sa.Integer, nullable=False),
    sa.Column("prefixes", Json, nullable=False),  # CIDRs, none within another
    sa.Column("default_prefixlen", sa.Integer, nullable=False),
    sa.Column("min_prefixlen", sa.Integer, nullable=False),
    sa.Column("max_prefixlen", sa.Integer, nullable=False),
    sa.Column("default_quota", sa.Integer),  # a project's: IPv4 addresses, or IPv6 /64s
    sa.Column("is_default", sa.Boolean, nullable=False, default=False),
    sa.Column("address_scope_id", sa.String(36), sa.ForeignKey("address_scopes.id"), index=True),
    sa.Column("changes", sa.Integer, nullable=False, default=0),
    *standard(),
)
# One default pool an address family.
unique_where(
    "uq_subnetpools_default",
    SUBNET_POOLS.c.ip_version,
    where=SUBNET_POOLS.c.is_default,
)

ADDRESS_GROUPS = sa.Table(
    "address_groups",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("project_id", sa.String(255), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False, default=""),
    sa.Column("addresses", Json, nullable=False, default=list),  # CIDRs
    *standard(),
)

# What each new security group begins with. remote_group_id PARENT: the new group itself.
DEFAULT_SECURITY_GROUP_RULES = sa.Table(
    "default_security_group_rules",
    METADATA,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("description", sa.String(255), nullable=False, default=""),
    sa.Column("direction", sa.String(8), nullable=False),
    sa.Column("ethertype", sa.String(8), nullable=False),
    sa.Column("protocol", sa.String(40)),
    sa.Column("port_range_min", sa.Integer),
    sa.Column("port_range_max", sa.Integer),
    sa.Column("remote_ip_prefix", sa.String(64)),
    sa.Column("remote_group_id", sa.String(36)),
    sa.Column("remote_address_group_id", sa.String(36)),
    sa.Column("used_in_default_sg", sa.Boolean, nullable=False, default=False),
    sa.Column("used_in_non_default_sg", sa.Boolean, nullable=False, default=True),
    sa.Column("created_at", sa.DateTime, nullable=False),
)


@sa.event.listens_for(DEFAULT_SECURITY_GROUP_RULES, "after_create")
def _first_default_rules(table: sa.Table, connection: sa.Connection, **_: object) -> None:
    """All may leave; to a project's default group, its own members may enter. An admin may delete them for good."""
    for ethertype in ("IPv4", "IPv6"):
        for direction, parent in (("egress", None), ("ingress", "PARENT")):
            used = {"used_in_default_sg": True, "used_in_non_default_sg": parent is None, "created_at": now()}
            said = {"direction": direction, "ethertype": ethertype, "remote_group_id": parent,
                    "description": f"Legacy default SG rule for {direction} traffic"}  # fmt: skip
            connection.execute(table.insert().values(id=new_id(), **said, **used))


AUTO_TOPOLOGIES = sa.Table(
    "auto_allocated_topologies",
    METADATA,
    sa.Column("project_id", sa.String(255), primary_key=True),
    sa.Column("network_id", sa.String(36), sa.ForeignKey("networks.id", ondelete="CASCADE"), nullable=False),
    sa.Column("router_id", sa.String(36), nullable=False),
)
