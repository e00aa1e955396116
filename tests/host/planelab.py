"""Clouds' data planes on this real machine, all purged at the end; and what a cloud may leave behind: nothing."""

import json
import os
import signal
import subprocess
import time
import uuid
from contextlib import suppress
from pathlib import Path

from kilonova.host.calls import run
from kilonova.host.dataplane import DataPlane, DataPlaneConfig, load
from kilonova.host.dataplane.daemons import Daemons
from kilonova.host.libvirt.connection import Connection
from kilonova.host.libvirt.guest import KILONOVA_NS
from kilonova.host.netns import in_netns

GUEST = """
<domain type='qemu'>
  <name>instance-{id8}</name>
  <metadata><kilonova:cloud xmlns:kilonova="{namespace}" id="{cloud_id}"/></metadata>
  <memory unit='MiB'>16</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><tcg><tb-cache unit='MiB'>8</tb-cache></tcg></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <serial type='pty'><log file='{log}'/></serial><memballoon model='none'/>
  </devices>
</domain>
"""


class PlaneLab:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.configs: list[DataPlaneConfig] = []

    def config(self, **options) -> DataPlaneConfig:
        cloud_id = str(uuid.uuid4())
        config = DataPlaneConfig(self.directory / cloud_id[:8], cloud_id, **options)
        self.configs.append(config)
        return config

    def network(self, **options) -> DataPlane:
        return DataPlane.ensure_network(self.config(**options))

    def close(self) -> None:
        for config in self.configs:
            DataPlane(config).purge()


def traces(config: DataPlaneConfig) -> dict[str, object]:
    """Everything on this machine that carries a cloud's marks."""
    words = (config.id8, config.cloud_id, str(config.state))
    commands = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            command = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if int(pid) != os.getpid() and any(word in command for word in words):
                commands[pid] = command
    claims = Path("/var/lib/kilonova/claims.json")
    found = {
        "processes": commands,
        "namespaces": [line for line in run(["ip", "netns"]).splitlines() if config.id8 in line],
        "links": [link for link in links() if any(word in json.dumps(link) for word in words)],
        "tables": [line for line in run(["nft", "list", "tables"]).splitlines() if config.id8 in line],
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if config.id8 in line],
        "run": [str(path) for path in Path("/run").glob(f"*/*{config.id8}*")],
        "claims": [line for line in claims.read_text().splitlines() if config.id8 in line] if claims.exists() else [],
        "state": sorted(os.listdir(config.state)) if config.state.exists() else [],
    }
    return {kind: value for kind, value in found.items() if value}


def links(netns: str | None = None) -> list[dict[str, object]]:
    command = ["ip", *(("-n", netns) if netns else ()), "-json", "-details", "addr"]
    return [link for link in json.loads(run(command)) if link]


def link(name: str, netns: str | None = None) -> dict[str, object] | None:
    return next((each for each in links(netns) if each["ifname"] == name), None)


def addresses(name: str, netns: str | None = None) -> list[str]:
    found = link(name, netns)
    assert found, f"no link {name}"
    return [f"{a['local']}/{a['prefixlen']}" for a in found["addr_info"] if a["family"] == "inet"]  # type: ignore


def sysctl(path: str, netns: str | None = None) -> str:
    return in_netns(netns, Path("/proc/sys", path).read_text).strip()


def start_guest(plane: DataPlane, conn: Connection, cloud_id: str | None = None) -> int:
    """A paused guest without disks, of this cloud's or another's. Returns QEMU's pid."""
    id8 = uuid.uuid4().hex[:8]
    log = plane.config.state.parent / f"{id8}.log"
    xml = GUEST.format(id8=id8, log=log, namespace=KILONOVA_NS, cloud_id=cloud_id or plane.config.cloud_id)
    domain = conn.get().defineXML(xml)
    domain.createWithFlags(1)  # VIR_DOMAIN_START_PAUSED
    return int((plane.config.run / "libvirt" / "qemu" / f"instance-{id8}.pid").read_text())


def kill9(plane: DataPlane, *names: str) -> None:
    for name in names:
        pid = Daemons(plane.config).pid(name)
        assert pid, f"{name} does not run"
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}/exe").exists() and _exe(pid):
            time.sleep(0.005)


def _exe(pid: int) -> bool:
    with suppress(OSError):
        return bool(os.readlink(f"/proc/{pid}/exe"))
    return False


def in_processes(scripts: list[list[str]]) -> list[str]:
    """Run commands, all let go at the same moment by the end of their stdin. Returns their stdout."""
    running = [
        subprocess.Popen(each, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for each in scripts
    ]
    time.sleep(0.7)  # until they have imported what they need and wait
    for each in running:
        assert each.stdin
        each.stdin.close()
    answers = []
    for each in running:
        assert each.stdout
        answers.append(each.stdout.read())
        assert each.wait(60) == 0
        each.stdout.close()
    return answers


__all__ = ["PlaneLab", "load"]
