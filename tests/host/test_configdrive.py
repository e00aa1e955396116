"""The config drive as another program reads it, and what the metadata says."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from guestlab import NETWORK, PORT, SERVER, server

from kilonova.host.libvirt.configdrive import write_config_drive
from kilonova.host.metadata_content import ec2_tree, get_network_data, openstack_files
from kilonova.host.net.metadata import Source, lookup
from kilonova.model.specs import FixedIP, InjectedFileSpec, KeypairSpec, ServerSpec, SubnetSpec, VolumeSpec

replace = msgspec.structs.replace
USER_DATA = b"#!/bin/sh\necho hello\n"
KEY = KeypairSpec(name="my key", public_key="ssh-ed25519 AAAAC3Nz me@here")
FULL = server(
    keypair=KEY,
    metadata={"role": "web", "ü": "ñ"},
    user_data=base64.b64encode(USER_DATA).decode(),
    admin_password="s3cret",
    config_drive=True,
    security_groups=("default", "web"),
    reservation_id="r-abcdef12",
    floating_ips=("172.24.4.100", "172.24.4.101"),
    files=(InjectedFileSpec(path="/etc/motd", contents=base64.b64encode(b"hello\n").decode()),),
)


def read_iso(path: Path, *, rock: bool = False) -> dict[str, bytes]:
    """All files of an image as isoinfo sees them, by Joliet or Rock Ridge names."""
    how = "-R" if rock else "-J"
    listed = subprocess.run(["isoinfo", how, "-f", "-i", path], check=True, capture_output=True, text=True).stdout
    files = {}
    for name in listed.split("\n"):
        if name.rpartition("/")[2] in {"meta_data.json", "user_data", "network_data.json", "vendor_data.json",
                                       "vendor_data2.json", "meta-data.json", "user-data", "0000"}:  # fmt: skip
            content = subprocess.run(["isoinfo", how, "-x", name, "-i", path], check=True, capture_output=True).stdout
            files[name.lstrip("/")] = content
    return files


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    path = tmp_path / "disk.config"
    write_config_drive(FULL, path)
    return path


def test_its_label_is_what_guests_look_for(drive: Path) -> None:
    seen = subprocess.run(["blkid", "-p", "-o", "export", drive], check=True, capture_output=True, text=True).stdout
    assert "LABEL=config-2" in seen
    assert "TYPE=iso9660" in seen


@pytest.mark.parametrize("rock", [False, True])
def test_another_program_reads_every_file(drive: Path, rock: bool) -> None:
    files = read_iso(drive, rock=rock)
    for version in ("2012-08-10", "2018-08-27", "latest"):
        meta = json.loads(files[f"openstack/{version}/meta_data.json"])
        assert (meta["uuid"], meta["hostname"]) == (SERVER.id, "myinstance.novalocal")
        assert files[f"openstack/{version}/user_data"] == USER_DATA
    assert files["openstack/latest/vendor_data.json"] == files["openstack/latest/vendor_data2.json"] == b"{}"
    assert json.loads(files["openstack/latest/network_data.json"]) == get_network_data(FULL)
    assert files["ec2/latest/user-data"] == files["ec2/2009-04-04/user-data"] == USER_DATA
    assert files["openstack/content/0000"] == b"hello\n"
    assert json.loads(files["ec2/latest/meta-data.json"])["instance-id"] == "i-0000002a"


def meta_data(made: ServerSpec, version: str = "latest", **options: Any) -> dict[str, Any]:
    return json.loads(openstack_files(made, **options)[f"openstack/{version}/meta_data.json"])


def test_meta_data_has_what_nova_has() -> None:
    meta = meta_data(FULL, on_drive=True)
    seed = meta.pop("random_seed")
    assert len(base64.b64decode(seed)) == 512
    assert meta == {
        "uuid": FULL.id,
        "name": "myInstance",
        "hostname": "myinstance.novalocal",
        "launch_index": 0,
        "availability_zone": "nova",
        "project_id": FULL.project_id,
        "meta": {"role": "web", "ü": "ñ"},
        "public_keys": {"my key": KEY.public_key},
        "keys": [{"name": "my key", "type": "ssh", "data": KEY.public_key}],
        "admin_pass": "s3cret",
        "files": [{"content_path": "/content/0000", "path": "/etc/motd"}],
        "devices": [],
        "dedicated_cpus": [],
    }


def test_meta_data_tells_what_its_user_tagged() -> None:
    """Since 2016-06-30: interfaces by their MAC, disks by their serial."""
    port = FULL.ports[0]
    volumes = (VolumeSpec(id="v1", device="/dev/vdb", tag="data"), VolumeSpec(id="v2", device="/dev/vdc"))
    tagged = msgspec.structs.replace(FULL, port_tags={port.id: "front"}, volumes=volumes)
    where = {"bus": "none", "address": "none"}
    assert meta_data(tagged)["devices"] == [
        {"type": "nic", "mac": port.mac_address, **where, "tags": ["front"]},
        {"type": "disk", "serial": "v1", "path": "/dev/vdb", **where, "tags": ["data"]},
    ]
    assert "devices" not in meta_data(tagged, "2015-10-15")


def test_the_password_and_the_files_are_on_the_drive_only() -> None:
    assert not {"admin_pass", "files"} & set(meta_data(FULL))
    assert "openstack/content/0000" not in openstack_files(FULL)
    assert not any(b"s3cret" in content for content in openstack_files(FULL).values())


def test_older_versions_have_what_they_had() -> None:
    files = openstack_files(FULL)
    assert "openstack/2013-04-04/vendor_data.json" not in files
    assert "openstack/2013-10-17/vendor_data.json" in files
    assert "openstack/2013-10-17/network_data.json" not in files
    assert "openstack/2015-10-15/network_data.json" in files
    assert "random_seed" not in meta_data(FULL, "2012-08-10")
    assert "random_seed" in meta_data(FULL, "2013-04-04")


def test_a_server_without_key_and_user_data_has_no_such_files() -> None:
    assert not any(name.endswith("user_data") for name in openstack_files(SERVER))
    assert "user-data" not in ec2_tree(SERVER)
    assert "public_keys" not in meta_data(SERVER)


def test_network_data_says_dhcp_where_there_is_dhcp() -> None:
    assert get_network_data(SERVER) == {
        "links": [
            {
                "id": "tap7d6b1c9e-42",
                "vif_id": PORT.id,
                "type": "bridge",
                "mtu": 1450,
                "ethernet_mac_address": "fa:16:3e:12:34:56",
            }
        ],
        "networks": [{"id": "network0", "type": "ipv4_dhcp", "link": "tap7d6b1c9e-42", "network_id": NETWORK.id}],
        "services": [{"type": "dns", "address": "10.0.0.2"}],
    }


def test_network_data_says_addresses_and_routes_where_there_is_none() -> None:
    static = replace(NETWORK.subnets[0], enable_dhcp=False, host_routes=(("192.168.0.0/16", "10.0.0.9"),))
    v6 = SubnetSpec(
        id="six", cidr="fd00::/64", ip_version=6, gateway_ip="fd00::1", enable_dhcp=True, ipv6_address_mode="slaac"
    )
    port = replace(
        PORT,
        fixed_ips=(
            FixedIP(subnet_id=static.id, ip_address="10.0.0.11"),
            FixedIP(subnet_id="six", ip_address="fd00::b"),
        ),
    )
    made = server(networks=(replace(NETWORK, subnets=(static, v6)),), ports=(port,))
    first, second = get_network_data(made)["networks"]
    assert first == {
        "id": "network0",
        "type": "ipv4",
        "link": PORT.tap,
        "network_id": NETWORK.id,
        "ip_address": "10.0.0.11",
        "netmask": "255.255.255.0",
        "routes": [
            {"network": "0.0.0.0", "netmask": "0.0.0.0", "gateway": "10.0.0.1"},
            {"network": "192.168.0.0", "netmask": "255.255.0.0", "gateway": "10.0.0.9"},
        ],
        "services": [{"type": "dns", "address": "10.0.0.2"}],
    }
    assert (second["type"], second["ip_address"], second["netmask"]) == ("ipv6_slaac", "fd00::b", "ffff:ffff:ffff:ffff::")


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/latest/meta-data/instance-id", b"i-0000002a"),
        ("/2009-04-04/meta-data/hostname", b"myinstance.novalocal"),
        ("/latest/meta-data/local-ipv4", b"10.0.0.11"),
        ("/latest/meta-data/public-ipv4", b"172.24.4.100"),
        ("/latest/meta-data/public-keys/", b"0=my key"),
        ("/latest/meta-data/public-keys/0/openssh-key", KEY.public_key.encode()),
        ("/latest/meta-data/placement/availability-zone", b"nova"),
        ("/latest/meta-data/security-groups", b"default\nweb"),
        ("/latest/user-data", USER_DATA),
        ("/latest/meta-data/no-such-thing", None),
        ("/openstack/latest/user_data", USER_DATA),
        ("/openstack/latest/no_such_thing", None),
    ],
)
def test_the_metadata_service_finds_its_answers(path: str, answer: bytes | None) -> None:
    assert lookup(path, FULL, Source(openstack_files=openstack_files, ec2_tree=ec2_tree)) == answer
