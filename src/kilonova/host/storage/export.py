"""What only QEMU can open, as a file: for copies of bytes in and out.

`qemu-storage-daemon` serves it by FUSE (docs/tools/qemu-storage-daemon in QEMU's manual), and ends with the thread that
wants it.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from kilonova.host.calls import outside
from kilonova.model.errors import HostError

PATIENCE = 30.0  # seconds for it to open the image


@contextmanager
def exported(folder: Path, blockdev: Mapping[str, str], secret: tuple[str, str]) -> Iterator[Path]:
    """A file with the image's bytes, while open. blockdev: QEMU's options of it; secret: (id, value in base64), which they
    name."""
    with tempfile.TemporaryDirectory(prefix="export-", dir=folder) as home:
        path, key = Path(home, "image"), Path(home, "key")
        path.touch()
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secret[1])
        argv = [
            *("setpriv", "--pdeathsig", "KILL", "qemu-storage-daemon"),
            *("--object", f"secret,id={secret[0]},format=base64,file={key}"),
            *("--blockdev", json.dumps({**blockdev, "node-name": "image"})),
            *("--export", f"type=fuse,id=export,node-name=image,mountpoint={path},writable=on"),
        ]
        with outside("qemu-storage-daemon"):
            daemon = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                _wait(daemon, path)
            except BaseException:
                _end(daemon, path)
                raise
        try:
            yield path
        finally:
            _end(daemon, path)


def _wait(daemon: subprocess.Popen[bytes], path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not os.path.ismount(path):
        if daemon.poll() is not None:
            words = daemon.stderr.read().decode(errors="replace").strip() if daemon.stderr else ""
            raise HostError(f"qemu-storage-daemon ended: {words}")
        if time.monotonic() > deadline:
            raise HostError(f"qemu-storage-daemon did not open the image in {PATIENCE:g} s")
        time.sleep(0.02)


def _end(daemon: subprocess.Popen[bytes], path: Path) -> None:
    """SIGTERM makes it write out what it has; a mount that a killed one left is taken away."""
    daemon.terminate()
    try:
        daemon.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
    if daemon.stderr:
        daemon.stderr.close()
    if os.path.ismount(path):
        with suppress(OSError):
            subprocess.run(["umount", "--lazy", path], check=False)
