"""Image stores, each kind on the real thing; a kind that this machine cannot have says why."""

import importlib.util
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cephlab

from kilonova.image.intake import Data, Intake
from kilonova.image.store import Stores
from kilonova.image.stores import FileStore, Store, StoreConfig, make_store

KEY = "[default]\naws_access_key_id = somebody\naws_secret_access_key = secret\n"


def file_stores(folder: Path, *names: str) -> Stores:
    """Directories below `folder`, the first by default; one, of the name file, unless said."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [FileStore(StoreConfig(name, folder / ("images" if name == "file" else name))) for name in names or ("file",)]
    return Stores(made, folder / "staged")


def put(
    store: Store, image_id: str, content: bytes, disk_format: str | None = None, piece: int = 1 << 20,
    container_format: str = "bare",
) -> Data:  # fmt: skip
    """The content, cut on its way."""
    pieces = (content[place : place + piece] for place in range(0, len(content), piece))
    intake = Intake(pieces, disk_format, container_format)
    store.write(image_id, intake)
    return intake.data


def get(store: Store, image_id: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join(store.read(image_id, start, length))


class FileLab:
    kind = "file"

    @staticmethod
    def why_not() -> str:
        """Why this machine cannot have one; empty where it can."""
        return ""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def store(self, cloud_id: str) -> Store:
        return make_store(self.kind, StoreConfig("images", self.folder / cloud_id, cloud_id, self.options()))

    def options(self) -> dict[str, str]:
        return {}

    def half_written(self, store: Store, image_id: str) -> None:
        """As a process that is killed in the midst of a write leaves it."""
        (self.folder / "one" / f"{image_id}.0011.part").write_bytes(b"half")

    def everything(self) -> list[str]:
        """All that is kept, half-written things included."""
        return [str(path) for path in self.folder.rglob("*") if path.is_file()]

    def close(self) -> None:
        """What the lab made is gone."""


class S3Lab(FileLab):
    """moto's server, a process of its own."""

    kind = "s3"

    @staticmethod
    def why_not() -> str:
        missing = [name for name in ("botocore", "moto", "flask") if importlib.util.find_spec(name) is None]
        return f"not installed: {', '.join(missing)}" if missing else ""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "credentials").write_text(KEY)
        self.port = cephlab.free_port("127.0.0.1")
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with (folder / "moto.log").open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(600):
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert self.process.poll() is None, (folder / "moto.log").read_text()
                time.sleep(0.05)
        raise AssertionError("the S3 server does not answer")

    def options(self) -> dict[str, str]:
        return {
            "s3_store_host": f"http://127.0.0.1:{self.port}", "s3_store_bucket": "images",
            "s3_store_create_bucket_on_put": "true", "s3_store_bucket_url_format": "path",
            "s3_store_credentials": str(self.folder / "credentials"),
        }  # fmt: skip

    def client(self) -> object:
        return self.store("one")._client  # type: ignore[attr-defined]

    def half_written(self, store: Store, image_id: str) -> None:
        which = {"Bucket": "images", "Key": f"one/{image_id}"}
        client = self.client()
        upload = client.create_multipart_upload(**which)["UploadId"]  # type: ignore[attr-defined]
        client.upload_part(**which, UploadId=upload, PartNumber=1, Body=b"half")  # type: ignore[attr-defined]

    def everything(self) -> list[str]:
        client = self.client()
        objects = client.list_objects_v2(Bucket="images").get("Contents", [])  # type: ignore[attr-defined]
        uploads = client.list_multipart_uploads(Bucket="images").get("Uploads", [])  # type: ignore[attr-defined]
        return [each["Key"] for each in (*objects, *uploads)]

    def close(self) -> None:
        self.process.kill()  # it keeps nothing
        self.process.wait()


class RbdLab(FileLab):
    """A small real Ceph."""

    kind = "rbd"

    @staticmethod
    def why_not() -> str:
        return cephlab.why_not()

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.home = Path(tempfile.mkdtemp(prefix="kn-ceph-"))  # short: of unix sockets
        self.ceph = cephlab.Ceph(self.home / "c")

    def options(self) -> dict[str, str]:
        return {
            "rbd_store_pool": cephlab.POOL, "rbd_store_user": cephlab.USER, "rbd_store_ceph_conf": str(self.ceph.conf),
            "rbd_store_keyring": str(self.ceph.keyring),
        }  # fmt: skip

    def half_written(self, store: Store, image_id: str) -> None:
        self.ceph.rbd("create", f"{cephlab.POOL}/one.{image_id}.new", "--size", "4M")

    def everything(self) -> list[str]:
        return self.ceph.rbd("ls", cephlab.POOL).split()

    def close(self) -> None:
        self.ceph.close()
        os.rmdir(self.home)


LABS: dict[str, type[FileLab]] = {lab.kind: lab for lab in (FileLab, S3Lab, RbdLab)}
