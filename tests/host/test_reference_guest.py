"""The guest that a well-known Nova made, made here: an image's root disk and a second disk, a volume over iSCSI. The domain
that runs is the golden file's, but for what a machine adds, and for where the volume's bytes come from."""

import os
import xml.etree.ElementTree as ET
from pathlib import Path

import msgspec
import pytest
from guestlab import CLOUD, FACTS, ISCSI, server
from volumelab import VolumeLab

from kilonova.host.contract import Work
from kilonova.host.libvirt.guest import get_guest_config

pytestmark = [
    pytest.mark.xdist_group("libvirtd"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces, libvirt"),
]
REFERENCE = Path(__file__).with_name("golden") / "reference.xml"
replace = msgspec.structs.replace

# What libvirt and the machine add to a domain that runs.
ADDED = {"alias", "address", "audio", "seclabel"}
# What they put in place of a name, beside the CPU, whose host-model is written out.
MACHINES_OWN = {
    "/domain/os/type@machine",  # pc → pc-i440fx-7.2
    "/domain/features/tcg/tb-cache@unit",
    "/domain/features/tcg/tb-cache text",
    "/domain/devices/serial/target also has model",
    "/domain/devices/serial also has source",  # the pty
    "/domain/devices/graphics@port",
}
# The kernel here has no initiator, so QEMU is it.
VOLUMES_SOURCE = {
    "/domain/devices/disk@type",
    "/domain/devices/disk also has auth",
    "/domain/devices/disk/source@dev",
    "/domain/devices/disk/source also has host",
}


def differences(want: ET.Element, have: ET.Element, where: str = "") -> list[str]:
    """Where a living domain says other than the golden file; more attributes are no difference."""
    here = f"{where}/{want.tag}"
    found = [f"{here}@{name}" for name, value in want.attrib.items() if have.get(name) != value]
    if (want.text or "").strip() != (have.text or "").strip():
        found.append(f"{here} text")
    theirs = [child for child in have if child.tag not in ADDED]
    for child in want:
        while theirs and theirs[0].tag != child.tag:
            found.append(f"{here} also has {theirs.pop(0).tag}")
        if not theirs:
            found.append(f"{here} lacks {child.tag}")
            continue
        found += differences(child, theirs.pop(0), here)
    return found + [f"{here} also has {child.tag}" for child in theirs]


def test_the_domain_that_runs_is_the_reference(tmp_path: Path) -> None:
    lab = VolumeLab(tmp_path)
    try:
        lab.backends["iscsi"].create(f"volume-{ISCSI.id}", 1)
        made = lab.with_volume(
            server(name="myInstanceWithVolume", image=replace(lab.server().image, id=server().image.id)),
            "iscsi",
            ISCSI.id,
        )
        results = {}
        for step in ("connect_volumes", "prepare_disks", "plug_vifs"):
            results[step] = getattr(lab.host, step)(Work(server=made, results=results))
        facts = replace(
            FACTS, instances=str(lab.host.config.instances), cloud_id=lab.cloud_id, vnc_listen="0.0.0.0",
            manufacturer="Fedora Project", version="13.1.0-1.el7", iscsi_initiator="qemu",
        )  # fmt: skip
        results["get_guest_xml"] = {"xml": get_guest_config(made, facts)}
        lab.host.create_guest(Work(server=made, results=results))
        living = lab.conn.lookupByUUIDString(made.id).XMLDesc()
        living = living.replace(lab.cloud_id, CLOUD).replace(facts.instances, FACTS.instances)
        found = differences(ET.fromstring(REFERENCE.read_text()), ET.fromstring(living))
        assert {each for each in found if not each.startswith("/domain/cpu")} == MACHINES_OWN | VOLUMES_SOURCE
    finally:
        lab.close()
