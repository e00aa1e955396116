"""Images as RBD images of a Ceph cluster: CLOUD.IMAGE. Glance: `glance_store/_drivers/rbd.py`.

Options, as Glance's: rbd_store_pool, rbd_store_user, rbd_store_ceph_conf; rbd_store_keyring is the file of the user's key.
Bytes go through the cluster's own command, `rbd`: nothing of it is loaded into this process. It reads from the start, so
that a part is read by letting go what lies before it.
"""

import json
import subprocess
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kilonova.image.stores.store import CHUNK, StoreConfig
from kilonova.model.errors import Unavailable

NEW = ".new"  # behind the name of one that is not whole yet
SECONDS = 60


class RbdStore:
    kind = "rbd"

    def __init__(self, config: StoreConfig) -> None:
        options = config.options
        self.name, self.prefix = config.name, f"{config.cloud_id}."
        self.pool, user = options.get("rbd_store_pool", "images"), options.get("rbd_store_user", "glance")
        conf = options.get("rbd_store_ceph_conf", "/etc/ceph/ceph.conf")
        keyring = options.get("rbd_store_keyring", f"/etc/ceph/ceph.client.{user}.keyring")
        self._access = ("-c", conf, "--id", user, "--keyring", keyring)
        self.description = f"The pool {self.pool} of a Ceph cluster"

    def path(self, image_id: str) -> None:
        return None

    def url(self, image_id: str) -> str:
        return f"rbd://{self._spec(image_id)}"

    def properties(self) -> dict[str, Any]:
        return {"chunk_size": CHUNK, "pool": self.pool, "thin_provisioning": True}

    def write(self, image_id: str, chunks: Iterable[bytes]) -> None:
        new, name = self._spec(image_id) + NEW, self._spec(image_id)
        self._remove(new)
        try:
            with self._process("import", "--no-progress", "-", new, stdin=subprocess.PIPE) as into:
                for chunk in chunks:
                    into.stdin.write(chunk)
            self._remove(name)
            self._run("mv", new, name)
        except BaseException:
            self._remove(new)
            raise

    def read(self, image_id: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        self._run("info", self._spec(image_id))
        return self._pieces(image_id, start, length)

    def _pieces(self, image_id: str, start: int, length: int | None) -> Iterator[bytes]:
        end = None if length is None else start + length
        place = 0
        with self._process("export", "--no-progress", self._spec(image_id), "-", stdout=subprocess.PIPE) as out:
            while (end is None or place < end) and (chunk := out.stdout.read(CHUNK)):
                piece = chunk[max(start - place, 0) : None if end is None else end - place]
                place += len(chunk)
                if piece:
                    yield piece
            if end is not None and place >= end:
                out.kill()  # of the rest nobody has asked

    def delete(self, image_id: str) -> None:
        self._remove(self._spec(image_id))

    def sweep(self, known: Collection[str]) -> list[str]:
        names = json.loads(self._run("ls", self.pool, "--format", "json"))
        gone = [name for name in names if name.startswith(self.prefix) and name.removeprefix(self.prefix) not in known]
        for name in gone:
            self._remove(f"{self.pool}/{name}")
        return gone

    def _spec(self, image_id: str) -> str:
        return f"{self.pool}/{self.prefix}{image_id}"

    def _remove(self, spec: str) -> None:
        self._run("rm", spec, "--no-progress", but="(2) No such file", timeout=3600)

    def _run(self, *arguments: str, but: str = "\0", timeout: float = SECONDS) -> str:
        """Its stdout; empty when it failed in the words of `but`."""
        try:
            done = subprocess.run(
                ["rbd", *arguments, *self._access], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._unavailable(str(error)) from error
        if done.returncode and but not in done.stderr:
            raise self._unavailable(done.stderr)
        return "" if done.returncode else done.stdout

    @contextmanager
    def _process(self, *arguments: str, **pipes: Any) -> Iterator[Any]:
        """`rbd` at the other end of a pipe; ended with the block, and Unavailable where it could not do its work."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **pipes}
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(["rbd", *arguments, *self._access], stderr=said, **pipes)
            except OSError as error:
                raise self._unavailable(str(error)) from error
            with process:
                try:
                    yield process
                    if process.stdin:
                        process.stdin.close()
                    if process.wait() > 0:
                        raise BrokenPipeError
                except BaseException as error:
                    if process.stdin is None:
                        process.kill()
                    else:  # it ends as if that were all: killed, Ceph would keep its place for half a minute
                        with suppress(BrokenPipeError):
                            process.stdin.close()
                    process.wait()
                    if not isinstance(error, BrokenPipeError):
                        raise
                    said.seek(0)
                    raise self._unavailable(said.read().decode(errors="replace")) from error

    def _unavailable(self, why: str) -> Unavailable:
        lines = why.strip().splitlines()
        return Unavailable(f"The image store {self.name} cannot be used: {lines[-1] if lines else 'rbd ended'}")
