"""The options of `kilonova up`: what each is called, what it takes, and the `Config` that they make."""

import functools
import inspect
import ipaddress
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from kilonova.config import Backend, Config
from kilonova.model.errors import KilonovaError

LONGEST_PUBLIC = 29  # bits of the prefix

DOOR, HOST = "Where it answers", "This host"


def _door(text: str, **more: Any) -> typer.models.OptionInfo:
    return typer.Option(help=text, rich_help_panel=DOOR, **more)


def _host(text: str, *names: str) -> typer.models.OptionInfo:
    return typer.Option(*names, help=text, rich_help_panel=HOST)


def _pem(text: str) -> typer.models.OptionInfo:
    return _door(text, exists=True, dir_okay=False)


Images = Annotated[list[str] | None, typer.Option(help="NAME=FILE, a public image; may be repeated.")]
GuestImage = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="The file behind the image kilonova-guest.")
]
Database = Annotated[
    str, typer.Option(help="postgresql+psycopg://USER@HOST/NAME; none: SQLite in the state directory.")
]
PublicURL = Annotated[str, _door("What the catalogue says, where clients reach us by another address.")]
Virt = Annotated[
    Literal["auto", "qemu", "kvm", "fake"],
    _host("fake: no hypervisor, no root; auto: kvm where a guest runs under it."),
]
VifType = Annotated[Literal["bridge", "tap"], _host("bridge: libvirt makes the taps; tap: Kilonova does.")]
Backends = Annotated[
    list[str] | None, _host("NAME=KIND[,OPTION=VALUE…], where volumes lie; may be repeated; none: file=file.")
]
ImageStores = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=KIND[,OPTION=VALUE…], where images lie, the first by default; may be repeated; none: file=file."
    ),
]
Security = Annotated[
    list[str] | None, typer.Option(help="NAME=VALUE of Keystone's section security_compliance; may be repeated.")
]
Policy = Annotated[
    Path | None,
    typer.Option(
        exists=True, dir_okay=False, help="Rules in oslo.policy's language; none: policy.yaml in the state directory."
    ),
]
KeepShelved = Annotated[bool, _host("Shelved servers stay on their host until shelveOffload.", "--keep-shelved")]
WebDownload = Annotated[
    list[str] | None, _door("HOST[:PORT] (*.example.org, *) from where images may be imported; may be repeated.")
]


@dataclass(frozen=True)
class UpOptions:
    """One field an option, in the order in which `--help` tells them."""

    image: Images = None
    image_store: ImageStores = None
    guest_image: GuestImage = None
    database: Database = ""
    port: Annotated[int, _door("0 picks a free one.", min=0, max=65535)] = 8780
    listen: Annotated[str, _door("The address to listen on; 0.0.0.0 is every one.")] = "127.0.0.1"
    public_url: PublicURL = ""
    tls_cert: Annotated[Path | None, _pem("Serve HTTPS with this PEM certificate, its chain behind it.")] = None
    tls_key: Annotated[Path | None, _pem("The certificate's PEM key.")] = None
    tls_ca: Annotated[Path | None, _pem("The CA that clouds.yaml tells clients to trust.")] = None
    security: Security = None
    policy: Policy = None
    web_download: WebDownload = None
    virt: Virt = "auto"
    vif_type: VifType = "bridge"
    public_cidr: Annotated[str, _host("The public subnet; none: the first free 172.24.N.0/24.")] = ""
    uplink: Annotated[Literal["none", "nat"], _host("May guests reach outside through this host?")] = "none"
    physnet: Annotated[list[str] | None, _host("NAME=LINK, a LAN's physical network; may be repeated.")] = None
    overlay: Annotated[str, _host("This host's address for VXLAN to others; none: networks stay within it.")] = ""
    volume_backend: Backends = None
    keep_shelved: KeepShelved = False
    host_net: Annotated[bool, _host("Use the root network namespace.", "--host-net")] = False
    libvirt_uri: Annotated[str, _host("An existing libvirt, such as qemu:///system; needs --host-net.")] = ""

    def config(self, state: Path) -> Config:
        """BadParameter names an option that cannot be, or two that cannot go together."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise typer.BadParameter("--tls-cert and --tls-key belong together: give both, or neither")
        if self.libvirt_uri and not self.host_net:
            raise typer.BadParameter(
                f"--libvirt-uri {self.libvirt_uri} is in the host's network namespace: add --host-net"
            )
        if self.physnet and self.virt == "fake":
            raise typer.BadParameter("--physnet puts real guests on a real link: it cannot go with --virt fake")
        if self.overlay and self.virt == "fake":
            raise typer.BadParameter("--overlay carries real guests' packets: it cannot go with --virt fake")
        names = (
            "port",
            "listen",
            "virt",
            "guest_image",
            "uplink",
            "host_net",
            "libvirt_uri",
            "vif_type",
            "keep_shelved",
        )
        as_given: dict[str, Any] = {name: getattr(self, name) for name in names}
        return Config(
            state=state.absolute(),
            public_url=_url(self.public_url),
            images=tuple(_image(entry) for entry in self.image or ()),
            database_url=self.database,
            public_cidr=_cidr(self.public_cidr),
            physnets=_physnets(self.physnet or []),
            overlay=_overlay(self.overlay),
            volume_backends=_volume_backends(self.volume_backend or ["file=file"]),
            image_stores=_image_stores(self.image_store or ["file=file"]),
            security=_security(self.security or []),
            web_download=_web_download(self.web_download or []),
            policy=_absolute(self.policy),
            tls_cert=_absolute(self.tls_cert),
            tls_key=_absolute(self.tls_key),
            tls_ca=_absolute(self.tls_ca),
            **as_given,
        )


def with_up_options(command: Callable[[Path, UpOptions], None]) -> Callable[..., None]:
    """`command(state, options)` as Typer must see it: with each field of `UpOptions` as a parameter of its own."""

    @functools.wraps(command)
    def flat(state: Path, **options: Any) -> None:
        command(state, UpOptions(**options))

    hints = get_type_hints(UpOptions, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    first = inspect.signature(command).parameters["state"]
    more = [
        inspect.Parameter(each.name, keyword, default=each.default, annotation=hints[each.name])
        for each in fields(UpOptions)
    ]
    flat.__signature__ = inspect.Signature([first, *more])  # type: ignore[attr-defined]
    flat.__annotations__ = {"state": first.annotation, **hints}
    return flat


def _image(entry: str) -> tuple[str, Path]:
    name, equals, file = entry.partition("=")
    if not (name and equals and Path(file).is_file()):
        raise typer.BadParameter(f"--image {entry}: give NAME=FILE, with a file that exists")
    return name, Path(file)


def _url(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise typer.BadParameter(f"--public-url {text}: write it as https://cloud.example.org")
    return text


def _security(entries: list[str]) -> tuple[str, ...]:
    from kilonova.identity import security

    try:
        security.parse(entries)
    except KilonovaError as error:
        raise typer.BadParameter(f"--security: {error}") from error
    return tuple(entries)


def _cidr(text: str) -> str:
    """Its first address is the host's, its upper half floating IPs': a /29 has three of them."""
    try:
        public = ipaddress.IPv4Network(text) if text else None
    except ValueError as error:
        raise typer.BadParameter(f"--public-cidr {text}: {error}; write it as 172.24.4.0/24") from error
    if public is not None and public.prefixlen > LONGEST_PUBLIC:
        raise typer.BadParameter(f"--public-cidr {text} has too few addresses: give at least a /{LONGEST_PUBLIC}")
    return str(public or "")


def _overlay(text: str) -> str:
    """IPv4 only: networks' MTUs leave room for its outer headers (Neutron: overlay_ip_version)."""
    try:
        return str(ipaddress.IPv4Address(text)) if text else ""
    except ValueError as error:
        raise typer.BadParameter(
            f"--overlay {text}: {error}; write it as 192.0.2.7, an address of this host"
        ) from error


def _physnets(entries: list[str]) -> tuple[tuple[str, str], ...]:
    found = [entry.partition("=")[::2] for entry in entries]
    for entry, (name, link) in zip(entries, found, strict=True):
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) or not re.fullmatch(r"[^\s/]{1,15}", link):
            raise typer.BadParameter(f"--physnet {entry}: write it as public=eth1")
        if [name for name, _ in found].count(name) > 1 or [link for _, link in found].count(link) > 1:
            raise typer.BadParameter(
                f"--physnet {entry}: each physical network has one link, and each link one network"
            )
    return tuple(found)


def _volume_backends(entries: list[str]) -> tuple[Backend, ...]:
    from kilonova.host.storage import BACKENDS

    return _backends("--volume-backend", entries, BACKENDS, "fast=iscsi", "ceph=rbd,rbd_pool=volumes")


def _image_stores(entries: list[str]) -> tuple[Backend, ...]:
    from kilonova.image.stores import STORES

    return _backends("--image-store", entries, STORES, "file=file", "ceph=rbd,rbd_store_pool=images")


def _backends(
    option: str, entries: list[str], kinds: Collection[str], example: str, with_options: str
) -> tuple[Backend, ...]:  # fmt: skip
    found: list[Backend] = []
    for entry in entries:
        given, *options = [part.partition("=")[::2] for part in entry.split(",")]
        name, kind = given
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or kind not in kinds:
            raise typer.BadParameter(
                f"{option} {entry}: write it as {example}; the kinds are {', '.join(sorted(kinds))}"
            )
        if not all(key and value for key, value in options):
            raise typer.BadParameter(f"{option} {entry}: write its options as {with_options}")
        if name in [each.name for each in found]:
            raise typer.BadParameter(f"{option} {entry}: there is another of that name")
        found.append(Backend(name, kind, tuple(options)))
    return tuple(found)


def _web_download(entries: list[str]) -> tuple[str, ...]:
    from kilonova.image import fetch

    for entry in entries:
        try:
            fetch.parse(entry)
        except ValueError as error:
            raise typer.BadParameter(f"--web-download {error}; write it as mirror.example.org:8443") from error
    return tuple(entries)


def _absolute(path: Path | None) -> Path | None:
    return path.absolute() if path else None
