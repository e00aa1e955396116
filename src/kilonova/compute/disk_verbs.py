"""The verbs on a server that touch its disks: lines as in verbs.py."""

from kilonova.compute import rebuild, resize, server_images, shelve
from kilonova.compute.verbs import Verb, in_states
from kilonova.web.policy import admin

SAVED = in_states("active", "stopped", "paused", "suspended")

VERBS: dict[str, Verb] = {
    "createImage": Verb(
        "createImage", SAVED, "image_snapshot_pending", "servers:create_image",
        schema=server_images.CREATE_IMAGE, look=server_images.create_image, locked_too=True,
    ),
    "createBackup": Verb(
        "createBackup", SAVED, "image_backup", "os-create-backup",
        schema=server_images.CREATE_BACKUP, look=server_images.create_backup, locked_too=True,
    ),
    "resize": Verb(
        "resize", in_states("active", "stopped"), "resize_prep", "servers:resize", schema=resize.RESIZE, look=resize.resize,
    ),
    "confirmResize": Verb("confirmResize", in_states("resized"), None, "servers:confirm_resize", look=resize.confirm),
    "revertResize": Verb(
        "revertResize", in_states("resized"), "resize_reverting", "servers:revert_resize", look=resize.revert,
    ),
    "rebuild": Verb(
        "rebuild", in_states("active", "stopped", "error"), rebuild.REBUILDING, "servers:rebuild", schema=rebuild.schema,
        look=rebuild.rebuild,
    ),
    "shelve": Verb("shelve", SAVED, "shelving", "os-shelve:shelve", look=shelve.shelve),
    "shelveOffload": Verb(
        "shelveOffload", in_states("shelved"), "shelving_offloading", "os-shelve:shelve_offload", rule=admin,
    ),
    "unshelve": Verb(
        "unshelve", in_states("shelved", "shelved_offloaded"), "unshelving", "os-shelve:unshelve",
        schema=shelve.unshelve_schema, look=shelve.unshelve, hostless=True,
    ),
}  # fmt: skip
