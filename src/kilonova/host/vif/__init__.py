"""The VIF types: how a port's device is made, plugged and drawn in the guest's XML. A new type is a file and an entry."""

from typing import Protocol
from xml.etree.ElementTree import Element

from kilonova.host.vif.bridge import BridgeVif
from kilonova.host.vif.links import Links
from kilonova.host.vif.tap import TapVif
from kilonova.model.errors import HostError
from kilonova.model.specs import NetworkSpec, PortSpec


class VifType(Protocol):
    """Nova: `LibvirtGenericVIFDriver.get_config/plug/unplug` of one vif_type."""

    def get_config(self, devices: Element, port: PortSpec, network: NetworkSpec, model: str | None) -> Element:
        """Pure: adds the port's <interface>. `model` is the image's hw_vif_model, which wins over the port's."""

    def plug(self, links: Links, port: PortSpec, network: NetworkSpec) -> None:
        """What must exist before the guest starts. Twice is as once."""

    def unplug(self, links: Links, port: PortSpec) -> None:
        """The port's own device is gone afterwards. Bridges are nouns: the port loop removes what nobody wants."""


VIF_TYPES: dict[str, VifType] = {
    "bridge": BridgeVif(),
    "tap": TapVif(),
}


def get_vif_type(name: str) -> VifType:
    """Raises HostError for a type that was bound but cannot be plugged here (Nova: "Unexpected vif_type")."""
    try:
        return VIF_TYPES[name]
    except KeyError:
        known = ", ".join(sorted(VIF_TYPES))
        raise HostError(f"Unexpected vif_type={name}: this host plugs {known}") from None


__all__ = ["VIF_TYPES", "Links", "VifType", "get_vif_type"]
