"""The story of one server: its creation, step by step, do beside undo; and its deletion, the same list undone."""

from typing import Any

from kilonova.compute import scheduler, states
from kilonova.db.engine import Tx
from kilonova.flow.step import CONTROL, HOST, Flow, Rewind, Running, Step
from kilonova.flows.attach_volume import (
    complete_attachments,
    create_volumes,
    delete_volumes,
    has_volumes,
    reserve_volumes,
    unreserve_volumes,
)
from kilonova.flows.departing import end_migration, forget_unfinished_images
from kilonova.flows.swap_volume import adopt_new_volume
from kilonova.host.contract import Host
from kilonova.model.errors import Later
from kilonova.network import ports

# Nova's task states, as users see them
NETWORKING, SCHEDULING, SPAWNING, DELETING = "networking", "scheduling", "spawning", "deleting"
BLOCK_DEVICE_MAPPING = "block_device_mapping"


def allocate_ports(tx: Tx, flow: Running) -> Any:  # Nova: allocate_for_instance
    server = states.get_row(tx, flow.subject_id)
    made = ports.allocate_ports(
        tx,
        server_id=flow.subject_id,
        project_id=server["project_id"],
        availability_zone=server["availability_zone"] or "nova",
        hostname=server["hostname"],
        requested=server["requested_networks"],
        security_group_ids=server["security_group_ids"],
    )
    return {"ports": made}


def deallocate_ports(tx: Tx, flow: Running) -> Any:  # Nova: deallocate_for_instance
    ports.deallocate_ports(tx, flow.subject_id, states.get_row(tx, flow.subject_id)["project_id"])


def select_destination(tx: Tx, flow: Running) -> Any:  # Nova: select_destinations
    return {"host": scheduler.select_destination(tx, flow.subject_id, set(flow.excluded))}


def release_allocation(tx: Tx, flow: Running) -> Any:
    """Nothing of the server is on its host any more when this runs, so it has no host from here on."""
    scheduler.release_allocation(tx, flow.subject_id)
    states.set_host(tx, flow.subject_id, None)


def bind_ports(tx: Tx, flow: Running) -> Any:  # ML2: bind_port
    server = states.get_row(tx, flow.subject_id)
    ports.bind_ports(tx, flow.subject_id, server["project_id"], server["host"], flow.data["vif_type"])


def unbind_ports(tx: Tx, flow: Running) -> Any:
    ports.unbind_ports(tx, flow.subject_id, states.get_row(tx, flow.subject_id)["project_id"])


def wait_for_vif_plugged(tx: Tx, flow: Running) -> Any:  # Nova: wait_for_instance_event network-vif-plugged
    for port in ports.server_ports(tx, flow.subject_id, states.get_row(tx, flow.subject_id)["project_id"]):
        if port["status"] != "ACTIVE" and port["admin_state_up"]:
            raise Later(1.0, waits_for=f"port:{port['id']}")


def set_active(tx: Tx, flow: Running) -> Any:
    states.set_active(tx, flow.subject_id)


def set_error(tx: Tx, flow: Running, error: str, details: str) -> None:
    states.set_error(tx, flow.subject_id, error, details)


def mark_deleting(tx: Tx, flow: Running) -> Any:
    states.mark_deleting(tx, flow.subject_id)
    adopt_new_volume(tx, flow)


def set_deleted(tx: Tx, flow: Running) -> Any:
    forget_unfinished_images(tx, flow)
    end_migration(tx, flow)
    states.set_deleted(tx, flow.subject_id)


CREATE_SERVER = Flow(
    "create",
    (
        #    do                    undo                     runs     the task_state users see
        Step(allocate_ports,       deallocate_ports,        CONTROL, NETWORKING),
        Step(create_volumes,       delete_volumes,          CONTROL, BLOCK_DEVICE_MAPPING, when=has_volumes),
        Step(select_destination,   release_allocation,      CONTROL, SCHEDULING),
        Step(bind_ports,           unbind_ports,            CONTROL, NETWORKING),
        Step(reserve_volumes,      unreserve_volumes,       CONTROL, BLOCK_DEVICE_MAPPING, deadline=3600.0, when=has_volumes),
        Step(Host.connect_volumes, Host.disconnect_volumes, HOST,    BLOCK_DEVICE_MAPPING, when=has_volumes),
        Step(Host.prepare_disks,   Host.delete_disks,       HOST,    SPAWNING),  # Nova: _create_image
        Step(Host.get_guest_xml,   None,                    HOST,    SPAWNING),  # pure: nothing to undo
        Step(Host.plug_vifs,       Host.unplug_vifs,        HOST,    SPAWNING),
        Step(Host.create_guest,    Host.destroy_guest,      HOST,    SPAWNING),  # defined and paused
        Step(wait_for_vif_plugged, None,                    CONTROL, SPAWNING, deadline=300.0),  # loops/ports.py ends it
        Step(Host.resume_guest,    None,                    HOST,    SPAWNING),  # destroy_guest ends it
        Step(complete_attachments, None,                    CONTROL, SPAWNING, when=has_volumes),  # unreserve ends them
        Step(set_active,           None,                    CONTROL, None),  # the last step: nothing can fail after it
    ),
    on_failure=set_error,
    on_host_failure=Rewind(to=select_destination, attempts=3),
)  # fmt: skip

DELETE_SERVER = CREATE_SERVER.undone(
    "delete",
    task_state=DELETING,
    before=(Step(mark_deleting, None, CONTROL, DELETING),),
    after=(Step(set_deleted, None, CONTROL, DELETING),),
)
