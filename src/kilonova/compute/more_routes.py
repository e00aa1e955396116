"""Routes of groups, aggregates and usage, and of what Nova keeps for old clients: joined into routes.ROUTES."""

from kilonova.compute import console_handlers as consoles
from kilonova.compute import group_handlers as groups
from kilonova.compute import interfaces, usage
from kilonova.compute import old_handlers as old
from kilonova.web.call import Route
from kilonova.web.policy import Rule, admin, admin_or_service, anyone, project_member, project_reader

PROXIES, IMAGE_METADATA, HOSTS = (2, 35), (2, 38), (2, 42)  # the last versions that have them

GONE = (  # paths, with the methods that answered once (Nova: controllers that raise HTTPGone)
    ("os-agents", "GET POST"), ("os-agents/{id}", "PUT DELETE"),
    ("os-cells", "GET POST"), ("os-cells/{id}", "GET PUT DELETE"), ("os-cells/detail", "GET"), ("os-cells/info", "GET"),
    ("os-cells/capacities", "GET"), ("os-cells/{id}/capacities", "GET"), ("os-cells/sync_instances", "POST"),
    ("os-certificates", "POST"), ("os-certificates/{id}", "GET"),
    ("os-cloudpipe", "GET POST"), ("os-cloudpipe/{id}", "PUT"),
    ("os-fixed-ips/{id}", "GET"), ("os-fixed-ips/{id}/action", "POST"),
    ("os-floating-ip-dns", "GET"), ("os-floating-ip-dns/{id}", "PUT DELETE"),
    ("os-floating-ip-dns/{domain_id}/entries/{id}", "GET PUT DELETE"),
    ("os-floating-ips-bulk", "GET POST"), ("os-floating-ips-bulk/{id}", "GET PUT"),
    ("os-fping", "GET"), ("os-fping/{id}", "GET"),
    ("os-networks", "POST"), ("os-networks/add", "POST"), ("os-networks/{id}", "DELETE"),
    ("os-networks/{id}/action", "POST"), ("os-tenant-networks", "POST"), ("os-tenant-networks/{id}", "DELETE"),
    ("os-security-group-default-rules", "GET POST"), ("os-security-group-default-rules/{id}", "GET DELETE"),
    ("servers/{server_id}/consoles", "GET POST"), ("servers/{server_id}/consoles/{id}", "GET DELETE"),
    ("servers/{server_id}/os-virtual-interfaces", "GET"),
)  # fmt: skip

ROUTES: dict[str, Route] = {
    "GET /v2.1/os-server-groups": Route(groups.groups, "os-server-groups:index"),
    "POST /v2.1/os-server-groups": Route(
        groups.create_group, "os-server-groups:create", schema=groups.create_group_schema
    ),
    "GET /v2.1/os-server-groups/{id}": Route(groups.group, "os-server-groups:show"),
    "DELETE /v2.1/os-server-groups/{id}": Route(groups.delete_group, "os-server-groups:delete", 204),
    "GET /v2.1/os-aggregates": Route(groups.list_aggregates, "os-aggregates:index"),
    "POST /v2.1/os-aggregates": Route(groups.create_aggregate, "os-aggregates:create", schema=groups.CREATE_AGGREGATE),
    "GET /v2.1/os-aggregates/{id}": Route(groups.aggregate, "os-aggregates:show"),
    "PUT /v2.1/os-aggregates/{id}": Route(
        groups.update_aggregate, "os-aggregates:update", schema=groups.UPDATE_AGGREGATE
    ),
    "DELETE /v2.1/os-aggregates/{id}": Route(groups.delete_aggregate, "os-aggregates:delete"),
    "POST /v2.1/os-aggregates/{id}/action": Route(
        groups.act_on_aggregate, "os-aggregates:action", schema=groups.AGGREGATE_ACTION
    ),
    "GET /v2.1/os-simple-tenant-usage": Route(usage.index, "os-simple-tenant-usage:list"),
    "GET /v2.1/os-simple-tenant-usage/{id}": Route(usage.show, "os-simple-tenant-usage:show"),
    "GET /v2.1/os-instance_usage_audit_log": Route(usage.audit_log, "os-instance-usage-audit-log:list"),
    "GET /v2.1/os-instance_usage_audit_log/{id}": Route(usage.audit_log_before, "os-instance-usage-audit-log:show"),
    "POST /v2.1/os-server-external-events": Route(
        old.server_events, "os-server-external-events:create", schema=old.events_schema
    ),
    "POST /v2.1/servers/{server_id}/os-interface": Route(
        interfaces.create, "os-attach-interfaces:create", schema=interfaces.create_schema
    ),
    "DELETE /v2.1/servers/{server_id}/os-interface/{id}": Route(interfaces.delete, "os-attach-interfaces:delete", 202),
    "POST /v2.1/servers/{server_id}/remote-consoles": Route(
        consoles.create, "os-remote-consoles", tx="none", schema=consoles.create_schema, since=(2, 6)
    ),
    "GET /v2.1/os-console-auth-tokens/{id}": Route(consoles.show_token, "os-console-auth-tokens"),
    # images in Nova's words
    "GET /v2.1/images": Route(old.list_images, "images", until=PROXIES),
    "GET /v2.1/images/detail": Route(old.list_images_detail, "images", until=PROXIES),
    "GET /v2.1/images/{id}": Route(old.show_image, "images", until=PROXIES),
    "DELETE /v2.1/images/{id}": Route(old.delete_image, "images:change", 204, until=PROXIES),
    "GET /v2.1/images/{image_id}/metadata": Route(old.image_metadata, "images", until=IMAGE_METADATA),
    "POST /v2.1/images/{image_id}/metadata": Route(
        old.add_image_metadata, "images:change", schema=old.SET_METADATA, until=IMAGE_METADATA
    ),
    "PUT /v2.1/images/{image_id}/metadata": Route(
        old.replace_image_metadata, "images:change", schema=old.SET_METADATA, until=IMAGE_METADATA
    ),
    "GET /v2.1/images/{image_id}/metadata/{id}": Route(old.image_metadatum, "images", until=IMAGE_METADATA),
    "PUT /v2.1/images/{image_id}/metadata/{id}": Route(
        old.set_image_metadatum, "images:change", schema=old.SET_METADATUM, until=IMAGE_METADATA
    ),
    "DELETE /v2.1/images/{image_id}/metadata/{id}": Route(
        old.delete_image_metadatum, "images:change", 204, until=IMAGE_METADATA
    ),
    # hosts, before services and hypervisors
    "GET /v2.1/os-hosts": Route(old.list_hosts, "os-hosts", until=HOSTS),
    "GET /v2.1/os-hosts/{id}": Route(old.show_host, "os-hosts", until=HOSTS),
    "PUT /v2.1/os-hosts/{id}": Route(old.update_host, "os-hosts", schema=old.update_host_schema, until=HOSTS),
    "GET /v2.1/os-hosts/{id}/reboot": Route(old.power_host, "os-hosts", until=HOSTS),
    "GET /v2.1/os-hosts/{id}/shutdown": Route(old.power_host, "os-hosts", until=HOSTS),
    "GET /v2.1/os-hosts/{id}/startup": Route(old.power_host, "os-hosts", until=HOSTS),
    **{
        f"{method} /v2.1/{path}": Route(old.gone, "gone", tx="none")
        for path, methods in GONE
        for method in methods.split()
    },
}

POLICY: dict[str, Rule] = {
    "os-server-groups:index": project_reader,
    "os-server-groups:show": project_reader,
    "os-server-groups:create": project_member,
    "os-server-groups:delete": project_member,
    **{f"os-aggregates:{verb}": admin for verb in ("index", "create", "show", "update", "delete", "action")},
    "os-attach-interfaces:create": project_member,
    "os-attach-interfaces:delete": project_member,
    "os-simple-tenant-usage:list": admin,
    "os-simple-tenant-usage:show": project_reader,
    "os-instance-usage-audit-log:list": admin,
    "os-instance-usage-audit-log:show": admin,
    "os-server-external-events:create": admin_or_service,
    "os-remote-consoles": project_member,
    "os-console-auth-tokens": admin,
    "images": anyone,
    "images:change": project_member,  # whose image it is, images.py asks of the row
    "os-hosts": admin,
    "gone": anyone,
}
