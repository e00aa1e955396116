"""Image stores: where the bytes of images are kept. `make_store` makes one; its kinds are in STORES."""

from collections.abc import Callable

from kilonova.image.stores.file import FileStore
from kilonova.image.stores.rbd import RbdStore
from kilonova.image.stores.s3 import S3Store
from kilonova.image.stores.store import Store, StoreConfig

STORES: dict[str, Callable[[StoreConfig], Store]] = {"file": FileStore, "rbd": RbdStore, "s3": S3Store}


def make_store(kind: str, config: StoreConfig) -> Store:
    """`kind`: one of STORES. KilonovaError where its options, or what it needs, are missing."""
    return STORES[kind](config)


__all__ = ["STORES", "FileStore", "Store", "StoreConfig", "make_store"]
