"""Every flow there is, by name."""

from kilonova.flow.step import Flow
from kilonova.flows import attach_interface, snapshots, swap_volume, volumes
from kilonova.flows import attach_volume as attach
from kilonova.flows import power_server as power
from kilonova.flows import rebuild_server as rebuild
from kilonova.flows import rescue_server as rescue
from kilonova.flows import resize_server as resize
from kilonova.flows import shelve_server as shelve
from kilonova.flows import snapshot_server as snapshot
from kilonova.flows.create_server import CREATE_SERVER, DELETE_SERVER

STORIES = (
    CREATE_SERVER, DELETE_SERVER, *power.FLOWS, *rescue.FLOWS, *snapshot.FLOWS, *resize.FLOWS, *attach.FLOWS,
    *swap_volume.FLOWS, *attach_interface.FLOWS, *volumes.FLOWS,
    *snapshots.FLOWS, *rebuild.FLOWS, *shelve.FLOWS,
)  # fmt: skip
FLOWS = {flow.name: flow for flow in STORIES}


def flows(*, keep_shelved: bool) -> dict[str, Flow]:
    """Those of a cloud, by its settings."""
    return {**FLOWS, "shelve": shelve.SHELVE_AND_KEEP} if keep_shelved else FLOWS
