"""VIF type `bridge`: libvirt makes the tap when the guest starts and puts it into the network's Linux bridge."""

from xml.etree.ElementTree import Element

from kilonova.host.libvirt.xmltree import add
from kilonova.host.vif.links import Links
from kilonova.model.specs import NetworkSpec, PortSpec


class BridgeVif:
    def get_config(self, devices: Element, port: PortSpec, network: NetworkSpec, model: str | None) -> Element:
        return get_config_bridge(devices, port, network, model)

    def plug(self, links: Links, port: PortSpec, network: NetworkSpec) -> None:
        if not port.physical_bridge:  # else it is there, and somebody else's
            links.ensure_bridge(port.bridge, network.mtu)

    def unplug(self, links: Links, port: PortSpec) -> None:
        links.delete_link(port.tap)  # QEMU's end took it along, save where a guest never got that far


def get_config_bridge(devices: Element, port: PortSpec, network: NetworkSpec, model: str | None) -> Element:
    """Nova: LibvirtGenericVIFDriver.get_config_bridge, designer.set_vif_host_backend_bridge_config."""
    interface = add(devices, "interface", type="bridge")
    add(interface, "mac", address=port.mac_address)
    add(interface, "source", bridge=port.bridge)
    add(interface, "target", dev=port.tap)
    add_model(interface, model or port.vif_model)
    add(interface, "mtu", size=str(network.mtu))
    return interface


def add_model(interface: Element, model: str) -> None:
    """Nova: designer.set_vif_guest_frontend_config. The packets of any model go through QEMU: vhost may be missing."""
    add(interface, "model", type=model)
    if model == "virtio":
        add(interface, "driver", name="qemu")
