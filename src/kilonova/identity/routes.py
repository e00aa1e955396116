"""Keystone v3: every operation, its policy line and its status."""

import dataclasses
from collections.abc import Mapping

from kilonova.identity import (
    access,
    access_rules,
    application_credentials,
    assignments,
    auth,
    catalog,
    credentials,
    discovery,
    domains,
    grants,
    groups,
    policies,
    projects,
    roles,
    schemas,
    trusts,
    users,
)
from kilonova.web import faults
from kilonova.web.call import Route
from kilonova.web.policy import Rule, admin, anyone
from kilonova.web.service import Fault, Service


def grant_routes(target: str, tail: str = "") -> Mapping[str, Route]:
    """The five operations on roles of a user or group at one kind of target."""
    found: dict[str, Route] = {}
    for actor in ("users", "groups"):
        base = f"/v3/{target}/{actor}/{{actor_id}}/roles"
        found |= {
            f"GET {base}{tail}": Route(grants.index, "identity:list_grants"),
            f"GET {base}/{{role_id}}{tail}": Route(grants.check, "identity:check_grant", 204),
            f"PUT {base}/{{role_id}}{tail}": Route(grants.give, "identity:create_grant", 204),
            f"DELETE {base}/{{role_id}}{tail}": Route(grants.take, "identity:revoke_grant", 204),
        }
    return found


AUTH: Mapping[str, Route] = {
    "GET /": Route(discovery.versions, "", 300),
    "GET /v3": Route(discovery.version, ""),
    "POST /v3/auth/tokens": Route(auth.issue, "", 201, tx="none", schema=schemas.AUTH),
    "GET /v3/auth/tokens": Route(auth.validate, "identity:validate_token"),
    "DELETE /v3/auth/tokens": Route(auth.revoke, "identity:revoke_token", 204),
    "GET /v3/auth/catalog": Route(auth.show_catalog, "identity:get_auth_catalog"),
    "GET /v3/auth/projects": Route(auth.list_projects, "identity:get_auth_projects"),
    "GET /v3/auth/domains": Route(auth.list_domains, "identity:get_auth_domains"),
    "GET /v3/auth/system": Route(auth.list_system, "identity:get_auth_system"),
}

PROJECTS: Mapping[str, Route] = {
    "GET /v3/projects": Route(projects.index, "identity:list_projects"),
    "POST /v3/projects": Route(projects.create, "identity:create_project", 201, schema=schemas.PROJECT_CREATE),
    "GET /v3/projects/{id}": Route(projects.show, "identity:get_project"),
    "PATCH /v3/projects/{id}": Route(projects.change, "identity:update_project", schema=schemas.PROJECT_UPDATE),
    "DELETE /v3/projects/{id}": Route(projects.delete, "identity:delete_project", 204),
    "GET /v3/projects/{id}/tags": Route(projects.list_tags, "identity:list_project_tags"),
    "PUT /v3/projects/{id}/tags": Route(
        projects.replace_tags, "identity:update_project_tags", schema=schemas.TAGS_UPDATE
    ),
    "DELETE /v3/projects/{id}/tags": Route(projects.delete_tags, "identity:delete_project_tags", 204),
    "GET /v3/projects/{id}/tags/{tag}": Route(projects.check_tag, "identity:get_project_tag", 204),
    "PUT /v3/projects/{id}/tags/{tag}": Route(projects.add_tag, "identity:create_project_tag", 201),
    "DELETE /v3/projects/{id}/tags/{tag}": Route(projects.delete_tag, "identity:delete_project_tag", 204),
    "GET /v3/domains": Route(domains.index, "identity:list_domains"),
    "POST /v3/domains": Route(domains.create, "identity:create_domain", 201, schema=schemas.DOMAIN_CREATE),
    "GET /v3/domains/{id}": Route(domains.show, "identity:get_domain"),
    "PATCH /v3/domains/{id}": Route(domains.change, "identity:update_domain", schema=schemas.DOMAIN_UPDATE),
    "DELETE /v3/domains/{id}": Route(domains.delete, "identity:delete_domain", 204),
}

USERS: Mapping[str, Route] = {
    "GET /v3/users": Route(users.index, "identity:list_users"),
    "POST /v3/users": Route(users.create, "identity:create_user", 201, tx="none", schema=schemas.USER_CREATE),
    "GET /v3/users/{id}": Route(users.show, "identity:get_user"),
    "PATCH /v3/users/{id}": Route(users.change, "identity:update_user", tx="none", schema=schemas.USER_UPDATE),
    "DELETE /v3/users/{id}": Route(users.delete, "identity:delete_user", 204),
    "POST /v3/users/{id}/password": Route(users.change_password, "", 204, tx="none", schema=schemas.PASSWORD),
    "GET /v3/users/{id}/projects": Route(projects.list_of_user, "identity:list_user_projects"),
    "GET /v3/users/{id}/groups": Route(users.list_groups, "identity:list_groups_for_user"),
    "GET /v3/groups": Route(groups.index, "identity:list_groups"),
    "POST /v3/groups": Route(groups.create, "identity:create_group", 201, schema=schemas.GROUP_CREATE),
    "GET /v3/groups/{id}": Route(groups.show, "identity:get_group"),
    "PATCH /v3/groups/{id}": Route(groups.change, "identity:update_group", schema=schemas.GROUP_UPDATE),
    "DELETE /v3/groups/{id}": Route(groups.delete, "identity:delete_group", 204),
    "GET /v3/groups/{id}/users": Route(users.members, "identity:list_users_in_group"),
    "GET /v3/groups/{id}/users/{user_id}": Route(groups.check_member, "identity:check_user_in_group", 204),
    "PUT /v3/groups/{id}/users/{user_id}": Route(groups.add_member, "identity:add_user_to_group", 204),
    "DELETE /v3/groups/{id}/users/{user_id}": Route(groups.remove_member, "identity:remove_user_from_group", 204),
}

ROLES: Mapping[str, Route] = {
    "GET /v3/roles": Route(roles.index, "identity:list_roles"),
    "POST /v3/roles": Route(roles.create, "identity:create_role", 201, schema=schemas.ROLE_CREATE),
    "GET /v3/roles/{id}": Route(roles.show, "identity:get_role"),
    "PATCH /v3/roles/{id}": Route(roles.change, "identity:update_role", schema=schemas.ROLE_UPDATE),
    "DELETE /v3/roles/{id}": Route(roles.delete, "identity:delete_role", 204),
    "GET /v3/roles/{id}/implies": Route(roles.list_implied, "identity:list_implied_roles"),
    "GET /v3/roles/{id}/implies/{implied_id}": Route(roles.show_implied, "identity:get_implied_role"),
    "PUT /v3/roles/{id}/implies/{implied_id}": Route(roles.imply, "identity:create_implied_role", 201),
    "DELETE /v3/roles/{id}/implies/{implied_id}": Route(roles.stop_implying, "identity:delete_implied_role", 204),
    "GET /v3/role_inferences": Route(roles.list_inferences, "identity:list_role_inference_rules"),
    "GET /v3/role_assignments": Route(assignments.index, "identity:list_role_assignments"),
    **grant_routes("projects/{target_id}"),
    **grant_routes("domains/{target_id}"),
    **grant_routes("system"),
    **grant_routes("OS-INHERIT/projects/{target_id}", "/inherited_to_projects"),
    **grant_routes("OS-INHERIT/domains/{target_id}", "/inherited_to_projects"),
}

CATALOG: Mapping[str, Route] = {
    "GET /v3/regions": Route(catalog.list_regions, "identity:list_regions"),
    "POST /v3/regions": Route(catalog.create_region, "identity:create_region", 201, schema=schemas.REGION_CREATE),
    "GET /v3/regions/{id}": Route(catalog.show_region, "identity:get_region"),
    "PUT /v3/regions/{id}": Route(catalog.create_region, "identity:create_region", 201, schema=schemas.REGION_CREATE),
    "PATCH /v3/regions/{id}": Route(catalog.update_region, "identity:update_region", schema=schemas.REGION_UPDATE),
    "DELETE /v3/regions/{id}": Route(catalog.delete_region, "identity:delete_region", 204),
    "GET /v3/services": Route(catalog.list_services, "identity:list_services"),
    "POST /v3/services": Route(catalog.create_service, "identity:create_service", 201, schema=schemas.SERVICE_CREATE),
    "GET /v3/services/{id}": Route(catalog.show_service, "identity:get_service"),
    "PATCH /v3/services/{id}": Route(catalog.update_service, "identity:update_service", schema=schemas.SERVICE_UPDATE),
    "DELETE /v3/services/{id}": Route(catalog.delete_service, "identity:delete_service", 204),
    "GET /v3/endpoints": Route(catalog.list_endpoints, "identity:list_endpoints"),
    "POST /v3/endpoints": Route(
        catalog.create_endpoint, "identity:create_endpoint", 201, schema=schemas.ENDPOINT_CREATE
    ),
    "GET /v3/endpoints/{id}": Route(catalog.show_endpoint, "identity:get_endpoint"),
    "PATCH /v3/endpoints/{id}": Route(
        catalog.update_endpoint, "identity:update_endpoint", schema=schemas.ENDPOINT_UPDATE
    ),
    "DELETE /v3/endpoints/{id}": Route(catalog.delete_endpoint, "identity:delete_endpoint", 204),
}

KEPT: Mapping[str, Route] = {
    "GET /v3/credentials": Route(credentials.index, "identity:list_credentials"),
    "POST /v3/credentials": Route(
        credentials.create, "identity:create_credential", 201, schema=schemas.CREDENTIAL_CREATE
    ),
    "GET /v3/credentials/{id}": Route(credentials.show, "identity:get_credential"),
    "PATCH /v3/credentials/{id}": Route(
        credentials.change, "identity:update_credential", schema=schemas.CREDENTIAL_UPDATE
    ),
    "DELETE /v3/credentials/{id}": Route(credentials.delete, "identity:delete_credential", 204),
    "GET /v3/users/{id}/credentials/OS-EC2": Route(credentials.list_ec2, "identity:ec2_list_credentials"),
    "POST /v3/users/{id}/credentials/OS-EC2": Route(
        credentials.create_ec2, "identity:ec2_create_credential", 201, schema=schemas.EC2_CREATE
    ),
    "GET /v3/users/{id}/credentials/OS-EC2/{access}": Route(credentials.show_ec2, "identity:ec2_get_credential"),
    "DELETE /v3/users/{id}/credentials/OS-EC2/{access}": Route(
        credentials.delete_ec2, "identity:ec2_delete_credential", 204
    ),
    "GET /v3/policies": Route(policies.index, "identity:list_policies"),
    "POST /v3/policies": Route(policies.create, "identity:create_policy", 201, schema=schemas.POLICY_CREATE),
    "GET /v3/policies/{id}": Route(policies.show, "identity:get_policy"),
    "PATCH /v3/policies/{id}": Route(policies.change, "identity:update_policy", schema=schemas.POLICY_UPDATE),
    "DELETE /v3/policies/{id}": Route(policies.delete, "identity:delete_policy", 204),
}

DELEGATED: Mapping[str, Route] = {
    "GET /v3/users/{id}/application_credentials": Route(
        application_credentials.index, "identity:list_application_credentials"
    ),
    "POST /v3/users/{id}/application_credentials": Route(
        application_credentials.create,
        "identity:create_application_credential",
        201,
        tx="none",
        schema=schemas.APPLICATION_CREDENTIAL_CREATE,
    ),
    "GET /v3/users/{id}/application_credentials/{credential_id}": Route(
        application_credentials.show, "identity:get_application_credential"
    ),
    "DELETE /v3/users/{id}/application_credentials/{credential_id}": Route(
        application_credentials.delete, "identity:delete_application_credential", 204
    ),
    "GET /v3/users/{id}/access_rules": Route(access_rules.index, "identity:list_access_rules"),
    "GET /v3/users/{id}/access_rules/{rule_id}": Route(access_rules.show, "identity:get_access_rule"),
    "DELETE /v3/users/{id}/access_rules/{rule_id}": Route(access_rules.delete, "identity:delete_access_rule", 204),
    "GET /v3/OS-TRUST/trusts": Route(trusts.index, "identity:list_trusts"),
    "POST /v3/OS-TRUST/trusts": Route(trusts.create, "identity:create_trust", 201, schema=schemas.TRUST_CREATE),
    "GET /v3/OS-TRUST/trusts/{trust_id}": Route(trusts.show, "identity:get_trust"),
    "DELETE /v3/OS-TRUST/trusts/{trust_id}": Route(trusts.delete, "identity:delete_trust", 204),
    "GET /v3/OS-TRUST/trusts/{trust_id}/roles": Route(trusts.list_roles, "identity:list_roles_for_trust"),
    "GET /v3/OS-TRUST/trusts/{trust_id}/roles/{role_id}": Route(trusts.show_role, "identity:get_role_for_trust"),
}

ROUTES: dict[str, Route] = {**AUTH, **PROJECTS, **USERS, **ROLES, **CATALOG, **KEPT, **DELEGATED}

READS_ALL: Rule = lambda context, target: access.reads_all(context)  # noqa: E731

# What a rule lets in may still be refused by the row: see access.py.
POLICY: dict[str, Rule] = {
    "identity:validate_token": anyone,
    "identity:revoke_token": anyone,
    "identity:get_auth_catalog": anyone,
    "identity:get_auth_projects": anyone,
    "identity:get_auth_domains": anyone,
    "identity:get_auth_system": anyone,
    "identity:list_projects": access.lists,
    "identity:create_project": access.manages,
    "identity:get_project": anyone,
    "identity:update_project": access.manages,
    "identity:delete_project": access.manages,
    "identity:list_project_tags": anyone,
    "identity:update_project_tags": access.manages,
    "identity:delete_project_tags": access.manages,
    "identity:get_project_tag": anyone,
    "identity:create_project_tag": access.manages,
    "identity:delete_project_tag": access.manages,
    "identity:list_domains": access.lists,
    "identity:create_domain": admin,
    "identity:get_domain": anyone,
    "identity:update_domain": admin,
    "identity:delete_domain": admin,
    "identity:list_users": access.lists,
    "identity:create_user": access.manages,
    "identity:get_user": anyone,
    "identity:update_user": access.manages,
    "identity:delete_user": access.manages,
    "identity:list_user_projects": anyone,
    "identity:list_groups_for_user": anyone,
    "identity:list_groups": access.lists,
    "identity:create_group": access.manages,
    "identity:get_group": access.lists,
    "identity:update_group": access.manages,
    "identity:delete_group": access.manages,
    "identity:list_users_in_group": access.lists,
    "identity:check_user_in_group": access.lists,
    "identity:add_user_to_group": access.manages,
    "identity:remove_user_from_group": access.manages,
    "identity:list_roles": access.lists,
    "identity:create_role": admin,
    "identity:get_role": access.lists,
    "identity:update_role": admin,
    "identity:delete_role": admin,
    "identity:list_implied_roles": READS_ALL,
    "identity:get_implied_role": READS_ALL,
    "identity:create_implied_role": admin,
    "identity:delete_implied_role": admin,
    "identity:list_role_inference_rules": READS_ALL,
    "identity:list_role_assignments": access.lists,
    "identity:list_grants": access.lists,
    "identity:check_grant": access.lists,
    "identity:create_grant": access.manages,
    "identity:revoke_grant": access.manages,
    "identity:list_regions": anyone,
    "identity:create_region": admin,
    "identity:get_region": anyone,
    "identity:update_region": admin,
    "identity:delete_region": admin,
    "identity:list_services": READS_ALL,
    "identity:create_service": admin,
    "identity:get_service": READS_ALL,
    "identity:update_service": admin,
    "identity:delete_service": admin,
    "identity:list_endpoints": READS_ALL,
    "identity:create_endpoint": admin,
    "identity:get_endpoint": READS_ALL,
    "identity:update_endpoint": admin,
    "identity:delete_endpoint": admin,
    "identity:list_credentials": anyone,
    "identity:create_credential": anyone,
    "identity:get_credential": anyone,
    "identity:update_credential": anyone,
    "identity:delete_credential": anyone,
    "identity:ec2_list_credentials": anyone,
    "identity:ec2_create_credential": anyone,
    "identity:ec2_get_credential": anyone,
    "identity:ec2_delete_credential": anyone,
    "identity:list_policies": READS_ALL,
    "identity:create_policy": admin,
    "identity:get_policy": READS_ALL,
    "identity:update_policy": admin,
    "identity:delete_policy": admin,
    "identity:list_application_credentials": anyone,
    "identity:create_application_credential": anyone,
    "identity:get_application_credential": anyone,
    "identity:delete_application_credential": anyone,
    "identity:list_access_rules": anyone,
    "identity:get_access_rule": anyone,
    "identity:delete_access_rule": anyone,
    "identity:list_trusts": anyone,
    "identity:create_trust": anyone,
    "identity:get_trust": anyone,
    "identity:delete_trust": anyone,
    "identity:list_roles_for_trust": anyone,
    "identity:get_role_for_trust": anyone,
}


def fault(fault: Fault) -> object:
    """Keystone's body; a policy's refusal in Keystone's words."""
    if fault.type == "PolicyNotAuthorized":
        action = next((word for word in fault.message.split() if word.startswith("identity:")), "")
        message = f"You are not authorized to perform the requested action: {action}."
        fault = dataclasses.replace(fault, message=message)
    return faults.keystone(fault)


SERVICE = Service(prefix="identity", routes=ROUTES, policy=POLICY, fault=fault, any_scope=True)
