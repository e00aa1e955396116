"""Nova's API v2.1: every operation with its line of policy."""

from dataclasses import replace
from typing import Any

from kilonova.compute import (
    actions,
    diagnostics,
    extensions,
    floating_ips,
    more_routes,
    networks,
    queries,
    security_groups,
)
from kilonova.compute import admin_handlers as admins
from kilonova.compute import flavor_handlers as flavors
from kilonova.compute import migration_handlers as migrations
from kilonova.compute import schemas as s
from kilonova.compute import server_handlers as servers
from kilonova.compute import volume_attachments as volumes
from kilonova.model.errors import NotFound
from kilonova.web import faults, microversion
from kilonova.web.call import Call, Route
from kilonova.web.checks import Rule
from kilonova.web.policy import admin, anyone, project_manager, project_member, project_reader, rule
from kilonova.web.service import Microversions, Service

PROXIES = (2, 35)  # the last version with what Neutron has taken over (Nova: MAX_PROXY_API_SUPPORT_VERSION)
MICROVERSIONS = Microversions("compute", (2, 1), (2, 104), (2, 1), "X-OpenStack-Nova-API-Version")


VERSIONS = {  # path → what is said of it; v2 is the same API without microversions (Nova: views/versions.py)
    "v2": {"id": "v2.0", "status": "SUPPORTED", "version": "", "min_version": "", "updated": "2011-01-21T11:33:21Z"},
    "v2.1": {"id": "v2.1", "status": "CURRENT", "version": microversion.text(MICROVERSIONS.maximum),
             "min_version": microversion.text(MICROVERSIONS.minimum), "updated": "2013-07-23T11:33:21Z"},
}  # fmt: skip


def versions(call: Call) -> dict[str, Any]:
    links = {path: [{"rel": "self", "href": f"{call.base_url}/{path}/"}] for path in VERSIONS}
    return {"versions": [about | {"links": links[path]} for path, about in VERSIONS.items()]}


def version(call: Call) -> dict[str, Any]:
    return _version(call, VERSIONS[call.path.strip("/")])


def version_of(call: Call) -> dict[str, Any]:
    for about in VERSIONS.values():
        if about["id"] == call.params["id"]:
            return _version(call, about)
    raise NotFound("The resource could not be found.")


def _version(call: Call, about: dict[str, str]) -> dict[str, Any]:
    links = [
        {"rel": "self", "href": f"{call.api_url}/"},
        {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
    ]
    kind = f"application/vnd.openstack.compute+json;version={about['id'].removeprefix('v').removesuffix('.0')}"
    return {"version": about | {"links": links, "media-types": [{"base": "application/json", "type": kind}]}}


OWN_USER = rule("rule:context_is_admin or user_id:%(user_id)s")
FLAVOR_ACTIONS = {f"{verb}TenantAccess": f"os-flavor-access:{verb}_tenant_access" for verb in ("add", "remove")}
ROUTES: dict[str, Route] = more_routes.ROUTES | {
    "GET /": Route(versions, ""),
    "GET /v2": Route(version, ""),
    "GET /v2.1": Route(version, ""),
    "GET /v2.1/versions/{id}": Route(version_of, ""),
    "GET /v2.1/extensions": Route(extensions.index, "extensions"),
    "GET /v2.1/extensions/{id}": Route(extensions.show, "extensions"),
    # servers
    "GET /v2.1/servers": Route(servers.index, "servers:index"),
    "GET /v2.1/servers/detail": Route(servers.detail, "servers:detail"),
    "POST /v2.1/servers": Route(servers.create, "servers:create", 202, schema=s.create_server),
    "GET /v2.1/servers/{id}": Route(servers.show, "servers:show"),
    "PUT /v2.1/servers/{id}": Route(servers.update, "servers:update", schema=s.update_server),
    "DELETE /v2.1/servers/{id}": Route(servers.delete, "servers:delete", 204),
    "POST /v2.1/servers/{id}/action": Route(servers.action, "servers:action", 202, tx="none", actions=servers.POLICIES),
    "GET /v2.1/servers/{server_id}/ips": Route(servers.ips, "ips:index"),
    "GET /v2.1/servers/{server_id}/ips/{id}": Route(servers.ips_of_network, "ips:show"),
    "GET /v2.1/servers/{server_id}/os-interface": Route(servers.interfaces, "os-attach-interfaces:list"),
    "GET /v2.1/servers/{server_id}/os-interface/{id}": Route(servers.interface, "os-attach-interfaces:show"),
    "GET /v2.1/servers/{server_id}/os-security-groups": Route(security_groups.of_server, "os-security-groups:list"),
    "GET /v2.1/servers/{server_id}/os-server-password": Route(servers.password, "os-server-password:show"),
    "DELETE /v2.1/servers/{server_id}/os-server-password": Route(
        servers.clear_password, "os-server-password:clear", 204
    ),
    "GET /v2.1/servers/{server_id}/diagnostics": Route(diagnostics.show, "os-server-diagnostics", tx="none"),
    "GET /v2.1/servers/{server_id}/metadata": Route(servers.metadata, "server-metadata:index"),
    "POST /v2.1/servers/{server_id}/metadata": Route(
        servers.add_metadata, "server-metadata:create", schema=s.SET_METADATA
    ),
    "PUT /v2.1/servers/{server_id}/metadata": Route(
        servers.replace_metadata, "server-metadata:update_all", schema=s.SET_METADATA
    ),
    "GET /v2.1/servers/{server_id}/metadata/{id}": Route(servers.metadatum, "server-metadata:show"),
    "PUT /v2.1/servers/{server_id}/metadata/{id}": Route(
        servers.set_metadatum, "server-metadata:update", schema=s.SET_METADATUM
    ),
    "DELETE /v2.1/servers/{server_id}/metadata/{id}": Route(servers.delete_metadatum, "server-metadata:delete", 204),
    "GET /v2.1/servers/{server_id}/tags": Route(servers.tags, "os-server-tags:index", since=(2, 26)),
    "PUT /v2.1/servers/{server_id}/tags": Route(
        servers.replace_tags, "os-server-tags:update_all", schema=s.SET_TAGS, since=(2, 26)
    ),
    "DELETE /v2.1/servers/{server_id}/tags": Route(
        servers.delete_tags, "os-server-tags:delete_all", 204, since=(2, 26)
    ),
    "GET /v2.1/servers/{server_id}/tags/{id}": Route(servers.has_tag, "os-server-tags:show", 204, since=(2, 26)),
    "PUT /v2.1/servers/{server_id}/tags/{id}": Route(servers.add_tag, "os-server-tags:update", 201, since=(2, 26)),
    "DELETE /v2.1/servers/{server_id}/tags/{id}": Route(
        servers.delete_tag, "os-server-tags:delete", 204, since=(2, 26)
    ),
    "GET /v2.1/os-migrations": Route(migrations.index, "os-migrations:index"),
    "GET /v2.1/servers/{server_id}/migrations": Route(migrations.of_server, "servers:migrations:index", since=(2, 23)),
    "GET /v2.1/servers/{server_id}/migrations/{id}": Route(
        migrations.one_of_server, "servers:migrations:show", since=(2, 23)
    ),
    "GET /v2.1/servers/{server_id}/os-instance-actions": Route(actions.index, "os-instance-actions:list"),
    "GET /v2.1/servers/{server_id}/os-instance-actions/{id}": Route(actions.show, "os-instance-actions:show"),
    "GET /v2.1/servers/{server_id}/os-volume_attachments": Route(volumes.index, "os-volumes-attachments:index"),
    "POST /v2.1/servers/{server_id}/os-volume_attachments": Route(
        volumes.create, "os-volumes-attachments:create", schema=s.attach_volume
    ),
    "GET /v2.1/servers/{server_id}/os-volume_attachments/{id}": Route(volumes.show, "os-volumes-attachments:show"),
    "PUT /v2.1/servers/{server_id}/os-volume_attachments/{id}": Route(
        volumes.update, "os-volumes-attachments:update", 202, schema=s.update_attachment
    ),
    "DELETE /v2.1/servers/{server_id}/os-volume_attachments/{id}": Route(
        volumes.delete, "os-volumes-attachments:delete", 202
    ),
    # flavors
    "GET /v2.1/flavors": Route(flavors.index, "flavors"),
    "GET /v2.1/flavors/detail": Route(flavors.detail, "flavors"),
    "GET /v2.1/flavors/{id}": Route(flavors.show, "flavors"),
    "POST /v2.1/flavors": Route(flavors.create, "os-flavor-manage:create", schema=s.create_flavor),
    "PUT /v2.1/flavors/{id}": Route(flavors.update, "os-flavor-manage:update", schema=s.UPDATE_FLAVOR, since=(2, 55)),
    "DELETE /v2.1/flavors/{id}": Route(flavors.delete, "os-flavor-manage:delete", 202),
    "POST /v2.1/flavors/{id}/action": Route(
        flavors.action, "flavors:action", schema=s.FLAVOR_ACTION, actions=FLAVOR_ACTIONS
    ),
    "GET /v2.1/flavors/{flavor_id}/os-flavor-access": Route(flavors.access, "os-flavor-access"),
    "GET /v2.1/flavors/{flavor_id}/os-extra_specs": Route(flavors.extra_specs, "os-flavor-extra-specs:index"),
    "POST /v2.1/flavors/{flavor_id}/os-extra_specs": Route(
        flavors.set_extra_specs, "os-flavor-extra-specs:create", schema=s.SET_EXTRA_SPECS
    ),
    "GET /v2.1/flavors/{flavor_id}/os-extra_specs/{id}": Route(flavors.extra_spec, "os-flavor-extra-specs:show"),
    "PUT /v2.1/flavors/{flavor_id}/os-extra_specs/{id}": Route(
        flavors.set_extra_spec, "os-flavor-extra-specs:update", schema=s.SET_EXTRA_SPEC
    ),
    "DELETE /v2.1/flavors/{flavor_id}/os-extra_specs/{id}": Route(
        flavors.delete_extra_spec, "os-flavor-extra-specs:delete"
    ),
    # keypairs
    "GET /v2.1/os-keypairs": Route(flavors.list_keypairs, "os-keypairs:index"),
    "POST /v2.1/os-keypairs": Route(flavors.create_keypair, "os-keypairs:create", schema=s.create_keypair),
    "GET /v2.1/os-keypairs/{id}": Route(flavors.show_keypair, "os-keypairs:show"),
    "DELETE /v2.1/os-keypairs/{id}": Route(flavors.delete_keypair, "os-keypairs:delete"),
    # hosts
    "GET /v2.1/os-availability-zone": Route(admins.zones, "os-availability-zone:list"),
    "GET /v2.1/os-availability-zone/detail": Route(admins.zones_detail, "os-availability-zone:detail"),
    "GET /v2.1/os-services": Route(admins.list_services, "os-services:list"),
    "PUT /v2.1/os-services/{id}": Route(admins.update_service, "os-services:update"),
    "DELETE /v2.1/os-services/{id}": Route(admins.delete_service, "os-services:delete", 204),
    "GET /v2.1/os-hypervisors": Route(admins.hypervisors, "os-hypervisors:list"),
    "GET /v2.1/os-hypervisors/detail": Route(admins.hypervisors_detail, "os-hypervisors:list-detail"),
    "GET /v2.1/os-hypervisors/statistics": Route(admins.statistics, "os-hypervisors:statistics", until=(2, 87)),
    "GET /v2.1/os-hypervisors/{id}": Route(admins.hypervisor, "os-hypervisors:show"),
    "GET /v2.1/os-hypervisors/{id}/uptime": Route(admins.hypervisor_uptime, "os-hypervisors:uptime", until=(2, 87)),
    "GET /v2.1/os-hypervisors/{id}/search": Route(admins.hypervisor_search, "os-hypervisors:search", until=(2, 52)),
    "GET /v2.1/os-hypervisors/{id}/servers": Route(admins.hypervisor_servers, "os-hypervisors:servers", until=(2, 52)),
    # the network in Nova's old words, until 2.35
    "GET /v2.1/os-security-groups": Route(
        security_groups.index, "os-security-groups:get", tx="write", until=PROXIES
    ),  # writes the project's default group
    "POST /v2.1/os-security-groups": Route(
        security_groups.create, "os-security-groups:create", schema=s.SECURITY_GROUP, until=PROXIES
    ),
    "GET /v2.1/os-security-groups/{id}": Route(security_groups.show, "os-security-groups:show", until=PROXIES),
    "PUT /v2.1/os-security-groups/{id}": Route(
        security_groups.update, "os-security-groups:update", schema=s.SECURITY_GROUP, until=PROXIES
    ),
    "DELETE /v2.1/os-security-groups/{id}": Route(
        security_groups.delete, "os-security-groups:delete", 202, until=PROXIES
    ),
    "POST /v2.1/os-security-group-rules": Route(
        security_groups.create_rule, "os-security-groups:rule:create", schema=s.SECURITY_GROUP_RULE, until=PROXIES
    ),
    "DELETE /v2.1/os-security-group-rules/{id}": Route(
        security_groups.delete_rule, "os-security-groups:rule:delete", 202, until=PROXIES
    ),
    "GET /v2.1/os-floating-ip-pools": Route(floating_ips.pools, "os-floating-ip-pools", until=PROXIES),
    "GET /v2.1/os-floating-ips": Route(floating_ips.index, "os-floating-ips:list", until=PROXIES),
    "POST /v2.1/os-floating-ips": Route(
        floating_ips.create, "os-floating-ips:create", schema=s.FLOATING_IP, until=PROXIES
    ),
    "GET /v2.1/os-floating-ips/{id}": Route(floating_ips.show, "os-floating-ips:show", until=PROXIES),
    "DELETE /v2.1/os-floating-ips/{id}": Route(floating_ips.delete, "os-floating-ips:delete", 202, until=PROXIES),
    "GET /v2.1/os-networks": Route(networks.index, "os-networks:list", until=PROXIES),
    "GET /v2.1/os-networks/{id}": Route(networks.show, "os-networks:show", until=PROXIES),
    "GET /v2.1/os-tenant-networks": Route(networks.tenant_index, "os-tenant-networks:list", until=PROXIES),
    "GET /v2.1/os-tenant-networks/{id}": Route(networks.tenant_show, "os-tenant-networks:show", until=PROXIES),
    # quotas
    "GET /v2.1/limits": Route(admins.limits, "limits"),
    "GET /v2.1/os-quota-sets/{id}": Route(admins.quota_set, "os-quota-sets:show"),
    "GET /v2.1/os-quota-sets/{id}/detail": Route(admins.quota_detail, "os-quota-sets:detail"),
    "GET /v2.1/os-quota-sets/{id}/defaults": Route(admins.quota_defaults, "os-quota-sets:defaults"),
    "PUT /v2.1/os-quota-sets/{id}": Route(admins.update_quota, "os-quota-sets:update"),
    "DELETE /v2.1/os-quota-sets/{id}": Route(admins.delete_quota, "os-quota-sets:delete", 202),
    "GET /v2.1/os-quota-class-sets/{id}": Route(admins.quota_class, "os-quota-class-sets:show"),
    "PUT /v2.1/os-quota-class-sets/{id}": Route(admins.update_quota_class, "os-quota-class-sets:update"),
}

ROUTES = queries.strict(ROUTES)
ROUTES |= {  # another name of servers, from before microversions
    key.replace("/servers", "/os-volumes_boot"): replace(route, until=(2, 102))
    for key, route in ROUTES.items()
    if key.partition("/v2.1/servers")[2] in ("/detail", "/{id}", "/{id}/action") or key.endswith("/v2.1/servers")
}

POLICY: dict[str, Rule] = (
    more_routes.POLICY
    | servers.POLICY
    | {
        "extensions": anyone,
        "servers:index": project_reader,
        "servers:detail": project_reader,
        "servers:show": project_reader,
        "servers:create": project_member,
        "servers:update": project_member,
        "servers:delete": project_member,
        "servers:action": project_reader,  # each action has a rule of its own
        "ips:index": project_reader,
        "ips:show": project_reader,
        "os-attach-interfaces:list": project_reader,
        "os-attach-interfaces:show": project_reader,
        "os-volumes-attachments:index": project_reader,
        "os-volumes-attachments:show": project_reader,
        "os-volumes-attachments:create": project_member,
        "os-volumes-attachments:update": project_member,
        "os-volumes-attachments:delete": project_member,
        "os-security-groups:list": project_reader,
        "os-security-groups:get": project_reader,
        "os-security-groups:show": project_reader,
        "os-security-groups:create": project_member,
        "os-security-groups:update": project_member,
        "os-security-groups:delete": project_member,
        "os-security-groups:rule:create": project_member,
        "os-security-groups:rule:delete": project_member,
        "os-floating-ip-pools": anyone,
        "os-floating-ips:list": project_reader,
        "os-floating-ips:show": project_reader,
        "os-floating-ips:create": project_member,
        "os-floating-ips:delete": project_member,
        "os-networks:list": project_reader,
        "os-networks:show": project_reader,
        "os-tenant-networks:list": project_reader,
        "os-tenant-networks:show": project_reader,
        "os-server-password:show": project_reader,
        "os-server-password:clear": project_member,
        "os-server-diagnostics": admin,
        "server-metadata:index": project_reader,
        "server-metadata:show": project_reader,
        "server-metadata:create": project_member,
        "server-metadata:update": project_member,
        "server-metadata:update_all": project_member,
        "server-metadata:delete": project_member,
        "os-server-tags:index": project_reader,
        "os-server-tags:show": project_reader,
        "os-server-tags:update": project_member,
        "os-server-tags:update_all": project_member,
        "os-server-tags:delete": project_member,
        "os-server-tags:delete_all": project_member,
        "os-migrations:index": project_manager,  # of all projects: for administrators
        "servers:migrations:index": project_manager,
        "servers:migrations:show": admin,
        "os-instance-actions:list": project_reader,
        "os-instance-actions:show": project_reader,
        "flavors": anyone,
        "os-flavor-manage:create": admin,
        "os-flavor-manage:update": admin,
        "os-flavor-manage:delete": admin,
        "os-flavor-access": admin,
        "flavors:action": admin,  # each action has a rule of its own
        "os-flavor-access:add_tenant_access": admin,
        "os-flavor-access:remove_tenant_access": admin,
        "os-flavor-extra-specs:index": anyone,
        "os-flavor-extra-specs:show": anyone,
        "os-flavor-extra-specs:create": admin,
        "os-flavor-extra-specs:update": admin,
        "os-flavor-extra-specs:delete": admin,
        **{
            f"os-keypairs:{verb}": OWN_USER for verb in ("index", "create", "show", "delete")
        },  # flavor_handlers asks for others
        "os-availability-zone:list": anyone,
        "os-availability-zone:detail": admin,
        "os-services:list": admin,
        "os-services:update": admin,
        "os-services:delete": admin,
        "os-hypervisors:list": admin,
        "os-hypervisors:list-detail": admin,
        "os-hypervisors:statistics": admin,
        "os-hypervisors:show": admin,
        "os-hypervisors:uptime": admin,
        "os-hypervisors:search": admin,
        "os-hypervisors:servers": admin,
        "limits": anyone,
        "os-quota-sets:show": project_reader,
        "os-quota-sets:detail": project_reader,
        "os-quota-sets:defaults": anyone,
        "os-quota-sets:update": admin,
        "os-quota-sets:delete": admin,
        "os-quota-class-sets:show": admin,
        "os-quota-class-sets:update": admin,
    }
)
PARTS = {
    "servers:create:forced_host": "POST /v2.1/servers",
    "compute:servers:create:requested_destination": "POST /v2.1/servers",
    "servers:index:get_all_tenants": "GET /v2.1/servers",
    "servers:detail:get_all_tenants": "GET /v2.1/servers/detail",
    "servers:allow_all_filters": "GET /v2.1/servers",
    "servers:show:host_status": "GET /v2.1/servers/{id}",
    "os-extended-server-attributes": "GET /v2.1/servers/{id}",
}

SERVICE = Service(
    "compute",
    ROUTES,
    POLICY | dict.fromkeys(PARTS, admin),
    faults.nova,
    MICROVERSIONS,
    legacy={"v2": "v2.1"},
    exact_paths=True,
    project_in_path=True,
    namespace="os_compute_api:",
    users_rows=("/v2.1/servers", "/v2.1/os-volumes_boot", "/v2.1/os-keypairs"),
    parts=PARTS,
)
