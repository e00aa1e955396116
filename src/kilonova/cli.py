"""An OpenStack-compatible cloud in one light process: Nova + Neutron merged.

Begin with `kilonova doctor`, then `kilonova demo` or `kilonova up`.
"""

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kilonova import statedir
from kilonova.config import Config
from kilonova.model.errors import KilonovaError
from kilonova.up_options import UpOptions, with_up_options

if TYPE_CHECKING:
    from rich.console import Console

    from kilonova.client import Client

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
DEFAULT_STATE = Path(os.environ.get("KILONOVA_STATE", "/var/lib/kilonova/cloud"))
State = Annotated[Path, typer.Option("--state", help="The cloud's state directory; $KILONOVA_STATE names another.")]
Server = Annotated[str, typer.Argument(help="A server's name or id.")]


def signal_pipe() -> int:
    """What can be read once SIGINT or SIGTERM has come.

    A signal may reach any thread; the main thread, waiting for a lock, would not hear of one that another got.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    return reader


@app.command()
@with_up_options
def up(state: State = DEFAULT_STATE, options: UpOptions = UpOptions()) -> None:
    """Bring the cloud up, and serve it until Ctrl-C. Guests live on, and the next `up` takes them back."""
    config = options.config(state)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for talkative in ("alembic", "uvicorn"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    ended = signal_pipe()
    from kilonova import memory

    memory.one_arena()
    from kilonova.app import Cloud
    from kilonova.ending import end_in_time
    from kilonova.notify import notify

    cloud = Cloud(config)
    try:
        cloud.start()
        print(f"kilonova ready {cloud.url}", flush=True)
        notify("READY=1")
        memory.give_back()
        os.read(ended, 1)
        notify("STOPPING=1")
    finally:
        end_in_time(cloud.stop)


@app.command()
def down(
    state: State = DEFAULT_STATE,
    purge: Annotated[bool, typer.Option("--purge", help="Remove the cloud's data, too.")] = False,
) -> None:
    """End the cloud, its guests and its daemons, and keep its data; with --purge leave nothing."""
    from kilonova.teardown import teardown

    if not teardown(Config(state=state.absolute()), purge=purge):
        print(f"kilonova: there is no cloud in {state}, so nothing was done", file=sys.stderr)


keys = typer.Typer(no_args_is_help=True, help="The keys that seal tokens.")
app.add_typer(keys, name="keys")


@keys.command()
def rotate(
    state: State = DEFAULT_STATE,
    keep: Annotated[int, typer.Option(min=2, help="How many keys stay, the staged one included.")] = 3,
) -> None:
    """Make the staged key primary and stage a new one. A running cloud takes them at once.

    What the oldest key sealed is refused from then on, so rotate no more often than every hour, the life of a token.
    """
    from kilonova.identity.keys import rotate as rotate_keys

    config = Config(state=state.absolute())
    if not config.fernet_keys.is_dir():
        raise KilonovaError(f"there is no cloud in {config.state}: name its directory with --state")
    left = rotate_keys(config.fernet_keys, keep)
    names = {left[0]: "staged", left[-1]: "primary"}
    typer.echo(", ".join(f"{number} {names.get(number, 'secondary')}" for number in left))


policy = typer.Typer(no_args_is_help=True, help="Who may do what.")
app.add_typer(policy, name="policy")


@policy.command("list")
def list_policy(
    state: State = DEFAULT_STATE,
    file: Annotated[
        Path | None,
        typer.Option(
            "--policy", exists=True, dir_okay=False, help="The file; none: that of the cloud, or its policy.yaml."
        ),
    ] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only what the file has changed.")] = False,
) -> None:
    """Each operation, its rule's name, the default and what holds, tab-separated, then the rules that others name.

    A file that cannot be is refused.
    """
    from kilonova.app import SERVICES
    from kilonova.policy_file import PolicyFile, named, table

    config = Config(state=state.absolute(), policy=file)
    if file is None and config.cloud_json.exists():
        known = statedir.read_cloud(config).get("policy_file")
        config = Config(state=config.state, policy=Path(known) if known else None)
    rules = PolicyFile(config.policy_file, SERVICES).rules
    typer.echo("service\toperation\trule\tdefault\tholds")
    for line in (*table(rules, SERVICES), *named(config.policy_file, SERVICES)):
        if not changed or line[3] != line[4]:
            typer.echo("\t".join(line))


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


@app.command()
def console(
    server: Server,
    state: State = DEFAULT_STATE,
    serial: Annotated[bool, typer.Option("--serial", help="Its serial port instead of its screen.")] = False,
) -> None:
    """The address of a page with a server's screen, for a browser; it lasts ten minutes."""
    client = _client(state)
    asked = {"protocol": "serial", "type": "serial"} if serial else {"protocol": "vnc", "type": "novnc"}
    path = f"/compute/v2.1/servers/{client.find_server(server)['id']}/remote-consoles"
    print(client.post(path, {"remote_console": asked})["remote_console"]["url"])


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
