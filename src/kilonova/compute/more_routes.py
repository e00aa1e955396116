"""Routes of groups, aggregates and usage, and of what Nova keeps for old clients: joined into routes.ROUTES."""

from kilonova.compute import absent, interfaces, usage
from kilonova.compute import console_handlers as consoles
from kilonova.compute import group_handlers as groups
from kilonova.compute import old_handlers as old
from kilonova.compute import volume_proxies as volumes
from kilonova.web.call import Route
from kilonova.web.checks import Rule
from kilonova.web.policy import admin, admin_or_service, anyone, project_manager, project_member, project_reader

PROXIES, IMAGE_METADATA, HOSTS = (2, 35), (2, 38), (2, 42)  # the last versions that have them
SHARES = (2, 97)

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

AGGREGATE_ACTIONS = ("add_host", "remove_host", "set_metadata")
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
        groups.act_on_aggregate,
        "os-aggregates:action",
        schema=groups.AGGREGATE_ACTION,
        actions={verb: f"os-aggregates:{verb}" for verb in AGGREGATE_ACTIONS},
    ),
    "POST /v2.1/os-aggregates/{id}/images": Route(
        groups.cache_images, "compute:aggregates:images", 202, tx="none", schema=groups.CACHE_IMAGES, since=(2, 81)
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
    # volumes and snapshots in Nova's words
    "GET /v2.1/os-volumes": Route(volumes.list_volumes, "os-volumes:list", until=PROXIES),
    "GET /v2.1/os-volumes/detail": Route(volumes.list_volumes, "os-volumes:detail", until=PROXIES),
    "POST /v2.1/os-volumes": Route(
        volumes.create_volume, "os-volumes:create", schema=volumes.CREATE_VOLUME, until=PROXIES
    ),
    "GET /v2.1/os-volumes/{id}": Route(volumes.show_volume, "os-volumes:show", until=PROXIES),
    "DELETE /v2.1/os-volumes/{id}": Route(volumes.delete_volume, "os-volumes:delete", 202, until=PROXIES),
    "GET /v2.1/os-snapshots": Route(volumes.list_snapshots, "os-volumes:snapshots:list", until=PROXIES),
    "GET /v2.1/os-snapshots/detail": Route(volumes.list_snapshots, "os-volumes:snapshots:detail", until=PROXIES),
    "POST /v2.1/os-snapshots": Route(
        volumes.create_snapshot, "os-volumes:snapshots:create", schema=volumes.CREATE_SNAPSHOT, until=PROXIES
    ),
    "GET /v2.1/os-snapshots/{id}": Route(volumes.show_snapshot, "os-volumes:snapshots:show", until=PROXIES),
    "DELETE /v2.1/os-snapshots/{id}": Route(volumes.delete_snapshot, "os-volumes:snapshots:delete", 202, until=PROXIES),
    "POST /v2.1/os-assisted-volume-snapshots": Route(
        volumes.create_assisted, "os-assisted-volume-snapshots:create", schema=volumes.ASSISTED
    ),
    "DELETE /v2.1/os-assisted-volume-snapshots/{id}": Route(
        volumes.delete_assisted, "os-assisted-volume-snapshots:delete", 204
    ),
    # what there is none of
    "GET /v2.1/servers/{server_id}/shares": Route(absent.list_shares, "os-server-shares:index", since=SHARES),
    "POST /v2.1/servers/{server_id}/shares": Route(
        absent.create_share, "os-server-shares:create", 201, schema=absent.CREATE_SHARE, since=SHARES
    ),
    "GET /v2.1/servers/{server_id}/shares/{id}": Route(absent.show_share, "os-server-shares:show", since=SHARES),
    "DELETE /v2.1/servers/{server_id}/shares/{id}": Route(absent.delete_share, "os-server-shares:delete", since=SHARES),
    "GET /v2.1/servers/{server_id}/topology": Route(absent.topology, "compute:server:topology:index", since=(2, 78)),
    "POST /v2.1/servers/{server_id}/migrations/{id}/action": Route(
        absent.force_complete, "servers:migrations:force_complete", 202, schema=absent.FORCE_COMPLETE, since=(2, 22)
    ),
    "DELETE /v2.1/servers/{server_id}/migrations/{id}": Route(
        absent.abort_migration, "servers:migrations:delete", 202, since=(2, 24)
    ),
    "GET /v2.1/os-baremetal-nodes": Route(absent.nodes, "os-baremetal-nodes:list", until=PROXIES),
    "GET /v2.1/os-baremetal-nodes/{id}": Route(absent.nodes, "os-baremetal-nodes:show", until=PROXIES),
    "POST /v2.1/os-baremetal-nodes": Route(
        absent.create_node, "os-baremetal-nodes:change", schema=absent.NODE, until=PROXIES
    ),
    "DELETE /v2.1/os-baremetal-nodes/{id}": Route(absent.delete_node, "os-baremetal-nodes:change", until=PROXIES),
    "POST /v2.1/os-baremetal-nodes/{id}/action": Route(
        absent.act_on_node, "os-baremetal-nodes:change", schema=absent.NODE, until=PROXIES
    ),
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
    "GET /v2.1/os-hosts": Route(old.list_hosts, "os-hosts:list", until=HOSTS),
    "GET /v2.1/os-hosts/{id}": Route(old.show_host, "os-hosts:show", until=HOSTS),
    "PUT /v2.1/os-hosts/{id}": Route(old.update_host, "os-hosts:update", schema=old.update_host_schema, until=HOSTS),
    "GET /v2.1/os-hosts/{id}/reboot": Route(old.power_host, "os-hosts:reboot", until=HOSTS),
    "GET /v2.1/os-hosts/{id}/shutdown": Route(old.power_host, "os-hosts:shutdown", until=HOSTS),
    "GET /v2.1/os-hosts/{id}/startup": Route(old.power_host, "os-hosts:start", until=HOSTS),
    **{
        f"{method} /v2.1/{path}": Route(old.gone, "gone", tx="none")
        for path, methods in GONE
        for method in methods.split()
    },
}

READ, WRITE = ("list", "detail", "show"), ("create", "delete")
POLICY: dict[str, Rule] = {
    "os-server-groups:index": project_reader,
    "os-server-groups:show": project_reader,
    "os-server-groups:create": project_member,
    "os-server-groups:delete": project_member,
    **{f"os-aggregates:{verb}": admin for verb in ("index", "create", "show", "update", "delete", "action")},
    **{f"os-aggregates:{verb}": admin for verb in AGGREGATE_ACTIONS},
    "compute:aggregates:images": admin,
    "os-attach-interfaces:create": project_member,
    "os-attach-interfaces:delete": project_member,
    "os-simple-tenant-usage:list": admin,
    "os-simple-tenant-usage:show": project_reader,
    "os-instance-usage-audit-log:list": admin,
    "os-instance-usage-audit-log:show": admin,
    "os-server-external-events:create": admin_or_service,
    "os-remote-consoles": project_member,
    "os-console-auth-tokens": admin,
    **{f"os-volumes:{verb}": project_reader for verb in READ + tuple(f"snapshots:{verb}" for verb in READ)},
    **{f"os-volumes:{verb}": project_member for verb in WRITE + tuple(f"snapshots:{verb}" for verb in WRITE)},
    "os-assisted-volume-snapshots:create": admin_or_service,
    "os-assisted-volume-snapshots:delete": admin_or_service,
    "os-server-shares:index": project_reader,
    "os-server-shares:show": project_reader,
    "os-server-shares:create": project_member,
    "os-server-shares:delete": project_member,
    "compute:server:topology:index": project_reader,
    "servers:migrations:force_complete": project_manager,
    "servers:migrations:delete": project_manager,
    "os-baremetal-nodes:list": admin,
    "os-baremetal-nodes:show": admin,
    "os-baremetal-nodes:change": admin,
    "images": project_reader,  # Glance's word
    "images:change": project_member,  # whose image it is, images.py asks of the row
    **{f"os-hosts:{verb}": admin for verb in ("list", "show", "update", "reboot", "shutdown", "start")},
    "gone": anyone,
}
