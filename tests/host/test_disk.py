"""Disks on a real file system with the real qemu-img: one fetch, whole or nothing, and no image that opens other files."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from guestlab import ISCSI, SERVER, server
from hostile_disks import hostile_vmdks

from kilonova.host.calls import observed
from kilonova.host.libvirt import cache, disk, facts
from kilonova.host.libvirt.disk import delete_disks, ensure_base, prepare_disks, virtual_size
from kilonova.host.libvirt.hardware import get_hardware
from kilonova.host.libvirt.layout import Layout, get_disk_info, root_device_name
from kilonova.model.errors import Cancelled, HostError
from kilonova.model.specs import FlavorSpec, ImageSpec, ServerSpec

MIB = 1 << 20
replace = msgspec.structs.replace


class Glance:
    """Images in a folder, and how often each was fetched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fetched: list[str] = []
        self.pause = 0.0

    def add(self, image_id: str, disk_format: str, path: Path) -> ImageSpec:
        data = path.read_bytes()
        path.rename(self.folder / image_id)
        return ImageSpec(
            id=image_id, name=image_id, disk_format=disk_format, size=len(data),
            checksum=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        )  # fmt: skip

    def fetch(self, image_id: str, path: Path) -> None:
        self.fetched.append(image_id)
        time.sleep(self.pause)
        path.write_bytes((self.folder / image_id).read_bytes())


@pytest.fixture
def glance(tmp_path: Path) -> Glance:
    (tmp_path / "glance").mkdir()
    return Glance(tmp_path / "glance")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "instances")


def qemu_img(*arguments: object) -> str:
    return subprocess.run(["qemu-img", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def content() -> bytes:
    return b"kilonova" * (MIB // 8)


@pytest.fixture
def image(glance: Glance, tmp_path: Path) -> ImageSpec:
    """A qcow2 of 1 MiB whose bytes are known."""
    raw, made = tmp_path / "raw", tmp_path / "made"
    raw.write_bytes(content())
    qemu_img("convert", "-f", "raw", "-O", "qcow2", raw, made)
    return glance.add("image-one", "qcow2", made)


def prepare(made: ServerSpec, layout: Layout, glance: Glance, cancelled: bool = False) -> list[str]:
    disks = get_disk_info(made, get_hardware(made), layout)
    return prepare_disks(made, disks, layout, glance.fetch, lambda: cancelled)


def cached(layout: Layout) -> list[str]:
    return sorted(path.name for path in layout.base_dir.iterdir() if path.is_file())


def test_a_servers_disk_is_an_overlay_of_the_flavors_size_over_the_raw_image(
    layout: Layout, glance: Glance, image: ImageSpec
) -> None:
    assert prepare(server(image=image), layout, glance) == ["disk"]
    base = layout.base(image.id)
    assert base.name == hashlib.sha1(b"image-one").hexdigest()
    assert base.read_bytes() == content()
    info = json.loads(qemu_img("info", "--output=json", layout.disk(SERVER.id)))
    assert (info["format"], info["virtual-size"]) == ("qcow2", 1 << 30)
    assert (info["backing-filename"], info["backing-filename-format"]) == (str(base), "raw")


def test_twice_is_as_once(layout: Layout, glance: Glance, image: ImageSpec) -> None:
    made = server(image=image, config_drive=True)
    first = prepare(made, layout, glance)
    before = {path: path.read_bytes() for path in layout.server(made.id).iterdir()}
    assert prepare(made, layout, glance) == first == ["disk", "disk.config"]
    assert {path: path.read_bytes() for path in layout.server(made.id).iterdir()} == before
    assert glance.fetched == ["image-one"]


def test_servers_at_the_same_time_fetch_an_image_once(layout: Layout, glance: Glance, image: ImageSpec) -> None:
    glance.pause = 0.1
    errors: list[BaseException] = []

    def create(number: int) -> None:
        try:
            prepare(server(image=image, id=f"00000000-0000-4000-8000-{number:012d}"), layout, glance)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert glance.fetched == ["image-one"]
    assert cached(layout) == [layout.base(image.id).name]


def hostile_qcow2(path: Path, *, backing: str | None = None, data_file: bool = False) -> None:
    options = ["-F", "raw", "-b", backing] if backing else []
    if data_file:
        options = ["-o", f"data_file={path}.data"]
    qemu_img("create", "-f", "qcow2", *options, path, "1M")


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("short", "instead of"),
        ("damaged", "MD5"),
        ("backing", "unsafe"),
        ("data file", "unsafe"),
        ("qcow2 called raw", "its bytes are qcow2"),
        ("noise called qcow2", "its bytes are"),
        ("truncated header", "image"),
        ("missing", "did not arrive"),
    ],
)
def test_a_bad_image_is_refused_and_leaves_no_cache_entry(
    kind: str, word: str, layout: Layout, glance: Glance, image: ImageSpec, tmp_path: Path
) -> None:
    made = tmp_path / "bad"
    if kind == "short":
        bad = replace(image, size=image.size + 1)
    elif kind == "damaged":
        bad = replace(image, checksum="0" * 32)
    elif kind in ("backing", "data file"):
        hostile_qcow2(made, backing="/etc/passwd" if kind == "backing" else None, data_file=kind == "data file")
        bad = glance.add("bad", "qcow2", made)
    elif kind == "qcow2 called raw":
        bad = replace(image, disk_format="raw")
    elif kind == "noise called qcow2":
        made.write_bytes(os.urandom(MIB))
        bad = glance.add("bad", "qcow2", made)
    elif kind == "truncated header":
        made.write_bytes(b"QFI\xfb" + struct.pack(">I", 3))
        bad = glance.add("bad", "qcow2", made)
    else:
        bad = replace(image, id="nowhere")
        glance.fetch = lambda image_id, path: None  # type: ignore[method-assign]
    with pytest.raises(HostError, match=word):
        prepare(server(image=bad), layout, glance)
    assert cached(layout) == []
    assert list(layout.server(SERVER.id).iterdir()) == []


@pytest.mark.parametrize("way", ["no sectors, two types", "a parent", "a parent behind the end", "a list and no disk"])
def test_a_vmdk_that_nobody_looked_into_leads_nowhere(way: str, layout: Layout, glance: Glance, tmp_path: Path) -> None:
    """As one that came in another container: the image service does not open those."""
    content = hostile_vmdks(tmp_path, "other")[way]
    layout.base("x").parent.mkdir(parents=True)
    (layout.base("x").parent / "other").write_bytes(b"another's" * 120_000)
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(HostError, match=r"unsafe|its bytes"):
        prepare(server(image=glance.add("bad", "vmdk", tmp_path / "bad")), layout, glance)
    assert cached(layout) == ["other"]


@pytest.mark.parametrize("disk_format", ["qcow2", "vdi", "vmdk", "vhdx", "vhd"])
def test_an_image_that_was_cut_short_before_its_upload_is_refused(
    disk_format: str, layout: Layout, glance: Glance, tmp_path: Path
) -> None:
    whole, raw = tmp_path / "whole", tmp_path / "raw"
    raw.write_bytes(os.urandom(4 * MIB))
    qemu_img("convert", "-f", "raw", "-O", disk.CONTAINERS[disk_format], raw, whole)
    cut = tmp_path / "cut"
    cut.write_bytes(whole.read_bytes()[: 3 * MIB])
    with pytest.raises(HostError, match=r"truncated|Incomplete file"):
        prepare(server(image=glance.add("cut", disk_format, cut)), layout, glance)
    assert cached(layout) == []
    base = ensure_base(glance.add("whole", disk_format, whole), layout, glance.fetch)
    assert base.read_bytes()[: 4 * MIB] == raw.read_bytes()  # a VHD ends with a cylinder


def test_qemu_img_has_no_right_to_what_the_inspection_missed(
    layout: Layout, glance: Glance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inspection is switched off here: the backing file is another's, which root could read."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"another's" * 120_000)
    secret.chmod(0o600)
    hostile_qcow2(tmp_path / "bad", backing=str(secret))
    monkeypatch.setattr(disk, "check_safe", lambda inspector: None)
    with pytest.raises(HostError, match="Permission denied"):
        prepare(server(image=glance.add("bad", "qcow2", tmp_path / "bad")), layout, glance)
    assert cached(layout) == []


def test_a_fetch_that_fails_is_tried_again_by_the_next_server(layout: Layout, glance: Glance, image: ImageSpec) -> None:
    whole = glance.fetch

    def broken(image_id: str, path: Path) -> None:
        path.write_bytes(b"half")
        raise HostError("the line went dead")

    with pytest.raises(HostError, match="line went dead"):
        ensure_base(image, layout, broken)
    assert cached(layout) == []
    assert ensure_base(image, layout, whole).read_bytes() == content()


def test_an_image_larger_than_the_flavors_disk_is_refused_with_both_numbers(
    layout: Layout, glance: Glance, tmp_path: Path
) -> None:
    qemu_img("create", "-f", "qcow2", tmp_path / "large", "2G")
    large = glance.add("large", "qcow2", tmp_path / "large")
    with pytest.raises(HostError, match="Flavor disk is 1073741824 bytes, image is 2147483648 bytes"):
        prepare(server(image=large), layout, glance)


def test_a_flavor_without_a_disk_takes_the_images_size(layout: Layout, glance: Glance, image: ImageSpec) -> None:
    prepare(server(image=image, flavor=replace(SERVER.flavor, disk_gb=0)), layout, glance)
    assert virtual_size(layout.disk(SERVER.id), "qcow2") == MIB


def test_a_kernel_arrives_byte_for_byte(layout: Layout, glance: Glance, image: ImageSpec, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"\x7fkernel" * 333)  # no multiple of a sector
    kernel = glance.add("kernel-id", "aki", tmp_path / "k")
    assert prepare(server(image=image, kernel=kernel), layout, glance) == ["disk", "kernel"]
    assert layout.disk(SERVER.id, "kernel").read_bytes() == b"\x7fkernel" * 333


def test_ephemeral_and_swap_disks_are_formatted(layout: Layout, glance: Glance, image: ImageSpec) -> None:
    flavor = FlavorSpec(id="9", name="e", vcpus=1, memory_mb=64, disk_gb=1, ephemeral_gb=1, swap_mb=16)
    assert prepare(server(image=image, flavor=flavor), layout, glance) == ["disk", "disk.eph0", "disk.swap"]
    assert layout.blank("swap", 16).read_bytes()[4086:4096] == b"SWAPSPACE2"
    assert layout.blank("ephemeral", 1).open("rb").read(1082)[1080:] == b"\x53\xef"
    assert virtual_size(layout.disk(SERVER.id, "disk.swap"), "qcow2") == 16 * MIB


def test_delete_takes_the_servers_files_and_leaves_the_cache(layout: Layout, glance: Glance, image: ImageSpec) -> None:
    prepare(server(image=image, config_drive=True), layout, glance)
    delete_disks(SERVER.id, layout)
    delete_disks(SERVER.id, layout)
    assert not layout.server(SERVER.id).exists()
    assert cached(layout) == [layout.base(image.id).name]
    with pytest.raises(ValueError):
        delete_disks("../glance", layout)


def test_another_action_is_let_in_between_files(layout: Layout, glance: Glance, image: ImageSpec) -> None:
    with pytest.raises(Cancelled):
        prepare(server(image=image), layout, glance, cancelled=True)
    assert glance.fetched == []


def test_a_crash_at_any_call_leaves_nothing_half_made(layout: Layout, glance: Glance, image: ImageSpec) -> None:
    made = server(image=image, config_drive=True, flavor=replace(SERVER.flavor, swap_mb=8))
    edges: list[str] = []
    with observed(lambda when, name: edges.append(f"{when} {name}")):
        prepare(made, layout, glance)
    whole = sorted(path.name for path in layout.server(made.id).iterdir())
    for at in range(len(edges)):
        delete_disks(made.id, layout)
        shutil.rmtree(layout.base_dir)
        left = [at]

        def crash(when: str, name: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt(name)

        with pytest.raises(KeyboardInterrupt), observed(crash):
            prepare(made, layout, glance)
        prepare(made, layout, glance)
        assert sorted(path.name for path in layout.server(made.id).iterdir()) == whole, edges[at]
        assert layout.base(image.id).read_bytes() == content()
        assert len(cached(layout)) == 2, edges[at]
        assert virtual_size(layout.disk(made.id), "qcow2") == 1 << 30


def test_direct_io_is_probed_where_the_disks_will_lie(layout: Layout) -> None:
    tmpfs = Path("/dev/shm") / f"kn-{os.getpid()}"
    try:
        for folder in (layout.instances, tmpfs):
            works = disk.direct_io_works(folder)
            assert list(folder.iterdir()) == []
            with (folder / "x").open("wb") as file:
                file.truncate(MIB)
            # QEMU itself is the judge
            judge = subprocess.run(
                ["qemu-io", "-f", "raw", "-t", "none", "-c", "write 0 4096", str(folder / "x")],
                capture_output=True, check=False,
            )  # fmt: skip
            assert works == (judge.returncode == 0)
            (folder / "x").unlink()
    finally:
        if tmpfs.exists():
            tmpfs.rmdir()
    assert facts.disk_cache(layout.instances, lambda path: True) == "none"
    assert facts.disk_cache(layout.instances, lambda path: False) == "writeback"


def names(made: ServerSpec, layout: Layout) -> list[tuple[str, str, str | None]]:
    disks = get_disk_info(made, get_hardware(made), layout)
    return [(each.dev, each.bus, each.name or (each.volume and each.volume.id)) for each in disks]


def test_device_names_follow_the_bus_and_what_volumes_were_promised(layout: Layout) -> None:
    flavor = replace(SERVER.flavor, swap_mb=8)
    volume = replace(ISCSI, device="/dev/vdb")
    assert names(server(flavor=flavor, volumes=(volume,), config_drive=True), layout) == [
        ("vda", "virtio", "disk"), ("vdc", "virtio", "disk.swap"), ("vdb", "virtio", volume.id),
        ("hda", "ide", "disk.config"),
    ]  # fmt: skip
    q35 = server({"hw_machine_type": "q35", "hw_disk_bus": "scsi"}, config_drive=True)
    assert names(q35, layout) == [("sda", "scsi", "disk"), ("sdb", "sata", "disk.config")]
    made = server()
    assert root_device_name(get_disk_info(made, get_hardware(made), layout)) == "/dev/vda"


def test_a_full_bus_says_so(layout: Layout) -> None:
    volumes = tuple(replace(ISCSI, id=str(number), device=None) for number in range(4))
    with pytest.raises(HostError, match="no device name is left on the ide bus"):
        names(server({"hw_disk_bus": "ide"}, volumes=volumes), layout)


def aged(layout: Layout, image: ImageSpec, seconds: float) -> Path:
    base = layout.base(image.id)
    os.utime(base, (time.time() - seconds, time.time() - seconds))
    return base


def another(glance: Glance, tmp_path: Path, name: str) -> ImageSpec:
    (tmp_path / name).write_bytes(content())
    return glance.add(name, "raw", tmp_path / name)


def test_the_cache_loses_old_images_that_no_disk_is_over(
    layout: Layout, glance: Glance, image: ImageSpec, tmp_path: Path
) -> None:
    """One is a server's, one a resized server's from before, one nobody's, one nobody's and young."""
    used, kept, old, young = image, *(another(glance, tmp_path, name) for name in ("kept", "old", "young"))
    for number, each in enumerate((used, kept, old, young)):
        prepare(server(image=each, id=f"00000000-0000-4000-8000-{number:012d}", config_drive=True), layout, glance)
    names = [f"00000000-0000-4000-8000-{number:012d}" for number in range(4)]
    layout.server(names[1]).rename(layout.old(names[1]))
    for name in names[2:]:
        delete_disks(name, layout)
    for each, seconds in ((used, 200000), (kept, 200000), (old, 90000), (young, 3600)):
        aged(layout, each, seconds)
    assert cache.evict(layout) == [layout.base(old.id).name]
    assert not list((layout.base_dir / "overlays").glob(f"{layout.base(old.id).name}*"))
    short = cache.Limits(free=1.1)  # more than any disk has
    assert cache.evict(layout, short) == [layout.base(young.id).name]
    aged(layout, used, 100)
    assert cache.evict(layout, short) == []
    delete_disks(names[0], layout)
    assert cache.evict(layout, short) == []  # it may be on its way to a disk
    aged(layout, used, 301)
    assert cache.evict(layout, short) == [layout.base(used.id).name]
    assert layout.base(kept.id).exists()
    prepare(server(image=used), layout, glance)
    assert glance.fetched.count("image-one") == 2
    assert cache.evict(Layout(tmp_path / "nothing here")) == []


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_images_are_fetched_before_a_server_asks(layout: Layout, glance: Glance, image: ImageSpec, tmp_path: Path) -> None:
    """One that cannot be had does not keep the others from coming."""
    wanted = [ImageSpec(id="gone", name="gone", disk_format="raw", size=1), image, another(glance, tmp_path, "more")]
    fetcher = cache.Precache(lambda each: disk.ensure_base(each, layout, glance.fetch))
    for each in (*wanted, image):
        fetcher.add(each)
    names = sorted(layout.base(each.id).name for each in wanted[1:])
    wait_until(lambda: layout.base_dir.exists() and cached(layout) == names)
    assert sorted(glance.fetched) == ["gone", "image-one", "more"]
    assert prepare(server(image=image), layout, glance) == ["disk"]
    fetcher.add(another(glance, tmp_path, "later"))  # its thread had come to its end
    wait_until(lambda: layout.base("later").exists())
    assert len(glance.fetched) == 4


def test_an_image_that_comes_and_goes_leaves_no_lock_file(
    layout: Layout, glance: Glance, image: ImageSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers ask for it while it is evicted again and again: each finds it whole, and it is fetched by one at a time."""
    monkeypatch.setattr(cache, "YOUNGEST", -1.0)
    fetching, most, errors = 0, 0, list[BaseException]()

    def fetch(image_id: str, path: Path) -> None:
        nonlocal fetching, most
        fetching += 1
        most = max(most, fetching)
        glance.fetch(image_id, path)
        fetching -= 1

    def ask() -> None:
        try:
            while len(glance.fetched) < 20:
                ensure_base(image, layout, fetch)
                time.sleep(0.001)  # let the one that evicts have a turn
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        cache.evict(layout, cache.Limits(age=0.0))
    cache.evict(layout, cache.Limits(age=0.0))
    assert (errors, most) == ([], 1)
    assert cached(layout) == []
    assert list((layout.base_dir / "locks").iterdir()) == []
