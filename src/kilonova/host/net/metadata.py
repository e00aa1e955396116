"""The metadata service: 169.254.169.254:80 in each network's DHCP namespace, served by threads of this process.

A listening socket belongs to the namespace it was opened in, wherever the thread that accepts on it runs. The server is
known by the address that asks, within the network whose socket was asked: no header, no secret, no proxy.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from kilonova.host.calls import outside
from kilonova.host.netns import in_netns, netns_path
from kilonova.model.specs import ServerSpec

LOG = logging.getLogger(__name__)
ADDRESS = ("169.254.169.254", 80)
ADDRESS6 = "fe80::a9fe:a9fe"  # Neutron: METADATA_V6_IP
# Nova: api/metadata/base.py VERSIONS
EC2_VERSIONS = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04",
)  # fmt: skip
PASSWORD_SINCE = "2013-04-04"  # Nova: GRIZZLY
MAX_PASSWORD = 4 * 255  # bytes (Nova: api/metadata/password.py MAX_SIZE)
MAX_CONNECTIONS, MAX_OF_ONE = 256, 8  # a guest that holds many open has no more than its own share

Address = tuple[str, int] | tuple[str, int, int, int]  # as socket.bind takes it: IPv6 with flow and device index


@dataclass(frozen=True)
class Source:
    """What guests are told, and who hears what they tell.

    server: device id → ServerSpec, or None. openstack_files: path → content, such as `openstack/latest/meta_data.json`;
    ec2_tree: a nest of dicts, lists and strings below a version: `meta-data`, `user-data` (`kilonova.host.metadata_content`
    makes both). set_password(server id, password): whether it was taken.
    """

    server: Callable[[str], ServerSpec | None] = lambda device_id: None
    openstack_files: Callable[[ServerSpec], Mapping[str, bytes]] = lambda server: {}
    ec2_tree: Callable[[ServerSpec], Any] = lambda server: {}
    set_password: Callable[[str, str], bool] = lambda server_id, password: False


def lookup(path: str, server: ServerSpec, source: Source) -> bytes | None:
    """The answer to GET `path` (Nova: InstanceMetadata.lookup); None is 404."""
    parts = [unquote(part) for part in path.split("?", 1)[0].split("/") if part]
    if not parts:
        return "\n".join([*EC2_VERSIONS, "latest"]).encode()
    if parts[0] == "openstack":
        files = dict(source.openstack_files(server))
        for version in {name.split("/")[1] for name in files}:
            if version >= PASSWORD_SINCE:
                files[f"openstack/{version}/password"] = server.guest_password.encode()
        return _from_files("/".join(parts), files)
    if parts[0] not in (*EC2_VERSIONS, "latest"):
        return None
    node = source.ec2_tree(server)
    for part in parts[1:]:
        node = _child(node, part)
        if node is None:
            return None
    return _printed(node)


def _from_files(path: str, files: Mapping[str, bytes]) -> bytes | None:
    if path in files:
        return files[path]
    below = {name[len(path) + 1 :].split("/", 1)[0] for name in files if name.startswith(f"{path}/")}
    if not below:
        return None
    # Dated versions first, then `latest`, as Nova lists them.
    return "\n".join(sorted(below, key=lambda name: (name == "latest", name))).encode()


def _child(node: Any, part: str) -> Any:
    if isinstance(node, Mapping):
        if part in node:
            return node[part]
        # EC2 lists keys as `0=name`, and is asked for `0`
        return next((value for name, value in node.items() if str(name).split("=", 1)[0] == part), None)
    if isinstance(node, list | tuple) and part.isdigit() and int(part) < len(node):
        return node[int(part)]
    return None


def _printed(node: Any) -> bytes:
    """Nova: ec2_md_print. A directory lists its names, those of directories ending in a slash."""
    if isinstance(node, bytes):
        return node
    if isinstance(node, Mapping):
        lines = []
        for name, value in node.items():
            if name == "_name":
                continue
            if isinstance(value, Mapping):
                lines.append(str(value["_name"]) if "_name" in value else f"{name}/")
            else:
                lines.append(str(name))
        return "\n".join(sorted(lines)).encode()
    if isinstance(node, list | tuple):
        return "\n".join(map(str, node)).encode()
    return str(node).encode()


class MetadataService:
    """`answer(network_id, source_ip, path)` gives the body, None for 404, KeyError for an unknown guest.

    `post(network_id, source_ip, password)` keeps what a guest posts as its password; False when it had one.
    """

    def __init__(
        self,
        answer: Callable[[str, str, str], bytes | None],
        post: Callable[[str, str, str], bool] = lambda network_id, source, password: False,
    ) -> None:
        self._answer, self._post = answer, post
        self._lock = threading.Lock()
        # network or router → inode of its namespace, addresses and their sockets
        self._open: dict[str, tuple[int, tuple[Address, ...], list[socket.socket]]] = {}
        self._selector = selectors.DefaultSelector()
        self._asking = Counter[tuple[str, str]]()  # (network or router, source) → its connections
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread: threading.Thread | None = None
        self._closed = False

    def ensure(self, network_id: str, namespace: str, *addresses: Address) -> None:
        """Listens in the namespace, whose devices have the addresses already. Raises OSError when it cannot.

        network_id: or a router's id; in its namespace requests arrive at another address.
        """
        inode = os.stat(netns_path(namespace)).st_ino
        addresses = addresses or (ADDRESS,)
        with self._lock:
            if self._open.get(network_id, (0, ()))[:2] == (inode, addresses):
                return
            self._drop(network_id)
            self._open[network_id] = (inode, (), [])
            for address in addresses:
                with outside("metadata listen"):
                    sock = in_netns(namespace, _listen, address)
                self._open[network_id][2].append(sock)
                self._selector.register(sock, selectors.EVENT_READ, network_id)
            self._open[network_id] = (inode, addresses, self._open[network_id][2])
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="metadata", daemon=True)
                self._thread.start()
        os.eventfd_write(self._wake, 1)

    def remove(self, network_id: str) -> None:
        with self._lock:
            self._drop(network_id)

    def close(self) -> None:
        with self._lock:
            for network_id in list(self._open):
                self._drop(network_id)
            self._closed = True
            thread = self._thread
        os.eventfd_write(self._wake, 1)
        if thread is not None:
            thread.join()
        self._selector.close()
        os.close(self._wake)

    def _drop(self, network_id: str) -> None:
        for sock in self._open.pop(network_id, (0, (), []))[2]:
            self._selector.unregister(sock)
            sock.close()

    def _serve(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select():
                if key.fd == self._wake:
                    with suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                    continue
                with self._lock, suppress(OSError):
                    if key.fileobj not in self._open.get(key.data, (0, (), []))[2]:
                        continue
                    assert isinstance(key.fileobj, socket.socket)
                    connection, address = key.fileobj.accept()
                    self._start(key.data, connection, (address[0].partition("%")[0], address[1]))

    def _start(self, network_id: str, connection: socket.socket, address: tuple[str, int]) -> None:
        """With the lock held."""
        asking = network_id, address[0]
        if self._asking[asking] >= MAX_OF_ONE or self._asking.total() >= MAX_CONNECTIONS:
            connection.close()
            return
        self._asking[asking] += 1
        answer, post = self._answer, self._post

        class Handler(_Handler):
            def body(self, path: str) -> bytes | None:
                return answer(network_id, address[0], path)

            def post(self, password: str) -> bool:
                return post(network_id, address[0], password)

        def handle() -> None:
            try:
                with connection, suppress(OSError):
                    Handler(connection, address, None)  # type: ignore[arg-type]
            finally:
                with self._lock:
                    self._asking[asking] -= 1
                    if not self._asking[asking]:
                        del self._asking[asking]

        threading.Thread(target=handle, name="metadata-request", daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "Kilonova"
    sys_version = ""
    timeout = 10  # a silent guest lets go of its thread
    wbufsize = 1 << 16  # head and body in one segment: apart, the second waits for the guest's delayed ACK

    def body(self, path: str) -> bytes | None:
        raise NotImplementedError

    def post(self, password: str) -> bool:
        raise NotImplementedError

    def do_GET(self) -> None:
        try:
            body = self.body(self.path)
            status = 404 if body is None else 200
        except KeyError:
            body, status = None, 404
        except Exception:
            LOG.exception("metadata %s", self.path)
            body, status = None, 500
        self.say(status, body)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Of all paths only openstack/<version>/password takes one (Nova: handle_password)."""
        parts = [part for part in self.path.split("?", 1)[0].split("/") if part]
        length = self.headers.get("Content-Length", "")
        if len(parts) != 3 or parts[0] != "openstack" or parts[1] < PASSWORD_SINCE or parts[2] != "password":
            status = 404
        elif not (length.isascii() and length.isdigit() and len(length) < 5 and int(length) <= MAX_PASSWORD):
            status = 400
        else:
            try:
                status = 200 if self.post(self.rfile.read(int(length)).decode()) else 409
            except UnicodeDecodeError:
                status = 400
            except KeyError:
                status = 404
            except Exception:
                LOG.exception("metadata POST %s", self.path)
                status = 500
        self.close_connection = True  # what was not read is no next request
        self.say(status, b"" if status == 200 else None)

    def say(self, status: int, body: bytes | None) -> None:
        """None: the status in words."""
        text = body if body is not None else f"{status} {HTTPStatus(status).phrase}\n".encode()
        self.send_response(status)
        self.send_header(
            "Content-Type", "application/json" if self.path.endswith(".json") else "text/plain; charset=UTF-8"
        )
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Requests of guests are no news."""


def _listen(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(address)
    sock.listen(64)
    sock.setblocking(False)
    return sock
