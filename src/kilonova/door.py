"""Where the cloud answers: its socket, the addresses that lead to it, its certificate."""

import asyncio
import os
import socket
import ssl
from pathlib import Path
from typing import Any, cast

from kilonova.config import Config
from kilonova.model.errors import KilonovaError

EVERYWHERE = ("0.0.0.0", "::")
MAX_MESSAGE = 1 << 20  # bytes, of one that comes by a websocket


def open_socket(config: Config) -> socket.socket:
    """Listening from now on, so that a port in use is said before anything is made."""
    family = socket.AF_INET6 if ":" in config.listen else socket.AF_INET
    try:
        door = socket.create_server((config.listen, config.port), family=family, backlog=512)
    except OSError as error:
        raise KilonovaError(
            f"cannot listen on {config.listen} port {config.port}: {_reason(error)};"
            " choose another with --listen and --port (--port 0 picks a free one)"
        ) from error
    # Inherited by each connection: else the body of an answer waits 40 ms for the client's ACK of its headers.
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return door


def _reason(error: OSError) -> str:
    unknown_name = isinstance(error, socket.gaierror)
    return "no such address" if unknown_name or error.errno is None else os.strerror(error.errno)


def websocket(*args: Any, **kwargs: Any) -> Any:
    """uvicorn's protocol of websockets, loaded when the first one comes: most clouds never see one."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(*args, **kwargs)


WEBSOCKET = cast(type[asyncio.Protocol], websocket)  # uvicorn calls it, and no more


def own_url(config: Config, port: int) -> str:
    """How this machine's own commands reach the cloud, whatever its public name."""
    return _url(config, {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.listen, config.listen), port)


def public_url(config: Config, port: int) -> str:
    """What the catalogue says: --public-url, else the address listened on, of which a wildcard is this machine's main one."""
    if config.public_url:
        return config.public_url.rstrip("/")
    return _url(config, _main_address(config.listen) if config.listen in EVERYWHERE else config.listen, port)


def _url(config: Config, host: str, port: int) -> str:
    scheme = "https" if config.tls_cert else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _main_address(wildcard: str) -> str:
    """The source address of the default route (a UDP connect sends nothing); loopback where there is none."""
    family, far, loopback = (
        (socket.AF_INET6, "2001:db8::1", "::1") if wildcard == "::" else (socket.AF_INET, "192.0.2.1", "127.0.0.1")
    )
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((far, 9))
        except OSError:
            return loopback
        return str(probe.getsockname()[0])


def check_tls(config: Config) -> None:
    """KilonovaError when the certificate and the key cannot be served."""
    if config.tls_cert is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(config.tls_cert, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise KilonovaError(
            f"--tls-cert {config.tls_cert} with --tls-key {config.tls_key}: {error.strerror or error};"
            " give a PEM certificate (its chain behind it) and the PEM key that belongs to it"
        ) from error


def trusted_ca(config: Config) -> str | None:
    """The file that clients are to trust (`cacert` in clouds.yaml): --tls-ca, else a self-signed certificate in --tls-cert.

    None: plain HTTP, or a certificate whose CA the system knows.
    """
    if config.tls_ca or config.tls_cert is None:
        return str(config.tls_ca) if config.tls_ca else None
    from cryptography import x509

    chain = x509.load_pem_x509_certificates(Path(config.tls_cert).read_bytes())
    return str(config.tls_cert) if any(each.issuer == each.subject for each in chain) else None


def own_trust(tls_cert: str | None) -> ssl.SSLContext | bool:
    """For the machine's own commands: exactly the certificate that is served, by whatever name it is reached."""
    if tls_cert is None:
        return True
    context = ssl.create_default_context(cafile=tls_cert)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context
