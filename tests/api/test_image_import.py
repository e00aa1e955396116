"""Import of images and its tasks; what comes from the web comes from a real server on loopback."""

import hashlib
import ipaddress
import itertools
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from image_client import Glance, qcow2, until

from kilonova.db.engine import Database
from kilonova.image import fetch, images, imports
from kilonova.image.imports import Imports

DATA = bytes(range(256)) * 9000
DIRECT = {"method": {"name": "glance-direct"}}


class Web:
    """A server whose answers a test gives: path → what it does with the handler. `asked`: the paths, as they came."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked.append(self.path)
                web.answers.get(self.path, lambda handler: handler.send_error(404))(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


def data(content: bytes, length: int | None = None, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def redirect(where: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", where)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    yield web
    web.server.shutdown()
    web.server.server_close()


@pytest.fixture
def glance(database: Database, tmp_path: Path, web: Web) -> Iterator[Glance]:
    """Its web is this machine's loopback, which else is never to be reached."""
    allowed = (fetch.parse(f"127.0.0.1:{web.port}"), fetch.parse(f"localhost:{web.port}"))
    glance = Glance(database, tmp_path, fetch.WebSource(allowed, lambda address: address.is_loopback))
    yield glance
    glance.imports.stop()


def ask(glance: Glance, image_id: str, uri: str, **more: Any) -> Any:
    body = {"method": {"name": "web-download", "uri": uri}}
    return glance("POST", f"/images/{image_id}/import", body, **more)


def ended(glance: Glance, image_id: str) -> dict[str, Any]:
    """The image's newest task, once it has ended."""

    def newest() -> dict[str, Any]:
        return dict(glance("GET", f"/images/{image_id}/tasks").json()["tasks"][-1])

    until(lambda: newest()["status"] in ("success", "failure"), "the import has not ended")
    return newest()


def failed(glance: Glance, uri: str, **values: Any) -> str:
    """Why the import of a new image from there failed; nothing is left of it."""
    image = glance.image(**values)
    assert ask(glance, image["id"], uri).status_code == 202
    task = ended(glance, image["id"])
    assert (task["status"], task["result"]) == ("failure", None), task
    shown = glance("GET", f"/images/{image['id']}").json()
    assert (shown["status"], shown["checksum"], shown["os_glance_failed_import"]) == ("queued", None, "file")
    assert glance.files() == []
    return str(task["message"])


def test_staged_data(glance: Glance) -> None:
    image = glance.image()
    path = f"/images/{image['id']}"
    assert glance("POST", f"{path}/import", DIRECT).status_code == 409
    assert glance.upload(image["id"], b"z" * 1000, kind="stage").status_code == 204
    staged = glance("GET", path).json()
    assert (staged["status"], staged["size"]) == ("uploading", 1000)
    assert ask(glance, image["id"], "http://127.0.0.1/").status_code == 409  # it is not queued
    assert glance("POST", f"{path}/import", DIRECT).status_code == 202
    task = ended(glance, image["id"])
    assert (task["status"], task["type"], task["owner"]) == ("success", "api_image_import", "p-alice")
    assert task["input"]["import_req"] == DIRECT and task["result"] == {"image_id": image["id"]}
    shown = glance("GET", path).json()
    assert (shown["status"], shown["size"], shown["stores"]) == ("active", 1000, "file")
    assert shown["os_glance_importing_to_stores"] == shown["os_glance_failed_import"] == ""
    until(lambda: glance.files() == [image["id"]], "what was staged is still there")
    assert glance("POST", f"{path}/import", DIRECT).status_code == 409
    assert glance("GET", f"{path}/tasks", who="bob").status_code == 404


def test_who_imports_slowly_keeps_nobody_else_waiting(glance: Glance, web: Web) -> None:
    more = threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"x")
        more.wait(30)

    web.answers = {"/slow": slow, "/quick": data(b"x" * 512)}
    held = [glance.image()["id"] for _ in range(imports.AT_ONCE + 1)]
    try:
        for image_id in held:
            assert ask(glance, image_id, web.url("/slow")).status_code == 202
        until(lambda: web.asked.count("/slow") == imports.AT_ONCE, "not all have begun")
        image = glance.image(who="bob")
        assert ask(glance, image["id"], web.url("/quick"), who="bob").status_code == 202
        until(lambda: glance("GET", f"/images/{image['id']}", who="bob").json()["status"] == "active", "bob waits")
        assert web.asked.count("/slow") == imports.AT_ONCE  # one of the same project's waits
    finally:
        more.set()
    for image_id in held:
        assert ended(glance, image_id)["status"] == "success"


def test_who_only_sees_an_image_does_not_see_where_its_data_came_from(glance: Glance, web: Web) -> None:
    web.answers = {"/disk?key=secret": data(b"x" * 512)}
    image = glance.image(visibility="community")
    assert ask(glance, image["id"], web.url("/disk?key=secret")).status_code == 202
    ended(glance, image["id"])
    path = f"/images/{image['id']}/tasks"
    assert [len(glance("GET", path, who=who).json()["tasks"]) for who in ("alice", "watcher", "admin", "bob")] == [1, 1, 1, 0]
    assert "secret" not in glance("GET", path, who="bob").text


def test_from_the_web(glance: Glance, web: Web, tmp_path: Path) -> None:
    disk = qcow2(tmp_path / "disk", size="3M")
    web.answers = {"/disk": data(disk), "/there": redirect("/disk"), "/raw": data(DATA)}
    for path, disk_format, content in (("/raw", "raw", DATA), ("/disk", "qcow2", disk), ("/there", "qcow2", disk)):
        image = glance.image(disk_format=disk_format)
        assert ask(glance, image["id"], web.url(path)).status_code == 202
        assert ended(glance, image["id"])["status"] == "success"
        shown = glance("GET", f"/images/{image['id']}").json()
        assert (shown["status"], shown["size"]) == ("active", len(content))
        assert shown["os_hash_value"] == hashlib.sha512(content).hexdigest()
        assert glance("GET", f"/images/{image['id']}/file").content == content
    assert glance("GET", "/info/import").json()["import-methods"]["value"] == ["glance-direct", "web-download", "copy-image"]


def test_what_the_web_answers_badly_leaves_nothing(glance: Glance, web: Web, tmp_path: Path) -> None:
    qcow2(tmp_path / "base")
    hostile = qcow2(tmp_path / "b", "-b", str(tmp_path / "base"), "-F", "qcow2")
    web.answers = {
        "/short": data(DATA, length=len(DATA) + 7), "/zip": data(DATA, Content_Encoding="gzip"),
        "/hostile": data(hostile), "/loop": redirect("/loop"), "/file": redirect("file:///etc/passwd"),
        "/inside": redirect("http://169.254.169.254/latest/meta-data"), "/user": redirect("http://a:b@127.0.0.1/"),
        "/port": redirect("http://127.0.0.1:1/"),
    }  # fmt: skip
    for path, why in (
        ("/none", "answers 404"), ("/short", "7 bytes early"), ("/zip", "compressed"), ("/loop", "redirects"),
        ("/file", "does not pass filtering"), ("/inside", "does not pass filtering"), ("/user", "filtering"),
        ("/port", "does not pass filtering"),
    ):  # fmt: skip
        assert why in failed(glance, web.url(path)), path
    assert "safety checks" in failed(glance, web.url("/hostile"), disk_format="qcow2")


def test_only_what_is_allowed_is_asked_for(glance: Glance, web: Web) -> None:
    image = glance.image()
    for uri in (
        None, 7, "", "raw", "ftp://127.0.0.1/x", "file:///etc/passwd", f"http://u:p@127.0.0.1:{web.port}/",
        "http://127.0.0.1/", f"http://127.0.0.1:{web.port + 1}/", f"http://example.org:{web.port}/",
        f"http://127.0.0.1:{web.port}/\r\nX: y", "http://[::1", "http://127.0.0.1:99999/", f"//127.0.0.1:{web.port}/",
    ):  # fmt: skip
        refused = ask(glance, image["id"], uri)  # type: ignore[arg-type]
        assert refused.status_code == 400 and "does not pass filtering" in refused.text, uri
    assert web.asked == [] and glance("GET", f"/images/{image['id']}").json()["status"] == "queued"
    assert glance("GET", f"/images/{image['id']}/tasks").json()["tasks"] == []


def test_an_allowed_name_that_leads_inside_is_not_followed(
    glance: Glance, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Judged by each address it has, at the moment of the connection."""
    web.answers = {"/raw": data(DATA), "/there": redirect(web.url("/raw", "localhost"))}
    closed = fetch.WebSource(glance.imports.web.allowed)
    monkeypatch.setattr(glance.imports, "web", closed)
    for host in ("localhost", "127.0.0.1"):
        assert failed(glance, web.url("/raw", host)) == f"{host} has no public address"  # and not which it has
    one = fetch.WebSource(closed.allowed, lambda address, seen=itertools.count(): next(seen) == 0)  # type: ignore[misc]
    monkeypatch.setattr(glance.imports, "web", one)
    assert "has no public address" in failed(glance, web.url("/there"))
    assert web.asked == ["/there"]


@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.0.0.1", "172.24.4.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "255.255.255.255", "::1", "::", "fe80::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    "64:ff9b::7f00:1", "2002:7f00:1::1", "ff02::1", "2001:0:7f00:1::1",
    "192.0.0.1", "192.0.0.9", "192.0.0.192", "192.0.2.1", "192.88.99.1", "192.175.48.1", "198.18.0.1", "240.0.0.1",
    "64:ff9b::c000:c0", "2002:c000:c0::1", "2002:a00:1::1", "64:ff9b:1::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1",
    "fec0::1", "::10.0.0.1", "::ffff:0:10.0.0.1", "2620:4f:8000::1", "2001:20::1",
])  # fmt: skip
def test_addresses_within(address: str) -> None:
    assert not fetch.is_public(ipaddress.ip_address(address))


def test_addresses_without() -> None:
    for address in ("8.8.8.8", "192.0.1.1", "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808", "2002:808:808::1"):
        assert fetch.is_public(ipaddress.ip_address(address)), address


def test_the_list_of_allowed_hosts() -> None:
    for entry, host, port, fits in (
        ("example.org", "example.org", 443, True), ("example.org", "example.org", 8080, False),
        ("example.org:8080", "example.org", 8080, True), ("example.org:8080", "example.org", 80, False),
        ("example.org", "a.example.org", 80, False), ("*.example.org", "a.b.example.org", 80, True),
        ("*.example.org", "example.org", 80, False), ("*.example.org", "badexample.org", 80, False),
        ("*", "anything", 443, True), ("*", "anything", 22, False), ("[2001:db8::1]:81", "2001:db8::1", 81, True),
    ):  # fmt: skip
        assert fetch.parse(entry).permits(host, port) is fits, (entry, host, port)
    for bad in ("", "http://example.org", "a/b", "a@b", "a*.org", "*.*.org", "a..b", "host:port", "a b"):
        with pytest.raises(ValueError):
            fetch.parse(bad)


def test_without_a_list_there_is_no_web_download(database: Database, tmp_path: Path) -> None:
    glance = Glance(database, tmp_path)
    assert glance("GET", "/info/import").json()["import-methods"]["value"] == ["glance-direct", "copy-image"]
    refused = ask(glance, glance.image()["id"], "http://example.org/")
    assert refused.status_code == 400 and "Unknown import method name" in refused.text


@pytest.mark.parametrize("body", [
    None, [], {}, {"method": "web-download"}, {"method": {}}, {"method": {"name": "nothing"}}, {"method": {"name": []}},
    {**DIRECT, "all_stores": "yes"}, {**DIRECT, "all_stores_must_succeed": 1},
])  # fmt: skip
def test_bodies_that_are_no_import(glance: Glance, body: Any) -> None:
    assert glance("POST", f"/images/{glance.image()['id']}/import", body).status_code == 400


def test_copies(glance: Glance) -> None:
    """There is one store, so there is nothing to copy; as in a Glance that has one."""
    image, copy = glance.image(), {"method": {"name": "copy-image"}}
    path = f"/images/{image['id']}"
    assert glance("POST", f"{path}/import", copy, who="admin").status_code == 409
    glance.upload(image["id"], b"x")
    assert glance("POST", f"{path}/import", copy).status_code == 403
    there = glance("POST", f"{path}/import", copy, who="admin")
    assert there.status_code == 400 and "already present at store 'file'" in there.text
    assert glance("POST", f"{path}/import", {**copy, "stores": ["ceph"]}, who="admin").status_code == 409
    assert glance("POST", f"{path}/import", {**copy, "all_stores": True}, who="admin").status_code == 202
    assert "os_glance_importing_to_stores" not in glance("GET", path).json()


def test_an_image_deleted_during_its_import_is_gone(glance: Glance, web: Web) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(b"x" * 1000)
        begun.set()
        go_on.wait(60)

    web.answers = {"/slow": slow}
    image = glance.image()
    assert ask(glance, image["id"], web.url("/slow")).status_code == 202
    assert begun.wait(60) and glance("GET", f"/images/{image['id']}").json()["status"] == "importing"
    assert ask(glance, image["id"], web.url("/slow")).status_code == 409
    assert glance.upload(image["id"], b"x").status_code == 409
    assert glance("DELETE", f"/images/{image['id']}").status_code == 204
    go_on.set()
    tasks = "/tasks"
    until(lambda: glance("GET", tasks, who="admin").json()["tasks"][0]["status"] == "failure", "still under way")
    assert glance.files() == []


def test_a_restart_fails_what_ran_and_leaves_nothing(glance: Glance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Imports, "start", lambda self, task, owner: None)  # the process ends before it begins
    image = glance.image()
    glance.upload(image["id"], b"z", kind="stage")
    assert glance("POST", f"/images/{image['id']}/import", DIRECT).status_code == 202
    (glance.kept / f"{image['id']}.0011.part").write_bytes(b"half")
    images.sweep(glance.database, glance.stores)
    task = ended(glance, image["id"])
    assert task["status"] == "failure" and "restarted" in task["message"] and glance.files() == []
    shown = glance("GET", f"/images/{image['id']}").json()
    assert (shown["status"], shown["os_glance_importing_to_stores"]) == ("queued", "")
    assert glance.upload(image["id"], b"again").status_code == 204


def test_tasks_are_for_administrators(glance: Glance) -> None:
    for _ in range(3):
        image = glance.image()
        glance.upload(image["id"], b"z", kind="stage")
        glance("POST", f"/images/{image['id']}/import", DIRECT)
        ended(glance, image["id"])
    for method, path in (("GET", "/tasks"), ("POST", "/tasks"), ("GET", "/tasks/1")):
        assert glance(method, path).status_code == 403
    page = glance("GET", "/tasks?limit=2", who="admin").json()
    rest = glance("GET", page["next"].removeprefix("/v2"), who="admin").json()
    assert len(page["tasks"]) == 2 and len(rest["tasks"]) == 1 and "next" not in rest
    assert "input" not in page["tasks"][0]
    for key, way in (("created_at", "asc"), ("expires_at", "desc"), ("status", "asc")):
        path, seen = f"/tasks?limit=1&sort_key={key}&sort_dir={way}", []
        while path:
            page = glance("GET", path, who="admin").json()
            seen += [task.get(key) for task in page["tasks"]]
            path = page.get("next", "").removeprefix("/v2")
        assert len(seen) == 3 and seen == sorted(seen, reverse=way == "desc"), key
    newest = glance("GET", "/tasks?limit=1", who="admin").json()["tasks"][0]["id"]
    one = glance("GET", f"/tasks/{newest}", who="admin").json()
    assert one["image_id"] == image["id"] and one["expires_at"] > one["updated_at"]
    assert glance("GET", "/tasks?status=failure", who="admin").json()["tasks"] == []
    assert glance("GET", "/tasks/none", who="admin").status_code == 404
    assert glance("DELETE", f"/tasks/{one['id']}", who="admin").status_code == 405
    for bad in ("limit=x", "limit=-1", "sort_dir=up", "sort_key=colour", "status=odd", "type=odd", "marker=1",
                f"marker={image['id']}"):  # fmt: skip
        assert glance("GET", f"/tasks?{bad}", who="admin").status_code == 400, bad


def test_an_image_made_by_a_task(glance: Glance, web: Web) -> None:
    web.answers = {"/raw": data(DATA)}
    asked = {"import_from": web.url("/raw"), "import_from_format": "raw", "image_properties": {"name": "n", "x": "y"}}
    made = glance("POST", "/tasks", {"type": "import", "input": asked}, who="admin")
    assert made.status_code == 201 and made.headers["Location"] == f"/v2/tasks/{made.json()['id']}"
    task = f"/tasks/{made.json()['id']}"
    until(lambda: glance("GET", task, who="admin").json()["status"] == "success", "the task has not ended")
    image = glance("GET", f"/images/{made.json()['image_id']}", who="admin").json()
    assert (image["status"], image["name"], image["x"], image["size"]) == ("active", "n", "y", len(DATA))
    for wrong in (
        {}, {"type": "import"}, {"type": "export", "input": asked}, {"type": "import", "input": {}},
        {"type": "import", "input": {**asked, "import_from": "file:///etc/passwd"}},
        {"type": "import", "input": {**asked, "import_from_format": "floppy"}},
        {"type": "import", "input": {**asked, "image_properties": {"x": 7}}}, {"type": "import", "input": None},
    ):  # fmt: skip
        assert glance("POST", "/tasks", wrong, who="admin").status_code == 400, wrong
