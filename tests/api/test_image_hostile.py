"""Images that would lead whoever opens them astray: refused by their content, and nothing of them is kept.

All are made here, small, from what qemu-img writes; nothing but the store ever reads them.
"""

import gzip
import io
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest
from hostile_disks import SELF, hostile_vmdks, leads_to, vmdk
from image_client import Glance, qcow2
from image_stores import put

from kilonova.db.engine import Database
from kilonova.image.stores import FileStore, StoreConfig
from kilonova.model.errors import UnsupportedMediaType

PASSWD = "/etc/passwd"
DESCRIPTOR = (
    '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="{kind}"\n\n# Extent description\n'
    'RW 2048 {extent} "{path}" 0\n\n# The Disk Data Base\n#DDB\nddb.adapterType = "ide"\n'
)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(StoreConfig("file", tmp_path / "images"))


def disk(path: Path, kind: str, *options: str, size: str = "1M") -> bytes:
    subprocess.run(["qemu-img", "create", "-q", "-f", kind, *options, path, size], check=True, capture_output=True)
    return path.read_bytes()


def refused(store: FileStore, content: bytes, disk_format: str, piece: int = 1 << 16) -> str:
    """Why; however it is cut on its way."""
    with pytest.raises(UnsupportedMediaType) as caught:
        put(store, "image", content, disk_format, piece)
    assert list(store.directory.iterdir()) == []
    return caught.value.message


def header(content: bytes, offset: int, form: str, value: int) -> bytes:
    """The content with one field of its header written over."""
    data = bytearray(content)
    struct.pack_into(form, data, offset, value)
    return bytes(data)


@pytest.mark.parametrize("piece", [1, 512, 1 << 20])
@pytest.mark.parametrize("disk_format", ["qcow2", "raw", "vmdk", "iso", "ami"])
def test_a_qcow2_that_names_another_file(store: FileStore, tmp_path: Path, disk_format: str, piece: int) -> None:
    qcow2(tmp_path / "base")
    for content in (
        qcow2(tmp_path / "b", "-b", str(tmp_path / "base"), "-F", "qcow2"),
        qcow2(tmp_path / "d", "-o", f"data_file={tmp_path}/outside,data_file_raw=on"),
    ):
        assert refused(store, content[:4096], disk_format, piece)


def test_a_qcow2_with_flags_that_nobody_knows(store: FileStore, tmp_path: Path) -> None:
    assert "safety checks" in refused(store, header(qcow2(tmp_path / "a"), 72, ">Q", 1 << 63), "qcow2")


@pytest.mark.parametrize("size", [1 << 51, 1 << 63, (1 << 64) - 1])
def test_a_disk_larger_than_any(store: FileStore, tmp_path: Path, size: int) -> None:
    assert "virtual size" in refused(store, header(qcow2(tmp_path / "a"), 24, ">Q", size), "qcow2")


def test_the_door_refuses_a_size_that_no_database_holds(database: Database, tmp_path: Path) -> None:
    glance = Glance(database, tmp_path)
    image = glance.image(disk_format="qcow2")
    answer = glance.upload(image["id"], header(qcow2(tmp_path / "a"), 24, ">Q", (1 << 64) - 1))
    assert answer.status_code == 415, answer.text
    assert glance("GET", f"/images/{image['id']}").json()["status"] == "queued" and glance.files() == []


@pytest.mark.parametrize("disk_format", ["vmdk", "raw", "qcow2"])
@pytest.mark.parametrize(("kind", "extent"), [
    ("monolithicFlat", "FLAT"), ("twoGbMaxExtentFlat", "FLAT"), ("vmfs", "VMFS"), ("monolithicSparse", "SPARSE"),
])  # fmt: skip
def test_a_vmdk_that_is_a_list_of_files(store: FileStore, kind: str, extent: str, disk_format: str) -> None:
    text = DESCRIPTOR.format(kind=kind, extent=extent, path=PASSWD).encode()
    assert refused(store, text, disk_format)
    assert refused(store, text.ljust(4096, b"\0"), disk_format)


def test_a_vmdk_of_flat_files(store: FileStore, tmp_path: Path) -> None:
    assert refused(store, disk(tmp_path / "flat.vmdk", "vmdk", "-o", "subformat=monolithicFlat"), "vmdk")


def test_a_sparse_vmdk_whose_descriptor_leads_elsewhere(store: FileStore, tmp_path: Path) -> None:
    content = disk(tmp_path / "s.vmdk", "vmdk", "-o", "subformat=monolithicSparse")
    assert put(store, "good", content, "vmdk").virtual_size == 1 << 20
    store.delete("good")
    text = DESCRIPTOR.format(kind="monolithicFlat", extent="FLAT", path=PASSWD).encode()
    assert refused(store, content[:512] + text.ljust(0x2800, b"\0") + content[512 + 0x2800 :], "vmdk")
    assert refused(store, header(content, 28, "<Q", 77), "vmdk")  # its descriptor is not where QEMU reads it
    parent = content.replace(b"parentCID=ffffffff", b"parentCID=00000001")
    assert refused(store, parent.replace(b'createType="monolithicSparse"', b'createType="custom"          '), "vmdk")


@pytest.mark.parametrize("way", ["no sectors, two types", "a parent", "a parent behind the end", "a list and no disk"])
def test_a_vmdk_whose_descriptor_qemu_reads_otherwise(store: FileStore, tmp_path: Path, way: str) -> None:
    (tmp_path / "other").write_bytes(b"another's" * 120_000)
    content = hostile_vmdks(tmp_path, "other")[way]
    assert leads_to(content, tmp_path, tmp_path / "other")
    for disk_format in ("vmdk", "raw"):
        assert refused(store, content, disk_format), disk_format


def test_a_vmdk_that_leads_nowhere_is_taken(store: FileStore, tmp_path: Path) -> None:
    good = vmdk(tmp_path, 'createType="monolithicSparse"', "parentCID=ffffffff", SELF)
    assert put(store, "good", good, "vmdk").virtual_size == 1 << 20
    for subformat in ("monolithicSparse", "streamOptimized"):
        subprocess.run(["qemu-img", "create", "-q", "-f", "raw", tmp_path / "raw", "1M"], check=True)
        command = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}"]
        subprocess.run([*command, tmp_path / "raw", tmp_path / "vmdk"], check=True)
        assert put(store, "good", (tmp_path / "vmdk").read_bytes(), "vmdk").virtual_size == 1 << 20, subformat


def test_a_backing_file_in_json(store: FileStore, tmp_path: Path) -> None:
    name = b'json:{"driver": "file", "filename": "/etc/passwd"}'
    content = bytearray(qcow2(tmp_path / "a"))
    content[0x200 : 0x200 + len(name)] = name
    struct.pack_into(">QI", content, 8, 0x200, len(name))
    for disk_format in ("qcow2", "raw"):
        assert refused(store, bytes(content), disk_format)


def test_a_qcow2_that_says_that_its_data_lie_elsewhere(store: FileStore, tmp_path: Path) -> None:
    """By the feature's bit alone: the name may come later, by who opens it."""
    assert "data_file" in refused(store, header(qcow2(tmp_path / "a"), 72, ">Q", 1 << 2), "qcow2")


@pytest.mark.parametrize("kind", ["qcow2", "vmdk", "vdi", "vpc", "vhdx", "qed"])
def test_any_disk_that_is_an_iso_or_partitioned_too(store: FileStore, tmp_path: Path, kind: str) -> None:
    content = disk(tmp_path / kind, kind).ljust(2 << 20, b"\0")
    iso, gpt = bytearray(content), bytearray(content)
    iso[32768:32775] = b"\x01CD001\x01"
    gpt[446:462] = bytes([0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF]) + struct.pack("<II", 1, 4095)
    gpt[510:512] = b"\x55\xaa"
    for both in (iso, gpt):
        for disk_format in (kind, "raw", "iso", "ami"):
            assert refused(store, bytes(both), disk_format), disk_format


@pytest.mark.parametrize(("kind", "disk_format", "place", "form"), [
    ("vdi", "vdi", 0x170, "<Q"), ("vpc", "vhd", 40, ">Q"), ("vmdk", "vmdk", 12, "<Q"),
])  # fmt: skip
@pytest.mark.parametrize("size", [1 << 51, (1 << 64) - 1])
def test_any_disk_larger_than_any(
    store: FileStore, tmp_path: Path, kind: str, disk_format: str, place: int, form: str, size: int
) -> None:
    assert "virtual size" in refused(store, header(disk(tmp_path / kind, kind), place, form, size), disk_format)


def test_a_stream_without_an_end_is_cut(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kilonova.image.intake.MAX_SIZE", 1 << 20)
    glance = Glance(database, tmp_path)
    image = glance.image()
    for kind in ("file", "stage"):
        answer = glance.upload(image["id"], bytes((1 << 20) + 1), kind=kind)
        assert answer.status_code == 413 and "too large" in answer.text
        assert glance("GET", f"/images/{image['id']}").json()["status"] == "queued" and glance.files() == []
    assert glance.upload(image["id"], bytes(1 << 20)).status_code == 204


def test_polyglots(store: FileStore, tmp_path: Path) -> None:
    """One file that is two disks, each to another reader."""
    content = bytearray(qcow2(tmp_path / "a").ljust(1 << 20, b"\0"))
    mbr = bytearray(content)
    mbr[446:512] = bytes([0x80, 1, 1, 0, 0x83, 1, 1, 0]) + struct.pack("<II", 1, 2000) + bytes(48) + b"\x55\xaa"
    iso = bytearray(content)
    iso[32768 : 32768 + 7] = b"\x01CD001\x01"
    for both in (mbr, iso):
        for disk_format in ("qcow2", "raw", "iso"):
            assert refused(store, bytes(both), disk_format), disk_format


def test_other_containers_are_not_raw_disks(store: FileStore, tmp_path: Path) -> None:
    for kind in ("vmdk", "vdi", "vhdx", "vpc", "qcow2"):
        assert refused(store, disk(tmp_path / kind, kind), "raw"), kind
    for content in (b"", b"QFI\xfb", b"QFI\xfb" + bytes(100), b"KDMV" + bytes(600)):
        assert refused(store, content, "qcow2")
        assert refused(store, content, "vmdk")


def test_bombs_are_kept_as_they_are(store: FileStore) -> None:
    """What is packed is not unpacked here: it takes the room of what was sent."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("disk.raw", bytes(64 << 20))
    for content in (gzip.compress(bytes(64 << 20)), zipped.getvalue()):
        data = put(store, "bomb", content, "raw")
        assert data.size == data.virtual_size == len(content) < 1 << 20
        assert store.path("bomb").stat().st_size == len(content)
        with pytest.raises(UnsupportedMediaType):
            put(store, "other", content, "qcow2")
        packed = put(store, "packed", content, "qcow2", container_format="compressed")
        assert (packed.size, packed.virtual_size) == (len(content), None)
