"""Puts the real host together: data plane, libvirt, network backend."""

import socket
from collections.abc import Callable
from typing import Any, Literal, cast

from kilonova import __version__
from kilonova.config import Config
from kilonova.host import probe
from kilonova.host.contract import ControlSide
from kilonova.host.dataplane.config import DataPlaneConfig
from kilonova.host.dataplane.plane import DataPlane
from kilonova.host.libvirt.connection import Connection
from kilonova.host.libvirt.host import LibvirtHost, LibvirtHostConfig
from kilonova.host.libvirt.volumes import copier
from kilonova.host.metadata_content import ec2_tree, openstack_files
from kilonova.host.net import metadata
from kilonova.host.net.backend import HostNet
from kilonova.host.net.netlink import Netlink
from kilonova.host.net.resolver import host_name_servers
from kilonova.host.storage import Backend, BackendConfig, make_backend
from kilonova.model.errors import HostError
from kilonova.model.specs import ServerSpec


def plane_config(config: Config, known: dict[str, Any]) -> DataPlaneConfig:
    """A cloud keeps the public subnet that it once took."""
    return DataPlaneConfig(
        state=config.state,
        cloud_id=known["id"],
        public_cidr=config.public_cidr or None,
        uplink=cast(Literal["none", "nat"], config.uplink),
        host_net=config.host_net,
        libvirt_uri=config.libvirt_uri or None,
        physnets=config.physnets,
        iscsi=any(backend.kind == "iscsi" for backend in config.volume_backends),
    )


def host_net(
    config: Config,
    known: dict[str, Any],
    server: Callable[[str], ServerSpec | None],
    set_password: Callable[[str, str], bool] = lambda server_id, password: False,
) -> HostNet:
    netns = plane_config(config, known).netns
    name_servers = host_name_servers if config.uplink == "nat" else None
    source = metadata.Source(server, openstack_files, ec2_tree, set_password)
    return HostNet(netns, known["id"], config.state, source, name_servers)


def overlay_address(address: str) -> str:
    """HostError when no link of this host has it: other hosts would send into the void."""
    connection = Netlink(None)
    try:
        held = {each.partition("/")[0] for of_link in connection.all_addresses().values() for each in of_link}
    finally:
        connection.close()
    if address and address not in held:
        raise HostError(f"--overlay {address}: no link of this host has that address")
    return address


def volume_backends(config: Config, plane: DataPlane, connection: Connection) -> dict[str, Backend]:
    """By name; each has a folder of its own in the state directory."""
    made, its = {}, plane.config
    for backend in config.volume_backends:
        place = BackendConfig(
            name=backend.name,
            folder=its.volumes_dir / backend.name,
            run=its.run,
            cloud_id=its.cloud_id,
            options=dict(backend.options),
            copy_live=copier(connection.get, its.cloud_id),
            portal=its.iscsi_portal,
        )
        made[backend.name] = make_backend(backend.kind, place)
    return made


def make_libvirt_host(
    config: Config,
    known: dict[str, Any],
    plane: DataPlane,
    control: ControlSide,
) -> LibvirtHost:
    virt_type = probe.choose_virt_type() if config.virt == "auto" else config.virt
    connection = Connection(plane.libvirt_uri)
    settings = LibvirtHostConfig(
        instances=config.state / "instances",
        cloud_id=known["id"],
        fetch_image=control.fetch_image,
        netns=plane.netns,
        virt_type=virt_type,
        version=__version__,
        bridge_mappings=plane.bridge_mappings,
        overlay_ip=overlay_address(config.overlay),
        backends=volume_backends(config, plane, connection),
        qemu_logs=None if config.libvirt_uri else plane.config.libvirt_dir / "log" / "qemu",
    )
    net = host_net(config, known, control.server, control.set_guest_password)
    return LibvirtHost(socket.gethostname(), settings, connection, net)
