"""Remote consoles at the door: who gets which page, what a token opens and for how long, and the websocket behind it."""

import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from compute_client import ADMIN, OTHER, READER, Nova, messages
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from kilonova.compute import consoles, states
from kilonova.compute.flows import Exchanged
from kilonova.compute.tables import CONSOLE_TOKENS
from kilonova.console.door import ConsoleDoor, token_of
from kilonova.console.relay import PIECE
from kilonova.db.engine import Database
from kilonova.model.errors import Unavailable

VNC, SERIAL = ("vnc", "novnc"), ("serial", "serial")


class Echo:
    """A console that gives back what it gets, `most` bytes an exchange, and ends at `bye`."""

    def __init__(self, most: int) -> None:
        self.most, self.closed, self.taken = most, 0, 0

    def exchange(self, data: bytes) -> Exchanged:
        assert len(data) <= PIECE and not self.closed
        data = data[: self.most]
        self.taken += len(data)
        return Exchanged(len(data), data, "The guest has ended the connection." if data == b"bye" else None)

    def close(self) -> None:
        self.closed += 1


class Hands:
    """A host with one guest, whose consoles are as the test says."""

    def __init__(self) -> None:
        self.place: dict[str, Any] = {"running": True, "address": "127.0.0.1", "port": 5901}
        self.most = 1 << 20
        self.opened: list[tuple[str, str, str]] = []

    def console_address(self, server_id: str, host: str, console_type: str) -> dict[str, Any]:
        return self.place

    def open_console(self, server_id: str, host: str, console_type: str) -> Echo:
        if not self.place["running"]:
            raise Unavailable(f"Host {host}: the guest does not run")
        self.opened.append((server_id, host, console_type))
        self.console = Echo(self.most)
        return self.console


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def nova(database: Database, hands: Hands) -> Nova:
    made = Nova(database)
    made.shared.flows.console_address = hands.console_address  # type: ignore[attr-defined]
    return made


@pytest.fixture
def door(database: Database, hands: Hands) -> TestClient:
    return TestClient(ConsoleDoor(database, hands, "https://cloud.example.org"), "http://testserver")  # type: ignore[arg-type]


def ask(nova: Nova, id: str, protocol: str, kind: str, token: str = "demo", version: str = "2.96") -> Any:
    body = {"remote_console": {"protocol": protocol, "type": kind}}
    return nova.post(f"/servers/{id}/remote-consoles", body, token, version)


def url(nova: Nova, id: str, protocol: str = "serial", kind: str = "serial") -> str:
    answer = ask(nova, id, protocol, kind)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["remote_console"]["url"])


def path(url: str) -> str:
    """The page's own path and query."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


def token(url: str) -> str:
    return token_of(urlsplit(url).query, {})


def tokens(database: Database) -> int:
    return len(database.read(lambda tx: tx.all(CONSOLE_TOKENS.select())))


def test_the_page_of_each_kind(nova: Nova, door: TestClient) -> None:
    server = nova.active(name="<vm>")
    for protocol, kind in (VNC, SERIAL):
        answer = ask(nova, server, protocol, kind)
        said = answer.json()["remote_console"]
        assert (said["protocol"], said["type"]) == (protocol, kind)
        assert said["url"].startswith(f"http://testserver/console/{kind}?")
        page = door.get(path(said["url"]))
        assert page.status_code == 200, page.text
        assert "&lt;vm&gt;" in page.text and "<vm>" not in page.text and "ACTIVE" in page.text
        assert f"static/{kind}.js" in page.text
        assert page.headers["cache-control"] == "no-store" and page.headers["referrer-policy"] == "no-referrer"
        other = {"novnc": "serial", "serial": "novnc"}[kind]
        assert door.get(f"/console/{other}?token={token(said['url'])}").status_code == 404
    assert parse_qs(urlsplit(url(nova, server, *VNC)).query)["path"][0].startswith("/console/novnc?token=")
    assert token(url(nova, server)) != token(url(nova, server))


def test_the_files_of_pages(door: TestClient) -> None:
    for name in ("console.css", "novnc.js", "serial.js", "vendor/novnc/core/rfb.js", "vendor/xterm.mjs"):
        assert door.get(f"/console/static/{name}").status_code == 200, name
    for name in ("novnc.html", "../pages.py", "%2e%2e/pages.py", "vendor", "nothing.js", ""):
        assert door.get(f"/console/static/{name}").status_code == 404, name
    assert door.get("/console/nothing").status_code == door.get("/console").status_code == 404
    assert door.post("/console/novnc").status_code == 405


def test_the_actions_before_2_6(nova: Nova) -> None:
    server = nova.active()
    for action, kind in (("os-getVNCConsole", "novnc"), ("os-getSerialConsole", "serial")):
        for version in ("2.1", "2.5"):
            said = nova.post(f"/servers/{server}/action", {action: {"type": kind}}, version=version)
            assert said.status_code == 200 and said.json()["console"]["type"] == kind
            assert "token" in said.json()["console"]["url"]
        assert nova.post(f"/servers/{server}/action", {action: {"type": kind}}, version="2.6").status_code == 404
        assert nova.post(f"/servers/{server}/action", {action: {}}, version="2.1").status_code == 400
        refused = nova.post(f"/servers/{server}/action", {action: {"type": kind}}, READER, "2.1")
        assert refused.status_code == 403
    for action, kind, said in (
        ("os-getVNCConsole", "xvpvnc", "Invalid console type xvpvnc"),
        ("os-getSPICEConsole", "spice-html5", "Unavailable console type spice-html5."),
        ("os-getRDPConsole", "rdp-html5", "Unavailable console type rdp-html5."),
    ):
        answer = nova.post(f"/servers/{server}/action", {action: {"type": kind}}, version="2.1")
        assert (answer.status_code, messages(answer)) == (400, said)
    assert ask(nova, server, *VNC, version="2.5").status_code == 404


def test_what_is_not_offered(nova: Nova, hands: Hands) -> None:
    server = nova.active()
    for protocol, kind in (("spice", "spice-html5"), ("rdp", "rdp-html5"), ("mks", "webmks")):
        answer = ask(nova, server, protocol, kind)
        assert (answer.status_code, messages(answer)) == (400, f"Unavailable console type {kind}.")
    for protocol, kind in (("vnc", "serial"), ("serial", "novnc"), ("vnc", "xvpvnc")):
        answer = ask(nova, server, protocol, kind)
        assert (answer.status_code, messages(answer)) == (400, f"Invalid console type {kind}")
    assert ask(nova, server, "mks", "webmks", version="2.7").status_code == 400
    assert "spice-direct" in messages(ask(nova, server, "spice", "spice-direct"))
    for body in ({}, {"remote_console": {}}, {"remote_console": {"protocol": "vnc"}}, {"remote_console": None}):
        assert nova.post(f"/servers/{server}/remote-consoles", body).status_code == 400
    hands.place["port"] = None  # a guest without a screen
    answer = ask(nova, server, *VNC)
    assert (answer.status_code, messages(answer)) == (400, "Unavailable console type novnc.")


def test_whose_server_and_in_which_state(nova: Nova, hands: Hands, database: Database) -> None:
    server = nova.active()
    assert ask(nova, server, *VNC, token=OTHER).status_code == 404
    assert ask(nova, server, *VNC, token=READER).status_code == 403
    assert ask(nova, server, *VNC, token=ADMIN).status_code == 200
    assert ask(nova, "00000000-0000-0000-0000-000000000000", *VNC).status_code == 404
    waiting = nova.made()
    answer = ask(nova, waiting, *VNC)
    assert (answer.status_code, messages(answer)) == (409, f"Instance {waiting} is not ready")
    hands.place["running"] = False  # the row does not know yet
    assert ask(nova, server, *SERIAL).status_code == 409
    hands.place["running"] = True
    database.write(lambda tx: states.set_resting(tx, server, "paused"))
    assert ask(nova, server, *SERIAL).status_code == 200
    database.write(lambda tx: states.set_resting(tx, server, "stopped"))
    answer = ask(nova, server, *VNC)
    assert answer.status_code == 409 and "vm_state stopped" in messages(answer)


def test_what_a_token_says(nova: Nova) -> None:
    server = nova.active()
    secret = token(url(nova, server, *VNC))
    console = {"instance_uuid": server, "host": "127.0.0.1", "port": 5901, "internal_access_path": None}
    assert nova.get(f"/os-console-auth-tokens/{secret}", ADMIN, "2.98").json() == {"console": console}
    assert nova.get(f"/os-console-auth-tokens/{secret}", ADMIN).json() == {"console": console | {"tls_port": None}}
    assert nova.get(f"/os-console-auth-tokens/{secret}").status_code == 403
    assert nova.get(f"/os-console-auth-tokens/{secret}", ADMIN, "2.30").status_code == 400
    assert nova.get("/os-console-auth-tokens/" + "x" * 3000, ADMIN).status_code == 404
    assert messages(nova.get("/os-console-auth-tokens/bad", ADMIN)) == "Token not found"


ENDS = (
    lambda tx, id: states.set_resting(tx, id, "stopped"),
    lambda tx, id: states.set_resting(tx, id, "suspended"),
    lambda tx, id: states.set_power_state(tx, id, states.SHUTDOWN),
    lambda tx, id: states.set_host(tx, id, "host-2"),
    lambda tx, id: states.set_deleted(tx, id),
)


def test_a_token_dies_with_the_guest(nova: Nova, door: TestClient, database: Database) -> None:
    server, other = nova.active(), nova.active()
    kept = path(url(nova, other))
    for end in ENDS:
        ended = path(url(nova, server))
        database.write(lambda tx, end=end: end(tx, server))
        assert tokens(database) == 1
        database.write(lambda tx: states.set_active(tx, server))
        assert door.get(ended).status_code == 404 and "expired" in door.get(ended).text
        with pytest.raises(WebSocketDisconnect), door.websocket_connect(ended):
            pass
        database.write(lambda tx: states.set_host(tx, server, "host-1"))
    assert door.get(kept).status_code == 200


def test_a_token_is_of_no_use_while_its_server_is_deleted(nova: Nova, door: TestClient, database: Database) -> None:
    server = nova.active()
    asked = path(url(nova, server))
    database.write(lambda tx: states.mark_deleting(tx, server))
    assert door.get(asked).status_code == 404


def test_a_token_expires(nova: Nova, door: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert consoles.TTL == datetime.timedelta(seconds=600)
    server = nova.active()
    monkeypatch.setattr(consoles, "TTL", datetime.timedelta(0))
    asked = url(nova, server)
    assert door.get(path(asked)).status_code == 404
    assert nova.get(f"/os-console-auth-tokens/{token(asked)}", ADMIN).status_code == 404
    with pytest.raises(WebSocketDisconnect), door.websocket_connect(path(asked)):
        pass
    monkeypatch.undo()
    url(nova, server)
    assert tokens(database) == 1  # the old one went with the next


def test_the_database_has_no_token(nova: Nova, database: Database) -> None:
    secret = token(url(nova, nova.active()))
    assert secret not in str(database.read(lambda tx: tx.all(CONSOLE_TOKENS.select())))


def test_bytes_both_ways(nova: Nova, door: TestClient, hands: Hands) -> None:
    server = nova.active()
    with door.websocket_connect(path(url(nova, server)), subprotocols=["binary"]) as socket:
        assert socket.accepted_subprotocol == "binary"
        socket.send_bytes(b"ls\r")
        assert socket.receive_bytes() == b"ls\r"
        socket.send_text("ö")
        assert socket.receive_bytes() == "ö".encode()
        socket.send_bytes(b"bye")
        assert socket.receive_bytes() == b"bye"
        with pytest.raises(WebSocketDisconnect) as ended:
            socket.receive_bytes()
        assert (ended.value.code, ended.value.reason) == (1000, "The guest has ended the connection.")
    assert hands.console.closed == 1
    assert hands.opened == [(server, "host-1", "serial")]


def test_much_for_a_slow_guest_arrives_whole_and_in_order(nova: Nova, door: TestClient, hands: Hands) -> None:
    hands.most = 7000
    sent = bytes(range(256)) * 3000
    with door.websocket_connect(path(url(nova, nova.active()))) as socket:
        for at in range(0, len(sent), 100_000):
            socket.send_bytes(sent[at : at + 100_000])
        came = b""
        while len(came) < len(sent):
            came += socket.receive_bytes()
        assert came == sent
    assert hands.console.closed == 1  # its client went away


def test_a_host_that_cannot_says_why(nova: Nova, door: TestClient, hands: Hands) -> None:
    asked = path(url(nova, nova.active()))
    hands.place["running"] = False
    with door.websocket_connect(asked) as socket, pytest.raises(WebSocketDisconnect) as ended:
        socket.receive_bytes()
    assert ended.value.code == 1011 and "does not run" in ended.value.reason


def test_other_sites_pages_are_refused(nova: Nova, door: TestClient) -> None:
    asked = path(url(nova, nova.active()))
    for origin in ("http://testserver", "https://cloud.example.org", "HTTP://TestServer"):
        with door.websocket_connect(asked, headers={"Origin": origin}) as socket:
            socket.send_bytes(b"x")
            assert socket.receive_bytes() == b"x"
    for origin in ("http://evil.example.org", "https://testserver", "http://testserver:81", "null", ""):
        with pytest.raises(WebSocketDisconnect), door.websocket_connect(asked, headers={"Origin": origin}):
            pass


def test_where_a_token_may_be() -> None:
    assert token_of("token=a", {}) == "a"
    assert token_of("path=%2Fconsole%2Fnovnc%3Ftoken%3Da", {}) == "a"
    assert token_of("path=%3Ftoken%3Da", {}) == "a"
    assert token_of("", {"token": "a"}) == "a"
    assert token_of("", {}) == token_of("token=&path=", {}) == ""


def test_websockets_elsewhere_are_refused(nova: Nova) -> None:
    with pytest.raises(WebSocketDisconnect), nova.http.websocket_connect("/compute/v2.1/servers"):
        pass
