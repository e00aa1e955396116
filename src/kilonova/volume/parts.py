"""Lines of policy, by Cinder's names, that ask of a part of a request, or of what an answer shows (`Service.parts`)."""

from kilonova.model.errors import Forbidden
from kilonova.web.call import Context
from kilonova.web.checks import Rule
from kilonova.web.policy import admin, project_member, project_reader

HOST = "volume_extension:volume_host_attribute"
MIGRATION = "volume_extension:volume_mig_status_attribute"
PROJECT = "volume_extension:volume_tenant_attribute"
SNAPSHOT = "volume_extension:extended_snapshot_attributes"
EXTRA_SPECS = "volume_extension:access_types_extra_specs"
ALL_EXTRA_SPECS = "volume_extension:types_extra_specs:read_sensitive"
QOS_SPECS = "volume_extension:access_types_qos_specs_id"
IS_PUBLIC = "volume_extension:volume_type_access"
OF_BACKUP = "backup:backup_project_attribute"
OF_GROUP = "group:group_project_attribute"
OF_GROUP_SNAPSHOT = "group:group_snapshot_project_attribute"
GROUP_SPECS = "group:access_group_types_specs"
FROM_IMAGE = "volume:create_from_image"
MULTIATTACH = "volume:multiattach"
MULTIATTACH_BOOTABLE = "volume:multiattach_bootable_volume"
EXTEND_ATTACHED = "volume:extend_attached_volume"
REIMAGE_RESERVED = "volume:reimage_reserved"
FORCE_DELETE = "volume:force_delete"
UPLOAD_PUBLIC = "volume_extension:volume_actions:upload_public"

PARTS = {
    HOST: "GET /v3/volumes/{id}",
    MIGRATION: "GET /v3/volumes/{id}",
    PROJECT: "GET /v3/volumes/{id}",
    SNAPSHOT: "GET /v3/snapshots/{id}",
    EXTRA_SPECS: "GET /v3/types/{id}",
    ALL_EXTRA_SPECS: "GET /v3/types/{id}",
    QOS_SPECS: "GET /v3/types/{id}",
    IS_PUBLIC: "GET /v3/types/{id}",
    OF_BACKUP: "GET /v3/backups/{id}",
    OF_GROUP: "GET /v3/groups/{id}",
    OF_GROUP_SNAPSHOT: "GET /v3/group_snapshots/{id}",
    GROUP_SPECS: "GET /v3/group_types/{id}",
    FROM_IMAGE: "POST /v3/volumes",
    MULTIATTACH: "POST /v3/volumes",
    MULTIATTACH_BOOTABLE: "POST /v3/attachments",
    EXTEND_ATTACHED: "POST /v3/volumes/{id}/action",
    REIMAGE_RESERVED: "POST /v3/volumes/{id}/action",
    FORCE_DELETE: "DELETE /v3/volumes/{id}",
    UPLOAD_PUBLIC: "POST /v3/volumes/{id}/action",
}
READERS = (PROJECT, SNAPSHOT, EXTRA_SPECS, IS_PUBLIC)
MEMBERS = (FROM_IMAGE, MULTIATTACH, MULTIATTACH_BOOTABLE, EXTEND_ATTACHED, REIMAGE_RESERVED)
POLICY: dict[str, Rule] = {
    part: project_reader if part in READERS else project_member if part in MEMBERS else admin for part in PARTS
}


def may(context: Context, part: str) -> bool:
    """Whoever may ask the whole may have the part, but for administrators' parts; or as an operator's policy has it."""
    return context.may(part, usual=True if part in READERS or part in MEMBERS else None)


def check(context: Context, part: str) -> None:
    """Forbidden, in Cinder's words, for who may not have the part."""
    if not may(context, part):
        raise Forbidden(f"Policy doesn't allow {part} to be performed.")
