"""Who may do what: small rules with names, put together in each service's POLICY table.

OpenStack's secure-RBAC personas: admin, and manager / member / reader within a project. `target` is the row acted on
(its `project_id`, `user_id`), or empty when the operation acts on the caller's own scope.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kilonova.web.call import Context

Rule = Callable[[Context, Mapping[str, Any]], bool]

IMPLIED = {"admin": ("manager", "member", "reader"), "manager": ("member", "reader"), "member": ("reader",)}


def anyone(context: Context, target: Mapping[str, Any]) -> bool:
    """Whoever has a valid token."""
    return True


def admin(context: Context, target: Mapping[str, Any]) -> bool:
    return "admin" in context.roles


def admin_or_service(context: Context, target: Mapping[str, Any]) -> bool:
    return bool({"admin", "service"} & context.roles)


def _in_project(context: Context, target: Mapping[str, Any]) -> bool:
    return bool(context.project_id) and target.get("project_id", context.project_id) == context.project_id


def project_manager(context: Context, target: Mapping[str, Any]) -> bool:
    """Admin, or manager in the target's project (Neutron: ADMIN_OR_PROJECT_MANAGER)."""
    return admin(context, target) or ("manager" in context.roles and _in_project(context, target))


def project_member(context: Context, target: Mapping[str, Any]) -> bool:
    """Admin, or member in the target's project (Nova: PROJECT_MEMBER_OR_ADMIN)."""
    return admin(context, target) or ("member" in context.roles and _in_project(context, target))


def project_reader(context: Context, target: Mapping[str, Any]) -> bool:
    """Admin, or reader in the target's project (Nova: PROJECT_READER_OR_ADMIN)."""
    return admin(context, target) or ("reader" in context.roles and _in_project(context, target))


def with_implied(roles: frozenset[str]) -> frozenset[str]:
    """The roles and all that they imply."""
    return roles.union(*(IMPLIED.get(role, ()) for role in roles))
