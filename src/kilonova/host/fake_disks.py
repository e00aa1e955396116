"""The fake host's disks of servers: each says its size, and in words what bytes a real one would hold."""

from typing import Any

from kilonova.host.calls import outside
from kilonova.host.contract import Work
from kilonova.host.fake_things import Things
from kilonova.model.errors import HostError

KINDS = (
    "disks",
    "old_disks",
    "copies",
    "rescue_disks",
)  # old: put aside by a resize; copies: on their way to be images


class FakeDisks(Things):
    """The verbs of `host/contract.py` on a server's own disks; one entry stands for all that a server has."""

    def prepare_disks(self, work: Work) -> Any:
        image = work.server.image
        if self._get("disks", work.server.id) is None:
            content = f"image {image.id}" if image else "none"
            self._put("disks", work.server.id, {"content": content, "size_gb": work.server.flavor.disk_gb})
        return {"disks": ["disk"]}

    def delete_disks(self, work: Work) -> Any:
        for kind in reversed(KINDS):
            self._drop(kind, work.server.id)

    def prepare_rescue_disks(self, work: Work) -> Any:
        image = work.server.rescue
        if image is None:
            raise HostError("there is no image to rescue from")
        self._put("rescue_disks", work.server.id, {"content": f"image {image.id}"})

    def drop_rescue_disks(self, work: Work) -> Any:
        self._drop("rescue_disks", work.server.id)

    def evict_images(self) -> list[str]:
        return []

    def discard_disks(self, work: Work) -> Any:
        self._drop("disks", work.server.id)

    def set_disks_aside(self, work: Work) -> Any:
        if self._get("old_disks", work.server.id) is None:
            self._put("old_disks", work.server.id, self._disk(work))

    def put_disks_back(self, work: Work) -> Any:
        old = self._get("old_disks", work.server.id)
        if old is not None:
            self._put("disks", work.server.id, old)
            self._drop("old_disks", work.server.id)

    def drop_old_disks(self, work: Work) -> Any:
        self._drop("old_disks", work.server.id)

    def grow_disks(self, work: Work) -> Any:
        self._put("disks", work.server.id, self._disk(work) | {"size_gb": work.server.flavor.disk_gb})

    def copy_root_disk(self, work: Work) -> Any:
        self._put("copies", work.server.id, self._disk(work))

    def drop_root_copy(self, work: Work) -> Any:
        self._drop("copies", work.server.id)

    def upload_root_copy(self, work: Work) -> Any:
        with outside("fake image store"):
            work.images.store_image(work.data["image_id"], self.folder / "copies" / work.server.id, "raw")
        self._drop("copies", work.server.id)

    def withdraw_image(self, work: Work) -> Any:
        with outside("fake image withdraw"):
            work.images.drop_image(work.data["image_id"])

    def rotate_backups(self, work: Work) -> Any:
        with outside("fake image rotate"):
            work.images.rotate_backups(work.data["image_id"], work.data["rotation"])

    def _disk(self, work: Work) -> dict[str, Any]:
        disk = self._get("disks", work.server.id)
        if disk is None:
            raise HostError(f"the disk of server {work.server.id} is gone")
        return disk
