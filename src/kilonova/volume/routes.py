"""Cinder's API v3 (https://docs.openstack.org/api-ref/block-storage/v3/): every operation with its line of policy.

Each is reached twice: below /v3, and below /v3/{project_id}, where the project must be the token's.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kilonova.model.errors import BadRequest
from kilonova.volume import admin_handlers as admins
from kilonova.volume import attachment_handlers as attachments
from kilonova.volume import backup_handlers as backups
from kilonova.volume import group_handlers as groups
from kilonova.volume import manage_handlers as manage
from kilonova.volume import messages, parts, qos, volume_actions
from kilonova.volume import schemas as s
from kilonova.volume import snapshot_handlers as snapshots
from kilonova.volume import type_handlers as types
from kilonova.volume import volume_handlers as volumes
from kilonova.volume.metadata_handlers import OF_SNAPSHOT, OF_VOLUME
from kilonova.web import faults, microversion
from kilonova.web.call import Call, Handler, Reply, Route
from kilonova.web.checks import Rule
from kilonova.web.policy import admin, project_member, project_reader
from kilonova.web.service import Microversions, Service

# Cinder looks for "volume" in the word; some clients send the type of the catalogue's entry.
MICROVERSIONS = Microversions("volume", (3, 0), (3, 71), (3, 0), also=("volumev3",))
UPDATED = "2024-05-15T00:00:00Z"


def _version(call: Call) -> dict[str, Any]:
    kind = {"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}
    links = [
        {"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
        {"rel": "self", "href": f"{call.base_url}/v3/"},
    ]
    low, high = (microversion.text(which) for which in (MICROVERSIONS.minimum, MICROVERSIONS.maximum))
    return {
        "id": "v3.0", "status": "CURRENT", "version": high, "min_version": low, "updated": UPDATED, "links": links,
        "media-types": [kind],
    }  # fmt: skip


def versions(call: Call) -> Reply:
    """GET / answers 300, as Cinder does; GET /v3/ the same with 200."""
    return Reply({"versions": [_version(call)]}, 200 if call.path.strip("/") else 300)


X = "volume_extension"
# What a body chooses among has lines of its own.
SNAPSHOT_ACTIONS = {
    "os-reset_status": f"{X}:snapshot_admin_actions:reset_status",
    "os-force_delete": f"{X}:snapshot_admin_actions:force_delete",
    "os-unmanage": "snapshot_extension:snapshot_unmanage",
    "os-update_snapshot_status": "snapshot_extension:snapshot_actions:update_snapshot_status",
}
BACKUP_ACTIONS = {f"os-{verb}": f"{X}:backup_admin_actions:{verb}" for verb in ("reset_status", "force_delete")}
TYPE_ACTIONS = {verb: f"{X}:volume_type_access:{verb}" for verb in ("addProjectAccess", "removeProjectAccess")}
GROUP_ACTIONS = {"delete": "group:delete", "reset_status": "group:reset_status"}
OPERATIONS: dict[str, Route] = {
    # volumes
    "GET /volumes": Route(volumes.index, "volume:get_all"),
    "GET /volumes/detail": Route(volumes.detail, "volume:get_all"),
    "GET /volumes/summary": Route(volumes.summary, "volume:get_all", since=(3, 12)),
    "POST /volumes": Route(volumes.create, "volume:create", 202, schema=s.create_volume),
    "GET /volumes/{id}": Route(volumes.show, "volume:get"),
    "PUT /volumes/{id}": Route(volumes.update, "volume:update", schema=s.update_volume),
    "DELETE /volumes/{id}": Route(volumes.delete, "volume:delete", 202),
    "POST /volumes/{id}/action": Route(
        volume_actions.action, "volume:action", 202, tx="none", actions=volume_actions.POLICIES
    ),
    "GET /volumes/{volume_id}/metadata": Route(OF_VOLUME.all, "volume:get_volume_metadata"),
    "POST /volumes/{volume_id}/metadata": Route(OF_VOLUME.add, "volume:create_volume_metadata", schema=s.METADATA_BODY),
    "PUT /volumes/{volume_id}/metadata": Route(
        OF_VOLUME.replace, "volume:update_volume_metadata", schema=s.METADATA_BODY
    ),
    "GET /volumes/{volume_id}/metadata/{id}": Route(OF_VOLUME.show, "volume:get_volume_metadata"),
    "PUT /volumes/{volume_id}/metadata/{id}": Route(OF_VOLUME.set, "volume:update_volume_metadata", schema=s.META_BODY),
    "DELETE /volumes/{volume_id}/metadata/{id}": Route(OF_VOLUME.delete, "volume:delete_volume_metadata"),
    "GET /volumes/{volume_id}/encryption": Route(volumes.encryption, f"{X}:volume_encryption_metadata"),
    "GET /volumes/{volume_id}/encryption/{id}": Route(volumes.encryption_item, f"{X}:volume_encryption_metadata"),
    # snapshots
    "GET /snapshots": Route(snapshots.index, "volume:get_all_snapshots"),
    "GET /snapshots/detail": Route(snapshots.detail, "volume:get_all_snapshots"),
    "POST /snapshots": Route(snapshots.create, "volume:create_snapshot", 202, schema=s.CREATE_SNAPSHOT),
    "GET /snapshots/{id}": Route(snapshots.show, "volume:get_snapshot"),
    "PUT /snapshots/{id}": Route(snapshots.update, "volume:update_snapshot", schema=s.UPDATE_SNAPSHOT),
    "DELETE /snapshots/{id}": Route(snapshots.delete, "volume:delete_snapshot", 202),
    "POST /snapshots/{id}/action": Route(snapshots.action, "volume:update_snapshot", 202, actions=SNAPSHOT_ACTIONS),
    "GET /snapshots/{snapshot_id}/metadata": Route(OF_SNAPSHOT.all, "volume:get_snapshot_metadata"),
    "POST /snapshots/{snapshot_id}/metadata": Route(
        OF_SNAPSHOT.add, "volume:update_snapshot_metadata", schema=s.METADATA_BODY
    ),
    "PUT /snapshots/{snapshot_id}/metadata": Route(
        OF_SNAPSHOT.replace, "volume:update_snapshot_metadata", schema=s.METADATA_BODY
    ),
    "GET /snapshots/{snapshot_id}/metadata/{id}": Route(OF_SNAPSHOT.show, "volume:get_snapshot_metadata"),
    "PUT /snapshots/{snapshot_id}/metadata/{id}": Route(
        OF_SNAPSHOT.set, "volume:update_snapshot_metadata", schema=s.META_BODY
    ),
    "DELETE /snapshots/{snapshot_id}/metadata/{id}": Route(OF_SNAPSHOT.delete, "volume:delete_snapshot_metadata"),
    # types
    "GET /types": Route(types.index, f"{X}:type_get_all"),
    "POST /types": Route(types.create, f"{X}:type_create", schema=s.CREATE_TYPE),
    "GET /types/{id}": Route(types.show, f"{X}:type_get"),
    "PUT /types/{id}": Route(types.update, f"{X}:type_update", schema=s.UPDATE_TYPE),
    "DELETE /types/{id}": Route(types.delete, f"{X}:type_delete", 202),
    "POST /types/{id}/action": Route(types.action, "volume_type:action", 202, actions=TYPE_ACTIONS),
    "GET /types/{type_id}/extra_specs": Route(types.extra_specs, f"{X}:types_extra_specs:index"),
    "POST /types/{type_id}/extra_specs": Route(
        types.add_extra_specs, f"{X}:types_extra_specs:create", schema=s.EXTRA_SPECS_BODY
    ),
    "GET /types/{type_id}/extra_specs/{id}": Route(types.extra_spec, f"{X}:types_extra_specs:show"),
    "PUT /types/{type_id}/extra_specs/{id}": Route(
        types.set_extra_spec, f"{X}:types_extra_specs:update", schema=s.ONE_EXTRA_SPEC
    ),
    "DELETE /types/{type_id}/extra_specs/{id}": Route(types.delete_extra_spec, f"{X}:types_extra_specs:delete", 202),
    "GET /types/{type_id}/os-volume-type-access": Route(types.access, f"{X}:volume_type_access:get_all_for_type"),
    "GET /types/{type_id}/encryption": Route(types.encryption, f"{X}:volume_type_encryption:get"),
    "POST /types/{type_id}/encryption": Route(types.no_encryption, f"{X}:volume_type_encryption:create"),
    "GET /types/{type_id}/encryption/{id}": Route(types.encryption_item, f"{X}:volume_type_encryption:get"),
    "PUT /types/{type_id}/encryption/{id}": Route(types.no_encryption, f"{X}:volume_type_encryption:update"),
    "DELETE /types/{type_id}/encryption/{id}": Route(types.encryption_item, f"{X}:volume_type_encryption:delete", 202),
    "GET /default-types": Route(types.default_types, f"{X}:default_get_all", since=(3, 62)),
    "GET /default-types/{id}": Route(types.default_type, f"{X}:default_get", since=(3, 62)),
    "PUT /default-types/{id}": Route(
        types.set_default_type, f"{X}:default_set_or_update", schema=s.DEFAULT_TYPE, since=(3, 62)
    ),
    "DELETE /default-types/{id}": Route(types.unset_default_type, f"{X}:default_unset", 204, since=(3, 62)),
    # QoS specs
    "GET /qos-specs": Route(qos.index, f"{X}:qos_specs_manage:get_all"),
    "POST /qos-specs": Route(qos.create, f"{X}:qos_specs_manage:create", schema=s.CREATE_QOS),
    "GET /qos-specs/{id}": Route(qos.show, f"{X}:qos_specs_manage:get"),
    "PUT /qos-specs/{id}": Route(qos.update, f"{X}:qos_specs_manage:update", schema=s.UPDATE_QOS),
    "DELETE /qos-specs/{id}": Route(qos.delete, f"{X}:qos_specs_manage:delete", 202),
    "PUT /qos-specs/{id}/delete_keys": Route(qos.delete_keys, f"{X}:qos_specs_manage:update", 202, schema=s.QOS_KEYS),
    "GET /qos-specs/{id}/associations": Route(qos.associations, f"{X}:qos_specs_manage:get"),
    "GET /qos-specs/{id}/associate": Route(qos.associate, f"{X}:qos_specs_manage:update", 202, tx="write"),
    "GET /qos-specs/{id}/disassociate": Route(qos.disassociate, f"{X}:qos_specs_manage:update", 202, tx="write"),
    "GET /qos-specs/{id}/disassociate_all": Route(
        qos.disassociate_all, f"{X}:qos_specs_manage:update", 202, tx="write"
    ),
    # backups
    "GET /backups": Route(backups.index, "backup:get_all"),
    "GET /backups/detail": Route(backups.detail, "backup:get_all"),
    "POST /backups": Route(backups.create, "backup:create", 202, schema=s.CREATE_BACKUP),
    "GET /backups/{id}": Route(backups.show, "backup:get"),
    "PUT /backups/{id}": Route(backups.update, "backup:update", schema=s.UPDATE_BACKUP, since=(3, 9)),
    "DELETE /backups/{id}": Route(backups.delete, "backup:delete", 202),
    "POST /backups/{id}/restore": Route(backups.restore, "backup:restore", 202, schema=s.RESTORE_BACKUP),
    "POST /backups/{id}/action": Route(backups.action, "backup:action", 202, actions=BACKUP_ACTIONS),
    "GET /backups/{id}/export_record": Route(backups.export_record, "backup:export-import"),
    "POST /backups/import_record": Route(backups.import_record, "backup:backup-import", 201, schema=s.IMPORT_BACKUP),
    # attachments
    "GET /attachments": Route(attachments.index, "volume:get_all", since=(3, 27)),
    "GET /attachments/detail": Route(attachments.detail, "volume:get_all", since=(3, 27)),
    "POST /attachments": Route(
        attachments.create, "volume:attachment_create", tx="none", schema=s.CREATE_ATTACHMENT, since=(3, 27)
    ),
    "GET /attachments/{id}": Route(attachments.show, "volume:get", since=(3, 27)),
    "PUT /attachments/{id}": Route(
        attachments.update, "volume:attachment_update", tx="none", schema=s.UPDATE_ATTACHMENT, since=(3, 27)
    ),
    "DELETE /attachments/{id}": Route(attachments.delete, "volume:attachment_delete", since=(3, 27)),
    "POST /attachments/{id}/action": Route(attachments.action, "volume:attachment_complete", 204, since=(3, 44)),
    # groups
    "GET /groups": Route(groups.index, "group:get_all", since=(3, 13)),
    "GET /groups/detail": Route(groups.detail, "group:get_all", since=(3, 13)),
    "POST /groups": Route(groups.create, "group:create", 202, schema=s.CREATE_GROUP, since=(3, 13)),
    "POST /groups/action": Route(groups.action, "group:create", 202, schema=s.GROUP_ACTION, since=(3, 14)),
    "GET /groups/{id}": Route(groups.show, "group:get", since=(3, 13)),
    "PUT /groups/{id}": Route(groups.update, "group:update", 202, schema=s.UPDATE_GROUP, since=(3, 13)),
    "POST /groups/{id}/action": Route(
        groups.action, "group:update", 202, schema=s.GROUP_ACTION, since=(3, 13), actions=GROUP_ACTIONS
    ),
    "GET /group_snapshots": Route(groups.snapshot_index, "group:get_all_group_snapshots", since=(3, 14)),
    "GET /group_snapshots/detail": Route(groups.snapshot_detail, "group:get_all_group_snapshots", since=(3, 14)),
    "POST /group_snapshots": Route(
        groups.snapshot_create, "group:create_group_snapshot", 202, schema=s.CREATE_GROUP_SNAPSHOT, since=(3, 14)
    ),
    "GET /group_snapshots/{id}": Route(groups.snapshot_show, "group:get_group_snapshot", since=(3, 14)),
    "DELETE /group_snapshots/{id}": Route(groups.snapshot_delete, "group:delete_group_snapshot", 202, since=(3, 14)),
    "POST /group_snapshots/{id}/action": Route(
        groups.snapshot_action, "group:reset_group_snapshot_status", 202, schema=s.GROUP_SNAPSHOT_ACTION, since=(3, 19)
    ),
    "GET /group_types": Route(groups.type_index, "group:group_types:get", since=(3, 11)),
    "POST /group_types": Route(
        groups.type_create, "group:group_types:create", 202, schema=s.CREATE_GROUP_TYPE, since=(3, 11)
    ),
    "GET /group_types/{id}": Route(groups.type_show, "group:group_types:get", since=(3, 11)),
    "PUT /group_types/{id}": Route(
        groups.type_update, "group:group_types:update", schema=s.UPDATE_GROUP_TYPE, since=(3, 11)
    ),
    "DELETE /group_types/{id}": Route(groups.type_delete, "group:group_types:delete", 202, since=(3, 11)),
    "GET /group_types/{group_type_id}/group_specs": Route(
        groups.specs, "group:group_types_specs:get_all", since=(3, 11)
    ),
    "POST /group_types/{group_type_id}/group_specs": Route(
        groups.add_specs, "group:group_types_specs:create", 202, schema=s.GROUP_SPECS, since=(3, 11)
    ),
    "GET /group_types/{group_type_id}/group_specs/{id}": Route(
        groups.spec, "group:group_types_specs:get", since=(3, 11)
    ),
    "PUT /group_types/{group_type_id}/group_specs/{id}": Route(
        groups.set_spec, "group:group_types_specs:update", schema=s.ONE_EXTRA_SPEC, since=(3, 11)
    ),
    "DELETE /group_types/{group_type_id}/group_specs/{id}": Route(
        groups.delete_spec, "group:group_types_specs:delete", 202, since=(3, 11)
    ),
    # messages
    "GET /messages": Route(messages.index, "message:get_all", since=(3, 3)),
    "GET /messages/{id}": Route(messages.show, "message:get", since=(3, 3)),
    "DELETE /messages/{id}": Route(messages.delete, "message:delete", 204, since=(3, 3)),
    # services, hosts, pools
    "GET /os-services": Route(admins.service_index, f"{X}:services:index"),
    "PUT /os-services/enable": Route(admins.service_enable, f"{X}:services:update", schema=s.SERVICE),
    "PUT /os-services/disable": Route(admins.service_disable, f"{X}:services:update", schema=s.SERVICE),
    "PUT /os-services/disable-log-reason": Route(
        admins.service_disable_log_reason, f"{X}:services:update", schema=s.SERVICE_REASON
    ),
    "PUT /os-services/freeze": Route(admins.freeze, "volume:freeze_host", schema=s.SERVICE),
    "PUT /os-services/thaw": Route(admins.thaw, "volume:thaw_host", schema=s.SERVICE),
    "PUT /os-services/failover_host": Route(admins.failover_host, "volume:failover_host", 202, schema=s.SERVICE),
    "PUT /os-services/failover": Route(
        admins.failover_host, "volume:failover_host", 202, schema=s.SERVICE, since=(3, 26)
    ),
    "PUT /os-services/get-log": Route(admins.get_log, f"{X}:services:update", schema={"type": "object"}, since=(3, 32)),
    "PUT /os-services/set-log": Route(
        admins.set_log, f"{X}:services:update", 202, schema={"type": "object"}, since=(3, 32)
    ),
    "GET /os-hosts": Route(admins.host_index, f"{X}:hosts"),
    "GET /os-hosts/{id}": Route(admins.host_show, f"{X}:hosts"),
    "PUT /os-hosts/{id}": Route(admins.host_update, f"{X}:hosts"),
    "GET /scheduler-stats/get_pools": Route(admins.pools, "scheduler_extension:scheduler_stats:get_pools"),
    "GET /capabilities/{id}": Route(admins.capabilities, f"{X}:capabilities"),
    "GET /clusters": Route(admins.nothing("clusters"), "clusters:get_all", since=(3, 7)),
    "GET /clusters/detail": Route(admins.nothing("clusters"), "clusters:get_all", since=(3, 7)),
    "GET /clusters/{id}": Route(admins.not_there("Cluster"), "clusters:get", since=(3, 7)),
    "PUT /clusters/enable": Route(admins.not_there("Cluster"), "clusters:update", since=(3, 7)),
    "PUT /clusters/disable": Route(admins.not_there("Cluster"), "clusters:update", since=(3, 7)),
    "POST /workers/cleanup": Route(admins.cleanup, "workers:cleanup", 202, since=(3, 24)),
    # quotas and limits
    "GET /os-quota-sets/{id}": Route(admins.quota_show, f"{X}:quotas:show"),
    "GET /os-quota-sets/{id}/defaults": Route(admins.quota_defaults, f"{X}:quotas:show"),
    "PUT /os-quota-sets/{id}": Route(admins.quota_update, f"{X}:quotas:update", schema=s.QUOTA_SET),
    "DELETE /os-quota-sets/{id}": Route(admins.quota_delete, f"{X}:quotas:delete"),
    "GET /os-quota-class-sets/{id}": Route(admins.quota_class_show, f"{X}:quota_classes:get"),
    "PUT /os-quota-class-sets/{id}": Route(
        admins.quota_class_update, f"{X}:quota_classes:update", schema=s.QUOTA_CLASS
    ),
    "GET /limits": Route(admins.limits, "limits_extension:used_limits"),
    # what there is already in a backend
    "GET /os-volume-manage": Route(manage.volume_index, f"{X}:list_manageable", tx="none"),
    "GET /os-volume-manage/detail": Route(manage.volume_detail, f"{X}:list_manageable", tx="none"),
    "POST /os-volume-manage": Route(manage.manage_volume, f"{X}:volume_manage", 202, tx="none", schema=s.MANAGE_VOLUME),
    "GET /manageable_volumes": Route(manage.volume_index, f"{X}:list_manageable", tx="none", since=(3, 8)),
    "GET /manageable_volumes/detail": Route(manage.volume_detail, f"{X}:list_manageable", tx="none", since=(3, 8)),
    "POST /manageable_volumes": Route(
        manage.manage_volume, f"{X}:volume_manage", 202, tx="none", schema=s.MANAGE_VOLUME, since=(3, 8)
    ),
    "GET /os-snapshot-manage": Route(manage.snapshot_index, "snapshot_extension:list_manageable", tx="none"),
    "GET /os-snapshot-manage/detail": Route(manage.snapshot_detail, "snapshot_extension:list_manageable", tx="none"),
    "POST /os-snapshot-manage": Route(
        manage.manage_snapshot, "snapshot_extension:snapshot_manage", 202, tx="none", schema=s.MANAGE_SNAPSHOT
    ),
    "GET /manageable_snapshots": Route(
        manage.snapshot_index, "snapshot_extension:list_manageable", tx="none", since=(3, 8)
    ),
    "GET /manageable_snapshots/detail": Route(
        manage.snapshot_detail, "snapshot_extension:list_manageable", tx="none", since=(3, 8)
    ),
    "POST /manageable_snapshots": Route(
        manage.manage_snapshot,
        "snapshot_extension:snapshot_manage",
        202,
        tx="none",
        schema=s.MANAGE_SNAPSHOT,
        since=(3, 8),
    ),
    # the service itself
    "GET /os-availability-zone": Route(admins.zones, "availability_zones"),
    "GET /extensions": Route(admins.extensions, "extensions"),
    "GET /resource_filters": Route(admins.resource_filters, "extensions", since=(3, 33)),
}

for _address, _since in (("os-volume-transfer", None), ("volume-transfers", (3, 55))):
    OPERATIONS |= {
        f"GET /{_address}": Route(attachments.transfer_index, "volume:get_all_transfers", since=_since),
        f"GET /{_address}/detail": Route(attachments.transfer_detail, "volume:get_all_transfers", since=_since),
        f"POST /{_address}": Route(
            attachments.transfer_create, "volume:create_transfer", 202, schema=s.CREATE_TRANSFER, since=_since
        ),
        f"GET /{_address}/{{id}}": Route(attachments.transfer_show, "volume:get_transfer", since=_since),
        f"POST /{_address}/{{id}}/accept": Route(
            attachments.transfer_accept, "volume:accept_transfer", 202, schema=s.ACCEPT_TRANSFER, since=_since
        ),
        f"DELETE /{_address}/{{id}}": Route(attachments.transfer_delete, "volume:delete_transfer", 202, since=_since),
    }


def in_project(handler: Handler) -> Callable[[Call], Any]:
    """The project in the address is the token's."""

    def checked(call: Call) -> Any:
        if call.params["project_id"] != call.context.project_id:
            raise BadRequest("Malformed request url")
        return handler(call)

    return checked


def _mounted() -> dict[str, Route]:
    found = {}
    for key, route in OPERATIONS.items():
        method, path = key.split()
        found[f"{method} /v3{path}"] = route
        found[f"{method} /v3/{{project_id}}{path}"] = replace(route, handler=in_project(route.handler))
    return found


ROUTES: dict[str, Route] = {
    "GET /": Route(versions, "", tx="none"),
    "GET /v3": Route(versions, "", tx="none"),
    **_mounted(),
}

READ = (
    "volume:get_all", "volume:get", "volume:get_volume_metadata", "volume:get_all_snapshots", "volume:get_snapshot",
    "volume:get_snapshot_metadata", "volume_extension:type_get_all", "volume_extension:type_get",
    "volume_extension:types_extra_specs:index", "volume_extension:types_extra_specs:show",
    "volume_extension:volume_encryption_metadata", "backup:get_all", "backup:get", "volume:get_all_transfers",
    "volume:get_transfer", "group:get_all", "group:get", "group:get_all_group_snapshots", "group:get_group_snapshot",
    "group:group_types:get", "message:get_all", "message:get", "volume_extension:quotas:show",
    "limits_extension:used_limits", "availability_zones", "extensions",
)  # fmt: skip
WRITE = (
    "volume:create", "volume:update", "volume:delete", "volume:create_volume_metadata", "volume:update_volume_metadata",
    "volume:delete_volume_metadata", "volume:create_snapshot", "volume:update_snapshot", "volume:delete_snapshot",
    "volume:update_snapshot_metadata", "volume:delete_snapshot_metadata",
    "snapshot_extension:snapshot_actions:update_snapshot_status", "backup:create", "backup:update", "backup:delete",
    "backup:restore", "backup:action", "volume:attachment_create", "volume:attachment_update",
    "volume:attachment_delete", "volume:attachment_complete", "volume:create_transfer", "volume:accept_transfer",
    "volume:delete_transfer", "group:create", "group:update", "group:delete", "group:create_group_snapshot",
    "group:delete_group_snapshot", "message:delete",
)  # fmt: skip
MANAGED = {  # by administrators
    "volume_extension:": (
        "type_create", "type_update", "type_delete", "volume_type_access:get_all_for_type", "types_extra_specs:create",
        "types_extra_specs:update", "types_extra_specs:delete", "volume_type_encryption:create",
        "volume_type_encryption:get", "volume_type_encryption:update", "volume_type_encryption:delete",
        "default_get_all", "default_get", "default_set_or_update", "default_unset", "qos_specs_manage:get_all",
        "qos_specs_manage:create", "qos_specs_manage:get", "qos_specs_manage:update", "qos_specs_manage:delete",
        "services:index", "services:update", "hosts", "capabilities", "quotas:update", "quotas:delete",
        "quota_classes:get", "quota_classes:update", "list_manageable", "volume_manage",
    ),
    "group:": (
        "group_types:create", "group_types:update", "group_types:delete", "group_types_specs:get_all",
        "group_types_specs:create", "group_types_specs:get", "group_types_specs:update", "group_types_specs:delete",
        "reset_status", "reset_group_snapshot_status",
    ),
    "volume:": ("freeze_host", "thaw_host", "failover_host"),
    "snapshot_extension:": ("list_manageable", "snapshot_manage", "snapshot_unmanage"),
    "": (
        "backup:export-import", "backup:backup-import", "scheduler_extension:scheduler_stats:get_pools",
        "clusters:get_all", "clusters:get", "clusters:update", "workers:cleanup", "volume_type:action",
        *BACKUP_ACTIONS.values(), *TYPE_ACTIONS.values(), SNAPSHOT_ACTIONS["os-reset_status"],
        SNAPSHOT_ACTIONS["os-force_delete"],
    ),
}  # fmt: skip
POLICY: dict[str, Rule] = {
    **dict.fromkeys(READ, project_reader),
    **dict.fromkeys(WRITE, project_member),
    **{start + name: admin for start, names in MANAGED.items() for name in names},
    **volume_actions.POLICY,
    **parts.POLICY,
    "volume:action": project_reader,  # each action has a rule of its own: volume_actions.ACTIONS
}

SERVICE = Service(
    prefix="volume",
    routes=ROUTES,
    policy=POLICY,
    fault=faults.nova,
    microversions=MICROVERSIONS,
    types=("block-storage", "volumev3", "volume"),
    users_rows=("/v3/volumes", "/v3/snapshots", "/v3/backups"),
    parts=parts.PARTS,
)
