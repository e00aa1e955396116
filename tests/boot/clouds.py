"""A real `kilonova up`, as a user starts it, with the stock clients beside it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import openstack

BIN = Path(sys.executable).parent
BUILT = Path(__file__).resolve().parents[2] / "build"


class RunningCloud:
    """`kilonova up` on `state`; `stop()` ends the process, `purge()` all of it."""

    def __init__(self, state: Path, virt: str, *options: str) -> None:
        self.state, self.virt, self.options = state, virt, options
        self.env: dict[str, str] = {}
        self.process: subprocess.Popen[str] | None = None

    def up(self) -> "RunningCloud":
        command = [BIN / "kilonova", "up", "--state", self.state, "--virt", self.virt, "--port", "0", *self.options]
        self.state.mkdir(exist_ok=True)
        with (self.state / "log").open("a") as log:
            env = {**os.environ, **self.env}
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("kilonova ready http"), (line, (self.state / "log").read_text()[-3000:])
        return self

    @property
    def json(self) -> dict[str, Any]:
        cloud: dict[str, Any] = json.loads((self.state / "cloud.json").read_text())
        return cloud

    def connect(self, name: str = "kilonova") -> Any:
        """An openstacksdk connection from the cloud's own clouds.yaml."""
        config = openstack.config.OpenStackConfig(config_files=[str(self.state / "clouds.yaml")])
        return openstack.connection.Connection(config=config.get_one(cloud=name))

    def openstack(self, *words: str) -> Any:
        """The real client as the demo user, its JSON parsed."""
        env = {**os.environ, "OS_CLIENT_CONFIG_FILE": str(self.state / "clouds.yaml"), "OS_CLOUD": "kilonova"}
        done = subprocess.run([BIN / "openstack", *words], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "json" in words else done.stdout

    def kilonova(self, *words: str, code: int = 0) -> str:
        command, *rest = words
        argv = [BIN / "kilonova", command, "--state", self.state, *rest]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(60)

    def purge(self) -> None:
        self.kilonova("down", "--purge")
        if self.process is not None:
            self.process.wait(60)


def wait_for(what: Any, seconds: float = 60) -> Any:
    """The first true answer of `what()`."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)
    return found
