"""qemu-img on bytes that a tenant has made.

They are inspected before (`model/disk_formats.py`). What that misses, or a fault of qemu-img, still leads nowhere: it has
open files and no rights, no network, and neither memory nor disk without end. Nova bounds memory and time, of `qemu-img info`
(QEMU_IMG_LIMITS).
"""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from kilonova.host.calls import Apart, run

NOBODY = 65533  # nobody's: daemons share 65534, and who has one's uid may end and trace it
MEMORY = 1 << 30  # bytes of address space, as Nova has it
STACK = 2 << 20  # bytes, of each of QEMU's up to 64 threads: of the usual 8, or of an operator's, they would take half or all
SLACK = 16 << 20  # bytes: QEMU rounds a VHD up to whole cylinders
WORDS = 1 << 30  # bytes of an answer: a line for each extent, of which a small file can have millions
SECONDS = 3600.0


def convert(source: Path, driver: str, target: Path, size: int) -> None:
    """The guest's view of `source`, of `size` bytes, as a raw file `target`, which is made. Raises HostError."""
    with source.open("rb") as old, target.open("xb") as new:
        _qemu_img(["convert", "-f", driver, "-O", "raw"], (old, new), size + SLACK)
        if os.geteuid() == 0:
            os.fchown(new.fileno(), os.geteuid(), os.getegid())


def info(source: Path, driver: str) -> dict[str, Any]:
    """What `qemu-img info` tells. Raises HostError."""
    with _told(["info", "--output=json", "-f", driver], source) as words:
        found: dict[str, Any] = json.load(words)
    return found


def end_of_data(source: Path, driver: str) -> int:
    """The byte of the file behind the last that a guest could read; 0 without any. Raises HostError."""
    with _told(["map", "--output=json", "-f", driver], source) as words:
        lines = (line.strip().strip(b"[],") for line in words)  # one at a time: there may be many
        extents = (json.loads(line) for line in lines if line)
        return max((each["offset"] + each["length"] for each in extents if each["data"] and "offset" in each), default=0)


@contextmanager
def _told(words: Sequence[str], source: Path) -> Iterator[IO[bytes]]:
    with source.open("rb") as file, tempfile.TemporaryFile(dir=source.parent) as answer:
        _qemu_img(words, (file,), WORDS, answer.fileno())
        answer.seek(0)
        yield answer


def _qemu_img(words: Sequence[str], files: Sequence[IO[bytes]], most: int, stdout: int | None = None) -> None:
    """It opens the files anew by /dev/fd, and may write `most` bytes."""
    limits = (f"--as={MEMORY}", f"--stack={STACK}", f"--cpu={SECONDS:.0f}", f"--fsize={most}", "--core=0")
    command: tuple[str, ...] = ("prlimit", *limits, "--")
    if os.geteuid() == 0:  # else there is nothing to give up
        for file in files:
            os.fchown(file.fileno(), NOBODY, NOBODY)  # no directory lets it come to them, or others, by name
        rights = ("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
        who = (f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
        command = ("unshare", "--net", "--", *command, "setpriv", *who, *rights, "--")
    fds = tuple(file.fileno() for file in files)
    names = [f"/dev/fd/{fd}" for fd in fds]
    one_arena = {"MALLOC_ARENA_MAX": "1"}  # glibc would take 64 MiB of addresses for nearly each thread
    run(["qemu-img", *words, *names], timeout=SECONDS, env=one_arena, apart=Apart(command, fds, stdout))
