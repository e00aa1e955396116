"""Volume backends: where the bytes of volumes are kept. `make_backend` makes one; its kinds are in BACKENDS."""

from collections.abc import Callable

from kilonova.host.storage.backend import GIB, Backend, BackendConfig, Capacity
from kilonova.host.storage.file import FileBackend
from kilonova.host.storage.iscsi import IscsiBackend
from kilonova.host.storage.lvm import LvmBackend
from kilonova.host.storage.rbd import RbdBackend
from kilonova.model.errors import HostError

BACKENDS: dict[str, Callable[[BackendConfig], Backend]] = {
    "file": FileBackend,
    "iscsi": IscsiBackend,
    "lvm": LvmBackend,
    "rbd": RbdBackend,
}


def make_backend(kind: str, config: BackendConfig) -> Backend:
    """Raises HostError for a kind that there is not."""
    if kind not in BACKENDS:
        raise HostError(f"there is no volume backend of the kind {kind!r}; there are {', '.join(sorted(BACKENDS))}")
    return BACKENDS[kind](config)


__all__ = ["BACKENDS", "GIB", "Backend", "BackendConfig", "Capacity", "IscsiBackend", "make_backend"]
