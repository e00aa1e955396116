"""The files of `file`, given to guests over iSCSI: for guests that run elsewhere than the bytes lie.

Options, as Cinder's: target_ip_address, target_port (the portal that guests are told; none: the cloud's own).
"""

from __future__ import annotations

from typing import Any

from kilonova.host.storage.backend import BackendConfig
from kilonova.host.storage.file import FileBackend
from kilonova.host.storage.tgt import LUN, Targets


class IscsiBackend(FileBackend):
    """A target lives from `connect` to `disconnect`. All backends of this kind share the cloud's tgtd and its numbers."""

    storage_protocol = "iSCSI"

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config)
        self.targets = Targets(config.folder.parent / ".targets", config.run / "tgt", config.portal)

    def connect(self, name: str) -> dict[str, Any]:
        """Cinder: `initialize_connection` of cinder/volume/targets/iscsi.py."""
        target = self.targets.ensure(name, self._existing(self._volume(name)))
        data = {
            "target_discovered": False,
            "target_portal": self.targets.portal,
            "target_iqn": target.iqn,
            "target_lun": LUN,
            "auth_method": "CHAP",
            "auth_username": target.user,
            "auth_password": target.password,
            "discard": True,
        }
        return {"driver_volume_type": "iscsi", "data": data}

    def disconnect(self, name: str) -> None:
        self.targets.remove(name)

    def delete(self, name: str) -> None:
        self.targets.remove(name)
        super().delete(name)

    def extend(self, name: str, size_gb: int) -> None:
        super().extend(name, size_gb)
        self.targets.renew(name, self._volume(name))

    def revert(self, volume: str, snapshot: str) -> None:
        super().revert(volume, snapshot)
        self.targets.renew(volume, self._volume(volume))

    def rename(self, name: str, new: str) -> None:
        self.targets.remove(name)
        super().rename(name, new)
