"""Servers for the tests of guests, and a data plane with its own libvirtd that such tests share."""

from pathlib import Path
from typing import Any

import msgspec

from kilonova.host.libvirt.guest import HostFacts
from kilonova.model.specs import (
    FixedIP,
    FlavorSpec,
    ImageSpec,
    NetworkSpec,
    PortSpec,
    ServerSpec,
    SubnetSpec,
    VolumeSpec,
)

CLOUD = "9c1d2e3f-4a5b-4c6d-8e7f-0123456789ab"
NETWORK = NetworkSpec(
    id="5f0ecb3c-1d5e-4d0f-9f0c-3a2b1c0d9e8f",
    name="demo",
    project_id="478a18506673406db8abc360cdc2f202",
    mtu=1450,
    subnets=(
        SubnetSpec(
            id="0a1b2c3d-0000-4000-8000-000000000001",
            cidr="10.0.0.0/24",
            ip_version=4,
            gateway_ip="10.0.0.1",
            enable_dhcp=True,
            dns_nameservers=("10.0.0.2",),
        ),
    ),
)
PORT = PortSpec(
    id="7d6b1c9e-42aa-4f0b-8a55-0c1d2e3f4a5b",
    network_id=NETWORK.id,
    mac_address="fa:16:3e:12:34:56",
    fixed_ips=(FixedIP(subnet_id=NETWORK.subnets[0].id, ip_address="10.0.0.11"),),
    device_id="8d812f63-573c-4f2c-a991-dfa68b844d20",
    device_owner="compute:nova",
)
IMAGE = ImageSpec(id="9bf97139-7760-4ace-b3d1-5bcd0ff30f55", name="cirros", disk_format="qcow2", size=1)
FACTS = HostFacts(
    instances="/var/lib/kilonova/instances",
    cloud_id=CLOUD,
    emulator="/usr/bin/qemu-system-x86_64",
    uefi_loader="/usr/share/OVMF/OVMF_CODE_4M.fd",
    uefi_vars="/usr/share/OVMF/OVMF_VARS_4M.fd",
)
ISCSI = VolumeSpec(
    id="13db53ea-475b-471d-bbb1-a0daffbf25ef",
    driver_volume_type="iscsi",
    connection={
        "target_portal": "192.168.8.8:3260",
        "target_iqn": "iqn.2010-10.org.openstack:volume-13db53ea-475b-471d-bbb1-a0daffbf25ef",
        "target_lun": 0,
    },
    device="/dev/vdb",
)
CHAP = {"auth_method": "CHAP", "auth_username": "a-user", "auth_password": "a-password"}
FILE = VolumeSpec(
    id="13db53ea-0000-4000-8000-00000000000f",
    driver_volume_type="file",
    connection={
        "data": {
            "device_path": "/var/lib/kilonova/volumes/file/volumes/volume-13db53ea-0000-4000-8000-00000000000f",
            "discard": True,
            "access_mode": "ro",
            "qos_specs": {"read_iops_sec": "500", "total_bytes_sec": 10485760, "replication": "3"},
        }
    },
)
RBD = VolumeSpec(
    id="13db53ea-0000-4000-8000-00000000000e",
    driver_volume_type="rbd",
    connection={
        "data": {
            "name": "volumes/volume-13db53ea-0000-4000-8000-00000000000e",
            "hosts": ["192.0.2.11", "192.0.2.12"],
            "ports": ["6789", "6789"],
            "auth_enabled": True,
            "auth_username": "cinder",
            "secret_uuid": "457eb676-33da-42ec-9a8c-9293d545c337",
            "discard": True,
        }
    },
)
LOCAL = VolumeSpec(
    id="13db53ea-0000-4000-8000-00000000000d",
    driver_volume_type="local",
    connection={"data": {"device_path": "/dev/volumes/volume-13db53ea-0000-4000-8000-00000000000d"}, "multiattach": True},
)
SERVER = ServerSpec(
    id="8d812f63-573c-4f2c-a991-dfa68b844d20",
    instance_name="instance-0000002a",
    name="myInstance",
    hostname="myinstance",
    project_id="478a18506673406db8abc360cdc2f202",
    project_name="demo",
    user_id="6383b14b190d422ab3079e4e63c62e16",
    user_name="demo",
    created_at="2026-01-02T03:04:05Z",
    flavor=FlavorSpec(id="2", name="m1.small", vcpus=1, memory_mb=128, disk_gb=1),
    image=IMAGE,
    networks=(NETWORK,),
    ports=(PORT,),
)


def server(properties: dict[str, str] | None = None, **changes: Any) -> ServerSpec:
    """The plain server, its image with these properties, otherwise changed."""
    image = changes.pop("image", msgspec.structs.replace(IMAGE, properties=properties or {}))
    return msgspec.structs.replace(SERVER, image=image, **changes)


def facts(instances: Path, **changes: Any) -> HostFacts:
    return msgspec.structs.replace(FACTS, instances=str(instances), **changes)
