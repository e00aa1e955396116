"""A cloud's data plane on this machine: a network namespace, a wire to the host, and a libvirt of its own.

docs/adr/0002-a-namespace-of-its-own.md says why.
"""

from kilonova.host.dataplane.config import DataPlaneConfig
from kilonova.host.dataplane.namespaces import delete_namespace, ensure_namespace, listed_namespaces
from kilonova.host.dataplane.plane import DataPlane, Status, load

__all__ = [
    "DataPlane",
    "DataPlaneConfig",
    "Status",
    "delete_namespace",
    "ensure_namespace",
    "listed_namespaces",
    "load",
]
