"""VMDKs that lead QEMU to other files, made of what qemu-img writes; each has been seen to do so, with `leads_to`."""

import struct
import subprocess
from pathlib import Path

SECTORS, DESCRIPTOR, LENGTH = 12, 512, 36  # where they stand in the header, and the descriptor's place in the file
LOWER, RIGHT = 'createtype="monolithicSparse"', 'createType="monolithicFlat"'  # QEMU knows the second spelling alone
HEAD = ("# Disk DescriptorFile", "version=1", "CID=fffffffe")
SELF = 'RW 2048 SPARSE "disk.vmdk"'


def vmdk(folder: Path, *lines: str, sectors: int = 2048, cut: int | None = None) -> bytes:
    """A sparse VMDK of 1 MiB with these lines in its descriptor, of which its header owns up to `cut` bytes."""
    made = folder / "made.vmdk"
    command = ["qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicSparse", made, "1M"]
    subprocess.run(command, check=True, capture_output=True)
    content = bytearray(made.read_bytes())
    made.unlink()
    room = struct.unpack_from("<Q", content, LENGTH)[0] * 512
    text = "\n".join((*HEAD, *lines, "")).encode()
    content[DESCRIPTOR : DESCRIPTOR + room] = text.ljust(room, b"\0")
    struct.pack_into("<Q", content, SECTORS, sectors)
    if cut is not None:
        struct.pack_into("<Q", content, LENGTH, cut // 512)
    return bytes(content)


def hostile_vmdks(folder: Path, other: str) -> dict[str, bytes]:
    """By what is wrong with them; each leads to the file `other`."""
    flat, parent = f'RW 2048 FLAT "{other}" 0', f'parentFileNameHint="{other}"'
    own = ('createType="monolithicSparse"', SELF)
    return {
        "no sectors, two types": vmdk(folder, LOWER, RIGHT, "parentCID=ffffffff", flat, sectors=0),
        "a parent": vmdk(folder, "parentCID=00000001", parent, *own),
        "a parent behind the end": vmdk(folder, "parentCID=00000001", *own, "#" * 600, parent, cut=512),
        "a list and no disk": "\n".join((*HEAD, "parentCID=ffffffff", LOWER, RIGHT, flat, "")).encode(),
    }


def leads_to(content: bytes, folder: Path, other: Path) -> bool:
    """Whether QEMU, told that this is a VMDK, opens the other file for it."""
    disk = folder / "asked.vmdk"
    disk.write_bytes(content)
    told = subprocess.run(["qemu-img", "info", "-f", "vmdk", disk], capture_output=True, text=True, check=False)
    copy = ["qemu-img", "convert", "-f", "vmdk", "-O", "raw", disk, folder / "copy.raw"]
    copied = subprocess.run(copy, capture_output=True, text=True, check=False)
    read = copied.returncode == 0 and (folder / "copy.raw").read_bytes()[:64] == other.read_bytes()[:64]
    return read or f"backing file: {other.name}" in told.stdout
