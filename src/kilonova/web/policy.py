"""Who may do what: the rules that each service's POLICY table is put together from, and what an operator makes of them.

OpenStack's secure-RBAC personas: admin, and manager / member / reader within a project. `target` is the row acted on
(its `project_id`, `user_id`), or empty when the operation acts on the caller's own scope.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import RowMapping

from kilonova.model.errors import Forbidden
from kilonova.web.call import Context
from kilonova.web.checks import Book, Rule

if TYPE_CHECKING:
    from kilonova.web.service import Service

IMPLIED = {"admin": ("manager", "member", "reader"), "manager": ("member", "reader"), "member": ("reader",)}

# Rules that others name. The names are those of OpenStack's own services, so that an operator's file finds them.
ALIASES = {
    "context_is_admin": "role:admin",
    "admin_required": "rule:context_is_admin",  # Keystone's word
    "admin_only": "rule:context_is_admin",  # Neutron's
    "admin_api": "rule:context_is_admin",  # Cinder's, Placement's
    "service_api": "role:service",
    "service_role": "role:service",
    "owner": "project_id:%(project_id)s",
    "network_owner": "project_id:%(network:project_id)s",  # of ports: whose network they are on
    "admin_or_network_owner": "rule:context_is_admin or rule:network_owner",
    "admin_or_owner": "rule:context_is_admin or project_id:%(project_id)s",
    "project_manager_api": "role:manager and project_id:%(project_id)s",
    "project_member_api": "role:member and project_id:%(project_id)s",
    "project_reader_api": "role:reader and project_id:%(project_id)s",
    "project_manager_or_admin": "rule:project_manager_api or rule:context_is_admin",
    "project_member_or_admin": "rule:project_member_api or rule:context_is_admin",
    "project_reader_or_admin": "rule:project_reader_api or rule:context_is_admin",
    "service_or_admin": "rule:service_api or rule:context_is_admin",
}
_DEFAULTS = Book(ALIASES)
rule = _DEFAULTS.compile

anyone = rule("@")  # whoever has a valid token
admin = rule("rule:context_is_admin")
admin_or_service = rule("rule:service_or_admin")
project_manager = rule("rule:project_manager_or_admin")  # Neutron: ADMIN_OR_PROJECT_MANAGER
project_member = rule("rule:project_member_or_admin")  # Nova: PROJECT_MEMBER_OR_ADMIN
project_reader = rule("rule:project_reader_or_admin")  # Nova: PROJECT_READER_OR_ADMIN


def with_implied(roles: frozenset[str]) -> frozenset[str]:
    """The roles and all that they imply."""
    return roles.union(*(IMPLIED.get(role, ()) for role in roles))


class Rules:
    """A service's rules as they hold: its own table, and in place of some lines an operator's.

    `replaced`: by the service's own names. `is_admin`: who is an administrator, if an operator says so. `parts`: an
    operator's for parts of requests, by their full names, of all services: one asks others (Cinder uploads to Glance).
    """

    def __init__(
        self,
        service: "Service",
        replaced: Mapping[str, Rule],
        is_admin: Rule | None = None,
        parts: Mapping[str, Rule] | None = None,
    ) -> None:
        self.service, self.replaced, self.is_admin, self.parts = service, replaced, is_admin, parts

    def __getitem__(self, name: str) -> Rule:
        return self.replaced.get(name) or self.service.policy[name]

    def seen(self, context: Context) -> Context:
        """Who asks, an administrator or not by the operator's word, who may have parts of requests by it, too."""
        if self.parts:
            context = replace(context, parts=self.parts)
        return replace(context, admin=self.is_admin(context, {})) if self.is_admin else context

    def bound(self, context: Context, name: str) -> Context:
        """Who asks, as the operation's handler is to see them, where an operator's rule asks whose a row is.

        If it would not let them have another's, they are no administrator in it, to whom every row is open; and where
        rows have users, each is held against it (`check_row`).
        """
        found = self.replaced.get(name)
        if not found or not found.asks:
            return context
        confined = not all(found(context, {asked: ""}) for asked in found.asks)
        held = (self.service, name, found) if "user_id" in found.asks else None
        return replace(context, admin=False if confined else context.admin, row_rule=held)

    def refused(self, name: str) -> Forbidden:
        return refusal(self.service, name)


class Policies(Protocol):
    """Where the rules come from: the tables alone, or a file beside them."""

    def of(self, service: "Service") -> Rules: ...


class Defaults:
    """OpenStack's defaults, as the tables have them."""

    def __init__(self, services: Iterable["Service"]) -> None:
        self.rules = {service.prefix: Rules(service, {}) for service in services}

    def of(self, service: "Service") -> Rules:
        return self.rules[service.prefix]


def check_row(context: Context, prefix: str, row: RowMapping) -> None:
    """Forbidden when an operator's rule for the operation under way, of this service, does not let the caller have the row.

    `row` has `project_id` and `user_id`.
    """
    if context.row_rule and context.row_rule[0].prefix == prefix:
        service, name, held = context.row_rule
        if not held(context, {"project_id": row["project_id"], "user_id": row["user_id"]}):
            raise refusal(service, name)


def refusal(service: "Service", name: str) -> Forbidden:
    return Forbidden(f"Policy doesn't allow {service.rule_name(name)} to be performed.", type="PolicyNotAuthorized")
