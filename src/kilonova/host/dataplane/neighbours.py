"""Room for the neighbours of all namespaces: the kernel keeps them in one table, of 1,024 entries by default.

A guest that sends to a thousand addresses nobody has would fill it, and routers of others would find nobody any more. Each
such address takes some 400 bytes for three seconds. A larger table of the administrator's stays.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from kilonova.host.dataplane.config import DataPlaneConfig
from kilonova.host.dataplane.machine import Machine

DIRECTORIES = tuple(Path(f"/proc/sys/net/{family}/neigh/default") for family in ("ipv4", "ipv6"))
ROOM = {"gc_thresh2": 131072, "gc_thresh3": 262144}  # entries; under the first, none is pushed out early


def ensure_room(config: DataPlaneConfig, machine: Machine) -> None:
    for directory in DIRECTORIES:
        for name, entries in ROOM.items():
            with suppress(FileNotFoundError):  # a namespace that is not the machine's first has no say
                if int((directory / name).read_text()) <= entries:
                    machine.set_sysctl(str(directory / name), str(entries), config.cloud_id)
