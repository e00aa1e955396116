"""POST /servers refuses at once what Nova's API refuses, in Nova's words, and leaves nothing behind."""

import base64
from typing import Any

import pytest
from compute_client import ADMIN, DEMO, DEMO_PROJECT, OTHER, Nova, messages

from kilonova.compute import devices, spec
from kilonova.db.engine import Database
from kilonova.model.errors import BadRequest

NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def nova(database: Database) -> Nova:
    return Nova(database)


def refused(nova: Nova, status: int, message: str, token: str = DEMO, version: str = "2.96", **values: Any) -> None:
    response = nova.create(token, version, **values)
    assert response.status_code == status, response.text
    assert message in messages(response)
    assert nova.get("/servers", token).json() == {"servers": []}
    assert nova.shared.flows.started == []


def test_images(nova: Nova) -> None:
    refused(nova, 400, "Can not find requested image", imageRef=NOWHERE)
    refused(nova, 400, "Missing imageRef attribute", imageRef="")
    refused(nova, 400, "Missing imageRef attribute", imageRef=None)
    refused(nova, 400, "is not active", imageRef=nova.add_image(status="queued"))
    refused(nova, 400, "Can not find requested image", imageRef=nova.add_image(visibility="private"))
    refused(nova, 400, "memory is too small", imageRef=nova.add_image(min_ram=129))
    refused(
        nova,
        400,
        "Flavor disk is 1073741824 bytes, minimum size is 2147483648 bytes.",
        imageRef=nova.add_image(min_disk=2),
    )
    refused(nova, 400, "Flavor's disk is too small for requested image", imageRef=nova.add_image(size=(1 << 30) + 1))
    refused(nova, 400, "kernel_id", imageRef=nova.add_image(properties={"kernel_id": NOWHERE}))
    odd = nova.add_image(properties={"hw_disk_bus": "floppy"})
    refused(nova, 400, "Invalid image metadata. Error: the image property hw_disk_bus is 'floppy'", imageRef=odd)
    odd = nova.add_image(properties={"hw_machine_type": "x'/><evil/>"})
    refused(nova, 400, "Invalid image metadata. Error: the image property hw_machine_type is", imageRef=odd)


def test_flavors(nova: Nova) -> None:
    refused(nova, 400, "Flavor 77 could not be found.", flavorRef="77")
    nova.post("/flavors", {"flavor": {"name": "zero", "ram": 64, "vcpus": 1, "disk": 0, "id": "7"}}, ADMIN)
    refused(nova, 403, "Only volume-backed servers are allowed for flavors with zero disk.", flavorRef="7")
    body = {"name": "hidden", "ram": 64, "vcpus": 1, "disk": 1, "id": "8", "os-flavor-access:is_public": False}
    nova.post("/flavors", {"flavor": body}, ADMIN)
    refused(nova, 400, "Flavor 8 could not be found.", flavorRef="8")


def test_a_protection_that_no_host_has_is_refused(nova: Nova) -> None:
    """A guest that went without, unseen, would be worse than none."""
    odd = nova.add_image(properties={"hw_tpm_version": "2.0"})
    refused(nova, 400, "Invalid image metadata. Error: the image property hw_tpm_version is '2.0', and no host", imageRef=odd)
    nova.post("/flavors", {"flavor": {"name": "sealed", "ram": 64, "vcpus": 1, "disk": 1, "id": "7"}}, ADMIN)
    for name in ("hw:mem_encryption", "hw:ephemeral_encryption", "os:secure_boot"):
        value = "required" if name == "os:secure_boot" else "true"
        assert nova.post("/flavors/7/os-extra_specs", {"extra_specs": {name: value}}, ADMIN).status_code == 200
        refused(nova, 400, f"Invalid flavor. Error: the flavor's extra spec {name} is '{value}', and no host", flavorRef="7")
        assert nova.delete(f"/flavors/7/os-extra_specs/{name}", ADMIN).status_code == 200
    none = {"hw_mem_encryption": "False", "hw_ephemeral_encryption": "n", "os_secure_boot": "optional"}
    off = nova.add_image(properties=none)
    assert nova.create(imageRef=off, flavorRef="7").status_code == 202


def test_networks(nova: Nova) -> None:
    refused(nova, 400, "Unable to automatically allocate a network", networks="auto")
    refused(nova, 400, "could not be found", networks=[{"uuid": NOWHERE}])
    refused(nova, 400, "Port id", networks=[{"port": NOWHERE}])
    refused(nova, 400, "missing 'uuid'", networks=[{"fixed_ip": "10.0.0.1"}])
    one, empty = nova.network("one"), nova.network("two", cidr=None)
    refused(nova, 400, "requires a subnet", networks=[{"uuid": empty}])
    refused(nova, 409, "Multiple possible networks found", networks="auto")
    refused(nova, 409, "Multiple possible networks found", networks=None, version="2.36")
    refused(nova, 400, "could not be found", token=OTHER, networks=[{"uuid": one}])
    port = nova.port(one)
    refused(nova, 400, "specified twice", networks=[{"port": port}, {"port": port}])
    refused(nova, 400, "cannot be specified together", networks=[{"port": port, "fixed_ip": "10.0.0.9"}])
    refused(nova, 400, "Unable to launch multiple instances", networks=[{"port": port}], max_count=2)
    refused(
        nova, 400, "max_count cannot be greater than 1", networks=[{"uuid": one, "fixed_ip": "10.0.0.9"}], max_count=2
    )
    refused(nova, 400, "10.9.9.9", networks=[{"uuid": one, "fixed_ip": "10.9.9.9"}])
    refused(nova, 400, "", networks=None)  # since 2.37 it must be said
    refused(nova, 400, "", networks="everything")


def test_a_port_in_use(nova: Nova) -> None:
    port = nova.port(nova.network())
    nova.active(networks=[{"port": port}])
    answer = nova.create(networks=[{"port": port}])
    assert (answer.status_code, messages(answer)) == (409, f"Port {port} is still in use.")


def test_other_words_of_the_body(nova: Nova) -> None:
    refused(nova, 400, "Invalid key_name provided.", key_name="none")
    refused(nova, 400, "Security group none not found.", security_groups=[{"name": "none"}])
    refused(nova, 400, "requested availability zone is not available", availability_zone="mars")
    refused(nova, 403, "create:forced_host", availability_zone="nova:host-1")
    refused(nova, 403, "requested_destination", host="host-1")
    refused(nova, 400, "Compute host none could not be found.", token=ADMIN, host="none")
    refused(nova, 400, "'base64'", user_data="not base64!")
    refused(nova, 400, "user_data", user_data=base64.b64encode(bytes(65535)).decode())
    refused(nova, 400, "failed to get volume", imageRef=None, block_device_mapping_v2=[
        {"boot_index": 0, "uuid": NOWHERE, "source_type": "volume", "destination_type": "volume"}])  # fmt: skip
    refused(nova, 400, "Swap drive requested is larger", block_device_mapping_v2=[
        {"boot_index": 0, "uuid": nova.image, "source_type": "image", "destination_type": "local"},
        {"boot_index": -1, "source_type": "blank", "destination_type": "local", "guest_format": "swap", "volume_size": 1},
    ])  # fmt: skip
    twice = {"uuid": NOWHERE, "source_type": "volume", "destination_type": "volume"}
    refused(nova, 400, f"volume {NOWHERE} is named more than once", imageRef=None, block_device_mapping_v2=[
        {**twice, "boot_index": 0}, {**twice, "boot_index": 1}])  # fmt: skip
    blank = {"boot_index": -1, "source_type": "blank", "destination_type": "volume", "volume_size": 1}
    refused(nova, 400, "105 devices are more than a server can have", block_device_mapping_v2=[blank] * 104)
    for key, value, words in (
        ("disk_bus", "floppy", "disk bus floppy is not valid"),
        ("device_type", "tape", "device type tape is not valid"),
        ("device_type", "cdrom", "cdrom cannot be on the disk bus virtio"),
    ):
        device = {"uuid": NOWHERE, "source_type": "volume", "destination_type": "volume", "disk_bus": "virtio"}
        refused(nova, 400, words, block_device_mapping_v2=[device | {key: value}])
    for wrong in (
        {"name": ""}, {"name": " x"}, {"name": "a\tb"}, {"name": "a\u2028b"},
        {"name": "x" * 256}, {"name": None}, {"flavorRef": None}, {"nonsense": 1},
        {"metadata": {"a": 1}}, {"min_count": 0}, {"max_count": "x"}, {"config_drive": "maybe"}, {"tags": ["a,b"]},
        {"accessIPv4": "1.2.3"}, {"hostname": "not valid!"}, {"personality": []}, {"imageRef": "no-uuid"},
    ):  # fmt: skip
        refused(nova, 400, "", **wrong)
    assert nova.post("/servers", {"nonsense": {}}).status_code == 400
    assert nova.post("/servers", []).status_code == 400
    assert nova.http.post("/compute/v2.1/servers", headers={"X-Auth-Token": DEMO}).status_code == 400


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 101 + "]" * 101, "{", "7"])
def test_an_image_s_unreadable_devices(text: str) -> None:
    with pytest.raises(BadRequest, match="cannot be read"):
        devices.of_image({"block_device_mapping": text})


def test_quotas(nova: Nova) -> None:
    path = f"/os-quota-sets/{DEMO_PROJECT}"
    nova.put(path, {"quota_set": {"cores": 3, "ram": 300, "metadata_items": 1}}, ADMIN)
    refused(
        nova, 403, "Quota exceeded for cores, ram: Requested 4, 2048, but already used 0, 0 of 3, 300 cores, ram",
        flavorRef="5",
    )  # fmt: skip
    refused(nova, 403, "Maximum number of metadata items exceeds 1", metadata={"a": "1", "b": "2"})
    nova.made()
    nova.made()
    answer = nova.create()
    assert answer.status_code == 403
    assert messages(answer) == "Quota exceeded for ram: Requested 128, but already used 256 of 300 ram"
    nova.put(path, {"quota_set": {"ram": -1, "cores": -1, "instances": 4}}, ADMIN)
    assert nova.create(min_count=1, max_count=5).status_code == 202  # as many as fit
    assert len(nova.get("/servers").json()["servers"]) == 4
    assert "Quota exceeded for instances" in messages(nova.create())
    assert nova.create(OTHER).status_code == 202


def test_what_is_accepted(nova: Nova) -> None:
    network = nova.network()
    nova.post("/os-keypairs", {"keypair": {"name": "k"}}, version="2.1")
    for version, networks in (("2.1", None), ("2.36", [{"uuid": network}]), ("2.96", "auto"), ("2.96", "none")):
        assert nova.create(version=version, networks=networks, key_name="k").status_code == 202, version
    data = base64.b64encode(b"#!/bin/sh\n").decode()
    again = nova.create(
        user_data=data, config_drive="true", availability_zone="nova", security_groups=[{"name": "default"}],
        block_device_mapping_v2=[
            {"boot_index": 0, "uuid": nova.image, "source_type": "image", "destination_type": "local",
             "delete_on_termination": True}],
    )  # fmt: skip
    assert again.status_code == 202, again.text
    shown = nova.get(f"/servers/{again.json()['server']['id']}", ADMIN).json()["server"]
    assert (shown["config_drive"], shown["OS-EXT-SRV-ATTR:user_data"]) == ("True", data)
    assert shown["pinned_availability_zone"] == "nova"
    forced = nova.create(ADMIN, availability_zone="nova:host-1")
    assert forced.status_code == 202


def test_files_of_a_request_come_to_the_server_within_their_quotas(nova: Nova) -> None:
    def file(path: str = "/etc/motd", content: bytes = b"hello") -> dict[str, str]:
        return {"path": path, "contents": base64.b64encode(content).decode()}

    for status, message, files in (
        (403, "Personality file limit exceeded", [file()] * 6),
        (403, "Personality file path exceeds maximum 255", [file("/" + "x" * 255)]),
        (403, "Personality file content exceeds maximum 10240", [file(content=b"x" * 10241)]),
        (400, "is not a 'base64'", [{"path": "/x", "contents": "no"}]),
        (400, "a file has a path and contents", [{"path": "/x"}]),
        (400, "", [{"path": "/x", "contents": "", "mode": "0777"}]),
    ):
        refused(nova, status, message, version="2.56", personality=files)
    refused(nova, 400, "personality", version="2.57", personality=[file()])
    made = nova.create(version="2.56", personality=[file(), file("/" + "x" * 254, b"x" * 10240)])
    assert made.status_code == 202, made.text
    id = made.json()["server"]["id"]
    (first, second) = nova.database.read(lambda tx: spec.server_spec(tx, id)).files
    assert (first.path, base64.b64decode(first.contents), len(second.contents)) == ("/etc/motd", b"hello", 13656)
