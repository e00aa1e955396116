"""shelve, shelveOffload and unshelve: what Nova's API refuses at once (nova/compute/api.py), and a shelved server's image."""

from typing import Any

import sqlalchemy as sa

from kilonova.compute import block_devices, hosts, server_images, servers, states
from kilonova.compute import schemas as s
from kilonova.compute.tables import SERVERS
from kilonova.compute.verbs import Asked
from kilonova.db.engine import Tx
from kilonova.image import images
from kilonova.model.errors import BadRequest, Conflict, Forbidden
from kilonova.model.ids import iso, now
from kilonova.web.call import Call

IMAGE, NOTES = "shelved_image_id", ("shelved_at", "shelved_image_id", "shelved_host")  # in system_metadata


def unshelve_schema(call: Call) -> dict[str, Any]:
    if call.since(91):
        return _nullable(s.closed({"availability_zone": {"type": ["string", "null"]}, "host": {"type": "string"}}))
    return _nullable(s.closed({"availability_zone": s.NAME}, ("availability_zone",))) if call.since(77) else {}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": ["object", "null"]}


def shelve(tx: Tx, call: Call, server: sa.RowMapping, argument: Any) -> Asked:
    """A server that boots from a volume needs no image, and is off its host at once."""
    running = {"running": server["vm_state"] != "stopped"}
    if block_devices.root(tx, server["id"]) is not None:
        return Asked(running, flow="shelve_volume_backed")
    image_id = server_images.reserve(tx, call.context, server, f"{server['name']}-shelved", "snapshot")
    return Asked({"image_id": image_id, "quiesce": False, **running})


def unshelve(tx: Tx, call: Call, server: sa.RowMapping, argument: Any) -> Asked:
    """A zone or a host can be named for a server that has none: where it is not offloaded, it stays on its host."""
    asked = argument or {} if call.since(77) else {}
    offloaded, zone = server["vm_state"] == "shelved_offloaded", server["availability_zone"]
    if asked and not offloaded:
        raise Conflict(
            "Specifying an availability zone or a host when unshelving server "
            f'"{server["id"]}" with status "{server["vm_state"]}" is not supported.'
        )
    if "availability_zone" in asked:
        zone = asked["availability_zone"]
        if zone and zone not in hosts.zones(tx):
            raise BadRequest("The requested availability zone is not available")
    if "host" in asked:
        _check_host(tx, call, asked["host"], zone)
    values = {"availability_zone": zone, "requested_host": asked.get("host")}
    tx.execute(SERVERS.update().where(SERVERS.c.id == server["id"]).values(**values))
    return Asked({"image_id": server["system_metadata"].get(IMAGE), "offloaded": offloaded, "running": True})


def _check_host(tx: Tx, call: Call, name: str, zone: str | None) -> None:
    if not call.context.is_admin:
        raise Forbidden("Policy doesn't allow os_compute_api:os-shelve:unshelve_to_host to be performed.")
    host = hosts.find(tx, name)
    if host is None:
        raise BadRequest(f"Compute host {name} could not be found.")
    if zone and host["availability_zone"] != zone:
        raise Conflict(f'Host "{name}" is not in the availability zone "{zone}".')


# What the flows write


def set_shelved(tx: Tx, server_id: str, image_id: str | None) -> None:
    """`image_id`: of its root disk, if that is no volume."""
    row = states.get_row(tx, server_id)
    notes = {"shelved_at": iso(now()), "shelved_host": row["host"]} | ({IMAGE: image_id} if image_id else {})
    values = {"vm_state": "shelved", "power_state": states.SHUTDOWN, "fault": None}
    states.note(tx, server_id, row["system_metadata"] | notes, **values)


def set_offloaded(tx: Tx, server_id: str) -> None:
    metadata = states.get_row(tx, server_id)["system_metadata"]
    states.note(tx, server_id, metadata, vm_state="shelved_offloaded", power_state=states.SHUTDOWN)


def set_unshelved(tx: Tx, server_id: str) -> None:
    metadata = states.get_row(tx, server_id)["system_metadata"]
    kept = {key: value for key, value in metadata.items() if key not in NOTES}
    states.note(tx, server_id, kept, vm_state="active", power_state=states.RUNNING)


def drop_image(tx: Tx, call: Call, server_id: str) -> None:
    """Of a shelved server that is deleted (Nova: in `_delete` of its API)."""
    image_id = servers.get(tx, call.context, server_id)["system_metadata"].get(IMAGE)
    if image_id:
        images.remove(tx, call.services.images, image_id)
