"""A cloud of our own, up for as long as a suite runs."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
KILONOVA = REPO / ".venv" / "bin" / "kilonova"
SUITES = REPO / "build" / "acceptance-venv" / "bin"  # tempest and the SDK, apart from what Kilonova itself needs


@contextmanager
def running_cloud(state: Path, virt: str, log: Path) -> Iterator[None]:
    """A cloud that is up, of which `cloud.json` and `clouds.yaml` in `state` tell; it is purged behind us."""
    down = [KILONOVA, "down", "--state", state, "--purge"]
    if state.exists():  # what a run that was killed has left
        subprocess.run(down, check=False)
    state.mkdir(parents=True, exist_ok=True)
    stores = ("--image-store", "file=file", "--image-store", "second=file")  # some tests want two
    command = [KILONOVA, "up", "--state", state, "--virt", virt, "--port", "0", *stores]
    with log.open("w") as out, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=out, text=True) as cloud:
        try:
            assert cloud.stdout is not None
            if not cloud.stdout.readline().startswith("kilonova ready"):
                sys.exit(f"the cloud did not come up; its log: {log}")
            yield
        finally:
            cloud.send_signal(signal.SIGTERM)
            cloud.wait(120)
            subprocess.run(down, check=False)
            shutil.rmtree(state, ignore_errors=True)
