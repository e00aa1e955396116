"""A server's disks while it is resized: the old ones put aside whole, so that a revert finds them, and copies that grow.

Nova: `migrate_disk_and_power_off`, `finish_migration` and `_cleanup_resize` in `nova/virt/libvirt/driver.py`.
"""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from kilonova.host.calls import outside, run
from kilonova.host.libvirt.disk import GIB, virtual_size
from kilonova.host.libvirt.layout import Layout
from kilonova.model.errors import Cancelled
from kilonova.model.specs import ServerSpec

# Files that are not taken along: they are of one size, or of one run of the guest
LEFT = ("disk.swap", "console.log", "disk.copy", "disk.copy.part")
COPY_SECONDS = 3600.0


def set_disks_aside(server_id: str, layout: Layout, cancelled: Callable[[], bool]) -> None:
    """The server's directory becomes `<id>_resize`, and a new one has copies of its files. For a guest that is off."""
    new, old = layout.server(server_id), layout.old(server_id)
    if not old.exists():
        with outside("instance rename"):
            os.replace(new, old)
    new.mkdir(exist_ok=True)
    for source in sorted(old.iterdir()):
        if source.name in LEFT or (new / source.name).exists():
            continue
        if cancelled():
            raise Cancelled(f"another action wants server {server_id}")
        part = new / f"{source.name}.new"
        run(["cp", "--reflink=auto", "--sparse=always", str(source), str(part)], timeout=COPY_SECONDS)
        _sync(part)
        os.replace(part, new / source.name)


def put_disks_back(server_id: str, layout: Layout) -> None:
    """As it was before. Nothing when nothing is put aside."""
    new, old = layout.server(server_id), layout.old(server_id)
    if not old.exists():
        return
    with outside("rmtree instance"), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(new)
    with outside("instance rename"):
        os.replace(old, new)


def drop_old_disks(server_id: str, layout: Layout) -> None:
    with outside("rmtree old instance"), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(layout.old(server_id))


def grow_disks(server: ServerSpec, layout: Layout) -> None:
    """Root and ephemeral disks get the flavor's sizes; none gets smaller. For a guest that is off."""
    flavor = server.flavor
    for name, size_gb in (("disk", flavor.disk_gb), ("disk.eph0", flavor.ephemeral_gb)):
        path = layout.disk(server.id, name)
        if size_gb and path.exists() and virtual_size(path, "qcow2") < size_gb * GIB:
            run(["qemu-img", "resize", "-q", "-f", "qcow2", str(path), str(size_gb * GIB)])


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
