"""The verbs of the contract on a server's own disks, done by qemu-img and, where the guest runs, by QEMU itself."""

from abc import ABC, abstractmethod
from typing import Any

from kilonova.host.calls import outside
from kilonova.host.contract import Work
from kilonova.host.libvirt import cache, disk, resize, snapshot
from kilonova.host.libvirt.layout import Layout
from kilonova.host.libvirt.volumes import Guest


class ServerDisks(ABC):
    layout: Layout

    @abstractmethod
    def guest(self, server_id: str) -> Guest | None:
        """The server's domain, if it has one."""

    def drop_rescue_disks(self, work: Work) -> Any:
        disk.drop_rescue_disks(work.server.id, self.layout)

    def evict_images(self) -> list[str]:
        return cache.evict(self.layout)

    def discard_disks(self, work: Work) -> Any:
        disk.discard_disks(work.server.id, self.layout, keep_ephemeral=work.data.get("preserve_ephemeral", False))

    def set_disks_aside(self, work: Work) -> Any:
        resize.set_disks_aside(work.server.id, self.layout, work.cancelled)

    def put_disks_back(self, work: Work) -> Any:
        resize.put_disks_back(work.server.id, self.layout)

    def drop_old_disks(self, work: Work) -> Any:
        resize.drop_old_disks(work.server.id, self.layout)

    def grow_disks(self, work: Work) -> Any:
        resize.grow_disks(work.server, self.layout)

    def copy_root_disk(self, work: Work) -> Any:
        root, copy = self.layout.disk(work.server.id), self.layout.root_copy(work.server.id)
        snapshot.copy(self.guest(work.server.id), root, copy, work.data["quiesce"], work.cancelled)

    def drop_root_copy(self, work: Work) -> Any:
        root, copy = self.layout.disk(work.server.id), self.layout.root_copy(work.server.id)
        snapshot.drop(self.guest(work.server.id), root, copy, work.data["quiesce"])

    def upload_root_copy(self, work: Work) -> Any:
        copy = self.layout.root_copy(work.server.id)
        with outside("image store"):
            work.images.store_image(work.data["image_id"], copy, snapshot.FORMAT)
        with outside("snapshot unlink"):
            copy.unlink(missing_ok=True)

    def withdraw_image(self, work: Work) -> Any:
        with outside("image withdraw"):
            work.images.drop_image(work.data["image_id"])

    def rotate_backups(self, work: Work) -> Any:
        with outside("image rotate"):
            work.images.rotate_backups(work.data["image_id"], work.data["rotation"])
