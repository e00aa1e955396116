"""The demo: what a person would type, with the stock `openstack` client, shown step by step."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.live import Live
from rich.text import Text

from kilonova import statedir
from kilonova.client import Client
from kilonova.config import Config
from kilonova.login import ssh_command
from kilonova.model.errors import KilonovaError
from kilonova.seed import BUILT_GUEST
from kilonova.waterfall import waterfall

BIN = Path(sys.executable).parent
CREATE_DEADLINE = 300.0  # seconds until ACTIVE
LOGIN_DEADLINE = 180.0  # seconds until sshd answers; a TCG guest needs about ten
SERVER = "my-server"


class DemoFailed(KilonovaError):
    """One step failed: `what`, why, and what to do about it."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(f"{what} failed: {why.strip()}\n  What to do: {remedy}")


class Demo:
    """`state` None: a fresh cloud in the build folder. `once`: tear all down at the end, and wait for nobody.

    The cloud's log lies beside its state directory, and outlives it.
    """

    def __init__(self, once: bool, state: Path | None) -> None:
        self.once = once
        self.config = Config(state=(state or BUILT_GUEST.parent / "demo").absolute())
        self.console = Console(soft_wrap=True, highlight=False)
        self.log = self.config.state.with_name(self.config.state.name + ".log")
        self.key = self.config.state / "demo-key"
        self.process: subprocess.Popen[str] | None = None

    def run(self) -> int:
        """0 only if the login worked, whoever ends it after that."""
        signal.signal(signal.SIGTERM, _interrupt)
        signal.signal(signal.SIGHUP, _interrupt)
        try:
            self._check()
        except KilonovaError as error:
            return self._failed(error)
        try:
            self._up()
            server = self._create()
            self._show(server)
            self._login(server)
            if not self.once:
                self._stay()
        except KilonovaError as error:
            return self._failed(error)
        except KeyboardInterrupt:
            self.console.print("interrupted", style="red")
            return 130
        finally:
            self._end()
        return 0

    def _failed(self, error: KilonovaError) -> int:
        self.console.print(Text(str(error), "red"))
        return 1

    def _say(self, text: str) -> None:
        self.console.print("[bold cyan]==>[/] " + text.replace("[", r"\["))

    def _check(self) -> None:
        """What can be known before anything is made. An earlier demo that was killed is removed; nothing else is."""
        if os.geteuid() != 0:
            raise DemoFailed(
                "the demo", "real guests need root", "run it as root, or try `kilonova up --virt fake` without root"
            )
        if not BUILT_GUEST.exists():
            raise DemoFailed("the demo", f"the guest image {_shown(BUILT_GUEST)} is missing", "`make image` builds it")
        state = self.config.state
        if self.key.exists():
            if pid := statedir.holder(self.config):
                why = f"process {pid} runs a demo in {_shown(state)}"
                raise DemoFailed("the demo", why, "end it with Ctrl-C there, or name another directory with --state")
            self._say(f"removing what an earlier demo left in {_shown(state)}")
            self._tear_down()
        elif state.exists() and any(state.iterdir()):
            why = f"{_shown(state)} is not empty, and the demo removes its directory in the end"
            raise DemoFailed("the demo", why, "name another one with --state")
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)

    def _up(self) -> None:
        options = ("--state", self.config.state, "--port", "0", "--guest-image", BUILT_GUEST)
        self._say("kilonova up " + " ".join(map(_shown, options)))
        start = time.monotonic()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [BIN / "kilonova", "up", *options],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("kilonova ready"):
            self.process.wait()
            last = self.log.read_text().strip().splitlines()[-1:]
            why = " ".join(last).removeprefix("kilonova: ")
            raise DemoFailed("bringing the cloud up", why, f"`kilonova doctor`, and the log {_shown(self.log)}")
        self.console.print(f"{line.strip()} [dim]({time.monotonic() - start:.1f} s)[/]")
        self.cloud = statedir.read_cloud(self.config)
        self.client = Client(self.cloud)

    def _openstack(self, *words: str | Path, show: bool = False) -> str:
        """One command of the stock client as the demo user; what a person would type is shown."""
        typed = "openstack " + " ".join(map(_shown, words))
        self._say(typed)
        env = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(self.config.clouds_yaml), "OS_CLOUD": "kilonova"}
        done = subprocess.run([BIN / "openstack", *words], env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DemoFailed(typed, done.stderr, f"see the cloud's log {_shown(self.log)}")
        if show:
            self.console.print(done.stdout.rstrip(), markup=False)
        return done.stdout.strip()

    def _create(self) -> str:
        """What a new user of any OpenStack cloud does; the server's id, once it is ACTIVE."""
        self._openstack("image", "create", "--disk-format", "qcow2", "--file", BUILT_GUEST, "my-image")
        self._openstack("keypair", "create", "--public-key", self.key.with_suffix(".pub"), "my-key")
        self._openstack("network", "create", "my-net")
        self._openstack("subnet", "create", "--network", "my-net", "--subnet-range", "10.20.0.0/24", "my-subnet")
        self._openstack("security", "group", "create", "my-rules")
        for rule in (("--protocol", "icmp"), ("--protocol", "tcp", "--dst-port", "22")):
            self._openstack("security", "group", "rule", "create", *rule, "my-rules")
        server = self._openstack(
            "server", "create", "--flavor", "m1.nano", "--image", "my-image", "--network", "my-net",
            "--key-name", "my-key", "--security-group", "my-rules", SERVER, "-f", "value", "-c", "id",
        )  # fmt: skip
        self._watch(server)
        columns = ("-c", "id", "-c", "name", "-c", "status", "-c", "addresses", "-c", "image")
        self._openstack("server", "show", SERVER, *columns, show=True)
        return server

    def _watch(self, server: str) -> None:
        """The steps as they happen: a live waterfall on a terminal, a line for each that has ended elsewhere."""
        told: set[int] = set()
        deadline = time.monotonic() + CREATE_DEADLINE
        with Live(console=self.console, refresh_per_second=10, transient=True) as live:
            while time.monotonic() < deadline:
                status = self._server(server)
                action = self.client.last_action(server)
                if action and self.console.is_terminal:
                    live.update(waterfall(action, self.console.width))
                for number, event in enumerate(action["events"] if action else ()):
                    if event["result"] and number not in told and not self.console.is_terminal:
                        told.add(number)
                        self.console.print(f"    {event['event']}: {event['result']}")
                if status["status"] == "ACTIVE":
                    return
                if status["status"] == "ERROR":
                    break
                time.sleep(0.05)
        if action:
            self.console.print(waterfall(action, self.console.width))
        why = status.get("fault", {}).get("message") or f"it is still in {status['status']} after {CREATE_DEADLINE:g} s"
        raise DemoFailed("creating the server", why, f"see the cloud's log {_shown(self.log)}")

    def _server(self, server: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/compute/v2.1/servers/{server}")["server"]
        return found

    def _show(self, server: str) -> None:
        self._say(f"kilonova trace {SERVER}")
        action = self.client.last_action(server)
        if action:
            self.console.print(waterfall(action, self.console.width))
        for port in self.client.ports(server):
            address = port["fixed_ips"][0]["ip_address"]
            tap, bridge = f"tap{port['id'][:11]}", f"brq{port['network_id'][:11]}"
            self._say("where its network card is plugged in")
            for name, value in (
                ("in the guest", f"eth0, {port['mac_address']}, {address}"),
                ("its tap on this host", tap),
                ("a port of the bridge", bridge),
                ("in network namespace", self.cloud["netns"]),
            ):
                self.console.print(f"    {name:22}{value}")

    def _login(self, server: str) -> None:
        """Try until sshd answers; meanwhile the guest's console is what there is to see."""
        self._say(f"kilonova ssh {SERVER} uname -a")
        argv = ssh_command(self.client, self.cloud, self._server(server), self.key, "cirros")
        deadline = time.monotonic() + LOGIN_DEADLINE
        with self.console.status("the guest boots") as status:
            while True:
                done = subprocess.run([*argv, "uname -a"], capture_output=True, text=True, check=False)
                console = self._console_log(server)
                if done.returncode == 0 or time.monotonic() > deadline:
                    break
                status.update(Text("the guest boots: " + "".join(console[-1:]), no_wrap=True, overflow="ellipsis"))
                time.sleep(0.5)
        self.console.print("\n".join(console[-12:]) or "(its console is empty)", markup=False, style="dim")
        if done.returncode:
            why = f"no answer in {LOGIN_DEADLINE:g} s; the last one: {done.stderr.strip() or 'none'}"
            remedy = f"above is the end of the guest's console; the cloud's log is {_shown(self.log)}"
            raise DemoFailed("logging in by ssh", why, remedy)
        self.console.print(done.stdout.rstrip(), style="bold green", markup=False)

    def _console_log(self, server: str) -> list[str]:
        """Its last lines that say something."""
        body = {"os-getConsoleOutput": {"length": 40}}
        text: str = self.client.post(f"/compute/v2.1/servers/{server}/action", body)["output"]
        return [line.rstrip() for line in text.splitlines() if line.strip()]

    def _stay(self) -> None:
        self._say("the cloud stays up until Ctrl-C, which removes it. Try in another shell:")
        for line in (
            f"export OS_CLIENT_CONFIG_FILE={self.config.clouds_yaml} OS_CLOUD=kilonova",
            f"export KILONOVA_STATE={self.config.state} PATH={BIN}:$PATH",
            "openstack server list",
            f"kilonova ssh {SERVER}",
            f"kilonova trace {SERVER}",
        ):
            self.console.print(f"    {line}", markup=False)
        assert self.process is not None
        try:
            code = self.process.wait()
        except KeyboardInterrupt:
            self.console.print()
            return
        raise DemoFailed("the cloud", f"it ended by itself, with {code}", f"see its log {_shown(self.log)}")

    def _end(self) -> None:
        """To the end, however impatient the person is: half of it would leave guests running."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._say("tearing the demo's cloud down")
        self._tear_down()
        if self.process is not None:
            self.process.wait(60)

    def _tear_down(self) -> None:
        from kilonova.teardown import teardown

        if self.config.lock_file.exists():
            teardown(self.config, purge=True)
        shutil.rmtree(self.config.state, ignore_errors=True)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _shown(word: object) -> str:
    """As a person would type it here: paths below the working directory are relative."""
    path = str(word)
    return path.removeprefix(f"{Path.cwd()}/") if isinstance(word, Path) else path
