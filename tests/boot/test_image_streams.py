"""Large images at a real cloud's door: they pass through, in and out, and are never held; a killed one leaves nothing."""

import hashlib
import http.client
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from clouds import RunningCloud

MIB = 1 << 20
SIZE = int(os.environ.get("KILONOVA_IMAGE_MIB", "300")) * MIB
MOST = 64 * MIB  # of memory, however large the image


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCloud]:
    made = RunningCloud(tmp_path_factory.mktemp("streams") / "state", "fake").up()
    yield made
    made.purge()


class Door:
    """The image API by plain HTTP, so that nothing but the cloud buffers."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud, self.glance = cloud, cloud.connect().image
        self.url = urlsplit(self.glance.get_endpoint())
        self.token = self.glance.session.get_token()

    def image(self) -> str:
        made = self.glance.post("/images", json={"name": "large", "disk_format": "raw", "container_format": "bare"})
        return str(made.json()["id"])

    def show(self, image_id: str) -> dict[str, Any]:
        return dict(self.glance.get(f"/images/{image_id}").json())

    def begin(self, method: str, image_id: str, **headers: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(self.url.hostname or "", self.url.port or 80, timeout=300)
        connection.putrequest(method, f"{self.url.path.rstrip('/')}/images/{image_id}/file")
        for name, value in {"X-Auth-Token": self.token, **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection

    def begin_upload(self, image_id: str, size: int) -> http.client.HTTPConnection:
        octets = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        return self.begin("PUT", image_id, **octets)

    def upload(self, image_id: str, size: int) -> str:
        """The sha512 of what was sent."""
        connection, digest = self.begin_upload(image_id, size), hashlib.sha512()
        for chunk in content(size):
            digest.update(chunk)
            connection.send(chunk)
        assert connection.getresponse().status == 204
        connection.close()
        return digest.hexdigest()

    def download(self, image_id: str, **headers: str) -> tuple[int, int, str]:
        """Status, length and sha512 of the answer."""
        connection, digest, length = self.begin("GET", image_id, **headers), hashlib.sha512(), 0
        answer = connection.getresponse()
        while chunk := answer.read(MIB):
            digest.update(chunk)
            length += len(chunk)
        connection.close()
        return answer.status, length, digest.hexdigest()


def content(size: int) -> Iterator[bytes]:
    """Mostly empty, as disks are; here and there a word."""
    for place in range(0, size, MIB):
        told = place.to_bytes(8, "big") if place % (64 * MIB) == 0 else b""
        yield told.ljust(min(MIB, size - place), b"\0")


class Peak:
    """How much memory a process took more than before, at most, since it was made."""

    def __init__(self, cloud: RunningCloud) -> None:
        assert cloud.process is not None
        self.status = Path(f"/proc/{cloud.process.pid}/status")
        (self.status.parent / "clear_refs").write_text("5")  # VmHWM begins anew
        self.before = self._kb("VmRSS")

    def _kb(self, name: str) -> int:
        found = re.search(rf"{name}:\s+(\d+) kB", self.status.read_text())
        assert found is not None
        return int(found[1])

    def grown(self) -> int:
        """Bytes."""
        return (self._kb("VmHWM") - self.before) << 10


def test_a_large_image_passes_through(cloud: RunningCloud) -> None:
    door = Door(cloud)
    small, image_id = door.image(), door.image()
    door.upload(small, MIB)  # what is loaded once is loaded now
    door.download(small)
    peak = Peak(cloud)
    digest = door.upload(image_id, SIZE)
    assert peak.grown() < MOST, peak.grown()
    shown = door.show(image_id)
    assert (shown["status"], shown["size"], shown["os_hash_value"]) == ("active", SIZE, digest)
    peak = Peak(cloud)
    assert door.download(image_id) == (200, SIZE, digest)
    assert peak.grown() < MOST, peak.grown()
    half = SIZE // 2 + 5
    rest = hashlib.sha512()
    for place, chunk in enumerate(content(SIZE)):
        rest.update(chunk[max(half - place * MIB, 0) :])
    assert door.download(image_id, Range=f"bytes={half}-") == (206, SIZE - half, rest.hexdigest())


def test_a_cloud_that_is_killed_in_the_midst_of_an_upload(cloud: RunningCloud) -> None:
    door = Door(cloud)
    image_id, images = door.image(), cloud.state / "images"
    connection = door.begin_upload(image_id, SIZE)
    for chunk in content(SIZE // 2):
        connection.send(chunk)
    assert [path for path in images.iterdir() if path.name.startswith(image_id)]
    assert door.show(image_id)["status"] == "saving"
    cloud.stop(signal.SIGKILL)
    connection.close()
    cloud.up()
    door = Door(cloud)
    assert door.show(image_id)["status"] == "queued"
    assert not [path for path in images.iterdir() if path.name.startswith(image_id)]
    assert door.upload(image_id, MIB) == door.show(image_id)["os_hash_value"]
