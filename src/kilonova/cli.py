"""An OpenStack-compatible cloud in one light process: Nova + Neutron merged.

Begin with `kilonova doctor`, then `kilonova demo` or `kilonova up`.
"""

import ipaddress
import json
import logging
import os
import re
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kilonova import statedir
from kilonova.config import Config, VolumeBackend
from kilonova.model.errors import KilonovaError

if TYPE_CHECKING:
    from rich.console import Console

    from kilonova.client import Client

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
DEFAULT_STATE = Path(os.environ.get("KILONOVA_STATE", "/var/lib/kilonova/cloud"))
State = Annotated[Path, typer.Option("--state", help="The cloud's state directory; $KILONOVA_STATE names another.")]
Server = Annotated[str, typer.Argument(help="A server's name or id.")]
DOOR, HOST = "Where it answers", "This host"


def file_option(text: str, panel: str) -> typer.models.OptionInfo:
    return typer.Option(exists=True, dir_okay=False, help=text, rich_help_panel=panel)


@app.command()
def up(
    state: State = DEFAULT_STATE,
    image: Annotated[list[str] | None, typer.Option(help="NAME=FILE, a public image; may be repeated.")] = None,
    guest_image: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The file behind the image kilonova-guest.")
    ] = None,
    database: Annotated[
        str, typer.Option(help="postgresql+psycopg://USER@HOST/NAME; none: SQLite in the state directory.")
    ] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.", rich_help_panel=DOOR)] = 8780,
    listen: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 is every one.", rich_help_panel=DOOR)
    ] = "127.0.0.1",
    public_url: Annotated[
        str,
        typer.Option(help="What the catalogue says, where clients reach us by another address.", rich_help_panel=DOOR),
    ] = "",
    tls_cert: Annotated[
        Path | None, file_option("Serve HTTPS with this PEM certificate, its chain behind it.", DOOR)
    ] = None,
    tls_key: Annotated[Path | None, file_option("The certificate's PEM key.", DOOR)] = None,
    tls_ca: Annotated[Path | None, file_option("The CA that clouds.yaml tells clients to trust.", DOOR)] = None,
    virt: Annotated[
        Literal["auto", "qemu", "kvm", "fake"],
        typer.Option(help="fake: no hypervisor, no root; auto: kvm where a guest runs under it.", rich_help_panel=HOST),
    ] = "auto",
    vif_type: Annotated[
        Literal["bridge", "tap"],
        typer.Option(help="bridge: libvirt makes the taps; tap: Kilonova does.", rich_help_panel=HOST),
    ] = "bridge",
    public_cidr: Annotated[
        str, typer.Option(help="The public subnet; none: the first free 172.24.N.0/24.", rich_help_panel=HOST)
    ] = "",
    uplink: Annotated[
        Literal["none", "nat"], typer.Option(help="May guests reach outside through this host?", rich_help_panel=HOST)
    ] = "none",
    physnet: Annotated[
        list[str] | None,
        typer.Option(help="NAME=LINK, a LAN's physical network; may be repeated.", rich_help_panel=HOST),
    ] = None,
    volume_backend: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=KIND[,OPTION=VALUE…], where volumes lie; may be repeated; none: file=file.", rich_help_panel=HOST
        ),
    ] = None,
    keep_shelved: Annotated[
        bool,
        typer.Option(
            "--keep-shelved", help="Shelved servers stay on their host until shelveOffload.", rich_help_panel=HOST
        ),
    ] = False,
    host_net: Annotated[
        bool, typer.Option("--host-net", help="Use the root network namespace.", rich_help_panel=HOST)
    ] = False,
    libvirt_uri: Annotated[
        str, typer.Option(help="An existing libvirt, such as qemu:///system; needs --host-net.", rich_help_panel=HOST)
    ] = "",
) -> None:
    """Bring the cloud up, and serve it until Ctrl-C. Guests live on, and the next `up` takes them back."""
    if (tls_cert is None) != (tls_key is None):
        raise typer.BadParameter("--tls-cert and --tls-key belong together: give both, or neither")
    if libvirt_uri and not host_net:
        raise typer.BadParameter(f"--libvirt-uri {libvirt_uri} is in the host's network namespace: add --host-net")
    if physnet and virt == "fake":
        raise typer.BadParameter("--physnet puts real guests on a real link: it cannot go with --virt fake")
    config = Config(
        state=state.absolute(), port=port, listen=listen, public_url=_url(public_url), virt=virt,
        images=tuple(_image(entry) for entry in image or ()), guest_image=guest_image, database_url=database,
        public_cidr=_cidr(public_cidr), uplink=uplink, host_net=host_net, libvirt_uri=libvirt_uri, vif_type=vif_type,
        physnets=_physnets(physnet or []), volume_backends=_volume_backends(volume_backend or ["file=file"]),
        keep_shelved=keep_shelved, tls_cert=_absolute(tls_cert), tls_key=_absolute(tls_key), tls_ca=_absolute(tls_ca),
    )  # fmt: skip
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for talkative in ("alembic", "uvicorn"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    from kilonova.app import Cloud
    from kilonova.notify import notify

    cloud = Cloud(config)
    try:
        cloud.start()
        print(f"kilonova ready {cloud.url}", flush=True)
        notify("READY=1")
        ended.wait()
        notify("STOPPING=1")
    finally:
        cloud.stop()


def _image(entry: str) -> tuple[str, Path]:
    name, equals, file = entry.partition("=")
    if not (name and equals and Path(file).is_file()):
        raise typer.BadParameter(f"--image {entry}: give NAME=FILE, with a file that exists")
    return name, Path(file)


def _url(text: str) -> str:
    if text and not text.startswith(("http://", "https://")):
        raise typer.BadParameter(f"--public-url {text}: write it as https://cloud.example.org")
    return text


def _cidr(text: str) -> str:
    try:
        return str(ipaddress.IPv4Network(text)) if text else ""
    except ValueError as error:
        raise typer.BadParameter(f"--public-cidr {text}: {error}; write it as 172.24.4.0/24") from error


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


def _volume_backends(entries: list[str]) -> tuple[VolumeBackend, ...]:
    from kilonova.host.storage import BACKENDS

    found: list[VolumeBackend] = []
    for entry in entries:
        given, *options = [part.partition("=")[::2] for part in entry.split(",")]
        name, kind = given
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name) or kind not in BACKENDS:
            raise typer.BadParameter(
                f"--volume-backend {entry}: write it as fast=iscsi; the kinds are {', '.join(sorted(BACKENDS))}"
            )
        if not all(option and value for option, value in options):
            raise typer.BadParameter(f"--volume-backend {entry}: write its options as ceph=rbd,rbd_pool=volumes")
        if name in [each.name for each in found]:
            raise typer.BadParameter(f"--volume-backend {entry}: there is another of that name")
        found.append(VolumeBackend(name, kind, tuple(options)))
    return tuple(found)


def _absolute(path: Path | None) -> Path | None:
    return path.absolute() if path else None


@app.command()
def down(
    state: State = DEFAULT_STATE,
    purge: Annotated[bool, typer.Option("--purge", help="Remove the cloud's data, too.")] = False,
) -> None:
    """End the cloud, its guests and its daemons, and keep its data; with --purge leave nothing."""
    from kilonova.teardown import teardown

    if not teardown(Config(state=state.absolute()), purge=purge):
        print(f"kilonova: there is no cloud in {state}, so nothing was done", file=sys.stderr)


@app.command()
def doctor() -> None:
    """What this host can do, what is missing, and the fix. Ends with 1 when real guests cannot run here."""
    from rich.console import Console

    from kilonova.diagnosis import diagnosis
    from kilonova.host import probe

    checks = probe.checks()
    Console(highlight=False).print(diagnosis(checks))
    raise typer.Exit(1 if any(check.needed and not check.ok for check in checks) else 0)


@app.command()
def trace(
    server: Server,
    state: State = DEFAULT_STATE,
    action: Annotated[
        str, typer.Option(help="Which of its actions: create, stop, reboot …; the newest of that name.")
    ] = "create",
) -> None:
    """The waterfall of a server's steps."""
    from rich.console import Console

    from kilonova.waterfall import waterfall

    client = _client(state)
    found = client.last_action(client.find_server(server)["id"], action)
    if found is None:
        raise KilonovaError(
            f"server {server} has no action {action}; `openstack server event list {server}` shows them"
        )
    console = Console(highlight=False)
    console.print(waterfall(found, console.width))


@app.command(context_settings={"ignore_unknown_options": True})
def ssh(
    server: Server,
    command: Annotated[list[str] | None, typer.Argument(help="What to run there; nothing: a shell.")] = None,
    state: State = DEFAULT_STATE,
    key: Annotated[Path | None, typer.Option(help="Private key; none: the guest image's password.")] = None,
    user: Annotated[str, typer.Option(help="Whom to be there.")] = "cirros",
) -> None:
    """Log in to a server, from its network's DHCP namespace."""
    from kilonova.login import ssh_command

    client = _client(state)
    argv = ssh_command(client, statedir.read_cloud(Config(state=state)), client.find_server(server), key, user)
    os.execvp(argv[0], [*argv, *(command or [])])


@app.command()
def topology(
    state: State = DEFAULT_STATE,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Networks, subnets, routers and ports, and the devices that they are."""
    from kilonova import lookers

    found = lookers.topology(_client(state))
    print(json.dumps(found, indent=2)) if as_json else _console().print(lookers.topology_tree(found))


@app.command()
def path(
    start: Annotated[str, typer.Argument(metavar="A", help="A server, a port, an address, or `outside`.")],
    end: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    state: State = DEFAULT_STATE,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Of TCP, or of UDP.")] = None,
    protocol: Annotated[
        Literal["tcp", "udp", "icmp"] | None, typer.Option(help="tcp where there is a port, else icmp: a ping.")
    ] = None,
    source: Annotated[str, typer.Option(help="Another address that A sends from, such as a VRRP address.")] = "",
    live: Annotated[bool, typer.Option(help="Try the packet on a copy of the rules that are loaded now, too.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Why A can or cannot reach B. Ends with 0 when it can, with 2 when not, with 3 when that cannot be said."""
    from kilonova import lookers

    client = _client(state)
    asked = {"from": lookers.place(client, start), "to": lookers.place(client, end), "verify": str(live).lower()}
    asked |= {k: str(v) for k, v in (("port", port), ("protocol", protocol), ("source", source)) if v}
    found = client.get("/network/v2.0/kilonova/path", **asked)["path"] | {"from": start, "to": end}
    print(json.dumps(found, indent=2)) if as_json else _console().print(lookers.path_text(found), soft_wrap=True)
    raise typer.Exit({True: 0, False: 2, None: 3}[found["reachable"]])


@app.command()
def capture(
    port: Annotated[str, typer.Argument(help="A port, a server, or an address.")],
    state: State = DEFAULT_STATE,
    write: Annotated[str, typer.Option("-w", "--write", help="The file; - is stdout, for Wireshark.")] = "-",
    seconds: Annotated[int, typer.Option(min=1, max=3600, help="At most so long; Ctrl-C ends it earlier.")] = 3600,
    packets: Annotated[int, typer.Option(min=1, max=1_000_000, help="At most so many.")] = 1_000_000,
) -> None:
    """The packets of a port's tap, as pcap: `kilonova capture first -w - | wireshark -k -i -`."""
    from kilonova import lookers

    if write == "-" and sys.stdout.isatty():
        raise typer.BadParameter("pcap is not for terminals: give -w FILE, or a pipe: … | tcpdump -nn -r -")
    client = _client(state)
    found = lookers.port_of(client, port)
    print(f"kilonova: capturing tap{found[:11]}; Ctrl-C ends it", file=sys.stderr)
    print(f"kilonova: {lookers.record(client, found, write, seconds, packets)} bytes", file=sys.stderr)


def _console() -> "Console":
    from rich.console import Console

    # Into a file or a pipe: one thing on one line.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 400)


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Tear all down again; exit 0 only if the login worked.")] = False,
    state: Annotated[Path | None, typer.Option(help="Its state directory; none: build/demo.")] = None,
) -> None:
    """Boot a server in a new cloud, step by step, and log in."""
    from kilonova.demo import Demo

    raise typer.Exit(Demo(once=once, state=state).run())


def _client(state: Path) -> "Client":
    from kilonova.client import Client

    cloud = statedir.read_cloud(Config(state=state.absolute()))
    if "url" not in cloud:
        raise KilonovaError(f"there is no cloud in {state}; `kilonova up --state {state}` makes one")
    return Client(cloud)


def main() -> None:
    try:
        app()
    except KilonovaError as error:
        print(f"kilonova: {error}", file=sys.stderr)
        sys.exit(1)
