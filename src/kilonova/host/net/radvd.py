"""Router advertisements: one radvd a router, in its namespace, for its legs in subnets that say how guests get addresses.

The name of its configuration is made of the content, so the arguments of the process that runs say which one it has.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kilonova.host.calls import outside, run
from kilonova.host.dataplane import processes
from kilonova.host.netns import netns_path
from kilonova.model.errors import HostError
from kilonova.model.specs import NetworkSpec, RouterPortSpec, SubnetSpec

SLAAC, STATEFUL, STATELESS = "slaac", "dhcpv6-stateful", "dhcpv6-stateless"
MIN_INTERVAL, MAX_INTERVAL = 30, 100  # seconds (Neutron: min_rtr_adv_interval, max_rtr_adv_interval)
STARTS_WITHIN = 3.0


def advertised(leg: RouterPortSpec, network: NetworkSpec) -> list[SubnetSpec]:
    """The subnets of a leg that its router advertises."""
    own = {ip.subnet_id for ip in leg.fixed_ips}
    return [s for s in network.subnets if s.id in own and s.ipv6_ra_mode] if not leg.external else []


def render(legs: Iterable[tuple[RouterPortSpec, NetworkSpec]]) -> str:
    """radvd.conf (Neutron: ra.py CONFIG_TEMPLATE); empty when there is nothing to advertise."""
    blocks = [_interface(leg, network) for leg, network in legs if advertised(leg, network)]
    return "".join(sorted(blocks))


def _interface(leg: RouterPortSpec, network: NetworkSpec) -> str:
    subnets = advertised(leg, network)
    modes = {subnet.ipv6_ra_mode for subnet in subnets}
    lines = [
        "AdvSendAdvert on;",
        f"MinRtrAdvInterval {MIN_INTERVAL};",
        f"MaxRtrAdvInterval {MAX_INTERVAL};",
        f"AdvLinkMTU {network.mtu};",
    ]
    if STATELESS in modes:
        lines.append("AdvOtherConfigFlag on;")
    if STATEFUL in modes:
        lines.append("AdvManagedFlag on;")
    servers = [ip for s in subnets if s.ipv6_ra_mode in (SLAAC, STATELESS) for ip in s.dns_nameservers if ":" in ip]
    if servers:
        lines.append(f"RDNSS {' '.join(dict.fromkeys(servers))} {{ }};")
    for subnet in subnets:
        autonomous = "off" if subnet.ipv6_ra_mode == STATEFUL else "on"
        prefix = ipaddress.ip_network(subnet.cidr, strict=False)
        lines.append(f"prefix {prefix} {{ AdvOnLink on; AdvAutonomous {autonomous}; }};")
    return f"interface {leg.device}\n{{\n" + "".join(f"  {line}\n" for line in lines) + "};\n"


@dataclass(frozen=True)
class Radvd:
    """The radvd of one router; `directory` holds its files. It outlives this process, and is found again by them."""

    namespace: str
    directory: Path

    @property
    def pid_file(self) -> Path:
        return self.directory / "radvd.pid"

    def pid(self) -> int | None:
        return processes.pid_from(self.pid_file, self._mark)

    def ensure(self, text: str) -> None:
        """Runs with this configuration, or does not run for none. Raises HostError with the end of its log."""
        if not text:
            if self.pid_file.exists():
                self.stop()
            return
        file = self.directory / f"radvd-{hashlib.sha256(text.encode()).hexdigest()[:16]}.conf"
        argv = self._argv(file)
        pid = self.pid()
        if pid is not None and processes.command_line(pid) == argv and self._inside(pid):
            return
        self._end()  # at once: its farewell would take the guests' default route away
        self._write(file, text)
        run(argv, netns=self.namespace)
        deadline = time.monotonic() + STARTS_WITHIN
        while self.pid() is None:
            if time.monotonic() > deadline:
                raise HostError(f"radvd in {self.namespace} ended at once: {self._log_end()}")
            time.sleep(0.002)

    def stop(self) -> None:
        """Ends it, if it is ours; it takes leave of the guests, who forget it as a router."""
        pid = self.pid()
        if pid is not None:
            with outside("radvd stop"):
                processes.end([pid], self._ours, grace=1.0)
        self._end()
        self.pid_file.unlink(missing_ok=True)

    def _argv(self, file: Path) -> list[str]:
        return [
            "radvd",
            f"--config={file}",
            self._mark,
            "--logmethod=logfile",
            f"--logfile={self.directory / 'radvd.log'}",
        ]

    def _end(self) -> None:
        """Its privileged child too: that holds the lock on the pid file until it sees that it is alone."""
        with outside("radvd kill"):
            processes.end(processes.with_argument(self._mark), self._ours)

    @property
    def _mark(self) -> str:
        return f"--pidfile={self.pid_file}"

    def _ours(self, pid: int) -> bool:
        return self._mark in processes.command_line(pid)

    def _inside(self, pid: int) -> bool:
        """In the namespace that has the name now: one deleted under radvd lives on, unseen, with it."""
        try:
            there, here = os.stat(f"/proc/{pid}/ns/net"), os.stat(netns_path(self.namespace))
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def _write(self, file: Path, text: str) -> None:
        new = file.with_suffix(".new")
        new.write_text(text)
        new.replace(file)
        for other in self.directory.glob("radvd-*.conf"):
            if other != file:
                other.unlink(missing_ok=True)
        (self.directory / "radvd.log").unlink(missing_ok=True)

    def _log_end(self) -> str:
        try:
            return (self.directory / "radvd.log").read_text(errors="replace")[-400:]
        except OSError:
            return "it left no log"
