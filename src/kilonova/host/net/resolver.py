"""DNS for clouds with an uplink: what a network's dnsmasq does not know itself is asked of the host's name servers.

dnsmasq lives in a namespace that reaches nothing but its guests. So this process listens there, on loopback, and passes
queries on from the host's own namespace, as its own: no route and no address is needed between the two, and a resolver
on the host's loopback (systemd-resolved) serves as well. While Kilonova is stopped, dnsmasq knows its own names only.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kilonova.host.calls import outside
from kilonova.host.netns import in_netns, netns_path

LOG = logging.getLogger(__name__)
LISTEN = ("127.0.0.1", 5300)
FORWARD_TO = "127.0.0.1#5300"  # as dnsmasq writes it
RESOLV_CONF = Path("/etc/resolv.conf")
PATIENCE = 2.0  # seconds for one name server, before the next is asked
MAX_QUERIES, MAX_CONNECTIONS = 512, 32  # of all networks: more are dropped, and asked again by their dnsmasq
MAX_MESSAGE = 65535


def host_name_servers(path: Path = RESOLV_CONF) -> tuple[str, ...]:
    """The addresses of the `nameserver` lines, read anew each time: laptops change their networks."""
    found = []
    with suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            with suppress(ValueError):
                if len(words) >= 2 and words[0] == "nameserver":
                    found.append(str(ipaddress.ip_address(words[1])))
    return tuple(found)


@dataclass
class Query:
    """One that waits for its answer, on a socket of its own, so from a port that nobody can guess."""

    message: bytes
    listener: socket.socket
    client: tuple[str, int]
    servers: list[str]  # still to be asked
    until: float = 0.0


class Resolver:
    """`name_servers`: those to ask, in order. Safe to use from several threads."""

    def __init__(self, name_servers: Callable[[], tuple[str, ...]] = host_name_servers) -> None:
        self._name_servers = name_servers
        self._lock = threading.Lock()
        self._open: dict[str, tuple[int, tuple[socket.socket, socket.socket]]] = {}  # network → (inode, UDP and TCP)
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[socket.socket, Query] = {}
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread: threading.Thread | None = None
        self._closed = False

    def ensure(self, network_id: str, namespace: str) -> None:
        """Listens in the namespace. Raises OSError when it cannot."""
        inode = os.stat(netns_path(namespace)).st_ino
        with self._lock:
            if network_id in self._open and self._open[network_id][0] == inode:
                return
            self._drop(network_id)
            with outside("resolver listen"):
                sockets = in_netns(namespace, _listen)
            self._open[network_id] = (inode, sockets)
            for sock in sockets:
                self._selector.register(sock, selectors.EVENT_READ)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="resolver", daemon=True)
                self._thread.start()
        os.eventfd_write(self._wake, 1)

    def remove(self, network_id: str) -> None:
        with self._lock:
            self._drop(network_id)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            thread = self._thread
        os.eventfd_write(self._wake, 1)
        if thread is not None:
            thread.join()
        with self._lock:
            for network_id in list(self._open):
                self._drop(network_id)
        for sock in list(self._waiting):
            self._forget(sock)
        self._selector.close()
        os.close(self._wake)

    def _drop(self, network_id: str) -> None:
        for sock in self._open.pop(network_id, (0, ()))[1]:
            self._selector.unregister(sock)
            sock.close()

    def _serve(self) -> None:
        while not self._closed:
            pause = min((query.until for query in self._waiting.values()), default=None)
            for key, _ in self._selector.select(None if pause is None else max(pause - time.monotonic(), 0)):
                if key.fd == self._wake:
                    with suppress(BlockingIOError):
                        os.eventfd_read(self._wake)
                elif isinstance(key.fileobj, socket.socket):
                    with suppress(OSError):  # closed meanwhile, or refused by the other side
                        self._readable(key.fileobj)
            now = time.monotonic()
            for sock in [sock for sock, query in self._waiting.items() if query.until <= now]:
                with suppress(OSError):
                    self._ask(self._forget(sock))

    def _readable(self, sock: socket.socket) -> None:
        if sock in self._waiting:
            self._answered(sock)
        elif sock.type == socket.SOCK_STREAM:
            connection, _ = sock.accept()
            self._relay(connection)
        else:
            message, client = sock.recvfrom(MAX_MESSAGE)
            self._ask(Query(message, sock, client, list(self._name_servers())))

    def _ask(self, query: Query) -> None:
        """The next name server; with none left, dnsmasq waits in vain, and says so to its guest."""
        while query.servers and len(self._waiting) < MAX_QUERIES:
            server = query.servers.pop(0)
            sock = socket.socket(_family(server), socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
            try:
                sock.connect((server, 53))  # answers of others do not reach it
                sock.send(query.message)
            except OSError:
                sock.close()
                continue
            query.until = time.monotonic() + PATIENCE
            self._waiting[sock] = query
            self._selector.register(sock, selectors.EVENT_READ)
            return

    def _answered(self, sock: socket.socket) -> None:
        try:
            answer = sock.recv(MAX_MESSAGE)
        except OSError:  # nobody listens there
            self._ask(self._forget(sock))
            return
        query = self._forget(sock)
        query.listener.sendto(answer, query.client)

    def _forget(self, sock: socket.socket) -> Query:
        self._selector.unregister(sock)
        sock.close()
        return self._waiting.pop(sock)

    def _relay(self, client: socket.socket) -> None:
        """DNS over TCP, for what is too long for a datagram: one thread a connection."""
        if not self._slots.acquire(blocking=False):
            client.close()
            return

        def relay() -> None:
            try:
                with client, suppress(OSError), _connected(self._name_servers()) as server:
                    _pass_on(client, server)
            finally:
                self._slots.release()

        threading.Thread(target=relay, name="resolver-tcp", daemon=True).start()


def _listen() -> tuple[socket.socket, socket.socket]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        udp.bind(LISTEN)
        tcp.bind(LISTEN)
    except OSError:
        udp.close()
        tcp.close()
        raise
    tcp.listen(16)
    return udp, tcp


def _family(server: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in server else socket.AF_INET


def _connected(servers: tuple[str, ...]) -> socket.socket:
    for server in servers:
        with suppress(OSError):
            return socket.create_connection((server, 53), PATIENCE)
    raise OSError("no name server answers")


def _pass_on(client: socket.socket, server: socket.socket) -> None:
    """Both ways, until one side ends or falls silent."""
    for sock in (client, server):
        sock.settimeout(PATIENCE)
    with selectors.DefaultSelector() as selector:
        for sock, other in ((client, server), (server, client)):
            selector.register(sock, selectors.EVENT_READ, other)
        while ready := selector.select(5 * PATIENCE):
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(MAX_MESSAGE)
                if not data:
                    return
                key.data.sendall(data)
