"""VIF type `tap`: we make the tap through netlink, libvirt is told to leave it alone (`managed='no'`)."""

from xml.etree.ElementTree import Element

from kilonova.host.libvirt.xmltree import add
from kilonova.host.vif.bridge import add_model
from kilonova.host.vif.links import Links
from kilonova.model.specs import NetworkSpec, PortSpec


class TapVif:
    def get_config(self, devices: Element, port: PortSpec, network: NetworkSpec, model: str | None) -> Element:
        """Nova: get_config_tap, designer.set_vif_host_backend_ethernet_config."""
        interface = add(devices, "interface", type="ethernet")
        add(interface, "mac", address=port.mac_address)
        add(interface, "target", dev=port.tap, managed="no")
        add_model(interface, model or port.vif_model)
        add(interface, "mtu", size=str(network.mtu))
        return interface

    def plug(self, links: Links, port: PortSpec, network: NetworkSpec) -> None:
        links.ensure_tap(port.tap, network.mtu)

    def unplug(self, links: Links, port: PortSpec) -> None:
        links.delete_link(port.tap)
