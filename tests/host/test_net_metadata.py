"""The metadata service: who asks is known by network and address; both layouts; nothing for strangers."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import netlab
import pytest
from netlab import Lab

from kilonova.host.metadata_content import ec2_tree, openstack_files
from kilonova.host.net.metadata import Source, lookup
from kilonova.model.specs import FlavorSpec, HostNetwork, KeypairSpec, PortSpec, ServerSpec

SERVERS: dict[str, ServerSpec] = {}


def server(port: PortSpec, name: str) -> ServerSpec:
    return ServerSpec(
        id=port.device_id,
        instance_name="instance-0000002a",
        name=name,
        hostname=name,
        project_id="p",
        project_name="demo",
        user_id="u",
        user_name="demo",
        created_at="2026-01-02T03:04:05Z",
        flavor=FlavorSpec(id="1", name="m1.nano", vcpus=1, memory_mb=128, disk_gb=1),
        ports=(),
        keypair=KeypairSpec(name="mine", public_key="ssh-ed25519 AAAA me"),
        user_data="IyEvYmluL3NoCmVjaG8gaGkK",
    )


def keep(id: str, password: str) -> bool:
    known = SERVERS[id]
    SERVERS[id] = msgspec.structs.replace(known, guest_password=known.guest_password or password)
    return not known.guest_password


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, server=SERVERS.get, openstack_files=openstack_files, ec2_tree=ec2_tree, set_password=keep)
    yield lab
    lab.close()
    SERVERS.clear()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
def test_each_guest_gets_its_own_even_where_addresses_overlap(lab: Lab) -> None:
    nets = [netlab.network(), netlab.network()]
    # No rule at all: the way to the metadata is open all the same.
    ports = [netlab.port(net, "10.0.0.11", rules=()) for net in nets]
    stranger = netlab.port(nets[0], "10.0.0.12", rules=(), device_id="unknown")
    # A port of another project's that names a server is told nothing of it.
    thief = netlab.port(nets[0], "10.0.0.13", rules=(), device_id=ports[0].device_id, project_id="another")
    guests = [lab.guest(port, f"{port.fixed_ips[0].ip_address}/24") for port in (*ports, stranger, thief)]
    for guest in guests:
        netlab.run(["ip", "-n", guest, "route", "add", "169.254.169.254/32", "via", "10.0.0.2"])
    SERVERS.update({port.device_id: server(port, name) for port, name in zip(ports, ("red", "blue"), strict=True)})
    desired = HostNetwork(networks=tuple(nets), ports=(*ports, stranger, thief))
    lab.apply(desired)
    for restarted in (False, True):
        for guest, port, name in zip(guests, ports, ("red", "blue"), strict=False):
            status, body = netlab.http_get(guest, "/openstack/latest/meta_data.json")
            assert (status, json.loads(body)["uuid"], json.loads(body)["name"]) == (200, port.device_id, name)
        for guest in guests[2:]:
            assert netlab.http_get(guest, "/openstack/latest/meta_data.json")[0] == 404
        if not restarted:
            lab.restart()
            lab.apply(desired)
    assert netlab.http_get(guests[0], "/2009-04-04/meta-data/instance-id") == (200, b"i-0000002a")
    lab.apply(
        HostNetwork(networks=tuple(nets), ports=(ports[1], msgspec.structs.replace(stranger, rules=netlab.EGRESS)))
    )
    with pytest.raises(OSError):
        netlab.http_get(guests[0], "/")  # a port that is no longer ours is cut off


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces")
def test_a_guest_posts_its_password_once(lab: Lab) -> None:
    net = netlab.network()
    port = netlab.port(net, "10.0.0.11", rules=())
    stranger = netlab.port(net, "10.0.0.12", rules=(), device_id="unknown")
    guest, other = (lab.guest(one, f"{one.fixed_ips[0].ip_address}/24") for one in (port, stranger))
    for namespace in (guest, other):
        netlab.run(["ip", "-n", namespace, "route", "add", "169.254.169.254/32", "via", "10.0.0.2"])
    SERVERS[port.device_id] = server(port, "red")
    lab.apply(HostNetwork(networks=(net,), ports=(port, stranger)))
    path = "/openstack/2013-10-17/password"
    assert netlab.http_get(guest, path) == (200, b"")
    assert netlab.http_get(guest, path, posted=b"x" * 1021)[0] == 400
    assert netlab.http_get(guest, path, posted=b"\xff")[0] == 400
    assert netlab.http_get(guest, "/openstack/2012-08-10/password", posted=b"x")[0] == 404
    assert netlab.http_get(guest, "/latest/meta-data/instance-id", posted=b"x")[0] == 404
    assert netlab.http_get(other, path, posted=b"x")[0] == 404
    assert netlab.http_get(guest, path, posted=b"secret") == (200, b"")
    assert netlab.http_get(guest, path, posted=b"again")[0] == 409
    assert netlab.http_get(guest, path) == (200, b"secret")


def test_both_layouts() -> None:
    net = netlab.network()
    red = server(netlab.port(net, "10.0.0.11"), "red")

    def get(path: str) -> bytes | None:
        return lookup(path, red, Source(openstack_files=openstack_files, ec2_tree=ec2_tree))

    assert (get("/") or b"").splitlines()[-2:] == [b"2009-04-04", b"latest"]
    assert (get("/openstack/") or b"").splitlines()[-2:] == [b"2020-10-14", b"latest"]
    assert b"meta_data.json" in (get("/openstack/latest") or b"").splitlines()
    assert get("/openstack/latest/user_data") == get("/latest/user-data") == b"#!/bin/sh\necho hi\n"
    assert get("/latest") == b"meta-data/\nuser-data"
    assert b"public-keys/" in (get("/latest/meta-data/") or b"").splitlines()
    assert get("/2009-04-04/meta-data/public-keys/") == b"0=mine"
    assert get("/2009-04-04/meta-data/public-keys/0") == b"openssh-key"
    assert get("/2009-04-04/meta-data/public-keys/0/openssh-key") == b"ssh-ed25519 AAAA me"
    assert get("/2009-04-04/meta-data/placement/availability-zone") == b"nova"
    for path in (
        "/nothing",
        "/latest/nothing",
        "/openstack/1999-01-01",
        "/latest/meta-data/hostname/x",
        "/latest/../etc",
    ):
        assert get(path) is None
