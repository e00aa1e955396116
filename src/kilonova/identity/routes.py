"""Keystone v3: every operation, its policy line and its status."""

import dataclasses
from collections.abc import Mapping

from kilonova.identity import (
    access_rules,
    application_credentials,
    assignments,
    auth,
    catalog,
    consumers,
    credentials,
    discovery,
    domains,
    ec2tokens,
    endpoint_groups,
    endpoint_policies,
    grants,
    groups,
    limits,
    policies,
    projects,
    registered_limits,
    revocations,
    roles,
    schemas,
    trusts,
    users,
)
from kilonova.identity.access import refuse_ec2
from kilonova.identity.policy import PARTS, POLICY
from kilonova.web import faults
from kilonova.web.call import Route
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

LIMITS: Mapping[str, Route] = {
    "GET /v3/registered_limits": Route(registered_limits.index, "identity:list_registered_limits"),
    "POST /v3/registered_limits": Route(
        registered_limits.create, "identity:create_registered_limits", 201, schema=schemas.REGISTERED_LIMITS_CREATE
    ),
    "GET /v3/registered_limits/{id}": Route(registered_limits.show, "identity:get_registered_limit"),
    "PATCH /v3/registered_limits/{id}": Route(
        registered_limits.change, "identity:update_registered_limit", schema=schemas.REGISTERED_LIMIT_UPDATE
    ),
    "DELETE /v3/registered_limits/{id}": Route(registered_limits.delete, "identity:delete_registered_limit", 204),
    "GET /v3/limits/model": Route(limits.model, "identity:get_limit_model"),
    "GET /v3/limits": Route(limits.index, "identity:list_limits"),
    "POST /v3/limits": Route(limits.create, "identity:create_limits", 201, schema=schemas.LIMITS_CREATE),
    "GET /v3/limits/{id}": Route(limits.show, "identity:get_limit"),
    "PATCH /v3/limits/{id}": Route(limits.change, "identity:update_limit", schema=schemas.LIMIT_UPDATE),
    "DELETE /v3/limits/{id}": Route(limits.delete, "identity:delete_limit", 204),
}

EP = "/v3/OS-EP-FILTER"
FILTERS: Mapping[str, Route] = {
    f"GET {EP}/endpoint_groups": Route(endpoint_groups.index, "identity:list_endpoint_groups"),
    f"POST {EP}/endpoint_groups": Route(
        endpoint_groups.create, "identity:create_endpoint_group", 201, schema=schemas.ENDPOINT_GROUP_CREATE
    ),
    f"GET {EP}/endpoint_groups/{{group_id}}": Route(endpoint_groups.show, "identity:get_endpoint_group"),
    f"PATCH {EP}/endpoint_groups/{{group_id}}": Route(
        endpoint_groups.change, "identity:update_endpoint_group", schema=schemas.ENDPOINT_GROUP_UPDATE
    ),
    f"DELETE {EP}/endpoint_groups/{{group_id}}": Route(endpoint_groups.delete, "identity:delete_endpoint_group", 204),
    f"GET {EP}/endpoint_groups/{{group_id}}/endpoints": Route(
        endpoint_groups.list_members, "identity:list_endpoints_associated_with_endpoint_group"
    ),
    f"GET {EP}/endpoint_groups/{{group_id}}/projects": Route(
        endpoint_groups.list_projects, "identity:list_projects_associated_with_endpoint_group"
    ),
    f"GET {EP}/endpoint_groups/{{group_id}}/projects/{{project_id}}": Route(
        endpoint_groups.check, "identity:get_endpoint_group_in_project"
    ),
    f"PUT {EP}/endpoint_groups/{{group_id}}/projects/{{project_id}}": Route(
        endpoint_groups.add, "identity:add_endpoint_group_to_project", 204
    ),
    f"DELETE {EP}/endpoint_groups/{{group_id}}/projects/{{project_id}}": Route(
        endpoint_groups.remove, "identity:remove_endpoint_group_from_project", 204
    ),
    f"GET {EP}/endpoints/{{endpoint_id}}/projects": Route(
        endpoint_groups.list_projects_of_endpoint, "identity:list_projects_for_endpoint"
    ),
    f"GET {EP}/projects/{{project_id}}/endpoint_groups": Route(
        endpoint_groups.list_groups_of_project, "identity:list_endpoint_groups_for_project"
    ),
    f"GET {EP}/projects/{{project_id}}/endpoints": Route(
        endpoint_groups.list_of_project, "identity:list_endpoints_for_project"
    ),
    f"GET {EP}/projects/{{project_id}}/endpoints/{{endpoint_id}}": Route(
        endpoint_groups.check, "identity:check_endpoint_in_project", 204
    ),
    f"PUT {EP}/projects/{{project_id}}/endpoints/{{endpoint_id}}": Route(
        endpoint_groups.add, "identity:add_endpoint_to_project", 204
    ),
    f"DELETE {EP}/projects/{{project_id}}/endpoints/{{endpoint_id}}": Route(
        endpoint_groups.remove, "identity:remove_endpoint_from_project", 204
    ),
}


def policy_routes() -> Mapping[str, Route]:
    """OS-ENDPOINT-POLICY: of an endpoint, a service, a service in a region."""
    base = "/v3/policies/{id}/OS-ENDPOINT-POLICY"
    found = {
        f"GET {base}/endpoints": Route(endpoint_policies.list_endpoints, "identity:list_endpoints_for_policy"),
        "GET /v3/endpoints/{id}/OS-ENDPOINT-POLICY/policy": Route(
            endpoint_policies.show, "identity:get_policy_for_endpoint"
        ),
    }
    for path, kind in (
        ("endpoints/{endpoint_id}", "endpoint"),
        ("services/{service_id}", "service"),
        ("services/{service_id}/regions/{region_id}", "region_and_service"),
    ):
        end = f"policy_association_for_{kind}"
        found |= {
            f"GET {base}/{path}": Route(endpoint_policies.check, f"identity:check_{end}", 204),
            f"PUT {base}/{path}": Route(endpoint_policies.create, f"identity:create_{end}", 204),
            f"DELETE {base}/{path}": Route(endpoint_policies.delete, f"identity:delete_{end}", 204),
        }
    return found


OTHERS: Mapping[str, Route] = {
    "GET /v3/OS-OAUTH1/consumers": Route(consumers.index, "identity:list_consumers"),
    "POST /v3/OS-OAUTH1/consumers": Route(
        consumers.create, "identity:create_consumer", 201, schema=schemas.CONSUMER_CREATE
    ),
    "GET /v3/OS-OAUTH1/consumers/{consumer_id}": Route(consumers.show, "identity:get_consumer"),
    "PATCH /v3/OS-OAUTH1/consumers/{consumer_id}": Route(
        consumers.change, "identity:update_consumer", schema=schemas.CONSUMER_UPDATE
    ),
    "DELETE /v3/OS-OAUTH1/consumers/{consumer_id}": Route(consumers.delete, "identity:delete_consumer", 204),
    "POST /v3/ec2tokens": Route(ec2tokens.issue, "identity:ec2tokens", 200, tx="none"),
    "POST /v3/s3tokens": Route(ec2tokens.validate_s3, "identity:s3tokens", 200, tx="none"),
    "GET /v3/OS-REVOKE/events": Route(revocations.index, "identity:list_revoke_events"),
    "DELETE /v3/users/{id}/tokens": Route(revocations.end_tokens, "identity:revoke_tokens_of_user", 204),
}

ROUTES: dict[str, Route] = {
    **AUTH, **PROJECTS, **USERS, **ROLES, **CATALOG, **KEPT, **DELEGATED, **LIMITS, **FILTERS, **policy_routes(), **OTHERS,
}  # fmt: skip


def fault(fault: Fault) -> object:
    """Keystone's body; a policy's refusal in Keystone's words."""
    if fault.type == "PolicyNotAuthorized":
        action = next((word for word in fault.message.split() if word.startswith("identity:")), "")
        message = f"You are not authorized to perform the requested action: {action}."
        fault = dataclasses.replace(fault, message=message)
    return faults.keystone(fault)


SERVICE = Service(
    prefix="identity", routes=ROUTES, policy=POLICY, fault=fault, any_scope=True, context_hook=refuse_ec2, parts=PARTS
)  # fmt: skip
