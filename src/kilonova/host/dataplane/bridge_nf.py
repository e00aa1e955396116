"""br_netfilter: security groups are nft `ip`/`ip6` rules, so bridged frames must pass through them, in the cloud only.

Each network namespace has its own switches, on by default. Where the module was not loaded, the host's own bridges
must not start to filter because of us: the root namespace's are turned off at once.
"""

from __future__ import annotations

from pathlib import Path

from kilonova.host.calls import outside, run
from kilonova.host.dataplane.config import DataPlaneConfig
from kilonova.host.dataplane.machine import Machine
from kilonova.host.netns import in_netns
from kilonova.model.errors import HostError

DIRECTORY = Path("/proc/sys/net/bridge")
SWITCHES = tuple(DIRECTORY / f"bridge-nf-call-{kind}" for kind in ("iptables", "ip6tables", "arptables"))


def ensure_bridge_nf(config: DataPlaneConfig, machine: Machine) -> None:
    """Loaded; the root namespace as it was (or off, where we loaded it); on for IP in the cloud's namespace."""
    loading = machine.run / "loading-br_netfilter"  # outlives a crash between the load and the switches
    if not DIRECTORY.exists():
        loading.touch()
        run(["modprobe", "br_netfilter"])
    if loading.exists():
        for switch in SWITCHES:
            switch.write_text("0")
        loading.unlink()
    if config.host_net:
        for switch in SWITCHES[:2]:
            machine.set_sysctl(str(switch), "1", config.cloud_id)
    else:
        ensure_filtering(config.netns)


def ensure_filtering(netns: str | None) -> None:
    """Frames that a namespace (None: the root) bridges pass through its `ip` and `ip6` rules. Without that, security
    groups would be words: so the port loop looks at it too. Raises HostError when the module is gone."""
    if in_netns(netns, _is_on):
        return
    with outside("sysctl bridge-nf-call"):
        try:
            in_netns(netns, _on)
        except FileNotFoundError as error:
            raise HostError(
                "br_netfilter is not loaded, so security groups cannot work: modprobe br_netfilter"
            ) from error


def _is_on() -> bool:
    return all(switch.exists() and switch.read_text().strip() == "1" for switch in SWITCHES[:2])


def _on() -> None:
    for switch in SWITCHES[:2]:
        switch.write_text("1")
