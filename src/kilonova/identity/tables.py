"""The identity tables. As in Keystone a domain is a project whose `is_domain` is true; ids that are "" are null outside.

`extra` holds the attributes that Keystone lets callers add to most resources, and the optional ones it never looks at.
"""

import sqlalchemy as sa

from kilonova.db.tables import METADATA, Json


def _id() -> "sa.Column[str]":
    return sa.Column("id", sa.String(64), primary_key=True)


def _extra() -> "sa.Column[dict[str, object]]":
    return sa.Column("extra", Json, nullable=False, default=dict)


def _options() -> "sa.Column[dict[str, object]]":
    return sa.Column("options", Json, nullable=False, default=dict)


PROJECTS = sa.Table(
    "identity_projects",
    METADATA,
    _id(),
    sa.Column("domain_id", sa.String(64), nullable=False),  # "" for a domain
    sa.Column("parent_id", sa.String(64), nullable=False, index=True),  # the domain for a project at the top
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("is_domain", sa.Boolean, nullable=False, default=False),
    sa.Column("tags", Json, nullable=False, default=list),
    sa.Column("tokens_valid_since", sa.Float, nullable=False, default=0.0),  # seconds since the epoch
    _options(),
    _extra(),
    sa.UniqueConstraint("domain_id", "name"),
)

USERS = sa.Table(
    "identity_users",
    METADATA,
    _id(),
    sa.Column("domain_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("password_hash", sa.String(128)),
    sa.Column("enabled", sa.Boolean, nullable=False, default=True),
    sa.Column("default_project_id", sa.String(64)),
    sa.Column("password_created_at", sa.Float),  # seconds since the epoch, as all times here
    sa.Column("password_expires_at", sa.Float),  # None: never
    sa.Column("password_self_service", sa.Boolean, nullable=False, default=False),  # the user's own choice
    sa.Column("password_history", Json, nullable=False, default=list),  # hashes of those before, oldest first
    sa.Column("last_active_at", sa.Float),
    sa.Column("tokens_valid_since", sa.Float, nullable=False, default=0.0),
    _options(),
    _extra(),
    sa.UniqueConstraint("domain_id", "name"),
)

GROUPS = sa.Table(
    "identity_groups",
    METADATA,
    _id(),
    sa.Column("domain_id", sa.String(64), nullable=False),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("description", sa.Text, nullable=False, default=""),
    _extra(),
    sa.UniqueConstraint("domain_id", "name"),
)

MEMBERSHIPS = sa.Table(
    "identity_memberships",
    METADATA,
    sa.Column("group_id", sa.String(64), primary_key=True),
    sa.Column("user_id", sa.String(64), primary_key=True, index=True),
)

ROLES = sa.Table(
    "identity_roles",
    METADATA,
    _id(),
    sa.Column("domain_id", sa.String(64), nullable=False, default=""),  # "" for a global role
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("description", sa.Text),
    _options(),
    _extra(),
    sa.UniqueConstraint("domain_id", "name"),
)

IMPLIED_ROLES = sa.Table(
    "identity_implied_roles",
    METADATA,
    sa.Column("prior_role_id", sa.String(64), primary_key=True),
    sa.Column("implied_role_id", sa.String(64), primary_key=True),
)

ASSIGNMENTS = sa.Table(
    "identity_assignments",
    METADATA,
    sa.Column("actor_type", sa.String(8), primary_key=True),  # user | group
    sa.Column("actor_id", sa.String(64), primary_key=True),
    sa.Column("target_type", sa.String(8), primary_key=True),  # project | domain | system
    sa.Column("target_id", sa.String(64), primary_key=True),  # "all" for the system
    sa.Column("role_id", sa.String(64), primary_key=True),
    sa.Column("inherited", sa.Boolean, primary_key=True),  # holds on the projects below the target, not on itself
)

REGIONS = sa.Table(
    "identity_regions",
    METADATA,
    sa.Column("id", sa.String(255), primary_key=True),
    sa.Column("description", sa.Text, nullable=False, default=""),
    sa.Column("parent_region_id", sa.String(255)),
    _extra(),
)

SERVICES = sa.Table(
    "identity_services",
    METADATA,
    _id(),
    sa.Column("type", sa.String(255), nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False, default=True),
    _extra(),  # name and description are here, as in Keystone: a service may lack them
)

ENDPOINTS = sa.Table(
    "identity_endpoints",
    METADATA,
    _id(),
    sa.Column("service_id", sa.String(64), nullable=False, index=True),
    sa.Column("region_id", sa.String(255)),
    sa.Column("interface", sa.String(8), nullable=False),  # public | internal | admin
    sa.Column("url", sa.Text, nullable=False),  # begins with "/" when it is this cloud's own: below the public root
    sa.Column("enabled", sa.Boolean, nullable=False, default=True),
    _extra(),
)

CREDENTIALS = sa.Table(
    "identity_credentials",
    METADATA,
    _id(),
    sa.Column("user_id", sa.String(64), nullable=False, index=True),
    sa.Column("project_id", sa.String(64)),
    sa.Column("type", sa.String(255), nullable=False),
    sa.Column("blob", sa.Text, nullable=False),  # encrypted with the token keys
    _extra(),
)

POLICIES = sa.Table(
    "identity_policies",
    METADATA,
    _id(),
    sa.Column("type", sa.String(255), nullable=False),
    sa.Column("blob", sa.Text, nullable=False),  # JSON
    _extra(),
)

# Keystone's application credentials: a user's own, for one project, with some of the user's roles there.
APPLICATION_CREDENTIALS = sa.Table(
    "identity_application_credentials",
    METADATA,
    _id(),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("project_id", sa.String(64), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("secret_hash", sa.String(128), nullable=False),
    sa.Column("unrestricted", sa.Boolean, nullable=False, default=False),
    sa.Column("expires_at", sa.Float),  # seconds since the epoch
    sa.Column("role_ids", Json, nullable=False, default=list),
    sa.Column("access_rule_ids", Json),  # None: no rules, all is allowed
    sa.UniqueConstraint("user_id", "name"),
)

ACCESS_RULES = sa.Table(
    "identity_access_rules",
    METADATA,
    _id(),
    sa.Column("user_id", sa.String(64), nullable=False),
    sa.Column("service", sa.String(64), nullable=False),
    sa.Column("method", sa.String(16), nullable=False),
    sa.Column("path", sa.String(255), nullable=False),
    sa.Column("created_at", sa.DateTime),  # none: before these were kept
    sa.UniqueConstraint("user_id", "service", "path", "method"),
)

TRUSTS = sa.Table(
    "identity_trusts",
    METADATA,
    _id(),
    sa.Column("trustor_user_id", sa.String(64), nullable=False, index=True),
    sa.Column("trustee_user_id", sa.String(64), nullable=False, index=True),
    sa.Column("project_id", sa.String(64)),
    sa.Column("impersonation", sa.Boolean, nullable=False),
    sa.Column("expires_at", sa.Float),
    sa.Column("deleted_at", sa.Float),  # the row stays, so that its trustor is told that it is gone
    sa.Column("remaining_uses", sa.Integer),
    sa.Column("redelegated_trust_id", sa.String(64), index=True),
    sa.Column("redelegation_count", sa.Integer, nullable=False, default=0),
    sa.Column("role_ids", Json, nullable=False, default=list),
    _extra(),
)

CONSUMERS = sa.Table(
    "identity_consumers",
    METADATA,
    _id(),
    sa.Column("description", sa.Text),
    sa.Column("secret", sa.String(64), nullable=False),
    _extra(),
)

ENDPOINT_GROUPS = sa.Table(
    "identity_endpoint_groups",
    METADATA,
    _id(),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("filters", Json, nullable=False),
    _extra(),
)

PROJECT_ENDPOINT_GROUPS = sa.Table(
    "identity_project_endpoint_groups",
    METADATA,
    sa.Column("endpoint_group_id", sa.String(64), primary_key=True),
    sa.Column("project_id", sa.String(64), primary_key=True, index=True),
)

PROJECT_ENDPOINTS = sa.Table(
    "identity_project_endpoints",
    METADATA,
    sa.Column("endpoint_id", sa.String(64), primary_key=True),
    sa.Column("project_id", sa.String(64), primary_key=True, index=True),
)

# A policy for an endpoint, a service, or a service in a region: what it is not for is "".
POLICY_ASSOCIATIONS = sa.Table(
    "identity_policy_associations",
    METADATA,
    sa.Column("endpoint_id", sa.String(64), primary_key=True),
    sa.Column("service_id", sa.String(64), primary_key=True),
    sa.Column("region_id", sa.String(255), primary_key=True),
    sa.Column("policy_id", sa.String(64), nullable=False, index=True),
)

REGISTERED_LIMITS = sa.Table(
    "identity_registered_limits",
    METADATA,
    _id(),
    sa.Column("service_id", sa.String(64), nullable=False),
    sa.Column("region_id", sa.String(255), nullable=False, default=""),  # "" for every region
    sa.Column("resource_name", sa.String(255), nullable=False),
    sa.Column("default_limit", sa.Integer, nullable=False),
    sa.Column("description", sa.Text),
    sa.UniqueConstraint("service_id", "region_id", "resource_name"),
)

LIMITS = sa.Table(
    "identity_limits",
    METADATA,
    _id(),
    sa.Column("project_id", sa.String(64), nullable=False, default=""),  # "" for a domain's limit
    sa.Column("domain_id", sa.String(64), nullable=False, default=""),  # "" for a project's limit
    sa.Column("registered_limit_id", sa.String(64), nullable=False),
    sa.Column("resource_limit", sa.Integer, nullable=False),
    sa.Column("description", sa.Text),
    sa.UniqueConstraint("project_id", "domain_id", "registered_limit_id"),
)

# By a user's id, or by a digest of a name that nobody has: see security.py.
FAILED_LOGINS = sa.Table(
    "identity_failed_logins",
    METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("at", sa.Float, nullable=False, index=True),
)

REVOKED_TOKENS = sa.Table(
    "identity_revoked_tokens",
    METADATA,
    sa.Column("audit_id", sa.String(32), primary_key=True),
    sa.Column("revoked_at", sa.Float, nullable=False, default=0.0),
    sa.Column("expires_at", sa.Float, nullable=False, index=True),  # the token's own end: the row is of no use after it
)

# One row: counted up by every write after which a token may mean something else, so that a verified token can be kept
# in memory and is as good as new while the number stands.
REVISION = sa.Table(
    "identity_revision",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, nullable=False),
)
