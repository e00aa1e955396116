"""Image data from the web (import method `web-download`): only from hosts that are allowed, and never from within.

Every address that a name has is looked at after it is resolved, and the connection goes to the one that was looked at,
so that no second answer of a name server leads elsewhere; each redirect is judged anew.
"""

import http.client
import ipaddress
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

from kilonova.model.errors import KilonovaError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
CHUNK = 1 << 20  # bytes
MAX_REDIRECTS = 5
PORTS = {"http": 80, "https": 443}
TIMEOUT = 60  # seconds without a byte
NAT64, UNICAST = ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("2000::/3")
# IANA's special-purpose addresses that `is_global` lets pass, in all or some versions of Python.
SPECIAL = [ipaddress.ip_network(each) for each in (
    "192.0.0.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.175.48.0/24", "2001::/23",
    "2620:4f:8000::/48", "3fff::/20",
)]  # fmt: skip


class FetchError(KilonovaError):
    """The data cannot be had from there; the message says why."""


@dataclass(frozen=True)
class Allowed:
    """`host`: a name or address, `*.example.org` for all names below it, `*` for all. `port` None: 80 and 443."""

    host: str
    port: int | None = None

    def permits(self, host: str, port: int) -> bool:
        if port != self.port and (self.port is not None or port not in PORTS.values()):
            return False
        return self.host in ("*", host) or (self.host.startswith("*.") and host.endswith(self.host[1:]))


def parse(entry: str) -> Allowed:
    """`mirror.example.org`, `*.example.org:8443`, `[2001:db8::1]:80`, `*`. ValueError for anything else."""
    parts = urlsplit(f"http://{entry}")
    host = (parts.hostname or "").lower()
    if parts.netloc != entry or "@" in entry or " " in entry or not host or not all(label for label in host.split(".")):
        raise ValueError(f"{entry!r} is no host, or host:port")
    if "*" in host and (host != "*" and "*" in host.removeprefix("*.")):
        raise ValueError(f"{entry!r}: * stands alone, or for the first names of a host: *.example.org")
    return Allowed(host, parts.port)


def is_public(address: Address) -> bool:
    """Whether it is an address of the public internet, inside whatever other address it is wrapped."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in UNICAST or (address.sixtofour and not is_public(address.sixtofour)):
            return False
    return address.is_global and not address.is_multicast and not any(address in each for each in SPECIAL)


@dataclass(frozen=True)
class WebSource:
    """`allowed`: none means that nothing is fetched. `reachable` judges each address."""

    allowed: Sequence[Allowed] = ()
    reachable: Callable[[Address], bool] = is_public

    def permits(self, uri: Any) -> bool:
        """Whether an image may be asked for from there (Glance: validate_import_uri)."""
        return isinstance(uri, str) and self._target(uri) is not None

    def _target(self, uri: str) -> SplitResult | None:
        if not uri.isascii() or not uri.isprintable() or " " in uri:
            return None
        try:
            parts = urlsplit(uri)
            port = parts.port or PORTS.get(parts.scheme, 0)
        except ValueError:
            return None
        host = (parts.hostname or "").rstrip(".")
        if parts.scheme not in PORTS or not host or "@" in parts.netloc:
            return None
        return parts if any(each.permits(host, port) for each in self.allowed) else None

    def read(self, uri: str) -> Iterator[bytes]:
        """The bytes that lie there. FetchError when they cannot be had, or not all of them."""
        try:
            connection, answer = self._open(uri)
            try:
                yield from _body(answer)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise FetchError(f"{uri}: {error or type(error).__name__}") from error

    def _open(self, uri: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        for _ in range(MAX_REDIRECTS + 1):
            parts = self._target(uri)
            if parts is None:
                raise FetchError(f"URI for web-download does not pass filtering: {uri}")
            connection = self._connect(parts)
            try:
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                connection.request("GET", path, headers={"Accept-Encoding": "identity", "User-Agent": "kilonova"})
                answer = connection.getresponse()
            except BaseException:
                connection.close()
                raise
            where = answer.getheader("Location")
            if answer.status == 200:
                return connection, answer
            connection.close()
            if answer.status not in (301, 302, 303, 307, 308) or not where:
                raise FetchError(f"{uri} answers {answer.status} {answer.reason}")
            uri = urljoin(uri, where)
        raise FetchError(f"{uri}: more than {MAX_REDIRECTS} redirects")

    def _connect(self, parts: SplitResult) -> http.client.HTTPConnection:
        """A connection to an address of that host; none when any of its addresses is not for us to reach."""
        assert parts.hostname is not None
        port = parts.port or PORTS[parts.scheme]
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        for *_, place in found:
            if not self.reachable(ipaddress.ip_address(str(place[0]).partition("%")[0])):
                raise FetchError(f"{parts.hostname} has no public address")  # which it has is nobody's business
        connection = http.client.HTTPConnection(parts.hostname, port, timeout=TIMEOUT)
        connection.sock = _reach([str(place[0]) for *_, place in found], port)
        if parts.scheme == "https":
            import ssl  # for those who fetch

            raw = connection.sock
            try:
                connection.sock = ssl.create_default_context().wrap_socket(raw, server_hostname=parts.hostname)
            except OSError:
                raw.close()
                raise
            connection.default_port = PORTS["https"]
        return connection


def _reach(addresses: list[str], port: int) -> socket.socket:
    last: OSError | None = None
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout=TIMEOUT)
        except OSError as error:
            last = error
    raise last or OSError("the name has no address")


def _body(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    if answer.getheader("Content-Encoding", "identity").lower() != "identity":
        raise FetchError("the data comes compressed, which was not asked for")
    owed = answer.length
    while chunk := answer.read1(CHUNK):
        if owed is not None:
            owed -= len(chunk)
        yield chunk
    if owed:
        raise FetchError(f"the connection ended {owed} bytes early")
