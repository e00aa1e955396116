"""The guest's XML: golden files, each valid by libvirt's schema and taken by a real libvirtd; nothing breaks out of it.

After a wanted change: `KILONOVA_GOLDEN=write pytest tests/host/test_guest_xml.py`, then read the diff.
"""

import os
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import libvirt
import msgspec
import pytest
from guestlab import CHAP, CLOUD, FACTS, FILE, IMAGE, ISCSI, LOCAL, PORT, RBD, SERVER, server
from hypothesis import given, settings
from hypothesis import strategies as st

from kilonova.host.dataplane import DataPlane, DataPlaneConfig
from kilonova.host.libvirt.connection import Connection
from kilonova.host.libvirt.guest import HostFacts, cloud_of, get_guest_config
from kilonova.host.libvirt.xmltree import clean
from kilonova.model.errors import HostError
from kilonova.model.ids import new_id
from kilonova.model.specs import FlavorSpec, ServerSpec, VolumeSpec

GOLDEN = Path(__file__).with_name("golden")
NOVA = "{http://openstack.org/xmlns/libvirt/nova/1.1}"
replace = msgspec.structs.replace

UEFI = {"hw_machine_type": "q35", "hw_firmware_type": "uefi", "hw_disk_bus": "scsi", "hw_scsi_model": "virtio-scsi"}
VIRTIO = {
    "hw_disk_bus": "virtio", "hw_vif_model": "virtio", "hw_video_model": "virtio", "hw_rng_model": "virtio",
    "hw_input_bus": "virtio", "hw_qemu_guest_agent": "yes", "hw_watchdog_action": "reset",
}  # fmt: skip
OLD = {
    "hw_disk_bus": "ide", "hw_vif_model": "e1000", "hw_video_model": "vga", "hw_pointer_model": "ps2mouse",
    "hw_serial_port_count": "1", "hw_boot_menu": "true", "os_type": "windows",
}  # fmt: skip
TAP = (replace(PORT, vif_type="tap"),)
KERNEL = replace(IMAGE, id="2c0f6f5e-0000-4000-8000-00000000000a", disk_format="aki")
RAMDISK = replace(IMAGE, id="2c0f6f5e-0000-4000-8000-00000000000b", disk_format="ari")
RESCUE = replace(IMAGE, id="5e5c0e00-0000-4000-8000-000000000001")
STABLE = replace(RESCUE, properties={"hw_rescue_device": "cdrom", "hw_rescue_bus": "ide"})
BIG = FlavorSpec(id="5", name="m1.large", vcpus=4, memory_mb=256, disk_gb=2, ephemeral_gb=1, swap_mb=64)
TOPOLOGY = {"hw_cpu_sockets": "1", "hw_cpu_cores": "2", "hw_cpu_threads": "2"}
BOOT_VOLUME = VolumeSpec(id=new_id(), driver_volume_type="file", connection={"device_path": "/x"}, boot_index=0)

CASES: dict[str, tuple[ServerSpec, HostFacts]] = {
    "plain": (SERVER, FACTS),
    "reference": (
        server(name="myInstanceWithVolume", volumes=(ISCSI,)),
        replace(FACTS, vnc_listen="0.0.0.0", manufacturer="Fedora Project", version="13.1.0-1.el7"),
    ),
    "virtio": (server(VIRTIO), FACTS),
    "q35": (server({"hw_machine_type": "q35"}, config_drive=True), FACTS),
    "ovmf": (server(UEFI), FACTS),
    "old": (server(OLD), FACTS),
    "kernel": (server(kernel=KERNEL, ramdisk=RAMDISK), FACTS),
    "kernel-cmdline": (server({"os_command_line": "root=LABEL=r quiet"}, kernel=KERNEL), FACTS),
    "tap": (server(ports=TAP, config_drive=True), FACTS),
    "kvm-writeback": (server(), replace(FACTS, virt_type="kvm", disk_cache="writeback")),
    "volumes": (
        server(volumes=(replace(ISCSI, connection={"data": ISCSI.connection | CHAP}), FILE, RBD, LOCAL)),
        replace(FACTS, iscsi_initiator="qemu"),
    ),
    "buses": (
        server(volumes=(
            replace(ISCSI, device="/dev/sda", bus="scsi", device_type="lun"),
            replace(FILE, device="/dev/sdb", bus="scsi", device_type="lun", connection={"device_path": "/x"}),
            replace(FILE, id=RESCUE.id, device="/dev/hda", bus="ide", device_type="cdrom", connection={"device_path": "/y"}),
            replace(LOCAL, device="/dev/sdc", bus="usb"),
        )),
        FACTS,
    ),
    "rescue": (server(OLD, rescue=RESCUE, config_drive=True, volumes=(ISCSI,)), FACTS),
    "rescue-stable": (server(OLD, rescue=STABLE, config_drive=True, volumes=(ISCSI,), kernel=KERNEL), FACTS),
    "disks": (server(TOPOLOGY, flavor=BIG, config_drive=True, volumes=(ISCSI,)), FACTS),
}


@pytest.fixture(scope="module")
def conn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[libvirt.virConnect]:
    """A libvirtd of this module's own."""
    plane = DataPlane.ensure(DataPlaneConfig(state=tmp_path_factory.mktemp("plane"), cloud_id=new_id()))
    connection = Connection(plane.libvirt_uri)
    try:
        yield connection.get()
    finally:
        connection.close()
        plane.purge()


@pytest.mark.parametrize("name", CASES)
def test_the_xml_is_as_written_down(name: str) -> None:
    text = get_guest_config(*CASES[name])
    golden = GOLDEN / f"{name}.xml"
    if os.environ.get("KILONOVA_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text()


@pytest.mark.parametrize("name", CASES)
def test_the_golden_file_is_valid(name: str) -> None:
    done = subprocess.run(
        ["virt-xml-validate", GOLDEN / f"{name}.xml", "domain"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [name for name in CASES if name != "kvm-writeback"])
def test_libvirt_defines_it_and_keeps_what_it_says(name: str, conn: libvirt.virConnect) -> None:
    text = (GOLDEN / f"{name}.xml").read_text()
    domain = conn.defineXMLFlags(text, libvirt.VIR_DOMAIN_DEFINE_VALIDATE)
    try:
        kept = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
        assert cloud_of(kept) == CLOUD
        ours, theirs = ET.fromstring(text), ET.fromstring(kept)
        for path in ("./devices/disk", "./devices/interface", "./devices/serial"):
            assert len(ours.findall(path)) == len(theirs.findall(path))
        for disk in ours.findall("./devices/disk"):
            dev = disk.find("target").get("dev")
            same = theirs.find(f"./devices/disk/target[@dev='{dev}']/..")
            assert same.find("source").attrib == disk.find("source").attrib
            assert same.findtext("serial") == disk.findtext("serial")
    finally:
        domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)


def test_the_reference_guest_has_every_element_its_caller_wrote_in_order() -> None:
    tree = ET.fromstring((GOLDEN / "reference.xml").read_text())
    assert [child.tag for child in tree] == [
        "name", "uuid", "metadata", "memory", "currentMemory", "vcpu", "cputune", "resource", "sysinfo", "os",
        "features", "cpu", "clock", "on_poweroff", "on_reboot", "on_crash", "devices",
    ]  # fmt: skip
    assert [child.tag for child in tree.find("devices")] == [
        "emulator", "disk", "disk", "controller", "controller", "interface", "serial", "serial", "console", "input",
        "input", "input", "graphics", "video", "memballoon",
    ]  # fmt: skip
    assert tree.find("./sysinfo/system/entry[@name='product']").text == "OpenStack Nova"
    volume = tree.findall("./devices/disk")[1]
    assert volume.find("source").get("dev") == (
        "/dev/disk/by-path/ip-192.168.8.8:3260-iscsi-iqn.2010-10.org.openstack:"
        "volume-13db53ea-475b-471d-bbb1-a0daffbf25ef-lun-0"
    )
    assert volume.findtext("serial") == ISCSI.id
    assert volume.find("driver").attrib == {"name": "qemu", "type": "raw", "cache": "none", "io": "native"}


WORDS = st.text(st.characters(exclude_categories=()), max_size=40) | st.sampled_from(
    ["</nova:name><x/>", "]]>", "<!--", '"/><hack a="', "&amp;&lt;", "a\x00b\x1b", "&#0;", "\ud800", "<?pi?>", "\ufffe"]
)


@settings(max_examples=150, deadline=None)
@given(name=WORDS, flavor=WORDS, user=WORDS, project=WORDS, arguments=WORDS)
def test_no_users_word_breaks_out(name: str, flavor: str, user: str, project: str, arguments: str) -> None:
    plain = ET.fromstring(get_guest_config(server({"os_command_line": "x"}, kernel=KERNEL), FACTS))
    tree = ET.fromstring(
        get_guest_config(
            server(
                {"os_command_line": arguments},
                kernel=KERNEL,
                name=name,
                user_name=user,
                project_name=project,
                flavor=replace(SERVER.flavor, name=flavor),
            ),
            FACTS,
        ).encode()
    )
    assert [element.tag for element in tree.iter()] == [element.tag for element in plain.iter()]
    instance = tree.find(f"./metadata/{NOVA}instance")
    assert (instance.findtext(f"{NOVA}name") or "") == clean(name)
    assert instance.find(f"{NOVA}flavor").get("name") == clean(flavor)
    assert (instance.findtext(f"{NOVA}owner/{NOVA}user") or "") == clean(user)
    assert (instance.findtext(f"{NOVA}owner/{NOVA}project") or "") == clean(project)
    if arguments:
        assert tree.findtext("./os/cmdline") == clean(arguments)


@pytest.mark.parametrize(
    ("properties", "word"),
    [
        ({"hw_disk_bus": "floppy'/>"}, "hw_disk_bus"),
        ({"hw_machine_type": "pc'/><x"}, "hw_machine_type"),
        ({"hw_machine_type": "s390"}, "hw_machine_type"),
        ({"hw_vif_model": "carrier-pigeon"}, "hw_vif_model"),
        ({"hw_serial_port_count": "9"}, "hw_serial_port_count"),
        ({"hw_serial_port_count": "-1"}, "hw_serial_port_count"),
        ({"hw_cpu_sockets": "3"}, "topology"),
        ({"hw_video_ram": "64"}, "ram_max_mb"),
        ({"hw_watchdog_action": "bark"}, "hw_watchdog_action"),
    ],
)
def test_hardware_that_is_not_to_be_had_is_refused_by_name(properties: dict[str, str], word: str) -> None:
    with pytest.raises(HostError, match=word):
        get_guest_config(server(properties), FACTS)


def test_uefi_without_firmware_says_what_to_install() -> None:
    with pytest.raises(HostError, match="ovmf"):
        get_guest_config(server(UEFI), replace(FACTS, uefi_loader=None))


def test_a_vif_type_that_cannot_be_plugged_is_refused() -> None:
    with pytest.raises(HostError, match="vif_type=ovs"):
        get_guest_config(server(ports=(replace(PORT, vif_type="ovs"),)), FACTS)


@pytest.mark.parametrize(
    ("connection", "word"),
    [
        ({"data": {"device_path": "/x", "access_mode": "both"}}, "access_mode"),
        ({"data": {"device_path": "/x", "qos_specs": {"total_iops_sec": "1'/>"}}}, "total_iops_sec"),
    ],
)
def test_what_a_volume_cannot_be_is_refused_by_name(connection: dict, word: str) -> None:
    with pytest.raises(HostError, match=word):
        get_guest_config(replace(SERVER, volumes=(replace(FILE, connection=connection),)), FACTS)


def test_a_volume_of_a_kind_that_cannot_be_connected_is_refused() -> None:
    with pytest.raises(HostError, match="'nvmeof'; this host connects"):
        get_guest_config(replace(SERVER, volumes=(replace(FILE, driver_volume_type="nvmeof"),)), FACTS)


def test_a_server_booted_from_a_volume_has_it_as_its_first_disk() -> None:
    made = replace(SERVER, image=None, volumes=(replace(ISCSI, device=None), BOOT_VOLUME))
    disks = ET.fromstring(get_guest_config(made, FACTS)).findall("./devices/disk")
    assert [(disk.findtext("serial"), disk.find("target").get("dev")) for disk in disks] == [
        (BOOT_VOLUME.id, "vda"),
        (ISCSI.id, "vdb"),
    ]


def test_a_server_booted_from_a_volume_of_another_bus_than_its_image_s() -> None:
    root = replace(BOOT_VOLUME, device="/dev/sda", bus="scsi", device_type="lun")
    made = ET.fromstring(get_guest_config(replace(SERVER, image=None, volumes=(root,)), FACTS))
    disk = made.find("./devices/disk")
    assert (disk.get("device"), disk.find("target").attrib) == ("disk", {"dev": "sda", "bus": "scsi"})
    assert made.find("./devices/controller[@type='scsi']").get("model") == "virtio-scsi"


def test_only_tcg_gets_a_smaller_buffer_and_takes_memory_back() -> None:
    emulated, kvm = ((GOLDEN / f"{name}.xml").read_text() for name in ("plain", "kvm-writeback"))
    assert "tb-cache" in emulated
    assert "freePageReporting" in emulated
    assert "tcg" not in kvm
    assert "freePageReporting" not in kvm


def test_a_domain_of_others_has_no_cloud() -> None:
    assert cloud_of("<domain><metadata/></domain>") is None
