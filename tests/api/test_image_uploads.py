"""Uploads of images as bytes come over the wire: slow, cut off, many at once, and what a start finds of them."""

import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from image_client import Glance, qcow2, until

from kilonova.db.engine import Database
from kilonova.image import images
from kilonova.web.stream import ByteStream, Places


@pytest.fixture
def glance(database: Database, tmp_path: Path) -> Glance:
    return Glance(database, tmp_path)


@pytest.fixture
def port(glance: Glance) -> Iterator[int]:
    """The same application behind a real server on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    server = uvicorn.Server(uvicorn.Config(glance.app, port=number, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield number
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_killed_upload_leaves_nothing(glance: Glance, port: int, chunked: bool) -> None:
    image = glance.image()
    url = f"/images/{image['id']}"
    head = f"PUT /image/v2{url}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: alice\r\n"
    head += "Content-Type: application/octet-stream\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n" if chunked else "Content-Length: 9999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head.encode() + (b"400\r\n" + b"x" * 1024 + b"\r\n" if chunked else b"x" * 4096))
        until(lambda: any(name.endswith(".part") for name in glance.files()), "no upload begun")
        assert glance("GET", url).json()["status"] == "saving"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: glance("GET", url).json()["status"] == "queued", "still saving")
    assert glance.files() == []
    assert glance.upload(image["id"], b"second try").status_code == 204


@pytest.mark.parametrize("kind", ["file", "stage"])
def test_an_upload_whose_client_falls_silent_leaves_nothing(
    glance: Glance, port: int, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Nothing says that it is gone when its network is; nor may one that sends a byte now and then keep its place."""
    monkeypatch.setattr(ByteStream, "PATIENCE", 1.0)
    silent, trickling = glance.image()["id"], glance.image()["id"]
    head = "PUT /image/v2/images/{}/{} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: alice\r\n"
    head += "Content-Type: application/octet-stream\r\nContent-Length: 9999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port)) as one, socket.create_connection(("127.0.0.1", port)) as other:
        for client, image_id in ((one, silent), (other, trickling)):
            client.sendall(head.format(image_id, kind).encode() + b"x" * 4096)
        began = time.monotonic()
        while not select.select([other], [], [], 0.1)[0]:
            assert time.monotonic() - began < 10, "it is still waited for"
            other.sendall(b"x")
        for client in (one, other):
            assert client.recv(1000).startswith(b"HTTP/1.1 400")
    for image_id in (silent, trickling):
        assert glance("GET", f"/images/{image_id}").json()["status"] == "queued"
    assert glance.files() == []


def test_what_comes_steadily_may_take_its_time(glance: Glance, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ByteStream, "PATIENCE", 1.0)
    image = glance.image()["id"]

    def pieces() -> Iterator[bytes]:
        for _ in range(8):
            time.sleep(0.3)
            yield b"x" * ByteStream.LEAST

    headers = {"X-Auth-Token": "alice", "Content-Type": "application/octet-stream"}
    url = f"http://127.0.0.1:{port}/image/v2/images/{image}/file"
    assert httpx.put(url, content=pieces(), headers=headers, timeout=30).status_code == 204
    assert glance("GET", f"/images/{image}").json()["size"] == 8 * ByteStream.LEAST


def begin_upload(glance: Glance, port: int, who: str = "alice") -> socket.socket:
    """One that has sent a part, and more is to come."""
    client = socket.create_connection(("127.0.0.1", port))
    head = f"PUT /image/v2/images/{glance.image(who=who)['id']}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {who}\r\n"
    head += "Content-Type: application/octet-stream\r\nContent-Length: 9999999\r\n\r\n"
    client.sendall(head.encode() + b"x" * 4096)
    return client


def are_under_way(glance: Glance, number: int) -> None:
    until(lambda: sum(name.endswith(".part") for name in glance.files()) == number, f"{number} uploads are not under way")


def test_slow_uploads_leave_the_door_open_for_others(glance: Glance, port: int) -> None:
    """More of them than the server has threads for handlers."""
    slow = [begin_upload(glance, port) for _ in range(60)]
    are_under_way(glance, len(slow))
    answer = httpx.get(f"http://127.0.0.1:{port}/image/v2/images", headers={"X-Auth-Token": "alice"}, timeout=30)
    assert len(answer.json()["images"]) == 25
    for client in slow:
        client.close()


def test_no_project_takes_all_places_of_uploads(glance: Glance, port: int) -> None:
    glance.app.places = Places(4)
    slow = [begin_upload(glance, port) for _ in range(2)]
    are_under_way(glance, 2)
    image = glance.image()["id"]
    refused = glance.upload(image, b"x")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "30")
    assert "2 uploads under way" in refused.text
    assert glance("GET", f"/images/{image}").json()["status"] == "queued"
    slow.append(begin_upload(glance, port, "bob"))
    are_under_way(glance, 3)
    assert glance.upload(image, b"x", kind="stage").status_code == 429
    for client in slow:
        client.close()
    until(lambda: glance.upload(image, b"x").status_code == 204, "no place is free again")


def test_an_image_deleted_during_its_upload_is_gone(glance: Glance, port: int) -> None:
    image = glance.image()
    head = (
        f"PUT /image/v2/images/{image['id']}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: alice\r\n"
        "Content-Type: application/octet-stream\r\nContent-Length: 20\r\n\r\n0123456789"
    )
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head.encode())
        until(lambda: any(name.endswith(".part") for name in glance.files()), "no upload begun")
        assert glance("DELETE", f"/images/{image['id']}").status_code == 204
        client.sendall(b"0123456789")
        assert client.recv(100).startswith(b"HTTP/1.1 410")
    until(lambda: glance.files() == [], "bytes left behind")


def test_formats_stay_while_data_come_in(glance: Glance, port: int, tmp_path: Path) -> None:
    """Else data that nobody looks into, since their container is another, would become a bare disk."""
    qcow2(tmp_path / "base")
    data = qcow2(tmp_path / "hostile", "-b", str(tmp_path / "base"), "-F", "qcow2")
    image = glance.image(disk_format="qcow2", container_format="docker")
    head = (
        f"PUT /image/v2/images/{image['id']}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: alice\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head.encode() + data[:4096])
        until(lambda: any(name.endswith(".part") for name in glance.files()), "no upload begun")
        for name, value in (("container_format", "bare"), ("disk_format", "raw")):
            change = {"op": "replace", "path": f"/{name}", "value": value}
            assert glance.patch(image["id"], [change]).status_code == 403
        client.sendall(data[4096:])
        assert client.recv(100).startswith(b"HTTP/1.1 204")
    shown = glance("GET", f"/images/{image['id']}").json()
    assert (shown["status"], shown["disk_format"], shown["container_format"]) == ("active", "qcow2", "docker")


def half_staged(image_id: str, port: int) -> socket.socket:
    """A connection on which half of the bytes were sent."""
    head = (
        f"PUT /image/v2/images/{image_id}/stage HTTP/1.1\r\nHost: x\r\nX-Auth-Token: alice\r\n"
        "Content-Type: application/octet-stream\r\nContent-Length: 20\r\n\r\n0123456789"
    )
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(head.encode())
    return client


def test_what_is_still_being_staged_is_not_imported(glance: Glance, port: int) -> None:
    image, direct = glance.image(), {"method": {"name": "glance-direct"}}
    path = f"/images/{image['id']}"
    with half_staged(image["id"], port) as client:
        until(lambda: any(name.endswith(".part.staged") for name in glance.files()), "no staging begun")
        refused = glance("POST", f"{path}/import", direct)
        assert refused.status_code == 409 and "needs to be staged" in refused.text
        client.sendall(b"0123456789")
        assert client.recv(100).startswith(b"HTTP/1.1 204")
    assert glance("POST", f"{path}/import", direct).status_code == 202
    until(lambda: glance("GET", path).json()["status"] == "active", "not imported")
    assert glance("GET", path).json()["size"] == 20


def test_a_start_queues_again_what_was_half_staged_and_keeps_what_was_staged_whole(glance: Glance) -> None:
    half, whole = glance.image(), glance.image()
    assert glance.upload(whole["id"], b"whole", kind="stage").status_code == 204
    glance.database.write(lambda tx: images.move(tx, half["id"], "queued", "uploading"))
    (glance.directory / "staged" / f"{half['id']}.0011.part").write_bytes(b"half")
    assert images.sweep(glance.database, glance.stores) == [f"{half['id']}.0011.part"]
    assert glance.files() == [f"{whole['id']}.staged"]
    shown = [glance("GET", f"/images/{image['id']}").json() for image in (half, whole)]
    assert [(image["status"], image["size"]) for image in shown] == [("queued", None), ("uploading", 5)]
    assert glance.upload(half["id"], b"at last").status_code == 204
    assert glance("POST", f"/images/{whole['id']}/import", {"method": {"name": "glance-direct"}}).status_code == 202
    until(lambda: glance("GET", f"/images/{whole['id']}").json()["status"] == "active", "not imported")
