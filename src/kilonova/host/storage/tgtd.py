"""Starts a cloud's tgtd, and gives it the targets that it had: it keeps them in memory only.

Run as a script (`python -I -S tgtd.py --pid-file=FILE TGTD SOCKET PORTAL TARGETS`) by the reaper, also after tgtd died:
guests then find their disks again, whether Kilonova runs or not. TARGETS is a folder of JSON files, one a target, each
{"commands": [tgtadm's arguments, ...], ...}. The process becomes tgtd; one beside it runs the commands, and ends.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 30.0  # seconds for tgtd to listen


def restore(socket: Path, targets: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while subprocess.run(["tgtadm", "--mode", "sys", "--op", "show"], capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            return print(f"tgtd does not answer on {socket}", flush=True)
        time.sleep(0.02)
    for file in sorted(targets.glob("*.json")):
        for command in json.loads(file.read_text())["commands"]:
            # What is there already was made by a Kilonova that was faster.
            subprocess.run(["tgtadm", *command], stderr=subprocess.DEVNULL, check=False)


def main() -> None:
    pid_file, tgtd, socket, portal, targets = sys.argv[1:]
    os.environ["TGT_IPC_SOCKET"] = socket
    for left in (f"{socket}.0", f"{socket}.0.lock"):
        Path(left).unlink(missing_ok=True)
    Path(pid_file.partition("=")[2]).write_text(f"{os.getpid()}\n")
    if not (child := os.fork()):
        if not os.fork():  # the reaper's to collect: tgtd would not
            restore(Path(socket), Path(targets))
        os._exit(0)
    os.waitpid(child, 0)
    os.execv(tgtd, [tgtd, "-f", pid_file, "--iscsi", f"portal={portal}"])


if __name__ == "__main__":
    main()
