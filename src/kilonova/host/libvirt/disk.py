"""A server's disks on its host: the image into `_base`, overlays over it, kernel and ramdisk, the config drive.

Nova: `_create_image`, `nova/virt/images.py` (fetch_to_raw), `nova/virt/libvirt/imagebackend.py` (Qcow2), `imagecache`.
"""

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kilonova.filelock import held
from kilonova.host import confined
from kilonova.host.calls import outside, run
from kilonova.host.libvirt.configdrive import write_config_drive
from kilonova.host.libvirt.layout import RESCUE, RESCUE_CONFIG, Disk, Layout
from kilonova.model.disk_formats import check_safe
from kilonova.model.errors import Cancelled, HostError
from kilonova.model.specs import ImageSpec, ServerSpec

FetchImage = Callable[[str, Path], None]  # writes an image's bytes, as they were uploaded, to a new file

# Glance's disk_format → qemu-img's; what is not here is taken as raw bytes (raw, iso, ami, aki, ari).
CONTAINERS = {"qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhdx": "vhdx", "vhd": "vpc", "qed": "qed"}
GIB, MIB = 1 << 30, 1 << 20


def prepare_disks(
    server: ServerSpec, disks: tuple[Disk, ...], layout: Layout, fetch_image: FetchImage, cancelled: Callable[[], bool]
) -> list[str]:
    """All files that the guest's XML names; those that are there already stay as they are. Returns their names.

    Raises HostError for an image that is damaged, unsafe or larger than the flavor's disk; Cancelled between files.
    """
    layout.server(server.id).mkdir(parents=True, exist_ok=True)
    made = []
    for disk in disks:
        if disk.name is None:
            continue
        if cancelled():
            raise Cancelled(f"another action wants server {server.id}")
        target = layout.disk(server.id, disk.name)
        if target.exists():
            pass
        elif disk.name in ("disk.config", RESCUE_CONFIG):
            with outside("configdrive write"), _appearing(target) as new:
                write_config_drive(server, new)
        elif disk.name == "disk" and server.image is not None:
            base = ensure_base(server.image, layout, fetch_image)
            _overlay(target, layout, base, _root_size(server, base))
        elif disk.name == RESCUE and server.rescue is not None:
            _overlay(target, layout, ensure_base(server.rescue, layout, fetch_image), None)
        elif disk.backing is not None:
            _overlay(target, layout, _ensure_blank(server, disk, layout), None)
        made.append(disk.name)
    for name, image in (("kernel", server.kernel), ("ramdisk", server.ramdisk)):
        if image is not None:
            if not layout.disk(server.id, name).exists():
                _copy(ensure_base(image, layout, fetch_image), layout.disk(server.id, name))
            made.append(name)
    return made


def drop_rescue_disks(server_id: str, layout: Layout) -> None:
    for name in (RESCUE, RESCUE_CONFIG):
        with outside("unlink rescue"):
            layout.disk(server_id, name).unlink(missing_ok=True)


def delete_disks(server_id: str, layout: Layout) -> None:
    """The server's directory goes, whatever is in it; `_base` stays for the next server."""
    uuid.UUID(server_id)  # never rmtree by a name that could lead elsewhere
    for folder in (layout.server(server_id), layout.old(server_id)):
        with outside("rmtree instance"), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)


def discard_disks(server_id: str, layout: Layout, *, keep_ephemeral: bool) -> None:
    """All that is made anew from the server's row goes; the console's log and, if wished, ephemeral disks stay."""
    kept = {"console.log", "disk.eph0"} if keep_ephemeral else {"console.log"}
    folder = layout.server(server_id)
    with outside("unlink disks"):
        for path in folder.iterdir() if folder.exists() else ():
            if path.name not in kept:
                path.unlink()


def as_found(disks: tuple[Disk, ...], server_id: str, layout: Layout) -> tuple[Disk, ...]:
    """The disks with what is behind each in truth: made from another image, or of another flavor's size, it keeps that."""
    return tuple(
        replace(disk, backing=backing(path))
        if disk.name and disk.format == "qcow2" and (path := layout.disk(server_id, disk.name)).exists()
        else disk
        for disk in disks
    )


def backing(path: Path) -> Path | None:
    """The file behind a qcow2 that this host has made; the guest writes into it, never its header."""
    with path.open("rb") as file:
        magic, _, offset, length = struct.unpack(">4sIQI", file.read(20))
        if magic != b"QFI\xfb" or not offset:
            return None
        file.seek(offset)
        return Path(file.read(length).decode())


def ensure_base(image: ImageSpec, layout: Layout, fetch_image: FetchImage) -> Path:
    """The raw copy of an image, fetched once however many servers ask at the same time.

    The file has its final name only when it is whole and checked, so a bad image or a crash leaves no cache entry.
    """
    base = layout.base(image.id)
    with locked(layout, base.name):
        if base.exists():
            os.utime(base)  # for whoever ages the cache
            return base
        part = base.with_suffix(".part")
        raw = base.with_suffix(".converted")
        try:
            _remove(part, raw)
            with outside("image fetch"):
                fetch_image(image.id, part)
            size = _check(image, part)
            driver = CONTAINERS.get(image.disk_format)
            if driver:
                _check_whole(image, part, driver)
                confined.convert(part, driver, raw, size)
            else:
                os.replace(part, raw)
            _sync(raw)
            with outside("base rename"):
                os.replace(raw, base)
        finally:
            _remove(part, raw)
    return base


def direct_io_works(directory: Path) -> bool:
    """Whether files here can be opened with O_DIRECT, which cache='none' needs (Nova: supports_direct_io)."""
    directory.mkdir(parents=True, exist_ok=True)
    probe = directory / f".directio.{os.getpid()}"
    try:
        fd = os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_DIRECT, 0o600)
        try:
            with mmap.mmap(-1, 4096) as page:  # O_DIRECT wants aligned memory
                os.write(fd, page)
        finally:
            os.close(fd)
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def virtual_size(path: Path, driver: str) -> int:
    """Bytes that a guest would see. Raises HostError when the file is not of that format."""
    info = json.loads(run(["qemu-img", "info", "--force-share", "--output=json", "-f", driver, str(path)]))
    return int(info["virtual-size"])


def _check(image: ImageSpec, path: Path) -> int:
    """Is it what Glance says, whole, of its declared format, and without a door to other files of this host? Returns the
    bytes that a guest would see."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise HostError(f"image {image.id} did not arrive") from None
    if size != image.size:
        raise HostError(f"image {image.id} arrived with {size} bytes instead of {image.size}")
    if image.checksum:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if digest != image.checksum:
            raise HostError(f"image {image.id} arrived damaged: its MD5 is {digest}, Glance has {image.checksum}")
    from oslo_utils.imageutils import format_inspector  # takes 0.1 s to load

    try:
        inspector = format_inspector.detect_file_format(str(path))
        found = str(inspector)
        if found in CONTAINERS:
            check_safe(inspector)
    except (format_inspector.ImageFormatError, format_inspector.SafetyCheckFailed) as error:
        raise HostError(f"image {image.id} is unsafe or damaged: {error}") from error
    declared = image.disk_format if image.disk_format in CONTAINERS else "raw"
    if declared != (found if found in CONTAINERS else "raw"):
        raise HostError(f"image {image.id} was uploaded as {image.disk_format}, but its bytes are {found}")
    return int(inspector.virtual_size) if found in CONTAINERS else size


def _check_whole(image: ImageSpec, path: Path, driver: str) -> None:
    """QEMU reads the missing end of a QCOW2, VDI or VMDK as zeros, and says nothing. A last cluster need not be full."""
    end = confined.end_of_data(path, driver)
    if end > image.size and end - image.size >= confined.info(path, driver).get("cluster-size", GIB):
        raise HostError(f"image {image.id} is truncated: its data reach to byte {end}, but it has {image.size} bytes")


def _root_size(server: ServerSpec, base: Path) -> int | None:
    """The flavor's disk in bytes; None (the image's own size) for a flavor with a disk of 0."""
    assert server.image is not None
    wanted = server.flavor.disk_gb * GIB
    if not wanted:
        return None
    needed = base.stat().st_size
    if needed > wanted:
        raise HostError(
            f"Flavor's disk is too small for requested image. Flavor disk is {wanted} bytes, image is {needed} bytes."
        )
    return wanted


def _overlay(target: Path, layout: Layout, base: Path, size: int | None) -> None:
    """A qcow2 that keeps what the guest writes, over a raw file that nobody writes.

    Empty ones are alike, so qemu-img makes one for each image and size, and servers get copies of it.
    """
    if target.exists():
        return
    empty = layout.empty_overlay(base, size)
    with locked(layout, empty.name):
        if not empty.exists():
            empty.parent.mkdir(exist_ok=True)
            with _appearing(empty) as new:
                command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(new)]
                run([*command, str(size)] if size else command)
                _sync(new)
    _copy(empty, target)


def _ensure_blank(server: ServerSpec, disk: Disk, layout: Layout) -> Path:
    """The formatted base of an ephemeral or swap disk, shared by all servers with one of that size."""
    assert disk.backing is not None
    base = disk.backing
    with locked(layout, base.name):
        if not base.exists():
            with _appearing(base) as new:
                swap = disk.name == "disk.swap"
                size = server.flavor.swap_mb * MIB if swap else server.flavor.ephemeral_gb * GIB
                with new.open("wb") as file:
                    file.truncate(size)
                run(["mkswap", str(new)] if swap else ["mkfs.ext4", "-q", "-F", "-L", "ephemeral0", str(new)])
    return base


def _copy(source: Path, target: Path) -> None:
    if not target.exists():
        with outside("file copy"), _appearing(target) as new:
            shutil.copyfile(source, new)


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A file that has its name only once it is whole."""
    new = target.with_name(target.name + ".new")
    new.unlink(missing_ok=True)
    try:
        yield new
        os.replace(new, target)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def locked(layout: Layout, name: str) -> Iterator[None]:
    """One process and one thread at a time makes a cache entry, or removes it."""
    locks = layout.base_dir / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with held(locks / name):
        yield


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
