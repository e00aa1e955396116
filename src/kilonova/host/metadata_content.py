"""What a guest may know of itself: the files of the config drive, which the metadata service serves too.

Nova: `nova/api/metadata/base.py` (InstanceMetadata), `nova/virt/netutils.py` (get_network_metadata).
"""

import base64
import binascii
import ipaddress
import json
import os
from typing import Any

from kilonova.model.specs import FixedIP, InjectedFileSpec, NetworkSpec, PortSpec, ServerSpec, SubnetSpec

# From each date on, the file is there too. Every version has all that older ones have.
OPENSTACK_VERSIONS = (
    "2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06", "2017-02-22", "2018-08-27",
    "2020-10-14", "latest",
)  # fmt: skip
RANDOM_SEED, VENDOR_DATA, NETWORK_DATA, DEVICES, VENDOR_DATA2 = (
    "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06",
)  # fmt: skip


def openstack_files(server: ServerSpec, *, on_drive: bool = False) -> dict[str, bytes]:
    """Path (`openstack/latest/meta_data.json`) → content, for each version and `latest`.

    on_drive: the admin password and the files of the request too, which Nova writes on the config drive only.
    All but `random_seed`, new on each call, follows from the server alone.
    """
    seed = base64.b64encode(os.urandom(512)).decode()
    files: dict[str, bytes] = {}
    if on_drive:
        files |= {f"openstack{place}": base64.b64decode(file.contents) for place, file in _injected(server)}
    for version in OPENSTACK_VERSIONS:
        folder = f"openstack/{version}"
        files[f"{folder}/meta_data.json"] = _json(_meta_data(server, version, seed, on_drive))
        if (user_data := get_user_data(server)) is not None:
            files[f"{folder}/user_data"] = user_data
        if version >= VENDOR_DATA:
            files[f"{folder}/vendor_data.json"] = b"{}"
        if version >= NETWORK_DATA:
            files[f"{folder}/network_data.json"] = _json(get_network_data(server))
        if version >= VENDOR_DATA2:
            files[f"{folder}/vendor_data2.json"] = b"{}"
    return files


def ec2_tree(server: ServerSpec) -> dict[str, Any]:
    """`{"meta-data": {…}, "user-data": bytes}`: a dict is a folder, str and bytes are files; user-data only if there.

    A key of a folder is its path; `public-keys` lists its one key as Amazon does, `0=NAME`, by the folder's "_name".
    """
    tree: dict[str, Any] = {"meta-data": _ec2_meta_data(server)}
    if (user_data := get_user_data(server)) is not None:
        tree["user-data"] = user_data
    return tree


def get_user_data(server: ServerSpec) -> bytes | None:
    """What the user gave, decoded; None when there is none. The API refused what is no base64 already."""
    if not server.user_data:
        return None
    try:
        return base64.b64decode(server.user_data)
    except binascii.Error:
        return server.user_data.encode()


def get_hostname(server: ServerSpec) -> str:
    """The name with its domain: `web.novalocal`."""
    domain = server.networks[0].dns_domain.rstrip(".") if server.networks else "novalocal"
    return f"{server.hostname}.{domain}" if domain else server.hostname


def get_network_data(server: ServerSpec) -> dict[str, Any]:
    """network_data.json: a link for each port, a network for each of its addresses, the DNS servers."""
    links: list[dict[str, Any]] = []
    networks: list[dict[str, Any]] = []
    services: list[dict[str, Any]] = []
    for port in server.ports:
        network = server.network(port.network_id)
        links.append(_link(port, network))
        subnets = {subnet.id: subnet for subnet in network.subnets}
        for fixed in port.fixed_ips:
            subnet = subnets.get(fixed.subnet_id)
            if subnet is None:
                continue
            networks.append(_network(port, subnet, fixed, len(networks)))
            services += [service for service in _dns(subnet) if service not in services]
    return {"links": links, "networks": networks, "services": services}


def _meta_data(server: ServerSpec, version: str, seed: str, on_drive: bool) -> dict[str, Any]:
    content: dict[str, Any] = {
        "uuid": server.id,
        "hostname": get_hostname(server),
        "name": server.name,
        "launch_index": server.launch_index,
        "availability_zone": server.availability_zone,
    }
    if server.metadata:
        content["meta"] = dict(server.metadata)
    if server.keypair is not None:
        key = server.keypair
        content["public_keys"] = {key.name: key.public_key}
        content["keys"] = [{"name": key.name, "type": key.type, "data": key.public_key}]
    if on_drive and server.admin_password:
        content["admin_pass"] = server.admin_password
    if on_drive and server.files:
        content["files"] = [{"content_path": place, "path": file.path} for place, file in _injected(server)]
    if version >= RANDOM_SEED:
        content["random_seed"] = seed
    if version >= NETWORK_DATA:
        content["project_id"] = server.project_id
    if version >= DEVICES:
        content["devices"] = _devices(server)
    if version >= "2020-10-14":
        content["dedicated_cpus"] = []
    return content


def _injected(server: ServerSpec) -> list[tuple[str, InjectedFileSpec]]:
    """(below `openstack`, where its content is, the file)."""
    return [(f"/content/{number:04d}", file) for number, file in enumerate(server.files)]


def _devices(server: ServerSpec) -> list[dict[str, Any]]:
    """What its user has tagged (Nova: `_get_device_metadata`). A guest knows its interface by the MAC, its disk by the
    serial; on which bus they are differs from boot to boot, and "none" is Nova's word for that."""
    where = {"bus": "none", "address": "none"}
    nics = [
        {"type": "nic", "mac": port.mac_address, **where, "tags": [server.port_tags[port.id]]}
        for port in server.ports
        if port.id in server.port_tags
    ]
    disks = [
        {"type": "disk", "serial": volume.id, "path": volume.device, **where, "tags": [volume.tag]}
        for volume in server.volumes
        if volume.tag
    ]
    return nics + [{name: value for name, value in disk.items() if value is not None} for disk in disks]


def _ec2_meta_data(server: ServerSpec) -> dict[str, Any]:
    addresses = [fixed.ip_address for port in server.ports for fixed in port.fixed_ips]
    v4 = next((address for address in addresses if ":" not in address), "")
    hostname = get_hostname(server)
    content: dict[str, Any] = {
        "ami-id": _ec2_id("ami", server.image.id if server.image else server.id),
        "ami-launch-index": str(server.launch_index),
        "ami-manifest-path": "FIXME",  # Nova's own word: there is no manifest
        "block-device-mapping": {"ami": "vda", "root": "/dev/vda"},
        "hostname": hostname,
        "instance-action": "none",
        "instance-id": f"i-{server.instance_name.rpartition('-')[2]}",
        "instance-type": server.flavor.name,
        "local-hostname": hostname,
        "local-ipv4": v4,
        "placement": {"availability-zone": server.availability_zone},
        "public-hostname": hostname,
        "public-ipv4": next(iter(server.floating_ips), ""),
        "reservation-id": server.reservation_id,
        "security-groups": "\n".join(server.security_groups),
    }
    if server.keypair is not None:
        name = f"0={server.keypair.name}"
        content["public-keys"] = {"0": {"_name": name, "openssh-key": server.keypair.public_key}}
    if server.kernel is not None:
        content["kernel-id"] = _ec2_id("aki", server.kernel.id)
    if server.ramdisk is not None:
        content["ramdisk-id"] = _ec2_id("ari", server.ramdisk.id)
    return content


def _ec2_id(kind: str, image_id: str) -> str:
    """Amazon's ids are 8 hex digits; Nova keeps a table of them, the start of the UUID does as well."""
    return f"{kind}-{image_id.replace('-', '')[:8]}"


def _link(port: PortSpec, network: NetworkSpec) -> dict[str, Any]:
    return {
        "id": port.tap,
        "vif_id": port.id,
        "type": port.vif_type if port.vif_type in ("bridge", "tap", "ovs", "vhostuser") else "phy",
        "mtu": network.mtu,
        "ethernet_mac_address": port.mac_address,
    }


def _network(port: PortSpec, subnet: SubnetSpec, fixed: FixedIP, number: int) -> dict[str, Any]:
    version = subnet.ip_version
    content: dict[str, Any] = {"id": f"network{number}", "link": port.tap, "network_id": port.network_id}
    if subnet.enable_dhcp and not subnet.ipv6_address_mode:
        return {**content, "type": f"ipv{version}_dhcp"}
    routes = []
    if subnet.gateway_ip:
        anywhere = "0.0.0.0" if version == 4 else "::"
        routes.append({"network": anywhere, "netmask": anywhere, "gateway": subnet.gateway_ip})
    for destination, nexthop in subnet.host_routes:
        target = ipaddress.ip_network(destination, strict=False)
        routes.append({"network": str(target.network_address), "netmask": str(target.netmask), "gateway": nexthop})
    return {
        **content,
        "type": f"ipv{version}" + (f"_{subnet.ipv6_address_mode}" if subnet.ipv6_address_mode else ""),
        "ip_address": fixed.ip_address,
        "netmask": str(ipaddress.ip_network(subnet.cidr, strict=False).netmask),
        "routes": routes,
        "services": _dns(subnet),
    }


def _dns(subnet: SubnetSpec) -> list[dict[str, Any]]:
    return [{"type": "dns", "address": address} for address in subnet.dns_nameservers]


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
