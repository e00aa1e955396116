"""resize, confirmResize and revertResize: what Nova's API refuses at once (nova/compute/api.py)."""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import flavors, migrations, quotas, servers
from kilonova.compute import schemas as s
from kilonova.compute.create import embedded
from kilonova.compute.verbs import Asked
from kilonova.db.engine import Tx
from kilonova.model.errors import BadRequest
from kilonova.web.call import Call, Reply

RESIZE = s.closed(
    {"flavorRef": {"type": ["string", "integer"], "minLength": 1}, "OS-DCF:diskConfig": s.DISK_CONFIG}, ("flavorRef",)
)


def resize(tx: Tx, call: Call, server: sa.RowMapping, argument: dict[str, Any]) -> Asked:
    """A smaller disk is refused here already: Nova's host refuses it later, unseen by who asked."""
    old, flavor = server["flavor"], flavors.for_server(tx, call.context, argument["flavorRef"])
    if flavor["id"] == old["id"]:
        raise BadRequest("When resizing, instances must change flavor!")
    if flavor["disabled"]:
        raise BadRequest(f"Flavor {flavor['id']} could not be found.")
    if flavor["disk_gb"] == 0 and old["disk_gb"] != 0:
        raise BadRequest("Server disk was unable to be resized because: Resize to zero disk flavor is not allowed.")
    for name, word in (("disk_gb", "disk"), ("ephemeral_gb", "ephemeral disk")):
        if flavor[name] < old[name]:
            raise BadRequest(
                f"Server disk was unable to be resized because: Unable to resize disk down: the flavor's {word} of "
                f"{flavor[name]} GB is less than the server's {old[name]} GB."
            )
    if flavor["memory_mb"] < server["image_meta"].get("min_ram", 0):
        raise BadRequest("Flavor's memory is too small for requested image.")
    new = embedded(flavor)
    quotas.check_upsize(tx, server, old, new)
    if "OS-DCF:diskConfig" in argument:
        servers.update(tx, call.context, server["id"], {"disk_config": argument["OS-DCF:diskConfig"]})
    return Asked({"flavor": new, "running": server["vm_state"] == "active"})


def confirm(tx: Tx, call: Call, server: sa.RowMapping, argument: Any) -> Asked:
    return Asked({"running": _leave(tx, server, "confirming")["old_vm_state"] == "active"}, Reply(status=204))


def revert(tx: Tx, call: Call, server: sa.RowMapping, argument: Any) -> Asked:
    migration = _leave(tx, server, "reverting")
    quotas.check_upsize(tx, server, migration["new_flavor"], migration["old_flavor"])
    return Asked({"running": migration["old_vm_state"] == "active"})


def _leave(tx: Tx, server: sa.RowMapping, status: str) -> sa.RowMapping:
    """The server's finished resize, which is finished no more: of two requests, one has it."""
    migration = migrations.current(tx, server["id"], "finished")
    if migration is None or not migrations.move(tx, migration["uuid"], "finished", status):
        raise BadRequest("Instance has not been resized.")
    return migration
