"""The kernel's links as VIF types use them, with the namespace and the owner already filled in."""

from dataclasses import dataclass

from kilonova.host.net import link


@dataclass(frozen=True)
class Links:
    """netns: a name below /run/netns, or None for the root namespace; everything made carries the cloud's id."""

    netns: str | None
    cloud_id: str

    def ensure_bridge(self, name: str, mtu: int) -> None:
        link.ensure_bridge(self.netns, name, mtu, self.cloud_id)

    def ensure_tap(self, name: str, mtu: int) -> None:
        link.ensure_tap(self.netns, name, mtu, self.cloud_id)

    def delete_link(self, name: str) -> None:
        link.delete_link(self.netns, name, self.cloud_id)
